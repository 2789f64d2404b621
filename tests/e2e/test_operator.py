"""What the operator meets: health, metrics, the dashboard, and an orderly end."""

import contextlib
import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Dialog
from prometheus_client.parser import text_string_to_metric_families

from .browser import chromium
from .harness import (
    CHROME,
    PIXEL,
    Gateway,
    StandIn,
    backend_event,
    call,
    live,
    page_event,
    wait_until,
)

PASSWORD = "a-password-of-the-operator"
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Gateway]:
    env = live(stand_in.url, GATEWAY_ADMIN_PASSWORD=PASSWORD)
    with Gateway(tmp_path_factory.mktemp("gateway"), env) as started:
        yield started.start()


def test_the_greeting_comes_when_both_faces_answer(tmp_path: Path) -> None:
    with Gateway(tmp_path, {}) as gateway:
        gateway.launch()
        while "Dashboard: " not in gateway.said:  # without a pause, to be the first
            assert gateway.running
        for line in (r"listening on http://127.0.0.1:(\d+)", r"Dashboard: http://127.0.0.1:(\d+)"):
            port = int(gateway.greeting(line)[1])
            socket.create_connection(("127.0.0.1", port), 5).close()


def test_what_is_shown_once_is_shown_once_and_works(tmp_path: Path) -> None:
    with Gateway(tmp_path, {}) as gateway:
        gateway.start()
        password = gateway.greeting(r"dashboard password, shown this once: (\S+)")[1]
        key = gateway.greeting(r"backend API key, shown this once: (\S+)")[1]
        assert key == gateway.api_key
        slug = gateway.slug
        assert gateway.terminate() == 0
        gateway.start()
        assert "shown this once" not in gateway.said
        assert gateway.slug == slug
        assert gateway.admin("/", password).status_code == 200
        assert gateway.backend(backend_event("kept"), key).status_code == 202
        modes = {f.name: f.stat().st_mode & 0o777 for f in gateway.data.iterdir()}
        assert set(modes.values()) == {0o600}
        assert gateway.data.stat().st_mode & 0o777 == 0o700


def test_livez_readyz_and_healthz_answer(gateway: Gateway) -> None:
    assert gateway.admin("/livez").json() == {"live": True}
    ready = gateway.admin("/readyz")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True
    assert ready.json()["failing"] == []
    assert call("GET", f"{gateway.url}/healthz").status_code == 200


def test_readyz_names_a_live_test_code(tmp_path: Path, stand_in: StandIn) -> None:
    with Gateway(tmp_path, live(stand_in.url, FB_TEST_EVENT_CODE="TEST123")) as gateway:
        gateway.start()
        ready = gateway.admin("/readyz")
        assert ready.status_code == 200
        assert any("FB_TEST_EVENT_CODE" in note for note in ready.json()["notes"])
        assert "FB_TEST_EVENT_CODE" in gateway.said


def test_an_alert_is_in_readyz_the_metrics_the_dashboard_and_once_in_the_log(
    tmp_path: Path, stand_in: StandIn
) -> None:
    env = live(stand_in.url, GATEWAY_ADMIN_PASSWORD=PASSWORD)
    del env["FB_ACCESS_TOKEN"]
    with Gateway(tmp_path, env) as gateway:
        gateway.start()
        [alert] = wait_until(lambda: gateway.admin("/readyz").json()["alerts"])
        assert gateway.admin("/readyz").status_code == 200
        assert (alert["name"], alert["pixel"]) == ("paused", PIXEL)
        assert "FB_ACCESS_TOKEN" in alert["text"]
        assert metric(gateway, "gateway_alerts", alert="paused") == 1
        assert metric(gateway, "gateway_alerts", alert="store") == 0
        assert metric(gateway, "gateway_disk_free_bytes") > 0
        notes = gateway.admin("/api/overview", PASSWORD).json()["notes"]
        assert notes.count(alert["text"]) == 1
        assert gateway.log.count("alert: ") == 1


def test_a_site_whose_tag_is_gone_is_told_to_the_operator(
    tmp_path: Path, stand_in: StandIn
) -> None:
    with Gateway(tmp_path, live(stand_in.url, GATEWAY_ADMIN_PASSWORD=PASSWORD)) as gateway:
        gateway.start()
        assert gateway.hit(page_event("while-the-tag-was-there")).status_code == 204
        gateway.settled()
        assert gateway.terminate() == 0
        with contextlib.closing(sqlite3.connect(gateway.data / "gateway.db")) as db, db:
            db.execute("UPDATE tally SET n = 500 * n, hour = hour - 7 * 24 - 2")
        gateway.start()
        [alert] = wait_until(lambda: gateway.admin("/readyz").json()["alerts"])
        assert (alert["name"], alert["pixel"]) == ("fewer", PIXEL)
        assert "0 usable events came in the last 3 full hours, and 500 in" in alert["text"]
        assert metric(gateway, "gateway_alerts", alert="fewer") == 1
        assert alert["text"] in gateway.admin("/api/overview", PASSWORD).json()["notes"]
        assert gateway.log.count("alert: ") == 1


def test_readyz_and_metrics_answer_while_the_disk_does_not(
    tmp_path: Path, stand_in: StandIn
) -> None:
    with Gateway(tmp_path, live(stand_in.url)) as gateway:
        gateway.start()
        database = sqlite3.connect(gateway.data / "gateway.db", isolation_level=None)
        with contextlib.closing(database):
            database.execute("BEGIN IMMEDIATE")
            ready = gateway.admin("/readyz")
            assert ready.status_code == 503
            assert ready.json()["failing"] == ["store: no answer within 2 s"]
            assert metric(gateway, "gateway_build_info") == 1
        wait_until(lambda: gateway.admin("/readyz").status_code == 200)


def test_the_ledger_is_there_for_a_backend_with_its_key(gateway: Gateway) -> None:
    gateway.backend(backend_event("for-the-ledger"))
    url = f"{gateway.url}/v1/ledger"
    assert call("GET", url).status_code == 401
    answer = call("GET", url, headers={"Authorization": f"Bearer {gateway.api_key}"})
    assert answer.status_code == 200
    assert answer.json()["adds_up"] is True
    [pixel] = answer.json()["pixels"]
    [line] = gateway.ledger()
    assert pixel["pixel"] == line.pixel == PIXEL
    assert pixel["accepted"] == line.accepted > 0
    assert pixel["adds_up"] is True


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    answer = gateway.admin("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_metrics_are_prometheus_text_and_count(gateway: Gateway, stand_in: StandIn) -> None:
    counted = {"source": "page", "outcome": "pending"}
    before = metric(gateway, "gateway_events_total", **counted)
    sent = metric(gateway, "gateway_events_total", source="delivery", outcome="delivered")
    gateway.hit(page_event("metric-1"), page_event("metric-2"))
    assert metric(gateway, "gateway_events_total", **counted) == before + 2
    stand_in.one("metric-2")
    wait_until(
        lambda: (
            metric(gateway, "gateway_events_total", source="delivery", outcome="delivered")
            == sent + 2
        )
    )
    assert metric(gateway, "gateway_outbox_jobs") == 0
    assert metric(gateway, "gateway_build_info") == 1
    refused = {"source": "backend", "status": "401"}
    before = metric(gateway, "gateway_refused_requests_total", **refused)
    gateway.backend({}, "wrong")
    assert metric(gateway, "gateway_refused_requests_total", **refused) == before + 1


def test_every_metric_is_ours_by_its_prefix(gateway: Gateway) -> None:
    families = list(text_string_to_metric_families(gateway.admin("/metrics").text))
    assert families
    assert all(family.name.startswith("gateway_") and family.documentation for family in families)


# --- the dashboard -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/index.html", "/dashboard.js", "/dashboard.css", "/api/overview"]
)
def test_the_dashboard_needs_the_password(gateway: Gateway, path: str) -> None:
    for password in ("", "wrong"):
        answer = gateway.admin(path, password)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert gateway.admin(path, PASSWORD).status_code == 200


def test_the_dashboard_s_files_are_served_with_a_strict_policy(gateway: Gateway) -> None:
    kinds = {"/": "text/html", "/dashboard.js": "text/javascript", "/dashboard.css": "text/css"}
    for path, kind in kinds.items():
        answer = gateway.admin(path, PASSWORD)
        assert answer.headers["content-type"].startswith(kind)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/x.js", "/..%2f..%2fpyproject.toml", "/%2e%2e/src/snippet.js", "/.html"):
        assert gateway.admin(path, PASSWORD).status_code == 404


@pytest.mark.parametrize("path", ["/api/dead/retry", "/api/dead/discard"])
def test_a_browser_with_the_password_cannot_be_made_to_change_anything(
    gateway: Gateway, path: str
) -> None:
    url = gateway.admin_url + path
    body = json.dumps({"refs": [1]})
    assert call("POST", url, content=body).status_code == 401
    assert call("POST", url, content=body, auth=("operator", PASSWORD)).status_code == 401
    assert call("GET", url, auth=("operator", PASSWORD)).status_code == 404


def test_the_dashboard_shows_what_came_from_outside_as_text(gateway: Gateway) -> None:
    gateway.hit(page_event(f"id-{MARKUP}", MARKUP, data={"content_type": MARKUP}))
    gateway.backend(backend_event(f"b-{MARKUP}", MARKUP))
    dialogs: list[str] = []
    errors: list[str] = []

    def dismissed(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    with chromium() as browser:
        context = browser.new_context(
            http_credentials={"username": "operator", "password": PASSWORD}
        )
        page = context.new_page()
        page.on("dialog", dismissed)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(gateway.admin_url + "/")
        page.get_by_role("cell", name=MARKUP, exact=True).first.wait_for()
        assert page.locator("#events img").count() == 0
        assert page.locator("#ledger td").nth(1).inner_text().isdigit()
        context.close()
    assert dialogs == []
    assert errors == []


# --- the end -----------------------------------------------------------------------------------


def test_sigterm_answers_the_request_under_way_and_exits_0(
    tmp_path: Path, stand_in: StandIn
) -> None:
    with Gateway(tmp_path, live(stand_in.url)) as gateway:
        gateway.start()
        body = json.dumps({"events": [page_event("at-the-end")]}).encode()
        head = (
            f"POST /{gateway.slug}/h HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: {CHROME}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        port = int(gateway.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as wire:
            wire.sendall(head.encode() + body[:20])
            # Once another request is answered, the gateway has seen this one too.
            assert gateway.admin("/livez").status_code == 200
            call("GET", f"{gateway.url}/healthz")
            gateway.ask_to_end()
            wait_until(lambda: "stopping" in gateway.log)
            ready = gateway.admin("/readyz")
            assert ready.status_code == 503
            assert "draining" in ready.json()["failing"][0]
            wire.sendall(body[20:])
            assert wire.recv(4096).startswith(b"HTTP/1.1 204 ")
        assert gateway.ended() == 0
        assert [e.event_id for e in gateway.events()] == ["at-the-end"]
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 10).close()
        gateway.ledger()
        gateway.start()
        stand_in.one("at-the-end")


def test_sigterm_ends_a_gateway_whose_meta_does_not_answer(
    tmp_path: Path, stand_in: StandIn
) -> None:
    stand_in.faults(error="hang")
    try:
        with Gateway(tmp_path, live(stand_in.url)) as gateway:
            gateway.start()
            asked = len(stand_in.requests())
            gateway.hit(page_event("hanging"))
            wait_until(lambda: len(stand_in.requests()) > asked)
            gateway.ask_to_end()
            # Meta's answer alone would take ten seconds to be given up.
            assert gateway.ended(within=8) == 0
            assert [e.outcome for e in gateway.events()] == ["pending"]
    finally:
        stand_in.faults()


def test_a_second_sigterm_means_now(tmp_path: Path, stand_in: StandIn) -> None:
    with Gateway(tmp_path, live(stand_in.url)) as gateway:
        gateway.start()
        port = int(gateway.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as wire:
            head = f"POST /{gateway.slug}/h HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
            wire.sendall(head.encode())
            assert gateway.admin("/livez").status_code == 200
            call("GET", f"{gateway.url}/healthz")
            gateway.ask_to_end()
            wait_until(lambda: "stopping" in gateway.log)
            gateway.ask_to_end()
            assert gateway.ended(within=2) == 0
