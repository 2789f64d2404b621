"""Graph's side of the wire, for the sandbox: a request read as Graph reads it, and Graph's errors.

Parameters come from the query and from a body in JSON, form or multipart encoding; the token may also
be a bearer token. Anything unreadable counts as absent, which is then the error.
"""

import email.policy
import secrets
from dataclasses import dataclass
from email.parser import BytesParser
from enum import StrEnum
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

from gateway.sandbox.rules import Refusal

MAX_EVENTS = 1000


class Fault(StrEnum):
    """What can be made to go wrong. Unless it says otherwise, nothing of the request is processed."""

    SERVER_ERROR = "server_error"  # HTTP 500 in HTML
    UNKNOWN = "unknown"
    SERVICE = "service"
    APP_LIMIT = "app_limit"
    USER_LIMIT = "user_limit"
    PAGE_LIMIT = "page_limit"
    CUSTOM_LIMIT = "custom_limit"
    ADS_LIMIT = "ads_limit"
    HTTP_429 = "http_429"  # in HTML: the status is all there is
    BLOCKED = "blocked"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - not a token
    TOKEN_MALFORMED = "token_malformed"  # noqa: S105 - not a token
    PERMISSION = "permission"
    WRONG_PIXEL = "wrong_pixel"
    EMPTY_200 = "empty_200"  # a proxy answered
    HTML_200 = "html_200"  # likewise
    BROKEN_JSON_200 = "broken_json_200"  # processed, the answer is cut off
    SHORT_COUNT = "short_count"  # all but the last event are taken
    HANG = "hang"  # never answers; ends when the client goes away
    RESET_AFTER = "reset_after"  # processed, the answer is lost
    RESET_BEFORE = "reset_before"


@dataclass(frozen=True, slots=True)
class GraphError:
    """One error answer. `user_message` is what Graph shows a person, beside a bare `message`."""

    status: int
    code: int
    message: str
    subcode: int | None = None
    type: str = "OAuthException"
    is_transient: bool = False
    user_message: str | None = None
    blamed: str = ""  # a key of user_data, for error_data


NO_TOKEN = GraphError(400, 104, "An access token is required to request this resource.")
BAD_TOKEN = GraphError(401, 190, "Invalid OAuth access token - Cannot parse access token")
BAD_ID = GraphError(404, 803, "(#803) Some of the aliases you requested do not exist")
BAD_PATH = GraphError(400, 2500, "Unknown path components")
BAD_METHOD = GraphError(
    400, 100, "Unsupported request method for this object.", 33, "GraphMethodException"
)

ERRORS = {
    Fault.UNKNOWN: GraphError(500, 1, "An unknown error occurred"),
    Fault.SERVICE: GraphError(503, 2, "Service temporarily unavailable", is_transient=True),
    Fault.APP_LIMIT: GraphError(
        403, 4, "(#4) Application request limit reached", is_transient=True
    ),
    Fault.USER_LIMIT: GraphError(400, 17, "User request limit reached", 2446079),
    Fault.PAGE_LIMIT: GraphError(400, 32, "(#32) Page request limit reached"),
    Fault.CUSTOM_LIMIT: GraphError(
        400, 613, "(#613) Calls to this api have exceeded the rate limit."
    ),
    Fault.ADS_LIMIT: GraphError(
        400, 80004, "(#80004) There have been too many calls to this ad-account."
    ),
    Fault.BLOCKED: GraphError(
        400, 368, "The action attempted has been deemed abusive or is otherwise disallowed"
    ),
    Fault.TOKEN_EXPIRED: GraphError(
        401, 190, "Error validating access token: Session has expired", 463
    ),
    Fault.TOKEN_MALFORMED: BAD_TOKEN,
    Fault.PERMISSION: GraphError(403, 200, "(#200) Permissions error"),
    Fault.WRONG_PIXEL: GraphError(
        400,
        100,
        "Unsupported post request. Object does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation.",
        33,
        "GraphMethodException",
    ),
}


def trace_id() -> str:
    """A fresh fbtrace_id: Graph's are 23 URL-safe characters, the first an A."""
    return "A" + secrets.token_urlsafe(16)


def refused(refusal: Refusal, blamed: str = "") -> GraphError:
    """Graph tells the reason in the user's message when there is a subcode, else in `message`."""
    if refusal.subcode is None:
        return GraphError(400, refusal.code, f"(#{refusal.code}) {refusal.message}")
    return GraphError(
        400,
        refusal.code,
        "Invalid parameter",
        refusal.subcode,
        user_message=refusal.message,
        blamed=blamed,
    )


async def read_params(http: Request) -> dict[str, object]:
    """Parameters from the query and, above them, from a body in any of Graph's three encodings."""
    params: dict[str, object] = dict(http.query_params)
    body = await http.body()
    content_type = http.headers.get("content-type", "")
    match content_type.partition(";")[0].strip().lower():
        case "application/json":
            decoded = _decode(body)
            params |= decoded if isinstance(decoded, dict) else {}
        case "multipart/form-data":
            params |= _read_multipart(content_type, body)
        case _:
            params |= parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return params


def _read_multipart(content_type: str, body: bytes) -> dict[str, str]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    params: dict[str, str] = {}
    for part in message.iter_parts() if message.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            params[name] = payload.decode("utf-8", "replace")
    return params


def token_of(http: Request, params: dict[str, object]) -> str:
    """The access token, empty when there is none."""
    token = params.get("access_token")
    if isinstance(token, str) and token:
        return token
    scheme, _, bearer = http.headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else ""


def events_of(params: dict[str, object]) -> list[object] | GraphError:
    """`data` as an array of objects, of JSON strings, or as one JSON string of either."""
    data = params.get("data")
    if data is None:
        return refused(Refusal(100, None, "The parameter data is required"))
    data = _decode(data)
    if not isinstance(data, list):
        return refused(Refusal(100, None, "param data must be an array."))
    if not data:
        return refused(Refusal(100, None, "param data must be non-empty."))
    if len(data) > MAX_EVENTS:
        return refused(Refusal(100, None, f"param data must hold at most {MAX_EVENTS} events."))
    return [_decode(event) for event in data]


def _decode(value: object) -> object:
    """JSON text decoded, None when it is not JSON; anything else as it is."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
