"""From what is stored to Meta. `Worker.drain_once` is everything that happens to a delivery."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from gateway import backoff, capi, metrics
from gateway.capi import Fate, Verdict
from gateway.config import Pixel
from gateway.errors import StoreError
from gateway.outcome import Outcome
from gateway.pace import Pace
from gateway.sender import TIMEOUT_S, Sender
from gateway.stores import Delivery, Outbox, Settlement

LEASE_MS = 60_000
"""longer than a request can take, shorter than anybody wants to wait for a dead worker's events"""
LINGER_S = 1.0
"""how long a batch that is not full gathers: nobody waits for it, and Meta counts requests"""
FRAME_BYTES = 4096
"""room for the token and the brackets around the events"""

logger = logging.getLogger(__name__)


class Worker:
    """Delivers one pixel's events, one request at a time."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        sender: Sender,
        pixel: Pixel,
        per_second: float,
        clock_ms: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._pixel = pixel
        self._pace = Pace(per_second)
        self._clock_ms = clock_ms
        self._draw = draw
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._resume_ms = 0
        self._full = False
        """whether the last claim took all that a request can carry, so that more may wait"""
        self._suspects = 0
        """how many of the oldest events hold one that Meta rejects"""
        self.trouble = ""
        """why nothing or too little is delivered at the moment; empty when all is well"""

    async def drain_once(self) -> int:
        """Claim what is due, send it as one request, settle every event by what Meta's answer means.

        Answers how many events were claimed. Raises StoreError; a network that fails is a Verdict.
        """
        now_ms, limit = self._clock_ms(), self._limit
        deliveries = await self._outbox.claim(
            self._pixel.lane,
            now_ms=now_ms,
            lease_ms=now_ms + LEASE_MS,
            limit=limit,
            max_bytes=capi.MAX_BYTES - FRAME_BYTES,
        )
        size = sum(len(delivery.body) for delivery in deliveries)
        self._full = len(deliveries) >= limit or size > capi.MAX_BYTES // 2
        late = [d for d in deliveries if d.deadline_ms <= now_ms]
        timely = [d for d in deliveries if d.deadline_ms > now_ms]
        settlements = [_too_late(delivery) for delivery in late]
        if timely:
            verdict = await self._sender.send(self._pixel, [d.body for d in timely])
            settlements += self._settlements(timely, verdict)
            self._suspects = _left_to_suspect(self._suspects, verdict.fate, len(timely))
            self._remember(verdict, len(timely))
        if settlements:
            # A cancelled worker still writes down what Meta already has.
            await asyncio.shield(self._outbox.settle(settlements, self._clock_ms()))
            for settlement in settlements:
                metrics.EVENTS.labels("delivery", settlement.outcome).inc()
        return len(deliveries)

    async def run(self) -> None:
        """Drain until `stop`; a pass that fails is counted, and the next one comes later."""
        failures = 0
        while not self._stopping.is_set():
            try:
                await self._take_turn()
                claimed = await self.drain_once()
                failures = 0
            except StoreError as error:
                failures += 1
                logger.warning("the store does not give out events", extra={"error": str(error)})
            except Exception:
                failures += 1
                logger.exception("a delivery pass failed")
            if failures:
                metrics.PASS_FAILURES.labels("worker").inc()
                await self._rest(backoff.full_jitter_ms(failures, self._draw()) / 1000)
            elif not self._full:
                await self._gather(claimed)

    def wake(self) -> None:
        """Something was stored."""
        self._wanted.set()

    def stop(self) -> None:
        """End `run` after the request it is at."""
        self._stopping.set()
        self._wanted.set()

    @property
    def _limit(self) -> int:
        """Events in one request: half of what is suspected, until the one that Meta rejects is alone."""
        return max(1, self._suspects // 2) if self._suspects else capi.MAX_EVENTS

    async def _take_turn(self) -> None:
        """Wait for the pixel's pace, and out a pause that Meta or a missing token imposed."""
        start_ms, self._pace = self._pace.book(self._clock_ms())
        await self._rest((max(start_ms, self._resume_ms) - self._clock_ms()) / 1000)

    async def _gather(self, claimed: int) -> None:
        """Let a batch grow: after a small one for a moment, after none until there is something."""
        if claimed:
            await self._rest(LINGER_S)
            return
        self._wanted.clear()
        try:
            async with asyncio.timeout(LINGER_S):
                await self._wanted.wait()
        except TimeoutError:
            return  # a retry may have come due meanwhile

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _settlements(self, deliveries: Sequence[Delivery], verdict: Verdict) -> list[Settlement]:
        now_ms = self._clock_ms()
        match verdict.fate:
            case Fate.DELIVERED:
                reason = "valid, by the built-in sandbox" if self._pixel.sandbox else ""
                return [
                    Settlement(delivery=d, outcome=Outcome.DELIVERED, reason=reason)
                    for d in deliveries
                ]
            case Fate.DEAD if len(deliveries) > 1:
                # Meta rejects a whole request for one event and does not say which. Due as they
                # were, they are the next to be claimed, in smaller requests.
                return [
                    Settlement(
                        delivery=d,
                        outcome=Outcome.PENDING,
                        reason=f"one of {len(deliveries)}: {verdict.reason}",
                        due_ms=d.accepted_ms,
                        count=False,
                    )
                    for d in deliveries
                ]
            case Fate.DEAD:
                return [
                    Settlement(delivery=d, outcome=Outcome.DEAD, reason=verdict.reason)
                    for d in deliveries
                ]
            case Fate.RETRY | Fate.PAUSE:
                return [self._later(d, verdict, now_ms) for d in deliveries]

    def _later(self, delivery: Delivery, verdict: Verdict, now_ms: int) -> Settlement:
        wait_ms = verdict.again_ms or backoff.full_jitter_ms(delivery.attempt, self._draw())
        if verdict.fate is Fate.PAUSE:
            # The pause is the pixel's, not the event's: a restart with a good token sends at once.
            wait_ms = 0
        return Settlement(
            delivery=delivery,
            outcome=Outcome.PENDING,
            reason=verdict.reason,
            due_ms=now_ms + wait_ms,
            count=not verdict.again_ms,
        )

    def _remember(self, verdict: Verdict, count: int) -> None:
        """One line when delivery starts to fail, one when it recovers; a pause holds the whole pixel."""
        if verdict.again_ms:
            self._resume_ms = self._clock_ms() + verdict.again_ms
        metrics.LANE_PAUSED.set(verdict.fate is Fate.PAUSE)
        extra = {"pixel": self._pixel.lane[-4:], "events": count, "trace": verdict.trace}
        if verdict.reason and verdict.reason != self.trouble:
            logger.warning("delivery: %s", verdict.reason, extra=extra)
        elif not verdict.reason and self.trouble:
            logger.info("delivery works again", extra=extra)
        self.trouble = verdict.reason


def _left_to_suspect(suspects: int, fate: Fate, count: int) -> int:
    """How many of the oldest events hold a rejected one, after a request of the first `count`."""
    match fate:
        case Fate.DELIVERED:
            return max(0, suspects - count)
        case Fate.DEAD:
            return count if count > 1 else 0
        case Fate.RETRY | Fate.PAUSE:
            return 0  # these come again in another order


def _too_late(delivery: Delivery) -> Settlement:
    return Settlement(
        delivery=delivery, outcome=Outcome.TOO_OLD, reason="its time at Meta ran out in the queue"
    )


assert LEASE_MS > TIMEOUT_S * 1000
