"""Meta's own mirror: fbevents.js posts each event to the gateway itself, beside the snippet's copy."""

import hashlib
import json
from collections.abc import Callable, Iterator

import httpx2
import pytest

from .harness import CHROME, PAGE, PIXEL, Gateway, StandIn, call, live, page_event

EMAIL = hashlib.sha256(b"jo@mail.example").hexdigest()
FBP, FBC = "fb.1.1795000000000.42", "fb.1.1795000000000.IwAR0"


def mirrored(event_id: str, **more: object) -> dict[str, object]:
    return {
        "event_name": "Purchase",
        "event_id": event_id,
        "custom_data": {"content_ids": ["a"], "content_type": "product"},
        "conversion_value": {"value": 10, "currency": "USD"},
        "website_context": {"location": PAGE, "referrer": "https://shop.example.com/cart"},
        "fb.pixel_id": PIXEL,
        "fb.advanced_matching": {"em": EMAIL, "fn": "f" * 64, "external_id": "7"},
        "fb.fbp": FBP,
        "fb.clickID": FBC,
        **more,
    }


def post(gateway: Gateway, body: object, **headers: str) -> httpx2.Response:
    given = {"User-Agent": CHROME, "Content-Type": "text/plain;charset=UTF-8", **headers}
    url = f"{gateway.script_url}/events"
    return call("POST", url, content=json.dumps(body), headers=given)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("bridge"), live(stand_in.url)) as running:
        yield running.start()


def test_an_event_arrives_with_everything_meta_found(gateway: Gateway, stand_in: StandIn) -> None:
    answer = post(gateway, mirrored("ob-1"))

    assert answer.status_code == 204
    assert answer.headers["server-timing"] == "outcome;desc=pending"
    event = stand_in.one("ob-1")
    assert (event.event_source_url, event.referrer_url) == (PAGE, "https://shop.example.com/cart")
    assert event.custom_data == {
        "content_ids": ["a"],
        "content_type": "product",
        "value": 10,
        "currency": "USD",
    }
    assert event.user_data["em"] == [EMAIL]
    assert event.user_data["fn"] == ["f" * 64]
    assert (event.user_data["fbp"], event.user_data["fbc"]) == (FBP, FBC)
    assert f"_fbp={FBP};" in answer.headers["set-cookie"]


def test_the_cookies_of_the_request_go_before_the_bodys(
    gateway: Gateway, stand_in: StandIn
) -> None:
    own = "fb.1.1795000000001.43"
    post(gateway, mirrored("ob-2"), Cookie=f"_fbp={own}")

    assert stand_in.one("ob-2").user_data["fbp"] == own


@pytest.mark.parametrize("first", ["snippet", "mirror"])
def test_it_is_one_event_with_the_snippets_copy(
    gateway: Gateway, stand_in: StandIn, first: str
) -> None:
    event_id = f"ob-both-{first}"
    copy = page_event(event_id, "Purchase", data={"value": 10, "currency": "USD"}, pixel=True)
    sends: list[Callable[[], httpx2.Response]] = [
        lambda: gateway.hit(copy),
        lambda: post(gateway, mirrored(event_id)),
    ]
    for send in sends if first == "snippet" else sends[::-1]:
        send().raise_for_status()
    gateway.settled()

    stand_in.one(event_id)
    assert {e.outcome for e in gateway.events("--event-id", event_id)} == {
        "delivered",
        "duplicate",
    }


def test_another_sites_pixel_is_refused(gateway: Gateway) -> None:
    answer = post(gateway, mirrored("ob-3", **{"fb.pixel_id": "99999999"}))

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "pixel_id"


def test_under_required_it_counts_for_who_agreed_before(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    env = {"GATEWAY_SANDBOX": "true", "GATEWAY_CONSENT": "required"}
    with Gateway(tmp_path_factory.mktemp("strict"), env).start() as strict:
        silent = post(strict, mirrored("ob-4", **{"fb.pixel_id": "99999999"}))
        assert silent.headers["server-timing"] == "outcome;desc=no_consent"
        assert "set-cookie" not in silent.headers

        lines = strict.hit(page_event("yes"), consent="granted").headers.get_list("set-cookie")
        jar = "; ".join(line.partition(";")[0] for line in lines)
        # The sandbox takes any pixel: nothing of it reaches Meta.
        agreed = post(strict, mirrored("ob-5", **{"fb.pixel_id": "99999999"}), Cookie=jar)
        assert agreed.headers["server-timing"] == "outcome;desc=pending"


def test_within_the_hold_what_meta_found_completes_the_snippets_copy(
    stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    env = live(stand_in.url, GATEWAY_HOLD_SECONDS="6")
    with Gateway(tmp_path_factory.mktemp("held"), env).start() as holding:
        copy = page_event("ob-held", "Purchase", data={"value": 10, "currency": "USD"}, pixel=True)
        holding.hit(copy).raise_for_status()
        rich = post(holding, mirrored("ob-held"))

        assert rich.headers["server-timing"] == "outcome;desc=merged"
        event = stand_in.one("ob-held")
        assert event.user_data["em"] == [EMAIL]
        assert event.custom_data["content_ids"] == ["a"]
