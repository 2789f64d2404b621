"""A server whose clock is a day off, and is set right: nothing is lost, nothing is doubled, nothing spins."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from e2e.harness import PIXEL, ScriptedGraph, pixel

from gateway import sender
from gateway.sender import Sender
from gateway.stores import Entry, Note
from gateway.stores.sqlite import SqliteStore
from gateway.worker import Worker

from .places import say

DAY_MS = 86_400_000
STUCK_S = 20


class Clock:
    """The machine's, and how far it is off."""

    def __init__(self) -> None:
        self.off_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.off_ms


async def live_through(folder: Path, steps: Sequence[int]) -> tuple[Counter[str], int, float]:
    """Events before and after each step of the clock: how often each came, requests, the slowest in seconds."""
    clock, graph = Clock(), ScriptedGraph()
    store = await SqliteStore.open(folder / "gateway.db")
    await graph.start()
    slowest_s = 0.0
    try:
        async with sender.new_client() as client:
            worker = Worker(
                outbox=store,
                sender=Sender(client, graph.url, "v26.0"),
                pixel=pixel(),
                per_second=10,
                clock_ms=clock,
                draw=lambda: 0.5,
            )
            running = asyncio.create_task(worker.run())
            for n, clock.off_ms in enumerate([0, *steps]):
                begun = time.monotonic()
                ids = {f"step-{n}-{m}" for m in range(20)}
                await store.put([entry(one, clock()) for one in sorted(ids)], [], clock())
                worker.wake()
                async with asyncio.timeout(STUCK_S):
                    while not ids <= {one for asked in graph.asked for one in asked.ids}:
                        await asyncio.sleep(0.05)
                slowest_s = max(slowest_s, time.monotonic() - begun)
            worker.stop()
            await running
        [line] = await store.ledger()
        assert line.delivered == line.accepted
    finally:
        await graph.stop()
        await store.close()
    return Counter(i for a in graph.asked for i in a.ids), len(graph.asked), slowest_s


def entry(event_id: str, now_ms: int) -> Entry:
    return Entry(
        pixel=PIXEL,
        key=event_id.encode().rjust(16),
        body=msgspec.json.encode({"event_name": "Lead", "event_id": event_id, "user_data": {}}),
        due_ms=now_ms,
        deadline_ms=now_ms + 6 * DAY_MS,
        note=Note(event_name="Lead", event_id=event_id, source="backend"),
    )


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((-DAY_MS, 0), id="a-day-back-and-set-right"),
        pytest.param((DAY_MS, 0), id="a-day-ahead-and-set-right"),
    ],
)
def test_a_clock_that_jumps_a_day_stops_no_delivery(tmp_path: Path, steps: Sequence[int]) -> None:
    times, requests, slowest_s = asyncio.run(live_through(tmp_path, steps))
    say(
        f"clock {'back' if steps[0] < 0 else 'ahead'} by a day and right again: {len(times)} of 60 events at Meta, "
        f"{sum(times.values()) - len(times)} again, {requests} requests, the slowest event after {slowest_s:.1f} s"
    )
    assert times == {f"step-{n}-{m}": 1 for n in range(3) for m in range(20)}
    assert requests <= 2 * len(times) // 20
