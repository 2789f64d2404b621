"""What lies in the keys of the Redis store, and what it is called there."""

from collections.abc import Sequence

import msgspec

from gateway.outcome import WAITING, Outcome
from gateway.stores import DeadLetter, Delivery, LoggedEvent, Note, Settlement
from gateway.stores.redis_put import JOB

PREFIX = "gw1"
"""the version of the layout: another one has other keys"""
PIXELS = f"{PREFIX}:pixels"
NAMES = (
    "seen", "suppressed", "held", "due", "job", "body", "log", "logged", "dead", "died", "tally",
    "seq",
)  # fmt: skip
COUNTERS = ("accepted", *(frozenset(Outcome) - WAITING))
"""what is counted of an hour"""
PIXELS_MAX = 1000
"""a ref is the event's number within its pixel, then three digits for the pixel"""

_Line = tuple[int, Outcome, int, int, str, str]
_Letter = tuple[int, str, str]


def key_of(pixel: str, name: str) -> str:
    """A key in the pixel's hash slot."""
    return f"{PREFIX}:{{{pixel}}}:{name}"


def ref_of(number: int, pixel: int) -> int:
    """What the gateway calls the pixel's event of this number."""
    return number * PIXELS_MAX + pixel


def member_of(number: int) -> str:
    """What the keys call an event: of one width, so that equal times sort by age."""
    return f"{number:012}"


def members_of(refs: Sequence[int], pixel: int) -> list[str]:
    """Those of a pixel among refs."""
    return [member_of(r // PIXELS_MAX) for r in dict.fromkeys(refs) if r % PIXELS_MAX == pixel]


def settlement(s: Settlement) -> tuple[str, ...]:
    """As settle.lua takes it."""
    d = s.delivery
    return (
        member_of(d.ref // PIXELS_MAX),
        Outcome.PENDING if s.outcome in WAITING else s.outcome,
        str(d.lease_ms),
        str(d.attempt),
        s.reason,
        str(s.due_ms),
        "1" if s.count else "",
        "1" if s.ambiguous else "",
    )


def accepted_ms(job: bytes) -> int:
    """When the event of a packed job was accepted."""
    return int(JOB.unpack_from(job)[0])


def delivery(pixel: str, ref: int, job: bytes, body: bytes, lease_ms: int) -> Delivery:
    """From what claim.lua answers."""
    at, deadline, doubt, tries, _ = JOB.unpack_from(job)
    return Delivery(
        ref=ref,
        pixel=pixel,
        body=body,
        attempt=tries,
        accepted_ms=int(at),
        deadline_ms=int(deadline),
        lease_ms=lease_ms,
        doubt_ms=int(doubt),
    )


def logged(pixel: str, ref: int, packed: bytes) -> LoggedEvent:
    """From a line of the log."""
    at_ms, outcome, settled_ms, attempts, reason, note = msgspec.msgpack.decode(packed, type=_Line)
    return LoggedEvent(
        ref=ref,
        at_ms=at_ms,
        pixel=pixel,
        outcome=outcome,
        settled_ms=settled_ms,
        attempts=attempts,
        reason=reason,
        note=msgspec.json.decode(note, type=Note),
    )


def letter(pixel: str, ref: int, packed: bytes, job: bytes, body: bytes) -> DeadLetter:
    """From what is left of a dead event."""
    died_ms, reason, note = msgspec.msgpack.decode(packed, type=_Letter)
    at, _, _, tries, _ = JOB.unpack_from(job)
    return DeadLetter(
        ref=ref,
        pixel=pixel,
        accepted_ms=int(at),
        died_ms=died_ms,
        attempts=tries,
        reason=reason,
        body=body,
        note=msgspec.json.decode(note, type=Note),
    )
