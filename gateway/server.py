"""`gateway serve`: everything put together, started in order and stopped in order."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import httpx2
from starlette.applications import Starlette

from gateway import (
    cookies,
    geo,
    greeting,
    metrics,
    normalise,
    overload,
    sender,
    snippet,
)
from gateway.admission import Admission, Callers, Limiter
from gateway.agent import Agents
from gateway.alerts import Sent
from gateway.config import Settings, Site
from gateway.enrich import Place
from gateway.faces import OPERATOR_CONNECTIONS, Faces, Server, connections, http_server
from gateway.ingest import Ingest
from gateway.install import Install
from gateway.overload import Backlog
from gateway.reload import Reloads
from gateway.sandbox import Sandbox
from gateway.selfcheck import SelfCheck
from gateway.sender import Sender
from gateway.stores import Store
from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore, banner_of
from gateway.visit import Visits
from gateway.web import app
from gateway.web.backend import Backend, Keys
from gateway.web.door import Door, Limits
from gateway.web.graph import Graph
from gateway.web.operator import Operator
from gateway.web.paths import Paths
from gateway.web.public import Public
from gateway.worker import Worker

SWEEP_S = 10.0
LOCK_WAIT_S = 30.0
"""how long a restart waits for the process before it"""
SWITCH_S = 0.0002
"""how long the loop may keep the store's thread waiting for the interpreter, at each of its statements. Measured at five
times the load: 204 within 127 ms and 503 within 26 (99 of 100), with Python's 5 ms 228 and 52; as much is stored"""
GARBAGE = (20_000, 20, 50)
"""how many new objects call for a look for cycles, of which hits leave few, and how many of such looks for a thorough one,
which takes 20 ms with 1,500 connections. Measured, with Python's 700 a tenth of the time went there"""
BURST_S = 10
"""how many seconds' worth of hits an address may send at once"""
GUESSES_A_MINUTE = 10
"""wrong API keys of one address"""
logger = logging.getLogger(__name__)


def clock_ms() -> int:
    """Unix milliseconds: the one clock everything is given."""
    return time.time_ns() // 1_000_000


async def serve(
    settings: Settings,
    own: Install,
    faces: Faces,
    announce: Callable[[str], None],
    *,
    deliver: bool = True,
) -> None:
    """Run until SIGTERM or SIGINT, then finish what was begun. `announce` is given the greeting.

    Before SIGTERM closes the public face, whoever sends there has `drain_seconds` to notice.

    Raises SettingsError for what cannot be used and StoreError when the store cannot be opened.
    """
    locate = geo.open_places(settings.geoip_database)
    store = await _open(settings, faces)
    try:
        await _run(settings, own, faces, store, locate, announce, deliver=deliver)
    finally:
        await store.close()


async def _open(settings: Settings, faces: Faces) -> Store:
    if not settings.embedded:
        return await RedisStore.open(settings.store)
    if banner_of(settings.store_path) is not None:
        logger.warning("another gateway owns the store; waiting up to %g s for it", LOCK_WAIT_S)
    banner = json.dumps({"pid": os.getpid(), **faces.urls})
    return await SqliteStore.open(
        settings.store_path,
        wait_s=LOCK_WAIT_S,
        banner=banner,
        max_bytes=settings.store_max_bytes,
    )


async def _run(
    settings: Settings,
    own: Install,
    faces: Faces,
    store: Store,
    locate: Callable[[str], Place],
    announce: Callable[[str], None],
    *,
    deliver: bool,
) -> None:
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(*GARBAGE)
    draining, stopping = asyncio.Event(), asyncio.Event()
    backlog = Backlog(time.monotonic)
    front = Door(
        Limits(connections=connections()),
        Callers(settings.trusted_proxies),
        vital=overload.looks_vital,
        resting=backlog.hits,
        stored=backlog.load,
    )
    back = Door(Limits(connections=OPERATOR_CONNECTIONS), Callers())
    agents = Agents()
    transport = _sandbox() if settings.sandbox else None
    async with sender.new_client(transport) as client:
        workers = _workers(settings, store, client) if deliver else {}

        def wake() -> None:
            for worker in workers.values():
                worker.wake()

        visits = Visits(own.seal, secrets.randbelow)
        ingest = Ingest(
            settings=settings,
            visits=visits,
            outbox=store,
            backlog=backlog,
            locate=locate,
            agents=agents,
            on_stored=wake,
        )
        check = _self_check(
            settings, store, workers, lambda: front.turned_away + backlog.turned_away
        )
        operator = Operator(
            store=store,
            settings=settings,
            install=own,
            trouble=lambda: _trouble(workers),
            alerts=lambda: check.alerts,
            draining=draining.is_set,
            on_revived=wake,
            clock_ms=store.clock_ms,
        )
        paths = _paths(settings, own, ingest, visits, locate, store.clock_ms)
        public = _public_app(settings, own, ingest, store, paths, draining.is_set)
        servers = [
            (http_server(application, door, trusted), face)
            for application, door, trusted, face in (
                (public, front, settings.trusted_proxies, faces.public),
                (app.operator_app(operator), back, (), faces.operator),
            )
            if face
        ]
        reloads = Reloads(settings, workers, paths.refresh)
        drain_s = settings.drain_seconds if faces.public else 0

        def end_now() -> None:
            for server, _ in servers:
                server.force_exit = True
            for worker in workers.values():
                worker.stop(0)

        _on_signals(draining, stopping, drain_s, end_now)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloads.now)
        _warm_up()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            for mover in (check.run(stopping), reloads.watch(stopping), _sweep(store, stopping)):
                tasks.create_task(mover)
            await _serve_until(
                stopping,
                servers,
                workers.values(),
                tasks,
                lambda: announce(greeting.text(settings, own, faces)),
            )
    agents.close()


async def _serve_until(
    stopping: asyncio.Event,
    servers: Sequence[tuple[Server, socket.socket]],
    workers: Collection[Worker],
    tasks: asyncio.TaskGroup,
    greet: Callable[[], None],
) -> None:
    """Accept and deliver; then close the doors one after another."""
    listening = [tasks.create_task(server.serve(sockets=[face])) for server, face in servers]
    for worker in workers:
        tasks.create_task(worker.run())
    greet()
    await stopping.wait()
    logger.info("stopping")
    for worker in workers:
        worker.stop()
    # The operator's face goes last, as it says what the other one waits for.
    for (server, _), task in zip(servers, listening, strict=True):
        server.should_exit = True
        await asyncio.wait([task])


def _workers(settings: Settings, store: Store, client: httpx2.AsyncClient) -> dict[str, Worker]:
    """One a pixel, so that none waits for another."""
    graph = Sender(client, settings.graph_url, settings.graph_version)
    return {
        pixel.lane: Worker(
            outbox=store,
            sender=graph,
            pixel=pixel,
            per_second=settings.rate_per_second,
            hold_ms=int(settings.hold_seconds * 1000),
            clock_ms=store.clock_ms,
            draw=random.random,
        )
        for pixel in settings.pixels
    }


def _self_check(
    settings: Settings,
    store: Store,
    workers: Mapping[str, Worker],
    turned_away: Callable[[], int],
) -> SelfCheck:
    return SelfCheck(
        store=store,
        records=store,
        folder=settings.data_dir if settings.embedded else None,
        turned_away=turned_away,
        paused=lambda: {lane: w.trouble for lane, w in workers.items() if w.paused},
        away=lambda: {lane: w.trouble for lane, w in workers.items() if w.away},
        sent=lambda: {
            lane: Sent(delivered=w.delivered, doubted=w.doubted) for lane, w in workers.items()
        },
        ahead_ms=lambda: max((w.ahead_ms for w in workers.values()), key=abs, default=0),
        hold_ms=int(settings.hold_seconds * 1000),
        clock_ms=store.clock_ms,
    )


def _trouble(workers: Mapping[str, Worker]) -> list[str]:
    """What an operator should see to, a sentence each."""
    said = [f"Pixel {lane}: {w.trouble}." for lane, w in workers.items() if w.trouble]
    warnings = {w.version_warning for w in workers.values() if w.version_warning}
    return [*said, *(f"Meta says of the Graph version: {text}" for text in sorted(warnings))]


def _paths(
    settings: Settings,
    own: Install,
    ingest: Ingest,
    visits: Visits,
    locate: Callable[[str], Place],
    clock_ms: Callable[[], int],
) -> Paths:
    admission = _admission(settings)

    def make(site: Site, slug: str) -> Public:
        outbound = settings.outbound_links
        script = snippet.render(site, slug, settings.snippet, outbound=outbound)
        return Public(
            ingest=ingest,
            visits=visits,
            locate=locate,
            snippet=script,
            site=site,
            noscript=settings.noscript,
            admission=admission,
            clock_ms=clock_ms,
        )

    return Paths(settings=settings, install=own, make=make, clock_ms=clock_ms)


def _public_app(
    settings: Settings,
    own: Install,
    ingest: Ingest,
    store: Store,
    paths: Paths,
    draining: Callable[[], bool],
) -> Starlette:
    guesses = Limiter(per_second=GUESSES_A_MINUTE / 60, burst=GUESSES_A_MINUTE)
    clock_ms = store.clock_ms
    keys = Keys(own.api_key, guesses, clock_ms)
    backend = Backend(ingest=ingest, records=store, keys=keys, clock_ms=clock_ms)
    graph = Graph(ingest=ingest, settings=settings, keys=keys, clock_ms=clock_ms)
    return app.public_app(paths.find, backend, graph, draining)


def _admission(settings: Settings) -> Admission:
    per_second = settings.hits_per_address
    limiter = Limiter(per_second=per_second, burst=BURST_S * per_second) if per_second else None
    return Admission(Callers(settings.trusted_proxies), limiter)


def _warm_up() -> None:
    """Load the tables that load on first use, so that no visitor waits for them."""
    normalise.country("Deutschland")
    cookies.scope_of("www.example.com")


async def _sweep(store: Store, stopping: asyncio.Event) -> None:
    """Keep the store small, a bounded piece at a time."""
    while not stopping.is_set():
        try:
            await store.sweep(store.clock_ms())
        except Exception:
            metrics.PASS_FAILURES.labels("sweep").inc()
            logger.exception("a sweep of the store failed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_S):
                await stopping.wait()


# --- sockets and signals ---------------------------------------------------------------------


def _sandbox() -> httpx2.ASGITransport:
    return httpx2.ASGITransport(
        Sandbox(clock_ms=clock_ms, keep=1000).app, raise_app_exceptions=False
    )


def _on_signals(
    draining: asyncio.Event,
    stopping: asyncio.Event,
    drain_s: float,
    end_now: Callable[[], None],
) -> None:
    """SIGTERM drains for `drain_s` and then stops, SIGINT stops: whoever presses Ctrl-C waits for it."""
    loop = asyncio.get_running_loop()
    to_stop = {signal.SIGTERM: drain_s, signal.SIGINT: 0.0}

    def told_to_stop(after_s: float) -> None:
        if not draining.is_set():
            if after_s:
                logger.info("draining: the public face goes on for %g s", after_s)
            draining.set()
            loop.call_later(after_s, stopping.set)
            return
        # The second time somebody means now, and the third is the system's.
        for number in to_stop:
            loop.remove_signal_handler(number)
        end_now()
        stopping.set()

    for number, after_s in to_stop.items():
        loop.add_signal_handler(number, told_to_stop, after_s)
