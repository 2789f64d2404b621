"""A visitor who goes from one of the site's hosts to another stays the same visitor."""

from collections.abc import Iterator

import pytest
from e2e.browser import Document, Site, launch
from e2e.harness import CHROME, Gateway
from playwright.sync_api import Browser, BrowserContext, Playwright

from .lab import Visitor, html

FIRST, SECOND, STRANGER = "www.shop.example", "checkout.example", "other.example"


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Every host is this machine."""
    opened = launch(playwright, "MAP * 127.0.0.1")
    yield opened
    opened.close()


@pytest.fixture
def visitor(browser: Browser, crossing: Gateway) -> Iterator[Visitor]:
    context = browser.new_context(user_agent=CHROME)
    yield Visitor.of(context, crossing)
    context.close()


def page(host: str, site: Site, gateway: Gateway) -> str:
    """A page of that host with the tag of its own, and links to all hosts."""
    port = site.url.rpartition(":")[2]
    tag = gateway.tag.replace("127.0.0.1", host).replace(" async", "")
    links = "".join(
        f"<a id={to.split('.')[0]} href='http://{to}:{port}/to-{to}?x=1#top'>{to}</a>"
        for to in (FIRST, SECOND, STRANGER)
    )
    return html(tag, body=links)


def fbp(context: BrowserContext, host: str) -> str:
    (found,) = [
        c["value"]
        for c in context.cookies()
        if c["name"] == "_fbp" and host.endswith(c["domain"].lstrip("."))
    ]
    return found


def test_ids_follow_the_visitor_between_the_site_s_hosts_and_to_nobody_else(
    visitor: Visitor, site: Site, crossing: Gateway
) -> None:
    port = site.url.rpartition(":")[2]
    for path, host in {"/": FIRST, f"/to-{SECOND}": SECOND, f"/to-{STRANGER}": STRANGER}.items():
        site.documents[path] = Document(page(host, site, crossing))
    window, context = visitor.page, visitor.page.context
    window.goto(f"http://{FIRST}:{port}/?fbclid=IwCross1")
    window.wait_for_function("document.cookie.includes('_fbc')")
    first = fbp(context, FIRST)

    window.click("#checkout")
    window.wait_for_url("**/to-*")
    assert window.url == f"http://{SECOND}:{port}/to-{SECOND}?x=1#top"
    visitor.until(lambda: fbp(context, SECOND) == first, "the same id on the other host")
    arrived = {c["name"]: c["value"] for c in context.cookies(f"http://{SECOND}")}
    assert arrived["_fbc"].endswith(".IwCross1")

    window.click("#other")
    window.wait_for_url(f"**/to-{STRANGER}*")
    visitor.rest()
    assert window.url == f"http://{STRANGER}:{port}/to-{STRANGER}?x=1#top"
    assert fbp(context, STRANGER) != first


def test_a_link_from_somewhere_else_hands_nobody_s_ids_over(
    visitor: Visitor, site: Site, crossing: Gateway
) -> None:
    port = site.url.rpartition(":")[2]
    site.documents["/"] = Document(page(FIRST, site, crossing))
    forged = f"_{crossing.slug[:4]}"
    text = f"<script>location = 'http://{FIRST}:{port}/?a=1&{forged}=' + Date.now() + "
    text += "'~_fbp=fb.1.1764000000000.666'</script>"
    site.documents["/evil"] = Document(html(text))
    window = visitor.page
    window.goto(f"http://{STRANGER}:{port}/evil")
    window.wait_for_url(f"http://{FIRST}*/**")
    visitor.until(lambda: visitor.page.evaluate("document.cookie.includes('_fbp')"), "an id")
    visitor.rest()

    assert "666" not in fbp(window.context, FIRST)
