"""What the embedded store does to its tables, statement by statement.

Plain functions on a connection, run by the writer thread inside its transaction; the ones that only look take a
bare connection, so that a reading one can use them too.
"""

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from gateway.outcome import WAITING, Outcome
from gateway.stores import (
    DEAD_LETTERS,
    DEAD_MS,
    DEDUP_MS,
    HOUR_MS,
    LOG_LINES,
    LOG_MS,
    NEWEST,
    TALLY_MS,
    DeadLetter,
    Delivery,
    Drop,
    Entry,
    Half,
    LedgerLine,
    LoggedEvent,
    Merge,
    Note,
    Settlement,
    joined_due_ms,
)
from gateway.stores.sqlite_work import ACCEPTED, SQL, Work

LAST_KEY = b"\xff" * 17
LAST_ID = 2**63 - 1


def put(
    entries: Sequence[Entry],
    drops: Sequence[Drop],
    now_ms: int,
    merge: Merge | None,
    work: Work,
) -> list[Outcome]:
    answers = [_put(e, now_ms, merge, work) for e in entries]
    for drop in drops:
        work.count(drop.pixel, now_ms, ACCEPTED)
        work.count(drop.pixel, now_ms, drop.outcome.value)
        if drop.note is not None:
            _log(work, drop.pixel, drop.note, now_ms, drop.outcome, drop.reason)
    return answers


def _put(e: Entry, now_ms: int, merge: Merge | None, work: Work) -> Outcome:
    # Were the key gone before the job, a late copy would double the event.
    remembered_ms = max(now_ms + DEDUP_MS, e.deadline_ms + HOUR_MS)
    work.count(e.pixel, now_ms, ACCEPTED)
    outcome = None
    if not work.remember(e.key, remembered_ms, now_ms, suppress=e.suppress):
        outcome = _put_copy(e, now_ms, merge, work)
        if outcome is None:
            work.remember(e.key, remembered_ms, now_ms, suppress=e.suppress)
    if outcome is None:
        outcome = _new(e, now_ms)
    reason = e.lacks if outcome is Outcome.HELD else ""
    ref = _log(work, e.pixel, e.note, now_ms, outcome, reason)
    if outcome is Outcome.HELD:
        work.hold(e.key)
    if outcome in WAITING:
        side = e.side if outcome is Outcome.HELD else ""
        row = (ref, e.pixel, e.due_ms, now_ms, e.deadline_ms, e.key, e.body, side)
        work.add("put_job", *row)
    else:
        work.count(e.pixel, now_ms, outcome.value)
    return outcome


def _new(e: Entry, now_ms: int) -> Outcome:
    if e.suppress:
        return Outcome.SUPPRESSED
    return Outcome.HELD if e.side and e.due_ms > now_ms else Outcome.PENDING


def _put_copy(e: Entry, now_ms: int, merge: Merge | None, work: Work) -> Outcome | None:
    """What becomes of a copy of a known event, and with it of the one that is held; None: it is new after all."""
    if work.suppresses(e.key):
        return Outcome.SUPPRESSED
    if not work.may_hold(e.key):
        return Outcome.DUPLICATE
    db = work.db
    held = db.execute(SQL["held"], (e.key,)).fetchone()
    if held is None:
        return Outcome.DUPLICATE
    ref, side, at_ms, due_ms, deadline_ms, body, note, lacked = held
    if due_ms <= now_ms:
        if not lacked or at_ms < now_ms - DEDUP_MS:
            return Outcome.DUPLICATE
        _drop_lacking([(ref, e.pixel, at_ms)], now_ms, work)
        return None
    if not (e.side or e.suppress):
        return Outcome.DUPLICATE
    if e.suppress:
        work.suppress(e.key)
        db.execute(SQL["held_remove"], (ref,))
        db.execute(SQL["settle_log"], (Outcome.SUPPRESSED.value, now_ms, 0, "", ref))
        work.count(e.pixel, at_ms, Outcome.SUPPRESSED.value)
        return Outcome.SUPPRESSED
    kept = Half(side=side, body=body, note=msgspec.json.decode(note, type=Note))
    joined = merge and merge(kept, Half(side=e.side, body=e.body, note=e.note))
    if not joined:
        return Outcome.DUPLICATE
    due_ms = joined_due_ms(joined, due_ms, e, now_ms)
    state = Outcome.HELD if due_ms > now_ms else Outcome.PENDING
    side = side if state is Outcome.HELD else ""
    sooner_ms = min(deadline_ms, e.deadline_ms)
    db.execute(SQL["held_merge"], (joined.body, side, due_ms, sooner_ms, ref))
    line = (state.value, joined.lacks, msgspec.json.encode(joined.note), ref)
    db.execute(SQL["held_log"], line)
    return Outcome.MERGED


def _log(
    work: Work, pixel: str, note: Note, now_ms: int, outcome: Outcome, reason: str = ""
) -> int:
    names = (note.event_name, note.event_id, note.source)
    settled_ms = 0 if outcome in WAITING else now_ms
    ref = work.new_ref()
    line = (now_ms, pixel, *names, outcome.value, settled_ms, reason, msgspec.json.encode(note))
    work.add("put_log", ref, *line)
    return ref


def _release(now_ms: int, work: Work) -> None:
    """End the holds that have run out: what was held is pending, or dropped for what it lacks."""
    lacking = msgspec.json.decode(_in_one(work, "lacking", now_ms), type=list[tuple[int, str, int]])
    _drop_lacking(lacking, now_ms, work)
    over = _in_one(work, "over", now_ms)
    if over != "[]":
        work.db.execute(SQL["release"], (over,))
        work.db.execute(SQL["release_log"], (over,))


def _drop_lacking(jobs: Sequence[tuple[int, str, int]], now_ms: int, work: Work) -> None:
    """`jobs`: id, pixel and acceptance of each."""
    if not jobs:
        return
    refs = msgspec.json.encode([ref for ref, _, _ in jobs]).decode()
    # An older one's key may have run out, and be a later event's.
    work.forget(refs, now_ms - DEDUP_MS)
    work.db.execute(SQL["drop"], (refs,))
    work.db.execute(SQL["drop_log"], (Outcome.INVALID.value, now_ms, refs))
    for _, pixel, at_ms in jobs:
        work.count(pixel, at_ms, Outcome.INVALID.value)


def claim(
    pixel: str,
    now_ms: int,
    lease_ms: int,
    limit: int,
    max_bytes: int,
    newest: bool,
    work: Work,
) -> list[Delivery]:
    _release(now_ms, work)
    if newest:
        due = _in_one(work, "claim_newest", pixel, now_ms, NEWEST, limit)
    else:
        due = _in_one(work, "claim_due", pixel, now_ms, limit)
    refs: list[int] = []
    size = 0
    for ref, length in msgspec.json.decode(due, type=list[tuple[int, int]]):
        size += length + 1  # and the comma that joins it to the next
        if refs and size > max_bytes:
            break
        refs.append(ref)
    if not refs:
        return []
    chosen = msgspec.json.encode(refs).decode()
    work.db.execute(SQL["claim_lease"], (lease_ms, chosen))
    leased = msgspec.json.decode(_in_one(work, "claimed", chosen), type=list[_Leased])
    return [
        Delivery(
            ref=job.ref,
            pixel=pixel,
            body=bytes.fromhex(job.body),
            attempt=job.tries,
            accepted_ms=job.at_ms,
            deadline_ms=job.deadline_ms,
            lease_ms=lease_ms,
            doubt_ms=job.doubt_ms,
        )
        for job in leased
    ]


class _Leased(msgspec.Struct, frozen=True, array_like=True):
    ref: int
    tries: int
    at_ms: int
    deadline_ms: int
    doubt_ms: int
    body: str
    """in hexadecimal: a store does not know what its bytes are"""


def _in_one(work: Work, query: str, *values: str | int) -> str:
    """The one value that a query answers with, a JSON list. Each row would be a step of its own (see `Work`)."""
    (answer,) = work.db.execute(SQL[query], values).fetchone()
    return str(answer)


def settle(settlements: Sequence[Settlement], now_ms: int, work: Work) -> int:
    delivered = {s.delivery.ref: s for s in settlements if s.outcome is Outcome.DELIVERED}
    others = [s for s in settlements if s.outcome is not Outcome.DELIVERED]
    return _settle_delivered(delivered, now_ms, work) + sum(
        _settle(s, now_ms, work) for s in others
    )


def _settle_delivered(delivered: Mapping[int, Settlement], now_ms: int, work: Work) -> int:
    """The usual end, of a thousand at once: whoever holds the lease by now, Meta has it."""
    if not delivered:
        return 0
    refs = msgspec.json.encode(list(delivered)).decode()
    found = msgspec.json.decode(_in_one(work, "settle_found", refs), type=list[int])
    ours = [delivered[ref] for ref in found]
    work.db.execute(SQL["settle_delivered"], (refs,))
    for s in ours:
        d = s.delivery
        work.count(d.pixel, d.accepted_ms, Outcome.DELIVERED)
    lines = [(s.delivery.ref, s.delivery.attempt, s.reason) for s in ours]
    fate = (Outcome.DELIVERED.value, now_ms, msgspec.json.encode(lines).decode())
    work.db.execute(SQL["settle_log_many"], fate)
    return len(ours)


def _settle(s: Settlement, now_ms: int, work: Work) -> bool:
    db, d = work.db, s.delivery
    lease = (d.ref, d.lease_ms, d.attempt)
    if s.outcome in WAITING:
        tries = d.attempt if s.count else d.attempt - 1
        again = (s.due_ms, tries, now_ms if s.ambiguous else 0, *lease)
        if ours := db.execute(SQL["settle_retry"], again).rowcount == 1:
            db.execute(SQL["settle_log"], (Outcome.PENDING.value, 0, tries, s.reason, d.ref))
        return ours
    if s.outcome is Outcome.DEAD:
        db.execute(SQL["settle_dead"], (now_ms, s.reason, *lease))
    if ours := db.execute(SQL["settle_leased"], lease).rowcount == 1:
        work.count(d.pixel, d.accepted_ms, s.outcome.value)
        fate = (s.outcome.value, now_ms, d.attempt, s.reason, d.ref)
        db.execute(SQL["settle_log"], fate)
    return ours


def recall(pixel: str, after_ms: int, due_ms: int, work: Work) -> int:
    return work.db.execute(SQL["recall"], (due_ms, pixel, after_ms)).rowcount


class Sweeper:
    """Forgets, a stretch of each table a call; where it is lives in memory, as starting over costs nothing."""

    def __init__(self) -> None:
        self._key = b""
        self._line = 0
        self._folded = 0

    def sweep(self, now_ms: int, work: Work) -> None:
        db = work.db
        _release(now_ms, work)
        end = db.execute(SQL["sweep_seen_end"], (self._key,)).fetchone() or (LAST_KEY,)
        db.execute(SQL["sweep_seen"], (self._key, *end, now_ms))
        self._key = end[0] if end[0] < LAST_KEY else b""
        self._sweep_log(db, now_ms - LOG_MS)
        db.execute(SQL["sweep_dead"], (now_ms - DEAD_MS, DEAD_LETTERS))
        hour = (now_ms - TALLY_MS) // HOUR_MS
        if hour != self._folded:  # it reads the whole table, so once an hour
            db.execute(SQL["sweep_tally_fold"], (hour,))
            db.execute(SQL["sweep_tally_drop"], (hour,))
            self._folded = hour

    def _sweep_log(self, db: sqlite3.Connection, before_ms: int) -> None:
        surplus = db.execute(SQL["sweep_log_newest"]).fetchone()[0] - LOG_LINES
        end, at_ms = db.execute(SQL["sweep_log_end"], (self._line,)).fetchone() or (
            LAST_ID,
            LAST_ID,
        )
        db.execute(SQL["sweep_log"], (self._line, end, before_ms, surplus))
        # What follows a line that is to stay is newer and stays too, so begin again.
        self._line = end if end <= surplus or at_ms < before_ms else 0


def revive(refs: Sequence[int], now_ms: int, work: Work) -> int:
    db = work.db
    revived = 0
    for ref in refs:
        row = db.execute(SQL["revive_dead"], (ref,)).fetchone()
        if row is None:
            continue
        pixel, at_ms, encoded = row
        note = msgspec.json.decode(encoded, type=Note)
        names = (note.event_name, note.event_id, note.source)
        db.execute(SQL["revive_job"], (now_ms, ref))
        db.execute(SQL["revive_log"], (ref, at_ms, pixel, *names, encoded))
        db.execute(SQL["remove_dead"], (ref,))
        work.count(pixel, at_ms, Outcome.DEAD.value, -1)
        revived += 1
    return revived


def discard(refs: Sequence[int], work: Work) -> int:
    return sum(work.db.execute(SQL["remove_dead"], (ref,)).rowcount for ref in refs)


def probe(work: Work) -> None:
    work.db.execute(SQL["probe"])


def ledger(db: sqlite3.Connection) -> list[LedgerLine]:
    tallies: dict[str, dict[str, int]] = {}
    for pixel, outcome, n in db.execute(SQL["ledger"]):
        tallies.setdefault(pixel, {})[outcome] = n
    return [
        LedgerLine.of(pixel, tally, tally.get(Outcome.PENDING, 0))
        for pixel, tally in sorted(tallies.items())
    ]


def account(pixel: str, hours: range, db: sqlite3.Connection) -> LedgerLine:
    found = db.execute(SQL["account"], (pixel, hours.start, hours.stop)).fetchall()
    return LedgerLine.of_hours(pixel, dict(found))


def oldest_ms(db: sqlite3.Connection) -> int | None:
    row: tuple[int] | None = db.execute(SQL["oldest"]).fetchone()
    return row[0] if row else None


def events(
    limit: int, outcome: Outcome | None, event_id: str | None, db: sqlite3.Connection
) -> list[LoggedEvent]:
    fate = None if outcome is None else outcome.value
    if event_id is None:
        rows = db.execute(SQL["events"], (fate, limit)).fetchall()
    else:
        rows = db.execute(SQL["events_by_id"], (fate, limit, event_id)).fetchall()
    return [
        LoggedEvent(
            ref=ref,
            at_ms=at_ms,
            pixel=pixel,
            outcome=Outcome(known),
            settled_ms=settled_ms,
            attempts=tries,
            reason=reason,
            note=msgspec.json.decode(note, type=Note),
        )
        for ref, at_ms, pixel, known, settled_ms, tries, reason, note in reversed(rows)
    ]


def dead(refs: Sequence[int] | None, db: sqlite3.Connection) -> list[DeadLetter]:
    if refs is None:
        rows = db.execute(SQL["dead"])
    else:
        rows = db.execute(SQL["dead_by_ref"], (msgspec.json.encode(refs).decode(),))
    return [
        DeadLetter(
            ref=ref,
            pixel=pixel,
            accepted_ms=at_ms,
            died_ms=died_ms,
            attempts=tries,
            reason=reason,
            body=body,
            note=msgspec.json.decode(note, type=Note),
        )
        for ref, pixel, at_ms, died_ms, tries, reason, body, note in rows
    ]
