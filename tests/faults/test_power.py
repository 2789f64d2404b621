"""The power goes: what was answered was on disk before it was, with the embedded store and with Redis' append-only file.

Everything but what the drive itself remembers of what it was told to keep. Needs root and loop devices; the order of
the system calls needs neither.
"""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from disk import LoopDisk, loop_disk
from e2e.harness import Gateway, StandIn, page_event, wait_until
from stores.redis_server import RedisServer

from gateway import config, install, slugs

from .crowd import Crowd
from .places import LATENCY_MS, LONG, SEED, Place, account, say, settled

CUTS = 12 if LONG else 2
BETWEEN = (300, 1000) if LONG else (60, 150)
"""answers from one cut to the next"""


class Powered:
    """A gateway, or the Redis server it uses, with nothing but its data on a disk whose power can be cut."""

    def __init__(self, place: Place, disk: LoopDisk) -> None:
        self.place = place
        self._disk = disk

    def cut(self) -> None:
        """Off and on again: what was not on disk is gone, the process as well.

        It stops before the disk does, so that nobody answers without power: what is with the kernel at that moment
        goes on, and here it happens that the kernel then calls something synced that is not.
        """
        process = self.place.redis or self.place.gateway
        stop(process.pid)
        self._disk.cut_power()
        process.kill()
        self._disk.unmount()
        self._disk.mount()
        process.start()


def stop(pid: int) -> None:
    """SIGSTOP, until no thread executes anything of the program; some may be with the kernel, waiting for the disk."""
    os.kill(pid, signal.SIGSTOP)
    give_up = time.monotonic() + 10
    while not all(state_of(thread) in "TD" for thread in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < give_up


def state_of(thread: Path) -> str:
    """See proc(5); a thread that has ended meanwhile executes nothing any more."""
    try:
        return (thread / "stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "T"


@pytest.fixture(params=["sqlite", "redis"])
def powered(request: pytest.FixtureRequest, tmp_path: Path, stand_in: StandIn) -> Iterator[Powered]:
    name = str(request.param)
    folder = tmp_path / "gateway"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        server = None
        disk = stack.enter_context(
            loop_disk(folder / "data" if name == "sqlite" else tmp_path / "redis")
        )
        if name == "redis":
            server = RedisServer(disk.folder)
            stack.callback(server.kill)
            server.start()
        place = Place(name, folder, stand_in, server)
        stack.enter_context(place.gateway)
        yield Powered(place, disk)


@pytest.mark.timeout(600)
def test_what_was_answered_survives_every_power_cut(powered: Powered) -> None:
    place = powered.place
    place.stand_in.faults(latency_ms=LATENCY_MS)
    place.gateway.start()
    slug = place.gateway.slug
    moments = Random(SEED)
    crowd = Crowd([place.gateway])
    cuts_ms = []
    begun = time.monotonic()
    try:
        for _ in range(CUTS):
            at = len(crowd.answered) + moments.randrange(*BETWEEN)
            wait_until(partial(crowd.got_to, at), 60, "answers")
            cuts_ms.append(time.time_ns() // 1_000_000)
            powered.cut()
    finally:
        crowd.stop()
    took_s = time.monotonic() - begun
    place.leases_end()
    settled(place.gateway)
    found = account(place, crowd.answered, cuts_ms)
    say(
        f"{CUTS} power cuts on {place.name} in {took_s:.0f} s, 16 clients: {found.words}; "
        f"{crowd.tries[0]} requests cut off, {crowd.tries[503]} answered 503, {crowd.repeats} repeated"
    )
    assert crowd.tries[0] + crowd.tries[503] > 0
    assert found.acknowledged == len(crowd.answered) > CUTS * BETWEEN[0]
    assert (found.lost, found.stored_twice, found.unexplained) == (0, 0, 0)
    assert place.gateway.dead() == []
    assert place.gateway.slug == slug  # nor was the install's secret lost
    if place.redis is None:
        assert place.gateway.terminate() == 0
        with contextlib.closing(sqlite3.connect(place.gateway.data / "gateway.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_secret_and_a_new_path_survive_a_power_cut(tmp_path: Path) -> None:
    """A second after they were made a tag may hold the path, and cookies be signed by the secret."""
    with loop_disk(tmp_path / "data") as disk:
        for rotated in (False, True):
            settings = config.load({"GATEWAY_STORE": f"sqlite:///{disk.folder}/gateway.db"})
            made = install.open_install(settings)
            if rotated:
                made = replace(made, slugs=made.slugs.rotated(made.secret.reveal(), [""], 0))
                slugs.write(disk.folder, made.slugs)
            disk.cut_power()
            disk.unmount()
            disk.mount()
            assert install.open_install(settings) == replace(made, announced=())


# --- the order of the system calls -------------------------------------------------------------

POSTS = 20
_CALL = re.compile(
    r"(?P<pid>\d+) +(?P<resumed><\.\.\. )?(?P<name>\w+)(?P<arguments>.*?)(?P<cut> <unfinished \.\.\.>)?"
)


def steps(trace: str) -> str:
    """A letter for each step in a trace: P a POST has come, b and e a sync of the WAL begins and ends, A the answer."""
    found = []
    syncing = set()
    """threads"""
    for line in trace.splitlines():
        call = _CALL.fullmatch(line)
        if call is None:
            continue
        pid, text = call["pid"], call["arguments"]
        if call["name"] in ("fdatasync", "fsync"):
            if not call["resumed"] and "gateway.db-wal" in text:
                syncing.add(pid)
                found.append("b")
            if not call["cut"] and pid in syncing:
                syncing.remove(pid)
                assert text.endswith("= 0"), line
                found.append("e")
        elif '"POST /' in text:
            found.append("P")
        elif '"HTTP/1.1 204 ' in text:
            found.append("A")
    return "".join(found)


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    """A command that runs another one as a child of its own and writes down what it does."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("the order of the system calls is seen with strace")
    command = [path, "-D", "-f", "-y", "-s", "32", "-o", str(tmp_path / "trace")]
    command += ["-e", "trace=fdatasync,fsync,read,recvfrom,write,writev,sendto,sendmsg"]
    done = subprocess.run(
        [*command, "true"], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode or done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    return command


def test_a_204_leaves_after_the_wal_is_synced(tmp_path: Path, strace: list[str]) -> None:
    """Nothing is delivered, as the token is missing, so that no other write takes the turn of a hit's."""
    env = {"FB_PIXEL_ID": "1234567890123456", "GATEWAY_SECRET": "0123456789abcdef0123456789abcdef"}
    with Gateway(tmp_path / "gateway", env) as gateway:
        gateway.wrapper = strace
        gateway.start()
        for n in range(POSTS):
            assert gateway.hit(page_event(f"traced-{n}")).status_code == 204
        assert gateway.terminate() == 0
    trace = tmp_path / "trace"
    wait_until(lambda: "+++ exited" in trace.read_text(encoding="utf-8"), 20, "the trace's end")
    seen = steps(trace.read_text(encoding="utf-8"))
    hits = seen[seen.index("P") :]
    said = f"{hits.count('P')} POSTs, {hits.count('e')} syncs of the WAL, {hits.count('A')} answers"
    say(f"traced: {said}; in order: {hits}")
    assert hits.count("P") == POSTS
    # Between the two a whole sync; one for the note of an earlier hit may end or begin there, too.
    assert re.fullmatch(r"(Pe?(be)+b?A[be]*)+", hits), hits
