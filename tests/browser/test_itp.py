"""Safari's tracking prevention in WebKit: who a visitor is outlives what the browser does to cookies."""

from e2e.browser import Document
from e2e.harness import wait_until

from .front import Front
from .lab import html, script, table
from .webkit import Kept, Safari

CLICK = "?fbclid=AbC123"
# What fbevents.js does with every event: the same value once more, by document.cookie.
REWRITE = """
for (const pair of document.cookie.match(/_fb[pc]=[^;]+/g) || [])
  document.cookie = pair + ";domain=.acmeshop.com;path=/;max-age=7776000;samesite=lax";
"""
DELETE = "document.cookie = '_fbp=;domain=.acmeshop.com;path=/;max-age=0';"


def once_sent(action: str) -> str:
    """A script that does this after every answer of the gateway to a hit, and then says so."""
    return script(
        "new PerformanceObserver((seen) => { if (seen.getEntries().some((e) => e.name.endsWith('/h')))"
        f" {{ {action} fetch('/said'); }} }}).observe({{entryTypes: ['resource']}})"
    )


def visit(safari: Safari, front: Front, path: str) -> dict[str, Kept]:
    """Open a page, wait until it has done all it does, and leave; the cookies it leaves behind."""
    before = len(front.paths("/said"))
    with safari.at(front.url + path):
        wait_until(lambda: len(front.paths("/said")) > before, 30, f"{path} has done its work")
    return safari.cookies()


def shown(title: str, steps: dict[str, dict[str, Kept]]) -> None:
    rows = [
        [step, c["_fbp"].value if "_fbp" in c else "-", c["_fbp"].days if "_fbp" in c else "-"]
        for step, c in steps.items()
    ]
    table(f"{title} (WebKit with tracking prevention)", ["after", "_fbp", "days"], rows)


def test_what_meta_s_script_shortens_is_long_again_after_the_next_page(
    safari: Safari, front: Front
) -> None:
    front.documents["/"] = Document(html(front.tag, once_sent("")))
    front.documents["/pixel"] = Document(html(script(REWRITE + "fetch('/said')")))
    steps = {
        "a page": visit(safari, front, "/" + CLICK),
        "the pixel's rewriting": visit(safari, front, "/pixel"),
        "the next page": visit(safari, front, "/"),
    }
    shown("Rewritten by a script", steps)

    first, cut, last = steps.values()
    for name in ("_fbp", "_fbc"):
        assert [c[name].days for c in steps.values()] == [90, 7, 90]
        assert first[name].value == cut[name].value == last[name].value


def test_a_visitor_without_fbp_gets_the_same_one_before_the_page_runs(
    safari: Safari, front: Front
) -> None:
    front.documents["/"] = Document(html(front.tag, once_sent("")))
    front.documents["/deletes"] = Document(html(front.tag, once_sent(DELETE)))
    steps = {"a page": visit(safari, front, "/")}
    safari.lose("_fbp")
    steps["the browser's deletion"] = safari.cookies()
    steps["the next page"] = visit(safari, front, "/")
    steps["a script's deletion"] = visit(safari, front, "/deletes")
    steps["the page after that"] = visit(safari, front, "/")
    shown("Deleted", steps)

    first, lost, restored, deleted, last = steps.values()
    assert "_fbp" not in lost
    assert "_fbp" not in deleted
    assert first["_fbp"] == restored["_fbp"] == last["_fbp"]
    # The script's answer has brought it back, not the hit's.
    assert {hit.cookies["_fbp"] for hit in front.hits} == {first["_fbp"].value}


def test_a_visitor_of_every_eighth_day_is_known_after_a_month(safari: Safari, front: Front) -> None:
    front.documents["/"] = Document(html(front.tag, once_sent(REWRITE)))
    path, days, steps = "/" + CLICK, 0, {}
    while days <= 32:
        steps[f"day {days}"] = cookies = visit(safari, front, path)
        assert [cookies[name].days for name in ("_fbp", "_fbc")] == [7, 7]
        safari.let_pass(8)
        path, days = "/", days + 8
    shown("The pixel rewrites on every page, and a visit is 8 days after the last", steps)
    events = wait_until(lambda: front.delivered(len(steps)))

    first = steps["day 0"]
    assert {e.user_data["fbp"] for e in events} == {first["_fbp"].value}
    assert {e.user_data["fbc"] for e in events} == {first["_fbc"].value}
    # The browser itself had forgotten both each time it came.
    asked = front.paths(f"/{front.gateway.slug}")
    assert not any({"_fbp", "_fbc"} & one.cookies.keys() for one in asked)
