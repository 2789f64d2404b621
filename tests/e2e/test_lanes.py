"""Pixels do not wait for one another, and a new token needs no restart."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.selfcheck import EVERY_S

from .harness import PIXEL, TOKEN, Gateway, StandIn, backend_event, live, page_event, wait_until

OTHER = "2234567890123456"


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[StandIn]:
    folder = tmp_path / "graph"
    folder.mkdir()
    with StandIn(folder) as started:
        yield started.start()


def two_pixels(folder: Path, graph: StandIn) -> Gateway:
    """One site with two pixels, whose tokens are in files."""
    for name in ("one", "two"):
        (folder / name).write_text(f"token-{name}\n")
    (folder / "gateway.toml").write_text(
        f'graph_url = "{graph.url}"\n[[site]]\npixels = [\n'
        f'  {{ id = "{PIXEL}", access_token_file = "{folder / "one"}" }},\n'
        f'  {{ id = "{OTHER}", access_token_file = "{folder / "two"}" }},\n]\n'
    )
    return Gateway(folder, {})


def arrived(graph: StandIn, pixel: str) -> set[str]:
    return {one.event.event_id for one in graph.look("received").received if one.pixel == pixel}


def has_arrived(graph: StandIn, pixel: str, event_id: str) -> bool:
    return event_id in arrived(graph, pixel)


def outcomes(gateway: Gateway, pixel: str) -> set[str]:
    return {e.outcome for e in gateway.events() if e.pixel == pixel}


def measured(gateway: Gateway, name: str, pixel: str) -> float:
    families = text_string_to_metric_families(gateway.admin("/metrics").text)
    [value] = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels["pixel"] == pixel
    ]
    return value


def test_a_page_s_event_goes_to_every_pixel_of_its_site(tmp_path: Path, graph: StandIn) -> None:
    with two_pixels(tmp_path, graph) as gateway:
        gateway.start()
        assert gateway.hit(page_event("both")).status_code == 204
        wait_until(lambda: arrived(graph, PIXEL) == arrived(graph, OTHER) == {"both"})
        assert gateway.backend(backend_event("unnamed")).status_code == 422
        assert gateway.backend(backend_event("named", pixel_id=OTHER)).status_code == 202
        wait_until(lambda: "named" in arrived(graph, OTHER))
        assert "named" not in arrived(graph, PIXEL)


def no_notes(gateway: Gateway) -> bool:
    """Alerts stay until the self-check looks again."""
    return not gateway.admin("/readyz").json()["notes"]


def test_a_pixel_that_hangs_keeps_no_other_waiting(tmp_path: Path, graph: StandIn) -> None:
    graph.faults(latency_ms=8000, pixels=[PIXEL])
    with two_pixels(tmp_path, graph) as gateway:
        gateway.start()
        for n in range(3):
            gateway.backend(backend_event(f"hanging-{n}", pixel_id=PIXEL))
            gateway.backend(backend_event(f"quick-{n}", pixel_id=OTHER))
            wait_until(partial(has_arrived, graph, OTHER, f"quick-{n}"), 3)
        assert outcomes(gateway, OTHER) <= {"delivered", "pending"}
        assert outcomes(gateway, PIXEL) == {"pending"}


def test_a_refused_token_pauses_its_pixel_alone_until_its_file_changes(
    tmp_path: Path, graph: StandIn
) -> None:
    graph.faults(tokens=["token-two", "token-new"])
    with two_pixels(tmp_path, graph) as gateway:
        gateway.start()
        gateway.backend([backend_event(f"waits-{n}", pixel_id=PIXEL) for n in range(5)])
        gateway.backend([backend_event(f"goes-{n}", pixel_id=OTHER) for n in range(5)])
        wait_until(lambda: outcomes(gateway, OTHER) == {"delivered"})
        assert measured(gateway, "gateway_lane_paused", PIXEL) == 1
        assert measured(gateway, "gateway_lane_paused", OTHER) == 0
        [note] = gateway.admin("/readyz").json()["notes"]
        assert PIXEL in note
        assert "code 190" in note
        # The self-check says it too, if it happens to look just now.
        assert gateway.log.count("delivery: the access token is not valid (code 190)") == 1
        assert outcomes(gateway, PIXEL) == {"pending"}
        assert len([r for r in graph.requests() if r.pixel == PIXEL]) <= 2
        (tmp_path / "one").write_text("token-new\n")
        wait_until(lambda: outcomes(gateway, PIXEL) == {"delivered"}, 8)
        assert {e.attempts for e in gateway.events() if e.pixel == PIXEL} == {1}
        assert measured(gateway, "gateway_lane_paused", PIXEL) == 0
        wait_until(partial(no_notes, gateway), EVERY_S + 10)


def test_that_meta_is_away_is_said_of_its_pixel_alone_and_no_pause(
    tmp_path: Path, graph: StandIn
) -> None:
    graph.faults(error="server_error", pixels=[PIXEL])
    with two_pixels(tmp_path, graph) as gateway:
        gateway.start()
        gateway.backend(backend_event("goes", pixel_id=OTHER))

        def away() -> bool:
            # Each is a request of its own, sooner than a retry of the first would be.
            gateway.backend(backend_event(uuid4().hex, pixel_id=PIXEL))
            notes = gateway.admin("/readyz").json()["notes"]
            return any(f"Pixel {PIXEL}: nothing gets through to Meta" in note for note in notes)

        wait_until(away, 20)
        assert measured(gateway, "gateway_lane_away", PIXEL) == 1
        assert measured(gateway, "gateway_lane_away", OTHER) == 0
        assert measured(gateway, "gateway_lane_paused", PIXEL) == 0
        assert gateway.admin("/readyz").status_code == 200
        graph.faults()
        wait_until(lambda: outcomes(gateway, PIXEL) == {"delivered"}, 60)
        assert measured(gateway, "gateway_lane_away", PIXEL) == 0
        wait_until(partial(no_notes, gateway), EVERY_S + 10)


@pytest.mark.parametrize("how", ["FB_ACCESS_TOKEN_FILE", "settings file"])
def test_a_new_token_is_used_without_a_restart(tmp_path: Path, graph: StandIn, how: str) -> None:
    graph.faults(tokens=["token-new"])
    env = live(graph.url)
    del env["FB_ACCESS_TOKEN"]
    if how == "FB_ACCESS_TOKEN_FILE":
        file, text = tmp_path / "token", "{}\n"
        env["FB_ACCESS_TOKEN_FILE"] = str(file)
    else:
        file, text = tmp_path / "gateway.toml", 'access_token = "{}"\n'
    file.write_text(text.format(TOKEN))
    with Gateway(tmp_path, env) as gateway:
        gateway.start()
        gateway.backend(backend_event("rotated"))
        wait_until(lambda: "code 190" in gateway.log)
        file.write_text("access_tokn = 1" if how == "settings file" else "")
        wait_until(lambda: "were not reloaded" in gateway.log)
        file.write_text(text.format("token-new"))
        wait_until(lambda: outcomes(gateway, PIXEL) == {"delivered"}, 8)
        assert "token-new" not in gateway.log


def test_limited_data_use_follows_the_visitor_s_state(
    tmp_path: Path, graph: StandIn, city_file: Path
) -> None:
    env = live(graph.url, GATEWAY_LIMITED_DATA_USE="states", GATEWAY_GEOIP_DATABASE=str(city_file))
    with Gateway(tmp_path, env) as gateway:
        gateway.start()
        for event_id, address in (("california", "8.8.8.8"), ("london", "81.2.69.142")):
            user = {"external_id": "1", "ip": address}
            gateway.backend(backend_event(event_id, user_data=user))
        event = graph.one("california")
        assert event.data_processing_options == ["LDU"]
        assert event.data_processing_options_country == 1
        assert event.data_processing_options_state == 1000
        assert graph.one("london").data_processing_options is None


def test_the_sandbox_is_a_command_too(tmp_path: Path) -> None:
    graph = StandIn(tmp_path)
    graph.arguments = ["gateway", "sandbox", "--port", "0"]
    with graph:
        graph.launch()
        graph.url = graph.greeting(r"sandbox on (http://\S+)\n")[1]
        assert graph.look("requests").requests == []
        assert graph.terminate() == 0
