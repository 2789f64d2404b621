"""The processes of an end-to-end test: the gateway, the stand-in of Meta's Graph, and a wire tap between.

Everything listens on 127.0.0.1. What a process prints goes to files, so that nothing blocks on a pipe.
At the end: one pixel's delivery in the test's own process, on a clock that jumps, against a Graph that
answers whatever the test says.
"""

import asyncio
import contextlib
import json
import os
import re
import selectors
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import httpx2
import msgspec

from gateway import sender
from gateway.config import Pixel
from gateway.secret import Secret
from gateway.sender import Sender
from gateway.stores import DeadLetter, Entry, LoggedEvent, Note
from gateway.stores.sqlite import SqliteStore
from gateway.worker import Worker

PIXEL = "1234567890123456"
TOKEN = "EAAe2eTokenThatNobodyMaySee"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36"
)
PAGE = "https://shop.example.com/landing"

T = TypeVar("T")


def wait_until(condition: Callable[[], T], within: float = 15, what: str = "") -> T:
    """The first truthy answer of `condition`; fails after `within` seconds with the last one."""
    give_up = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {within} s: {what or condition}, but {answer!r}")
        time.sleep(0.05)


def call(
    method: str,
    url: str,
    *,
    content: bytes | str | Iterable[bytes] | None = None,
    json: object = None,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    auth: tuple[str, str] | None = None,
) -> httpx2.Response:
    """One request on a connection of its own, without cookies kept or proxies asked."""
    return httpx2.request(
        method,
        url,
        content=content,
        json=json,
        headers=headers,
        auth=auth,
        timeout=20,
        trust_env=False,
        verify=False,  # there is no TLS here, and reading the certificates takes 30 ms
    )


# --- what comes back, typed ------------------------------------------------------------------


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the stand-in took it."""

    event_name: str
    event_id: str
    event_time: int
    action_source: str
    user_data: dict[str, str | list[str]]
    custom_data: dict[str, object] = {}
    event_source_url: str = ""
    referrer_url: str = ""
    data_processing_options: list[str] | None = None
    data_processing_options_country: int | None = None
    data_processing_options_state: int | None = None


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """An event at the stand-in, and when it came."""

    at_ms: int
    pixel: str
    event: Arrived


class GraphRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request at the stand-in."""

    at_ms: int
    pixel: str
    n_events: int
    status: int
    code: int | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What Graph would have taken and not used."""

    event_id: str
    field: str
    problem: str


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    received: list[Received] = []
    requests: list[GraphRequest] = []
    problems: list[Problem] = []
    duplicates: int = 0


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `gateway events --json`."""

    ref: int
    event_name: str
    event_id: str
    source: str
    pixel: str
    outcome: str
    reason: str
    attempts: int
    user_data: list[str]
    custom_data: dict[str, str | float]


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `gateway ledger --json`."""

    pixel: str
    accepted: int
    delivered: int
    merged: int
    dropped: dict[str, int]
    dead: int
    pending: int
    adds_up: bool


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `gateway dead list --json`."""

    ref: int
    event_id: str
    reason: str


# --- processes -------------------------------------------------------------------------------


class Process:
    """A Python program of ours in a folder of its own, with nothing in its environment but what it is given."""

    def __init__(self, folder: Path, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self.folder = folder
        self.arguments = list(arguments)
        self.env = {"PATH": os.environ["PATH"], **env}
        self.wrapper: list[str] = []
        """a command that runs the program, if any"""
        self._runs = count()
        self._process: subprocess.Popen[bytes] | None = None
        self._out = folder / "none"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def launch(self) -> None:
        """Start the program; its outputs go to new files."""
        assert not self.running
        self.folder.mkdir(parents=True, exist_ok=True)
        self._out = self.folder / f"run-{next(self._runs)}.out"
        with self._out.open("wb") as out, self._out.with_suffix(".err").open("wb") as err:
            self._process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-m", *self.arguments],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def said(self) -> str:
        """Standard output of the current run."""
        return self._out.read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        """Standard error of every run."""
        files = sorted(self.folder.glob("run-*.err"))
        return "".join(file.read_text(encoding="utf-8") for file in files)

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Does nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def ask_to_end(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def ended(self, within: float = 20) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(within)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.ask_to_end()
        return self.ended()

    def greeting(self, pattern: str) -> re.Match[str]:
        """Wait for a line of standard output; fails at once when the process ends without it."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.said)
            if not found and not self.running:
                raise AssertionError(f"ended with {self.ended()} without a greeting: {self.log}")
            return found

        found = wait_until(look, 20, pattern)
        assert found is not None
        return found


class StandIn(Process):
    """`python -m gateway.sandbox`: Meta's Graph on a socket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [], {})
        self.url = ""

    def start(self) -> Self:
        """Start on a free port the first time, on the same port afterwards."""
        port = self.url.rpartition(":")[2] or "0"
        self.arguments = ["gateway.sandbox", "--port", port]
        self.launch()
        self.url = self.greeting(r"sandbox on (http://\S+)\n")[1]
        return self

    def received(self) -> list[Arrived]:
        """Every event taken, in order."""
        return [one.event for one in self.look("received").received]

    def of(self, event_id: str) -> list[Arrived]:
        """The copies taken of one event."""
        return [event for event in self.received() if event.event_id == event_id]

    def one(self, event_id: str, within: float = 15) -> Arrived:
        """The only copy taken of one event, once it is there."""
        [event] = wait_until(lambda: self.of(event_id), within, event_id)
        return event

    def arrivals(self, prefix: str) -> list[str]:
        """The ids taken that begin like this, copies included."""
        ids = [event.event_id for event in self.received()]
        return [event_id for event_id in ids if event_id.startswith(prefix)]

    def requests(self) -> list[GraphRequest]:
        """Every request, in order."""
        return self.look("requests").requests

    def problems(self) -> list[Problem]:
        """What Graph would not have used."""
        return self.look("problems").problems

    def look(self, what: str) -> _Answer:
        """One of the stand-in's own views."""
        response = call("GET", f"{self.url}/_sandbox/{what}")
        return msgspec.json.decode(response.content, type=_Answer)

    def faults(self, **faults: str | int | list[str]) -> None:
        """Replace the faults; without any, all of them are off."""
        call("POST", f"{self.url}/_sandbox/faults", json=faults).raise_for_status()


class Gateway(Process):
    """`python -m gateway serve` on free ports, with its data in `folder`/data; nothing is held unless `env` says so."""

    def __init__(self, folder: Path, env: Mapping[str, str], *options: str) -> None:
        arguments = ["gateway", "serve", "--port", "0", "--admin-port", "0", *options]
        super().__init__(folder, arguments, {"GATEWAY_HOLD_SECONDS": "0", **env})
        self.url = ""
        self.admin_url = ""
        self.slug = ""

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def api_key(self) -> str:
        """The key of the backend API."""
        return (self.data / "api_key").read_text(encoding="ascii").strip()

    @property
    def tag(self) -> str:
        """The printed tag with its full address."""
        return self.greeting(r'<script src="http://[^"]+" async></script>')[0]

    @property
    def script_url(self) -> str:
        """Of the snippet; hits go below it."""
        return f"{self.url}/{self.slug}"

    def start(self) -> Self:
        """Start, and wait until both faces are up."""
        self.launch()
        self.url = self.greeting(r"is listening on (http://\S+)\n")[1]
        self.slug = self.greeting(r'<script src="http://[^/]+/([a-z0-9]+)"')[1]
        self.admin_url = self.greeting(r"Dashboard: (http://\S+)/\n")[1]
        return self

    def restart(self) -> Self:
        """Again on the same data, after whatever ended it; SIGKILL when nothing did."""
        self.kill()
        return self.start()

    def age_leases(self) -> None:
        """Make what a killed process had claimed due, as a minute of waiting would."""
        assert not self.running
        with contextlib.closing(sqlite3.connect(self.data / "gateway.db")) as db, db:
            db.execute("UPDATE job SET due = 0")

    def settled(self, within: float = 60) -> None:
        """Wait until nothing is pending."""
        wait_until(lambda: not any(line.pending for line in self.ledger()), within, "settled")

    def hit(
        self,
        *events: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> httpx2.Response:
        """Post a page's hit."""
        body = json.dumps({"events": events, **more})
        given = {"User-Agent": CHROME, "Content-Type": "text/plain", **(headers or {})}
        return call("POST", f"{self.script_url}/h", content=body, headers=given)

    def backend(self, body: object, key: str | None = None) -> httpx2.Response:
        """Post to the backend API, with the right key unless another is given."""
        headers = {"Authorization": f"Bearer {key or self.api_key}"}
        return call("POST", f"{self.url}/v1/events", json=body, headers=headers)

    def admin(self, path: str, password: str = "") -> httpx2.Response:
        """Get from the operator's face."""
        auth = ("operator", password) if password else None
        return call("GET", self.admin_url + path, auth=auth)

    # --- the command line, on the same folder and settings ---------------------------------------

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def told(self, *arguments: str) -> str:
        """Standard output of a command that succeeds."""
        done = self.cli(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def events(self, *options: str) -> list[Logged]:
        """The event log."""
        lines = self.told("events", "--json", "--limit", "10000", *options).splitlines()
        return [msgspec.json.decode(line, type=Logged) for line in lines]

    def ledger(self) -> list[LedgerLine]:
        """The ledger; a test fails where it does not add up."""
        lines = self.told("ledger", "--json").splitlines()
        return [msgspec.json.decode(line, type=LedgerLine) for line in lines]

    def dead(self) -> list[Dead]:
        """The dead letters."""
        lines = self.told("dead", "list", "--json").splitlines()
        return [msgspec.json.decode(line, type=Dead) for line in lines]


def live(stand_in_url: str, **more: str) -> dict[str, str]:
    """The environment of a gateway that delivers to a stand-in."""
    return {
        "FB_PIXEL_ID": PIXEL,
        "FB_ACCESS_TOKEN": TOKEN,
        "GATEWAY_GRAPH_URL": stand_in_url,
        **more,
    }


def page_event(event_id: str, name: str = "PageView", **more: object) -> dict[str, object]:
    """An event as a page sends it."""
    return {"name": name, "id": event_id, "url": PAGE, **more}


def backend_event(event_id: str, name: str = "Lead", **more: object) -> dict[str, object]:
    """An event as a backend sends it."""
    return {
        "event_name": name,
        "event_id": event_id,
        "action_source": "system_generated",
        "user_data": {"external_id": f"customer-{event_id}"},
        **more,
    }


# --- on the wire -----------------------------------------------------------------------------


class Tapped(msgspec.Struct, frozen=True):
    """A request on the wire: its first line and headers as text, and the body."""

    head: str
    body: bytes


class Tap:
    """Listens on a port of its own, writes down what passes, and hands it on to the stand-in."""

    def __init__(self, target: str) -> None:
        tapped: list[Tapped] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                tapped.append(Tapped(f"{self.requestline}\n{self.headers}", body))
                kind = {"Content-Type": self.headers["Content-Type"]}
                answer = call("POST", target + self.path, content=body, headers=kind)
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.tapped = tapped
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# --- one pixel's delivery, in process, on a clock that jumps -----------------------------------

QUIET_S = 0.02
"""how long everything has to be silent before the clock jumps"""


class _Jumping(selectors.EpollSelector):
    """Waits a moment for sockets and threads; when they are silent, the rest of the wait is skipped."""

    def __init__(self, quiet_s: float) -> None:
        super().__init__()
        self.quiet_s = quiet_s
        self.skipped_s = 0.0
        self.holds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.holds or timeout is None or timeout <= self.quiet_s:
            return super().select(timeout)
        ready = super().select(self.quiet_s)
        if not ready:
            self.skipped_s += timeout - self.quiet_s
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on which ten minutes of waiting take no time. Sockets are as real as ever."""

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        self._jumping = _Jumping(quiet_s)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds, those skipped included."""
        return super().time() + self._jumping.skipped_s

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No jump: something has to be done within a time that a busy machine may take for real."""
        self._jumping.holds += 1
        try:
            yield
        finally:
            self._jumping.holds -= 1


P = ParamSpec("P")


def timely(operation: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[None, None, T]]:
    """An operation of a store as always, but with the clock held."""

    async def held(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        with loop.held() if isinstance(loop, JumpingLoop) else contextlib.nullcontext():
            return await operation(*args, **kwargs)

    return held


class TimelyStore(SqliteStore):
    """A store on a clock that must not jump over the time the disk takes, which may be long on a busy machine."""

    put = timely(SqliteStore.put)
    claim = timely(SqliteStore.claim)
    settle = timely(SqliteStore.settle)
    recall = timely(SqliteStore.recall)
    sweep = timely(SqliteStore.sweep)
    ledger = timely(SqliteStore.ledger)
    events = timely(SqliteStore.events)
    dead = timely(SqliteStore.dead)
    revive = timely(SqliteStore.revive)


def now_ms() -> int:
    """Unix milliseconds by the running loop's clock."""
    return 1_764_000_000_000 + int(asyncio.get_running_loop().time() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it came in."""

    at_ms: int
    pixel: str
    token: str
    events: list[dict[str, object]]

    @property
    def ids(self) -> list[str]:
        """Of its events, in order."""
        return [str(event["event_id"]) for event in self.events]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer: this, or nothing at all."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    delay_s: float = 0

    @classmethod
    def error(cls, status: int, code: int, subcode: int | None = None, **more: object) -> "Reply":
        """A Graph error, as the published ones are."""
        told = {"message": "...", "type": "OAuthException", "code": code, **more}
        told |= {"error_subcode": subcode} if subcode else {}
        body = msgspec.json.encode({"error": told | {"fbtrace_id": "AbC"}})
        return cls(status=status, body=body)


class ScriptedGraph:
    """Answers on a real socket what `reply` says; None is Graph on a good day."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.reply: Callable[[Asked], Reply | None] = lambda _asked: None
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen: on a free port the first time, on the same one afterwards."""
        port = int(self.url.rpartition(":")[2] or 0)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**22)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Refuse connections from now on."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def say(self, reply: Reply, times: int = 1_000_000) -> None:
        """Give this answer so many times."""
        left = iter(range(times))
        self.reply = lambda _asked: reply if next(left, None) is not None else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: what the worker does next never depends on an old one."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"(?i)content-length: (\d+)", head)
            assert length
            body = msgspec.json.decode(await reader.readexactly(int(length[1])))
            path = head.split()[1].split("/")
            asked = Asked(
                at_ms=now_ms(), pixel=path[2], token=body["access_token"], events=body["data"]
            )
            self.asked.append(asked)
            good = b'{"events_received":%d,"fbtrace_id":"AbC"}' % len(asked.events)
            reply = self.reply(asked) or Reply(body=good)
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            if reply.hang_up:
                writer.transport.abort()
                return
            headers = {"Content-Length": str(len(reply.body)), "Connection": "close"}
            lines = [f"{name}: {value}" for name, value in (headers | dict(reply.headers)).items()]
            start = "\r\n".join([f"HTTP/1.1 {reply.status} X", *lines, "", ""])
            writer.write(start.encode() + reply.body)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A worker with a store and a Graph of its own."""

    store: SqliteStore
    graph: ScriptedGraph
    worker: Worker

    async def put(
        self, *event_ids: str, user: Mapping[str, str] | None = None, deadline_ms: int = 0
    ) -> None:
        """Store events of the pixel, due now; by default they are good for six days."""
        entries = [
            Entry(
                pixel=PIXEL,
                key=event_id.encode().rjust(16),
                body=msgspec.json.encode(
                    {"event_name": "Lead", "event_id": event_id, "user_data": user or {"em": "x"}}
                ),
                due_ms=now_ms(),
                deadline_ms=deadline_ms or now_ms() + 6 * 86_400_000,
                note=Note(event_name="Lead", event_id=event_id, source="backend"),
            )
            for event_id in event_ids
        ]
        await self.store.put(entries, [], now_ms())
        self.worker.wake()

    async def log(self) -> dict[str, LoggedEvent]:
        """Every event by its id."""
        return {e.note.event_id: e for e in await self.store.events(limit=10_000)}

    async def outcomes(self) -> dict[str, str]:
        """What became of every event, by its id."""
        return {event_id: str(e.outcome) for event_id, e in (await self.log()).items()}

    async def dead(self) -> dict[str, DeadLetter]:
        """The dead letters by the ids of their events."""
        return {letter.note.event_id: letter for letter in await self.store.dead()}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """`run`, until the end of the block."""
        task = asyncio.create_task(self.worker.run())
        try:
            yield
        finally:
            self.worker.stop()
            await asyncio.wait_for(task, 60)


def pixel(token: str | None = TOKEN) -> Pixel:
    """The pixel of the tests, with another token if need be."""
    secret = Secret(token) if token else None
    return Pixel(id=PIXEL, access_token=secret, test_event_code=None, sandbox=False)


@contextlib.asynccontextmanager
async def lane(
    folder: Path, *, per_second: float = 10, draw: float = 0.5, hold_ms: int = 0
) -> AsyncIterator[Lane]:
    """A lane on the running loop, which should be a JumpingLoop. `draw` is every random number."""
    store = await TimelyStore.open(folder / "gateway.db")
    graph = ScriptedGraph()
    await graph.start()
    try:
        async with sender.new_client() as client:
            worker = Worker(
                outbox=store,
                sender=Sender(client, graph.url, "v26.0"),
                pixel=pixel(),
                per_second=per_second,
                hold_ms=hold_ms,
                clock_ms=now_ms,
                draw=lambda: draw,
            )
            yield Lane(store=store, graph=graph, worker=worker)
    finally:
        await graph.stop()
        await store.close()
