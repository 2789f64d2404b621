"""Page views of browsers without scripts: an image, and only where the owner wants it."""

import base64
from collections.abc import Iterator

import httpx2
import pytest

from .harness import CHROME, PAGE, Gateway, call

SANDBOX = {"GATEWAY_SANDBOX": "true"}


def image(gateway: Gateway, query: str = "", **headers: str) -> httpx2.Response:
    given = {"User-Agent": CHROME, "Referer": PAGE, **headers}
    return call("GET", f"{gateway.script_url}.gif{query}", headers=given)


def opaque(text: str) -> str:
    return "?" + base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {**SANDBOX, "GATEWAY_NOSCRIPT": "true"}
    with Gateway(tmp_path_factory.mktemp("noscript"), env) as running:
        yield running.start()


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("", "PageView"),
        ("?x1", "PageView"),
        (opaque('{"e":"Contact"}'), "Contact"),
        (opaque('{"e":5}'), "PageView"),
        (opaque("[]"), "PageView"),
        ("?%ff=&&", "PageView"),
        ("?" + "A" * 5000, "PageView"),
    ],
)
def test_an_image_counts_one_event_of_its_page(gateway: Gateway, query: str, name: str) -> None:
    before = len(gateway.events())

    answer = image(gateway, query)

    assert answer.status_code == 200
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == (
        "image/gif",
        "no-store",
    )
    assert len(answer.content) == 43
    assert answer.headers["server-timing"] == "outcome;desc=pending"
    assert {c.partition("=")[0] for c in answer.headers.get_list("set-cookie")} > {"_fbp"}
    assert [e.event_name for e in gateway.events()[before:]] == [name]


@pytest.mark.parametrize(
    "headers",
    [{"Sec-GPC": "1"}, {"Sec-Purpose": "prefetch"}, {"User-Agent": "Googlebot/2.1"}],
    ids=["an objection", "ahead of a visit", "a bot"],
)
def test_who_is_not_counted_gets_the_image_all_the_same(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    before = [e for e in gateway.events() if e.outcome != "bot"]

    answer = image(gateway, **headers)

    assert (answer.status_code, len(answer.content)) == (200, 43)
    assert len([e for e in gateway.events() if e.outcome != "bot"]) == len(before)


def test_where_consent_is_required_it_counts_nobody(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    env = {**SANDBOX, "GATEWAY_NOSCRIPT": "true", "GATEWAY_CONSENT": "required"}
    with Gateway(tmp_path_factory.mktemp("strict"), env).start() as strict:
        answer = image(strict)

        assert answer.headers["server-timing"] == "outcome;desc=no_consent"
        assert "set-cookie" not in answer.headers
        assert strict.events() == []


def test_there_is_no_image_unless_it_is_wanted(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Gateway(tmp_path_factory.mktemp("default"), SANDBOX).start() as plain:
        assert image(plain).status_code == 404
        assert image(plain).content == b""


def test_images_count_among_an_addresss_hits(tmp_path_factory: pytest.TempPathFactory) -> None:
    env = {
        **SANDBOX,
        "GATEWAY_NOSCRIPT": "true",
        "GATEWAY_HITS_PER_ADDRESS": "0.1",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
    }
    visitor = {"X-Forwarded-For": "81.2.69.160"}
    with Gateway(tmp_path_factory.mktemp("flood"), env).start() as limited:
        assert [image(limited, **visitor).status_code for _ in range(2)] == [200, 429]
