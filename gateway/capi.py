"""Meta's side of a delivery: how a request is framed, and what an answer means.

Sources: Meta, "Using the Conversions API" (1000 events, all or nothing) and "Graph API error
handling"; the codes were checked against what client libraries and published answers show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

MAX_EVENTS = 1000
MAX_BYTES = 1024 * 1024
"""Meta states no limit; 1000 rich events are about this big"""


class Fate(StrEnum):
    """What is to happen to the events of a request."""

    DELIVERED = "delivered"
    RETRY = "retry"
    PAUSE = "pause"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The meaning of one answer."""

    fate: Fate
    reason: str
    """for people: what happened; never holds what was sent"""
    trace: str = ""
    """Meta's fbtrace_id, which its support asks for"""
    again_ms: int = 0
    """wait at least so long"""


def batch(bodies: Sequence[bytes], token: str, test_event_code: str | None) -> bytes:
    """One request's JSON around events that are already Meta's bytes. The token travels inside."""
    head = {"access_token": token} | (
        {"test_event_code": test_event_code} if test_event_code else {}
    )
    return msgspec.json.encode(head)[:-1] + b',"data":[' + b",".join(bodies) + b"]}"


class _Error(msgspec.Struct, frozen=True):
    # All but the code may be missing, or null.
    code: int | None = None
    error_subcode: int | None = None
    is_transient: bool | None = None
    fbtrace_id: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    events_received: int | None = None
    fbtrace_id: str | None = None
    error: _Error | None = None


_ANSWER = msgspec.json.Decoder(_Answer)

_TOKEN_CODES = frozenset({190, 102, 104, 10, 3, 294, 803}) | frozenset(range(200, 300))
_THROTTLE_CODES = frozenset({4, 17, 32, 341, 613}) | frozenset(range(80000, 80015))
_TRANSIENT_CODES = frozenset({1, 2})
_BLOCKED_CODE = 368
_THROTTLE_MS = 60_000
_PAUSE_MS = 60_000
_BLOCKED_MS = 3_600_000


def classify(status: int, body: bytes, sent: int) -> Verdict:
    """What an answer to a request of `sent` events means.

    The HTTP status alone decides nothing: throttles come as 400 and 403, and a proxy may answer 200
    with a page of its own. The one proof of delivery is `events_received` equal to what was sent.
    """
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _Answer()
    if answer.error is not None:
        return _of_error(status, answer.error)
    if status == 200 and answer.events_received == sent:
        return Verdict(fate=Fate.DELIVERED, reason="", trace=answer.fbtrace_id or "")
    if status == 200 and answer.events_received is not None:
        return _retry(
            f"Meta counted {answer.events_received} of {sent} events", answer.fbtrace_id or ""
        )
    if status == 200 or status >= 500:
        return _retry(f"HTTP {status} without an answer of Meta's")
    if status == 429:
        return Verdict(fate=Fate.RETRY, reason="HTTP 429: too many requests", again_ms=_THROTTLE_MS)
    return Verdict(fate=Fate.DEAD, reason=f"HTTP {status} without an answer of Meta's")


def unreachable(reason: str) -> Verdict:
    """No answer at all: the network failed before or after Meta got the events."""
    return _retry(reason)


def no_token() -> Verdict:
    """A pixel without a token: its events wait until one is given."""
    return Verdict(
        fate=Fate.PAUSE, reason="no access token is set for this pixel", again_ms=_PAUSE_MS
    )


def _of_error(status: int, error: _Error) -> Verdict:
    trace = error.fbtrace_id or ""
    numbers = f"code {error.code}" + (f"/{error.error_subcode}" if error.error_subcode else "")
    if error.code in _TOKEN_CODES or (error.code == 100 and error.error_subcode == 33):
        reason = f"Meta refuses the access token or the pixel id ({numbers})"
        return Verdict(fate=Fate.PAUSE, reason=reason, trace=trace, again_ms=_PAUSE_MS)
    if error.code == _BLOCKED_CODE:
        reason = f"Meta blocks this account for now, by its policies ({numbers})"
        return Verdict(fate=Fate.PAUSE, reason=reason, trace=trace, again_ms=_BLOCKED_MS)
    if error.code in _THROTTLE_CODES or status == 429:
        reason = f"Meta asks for fewer requests ({numbers})"
        return Verdict(fate=Fate.RETRY, reason=reason, trace=trace, again_ms=_THROTTLE_MS)
    if error.code in _TRANSIENT_CODES or error.is_transient or status >= 500:
        return _retry(f"Meta failed for the moment ({numbers})", trace)
    reason = f"Meta rejects the request ({numbers})"
    return Verdict(fate=Fate.DEAD, reason=reason, trace=trace)


def _retry(reason: str, trace: str = "") -> Verdict:
    return Verdict(fate=Fate.RETRY, reason=reason, trace=trace)
