"""A batch that Meta rejects loses its culprits and nothing else, with real processes."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Gateway, StandIn, backend_event, live, wait_until


@pytest.fixture(scope="module")
def gateway(stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), live(stand_in.url)) as started:
        yield started.start()


@pytest.mark.parametrize(("poisoned", "budget"), [(1, 25), (5, 100), (20, 300)])
def test_a_thousand_events_lose_the_poison_ones_alone(
    gateway: Gateway, stand_in: StandIn, poisoned: int, budget: int
) -> None:
    ids = [f"split-{poisoned}-{n:04}" for n in range(1000)]
    poison = set(random.Random(poisoned).sample(ids, poisoned))
    stand_in.faults(poison=sorted(poison))
    before = len(stand_in.requests())
    assert gateway.backend([backend_event(i) for i in ids]).json()["accepted"] == 1000
    gateway.settled(90)
    requests = stand_in.requests()[before:]
    arrived = stand_in.arrivals(f"split-{poisoned}-")
    dead = {d.event_id: d.reason for d in gateway.dead() if d.event_id in set(ids)}
    print(f"\n{poisoned} of 1000: {len(arrived)} delivered, {len(requests)} requests")
    assert sorted(arrived) == sorted(set(ids) - poison)
    assert set(dead) == poison
    assert all("invalid event data (code 100/2804019)" in reason for reason in dead.values())
    assert len(requests) <= budget
    times = sorted(r.at_ms for r in requests)
    # The default pace is 10 a second, and arriving is less even than leaving.
    assert all(b - a > 950 for a, b in zip(times, times[10:], strict=False))


def test_an_event_is_saved_without_the_field_meta_blames(
    gateway: Gateway, stand_in: StandIn
) -> None:
    fbc = "fb.1.1795000000000.AbC"
    user = {"external_id": "7", "fbc": fbc}
    stand_in.faults(poison=["blamed"], poison_field="fbc")
    gateway.backend(
        [backend_event("blamed", user_data=user), backend_event("mate", user_data=user)]
    )
    gateway.settled()
    stand_in.faults()
    assert set(stand_in.one("blamed").user_data) == {"external_id"}
    assert stand_in.one("mate").user_data["fbc"] == fbc
    [logged] = gateway.events("--event-id", "blamed")
    assert logged.outcome == "delivered"
    assert logged.reason.startswith("delivered without user_data.fbc: invalid event data")


def test_a_kill_in_the_middle_of_a_split_loses_nobody(tmp_path: Path) -> None:
    ids = [f"killed-{n:03}" for n in range(200)]
    poison = ["killed-020", "killed-150", "killed-199"]
    with StandIn(tmp_path) as graph, Gateway(tmp_path, live(graph.start().url)) as gateway:
        gateway.start()
        graph.faults(poison=poison)
        assert gateway.backend([backend_event(i) for i in ids]).status_code == 202
        wait_until(lambda: len(graph.requests()) >= 5)
        gateway.kill()
        gateway.age_leases()
        gateway.start()
        gateway.settled()
        assert {d.event_id for d in gateway.dead()} == set(poison)
        assert set(graph.arrivals("killed-")) == set(ids) - set(poison)
