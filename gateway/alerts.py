"""What an operator should be told without asking: named states that are wrong, and from when on they are.

Rules only: what was observed comes in, alerts go out. The names are a closed set, so that they can be labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.outcome import DROPPED, Outcome
from gateway.stores import LedgerLine

OLDEST_MS = 15 * 60_000
"""how long an event may wait; a retry comes after five minutes at most"""
DEAD_SHARE = 0.01
DEAD_LEAST = 10
"""dead letters of an hour below which their share says nothing"""
CLOCK_MS = 60_000
"""how far off a clock may be: Meta refuses what is a minute ahead"""
DOUBTED_SHARE = 0.001
DOUBTED_LEAST = 10
"""events sent again in an hour below which their share says nothing"""
FEWER_SHARE = 0.2
"""of what came a week earlier; less than this is a tag that is gone rather than a bad day"""
FEWER_LEAST = 100
"""events a week earlier below which a fall says nothing: a quiet night, a small site"""
SPANS_H = (3, 24)
"""how far back to compare: a large site sees a fall within hours, a small one within a day"""


_UNUSABLE = DROPPED - {Outcome.SUPPRESSED, Outcome.ERASED}


class Name(StrEnum):
    """Which state it is."""

    STORE = "store"
    DISK = "disk"
    LEDGER = "ledger"
    OLDEST = "oldest"
    DEAD = "dead"
    FEWER = "fewer"
    AMBIGUOUS = "ambiguous"
    CLOCK = "clock"
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
class Sent:
    """What this process has sent of one pixel."""

    delivered: int
    doubted: int
    """events sent again, as no answer said whether Meta had counted them"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A pixel's events of the last full hours, and of the same hours a week earlier."""

    hours: int
    now: LedgerLine
    before: LedgerLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a self-check saw. What the store could not tell is empty."""

    now_ms: int
    store_error: str = ""
    """why no event could be stored now"""
    ledger: Sequence[LedgerLine] = ()
    hour_ago: Mapping[str, LedgerLine] = field(default_factory=dict)
    """the ledger an hour ago, or as long as has been watched, by pixel"""
    sent: Mapping[str, Sent] = field(default_factory=dict)
    sent_hour_ago: Mapping[str, Sent] = field(default_factory=dict)
    """likewise, by pixel"""
    compared: Mapping[str, Sequence[Compared]] = field(default_factory=dict)
    """by pixel, the shortest span first"""
    oldest_ms: int | None = None
    """when the event that waits for longest was accepted"""
    hold_ms: int = 0
    """how long a conversion waits for its other half, which is no trouble"""
    ahead_ms: int = 0
    """how far the clock is ahead of Meta's"""
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
    for spans in seen.compared.values():
        if alert := next(filter(None, map(_fewer, spans)), None):
            yield alert
    for pixel, sent in seen.sent.items():
        if alert := _doubting(pixel, sent, seen.sent_hour_ago.get(pixel)):
            yield alert
    if seen.turned_away:
        text = f"{seen.turned_away} requests came that there was no time for; they were told to come again."
        yield Alert(name=Name.OVERLOAD, text=text)
    if abs(seen.ahead_ms) > CLOCK_MS:
        side = "ahead of" if seen.ahead_ms > 0 else "behind"
        minutes = abs(seen.ahead_ms) // 60_000
        text = (
            f"The gateway's clock is {minutes} minutes {side} Meta's, and events carry its time; set it, or with "
            "Redis that of the Redis server."
        )
        yield Alert(name=Name.CLOCK, text=text)
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


def _doubting(pixel: str, now: Sent, before: Sent | None) -> Alert | None:
    if before is None:
        return None
    doubted = now.doubted - before.doubted
    delivered = now.delivered - before.delivered
    if doubted < DOUBTED_LEAST or doubted <= DOUBTED_SHARE * delivered:
        return None
    text = (
        f"Pixel {pixel}: {doubted} events of the last hour were sent again, beside {delivered} delivered, because "
        "no answer said whether Meta had them. They keep their ids, but Meta does not promise to count two copies "
        "from a server once; if it goes on, look at the network between this machine and Meta."
    )
    return Alert(name=Name.AMBIGUOUS, pixel=pixel, text=text)


def _fewer(compared: Compared) -> Alert | None:
    now, before, hours = compared.now, compared.before, compared.hours
    usable, usable_before = _usable(now), _usable(before)
    if usable_before < FEWER_LEAST or usable >= FEWER_SHARE * usable_before:
        return None
    seen = (
        f"Pixel {now.pixel}: {usable} usable events came in the last {hours} full hours, and {usable_before} in "
        "the same hours a week ago"
    )
    if now.accepted < FEWER_SHARE * before.accepted:
        do = (
            "see whether the tag is still on your pages, whether the front server still routes its path to the "
            "gateway, and whether the consent banner changed"
        )
    else:
        reason = max(_UNUSABLE, key=lambda outcome: now.dropped.get(outcome, 0))
        do = (
            f"{now.dropped[reason]} others were dropped as {reason}, of which docs/troubleshoot.md says what it "
            "means and what to do"
        )
    return Alert(name=Name.FEWER, pixel=now.pixel, text=f"{seen}; {do}.")


def _usable(line: LedgerLine) -> int:
    """How many were good enough to be sent, by the gateway or by the browser alone."""
    return line.accepted - sum(line.dropped.get(outcome, 0) for outcome in _UNUSABLE)
