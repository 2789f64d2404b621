"""What a backend meets that believes it talks to Meta: Graph's own endpoint, with our API key as token.

All or nothing, as Graph: Meta's SDKs and other clients switch by changing their base URL.
"""

import secrets
from collections.abc import AsyncGenerator, Callable
from urllib.parse import parse_qsl

import msgspec
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from gateway import metrics
from gateway.config import Settings
from gateway.errors import HitInvalid, StoreError
from gateway.hit import Source
from gateway.ingest import Ingest, Refused
from gateway.web.answer import json_answer, retry_after
from gateway.web.backend import Keys, bearer
from gateway.web.request import body_of, facts_of
from gateway.wire import GRAPH_MAX_BYTES

Fields = dict[str, object]


class Graph:
    """`POST /v{N}.{M}/{pixel_id}/events`."""

    def __init__(
        self, *, ingest: Ingest, settings: Settings, keys: Keys, clock_ms: Callable[[], int]
    ) -> None:
        self._ingest = ingest
        self._settings = settings
        self._keys = keys
        self._clock_ms = clock_ms

    async def events(self, request: Request) -> Response:
        """1 to 1000 events: every one is on disk when the answer is 200, else none."""
        pixel_id: str = request.path_params["pixel_id"]
        try:
            # Unfolding costs more than sending, so it is done for whoever showed the key beforehand.
            known = self._keys.opens(_outer_token(request))
            fields = await _fields(request, gzip=known)
            if not self._keys.opens(_token(request, fields)):
                return self._unknown(request)
            if not self._settings.sandbox and pixel_id not in {p.id for p in self._settings.pixels}:
                return _error(400, f"Object with ID '{pixel_id}' does not exist.", 100, 33)
            events = _events(fields, pixel_id)
            facts = facts_of(request, Source.GRAPH, self._clock_ms())
            await self._ingest.accept(msgspec.json.encode(events), facts, None)
        except HitInvalid as error:
            return _error(400, str(error), 100)
        except Refused as error:
            problem = error.judged.problem
            where = f"data[{error.judged.index}]"
            return _error(400, f"{where}: {error}", 100, problem.subcode if problem else None)
        except StoreError:
            return _error(503, "Nothing was stored; send it again later.", 2, transient=True)
        content = {"events_received": len(events), "messages": [], "fbtrace_id": _trace()}
        return json_answer(content)

    def _unknown(self, request: Request) -> Response:
        if wait_ms := self._keys.failed(request):
            words = "Too many requests with a wrong token; the API key is expected."
            return _error(429, words, 4, transient=True, wait_ms=wait_ms)
        return _error(401, "Invalid OAuth access token: the API key is expected.", 190)


async def _fields(request: Request, *, gzip: bool) -> Fields:
    """The request's parameters, whichever way they came. Raises HitInvalid."""
    body = await body_of(request, GRAPH_MAX_BYTES, gzip=gzip)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _multipart(request, body)
    if kind == "application/x-www-form-urlencoded":
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
        except (UnicodeDecodeError, ValueError):
            raise HitInvalid("", "the form cannot be read") from None
    decoded = _json(body, "the body")
    if not isinstance(decoded, dict):
        raise HitInvalid("", "expected a JSON object with data")
    return decoded


async def _multipart(request: Request, body: bytes) -> Fields:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(
            request.headers, chunks(), max_files=0, max_fields=100, max_part_size=GRAPH_MAX_BYTES
        ).parse()
    except (MultiPartException, KeyError):
        raise HitInvalid("", "the form cannot be read") from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _events(fields: Fields, pixel_id: str) -> list[object]:
    """The events: objects, or objects as JSON texts; `data` itself may be a JSON text too."""
    data = fields.get("data")
    if isinstance(data, str):
        data = _json(data.encode(), "data")
    if not isinstance(data, list) or not data:
        raise HitInvalid("data", "must be a non-empty array")
    events = [_json(e.encode(), "data") if isinstance(e, str) else e for e in data]
    # The URL names the pixel, whatever an event says.
    return [
        event | {"pixel_id": pixel_id} if isinstance(event, dict) else event for event in events
    ]


def _json(text: bytes, where: str) -> object:
    try:
        decoded: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise HitInvalid("", f"{where} is not valid JSON") from None
    return decoded


def _outer_token(request: Request) -> str:
    return request.query_params.get("access_token") or bearer(request)


def _token(request: Request, fields: Fields) -> str:
    given = fields.get("access_token")
    return str(given) if given else _outer_token(request)


def _error(
    status: int,
    message: str,
    code: int,
    subcode: int | None = None,
    *,
    transient: bool = False,
    wait_ms: float = 0.0,
) -> Response:
    metrics.REFUSED.labels(Source.GRAPH, str(status)).inc()
    error: dict[str, object] = {
        "message": f"(#{code}) {message}",
        "type": "OAuthException",
        "code": code,
        "is_transient": transient,
        "fbtrace_id": _trace(),
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    headers = retry_after(wait_ms) if transient else {}
    return json_answer({"error": error}, status, headers)


def _trace() -> str:
    return secrets.token_urlsafe(12)
