"""A gateway with its store and its stand-in, and the account of what became of the events."""

import os
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from e2e.harness import PIXEL, Gateway, StandIn, call, live, wait_until
from e2e.test_redis import SHARED, Replica
from redis import Redis
from stores.redis_server import RedisServer

LONG = os.environ.get("FAULTS") == "long"
"""whether to take minutes, as `make faults` does, or seconds"""
long_only = pytest.mark.skipif(
    not LONG, reason="takes longer, and a smaller test has a look: `make faults`"
)
SEED = 20261124
LATENCY_MS = 100
"""of the stand-in, so that kills find requests under way"""


def say(line: str) -> None:
    """One line for whoever runs `make faults`."""
    print(f"\n{line}", end="", flush=True)


class Place:
    """One gateway, on SQLite or on the Redis server given."""

    def __init__(
        self,
        name: str,
        folder: Path,
        stand_in: StandIn,
        redis: RedisServer | None,
        **more: str,
    ) -> None:
        self.name = name
        self.stand_in = stand_in
        self.redis = redis
        self.gateway: Gateway
        if redis is None:
            self.gateway = Gateway(folder, live(stand_in.url, **more))
        else:
            env = live(stand_in.url, GATEWAY_STORE=redis.url, **SHARED, **more)
            self.gateway = Replica(folder, env)

    def leases_end(self) -> None:
        """Do what the end of a dead worker's leases does, a minute earlier unless there is time to wait for it."""
        if LONG:
            return
        if self.redis is not None:
            end_leases(self.redis)
        else:
            assert self.gateway.terminate() == 0
            self.gateway.age_leases()
            self.gateway.start()


def end_leases(redis: RedisServer) -> None:
    """Make everything that is claimed due."""
    key = f"gw1:{{{PIXEL}}}:due"
    with Redis.from_url(redis.url) as client:
        for member in client.zrangebyscore(key, time.time() * 1000, "+inf"):
            client.zadd(key, {member: 0}, xx=True)


# --- what came out -----------------------------------------------------------------------------


class _Named(msgspec.Struct, frozen=True):
    event_id: str
    event_time: int


class Arrival(msgspec.Struct, frozen=True):
    """An event at the stand-in; those of one request came at the same millisecond."""

    at_ms: int
    event: _Named

    @property
    def event_id(self) -> str:
        return self.event.event_id


class _Arrivals(msgspec.Struct, frozen=True):
    received: list[Arrival]


def arrivals(stand_in: StandIn) -> list[Arrival]:
    """Every event taken, in order, by its id alone: there may be many."""
    response = call("GET", f"{stand_in.url}/_sandbox/received")
    return msgspec.json.decode(response.content, type=_Arrivals).received


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events that were acknowledged."""

    acknowledged: int
    lost: int
    """acknowledged and nowhere: not at Meta, not waiting, no dead letter"""
    stored_twice: int
    sent_twice: int
    unexplained: int
    """sent twice although no request that held them was under way at a kill"""

    @property
    def words(self) -> str:
        return (
            f"acknowledged {self.acknowledged}, lost {self.lost}, stored twice {self.stored_twice}, "
            f"sent to Meta twice {self.sent_twice} (without an ambiguous answer {self.unexplained})"
        )


def account(place: Place, acknowledged: Collection[str], kills_ms: Sequence[int]) -> Account:
    """Count; the clients have stopped, and each of their events was answered in the end."""
    there = arrivals(place.stand_in)
    times = Counter(one.event_id for one in there)
    waiting = {event.event_id for event in place.gateway.events("--outcome", "pending")}
    dead = {letter.event_id for letter in place.gateway.dead()}
    [line] = place.gateway.ledger()
    assert line.adds_up
    wanted = set(acknowledged)
    twice = {event_id for event_id, n in times.items() if n > 1}
    return Account(
        acknowledged=len(wanted),
        lost=len(wanted - times.keys() - waiting - dead),
        stored_twice=line.delivered + line.pending + line.dead - len(wanted),
        sent_twice=len(twice),
        unexplained=len(twice - under_way(there, kills_ms)),
    )


def under_way(there: Sequence[Arrival], kills_ms: Sequence[int]) -> set[str]:
    """The events of the last request before each kill: its answer, or the note of it, may be lost."""
    batches: dict[int, set[str]] = {}
    for one in there:
        batches.setdefault(one.at_ms, set()).add(one.event_id)
    late = 3 * LATENCY_MS
    """what the stand-in may take to look at a request it has got"""
    lasts = (max((at for at in batches if at <= kill + late), default=0) for kill in kills_ms)
    return set().union(*(batches.get(at, set()) for at in lasts))


def settled(gateway: Gateway, within: float = 100) -> None:
    """Wait until nothing waits, leases included."""
    wait_until(lambda: not any(line.pending for line in gateway.ledger()), within, "settled")


def shown(tally: Mapping[str, int]) -> str:
    """Counts as one reads them."""
    return ", ".join(f"{name} {n}" for name, n in sorted(tally.items()))
