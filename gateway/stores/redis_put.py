"""How a pixel's events reach Redis: whatever waits goes in one script, and held copies are merged by compare and set."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import msgspec

from gateway.outcome import Outcome
from gateway.stores import (
    DEDUP_MS,
    HOUR_MS,
    PUT_S,
    Drop,
    Entry,
    Half,
    Joined,
    Merge,
    Note,
    joined_due_ms,
)

JOB = struct.Struct(">dddH16s")
"""acceptance, deadline, doubt, tries and key, as lua/common.lua packs them; the side follows"""
GROUP_ITEMS = 500
GROUP_BYTES = 4 * 1024 * 1024
"""what one script takes at most: a server does nothing else meanwhile"""

_AGAIN = b"again"
"""what the scripts answer for a copy that is to be put once more"""

Argument = str | bytes
Run = Callable[[Sequence[Argument]], Awaitable[object]]


@dataclass(slots=True)
class Part:
    """What one call of `put` has for one pixel."""

    now_ms: int
    merge: Merge | None
    entries: list[Entry] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)

    def weight(self) -> tuple[int, int]:
        """How many items and bytes, about."""
        return len(self.entries) + len(self.drops), sum(len(e.body) for e in self.entries)


@dataclass(frozen=True, slots=True)
class _Copy:
    """An entry on its way, and what belongs to its call."""

    entry: Entry
    now_ms: int
    merge: Merge | None

    def arguments(self) -> tuple[Argument, ...]:
        """What put.lua takes."""
        e = self.entry
        return (
            str(self.now_ms),
            e.key,
            # Were the key gone before the job, a late copy would double the event.
            str(max(self.now_ms + DEDUP_MS, e.deadline_ms + HOUR_MS)),
            str(e.due_ms),
            str(e.deadline_ms),
            e.side,
            e.lacks,
            "1" if e.suppress else "",
            msgspec.json.encode(e.note),
            e.body,
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """What put.lua answers of a held copy; after a merge, what it will be."""

    id: bytes
    side: str
    due_ms: int
    deadline_ms: int
    body: bytes
    note: Note
    lacks: str

    @classmethod
    def of(cls, answer: Sequence[bytes]) -> "_Held":
        member, job, due, body, note, lacks = answer
        _, deadline, *_ = JOB.unpack_from(job)
        return cls(
            id=member,
            side=job[JOB.size :].decode(),
            due_ms=int(due),
            deadline_ms=int(deadline),
            body=body,
            note=msgspec.json.decode(note, type=Note),
            lacks=lacks.decode(),
        )

    def joined(self, copy: _Copy) -> Joined | None:
        e = copy.entry
        if not self.side or copy.merge is None:
            return None
        mine = Half(side=self.side, body=self.body, note=self.note)
        return copy.merge(mine, Half(side=e.side, body=e.body, note=e.note))


_Answer = asyncio.Future[list[Outcome]]
_Group = dict[_Answer, Part]


class Lane:
    """One pixel's way into the store: one script at a time, with everything that has come meanwhile."""

    def __init__(self, prepare: Callable[[], Awaitable[object]], put: Run, merge: Run) -> None:
        self._prepare = prepare
        self._put = put
        self._merge = merge
        self._waiting: _Group = {}
        self._flushing: asyncio.Task[None] | None = None
        self._begun_s = 0.0
        """when the group under way was sent, by the loop's clock"""

    def hand_in(self, part: Part) -> _Answer:
        """The part is on its way; its answer comes when it is durable. Cancelling gives up the answer only."""
        loop = asyncio.get_running_loop()
        future: _Answer = loop.create_future()
        self._waiting[future] = part
        if self._flushing is None:
            self._begun_s = loop.time()
            self._flushing = asyncio.create_task(self._flush())
        return future

    def withdraw(self, future: _Answer) -> None:
        """Do not send what the future is for; what is on its way may be stored all the same."""
        self._waiting.pop(future, None)

    def hangs(self) -> bool:
        """Whether the group under way has been for so long that nobody should wait behind it."""
        waits_s = asyncio.get_running_loop().time() - self._begun_s
        return self._flushing is not None and waits_s > PUT_S

    async def finish(self) -> None:
        """Until everything that was handed in is answered."""
        if self._flushing is not None:
            await self._flushing

    async def _flush(self) -> None:
        while self._waiting:
            group = self._take()
            self._begun_s = asyncio.get_running_loop().time()
            try:
                await self._prepare()
                answers = await self._send(list(group.values()))
            except Exception as error:
                # Whoever came meanwhile would wait for the same silence.
                for future in (*group, *self._waiting):
                    if not future.done():
                        future.set_exception(error)
                self._waiting.clear()
            else:
                for future, answer in zip(group, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        self._flushing = None

    def _take(self) -> _Group:
        """The next group. A call is never torn apart: it is stored whole or not at all."""
        items = size = 0
        group: _Group = {}
        for future, part in self._waiting.items():
            more, larger = part.weight()
            if group and (items + more > GROUP_ITEMS or size + larger > GROUP_BYTES):
                break
            items, size = items + more, size + larger
            group[future] = part
        for future in group:
            del self._waiting[future]
        return group

    async def _send(self, parts: Sequence[Part]) -> list[list[Outcome]]:
        copies = [_Copy(e, part.now_ms, part.merge) for part in parts for e in part.entries]
        arguments = [a for part in parts for drop in part.drops for a in _drop(drop, part.now_ms)]
        outcomes: dict[int, Outcome] = {}
        left = list(range(len(copies)))
        while True:
            entries = (argument for n in left for argument in copies[n].arguments())
            answer = await self._put([str(len(left)), *entries, *arguments])
            held, again = [], []
            for n, one in zip(left, cast(list[bytes | list[bytes]], answer), strict=True):
                if not isinstance(one, bytes):
                    held.append((n, _Held.of(one)))
                elif one == _AGAIN:
                    again.append(n)
                else:
                    outcomes[n] = Outcome(one.decode())
            changed = await self._join(held, copies, outcomes) if held else []
            left = sorted([*changed, *again])
            if not left:
                break
            arguments = []
        answers = iter(outcomes[n] for n in range(len(copies)))
        return [[next(answers) for _ in part.entries] for part in parts]

    async def _join(
        self,
        held: Iterable[tuple[int, _Held]],
        copies: Sequence[_Copy],
        outcomes: dict[int, Outcome],
    ) -> list[int]:
        """Merge copies into what is held of their events; answers those whose event has changed meanwhile."""
        latest: dict[bytes, _Held] = {}
        numbers: list[int] = []
        arguments: list[Argument] = []
        for n, read in held:
            before = latest.get(read.id, read)
            copy = copies[n]
            joined = before.joined(copy)
            after = before if joined is None else _after(before, copy, joined)
            latest[read.id] = after
            numbers.append(n)
            arguments += [
                str(copy.now_ms),
                before.id,
                copy.entry.key,
                before.body,
                after.body,
                after.side,
                str(after.due_ms),
                str(after.deadline_ms),
                after.lacks,
                msgspec.json.encode(after.note),
                msgspec.json.encode(copy.entry.note),
                Outcome.MERGED if joined else Outcome.DUPLICATE,
            ]
        answer = cast(list[bytes], await self._merge(arguments))
        told = dict(zip(numbers, answer, strict=True))
        outcomes |= {n: Outcome(one.decode()) for n, one in told.items() if one != _AGAIN}
        return [n for n, one in told.items() if one == _AGAIN]


def _after(before: _Held, copy: _Copy, joined: Joined) -> _Held:
    due_ms = joined_due_ms(joined, before.due_ms, copy.entry, copy.now_ms)
    return replace(
        before,
        side=before.side if due_ms > copy.now_ms else "",
        due_ms=due_ms,
        deadline_ms=min(before.deadline_ms, copy.entry.deadline_ms),
        body=joined.body,
        note=joined.note,
        lacks=joined.lacks,
    )


def _drop(drop: Drop, now_ms: int) -> tuple[Argument, ...]:
    note = msgspec.json.encode(drop.note) if drop.note else b""
    return str(now_ms), drop.outcome, drop.reason, note
