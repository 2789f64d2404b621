"""Every event of Meta's pixel arrives at the gateway under the pixel's id, in whatever order scripts load."""

from collections.abc import Iterator

import pytest
from e2e.browser import Document, Site
from e2e.harness import Gateway, wait_until
from playwright.sync_api import BrowserContext

from .lab import PIXEL, Meta, Visitor, html, pairs, script, sync, table

# What the page asks for itself; every way a call can reach the pixel.
CALLS = f"""
  fbq('init', '{PIXEL}', {{em: 'jane@example.com'}});
  fbq('track', 'PageView');
  fbq('track', 'ViewContent', {{value: 9.5, currency: 'EUR', content_ids: ['a', 'b']}});
  fbq('trackCustom', 'Scrolled', {{depth: 50}});
  fbq('trackSingle', '{PIXEL}', 'Search');
  fbq('trackSingleCustom', '{PIXEL}', 'Compared', {{n: 2}});
  fbq('track', 'Lead', {{}}, {{eventID: 'lead-1'}});
  fbq('track', 'Schedule', {{}}, Object.freeze({{eventID: 'schedule-1', x: 1}}));
  _fbq('track', 'Contact');
  fbq.push && fbq.push('track', 'Donate');
  const cached = fbq; cached('track', 'Subscribe', {{value: 1, currency: 'EUR'}});
"""
LATER = """
  fbq('track', 'AddToCart', {value: 3, currency: 'EUR'});
  history.pushState({}, '', '/next');
  fbq('track', 'InitiateCheckout');
  document.querySelector('button').click();
"""
EXPECTED = 13  # 10 of CALLS, 3 of LATER; the click's own event is Meta's business
TOP_LEVEL = """
  function fbq() { fbq.callMethod ? fbq.callMethod.apply(fbq, arguments) : fbq.queue.push(arguments); }
  fbq.queue = []; fbq.push = fbq; window._fbq = fbq;
"""

rows: list[list[object]] = []


@pytest.fixture(scope="module", autouse=True)
def _printed() -> Iterator[None]:
    yield
    head = ["order", "pixel", "gateway", "equal", "no id", "twice"]
    table("Events of the pixel and of the gateway, by (name, id)", head, rows)


def loads(meta: Meta, switches: str = "") -> str:
    return f'<script src="{meta.url}/fbevents.js?{switches}"></script>'


ORDERS = ["hook-base-fbevents", "base-hook-fbevents", "top-level", "openbridge", "blocked", "late"]


@pytest.mark.parametrize("order", ORDERS)
def test_events_are_equal_in_every_load_order(
    context: BrowserContext, site: Site, gateway: Gateway, meta: Meta, order: str
) -> None:
    hook, base = sync(gateway.tag), script(meta.base_code())
    heads = {
        "hook-base-fbevents": [hook, base, script(CALLS)],
        "base-hook-fbevents": [
            # The order of Meta's script is fixed here by putting it into the page.
            script(meta.base_code().replace("d.head.append(s)", "")),
            script(CALLS),
            hook,
            loads(meta),
        ],
        "top-level": [hook, script(TOP_LEVEL), script(CALLS), loads(meta)],
        "openbridge": [hook, script(meta.base_code("openbridge")), script(CALLS)],
        "blocked": [
            hook,
            script(meta.base_code().replace("/fbevents.js", "/none.js")),
            script(CALLS),
        ],
        "late": [script(meta.base_code("openbridge")), script(CALLS)],
    }
    site.documents["/"] = Document(html(*heads[order], body="<button>Buy</button>"))
    before = len(gateway.events())
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    if order == "late":
        wait_until(lambda: len(meta.fired) == 10)
        visitor.page.add_script_tag(url=gateway.script_url)
        visitor.page.wait_for_function("window.px && px.loaded")
    elif order != "blocked":
        visitor.until(lambda: len(meta.fired) == 10)
    visitor.page.evaluate(LATER)
    visitor.rest(2200)

    mirrored = gateway.events()[before:]
    fired = [e for e in meta.fired if e.name != "SubscribedButtonClick"]
    at_pixel, at_gateway = pairs(fired), pairs(mirrored)
    rows.append(
        [
            order,
            len(fired),
            len(mirrored),
            sum((at_pixel & at_gateway).values()),
            sum(not e.id for e in fired) + sum(not e.event_id for e in mirrored),
            sum(n - 1 for n in (at_pixel | at_gateway).values()),
        ]
    )
    if order == "blocked":
        assert not fired
    else:
        assert at_pixel == at_gateway
    assert len(mirrored) == EXPECTED
    assert all(e.event_id for e in mirrored)
    assert set(at_gateway.values()) == {1}
    assert {("Lead", "lead-1"), ("Schedule", "schedule-1")} <= set(at_gateway)
    assert [e.event_name for e in mirrored].count("PageView") == 2
    assert visitor.errors == []
    view = next(e for e in mirrored if e.event_name == "ViewContent")
    assert view.custom_data["value"] == 9.5
    if order != "late":  # what came before the script took its user data along
        assert [e for e in mirrored if "em" not in e.user_data] == []
