"""A stand-in of Meta's Graph: `POST /v{N}.{M}/{pixel}/events`, as strict as Graph, with faults to order.

It answers in Graph's shapes, all or nothing, and remembers what it took. No token is checked unless
asked for, nothing leaves the process, and all it knows dies with it. What Graph would take and then
silently not use is kept as a `Problem`. People and tests look inside below `/_sandbox/`.
"""

import argparse
import asyncio
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, TypeVar

import httpx2
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.sandbox import graph
from gateway.sandbox.graph import Fault
from gateway.sandbox.rules import Refusal, problems, validate

__all__ = [
    "Fault",
    "Faults",
    "Problem",
    "Received",
    "Refusal",
    "Request",
    "Sandbox",
    "main",
    "validate",
]

DEDUP_MS = 48 * 3_600_000
KEYS_KEPT = 10  # deduplication keys remembered for each one of `keep`: they are small


@dataclass(slots=True)
class Faults:
    """Behaviour that can be switched while the sandbox runs; all of it is off by default.

    `latency_ms` passes before the request is looked at. `error` and `latency_ms` hit only `pixels`
    (empty: all), and switch themselves off after `times` requests (at least 1; None: never).
    """

    latency_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    error: Fault | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    pixels: frozenset[str] = frozenset()
    tokens: frozenset[str] | None = None  # accepted ones; None: any that is not empty
    poison: frozenset[str] = frozenset()  # event_ids that have their request refused
    poison_field: str = ""  # they only do so with this key of user_data, which Graph then blames
    usage_percent: Annotated[int, msgspec.Meta(ge=0)] = 0
    version_warning: bool = False


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its answer. Status 0: there was none. `pixel` is empty on a wrong path."""

    at_ms: int
    pixel: str
    n_events: int
    status: int
    code: int | None = None
    subcode: int | None = None


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One event that was taken, as it was sent."""

    at_ms: int
    pixel: str
    event: dict[str, object]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something in an accepted request that Graph would not use. It never holds the value."""

    at_ms: int
    pixel: str
    event_id: str
    field: str
    problem: str


_TEXT_KEYS = frozenset(
    {
        "test_event_code",
        "partner_agent",
        "namespace_id",
        "upload_id",
        "upload_tag",
        "upload_source",
        "appsecret_proof",
        "debug",
    }
)
_OTHER_KEYS = frozenset({"data", "access_token", "platforms", "progress", "trace"})
_HTML = "<!DOCTYPE html><html><body>Sorry, something went wrong.</body></html>"
_EVENTS_PATH = re.compile(r"v[0-9]+\.[0-9]+/([^/]+)/events/?")
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_T = TypeVar("_T")


@dataclass(slots=True)
class _Batch:
    """A request as read: who it is for, and its parameters wherever they stood."""

    pixel: str
    token: str
    params: dict[str, object]
    events: list[object] | graph.GraphError = field(init=False)

    def __post_init__(self) -> None:
        self.events = graph.events_of(self.params)

    def __len__(self) -> int:
        return len(self.events) if isinstance(self.events, list) else 0


class Sandbox:
    """Graph's events edge. `app` is the ASGI application; the lists keep the newest `keep` of each.

    `duplicates` counts the events taken whose (pixel, event_name, event_id) had been taken in the 48
    hours before; they are in `received` too, as Graph counts them in `events_received`. It sees a
    repeat only among the newest `10 * keep` keys.
    """

    def __init__(
        self, *, clock_ms: Callable[[], int], keep: int = 100_000, faults: Faults | None = None
    ) -> None:
        self.faults = faults if faults is not None else Faults()
        self.requests: list[Request] = []
        self.received: list[Received] = []
        self.problems: list[Problem] = []
        self.duplicates = 0
        self._first_ms: dict[tuple[str, str, str], int] = {}
        self._clock_ms = clock_ms
        self._keep = keep
        self.app = Starlette(
            routes=[
                Route("/_sandbox/received", self._get_received, methods=["GET"]),
                Route("/_sandbox/received", self._delete_received, methods=["DELETE"]),
                Route("/_sandbox/requests", self._get_requests, methods=["GET"]),
                Route("/_sandbox/problems", self._get_problems, methods=["GET"]),
                Route("/_sandbox/faults", self._post_faults, methods=["POST"]),
                Route("/{path:path}", self._graph, methods=_METHODS),
            ]
        )

    async def _graph(self, http: HttpRequest) -> Response:
        path = _EVENTS_PATH.fullmatch(http.path_params["path"])
        if path is None:
            return self._error(_Batch("", "", {}), graph.BAD_PATH)
        params = await graph.read_params(http)
        batch = _Batch(path[1], graph.token_of(http, params), params)
        if http.method != "POST":
            return self._error(batch, graph.BAD_METHOD)
        latency_ms, fault = self._trip(batch.pixel)
        if latency_ms:
            await asyncio.sleep(latency_ms / 1000)
        return self._answer(batch, fault)

    def _trip(self, pixel: str) -> tuple[int, Fault | None]:
        """Latency and error that hit this request, counted off against `times`."""
        faults = self.faults
        if faults.pixels and pixel not in faults.pixels:
            return 0, None
        hit = faults.latency_ms, faults.error
        if faults.times is not None and any(hit):
            faults.times -= 1
            if faults.times <= 0:
                faults.latency_ms, faults.error, faults.times = 0, None, None
        return hit

    def _answer(self, batch: _Batch, fault: Fault | None) -> Response:
        match fault:
            case Fault.SERVER_ERROR:
                return self._raw(batch, 500, _HTML, "text/html")
            case Fault.HTTP_429:
                return self._raw(batch, 429, _HTML, "text/html")
            case Fault.HTML_200:
                return self._raw(batch, 200, _HTML, "text/html")
            case Fault.EMPTY_200:
                return self._raw(batch, 200, "", "text/plain")
            case Fault.HANG:
                self._log(batch, 0)
                return _Silence()
            case Fault.RESET_BEFORE:
                self._log(batch, 0)
                return _Reset()
            case None | Fault.BROKEN_JSON_200 | Fault.SHORT_COUNT | Fault.RESET_AFTER:
                return self._process(batch, fault)
            case _:
                return self._error(batch, graph.ERRORS[fault])

    def _process(self, batch: _Batch, fault: Fault | None) -> Response:
        """What Graph does on a good day, but for the faults that spoil its answer."""
        events = self._judge(batch)
        if fault == Fault.SHORT_COUNT and isinstance(events, list):
            events = events[:-1]
        if isinstance(events, list):
            self._take(batch, events)
        if fault == Fault.RESET_AFTER:
            self._log(batch, 0)
            return _Reset()
        if isinstance(events, graph.GraphError):
            return self._error(batch, events)
        self._log(batch, 200)
        body = msgspec.json.encode(
            {"events_received": len(events), "messages": [], "fbtrace_id": graph.trace_id()}
        )
        if fault == Fault.BROKEN_JSON_200:
            body = body[: len(body) // 2]
        return Response(body, 200, self._headers(), "application/json")

    def _judge(self, batch: _Batch) -> list[dict[str, object]] | graph.GraphError:
        """The events when all of them are good; Graph does not say which one was not."""
        if not batch.token:
            return graph.NO_TOKEN
        if self.faults.tokens is not None and batch.token not in self.faults.tokens:
            return graph.BAD_TOKEN
        if not re.fullmatch(r"[0-9]+", batch.pixel):
            return graph.BAD_ID
        if isinstance(batch.events, graph.GraphError):
            return batch.events
        for key in _TEXT_KEYS:
            if not isinstance(batch.params.get(key) or "", str):
                return graph.refused(Refusal(100, None, f"param {key} must be a string."))
        good: list[dict[str, object]] = []
        for event in batch.events:
            refusal = validate(event, self._clock_ms() // 1000)
            if refusal is not None:
                return graph.refused(refusal)
            assert isinstance(event, dict)
            blamed = self.faults.poison_field
            if event.get("event_id") in self.faults.poison and (
                not blamed or blamed in event["user_data"]
            ):
                return graph.refused(Refusal(100, 2804019, "poison"), blamed)
            good.append(event)
        return good

    def _take(self, batch: _Batch, events: list[dict[str, object]]) -> None:
        at_ms, pixel = self._clock_ms(), batch.pixel
        found = [
            ("", key, "unknown key, ignored")
            for key in batch.params.keys() - _TEXT_KEYS - _OTHER_KEYS
        ]
        for event in events:
            event_id = str(event.get("event_id") or "")
            found += [(event_id, *problem) for problem in problems(event, at_ms // 1000)]
            if event_id and self._is_repeat((pixel, str(event["event_name"]), event_id), at_ms):
                self.duplicates += 1
        self._append(self.received, [Received(at_ms=at_ms, pixel=pixel, event=e) for e in events])
        self._append(
            self.problems,
            [
                Problem(at_ms=at_ms, pixel=pixel, event_id=event_id, field=name, problem=problem)
                for event_id, name, problem in found
            ],
        )

    def _is_repeat(self, key: tuple[str, str, str], at_ms: int) -> bool:
        """Whether `key` was taken in the last 48 hours, counted from its first time, as Meta does."""
        first_ms = self._first_ms.get(key)
        if first_ms is not None and at_ms - first_ms <= DEDUP_MS:
            return True
        self._first_ms.pop(key, None)
        self._first_ms[key] = at_ms
        if len(self._first_ms) > KEYS_KEPT * self._keep:
            del self._first_ms[next(iter(self._first_ms))]
        return False

    def _append(self, items: list[_T], new: Sequence[_T]) -> None:
        items.extend(new)
        del items[: max(0, len(items) - self._keep)]

    def _log(self, batch: _Batch, status: int, error: graph.GraphError | None = None) -> None:
        request = Request(
            at_ms=self._clock_ms(),
            pixel=batch.pixel,
            n_events=len(batch),
            status=status,
            code=error.code if error else None,
            subcode=error.subcode if error else None,
        )
        self._append(self.requests, [request])

    def _raw(self, batch: _Batch, status: int, body: str, media_type: str) -> Response:
        self._log(batch, status)
        return Response(body, status, media_type=media_type)

    def _error(self, batch: _Batch, error: graph.GraphError) -> Response:
        self._log(batch, error.status, error)
        trace_id = graph.trace_id()
        told: dict[str, object] = {
            "message": error.message,
            "type": error.type,
            "code": error.code,
            "is_transient": error.is_transient,
            "fbtrace_id": trace_id,
        }
        if error.subcode is not None:
            told["error_subcode"] = error.subcode
        if error.user_message is not None:
            told |= {"error_user_title": error.message, "error_user_msg": error.user_message}
        if error.blamed:
            told["error_data"] = {"blame_field_specs": [[f"data[0][user_data][{error.blamed}]"]]}
        return Response(
            msgspec.json.encode({"error": told}),
            error.status,
            self._headers() | {"x-fb-trace-id": trace_id},
            "application/json",
        )

    def _headers(self) -> dict[str, str]:
        percent = self.faults.usage_percent
        usage = {"call_count": percent, "total_time": percent, "total_cputime": percent}
        business = usage | {
            "type": "ads_management",
            "estimated_time_to_regain_access": 5 if percent >= 100 else 0,
            "ads_api_access_tier": "standard_access",
        }
        headers = {
            "x-app-usage": msgspec.json.encode(usage).decode(),
            "x-business-use-case-usage": msgspec.json.encode({"1": [business]}).decode(),
        }
        if self.faults.version_warning:
            headers["x-ad-api-version-warning"] = "The call has been auto-upgraded."
        return headers

    async def _get_received(self, http: HttpRequest) -> Response:
        pixel = http.query_params.get("pixel")
        received = [one for one in self.received if pixel in (None, one.pixel)]
        return _json({"received": received, "duplicates": self.duplicates})

    async def _delete_received(self, http: HttpRequest) -> Response:
        """Forgets the events, what was wrong with them, and the keys for deduplication."""
        self.received.clear()
        self.problems.clear()
        self._first_ms.clear()
        self.duplicates = 0
        return Response(status_code=204)

    async def _get_requests(self, http: HttpRequest) -> Response:
        return _json({"requests": self.requests})

    async def _get_problems(self, http: HttpRequest) -> Response:
        return _json({"problems": self.problems})

    async def _post_faults(self, http: HttpRequest) -> Response:
        """Replaces all of them: what the body leaves out is off."""
        try:
            given = msgspec.json.decode(await http.body(), type=dict[str, object])
            faults = msgspec.convert(given, Faults)
        except msgspec.DecodeError as error:
            return _json({"error": str(error)}, 400)
        unknown = given.keys() - {one.name for one in fields(Faults)}
        if unknown:
            return _json({"error": f"unknown: {', '.join(sorted(unknown))}"}, 400)
        self.faults = faults
        return _json(faults)


class _Reset(Response):
    """No answer at all: the connection closes without a byte.

    No server can write status 0, so uvicorn gives up and closes (with either of its parsers). In
    process there is no connection: the client meets the exception a socket would have given it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 0, "headers": []})
        raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")


class _Silence(Response):
    """Never answers, but lets go when the client does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Serves a sandbox until SIGINT or SIGTERM. Port 0 takes a free one; the line says which."""
    parser = argparse.ArgumentParser(
        prog="gateway.sandbox", description="A stand-in of Meta's Graph"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    args = parser.parse_args(argv)
    host: str = args.host
    # uvicorn raises the signal again once it has shut down: without these it would end in it.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda _signum, _frame: sys.exit(0))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, args.port), family=family)
    except (OSError, OverflowError) as error:
        print(f"cannot listen on {host} port {args.port}: {error}", file=sys.stderr)
        return 1
    shown = f"[{host}]" if ":" in host else host
    print(f"sandbox on http://{shown}:{listener.getsockname()[1]}", flush=True)
    app = Sandbox(clock_ms=_now_ms).app
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0
