"""What is accepted arrives at Meta: once, hashed, in batches, through outages; and nothing else leaves."""

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from .harness import (
    CHROME,
    PAGE,
    PIXEL,
    TOKEN,
    Gateway,
    StandIn,
    Tap,
    backend_event,
    call,
    live,
    page_event,
    wait_until,
)

# SHA-256 of john_smith@gmail.com, as Meta's page on Customer Information Parameters prints it, and of
# 16505611234, mary and smith, after the rules on that page.
EM = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
PH = "2603a22a43d4d1429f0e53dcfa40430531b4bdf5d5838f8a319481242a0135b8"
FN = "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"
LN = "6627835f988e2c5e50533d491163072d3f4f41f5c8b04630150debb3722ca2dd"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), live(stand_in.url)) as started:
        yield started.start()


@pytest.fixture
def faults(stand_in: StandIn) -> Iterator[StandIn]:
    """The stand-in, whose faults end with the test."""
    yield stand_in
    stand_in.faults()


def delivered(gateway: Gateway, event_id: str) -> bool:
    return any(e.outcome == "delivered" for e in gateway.events("--event-id", event_id))


# --- once and right ----------------------------------------------------------------------------


def test_a_page_hit_arrives_once_with_what_the_request_says(
    gateway: Gateway, stand_in: StandIn
) -> None:
    answer = gateway.hit(page_event("page-1"), user={"em": " John_Smith@GMAIL.com "})
    assert answer.status_code == 204
    assert answer.headers["server-timing"] == "outcome;desc=pending"
    event = stand_in.one("page-1")
    assert event.event_name == "PageView"
    assert event.action_source == "website"
    assert event.event_source_url == PAGE
    assert event.user_data["client_user_agent"] == CHROME
    assert event.user_data["em"] == [EM]
    fbp = event.user_data["fbp"]
    assert isinstance(fbp, str)
    assert f"_fbp={fbp};" in answer.headers["set-cookie"]


def test_a_backend_purchase_arrives_once_with_fb_pixel_data_and_meta_s_hashes(
    gateway: Gateway, stand_in: StandIn
) -> None:
    made_ms = time.time_ns() // 1_000_000
    fbp, fbc = f"fb.1.{made_ms}.1234567890", f"fb.1.{made_ms}.AbC123"
    answer = gateway.backend(
        {
            "event_name": "Purchase",
            "event_id": "order-1",
            "user_data": {
                "email": "john_smith@gmail.com",
                "phone": "1(650)561-1234",
                "first_name": "Mary",
                "last_name": " SMITH ",
            },
            "custom_data": {"value": "129.90", "currency": "eur", "order_id": "1"},
            "fbPixelData": {
                "fbp": fbp,
                "fbc": fbc,
                "ip": "8.8.8.8",
                "userAgent": CHROME,
                "landingPage": PAGE,
                "utmSource": "fb",
                "utmCampaign": "spring",
            },
        }
    )
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1
    event = stand_in.one("order-1")
    assert event.user_data == {
        "em": [EM],
        "ph": [PH],
        "fn": [FN],
        "ln": [LN],
        "fbp": fbp,
        "fbc": fbc,
        "client_ip_address": "8.8.8.8",
        "client_user_agent": CHROME,
    }
    assert event.event_source_url == PAGE
    assert event.custom_data == {
        "value": 129.9,
        "currency": "EUR",
        "order_id": "1",
        "utm_source": "fb",
        "utm_campaign": "spring",
    }
    assert not [p for p in stand_in.problems() if p.event_id == "order-1"]


def test_the_same_event_from_page_and_backend_and_after_a_restart_is_one(
    gateway: Gateway, stand_in: StandIn
) -> None:
    def from_page() -> str:
        return gateway.hit(page_event("lead-1", "Lead")).headers["server-timing"]

    assert from_page() == "outcome;desc=pending"
    assert from_page() == "outcome;desc=duplicate"
    assert gateway.backend(backend_event("lead-1")).json()["duplicates"] == 1
    gateway.restart()
    assert from_page() == "outcome;desc=duplicate"
    # What is stored later is delivered later, so when the last one is there no copy is on its way.
    gateway.hit(page_event("after-lead-1"))
    stand_in.one("after-lead-1")
    assert len(stand_in.of("lead-1")) == 1


def test_the_same_id_under_another_name_is_another_event(
    gateway: Gateway, stand_in: StandIn
) -> None:
    gateway.hit(page_event("both", "Lead"), page_event("both", "Contact"))
    names = wait_until(lambda: sorted(e.event_name for e in stand_in.of("both")))
    assert names == ["Contact", "Lead"]


@pytest.mark.parametrize(
    ("more", "headers"),
    [
        ({}, {"Sec-GPC": "1"}),
        ({"consent": "denied"}, {}),
        ({"consent": "denied"}, {"Sec-GPC": "1"}),
    ],
)
def test_of_an_objecting_visitor_nothing_is_kept_but_a_number(
    gateway: Gateway, more: dict[str, object], headers: dict[str, str]
) -> None:
    before = gateway.ledger()[0].dropped.get("opted_out", 0)
    known = {"Cookie": "_fbp=fb.0.1764000000000.1"}
    for cookies, deleted in (({}, 0), (known, 3)):
        answer = gateway.hit(page_event("objected"), headers=headers | cookies, **more)
        assert answer.headers["server-timing"] == "outcome;desc=opted_out"
        lines = answer.headers.get_list("set-cookie")
        assert len(lines) == deleted
        assert all("=; " in line and "Max-Age=0;" in line for line in lines)
    assert gateway.ledger()[0].dropped["opted_out"] == before + 2
    assert not gateway.events("--event-id", "objected")


# --- nothing else leaves -----------------------------------------------------------------------

EMAIL = "erika.mustermann@example.com"
PHONE = "+49 30 90 18 20"
PERSONAL = (
    EMAIL,
    quote(EMAIL, safe=""),
    EMAIL.upper(),
    "Mustermann",
    "Erika",
    PHONE,
    re.sub(r"\D", "", PHONE),
    quote(PHONE),
    "Heidestr",
)
QUERY = (
    f"email={quote(EMAIL, safe='')}&phone={quote(PHONE)}&first_name=Erika&last_name=Mustermann"
    f"&street=Heidestr.+17&contact={EMAIL.upper()}&color=red"
)
URL = f"https://erika:Mustermann@shop.example.com/u/{EMAIL}/ok?{QUERY}#email={EMAIL}"
USER = {
    "email": EMAIL,
    "phone": PHONE,
    "first_name": "Erika",
    "last_name": "Mustermann",
    "city": "Heidestr",
    "external_id": EMAIL,
    "street": "Heidestr. 17",
    EMAIL: "x",
}
CUSTOM = {
    "email": EMAIL,
    "phone": PHONE,
    "firstName": "Erika",
    "last_name": "Mustermann",
    "street": "Heidestr. 17",
    "content_name": f"Welcome {EMAIL}",
    "contents": [{"id": "a", "quantity": 1, "email": EMAIL}],
    "nested": {"deeper": [EMAIL]},
    EMAIL: 1,
    "value": 1,
    "currency": "EUR",
}


def test_no_raw_personal_data_is_sent_stored_logged_or_shown(
    tmp_path: Path, stand_in: StandIn
) -> None:
    with (
        Tap(stand_in.url) as tap,
        Gateway(tmp_path, live(tap.url, GATEWAY_LOG_LEVEL="debug")) as gateway,
    ):
        gateway.start()
        referrer = URL.replace("shop.", "www.")
        page = page_event("private-1", "Lead", data=CUSTOM) | {"url": URL, "referrer": referrer}
        assert gateway.hit(page, user=USER, headers={"Referer": URL}).status_code == 204
        told = gateway.backend(
            {
                "event_name": "Purchase",
                "event_id": "private-2",
                "event_source_url": URL,
                "referrer_url": referrer,
                "user_data": USER | {"user_agent": CHROME, "partner_name": EMAIL},
                "custom_data": CUSTOM,
                "fbPixelData": {"landingPage": URL, "referrer": URL, "utmContent": EMAIL},
                "note": EMAIL,
            }
        )
        assert told.json()["accepted"] == 1
        for wrong in ({"event_name": EMAIL}, {"event_name": "Lead", "user_data": EMAIL}):
            gateway.backend(wrong)
        gateway.hit(page_event("private-3") | {"data": EMAIL, "url": URL})
        stand_in.one("private-1")
        stand_in.one("private-2")
        wait_until(lambda: delivered(gateway, "private-2"))
        shown = [
            gateway.told("events"),
            gateway.told("events", "--json"),
            gateway.told("ledger"),
            gateway.admin("/metrics").text,
            told.text,
            gateway.log,
        ]
        places = {"shown": "\n".join(shown).encode()}
        places |= {str(f.name): f.read_bytes() for f in gateway.data.iterdir()}
        places |= {f"request {n}": t.body for n, t in enumerate(tap.tapped)}
    assert {"gateway.db", "gateway.db-wal"} <= set(places)
    found = {
        (place, text)
        for place, content in places.items()
        for text in PERSONAL
        if text.encode() in content or msgspec.json.encode(text)[1:-1] in content
    }
    assert not found
    assert b"color=red" in b"".join(t.body for t in tap.tapped)


def test_fields_that_pass_through_carry_no_raw_personal_data_either(
    tmp_path: Path, stand_in: StandIn
) -> None:
    event = backend_event(
        "passed-1",
        original_event_data={"event_name": "Lead", "email": EMAIL, "note": f"by {EMAIL}"},
        app_data={"email": EMAIL},
        customer_segmentation=EMAIL,
        messaging_channel=EMAIL,
        data_processing_options=[EMAIL],
        pixel_id=EMAIL,
    )
    later = backend_event("passed-2", original_event_data={"email": EMAIL})
    with Gateway(tmp_path, {}) as gateway:
        gateway.start()
        for one in (event, later, backend_event("passed-3", app_data={"email": EMAIL})):
            gateway.backend(one)
        gateway.kill()
        stored = {f.name for f in gateway.data.iterdir() if EMAIL.encode() in f.read_bytes()}
    assert not stored


def test_the_token_is_in_no_url_header_or_log(tmp_path: Path, stand_in: StandIn) -> None:
    with (
        Tap(stand_in.url) as tap,
        Gateway(tmp_path, live(tap.url, GATEWAY_LOG_LEVEL="debug")) as gateway,
    ):
        gateway.start()
        gateway.hit(page_event("token-1"))
        stand_in.one("token-1")
        assert tap.tapped
        assert all(TOKEN not in t.head and TOKEN.encode() in t.body for t in tap.tapped)
        assert all(t.head.startswith(f"POST /v26.0/{PIXEL}/events HTTP/") for t in tap.tapped)
        stored = b"".join(f.read_bytes() for f in gateway.data.iterdir())
        assert TOKEN.encode() not in stored
        assert TOKEN not in gateway.log + gateway.said + gateway.told("events", "--json")


# --- batches -----------------------------------------------------------------------------------


def test_batches_hold_at_most_1000_events_and_1_mib(tmp_path: Path, stand_in: StandIn) -> None:
    with Tap(stand_in.url) as tap, Gateway(tmp_path, live(tap.url)) as gateway:
        gateway.start()
        for half in range(2):
            # Small ones first, for the limit of events; then large ones, for that of bytes.
            size = 1500 * half
            sent = [
                backend_event(f"batch-{half}-{n}", custom_data={"words": "x" * size})
                for n in range(750)
            ]
            assert gateway.backend(sent).json()["accepted"] == 750
        more = [backend_event(f"batch-2-{n}") for n in range(1000)]
        assert gateway.backend({"events": more}).json()["accepted"] == 1000
        wait_until(lambda: len(batched(stand_in)) == 2500)
    assert len(set(batched(stand_in))) == 2500
    counts = [r.n_events for r in stand_in.requests()[-len(tap.tapped) :]]
    assert sum(counts) == 2500
    assert max(counts) <= 1000
    assert max(len(t.body) for t in tap.tapped) <= 1024 * 1024
    assert len(tap.tapped) <= 8  # and they are used


def batched(graph: StandIn) -> list[str]:
    return [e.event_id for e in graph.received() if e.event_id.startswith("batch-")]


# --- outages -----------------------------------------------------------------------------------


def tried(gateway: Gateway, event_id: str) -> bool:
    return any(e.attempts for e in gateway.events("--event-id", event_id))


def test_events_wait_while_meta_is_down_and_arrive_once_when_it_is_back(
    gateway: Gateway, stand_in: StandIn
) -> None:
    stand_in.kill()
    assert gateway.hit(page_event("down-1")).status_code == 204
    assert gateway.backend([backend_event(f"down-{n}") for n in (2, 3)]).status_code == 202
    wait_until(lambda: tried(gateway, "down-1"))
    assert [e.outcome for e in gateway.events("--event-id", "down-1")] == ["pending"]
    notes = gateway.admin("/readyz").json()["notes"]
    assert [n for n in notes if "network" in n]
    stand_in.start()
    for n in (1, 2, 3):
        stand_in.one(f"down-{n}")
    wait_until(lambda: not gateway.admin("/readyz").json()["notes"])


@pytest.mark.parametrize(
    "fault", ["server_error", "unknown", "html_200", "empty_200", "short_count", "reset_before"]
)
def test_an_answer_that_proves_nothing_is_tried_again(
    gateway: Gateway, faults: StandIn, fault: str
) -> None:
    before = len(faults.requests())
    faults.faults(error=fault, times=1)
    gateway.hit(page_event(f"unproven-{fault}"))
    faults.one(f"unproven-{fault}")
    assert len(faults.requests()) == before + 2
    wait_until(lambda: delivered(gateway, f"unproven-{fault}"))
    assert gateway.events("--event-id", f"unproven-{fault}")[0].attempts == 2


def test_an_answer_that_was_lost_brings_the_same_ids_again(
    gateway: Gateway, faults: StandIn
) -> None:
    faults.faults(error="reset_after", times=1)
    gateway.backend([backend_event(f"lost-{n}") for n in range(3)])
    wait_until(lambda: delivered(gateway, "lost-2"))
    for n in range(3):
        first, again = faults.of(f"lost-{n}")
        assert first == again  # the pair that Meta counts as one
    # The account says delivered once.
    assert len(gateway.events("--event-id", "lost-0")) == 1


def test_a_dead_letter_can_be_seen_retried_and_discarded_while_the_gateway_runs(
    gateway: Gateway, faults: StandIn
) -> None:
    first, second = kill_letters(gateway, faults, "poison-1", "poison-2")
    shown = msgspec.json.decode(gateway.told("dead", "show", str(first)), type=dict[str, object])
    assert "2804019" in str(shown["reason"])
    event = shown["event"]
    assert isinstance(event, dict)
    assert event["event_id"] == "poison-1"
    assert gateway.told("dead", "retry", str(first)) == "1 pending again\n"
    assert faults.one("poison-1").event_id == "poison-1"
    assert gateway.told("dead", "discard", str(second)) == "1 discarded\n"
    assert gateway.dead() == []
    wait_until(lambda: not any(line.pending for line in gateway.ledger()))
    assert gateway.cli("dead", "show", str(second)).returncode == 1
    assert not faults.of("poison-2")


def test_a_dead_letter_can_be_seen_retried_and_discarded_while_the_gateway_is_stopped(
    gateway: Gateway, faults: StandIn
) -> None:
    first, second = kill_letters(gateway, faults, "poison-3", "poison-4")
    assert gateway.terminate() == 0
    assert '"poison-3"' in gateway.told("dead", "show", str(first))
    assert gateway.told("dead", "discard", str(second)) == "1 discarded\n"
    assert gateway.told("dead", "retry", "--all") == "1 pending again\n"
    assert gateway.dead() == []
    assert gateway.ledger()[0].pending == 1
    gateway.start()
    faults.one("poison-3")
    assert not faults.of("poison-4")
    wait_until(lambda: delivered(gateway, "poison-3"))


def kill_letters(gateway: Gateway, graph: StandIn, *ids: str) -> list[int]:
    """Events that Meta rejected, one at a time; their numbers among the dead letters."""
    graph.faults(poison=list(ids))
    for event_id in ids:
        gateway.hit(page_event(event_id))
        wait_until(partial(is_dead, gateway, event_id))
    graph.faults()
    dead = {d.event_id: d.ref for d in gateway.dead()}
    return [dead[event_id] for event_id in ids]


def is_dead(gateway: Gateway, event_id: str) -> bool:
    return event_id in {letter.event_id for letter in gateway.dead()}


def test_without_a_token_events_wait_and_go_out_when_it_is_given(
    tmp_path: Path, stand_in: StandIn
) -> None:
    env = live(stand_in.url)
    token = env.pop("FB_ACCESS_TOKEN")
    with Gateway(tmp_path, env) as gateway:
        gateway.start()
        assert "FB_ACCESS_TOKEN is not set" in gateway.said
        before = len(stand_in.requests())
        assert gateway.hit(page_event("tokenless-1")).status_code == 204
        ready = gateway.admin("/readyz")
        assert ready.status_code == 200
        assert any("FB_ACCESS_TOKEN" in note for note in ready.json()["notes"])
        wait_until(lambda: "no access token" in gateway.log)
        assert gateway.terminate() == 0
        [waiting] = gateway.events()
        assert (waiting.outcome, waiting.event_id) == ("pending", "tokenless-1")
        assert len(stand_in.requests()) == before
        gateway.env["FB_ACCESS_TOKEN"] = token
        gateway.start()
        stand_in.one("tokenless-1")
        assert gateway.admin("/readyz").json()["notes"] == []


def test_an_event_for_nobody_s_pixel_is_sent_to_the_built_in_sandbox(tmp_path: Path) -> None:
    with Gateway(tmp_path, {}) as gateway:
        gateway.start()
        assert "SANDBOX" in gateway.said
        gateway.hit(page_event("sandboxed"))
        wait_until(lambda: delivered(gateway, "sandboxed"))
        [line] = gateway.ledger()
        assert line.pixel.startswith("sandbox-")
        assert call("GET", gateway.script_url).status_code == 200


def test_one_event_that_meta_rejects_costs_its_neighbours_nothing(
    gateway: Gateway, faults: StandIn
) -> None:
    faults.faults(poison=["mates-333"])
    before = len(faults.requests())
    mates = [backend_event(f"mates-{n}") for n in range(1000)]
    assert gateway.backend(mates).json()["accepted"] == 1000
    wait_until(lambda: not any(line.pending for line in gateway.ledger()), 30)
    assert [d.event_id for d in gateway.dead()] == ["mates-333"]
    arrived = [e.event_id for e in faults.received() if e.event_id.startswith("mates-")]
    assert len(arrived) == len(set(arrived)) == 999
    # Reliability, P7: at most 21 requests more than without it.
    assert len(faults.requests()) - before <= 22
    gateway.told("dead", "discard", str(gateway.dead()[0].ref))
