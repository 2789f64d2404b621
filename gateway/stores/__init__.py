"""The contract every store keeps: an outbox for the movers, records for people.

A store knows keys and bytes, never events. What it promises:

- `put` is durable when it returns: a pixel's dedup keys and bodies are on disk in one atomic step, or none is. (Of
  several pixels one may be stored when another cannot be; to put them again is safe.)
- A copy that comes while the first one is held is merged into it, by the function the caller gives, in the step that
  recognises its key. A hold ends at its `due`, or when a merge says that nothing more is waited for.
- An event that lacks something is held, and never claimed. Where no copy has brought it by its `due`, the event is
  dropped INVALID and its key forgotten: a copy that comes later is new. (It is done when somebody comes across it, at
  the latest by a sweep, and counts as pending until then.)
- A key is remembered until an hour after its event's deadline, and at least `DEDUP_MS`; the same key again
  within that time is a duplicate. (If the key could expire before its job, a late copy would double it.)
- `claim` leases, oldest due first, or the newest first of those that were never tried; a lease that runs out is
  simply due again. A ref is never used twice, so that a settlement that arrives late cannot touch somebody else's
  event.
- `settle` is idempotent; a retry or a death counts only under the lease it was claimed with.
- Every change of an event's state moves the tally of the hour it was accepted in, in the same transaction,
  so that accepted = delivered + merged + dropped + dead + pending at every moment, per pixel and hour.

- `put` answers within `PUT_S`, or raises StoreBusy and withdraws what is not being written yet; what is may be stored
  all the same. Whoever sends it again, with the same key, is told DUPLICATE then, so nothing comes of it twice.

Times are Unix milliseconds and always arguments. A store raises StoreError when it cannot keep its word.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from gateway.outcome import DROPPED, Outcome

HOUR_MS = 3_600_000
DEDUP_MS = 48 * HOUR_MS

PUT_S = 2.0
"""how long a put waits for a disk or a server that hangs; whoever sent the event waits with it"""

# How long `sweep` leaves alone what nobody waits for any more.
LOG_MS = 7 * 24 * HOUR_MS
LOG_LINES = 100_000
DEAD_MS = 30 * 24 * HOUR_MS
DEAD_LETTERS = 100_000
SWEPT = 2000
"""of each kind, what one step looks at"""
TALLY_MS = 90 * 24 * HOUR_MS

NEWEST = 5000
"""of the events that are due, how many of the last a claim of the newest looks at"""


def steps(put: int) -> int:
    """How many steps a sweep takes after so many were put: twice what came, so that nothing piles up."""
    return 1 + 2 * put // SWEPT


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the event log may say of an event: names and ids, no personal data."""

    event_name: str
    event_id: str
    source: str
    host: str = ""
    keys: tuple[str, ...] = ()
    """names of the user_data keys the event carries"""
    custom: Mapping[str, str | int | float | bool] = {}
    """the custom_data that is about the purchase or the campaign, not about the person"""
    agent: str = ""
    """browser, system and device as people read them"""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event to keep until it is delivered."""

    pixel: str
    key: bytes
    """16 bytes, equal for copies of one event"""
    body: bytes
    """the event as Meta gets it"""
    due_ms: int
    """not to be claimed earlier"""
    deadline_ms: int
    """worthless to Meta afterwards"""
    note: Note
    side: str = ""
    """who tells of it; not empty: held until `due_ms`, and copies are merged into it until then"""
    lacks: str = ""
    """why it cannot be sent as it is; not empty, for one with a side only: dropped at `due_ms` with this as the reason"""
    suppress: bool = False
    """somebody else delivers it: neither this copy nor one that is held, or comes later, is to be sent"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """A copy of an event, as a merge sees it."""

    side: str
    body: bytes
    note: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a merge made of two copies."""

    body: bytes
    note: Note
    complete: bool
    """nothing more is waited for: the hold ends"""
    lacks: str = ""
    """why it still cannot be sent; never of what is complete"""


def joined_due_ms(joined: Joined, due_ms: int, copy: Entry, now_ms: int) -> int:
    """When what was held until `due_ms` is due after a copy was merged into it.

    A copy that need not wait for as long ends the hold earlier, unless the two together still have to.
    """
    if joined.complete:
        return now_ms
    return due_ms if joined.lacks else min(due_ms, copy.due_ms)


Merge = Callable[[Half, Half], Joined | None]
"""From the copy that is held and the one that came; None when the second adds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One event that goes nowhere: counted, and logged when there is a note."""

    pixel: str
    outcome: Outcome
    note: Note | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event leased to one worker."""

    ref: int
    pixel: str
    body: bytes
    attempt: int
    """counted from 1"""
    accepted_ms: int
    deadline_ms: int
    lease_ms: int
    """when the lease ends; proves the right to settle"""
    doubt_ms: int = 0
    """when an attempt first ended without saying whether it was counted; 0: never"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one delivery.

    DELIVERED removes it, DEAD moves it to the dead letters with `reason`, TOO_OLD drops it,
    PENDING makes it due again at `due_ms` (`count` False: the attempt was not its own fault).
    """

    delivery: Delivery
    outcome: Outcome
    reason: str = ""
    due_ms: int = 0
    count: bool = True
    ambiguous: bool = False
    """the attempt may have been counted by Meta"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """A line of the event log."""

    ref: int
    at_ms: int
    pixel: str
    outcome: Outcome
    settled_ms: int
    """0 while it waits"""
    attempts: int
    reason: str
    note: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event given up on, kept for retry."""

    ref: int
    pixel: str
    accepted_ms: int
    died_ms: int
    attempts: int
    reason: str
    body: bytes
    note: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One pixel's account: everything accepted, and where each of it is."""

    pixel: str
    accepted: int
    delivered: int
    merged: int
    dropped: Mapping[Outcome, int] = field(default_factory=dict)
    dead: int = 0
    pending: int = 0

    @property
    def adds_up(self) -> bool:
        """accepted = delivered + merged + dropped(reason) + dead + pending."""
        return self.accepted == self.settled + self.pending

    @property
    def settled(self) -> int:
        """How many do not wait any more."""
        return self.delivered + self.merged + sum(self.dropped.values()) + self.dead

    @classmethod
    def of(cls, pixel: str, tally: Mapping[str, int], pending: int) -> "LedgerLine":
        """From a store's counters, whose names are outcomes and `accepted`."""
        return cls(
            pixel=pixel,
            accepted=tally.get("accepted", 0),
            delivered=tally.get(Outcome.DELIVERED, 0),
            merged=tally.get(Outcome.MERGED, 0),
            dropped={o: tally[o] for o in sorted(DROPPED) if tally.get(o)},
            dead=tally.get(Outcome.DEAD, 0),
            pending=pending,
        )

    @classmethod
    def of_hours(cls, pixel: str, tally: Mapping[str, int]) -> "LedgerLine":
        """The same of some hours, where what has met no other fate is what waits."""
        line = cls.of(pixel, tally, 0)
        return replace(line, pending=line.accepted - line.settled)


class Outbox(Protocol):
    """The durable queue between accepting and delivering."""

    async def put(
        self,
        entries: Sequence[Entry],
        drops: Sequence[Drop],
        now_ms: int,
        merge: Merge | None = None,
    ) -> list[Outcome]:
        """Keep the entries, count the drops; durable on return.

        Answers for each entry, in order: HELD or PENDING (kept), MERGED (into the held copy), SUPPRESSED or
        DUPLICATE. Without `merge` a copy is a duplicate, held or not. Raises StoreBusy after PUT_S, and at once
        while something has been hanging for so long.
        """
        ...

    async def claim(
        self,
        pixel: str,
        *,
        now_ms: int,
        lease_ms: int,
        limit: int,
        max_bytes: int,
        newest: bool = False,
    ) -> list[Delivery]:
        """Lease up to `limit` due events of one pixel, oldest due first, until `lease_ms`.

        The bodies together stay within `max_bytes`, but a single event always fits. `newest`: the other
        way round, and only events of which no attempt counts, among the NEWEST last due. A retry that has
        just come due is due last as well, but not new; what was never tried is due since it was accepted,
        or since the end of its hold.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], now_ms: int) -> int:
        """Record what became of deliveries; answers how many were still ours to settle."""
        ...

    async def recall(self, pixel: str, *, after_ms: int, due_ms: int) -> int:
        """Make what is due after `after_ms` due at `due_ms`, its hold or lease included; answers how many there were.

        At most `SWEPT` at a time.
        """
        ...

    async def turn(self, pixel: str, gap_ms: float) -> float:
        """Book a pixel's next request, `gap_ms` after the one before it; answers the milliseconds to wait.

        For processes that share a store. One that has it alone keeps its own pace, so 0 is its answer.
        """
        ...

    async def sweep(self, now_ms: int) -> None:
        """Forget what is past its time: dedup keys, old log lines and dead letters.

        In bounded steps, and as many of them as keep up with what was put since the last time.
        """
        ...

    async def probe(self) -> None:
        """Raise StoreError when the store could not take an event now."""
        ...

    async def close(self) -> None:
        """Finish what was handed in, then let go of the store."""
        ...


class Records(Protocol):
    """What people ask of a store."""

    async def ledger(self) -> list[LedgerLine]:
        """One line a pixel."""
        ...

    async def account(self, pixel: str, hours: range) -> LedgerLine:
        """What became of a pixel's events that were accepted in these hours, counted from 1970.

        Hours that are older than `TALLY_MS` are forgotten.
        """
        ...

    async def oldest_ms(self) -> int | None:
        """When the event that waits for longest was accepted; None when none does."""
        ...

    async def events(
        self,
        *,
        limit: int,
        outcome: Outcome | None = None,
        event_id: str | None = None,
    ) -> list[LoggedEvent]:
        """The newest `limit` lines of the log that fit, oldest first."""
        ...

    async def dead(self, refs: Sequence[int] | None = None) -> list[DeadLetter]:
        """Dead letters, newest first; all of them or the named ones."""
        ...

    async def revive(self, refs: Sequence[int], now_ms: int) -> int:
        """Make dead letters pending again, due now, with fresh attempts; answers how many."""
        ...

    async def discard(self, refs: Sequence[int]) -> int:
        """Remove dead letters for good; the ledger keeps counting them as dead."""
        ...


class Store(Outbox, Records, Protocol):
    """All a server needs of a store."""

    def clock_ms(self) -> int:
        """Unix milliseconds, by the clock that all processes on this store share."""
        ...
