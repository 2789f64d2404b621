"""Events and fields a page declares in its markup, and what it hands to its own backend."""

import json

import pytest
from e2e.browser import Document, Site
from e2e.harness import CHROME, Gateway, Logged
from playwright.sync_api import BrowserContext

from .lab import STUB, Visitor, html, script, sync

# The object that front ends send along with a sign-up (docs/backend.md).
KEYS = {
    *("fbp", "fbc", "ip", "userAgent", "country", "city", "region", "currency", "language"),
    *("referrer", "landingPage", "utmSource", "utmMedium", "utmCampaign", "utmContent", "utmTerm"),
    "eventId",
}
LANDED = "/?fbclid=IwAbC123&utm_source=fb&utm_campaign=spring"


def arrived(gateway: Gateway, visitor: Visitor, name: str, event_id: object) -> Logged:
    """The delivered event."""
    found: list[Logged] = []

    def there() -> bool:
        found[:] = [
            e
            for e in gateway.events()
            if (e.event_name, e.event_id, e.outcome) == (name, event_id, "delivered")
        ]
        return len(found) == 1

    visitor.until(there, name)
    return found[0]


def id_of(visitor: Visitor, name: str) -> object:
    (event,) = [e for e in visitor.sent if e["name"] == name]
    return event["id"]


def test_clicks_and_submits_are_events_with_their_data(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    body = """
      <a href="#x" data-px="ViewContent" data-px-content-name="Blue shoe" data-px-value="9.50"
         data-px-currency="EUR"><b>Blue shoe</b></a>
      <button data-px="Contact">Call</button>
      <form data-px="Lead" data-px-value="5" data-px-currency="USD">
        <input name="mail" data-px-user="em" value=" Jane@Example.com ">
        <input name="phone" data-px-user="ph" value="+49 30 1234567">
        <button>Go</button>
      </form>"""
    site.documents["/"] = Document(html(sync(gateway.tag), body=body))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.page.evaluate("document.forms[0].onsubmit = () => false")
    visitor.page.click("b")
    visitor.page.click("text=Call")
    visitor.page.click("text=Go")
    visitor.until(lambda: "Lead" in visitor.names, "the lead")

    declared = {str(e["name"]): e["data"] for e in visitor.sent}
    assert declared == {
        "PageView": {},
        "ViewContent": {"content_name": "Blue shoe", "value": "9.50", "currency": "EUR"},
        "Contact": {},
        "Lead": {"value": "5", "currency": "USD"},
    }
    lead = arrived(gateway, visitor, "Lead", id_of(visitor, "Lead"))
    assert {"em", "ph"} <= set(lead.user_data)
    assert lead.custom_data == {"value": 5.0, "currency": "USD"}
    assert visitor.errors == []


def test_px_data_is_what_a_backend_expects_key_for_key(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    site.documents["/"] = Document(html(sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url + LANDED)
    data = visitor.page.evaluate("px('data')")

    assert set(data) == KEYS
    assert data["fbp"] == visitor.cookies()["_fbp"]
    assert data["fbc"] == visitor.cookies()["_fbc"]
    assert data["fbc"].endswith(".IwAbC123")
    assert data["userAgent"] == CHROME
    assert data["landingPage"] == site.url + LANDED
    assert (data["utmSource"], data["utmCampaign"]) == ("fb", "spring")
    assert data["utmTerm"] is None

    # An example backend: it sends on what the page gave it.
    answer = gateway.backend(
        {
            "event_name": "CompleteRegistration",
            "user_data": {"email": "jane@example.com"},
            "fbPixelData": data,
        }
    )
    assert answer.status_code == 202
    assert answer.json()["events"][0]["event_id"] == data["eventId"]
    event = arrived(gateway, visitor, "CompleteRegistration", data["eventId"])
    assert {"em", "fbp", "fbc", "client_user_agent"} <= set(event.user_data)


def test_a_form_carries_the_data_to_the_backend_and_shares_its_id(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    body = """<form data-px="Lead" data-px-fields>
        <input name="mail"><input name="name"><button>Go</button></form>"""
    site.documents["/"] = Document(html(sync(gateway.tag), body=body))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url + LANDED)
    visitor.page.evaluate("document.forms[0].onsubmit = () => false")
    visitor.page.focus("[name=mail]")
    visitor.page.focus("[name=name]")
    visitor.page.wait_for_function("document.forms[0].fbPixelData?.value")
    visitor.page.click("text=Go")
    visitor.until(lambda: "Lead" in visitor.names, "the lead")

    posted = visitor.page.evaluate(
        "[...new FormData(document.forms[0])].filter(([name]) => name == 'fbPixelData')"
    )
    ((_, text),) = posted
    assert set(json.loads(text)) == KEYS
    assert id_of(visitor, "Lead") == json.loads(text)["eventId"]
    assert visitor.asked.count("GET /me") == 1


@pytest.mark.parametrize("grants", [False, True])
def test_a_visitor_s_data_waits_for_consent(
    context: BrowserContext, site: Site, strict: Gateway, *, grants: bool
) -> None:
    site.documents["/"] = Document(html(script(STUB), sync(strict.tag)))
    visitor = Visitor.of(context, strict)
    visitor.page.goto(site.url + LANDED)
    if grants:
        visitor.page.evaluate("px('consent', 'grant')")
    data = visitor.page.evaluate("px('data')")

    assert set(data) == (KEYS if grants else {"eventId"})
    assert data["eventId"]
    if grants:
        assert data["fbp"] == visitor.cookies()["_fbp"]
    else:
        assert visitor.asked == ["GET "]
        assert visitor.cookies() == {}


def test_links_to_elsewhere_are_counted_where_the_site_wants_it(
    context: BrowserContext, site: Site, outward: Gateway
) -> None:
    links = "<a href='https://other.example/x?mail=a@b.c'>Out</a><a href='/in'>In</a>"
    site.documents["/"] = Document(html(sync(outward.tag), body=links))
    visitor = Visitor.of(context, outward)
    visitor.page.goto(site.url)
    visitor.page.evaluate("addEventListener('click', (e) => e.preventDefault())")
    visitor.page.click("text=In")
    visitor.page.click("text=Out")
    visitor.until(lambda: "OutboundClick" in visitor.names, "the click")

    clicks = [e["data"] for e in visitor.sent if e["name"] == "OutboundClick"]
    assert clicks == [{"host": "other.example"}]
