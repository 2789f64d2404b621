"""More than is good for it: floods from one address, and guesses at the API key."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from .harness import CHROME, Gateway, StandIn, backend_event, call, live, page_event, wait_until
from .test_operator import metric

ELSEWHERE = "203.0.114."


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Gateway]:
    env = live(
        stand_in.url,
        GATEWAY_TRUSTED_PROXIES="127.0.0.1",
        GATEWAY_HITS_PER_ADDRESS="0.1",
        GATEWAY_NOSCRIPT="true",
    )  # one at once, then one every ten seconds
    with Gateway(tmp_path_factory.mktemp("gateway"), env) as started:
        yield started.start()


def test_a_flood_from_one_address_is_429_and_everybody_else_goes_on(gateway: Gateway) -> None:
    flooder = {"X-Forwarded-For": ELSEWHERE + "1"}
    counted = {"source": "page", "outcome": "rate_limited"}
    before = metric(gateway, "gateway_events_total", **counted)
    assert gateway.hit(page_event("flood-0"), headers=flooder).status_code == 204
    for n in range(1, 4):
        answer = gateway.hit(page_event(f"flood-{n}"), headers={**flooder, "Origin": gateway.url})
        assert answer.status_code == 429
        assert answer.headers["server-timing"] == "outcome;desc=rate_limited"
        assert answer.headers["access-control-allow-origin"] == gateway.url
        assert 9 <= int(answer.headers["retry-after"]) <= 15
    assert metric(gateway, "gateway_events_total", **counted) == before + 3
    assert not gateway.events("--event-id", "flood-1")
    for other in (ELSEWHERE + "2", "2a02:ed00::1", "10.0.0.1", "10.0.0.1"):
        headers = {"X-Forwarded-For": other}
        assert gateway.hit(page_event(f"calm-{other}"), headers=headers).status_code == 204
    # The next address of the same customer.
    headers = {"X-Forwarded-For": "2a02:ed00::2"}
    assert gateway.hit(page_event("calm-2"), headers=headers).status_code == 429
    # Sixteen spellings of the front server's word are no way out: the last one is the front server's own.
    forged = {"X-Forwarded-For": f"198.51.100.1, {ELSEWHERE}1"}
    assert gateway.hit(page_event("forged"), headers=forged).status_code == 429


def test_the_image_and_meta_s_own_mirror_count_like_hits(gateway: Gateway) -> None:
    def of(last: int) -> dict[str, str]:
        return {"X-Forwarded-For": f"{ELSEWHERE}{last}", "User-Agent": CHROME}

    image = f"{gateway.script_url}.gif"
    assert [call("GET", image, headers=of(20)).status_code for _ in range(2)] == [200, 429]
    assert gateway.hit(page_event("after-image"), headers=of(20)).status_code == 429
    assert gateway.hit(page_event("before-mirror"), headers=of(21)).status_code == 204
    mirror = f"{gateway.script_url}/events"
    assert call("POST", mirror, content="{}", headers=of(21)).status_code == 429


def test_guessing_the_api_key_is_429_after_ten_and_the_right_key_still_opens(
    gateway: Gateway,
) -> None:
    def guess(path: str, headers: dict[str, str]) -> int:
        url = gateway.url + path
        data = {"data": [backend_event("guess")]}
        return call("POST", url, json=data, headers={"User-Agent": CHROME, **headers}).status_code

    wrong = {"Authorization": "Bearer gwk_wrong", "X-Forwarded-For": ELSEWHERE + "9"}
    graph = f"/v26.0/1234567890123456/events?access_token=gwk_{'x' * 20}"
    statuses = [guess("/v1/events", wrong) for _ in range(8)]
    statuses += [guess(graph, {"X-Forwarded-For": ELSEWHERE + "9"}) for _ in range(2)]
    assert statuses == [401] * 10
    assert guess("/v1/events", wrong) == 429
    assert guess(graph, {"X-Forwarded-For": ELSEWHERE + "9"}) == 429
    assert guess("/v1/events", {"X-Forwarded-For": ELSEWHERE + "10"}) == 401
    right = {"Authorization": f"Bearer {gateway.api_key}", "X-Forwarded-For": ELSEWHERE + "9"}
    answer = call("POST", f"{gateway.url}/v1/events", json=backend_event("no-guess"), headers=right)
    assert answer.status_code == 202


@contextlib.contextmanager
def stuck(gateway: Gateway) -> Iterator[None]:
    """Nothing can be written to the store, as on a disk that does not answer; after 5 s SQLite gives up."""
    with contextlib.closing(
        sqlite3.connect(gateway.data / "gateway.db", isolation_level=None)
    ) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


def test_on_a_stuck_disk_page_views_are_turned_away_at_once_and_a_purchase_waits(
    tmp_path: Path, stand_in: StandIn
) -> None:
    answers: list[tuple[str, int, str]] = []
    numbers = count()
    threads: list[threading.Thread] = []
    money = {"value": 1, "currency": "EUR"}

    def post(name: str) -> None:
        answer = slow.hit(page_event(f"stuck-{next(numbers)}", name, data=money))
        answers.append((name, answer.status_code, answer.headers.get("retry-after", "")))

    def start(name: str) -> None:
        threads.append(threading.Thread(target=post, args=(name,)))
        threads[-1].start()

    def turned_away() -> list[tuple[str, int, str]]:
        start("PageView")
        return [answer for answer in answers if answer[1] == 503]

    with Gateway(tmp_path, live(stand_in.url)) as slow:
        slow.start()
        with stuck(slow):
            refused = wait_until(turned_away)
            start("Purchase")
            later = len(threads)
            while len(threads) < later + 3:
                turned_away()
        for thread in threads:
            thread.join()
        assert {name for name, _, _ in refused} == {"PageView"}
        assert all(5 <= int(after) <= 10 for _, _, after in refused)
        assert [status for name, status, _ in answers if name == "Purchase"] == [204]
        assert {status for name, status, _ in answers} == {204, 503}
        assert slow.hit(page_event("unstuck")).status_code == 204
        stored = [e for e in slow.events() if e.event_id.startswith("stuck-")]
        assert len(stored) == sum(status == 204 for _, status, _ in answers)
        slow.ledger()
