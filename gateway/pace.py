"""At most so many requests in any second, evenly spread."""

from dataclasses import dataclass

_MARGIN = 1.1
"""Requests that leave evenly arrive unevenly; a little slower keeps any second within the limit."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When the next request may start. A value: `book` answers the start and the pace after it."""

    per_second: float
    free_ms: float = 0.0

    def book(self, now_ms: float) -> tuple[float, "Pace"]:
        """Reserve the next start, never earlier than now; milliseconds of the clock given."""
        start = max(now_ms, self.free_ms)
        return start, Pace(self.per_second, start + 1000 * _MARGIN / self.per_second)
