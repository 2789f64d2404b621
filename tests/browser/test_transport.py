"""How hits leave the page: nothing of an event in a URL, kept while the gateway is away, in the same words again."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from e2e.browser import Document, Site
from e2e.harness import Gateway
from playwright.sync_api import BrowserContext, Route

from .lab import Visitor, html, script, sync

PERSONAL = "jane.doe@example.com"


@dataclass
class Outage:
    """Stands before the gateway and answers hits in its place while there is trouble."""

    answer: int | None = 503
    """None: lets them through; 0: the network is down"""
    retry_after: str = "2"
    at: list[float] = field(default_factory=list)
    ids: list[list[str]] = field(default_factory=list)

    def handle(self, route: Route) -> None:
        if route.request.method == "POST":
            self.at.append(time.monotonic())
            body = json.loads(route.request.post_data or "")
            self.ids.append([event["id"] for event in body["events"]])
            if self.answer == 0:
                return route.abort()
            if self.answer:
                headers = {
                    "Retry-After": self.retry_after,
                    "Access-Control-Allow-Origin": route.request.headers["origin"],
                    "Access-Control-Allow-Credentials": "true",
                    "Access-Control-Expose-Headers": "Retry-After",
                }
                return route.fulfill(status=self.answer, headers=headers)
        return route.continue_()


@pytest.fixture
def shop(site: Site, gateway: Gateway) -> Site:
    """The gateway's path is one of the site's own, as it will be."""
    site.documents["/"] = Document(html(sync(gateway.tag)))
    site.documents["/plain"] = Document(html())
    return site


def during(outage: Outage, context: BrowserContext, shop: Site, gateway: Gateway) -> Visitor:
    """A visitor of the shop meanwhile."""
    visitor = Visitor.of(context, gateway)
    visitor.page.route(f"{gateway.script_url}/h", outage.handle)
    visitor.page.goto(shop.url)
    return visitor


def kept(visitor: Visitor) -> list[dict[str, object]]:
    text = visitor.page.evaluate("Object.values(localStorage).find((v) => v[0] == '[') || '[]'")
    found: list[dict[str, object]] = json.loads(text)
    return found


@pytest.mark.parametrize("answer", [0, 429, 503], ids=["no network", "429", "503"])
def test_what_did_not_get_through_is_sent_again_on_the_next_page(
    context: BrowserContext, shop: Site, gateway: Gateway, answer: int
) -> None:
    outage = Outage(answer)
    visitor = during(outage, context, shop, gateway)
    visitor.page.evaluate(f"px('identify', {{em: '{PERSONAL}'}})")
    visitor.page.evaluate(
        f"px('track', 'Lead', {{value: 5, currency: 'EUR', note: '{PERSONAL}'}}, {{eventID: 'l-1'}})"
    )
    visitor.until(lambda: len(kept(visitor)) == 2, "both are kept")
    names = {str(event["name"]): event for event in kept(visitor)}
    assert set(names) == {"PageView", "Lead"}
    assert names["Lead"]["data"] == {"value": 5, "currency": "EUR"}
    assert PERSONAL not in visitor.page.evaluate("JSON.stringify(localStorage)")

    outage.answer = None
    before = len(gateway.events())
    visitor.page.wait_for_timeout(2100 if answer else 0)  # what Retry-After asked for
    visitor.page.goto(shop.url)
    visitor.until(lambda: len(gateway.events()) == before + 3)  # the two, and this page's view

    assert {str(event["id"]) for event in names.values()} <= {
        event.event_id for event in gateway.events()[before:]
    }
    assert kept(visitor) == []


def test_the_same_page_tries_again_when_the_gateway_said_it_may(
    context: BrowserContext, shop: Site, gateway: Gateway
) -> None:
    outage = Outage(503, retry_after="2")
    visitor = during(outage, context, shop, gateway)
    visitor.until(lambda: outage.at, "the first try")
    visitor.page.evaluate("dispatchEvent(new Event('focus'))")
    outage.answer = None
    visitor.until(lambda: len(outage.at) == 2, "the second try")

    assert outage.ids[0] == outage.ids[1]
    assert outage.at[1] - outage.at[0] >= 2


def test_the_page_tries_again_when_the_network_is_back(
    context: BrowserContext, shop: Site, gateway: Gateway
) -> None:
    before = len(gateway.events())
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(shop.url)
    visitor.until(lambda: visitor.answered == 1, "the page view")
    context.set_offline(True)
    visitor.page.evaluate("px('track', 'Lead', {}, {eventID: 'offline-1'})")
    visitor.until(lambda: kept(visitor), "it is kept")
    context.set_offline(False)
    visitor.until(lambda: len(gateway.events()) == before + 2)

    assert gateway.events()[-1].event_id == "offline-1"


@pytest.mark.parametrize("answer", [204, 400, 413])
def test_what_the_gateway_took_or_refused_for_good_is_not_kept(
    context: BrowserContext, shop: Site, gateway: Gateway, answer: int
) -> None:
    outage = Outage(answer)
    visitor = during(outage, context, shop, gateway)
    visitor.until(lambda: outage.at, "a try")
    visitor.rest()

    assert kept(visitor) == []
    assert len(outage.at) == 1


def test_at_most_twenty_are_kept_and_none_for_longer_than_a_day(
    context: BrowserContext, shop: Site, gateway: Gateway
) -> None:
    outage = Outage(503, retry_after="600")
    visitor = during(outage, context, shop, gateway)
    visitor.page.evaluate("for (let i = 0; i < 50; i++) px('track', 'Step' + i)")
    visitor.until(lambda: len(kept(visitor)) == 20, "twenty are kept")
    assert "Step49" in {event["name"] for event in kept(visitor)}

    visitor.page.evaluate(
        "for (const key in localStorage) if (localStorage[key][0] == '[') localStorage[key] ="
        " JSON.stringify(JSON.parse(localStorage[key]).map((e, i) =>"
        " ({...e, time: i < 15 ? e.time - 864e5 : e.time})))"
    )
    outage.answer, outage.ids = None, []
    visitor.page.goto(shop.url)
    visitor.until(lambda: sum(map(len, outage.ids)) >= 6, "the five that are left, and the view")
    visitor.rest()

    assert sum(map(len, outage.ids)) == 6


def test_events_of_one_moment_are_one_request_with_nothing_in_its_address(
    context: BrowserContext, shop: Site, gateway: Gateway
) -> None:
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(shop.url + "/?fbclid=IwAbc&utm_source=fb")
    visitor.page.evaluate("for (let i = 0; i < 12; i++) px('track', 'Step', {i})")
    visitor.until(lambda: visitor.names.count("Step") == 12, "the events")

    assert len(visitor.bodies) <= 2  # the page view may be on its way already
    assert set(visitor.asked) <= {"GET ", "POST /h"}


def test_many_large_events_all_arrive(
    context: BrowserContext, shop: Site, gateway: Gateway
) -> None:
    before = len(gateway.events())
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(shop.url)
    visitor.page.evaluate(
        "for (let i = 0; i < 9; i++)"
        " px('track', 'ViewContent', {content_ids: Array(900).fill('sku-' + i)})"
    )
    visitor.until(lambda: len(gateway.events()) == before + 10)


def test_events_survive_the_end_of_the_page(
    context: BrowserContext, shop: Site, gateway: Gateway
) -> None:
    before = len(gateway.events())
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(shop.url)
    visitor.page.evaluate("addEventListener('pagehide', () => px('track', 'Left'))")
    visitor.page.goto(shop.url + "/plain")
    visitor.until(lambda: len(gateway.events()) == before + 2)

    assert {event.event_name for event in gateway.events()[before:]} == {"PageView", "Left"}


# --- nothing of ours reaches the page -----------------------------------------------------------

POLICIES = {
    "nonce and strict-dynamic": (
        "script-src 'nonce-abc' 'strict-dynamic'; connect-src {own}; object-src 'none';"
        " base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "own scripts only": "default-src 'none'; img-src data:; script-src {own} 'nonce-abc'; connect-src {own}",
}


@pytest.mark.parametrize("policy", POLICIES)
def test_strict_content_policies_are_kept(
    context: BrowserContext, site: Site, gateway: Gateway, policy: str
) -> None:
    tag = sync(gateway.tag).replace("<script", "<script nonce=abc")
    text = html(
        tag, body="<form data-px=Lead data-px-fields><input name=x><button>Go</button></form>"
    )
    headers = {"Content-Security-Policy": POLICIES[policy].format(own=gateway.url)}
    site.documents["/"] = Document(text, headers=headers)
    visitor = Visitor.of(context, gateway)
    said: list[str] = []
    visitor.page.on("console", lambda message: said.append(message.text))
    visitor.page.goto(site.url)
    visitor.until(lambda: visitor.answered == 1, "the page view")
    visitor.page.focus("input")
    visitor.page.evaluate("document.forms[0].onsubmit = () => false")
    visitor.page.click("button")
    visitor.until(lambda: "Lead" in visitor.names, "the lead")

    assert visitor.errors == []
    assert [text for text in said if "Content Security" in text or "Trusted" in text] == []


def test_the_script_adds_one_global_and_runs_once(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    tag = sync(gateway.tag)
    site.documents["/"] = Document(
        html(script("window.before = Object.keys(window)"), tag, tag, tag)
    )
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.until(lambda: visitor.answered >= 1, "the page view")
    visitor.rest()

    added = "Object.keys(window).filter((key) => !before.includes(key) && key != 'before')"
    assert set(visitor.page.evaluate(added)) <= {"px", "fbq"}
    assert visitor.page.evaluate("typeof fbq") == "undefined"
    assert visitor.names == ["PageView"]


def test_a_frame_is_not_a_visit(context: BrowserContext, site: Site, gateway: Gateway) -> None:
    site.documents["/"] = Document(html(body="<iframe src='/inner'></iframe>"))
    site.documents["/inner"] = Document(html(sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    frame = visitor.page.frames[1]
    frame.wait_for_function("!!window.px")
    assert frame.evaluate("px('track', 'Lead')")
    visitor.rest(800)

    assert visitor.asked == ["GET "]


HOSTILE = {
    "no storage": "Object.defineProperty(window, 'localStorage', {get() { throw Error('no') }})",
    "no fetch": "window.fetch = () => { throw Error('no') }",
    "fetch that fails": "window.fetch = () => Promise.reject(Error('no'))",
    "frozen history": "Object.freeze(history)",
    "var fbq": "var fbq = 1",
    "odd dataLayer": "window.dataLayer = {push: 1}",
    "odd banner": "window.__tcfapi = () => { throw Error('no') }; window.__gpp = 7",
    "no observer": "delete window.MutationObserver",
    "odd px": "window.px = 5",
}


@pytest.mark.parametrize("world", HOSTILE)
def test_no_error_of_ours_reaches_the_page(
    context: BrowserContext, site: Site, gateway: Gateway, world: str
) -> None:
    caught = "window.caught = []; onunhandledrejection = (e) => caught.push(String(e.reason));"
    site.documents["/"] = Document(html(script(caught + HOSTILE[world]), sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.page.evaluate(
        "px('track', 'Lead'); px('track'); px('nothing'); px(); px('identify', 5); px('data');"
        "px('track', 'Lead', (() => { const a = {}; a.a = a; return a })());"
        "px('consent', 'revoke'); px('consent', 'grant'); history.pushState({}, '', '/next');"
    )
    visitor.rest(900)

    assert visitor.errors == []
    assert visitor.page.evaluate("caught") == []


@pytest.fixture(autouse=True)
def _quiet_between(gateway: Gateway) -> Iterator[None]:
    yield
    gateway.settled()
