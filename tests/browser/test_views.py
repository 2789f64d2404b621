"""One page view a navigation, whoever sends it: the script, the site's own code, or Meta's pixel by itself."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.browser import CHROMIUM, NOBODY_ELSE, OPTIONS, Document, Site
from e2e.harness import CHROME, Gateway, wait_until
from playwright.sync_api import BrowserContext

from .lab import PIXEL, Meta, Visitor, html, script, sync, table
from .walk import WALK

rows: list[list[object]] = []


@pytest.fixture(scope="module", autouse=True)
def _printed() -> Iterator[None]:
    yield
    table("Page views by navigation (Chromium)", ["page", "walk", "navigations", "views"], rows)


PIXELS = {
    "no pixel": "",
    "pixel": f"fbq('init', '{PIXEL}'); fbq('track', 'PageView');",
    "pixel without its own": f"fbq('init', '{PIXEL}');",
}


@pytest.mark.parametrize("pixel", PIXELS)
def test_every_navigation_is_one_page_view(
    context: BrowserContext, site: Site, gateway: Gateway, meta: Meta, pixel: str
) -> None:
    calls = PIXELS[pixel]
    base = script(meta.base_code() + calls) if calls else ""
    site.documents["/"] = Document(html(sync(gateway.tag), base))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    paths = ["/"]
    for step, path in WALK:
        visitor.until(lambda: len(visitor.sent) == len(paths), f"a view before {step}")
        visitor.page.evaluate(step)
        if path:
            paths.append(path)
        elif not calls:
            visitor.rest(500)
        elif calls:
            # fbevents.js counts every change of the address as a view; the mirror follows it.
            visitor.until(lambda: len(meta.fired) > len(paths) - ("track" not in calls), step)
            paths.append(visitor.page.evaluate("location.href").removeprefix(site.url))
    visitor.rest(1800)

    views = [str(e["url"]).removeprefix(site.url) for e in visitor.sent]
    rows.append([pixel, "load, push, replace, hash, back", len(paths), len(views)])
    assert views == paths
    assert set(visitor.names) == {"PageView"}
    assert {e.id for e in meta.fired} <= {str(e["id"]) for e in visitor.sent}
    assert visitor.errors == []


@pytest.mark.parametrize("pixel", ["no pixel", "pixel"])
def test_a_visitor_who_comes_back_by_the_cache_views_the_page_again(
    context: BrowserContext, site: Site, gateway: Gateway, meta: Meta, pixel: str
) -> None:
    base = script(meta.base_code() + PIXELS[pixel]) if PIXELS[pixel] else ""
    restored = script("addEventListener('pageshow', e => window.restored = e.persisted)")
    site.documents["/"] = Document(html(sync(gateway.tag), base, restored))
    site.documents["/other"] = Document(html(body="Another page, without the tag"))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.until(lambda: visitor.names.count("PageView") == 1, "the first view")
    visitor.page.goto(site.url + "/other")
    visitor.page.evaluate("history.back()")
    visitor.page.wait_for_function("window.restored")
    visitor.rest(2000)

    assert visitor.names == ["PageView", "PageView"]
    assert len({str(e["id"]) for e in visitor.sent}) == 2
    rows.append([pixel, "back by bfcache", 2, visitor.names.count("PageView")])


def test_a_reload_is_another_view(context: BrowserContext, site: Site, gateway: Gateway) -> None:
    site.documents["/"] = Document(html(gateway.tag))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.until(lambda: len(visitor.sent) == 1, "the first view")
    visitor.page.reload()
    # If the reload came before the answer, the first one is sent again, with its own id.
    visitor.until(lambda: len({str(e["id"]) for e in visitor.sent}) == 2, "the second view")
    visitor.rest()

    views = {(str(e["name"]), str(e["id"])) for e in visitor.sent}
    assert [name for name, _ in views] == ["PageView", "PageView"]
    rows.append(["no pixel", "reload", 2, len(views)])


def test_a_view_is_sent_even_when_the_visitor_leaves_at_once(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    site.documents["/"] = Document(html(sync(gateway.tag)))
    site.documents["/other"] = Document(html())
    before = len(gateway.events())
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.page.goto(site.url + "/other")
    visitor.until(lambda: len(gateway.events()) == before + 1, "the view")


def test_the_first_view_of_the_site_that_comes_late_has_the_id_of_ours(
    context: BrowserContext, site: Site, gateway: Gateway, meta: Meta
) -> None:
    site.documents["/"] = Document(html(sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.until(lambda: len(visitor.sent) == 1, "our view")
    visitor.page.evaluate(f"() => {{ {meta.base_code()} {PIXELS['pixel']} }}")
    visitor.until(lambda: len(meta.fired) == 1, "the pixel's view")
    visitor.rest()

    assert [e.id for e in meta.fired] == [e["id"] for e in visitor.sent]


def test_a_prerendered_page_is_viewed_when_the_visitor_sees_it(
    site: Site, gateway: Gateway, tmp_path: Path
) -> None:
    # Chromium prerenders nothing while it is driven, so this page drives itself.
    told = "const say = (what) => navigator.sendBeacon('/said/' + what);"
    rules = '{"prerender": [{"source": "list", "urls": ["/seen"], "eagerness": "immediate"}]}'
    site.documents["/"] = Document(
        html(
            f'<script type="speculationrules">{rules}</script>',
            body="<a href='/seen'>See</a>"
            # The answer comes when what the gateway has by then has been counted.
            + script(
                "setTimeout(() => fetch('/said/waits', {method: 'POST', body: ''})"
                ".then(() => document.links[0].click()), 2000)"
            ),
        )
    )
    site.documents["/seen"] = Document(
        html(
            sync(gateway.tag),
            script(
                f"{told} if (document.prerendering) document.addEventListener("
                "'prerenderingchange', () => say(performance.now() > 1500))"
            ),
        )
    )
    before = len(gateway.events())
    said: list[str] = []
    site.on_post = lambda path: said.append(f"{path} after {len(gateway.events()) - before}")
    browser = subprocess.Popen(
        [
            CHROMIUM,
            "--headless=new",
            f"--user-data-dir={tmp_path}",
            f"--user-agent={CHROME}",
            *OPTIONS,
            f"--host-resolver-rules={NOBODY_ELSE}",
            site.url,
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(said) == 2 and len(gateway.events()) > before, 30, "the view")
        time.sleep(1)  # a second one would be there by then
    finally:
        browser.kill()
        browser.wait()

    views = [e.event_name for e in gateway.events()[before:]]
    assert said == ["/said/waits after 0", "/said/true after 1"]
    assert views == ["PageView"]
    rows.append(["no pixel", "prerender", 1, len(views)])
