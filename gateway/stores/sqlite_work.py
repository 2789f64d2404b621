"""One transaction of the embedded store: what its calls share, and the rows they add.

Each statement the thread runs lets go of the interpreter and has to wait to get it back, from a loop that is busy: with
three statements an event that was most of what an event cost. So what is asked or written for every event is done for
all events of a transaction at once, in a few statements of many rows, in which the thread needs no interpreter.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.stores import HOUR_MS

ACCEPTED = "accepted"
ROWS = 128
"""of one statement; a longer one is no faster"""

Value = int | str | bytes | None


def statements(text: str) -> dict[str, str]:
    """The statements of an .sql file by name, without their comments."""
    named = {}
    for part in text.split("-- name: ")[1:]:
        name, *lines = part.splitlines()
        named[name] = "\n".join(line for line in lines if not line.startswith("--")).strip()
    return named


SQL = statements(Path(__file__).with_name("sqlite.sql").read_text(encoding="utf-8"))


class Work:
    """One transaction: the connection, and what is added to the tables when somebody looks or it commits."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._tally: Counter[tuple[str, int, str]] = Counter()
        self._seen: dict[bytes, tuple[int, bool]] = {}
        """until when keys are remembered, and whether their copies are suppressed"""
        self._held: set[bytes] = set()
        """keys of which a copy may be held"""
        self._rows: defaultdict[str, list[tuple[Value, ...]]] = defaultdict(list)
        """by statement, in the order the first of each came"""
        self._last_ref: int | None = None

    @property
    def db(self) -> sqlite3.Connection:
        """The connection, with everything in the tables."""
        self._write_rows()
        return self._db

    def begin(self, keys: Sequence[bytes] = ()) -> None:
        """`keys`: those that will be asked for by `remember`, looked up all at once."""
        self._db.execute("BEGIN IMMEDIATE")
        for text, some in _in_rows(SQL["seen"], [(key,) for key in keys]):
            for key, until_ms, suppressed, held in self._db.execute(text, some):
                self._seen[key] = until_ms, bool(suppressed)
                if held:
                    self._held.add(key)

    def commit(self) -> None:
        self.db.executemany(SQL["count"], [(*key, n) for key, n in self._tally.items()])
        self._db.execute("COMMIT")

    def count(self, pixel: str, at_ms: int, outcome: str, n: int = 1) -> None:
        """Add to the ledger."""
        self._tally[pixel, at_ms // HOUR_MS, outcome] += n

    def add(self, statement: str, *row: Value) -> None:
        """Write a row, at the latest when somebody looks."""
        self._rows[statement].append(row)

    def new_ref(self) -> int:
        """The number of the next line of the log, which no other ever had."""
        if self._last_ref is None:
            (self._last_ref,) = self._db.execute(SQL["last_ref"]).fetchone()
        assert self._last_ref is not None
        self._last_ref += 1
        return self._last_ref

    def remember(self, key: bytes, until_ms: int, now_ms: int, *, suppress: bool) -> bool:
        """Remember a key of those `begin` was told; False: it is remembered already."""
        if key in self._seen and self._seen[key][0] >= now_ms:
            return False
        self._seen[key] = until_ms, suppress
        self.add("put_seen", key, until_ms, suppress)
        return True

    def forget(self, refs: str, since_ms: int) -> None:
        """Forget the keys of the jobs in a JSON list that were accepted since then, so that they are new again."""
        for (key,) in self.db.execute(SQL["forget"], (refs, since_ms)):
            self._seen.pop(key, None)

    def hold(self, key: bytes) -> None:
        """A copy of a key is held from now on."""
        self._held.add(key)

    def may_hold(self, key: bytes) -> bool:
        """Whether a copy of a remembered key may be held."""
        return key in self._held

    def suppresses(self, key: bytes) -> bool:
        """Whether copies of a remembered key stay home."""
        return self._seen[key][1]

    def suppress(self, key: bytes) -> None:
        """Let the copies of a remembered key stay home from now on."""
        until_ms, _ = self._seen[key]
        self._seen[key] = until_ms, True
        self.add("put_seen", key, until_ms, True)

    def _write_rows(self) -> None:
        rows, self._rows = self._rows, defaultdict(list)
        for name, added in rows.items():
            for text, values in _in_rows(SQL[name], added):
                self._db.execute(text, values)


def _in_rows(
    statement: str, rows: Sequence[tuple[Value, ...]]
) -> Iterator[tuple[str, list[Value]]]:
    """A statement for as many rows as there are, in few lengths, so that SQLite compiles each only once."""
    begin, length = 0, ROWS
    while begin < len(rows):
        while length > len(rows) - begin:
            length //= 2
        some = rows[begin : begin + length]
        row = f"({', '.join('?' * len(some[0]))})"
        yield statement.format(rows=", ".join([row] * length)), [v for row in some for v in row]
        begin += length
