"""Before a yes nothing but the script is asked for and no cookie is set, whoever gives the answer.

Every source of an answer, in every state, under both policies that ask.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from e2e.browser import Document, Site
from e2e.harness import CHROME, Gateway
from playwright.sync_api import Browser, BrowserContext

from .lab import PIXEL, STUB, Meta, Visitor, html, script, sync, table

rows: list[list[object]] = []


@pytest.fixture(scope="module", autouse=True)
def _printed() -> Iterator[None]:
    yield
    head = ["policy", "source", "state", "requests", "cookies", "events"]
    table("Consent: what left the page, and what was set (Chromium)", head, rows)


@dataclass(frozen=True)
class Says:
    """How a banner says a visitor's answer, by the interface it uses."""

    waits: str
    grants: str
    denies: str
    withdraws: str = ""

    def to(self, state: str) -> str:
        return {
            "granted": self.grants,
            "denied": self.denies,
            "withdrawn": self.withdraws or self.denies,
        }[state]


def _tcf(status: str, *purposes: int) -> str:
    agreed = ", ".join(f"{purpose}: true" for purpose in purposes)
    return f"{{eventStatus: '{status}', gdprApplies: true, purpose: {{consents: {{{agreed}}}}}}}"


def _google(verb: str, word: str) -> str:
    return (
        "window.dataLayer = window.dataLayer || [];"
        "(function () { dataLayer.push(arguments); })"
        f"('consent', '{verb}', {{ad_storage: '{word}', ad_user_data: '{word}'}});"
    )


def _gpp(opt_out: int) -> str:
    return f"{{pingData: {{parsedSections: {{usnat: [{{SaleOptOut: {opt_out}}}]}}}}}}"


SOURCES = {
    "px": Says("", "px('consent', 'grant')", "px('consent', 'revoke')"),
    "fbq": Says(
        f"fbq('consent', 'revoke'); fbq('init', '{PIXEL}');",
        "fbq('consent', 'grant')",
        "",  # the pixel knows no refusal before there was a grant: it waits on
        "fbq('consent', 'revoke')",
    ),
    "TCF": Says(
        "window.__tcfapi = (verb, version, listener) => {"
        f"  window.told = listener; listener({_tcf('cmpuishown')}, true); }};",
        f"told({_tcf('useractioncomplete', 1, 2, 3, 4)}, true)",
        f"told({_tcf('useractioncomplete', 1)}, true)",
    ),
    "Google": Says(
        _google("default", "denied"), _google("update", "granted"), _google("update", "denied")
    ),
}
POLICIES = ["required", "opt-out"]


def page(gateway: Gateway, source: str, meta: Meta) -> str:
    base = script(meta.base_code()) if source == "fbq" else ""
    return html(base, script(STUB), script(SOURCES[source].waits), sync(gateway.tag))


def open_page(
    context: BrowserContext, site: Site, gateway: Gateway, source: str, meta: Meta
) -> Visitor:
    """A visitor who has not answered yet, after an event of the site's own."""
    site.documents["/"] = Document(page(gateway, source, meta))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.page.evaluate("px('track', 'ViewContent', {}, {eventID: 'v-1'})")
    visitor.rest(1800 if source == "fbq" else 800)
    return visitor


@pytest.fixture
def gateways(strict: Gateway, gateway: Gateway) -> dict[str, Gateway]:
    return {"required": strict, "opt-out": gateway}


ASKED = [(p, s) for p in POLICIES for s in SOURCES if (p, s) != ("opt-out", "px")]


@pytest.mark.parametrize("state", ["waiting", "granted", "denied", "withdrawn"])
@pytest.mark.parametrize(("policy", "source"), ASKED)
def test_nothing_happens_before_a_yes(
    context: BrowserContext,
    site: Site,
    gateways: dict[str, Gateway],
    meta: Meta,
    policy: str,
    source: str,
    state: str,
) -> None:
    gateway = gateways[policy]
    visitor = open_page(context, site, gateway, source, meta)
    ours = set(visitor.cookies()) - ({"_fbp"} if source == "fbq" else set())
    assert visitor.asked == ["GET "]
    if policy == "required":
        assert ours == set()
    if state == "waiting":
        rows.append([policy, source, state, len(visitor.asked) - 1, len(ours), 0])
        return

    visitor.page.evaluate(SOURCES[source].to("denied" if state == "denied" else "granted"))
    if state == "denied":
        visitor.page.evaluate("px('track', 'Lead')")
        visitor.rest(800)
        assert visitor.sent == []
        if source != "fbq":
            # Under opt-out the script's answer had set them: the refusal takes them back.
            assert visitor.cookies() == {}
            assert visitor.asked == ["GET "] + ["POST /h"] * (policy == "opt-out")
    else:
        visitor.until(lambda: visitor.answered and visitor.sent, "what had waited")
        visitor.rest(500)
        waited = [e for e in visitor.sent if e["id"] == "v-1"]
        assert len(waited) == 1
        sent_ms = visitor.bodies[0]["sent"]
        assert isinstance(sent_ms, int)
        assert isinstance(waited[0]["time"], int)
        assert sent_ms - waited[0]["time"] >= 500  # its own time, not the grant's
        assert visitor.bodies[0]["consent"] == "granted"
        assert "_fbp" in visitor.cookies()
    if state == "withdrawn":
        count, answered = len(visitor.sent), visitor.answered
        visitor.page.evaluate(SOURCES[source].to("withdrawn"))
        visitor.page.evaluate("px('track', 'Lead')")
        visitor.until(lambda: visitor.answered > answered, "the withdrawal")
        visitor.rest(500)
        assert len(visitor.sent) == count
        assert visitor.bodies[-1]["consent"] == "denied"
        assert visitor.cookies() == {}
        assert visitor.page.evaluate("Object.keys(localStorage)") == []
    rows.append(
        [policy, source, state, len(visitor.asked) - 1, len(visitor.cookies()), len(visitor.sent)]
    )


BOTH = "{ad_storage: 'granted', ad_user_data: 'granted'}"
NEITHER = "{ad_storage: 'denied', ad_user_data: 'denied'}"
GOOGLE = {
    "granted from the start": ([f"default {BOTH}"], True),
    "only one default is denied": (
        ["default {ad_storage: 'granted', ad_user_data: 'denied'}"],
        False,
    ),
    "one of two is granted": (
        [f"default {NEITHER}", "update {ad_user_data: 'granted'}"],
        False,
    ),
    "granted one after the other": (
        [
            f"default {NEITHER}",
            "update {ad_user_data: 'granted'}",
            "update {ad_storage: 'granted'}",
        ],
        True,
    ),
    "statistics alone are granted": (
        [f"default {NEITHER}", "update {analytics_storage: 'granted'}"],
        False,
    ),
    "denied, then statistics granted": (
        [f"default {NEITHER}", f"update {NEITHER}", "update {analytics_storage: 'granted'}"],
        False,
    ),
    "an old banner that knows ad_storage alone": (
        ["default {ad_storage: 'denied'}", "update {ad_storage: 'granted'}"],
        True,
    ),
}


@pytest.mark.parametrize("story", GOOGLE)
def test_google_s_consent_mode_is_granted_when_nothing_of_it_is_denied(
    context: BrowserContext, site: Site, strict: Gateway, story: str
) -> None:
    steps, sends = GOOGLE[story]
    gtag = "window.dataLayer = []; function gtag() { dataLayer.push(arguments); }"
    calls = [f"gtag('consent', '{s.split(' ', 1)[0]}', {s.split(' ', 1)[1]});" for s in steps]
    first, *later = calls
    site.documents["/"] = Document(
        html(script(gtag + first), sync(strict.tag), *map(script, later))
    )
    visitor = Visitor.of(context, strict)
    visitor.page.goto(site.url)
    visitor.rest(700)

    assert visitor.names == (["PageView"] if sends else [])


def test_gpp_can_object_and_say_nothing_else(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    api = f"window.__gpp = (verb, listener) => {{ window.told = listener; listener({_gpp(0)}); }};"
    site.documents["/"] = Document(html(script(api), sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.until(lambda: visitor.answered == 1, "the page view")
    assert "_fbp" in visitor.cookies()

    visitor.page.evaluate(f"told({_gpp(1)}); px('track', 'Lead')")
    visitor.until(lambda: visitor.answered == 2, "the objection")
    visitor.rest()

    assert visitor.names == ["PageView"]
    assert visitor.cookies() == {}
    rows.append(["opt-out", "GPP", "withdrawn", len(visitor.asked) - 1, 0, 1])


@pytest.mark.parametrize("policy", POLICIES)
def test_global_privacy_control_is_an_objection(
    browser: Browser, site: Site, gateways: dict[str, Gateway], policy: str
) -> None:
    gateway = gateways[policy]
    context = browser.new_context(user_agent=CHROME, extra_http_headers={"Sec-GPC": "1"})
    context.add_init_script(
        "Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})"
    )
    site.documents["/"] = Document(html(sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.page.evaluate("px('track', 'Lead')")
    visitor.rest(800)

    assert visitor.asked == ["GET "]
    assert visitor.cookies() == {}
    rows.append([policy, "GPC", "denied", 0, 0, 0])

    visitor.page.evaluate("px('consent', 'grant')")
    visitor.rest(800)
    # What a visitor tells this very site outranks the browser's general signal, where one asks.
    sent = {"required": ["PageView", "Lead"], "opt-out": []}[policy]
    assert sorted(visitor.names) == sorted(sent)
    assert ("_fbp" in visitor.cookies()) is bool(sent)
    context.close()


def test_the_header_alone_is_an_objection_too(
    browser: Browser, site: Site, gateway: Gateway
) -> None:
    context = browser.new_context(user_agent=CHROME, extra_http_headers={"Sec-GPC": "1"})
    site.documents["/"] = Document(html(sync(gateway.tag)))
    before = len(gateway.events())
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.until(lambda: visitor.answered == 1, "the hit")

    assert visitor.cookies() == {}
    assert len(gateway.events()) == before
    rows.append(["opt-out", "Sec-GPC", "denied", len(visitor.asked) - 1, 0, 0])
    context.close()


def test_under_opt_out_one_is_tracked_until_one_objects(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    site.documents["/"] = Document(html(sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.until(lambda: visitor.answered == 1, "the page view")

    visitor.page.evaluate("px('consent', 'revoke'); px('track', 'Lead')")
    visitor.until(lambda: visitor.answered == 2, "the refusal")
    visitor.rest()

    assert visitor.names == ["PageView"]
    assert visitor.cookies() == {}
    rows.append(["opt-out", "px", "denied", len(visitor.asked) - 1, 0, 1])
