"""A real blocker in a real Firefox: every event arrives."""

from pathlib import Path

from e2e.browser import Document
from e2e.harness import wait_until

from .firefox import Firefox, ublock
from .front import Front
from .lab import html, table

# One script that every list knows, and one that none does.
PROBE = """
return Promise.all(["/fbevents.js", "/shop.js"].map((path) =>
  fetch(path, {cache: "no-store"}).then(() => "loaded", () => "blocked")))
"""


def test_every_event_is_delivered_past_ublock_origin(
    firefox: Firefox, front: Front, tmp_path: Path
) -> None:
    front.documents["/"] = Document(html(front.tag))
    front.documents["/fbevents.js"] = Document("window.pixel = 1", "text/javascript")
    front.documents["/shop.js"] = Document("window.shop = 1", "text/javascript")
    firefox.go(front.url)
    before = firefox.run(PROBE)
    with firefox.addon(ublock(tmp_path)):
        blocked = ["blocked", "loaded"]
        wait_until(lambda: firefox.run(PROBE) == blocked, 60, "its lists are active")
        front.asked.clear()
        firefox.go(front.url)
        firefox.run("px('track', 'Lead'); px('track', 'Purchase', {value: 9, currency: 'EUR'})")
        arrived = wait_until(lambda: front.delivered(3))
        after = firefox.run(PROBE)
    rows = [[e.event_name, "delivered", ", ".join(e.user_data)] for e in arrived]
    table("Past uBlock Origin's default lists (Firefox)", ["event", "outcome", "with"], rows)

    assert before == ["loaded", "loaded"]
    # The lists were not gone in between.
    assert after == blocked
    assert sorted(e.event_name for e in arrived) == ["Lead", "PageView", "Purchase"]
    assert len({str(e.user_data["fbp"]) for e in arrived}) == 1
    [purchase] = [e for e in arrived if e.event_name == "Purchase"]
    assert purchase.custom_data == {"value": 9, "currency": "EUR"}
