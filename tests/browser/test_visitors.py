"""Who is who: tabs are one visitor, visitors are many, and a click keeps its time."""

import json
import re
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from threading import Barrier

import pytest
from e2e.browser import Document
from e2e.harness import CHROME, page_event, wait_until
from playwright.sync_api import Browser, BrowserContext, Page

from .front import HOST, Front
from .lab import html, table


@pytest.fixture
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """New, and content with the shop's certificate."""
    context = browser.new_context(user_agent=CHROME, ignore_https_errors=True)
    yield context
    context.close()


def cookie(visitor: BrowserContext, name: str) -> str | None:
    return next((c["value"] for c in visitor.cookies() if c["name"] == name), None)


def until_answered(page: Page) -> None:
    """Until the page has the answer to its first hit, cookies included."""
    page.wait_for_function("performance.getEntries().some((e) => e.name.endsWith('/h'))")


def test_six_tabs_opened_at_once_are_one_visitor_by_their_second_hit(
    visitor: BrowserContext, front: Front
) -> None:
    together, tag = Barrier(6, timeout=20), f"/{front.gateway.slug}"
    # Nobody has a cookie before everybody has asked. Each asks for an address of its own, because
    # Chromium asks for the same one from one tab after the other.
    front.before = lambda path: path == tag and together.wait()
    tabs = [visitor.new_page() for _ in range(6)]
    for n, tab in enumerate(tabs):
        front.documents[f"/{n}"] = Document(html(f"<script async src='{tag}?{n}'></script>"))
        tab.goto(f"{front.url}/{n}", wait_until="commit")
    for tab in tabs:
        until_answered(tab)
    for tab in tabs:
        tab.evaluate("px('track', 'Lead')")
    events = wait_until(lambda: front.delivered(12))
    by_name = {
        name: {str(e.user_data["fbp"]) for e in events if e.event_name == name}
        for name in ("PageView", "Lead")
    }
    made = sum("_fbp" not in load.cookies for load in front.paths(tag))
    rows = [["made by the script's answers", made]]
    rows += [[f"in each tab's {name}", len(fbps)] for name, fbps in by_name.items()]
    table("Six tabs at once (Chromium)", ["different fbp", ""], rows)

    assert made == 6
    assert by_name["Lead"] == {cookie(visitor, "_fbp")}


def test_the_same_click_keeps_its_time_over_ten_visits(
    visitor: BrowserContext, front: Front
) -> None:
    front.documents["/"] = Document(html(front.tag))
    page = visitor.new_page()
    kept = []
    for _ in range(10):
        page.goto(front.url + "/?fbclid=AbC123")
        until_answered(page)
        kept.append(cookie(visitor, "_fbc"))
    page.goto(front.url + "/?fbclid=Xyz")
    until_answered(page)
    events = wait_until(lambda: front.delivered(11))
    told = {str(e.user_data["fbc"]) for e in events}
    rows = [["the same click", 10, len(set(kept))], ["another click", 1, len(told - set(kept))]]
    table("Visits from an ad (Chromium)", ["with", "visits", "different fbc"], rows)

    assert len(set(kept)) == 1
    assert re.fullmatch(r"fb\.1\.\d{13}\.AbC123", kept[0] or "")
    assert told == {kept[0], cookie(visitor, "_fbc")}
    assert re.fullmatch(r"fb\.1\.\d{13}\.Xyz", cookie(visitor, "_fbc") or "")


@pytest.mark.parametrize("by", ["the browser", "a script"])
def test_a_deleted_fbp_is_the_same_again_on_the_next_page(
    visitor: BrowserContext, front: Front, by: str
) -> None:
    front.documents["/"] = Document(html(front.tag))
    page = visitor.new_page()
    page.goto(front.url)
    until_answered(page)
    first = cookie(visitor, "_fbp")
    if by == "the browser":
        visitor.clear_cookies(name="_fbp")
    else:
        page.evaluate("document.cookie = '_fbp=;domain=.acmeshop.com;path=/;max-age=0'")
    assert cookie(visitor, "_fbp") is None
    page.reload()
    until_answered(page)

    assert first
    assert cookie(visitor, "_fbp") == first
    # The script's answer has brought it back, not the hit's; the browser had the script already.
    assert front.hits[1].cookies["_fbp"] == first
    assert [load.status for load in front.paths(f"/{front.gateway.slug}")] == [200, 304]


@dataclass(slots=True)
class Client:
    """A visitor without a browser: the tag's two requests, and a jar that may lose cookies."""

    front: Front
    loses: str = ""
    jar: dict[str, str] = field(default_factory=dict)

    def view(self, event_id: str) -> str:
        """Load the tag and send a page view; the `_fbp` that the hit had."""
        slug = self.front.gateway.slug
        self._ask("GET", f"/{slug}", "")
        sent = self.jar.get("_fbp", "")
        event = page_event(event_id, url=self.front.url + "/")
        self._ask("POST", f"/{slug}/h", json.dumps({"events": [event]}))
        return sent

    def _ask(self, method: str, path: str, body: str) -> None:
        connection = HTTPSConnection(
            "127.0.0.1", self.front.port, timeout=20, context=ssl._create_unverified_context()
        )
        jar = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        headers = {"Host": HOST, "User-Agent": CHROME} | ({"Cookie": jar} if jar else {})
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status in (200, 204)
        for line in answer.msg.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            if name != self.loses:
                self.jar[name] = value


def test_two_hundred_visitors_behind_one_address_are_two_hundred(front: Front) -> None:
    ids = [f"crowd-{n}" for n in range(200)]
    with ThreadPoolExecutor(8) as crowd:
        kept = list(crowd.map(lambda event_id: Client(front).view(event_id), ids))
    events = wait_until(lambda: front.delivered(200))
    told = {e.event_id: e.user_data["fbp"] for e in events}
    agents = {
        (str(e.user_data["client_ip_address"]), str(e.user_data["client_user_agent"]))
        for e in events
    }
    rows = [[len(ids), len(agents), len(set(told.values()))]]
    table("New visitors", ["visitors", "addresses and agents", "different fbp"], rows)

    assert len(agents) == 1
    assert len(set(kept)) == 200
    assert [told[event_id] for event_id in ids] == kept


def test_a_blocker_that_removes_fbp_everywhere_does_not_make_a_visitor_new(front: Front) -> None:
    # As AdGuard's tracking protection does.
    visitor = Client(front, loses="_fbp")
    for n in range(3):
        assert visitor.view(f"removed-{n}") == ""
    events = wait_until(lambda: front.delivered(3))

    assert len({str(e.user_data["fbp"]) for e in events}) == 1
