"""Bodies as they are sent: what is read, what is refused, and that nothing sent is ever quoted."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import body, hit, wire
from gateway.errors import HitInvalid, HitTooLarge
from gateway.hit import Consent, Facts, Hit, Misfit, Sent, Source

NOW = 1_764_000_000_000  # 2025-11-24 16:00:00 UTC
PLANTED = "victim@example.com"


def parse(body: object, source: Source) -> Hit:
    text = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return wire.parse(text, Facts(source=source, now_ms=NOW))


def page(**fields: object) -> Hit:
    return parse(fields, Source.PAGE)


def page_event(event: dict[str, object], **fields: object) -> Sent:
    (one,) = page(events=[{"name": "PageView", "id": "1", **event}], **fields).events
    assert isinstance(one, Sent)
    return one


def backend(*events: object) -> tuple[Sent | Misfit, ...]:
    return parse(list(events), Source.BACKEND).events


def backend_event(**fields: object) -> Sent:
    (one,) = backend({"event_name": "Lead", **fields})
    assert isinstance(one, Sent)
    return one


def refused(body: object, source: Source) -> HitInvalid | Misfit:
    """Why a body with one fault was refused, be it the whole or the one event."""
    try:
        (one,) = parse(body, source).events
    except HitInvalid as error:
        return error
    assert isinstance(one, Misfit)
    return one


# --- pages -----------------------------------------------------------------------------------


def test_a_page_hit_is_read_whole() -> None:
    read = page(
        sent=NOW + 500,
        consent="granted",
        language="en-US",
        user={"em": " Jo@example.com ", "external_id": ["a", 7]},
        events=[
            {
                "name": "Purchase",
                "id": "o-1",
                "time": NOW,
                "url": "https://shop.example/thanks",
                "referrer": "https://shop.example/cart",
                "data": {"value": 9.5, "currency": "EUR"},
                "pixel": True,
            }
        ],
    )

    assert read.consent is Consent.GRANTED
    assert read.events == (
        Sent(
            index=0,
            name="Purchase",
            id="o-1",
            time_ms=NOW - 500,
            url="https://shop.example/thanks",
            referrer="https://shop.example/cart",
            consent=Consent.GRANTED,
            user={"em": ("Jo@example.com",), "external_id": ("a", "7")},
            data={"value": 9.5, "currency": "EUR"},
            extras=hit.NO_EXTRAS,
            browser_has_it=True,
        ),
    )


def test_a_page_may_say_its_consent_without_an_event() -> None:
    assert page(events=[], consent="denied") == Hit(events=(), consent=Consent.DENIED)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param(
            {"time": 5_000, "sent": 7_000}, NOW - 2_000, id="a clock that is decades slow"
        ),
        pytest.param({"time": NOW + 9e9, "sent": NOW + 9e9 + 10}, NOW - 10, id="a clock far ahead"),
        pytest.param({"time": 9, "sent": 5}, NOW, id="an event after its own sending"),
        pytest.param({"time": NOW - 60_000}, NOW, id="no sent: the clock cannot be judged"),
        pytest.param({"sent": NOW - 60_000}, NOW, id="no time"),
        pytest.param({"time": 1e300, "sent": 5}, NOW, id="absurd time"),
        pytest.param({"time": -1e308, "sent": 1e308}, NOW, id="a difference beyond any float"),
        pytest.param({"time": 5.5, "sent": 10**400}, NOW, id="sent beyond any float"),
    ],
)
def test_page_time_is_corrected_by_our_clock(times: dict[str, float], expected: int) -> None:
    event = {"time": times["time"]} if "time" in times else {}
    sent = {"sent": times["sent"]} if "sent" in times else {}

    assert page_event(dict(event), **sent).time_ms == expected


def test_what_the_pixel_sent_by_itself_is_read_from_its_request() -> None:
    query = (
        f"id=1&ev=Purchase&dl=https%3A%2F%2Fshop.example%2Fb&ts={NOW - 3_000}&eid=x"
        "&cd[value]=9.5&cd[content_ids]=%5B%22a%22%5D&cd[contents]=%5Bbroken&cud[em]=hash"
    )

    event = page_event({"query": query, "url": "https://shop.example/a", "time": NOW}, sent=NOW)

    assert event.url == "https://shop.example/b"
    assert event.time_ms == NOW - 3_000
    assert event.data == {"value": "9.5", "content_ids": ["a"], "contents": "[broken"}
    assert event.warnings == ()


@pytest.mark.parametrize("query", ["", "&&==", "ts=soon&dl=", "cd[]=1", "a&" * 300])
def test_a_request_of_the_pixel_that_says_nothing_changes_nothing(query: str) -> None:
    plain = {"url": "https://shop.example/a", "time": NOW - 5, "data": {"value": 1}}

    assert page_event({**plain, "query": query}, sent=NOW) == page_event(plain, sent=NOW)


# What fbevents.js 2.9.252 posts to a Conversions API Gateway.
MIRRORED = {
    "event_name": "Purchase",
    "conversion_value": {"value": 10, "currency": "USD"},
    "fb.dynamic_product_ads": {"content_type": "product", "content_ids": ["a"]},
    "custom_data": {"value": 10, "currency": "USD", "content_ids": "a"},
    "event_id": "ob3_plugin-set_36663a49",
    "fb.pixel_id": "1234567890123456",
    "fb.advanced_matching": {"em": "0" * 64, "chpv": "1"},
    "website_context": {
        "location": "https://shop.example/thanks",
        "referrer": "https://shop.example/cart",
        "isInIFrame": False,
    },
    "fb.fbp": "fb.1.1764000000000.1",
    "event_meta_info": {"experiment_detail": {"name": "CEE_STRONG_PII"}},
}


def test_what_the_pixel_mirrors_by_itself_is_one_event_it_has() -> None:
    (event,) = page(**MIRRORED).events

    assert event == Sent(
        index=0,
        name="Purchase",
        id="ob3_plugin-set_36663a49",
        time_ms=NOW,
        url="https://shop.example/thanks",
        referrer="https://shop.example/cart",
        user={"em": ("0" * 64,)},
        data={"value": 10, "currency": "USD", "content_ids": "a"},
        extras=hit.Extras(pixel_id="1234567890123456"),
        browser_has_it=True,
    )


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"event_name": 5}, "event_name"),
        ({"custom_data": []}, "custom_data"),
        ({"website_context": {"location": 5}}, "website_context.location"),
        ({"event_id": ""}, "event_id"),
    ],
)
def test_what_the_pixel_mirrors_badly_is_refused_by_field(
    broken: dict[str, object], field: str
) -> None:
    (event,) = page(**{**MIRRORED, **broken}).events

    assert isinstance(event, Misfit)
    assert event.field == field


def test_a_page_may_name_the_only_pixel_an_event_is_for() -> None:
    assert page_event({"to": 12345}).extras == hit.Extras(pixel_id=12345)


def test_a_page_cannot_say_who_it_is_by_address_agent_or_cookie() -> None:
    claimed = {
        "client_ip_address": "203.0.113.9",
        "ip": "203.0.113.9",
        "client_user_agent": "Forged",
        "userAgent": "Forged",
        "fbp": "fb.1.1764000000000.1",
        "fbc": "fb.1.1764000000000.abc",
        "subscription_id": "1",
        "lead_id": "123456789012345",
    }

    event = page_event({}, user=claimed)

    assert event.user == {}
    assert set(event.warnings) == {f"user.{name}: unknown field, kept out" for name in claimed}


def test_a_page_cannot_set_what_only_a_backend_sets() -> None:
    forged: dict[str, object] = {
        "action_source": "physical_store",
        "opt_out": True,
        "pixel_id": "999999",
        "event_time": 1,
    }

    event = page_event(forged)

    assert event.extras == hit.NO_EXTRAS
    assert event.action_source == "website"
    assert event.time_ms == NOW
    assert set(event.warnings) == {f"events[0].{name}: unknown field, kept out" for name in forged}


def test_a_long_url_is_cut() -> None:
    event = page_event({"url": "https://x.example/" + "a" * 9_000, "referrer": "r" * 9_000})

    assert len(event.url) == len(event.referrer) == body.TEXT_MAX


# --- backends --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"event_name": "Lead", "event_id": "1"}, id="one event"),
        pytest.param([{"event_name": "Lead", "event_id": "1"}], id="an array"),
        pytest.param({"events": [{"event_name": "Lead", "event_id": "1"}]}, id="an object"),
    ],
)
def test_a_backend_body_has_three_shapes(body: object) -> None:
    (event,) = parse(body, Source.BACKEND).events

    assert isinstance(event, Sent)
    assert (event.name, event.id, event.index, event.warnings) == ("Lead", "1", 0, ())


@pytest.mark.parametrize(
    ("readable", "key"),
    [
        *((name, "em") for name in ("em", "email")),
        *((name, "ph") for name in ("ph", "phone")),
        *((name, "fn") for name in ("fn", "first_name", "firstName")),
        *((name, "ln") for name in ("ln", "last_name", "lastName")),
        *((name, "ge") for name in ("ge", "gender")),
        *((name, "db") for name in ("db", "date_of_birth")),
        *((name, "ct") for name in ("ct", "city")),
        *((name, "st") for name in ("st", "region", "state")),
        *((name, "zp") for name in ("zp", "zip")),
        ("country", "country"),
        ("external_id", "external_id"),
        *((name, "client_ip_address") for name in ("client_ip_address", "ip")),
        *((name, "client_user_agent") for name in ("client_user_agent", "user_agent", "userAgent")),
        ("fbp", "fbp"),
        ("fbc", "fbc"),
        ("lead_id", "lead_id"),
    ],
)
def test_user_data_takes_metas_names_and_the_readable_ones(readable: str, key: str) -> None:
    assert backend_event(user_data={readable: "x"}).user == {key: ("x",)}


def test_two_names_of_one_key_are_two_values() -> None:
    event = backend_event(user_data={"em": ["a@x.example", "b@x.example"], "email": "c@x.example"})

    assert event.user == {"em": ("a@x.example", "b@x.example", "c@x.example")}


def test_fb_pixel_data_fills_what_the_event_does_not_say_itself() -> None:
    event = backend_event(
        event_id="1",
        user_data={"city": "Paris"},
        custom_data={"utm_source": "own"},
        referrer_url="https://own.example/",
        fbPixelData={
            "fbp": "fb.1.1764000000000.1",
            "fbc": "fb.1.1764000000000.abc",
            "ip": "203.0.113.9",
            "userAgent": "UA",
            "country": "de",
            "city": "Berlin",
            "region": "Berlin",
            "currency": "EUR",
            "language": "de",
            "referrer": "https://their.example/",
            "landingPage": "https://shop.example/landing",
            "utmSource": "theirs",
            "utmMedium": "cpc",
        },
    )

    assert event.user == {
        "fbp": ("fb.1.1764000000000.1",),
        "fbc": ("fb.1.1764000000000.abc",),
        "client_ip_address": ("203.0.113.9",),
        "client_user_agent": ("UA",),
        "country": ("de",),
        "ct": ("Paris",),
        "st": ("Berlin",),
    }
    # The visitor's country's currency is not the order's.
    assert event.data == {"utm_source": "own", "utm_medium": "cpc"}
    assert event.url == "https://shop.example/landing"
    assert event.referrer == "https://own.example/"


@pytest.mark.parametrize(
    ("given_time", "expected"),
    [
        pytest.param(1_764_000_000, NOW, id="seconds"),
        pytest.param(1_764_000_000.25, NOW + 250, id="fractional seconds"),
        pytest.param("1764000000", NOW, id="seconds as text"),
        pytest.param("2025-11-24T16:00:00Z", NOW, id="ISO with Z"),
        pytest.param("2025-11-24T17:00:00+01:00", NOW, id="ISO with an offset"),
        pytest.param("2025-11-24T16:00:00", NOW, id="ISO without a zone is UTC"),
        pytest.param("2025-11-24 16:00:00.500", NOW + 500, id="ISO with a space and a fraction"),
        pytest.param("2025-11-24", NOW - 16 * 3_600_000, id="a date"),
        pytest.param(None, NOW, id="null means now"),
    ],
)
def test_event_time(given_time: object, expected: int) -> None:
    assert backend_event(event_time=given_time).time_ms == expected


@pytest.mark.parametrize(
    "given_time",
    [
        pytest.param("yesterday", id="words"),
        pytest.param("", id="empty"),
        pytest.param("²", id="a digit that is no number"),
        pytest.param("9" * 5_000, id="more digits than Python reads"),
        pytest.param(1e306, id="a float that overflows in milliseconds"),
        pytest.param(-1e306, id="the same, negative"),
        pytest.param("2025-13-01", id="a thirteenth month"),
        pytest.param(True, id="a boolean"),
        pytest.param([1], id="a list"),
    ],
)
def test_an_impossible_event_time_is_a_misfit(given_time: object) -> None:
    misfit = refused({"event_name": "Lead", "event_time": given_time}, Source.BACKEND)

    assert isinstance(misfit, Misfit)
    assert misfit.field == "event_time"


def test_event_id_the_caller_chose_stays() -> None:
    chosen = backend_event(event_id="own", fbPixelData={"eventId": "page"})

    assert (chosen.id, chosen.warnings) == ("own", ())
    assert backend_event(event_id=17).id == "17"


def test_event_id_comes_from_the_page_before_the_order() -> None:
    event = backend_event(
        event_name="Purchase", fbPixelData={"eventId": "page"}, custom_data={"order_id": "A1"}
    )

    assert (event.id, event.warnings) == ("page", ())


@pytest.mark.parametrize("order", ["A1", " A1 "])
def test_event_id_of_a_purchase_comes_from_its_order(order: str) -> None:
    event = backend_event(event_name="Purchase", custom_data={"order_id": order})

    assert (event.id, event.warnings) == ("purchase:A1", ())


@pytest.mark.parametrize("order", ["", "  ", None, True, False, ["A1"]])
def test_orders_without_a_number_are_not_one_order(order: object) -> None:
    first = backend_event(event_name="Purchase", custom_data={"order_id": order, "value": 1})
    second = backend_event(event_name="Purchase", custom_data={"order_id": order, "value": 2})

    assert first.id != second.id
    assert not first.id.startswith("purchase:")


def test_an_order_id_names_no_other_event_than_its_purchase() -> None:
    assert not backend_event(custom_data={"order_id": "A1"}).id.startswith("purchase:")


def test_a_derived_event_id_is_the_same_for_a_repeat_and_said() -> None:
    first = b'{"event_name":"Lead","event_time":5,"user_data":{"em":"a@x.example","ph":"1"}}'
    again = b'{"user_data":{"ph":"1","em":"a@x.example"},"event_time":5,"event_name":"Lead"}'
    other = b'{"event_name":"Lead","event_time":6,"user_data":{"em":"a@x.example","ph":"1"}}'

    (one,), (two,), (three,) = (parse(b, Source.BACKEND).events for b in (first, again, other))

    assert one.id == two.id != three.id
    assert isinstance(one, Sent)
    assert one.warnings == ("event_id: missing; equal events within 48 hours count as one",)


def test_the_last_of_two_equal_keys_counts_and_only_it() -> None:
    (event,) = parse(
        b'{"event_name":"Lead","event_name":"Other","event_id":"1"}', Source.BACKEND
    ).events

    assert event.name == "Other"


# --- refusals --------------------------------------------------------------------------------

TOO_DEEP = b"[" * 300 + b"]" * 300


@pytest.mark.parametrize("source", list(Source))
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"name=Lead", id="a form"),
        pytest.param(b'{"events":[NaN]}', id="NaN"),
        pytest.param(b'{"events":[Infinity]}', id="Infinity"),
        pytest.param(
            b'{"events":[{"name":"a","id":"1","event_name":"a","data":{"v":1e999}}]}', id="1e999"
        ),
        pytest.param(b'{"events":[{"name":"a","id":"\\ud800"}]}', id="an escaped lone surrogate"),
        pytest.param(b'{"events":[{"name":"a","id":"\xed\xa0\x80"}]}', id="a raw lone surrogate"),
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b'{"events":[{"name":"a","id":"1",}]}', id="a trailing comma"),
        pytest.param(b'{"events":[]} {}', id="two texts"),
        pytest.param(b'{"a":%s}' % (b"9" * 5_000), id="an integer of 5000 digits"),
        pytest.param(b"[" * 30_000 + b"]" * 30_000, id="nested deeper than the decoder goes"),
        pytest.param(b'{"events":[{"data":' + TOO_DEEP + b"}]}", id="nested deeper than we go"),
        pytest.param(b'{"events":3}', id="events is no array"),
    ],
)
def test_a_body_that_is_no_hit_is_refused(body: bytes, source: Source) -> None:
    with pytest.raises(HitInvalid):
        parse(body, source)


def test_data_may_nest_as_deep_as_a_catalogue_does() -> None:
    nested: object = 1
    for _ in range(20):
        nested = {"a": [nested]}

    assert backend_event(custom_data={"a": nested}).data == {"a": nested}


def test_an_empty_array_is_no_backend_hit() -> None:
    with pytest.raises(HitInvalid, match="events: at least one event"):
        backend()


PAGE_EVENT_FAULTS: list[tuple[str, object]] = [
    ("name", [PLANTED]),
    ("name", ""),
    ("name", "x" * 51),
    ("name", "a\nb"),
    ("id", {PLANTED: 1}),
    ("id", ""),
    ("id", "x" * 201),
    ("id", "a\x00b"),
    ("time", PLANTED),
    ("url", [PLANTED]),
    ("referrer", {PLANTED: PLANTED}),
    ("data", PLANTED),
    ("data", [PLANTED]),
    ("pixel", PLANTED),
]
PAGE_FAULTS: list[tuple[str, dict[str, object]]] = [
    ("events", {"events": PLANTED}),
    ("events", {}),
    ("consent", {"events": [], "consent": PLANTED}),
    ("consent", {"events": [], "consent": f"x'{PLANTED}"}),
    ("consent", {"events": [], "consent": f'x"{PLANTED}'}),
    ("consent", {"events": [], "consent": f"x - at `${PLANTED}"}),
    ("sent", {"events": [], "sent": PLANTED}),
    ("language", {"events": [], "language": [PLANTED]}),
    ("user", {"events": [], "user": PLANTED}),
    ("events[0]", {"events": [PLANTED]}),
    ("events[0]", {"events": [3]}),
    ("events[0].id", {"events": [{"name": "PageView"}]}),
    ("events[0].name", {"events": [{"id": "1"}]}),
]
PAGE_FAULTS += [
    (f"events[0].{name}", {"events": [{"name": "PageView", "id": "1", name: value}]})
    for name, value in PAGE_EVENT_FAULTS
]
BACKEND_EVENT_FAULTS: list[tuple[str, dict[str, object]]] = [
    ("event_name", {"event_name": [PLANTED]}),
    ("event_name", {"event_name": None}),
    ("event_name", {"event_name": "x" * 51}),
    ("event_id", {"event_id": [PLANTED]}),
    ("event_id", {"event_id": "x" * 201}),
    ("event_time", {"event_time": PLANTED}),
    ("action_source", {"action_source": [PLANTED]}),
    ("event_source_url", {"event_source_url": {"a": PLANTED}}),
    ("referrer_url", {"referrer_url": [PLANTED]}),
    ("user_data", {"user_data": PLANTED}),
    ("custom_data", {"custom_data": [PLANTED]}),
    ("consent", {"consent": PLANTED}),
    ("consent", {"consent": f"x'{PLANTED}"}),
    ("consent", {"consent": f"x - at `${PLANTED}"}),
    ("opt_out", {"opt_out": PLANTED}),
    ("data_processing_options", {"data_processing_options": PLANTED}),
    ("data_processing_options[1]", {"data_processing_options": [PLANTED, 3]}),
    ("data_processing_options_country", {"data_processing_options_country": PLANTED}),
    ("customer_segmentation", {"customer_segmentation": [PLANTED]}),
    ("original_event_data", {"original_event_data": PLANTED}),
    ("app_data", {"app_data": [PLANTED]}),
    ("messaging_channel", {"messaging_channel": {PLANTED: 1}}),
    ("pixel_id", {"pixel_id": [PLANTED]}),
    ("fbPixelData", {"fbPixelData": PLANTED}),
    ("fbPixelData.fbp", {"fbPixelData": {"fbp": [PLANTED]}}),
]
BACKEND_FAULTS: list[tuple[str, dict[str, object]]] = [
    (field, {"event_name": "Lead", "event_id": "1", **fault})
    for field, fault in BACKEND_EVENT_FAULTS
]


@pytest.mark.parametrize(
    ("source", "field", "body"),
    [
        *(pytest.param(Source.PAGE, f, b, id=f"page-{f}") for f, b in PAGE_FAULTS),
        *(pytest.param(Source.BACKEND, f, b, id=f"backend-{f}") for f, b in BACKEND_FAULTS),
        pytest.param(Source.BACKEND, "", [3], id="backend-a number for an event"),
        pytest.param(Source.BACKEND, "", [PLANTED], id="backend-a text for an event"),
    ],
)
def test_a_fault_names_its_field_and_never_the_value(
    source: Source, field: str, body: object
) -> None:
    found = refused(body, source)

    assert found.field == field
    assert found.error
    assert PLANTED not in repr(found)
    assert PLANTED not in str(found)


def test_a_wrong_consent_is_told_what_is_allowed() -> None:
    assert "granted" in refused({"events": [], "consent": "yes"}, Source.PAGE).error
    assert "denied" in refused({"events": [], "consent": "yes"}, Source.PAGE).error


@pytest.mark.parametrize(
    ("field", "user"),
    [
        ("em", {"em": {PLANTED: PLANTED}}),
        ("em", {"em": [[PLANTED]]}),
        ("ph", {"ph": True}),
        ("fn", {"fn": 1.5}),
        ("(unnamed)", {PLANTED: "x"}),
        ("(unnamed)", {"a b": PLANTED}),
        ("shoe_size", {"shoe_size": PLANTED}),
    ],
)
@pytest.mark.parametrize("source", list(Source))
def test_an_unusable_user_value_is_kept_out_and_its_field_named(
    source: Source, field: str, user: dict[str, object]
) -> None:
    if source is Source.PAGE:
        event, where = page_event({}, user=user), "user"
    else:
        event, where = backend_event(event_id="1", user_data=user), "user_data"

    assert event.user == {}
    assert len(event.warnings) == 1
    assert event.warnings[0].startswith(f"{where}.{field}: ")
    assert PLANTED not in event.warnings[0]


def test_unknown_fields_are_named_kept_out_and_not_endless() -> None:
    event = backend_event(event_id="1", event_nam="x", **{PLANTED: PLANTED})

    assert set(event.warnings) == {
        "event_nam: unknown field, kept out",
        "(unnamed): unknown field, kept out",
    }
    assert PLANTED not in repr(event)
    many = backend_event(
        event_id="1",
        user_data={f"x{n}": 1 for n in range(500)},
        **{f"y{n}": 1 for n in range(500)},
    )
    assert len(many.warnings) < 20


@pytest.mark.parametrize(
    "bad",
    [3, None, [], {"name": "PageView"}, {"name": "PageView", "id": 5}],
    ids=["number", "null", "array", "no id", "numeric id"],
)
def test_one_bad_event_does_not_take_its_neighbours(bad: object) -> None:
    good = {"name": "PageView", "id": "1"}

    first, second, third = page(events=[good, bad, {**good, "id": "2"}]).events

    assert isinstance(second, Misfit)
    assert (first.id, second.index, third.id) == ("1", 1, "2")
    assert second.field.startswith("events[1]")


def test_one_bad_backend_event_does_not_take_its_neighbours() -> None:
    good = {"event_name": "Lead", "event_id": "1"}

    first, second, third, fourth = backend(good, {"event_id": "9"}, "no event", good)

    assert isinstance(first, Sent)
    assert second == Misfit(index=1, name="", id="9", field="event_name", error="missing")
    assert isinstance(third, Misfit)
    assert isinstance(fourth, Sent)


def test_a_misfit_shows_only_printable_text_of_name_and_id() -> None:
    (misfit,) = backend({"event_name": "Le\r\nad\x1b", "event_id": "a\u2028b", "opt_out": 3})

    assert isinstance(misfit, Misfit)
    assert (misfit.name, misfit.id) == ("Lead", "ab")


PAGE_EVENT = {"name": "PageView", "id": "1"}
BACKEND_EVENT = {"event_name": "Lead", "event_id": "1"}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: parse({"events": [PAGE_EVENT] * n}, Source.PAGE), id="page"),
        pytest.param(lambda n: parse([BACKEND_EVENT] * (n * 20), Source.BACKEND), id="backend"),
        pytest.param(lambda n: parse([BACKEND_EVENT] * (n * 20), Source.GRAPH), id="graph"),
    ],
)
def test_more_events_than_allowed_are_too_large(make: Callable[[int], Hit]) -> None:
    make(50)
    with pytest.raises(HitTooLarge, match="at most"):
        make(51)


@pytest.mark.parametrize(
    ("source", "limit", "text"),
    [
        (Source.PAGE, 64 * 1024, b'{"events":[]'),
        (Source.BACKEND, 2 * 1024 * 1024, b'{"event_name":"Lead"'),
        (Source.GRAPH, 4 * 1024 * 1024, b'{"event_name":"Lead"'),
    ],
)
def test_more_bytes_than_allowed_are_too_large(source: Source, limit: int, text: bytes) -> None:
    full = text + b" " * (limit - len(text) - 1) + b"}"
    assert len(full) == limit
    parse(full, source)
    with pytest.raises(HitTooLarge):
        parse(full + b" ", source)


# --- what the page says for the whole hit -----------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "options", "country", "state"),
    [
        ([["LDU"], 1, 1000], ["LDU"], 1, 1000),
        ([["LDU"], 1, 1013], ["LDU"], 1, 1013),
        ([["LDU"], 0, 0], ["LDU"], 0, 0),
        ([["LDU"]], ["LDU"], 0, 0),
        ([[]], [], None, None),
        ([[], 0, 0], [], None, None),
    ],
)
def test_limits_become_the_data_processing_options_of_every_event(
    limits: object, options: list[str], country: int | None, state: int | None
) -> None:
    event = page_event({"to": 12345}, limits=limits)

    assert event.extras == hit.Extras(
        pixel_id=12345,
        data_processing_options=options,
        data_processing_options_country=country,
        data_processing_options_state=state,
    )
    assert event.warnings == ()


@pytest.mark.parametrize(
    "limits",
    [
        *([], "LDU", 5, {}, [["ldu"]], ["LDU"], [["LDU", "LDU"]], [["LDU"], 1], [["LDU"], 1, 999]),
        *([["LDU"], 1, 1014], [["LDU"], 2, 0], [["LDU"], 0, 1000], [["LDU"], True, 1000]),
        *([["LDU"], "1", "1000"], [["LDU"], 1, 1000, 5], [[], "x"], [None], [[PLANTED]]),
    ],
    ids=repr,
)
def test_limits_that_are_none_are_kept_out_with_a_word(limits: object) -> None:
    event = page_event({}, limits=limits)

    assert event.extras == hit.Extras()
    assert event.warnings == ("limits: not what fbq takes, kept out",)


ODD: tuple[object, ...] = (5, None, ["a"], {})


def test_an_in_app_click_is_a_text_or_nothing() -> None:
    assert page(events=[], click="InApp_1").click == "InApp_1"
    assert [page(events=[], click=odd).click for odd in ODD] == [None] * 4


FBP, FBC = f"fb.1.{NOW}.42", f"fb.1.{NOW}.A.b-c"
ONLY_FBP = hit.HandOver(made_ms=NOW, fbp=FBP, fbc="")


@pytest.mark.parametrize(
    ("text", "sent", "expected"),
    [
        (f"{NOW}~_fbp={FBP}~_fbc={FBC}", NOW, hit.HandOver(made_ms=NOW, fbp=FBP, fbc=FBC)),
        (f"{NOW}~_fbc={FBC}~_fbp={FBP}", NOW, hit.HandOver(made_ms=NOW, fbp=FBP, fbc=FBC)),
        (f"{NOW}~_fbc={FBC}", NOW, hit.HandOver(made_ms=NOW, fbp="", fbc=FBC)),
        (f"{NOW}~_fbp={FBP}", NOW, ONLY_FBP),
        (f"{NOW}%7E_fbp%3D{FBP}", NOW, ONLY_FBP),
        # A clock an hour ahead, on which three seconds passed.
        (f"{NOW}~_fbp={FBP}", NOW + 3000, hit.HandOver(made_ms=NOW - 3000, fbp=FBP, fbc="")),
        (f"{NOW}~_fbp={FBP}", None, ONLY_FBP),
        (5, NOW, None),
        (None, NOW, None),
        ([FBP], NOW, None),
        ("", NOW, None),
        ("~", NOW, None),
        (f"{NOW}~", NOW, None),
        (f"{NOW}~{FBP}", NOW, None),
        (f"{FBP}~_fbp={FBP}", NOW, None),
        (f"{'9' * 15}~_fbp={FBP}", NOW, None),
        (f"{NOW}~_fbp={FBP}~_ga=1", NOW, None),
    ],
)
def test_what_another_host_hands_over(
    text: object, sent: int | None, expected: hit.HandOver | None
) -> None:
    assert page(events=[], sent=sent, **{"from": text}).handed == expected


def test_metas_mirror_tells_of_cookies_and_cannot_speak_of_consent() -> None:
    mirrored = {"event_name": "Lead", "event_id": "1", "fb.fbp": FBP, "fb.clickID": FBC}

    assert parse(mirrored, Source.PAGE).told == (("_fbp", FBP), ("_fbc", FBC))
    assert parse(mirrored, Source.PAGE).silent
    assert parse({**mirrored, "fb.fbp": 5, "fb.clickID": None}, Source.PAGE).told == ()
    assert not page(events=[]).silent


# --- whatever comes --------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        *("events", "sent", "consent", "user", "name", "id", "time", "url", "data", "pixel"),
        *("event_name", "event_id", "event_time", "user_data", "custom_data", "fbPixelData"),
        *("order_id", "eventId", "em", "opt_out", "pixel_id", "data_processing_options"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["Purchase", "granted", "1764000000", "2025-11-24T16:00:00", "²", "1" * 400])
    | st.integers(min_value=10**300, max_value=10**301)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=25,
)
EVENTS = st.dictionaries(KEYS, JSON, max_size=8)


def only_hit_invalid(body: bytes, source: Source) -> None:
    try:
        read = wire.parse(body, Facts(source=source, now_ms=NOW))
    except HitInvalid:
        return
    assert [event.index for event in read.events] == list(range(len(read.events)))
    for event in read.events:
        if isinstance(event, Sent):
            assert isinstance(event.time_ms, int)
            assert event.name
            assert event.id


@given(body=st.binary(max_size=300), source=st.sampled_from(Source))
def test_any_bytes_raise_nothing_but_hit_invalid(body: bytes, source: Source) -> None:
    only_hit_invalid(body, source)


@given(value=JSON, source=st.sampled_from(Source))
def test_any_json_raises_nothing_but_hit_invalid(value: object, source: Source) -> None:
    only_hit_invalid(json.dumps(value).encode(), source)


@given(
    events=st.lists(EVENTS, max_size=3),
    fields=st.dictionaries(KEYS, JSON, max_size=3),
    source=st.sampled_from(Source),
)
def test_any_nearly_right_hit_raises_nothing_but_hit_invalid(
    events: list[dict[str, object]], fields: dict[str, object], source: Source
) -> None:
    only_hit_invalid(json.dumps({**fields, "events": events}).encode(), source)
