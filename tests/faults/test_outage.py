"""Meta is away for six hours, by a clock that is moved on, while events keep coming; then it is back."""

import asyncio
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from e2e.harness import PIXEL, Asked, Reply, ScriptedGraph, pixel

from gateway import sender
from gateway.sender import Sender
from gateway.stores import Entry, Note
from gateway.stores.sqlite import SqliteStore
from gateway.worker import Worker

from .places import LONG, say

EVENTS = 500_000 if LONG else 10_000
BURST = 1000
"""events stored together"""
BURSTS = EVENTS // BURST
TRIES = 20 if LONG else 3
"""requests to a Meta that is away, each with the events due for longest"""
OUTAGE_MS = 6 * 3_600_000
SHORT_LIVED_MS = 3 * 3_600_000
"""what every tenth event of the first bursts has to its deadline"""
FRESH = 50
"""events that come, each some time, while the backlog is drained"""
RATE = 10
DAY_MS = 86_400_000


@dataclass(slots=True)
class Clock:
    """The machine's, moved on by hand."""

    ahead_ms: int = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


@dataclass(slots=True)
class Seen:
    """What came to Meta, by the numbers of the events."""

    clock: Clock
    deadlines: dict[int, int] = field(default_factory=dict)
    """of those that run out during the outage"""
    away: bool = True
    tried: set[int] = field(default_factory=set)
    taken: "array[int]" = field(default_factory=lambda: array("q"))
    at_s: list[float] = field(default_factory=list)
    """of the requests since it is back"""
    too_late: int = 0
    memory_mb: list[int] = field(default_factory=list)
    """of this process: with a tenth of the events waiting, with all of them, and when they are gone"""
    fresh_s: dict[int, float] = field(default_factory=dict)

    def answer(self, asked: Asked) -> Reply | None:
        numbers = [int(one) for one in asked.ids]
        now_ms = self.clock()
        self.too_late += sum(self.deadlines.get(n, now_ms) < now_ms for n in numbers)
        if self.away:
            self.tried.update(numbers)
            return Reply.error(503, 2)
        self.taken.extend(numbers)
        now_s = time.monotonic()
        self.at_s.append(now_s)
        for n in numbers:
            if n in self.fresh_s:
                self.fresh_s[n] = now_s - self.fresh_s[n]
        return None


def entries(numbers: Iterable[int], seen: Seen) -> list[Entry]:
    """Events of some 400 bytes, due now."""
    now_ms = seen.clock()
    user = {"em": "0" * 64, "external_id": "1" * 64, "client_user_agent": "x" * 100}
    return [
        Entry(
            pixel=PIXEL,
            key=n.to_bytes(16),
            body=msgspec.json.encode({"event_name": "Lead", "event_id": str(n), "user_data": user}),
            due_ms=now_ms,
            deadline_ms=seen.deadlines.get(n, now_ms + 6 * DAY_MS),
            note=Note(event_name="Lead", event_id=str(n), source="backend"),
        )
        for n in numbers
    ]


async def outage(store: SqliteStore, worker: Worker, seen: Seen) -> None:
    """Six hours: a burst at a time, and now and then a request that fails."""
    for burst in range(BURSTS):
        numbers = range(burst * BURST, (burst + 1) * BURST)
        if burst < BURSTS // 4:
            seen.deadlines |= dict.fromkeys(numbers[::10], seen.clock() + SHORT_LIVED_MS)
        await store.put(entries(numbers, seen), [], seen.clock())
        seen.clock.ahead_ms += OUTAGE_MS // BURSTS
        if burst % (BURSTS // TRIES) == 0:
            await worker.drain_once()
        if burst + 1 in (BURSTS // 10, BURSTS):
            seen.memory_mb.append(memory_mb())


async def drained(store: SqliteStore, worker: Worker, seen: Seen) -> None:
    """Meta is back, the worker runs, and fresh events come."""
    seen.away = False
    running = asyncio.create_task(worker.run())
    wanted = EVENTS - len(seen.deadlines)
    for n in range(EVENTS, EVENTS + FRESH):
        seen.fresh_s[n] = time.monotonic()
        await store.put(entries([n], seen), [], seen.clock())
        worker.wake()
        await asyncio.sleep(wanted / 9000 / FRESH)  # spread over the drain at full pace
    async with asyncio.timeout(400):
        while len(seen.taken) < wanted + FRESH:
            await asyncio.sleep(0.05)
    worker.stop()
    await running


async def live_through(folder: Path, seen: Seen) -> None:
    """The outage and the time after it, on a store and a worker of its own."""
    store = await SqliteStore.open(folder / "gateway.db")
    graph = KeepsNothing()
    graph.reply = seen.answer
    await graph.start()
    try:
        async with sender.new_client() as client:
            worker = Worker(
                outbox=store,
                sender=Sender(client, graph.url, "v26.0"),
                pixel=pixel(),
                per_second=RATE,
                clock_ms=seen.clock,
                draw=lambda: 0.5,
            )
            await outage(store, worker, seen)
            await drained(store, worker, seen)
            seen.memory_mb.append(memory_mb())
        [line] = await store.ledger()
        assert line.adds_up
        assert (line.delivered, line.pending, line.dead) == (len(seen.taken), 0, 0)
    finally:
        await graph.stop()
        await store.close()


class KeepsNothing(ScriptedGraph):
    """A Graph whose memory does not grow with what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = Forgets()


class Forgets(list[Asked]):
    """A list that stays empty."""

    def append(self, one: Asked) -> None:
        pass


def memory_mb() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.timeout(580)
def test_a_backlog_of_hours_is_drained_oldest_first_at_the_allowed_rate(tmp_path: Path) -> None:
    seen = Seen(Clock())
    asyncio.run(live_through(tmp_path, seen))
    starts = seen.at_s
    took_s = starts[-1] - starts[0]
    busiest = max(bisect_left(starts, at + 1) - n for n, at in enumerate(starts))
    untried = [n for n in seen.taken if n not in seen.tried]
    say(
        f"six hours without Meta, {EVENTS} events: {len(seen.taken)} sent in {len(starts)} requests and {took_s:.0f} s, "
        f"at most {busiest} requests in any second; {len(seen.deadlines)} too old and in no request ({seen.too_late}); "
        f"fresh ones waited {max(seen.fresh_s.values()):.1f} s at most; memory {seen.memory_mb[0]} MB with a tenth of them waiting, {seen.memory_mb[1]} MB with all, "
        f"{seen.memory_mb[2]} MB at the end"
    )
    assert len(seen.taken) == len(set(seen.taken)) == EVENTS + FRESH - len(seen.deadlines)
    assert not seen.deadlines.keys() & set(seen.taken)
    assert seen.too_late == 0
    assert untried == sorted(untried)
    assert busiest <= RATE
    # The events alone would be 200 MB; what this test notes down of them is some 20.
    assert seen.memory_mb[2] < seen.memory_mb[0] + 60
