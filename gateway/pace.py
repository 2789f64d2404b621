"""At most so many requests in any second, evenly spread, and fewer when Meta's limit comes near."""

from dataclasses import dataclass, replace

_MARGIN = 1.1
"""Requests that leave evenly arrive unevenly; a little slower keeps any second within the limit."""
SLOW_FROM = 75
STOP_AT = 95
"""per cent of Meta's limit; at 100 it refuses (Meta, "Rate Limiting")"""
STOP_MS = 60_000


@dataclass(frozen=True, slots=True)
class Pace:
    """When the next request may start. A value: `book` answers the start and the pace after it."""

    per_second: float
    free_ms: float = 0.0

    @property
    def gap_ms(self) -> float:
        """From one start to the next."""
        return 1000 * _MARGIN / self.per_second

    def book(self, now_ms: float) -> tuple[float, "Pace"]:
        """Reserve the next start, never earlier than now; milliseconds of the clock given."""
        start = max(now_ms, self.free_ms)
        return start, replace(self, free_ms=start + self.gap_ms)

    def heed(self, now_ms: float, usage: int) -> "Pace":
        """The pace after an answer that said how much of the limit is used, in per cent.

        From 75 on each further per cent makes the gap wider, up to twenty times at 95, where a minute
        is waited.
        """
        if usage < SLOW_FROM:
            return self
        if usage >= STOP_AT:
            return replace(self, free_ms=max(self.free_ms, now_ms + STOP_MS))
        gap_ms = 1000 / self.per_second * (STOP_AT - SLOW_FROM) / (STOP_AT - usage)
        return replace(self, free_ms=max(self.free_ms, now_ms + gap_ms))
