"""A server whose clock is a day off, and is set right: nothing is lost, nothing is doubled, nothing spins."""

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from e2e import harness
from e2e.harness import PIXEL, TOKEN, JumpingLoop, ScriptedGraph

from gateway import sender
from gateway.config import Pixel
from gateway.secret import Secret
from gateway.sender import Sender
from gateway.stores import Entry, Note
from gateway.stores.sqlite import SqliteStore
from gateway.worker import Worker

from .places import say

DAY_MS = 86_400_000


class Clock:
    """The running loop's, and how far it is off."""

    def __init__(self) -> None:
        self.off_ms = 0

    def __call__(self) -> int:
        return harness.now_ms() + self.off_ms


async def live_through(folder: Path, steps: list[int]) -> tuple[dict[str, int], int, float]:
    """Events before and after each step of the clock: how often each came, requests, the slowest in seconds."""
    clock = Clock()
    store = await SqliteStore.open(folder / "gateway.db")
    graph = ScriptedGraph()
    await graph.start()
    async with sender.new_client() as client:
        worker = Worker(
            outbox=store,
            sender=Sender(client, graph.url, "v26.0"),
            pixel=Pixel(id=PIXEL, access_token=Secret(TOKEN), test_event_code=None, sandbox=False),
            per_second=10,
            clock_ms=clock,
            draw=lambda: 0.5,
        )
        task = asyncio.create_task(worker.run())
        slowest = 0.0
        for n, off_ms in enumerate([0, *steps]):
            clock.off_ms = off_ms
            begun = asyncio.get_running_loop().time()
            ids = [f"step-{n}-{m}" for m in range(20)]
            await store.put([entry(one, clock()) for one in ids], [], clock())
            worker.wake()
            async with asyncio.timeout(300):  # of the loop, whose waiting takes no time
                while not set(ids) <= {i for asked in graph.asked for i in asked.ids}:
                    await asyncio.sleep(0.5)
            slowest = max(slowest, asyncio.get_running_loop().time() - begun)
            await asyncio.sleep(60)
        worker.stop()
        await asyncio.wait_for(task, 60)
    await graph.stop()
    [line] = await store.ledger()
    assert line.delivered == line.accepted
    await store.close()
    return Counter(i for a in graph.asked for i in a.ids), len(graph.asked), slowest


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
        pytest.param([-DAY_MS, 0], id="a-day-back-and-set-right"),
        pytest.param([DAY_MS, 0], id="a-day-ahead-and-set-right"),
    ],
)
def test_a_clock_that_jumps_a_day_stops_no_delivery(tmp_path: Path, steps: list[int]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        times, requests, slowest_s = runner.run(live_through(tmp_path, steps))
    say(
        f"clock {'back' if steps[0] < 0 else 'ahead'} by a day and right again: {len(times)} of 60 events at Meta, "
        f"{sum(times.values()) - len(times)} again, {requests} requests, the slowest event after {slowest_s:.1f} s"
    )
    assert times == {f"step-{n}-{m}": 1 for n in range(3) for m in range(20)}
    assert requests <= 6
    assert slowest_s < 10
