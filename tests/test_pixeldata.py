"""fbPixelData: every key always there, from the request and the signed cookie alone."""

import msgspec
import pytest

from gateway import pixeldata
from gateway.cookies import BrowserIds
from gateway.enrich import Place
from gateway.hit import Facts, Source
from gateway.master import Landing, Master
from gateway.pixeldata import FbPixelData

NOW = 1_764_000_000_000
FBP, FBC = f"fb.1.{NOW}.42", f"fb.1.{NOW}.A"
AT_HOME = Place(city="Zürich", region="Zurich", postal_code="8001", country="ch")
LANDED = Landing(
    at_ms=NOW,
    page="https://example.com/a?utm_source=ig",
    referrer="https://l.instagram.com/",
    utm={"utm_source": "ig", "utm_campaign": "x"},
)
# The seed guide's keys, in its order, and the id.
KEYS = [
    "fbp",
    "fbc",
    "ip",
    "userAgent",
    "country",
    "city",
    "region",
    "currency",
    "language",
    "referrer",
    "landingPage",
    "utmSource",
    "utmMedium",
    "utmCampaign",
    "utmContent",
    "utmTerm",
    "eventId",
]


def ids(landing: Landing | None = None, **said: object) -> BrowserIds:
    kept = Master(fbp=FBP, fbc=FBC, first_seen_ms=NOW, landing=landing)
    given = {"fbp": FBP, "fbc": FBC, "utm": landing.utm if landing else {}, **said}
    return BrowserIds(master=kept, **given)  # type: ignore[arg-type]


def facts(**said: object) -> Facts:
    return Facts(source=Source.PAGE, now_ms=NOW, **said)  # type: ignore[arg-type]


def test_everything_that_is_known() -> None:
    request = facts(address="8.8.8.8", agent="UA", languages="de-CH,de;q=0.9", referer="https://x")

    assert pixeldata.of(request, ids(LANDED), AT_HOME, "e-1") == FbPixelData(
        fbp=FBP,
        fbc=FBC,
        ip="8.8.8.8",
        userAgent="UA",
        country="CH",
        city="Zürich",
        region="Zurich",
        currency="CHF",
        language="de-CH",
        referrer="https://l.instagram.com/",
        landingPage="https://example.com/a?utm_source=ig",
        utmSource="ig",
        utmCampaign="x",
        eventId="e-1",
    )


def test_every_key_is_there_and_null_where_nothing_is_known() -> None:
    nothing = pixeldata.of(facts(), ids(fbc=None), Place(), "e-1")

    shown = msgspec.json.decode(msgspec.json.encode(nothing))
    assert list(shown) == KEYS
    assert {k for k, v in shown.items() if v is not None} == {"fbp", "eventId"}


def test_on_a_first_page_the_page_that_asks_is_the_landing() -> None:
    page = "https://example.com/b?email=jo@mail.example&utm_source=tv"
    found = pixeldata.of(facts(referer=page), ids(utm={"utm_source": "tv"}), Place(), "e-1")

    assert found.landingPage == "https://example.com/b?utm_source=tv"
    assert (found.referrer, found.utmSource) == (None, "tv")


def test_a_campaign_of_this_page_goes_over_the_last_landing_whole() -> None:
    page = "https://example.com/b?utm_source=tv"
    found = pixeldata.of(facts(referer=page), ids(LANDED, utm={"utm_source": "tv"}), Place(), "e")

    assert (found.landingPage, found.referrer) == (page, None)
    assert (found.utmSource, found.utmCampaign) == ("tv", None)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("en-US,en;q=0.9", "en-US"),
        ("de", "de"),
        ("fr;q=0.5, de;q=0.9", "de"),
        ("*", None),
        ("*;q=0.1, it;q=0.05", "it"),
        ("zh-Hant-TW", "zh-Hant-TW"),
        ("", None),
        ("en;q=0", None),
        ("<script>, en", "en"),
        ("e" * 9, None),
        ("," * 5000 + "en", None),
    ],
)
def test_the_language_asked_for_most(header: str, language: str | None) -> None:
    assert pixeldata.language_of(header) == language


@pytest.mark.parametrize(
    ("country", "currency"),
    [("us", "USD"), ("de", "EUR"), ("GB", "GBP"), ("pa", "PAB"), ("", None), ("xx", None)],
)
def test_the_money_of_a_country(country: str, currency: str | None) -> None:
    assert pixeldata.currency_of(country) == currency
