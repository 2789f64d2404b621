"""What a page hands to its backend, and what comes of it when the backend posts it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from .harness import CHROME, Gateway, StandIn, call, live, page_event

LONDON = "81.2.69.160"
LANDING = "https://shop.example.com/landing?utm_source=ig&utm_medium=paid&utm_campaign=c&utm_content=k&utm_term=t&fbclid=AbC"
REFERRER = "https://l.instagram.com/"


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn, city_file: Path
) -> Iterator[Gateway]:
    env = live(
        stand_in.url,
        GATEWAY_GEOIP_DATABASE=str(city_file),
        GATEWAY_TRUSTED_PROXIES="127.0.0.1",
    )
    with Gateway(tmp_path_factory.mktemp("me"), env) as running:
        yield running.start()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"GATEWAY_SANDBOX": "true", "GATEWAY_CONSENT": "required"}
    with Gateway(tmp_path_factory.mktemp("strict"), env) as running:
        yield running.start()


def me(gateway: Gateway, jar: dict[str, str], **headers: str) -> httpx2.Response:
    given = {
        "Host": "shop.example.com",
        "User-Agent": CHROME,
        "X-Forwarded-For": LONDON,
        "Accept-Language": "en-GB,en;q=0.9",
        "Cookie": "; ".join(f"{name}={value}" for name, value in jar.items()),
        **headers,
    }
    return call("GET", f"{gateway.script_url}/me", headers=given)


def keep(jar: dict[str, str], answer: httpx2.Response) -> None:
    for line in answer.headers.get_list("set-cookie"):
        name, _, value = line.partition(";")[0].partition("=")
        jar[name] = value


def landed(gateway: Gateway, **more: object) -> dict[str, str]:
    """The cookies of a visitor whose first page view came."""
    jar: dict[str, str] = {}
    event = page_event(f"landing-{more}", url=LANDING, referrer=REFERRER)
    headers = {"Host": "shop.example.com", "X-Forwarded-For": LONDON}
    keep(jar, gateway.hit(event | {"url": LANDING}, headers=headers, **more))
    return jar


def digest(text: str) -> list[str]:
    return [hashlib.sha256(text.encode()).hexdigest()]


def test_what_the_page_got_makes_a_whole_event_of_the_backends(
    gateway: Gateway, stand_in: StandIn
) -> None:
    jar = landed(gateway)
    data = me(gateway, jar).json()
    assert data == {
        "fbp": jar["_fbp"],
        "fbc": jar["_fbc"],
        "ip": LONDON,
        "userAgent": CHROME,
        "country": "GB",
        "city": "London",
        "region": "England",
        "currency": "GBP",
        "language": "en-GB",
        "referrer": REFERRER,
        "landingPage": LANDING,
        "utmSource": "ig",
        "utmMedium": "paid",
        "utmCampaign": "c",
        "utmContent": "k",
        "utmTerm": "t",
        "eventId": data["eventId"],
    }

    answer = gateway.backend(
        {"event_name": "Lead", "user_data": {"email": "jo@mail.example"}, "fbPixelData": data}
    )

    assert answer.json()["rejected"] == answer.json()["warnings"] == []
    event = stand_in.one(data["eventId"])
    assert event.action_source == "website"
    assert (event.event_source_url, event.referrer_url) == (LANDING, REFERRER)
    assert event.custom_data == {
        "utm_source": "ig",
        "utm_medium": "paid",
        "utm_campaign": "c",
        "utm_content": "k",
        "utm_term": "t",
    }
    assert event.user_data["em"] == digest("jo@mail.example")
    assert event.user_data["country"] == digest("gb")
    assert event.user_data["ct"] == digest("london")
    assert event.user_data["st"] == digest("england")
    assert event.user_data["client_ip_address"] == LONDON
    assert event.user_data["client_user_agent"] == CHROME
    assert (event.user_data["fbp"], event.user_data["fbc"]) == (data["fbp"], data["fbc"])
    assert not [p for p in stand_in.problems() if p.event_id == data["eventId"]]


def test_the_answer_is_nobody_elses_and_its_id_is_new_each_time(gateway: Gateway) -> None:
    jar = landed(gateway)
    own, foreign = (
        me(gateway, jar, Origin=f"https://{host}") for host in ("www.shop.example.com", "evil.test")
    )

    assert own.headers["cache-control"] == "no-store"
    assert own.headers["access-control-allow-origin"] == "https://www.shop.example.com"
    assert own.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in foreign.headers
    assert own.json()["eventId"] != foreign.json()["eventId"]


def test_a_first_page_is_told_by_its_referer_and_given_its_cookies(gateway: Gateway) -> None:
    answer = me(gateway, {}, Referer=LANDING)

    jar: dict[str, str] = {}
    keep(jar, answer)
    data = answer.json()
    assert (data["landingPage"], data["utmSource"], data["referrer"]) == (LANDING, "ig", None)
    assert (jar["_fbp"], jar["_fbc"]) == (data["fbp"], data["fbc"])
    assert len(jar) == 3


def test_who_objects_gets_an_id_and_nothing_else(gateway: Gateway) -> None:
    answer = me(gateway, {}, **{"Sec-GPC": "1"})

    assert list(answer.json()) == ["eventId"]
    assert "set-cookie" not in answer.headers


def test_where_consent_is_required_only_who_gave_it_is_known(strict: Gateway) -> None:
    silent = me(strict, {})
    assert list(silent.json()) == ["eventId"]
    assert "set-cookie" not in silent.headers
    forged = me(strict, {"_fbp": "fb.1.1764000000000.42", "_fbc": "fb.1.1764000000000.A"})
    assert list(forged.json()) == ["eventId"]

    jar = landed(strict, consent="granted")

    answer = me(strict, jar)
    assert answer.json()["fbp"] == jar["_fbp"]
    assert len(answer.headers.get_list("set-cookie")) == 3


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender", "prerender"])
@pytest.mark.parametrize("path", ["", "/me"])
def test_nothing_is_set_ahead_of_a_visit(gateway: Gateway, path: str, purpose: str) -> None:
    headers = {"User-Agent": CHROME, "Sec-Purpose": purpose}

    assert "set-cookie" not in call("GET", gateway.script_url + path, headers=headers).headers
