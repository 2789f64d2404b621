"""The three cookies in a real Chromium: what others do to them is put right, and six tabs agree on one id."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from .browser import Document, Site, chromium
from .harness import CHROME, Gateway, StandIn, call, live, wait_until

FORGET = "document.cookie = '_fbp=; path=/; max-age=0'"
REPLACE = "document.cookie = '_fbp=fb.1.1764000000000.99; path=/'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(user_agent=CHROME)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("cookies"), live(stand_in.url)) as running:
        yield running.start()


@pytest.fixture(scope="module")
def site(gateway: Gateway) -> Iterator[Site]:
    with Site() as served:
        served.documents["/favicon.ico"] = Document("", "image/x-icon")
        # Not async, so that the next script runs after it, as fbevents.js does.
        tag = gateway.tag.replace(" async", "")
        seen = "<script>window.seen = document.cookie</script>"
        served.documents["/"] = Document(f"<!doctype html><head>{tag}{seen}</head><body>Hi</body>")
        yield served


def cookies(context: BrowserContext) -> dict[str, str]:
    return {c["name"]: c["value"] for c in context.cookies()}


@pytest.mark.parametrize("harm", [FORGET, REPLACE], ids=["removed", "replaced"])
def test_the_next_pages_scripts_see_the_old_fbp_whatever_became_of_it(
    context: BrowserContext, site: Site, harm: str
) -> None:
    page = context.new_page()
    page.goto(site.url)
    before = cookies(context)["_fbp"]
    page.evaluate(harm)
    assert cookies(context).get("_fbp") != before

    page.goto(site.url)

    assert f"_fbp={before}" in page.evaluate("seen").split("; ")
    assert cookies(context)["_fbp"] == before


def test_no_script_reads_the_master(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    page.goto(site.url)

    names = {pair.partition("=")[0] for pair in page.evaluate("document.cookie").split("; ")}
    assert names == {"_fbp"}
    assert len(cookies(context)) == 2


def test_six_tabs_at_once_agree_on_one_fbp(
    context: BrowserContext, site: Site, gateway: Gateway, stand_in: StandIn
) -> None:
    tabs = [context.new_page() for _ in range(6)]
    for tab in tabs:
        tab.goto(site.url, wait_until="commit")
    for tab in tabs:
        tab.wait_for_function("window.px && px.loaded")
    settled = cookies(context)["_fbp"]

    for number, tab in enumerate(tabs * 2):
        tab.evaluate(f"px('track', 'Lead', {{}}, {{eventID: 'tab-{number}'}})")
    wait_until(lambda: len(stand_in.arrivals("tab-")) == 12, what="every tab's leads")

    leads = [event for event in stand_in.received() if event.event_id.startswith("tab-")]
    assert {event.user_data["fbp"] for event in leads} == {settled}
    assert cookies(context)["_fbp"] == settled


@pytest.mark.parametrize(
    ("host", "index", "domain"),
    [
        ("example.com", 1, "example.com"),
        ("www.example.co.uk", 2, "example.co.uk"),
        ("x.vercel.app", 2, "x.vercel.app"),
        ("shop.myshopify.com", 2, "shop.myshopify.com"),
        ("192.0.2.7", 0, None),
        ("[::1]:8000", 0, None),
        ("localhost:8000", 0, None),
        ("www.xn--bcher-kva.example", 1, "xn--bcher-kva.example"),
    ],
)
def test_cookies_by_the_hosts_kind(
    gateway: Gateway, host: str, index: int, domain: str | None
) -> None:
    answer = call("GET", gateway.script_url, headers={"Host": host, "User-Agent": CHROME})

    fbp, master = answer.headers.get_list("set-cookie")
    assert fbp.startswith(f"_fbp=fb.{index}.")
    for line in (fbp, master):
        found = [part for part in line.split("; ") if part.startswith("Domain=")]
        assert found == ([f"Domain={domain}"] if domain else [])
    assert master.endswith("; HttpOnly")
