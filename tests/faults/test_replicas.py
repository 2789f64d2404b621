"""Two replicas on one Redis, one of them killed in the middle of a request: each event once, one pace."""

import contextlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest
from e2e.harness import StandIn, backend_event, live, wait_until
from e2e.test_redis import SHARED, Replica
from stores.redis_server import RedisServer

from .crowd import Wire, all_at_once, until_answered
from .places import LONG, SEED, arrivals, end_leases, say, settled

EVENTS = 20_000 if LONG else 1000
TOGETHER = 20
"""events a backend sends at once"""
PADDING = "x" * (2000 if LONG else 6000)
"""makes more requests of them, so that the pace counts"""
RATE = 10


@pytest.mark.timeout(300)
def test_one_of_two_dies_while_it_sends(
    tmp_path: Path, stand_in: StandIn, redis: RedisServer
) -> None:
    env = live(stand_in.url, GATEWAY_STORE=redis.url, **SHARED)
    ids = [f"shared-{n}" for n in range(EVENTS)]
    with contextlib.ExitStack() as stack:
        one, other = (
            stack.enter_context(Replica(tmp_path / name, env)) for name in ("one", "other")
        )
        one.start()
        # Its first request is taken and never answered: Meta has not counted it, and nobody can know.
        stand_in.faults(error="hang", times=1)
        send_all([one], ids[:TOGETHER])
        wait_until(lambda: [r for r in stand_in.requests() if not r.status], what="a hung request")
        other.start()
        send_all([one, other], ids[TOGETHER : EVENTS // 2])
        one.kill()
        one.start()
        send_all([one, other], ids[EVENTS // 2 :])
        if not LONG:
            wait_until(lambda: len(arrivals(stand_in)) >= EVENTS - TOGETHER, 60)
            end_leases(redis)
        settled(other)
        times = Counter(arrival.event_id for arrival in arrivals(stand_in))
        [line] = one.ledger()
        most = busiest_second([request.at_ms for request in stand_in.requests()])
    say(
        f"two replicas, one killed while it sent: {len(times)} of {EVENTS} events at Meta, "
        f"{sum(times.values()) - len(times)} of them again; {len(stand_in.requests())} requests, "
        f"at most {most} in any second; {line.dropped} of {line.accepted} accepted"
    )
    assert times == dict.fromkeys(ids, 1)
    assert (line.delivered, line.pending, line.dead) == (EVENTS, 0, 0)
    assert most <= RATE


def send_all(replicas: Sequence[Replica], ids: Sequence[str]) -> None:
    """Each event to one of them and every tenth to both, until it is answered."""
    draw = Random(SEED)
    jobs: list[Callable[[Wire], None]] = []
    for start in range(0, len(ids), TOGETHER):
        together = ids[start : start + TOGETHER]
        again = draw.sample(together, len(together) // 10)
        first = draw.randrange(len(replicas))
        jobs.append(partial(post, replicas[first], together))
        jobs.append(partial(post, replicas[first - 1], again))
    draw.shuffle(jobs)
    all_at_once(jobs)


def post(replica: Replica, ids: Sequence[str], wire: Wire) -> None:
    events = [backend_event(one, custom_data={"note": PADDING}) for one in ids]
    until_answered(lambda: wire.backend(replica, replica.api_key, events))


def busiest_second(starts_ms: Sequence[int]) -> int:
    """The most requests in any window of a second."""
    starts = sorted(starts_ms)
    return max(bisect_left(starts, at + 1000) - n for n, at in enumerate(starts))
