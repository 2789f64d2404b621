"""`gateway check` as an owner runs it: beside a gateway at work, and with Meta's answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.check import EVENT_NAME, Finding, State

from .harness import PIXEL, TOKEN, Gateway, StandIn, Tap, live, page_event


def findings(printed: str) -> dict[str, Finding]:
    return {
        one.about: one
        for one in (msgspec.json.decode(line, type=Finding) for line in printed.splitlines())
    }


@pytest.fixture
def quiet(stand_in: StandIn) -> Iterator[StandIn]:
    yield stand_in
    stand_in.faults()


def test_beside_a_gateway_at_work_it_disturbs_nothing(
    tmp_path: Path, stand_in: StandIn, city_file: Path
) -> None:
    env = live(stand_in.url, GATEWAY_GEOIP_DATABASE=str(city_file))
    with Gateway(tmp_path, env) as gateway:
        gateway.start()
        told = findings(gateway.told("check", "--json"))
        assert {one.state for one in told.values()} == {State.OK}
        assert "a gateway runs on it" in told["store"].text
        assert gateway.slug in told["names"].text
        gateway.hit(page_event("after-check"))
        stand_in.one("after-check")
        assert gateway.running


def test_without_send_nothing_is_sent(tmp_path: Path, stand_in: StandIn) -> None:
    with Tap(stand_in.url) as tap:
        Gateway(tmp_path, live(tap.url)).told("check")
        assert tap.tapped == []


@pytest.mark.parametrize("code", [None, "TEST123"])
def test_send_sends_one_event_that_meta_takes(
    tmp_path: Path, stand_in: StandIn, code: str | None
) -> None:
    more = {"FB_TEST_EVENT_CODE": code} if code else {}
    with Tap(stand_in.url) as tap:
        printed = Gateway(tmp_path, live(tap.url, **more)).told("check", "--send", "--json")
        [request] = tap.tapped
    body = json.loads(request.body)
    [event] = body["data"]
    assert event["event_name"] == EVENT_NAME
    assert body.get("test_event_code") == code
    assert stand_in.one(event["event_id"])
    answer = findings(printed)[f"test event to {PIXEL}"]
    assert answer.state is State.OK
    assert ("Test events" in answer.text) is (code is not None)
    assert TOKEN not in printed


def test_send_tells_what_meta_says_of_the_token(tmp_path: Path, quiet: StandIn) -> None:
    quiet.faults(tokens=["another"])
    done = Gateway(tmp_path, live(quiet.url)).cli("check", "--send")
    assert done.returncode == 1
    assert "the access token is not valid (code 190" in done.stdout
    assert "make a new token" in done.stdout
    assert "fbtrace_id" in done.stdout
    assert done.stderr.startswith("gateway: ")
    assert len(done.stderr.splitlines()) == 1
    assert TOKEN not in done.stdout + done.stderr


def test_send_tells_when_meta_is_about_to_take_the_version_away(
    tmp_path: Path, quiet: StandIn
) -> None:
    quiet.faults(version_warning=True)
    printed = Gateway(tmp_path, live(quiet.url)).told("check", "--send", "--json")
    answer = findings(printed)[f"test event to {PIXEL}"]
    assert answer.state is State.NOTE
    assert "of the Graph version it says" in answer.text


def test_a_graph_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    done = Gateway(tmp_path, live("http://127.0.0.1:9")).cli("check", "--send", "--json")
    assert done.returncode == 1
    answer = findings(done.stdout)[f"test event to {PIXEL}"]
    assert answer.state is State.WRONG
    assert "network: ConnectError" in answer.text


def test_in_the_sandbox_the_stand_in_takes_it_and_no_file_is_made(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {})
    assert f"the sandbox took {EVENT_NAME}" in gateway.told("check", "--send")
    assert not gateway.data.exists()


def test_settings_that_cannot_be_read_are_one_finding(tmp_path: Path) -> None:
    done = Gateway(tmp_path, {"GATEWAY_PORT": "many"}).cli("check", "--json")
    assert done.returncode == 1
    assert findings(done.stdout)["settings"].state is State.WRONG
    assert "GATEWAY_PORT" in done.stdout


def test_a_name_that_lists_hunt_ends_with_1(tmp_path: Path) -> None:
    done = Gateway(tmp_path, {"GATEWAY_SLUG": "track2026"}).cli("check")
    assert done.returncode == 1
    assert "/track2026" in done.stdout
