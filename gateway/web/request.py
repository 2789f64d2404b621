"""What every route needs of a request: its facts, and its body within bounds."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gateway import metrics
from gateway.errors import HitInvalid, HitTooLarge, StoreError
from gateway.hit import Facts, Source
from gateway.web.answer import json_answer, retry_after


def facts_of(request: Request, source: Source, now_ms: int) -> Facts:
    """What the request says by itself. Forwarded headers were judged by uvicorn's middleware."""
    headers = request.headers
    return Facts(
        source=source,
        now_ms=now_ms,
        host=host_of(request),
        secure=request.url.scheme == "https",
        address=request.client.host if request.client else "",
        agent=headers.get("user-agent", ""),
        cookies=cookie_pairs(headers.getlist("cookie")),
        gpc=headers.get("sec-gpc", "").strip() == "1",
        origin=origin_host(headers.get("origin")),
        referer=headers.get("referer", ""),
        prefetch="prefetch" in headers.get("sec-purpose", ""),
    )


def host_of(request: Request) -> str:
    """The Host header without port, lower-case; empty when it is rubbish."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def origin_host(origin: str | None) -> str | None:
    """The page's host; None without an Origin, empty for an opaque one (`null`)."""
    if origin is None:
        return None
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def cookie_pairs(headers: list[str]) -> tuple[tuple[str, str], ...]:
    """Every name and value sent, in order; the same name may come several times."""
    pieces = (piece.partition("=") for header in headers for piece in header.split(";"))
    return tuple((name.strip(), value.strip()) for name, _, value in pieces)


async def body_of(request: Request, max_bytes: int) -> bytes:
    """The body, counted as it comes. Raises HitTooLarge, and HitInvalid for a compressed one."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HitInvalid("Content-Encoding", "only identity is taken")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HitTooLarge("", f"the body is larger than {max_bytes} bytes")
    return bytes(body)


def refusal(
    error: HitInvalid | StoreError, source: Source, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request of which nothing was stored: which field, and what is allowed."""
    status, extra = 400, dict(headers or {})
    content: dict[str, object] = {"error": str(error)}
    match error:
        case HitTooLarge():
            status = 413
        case HitInvalid(field=field):
            content["field"] = field
        case StoreError():
            status, extra = 503, extra | retry_after()
            content = {"error": "nothing was stored; send it again later"}
    metrics.REFUSED.labels(source, str(status)).inc()
    return json_answer(content, status, extra)
