"""The store for any number of processes: a Redis server or cluster, one script a step.

What is put for a pixel while one group is under way becomes the next group, so one script and one fsync serve all who
wait. Every key of a pixel lies in one hash slot, so each step is atomic; what belongs to several pixels is one step
for each. The scripts are in `lua/`, the keys in `lua/common.lua`. Limits: everything lies in memory (1.8 kB an event
that waits, 130 bytes a remembered key, 40 MB of log a pixel), and a fail-over to a replica loses what was not
replicated yet.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

from gateway.errors import StoreBusy, StoreError
from gateway.outcome import Outcome
from gateway.stores import (
    DEAD_LETTERS,
    DEAD_MS,
    HOUR_MS,
    LOG_LINES,
    LOG_MS,
    NEWEST,
    PUT_S,
    TALLY_MS,
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
from gateway.stores import redis_rows as rows
from gateway.stores.redis_client import NEEDED, Client, Clock, Script, shown
from gateway.stores.redis_put import Argument, Lane, Part

T = TypeVar("T")

logger = logging.getLogger(__name__)

_HANGS = f"redis does not answer within {PUT_S:g} s"
_CHUNK = 1000
"""log lines and dead letters asked for at once"""


@dataclass(frozen=True, slots=True)
class _Scripts:
    put: Script
    merge: Script
    claim: Script
    settle: Script
    recall: Script
    revive: Script
    discard: Script
    sweep: Script
    ledger: Script
    oldest: Script
    register: Script
    turn: Script
    clock: Script

    @classmethod
    def read(cls) -> "_Scripts":
        return cls(*(Script(name) for name in cls.__slots__))


class RedisStore:
    """Outbox and Records on a server that others may use too."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = _Scripts.read()
        self._clock = Clock()
        self._numbers: dict[str, int] = {}
        self._lanes: dict[str, Lane] = {}
        self._cursors: dict[str, bytes] = defaultdict(lambda: b"0")
        self._folded = 0
        self._put = 0
        """since the last sweep"""
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, wait_s: float = 30.0) -> "RedisStore":
        """Connect, waiting for a server that is just starting.

        Raises StoreError when none answers, StoreUnwritable when it would not keep what it answers for.
        """
        client = Client(url)
        store = cls(client)
        try:
            await client.wait_for_answer(wait_s)
            if not await client.check():
                logger.warning(
                    "redis does not show its settings: an answered event is safe only with %s",
                    shown(NEEDED),
                )
            await store._set_clock()
        except BaseException:
            await client.close()
            raise
        return store

    def clock_ms(self) -> int:
        """The server's time, which every process on it shares."""
        return self._clock.now_ms()

    # --- the outbox --------------------------------------------------------------------------

    async def put(
        self,
        entries: Sequence[Entry],
        drops: Sequence[Drop],
        now_ms: int,
        merge: Merge | None = None,
    ) -> list[Outcome]:
        if self._closed:
            raise StoreError("the store is closed")
        parts: dict[str, Part] = defaultdict(lambda: Part(now_ms, merge))
        self._put += len(entries) + len(drops)
        for entry in entries:
            parts[entry.pixel].entries.append(entry)
        for drop in drops:
            parts[drop.pixel].drops.append(drop)
        if any(self._lane(pixel).hangs() for pixel in parts):
            raise StoreBusy(_HANGS)
        handed = {pixel: self._lane(pixel).hand_in(part) for pixel, part in parts.items()}
        try:
            async with asyncio.timeout(PUT_S):
                stored = await asyncio.gather(*handed.values(), return_exceptions=True)
        except TimeoutError:
            for pixel, future in handed.items():
                self._lane(pixel).withdraw(future)
            raise StoreBusy(_HANGS) from None
        answers = {}
        for pixel, answer in zip(handed, stored, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            answers[pixel] = iter(answer)
        return [next(answers[entry.pixel]) for entry in entries]

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
        number = await self._number(pixel)
        looked_at = NEWEST if newest else ""
        args = [str(value) for value in (now_ms, lease_ms, limit, max_bytes, looked_at)]
        answer = await self._run(self._scripts.claim, pixel, args)
        flat = iter(cast(list[bytes], answer))
        return [
            rows.delivery(pixel, rows.ref_of(int(member), number), job, body, lease_ms)
            for member, job, body in zip(flat, flat, flat, strict=True)
        ]

    async def settle(self, settlements: Sequence[Settlement], now_ms: int) -> int:
        by_pixel: dict[str, list[str]] = defaultdict(lambda: [str(now_ms)])
        for s in settlements:
            by_pixel[s.delivery.pixel] += rows.settlement(s)
        answers = [
            await self._run(self._scripts.settle, pixel, args) for pixel, args in by_pixel.items()
        ]
        return sum(cast(list[int], answers))

    async def sweep(self, now_ms: int) -> None:
        await self._set_clock()
        for pixel, number in list(self._numbers.items()):
            await self._register(pixel, number)
        put, self._put = self._put, 0
        fold = (now_ms - TALLY_MS) // HOUR_MS
        folds = str(fold) if fold != self._folded else ""  # it reads every counter, so once an hour
        bounds = (now_ms - LOG_MS, LOG_LINES, now_ms - DEAD_MS, DEAD_LETTERS)
        for pixel in await self._pixels():
            for step in range(steps(put)):
                cursor = self._cursors[pixel]
                args: list[Argument] = [
                    str(now_ms),
                    *map(str, bounds),
                    "" if step else folds,
                    cursor,
                ]
                answer = await self._run(self._scripts.sweep, pixel, args)
                self._cursors[pixel] = cast(bytes, answer)
        self._folded = fold

    async def probe(self) -> None:
        await self._client.command("SET", f"{rows.PREFIX}:probe", 1)
        await self._client.check()  # another server may stand in its place by now

    async def check(self) -> None:
        """Raise StoreUnwritable for a server that would lose what it has answered for."""
        await self._client.check()

    async def recall(self, pixel: str, *, after_ms: int, due_ms: int) -> int:
        answer = await self._run(self._scripts.recall, pixel, [str(after_ms), str(due_ms)])
        return cast(int, answer)

    async def turn(self, pixel: str, gap_ms: float) -> float:
        key = rows.key_of(pixel, "turn")
        answer = await self._client.run(self._scripts.turn, [key], [str(round(gap_ms * 1000))])
        return cast(int, answer) / 1000

    async def close(self) -> None:
        self._closed = True
        for lane in self._lanes.values():
            await lane.finish()
        await self._client.close()

    # --- records -----------------------------------------------------------------------------

    async def ledger(self) -> list[LedgerLine]:
        lines = []
        for pixel in sorted(await self._pixels()):
            answer = await self._run(self._scripts.ledger, pixel, [])
            fields, pending = cast(tuple[list[bytes], int], answer)
            tally: dict[str, int] = defaultdict(int)
            for name, n in zip(fields[::2], fields[1::2], strict=True):
                tally[name.decode().partition(":")[2]] += int(n)
            if tally:
                lines.append(LedgerLine.of(pixel, tally, pending))
        return lines

    async def account(self, pixel: str, hours: range) -> LedgerLine:
        counters = [(hour, name) for hour in hours for name in rows.COUNTERS]
        fields = [f"{hour}:{name}" for hour, name in counters]
        answer = await self._client.command("HMGET", rows.key_of(pixel, "tally"), *fields)
        tally: dict[str, int] = defaultdict(int)
        for (_, name), n in zip(counters, cast(list[bytes | None], answer), strict=True):
            tally[name] += int(n or 0)
        return LedgerLine.of_hours(pixel, tally)

    async def oldest_ms(self) -> int | None:
        found = [
            rows.accepted_ms(job)
            for pixel in await self._pixels()
            async for job in self._oldest_jobs(pixel)
        ]
        return min(found, default=None)

    async def events(
        self, *, limit: int, outcome: Outcome | None = None, event_id: str | None = None
    ) -> list[LoggedEvent]:
        found: list[LoggedEvent] = []
        for pixel, number in (await self._pixels()).items():
            mine = 0
            async for line in self._lines(pixel, number):
                fits = event_id in (None, line.note.event_id) and outcome in (None, line.outcome)
                if fits and mine < limit:
                    found.append(line)
                    mine += 1
                if mine >= limit:
                    break
        found.sort(key=lambda line: (line.at_ms, line.ref))
        return found[-limit:]

    async def dead(self, refs: Sequence[int] | None = None) -> list[DeadLetter]:
        letters = []
        for pixel, number in (await self._pixels()).items():
            key = rows.key_of(pixel, "died")
            if refs is None:
                members = cast(list[bytes], await self._client.command("ZRANGE", key, 0, -1))
            else:
                members = [member.encode() for member in rows.members_of(refs, number)]
            for start in range(0, len(members), _CHUNK):
                letters += await self._letters(pixel, number, members[start : start + _CHUNK])
        return sorted(letters, key=lambda letter: (-letter.died_ms, -letter.ref))

    async def revive(self, refs: Sequence[int], now_ms: int) -> int:
        return await self._change(self._scripts.revive, refs, [str(now_ms)])

    async def discard(self, refs: Sequence[int]) -> int:
        return await self._change(self._scripts.discard, refs, [])

    async def _change(self, script: Script, refs: Sequence[int], before: list[str]) -> int:
        changed = 0
        for pixel, number in (await self._pixels()).items():
            if members := rows.members_of(refs, number):
                answer = await self._run(script, pixel, [*before, *members])
                changed += cast(int, answer)
        return changed

    async def _oldest_jobs(self, pixel: str) -> AsyncIterator[bytes]:
        """The oldest job of each stretch of what waits."""
        cursor = b"0"
        while True:
            answer = await self._run(self._scripts.oldest, pixel, [cursor])
            cursor, *jobs = cast(list[bytes], answer)
            for job in jobs:
                yield job
            if cursor == b"0":
                return

    async def _lines(self, pixel: str, number: int) -> AsyncIterator[LoggedEvent]:
        """The pixel's log, newest first."""
        key = rows.key_of(pixel, "log")
        last = int(
            cast(bytes | None, await self._client.command("GET", rows.key_of(pixel, "seq"))) or 0
        )
        left = cast(int, await self._client.command("HLEN", key))
        while last > 0 and left > 0:
            numbers = range(last, max(0, last - _CHUNK), -1)
            answer = await self._client.command("HMGET", key, *map(rows.member_of, numbers))
            for one, packed in zip(numbers, cast(list[bytes | None], answer), strict=True):
                if packed is not None:
                    left -= 1
                    yield rows.logged(pixel, rows.ref_of(one, number), packed)
            last -= _CHUNK

    async def _letters(self, pixel: str, number: int, members: Sequence[bytes]) -> list[DeadLetter]:
        """The dead letters among events; one that is revived or discarded meanwhile is none."""
        found = []
        for name in ("dead", "job", "body"):
            answer = await self._client.command("HMGET", rows.key_of(pixel, name), *members)
            found.append(cast(list[bytes | None], answer))
        return [
            rows.letter(pixel, rows.ref_of(int(member), number), letter, job, body)
            for member, letter, job, body in zip(members, *found, strict=True)
            if letter and job and body
        ]

    # --- pixels ------------------------------------------------------------------------------

    def _lane(self, pixel: str) -> Lane:
        lane = self._lanes.get(pixel)
        if lane is None:
            scripts = self._scripts
            lane = self._lanes[pixel] = Lane(
                partial(self._number, pixel),
                partial(self._run, scripts.put, pixel),
                partial(self._run, scripts.merge, pixel),
            )
        return lane

    async def _number(self, pixel: str) -> int:
        """The pixel's number, which makes its refs different from the others'."""
        number = self._numbers.get(pixel)
        return await self._register(pixel, None) if number is None else number

    async def _register(self, pixel: str, number: int | None) -> int:
        """`number`: the one it has; another only if the server was emptied and somebody else took it since."""
        wanted = "" if number is None else str(number)
        answer = await self._client.run(self._scripts.register, [rows.PIXELS], [pixel, wanted])
        known, had = cast(list[int], answer)
        if number is not None and not had:
            logger.error(
                "redis was emptied: what waited there is lost", extra={"pixel": pixel[-4:]}
            )
        number = self._numbers[pixel] = known
        if number >= rows.PIXELS_MAX:
            raise StoreError(f"redis: a store keeps {rows.PIXELS_MAX} pixels at most")
        return number

    async def _pixels(self) -> Mapping[str, int]:
        """Every pixel that has ever had an event, with its number."""
        answer = await self._client.command("HGETALL", rows.PIXELS)
        pairs = cast(dict[bytes, bytes], answer)
        return {pixel.decode(): int(number) for pixel, number in pairs.items()}

    async def _run(self, script: Script, pixel: str, args: Sequence[Argument]) -> object:
        return await self._client.run(
            script, [rows.key_of(pixel, name) for name in rows.NAMES], args
        )

    async def _set_clock(self) -> None:
        await self._clock.set(self._client, self._scripts.clock, rows.PIXELS)


class RedisReader:
    """Looks at a store from a command: one connection a question. Raises StoreError when none answers."""

    def __init__(self, url: str) -> None:
        self._url = url

    def check(self) -> None:
        """Raise StoreUnwritable for a server that would lose what it has answered for."""
        asyncio.run(self.ask(lambda store: store.check()))

    def ledger(self) -> list[LedgerLine]:
        return asyncio.run(self.ask(lambda store: store.ledger()))

    def events(
        self, *, limit: int, outcome: Outcome | None = None, event_id: str | None = None
    ) -> list[LoggedEvent]:
        return asyncio.run(
            self.ask(lambda store: store.events(limit=limit, outcome=outcome, event_id=event_id))
        )

    def dead(self, refs: Sequence[int] | None = None) -> list[DeadLetter]:
        return asyncio.run(self.ask(lambda store: store.dead(refs)))

    async def ask(self, question: Callable[[RedisStore], Coroutine[None, None, T]]) -> T:
        """The answer, or what came of a change."""
        store = RedisStore(Client(self._url))
        try:
            return await question(store)
        finally:
            await store.close()
