"""What is wrong, and from when on."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from disk import filled, small_disk
from stores import DAY_MS, NOW, claim, entry, kill, settle

from gateway import alerts
from gateway.alerts import Compared, Name, Observed, Sent
from gateway.outcome import Outcome
from gateway.selfcheck import SelfCheck, store_error
from gateway.stores import HOUR_MS, Drop, LedgerLine
from gateway.stores.sqlite import SqliteStore

WELL = Observed(
    now_ms=NOW,
    ledger=(LedgerLine(pixel="1", accepted=1000, delivered=900, merged=0, dead=50, pending=50),),
    hour_ago={"1": LedgerLine(pixel="1", accepted=0, delivered=0, merged=0, dead=50)},
    oldest_ms=NOW - 15 * 60_000,
    ahead_ms=60_000,
    disk_free=100,
    disk_enough=100,
)


def line(**counts: int) -> LedgerLine:
    return LedgerLine.of("1", counts, counts.get("pending", 0))


def names(seen: Observed) -> list[Name]:
    return [alert.name for alert in alerts.judge(seen)]


def test_all_is_well() -> None:
    assert names(WELL) == []


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (replace(WELL, store_error="the store is full"), Name.STORE),
        (replace(WELL, disk_free=99), Name.DISK),
        (replace(WELL, ledger=(line(accepted=2, pending=1),)), Name.LEDGER),
        (replace(WELL, oldest_ms=NOW - 15 * 60_000 - 1), Name.OLDEST),
        (replace(WELL, turned_away=1), Name.OVERLOAD),
        (replace(WELL, ahead_ms=60_001), Name.CLOCK),
        (replace(WELL, ahead_ms=-60_001), Name.CLOCK),
        (replace(WELL, paused={"1": "the access token has expired"}), Name.PAUSED),
        (replace(WELL, away={"1": "nothing gets through to Meta"}), Name.AWAY),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_state_that_is_wrong_has_its_alert(wrong: Observed, name: Name) -> None:
    [alert] = alerts.judge(wrong)
    assert alert.name is name
    assert alert.text.endswith(".")


def test_an_event_that_is_held_for_long_is_no_trouble() -> None:
    hour_ms = 3_600_000
    held = replace(WELL, oldest_ms=NOW - hour_ms, hold_ms=hour_ms)

    assert names(held) == []
    assert names(replace(held, oldest_ms=NOW - hour_ms - 15 * 60_000 - 1)) == [Name.OLDEST]


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        pytest.param((0, 0), (985, 15), True, id="above-a-hundredth"),
        pytest.param((0, 0), (1985, 15), False, id="below"),
        pytest.param((0, 0), (0, 9), False, id="too-few-to-tell"),
        pytest.param((0, 0), (0, 10), True, id="all-of-them"),
        pytest.param((985, 15), (985, 15), False, id="long-ago"),
        pytest.param((0, 100), (50, 90), False, id="revived"),
    ],
)
def test_how_many_may_die(before: tuple[int, int], after: tuple[int, int], wrong: bool) -> None:
    def of(delivered: int, dead: int) -> LedgerLine:
        return line(accepted=delivered + dead, delivered=delivered, dead=dead)

    seen = replace(WELL, ledger=(of(*after),), hour_ago={"1": of(*before)})
    assert names(seen) == ([Name.DEAD] if wrong else [])


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        pytest.param((0, 0), (9000, 10), True, id="above-a-thousandth"),
        pytest.param((0, 0), (10000, 10), False, id="below"),
        pytest.param((0, 0), (0, 9), False, id="too-few-to-tell"),
        pytest.param((0, 0), (0, 10), True, id="all-of-them"),
        pytest.param((9000, 50), (9000, 59), False, id="long-ago"),
    ],
)
def test_how_many_may_be_sent_again(
    before: tuple[int, int], after: tuple[int, int], wrong: bool
) -> None:
    def of(delivered: int, doubted: int) -> dict[str, Sent]:
        return {"1": Sent(delivered=delivered, doubted=doubted)}

    seen = replace(WELL, sent=of(*after), sent_hour_ago=of(*before))
    assert names(seen) == ([Name.AMBIGUOUS] if wrong else [])
    assert names(replace(seen, sent_hour_ago={})) == []


def fell(before: LedgerLine, now: LedgerLine) -> Observed:
    return replace(WELL, compared={"1": [Compared(hours=3, before=before, now=now)]})


@pytest.mark.parametrize(
    ("before", "now", "wrong"),
    [
        pytest.param(1000, 199, True, id="more-than-four-fifths"),
        pytest.param(1000, 200, False, id="four-fifths"),
        pytest.param(100, 0, True, id="nothing-comes"),
        pytest.param(99, 0, False, id="a-small-site"),
        pytest.param(0, 0, False, id="not-installed-then"),
        pytest.param(0, 1000, False, id="new"),
    ],
)
def test_how_few_may_come(before: int, now: int, wrong: bool) -> None:
    seen = fell(line(accepted=before, delivered=before), line(accepted=now, pending=now))
    assert names(seen) == ([Name.FEWER] if wrong else [])


def test_an_alert_of_few_events_says_what_came_and_where_to_look() -> None:
    [alert] = alerts.judge(
        fell(line(accepted=640, delivered=640), line(accepted=12, delivered=10, merged=2))
    )
    assert alert.text == (
        "Pixel 1: 12 usable events came in the last 3 full hours, and 640 in the same hours a week ago; see whether "
        "the tag is still on your pages, whether the front server still routes its path to the gateway, and whether "
        "the consent banner changed."
    )


def test_events_that_come_and_are_dropped_are_few_by_what_they_are_dropped_for() -> None:
    dropped = {"no_consent": 300, "bot": 50, "suppressed": 400}
    before = line(accepted=2640, delivered=640, suppressed=2000)
    [alert] = alerts.judge(fell(before, line(accepted=760, delivered=10, **dropped)))
    assert "410 usable events came in the last 3 full hours, and 2640 in" in alert.text
    assert "; 300 others were dropped as no_consent," in alert.text
    assert names(fell(before, line(accepted=2640, bot=2000, delivered=240, suppressed=400))) == []


def test_of_several_spans_one_alert_is_enough() -> None:
    quiet = [
        Compared(hours=hours, before=line(accepted=900, delivered=900), now=line())
        for hours in (3, 24)
    ]
    [alert] = alerts.judge(replace(WELL, compared={"1": quiet}))
    assert "last 3 full hours" in alert.text


def test_a_store_that_says_nothing_is_one_alert_and_no_guess() -> None:
    silent = Observed(now_ms=NOW, store_error="no answer", disk_free=1, disk_enough=1)
    assert names(silent) == [Name.STORE]


# --- the look itself -----------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Watch:
    """A self-check on a real store, with a clock and pauses of the test's own."""

    def __init__(self, store: SqliteStore, folder: Path) -> None:
        self.now_ms = NOW
        self.paused: dict[str, str] = {}
        self.away: dict[str, str] = {}
        self.turned_away = 0
        self.sent: dict[str, Sent] = {}
        self.store = store
        self.check = SelfCheck(
            store=store,
            records=store,
            folder=folder,
            paused=lambda: self.paused,
            away=lambda: self.away,
            turned_away=lambda: self.turned_away,
            sent=lambda: self.sent,
            ahead_ms=lambda: 0,
            hold_ms=0,
            clock_ms=lambda: self.now_ms,
        )

    async def look(self) -> list[Name]:
        await self.check.look()
        return [alert.name for alert in self.check.alerts]


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    store = await SqliteStore.open(tmp_path / "gateway.db", wait_s=0)
    yield Watch(store, tmp_path)
    await store.close()


@pytest.mark.anyio
async def test_an_alert_is_said_once_and_taken_back_once(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.selfcheck")
    watch.paused = {"1": "the access token has expired"}
    for _ in range(3):
        assert await watch.look() == [Name.PAUSED]
    watch.paused = {}
    for _ in range(3):
        assert await watch.look() == []
    said = [record.getMessage() for record in caplog.records if "Pixel 1" in record.getMessage()]
    assert said == [
        "alert: Pixel 1: the access token has expired.",
        "alert over: Pixel 1: the access token has expired.",
    ]


@pytest.mark.anyio
async def test_the_oldest_event_is_the_one_that_was_accepted_first(watch: Watch) -> None:
    assert await watch.store.oldest_ms() is None
    for minute in range(3):
        at_ms = NOW + minute * 60_000
        await watch.store.put(
            [entry(str(minute), due_ms=at_ms, deadline_ms=NOW + DAY_MS)], [], at_ms
        )
    assert await watch.store.oldest_ms() == NOW
    watch.now_ms = NOW + 16 * 60_000
    assert await watch.look() == [Name.OLDEST]
    first, *_ = await claim(watch.store, watch.now_ms)
    assert await settle(watch.store, first, Outcome.DELIVERED)
    assert await watch.store.oldest_ms() == NOW + 60_000
    assert await watch.look() == []


@pytest.mark.anyio
async def test_dead_letters_are_counted_since_an_hour_ago(watch: Watch) -> None:
    for n in range(20):
        await kill(watch.store, f"old-{n}")
    assert await watch.look() == []
    for n in range(10):
        await kill(watch.store, f"new-{n}")
    assert await watch.look() == [Name.DEAD]
    for _ in range(60):
        await watch.look()
    assert await watch.look() == []


@pytest.mark.anyio
async def test_who_was_turned_away_is_counted_since_the_last_look(watch: Watch) -> None:
    watch.turned_away = 3
    assert await watch.look() == [Name.OVERLOAD]
    assert watch.check.alerts[0].text.startswith("3 requests")
    assert await watch.look() == []


@pytest.mark.anyio
async def test_what_was_sent_again_is_counted_since_an_hour_ago(watch: Watch) -> None:
    watch.sent = {"1": Sent(delivered=100, doubted=50)}
    assert await watch.look() == []
    watch.sent = {"1": Sent(delivered=200, doubted=60)}
    for _ in range(59):
        assert await watch.look() == [Name.AMBIGUOUS]
    assert await watch.look() == []


@pytest.mark.anyio
async def test_the_last_hours_are_compared_with_those_of_a_week_ago(watch: Watch) -> None:
    """A day of 40 events an hour, the same a week later until noon, and then none."""
    midnight = NOW - NOW % DAY_MS
    for hour in range(24):
        await put_many(watch.store, midnight + hour * HOUR_MS)
    wrong = {}
    for hour in range(24):
        at_ms = midnight + 7 * DAY_MS + hour * HOUR_MS
        watch.now_ms = at_ms + HOUR_MS // 2
        if await watch.look():
            wrong[hour] = watch.check.alerts[0].text
        if hour < 12:
            await put_many(watch.store, at_ms)
    # From noon on no event came: by 15 o'clock three full hours had none, by 24 a day has half of what it had.
    assert list(wrong) == list(range(15, 24))
    assert all(
        ": 0 usable events came in the last 3 full hours, and 120 in" in t for t in wrong.values()
    )


@pytest.mark.anyio
async def test_hours_are_compared_when_they_are_full(watch: Watch) -> None:
    await put_many(watch.store, NOW, 200)
    watch.now_ms = NOW + 7 * DAY_MS - NOW % HOUR_MS + HOUR_MS - 1
    assert await watch.look() == []
    watch.now_ms += 1
    assert await watch.look() == [Name.FEWER]


async def put_many(store: SqliteStore, at_ms: int, count: int = 40) -> None:
    drops = [Drop(pixel="1", outcome=Outcome.SUPPRESSED)] * count
    await store.put([], drops, at_ms)


@pytest.mark.anyio
async def test_a_full_disk_is_two_alerts_and_they_end(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = await SqliteStore.open(disk / "gateway.db", wait_s=0)
        watch = Watch(store, disk)
        assert await watch.look() == []
        with filled(disk):
            assert await watch.look() == [Name.STORE, Name.DISK]
        assert await watch.look() == []
        await store.close()


@pytest.mark.anyio
async def test_it_looks_until_told_to_stop(watch: Watch) -> None:
    stopping = asyncio.Event()
    watch.paused = {"1": "x"}
    running = asyncio.create_task(watch.check.run(stopping))
    while not watch.check.alerts:
        await asyncio.sleep(0.01)
    stopping.set()
    await running


@pytest.mark.anyio
async def test_a_store_that_is_closed_says_so(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "gateway.db", wait_s=0)
    assert await store_error(store) == ""
    await store.close()
    assert await store_error(store) == "the store is closed"
