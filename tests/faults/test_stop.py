"""SIGTERM while Meta is away and the queue is long: it ends in time, keeps everything, and sends it afterwards."""

import time
from collections import Counter
from functools import partial

import pytest
from e2e.harness import wait_until

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
