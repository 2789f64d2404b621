"""SIGKILL loses nothing that was answered, and doubles nothing."""

import random
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import httpx2

from .harness import Gateway, StandIn, backend_event, live, page_event, wait_until

THREADS = 8
HITS = 150
SEED = 20261124


class Clients:
    """Threads that post hits, each id until it is answered, wherever the gateway is by then."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._key = gateway.api_key
        self.answered: list[str] = []
        self.failures = 0
        self._threads = [threading.Thread(target=self._post_all, args=(n,)) for n in range(THREADS)]

    def run(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def got_to(self, count: int) -> bool:
        return len(self.answered) >= count

    def _post_all(self, thread: int) -> None:
        for n in range(HITS):
            event_id = f"kill-{thread}-{n}"
            wait_until(partial(self._post, event_id, from_page=n % 2 == 0), 60)
            self.answered.append(event_id)

    def _post(self, event_id: str, *, from_page: bool) -> bool:
        try:
            if from_page:
                return self._gateway.hit(page_event(event_id, "Lead")).status_code == 204
            event = backend_event(event_id)
            return self._gateway.backend(event, self._key).status_code == 202
        except httpx2.HTTPError:
            self.failures += 1
            return False


def test_every_answered_hit_is_at_meta_once_or_waits_after_three_kills(
    tmp_path: Path, stand_in: StandIn
) -> None:
    moments = random.Random(SEED)
    with Gateway(tmp_path, live(stand_in.url)) as gateway:
        gateway.start()
        clients = Clients(gateway)
        clients.run()
        try:
            for share in (1, 2, 3):
                moment = share * THREADS * HITS // 4 + moments.randrange(-100, 100)
                wait_until(partial(clients.got_to, moment), 60)
                gateway.kill()
                gateway.ledger()  # whose exit code says that it adds up
                gateway.start()
        finally:
            clients.join()
        assert clients.failures
        assert len(set(clients.answered)) == len(clients.answered) == THREADS * HITS
        # Oldest first: once this last one is delivered, only what was under way at a kill still
        # waits, for a minute, until its lease is over.
        gateway.hit(page_event("last"))
        wait_until(partial(delivered, gateway, "last"))
        there = Counter(event.event_id for event in stand_in.received())
        waiting = {event.event_id for event in gateway.events("--outcome", "pending")}
        assert set(clients.answered) <= there.keys() | waiting
        assert max(there.values()) == 1
        [line] = gateway.ledger()
        assert line.delivered + line.pending == THREADS * HITS + 1
        assert line.delivered >= THREADS * HITS // 2
        assert gateway.dead() == []


def delivered(gateway: Gateway, event_id: str) -> bool:
    return any(e.outcome == "delivered" for e in gateway.events("--event-id", event_id))
