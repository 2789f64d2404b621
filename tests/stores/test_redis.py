"""What is Redis' own: its promises checked, its deaths survived, many processes and a cluster."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Connection, Redis

from gateway.errors import StoreBusy, StoreError, StoreUnwritable
from gateway.outcome import Outcome
from gateway.stores import DEDUP_MS, HOUR_MS, TALLY_MS, Drop, Settlement
from gateway.stores.redis import RedisReader, RedisStore

from . import DAY_MS, NOW, Store, accounts, claim, claim_one, entry, join, kill, note, settle
from .redis_server import DURABLE, RedisServer, cluster, running

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    with running(tmp_path / "redis") as started:
        yield started


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = await RedisStore.open(url, wait_s=0)
    try:
        yield store
    finally:
        await store.close()


async def told(server: RedisServer, *command: str | int) -> object:
    """What the server answers, asked past the store."""
    async with Redis(port=server.port) as client:
        answer: object = await client.execute_command(*command)  # type: ignore[no-untyped-call]
        return answer


def text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode()


# the server's promises


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("appendfsync", "no"),
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl"),
    ],
)
async def test_a_server_that_may_lose_events_is_refused(
    redis_server: RedisServer, setting: str, value: str
) -> None:
    needed = dict(zip(DURABLE[::2], DURABLE[1::2], strict=True))[f"--{setting}"]
    await told(redis_server, "CONFIG SET", setting, value)
    try:
        with pytest.raises(StoreUnwritable, match=f"redis has {setting} {value}, which loses"):
            await RedisStore.open(redis_server.url, wait_s=0)
    finally:
        await told(redis_server, "CONFIG SET", setting, needed)


async def test_a_server_that_loses_its_settings_is_not_ready(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as store:
        await store.probe()
        await told(redis_server, "CONFIG SET", "appendfsync", "everysec")
        try:
            with pytest.raises(StoreUnwritable, match="redis has appendfsync everysec"):
                await store.probe()
        finally:
            await told(redis_server, "CONFIG SET", "appendfsync", "always")
        await store.probe()


async def test_a_server_that_hides_its_settings_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--rename-command", "CONFIG", "", *DURABLE)
    with running(tmp_path / "redis", *options) as server:
        with caplog.at_level(logging.WARNING, "gateway"):
            async with opened(server.url) as store:
                assert await store.put([entry("a")], [], NOW) == [Outcome.PENDING]
        [record] = caplog.records
        assert "redis does not show its settings" in record.getMessage()


async def test_a_server_that_is_not_there_is_said_without_its_password() -> None:
    with pytest.raises(StoreError) as raised:
        await RedisStore.open("redis://user:hunter2@127.0.0.1:1", wait_s=0)
    assert "redis does not answer" in str(raised.value)
    assert "hunter2" not in str(raised.value)


async def test_a_wrong_password_is_said_at_once(server: RedisServer) -> None:
    await told(server, "ACL SETUSER", "other", "on", ">secret", "~*", "+@all")
    with pytest.raises(StoreUnwritable, match=r"redis refuses \(user or password\)"):
        await RedisStore.open(server.url.replace("//", "//other:wrong@"), wait_s=60)
    async with opened(server.url.replace("//", "//other:secret@")) as store:
        await store.probe()


async def test_opening_waits_for_a_server_that_is_starting(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    opening = asyncio.create_task(RedisStore.open(server.url, wait_s=60))
    await asyncio.sleep(0)  # it is at it
    try:
        await asyncio.to_thread(server.start)
        await (await opening).close()
    finally:
        server.kill()


# its deaths


async def test_a_killed_server_loses_nothing_and_needs_no_restart_of_ours(
    server: RedisServer,
) -> None:
    async with opened(server.url) as store:
        await store.put([entry("a"), replace(entry("h"), side="page", due_ms=NOW + 9)], [], NOW)
        [a] = await claim(store)
        server.kill()
        for asked in (
            store.put([entry("b")], [], NOW),
            store.probe(),
            claim(store),
            store.ledger(),
        ):
            with pytest.raises(StoreError, match="redis does not answer"):
                await asked
        server.start()
        assert await store.put([entry("b"), entry("a")], [], NOW) == [
            Outcome.PENDING,
            Outcome.DUPLICATE,
        ]
        assert await settle(store, a, Outcome.DELIVERED)
        assert [d.body for d in await claim(store, NOW + 9)] == [b"b", b"h"]


async def test_whatever_was_answered_outlives_kills(server: RedisServer) -> None:
    answered: set[str] = set()

    async def client(number: int, store: Store) -> None:
        for n in range(200):
            name = f"{number}-{n}"
            with contextlib.suppress(StoreError):
                await store.put([entry(name)], [], NOW)
                answered.add(name)

    async with opened(server.url) as store:
        for round_ in range(3):
            clients = [asyncio.create_task(client(8 * round_ + n, store)) for n in range(8)]
            while len(answered) < 200 * (round_ + 1):
                await asyncio.sleep(0)
            await asyncio.to_thread(server.restart)
            await asyncio.gather(*clients)
        kept = {d.body.decode() for d in await claim(store, limit=10_000)}
        assert answered <= kept
        [line] = await store.ledger()
        assert line.adds_up
        assert line.pending == len(kept)


async def test_a_server_that_hangs_is_given_up_and_used_again(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await store.put([entry("a")], [], NOW)
        with server.frozen(), pytest.raises(StoreError, match="does not answer"):
            await store.put([entry("b")], [], NOW)
        # It may have taken the second one after all, and the same id again is safe.
        await put_when_back(store, "b")
        assert [d.body for d in await claim(store)] == [b"a", b"b"]


async def put_when_back(store: RedisStore, name: str, pixel: str = "1") -> list[Outcome]:
    """Sent again until it is answered, as senders do: who came in vain may still be waited for."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await store.put([entry(name, pixel=pixel)], [], NOW)
            except StoreError:
                await asyncio.sleep(0.05)


def test_a_connection_that_ends_just_before_a_command_is_a_server_that_does_not_answer(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the gateway's own event loop, whose word for it is none of the client's."""

    async def ends(self: Connection) -> bool:
        """Where the client looks whether the connection is still of use."""
        assert self._writer is not None
        self._writer.transport.abort()
        return False

    async def scenario() -> None:
        async with opened(server.url) as store:
            await store.put([entry("a")], [], NOW)
            with monkeypatch.context() as patched:
                patched.setattr(Connection, "can_read", ends)
                with pytest.raises(StoreError, match="redis does not answer"):
                    await store.put([entry("b")], [], NOW)
            assert await store.put([entry("b")], [], NOW) == [Outcome.PENDING]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def test_a_caller_who_waits_while_nobody_answers_is_told_with_the_first(
    server: RedisServer,
) -> None:
    async with opened(server.url) as store:
        server.kill()
        puts = [asyncio.create_task(store.put([entry(str(n))], [], NOW)) for n in range(3)]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreError] * 3


async def test_an_emptied_server_is_used_as_a_new_one(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = redis_server.new_database()
    async with opened(url) as store, opened(url) as other:
        await store.put([entry("a"), entry("x", pixel="2")], [], NOW)
        [old] = await claim(store)
        async with Redis.from_url(url) as client:
            await client.flushdb()
        await other.put([entry("y", pixel="3")], [], NOW)
        assert caplog.messages == []
        await store.sweep(NOW)
        assert caplog.messages == ["redis was emptied: what waited there is lost"] * 2
        await store.sweep(NOW)
        assert len(caplog.messages) == 2
        assert await store.put([entry("a")], [], NOW) == [Outcome.PENDING]
        await store.put([entry("x", pixel="2")], [], NOW)
        refs = [line.ref for line in await store.events(limit=9)]
        assert len(refs) == len(set(refs)) == 3
        assert set(await accounts(other)) == {"1", "2", "3"}
        assert old.ref in refs  # nothing is left that could know better


async def test_a_full_server_refuses_events_and_lets_them_out(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await store.put([entry("a"), entry("b"), entry("c")], [], NOW)
        await told(server, "CONFIG SET", "maxmemory", 1)
        for write in (partial(store.put, [entry("d")], [], NOW), store.probe):
            with pytest.raises(StoreUnwritable, match="memory is full"):
                await write()
        a, b, c = await claim(store)
        assert await store.turn("1", 100) == 0
        fates = (Outcome.DELIVERED, Outcome.DEAD, Outcome.PENDING)
        settlements = [
            Settlement(delivery=d, outcome=fate) for d, fate in zip((a, b, c), fates, strict=True)
        ]
        assert await store.settle(settlements, NOW) == 3
        await store.sweep(NOW)
        assert await store.discard([b.ref]) == 1
        await told(server, "CONFIG SET", "maxmemory", 0)
        assert await store.put([entry("d")], [], NOW) == [Outcome.PENDING]
        assert await accounts(store) == {
            "1": {"accepted": 4, "delivered": 1, "dead": 1, "pending": 2}
        }


# many processes


async def test_copies_that_several_processes_take_are_kept_once(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    async with opened(url) as one, opened(url) as other:
        names = [str(n) for n in range(300)]
        puts = [store.put([entry(name)], [], NOW) for name in names for store in (one, other)]
        answers = Counter(outcome for [outcome] in await asyncio.gather(*puts))
        assert answers == {Outcome.PENDING: 300, Outcome.DUPLICATE: 300}
        claims = await asyncio.gather(*(claim(s, limit=50) for s in (one, other) for _ in range(4)))
        assert sorted(d.body for some in claims for d in some) == sorted(n.encode() for n in names)


async def test_halves_that_several_processes_take_are_merged(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    async with opened(url) as one, opened(url) as other:
        for n in range(30):
            held = replace(entry(f"e{n}"), side="page", due_ms=NOW + 9)
            copies = [replace(held, body=f"w{c}".encode()) for c in range(6)]
            copies[3] = replace(copies[3], side="shop")
            puts = [
                store.put([copy], [], NOW, join)
                for copy, store in zip(copies, (one, other) * 3, strict=True)
            ]
            answers = Counter(outcome for [outcome] in await asyncio.gather(*puts))
            assert answers[Outcome.HELD] == 1
            assert answers[Outcome.MERGED] >= 1
            [delivery] = await claim(one, NOW + 9)
            words = delivery.body.split()
            # A merge that was answered is in the body, whoever raced it.
            assert len(words) == 1 + answers[Outcome.MERGED]
            assert b"w3" in words
            await settle(one, delivery, Outcome.DELIVERED)
        await accounts(other)


async def test_a_merge_that_loses_the_race_is_tried_on_what_won(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    held = replace(entry("a", body=b"first"), side="page", due_ms=NOW + 9)
    async with opened(url) as store, opened(url) as racer:
        await store.put([held], [], NOW, join)
        runs = store._client.run
        raced: list[bool] = []

        async def run(script: object, *args: object) -> object:
            if script is store._scripts.merge and not raced:
                raced.append(True)
                await racer.put([replace(held, body=b"racing")], [], NOW, join)
            return await runs(script, *args)  # type: ignore[arg-type]

        store._client.run = run  # type: ignore[method-assign, assignment]
        assert await store.put([replace(held, body=b"second")], [], NOW, join) == [Outcome.MERGED]
        assert raced
        assert (await claim_one(store, NOW + 9)).body == b"first racing second"
        assert await accounts(store) == {"1": {"accepted": 3, "merged": 2, "pending": 1}}


async def test_the_turns_of_a_pixel_are_shared(redis_server: RedisServer) -> None:
    hour = 3_600_000.0
    url = redis_server.new_database()
    async with opened(url) as one, opened(url) as other:
        waits = [await store.turn("1", hour) for store in (one, other, one, other)]
        assert waits[0] == 0
        # The time the test itself takes is all that is missing from the gaps.
        for n, wait in enumerate(waits[1:], 1):
            assert (n - 0.1) * hour < wait <= n * hour
        assert await other.turn("2", hour) == 0


async def test_turns_booked_before_the_clock_was_set_back_keep_nobody_waiting(
    redis_server: RedisServer,
) -> None:
    gap, day_us = 1000.0, DAY_MS * 1000
    url = redis_server.new_database()
    async with opened(url) as store:
        async with Redis.from_url(url) as client:
            seconds, _ = await client.time()
            await client.set("gw1:{1}:turn", seconds * 1_000_000 + day_us)
        assert await store.turn("1", gap) == 0
        assert 0 < await store.turn("1", gap) <= gap


async def test_the_clock_is_the_servers(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as store:
        async with Redis(port=redis_server.port) as client:
            before = await client.time()
        now_ms = store.clock_ms()
        assert abs(now_ms - before[0] * 1000) < 60_000


# the keys


async def test_every_key_of_a_pixel_lies_in_its_slot(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    async with opened(url) as store:
        await kill(store, "a")
        held = replace(entry("h"), side="page", due_ms=NOW + 9)
        await store.put([entry("b"), held, replace(entry("s"), suppress=True)], [], NOW, join)
        await store.turn("1", 1)
        await store.probe()
        async with Redis.from_url(url) as client:
            keys = {text(key) for key in await client.keys()}
        assert {key for key in keys if not key.startswith("gw1:{1}:")} == {
            "gw1:pixels",
            "gw1:probe",
        }
        names = "seen suppressed held due job body log logged dead died tally seq turn"
        assert {key.rpartition(":")[2] for key in keys} == {*names.split(), "pixels", "probe"}


async def test_what_is_over_leaves_nothing_but_its_account(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    async with opened(url) as store:
        await kill(store, "a")
        held = replace(entry("h"), side="page", due_ms=NOW + 9)
        await store.put([entry("b"), held, replace(entry("s"), suppress=True)], [], NOW, join)
        for delivery in await claim(store, NOW + 9):
            await settle(store, delivery, Outcome.DELIVERED, NOW + 9)
        later = NOW + TALLY_MS + HOUR_MS
        for _ in range(3):
            await store.sweep(later)
        async with Redis.from_url(url) as client:
            keys = {text(key).rpartition(":")[2] for key in await client.keys()}
            tally = await client.hgetall("gw1:{1}:tally")
        assert keys == {"tally", "seq", "pixels"}
        assert {text(name): int(n) for name, n in tally.items()} == {
            "0:accepted": 4,
            "0:dead": 1,
            "0:delivered": 2,
            "0:suppressed": 1,
        }


async def test_keys_are_forgotten_as_fast_as_new_ones_come(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    async with opened(url) as store:
        await store.put([entry(f"a{n}", deadline_ms=NOW) for n in range(400)], [], NOW)
        later = NOW + DEDUP_MS + 1
        await store.put([entry(f"b{n}", due_ms=later) for n in range(200)], [], later)
        async with Redis.from_url(url) as client:
            assert await client.zcard("gw1:{1}:seen") == 200


async def test_a_reader_asks_without_opening(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    async with opened(url) as store:
        died = await kill(store, "a", reason="bad")
        await store.put([entry("b")], [], NOW)
    reader = RedisReader(url)
    [line] = await asyncio.to_thread(reader.ledger)
    assert (line.accepted, line.dead, line.pending) == (2, 1, 1)
    events = await asyncio.to_thread(lambda: reader.events(limit=9))
    assert [event.note for event in events] == [note("a"), note("b")]
    assert [letter.ref for letter in await asyncio.to_thread(reader.dead)] == [died.ref]


# a cluster


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture
def cluster_url(nodes: list[RedisServer]) -> str:
    return nodes[0].url.replace("redis://", "redis+cluster://")


async def test_a_cluster_of_which_one_server_may_lose_events_is_refused(
    cluster_url: str, nodes: list[RedisServer]
) -> None:
    await told(nodes[2], "CONFIG SET", "appendfsync", "no")
    try:
        with pytest.raises(StoreUnwritable, match="redis has appendfsync no"):
            await RedisStore.open(cluster_url, wait_s=0)
    finally:
        await told(nodes[2], "CONFIG SET", "appendfsync", "always")


async def test_a_server_of_a_cluster_that_dies_costs_its_own_pixels_only_until_it_is_back(
    cluster_url: str, nodes: list[RedisServer]
) -> None:
    pixels = [f"dies-{n}" for n in range(9)]
    async with opened(cluster_url) as store:
        for p in pixels:
            await store.put([entry(f"{p}-a", pixel=p)], [], NOW)
        nodes[1].kill()
        refused = []
        for p in pixels:
            try:
                await store.put([entry(f"{p}-b", pixel=p)], [], NOW)
            except StoreError:
                refused.append(p)
        assert 0 < len(refused) < 9
        nodes[1].start()
        await until_whole(store, refused[0])
        for p in refused:
            await store.put([entry(f"{p}-b", pixel=p)], [], NOW)
        for p in pixels:
            bodies = {d.body.decode() for d in await claim(store, pixel=p)}
            assert bodies == {f"{p}-a", f"{p}-b"}


async def test_while_a_cluster_hangs_everybody_is_told_and_what_was_not_sent_is_not_stored(
    cluster_url: str, nodes: list[RedisServer]
) -> None:
    """The client tries a node of a cluster three times, two seconds each."""
    async with opened(cluster_url) as store:
        assert await store.put([entry("h-a", pixel="hangs")], [], NOW) == [Outcome.PENDING]
        with contextlib.ExitStack() as frozen:
            for node in nodes:
                frozen.enter_context(node.frozen())
            sent = asyncio.create_task(store.put([entry("h-b", pixel="hangs")], [], NOW))
            await asyncio.sleep(0)  # it is on its way
            await asyncio.sleep(0)
            waiting = asyncio.create_task(store.put([entry("h-c", pixel="hangs")], [], NOW))
            for putting in (sent, waiting, store.put([entry("h-d", pixel="hangs")], [], NOW)):
                with pytest.raises(StoreBusy, match="redis does not answer within 2 s"):
                    await putting
        assert await put_when_back(store, "h-c", pixel="hangs") == [Outcome.PENDING]
        kept = {d.body for d in await claim(store, pixel="hangs")}
        assert {b"h-a", b"h-c"} <= kept <= {b"h-a", b"h-b", b"h-c"}


async def until_whole(store: RedisStore, pixel: str) -> None:
    """A server that comes back takes a moment to be one of the cluster again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await claim(store, NOW - DAY_MS, pixel=pixel)
            except StoreError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_cluster_keeps_the_contract(cluster_url: str) -> None:
    pixels = [str(n) for n in range(9)]  # enough that each server has some
    async with opened(cluster_url) as store, opened(cluster_url) as other:
        entries = [entry(f"{p}-{n}", pixel=p) for n in range(3) for p in pixels]
        held = [
            replace(entry(f"{p}-held", body=b"page", pixel=p), side="page", due_ms=NOW + 9)
            for p in pixels
        ]
        drops = [Drop(pixel=p, outcome=Outcome.BOT) for p in pixels]
        kept = [Outcome.PENDING] * 27 + [Outcome.HELD] * 9
        assert await store.put([*entries, *held], drops, NOW, join) == kept
        halves = [replace(h, body=b"shop", side="shop") for h in held]
        assert await other.put([*entries, *halves], [], NOW, join) == (
            [Outcome.DUPLICATE] * 27 + [Outcome.MERGED] * 9
        )

        refs = []
        for p in pixels:
            first, second, third, joined = await claim(store, pixel=p)
            assert joined.body == b"page shop"
            fates = (Outcome.DELIVERED, Outcome.DEAD, Outcome.PENDING, Outcome.DELIVERED)
            settlements = [
                Settlement(delivery=d, outcome=fate, due_ms=NOW + DAY_MS)
                for d, fate in zip((first, second, third, joined), fates, strict=True)
            ]
            assert await other.settle(settlements, NOW) == 4
            refs.append(second.ref)
        assert len(set(refs)) == 9
        assert {letter.ref for letter in await store.dead()} == set(refs)
        assert await store.revive(refs[:5], NOW) == 5
        assert await other.discard(refs) == 4
        await store.sweep(NOW)
        mine = [account for pixel, account in (await accounts(other)).items() if pixel in pixels]
        assert len(mine) == 9
        for account in mine:
            pending = account["pending"]
            assert account == {
                "accepted": 9,
                "delivered": 2,
                "merged": 1,
                "duplicate": 3,
                "bot": 1,
                "pending": pending,
            } | ({"dead": 1} if pending == 1 else {})
        lines = [line for line in await store.events(limit=1000) if line.pixel in pixels]
        assert len(lines) == 9 * 8
        assert await store.turn("1", 1) == 0
        await store.probe()
