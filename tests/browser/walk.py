"""A visitor's way through a site, in whatever browser: what is a page view, and what is none."""

import time
from typing import Protocol

from e2e.browser import Document
from e2e.harness import wait_until

from .front import Front
from .lab import html, script, table

# What a visitor or a router does, and the path of the navigation it is, if it is one.
WALK = [
    ("history.pushState({}, '', '/a')", "/a"),
    ("history.pushState({}, '', '/b?x=1')", "/b?x=1"),
    ("history.replaceState({}, '', '/b?tidied=1')", None),
    ("history.replaceState({}, '', '/c')", "/c"),
    ("location.hash = 'reviews'", None),
    ("location.hash = '#/one'", "/c#/one"),
    ("location.hash = '#!two'", "/c#!two"),
    ("history.back()", "/c#/one"),
    ("history.go(-3)", "/a"),
]


class Window(Protocol):
    """A browser that is told what to do."""

    def go(self, url: str) -> None:
        """Open a page, and wait for its load event."""

    def run(self, script: str) -> object:
        """What `script` returns; a promise is waited for."""


def through_a_router(window: Window, front: Front, engine: str) -> None:
    """One page that changes its address; every navigation is one page view."""
    front.documents["/"] = Document(html(front.tag))
    window.go(front.url)
    paths = ["/"]
    for step, path in WALK:
        _until_sent(front, len(paths), f"a view before {step}")
        window.run(step)
        paths += [path] if path else []
    _until_sent(front, len(paths), "the last view")
    _rest()
    told = f"{len(paths)} navigations, {len(front.sent)} page views"
    rows = [(step, path or "-") for step, path in [("load", "/"), *WALK]]
    table(f"{engine}: {told}", ["step", "a view of"], rows)

    assert front.sent == [("PageView", path) for path in paths]


def away_and_back(window: Window, front: Front, engine: str) -> None:
    """Coming back by the browser's page cache is a page view, and so is a reload."""
    restored = script("addEventListener('pageshow', (event) => window.restored = event.persisted)")
    front.documents["/"] = Document(html(front.tag, restored))
    front.documents["/other"] = Document(html(body="Another page, without the tag"))
    window.go(front.url)
    _until_sent(front, 1, "the view of the load")
    window.go(front.url + "/other")
    window.run("history.back()")
    _until_sent(front, 2, "the view of the page that came back")
    assert window.run("return window.restored"), "the page came from the cache"
    window.run("location.reload()")
    _until_sent(front, 3, "the view of the reload")
    _rest()
    rows = [["load, back by the cache, reload", 3, len(front.sent)]]
    table(engine, ["walk", "navigations", "page views"], rows)

    assert front.sent == [("PageView", "/")] * 3


def without_fbp(window: Window, front: Front) -> None:
    """A visitor who lost `_fbp` gets the same one with the 304, before the kept script runs."""
    front.documents["/"] = Document(html(front.tag))
    window.go(front.url)
    _until_sent(front, 1, "the view of the load")
    window.run("document.cookie = '_fbp=;domain=.acmeshop.com;path=/;max-age=0'")
    window.run("location.reload()")
    _until_sent(front, 2, "the view of the reload")

    loads = front.paths(f"/{front.gateway.slug}")
    assert loads[1].status == 304
    assert "_fbp" not in loads[1].cookies
    first, last = (hit.cookies["_fbp"] for hit in front.hits)
    assert first == last


def _until_sent(front: Front, count: int, what: str) -> None:
    wait_until(lambda: len(front.sent) >= count, what=what)


def _rest() -> None:
    """Longer than the script waits with anything, so that what is not sent now never is."""
    time.sleep(0.7)
