"""Room for the store: how much of the disk it may take, and what is kept back for the day the disk is full.

A full disk must not stop deliveries, as they are what empties it, and even a deletion is a write. So new events are
refused while something is still left, and when somebody else takes the last of it, a file that was kept for this moment
makes way. Measured, SQLite fails cleanly on a full disk, deletions included, and goes on when there is room again.

The WAL takes room too, and more while it waits to be written back than it gives; so it is a small share of a small disk,
and next to nothing while room is short.
"""

import contextlib
import os
import sqlite3
from pathlib import Path

MIB = 1024 * 1024
HEADROOM = 32 * MIB
"""bytes that have to be free for new events: the largest group, its indexes and its copy in the WAL"""
BALLAST = 16 * MIB
SLACK = 16 * MIB
"""what deliveries may take beyond the most the store may have: a dead letter is a new row before the old one goes"""
PAGE = 4096
WAL_PAGES = 4000
"""written back at this size: 16 MB. Measured, rarer write-backs stall longer"""
WAL_PAGES_SHORT = 16


class Room:
    """What the store may take; asked by its writer before it takes more."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Raises OSError when the disk cannot be asked."""
        self._folder = path.parent
        self._ballast = path.with_name(path.name + ".ballast")
        self._max_bytes = max_bytes
        disk = os.statvfs(self._folder)
        total = disk.f_blocks * disk.f_frsize
        # A disk so small that the usual amounts do not fit is somebody's choice.
        self.headroom = min(HEADROOM, total // 10)
        self._size = min(BALLAST, total // 20)
        self._wal_pages = min(WAL_PAGES, total // 16 // PAGE)
        self._short = False
        self._held = False
        self._hold()

    def set_limit(self, db: sqlite3.Connection) -> None:
        """Let SQLite itself refuse to grow without end."""
        db.execute(f"PRAGMA max_page_count = {(self._max_bytes + SLACK) // PAGE}")
        db.execute(f"PRAGMA wal_autocheckpoint = {self._wal_pages}")

    def shortage(self, db: sqlite3.Connection) -> str:
        """Why no more events can be taken now; empty when they can. Kept back again what had made way."""
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (unused,) = db.execute("PRAGMA freelist_count").fetchone()
        if (pages - unused) * PAGE >= self._max_bytes:
            return f"it holds {self._max_bytes} bytes, as many as store_max_bytes allows"
        free = free_bytes(self._folder)
        if not self._held and free >= self.headroom + self._size:
            self._hold()
            free = free_bytes(self._folder)
        needed = self.headroom + (0 if self._held else self._size)
        self._save(db, short=free < needed)
        return f"the disk has {free} bytes left, and {needed} are needed" if self._short else ""

    def make_way(self, db: sqlite3.Connection | None = None) -> bool:
        """Give the last reserve to whoever has to write; False when there is none left."""
        held, self._held = self._held, False
        with contextlib.suppress(FileNotFoundError):
            self._ballast.unlink()
        if db is not None:
            self._save(db, short=True)
        return held

    def _save(self, db: sqlite3.Connection, *, short: bool) -> None:
        """Keep the WAL small while room is short."""
        if short == self._short:
            return
        self._short = short
        pages = WAL_PAGES_SHORT if short else self._wal_pages
        db.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        if short:
            with contextlib.suppress(sqlite3.Error):  # what does not fit stays in the WAL
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _hold(self) -> None:
        descriptor = os.open(self._ballast, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, max(self._size, 1))
            self._held = True
        except (
            OSError
        ):  # no room, or a file system that cannot: then the headroom is larger instead
            self._ballast.unlink()
        finally:
            os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """What a process without privileges may still take of the disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def is_full(error: sqlite3.Error) -> bool:
    """Whether SQLite found no room. It says so by itself, or where it shares memory, as an I/O error."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
