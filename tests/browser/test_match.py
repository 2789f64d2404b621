"""What the page hashes itself is what the server would have hashed; everything else goes as it is."""

import json
import random
import re
from pathlib import Path

import pytest
from e2e.browser import Document, Site
from e2e.harness import Gateway
from playwright.sync_api import BrowserContext

from gateway.normalise import Field, Locale, hashes

from .lab import Visitor, html, sync, table

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "normalise.json").read_bytes())
SHA256 = re.compile(r"[0-9a-f]{64}")
HASHED_HERE = ("em", "fn", "ln", "ct", "zp")
LETTERS = "abcz ABCZ.-_+@'0129éßİıŁ日\u200b\t\n,/#"


def made_up(field: str, count: int = 150) -> list[str]:
    """Values that are nearly what the page hashes, and often just that."""
    chance = random.Random(field)
    shapes = {
        "em": ["jo@shop.example", " Jo.Doe+x@Shop.Example ", "a_b-c@x.co.uk", "a@b"],
        "fn": ["Mary", " mary ", "Anne-Marie", "J"],
        "ln": ["Smith", "O'Brien", " SMITH", "van Dam"],
        "ct": ["Berlin", "New York", " paris", "Köln"],
        "zp": ["94035", " 10115 ", "94035-1234", "SW1A 1AA"],
    }[field]
    made = []
    for _ in range(count):
        text = list(chance.choice(shapes))
        for _ in range(chance.choice([0, 0, 1, 2])):
            text.insert(chance.randrange(len(text) + 1), chance.choice(LETTERS))
        made.append("".join(text))
    return made


def inputs(field: str) -> list[str]:
    known = [v["input"] for v in VECTORS["vectors"] if v["field"] == field]
    return [text for text in [*known, *made_up(field)] if isinstance(text, str)]


def test_a_hash_of_the_page_is_the_server_s(
    context: BrowserContext, site: Site, gateway: Gateway
) -> None:
    site.documents["/"] = Document(html(sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    rows = []
    for field in HASHED_HERE:
        texts = inputs(field)
        sent = visitor.page.evaluate(
            """async ([field, texts]) => {
              const sent = [];
              let last;
              window.fetch = async (url, options) => (last = options.body) && {};
              for (const text of texts) {
                px('identify', {[field]: text});
                for (let i = 0; i < 3; i++) await new Promise((done) => setTimeout(done));
                px('track', 'Probe');
                dispatchEvent(new Event('pagehide'));
                sent.push(JSON.parse(last).user[field]);
              }
              return sent;
            }""",
            [field, texts],
        )
        hashed = [(t, s) for t, s in zip(texts, sent, strict=True) if SHA256.fullmatch(s)]
        for text, got in hashed:
            if not SHA256.fullmatch(text.strip().lower()):
                assert hashes(Field(field), text, Locale()) == (got,), (field, text)
        raw = [(t, s) for t, s in zip(texts, sent, strict=True) if not SHA256.fullmatch(s)]
        assert all(text == got for text, got in raw)
        rows.append([field, len(texts), len(hashed), len(raw)])
        assert len(hashed) > 30
    table("Hashed in the page, and left to the server", ["field", "inputs", "hashed", "raw"], rows)


@pytest.mark.parametrize("value", [5, None, True, ["jo@shop.example"], {"a": 1}])
def test_what_is_no_text_is_left_to_the_server(
    context: BrowserContext, site: Site, gateway: Gateway, value: object
) -> None:
    site.documents["/"] = Document(html(sync(gateway.tag)))
    visitor = Visitor.of(context, gateway)
    visitor.page.goto(site.url)
    visitor.page.evaluate("(em) => px('identify', {em})", value)
    visitor.until(lambda: visitor.answered, "the page view")

    assert visitor.errors == []
    assert "PageView" in [e.event_name for e in gateway.events()]
