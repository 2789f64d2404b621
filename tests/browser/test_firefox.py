"""A real Firefox: every event arrives past a real blocker, and a navigation is one page view."""

import time
from collections.abc import Iterator

import pytest
from e2e.browser import Document
from e2e.harness import wait_until

from .firefox import Firefox, ublock
from .front import Front
from .lab import html, script, table


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with Firefox(tmp_path_factory.mktemp("firefox")) as opened:
        yield opened


@pytest.fixture
def shop(front: Front) -> Front:
    """A page with the tag, one without, and a page that knows whether it came back by the cache."""
    restored = script("addEventListener('pageshow', (event) => window.restored = event.persisted)")
    front.documents["/"] = Document(html(front.tag, restored))
    front.documents["/other"] = Document(html(body="Another page, without the tag"))
    return front


WALK = [
    ("history.pushState({}, '', '/a')", "/a"),
    ("history.pushState({}, '', '/b?x=1')", "/b?x=1"),
    ("history.replaceState({}, '', '/b?tidied=1')", None),
    ("history.replaceState({}, '', '/c')", "/c"),
    ("location.hash = 'reviews'", None),
    ("location.hash = '#/one'", "/c#/one"),
    ("history.back()", "/c#reviews"),
    ("history.go(-2)", "/a"),
]


def test_every_navigation_is_one_page_view(firefox: Firefox, shop: Front) -> None:
    paths: list[str] = []
    rows: list[list[object]] = []

    def counted(step: str, path: str | None) -> None:
        before = len(shop.sent)
        firefox.go(shop.url) if step == "load" else firefox.run(step)
        if path:
            paths.append(path)
        wait_until(lambda: len(shop.sent) >= len(paths), what=f"a view after {step}")
        rows.append([step, len(shop.sent) - before])

    for step, path in [("load", "/"), *WALK]:
        counted(step, path)
    rest()
    table("Page views by navigation (Firefox)", ["step", "views"], rows)

    assert shop.sent == [("PageView", path) for path in paths]


def test_coming_back_by_the_cache_and_a_reload_are_views(firefox: Firefox, shop: Front) -> None:
    firefox.go(shop.url)
    wait_until(lambda: len(shop.sent) == 1, what="the first view")
    firefox.go(shop.url + "/other")
    firefox.run("history.back()")
    wait_until(lambda: firefox.run("return window.restored"), what="the page comes from the cache")
    wait_until(lambda: len(shop.sent) == 2, what="the second view")
    firefox.reload()
    wait_until(lambda: len(shop.sent) == 3, what="the view of the reload")
    rest()

    assert shop.sent == [("PageView", "/")] * 3


def test_events_are_delivered_past_ublock_origin(
    firefox: Firefox, shop: Front, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Last in this file: the add-on stays."""
    shop.documents["/fbevents.js"] = Document("window.pixel = 1", "text/javascript")
    shop.documents["/shop.js"] = Document("window.shop = 1", "text/javascript")
    probe = (
        "return Promise.all(['/fbevents.js', '/shop.js'].map((path) =>"
        " fetch(path, {cache: 'no-store'}).then(() => 'loaded', () => 'blocked')))"
    )
    firefox.go(shop.url)
    before = firefox.run(probe)
    firefox.install(ublock(tmp_path_factory.mktemp("ublock")))
    wait_until(lambda: firefox.run(probe) == ["blocked", "loaded"], 60, "its lists are active")

    logged = len(shop.gateway.events())
    shop.asked.clear()
    firefox.go(shop.url)
    firefox.run("px('track', 'Lead'); px('track', 'Purchase', {value: 9, currency: 'EUR'})")
    wait_until(lambda: len(shop.gateway.events()) == logged + 3, what="the events")
    shop.gateway.settled()
    arrived = {e.event_name: e for e in shop.gateway.events()[logged:]}
    rows = [[e.event_name, e.outcome, ", ".join(e.user_data)] for e in arrived.values()]
    table("Events past uBlock Origin's default lists", ["event", "outcome", "matched by"], rows)

    assert before == ["loaded", "loaded"]
    assert {name: e.outcome for name, e in arrived.items()} == dict.fromkeys(
        ["PageView", "Lead", "Purchase"], "delivered"
    )
    assert all("fbp" in e.user_data for e in arrived.values())
    assert arrived["Purchase"].custom_data == {"value": 9, "currency": "EUR"}
    # Still on at the end, and nothing was let through because the lists were gone.
    assert firefox.run(probe) == ["blocked", "loaded"]


def rest() -> None:
    """Longer than the script waits with anything, so that what is not sent now never is."""
    time.sleep(0.7)
