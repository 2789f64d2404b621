"""SIGTERM: with a long queue while Meta is away, and behind a load balancer that has to notice first."""

import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from e2e.harness import Gateway, StandIn, call, live, page_event, wait_until
from e2e.test_redis import SHARED, Replica
from stores.redis_server import RedisServer

from .crowd import Crowd
from .places import LONG, Place, account, say, settled

QUEUED = 3000 if LONG else 150
GRACE_S = 20


@pytest.mark.timeout(200)
def test_a_full_queue_outlives_sigterm(place: Place) -> None:
    place.stand_in.faults(error="reset_before")
    place.gateway.start()
    crowd = Crowd([place.gateway], think_s=0.01)
    wait_until(partial(crowd.got_to, QUEUED), 60, "a queue")
    before = crowd.tries.copy()
    begun = time.monotonic()
    place.gateway.ask_to_end()
    code = place.gateway.ended(GRACE_S)
    took_s = time.monotonic() - begun
    place.gateway.start()
    told: Counter[int] = crowd.tries - before
    place.stand_in.faults()
    crowd.stop()
    place.leases_end()
    settled(place.gateway)
    found = account(place, crowd.answered, [])
    say(
        f"SIGTERM on {place.name} with {QUEUED} waiting: exit {code} after {took_s:.1f} s; told until it was "
        f"back: {told[202] + told[204]} taken, {told[503]} times 503, {told[0]} without an answer; {found.words}"
    )
    assert code == 0
    assert (found.lost, found.stored_twice, found.sent_twice) == (0, 0, 0)


def is_unready(gateway: Gateway) -> bool:
    ready = gateway.admin("/readyz")
    return ready.status_code == 503 and "draining" in ready.json()["failing"][0]


def take_all(gateway: Gateway, prefix: str, hits: int = 20) -> None:
    """Every hit is stored."""
    for n in range(hits):
        assert gateway.hit(page_event(f"{prefix}-{n}")).status_code == 204


@pytest.mark.parametrize("workers", [1, 2])
def test_it_says_that_it_drains_and_takes_everything_until_it_is_told_again(
    tmp_path: Path, stand_in: StandIn, redis: RedisServer, workers: int
) -> None:
    store = {"GATEWAY_STORE": redis.url, **SHARED} if workers > 1 else {}
    env = live(stand_in.url, GATEWAY_DRAIN_SECONDS="60", **store)
    kind, options = (Replica, ("--workers", str(workers))) if workers > 1 else (Gateway, ())
    with kind(tmp_path / "gateway", env, *options) as gateway:
        gateway.start()
        assert call("GET", f"{gateway.url}/healthz").status_code == 200
        gateway.ask_to_end()
        wait_until(partial(is_unready, gateway))
        take_all(gateway, "drain")
        wait_until(lambda: len(stand_in.arrivals("drain-")) == 20)  # it delivers, too
        wait_until(lambda: call("GET", f"{gateway.url}/healthz").status_code == 503)
        gateway.ask_to_end()
        assert gateway.ended(GRACE_S) == 0


def test_a_drain_ends_by_itself_and_refuses_nobody_who_noticed(
    tmp_path: Path, stand_in: StandIn
) -> None:
    """A balancer that asks every now and then, and sends nothing more once it has been told."""
    with Gateway(tmp_path, live(stand_in.url, GATEWAY_DRAIN_SECONDS="3")) as gateway:
        gateway.start()
        gateway.ask_to_end()
        hits = 0
        while not is_unready(gateway):
            take_all(gateway, f"balanced-{hits}", 1)
            hits += 1
        take_all(gateway, f"balanced-{hits}", 1)  # what was on its way when it was told
        assert gateway.ended(GRACE_S) == 0
        gateway.start()
        gateway.settled()
        assert len(stand_in.arrivals("balanced-")) == hits + 1
