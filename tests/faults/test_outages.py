"""What a client sees while the store is away, what is kept, and that it heals without a restart: one line a fault."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from disk import filled, loop_disk, small_disk
from e2e.harness import StandIn, wait_until
from redis import Redis
from stores.redis_server import RedisServer

from .blackhole import Blackhole
from .crowd import Crowd
from .places import LONG, Account, Place, account, arrivals, long_only, say, settled, shown

CLIENTS = 8
ENOUGH = 100 if LONG else 40
"""answers before and after a fault"""
LASTS_S = 30 if LONG else 2
PASSWORD = "the operator's"
PATIENT_S = 5
"""by when even the slowest client has been told; 2 s of waiting for a server, and a busy machine"""

pytestmark = pytest.mark.timeout(300)


class Endured:
    """A crowd before, during and after a fault."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.crowd = Crowd([place.gateway], clients=CLIENTS)
        self._more(ENOUGH)
        self.during: Counter[int] = Counter()
        self.slowest_s = 0.0
        self.healed_s = 0.0

    def through(
        self, fault: AbstractContextManager[object], over: Callable[[], bool] | None = None
    ) -> None:
        """Until `over`, by default for LASTS_S and a refusal, and then until all is well."""
        before = self.crowd.tries.copy()
        self.crowd.slowest.clear()
        begun = time.monotonic()
        lasted = over or (
            lambda: time.monotonic() - begun > LASTS_S and self.crowd.tries[503] > before[503]
        )
        with fault:
            wait_until(lasted, LASTS_S + 60, "the fault")
            self.during = self.crowd.tries - before
        ended = time.monotonic()
        self._more(1)
        self.healed_s = time.monotonic() - ended
        self.slowest_s = max(
            (s for status, s in self.crowd.slowest.items() if status in (0, 503)), default=0
        )
        self._more(ENOUGH)

    def judged(self, name: str) -> Account:
        """Stop, wait until everything is at Meta, and print the line."""
        self.crowd.stop()
        if self.place.redis is not None:
            self.place.leases_end()
        settled(self.place.gateway)
        found = account(self.place, self.crowd.answered, [])
        told = {status or "no answer": n for status, n in sorted(self.during.items())}
        answers = shown({str(key): n for key, n in told.items()}) or "nothing"
        say(
            f"{name:<18} told: {answers}; slowest refusal {self.slowest_s:.1f} s; "
            f"healed after {self.healed_s:.1f} s; {found.words}"
        )
        return found

    def _more(self, answers: int) -> None:
        wait_until(partial(self.crowd.got_to, len(self.crowd.answered) + answers), 60, "answers")


def expect_nothing_lost(found: Account) -> None:
    assert (found.lost, found.stored_twice, found.sent_twice) == (0, 0, 0)


def on_redis(tmp_path: Path, stand_in: StandIn, server: RedisServer, port: int = 0) -> Place:
    place = Place("redis", tmp_path / "gateway", stand_in, server)
    if port:
        place.gateway.env["GATEWAY_STORE"] = f"redis://127.0.0.1:{port}"
    return place


@long_only
def test_disk_full(tmp_path: Path, stand_in: StandIn) -> None:
    with small_disk(tmp_path / "disk") as disk:
        place = Place("sqlite", disk, stand_in, None)
        with place.gateway.start():
            seen = Endured(place)
            seen.through(filled(disk))
            expect_nothing_lost(seen.judged("disk full"))
            assert seen.during[503]


def test_disk_hung(tmp_path: Path, stand_in: StandIn) -> None:
    """Only the data lies on it, so that the test's own files do not hang with it."""
    folder = tmp_path / "gateway"
    folder.mkdir()
    with loop_disk(folder / "data") as disk:
        place = Place("sqlite", folder, stand_in, None)
        place.gateway.env["GATEWAY_ADMIN_PASSWORD"] = PASSWORD
        with place.gateway.start():
            seen = Endured(place)

            @contextlib.contextmanager
            def hung() -> Iterator[None]:
                with disk.hung():
                    yield
                    assert place.gateway.admin("/readyz").status_code == 503
                    asked = place.gateway.admin("/api/overview", password=PASSWORD)
                    assert asked.status_code == 503
                    assert asked.json() == {"error": "the disk does not answer within 10 s"}

            seen.through(hung())
            assert place.gateway.admin("/readyz").status_code == 200
            expect_nothing_lost(seen.judged("disk hung"))
            assert seen.slowest_s < PATIENT_S


def test_redis_full(tmp_path: Path, stand_in: StandIn, redis: RedisServer) -> None:
    """Meta is away until the memory is full, and room comes by delivering alone."""
    place = on_redis(tmp_path, stand_in, redis)
    with place.gateway.start(), Redis.from_url(redis.url) as client:
        seen = Endured(place)
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + (1_500_000 if LONG else 500_000))

        @contextlib.contextmanager
        def meta_away() -> Iterator[None]:
            stand_in.faults(error="service")
            yield
            stand_in.faults()

        refused = seen.crowd.tries[503]
        seen.through(meta_away(), lambda: seen.crowd.tries[503] > refused + 20)
        client.config_set("maxmemory", 0)  # the test itself would be refused, too
        expect_nothing_lost(seen.judged("redis full"))
        assert seen.during[503]


def test_redis_paused(tmp_path: Path, stand_in: StandIn, redis: RedisServer) -> None:
    place = on_redis(tmp_path, stand_in, redis)
    with place.gateway.start():
        seen = Endured(place)
        seen.through(redis.frozen())
        expect_nothing_lost(seen.judged("redis paused"))
        assert seen.slowest_s < PATIENT_S


def test_redis_behind_a_black_hole(tmp_path: Path, stand_in: StandIn, redis: RedisServer) -> None:
    proxy = Blackhole(redis.port)
    place = on_redis(tmp_path, stand_in, redis, proxy.port)
    with contextlib.closing(proxy), place.gateway.start():
        seen = Endured(place)
        seen.through(proxy.swallowing())
        expect_nothing_lost(seen.judged("redis unreachable"))
        assert seen.slowest_s < PATIENT_S


@long_only
def test_redis_emptied(tmp_path: Path, stand_in: StandIn, redis: RedisServer) -> None:
    """What waited there is gone, which nobody can help; the rest goes on, and somebody is told."""
    place = on_redis(tmp_path, stand_in, redis)
    with place.gateway.start(), Redis.from_url(redis.url) as client:
        seen = Endured(place)
        begun: list[int] = []

        @contextlib.contextmanager
        def emptied() -> Iterator[None]:
            client.flushall()
            begun.append(len(seen.crowd.answered) + CLIENTS)  # whose answers may be on their way
            yield

        seen.through(emptied(), lambda: True)
        wait_until(lambda: "redis was emptied" in place.gateway.log, 30, "the alarm")
        seen.crowd.stop()
        settled(place.gateway)
        there = {arrival.event_id for arrival in arrivals(stand_in)}
        answered = seen.crowd.answered
        missing = [n for n, event_id in enumerate(answered) if event_id not in there]
        late = [n for n in missing if n >= begun[0]]
        say(
            f"{'redis emptied':<18} told: {seen.during[503]} times 503; healed after {seen.healed_s:.1f} s; "
            f"acknowledged {len(answered)}, gone with the server {len(missing)}, lost of those that came "
            f"later {len(late)}; the log says so"
        )
        assert late == []
