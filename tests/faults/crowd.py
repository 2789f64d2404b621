"""Visitors and backends who send each event, with the same id, until it is answered: as browsers do."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from queue import SimpleQueue
from random import Random
from typing import TypeVar
from urllib.parse import urlsplit

from e2e.harness import CHROME, Gateway, backend_event, page_event

from .places import SEED

PATIENCE_S = 90
"""how long one event is tried"""
PAUSE_S = 0.05
"""before the same event is sent again"""
REPEATS = 0.1
"""events that are sent again although they were answered"""

T = TypeVar("T")


class Wire:
    """A connection that is kept as long as the gateway keeps it."""

    def __init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1")

    def post(self, url: str, body: object, headers: Mapping[str, str]) -> int:
        """The status; 0: no answer."""
        parts = urlsplit(url)
        assert parts.port
        if self._connection.port != parts.port:
            self._connection.close()
            self._connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)
        try:
            self._connection.request("POST", parts.path, json.dumps(body), dict(headers))
            with self._connection.getresponse() as response:
                response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0
        return response.status

    def hit(
        self,
        gateway: Gateway,
        event: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """One event as a page sends it."""
        given = {"User-Agent": CHROME, "Content-Type": "text/plain", **(headers or {})}
        return self.post(f"{gateway.script_url}/h", {"events": [event]}, given)

    def backend(self, gateway: Gateway, key: str, events: Sequence[Mapping[str, object]]) -> int:
        """Events as a backend sends them."""
        given = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return self.post(f"{gateway.url}/v1/events", events, given)

    def close(self) -> None:
        self._connection.close()


def until_answered(
    send: Callable[[], int], seen: Callable[[int, float], None] = lambda _status, _s: None
) -> None:
    """Send until a 2xx; `seen` is told every status and the seconds it took. Anything but 503 and silence is a mistake."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        begun = time.monotonic()
        status = send()
        seen(status, time.monotonic() - begun)
        if status in (202, 204):
            return
        assert status in (0, 503), status
        assert time.monotonic() < give_up, status
        time.sleep(PAUSE_S)


class Crowd:
    """So many clients, each with one event under way, half of them pages and half backends, until `stop`."""

    def __init__(
        self,
        gateways: Sequence[Gateway],
        *,
        clients: int = 16,
        think_s: float = 0.03,
        most: int = 90_000,
        prefix: str = "crowd",
    ) -> None:
        self._gateways = gateways
        self._key = gateways[0].api_key
        self._think_s = think_s
        self._most = most
        self._prefix = prefix
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answered: list[str] = []
        self.tries: Counter[int] = Counter()
        self.slowest: dict[int, float] = {}
        self.repeats = 0
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._run, n) for n in range(clients)]

    def got_to(self, number: int) -> bool:
        """Whether so many have been answered; fails when a client has."""
        for client in self._clients:
            if client.done():
                client.result()
        return len(self.answered) >= number

    def stop(self) -> None:
        """End when every event that was begun is answered."""
        self._stop.set()
        for client in self._clients:
            client.result(PATIENCE_S + 30)
        self._pool.shutdown()

    def _run(self, number: int) -> None:
        draw = Random(f"{SEED}-{self._prefix}-{number}")
        wire = Wire()
        for n in count():
            if self._stop.is_set() or len(self.answered) >= self._most:
                break
            event_id = f"{self._prefix}-{number}-{n}"
            self._send(wire, draw, event_id, from_page=n % 2 == 0)
            self.answered.append(event_id)
            if draw.random() < REPEATS:
                self.repeats += 1
                self._send(wire, draw, event_id, from_page=n % 2 == 0)
            self._stop.wait(draw.uniform(0, 2 * self._think_s))
        wire.close()

    def _send(self, wire: Wire, draw: Random, event_id: str, *, from_page: bool) -> None:
        def send() -> int:
            gateway = draw.choice(self._gateways)
            if from_page:
                return wire.hit(gateway, page_event(event_id, "Lead"))
            return wire.backend(gateway, self._key, [backend_event(event_id)])

        until_answered(send, self._saw)

    def _saw(self, status: int, took_s: float) -> None:
        with self._lock:
            self.tries[status] += 1
            self.slowest[status] = max(self.slowest.get(status, 0), took_s)


def all_at_once(jobs: Sequence[Callable[[Wire], T]], clients: int = 16) -> list[T]:
    """What each job answers, with so many of them under way at a time, each client on its own connection."""
    wires: SimpleQueue[Wire] = SimpleQueue()

    def run(job: Callable[[Wire], T]) -> T:
        wire = wires.get()
        try:
            return job(wire)
        finally:
            wires.put(wire)

    made = [Wire() for _ in range(clients)]
    for wire in made:
        wires.put(wire)
    try:
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(run, jobs))
    finally:
        for wire in made:
            wire.close()
