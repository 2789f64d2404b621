"""The Graph-compatible endpoint: Meta's own SDK and plain HTTP as clients."""

import hashlib
import json
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx2
import pytest
from facebook_business.adobjects.serverside.action_source import ActionSource
from facebook_business.adobjects.serverside.custom_data import CustomData
from facebook_business.adobjects.serverside.event import Event
from facebook_business.adobjects.serverside.event_request import EventRequest
from facebook_business.adobjects.serverside.user_data import UserData
from facebook_business.api import FacebookAdsApi, FacebookSession
from facebook_business.exceptions import FacebookRequestError

from .harness import CHROME, PIXEL, Gateway, StandIn, backend_event, live

DAY_S = 86_400
# requests leaves its pooled sockets to the garbage collector, and the SDK has no way to close them.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")


@pytest.fixture(scope="module")
def gateway(stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), live(stand_in.url)) as started:
        yield started.start()


def sdk_event(event_id: str, age_s: int = 0) -> Event:
    return Event(
        event_name="Purchase",
        event_id=event_id,
        event_time=int(time.time()) - age_s,
        event_source_url="https://shop.example.com/thanks",
        action_source=ActionSource.WEBSITE,
        user_data=UserData(
            email=f"{event_id}@Example.com", client_user_agent=CHROME, client_ip_address="8.8.8.8"
        ),
        custom_data=CustomData(value=9.5, currency="eur"),
    )


def by_sdk(gateway: Gateway, events: list[Event], token: str | None = None) -> int:
    before = FacebookSession.GRAPH
    FacebookSession.GRAPH = gateway.url
    try:
        FacebookAdsApi.init(access_token=token or gateway.api_key, crash_log=False)
        received = EventRequest(pixel_id=PIXEL, events=events).execute().events_received
    finally:
        FacebookSession.GRAPH = before
    assert isinstance(received, int)
    return received


def accepted(gateway: Gateway) -> int:
    return sum(line.accepted for line in gateway.ledger())


def test_metas_sdk_sends_one_event(gateway: Gateway, stand_in: StandIn) -> None:
    assert by_sdk(gateway, [sdk_event("sdk-one")]) == 1
    event = stand_in.one("sdk-one")
    assert event.user_data["em"] == [hashlib.sha256(b"sdk-one@example.com").hexdigest()]
    assert event.user_data["client_ip_address"] == "8.8.8.8"
    assert event.custom_data == {"value": 9.5, "currency": "EUR"}


def test_metas_sdk_sends_a_thousand(gateway: Gateway, stand_in: StandIn) -> None:
    ids = [f"sdk-{n:04}" for n in range(1000)]
    assert by_sdk(gateway, [sdk_event(i) for i in ids]) == 1000
    gateway.settled()
    assert sorted(stand_in.arrivals("sdk-0")) == ids


def test_a_wrong_key_is_code_190_to_metas_sdk(gateway: Gateway) -> None:
    before = accepted(gateway)
    with pytest.raises(FacebookRequestError) as raised:
        by_sdk(gateway, [sdk_event("wrong-key")], "EAAwrong")
    assert raised.value.api_error_code() == 190
    assert accepted(gateway) == before


def test_a_stale_event_refuses_the_request_and_leaves_nothing(gateway: Gateway) -> None:
    before = accepted(gateway)
    with pytest.raises(FacebookRequestError) as raised:
        by_sdk(gateway, [sdk_event("beside-a-stale-one"), sdk_event("stale", 8 * DAY_S)])
    assert raised.value.api_error_code() == 100
    assert raised.value.api_error_subcode() == 2804003
    assert accepted(gateway) == before
    assert gateway.events("--event-id", "beside-a-stale-one") == []


ENCODINGS = ("json", "json-texts", "form", "multipart")
PLACES = ("query", "field", "bearer")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_and_place_of_the_token_is_taken(
    gateway: Gateway, stand_in: StandIn, encoding: str, place: str
) -> None:
    event_id = f"{encoding}-{place}"
    event = backend_event(event_id, event_time=int(time.time()))
    token = {"access_token": gateway.api_key}
    fields = token if place == "field" else {}
    query = f"?{urlencode(token)}" if place == "query" else ""
    headers = {"Authorization": f"Bearer {gateway.api_key}"} if place == "bearer" else {}
    url = f"{gateway.url}/v26.0/{PIXEL}/events{query}"
    with httpx2.Client(trust_env=False, timeout=30) as client:
        match encoding:
            case "json":
                answer = client.post(url, json={"data": [event], **fields}, headers=headers)
            case "json-texts":
                texts = [json.dumps(event)]
                answer = client.post(url, json={"data": texts, **fields}, headers=headers)
            case "form":
                form = {"data": json.dumps([json.dumps(event)]), **fields}
                answer = client.post(url, data=form, headers=headers)
            case _:
                parts = {"data": json.dumps([event]), **fields}
                files = {name: (None, text) for name, text in parts.items()}
                answer = client.post(url, files=files, headers=headers)
    assert (answer.status_code, answer.json()["events_received"]) == (200, 1)
    assert stand_in.one(event_id).event_id == event_id


@pytest.mark.parametrize(
    ("path", "body", "code", "subcode"),
    [
        ("/v26.0/999999/events", {"data": [backend_event("x")]}, 100, 33),
        (f"/v26.0/{PIXEL}/events", "not JSON", 100, None),
        (f"/v26.0/{PIXEL}/events", [1], 100, None),
        (f"/v26.0/{PIXEL}/events", {}, 100, None),
        (f"/v26.0/{PIXEL}/events", {"data": []}, 100, None),
        (f"/v26.0/{PIXEL}/events", {"data": ["not JSON"]}, 100, None),
        (f"/v26.0/{PIXEL}/events", {"data": [{"event_name": 5}]}, 100, None),
        (
            f"/v26.0/{PIXEL}/events",
            {"data": [backend_event("x", "Purchase", custom_data={"currency": "EUR"})]},
            100,
            2804009,
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_in_graphs_shape(
    gateway: Gateway, path: str, body: object, code: int, subcode: int | None
) -> None:
    before = accepted(gateway)
    headers = {"Authorization": f"Bearer {gateway.api_key}", "Content-Type": "application/json"}
    content = body if isinstance(body, str) else json.dumps(body)
    with httpx2.Client(trust_env=False, timeout=30) as client:
        answer = client.post(gateway.url + path, content=content, headers=headers)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["code"], error.get("error_subcode")) == (code, subcode)
    assert error["fbtrace_id"]
    assert accepted(gateway) == before


def test_what_was_answered_200_survives_a_kill(gateway: Gateway, stand_in: StandIn) -> None:
    stand_in.faults(error="service")
    event = backend_event("before-the-kill")
    headers = {"Authorization": f"Bearer {gateway.api_key}"}
    url = f"{gateway.url}/v26.0/{PIXEL}/events"
    with httpx2.Client(trust_env=False, timeout=30) as client:
        assert client.post(url, json={"data": [event]}, headers=headers).status_code == 200
        assert client.post(url, json={"data": [event]}, headers=headers).status_code == 200
    gateway.kill()
    stand_in.faults()
    gateway.age_leases()
    gateway.start()
    assert stand_in.one("before-the-kill").event_id == "before-the-kill"
