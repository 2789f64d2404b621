"""The tag on a real page in a real Chromium: what the visitor's browser keeps, sends, and does not."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response

from .browser import Document, Site, chromium
from .harness import CHROME, Gateway, Logged, StandIn, live, wait_until

LANDED = "?fbclid=AbC123&utm_source=fb&utm_campaign=x"
STUB = "window.px = window.px || function () { (px.q = px.q || []).push(arguments); };"
LEAD = "px('track', 'Lead', {value: 9.5, currency: 'EUR'});"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as served:
        served.documents["/favicon.ico"] = Document("", "image/x-icon")
        yield served


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn, city_file: Path
) -> Iterator[Gateway]:
    env = live(stand_in.url, GATEWAY_GEOIP_DATABASE=str(city_file))
    with Gateway(tmp_path_factory.mktemp("opt-out"), env) as started:
        yield started.start()


@dataclass(slots=True)
class Visit:
    """A visitor's window: the page, what went wrong in it, and what it asked the gateway for."""

    page: Page
    gateway: Gateway
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """method and path below the script's URL of every request that was begun"""
    answers: list[Response] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self._said(said.type, said.text))
        self.page.on("request", lambda request: self._asked(request.method, request.url))
        self.page.on("response", lambda response: self._answered(response))

    def _said(self, kind: str, text: str) -> None:
        if kind == "error":
            self.errors.append(text)

    def _asked(self, method: str, url: str) -> None:
        if url.startswith(self.gateway.url):
            self.asked.append(f"{method} {url.removeprefix(self.gateway.script_url)}")

    def _answered(self, response: Response) -> None:
        if response.url.startswith(self.gateway.url):
            self.answers.append(response)

    def open(self, url: str) -> None:
        """Until the page and the tag's script are loaded."""
        self.page.goto(url, wait_until="load")

    def until_sent(self, hits: int) -> None:
        """Until so many hits are answered. The browser's events arrive only while it is asked."""

        def there() -> bool:
            self.page.evaluate("0")
            return sum(a.request.method == "POST" for a in self.answers) >= hits

        wait_until(there, what=f"{hits} hits")

    def until_idle(self) -> None:
        """Until what the script does next, if it does anything, is done: it waits for one turn."""
        self.page.evaluate("new Promise((done) => setTimeout(() => setTimeout(done)))")

    def cookies(self) -> dict[str, str]:
        return {c["name"]: c["value"] for c in self.page.context.cookies()}


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A new visitor. Headless Chromium says so in its user agent, this one does not."""
    opened = browser.new_context(user_agent=CHROME)
    yield opened
    opened.close()


def visit(context: BrowserContext, gateway: Gateway) -> Visit:
    watched = Visit(context.new_page(), gateway)
    watched.watch()
    return watched


def html(*head: str) -> str:
    return f"<!doctype html><html><head><title>Shop</title>{''.join(head)}</head><body>Hi</body></html>"


def script(text: str) -> str:
    return f"<script>{text}</script>"


def logged(gateway: Gateway, *names: str) -> list[Logged]:
    """The newest events of the log, once these and no others are delivered after the earlier ones."""
    wait_until(lambda: [e.event_name for e in gateway.events()[-len(names) :]] == list(names))
    return wait_until(lambda: _settled(gateway, len(names)))


def _settled(gateway: Gateway, count: int) -> list[Logged]:
    newest = gateway.events()[-count:]
    return newest if all(e.outcome == "delivered" for e in newest) else []


# --- a visit ---------------------------------------------------------------------------------


def test_a_landing_delivers_page_view_and_lead_and_sets_the_cookies_for_their_time(
    context: BrowserContext, site: Site, gateway: Gateway, stand_in: StandIn
) -> None:
    site.documents["/"] = Document(html(script(STUB), gateway.tag, script(LEAD)))
    window = visit(context, gateway)
    window.open(site.url + "/" + LANDED)
    window.until_sent(1)

    events = {e.event_name: e for e in logged(gateway, "Lead", "PageView")}
    for event in events.values():
        assert {"ct", "st", "zp", "country", "fbp", "fbc"} <= set(event.user_data)
        assert event.custom_data["utm_source"] == "fb"
        assert event.custom_data["utm_campaign"] == "x"
    assert events["Lead"].custom_data["value"] == 9.5
    assert events["Lead"].custom_data["currency"] == "EUR"

    kept = {c["name"]: c for c in context.cookies()}
    assert re.fullmatch(r"fb\.\d\.\d{13}\.\d{1,20}", kept["_fbp"]["value"])
    assert re.fullmatch(r"fb\.\d\.\d{13}\.AbC123", kept["_fbc"]["value"])
    [master] = kept.keys() - {"_fbp", "_fbc"}
    assert kept[master]["httpOnly"]
    for name in ("_fbp", "_fbc"):
        assert not kept[name]["httpOnly"]
    for name, cookie in kept.items():
        days = 400 if name == master else 90
        assert abs(cookie["expires"] - time.time() - days * 86400) < 60
        assert cookie["sameSite"] == "Lax"
        assert cookie["path"] == "/"
    assert window.page.evaluate("document.cookie").count("=") == 2

    sent = stand_in.one(events["PageView"].event_id)
    assert sent.event_source_url == site.url + "/" + LANDED
    assert sent.user_data["fbp"] == kept["_fbp"]["value"]
    assert sent.user_data["fbc"] == kept["_fbc"]["value"]
    assert sent.user_data["client_user_agent"] == CHROME
    # This visitor is on 127.0.0.1, which is no address to tell Meta; the rest is as Graph wants it.
    assert not stand_in.problems()
    assert window.errors == []


def test_a_later_visit_without_a_click_keeps_ids_and_campaign(
    context: BrowserContext, site: Site, gateway: Gateway, stand_in: StandIn
) -> None:
    site.documents["/"] = Document(html(gateway.tag))
    first = visit(context, gateway)
    first.open(site.url + "/" + LANDED)
    first.until_sent(1)
    before = first.cookies()
    first.page.close()
    later = visit(context, gateway)
    later.open(site.url + "/")
    later.until_sent(1)
    assert later.cookies() == before
    event = stand_in.one(logged(gateway, "PageView")[0].event_id)
    assert event.event_source_url == site.url + "/"
    assert event.user_data["fbc"] == before["_fbc"]
    assert event.user_data["fbp"] == before["_fbp"]
    assert event.custom_data == {"utm_source": "fb", "utm_campaign": "x"}
    assert first.errors + later.errors == []


def test_another_click_replaces_the_first_and_the_same_click_does_not(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    site.documents["/"] = Document(html(gateway.tag))
    window = visit(context, gateway)
    seen = []
    for n, query in enumerate(("?fbclid=One1", "?fbclid=One1", "?fbclid=Two2"), 1):
        window.open(site.url + "/" + query)
        window.until_sent(n)
        seen.append(window.cookies()["_fbc"])
    assert seen[0] == seen[1]
    assert seen[2].endswith(".Two2")


def test_the_script_comes_from_the_cache_after_the_first_time(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    site.documents["/"] = Document(html(gateway.tag))
    window = visit(context, gateway)
    window.open(site.url + "/")
    window.until_sent(1)
    window.open(site.url + "/")
    window.until_sent(2)
    told = [a.headers.get("content-length") for a in window.answers if a.request.method == "GET"]
    assert len(told) == 2
    sizes = [a.request.sizes()["responseBodySize"] for a in window.answers]
    assert sizes[0] > 500
    assert sizes[2] == 0  # 304: a POST in between did not throw it away


def test_identified_visitors_are_hashed_and_wrong_calls_throw_nothing(
    context: BrowserContext, site: Site, gateway: Gateway, stand_in: StandIn
) -> None:
    calls = (
        "px(); px('nope'); px('track'); px('track', {}, 5, 6); px('identify');"
        "px('track', 'Lead', {self: window.document});"
        "px('identify', {em: 'John_Smith@gmail.com'});"
        "px('track', 'Schedule', {}, {eventID: 'schedule-1'});"
    )
    site.documents["/"] = Document(html(script(STUB), script(calls), gateway.tag))
    window = visit(context, gateway)
    window.open(site.url + "/")
    window.until_sent(1)
    event = stand_in.one("schedule-1")
    assert event.user_data["em"] == [
        "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
    ]
    assert window.errors == []


# --- content security policies -----------------------------------------------------------------


def test_a_policy_that_forbids_the_gateway_breaks_nothing_on_the_page(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    for name, policy in (("script", "script-src 'self'"), ("connect", "connect-src 'self'")):
        headers = {
            "Content-Security-Policy": f"{policy} 'unsafe-inline'" if name == "script" else policy
        }
        site.documents[f"/no-{name}"] = Document(
            html(script(STUB), gateway.tag, script(LEAD)), headers=headers
        )
        window = visit(context, gateway)
        window.open(f"{site.url}/no-{name}")
        window.page.evaluate("px('track', 'Contact')")
        assert "POST /h" not in window.asked
        # The browser tells of the block on the console; no exception reaches the page.
        assert not [e for e in window.errors if "Content Security Policy" not in e]


# --- consent -----------------------------------------------------------------------------------


def test_cookies_of_before_are_deleted_when_global_privacy_control_comes_on(
    browser: Browser, site: Site, gateway: Gateway
) -> None:
    site.documents["/"] = Document(html(gateway.tag))
    context = browser.new_context(user_agent=CHROME)
    window = visit(context, gateway)
    window.open(site.url + "/" + LANDED)
    window.until_sent(1)
    assert len(window.cookies()) == 3
    context.set_extra_http_headers({"Sec-GPC": "1"})
    window.open(site.url + "/")
    assert window.cookies() == {}
    context.close()
