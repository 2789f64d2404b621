"""What is SQLite's own: the file and its lock, the one transaction many share, the reader beside it."""

import asyncio
import contextlib
import gzip
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from disk import full_disk

import gateway
from gateway.errors import StoreBusy, StoreError, StoreFull, StoreLocked, StoreUnwritable
from gateway.outcome import Outcome
from gateway.stores import (
    DEDUP_MS,
    HOUR_MS,
    TALLY_MS,
    Half,
    Joined,
    sqlite,
    sqlite_operations,
    sqlite_work,
)
from gateway.stores.sqlite import SqliteReader, SqliteStore, banner_of

from . import DAY_MS, NOW, accounts, claim, claim_one, entry, join, kill, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(path, wait_s=0, banner='{"pid": 1}')
    yield opened
    await opened.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """What lies in the file, asked past the store."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


# the file


async def test_only_its_owner_may_read_the_files(store: SqliteStore, path: Path) -> None:
    await store.put([entry("a")], [], NOW)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    files = ("", "-wal", "-shm", ".lock", ".ballast")
    names = [f"gateway.db{ending}" for ending in files]
    assert modes == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_second_owner_is_refused_until_the_first_lets_go(
    store: SqliteStore, path: Path
) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(StoreLocked, match="another process owns this store"):
            await SqliteStore.open(name, wait_s=0)
    waiting = asyncio.create_task(SqliteStore.open(path, wait_s=60))
    await asyncio.sleep(0)  # it has seen the lock
    await store.close()
    await (await waiting).close()


async def test_the_banner_is_told_while_the_store_is_owned(path: Path) -> None:
    assert banner_of(path) is None
    store = await SqliteStore.open(path, banner="a long first one")
    assert banner_of(path) == "a long first one"
    await store.close()
    assert banner_of(path) is None
    store = await SqliteStore.open(path, banner="short")
    assert banner_of(path) == "short"
    await store.close()


@pytest.mark.parametrize("place", ["below a file", "a folder", "another format"])
async def test_a_place_that_cannot_be_a_store_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / "gateway.db"
    match place:
        case "below a file":
            path.write_text("x")
            path = path / "gateway.db"
        case "a folder":
            path.mkdir()
        case _:
            path.write_text("not a database, but long enough to be taken for one" * 20)
    with pytest.raises(StoreUnwritable, match="no store can be kept here"):
        await SqliteStore.open(path, wait_s=0)
    assert banner_of(path) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreUnwritable, match="no store can be kept here"):
        await SqliteStore.open(tmp_path / "gateway.db", wait_s=0)


async def test_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.put([entry("a")], [], NOW)
    await store.close()
    left = path.with_name("left.db")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {sqlite.VERSION + 1}")
        # As a killed process leaves it: the last commits are in the WAL file only.
        shutil.copy(path, left)
        shutil.copy(f"{path}-wal", f"{left}-wal")
    for newer in (path, left):
        files = [newer, Path(f"{newer}-wal")]
        before = [file.read_bytes() if file.exists() else b"" for file in files]
        with pytest.raises(StoreError, match="newer gateway"):
            await SqliteStore.open(newer, wait_s=0)
        with pytest.raises(StoreError, match="newer gateway"):
            SqliteReader(newer).ledger()
        assert [file.read_bytes() if file.exists() else b"" for file in files] == before
        assert banner_of(newer) is None
    assert Path(f"{left}-wal").stat().st_size > 0


OLD_FILES = sorted((Path(__file__).parent / "fixtures").glob("sqlite-*.db.gz"))


def test_every_older_version_has_a_file() -> None:
    versions = [int(file.name.split("-")[1].partition(".")[0]) for file in OLD_FILES]
    assert versions == list(range(1, sqlite.VERSION))


@pytest.fixture(params=OLD_FILES, ids=lambda file: file.name)
def old(request: pytest.FixtureRequest, path: Path) -> Path:
    """A store that an older version has left, with an event of each fate."""
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    return path


async def test_what_an_older_version_left_is_upgraded_and_delivered(old: Path) -> None:
    with pytest.raises(StoreError, match="older gateway; start the server to upgrade it"):
        SqliteReader(old).ledger()
    store = await SqliteStore.open(old)
    names = ["delivered", "dead", "retried", "leased", "pending"]
    copies = [replace(entry(n), key=n.encode().rjust(16, b"-")) for n in names]
    assert await store.put(copies, [], NOW + 3) == [Outcome.DUPLICATE] * 5
    assert await accounts(store) == {
        "1": {"accepted": 12, "delivered": 1, "duplicate": 6, "bot": 1, "dead": 1, "pending": 3}
    }
    [letter] = await store.dead()
    assert (letter.body, letter.reason) == (b'{"event_id":"dead"}', "no good")
    assert await store.revive([letter.ref], NOW + 4) == 1
    deliveries = await claim(store, NOW + 60_000)
    told = {d.body: (d.attempt, d.doubt_ms) for d in deliveries}
    assert told == {
        b'{"event_id":"pending"}': (1, 0),
        b'{"event_id":"dead"}': (1, 0),
        b'{"event_id":"retried"}': (2, NOW + 1),
        b'{"event_id":"leased"}': (2, 0),
    }
    for delivery in deliveries:
        assert await settle(store, delivery, Outcome.DELIVERED, NOW + 60_000)
    held = entry("new", side="page", due_ms=NOW + 90_000)
    assert await store.put([held], [], NOW + 60_000, join) == [Outcome.HELD]
    await store.close()
    assert SqliteReader(old).ledger()[0].delivered == 5


async def test_an_upgraded_file_has_the_schema_of_a_new_one(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for file in (old, new):
        await (await SqliteStore.open(file)).close()
    schema = (
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    assert rows(old, schema) == rows(new, schema)


async def test_an_event_that_was_delivered_leaves_no_body(store: SqliteStore, path: Path) -> None:
    await store.put([entry("a"), entry("b")], [], NOW)
    await settle(store, (await claim(store))[0], Outcome.DELIVERED)
    bodies = "SELECT body FROM job UNION ALL SELECT body FROM dead"
    assert rows(path, bodies) == [(b"b",)]


# one transaction for all who wait


@contextlib.asynccontextmanager
async def one_group(store: SqliteStore) -> AsyncIterator[None]:
    """Hold the thread, so that everything started in the block is one transaction."""
    held, go = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> bool:
        held.set()
        return go.wait(60)

    holding = asyncio.create_task(store._writer.read(hold))
    await asyncio.to_thread(held.wait, 60)
    yield
    await asyncio.sleep(0)  # what was started is on its way
    go.set()
    assert await holding


@contextlib.asynccontextmanager
async def no_new_pages(store: SqliteStore) -> AsyncIterator[None]:
    """A full disk, as SQLite sees it: the file may not grow."""

    async def limit(pages: int) -> None:
        await store._writer.read(
            lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        )

    await limit(1)
    yield
    await limit(1_000_000)


async def test_all_who_wait_share_one_transaction(store: SqliteStore, path: Path) -> None:
    async with one_group(store):
        puts = [asyncio.create_task(store.put([entry(str(n))], [], NOW)) for n in range(64)]
    await asyncio.gather(*puts)
    before = Path(f"{path}-wal").stat().st_size
    await store.put([entry("one more")], [], NOW)
    one = Path(f"{path}-wal").stat().st_size - before
    assert before < 30 * one


async def test_of_a_group_that_does_not_fit_no_event_is_stored_but_what_was_sent_is_settled(
    store: SqliteStore,
) -> None:
    await store.put([entry("before")], [], NOW)
    delivery = await claim_one(store)
    large = [entry(f"large-{n}", body=bytes(1000)) for n in range(100)]
    async with no_new_pages(store):
        async with one_group(store):
            small = asyncio.create_task(store.put([entry("small")], [], NOW))
            settling = asyncio.create_task(settle(store, delivery, Outcome.DELIVERED))
            too_much = asyncio.create_task(store.put(large, [], NOW))
        for task in (small, too_much):
            with pytest.raises(StoreFull, match="full"):
                await task
        assert await settling
        assert await accounts(store) == {"1": {"accepted": 1, "delivered": 1}}
        assert len(await store.events(limit=9)) == 1
    answers = await store.put([entry("small"), *large], [], NOW)
    assert answers == [Outcome.PENDING] * 101
    assert await accounts(store) == {"1": {"accepted": 102, "delivered": 1, "pending": 101}}


async def test_an_operation_that_fails_leaves_nothing_of_its_group(store: SqliteStore) -> None:
    async with one_group(store):
        sound = asyncio.create_task(store.put([entry("a")], [], NOW))
        failing = asyncio.create_task(
            store._writer.write(lambda work: work.db.execute("DELETE FROM nowhere").rowcount)
        )
    for task in (sound, failing):
        with pytest.raises(StoreUnwritable, match="no such table"):
            await task
    assert await store.ledger() == []
    assert await store.put([entry("a")], [], NOW) == [Outcome.PENDING]


async def test_a_full_disk_fails_writes_and_probes_and_heals(store: SqliteStore) -> None:
    await store.put([entry(str(n), body=bytes(1000)) for n in range(100)], [], NOW)
    with full_disk():
        for write in (
            store.probe(),
            store.put([entry("a")], [], NOW),
            claim(store),
            store.sweep(NOW + TALLY_MS + HOUR_MS),
        ):
            with pytest.raises(StoreUnwritable):
                await write
        assert await accounts(store) == {"1": {"accepted": 100, "pending": 100}}
    await store.probe()
    assert await store.put([entry("a")], [], NOW) == [Outcome.PENDING]
    assert [d.attempt for d in await claim(store)] == [1] * 101


async def test_while_the_disk_hangs_everybody_is_told_and_only_what_was_being_written_is_kept(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "ASK_S", 2.5)
    writing, back = threading.Event(), threading.Event()

    def hang(held: Half, new: Half) -> Joined | None:
        """Within the transaction, as a write that does not return."""
        writing.set()
        assert back.wait(60)
        return join(held, new)

    page = entry("a", body=b"page", side="browser", due_ms=NOW + 9)
    assert await store.put([page], [], NOW) == [Outcome.HELD]
    shop = replace(page, body=b"shop", side="backend")
    try:
        under_way = asyncio.create_task(store.put([shop], [], NOW, hang))
        assert await asyncio.to_thread(writing.wait, 60)
        waiting = asyncio.create_task(store.put([entry("b")], [], NOW))
        claiming = asyncio.create_task(claim(store))
        for putting in (under_way, waiting, store.put([entry("c")], [], NOW), store.probe()):
            with pytest.raises(StoreBusy, match="the disk does not answer within 2 s"):
                await putting
        for asking in (store.ledger(), store.dead(), store.revive([1], NOW), store.discard([1])):
            with pytest.raises(StoreBusy, match=r"the disk does not answer within 2\.5 s"):
                await asking
        assert not claiming.done()
    finally:
        back.set()
    # Deliveries wait: giving their answer up would leave a lease that nobody knows of.
    assert [d.body for d in await claiming] == [b"page shop"]
    assert await store.put([shop, entry("b"), entry("c")], [], NOW, join) == [
        Outcome.DUPLICATE,
        Outcome.PENDING,
        Outcome.PENDING,
    ]
    assert await accounts(store) == {
        "1": {"accepted": 5, "merged": 1, "duplicate": 1, "pending": 3}
    }


async def test_a_value_that_cannot_be_stored_fails_its_own_caller_only(
    store: SqliteStore,
) -> None:
    impossible = replace(entry("c"), due_ms=2**70)
    async with one_group(store):
        before = asyncio.create_task(store.put([entry("a")], [], NOW))
        wrong = asyncio.create_task(store.put([entry("b"), impossible], [], NOW))
        after = asyncio.create_task(store.put([entry("d")], [], NOW))
    assert await before == await after == [Outcome.PENDING]
    with pytest.raises(OverflowError):
        await wrong
    assert await store.put([entry("b"), entry("c")], [], NOW) == [Outcome.PENDING] * 2
    assert await accounts(store) == {"1": {"accepted": 4, "pending": 4}}


async def test_a_question_that_fails_is_answered_with_its_error(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="no such table"):
        await store._writer.read(lambda db: db.execute("SELECT * FROM nowhere").fetchall())
    with pytest.raises(OverflowError):
        await store.events(limit=2**70)
    await store.probe()


# upkeep


async def test_the_tally_is_kept_by_the_hour_of_acceptance_and_folded_when_old(
    store: SqliteStore, path: Path
) -> None:
    by_hour = "SELECT hour, outcome, n FROM tally WHERE n <> 0 ORDER BY hour, outcome"
    hour = NOW // HOUR_MS
    later = NOW + HOUR_MS
    died = await kill(store, "a", NOW)
    await store.put([entry("b", due_ms=later)], [], later)
    await settle(store, await claim_one(store, later), Outcome.DELIVERED, later + DAY_MS)
    next_hour = [(hour + 1, "accepted", 1), (hour + 1, "delivered", 1)]
    assert rows(path, by_hour) == [(hour, "accepted", 1), (hour, "dead", 1), *next_hour]
    await store.revive([died.ref], later)
    assert rows(path, by_hour) == [(hour, "accepted", 1), *next_hour]

    fold_first = (hour + 1) * HOUR_MS + TALLY_MS
    await store.sweep(fold_first - 1)
    assert rows(path, by_hour) == [(hour, "accepted", 1), *next_hour]
    await store.sweep(fold_first)
    assert rows(path, by_hour) == [(0, "accepted", 1), *next_hour]
    await store.sweep(fold_first + HOUR_MS)
    assert rows(path, by_hour) == [(0, "accepted", 2), (0, "delivered", 1)]


async def test_a_sweep_is_bounded_and_the_next_goes_on_where_it_stopped(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.put([entry(f"{n}", deadline_ms=NOW) for n in range(4500)], [], NOW)
    await store.close()
    store = await SqliteStore.open(path)  # nothing was put since
    left = []
    for _ in range(4):
        await store.sweep(NOW + DEDUP_MS + 1)
        left += rows(path, "SELECT count(*) FROM seen")
    assert left == [(2500,), (500,), (0,), (0,)]
    # And when it comes to the end it begins again: these lie all over the key space. What was put makes it longer.
    await store.put([entry(f"{n}", deadline_ms=NOW) for n in range(4500)], [], NOW)
    await store.sweep(NOW + DEDUP_MS + 1)
    assert rows(path, "SELECT count(*) FROM seen") == [(0,)]
    await store.close()


async def test_the_log_keeps_its_newest_lines_only(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_operations, "LOG_LINES", 1000)
    store = await SqliteStore.open(path)
    await store.put([entry("waits")], [], NOW)
    await store.put([entry("waits")] * 5999, [], NOW)
    await store.close()
    store = await SqliteStore.open(path)  # nothing was put since
    left = []
    for _ in range(5):
        await store.sweep(NOW)
        left += rows(path, "SELECT count(*) FROM log")
    assert left == [(4001,), (2001,), (1001,), (1001,), (1001,)]
    assert [line.note.event_id for line in await store.events(limit=9, outcome=Outcome.PENDING)]
    await store.close()


async def test_the_dead_letters_keep_their_newest_only(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_operations, "DEAD_LETTERS", 2)
    for n in range(4):
        await kill(store, f"{n}", NOW + n)
    await store.sweep(NOW + 9)
    assert [letter.body for letter in await store.dead()] == [b"3", b"2"]


# the reader beside it


async def test_a_reader_sees_what_the_store_says_and_writes_nothing(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.put([entry("a"), entry("b")], [], NOW)
    died = await kill(store, "c", NOW - 1)
    reader = SqliteReader(path)
    expected = (
        await store.ledger(),
        await store.events(limit=9),
        await store.events(limit=9, outcome=Outcome.PENDING, event_id="a"),
        await store.dead([died.ref]),
    )

    def seen() -> tuple[object, ...]:
        return (
            reader.ledger(),
            reader.events(limit=9),
            reader.events(limit=9, outcome=Outcome.PENDING, event_id="a"),
            reader.dead([died.ref]),
        )

    assert seen() == expected
    await store.close()
    before = path.read_bytes()
    assert seen() == expected
    assert path.read_bytes() == before


def test_a_reader_of_nothing_says_so_and_makes_nothing(path: Path) -> None:
    with pytest.raises(StoreError, match="no store can be read here"):
        SqliteReader(path).ledger()
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(StoreError, match="start the server"):
        SqliteReader(path).ledger()
    assert path.read_bytes() == b""


# a crash

PUTTING = f"""
import asyncio, itertools, sys
from pathlib import Path
from gateway.outcome import Outcome
from gateway.stores import Entry, Note, Settlement
from gateway.stores.sqlite import SqliteStore

NOW = {NOW}

async def put(store, client):
    for n in itertools.count():
        name = f"{{sys.argv[2]}}-{{client}}-{{n}}"
        note = Note(event_name="PageView", event_id=name, source="browser")
        key = name.encode().rjust(16)
        entry = Entry(pixel="1", key=key, body=key, due_ms=NOW, deadline_ms=NOW, note=note)
        await store.put([entry, entry], [], NOW)
        print(name, flush=True)

async def deliver(store):
    while True:
        claimed = await store.claim("1", now_ms=NOW, lease_ms=NOW + 1, limit=5, max_bytes=9999)
        await store.settle([Settlement(delivery=d, outcome=Outcome.DELIVERED) for d in claimed], NOW)

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]), banner="putting")
    await asyncio.gather(deliver(store), *(put(store, client) for client in range(16)))

asyncio.run(main())
"""


@contextlib.contextmanager
def putting(path: Path, run: int) -> Iterator[subprocess.Popen[str]]:
    env = os.environ | {"PYTHONPATH": str(Path(gateway.__file__).parents[1])}
    command = [sys.executable, "-c", PUTTING, str(path), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(path: Path) -> None:
    reader = SqliteReader(path)
    acknowledged: set[str] = set()
    for run in range(3):
        with putting(path, run) as process:
            assert process.stdout is not None
            acknowledged |= {process.stdout.readline().strip() for _ in range(300)}
            assert banner_of(path) == "putting"
            assert all(line.adds_up for line in reader.ledger())
            with pytest.raises(StoreLocked):
                await SqliteStore.open(path, wait_s=0)
            process.kill()
            acknowledged |= set(process.stdout.read().split())
        assert process.returncode == -signal.SIGKILL
        assert banner_of(path) is None
        assert all(line.adds_up for line in reader.ledger())

        store = await SqliteStore.open(path, wait_s=0)
        events = await store.events(limit=1_000_000)
        kept = [e.note.event_id for e in events if e.outcome is not Outcome.DUPLICATE]
        assert acknowledged <= set(kept)
        assert len(kept) == len(set(kept))
        waiting = {e.note.event_id for e in events if e.outcome is Outcome.PENDING}
        [line] = await store.ledger()
        assert line.adds_up
        assert (line.accepted, line.pending) == (2 * len(kept), len(waiting))
        left = await claim(store, NOW + (run + 1) * DAY_MS, limit=1_000_000, max_bytes=10**9)
        assert {d.body.decode().strip() for d in left} == waiting
        await store.close()


# the statements


def test_every_statement_is_described_and_used() -> None:
    text = Path(sqlite_work.__file__).with_name("sqlite.sql").read_text()
    assert re.findall(r"^-- name: (.*)\n(?!-- [A-Z])", text, re.M) == []
    code = "".join(
        Path(str(m.__file__)).read_text() for m in (sqlite, sqlite_operations, sqlite_work)
    )
    used = re.findall(r'(?:SQL\[|\badd\(|_in_one\(work, )"(\w+)"', code) + list(
        sqlite.UPGRADES.values()
    )
    assert set(used) == set(sqlite_work.SQL)


@pytest.mark.parametrize(
    ("name", "values", "index"),
    [
        ("claim_due", ("1", NOW, 10), "job_due"),
        ("claim_newest", ("1", NOW, 10, 10), "job_due"),
        ("over", (NOW,), "job_held_due"),
        ("events_by_id", (None, 10, "id"), "log_event_id"),
        ("dead", (), "dead_died"),
        ("sweep_dead", (NOW, 10), "dead_died"),
    ],
)
async def test_a_frequent_statement_reads_its_index_and_does_not_sort(
    store: SqliteStore, name: str, values: tuple[object, ...], index: str
) -> None:
    query = f"EXPLAIN QUERY PLAN {sqlite_work.SQL[name]}"
    plan = await store._writer.read(lambda db: [row[3] for row in db.execute(query, values)])
    assert any(index in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
