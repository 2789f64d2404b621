"""Meta is away for six hours, by a clock that skips them, while events keep coming; then it is back."""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec
import pytest
from e2e.harness import (
    PIXEL,
    Asked,
    JumpingLoop,
    Reply,
    ScriptedGraph,
    TimelyStore,
    now_ms,
    pixel,
)

from gateway import sender
from gateway.backoff import LONGEST_MS
from gateway.breaker import AWAY
from gateway.sender import TIMEOUT_S, Sender
from gateway.stores import Entry, Note
from gateway.stores.sqlite import SqliteStore
from gateway.worker import NEWEST_EVERY, Worker

from .places import LONG, say

EVENTS = 500_000 if LONG else 10_000
BURST = 1000 if LONG else 100
"""events stored together"""
BURSTS = EVENTS // BURST
OUTAGE_S = 6 * 3600
SHORT_LIVED_MS = 3 * 3_600_000
"""what every tenth event of the first bursts has to its deadline"""
FRESH = 50 if LONG else 8
"""events that come, each some time, while the backlog is drained"""
RATE = 10
DAY_MS = 86_400_000
QUIET_S = 0.003
"""how long nothing happens before the rest of a wait is skipped"""


@dataclass(slots=True)
class Seen:
    """What came to Meta, by the numbers of the events."""

    deadlines: dict[int, int] = field(default_factory=dict)
    """of those that run out during the outage"""
    away: bool = True
    asked_away: int = 0
    """requests during the outage"""
    tried: set[int] = field(default_factory=set)
    ambiguous: int = 0
    """of those that wait when Meta is back"""
    back_s: float = 0
    """when it was"""
    batches: "list[array[int]]" = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    """of the requests since it is back"""
    too_late: int = 0
    memory_mb: list[int] = field(default_factory=list)
    """of this process: with a tenth of the events waiting, with all of them, and when they are gone"""
    fresh: dict[int, tuple[int, float]] = field(default_factory=dict)
    """requests and seconds before each came: until it was put, then while it waited"""

    def answer(self, asked: Asked) -> Reply | None:
        numbers = array("q", map(int, asked.ids))
        at_ms, at_s = now_ms(), now_ms() / 1000
        self.too_late += sum(self.deadlines.get(n, at_ms) < at_ms for n in numbers)
        if self.away:
            self.asked_away += 1
            self.tried.update(numbers)
            return Reply(delay_s=TIMEOUT_S + 1)
        self.batches.append(numbers)
        self.at_s.append(at_s)
        for n in self.fresh.keys() & set(numbers):
            requests, put_s = self.fresh[n]
            self.fresh[n] = (len(self.batches) - requests, at_s - put_s)
        return None

    def taken(self) -> list[int]:
        """All that it took, in order."""
        return [n for numbers in self.batches for n in numbers]

    def newest_first(self) -> list[bool]:
        """Of each request, whether it is of those that begin with what came last."""
        return [len(numbers) > 1 and numbers[0] > numbers[-1] for numbers in self.batches]


def entries(numbers: Iterable[int], seen: Seen) -> list[Entry]:
    """Events of some 400 bytes, due now."""
    due_ms = now_ms()
    user = {"em": "0" * 64, "external_id": "1" * 64, "client_user_agent": "x" * 100}
    return [
        Entry(
            pixel=PIXEL,
            key=n.to_bytes(16),
            body=msgspec.json.encode({"event_name": "Lead", "event_id": str(n), "user_data": user}),
            due_ms=due_ms,
            deadline_ms=seen.deadlines.get(n, due_ms + 6 * DAY_MS),
            note=Note(event_name="Lead", event_id=str(n), source="backend"),
        )
        for n in numbers
    ]


async def outage(store: SqliteStore, seen: Seen) -> None:
    """Six hours: a burst at a time."""
    for burst in range(BURSTS):
        numbers = range(burst * BURST, (burst + 1) * BURST)
        if burst < BURSTS // 4:
            seen.deadlines |= dict.fromkeys(numbers[::10], now_ms() + SHORT_LIVED_MS)
        await store.put(entries(numbers, seen), [], now_ms())
        if burst + 1 in (BURSTS // 10, BURSTS):
            seen.memory_mb.append(memory_mb())
        await asyncio.sleep(OUTAGE_S / BURSTS)
    with this_loop().held():
        seen.ambiguous = await store._writer.read(
            lambda db: db.execute("SELECT count(*) FROM job WHERE doubt > 0").fetchone()[0]
        )


def this_loop() -> JumpingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    return loop


async def drained(store: SqliteStore, worker: Worker, seen: Seen) -> None:
    """Meta is back; once that is found out, nothing is skipped any more."""
    seen.away = False
    seen.back_s = now_ms() / 1000
    while not seen.batches:
        await asyncio.sleep(1)
    with this_loop().held():
        await drained_at_full_pace(store, worker, seen)


async def drained_at_full_pace(store: SqliteStore, worker: Worker, seen: Seen) -> None:
    """With fresh events coming."""
    wanted = EVENTS - len(seen.deadlines)
    for n in range(EVENTS, EVENTS + FRESH):
        seen.fresh[n] = (len(seen.batches), now_ms() / 1000)
        await store.put(entries([n], seen), [], now_ms())
        worker.wake()
        await asyncio.sleep(wanted / 12_000 / FRESH)  # spread over the drain at full pace
    while sum(map(len, seen.batches)) < wanted + FRESH:
        await asyncio.sleep(0.05)


async def live_through(folder: Path, seen: Seen) -> None:
    """The outage and the time after it, on a store and a worker of its own."""
    store = await TimelyStore.open(folder / "gateway.db")
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
                hold_ms=0,
                clock_ms=now_ms,
                draw=lambda: 0.5,
            )
            running = asyncio.create_task(worker.run())
            await outage(store, seen)
            await drained(store, worker, seen)
            worker.stop()
            await running
            seen.memory_mb.append(memory_mb())
        [line] = await store.ledger()
        assert line.adds_up
        assert (line.delivered, line.pending, line.dead) == (len(seen.taken()), 0, 0)
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
def test_an_outage_costs_little_and_what_comes_after_it_waits_for_no_backlog(
    tmp_path: Path,
) -> None:
    seen = Seen()
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(QUIET_S)) as runner:
        runner.run(live_through(tmp_path, seen))
    starts = seen.at_s
    took_s = starts[-1] - starts[0]
    busiest = max(bisect_left(starts, at + 1) - n for n, at in enumerate(starts))
    waits = sorted(requests for requests, _ in seen.fresh.values())
    waits_s = sorted(seconds for _, seconds in seen.fresh.values())
    newest_first = seen.newest_first()
    taken = seen.taken()
    oldest_first = [
        n
        for numbers, newest in zip(seen.batches, newest_first, strict=True)
        for n in numbers
        if not newest and n not in seen.tried
    ]
    say(
        f"six hours without Meta, {EVENTS} events: {seen.asked_away} requests meanwhile, {seen.ambiguous} events ambiguous; "
        f"then the first request after {starts[0] - seen.back_s:.0f} s, {len(taken)} events in {len(starts)} requests "
        f"({sum(newest_first)} of them newest first) and {took_s:.0f} s, at most {busiest} in any second; "
        f"{len(seen.deadlines)} too old and in no request ({seen.too_late}); "
        f"{FRESH} fresh ones waited for {median(waits):g} requests ({median(waits_s):.1f} s), at most {waits[-1]} ({waits_s[-1]:.1f} s); "
        f"memory {seen.memory_mb[0]} MB with a tenth of them waiting, {seen.memory_mb[1]} MB with all, {seen.memory_mb[2]} MB at the end"
    )
    # One event now and then, after the failures that it took to find out.
    assert seen.asked_away <= AWAY + 10 + OUTAGE_S * 2000 / LONGEST_MS
    # Some of those tried were too old in the end.
    assert 0 < seen.ambiguous <= len(seen.tried) <= AWAY * BURST + seen.asked_away
    assert starts[0] - seen.back_s <= LONGEST_MS / 1000
    assert len(taken) == len(set(taken)) == EVENTS + FRESH - len(seen.deadlines)
    assert not seen.deadlines.keys() & set(taken)
    assert seen.too_late == 0
    assert oldest_first == sorted(oldest_first)
    assert sum(newest_first) <= len(starts) / NEWEST_EVERY + 1
    # Its turn may have gone by just before it came.
    assert waits[-1] <= NEWEST_EVERY + 1
    assert busiest <= RATE
    # The events alone would be 200 MB; what this test notes down of them is some 20.
    assert seen.memory_mb[2] < seen.memory_mb[0] + 60
