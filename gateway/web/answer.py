"""JSON answers, by the encoder everything else uses."""

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
