"""What a worker does with time, doubt and trouble: a real store, a real socket, a clock that jumps."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from disk import full_disk
from e2e.harness import PIXEL, Asked, JumpingLoop, Lane, Reply, lane, now_ms, pixel

from gateway import capi, metrics, sender
from gateway.errors import StoreError, StoreUnwritable
from gateway.outcome import Outcome
from gateway.sender import Sender
from gateway.stores import Delivery, Entry, Note, Settlement
from gateway.worker import LEASE_MS, Worker

DAY_S = 86_400
REJECTED = Reply.error(400, 100, 2804019)
THROTTLED = Reply.error(403, 4)
EXPIRED = Reply.error(401, 190, 463)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": JumpingLoop}


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Lane]:
    async with lane(tmp_path) as made:
        yield made


def rejecting(*bad: str) -> Callable[[Asked], Reply | None]:
    return lambda asked: REJECTED if set(bad) & set(asked.ids) else None


def simple(name: str) -> Entry:
    return Entry(
        pixel=PIXEL,
        key=name.encode().rjust(16),
        body=msgspec.json.encode({"event_id": name}),
        due_ms=now_ms(),
        deadline_ms=now_ms() + DAY_S * 1000,
        note=Note(event_name="Lead", event_id=name, source="backend"),
    )


def numbered(count: int) -> list[str]:
    return [f"e{n:04}" for n in range(count)]


# --- deadlines ---------------------------------------------------------------------------------


async def test_a_late_event_enters_no_batch_and_spoils_none(one: Lane) -> None:
    await one.put("late", deadline_ms=now_ms() + 60_000)
    await one.put("edge", deadline_ms=now_ms() + 61_000)
    await one.put("good")
    await asyncio.sleep(60.5)
    assert await one.worker.drain_once() == 3
    assert [asked.ids for asked in one.graph.asked] == [["edge", "good"]]
    assert await one.outcomes() == {"late": "too_old", "edge": "delivered", "good": "delivered"}


async def test_a_claim_of_nothing_but_late_events_asks_meta_nothing(one: Lane) -> None:
    await one.put("late", deadline_ms=now_ms() - 1)
    assert await one.worker.drain_once() == 1
    assert one.graph.asked == []
    assert (await one.log())["late"].reason == "its time at Meta ran out in the queue"


async def test_what_ran_out_during_a_pause_is_not_sent_after_it(one: Lane) -> None:
    one.graph.say(EXPIRED)
    await one.put("late", deadline_ms=now_ms() + 3_600_000)
    await one.put("good")
    async with one.running():
        await asyncio.sleep(2 * 3600)
        one.graph.say(Reply(), 0)
        while "pending" in (await one.outcomes()).values():
            await asyncio.sleep(60)
    assert await one.outcomes() == {"late": "too_old", "good": "delivered"}
    assert "late" not in one.graph.asked[-1].ids


# --- a clock that was set back -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("hold_ms", "ahead_ms", "recalled"),
    [
        pytest.param(0, 299_000, False, id="a-retry"),
        pytest.param(3_600_000, 3_599_000, False, id="a-hold"),
        pytest.param(0, 3_599_000, True, id="longer-than-a-retry"),
        pytest.param(3_600_000, 3_700_000, True, id="longer-than-a-hold"),
    ],
)
async def test_what_is_due_later_than_anything_can_be_is_due_in_a_minute(
    tmp_path: Path, hold_ms: int, ahead_ms: int, recalled: bool
) -> None:
    async with lane(tmp_path, hold_ms=hold_ms) as one:
        far = replace(simple("a"), due_ms=now_ms() + ahead_ms)
        await one.store.put([far], [], now_ms())
        assert await one.worker.drain_once() == 0
        await asyncio.sleep(50)
        assert await one.worker.drain_once() == 0
        await asyncio.sleep(10)
        assert await one.worker.drain_once() == (1 if recalled else 0)


async def test_what_another_worker_is_sending_meanwhile_is_not_sent_twice(
    one: Lane,
) -> None:
    day_ms = DAY_S * 1000
    async with sender.new_client() as client:
        other = Worker(
            outbox=one.store,
            sender=Sender(client, one.graph.url, "v26.0"),
            pixel=pixel(),
            per_second=10,
            hold_ms=0,
            clock_ms=lambda: now_ms() - day_ms,
            draw=lambda: 0.5,
        )
        one.graph.say(Reply(body=b'{"events_received":1}', delay_s=9), 1)
        await one.put("a")
        sending = asyncio.create_task(one.worker.drain_once())
        while not one.graph.asked:
            await asyncio.sleep(0.1)
        for _ in range(100):
            assert await other.drain_once() == 0
            await asyncio.sleep(1)
        assert await sending == 1
    assert [asked.ids for asked in one.graph.asked] == [["a"]]


# --- an event from the future ------------------------------------------------------------------


RIGHT = "Thu, 20 Nov 2025 12:00:00 GMT"
RIGHT_S = 1_763_640_000


async def put_at(one: Lane, **times: int) -> None:
    """Store events of these times, as a clock a day ahead accepts them."""
    made = [
        replace(simple(name), body=msgspec.json.encode({"event_id": name, "event_time": at_s}))
        for name, at_s in times.items()
    ]
    await one.store.put(made, [], now_ms())


def refusing_the_future(
    date: str | None, right_s: int = RIGHT_S
) -> Callable[[Asked], Reply | None]:
    """As Graph does, whose answers tell its time."""
    early = Reply.error(400, 100, 2804004)
    early = replace(early, headers={"Date": date}) if date else early

    def reply(asked: Asked) -> Reply | None:
        ahead = any(int(str(event["event_time"])) > right_s + 60 for event in asked.events)
        return early if ahead else None

    return reply


async def test_what_a_clock_that_runs_ahead_has_stamped_goes_out_with_meta_s_time(
    one: Lane,
) -> None:
    one.graph.reply = refusing_the_future(RIGHT)
    await put_at(one, old=RIGHT_S - 50, soon=RIGHT_S + 60, ahead=RIGHT_S + DAY_S)
    assert await one.worker.drain_once() == 3
    refused, taken = one.graph.asked
    assert refused.ids == taken.ids == ["old", "soon", "ahead"]
    assert [e["event_time"] for e in taken.events] == [RIGHT_S - 50, RIGHT_S, RIGHT_S]
    assert abs(one.worker.ahead_ms - (now_ms() - RIGHT_S * 1000)) < 60_000
    log = await one.log()
    assert {str(line.outcome) for line in log.values()} == {"delivered"}
    assert log["ahead"].reason == (
        "delivered with Meta's time where event_time lay in the future (code 100/2804004); set the gateway's clock"
    )


async def test_without_a_word_of_meta_s_clock_it_waits_until_its_time_has_come(
    tmp_path: Path,
) -> None:
    async with lane(tmp_path) as one:
        right_s = now_ms() // 1000 - DAY_S
        one.graph.reply = refusing_the_future(None, right_s)
        await put_at(one, ahead=now_ms() // 1000, good=right_s)
        async with one.running():
            while (await one.outcomes())["good"] == "pending":
                await asyncio.sleep(1)
            assert await one.outcomes() == {"ahead": "pending", "good": "delivered"}
            one.graph.reply = refusing_the_future(None, now_ms() // 1000)
            while (await one.outcomes())["ahead"] == "pending":
                await asyncio.sleep(1)
        assert await one.outcomes() == {"ahead": "delivered", "good": "delivered"}


async def test_an_event_that_stays_early_for_meta_is_not_asked_about_for_ever(one: Lane) -> None:
    one.graph.reply = refusing_the_future(
        RIGHT, RIGHT_S - 3600
    )  # it does not keep to its own clock
    await put_at(one, a=RIGHT_S + DAY_S, b=RIGHT_S + DAY_S)
    assert await one.worker.drain_once() == 2
    assert len(one.graph.asked) <= 6
    assert set((await one.outcomes()).values()) == {"pending"}


# --- doubt -------------------------------------------------------------------------------------


async def test_an_event_that_is_sent_again_in_doubt_is_counted_once(one: Lane) -> None:
    one.graph.say(Reply(hang_up=True), 3)
    await one.put(*numbered(20))
    async with one.running():
        while "pending" in (await one.outcomes()).values():
            await asyncio.sleep(1)
        assert len(one.graph.asked) > 3
        assert (one.worker.delivered, one.worker.doubted) == (20, 20)
        one.graph.say(THROTTLED, 1)
        await one.put("more")
        while "pending" in (await one.outcomes()).values():
            await asyncio.sleep(60)
    assert (one.worker.delivered, one.worker.doubted) == (21, 20)


async def test_what_meta_may_have_counted_is_not_sent_again_after_a_day(one: Lane) -> None:
    one.graph.say(Reply(status=500), 2)
    await one.put("doubtful")
    await one.worker.drain_once()
    await asyncio.sleep(DAY_S - 600)
    # Nearly a day after the first doubt it is tried again; that this one is doubtful too starts no new day.
    await one.worker.drain_once()
    assert len(one.graph.asked) == 2
    await asyncio.sleep(601)
    await one.put("fresh")
    await one.worker.drain_once()
    assert [asked.ids for asked in one.graph.asked[2:]] == [["fresh"]]
    letter = (await one.dead())["doubtful"]
    assert letter.reason.startswith("ambiguous: ")
    assert "Events Manager" in letter.reason


async def test_an_outage_without_doubt_may_last_for_days(one: Lane) -> None:
    await one.graph.stop()
    await one.put("unreached")
    for _day in range(3):
        await one.worker.drain_once()
        await asyncio.sleep(DAY_S)
    await one.graph.start()
    await one.worker.drain_once()
    assert await one.outcomes() == {"unreached": "delivered"}
    assert (await one.log())["unreached"].attempts == 4


async def test_a_batch_meta_fails_on_is_halved_and_what_is_alone_is_tried_again(one: Lane) -> None:
    failing = Reply.error(500, 1, 99)
    one.graph.reply = lambda asked: failing if "e0001" in asked.ids else None
    await one.put(*numbered(4))
    await one.worker.drain_once()
    assert [len(asked.ids) for asked in one.graph.asked] == [4, 2, 1, 1, 2]
    assert (await one.outcomes())["e0001"] == "pending"
    assert list((await one.outcomes()).values()).count("delivered") == 3
    one.graph.say(Reply(), 0)
    await asyncio.sleep(1)
    await one.worker.drain_once()
    assert one.graph.asked[-1].ids == ["e0001"]
    assert (await one.outcomes())["e0001"] == "delivered"


async def test_a_batch_meta_fails_on_leaves_doubt_about_what_is_given_back(one: Lane) -> None:
    answers = iter([Reply.error(500, 1, 99), THROTTLED])
    one.graph.reply = lambda _asked: next(answers, None)
    await one.put("first", "second")
    await one.worker.drain_once()
    await asyncio.sleep(DAY_S)
    await one.worker.drain_once()  # one event a claim, as the pixel was refused last
    await one.worker.drain_once()
    assert len(one.graph.asked) == 2
    assert {letter.reason[:9] for letter in (await one.dead()).values()} == {"ambiguous"}
    assert len(await one.dead()) == 2


# --- a Meta that is away -----------------------------------------------------------------------


FAILED = Reply(status=500)


@pytest.fixture
def of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that carries four events makes a backlog of a few."""
    monkeypatch.setattr(capi, "MAX_EVENTS", 4)


def all_of_a_lane(one: Lane) -> Awaitable[list[Delivery]]:
    return one.store.claim(
        pixel().lane, now_ms=now_ms(), lease_ms=now_ms() + 1, limit=99, max_bytes=10**6
    )


@pytest.mark.usefixtures("of_four")
@pytest.mark.parametrize(
    "fault",
    [
        FAILED,
        Reply(status=502, body=b"<html>"),
        Reply.error(400, 2),
        Reply(hang_up=True),
        Reply(delay_s=11),
    ],
    ids=["500", "502", "code 2", "hung up", "too slow"],
)
async def test_while_meta_is_away_one_event_at_a_time_is_tried_and_the_others_keep_still(
    one: Lane, fault: Reply
) -> None:
    one.graph.say(fault)
    ids = numbered(60)
    await one.put(*ids)
    async with one.running():
        await asyncio.sleep(3600)
    sizes = [len(asked.ids) for asked in one.graph.asked]
    assert sizes[:5] == [4] * 5
    assert set(sizes[5:]) == {1}
    # Half of 1, 2, 4 … 300 s from one to the next, by the lane's random number.
    assert 25 <= len(sizes[5:]) <= 32
    # After four batches of the oldest and one of the newest.
    assert [asked.ids for asked in one.graph.asked[5:25]] == [[i] for i in ids[16:36]]
    tried = {i for asked in one.graph.asked for i in asked.ids}
    log = await one.log()
    assert {i for i in ids if log[i].attempts} == tried
    await asyncio.sleep(300)
    claimed = await all_of_a_lane(one)
    assert sum(delivery.doubt_ms > 0 for delivery in claimed) == len(tried) < 60


@pytest.mark.usefixtures("of_four")
async def test_a_meta_that_cannot_be_reached_is_away_too(one: Lane) -> None:
    await one.graph.stop()
    ids = numbered(40)
    await one.put(*ids)
    async with one.running():
        await asyncio.sleep(100)
        assert one.worker.away
        assert 20 < sum(e.attempts > 0 for e in (await one.log()).values()) < 32
        await one.graph.start()
        await asyncio.sleep(300)
    assert set((await one.outcomes()).values()) == {"delivered"}


@pytest.mark.usefixtures("of_four")
async def test_the_first_that_gets_through_opens_the_way_for_all(one: Lane) -> None:
    one.graph.say(FAILED)
    await one.put(*numbered(60))
    async with one.running():
        await asyncio.sleep(3600)
        failed = len(one.graph.asked)
        one.graph.say(Reply(), 0)
        await asyncio.sleep(160)
    back = one.graph.asked[failed:]
    assert [len(asked.ids) for asked in back[:8]] == [1] + [4] * 7
    assert back[7].at_ms - back[0].at_ms < 2_000
    assert set((await one.outcomes()).values()) == {"delivered"}
    assert not one.worker.away


@pytest.mark.usefixtures("of_four")
async def test_four_failures_in_a_row_are_no_outage(one: Lane) -> None:
    answers = iter([*[FAILED] * 4, None, *[FAILED] * 4])
    one.graph.reply = lambda _asked: next(answers, None)
    await one.put(*numbered(60))
    for _ in range(10):
        await one.worker.drain_once()
        assert not one.worker.away
    assert {len(asked.ids) for asked in one.graph.asked} == {4}


async def test_an_event_at_which_meta_always_fails_holds_up_no_other(one: Lane) -> None:
    one.graph.reply = lambda asked: FAILED if "odd" in asked.ids else None
    await one.put("odd")
    async with one.running():
        while not one.worker.away:
            await asyncio.sleep(1)
        await one.put(*numbered(9))
        await asyncio.sleep(300)
        assert list((await one.outcomes()).values()) == ["pending"] + ["delivered"] * 9


async def test_a_batch_is_not_halved_to_the_end_when_meta_fails_on_every_part(one: Lane) -> None:
    one.graph.say(Reply.error(500, 1, 99))
    await one.put(*numbered(512))
    await one.worker.drain_once()
    # Down to one event, and on until five have failed by themselves.
    assert [len(asked.ids) for asked in one.graph.asked if len(asked.ids) == 1] == [1] * 5
    assert len(one.graph.asked) < 20
    assert sum(e.attempts for e in (await one.log()).values()) == 5
    await one.worker.drain_once()
    assert len(one.graph.asked[-1].ids) == 1


async def test_a_refused_pixel_that_cannot_be_reached_goes_on_with_one_event(one: Lane) -> None:
    answers = iter([EXPIRED, *[FAILED] * 3])
    one.graph.reply = lambda _asked: next(answers, None)
    await one.put(*numbered(8))
    for _ in range(6):
        await one.worker.drain_once()
    assert [len(asked.ids) for asked in one.graph.asked] == [8, 1, 1, 1, 1, 4]
    assert not one.worker.paused


@pytest.mark.usefixtures("of_four")
async def test_a_new_token_does_not_send_the_backlog_to_a_meta_that_is_away(one: Lane) -> None:
    one.graph.say(FAILED)
    await one.put(*numbered(60))
    async with one.running():
        await asyncio.sleep(600)
        before = len(one.graph.asked)
        one.worker.use(pixel("new"))
        await asyncio.sleep(60)
    sizes = [len(asked.ids) for asked in one.graph.asked[before:]]
    assert sizes[0] == 4
    assert set(sizes[1:]) == {1}


async def test_that_meta_is_away_is_said_in_a_sentence_once_and_its_end_once(
    one: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one.graph.say(FAILED)
    await one.put("a")
    for _ in range(7):
        await one.worker.drain_once()
        await asyncio.sleep(300)
    assert one.worker.trouble == (
        "nothing gets through to Meta (HTTP 500 without an answer of Meta's); the events are "
        "kept, one is tried now and then, and once it gets through all follow by themselves"
    )
    assert not one.worker.paused
    assert away_by_metric() == 1
    one.graph.say(Reply(), 0)
    await one.worker.drain_once()
    assert one.worker.trouble == ""
    assert away_by_metric() == 0
    told = [r.getMessage() for r in caplog.records if r.name == "gateway.worker"]
    assert [line.partition("(")[0] for line in told] == [
        "delivery: HTTP 500 without an answer of Meta's",
        "delivery: nothing gets through to Meta ",
        "delivery works again",
    ]


def away_by_metric() -> float | None:
    return metrics.REGISTRY.get_sample_value("gateway_lane_away", {"pixel": pixel().lane})


# --- a backlog ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("of_four")
async def test_behind_a_backlog_one_request_in_four_begins_with_what_came_last(one: Lane) -> None:
    ids = numbered(40)
    for n in range(0, 40, 4):
        await one.put(*ids[n : n + 4])
    for _ in range(3):
        await one.worker.drain_once()
    await one.put("fresh")
    async with one.running():
        await asyncio.sleep(60)
    asked = [request.ids for request in one.graph.asked]
    assert asked[3] == ["fresh", "e0039", "e0038", "e0037"]
    assert asked[7] == ["e0036", "e0035", "e0034", "e0033"]
    oldest = [i for n, some in enumerate(asked) if n % 4 != 3 for i in some]
    assert oldest == ids[:33]


async def test_without_a_backlog_the_oldest_go_first(one: Lane) -> None:
    async with one.running():
        for n in range(8):
            await one.put(f"a{n}", f"b{n}")
            await asyncio.sleep(2)
    assert [request.ids for request in one.graph.asked] == [[f"a{n}", f"b{n}"] for n in range(8)]


@pytest.mark.usefixtures("of_four")
async def test_a_retry_that_has_just_come_due_is_not_new(one: Lane) -> None:
    one.graph.say(FAILED, 1)
    ids = numbered(40)
    await one.put(*ids)
    await one.worker.drain_once()
    await asyncio.sleep(1)
    for _ in range(3):
        await one.worker.drain_once()
    assert one.graph.asked[3].ids == ids[:-5:-1]


@pytest.mark.usefixtures("of_four")
async def test_a_backlog_of_retries_alone_is_drained_without_a_rest(one: Lane) -> None:
    await one.put(*numbered(40))
    again = [
        Settlement(delivery=delivery, outcome=Outcome.PENDING, due_ms=now_ms())
        for delivery in await all_of_a_lane(one)
    ]
    await one.store.settle(again, now_ms())
    async with one.running():
        await asyncio.sleep(30)
    times = [asked.at_ms for asked in one.graph.asked]
    assert len(times) == 10
    assert times[-1] - times[0] < 2_000


async def test_a_split_of_the_newest_goes_on_with_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capi, "MAX_EVENTS", 100)
    async with lane(tmp_path, per_second=0.1) as one:
        one.graph.reply = rejecting("odd")
        await one.put(*numbered(400))
        await one.put("odd")
        for _ in range(4):
            await one.worker.drain_once()
        asked = [request.ids for request in one.graph.asked]
        last = len(asked[-1])
        assert "odd" in asked[-1]
        assert last < 30
        await one.worker.drain_once()
        further = [request.ids for request in one.graph.asked[len(asked) :]]
        assert len(further[0]) == last // 2
        assert "odd" in further[0]


# --- split -------------------------------------------------------------------------------------


async def test_a_lane_verdict_in_the_middle_of_a_split_returns_the_rest(one: Lane) -> None:
    answers = iter([REJECTED, REJECTED, None, EXPIRED])
    one.graph.reply = lambda _asked: next(answers, None)
    ids = numbered(8)
    await one.put(*ids)
    await one.worker.drain_once()
    assert [asked.ids for asked in one.graph.asked] == [ids, ids[:4], ids[:2], ids[2:4]]
    log = await one.log()
    assert [log[i].outcome for i in ids] == ["delivered"] * 2 + ["pending"] * 6
    assert [log[i].attempts for i in ids[2:]] == [0] * 6
    # At once due again, and in their old order.
    one.worker.use(pixel())
    await one.worker.drain_once()
    assert one.graph.asked[-1].ids == ids[2:]


async def test_what_is_given_back_comes_before_what_was_stored_later(one: Lane) -> None:
    ids = numbered(1001)
    for event_id in (ids[:1000], ids[1000:]):
        await one.put(*event_id)
        await asyncio.sleep(0.1)
    one.graph.say(THROTTLED, 1)
    await one.worker.drain_once()
    assert one.graph.asked[0].ids == ids[:1000]
    await one.worker.drain_once()
    await one.worker.drain_once()
    assert [i for asked in one.graph.asked[1:] for i in asked.ids] == ids


@pytest.mark.parametrize(("per_second", "delay_s"), [(0.1, 0.0), (10.0, 6.0)])
async def test_a_slow_split_goes_on_where_its_lease_ended(
    tmp_path: Path, per_second: float, delay_s: float
) -> None:
    async with lane(tmp_path, per_second=per_second) as one:
        slow = Reply(body=REJECTED.body, status=400, delay_s=delay_s)
        one.graph.reply = lambda asked: slow if "e0000" in asked.ids else None
        await one.put(*numbered(1000))
        async with one.running():
            while "pending" in (await one.outcomes()).values():
                await asyncio.sleep(10)
        outcomes = await one.outcomes()
        assert outcomes.pop("e0000") == "dead"
        assert set(outcomes.values()) == {"delivered"}
        delivered = [i for a in one.graph.asked if "e0000" not in a.ids for i in a.ids]
        assert len(delivered) == 999
        assert len(one.graph.asked) <= 30


async def test_a_request_never_leaves_under_a_lease_that_is_over(one: Lane) -> None:
    full = Reply(
        body=b'{"events_received":1}', headers={"x-app-usage": '{"call_count":96,"total_time":0}'}
    )
    one.graph.say(full, 1)
    await one.put("first")
    await one.worker.drain_once()
    await one.put("second")
    start_ms = now_ms()
    while len(one.graph.asked) < 2:
        # The worker's turn comes a minute later, with the time the event's lease has.
        claimed_ms = now_ms()
        await one.worker.drain_once()
    assert one.graph.asked[1].at_ms >= start_ms + 59_000
    assert one.graph.asked[1].at_ms <= claimed_ms + 40_000


async def test_what_cannot_go_without_the_blamed_field_is_dead_for_the_first_reason(
    one: Lane,
) -> None:
    one.graph.say(Reply.error(400, 100, 2804001))
    await one.put("with", user={"fbc": "fb.1.1.x", "em": "y"})
    await one.put("lacks")
    await one.worker.drain_once()
    dead = await one.dead()
    assert set(dead) == {"with", "lacks"}
    assert "malformed fbc (code 100/2804001)" in dead["with"].reason
    # The whole, the halves, and one without the field.
    assert [asked.ids for asked in one.graph.asked] == [
        ["with", "lacks"],
        ["with"],
        ["with"],
        ["lacks"],
    ]
    assert one.graph.asked[2].events[0]["user_data"] == {"em": "y"}


async def test_a_lane_verdict_on_the_repair_keeps_the_event_whole(one: Lane) -> None:
    answers = iter([Reply.error(400, 100, 2804001), THROTTLED])
    one.graph.reply = lambda _asked: next(answers, None)
    await one.put("with", user={"fbc": "fb.1.1.x", "em": "y"})
    await one.worker.drain_once()
    log = await one.log()
    assert (log["with"].outcome, log["with"].attempts) == ("pending", 0)
    await one.worker.drain_once()
    assert one.graph.asked[-1].events[0]["user_data"] == {"fbc": "fb.1.1.x", "em": "y"}


# --- what an operator is told ------------------------------------------------------------------


async def test_one_bad_event_is_no_trouble_of_the_pixel(
    one: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    one.graph.reply = rejecting("e0003", "e0010", "e0015")
    await one.put(*numbered(16))
    await one.worker.drain_once()
    assert len(await one.dead()) == 3
    assert one.worker.trouble == ""
    told = [r.getMessage() for r in caplog.records if r.name == "gateway.worker"]
    assert len(told) == 3
    assert all("invalid event data (code 100/2804019)" in line for line in told)


async def test_a_pause_is_said_once_and_its_end_once(
    one: Lane, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one.graph.say(EXPIRED, 3)
    await one.put("a")
    async with one.running():
        while await one.outcomes() != {"a": "delivered"}:
            await asyncio.sleep(60)
    told = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "gateway.worker"]
    assert [level for level, _ in told] == ["ERROR", "INFO"]
    assert "has expired (code 190/463); make a new token" in told[0][1]
    assert one.worker.trouble == ""


# --- tokens ------------------------------------------------------------------------------------


async def test_a_token_given_while_the_old_one_is_being_refused_is_used_at_once(one: Lane) -> None:
    def reply(asked: Asked) -> Reply | None:
        if asked.token != "new":
            one.worker.use(pixel("new"))
            return EXPIRED
        return None

    one.graph.reply = reply
    await one.put("a")
    start_ms = now_ms()
    async with one.running():
        await asyncio.sleep(30)
    assert await one.outcomes() == {"a": "delivered"}
    assert one.graph.asked[-1].at_ms - start_ms < 10_000
    assert one.worker.trouble == ""


async def test_a_pixel_without_a_token_says_so_before_anything_is_sent(one: Lane) -> None:
    one.worker.use(pixel(None))
    assert "FB_ACCESS_TOKEN" in one.worker.trouble
    await one.put("a", "b")
    async with one.running():
        await asyncio.sleep(60)
        assert one.graph.asked == []
        assert "FB_ACCESS_TOKEN" in one.worker.trouble
        one.worker.use(pixel())
        assert one.worker.trouble == ""
        await asyncio.sleep(5)
    assert await one.outcomes() == {"a": "delivered", "b": "delivered"}
    assert {e.attempts for e in (await one.log()).values()} == {1}


# --- stopping and failing ----------------------------------------------------------------------


async def test_stop_during_a_pause_ends_run_at_once(one: Lane) -> None:
    one.graph.say(EXPIRED)
    await one.put("a")
    task = asyncio.create_task(one.worker.run())
    await asyncio.sleep(60)
    assert len(one.graph.asked) == 1
    start_ms = now_ms()
    one.worker.stop()
    await task
    assert now_ms() - start_ms < 1000
    assert len(one.graph.asked) == 1


async def test_stop_in_the_middle_of_a_split_ends_after_the_request_under_way(one: Lane) -> None:
    def reply(asked: Asked) -> Reply | None:
        if len(one.graph.asked) == 3:
            one.worker.stop()
        return REJECTED

    one.graph.reply = reply
    ids = numbered(64)
    await one.put(*ids)
    await one.worker.run()
    assert len(one.graph.asked) == 3
    log = await one.log()
    assert {(log[i].outcome, log[i].attempts) for i in ids} == {("pending", 0)}


@pytest.mark.parametrize("at", [2, 3, 5])
async def test_a_new_token_in_the_middle_of_a_split_does_not_break_the_pace(
    one: Lane, at: int
) -> None:
    def reply(asked: Asked) -> Reply | None:
        if len(one.graph.asked) == at:
            loop = asyncio.get_running_loop()
            loop.call_later(0.02, one.worker.use, pixel("new"))
        return REJECTED

    one.graph.reply = reply
    await one.put(*numbered(8))
    await one.worker.drain_once()
    times = [asked.at_ms for asked in one.graph.asked]
    assert len(times) == 15
    # Over ten, because a busy machine may hand one over late.
    assert min(b - a for a, b in zip(times, times[10:], strict=False)) >= 1000


async def test_a_store_error_in_one_pass_does_not_end_run(one: Lane, tmp_path: Path) -> None:
    await one.put("a")
    with sqlite3.connect(tmp_path / "gateway.db") as other:
        other.execute("ALTER TABLE job RENAME TO hidden")
    with pytest.raises(StoreError):
        await one.worker.drain_once()
    async with one.running():
        await asyncio.sleep(60)
        assert one.graph.asked == []
        other.execute("ALTER TABLE hidden RENAME TO job")
        other.close()
        while await one.outcomes() != {"a": "delivered"}:
            await asyncio.sleep(5)
    assert await one.outcomes() == {"a": "delivered"}


async def test_requests_never_exceed_the_pace_whatever_the_answers(one: Lane) -> None:
    one.graph.reply = rejecting("e0001", "e0100", "e0199")
    await one.put(*numbered(200))
    async with one.running():
        await asyncio.sleep(60)
    times = [asked.at_ms for asked in one.graph.asked]
    assert len(times) > 20
    for first, eleventh in zip(times, times[10:], strict=False):
        assert eleventh - first >= 1000


async def test_what_meta_has_is_not_sent_again_where_the_store_could_not_write_it_down(
    one: Lane,
) -> None:
    await one.put("a")
    with contextlib.ExitStack() as until_there_is_room:

        def last_moment(_asked: Asked) -> None:
            until_there_is_room.enter_context(full_disk())

        one.graph.reply = last_moment
        for _ in range(3):
            with pytest.raises(StoreUnwritable):
                await one.worker.drain_once()
    one.graph.reply = lambda _asked: None
    await asyncio.sleep(LEASE_MS / 1000 + 1)
    assert await one.worker.drain_once() == 0
    assert await one.outcomes() == {"a": "delivered"}
    assert len(one.graph.asked) == 1


async def test_told_to_stop_it_waits_three_seconds_for_meta_and_keeps_the_events(one: Lane) -> None:
    one.graph.say(Reply(delay_s=9))
    await one.put(*numbered(3))
    running = asyncio.create_task(one.worker.run())
    while not one.graph.asked:
        await asyncio.sleep(0.1)
    told_ms = now_ms()
    one.worker.stop()
    await running
    assert 2_900 <= now_ms() - told_ms < 8_000
    assert set((await one.outcomes()).values()) == {"pending"}
    assert {event.reason for event in (await one.log()).values()} == {
        "stopped before Meta answered"
    }
    await asyncio.sleep(30)
    claimed = await one.store.claim(
        pixel().lane, now_ms=now_ms(), lease_ms=now_ms() + 1, limit=9, max_bytes=10**6
    )
    # Meta may have them, which ends their being sent again a day later.
    assert [delivery.doubt_ms > 0 for delivery in claimed] == [True] * 3


async def test_told_to_stop_now_it_waits_for_nothing(one: Lane) -> None:
    one.graph.say(Reply(delay_s=9))
    await one.put("a")
    running = asyncio.create_task(one.worker.run())
    while not one.graph.asked:
        await asyncio.sleep(0.1)
    one.worker.stop()
    told_ms = now_ms()
    one.worker.stop(0)
    await running
    assert now_ms() - told_ms < 2_900
    assert await one.outcomes() == {"a": "pending"}
    await asyncio.sleep(10)  # until Graph's answer is over, too


async def test_an_answer_within_the_grace_counts(one: Lane) -> None:
    one.graph.reply = lambda asked: Reply(
        body=b'{"events_received":%d}' % len(asked.events), delay_s=2
    )
    await one.put("a")
    running = asyncio.create_task(one.worker.run())
    while not one.graph.asked:
        await asyncio.sleep(0.1)
    one.worker.stop()
    await running
    assert await one.outcomes() == {"a": "delivered"}
