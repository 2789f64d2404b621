"""Several processes on one Redis are one gateway: one event once, one pace, no loss when any of them dies."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from stores.redis_server import RedisServer, running

from .harness import Gateway, Process, StandIn, backend_event, live, page_event, wait_until
from .test_crash import HITS, THREADS, Clients

SHARED = {
    "GATEWAY_SECRET": "0123456789abcdef0123456789abcdef",
    "GATEWAY_API_KEY": "gwk_shared",
    "GATEWAY_ADMIN_PASSWORD": "shared password",
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis") as server:
        yield server


class Replica(Gateway):
    """One of several gateways, on a data directory of its own."""

    @property
    def api_key(self) -> str:
        return SHARED["GATEWAY_API_KEY"]


class Deliverer(Process):
    """`gateway worker`."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        super().__init__(folder, ["gateway", "worker"], env)

    def start(self) -> "Deliverer":
        self.launch()
        self.greeting("delivers what others accept")
        return self


@pytest.fixture
def env(redis: RedisServer, stand_in: StandIn) -> dict[str, str]:
    return live(stand_in.url, GATEWAY_STORE=redis.url, **SHARED)


def test_replicas_and_workers_are_one_gateway(
    tmp_path: Path, stand_in: StandIn, env: dict[str, str]
) -> None:
    env |= {"GATEWAY_HOLD_SECONDS": "3600"}
    with contextlib.ExitStack() as stack:
        one, other = (
            stack.enter_context(Replica(tmp_path / name, env, "--no-worker"))
            for name in ("one", "other")
        )
        one.start()
        other.start()
        assert one.slug == other.slug
        # A conversion's halves come to different replicas, a page view to both.
        lead = page_event("lead", "Lead")
        assert one.hit(lead).headers["server-timing"] == "outcome;desc=held"
        assert other.backend(backend_event("lead")).json()["merged"] == 1
        outcomes = [g.hit(page_event("view")).headers["server-timing"] for g in (one, other)]
        assert outcomes == ["outcome;desc=pending", "outcome;desc=duplicate"]
        assert [line.outcome for line in other.events()] == [
            "pending",
            "merged",
            "pending",
            "duplicate",
        ]
        # Nobody delivers yet.
        assert [line.pending for line in one.ledger()] == [2]

        workers = [
            stack.enter_context(Deliverer(tmp_path / f"worker-{n}", env)).start() for n in range(2)
        ]
        assert "external_id" in stand_in.one("lead").user_data
        stand_in.one("view")
        workers[0].kill()
        assert one.hit(page_event("after")).status_code == 204
        stand_in.one("after")
        other.settled()
        assert len(stand_in.arrivals("")) == len(set(stand_in.arrivals("")))
        for process in (one, other, workers[1]):
            assert process.terminate() == 0


def test_workers_of_one_command_are_kept_alive_and_stopped_together(
    tmp_path: Path, stand_in: StandIn, env: dict[str, str]
) -> None:
    with Replica(tmp_path / "many", env, "--workers", "2") as gateway:
        gateway.start()
        children = children_of(gateway.pid)
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)

        def replaced() -> list[int]:
            now = children_of(gateway.pid)
            return now if len(now) == 2 and children[0] not in now else []

        assert children[1] in wait_until(replaced)
        for n in range(20):
            assert gateway.hit(page_event(f"many-{n}")).status_code == 204
        gateway.settled()
        assert sorted(stand_in.arrivals("many-")) == sorted(f"many-{n}" for n in range(20))
        assert gateway.terminate() == 0
        assert "a process ended" in gateway.log


def test_the_self_check_needs_no_data_directory(tmp_path: Path, env: dict[str, str]) -> None:
    with Replica(tmp_path / "bare", env) as gateway:
        gateway.start()
        wait_until(lambda: 'gateway_alerts{alert="store"} 0.0' in gateway.admin("/metrics").text)
        assert "gateway_disk_free_bytes NaN" in gateway.admin("/metrics").text
        assert not gateway.data.exists()
        assert "a self-check failed" not in gateway.log


def test_the_processes_of_a_killed_command_stop(tmp_path: Path, env: dict[str, str]) -> None:
    with Replica(tmp_path / "killed", env, "--workers", "2") as gateway:
        gateway.start()
        children = children_of(gateway.pid)
        gateway.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_processes_that_cannot_start_end_the_command(tmp_path: Path, stand_in: StandIn) -> None:
    env = live(stand_in.url, GATEWAY_STORE="redis://127.0.0.1:1", GATEWAY_GEOIP_DATABASE="none")
    with Replica(tmp_path / "none", env, "--workers", "3") as gateway:
        gateway.launch()
        assert gateway.ended() == 1
        assert "gateway: " in gateway.log


def test_gateway_check_says_that_redis_would_lose_events(
    tmp_path: Path, env: dict[str, str], redis: RedisServer
) -> None:
    gateway = Replica(tmp_path / "check", env)
    gateway.folder.mkdir()
    assert "ok     store: shared: 0 pending, 0 dead" in gateway.told("check")
    redis.set("appendfsync", "everysec")
    said = gateway.cli("check")
    assert said.returncode == 1
    assert "wrong  store: redis has appendfsync everysec, which loses events" in said.stdout


def test_the_embedded_store_has_one_process(tmp_path: Path, stand_in: StandIn) -> None:
    with Gateway(tmp_path / "sqlite", live(stand_in.url), "--workers", "2") as gateway:
        gateway.launch()
        assert gateway.ended() == 1
        assert "--workers: the embedded store has one process" in gateway.log


def test_while_redis_is_away_hits_are_refused_and_taken_when_it_is_back(
    tmp_path: Path, stand_in: StandIn, env: dict[str, str], redis: RedisServer
) -> None:
    with Replica(tmp_path / "outage", env) as gateway:
        gateway.start()
        assert gateway.hit(page_event("before-outage")).status_code == 204
        gateway.settled()  # what is claimed when it dies would wait for the end of its lease
        redis.kill()
        refused = gateway.hit(page_event("during-outage"))
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert gateway.backend(backend_event("during-outage")).status_code == 503
        assert gateway.admin("/readyz").status_code == 503
        redis.start()
        assert gateway.hit(page_event("during-outage")).status_code == 204
        assert gateway.admin("/readyz").status_code == 200
        stand_in.one("during-outage")
        gateway.settled()


def test_all_workers_together_keep_the_pace(
    tmp_path: Path, stand_in: StandIn, env: dict[str, str]
) -> None:
    env |= {"GATEWAY_RATE_PER_SECOND": "4"}
    before = len(stand_in.requests())
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(Replica(tmp_path / "pace", env, "--no-worker")).start()
        for n in range(3):
            stack.enter_context(Deliverer(tmp_path / f"pace-{n}", env)).start()
        # Large events, so that there is more than one request's worth for each worker.
        for n in range(24):
            padding = {"note": "x" * 60_000}
            for m in range(9):
                gateway.backend(backend_event(f"pace-{n}-{m}", custom_data=padding))
        gateway.settled()
    starts = sorted(request.at_ms for request in stand_in.requests()[before:])
    assert len(starts) > 8
    assert all(later - first >= 1000 for first, later in zip(starts, starts[5:], strict=False))


def test_every_answered_hit_is_at_meta_once_or_waits_whoever_is_killed(
    tmp_path: Path, stand_in: StandIn, env: dict[str, str], redis: RedisServer
) -> None:
    with Replica(tmp_path / "kills", env) as gateway:
        gateway.start()
        clients = Clients(gateway)
        clients.run()
        try:
            for share in range(1, 7):
                wait_until(partial(clients.got_to, share * THREADS * HITS // 8), 60)
                if share % 2:
                    redis.restart()
                else:
                    gateway.restart()
        finally:
            clients.join()
        assert len(set(clients.answered)) == len(clients.answered) == THREADS * HITS
        gateway.hit(page_event("last"))
        stand_in.one("last")
        there = Counter(event.event_id for event in stand_in.received())
        waiting = {event.event_id for event in gateway.events("--outcome", "pending")}
        assert set(clients.answered) <= there.keys() | waiting
        assert max(there.values()) == 1
        assert all(line.adds_up for line in gateway.ledger())
        assert gateway.dead() == []
