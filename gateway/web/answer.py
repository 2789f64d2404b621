"""JSON answers, by the encoder everything else uses."""

import math
import secrets
from collections.abc import Mapping

import msgspec
from starlette.responses import Response


def json_answer(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Any struct, dataclass or builtin value as JSON that nobody caches."""
    return Response(
        msgspec.json.encode(content),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/json",
    )


RETRY_AFTER_S = 5
JITTER_S = 5


def retry_after(wait_ms: float = 0.0) -> dict[str, str]:
    """The header that says when to come again: not before `wait_ms`, and not all at the same moment."""
    seconds = max(RETRY_AFTER_S, math.ceil(wait_ms / 1000)) + secrets.randbelow(JITTER_S + 1)
    return {"Retry-After": str(seconds)}
