"""What a pixel's last answers say of its next request: go on, wait, or ask with one event only.

Rules only: the random number is an argument, and the wait an answer.
"""

from dataclasses import dataclass

from gateway import backoff
from gateway.capi import Fate, Verdict

AWAY = 5
"""failures in a row after which it is Meta, or the way to it, and not the events"""


@dataclass(frozen=True, slots=True)
class Breaker:
    """A pixel's circuit breaker. A value: `heed` answers the one after an answer of Meta's, and a wait."""

    refusals: int = 0
    """answers in a row that were about the pixel: a pause, or a throttle"""
    failures: int = 0
    """requests in a row that are to be made again, whatever was in them"""

    @property
    def away(self) -> bool:
        """Whether nothing gets through to Meta."""
        return self.failures >= AWAY

    @property
    def probing(self) -> bool:
        """Whether one event is enough to see how it is, so that the others keep their place and their attempts."""
        return self.away or self.refusals > 0

    def heed(self, verdict: Verdict, count: int, draw: float) -> tuple["Breaker", int]:
        """After an answer to a request of `count` events; and the milliseconds before the next request."""
        if verdict.lane:
            refusals, pause = self.refusals + 1, verdict.fate is Fate.PAUSE
            wait_ms = verdict.wait_ms or backoff.lane_ms(refusals, pause=pause)
            return Breaker(refusals=refusals), wait_ms
        if verdict.fate is Fate.SPLIT and count > 1:
            return self, 0  # whether anything gets through will be seen by its parts
        if Fate.RETRY in (verdict.fate, verdict.alone) and not verdict.early:
            # A pixel that was refused goes on with one event until one gets through.
            failures = max(self.failures + 1, AWAY if self.refusals else 0)
            probes = failures - AWAY + 1
            wait_ms = backoff.full_jitter_ms(probes, draw) if probes > 0 else 0
            return Breaker(failures=failures), wait_ms
        return Breaker(), 0

    def with_new_token(self) -> "Breaker":
        """What the old one was refused for is over; whether Meta is still away, the next request tells."""
        return Breaker(failures=min(self.failures, AWAY - 1))
