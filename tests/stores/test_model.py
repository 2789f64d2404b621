"""Any history of a store agrees with a model of dictionaries, through crashes and clocks that jump.

`make test` tries a few histories, `make model` a thousand of each store, a real cluster of Redis included; MODEL_RUNS
sets their number. Of those in which servers are killed there are fewer, as each kill takes its time.
"""

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from gateway.outcome import Outcome
from gateway.stores import (
    DEAD_MS,
    DEDUP_MS,
    HOUR_MS,
    Delivery,
    Drop,
    Entry,
    LedgerLine,
    Settlement,
)
from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore

from . import DAY_MS, LEASE_MS, NOW, Store, claim, entry, join, lacking
from .redis_server import RedisServer, cluster, running, wait_for_cluster

T = TypeVar("T")

RUNS = int(os.environ.get("MODEL_RUNS", "40"))
CLUSTER_RUNS = int(os.environ.get("MODEL_RUNS", "10"))
"""each takes twice as long there"""


class Place(Protocol):
    """Where one store lies."""

    async def open(self) -> list[Store]:
        """Two ways to the same store, which may be one."""
        ...

    async def crash(self, stores: Sequence[Store]) -> list[Store]:
        """The same store after everything that served it was killed, whatever was under way."""
        ...


class SqlitePlace:
    """A folder; a crash leaves what had been written to its files at that moment. Each life reserves space, so one is kept."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._lives = 0

    @property
    def _path(self) -> Path:
        return self._folder / str(self._lives) / "gateway.db"

    async def open(self) -> list[Store]:
        store = await SqliteStore.open(self._path, wait_s=0)
        return [store, store]

    async def crash(self, stores: Sequence[Store]) -> list[Store]:
        left = self._path
        self._lives += 1
        self._path.parent.mkdir(parents=True)
        # Nothing checkpoints within so short a life, so the file does not change while the WAL is copied.
        shutil.copy(left, self._path)
        shutil.copy(f"{left}-wal", f"{self._path}-wal")
        await stores[0].close()
        shutil.rmtree(left.parent)
        return await self.open()


class RedisPlace:
    """A database of a server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._url = server.new_database()

    async def open(self) -> list[Store]:
        return [await RedisStore.open(self._url, wait_s=0) for _ in range(2)]

    async def crash(self, stores: Sequence[Store]) -> list[Store]:
        await asyncio.to_thread(self._server.restart)
        return list(stores)  # they find it again by themselves


class ClusterPlace:
    """All there is on three servers, which share the pixels."""

    def __init__(self, nodes: Sequence[RedisServer]) -> None:
        self._nodes = nodes
        for node in nodes:
            with Redis.from_url(node.url) as client:
                client.flushall()

    async def open(self) -> list[Store]:
        url = self._nodes[0].url.replace("redis://", "redis+cluster://")
        return [await RedisStore.open(url, wait_s=0) for _ in range(2)]

    async def crash(self, stores: Sequence[Store]) -> list[Store]:
        for node in self._nodes:
            node.kill()
        for node in self._nodes:
            await asyncio.to_thread(node.start)
        await asyncio.to_thread(wait_for_cluster, self._nodes)
        return list(stores)


# --- the model -------------------------------------------------------------------------------


@dataclass
class Event:
    """One event that waits or is dead. Its body is a set of words, each of which came once."""

    key: bytes
    pixel: str
    order: int
    words: set[str]
    due_ms: int
    deadline_ms: int
    side: str
    at_ms: int
    tries: int = 0
    died_ms: int = 0

    @property
    def lacks(self) -> bool:
        """Whether it is held and cannot be sent as it is."""
        return bool(self.side) and all(word.startswith("-") for word in self.words)


@dataclass
class State:
    """All that a store knows."""

    now: int = NOW
    latest: int = NOW
    """the clock at its highest"""
    made: int = 0
    remembered: dict[bytes, int] = field(default_factory=dict)
    suppressed: set[bytes] = field(default_factory=set)
    waiting: list[Event] = field(default_factory=list)
    dead: list[Event] = field(default_factory=list)
    gone: dict[str, Outcome] = field(default_factory=dict)
    """what became of the event with a word"""
    tally: dict[str, Counter[str]] = field(default_factory=dict)

    def count(self, pixel: str, outcome: str, n: int = 1) -> None:
        self.tally.setdefault(pixel, Counter())[outcome] += n

    def ledger(self) -> list[LedgerLine]:
        pending = Counter(event.pixel for event in self.waiting)
        return [
            LedgerLine.of(pixel, tally, pending[pixel])
            for pixel, tally in sorted(self.tally.items())
        ]

    def letters(self) -> set[frozenset[str]]:
        return {frozenset(event.words) for event in self.dead}

    def unsure(self, key: bytes) -> bool:
        """Whether the clock went back over the moment at which the key, or its hold, was over."""
        held = any(
            e.side and self.now < e.due_ms <= self.latest for e in self.waiting if e.key == key
        )
        return held or self.now <= self.remembered.get(key, 0) < self.latest

    def held(self, key: bytes) -> Event | None:
        """The event of the key that is held now."""
        fits = (e for e in self.waiting if e.key == key and e.side and e.due_ms > self.now)
        return next(fits, None)

    def drop_lacking(self, event: Event) -> None:
        """The end of one that nobody completed in time."""
        self.waiting.remove(event)
        self.count(event.pixel, Outcome.INVALID)
        self.gone |= dict.fromkeys(event.words, Outcome.INVALID)
        if self.now <= event.at_ms + DEDUP_MS:
            self.remembered.pop(event.key, None)

    def over(self) -> list[Event]:
        """What nobody completed in time, and may be dropped already."""
        return [e for e in self.waiting if e.lacks and e.due_ms <= self.latest]

    def put(self, e: Entry) -> Outcome:
        self.count(e.pixel, "accepted")
        outcome = self._put(e)
        if outcome not in (Outcome.HELD, Outcome.PENDING):
            self.count(e.pixel, outcome)
        return outcome

    def _put(self, e: Entry) -> Outcome:
        if self.remembered.get(e.key, 0) >= self.now:
            over = [
                o
                for o in self.over()
                if o.key == e.key and o.due_ms <= self.now <= o.at_ms + DEDUP_MS
            ]
            if not over or e.key in self.suppressed:
                return self._put_copy(e)
            self.drop_lacking(over[-1])
        self.remembered[e.key] = max(self.now + DEDUP_MS, e.deadline_ms + HOUR_MS)
        self.suppressed.discard(e.key)
        if e.suppress:
            self.suppressed.add(e.key)
            return Outcome.SUPPRESSED
        held = bool(e.side) and e.due_ms > self.now
        self.made += 1
        self.waiting.append(
            Event(
                key=e.key,
                pixel=e.pixel,
                order=self.made,
                words=words_of(e.body),
                due_ms=e.due_ms,
                deadline_ms=e.deadline_ms,
                side=e.side if held else "",
                at_ms=self.now,
            )
        )
        return Outcome.HELD if held else Outcome.PENDING

    def _put_copy(self, e: Entry) -> Outcome:
        if e.key in self.suppressed:
            return Outcome.SUPPRESSED
        event = self.held(e.key)
        if event is None:
            return Outcome.DUPLICATE
        words = words_of(e.body)
        if e.suppress:
            self.suppressed.add(e.key)
            self.count(e.pixel, Outcome.SUPPRESSED)
            self.waiting.remove(event)
            return Outcome.SUPPRESSED
        if not e.side or (e.side == event.side and words <= event.words):
            return Outcome.DUPLICATE
        event.words |= words
        event.deadline_ms = min(event.deadline_ms, e.deadline_ms)
        if event.lacks:
            return Outcome.MERGED
        event.due_ms = self.now if e.side != event.side else min(event.due_ms, e.due_ms)
        if event.due_ms <= self.now:
            event.side = ""
        return Outcome.MERGED

    def due(self, pixel: str, *, newest: bool = False) -> list[Event]:
        due = [e for e in self.waiting if e.pixel == pixel and e.due_ms <= self.now and not e.lacks]
        if newest:
            due = [e for e in due if not e.tries]
        return sorted(due, key=lambda e: (e.due_ms, e.order), reverse=newest)

    def settle(self, s: Settlement) -> bool:
        """Whether it was still the caller's to settle."""
        d = s.delivery
        event = that_of(words_of(d.body), self.waiting)
        if event is None:
            return False
        leased = (event.due_ms, event.tries) == (d.lease_ms, d.attempt)
        if not leased and s.outcome is not Outcome.DELIVERED:
            return False
        if s.outcome is Outcome.PENDING:
            event.due_ms = s.due_ms
            event.tries = d.attempt if s.count else d.attempt - 1
            return True
        self.waiting.remove(event)
        self.count(d.pixel, s.outcome)
        if s.outcome is Outcome.DEAD:
            event.died_ms = self.now
            self.dead.append(event)
        else:
            self.gone |= dict.fromkeys(event.words, s.outcome)
        return True

    def revive(self, words: set[str]) -> None:
        event = that_of(words, self.dead)
        assert event is not None
        self.dead.remove(event)
        event.due_ms, event.tries = self.now, 0
        self.waiting.append(event)
        self.count(event.pixel, Outcome.DEAD, -1)


def words_of(body: bytes) -> set[str]:
    return set(body.decode().split())


def that_of(words: set[str], events: Sequence[Event]) -> Event | None:
    return next((event for event in events if event.words & words), None)


Given = tuple[str, int, str, int, int, bool, bool]

TWO = "13"
"""pixels, which lie on two servers of a cluster"""
PIXELS = st.sampled_from("1113")
SIDES = st.sampled_from(["", "page", "shop"])
NUMBERS = st.integers(0, 3)
FATES = st.sampled_from([Outcome.DELIVERED, Outcome.PENDING, Outcome.DEAD, Outcome.TOO_OLD])


class Histories(RuleBasedStateMachine):
    """Drives a store and the model side by side.

    No rule has a precondition: what a crash leaves differs from run to run, and what hypothesis draws must not.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = place
        self.stores = self.run(place.open())
        self.state = State()
        self.words = 0
        self.words_by_ref: dict[int, set[str]] = {}
        self.deliveries: list[Delivery] = []

    @property
    def store(self) -> Store:
        return self.stores[0]

    def run(self, awaited: Coroutine[None, None, T]) -> T:
        return self.runner.run(awaited)

    def teardown(self) -> None:
        try:
            self.nothing_was_lost()
        finally:
            self.run(self.close())
            self.runner.close()

    async def close(self) -> None:
        for store in self.stores:
            await store.close()

    def entry(
        self,
        pixel: str,
        number: int,
        side: str,
        hold_ms: int,
        life_ms: int,
        *,
        suppress: bool,
        lacks: bool = False,
    ) -> Entry:
        self.words += 1
        word = f"{'-' if lacks else 'w'}{self.words:05}"
        made = entry(
            word,
            pixel=pixel,
            due_ms=self.state.now + hold_ms,
            deadline_ms=self.state.now + life_ms,
            side=side,
            lacks=lacking(word.encode()),
            suppress=suppress,
        )
        return replace(made, key=f"{pixel}:{number}".encode().rjust(16))

    # --- the steps ---------------------------------------------------------------------------

    entries = st.tuples(
        PIXELS,
        NUMBERS,
        SIDES,
        st.sampled_from([0, 90_000]),
        st.sampled_from([0, HOUR_MS, 3 * DAY_MS]),
        st.sampled_from([False] * 9 + [True]),
        st.booleans(),
    )

    @rule(given=st.lists(entries, min_size=1, max_size=4))
    def put(self, given: list[Given]) -> None:
        made = [self.given(one) for one in given]
        made = [e for e in made if not self.state.unsure(e.key)]
        expected = self.expected_of(made)
        assert self.run(self.store.put(made, [], self.state.now, join)) == expected

    def given(self, one: Given) -> Entry:
        pixel, number, side, hold_ms, life_ms, suppress, lacks = one
        # Only what is held can lack something.
        lacks = lacks and bool(side) and hold_ms > 0 and not suppress
        return self.entry(pixel, number, side, hold_ms, life_ms, suppress=suppress, lacks=lacks)

    def expected_of(self, made: Sequence[Entry]) -> list[Outcome]:
        return [self.state.put(e) for e in made]

    @rule(
        pixel=PIXELS,
        number=NUMBERS,
        sides=st.lists(st.sampled_from(["page", "shop"]), min_size=2, max_size=5),
    )
    def race(self, pixel: str, number: int, sides: list[str]) -> None:
        """Copies of one event at the same time, by both ways: in some order, none of them lost."""
        made = [self.entry(pixel, number, side, 90_000, HOUR_MS, suppress=False) for side in sides]
        if self.state.unsure(made[0].key):
            return

        async def racing() -> list[list[Outcome]]:
            ways = self.stores * 3
            puts = [s.put([e], [], self.state.now, join) for s, e in zip(ways, made, strict=False)]
            return await asyncio.gather(*puts)

        answers = [answer for [answer] in self.run(racing())]
        told = list(zip(made, answers, strict=True))
        # They happened in some order that the answers allow: more of the first side before the other, which ends the
        # hold, and after that duplicates.
        first = next((e for e, answer in told if answer in (Outcome.HELD, Outcome.PENDING)), None)
        held = self.state.held(made[0].key)
        side = held.side if held else first.side if first else ""
        told.sort(
            key=lambda one: (
                one[0] is not first,
                one[1] is Outcome.DUPLICATE,
                one[0].side != side,
            )
        )
        assert [self.state.put(e) for e, _ in told] == [answer for _, answer in told]

    @rule(pixel=PIXELS, outcome=st.sampled_from([Outcome.BOT, Outcome.INVALID]))
    def drop(self, pixel: str, outcome: Outcome) -> None:
        self.run(self.store.put([], [Drop(pixel=pixel, outcome=outcome)], self.state.now))
        self.state.count(pixel, "accepted")
        self.state.count(pixel, outcome)

    @rule(
        pixel=PIXELS,
        limit=st.sampled_from([1, 2, 9, 9]),
        max_bytes=st.sampled_from([14, 999, 999]),
        newest=st.booleans(),
    )
    def claim(self, pixel: str, limit: int, max_bytes: int, newest: bool) -> None:
        due: list[Event] = []
        size = 0
        for event in self.state.due(pixel, newest=newest)[:limit]:
            size += 7 * len(event.words)  # a word, and a space or comma
            if due and size > max_bytes:
                break
            due.append(event)
        self.check_claimed(pixel, due, limit=limit, max_bytes=max_bytes, newest=newest)

    def check_claimed(
        self,
        pixel: str,
        due: Sequence[Event],
        *,
        limit: int = 1000,
        max_bytes: int = 10**6,
        newest: bool = False,
    ) -> None:
        claimed = self.run(
            claim(
                self.store,
                self.state.now,
                pixel=pixel,
                limit=limit,
                max_bytes=max_bytes,
                newest=newest,
            )
        )
        for event in due:
            event.tries += 1
            event.due_ms = self.state.now + LEASE_MS
            event.side = ""
        assert [(words_of(d.body), d.attempt, d.deadline_ms) for d in claimed] == [
            (event.words, event.tries, event.deadline_ms) for event in due
        ]
        for d in claimed:
            words = words_of(d.body)
            assert self.words_by_ref.setdefault(d.ref, words) == words, "a ref is never used twice"
        self.deliveries = (self.deliveries + claimed)[-8:]

    @rule(
        picks=st.lists(st.integers(0, 7), min_size=1, max_size=3),
        outcome=FATES,
        delay_ms=st.sampled_from([0, 0, 1000, LEASE_MS]),
        count=st.booleans(),
    )
    def settle(self, picks: list[int], outcome: Outcome, delay_ms: int, count: bool) -> None:
        if not self.deliveries:
            return
        made = [self.settlement(pick, outcome, delay_ms, count=count) for pick in picks]
        ours = sum(self.state.settle(settlement) for settlement in made)
        assert self.run(self.store.settle(made, self.state.now)) == ours

    def settlement(
        self, pick: int, outcome: Outcome, delay_ms: int = 0, *, count: bool = True
    ) -> Settlement:
        delivery = self.deliveries[pick % len(self.deliveries)]
        due_ms = self.state.now + delay_ms
        return Settlement(delivery=delivery, outcome=outcome, due_ms=due_ms, count=count)

    @rule(pick=st.lists(st.integers(0, 5), min_size=1, max_size=2), discard=st.booleans())
    def resolve(self, pick: list[int], discard: bool) -> None:
        letters = self.run(self.store.dead())
        chosen = {letters[n].ref: letters[n].body for n in pick if n < len(letters)}
        if discard:
            assert self.run(self.store.discard(list(chosen))) == len(chosen)
        else:
            assert self.run(self.store.revive(list(chosen), self.state.now)) == len(chosen)
        for body in chosen.values():
            if discard:
                event = that_of(words_of(body), self.state.dead)
                assert event is not None
                self.state.dead.remove(event)
            else:
                self.state.revive(words_of(body))

    @rule(
        ms=st.sampled_from(
            [
                *(1, LEASE_MS, 90_000, HOUR_MS, 49 * HOUR_MS, 8 * DAY_MS, 31 * DAY_MS),
                *(-1000, -LEASE_MS, -DAY_MS),
            ]
        )
    )
    def jump(self, ms: int) -> None:
        """The clock goes on, or back."""
        self.state.now += ms
        self.state.latest = max(self.state.latest, self.state.now)

    @rule(pixel=PIXELS)
    def recall(self, pixel: str) -> None:
        """After the clock was set back."""
        after, due = self.state.now + 90_000, self.state.now + LEASE_MS
        self.find_what_was_dropped()
        late = [e for e in self.state.waiting if e.pixel == pixel and e.due_ms > after]
        for event in late:
            event.due_ms = due
        assert self.run(self.store.recall(pixel, after_ms=after, due_ms=due)) == len(late)

    @rule()
    def sweep(self) -> None:
        self.run(self.store.sweep(self.state.now))
        letters = self.run(self.store.dead())
        left = [words_of(letter.body) for letter in letters]
        for event in [event for event in self.state.dead if event.words not in left]:
            assert event.died_ms < self.state.now - DEAD_MS
            self.state.dead.remove(event)

    @rule()
    def long_silence(self) -> None:
        """Everything is forgotten that can be."""
        self.jump(32 * DAY_MS)
        for _ in range(2):
            self.sweep()

    @rule()
    def reopen(self) -> None:
        self.run(self.close())
        self.stores = self.run(self.place.open())

    # --- and in the end ----------------------------------------------------------------------

    def find_what_was_dropped(self) -> None:
        """When what nobody completed is dropped is the store's affair, from its time on."""
        found = {line.pixel: line for line in self.run(self.store.ledger())}
        for event in self.state.over():
            known = self.state.tally[event.pixel][Outcome.INVALID]
            dropped = found[event.pixel].dropped.get(Outcome.INVALID, 0) - known
            if dropped == sum(e.pixel == event.pixel for e in self.state.over()):
                self.state.drop_lacking(event)
        if not self.state.over():
            return
        words = [
            set(line.note.event_id.split())
            for line in self.run(self.store.events(limit=1000, outcome=Outcome.INVALID))
        ]
        for event in self.state.over():
            if event.words in words:
                self.state.drop_lacking(event)

    @invariant()
    def the_account_is_the_models(self) -> None:
        self.find_what_was_dropped()
        lines = self.run(self.store.ledger())
        assert all(line.adds_up for line in lines)
        assert lines == self.state.ledger()
        letters = self.run(self.store.dead())
        dead = {frozenset(words_of(letter.body)) for letter in letters}
        assert dead == self.state.letters()

    @invariant()
    def the_log_says_what_became_of_each(self) -> None:
        for line in self.run(self.store.events(limit=1000)):
            words = self.words_by_ref.get(line.ref)
            if words is None:
                continue
            if that_of(words, self.state.waiting):
                assert line.outcome is Outcome.PENDING
            else:
                word = next(iter(words))
                assert line.outcome is self.state.gone.get(word, Outcome.DEAD)

    def nothing_was_lost(self) -> None:
        """Whatever still waits can be claimed, once, when everything is due."""
        self.state.now = max(self.state.now, *(e.due_ms for e in self.state.waiting), 0)
        for pixel in TWO:
            self.check_claimed(pixel, self.state.due(pixel))
            self.check_claimed(pixel, [])


class Crashes(Histories):
    """The same, and now and then everything is killed."""

    @rule(given=Histories.entries, turns=st.integers(0, 3))
    def crash_in_put(self, given: Given, turns: int) -> None:
        e = self.given(given)
        if not self.state.unsure(e.key):
            self.crash(
                lambda: self.store.put([e], [], self.state.now, join),
                lambda state: state.put(e),
                turns,
            )

    @rule(
        pick=st.integers(0, 7),
        outcome=st.sampled_from([Outcome.DELIVERED, Outcome.DEAD, Outcome.TOO_OLD]),
        turns=st.integers(0, 3),
    )
    def crash_in_settle(self, pick: int, outcome: Outcome, turns: int) -> None:
        if self.deliveries:
            s = self.settlement(pick, outcome)
            self.crash(
                lambda: self.store.settle([s], self.state.now),
                lambda state: state.settle(s),
                turns,
            )

    @rule(turns=st.integers(0, 3))
    def crash_in_revive(self, turns: int) -> None:
        letters = self.run(self.store.dead())
        if not letters:
            return
        letter = letters[0]
        self.crash(
            lambda: self.store.revive([letter.ref], self.state.now),
            lambda state: state.revive(words_of(letter.body)),
            turns,
        )

    def crash(
        self,
        ask: Callable[[], Coroutine[None, None, object]],
        apply: Callable[[State], object],
        turns: int,
    ) -> None:
        """Kill everything `turns` turns into a step: it has happened wholly, or not at all."""

        async def crashing() -> bool:
            asked = asyncio.create_task(ask())
            for _ in range(turns):
                await asyncio.sleep(0)
            answered = asked.done()
            self.stores = await self.place.crash(self.stores)
            await asyncio.gather(asked, return_exceptions=True)
            return answered

        before, after = deepcopy(self.state), self.state
        apply(after)
        answered = self.run(crashing())
        found = self.run(self.store.ledger())
        if found != after.ledger():
            assert not answered, "what was answered is kept"
            assert found == before.ledger(), "a step happens wholly, or not at all"
            self.state = before


def examine(machine: type[Histories], place: Callable[[], Place], runs: int) -> None:
    class Machine(machine):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            super().__init__(place())

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )


@pytest.mark.timeout(3600)
def test_any_history_of_the_embedded_store(tmp_path: Path) -> None:
    examine(Crashes, lambda: SqlitePlace(tmp_path / "store"), RUNS)


@pytest.mark.timeout(3600)
def test_any_history_on_redis(tmp_path: Path) -> None:
    with running(tmp_path / "redis") as server:
        examine(Histories, lambda: RedisPlace(server), RUNS)


@pytest.mark.timeout(3600)
def test_any_history_on_a_redis_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path / "redis") as server:
        examine(Crashes, lambda: RedisPlace(server), max(3, RUNS // 20))


@pytest.mark.timeout(3600)
def test_any_history_on_a_cluster(tmp_path: Path) -> None:
    with cluster(tmp_path / "redis") as nodes:
        examine(Histories, lambda: ClusterPlace(nodes), CLUSTER_RUNS)


@pytest.mark.skipif(
    "MODEL_RUNS" not in os.environ, reason="a cluster takes two seconds to come back: `make model`"
)
@pytest.mark.timeout(3600)
def test_any_history_on_a_cluster_that_is_killed(tmp_path: Path) -> None:
    with cluster(tmp_path / "redis") as nodes:
        examine(Crashes, lambda: ClusterPlace(nodes), max(3, RUNS // 50))
