"""The embedded store: one SQLite file, one thread that writes, many commits in one fsync.

Whatever is asked while the disk is busy with one transaction becomes the next one, so a commit's price is shared by
all who wait. Limits: one process per file (the lock sees to it; two writing connections can corrupt a WAL file in
SQLite before 3.51.3), a local disk (WAL needs shared memory, so no NFS).
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from gateway.errors import StoreBusy, StoreError, StoreFull, StoreLocked, StoreUnwritable
from gateway.outcome import Outcome
from gateway.stores import (
    PUT_S,
    DeadLetter,
    Delivery,
    Drop,
    Entry,
    LedgerLine,
    LoggedEvent,
    Merge,
    Settlement,
    steps,
)
from gateway.stores import sqlite_operations as operations
from gateway.stores.room import Room, is_full
from gateway.stores.sqlite_work import SQL, Work

T = TypeVar("T")

MAX_BYTES = 10_000_000_000
"""of the file: at a kilobyte an event, some millions that wait while Meta cannot be reached"""
ANSWERED = 32
"""calls answered in one turn of the loop: whoever was waiting goes on in it, and everybody else waits"""
VERSION = 2
UPGRADES = {0: "create", 1: "hold"}
"""From each older version the statement that leads to the next one."""


class SqliteStore:
    """Outbox and Records in one file, owned until `close`."""

    def __init__(self, writer: "_Writer") -> None:
        self._writer = writer
        self._sweeper = operations.Sweeper()
        self._put = 0
        """since the last sweep"""

    @classmethod
    async def open(
        cls, path: Path, *, wait_s: float = 30.0, banner: str = "", max_bytes: int = MAX_BYTES
    ) -> "SqliteStore":
        """Take the file, making it and its folder where missing; it takes no event beyond `max_bytes`.

        `banner` is what `banner_of` tells other processes meanwhile. Raises StoreLocked when another process
        still owns the file after `wait_s`, StoreUnwritable when it cannot be written, StoreError when it is of
        a newer version.
        """
        lock = await _lock(path, wait_s, banner)
        try:
            db, room = await asyncio.to_thread(_connect, path, max_bytes)
        except BaseException:
            os.close(lock)
            raise
        return cls(_Writer(db, lock, room))

    async def put(
        self,
        entries: Sequence[Entry],
        drops: Sequence[Drop],
        now_ms: int,
        merge: Merge | None = None,
    ) -> list[Outcome]:
        self._put += len(entries) + len(drops)
        work = partial(operations.put, entries, drops, now_ms, merge)
        keys = [entry.key for entry in entries]
        return await self._writer.write(work, grows=True, keys=keys, within_s=PUT_S)

    async def claim(
        self,
        pixel: str,
        *,
        now_ms: int,
        lease_ms: int,
        limit: int,
        max_bytes: int,
        newest: bool = False,
    ) -> list[Delivery]:
        return await self._writer.write(
            partial(operations.claim, pixel, now_ms, lease_ms, limit, max_bytes, newest)
        )

    async def settle(self, settlements: Sequence[Settlement], now_ms: int) -> int:
        return await self._writer.write(partial(operations.settle, settlements, now_ms))

    async def recall(self, pixel: str, *, after_ms: int, due_ms: int) -> int:
        return await self._writer.write(partial(operations.recall, pixel, after_ms, due_ms))

    async def turn(self, pixel: str, gap_ms: float) -> float:
        return 0.0

    def clock_ms(self) -> int:
        """This machine's clock: nobody else has the store."""
        return time.time_ns() // 1_000_000

    async def sweep(self, now_ms: int) -> None:
        put, self._put = self._put, 0
        for _ in range(steps(put)):  # each its own transaction, so that nobody waits for all
            await self._writer.write(partial(self._sweeper.sweep, now_ms))

    async def probe(self) -> None:
        await self._writer.write(operations.probe, grows=True, within_s=PUT_S)

    async def close(self) -> None:
        await self._writer.close()

    async def ledger(self) -> list[LedgerLine]:
        return await self._writer.read(operations.ledger)

    async def account(self, pixel: str, hours: range) -> LedgerLine:
        return await self._writer.read(partial(operations.account, pixel, hours))

    async def oldest_ms(self) -> int | None:
        return await self._writer.read(operations.oldest_ms)

    async def events(
        self, *, limit: int, outcome: Outcome | None = None, event_id: str | None = None
    ) -> list[LoggedEvent]:
        return await self._writer.read(partial(operations.events, limit, outcome, event_id))

    async def dead(self, refs: Sequence[int] | None = None) -> list[DeadLetter]:
        return await self._writer.read(partial(operations.dead, refs))

    async def revive(self, refs: Sequence[int], now_ms: int) -> int:
        return await self._writer.write(partial(operations.revive, refs, now_ms), within_s=ASK_S)

    async def discard(self, refs: Sequence[int]) -> int:
        return await self._writer.write(partial(operations.discard, refs), within_s=ASK_S)


class SqliteReader:
    """Looks at a store that a server may own, or that one has left behind. Never writes.

    Opens the file anew for each question: a command asks one, and an idle reader would keep the server from
    removing its WAL file. Raises StoreError when there is nothing to read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def ledger(self) -> list[LedgerLine]:
        return self._ask(operations.ledger)

    def events(
        self, *, limit: int, outcome: Outcome | None = None, event_id: str | None = None
    ) -> list[LoggedEvent]:
        return self._ask(partial(operations.events, limit, outcome, event_id))

    def dead(self, refs: Sequence[int] | None = None) -> list[DeadLetter]:
        return self._ask(partial(operations.dead, refs))

    def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with contextlib.closing(_connect_to_read(self._path)) as db:
                return query(db)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: no store can be read here ({error})") from error


# The file: its lock and its version.


def banner_of(path: Path) -> str | None:
    """What the owner of the store at `path` says about itself; None when nobody owns it."""
    try:
        lock = os.open(_lock_path(path), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 65536, 0).decode()
    else:
        return None
    finally:
        os.close(lock)


async def _lock(path: Path, wait_s: float, banner: str) -> int:
    """The descriptor that owns the file; it stays owned until the descriptor is closed, or its process dies."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreUnwritable(f"{path}: no store can be kept here ({error.strerror})") from error
    try:
        while not _locked(lock):
            if loop.time() >= give_up:
                raise StoreLocked(f"{path}: another process owns this store; stop it first")
            await asyncio.sleep(0.1)
        os.ftruncate(lock, 0)
        os.pwrite(lock, banner.encode(), 0)
    except OSError as error:
        os.close(lock)
        raise StoreUnwritable(f"{path}: the lock cannot be written ({error.strerror})") from error
    except BaseException:
        os.close(lock)
        raise
    return lock


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_path(path: Path) -> Path:
    real = path.resolve()  # one file, one lock, by whatever link it is reached
    return real.with_name(real.name + ".lock")


def _connect(path: Path, max_bytes: int) -> tuple[sqlite3.Connection, Room]:
    """The one connection that writes, its schema up to date, and the room it has."""
    try:
        room = Room(path, max_bytes)
        try:
            db = _open(path)
        except (OSError, sqlite3.Error):  # on a full disk not even reading begins without a write
            if not room.make_way():
                raise
            db = _open(path)
        room.set_limit(db)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnwritable(f"{path}: no store can be kept here ({error})") from error
    return db, room


def _open(path: Path) -> sqlite3.Connection:
    # SQLite gives its -wal and -shm files the mode of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with contextlib.closing(_connect_to_read(path, oldest=0)):
        pass  # only to refuse a newer version, before a writing connection could touch its file
    with contextlib.ExitStack() as undo:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        undo.callback(db.close)
        db.executescript(SQL["connect"])
        if db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            raise StoreUnwritable(f"{path}: not on a local disk, which the store needs")
        while (version := _version(db)) < VERSION:
            db.executescript(SQL[UPGRADES[version]])
        undo.pop_all()
        return db


def _connect_to_read(path: Path, *, oldest: int = VERSION) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        version = _version(db)
        if version > VERSION:
            raise StoreError(f"{path}: written by a newer gateway, which this one cannot read")
        if version < oldest:
            raise StoreError(f"{path}: written by an older gateway; start the server to upgrade it")
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection) -> int:
    row: tuple[int] = db.execute("PRAGMA user_version").fetchone()
    return row[0]


# The thread that owns the connection.

ASK_S = 10.0
"""how long a question waits for a disk that hangs: looking through a long log takes a second"""


class _Call:
    """An operation on its way to the thread, and how to answer whoever awaits it."""

    def __init__(
        self,
        operation: Callable[[Work], T],
        future: asyncio.Future[T],
        *,
        writes: bool,
        grows: bool,
        keys: Sequence[bytes],
    ) -> None:
        self.writes = writes
        self.grows = grows
        self.keys = keys
        self.withdrawn = False
        """whoever awaited it was told to come again, so it is not begun any more"""
        self._answer: Callable[[], None]
        self._future = future

        def run(work: Work) -> None:
            if not self.withdrawn:
                self._answer = partial(future.set_result, operation(work))

        self.run = run

    def fail(self, error: Exception) -> None:
        self._answer = partial(self._future.set_exception, error)

    def answer(self) -> None:
        if (
            not self._future.done()
        ):  # whoever was cancelled, or was told already, does not wait any more
            self._answer()


class _Writer:
    """The thread: takes everything that waits, makes it one transaction, answers once it is on disk."""

    def __init__(self, db: sqlite3.Connection, lock: int, room: Room) -> None:
        self._db = db
        self._room = room
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._closed = False
        self._begun_s: float | None = None
        """when the thread began with what it is at, by the steady clock"""
        self._thread = threading.Thread(target=self._run, name="sqlite-store", daemon=True)
        self._thread.start()

    async def write(
        self,
        operation: Callable[[Work], T],
        *,
        grows: bool = False,
        keys: Sequence[bytes] = (),
        within_s: float | None = None,
    ) -> T:
        """The operation's answer, durable. Cancelling gives up the answer, not the operation.

        `grows`: it brings more than it takes away, and is the first to be refused when room is short. `keys`: the
        dedup keys it will ask for. `within_s`: raise StoreBusy afterwards, and at once while the disk hangs. (What is
        in the transaction under way by then may still be done: nobody can tell before the disk does. An event's sender
        comes again with the same key, and is told that it is a duplicate.)
        """
        return await self._call(operation, writes=True, grows=grows, keys=keys, within_s=within_s)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """The query's answer, from what is durable; outside of transactions, so a full disk does not stop it.

        Raises StoreBusy after ASK_S.
        """
        return await self._call(lambda work: query(work.db), writes=False, within_s=ASK_S)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _call(
        self,
        operation: Callable[[Work], T],
        *,
        writes: bool,
        grows: bool = False,
        keys: Sequence[bytes] = (),
        within_s: float | None = None,
    ) -> T:
        if self._closed:
            raise StoreError("the store is closed")
        # Neither would this one be answered, and what waits stays bounded.
        if within_s is not None and self._hangs_for(within_s):
            raise StoreBusy(_hangs(within_s))
        future: asyncio.Future[T] = self._loop.create_future()
        call = _Call(operation, future, writes=writes, grows=grows, keys=keys)
        self._queue.put(call)
        try:
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            call.withdrawn = True
            raise StoreBusy(_hangs(within_s)) from None

    def _hangs_for(self, seconds: float) -> bool:
        begun_s = self._begun_s
        return begun_s is not None and time.monotonic() - begun_s > seconds

    def _run(self) -> None:
        closing = False
        while not closing:
            self._begun_s = None
            group = [self._queue.get()]
            self._begun_s = time.monotonic()
            group += [self._queue.get() for _ in range(self._queue.qsize())]
            closing = None in group
            calls = [call for call in group if call is not None]
            self._commit([call for call in calls if call.writes])
            for call in calls:
                if not call.writes:
                    self._look(call)
            self._loop.call_soon_threadsafe(self._answer, calls)
        # On a full disk the WAL stays, and the next start reads it.
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        os.close(self._lock)

    def _answer(self, calls: Sequence[_Call]) -> None:
        for call in calls[:ANSWERED]:
            call.answer()
        if len(calls) > ANSWERED:
            self._loop.call_soon(self._answer, calls[ANSWERED:])

    def _commit(self, calls: Sequence[_Call]) -> None:
        """Run calls in one transaction. If SQLite refuses, nothing of any of them was stored."""
        if not calls:
            return
        work = Work(self._db)
        try:
            shortage = self._room.shortage(self._db) if any(call.grows for call in calls) else ""
            if shortage:
                calls = _turn_away(calls, f"the store is full: {shortage}")
            work.begin([key for call in calls for key in call.keys])
            for call in calls:
                call.run(work)
            work.commit()
        except sqlite3.Error as error:
            self._roll_back()
            if is_full(error) and self._room.make_way(self._db):
                self._commit(_turn_away(calls, f"the store is full ({error})"))
                return
            for call in calls:
                call.fail(StoreUnwritable(f"the store cannot be written ({error})"))
        except Exception as error:
            # A value SQLite cannot hold, or a bug: it fails whom it came from, not those who wait beside.
            self._roll_back()
            if len(calls) == 1:
                calls[0].fail(error)
            else:
                for call in calls:
                    self._commit([call])

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back already; and if this fails, the next BEGIN fails and comes here.
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _look(self, call: _Call) -> None:
        try:
            call.run(Work(self._db))
        except sqlite3.Error as error:
            call.fail(StoreError(f"the store cannot be read ({error})"))
        except Exception as error:
            call.fail(error)  # see _commit


def _hangs(seconds: float | None) -> str:
    return f"the disk does not answer within {seconds:g} s"


def _turn_away(calls: Sequence[_Call], why: str) -> list[_Call]:
    """Refuse what would bring more, while something is left for the others; answers those."""
    for call in calls:
        if call.grows:
            call.fail(StoreFull(why))
    return [call for call in calls if not call.grows]
