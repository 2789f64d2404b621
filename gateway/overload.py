"""When more comes than the disk takes: who is turned away, and when.

A queue that only grows helps nobody, as whoever waits in it has given up by the time it is served. So what was handed
to the store and is not on disk yet is counted, and from a mark on the events that cost least are refused at once: a page
view is sent again or is not missed, a purchase is money. (Google, Site Reliability Engineering, "Handling Overload".)
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import count

from gateway.errors import StoreBusy
from gateway.hit import Hit, Sent, Source

ITEMS = 4096
"""events on their way to the disk"""
BYTES = 8 * 1024 * 1024
HIGH = 0.8
"""of either, from which on only what matters is let in"""
HIGH_S = 0.5
"""the same, by how long the oldest has been waiting; a store lets nobody wait for long"""

VITAL = frozenset({"Purchase", "CompleteRegistration", "Lead", "Subscribe", "InitiateCheckout"})


_BACKEND_PATHS = re.compile(rb"/v1/|/v\d+\.\d+/|/healthz$")
_VITAL_NAMES = re.compile(rb'"(?:' + "|".join(sorted(VITAL)).encode() + rb')"')


class Load(IntEnum):
    """How much there is to do."""

    CALM = 0
    HIGH = 1
    FULL = 2


def is_vital(hit: Hit, source: Source) -> bool:
    """Whether a hit is among the last to be turned away: a backend's, or one with a conversion in it."""
    if source is not Source.PAGE:
        return True
    return any(one.name in VITAL for one in hit.events if isinstance(one, Sent))


def looks_vital(path: bytes, body: bytes) -> bool:
    """The same by a glance at the bytes, for a door too busy to read: a name in them is enough."""
    return bool(_BACKEND_PATHS.match(path) or _VITAL_NAMES.search(body))


class Backlog:
    """What waits for the disk. `clock_s`: seconds of a clock that is never set."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._numbers = count()
        self._since: dict[int, float] = {}
        """when each waiting hit began to, the oldest first"""
        self._items = 0
        self._bytes = 0
        self.turned_away = 0
        """hits ever"""

    def load(self) -> Load:
        """How much there is to do now."""
        share = max(self._items / ITEMS, self._bytes / BYTES)
        oldest = next(iter(self._since.values()), None)
        waited_s = 0.0 if oldest is None else self._clock_s() - oldest
        if share >= 1:
            return Load.FULL
        return Load.HIGH if share >= HIGH or waited_s > HIGH_S else Load.CALM

    def admit(self, load: Load) -> None:
        """Raises StoreBusy when there is so much to do, or more."""
        if self.load() >= load:
            self.turned_away += 1
            raise StoreBusy("too much waits for the disk")

    def hits(self) -> int:
        """How many requests wait for the disk and for nothing else."""
        return len(self._since)

    @contextmanager
    def holding(self, items: int, size: int) -> Iterator[None]:
        """For as long as these are on their way."""
        number = next(self._numbers)
        self._since[number] = self._clock_s()
        self._items += items
        self._bytes += size
        try:
            yield
        finally:
            del self._since[number]
            self._items -= items
            self._bytes -= size
