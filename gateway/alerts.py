"""What an operator should be told without asking: named states that are wrong, and from when on they are.

Rules only: what was observed comes in, alerts go out. The names are a closed set, so that they can be labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.stores import LedgerLine

OLDEST_MS = 15 * 60_000
"""how long an event may wait; a retry comes after five minutes at most"""
DEAD_SHARE = 0.01
DEAD_LEAST = 10
"""dead letters of an hour below which their share says nothing"""


class Name(StrEnum):
    """Which state it is."""

    STORE = "store"
    DISK = "disk"
    LEDGER = "ledger"
    OLDEST = "oldest"
    DEAD = "dead"
    PAUSED = "paused"
    AWAY = "away"
    OVERLOAD = "overload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One state that is wrong."""

    name: Name
    pixel: str = ""
    text: str
    """a sentence, with what to do where that is not plain"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a self-check saw. What the store could not tell is empty."""

    now_ms: int
    store_error: str = ""
    """why no event could be stored now"""
    ledger: Sequence[LedgerLine] = ()
    hour_ago: Mapping[str, LedgerLine] = field(default_factory=dict)
    """the ledger an hour ago, or as long as has been watched, by pixel"""
    oldest_ms: int | None = None
    """when the event that waits for longest was accepted"""
    hold_ms: int = 0
    """how long a conversion waits for its other half, which is no trouble"""
    paused: Mapping[str, str] = field(default_factory=dict)
    """why a pixel's delivery waits for somebody to see to it, by pixel"""
    away: Mapping[str, str] = field(default_factory=dict)
    """why nothing of a pixel gets through to Meta, which ends by itself, by pixel"""
    turned_away: int = 0
    """requests since the last look for which there was no time"""
    disk_free: int = 0
    disk_enough: int = 0
    """bytes below which somebody should make room"""


def judge(seen: Observed) -> tuple[Alert, ...]:
    """Everything that is wrong, the worst first."""
    return tuple(_all(seen))


def _all(seen: Observed) -> Iterator[Alert]:
    if seen.store_error:
        yield Alert(name=Name.STORE, text=f"No event can be stored: {seen.store_error}.")
    if seen.disk_free < seen.disk_enough:
        text = f"The disk has {seen.disk_free} bytes left; below {seen.disk_enough} make room."
        yield Alert(name=Name.DISK, text=text)
    for line in seen.ledger:
        if not line.adds_up:
            text = (
                f"Pixel {line.pixel}: the ledger does not add up, which is a fault of the gateway."
            )
            yield Alert(name=Name.LEDGER, pixel=line.pixel, text=text)
    if seen.oldest_ms is not None and seen.now_ms - seen.oldest_ms > OLDEST_MS + seen.hold_ms:
        minutes = (seen.now_ms - seen.oldest_ms) // 60_000
        yield Alert(name=Name.OLDEST, text=f"An event has been waiting for {minutes} minutes.")
    for line in seen.ledger:
        if alert := _dying(line, seen.hour_ago.get(line.pixel)):
            yield alert
    if seen.turned_away:
        text = f"{seen.turned_away} requests came that there was no time for; they were told to come again."
        yield Alert(name=Name.OVERLOAD, text=text)
    for pixel, why in seen.paused.items():
        yield Alert(name=Name.PAUSED, pixel=pixel, text=f"Pixel {pixel}: {why}.")
    for pixel, why in seen.away.items():
        yield Alert(name=Name.AWAY, pixel=pixel, text=f"Pixel {pixel}: {why}.")


def _dying(now: LedgerLine, before: LedgerLine | None) -> Alert | None:
    if before is None:
        return None
    # Revived ones leave the count, so it may have fallen.
    dead = max(now.dead - before.dead, 0)
    ended = dead + now.delivered - before.delivered
    if dead < DEAD_LEAST or dead <= DEAD_SHARE * ended:
        return None
    text = (
        f"Pixel {now.pixel}: {dead} of {ended} events of the last hour were rejected by Meta; "
        "`gateway dead list` says why."
    )
    return Alert(name=Name.DEAD, pixel=now.pixel, text=text)
