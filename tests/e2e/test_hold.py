"""A conversion's two halves become one event at Meta, whichever comes first; and what the pixel delivered stays home."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import CHROME, PAGE, Gateway, StandIn, backend_event, live, page_event

HOUR_S = "3600"
"""so long that only the other half can end the hold within a test"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Gateway]:
    env = live(stand_in.url, GATEWAY_HOLD_SECONDS=HOUR_S)
    with Gateway(tmp_path_factory.mktemp("gateway"), env) as started:
        yield started.start()


def page_half(event_id: str, **more: object) -> dict[str, object]:
    return page_event(event_id, "Lead", data={"value": 5, "currency": "EUR"}, **more)


def backend_half(event_id: str) -> dict[str, object]:
    return backend_event(event_id, custom_data={"value": 9.5, "currency": "USD"})


def outcome_told(gateway: Gateway, event: dict[str, object]) -> str:
    return gateway.hit(event).headers["server-timing"].removeprefix("outcome;desc=")


def fates(gateway: Gateway, event_id: str) -> list[str]:
    return [line.outcome for line in gateway.events("--event-id", event_id)]


@pytest.mark.parametrize("first", ["page", "backend"])
def test_two_halves_arrive_as_one_event(gateway: Gateway, stand_in: StandIn, first: str) -> None:
    event_id = f"both-{first}"
    if first == "page":
        assert outcome_told(gateway, page_half(event_id)) == "held"
        assert fates(gateway, event_id) == ["held"]
        answer = gateway.backend(backend_half(event_id)).json()
        assert (answer["accepted"], answer["merged"]) == (0, 1)
        assert answer["events"] == [{"event_id": event_id, "outcome": "merged"}]
    else:
        answer = gateway.backend(backend_half(event_id)).json()
        assert (answer["accepted"], answer["merged"]) == (1, 0)
        assert answer["events"] == [{"event_id": event_id, "outcome": "accepted"}]
        assert outcome_told(gateway, page_half(event_id)) == "merged"

    arrived = stand_in.one(event_id)
    assert arrived.custom_data == {"value": 9.5, "currency": "USD"}
    assert {"external_id", "fbp"} <= set(arrived.user_data)
    assert arrived.user_data["client_user_agent"] == CHROME
    assert arrived.action_source == "website"
    assert outcome_told(gateway, page_half(event_id)) == "duplicate"
    assert gateway.backend(backend_half(event_id)).json()["duplicates"] == 1
    assert stand_in.one(event_id) == arrived
    assert all(line.adds_up for line in gateway.ledger())


@pytest.mark.parametrize("first", ["page", "backend"])
def test_a_backend_need_not_know_the_page_and_the_browser(
    gateway: Gateway, stand_in: StandIn, first: str
) -> None:
    event_id = f"bare-{first}"
    bare = {
        "event_name": "Lead",
        "event_id": event_id,
        "user_data": {"email": "jo@mail.example"},
        "custom_data": {"value": 9.5, "currency": "USD"},
    }
    if first == "page":
        assert outcome_told(gateway, page_half(event_id)) == "held"
        answer = gateway.backend(bare)
        assert answer.json()["warnings"] == []
    else:
        answer = gateway.backend(bare)
        assert answer.status_code == 202
        [told] = answer.json()["warnings"]
        assert "left to another copy of the event" in told["warnings"][0]
        assert fates(gateway, event_id) == ["held"]
        assert outcome_told(gateway, page_half(event_id)) == "merged"

    arrived = stand_in.one(event_id)
    assert arrived.custom_data == {"value": 9.5, "currency": "USD"}
    assert {"em", "fbp", "client_user_agent"} <= set(arrived.user_data)
    assert arrived.event_source_url == PAGE


def test_a_half_alone_waits_and_survives_a_kill(tmp_path: Path, stand_in: StandIn) -> None:
    env = live(stand_in.url, GATEWAY_HOLD_SECONDS=HOUR_S)
    with Gateway(tmp_path / "killed", env) as gateway:
        gateway.start()
        assert outcome_told(gateway, page_half("killed")) == "held"
        gateway.restart()
        assert fates(gateway, "killed") == ["held"]
        assert gateway.backend(backend_half("killed")).json()["merged"] == 1
        assert "external_id" in stand_in.one("killed").user_data


def test_a_half_that_stays_alone_is_sent_when_its_time_is_over(
    tmp_path: Path, stand_in: StandIn
) -> None:
    env = live(stand_in.url, GATEWAY_HOLD_SECONDS="0.2")
    with Gateway(tmp_path / "alone", env) as gateway:
        gateway.start()
        assert outcome_told(gateway, page_half("alone")) == "held"
        stand_in.one("alone")
        gateway.settled()
        assert gateway.backend(backend_half("alone")).json()["duplicates"] == 1
        assert fates(gateway, "alone") == ["delivered", "duplicate"]


def test_only_conversions_wait(gateway: Gateway, stand_in: StandIn) -> None:
    assert outcome_told(gateway, page_event("view")) == "pending"
    stand_in.one("view")


def test_what_the_pixel_delivered_is_suppressed_with_its_other_half(
    tmp_path: Path, stand_in: StandIn
) -> None:
    env = live(stand_in.url, GATEWAY_HOLD_SECONDS=HOUR_S, GATEWAY_BROWSER_DUPLICATES="suppress")
    with Gateway(tmp_path / "suppress", env) as gateway:
        gateway.start()
        assert outcome_told(gateway, page_half("early", pixel=True)) == "suppressed"
        answer = gateway.backend([backend_half("early"), backend_half("late")]).json()
        assert [e["outcome"] for e in answer["events"]] == ["suppressed", "accepted"]
        assert outcome_told(gateway, page_half("late", pixel=True)) == "suppressed"
        assert outcome_told(gateway, page_event("view-seen", pixel=True)) == "suppressed"
        assert outcome_told(gateway, page_event("view-blocked")) == "pending"
        stand_in.one("view-blocked")
        assert fates(gateway, "late") == ["suppressed", "suppressed"]
        [line] = gateway.ledger()
        assert line.adds_up
        assert (line.accepted, line.dropped, line.pending) == (6, {"suppressed": 5}, 0)
        ids = {"early", "late", "view-seen"}
        assert not ids & {event.event_id for event in stand_in.received()}
