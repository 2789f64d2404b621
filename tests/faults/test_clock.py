"""A server whose clock is a day off, and is set right: nothing is lost, nothing is doubled, nothing spins."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import httpx2
import msgspec
import pytest
from e2e.harness import (
    PIXEL,
    Gateway,
    JumpingLoop,
    Lane,
    Reply,
    ScriptedGraph,
    StandIn,
    TimelyStore,
    live,
    now_ms,
    page_event,
    pixel,
)

from gateway import sender
from gateway.sandbox import Sandbox
from gateway.sender import Sender
from gateway.stores import Entry, Note
from gateway.worker import Worker

from .places import arrivals, long_only, say, settled

DAY_MS = 86_400_000
STUCK_S = 20


class Clock:
    """One that can be put off."""

    def __init__(self, right_ms: Callable[[], int]) -> None:
        self.right_ms = right_ms
        self.off_ms = 0

    def __call__(self) -> int:
        return self.right_ms() + self.off_ms


def machine_ms() -> int:
    """This machine's."""
    return time.time_ns() // 1_000_000


@contextlib.asynccontextmanager
async def delivering(
    folder: Path, clock: Clock, sandbox: Sandbox | None = None
) -> AsyncIterator[Lane]:
    """A lane whose worker runs on the clock, until the end of the block; `sandbox` answers instead of its graph."""
    transport = httpx2.ASGITransport(sandbox.app) if sandbox else None
    store, graph = await TimelyStore.open(folder / "gateway.db"), ScriptedGraph()
    await graph.start()
    try:
        async with sender.new_client(transport) as client:
            worker = Worker(
                outbox=store,
                sender=Sender(client, graph.url, "v26.0"),
                pixel=pixel(),
                per_second=10,
                hold_ms=10_000,
                clock_ms=clock,
                draw=lambda: 0.5,
            )
            made = Lane(store=store, graph=graph, worker=worker)
            async with made.running():
                yield made
    finally:
        await graph.stop()
        await store.close()


async def live_through(folder: Path, steps: Sequence[int]) -> tuple[Counter[str], int, float]:
    """Events before and after each step of the clock: how often each came, requests, the slowest in seconds."""
    clock, slowest_s = Clock(machine_ms), 0.0
    async with delivering(folder, clock) as lane:
        for n, clock.off_ms in enumerate([0, *steps]):
            begun = time.monotonic()
            ids = [f"step-{n}-{m}" for m in range(20)]
            await put(lane, clock, ids)
            async with asyncio.timeout(STUCK_S):
                await delivered(lane, 20 * (n + 1))
            slowest_s = max(slowest_s, time.monotonic() - begun)
        asked = lane.graph.asked
    return Counter(i for a in asked for i in a.ids), len(asked), slowest_s


async def put(lane: Lane, clock: Clock, ids: Sequence[str]) -> None:
    await lane.store.put([entry(one, clock()) for one in ids], [], clock())
    lane.worker.wake()


async def delivered(lane: Lane, count: int, every_s: float = 0.05) -> None:
    """Wait until so many are, and nothing waits."""
    while True:
        [line] = await lane.store.ledger()
        if not line.pending:
            break
        await asyncio.sleep(every_s)
    assert line.delivered == line.accepted == count


def entry(event_id: str, now_ms: int, event_time: int = 0) -> Entry:
    event = {
        "event_name": "Lead",
        "event_id": event_id,
        "event_time": event_time,
        "action_source": "other",
        "user_data": {"external_id": ["0" * 64]},
    }
    return Entry(
        pixel=PIXEL,
        key=event_id.encode().rjust(16),
        body=msgspec.json.encode(event),
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


def test_what_waits_when_the_clock_is_set_back_goes_out_within_minutes(tmp_path: Path) -> None:
    """New, leased and retried: each had its time by the clock as it was."""

    async def set_back() -> tuple[Counter[str], int]:
        clock = Clock(now_ms)
        async with delivering(tmp_path, clock) as lane:
            lane.graph.say(Reply.error(500, 2))
            await put(lane, clock, [f"retried-{n}" for n in range(20)])
            while len(lane.graph.asked) < 5:
                await asyncio.sleep(1)
            lane.graph.say(Reply(delay_s=5, hang_up=True), 1)
            while len(lane.graph.asked) < 6:
                await asyncio.sleep(1)
            await put(lane, clock, [f"new-{n}" for n in range(20)])
            clock.off_ms, before, begun_ms = -DAY_MS, len(lane.graph.asked), now_ms()
            await delivered(lane, 40, every_s=1)
            after = lane.graph.asked[before:]
        return Counter(i for a in after for i in a.ids), (after[-1].at_ms - begun_ms) // 1000

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        times, last_s = runner.run(set_back())
    say(
        f"clock set back by a day while 40 events wait: {len(times)} of 40 at Meta, {sum(times.values()) - len(times)} "
        f"again, the last after {last_s} s"
    )
    assert times == {f"{kind}-{n}": 1 for kind in ("retried", "new") for n in range(20)}
    assert last_s < 180


def test_what_a_clock_a_day_ahead_has_stamped_is_delivered_once_it_is_set_right(
    tmp_path: Path,
) -> None:
    """By the built-in sandbox, which refuses as Meta does and, unlike it, does not tell its time."""

    async def set_right() -> tuple[Sandbox, int, dict[str, str]]:
        clock, sandbox = Clock(now_ms), Sandbox(clock_ms=now_ms)
        async with delivering(tmp_path, clock, sandbox) as lane:
            clock.off_ms = DAY_MS
            made = [entry(f"ahead-{n}", clock(), clock() // 1000) for n in range(20)]
            made += [entry(f"given-{n}", clock(), now_ms() // 1000) for n in range(20)]
            await lane.store.put(made, [], clock())
            lane.worker.wake()
            while len(sandbox.received) < 20:
                await asyncio.sleep(1)
            await asyncio.sleep(600)
            refused = len(sandbox.requests)
            early = await lane.outcomes()
            clock.off_ms = 0
            await delivered(lane, 40, every_s=1)
            last_s = now_ms() // 1000
        assert all(int(str(one.event["event_time"])) <= last_s for one in sandbox.received)
        return sandbox, refused, early

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        sandbox, refused, early = runner.run(set_right())
    times = Counter(str(one.event["event_id"]) for one in sandbox.received)
    say(
        f"clock ahead by a day for ten minutes and set right: {len(times)} of 40 at Meta, "
        f"{sum(times.values()) - len(times)} again, {list(early.values()).count('dead')} dead, {refused} requests "
        f"while it was ahead, {len(sandbox.requests) - refused} after"
    )
    assert {i: o for i, o in early.items() if o == "delivered"}.keys() == {
        f"given-{n}" for n in range(20)
    }
    assert times == {f"{kind}-{n}": 1 for kind in ("ahead", "given") for n in range(20)}


@pytest.mark.parametrize("off", ["-1d", pytest.param("+1d", marks=long_only)])
def test_a_whole_gateway_on_a_clock_that_is_a_day_off_and_set_right(
    tmp_path: Path, stand_in: StandIn, off: str
) -> None:
    """Meta refuses what is stamped a day ahead, and tells its own time: those events go out with that."""
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
        came = arrivals(stand_in)
        there = Counter(one.event_id for one in came)
        mended = [one for one in gateway.events() if "Meta's time" in one.reason]
        dead = {letter.event_id: letter.reason for letter in gateway.dead()}
    say(
        f"a gateway whose clock goes to {off} and is set right: 30 acknowledged, {len(there)} at Meta, "
        f"{sum(there.values()) - len(there)} again, {len(dead)} dead, {len(mended)} with Meta's time instead of the gateway's"
    )
    assert there == dict.fromkeys(wanted, 1)
    assert dead == {}
    shifts = {one.event_id: abs(one.at_ms // 1000 - one.event.event_time) for one in came}
    wrong = {one for one, shift_s in shifts.items() if shift_s > 60}
    assert wrong == (set(wanted[10:20]) if off == "-1d" else set())
    assert {one.event_id for one in mended} == (set(wanted[10:20]) if off == "+1d" else set())
