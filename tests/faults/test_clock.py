"""A server whose clock is a day off, and is set right: nothing is lost, nothing is doubled, nothing spins."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from e2e.harness import PIXEL, Gateway, ScriptedGraph, StandIn, live, page_event, pixel

from gateway import sender
from gateway.sender import Sender
from gateway.stores import Entry, Note
from gateway.stores.sqlite import SqliteStore
from gateway.worker import Worker

from .places import arrivals, long_only, say, settled

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


@pytest.mark.parametrize("off", ["-1d", pytest.param("+1d", marks=long_only)])
def test_a_whole_gateway_on_a_clock_that_is_a_day_off_and_set_right(
    tmp_path: Path, stand_in: StandIn, off: str
) -> None:
    """What is stamped a day ahead Meta refuses: those events are dead letters that say so, and no others are."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("a process with another time needs faketime")
    times = tmp_path / "time"
    env = live(
        stand_in.url,
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(times),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    times.write_text("+0d\n")
    wanted = []
    with Gateway(tmp_path / "gateway", env) as gateway:
        gateway.start()
        for n, shift in enumerate(["+0d", off, "+0d"]):
            times.write_text(f"{shift}\n")
            ids = [f"clock-{n}-{m}" for m in range(10)]
            for one in ids:
                assert gateway.hit(page_event(one)).status_code == 204
            wanted += ids
            settled(gateway, 30)
        there = Counter(one.event_id for one in arrivals(stand_in))
        dead = {letter.event_id: letter.reason for letter in gateway.dead()}
    say(
        f"a gateway whose clock goes to {off} and is set right: 30 acknowledged, {len(there)} at Meta, "
        f"{sum(there.values()) - len(there)} again, {len(dead)} dead: {', '.join(set(dead.values())) or 'none'}"
    )
    assert there.keys() | dead.keys() == set(wanted)
    assert max(there.values()) == 1
    assert {one.split("-")[1] for one in dead} <= ({"1"} if off == "+1d" else set())
