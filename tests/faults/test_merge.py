"""A conversion's two halves become one event, in whatever order they come and whoever is killed meanwhile."""

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random

import pytest
from e2e.harness import CHROME, Arrived, StandIn, page_event, wait_until

from .crowd import Wire, all_at_once, until_answered
from .places import LONG, SEED, Place, say, settled

CONVERSIONS = 1000 if LONG else 60
WAVE = 250 if LONG else 60
"""conversions whose halves are on their way together; the gateway is killed once in each wave"""
HOLD_S = 10
GAP_S = 0.4 if LONG else 0.02
"""a client waits up to so long before a second half"""
DELIVERY_MS = 4000
"""what a batch may take from complete to there: it gathers for a second, and waits for the one before it"""


@dataclass(slots=True)
class Conversion:
    """One purchase, as two senders know it, and when which half was answered."""

    number: int
    page_first: bool
    first_ms: int = 0
    second_ms: int = 0

    @property
    def event_id(self) -> str:
        return f"order-{self.number}"

    @property
    def fbp(self) -> str:
        return f"fb.1.1764000000000.{1_000_000_000 + self.number}"

    @property
    def address(self) -> str:
        return f"203.0.113.{self.number % 254 + 1}"

    @property
    def agent(self) -> str:
        return CHROME.replace("126.0.0.0", f"126.0.{self.number}.0")

    @property
    def email(self) -> str:
        return f"buyer-{self.number}@example.com"

    def is_whole(self, event: Arrived) -> bool:
        """Whether an event has of each half what that half knows best."""
        user = event.user_data
        hashed = hashlib.sha256(self.email.encode()).hexdigest()
        return (
            event.custom_data.get("value") == 100 + self.number
            and user.get("em") in (hashed, [hashed])
            and user.get("fbp") == self.fbp
            and user.get("client_ip_address") == self.address
            and user.get("client_user_agent") == self.agent
        )

    def send(self, place: Place, wire: Wire, *, page: bool, again: bool) -> None:
        """One half until it is answered, and once more."""
        for _ in range(2 if again else 1):
            until_answered(lambda: (self._page if page else self._backend)(place, wire))

    def _page(self, place: Place, wire: Wire) -> int:
        headers = {
            "X-Forwarded-For": self.address,
            "User-Agent": self.agent,
            "Cookie": f"_fbp={self.fbp}",
        }
        data = {"value": 5, "currency": "EUR"}
        return wire.hit(place.gateway, page_event(self.event_id, "Purchase", data=data), headers)

    def _backend(self, place: Place, wire: Wire) -> int:
        """Of a website, which Meta would not take without the page and the browser that only the page's half knows."""
        event = {
            "event_name": "Purchase",
            "event_id": self.event_id,
            "user_data": {"email": f" {self.email.upper()} "},
            "custom_data": {"value": 100 + self.number, "currency": "EUR"},
        }
        return wire.backend(place.gateway, place.gateway.api_key, [event])


@pytest.fixture
def merging(place: Place) -> Place:
    place.gateway.env |= {
        "GATEWAY_HOLD_SECONDS": str(HOLD_S),
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1/32",
    }
    place.gateway.start()
    return place


@pytest.mark.timeout(300)
def test_every_conversion_arrives_once_and_whole(merging: Place) -> None:
    draw = Random(SEED)
    conversions = [Conversion(n, draw.random() < 0.5) for n in range(CONVERSIONS)]
    for start in range(0, CONVERSIONS, WAVE):
        wave = conversions[start : start + WAVE]
        with ThreadPoolExecutor(1) as beside:
            sending = beside.submit(first_halves, merging, wave, draw)
            wait_until(partial(half_way, wave), 30, "first halves")
            # Whatever is kept is held: a kill now finds no request to Meta under way.
            merging.gateway.restart()
            sending.result()
        second_halves(merging, wave, draw)
        wait_until(lambda: there(merging.stand_in) >= start + WAVE, 30, "the wave at Meta")  # noqa: B023
    settled(merging.gateway)
    taken = merging.stand_in.look("received").received
    at_ms = {one.event.event_id: one.at_ms for one in taken}
    whole = {one.event.event_id for one in taken if whole_one(conversions, one.event)}
    delays = [at_ms[c.event_id] - c.second_ms for c in conversions]
    held = [at_ms[c.event_id] - c.first_ms for c in conversions]
    [line] = merging.gateway.ledger()
    say(
        f"{CONVERSIONS} conversions in halves on {merging.name}, {CONVERSIONS // WAVE} kills: {len(taken)} events at "
        f"Meta, {len(whole)} whole; from the second half to Meta {statistics.median(delays) / 1000:.1f} s (median), "
        f"{max(delays) / 1000:.1f} s at most; from the first {max(held) / 1000:.1f} s at most (hold {HOLD_S} s)"
    )
    assert sorted(at_ms) == sorted(c.event_id for c in conversions)
    assert len(taken) == len(whole) == line.delivered == CONVERSIONS
    assert max(held) <= HOLD_S * 1000 + DELIVERY_MS


def half_way(wave: Sequence[Conversion]) -> bool:
    return sum(one.first_ms > 0 for one in wave) >= len(wave) // 2


def there(stand_in: StandIn) -> int:
    return len(stand_in.received())


def whole_one(conversions: Sequence[Conversion], event: Arrived) -> bool:
    return conversions[int(event.event_id.rpartition("-")[2])].is_whole(event)


def first_halves(place: Place, wave: Sequence[Conversion], draw: Random) -> None:
    """In random order, every tenth of them twice."""

    def send(one: Conversion, again: bool, wire: Wire) -> None:
        one.send(place, wire, page=one.page_first, again=again)
        one.first_ms = now_ms()

    all_at_once([partial(send, one, draw.random() < 0.1) for one in shuffled(wave, draw)])


def second_halves(place: Place, wave: Sequence[Conversion], draw: Random) -> None:
    """In another order, with gaps, and every tenth twice."""

    def send(one: Conversion, gap_s: float, again: bool, wire: Wire) -> None:
        time.sleep(gap_s)
        one.send(place, wire, page=not one.page_first, again=False)
        one.second_ms = now_ms()
        if again:
            one.send(place, wire, page=not one.page_first, again=False)

    jobs: list[Callable[[Wire], None]] = [
        partial(send, one, draw.uniform(0, GAP_S), draw.random() < 0.1)
        for one in shuffled(wave, draw)
    ]
    all_at_once(jobs)


def shuffled(wave: Sequence[Conversion], draw: Random) -> list[Conversion]:
    return draw.sample(wave, len(wave))


def now_ms() -> int:
    return time.time_ns() // 1_000_000
