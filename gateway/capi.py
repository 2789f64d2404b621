"""Meta's side of a delivery: how a request is framed, and what an answer means.

Sources: Meta, "Using the Conversions API" (1000 events, all or nothing; no retry of client errors),
"Graph API: Error Handling", "Marketing API: Rate Limiting"; the payload subcodes are those seen in
published Graph answers and in RudderStack's error map, whose meaning nobody documents.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum

import msgspec

MAX_EVENTS = 1000
MAX_BYTES = 1024 * 1024
"""Meta states no limit; 1000 rich events are about this big"""

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


class Fate(StrEnum):
    """What is to happen to the events of a request."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """the same events with the same ids, later"""
    PAUSE = "pause"
    """nothing of this pixel until somebody sees to it; the events keep"""
    SPLIT = "split"
    """one of them is at fault, Meta does not say which"""
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The meaning of one answer."""

    fate: Fate
    reason: str = ""
    """for people: what happened and what to do; never holds what was sent"""
    alone: Fate = Fate.DEAD
    """what SPLIT means for an event that is alone already"""
    ambiguous: bool = False
    """Meta may have counted the events"""
    lane: bool = False
    """the answer is about the pixel, not about these events: no attempt of theirs counts"""
    wait_ms: int = 0
    """before the pixel's next request; 0: the worker's own schedule"""
    blame: str = ""
    """path of a field that can go, such as `user_data.fbc`: without it the event may pass"""
    early: bool = False
    """to Meta an event_time lies in the future: with the time that it is there the event may pass"""
    date_s: int = 0
    """Unix seconds at Meta when it answered; 0: not said"""
    trace: str = ""
    """Meta's fbtrace_id, which its support asks for"""
    usage: int = 0
    """per cent of the rate limit used up, by the answer's headers"""
    version_warning: str = ""
    """Meta's word that the Graph version is about to go"""


# --- framing ---------------------------------------------------------------------------------


def batch(bodies: Sequence[bytes], token: str, test_event_code: str | None) -> bytes:
    """One request's JSON around events that are already Meta's bytes. The token travels inside."""
    head = {"access_token": token} | (
        {"test_event_code": test_event_code} if test_event_code else {}
    )
    return msgspec.json.encode(head)[:-1] + b',"data":[' + b",".join(bodies) + b"]}"


def without(body: bytes, path: str) -> bytes | None:
    """An event's bytes without one field (`user_data.fbc`); None when it has no such field."""
    event = msgspec.json.decode(body, type=dict[str, object])
    *outer, last = path.split(".")
    holder: dict[str, object] = event
    for name in outer:
        inner = holder.get(name)
        if not isinstance(inner, dict):
            return None
        holder = inner
    if holder.pop(last, None) is None:
        return None
    return msgspec.json.encode(event)


def not_after(body: bytes, latest_s: int) -> bytes:
    """An event's bytes with an event_time that is not later; the very same where it was not."""
    event = msgspec.json.decode(body, type=dict[str, object])
    time = event.get("event_time")
    if not isinstance(time, int) or time <= latest_s:
        return body
    return msgspec.json.encode(event | {"event_time": latest_s})


# --- the table -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Meaning:
    fate: Fate
    words: str
    do: str = ""
    ambiguous: bool = False
    lane: bool = False
    wait_ms: int = 0
    blame: str = ""
    alone: Fate = Fate.DEAD
    early: bool = False


def _payload(words: str, do: str = "mend the sender and retry it", blame: str = "") -> _Meaning:
    return _Meaning(Fate.SPLIT, words, do, blame=blame)


def _token(words: str, do: str = "make a new token in Events Manager and set it") -> _Meaning:
    return _Meaning(Fate.PAUSE, words, do, lane=True)


_ABOUT_MESSAGING = _payload("a business messaging event lacks what its channel needs")

# (code, subcode) before (code, None). Meta's texts are in the token owner's language, so only
# numbers decide.
_PAYLOAD: Mapping[int | None, _Meaning] = {
    None: _payload("an event is not as Meta wants it"),
    2804001: _payload("malformed fbc", blame="user_data.fbc"),
    2804003: _payload("event_time is older than 7 days", "nothing can be done: it came too late"),
    # An event from the future was refused when it came, so this one bears the time of a clock that ran ahead.
    2804004: _Meaning(
        Fate.SPLIT,
        "event_time lay in the future",
        "set the gateway's clock",
        alone=Fate.RETRY,
        early=True,
    ),
    2804007: _payload("client error 2804007, which Meta does not document"),
    2804008: _payload("an item of contents has no id"),
    2804009: _payload("a Purchase without value"),
    2804010: _payload("a Purchase without a valid currency"),
    2804016: _payload("the city is rejected", blame="user_data.ct"),
    2804017: _payload("client error 2804017, which Meta does not document"),
    2804019: _payload("invalid event data"),
    2804023: _payload("a value without currency"),
    2804036: _payload("malformed lead_id", blame="user_data.lead_id"),
    2804043: _payload("app_data.extinfo is wrong"),
    2804048: _payload("client error 2804048, which Meta does not document"),
    2804050: _payload("too little customer information", "send em, ph, fbp, fbc or external_id"),
    **dict.fromkeys(
        (2804063, 2804066, 2804069, 2804079, 2804087, 2804116, 2804117, 2804118, 2804131, 2804132),
        _ABOUT_MESSAGING,
    ),
    33: _token("the pixel does not exist, or the token may not use it", "check FB_PIXEL_ID"),
}
_TOKEN: Mapping[int | None, _Meaning] = {
    None: _token("the access token is not valid"),
    458: _token("the app the token belongs to was removed"),
    459: _token("the token's owner has to log in to Facebook once", "log in, or make a new token"),
    460: _token("the token's owner changed the password"),
    463: _token("the access token has expired"),
    464: _token("the token's owner is not a confirmed user"),
    467: _token("the access token is invalid"),
    492: _token("the token's session is invalid"),
}
_DENIED = _token("the token has no permission for this pixel", "grant it, or make a new token")
_THROTTLED = _Meaning(Fate.RETRY, "Meta asks for fewer requests", lane=True)
_TRANSIENT = _Meaning(Fate.RETRY, "Meta failed for the moment", ambiguous=True)
_TABLE: Mapping[int, Mapping[int | None, _Meaning]] = {
    100: _PAYLOAD,
    190: _TOKEN,
    102: {None: _token("the token's session has ended")},
    104: {None: _token("the request was not signed as the app demands")},
    803: {None: _token("Meta does not know the pixel id", "check FB_PIXEL_ID")},
    **{code: {None: _DENIED} for code in (3, 10, 294, *range(200, 300))},
    1: {
        None: _TRANSIENT,
        # Persists for a batch at times: then one of its events is at fault.
        99: _Meaning(Fate.SPLIT, "Meta failed on a batch", alone=Fate.RETRY, ambiguous=True),
    },
    2: {None: _TRANSIENT},
    **{code: {None: _THROTTLED} for code in (4, 17, 32, 341, 613, *range(80000, 80015))},
    368: {
        None: _Meaning(
            Fate.PAUSE,
            "Meta has blocked this account for a time, by its policies",
            "see Account Quality",
            lane=True,
            wait_ms=HOUR_MS,
        )
    },
}
_UNKNOWN = _payload("Meta rejects the event", "look the code up in Meta's documentation")


# --- answers ---------------------------------------------------------------------------------


class _Error(msgspec.Struct, frozen=True):
    code: int | None = None
    error_subcode: int | None = None
    is_transient: bool | None = None
    fbtrace_id: str | None = None
    error_data: object = None


class _Answer(msgspec.Struct, frozen=True):
    events_received: int | None = None
    fbtrace_id: str | None = None
    error: _Error | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def classify(status: int, headers: Mapping[str, str], body: bytes, sent: int) -> Verdict:
    """What an answer to a request of `sent` events means. `headers`: names in lower case.

    The HTTP status alone decides nothing: throttles come as 400 and 403, and a proxy may answer 200
    with a page of its own. The one proof of delivery is `events_received` equal to what was sent.
    """
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _Answer()
    if answer.error is not None:
        verdict = _of_error(status, answer.error, headers)
    elif status == 200 and answer.events_received == sent:
        verdict = Verdict(fate=Fate.DELIVERED)
    elif status == 200 and answer.events_received is not None:
        counted = f"Meta counted {answer.events_received} of {sent} events"
        verdict = Verdict(fate=Fate.RETRY, reason=counted, ambiguous=True)
    else:
        verdict = _of_stranger(status)
    return replace(
        verdict,
        trace=(answer.error.fbtrace_id if answer.error else answer.fbtrace_id)
        or headers.get("x-fb-trace-id", ""),
        date_s=_seconds_of(headers.get("date", "")),
        usage=usage_of(headers)[0],
        version_warning=headers.get("x-ad-api-version-warning", "")[:200],
    )


def unreachable(reason: str, *, ambiguous: bool) -> Verdict:
    """No answer at all. `ambiguous`: the events had left already, so Meta may have them."""
    return Verdict(fate=Fate.RETRY, reason=reason, ambiguous=ambiguous)


def no_token() -> Verdict:
    """A pixel without a token: its events wait until one is given."""
    reason = "no access token is set for this pixel (FB_ACCESS_TOKEN)"
    return Verdict(fate=Fate.PAUSE, reason=reason, lane=True)


def _of_error(status: int, error: _Error, headers: Mapping[str, str]) -> Verdict:
    numbers = f"code {error.code}" + (f"/{error.error_subcode}" if error.error_subcode else "")
    meanings = _TABLE.get(error.code or 0, {})
    meaning = meanings.get(error.error_subcode) or meanings.get(None)
    if meaning is None:
        transient = error.is_transient or status >= 500
        meaning = _TRANSIENT if transient else _THROTTLED if status == 429 else _UNKNOWN
    blame = meaning.blame or (_blamed(error.error_data) if meaning.fate is Fate.SPLIT else "")
    wait_ms = usage_of(headers)[1] if meaning is _THROTTLED else meaning.wait_ms
    return Verdict(
        fate=meaning.fate,
        reason=f"{meaning.words} ({numbers})" + (f"; {meaning.do}" if meaning.do else ""),
        alone=meaning.alone,
        ambiguous=meaning.ambiguous,
        lane=meaning.lane,
        wait_ms=wait_ms,
        blame=blame,
        early=meaning.early,
    )


def _of_stranger(status: int) -> Verdict:
    """An answer without Graph's shape: from something between us and Meta, or a Graph that broke."""
    reason = f"HTTP {status} without an answer of Meta's"
    if status == 413:
        return Verdict(fate=Fate.SPLIT, reason=reason)
    if status == 429:
        return Verdict(fate=Fate.RETRY, reason=reason, lane=True)
    return Verdict(fate=Fate.RETRY, reason=reason, ambiguous=status == 200 or status >= 500)


def _seconds_of(date: str) -> int:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return 0


# Keys of user_data an event can lose and still be worth sending.
_REMOVABLE = frozenset(
    {"fbc", "fbp", "em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country", "external_id"}
    | {"client_ip_address", "lead_id", "subscription_id", "fb_login_id"}
)


def _blamed(error_data: object) -> str:
    """The match key `error_data.blame_field_specs` names; sometimes it is JSON inside a string."""
    if isinstance(error_data, str):
        try:
            error_data = msgspec.json.decode(error_data)
        except (msgspec.DecodeError, RecursionError):
            return ""
    specs = error_data.get("blame_field_specs") if isinstance(error_data, dict) else None
    for spec in _flat(specs, 4):
        key = spec.replace("]", "").replace("[", ".").rpartition(".")[2]
        if "user_data" in spec and key in _REMOVABLE:
            return f"user_data.{key}"
    return ""


def _flat(value: object, depth: int) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _flat(item, depth - 1)


# --- usage headers ---------------------------------------------------------------------------


def usage_of(headers: Mapping[str, str]) -> tuple[int, int]:
    """Per cent of the rate limit used, and milliseconds until Meta lets us in again (0: not said).

    Meta, "Rate Limiting": three headers of JSON, each only sent when it has something to say.
    """
    percent, regain_minutes = 0.0, 0.0
    for name in ("x-app-usage", "x-ad-account-usage", "x-business-use-case-usage"):
        try:
            said = msgspec.json.decode(headers.get(name, "{}"))
        except (msgspec.DecodeError, RecursionError):
            continue
        for key, number in _numbers(said, 4):
            if key in {"call_count", "total_time", "total_cputime", "acc_id_util_pct"}:
                percent = max(percent, number)
            elif key == "estimated_time_to_regain_access":
                regain_minutes = max(regain_minutes, number)
    return int(min(percent, 1000)), int(min(regain_minutes * MINUTE_MS, 24 * HOUR_MS))


def _numbers(value: object, depth: int) -> Iterable[tuple[str, float]]:
    if isinstance(value, dict) and depth:
        for key, inner in value.items():
            if isinstance(inner, int | float) and not isinstance(inner, bool):
                yield key, inner
            else:
                yield from _numbers(inner, depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value:
            yield from _numbers(inner, depth - 1)
