"""From what is stored to Meta. `Worker.drain_once` is everything that happens to a delivery."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway import backoff, capi, merge, metrics
from gateway.breaker import Breaker
from gateway.capi import Fate, Verdict
from gateway.config import Pixel
from gateway.errors import StoreError
from gateway.outcome import Outcome
from gateway.pace import Pace
from gateway.sender import TIMEOUT_S, Sender
from gateway.stores import SWEPT, Delivery, Outbox, Settlement

LEASE_MS = 60_000
"""longer than a request can take, shorter than anybody wants to wait for a dead worker's events"""
MARGIN_MS = 25_000
"""what a request needs of its lease, with a second one where something is mended, and the settling after it"""
RECALL_MS = 10_000
"""how often to see whether the clock was set back"""
LINGER_S = 1.0
"""how long a batch that is not full gathers: nobody waits for it, and Meta counts requests"""
GRACE_S = 3.0
"""how long a stop waits for Meta's answer; without one the events are sent again later"""
NEWEST_EVERY = 4
"""behind a backlog one claim in so many begins with what came last, which would wait for all of it"""
FRAME_BYTES = 4096
"""room for the token and the brackets around the events"""
DOUBT_MS = 24 * 3_600_000
"""how long an event Meta may have counted is sent again: it drops the copy for 48 hours only"""

logger = logging.getLogger(__name__)


class Worker:
    """Delivers one pixel's events, one request at a time, and keeps no other pixel waiting."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        sender: Sender,
        pixel: Pixel,
        per_second: float,
        hold_ms: int,
        clock_ms: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._pixel = pixel
        self._pace = Pace(per_second)
        self._clock_ms = clock_ms
        self._draw = draw
        # Nothing is due later than the end of a hold, a retry or a lease.
        self._longest_ms = max(hold_ms, merge.PATIENCE_MS, backoff.LONGEST_MS, LEASE_MS)
        self._recalled_ms = -float(RECALL_MS)
        self._stopping = asyncio.Event()
        self._nudged = asyncio.Event()
        self._stored = asyncio.Event()
        self._unsettled: list[Settlement] = []
        """what the store could not be told yet: it goes first, or events that Meta has would be sent again"""
        self._breaker = Breaker()
        self._resume_ms = 0.0
        self._suspects = 0
        """how many events a split that was cut short would have sent next"""
        self._newest = False
        """whether the last claim began with what came last"""
        self._patience: asyncio.Timeout | None = None
        """how long the request under way may take; without end until it is told to stop"""
        self._behind = 0
        """claims since one that took less than a request can carry, so that more may wait"""
        self.trouble = "" if pixel.access_token else capi.no_token().reason
        """why nothing or too little is delivered at the moment; empty when all is well"""
        self.paused = bool(self.trouble)
        """whether it stays like this until somebody sees to it"""
        self._logged = ""
        self.delivered = 0
        self.doubted = 0
        """events sent again, or about to be, though Meta may have them"""
        self.ahead_ms = 0
        """how far the clock was ahead of Meta's at its last answer, the answer's way included"""
        self.version_warning = ""
        """Meta's word that the Graph version in use is about to go"""

    async def drain_once(self) -> int:
        """Claim what is due, send it, settle every event by what Meta's answer means.

        One request as a rule. A batch that Meta rejects is halved until the culprit is alone; each
        part is settled as soon as its fate is known. While Meta is away or refuses the pixel, only one
        event is claimed. Answers how many were. Raises StoreError; a network that fails is a Verdict.
        """
        await self._settle([])
        await self._recall()
        deliveries = await self._claim()
        now_ms = self._clock_ms()
        await self._settle([s for d in deliveries if (s := _out_of_time(d, now_ms))])
        timely = [d for d in deliveries if not _out_of_time(d, now_ms)]
        parts = [timely] if timely else []
        doubt = False
        while parts:
            await self._take_turn()
            if self._stopping.is_set() or self._clock_ms() > timely[0].lease_ms - MARGIN_MS:
                await self._give_back(parts, ambiguous=doubt)
                break
            part = parts.pop()
            verdict = await self._send_in_time([d.body for d in part])
            doubt = doubt or verdict.ambiguous
            if verdict.fate is Fate.SPLIT and len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                continue
            if verdict.fate is Fate.SPLIT:
                verdict = await self._try_without(part[0], verdict)
            await self._settle([self._settlement(d, verdict, doubt=doubt) for d in part])
            if verdict.lane or self.away:
                await self._give_back(parts, ambiguous=doubt)
                self._suspects = 0  # the refused part is first in line again
                break
        return len(deliveries)

    async def run(self) -> None:
        """Drain until `stop`; a pass that fails is counted, and the next one comes later."""
        failures = 0
        while True:
            await self._rest((self._resume_ms - _steady_ms()) / 1000)
            if self._stopping.is_set():
                return
            try:
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
            elif not self._behind:
                await self._gather(claimed)

    @property
    def away(self) -> bool:
        """Whether nothing gets through to Meta, so that one event now and then is enough to find out when it does."""
        return self._breaker.away

    def wake(self) -> None:
        """Something was stored."""
        self._stored.set()

    def use(self, pixel: Pixel) -> None:
        """Go on with another token, at once, whatever the old one's troubles were."""
        self._pixel = pixel
        self._resume_ms = 0.0
        self._breaker = self._breaker.with_new_token()
        self.trouble = "" if pixel.access_token else capi.no_token().reason
        self.paused = bool(self.trouble)
        self._nudged.set()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End `run` after the request it is at, for whose answer it waits no longer than `grace_s`."""
        for event in (self._stopping, self._nudged, self._stored):
            event.set()
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + grace_s)

    # --- waiting -----------------------------------------------------------------------------

    async def _take_turn(self) -> None:
        """Wait for the pixel's pace, which no new token changes: this worker's, then that of all workers."""
        start_ms, self._pace = self._pace.book(_steady_ms())
        await _wait(self._stopping, (start_ms - _steady_ms()) / 1000)
        if not self._stopping.is_set():
            wait_ms = await self._outbox.turn(self._pixel.lane, self._pace.gap_ms)
            await _wait(self._stopping, wait_ms / 1000)

    async def _gather(self, claimed: int) -> None:
        """Let a batch grow: after a small one for a moment, after none until there is something."""
        if claimed:
            await self._rest(LINGER_S)
            return
        self._stored.clear()
        if not self._stopping.is_set():
            await _wait(self._stored, LINGER_S)  # not longer: a retry may come due meanwhile

    async def _rest(self, seconds: float) -> None:
        """Wait, unless told to stop or given another token."""
        self._nudged.clear()
        if not self._stopping.is_set():
            await _wait(self._nudged, seconds)

    # --- claiming and settling ---------------------------------------------------------------

    async def _recall(self) -> None:
        """Let out what would wait for the time from which the clock was set back."""
        if _steady_ms() < self._recalled_ms + RECALL_MS:
            return
        now_ms = self._clock_ms()
        # Not at once: a worker beside this one may be sending it.
        late = await self._outbox.recall(
            self._pixel.lane, after_ms=now_ms + self._longest_ms, due_ms=now_ms + LEASE_MS
        )
        if late < SWEPT:
            self._recalled_ms = _steady_ms()
        if late:
            extra = {"pixel": self._pixel.lane[-4:], "events": late}
            logger.warning("the clock was set back; what waits goes out in a minute", extra=extra)

    async def _claim(self) -> list[Delivery]:
        now_ms = self._clock_ms()
        probing = self._breaker.probing
        limit = 1 if probing else self._suspects or capi.MAX_EVENTS
        if not self._suspects:  # a split goes on at the end it was at
            self._newest = not probing and self._behind % NEWEST_EVERY == NEWEST_EVERY - 1
        self._suspects = 0
        deliveries = await self._outbox.claim(
            self._pixel.lane,
            now_ms=now_ms,
            lease_ms=now_ms + LEASE_MS,
            limit=limit,
            max_bytes=capi.MAX_BYTES - FRAME_BYTES,
            newest=self._newest,
        )
        size = sum(len(delivery.body) for delivery in deliveries)
        full = len(deliveries) >= limit or size > capi.MAX_BYTES // 2
        # That little of it is new says nothing of the backlog.
        self._behind = self._behind + 1 if full or self._newest else 0
        return deliveries

    async def _send(self, bodies: Sequence[bytes]) -> Verdict:
        pixel = self._pixel
        try:
            async with asyncio.timeout(GRACE_S if self._stopping.is_set() else None) as patience:
                self._patience = patience
                verdict = await self._sender.send(pixel, bodies)
        except TimeoutError:
            return capi.unreachable("stopped before Meta answered", ambiguous=True)
        finally:
            self._patience = None
        if verdict.date_s:
            self.ahead_ms = self._clock_ms() - verdict.date_s * 1000
        if pixel is self._pixel or not verdict.lane:
            self._heed(verdict, len(bodies))
        return verdict

    async def _send_in_time(self, bodies: Sequence[bytes]) -> Verdict:
        """Send; what comes from the future, by a clock that ran ahead, once more with the time that it is at Meta."""
        verdict = await self._send(bodies)
        if not verdict.early:
            return verdict
        latest_s = verdict.date_s or self._clock_ms() // 1000
        mended = [capi.not_after(body, latest_s) for body in bodies]
        if mended == bodies:
            return verdict
        await self._take_turn()
        second = await self._send(mended)
        if second.fate is not Fate.DELIVERED:
            return second
        return replace(second, reason=f"delivered with Meta's time where {verdict.reason}")

    async def _settle(self, settlements: Sequence[Settlement]) -> None:
        """Write down what became of deliveries, and first what could not be written down before.

        Until it is, this raises and nothing is claimed: what Meta has would be sent again.
        """
        self._unsettled += settlements
        if not self._unsettled:
            return
        settled = tuple(self._unsettled)
        # A cancelled worker still writes down what Meta already has.
        await asyncio.shield(self._outbox.settle(settled, self._clock_ms()))
        del self._unsettled[: len(settled)]
        for settlement in settled:
            metrics.EVENTS.labels("delivery", settlement.outcome).inc()
            self.delivered += settlement.outcome is Outcome.DELIVERED
            self.doubted += settlement.ambiguous and not settlement.delivery.doubt_ms

    async def _give_back(self, parts: Sequence[Sequence[Delivery]], *, ambiguous: bool) -> None:
        """Return what was not sent, first in line again, as if it had not been claimed.

        The next claim begins with the part that was next, so that a split goes on where it was.
        """
        self._suspects = len(parts[-1]) if parts else 0
        await self._settle(
            [
                Settlement(
                    delivery=delivery,
                    outcome=Outcome.PENDING,
                    due_ms=delivery.accepted_ms,
                    count=False,
                    ambiguous=ambiguous,
                )
                for part in parts
                for delivery in part
            ]
        )

    async def _try_without(self, delivery: Delivery, verdict: Verdict) -> Verdict:
        """Save a rejected event by leaving out the field Meta blames; both facts are recorded."""
        body = capi.without(delivery.body, verdict.blame) if verdict.blame else None
        if body is not None:
            await self._take_turn()
            second = await self._send_in_time([body])
            if second.fate is Fate.DELIVERED:
                reason = f"delivered without {verdict.blame}: {verdict.reason}"
                return Verdict(fate=Fate.DELIVERED, reason=reason, trace=second.trace)
            if second.fate is not Fate.SPLIT:
                return second
        if verdict.alone is Fate.DEAD:
            extra = {"pixel": self._pixel.lane[-4:], "trace": verdict.trace}
            logger.warning("a dead letter: %s", verdict.reason, extra=extra)
        return verdict

    def _settlement(self, delivery: Delivery, verdict: Verdict, *, doubt: bool) -> Settlement:
        fate = verdict.alone if verdict.fate is Fate.SPLIT else verdict.fate
        match fate:
            case Fate.DELIVERED:
                reason = verdict.reason
                if self._pixel.sandbox and not reason:
                    reason = "valid, by the built-in sandbox"
                return Settlement(delivery=delivery, outcome=Outcome.DELIVERED, reason=reason)
            case Fate.DEAD | Fate.SPLIT:
                return Settlement(delivery=delivery, outcome=Outcome.DEAD, reason=verdict.reason)
            case Fate.RETRY | Fate.PAUSE:
                return self._later(delivery, verdict, doubt=doubt)

    def _later(self, delivery: Delivery, verdict: Verdict, *, doubt: bool) -> Settlement:
        # Where the pixel waits, its events keep their place.
        due_ms = delivery.accepted_ms
        if not verdict.lane:
            wait_ms = backoff.full_jitter_ms(delivery.attempt, self._draw())
            due_ms = self._clock_ms() + wait_ms
        if verdict.ambiguous:
            metrics.AMBIGUOUS.inc()
        return Settlement(
            delivery=delivery,
            outcome=Outcome.PENDING,
            reason=verdict.reason,
            due_ms=due_ms,
            count=not verdict.lane,
            ambiguous=doubt,
        )

    def _heed(self, verdict: Verdict, count: int) -> None:
        """What an answer says of the pixel: its pace, a wait, and one line when that changes."""
        now_ms = _steady_ms()
        self._pace = self._pace.heed(now_ms, verdict.usage)
        self._breaker, wait_ms = self._breaker.heed(verdict, count, self._draw())
        self._resume_ms = now_ms + wait_ms
        self.paused = verdict.fate is Fate.PAUSE
        metrics.LANE_PAUSED.labels(self._pixel.lane).set(self.paused)
        metrics.LANE_AWAY.labels(self._pixel.lane).set(self.away)
        extra = {"pixel": self._pixel.lane[-4:], "events": count, "trace": verdict.trace}
        # One bad event is no trouble of the pixel.
        trouble = "" if verdict.fate is Fate.SPLIT else verdict.reason
        if self.away:
            trouble = (
                f"nothing gets through to Meta ({verdict.reason}); the events are kept, one is tried "
                "now and then, and once it gets through all follow by themselves"
            )
        if trouble and trouble != self._logged:
            level = logging.ERROR if verdict.fate is Fate.PAUSE else logging.WARNING
            logger.log(level, "delivery: %s", trouble, extra=extra)
        elif not trouble and self._logged:
            logger.info("delivery works again", extra=extra)
        self.trouble = self._logged = trouble
        if verdict.version_warning and verdict.version_warning != self.version_warning:
            logger.warning("Meta: %s", verdict.version_warning, extra=extra)
        self.version_warning = verdict.version_warning or self.version_warning


def _steady_ms() -> float:
    """For waiting: the wall clock may be set back, and a wait by it would last as long as it went."""
    return asyncio.get_running_loop().time() * 1000


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event, at most so long."""
    if seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _out_of_time(delivery: Delivery, now_ms: int) -> Settlement | None:
    """The end of an event that would be rejected, or counted twice, if it were sent now."""
    if delivery.deadline_ms <= now_ms:
        late = "its time at Meta ran out in the queue"
        return Settlement(delivery=delivery, outcome=Outcome.TOO_OLD, reason=late)
    if delivery.doubt_ms and delivery.doubt_ms + DOUBT_MS <= now_ms:
        doubt = (
            "ambiguous: Meta may have counted it and never said so; look for it in Events Manager "
            "before you retry it"
        )
        return Settlement(delivery=delivery, outcome=Outcome.DEAD, reason=doubt)
    return None


assert MARGIN_MS > 2 * TIMEOUT_S * 1000
