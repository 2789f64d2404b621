"""Looks after the gateway itself, once a minute: what is wrong becomes an alert, said once and taken back once."""

import asyncio
import contextlib
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gateway import alerts, metrics
from gateway.alerts import SPANS_H, Alert, Compared, Name, Observed, Sent
from gateway.errors import StoreError
from gateway.stores import HOUR_MS, LedgerLine, Outbox, Records

EVERY_S = 60.0
CHECKS_AN_HOUR = 60
WEEK_H = 7 * 24
PATIENCE_S = 2.0
"""how long the store may take to answer; a disk that hangs is as good as none"""
READING_S = 20.0
"""how long its records may take, for which nobody waits: a million events that wait on Redis take more than a second"""
DISK_ENOUGH = 1024**3
"""bytes; of a small disk a tenth"""

logger = logging.getLogger(__name__)


async def store_error(store: Outbox) -> str:
    """Why the store could not take an event now; empty when it could."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            # Giving up the answer must not give up the call, which holds a connection.
            await asyncio.shield(store.probe())
    except StoreError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {PATIENCE_S:g} s"
    return ""


class SelfCheck:
    """Keeps the alerts of the moment. `folder`: of the store that lies on a disk of this machine."""

    def __init__(
        self,
        *,
        store: Outbox,
        records: Records,
        folder: Path | None,
        paused: Callable[[], Mapping[str, str]],
        away: Callable[[], Mapping[str, str]],
        turned_away: Callable[[], int],
        sent: Callable[[], Mapping[str, Sent]],
        ahead_ms: Callable[[], int],
        hold_ms: int,
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._records = records
        self._folder = folder
        self._paused = paused
        self._away = away
        self._turned_away = turned_away
        self._turned_away_before = 0
        self._ahead_ms = ahead_ms
        self._hold_ms = hold_ms
        self._clock_ms = clock_ms
        self._ledgers: deque[Mapping[str, LedgerLine]] = deque(maxlen=CHECKS_AN_HOUR)
        self._sent = sent
        self._sents: deque[Mapping[str, Sent]] = deque(maxlen=CHECKS_AN_HOUR)
        self._compared: Mapping[str, Sequence[Compared]] = {}
        self._compared_hour = 0
        self._said: dict[tuple[Name, str], Alert] = {}

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What was wrong at the last look."""
        return tuple(self._said.values())

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again; a look that fails is counted."""
        while not stopping.is_set():
            try:
                await self.look()
            except Exception:
                metrics.PASS_FAILURES.labels("selfcheck").inc()
                logger.exception("a self-check failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await stopping.wait()

    async def look(self) -> None:
        """One look, and a line in the log for each alert that is new or over."""
        seen = await self._observe()
        found = {(alert.name, alert.pixel): alert for alert in alerts.judge(seen)}
        for key in found.keys() - self._said.keys():
            logger.warning("alert: %s", found[key].text, extra={"alert": str(key[0])})
        for key in self._said.keys() - found.keys():
            logger.info("alert over: %s", self._said[key].text, extra={"alert": str(key[0])})
        self._said = found
        for name in Name:
            metrics.ALERTS.labels(name).set(sum(alert.name is name for alert in found.values()))
        metrics.DISK_FREE.set(seen.disk_free if self._folder else math.nan)
        waiting_ms = 0 if seen.oldest_ms is None else seen.now_ms - seen.oldest_ms
        metrics.OLDEST_SECONDS.set(waiting_ms / 1000)

    async def _observe(self) -> Observed:
        error = await store_error(self._store)
        ledger: list[LedgerLine] = []
        oldest_ms = None
        with contextlib.suppress(TimeoutError, StoreError):  # which the probe has told already
            async with asyncio.timeout(READING_S):
                ledger = await asyncio.shield(self._records.ledger())
                oldest_ms = await asyncio.shield(self._records.oldest_ms())
                await self._compare([line.pixel for line in ledger])
        self._ledgers.append({line.pixel: line for line in ledger})
        self._sents.append(self._sent())
        turned_away, before = self._turned_away(), self._turned_away_before
        self._turned_away_before = turned_away
        free, enough = _disk(self._folder) if self._folder else (0, 0)
        return Observed(
            now_ms=self._clock_ms(),
            store_error=error,
            ledger=ledger,
            hour_ago=self._ledgers[0],
            sent=self._sents[-1],
            sent_hour_ago=self._sents[0],
            compared=self._compared,
            oldest_ms=oldest_ms,
            hold_ms=self._hold_ms,
            ahead_ms=self._ahead_ms(),
            paused=self._paused(),
            away=self._away(),
            turned_away=turned_away - before,
            disk_free=free,
            disk_enough=enough,
        )

    async def _compare(self, pixels: Sequence[str]) -> None:
        """How the last full hours were beside those of a week ago: once an hour, when another one is full."""
        hour = self._clock_ms() // HOUR_MS
        if hour == self._compared_hour:
            return
        self._compared = {p: [await self._span(p, hour, n) for n in SPANS_H] for p in pixels}
        self._compared_hour = hour

    async def _span(self, pixel: str, hour: int, hours: int) -> Compared:
        account, last = self._records.account, range(hour - hours, hour)
        week_ago = range(last.start - WEEK_H, last.stop - WEEK_H)
        return Compared(
            hours=hours,
            now=await asyncio.shield(account(pixel, last)),
            before=await asyncio.shield(account(pixel, week_ago)),
        )


def _disk(folder: Path) -> tuple[int, int]:
    """How many bytes are left, and below how many somebody should make room."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, min(DISK_ENOUGH, disk.f_blocks * disk.f_frsize // 10)
