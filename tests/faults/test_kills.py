"""SIGKILL after SIGKILL under load: what was answered is never lost, never stored twice, and sent twice only
where the answer to a request was lost with the process."""

import time
from functools import partial
from random import Random

import pytest
from e2e.harness import wait_until

from .crowd import Crowd
from .places import LATENCY_MS, LONG, SEED, Place, account, say, settled

KILLS = 100 if LONG else 3
BETWEEN = (200, 700) if LONG else (30, 100)
"""answers from one kill to the next"""


@pytest.mark.timeout(600)
def test_what_was_answered_survives_every_kill(place: Place) -> None:
    """On Redis the server and the gateway are killed in turn."""
    place.stand_in.faults(latency_ms=LATENCY_MS)
    place.gateway.start()
    moments = Random(SEED)
    crowd = Crowd([place.gateway])
    kills_ms = []
    begun = time.monotonic()
    try:
        for kill in range(KILLS):
            at = len(crowd.answered) + moments.randrange(*BETWEEN)
            wait_until(partial(crowd.got_to, at), 60, "answers")
            kills_ms.append(time.time_ns() // 1_000_000)
            if place.redis is not None and kill % 2:
                place.redis.restart()
            else:
                place.gateway.restart()
    finally:
        crowd.stop()
    took_s = time.monotonic() - begun
    place.leases_end()
    settled(place.gateway)
    found = account(place, crowd.answered, kills_ms)
    say(
        f"{KILLS} kills on {place.name} in {took_s:.0f} s, 16 clients: {found.words}; "
        f"{crowd.tries[0]} requests cut off, {crowd.tries[503]} answered 503, {crowd.repeats} repeated"
    )
    assert crowd.tries[0] > 0
    assert found.acknowledged == len(crowd.answered) > KILLS * BETWEEN[0]
    assert (found.lost, found.stored_twice, found.unexplained) == (0, 0, 0)
    assert place.gateway.dead() == []
