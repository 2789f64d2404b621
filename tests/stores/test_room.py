"""A full store and a full disk: no new events, but what is there gets out."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from disk import filled, small_disk

from gateway.errors import StoreFull
from gateway.outcome import Outcome
from gateway.stores.room import BALLAST, SLACK
from gateway.stores.sqlite import SqliteStore

from . import NOW, accounts, claim, entry, settle

pytestmark = pytest.mark.anyio
KILOBYTE = bytes(1000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
async def store(disk: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(disk / "gateway.db", wait_s=0)
    yield opened
    await opened.close()


async def deliver_all(store: SqliteStore) -> int:
    delivered = 0
    while deliveries := await claim(store, limit=10):
        for delivery in deliveries:
            assert await settle(store, delivery, Outcome.DELIVERED)
            delivered += 1
    return delivered


async def fill(store: SqliteStore) -> int:
    """How many events fit."""
    for n in range(100_000):
        try:
            await store.put([entry(f"{n}-{k}", body=KILOBYTE) for k in range(10)], [], NOW)
        except StoreFull:
            return 10 * n
    raise AssertionError("it never gets full")


async def test_a_store_takes_no_more_than_it_may_delivers_what_it_has_and_goes_on(
    tmp_path: Path,
) -> None:
    limit = 1_000_000
    path = tmp_path / "gateway.db"
    store = await SqliteStore.open(path, wait_s=0, max_bytes=limit)
    taken = await fill(store)
    assert 200 < taken < 1000
    with pytest.raises(StoreFull, match="store_max_bytes"):
        await store.probe()
    assert (await accounts(store))["1"] == {"accepted": taken, "pending": taken}
    assert await deliver_all(store) == taken
    assert await store.put([entry("after")], [], NOW) == [Outcome.PENDING]
    await store.close()
    assert path.stat().st_size <= limit + SLACK


async def test_on_a_disk_somebody_filled_what_is_there_is_delivered_and_it_heals(
    store: SqliteStore, disk: Path
) -> None:
    ballast = disk / "gateway.db.ballast"
    for round_ in (1, 2):
        entries = [entry(f"{round_}-{n}", body=KILOBYTE) for n in range(200)]
        assert await store.put(entries, [], NOW) == [Outcome.PENDING] * 200
        assert ballast.exists()
        with filled(disk):
            assert await deliver_all(store) == 200
            assert not ballast.exists()
            for write in (store.put([entry("new")], [], NOW), store.probe()):
                with pytest.raises(StoreFull, match="bytes left"):
                    await write
        await store.probe()
        assert ballast.exists()
    assert (await accounts(store))["1"] == {"accepted": 400, "delivered": 400}


async def test_new_events_are_refused_before_the_last_reserve_is_touched(
    store: SqliteStore, disk: Path
) -> None:
    await store.put([entry("a")], [], NOW)
    with filled(disk):
        with pytest.raises(StoreFull, match="bytes left"):
            await store.put([entry("b")], [], NOW)
        assert (disk / "gateway.db.ballast").exists()


async def test_a_store_that_fills_the_disk_itself_stops_before_the_end(
    store: SqliteStore, disk: Path
) -> None:
    taken = await fill(store)
    assert (disk / "gateway.db.ballast").exists()
    assert await deliver_all(store) == taken > 1000
    assert (await accounts(store))["1"] == {"accepted": taken, "delivered": taken}


async def test_a_full_disk_does_not_stop_the_start(disk: Path) -> None:
    opened = await SqliteStore.open(disk / "gateway.db", wait_s=0)
    await opened.put([entry("a")], [], NOW)
    await opened.close()
    with filled(disk):
        opened = await SqliteStore.open(disk / "gateway.db", wait_s=0)
        with pytest.raises(StoreFull):
            await opened.probe()
        assert len(await opened.events(limit=9)) == 1
    await opened.probe()
    assert (disk / "gateway.db.ballast").exists()
    await opened.close()


async def test_what_is_kept_back_is_really_taken_from_the_disk(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "gateway.db", wait_s=0)
    kept = (tmp_path / "gateway.db.ballast").stat()
    assert kept.st_size == kept.st_blocks * 512 == BALLAST
    await store.close()
