"""The event as Meta gets it: its form, its refusals, and that nothing raw is in it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import event, hit, validate
from gateway.enrich import Place, Visitor
from gateway.event import Built, Event, UserData
from gateway.hit import Extras, Sent
from gateway.outcome import Outcome
from gateway.sandbox import rules
from gateway.validate import Problem

NOW = 1_764_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR
FBP = f"fb.1.{NOW - 1_000}.123"
HASH = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"

SENT = Sent(
    index=0,
    name="Lead",
    id="e-1",
    time_ms=NOW,
    url="https://shop.example/thanks",
    user={},
    data={},
    extras=hit.NO_EXTRAS,
)
VISITOR = Visitor(address="8.8.8.8", agent="UA/1", fbp=FBP, fbc=None, utm={}, place=Place())


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def check(event: Event, now_ms: int) -> Problem | None:
    return validate.wrong(event, now_ms) or validate.missing(event)


def build(
    sent: Sent = SENT,
    visitor: Visitor = VISITOR,
    *,
    now_ms: int = NOW,
    default_country: str | None = None,
    alternates: bool = False,
) -> Built:
    return event.build(sent, visitor, now_ms, default_country, alternates=alternates)


def wire(built: Built) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(event.encode(built.event))
    return decoded


def user_of(built: Built) -> dict[str, object]:
    user = wire(built)["user_data"]
    assert isinstance(user, dict)
    return user


def with_user(**user: str | tuple[str, ...]) -> Sent:
    values = {k: (v,) if isinstance(v, str) else v for k, v in user.items()}
    return replace(SENT, user=values)


def with_data(event_name: str = "Lead", /, **data: object) -> Sent:
    return replace(SENT, name=event_name, data=data)


# --- encoding --------------------------------------------------------------------------------


def test_the_whole_event_has_metas_names_and_types() -> None:
    sent = replace(
        SENT,
        name="Purchase",
        referrer="https://shop.example/cart",
        user={
            "em": ("John_Smith@gmail.com",),
            "country": ("DE",),
            "external_id": ("a", "b"),
            "lead_id": ("123456789012345",),
        },
        data={"value": 9.5, "currency": "eur", "contents": [{"id": "a", "quantity": 1}]},
        extras=Extras(opt_out=True, data_processing_options=["LDU"], pixel_id="555"),
    )
    visitor = replace(VISITOR, fbc=f"fb.1.{NOW}.IwAR0", utm={"utm_source": "ig"})

    assert wire(build(sent, visitor)) == {
        "event_name": "Purchase",
        "event_time": NOW // 1000,
        "event_id": "e-1",
        "action_source": "website",
        "event_source_url": "https://shop.example/thanks",
        "referrer_url": "https://shop.example/cart",
        "user_data": {
            # Meta's own page prints this hash for this address.
            "em": [HASH],
            "country": [sha("de")],
            "external_id": [sha("a"), sha("b")],
            "lead_id": "123456789012345",
            "client_ip_address": "8.8.8.8",
            "client_user_agent": "UA/1",
            "fbc": f"fb.1.{NOW}.IwAR0",
            "fbp": FBP,
        },
        "custom_data": {
            "utm_source": "ig",
            "value": 9.5,
            "currency": "EUR",
            "contents": [{"id": "a", "quantity": 1}],
        },
        "opt_out": True,
        "data_processing_options": ["LDU"],
    }


def test_what_is_empty_is_left_out() -> None:
    nobody = Visitor(address=None, agent=None, fbp=None, fbc=None, utm={}, place=Place())

    assert wire(build(with_data(a=None, b=""), nobody)) == {
        "event_name": "Lead",
        "event_time": NOW // 1000,
        "event_id": "e-1",
        "action_source": "website",
        "event_source_url": "https://shop.example/thanks",
        "user_data": {},
    }


def test_opting_out_of_nothing_is_said_all_the_same() -> None:
    # `false` and `[]` are statements: not opted out, and explicitly no limited data use.
    extras = Extras(opt_out=False, data_processing_options=[])

    sent = wire(build(replace(SENT, extras=extras)))

    assert (sent["opt_out"], sent["data_processing_options"]) == (False, [])


def limits_of(built: Built) -> tuple[object, object, object]:
    sent = wire(built)
    options = sent.get("data_processing_options")
    country = sent.get("data_processing_options_country")
    return options, country, sent.get("data_processing_options_state")


@pytest.mark.parametrize("limited", [(1, 1000), (1, 1013), (0, 0)])
def test_limited_data_use_is_said_when_the_event_says_nothing(limited: tuple[int, int]) -> None:
    built = event.build(SENT, VISITOR, NOW, None, alternates=False, limited=limited)

    assert limits_of(built) == (["LDU"], *limited)
    assert check(built.event, NOW) is None
    assert limits_of(build()) == (None, None, None)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(Extras(data_processing_options=[]), ([], None, None), id="not limited"),
        pytest.param(
            Extras(
                data_processing_options=["LDU"],
                data_processing_options_country=1,
                data_processing_options_state=1001,
            ),
            (["LDU"], 1, 1001),
            id="another state",
        ),
        pytest.param(
            Extras(
                data_processing_options=["LDU"],
                data_processing_options_country=0,
                data_processing_options_state=0,
            ),
            (["LDU"], 0, 0),
            id="left to Meta",
        ),
    ],
)
def test_limited_data_use_never_goes_over_what_the_event_says(
    said: Extras, expected: tuple[object, object, object]
) -> None:
    sent = replace(SENT, extras=said)

    built = event.build(sent, VISITOR, NOW, None, alternates=False, limited=(1, 1000))

    assert limits_of(built) == expected


def test_hashes_are_lists_without_repeats_and_legacy_keys_are_single() -> None:
    user = user_of(
        build(with_user(em=("a@x.example", "A@X.example ", "b@x.example"), f5first=("Johannes",)))
    )

    assert user["em"] == [sha("a@x.example"), sha("b@x.example")]
    assert user["f5first"] == sha("johan")


def test_a_value_that_came_hashed_is_not_hashed_again() -> None:
    assert user_of(build(with_user(em=HASH.upper())))["em"] == [HASH]


def test_a_value_that_cannot_be_used_is_kept_out_and_said() -> None:
    built = build(with_user(em="no address", ge="perhaps"))

    assert not {"em", "ge"} & user_of(built).keys()
    assert set(built.warnings) == {
        "user_data.em: not a usable value, kept out",
        "user_data.ge: not a usable value, kept out",
    }


@pytest.mark.parametrize("lead", ["abc", "1", "12345678901234", "1" * 18, "12345678901234x"])
def test_a_lead_id_graph_would_refuse_is_kept_out_and_said(lead: str) -> None:
    built = build(with_user(lead_id=lead))

    assert "lead_id" not in user_of(built)
    assert built.warnings == ("user_data.lead_id: not a usable value, kept out",)


def test_the_phone_takes_the_events_country_then_the_sites_then_the_places() -> None:
    expected = sha("491711234567")
    phone = "0171 1234567"
    berlin = replace(VISITOR, place=Place(country="de"))

    assert user_of(build(with_user(ph=phone, country="Germany")))["ph"] == [expected]
    assert user_of(build(with_user(ph=phone), default_country="de"))["ph"] == [expected]
    assert user_of(build(with_user(ph=phone), berlin))["ph"] == [expected]
    assert user_of(build(with_user(ph=phone, country="at"), berlin))["ph"] != [expected]


def test_alternates_are_sent_only_when_asked_for() -> None:
    sent = with_user(ct="Zürich", country="ch")

    assert user_of(build(sent))["ct"] == [sha("zürich")]
    assert user_of(build(sent, alternates=True))["ct"] == [sha("zürich"), sha("zrich")]


BERLIN = Place(city="Berlin", region="Berlin", postal_code="10115", country="de")


def test_the_geo_place_fills_what_nobody_told() -> None:
    user = user_of(build(visitor=replace(VISITOR, place=BERLIN)))

    assert (user["ct"], user["st"], user["zp"], user["country"]) == (
        [sha("berlin")],
        [sha("berlin")],
        [sha("10115")],
        [sha("de")],
    )


@pytest.mark.parametrize(("key", "value"), [("ct", "Paris"), ("st", "Bavaria"), ("zp", "75001")])
def test_the_geo_place_is_not_mixed_with_a_told_one(key: str, value: str) -> None:
    user = user_of(build(with_user(**{key: value}), replace(VISITOR, place=BERLIN)))

    assert {"ct", "st", "zp"} & user.keys() == {key}
    assert user["country"] == [sha("de")]


def test_a_told_country_stays() -> None:
    user = user_of(build(with_user(country="fr"), replace(VISITOR, place=BERLIN)))

    assert user["country"] == [sha("fr")]


@pytest.mark.parametrize("name", event.STANDARD_EVENTS)
def test_a_standard_name_is_corrected_to_its_case(name: str) -> None:
    built = build(replace(SENT, name=name.upper()))

    assert built.event.event_name == name
    assert built.warnings == (f"event_name: corrected to {name}, which Meta knows",)
    assert build(replace(SENT, name=name)).warnings == ()


def test_a_custom_name_stays() -> None:
    assert build(replace(SENT, name="leadQualified")).event.event_name == "leadQualified"


@pytest.mark.parametrize(
    ("given_data", "expected"),
    [
        ({"value": "9.5", "currency": " eur "}, {"value": 9.5, "currency": "EUR"}),
        ({"value": "1299"}, {"value": 1299}),
        ({"value": "-1.25"}, {"value": -1.25}),
        ({"value": "1,299"}, {"value": "1,299"}),
        ({"value": "9,50 €"}, {"value": "9,50 €"}),
        ({"value": "nan"}, {"value": "nan"}),
        ({"predicted_ltv": "10", "net_revenue": "2.5"}, {"predicted_ltv": 10, "net_revenue": 2.5}),
        ({"num_items": "3"}, {"num_items": 3}),
        ({"num_items": "²"}, {"num_items": "²"}),
        ({"num_items": "9" * 5_000}, {"num_items": "9" * 5_000}),
        ({"content_ids": "SKU"}, {"content_ids": ["SKU"]}),
        ({"content_ids": 17}, {"content_ids": ["17"]}),
        ({"content_ids": ["a", 1]}, {"content_ids": ["a", 1]}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_custom_data_gets_metas_types_where_nothing_is_guessed(
    given_data: dict[str, object], expected: dict[str, object]
) -> None:
    assert build(with_data(**given_data)).event.custom_data == expected


def test_the_events_own_campaign_goes_over_the_visitors() -> None:
    built = build(with_data(utm_source="own"), replace(VISITOR, utm={"utm_source": "x"}))

    assert built.event.custom_data == {"utm_source": "own"}


@pytest.mark.parametrize(
    ("ahead_ms", "seconds"),
    [
        (-1, (NOW - 1) // 1000),
        (0, NOW // 1000),
        (1_500, NOW // 1000),
        (60_000, NOW // 1000),
        (60_001, (NOW + 60_001) // 1000),
        (61_000, (NOW + 61_000) // 1000),
    ],
)
def test_a_clock_a_minute_ahead_is_stamped_now(ahead_ms: int, seconds: int) -> None:
    assert build(replace(SENT, time_ms=NOW + ahead_ms)).event.event_time == seconds


# --- refusals --------------------------------------------------------------------------------


def problem(sent: Sent = SENT, visitor: Visitor = VISITOR) -> tuple[str, Outcome] | None:
    found = check(build(sent, visitor).event, NOW)
    return (found.field, found.outcome) if found else None


def aged(age_ms: int, action_source: str = "website") -> Sent:
    return replace(SENT, time_ms=NOW - age_ms, action_source=action_source)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(SENT, id="a lead"),
        pytest.param(with_data("Purchase", value=0, currency="EUR"), id="a purchase for nothing"),
        pytest.param(with_data(value="9.5", currency="usd"), id="a value as text"),
        pytest.param(with_data(contents=[{"id": "a"}, {"id": 2}]), id="contents"),
        pytest.param(aged(7 * DAY - HOUR), id="nearly 7 days"),
        pytest.param(aged(62 * DAY - HOUR, "physical_store"), id="nearly 62 days, in a store"),
        pytest.param(replace(SENT, time_ms=NOW + 60_000), id="a minute ahead"),
        pytest.param(replace(SENT, url="", action_source="phone_call"), id="no page, by phone"),
    ],
)
def test_what_meta_takes_passes(sent: Sent) -> None:
    assert problem(sent) is None


INVALID, TOO_OLD = Outcome.INVALID, Outcome.TOO_OLD
MONEY_FAULTS: list[tuple[str, str, dict[str, object]]] = [
    ("no value", "custom_data.value", {"currency": "EUR"}),
    ("no currency", "custom_data.currency", {"value": 1}),
    ("value null", "custom_data.value", {"value": None, "currency": "EUR"}),
    ("value words", "custom_data.value", {"value": "much", "currency": "EUR"}),
    ("value comma", "custom_data.value", {"value": "9,50", "currency": "EUR"}),
    ("value boolean", "custom_data.value", {"value": True, "currency": "EUR"}),
    ("value list", "custom_data.value", {"value": [1], "currency": "EUR"}),
    ("value huge", "custom_data.value", {"value": 10**300, "currency": "EUR"}),
    ("value infinite", "custom_data.value", {"value": float("inf"), "currency": "EUR"}),
    ("value NaN", "custom_data.value", {"value": float("nan"), "currency": "EUR"}),
    ("currency unknown", "custom_data.currency", {"value": 1, "currency": "XYZ"}),
    ("currency sign", "custom_data.currency", {"value": 1, "currency": "€"}),
    ("currency number", "custom_data.currency", {"value": 1, "currency": 978}),
]


@pytest.mark.parametrize(
    ("sent", "field", "outcome"),
    [
        pytest.param(
            replace(SENT, name="jo@x.example"), "event_name", INVALID, id="address as name"
        ),
        pytest.param(replace(SENT, id="jo@x.example"), "event_id", INVALID, id="address as id"),
        pytest.param(replace(SENT, time_ms=NOW + 62_000), "event_time", INVALID, id="future"),
        pytest.param(replace(SENT, time_ms=NOW * 1000), "event_time", INVALID, id="milliseconds"),
        pytest.param(replace(SENT, time_ms=10**400), "event_time", INVALID, id="beyond any clock"),
        pytest.param(aged(7 * DAY - HOUR + 1_000), "event_time", TOO_OLD, id="7 days"),
        pytest.param(aged(8 * DAY), "event_time", TOO_OLD, id="8 days"),
        pytest.param(aged(62 * DAY, "physical_store"), "event_time", TOO_OLD, id="62 days, store"),
        pytest.param(aged(10**400), "event_time", TOO_OLD, id="before any clock"),
        pytest.param(replace(SENT, action_source="web"), "action_source", INVALID, id="source"),
        pytest.param(replace(SENT, action_source=""), "action_source", INVALID, id="no source"),
        pytest.param(replace(SENT, url=""), "event_source_url", INVALID, id="no page"),
        pytest.param(replace(SENT, url="/path"), "event_source_url", INVALID, id="half a page"),
        pytest.param(replace(SENT, url="file:///a"), "event_source_url", INVALID, id="a file"),
        *(
            pytest.param(with_data("Purchase", **data), field, INVALID, id=name)
            for name, field, data in MONEY_FAULTS
        ),
        pytest.param(with_data(value=5), "custom_data.currency", INVALID, id="value alone"),
        pytest.param(with_data(net_revenue="x"), "custom_data.net_revenue", INVALID, id="revenue"),
        pytest.param(with_data(predicted_ltv=[]), "custom_data.predicted_ltv", INVALID, id="ltv"),
        pytest.param(with_data(contents=[{}]), "custom_data.contents.id", INVALID, id="no id"),
        pytest.param(
            with_data(contents=[{"id": ""}]), "custom_data.contents.id", INVALID, id="empty id"
        ),
        pytest.param(with_data(contents=["a"]), "custom_data.contents", INVALID, id="texts"),
        pytest.param(with_data(contents={"id": "a"}), "custom_data.contents", INVALID, id="object"),
    ],
)
def test_what_meta_would_refuse_is_refused_with_its_field(
    sent: Sent, field: str, outcome: Outcome
) -> None:
    assert problem(sent) == (field, outcome)


def test_a_website_event_needs_a_user_agent() -> None:
    assert problem(SENT, replace(VISITOR, agent=None)) == (
        "user_data.client_user_agent",
        INVALID,
    )


@given(name=st.sampled_from(["value", "currency", "contents", "num_items", "content_ids", "x"]))
def test_no_problem_quotes_what_was_sent(name: str) -> None:
    planted = "victim@example.com"
    sent = replace(SENT, name=planted, id=planted, data={name: planted}, action_source=planted)

    built = build(sent)

    assert planted not in str(check(built.event, NOW))
    assert planted not in "".join(built.warnings)


# Meta, best practices (2804050): nothing but one of these sets matches nobody.
WEAK = [
    {"client_user_agent"},
    {"ct", "country", "st", "zp", "ge", "client_user_agent"},
    {"ct", "client_user_agent"},
    {"country"},
    {"db", "client_user_agent"},
    {"db"},
    {"fn", "ge"},
    {"fn"},
    {"ln", "ge"},
    {"ln"},
    {"ge"},
    set[str](),
]
STRONG = [
    {"client_user_agent", "client_ip_address"},
    {"em"},
    {"ph"},
    {"fbp"},
    {"fbc"},
    {"external_id"},
    {"madid"},
    {"fn", "ln"},
    {"fn", "client_user_agent"},
    {"db", "ct"},
]


def event_with(keys: set[str]) -> Event:
    lists = {"em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country", "external_id"}
    values = {key: (HASH,) if key in lists else "x" for key in keys}
    return Event(
        event_name="Lead",
        event_time=NOW // 1000,
        event_id="1",
        action_source="other",
        user_data=msgspec.convert(values, UserData),
    )


@pytest.mark.parametrize("keys", WEAK, ids=lambda keys: "+".join(sorted(keys)) or "nothing")
def test_too_little_to_match_is_refused(keys: set[str]) -> None:
    found = check(event_with(keys), NOW)

    assert found is not None
    assert found.field == "user_data"


@pytest.mark.parametrize("keys", STRONG, ids=lambda keys: "+".join(sorted(keys)))
def test_enough_to_match_passes(keys: set[str]) -> None:
    assert check(event_with(keys), NOW) is None


KEYS = sorted({"em", "fn", "ln", "ge", "db", "ct", "st", "zp", "country", "client_user_agent"})


@given(keys=st.sets(st.sampled_from([*KEYS, "client_ip_address", "fbp"])))
def test_matching_is_judged_as_the_sandbox_judges_it(keys: set[str]) -> None:
    one = event_with(keys)

    ours = check(one, NOW)
    theirs = rules.validate(json.loads(event.encode(one)), NOW // 1000)

    assert (ours is None) == (theirs is None)


MONEY: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "value": st.sampled_from([0, 1, 9.5, "9.5", "1,5", "x", True, None, [], "", -1, 1e300]),
        "currency": st.sampled_from(["EUR", "eur", "XXQ", "", None, 5, "€", " usd "]),
        "net_revenue": st.sampled_from([1, "2", "x", None]),
        "contents": st.sampled_from([[], [{"id": "a"}], [{"id": None}], [{}], [3], {}, "a", None]),
    },
)


@given(
    name=st.sampled_from(["Purchase", "purchase", "Lead", "x"]),
    data=MONEY,
    age_ms=st.sampled_from([0, -59_000, -90_000, 6 * DAY, 8 * DAY, 30 * DAY, 70 * DAY]),
    source=st.sampled_from(["website", "physical_store", "other", "nowhere"]),
    url=st.sampled_from(["https://shop.example/", "", "shop.example"]),
    lead=st.sampled_from(["", "1", "123456789012345"]),
)
def test_whatever_passes_here_passes_the_sandbox(
    name: str, data: dict[str, object], age_ms: int, source: str, url: str, lead: str
) -> None:
    user = {"lead_id": (lead,)} if lead else {}
    sent = replace(aged(age_ms, source), name=name, data=data, url=url, user=user)
    built = build(sent)

    if check(built.event, NOW) is None:
        assert rules.validate(wire(built), NOW // 1000) is None


# --- deadline and key ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "browser_has_it", "age_ms", "deadline_ms"),
    [
        ("website", False, 0, NOW + 7 * DAY - HOUR),
        ("website", True, 0, NOW + 47 * HOUR),
        ("website", True, 6 * DAY, NOW + DAY - HOUR),
        ("physical_store", False, 0, NOW + 62 * DAY - HOUR),
        ("physical_store", True, 0, NOW + 47 * HOUR),
    ],
)
def test_deadline(source: str, *, browser_has_it: bool, age_ms: int, deadline_ms: int) -> None:
    one = build(aged(age_ms, source)).event

    assert event.deadline_ms(one, NOW, browser_has_it=browser_has_it) == deadline_ms


def test_the_key_is_pixel_name_and_id_and_nothing_else() -> None:
    one = build().event
    same = build(with_data(value=1, currency="EUR"), now_ms=NOW + 5).event
    others = [
        event.key("2", one),
        event.key("1", build(replace(SENT, name="Contact")).event),
        event.key("1", build(replace(SENT, id="e-2")).event),
    ]
    one_two = build(replace(SENT, name="2Lead")).event

    assert event.key("1", one) == event.key("1", same)
    assert len(event.key("1", one)) == 16
    assert len({event.key("1", one), *others}) == 4
    assert event.key("1", one_two) != event.key("12", one)


def test_a_name_in_another_case_is_the_same_event() -> None:
    assert event.key("1", build(replace(SENT, name="lead")).event) == event.key("1", build().event)


@given(st.lists(st.tuples(st.text(max_size=3), st.text(min_size=1, max_size=3)), max_size=6))
def test_keys_do_not_run_together(pairs: list[tuple[str, str]]) -> None:
    safe = [(n.replace("\0", ""), i.replace("\0", "") or "1") for n, i in pairs]
    keys = {
        event.key(
            "1",
            Event(
                event_name=n, event_time=0, event_id=i, action_source="other", user_data=UserData()
            ),
        )
        for n, i in safe
    }

    assert len(keys) == len(set(safe))


# --- nothing raw -----------------------------------------------------------------------------

RAW: Mapping[str, str] = {
    "em": "Marguerite.Duras@Mail.example",
    "ph": "+49 171 5550199",
    "fn": "Marguerite",
    "ln": "Donnadieu",
    "ct": "Gia Dinh",
    "st": "Cochinchina",
    "zp": "SW1A 1AA",
    "db": "1914-04-04",
    "external_id": "customer-4711",
}
TRACES = ("marguerite", "duras", "donnadieu", "5550199", "gia", "cochin", "sw1a", "1914", "4711")


@pytest.mark.parametrize("alternates", [True, False])
def test_no_raw_personal_value_leaves(*, alternates: bool) -> None:
    address = RAW["em"]
    dirty: dict[str, object] = {
        "event_id": address,
        "nested": [{"note": f"for {address}"}],
        "phone": RAW["ph"],
    }
    sent = replace(
        SENT,
        name="Purchase",
        url=f"https://jo:{address}@shop.example/u/{address}?email={address}&fn=Marguerite#{address}",
        referrer=f"https://shop.example/?q={address.replace('@', '%40')}&phone=5550199",
        user={
            **{key: (value,) for key, value in RAW.items()},
            "country": ("gb",),
            "madid": (address,),
            "subscription_id": (address,),
        },
        data={"value": 1, "currency": "EUR", "email": address, "search_string": address, **dirty},
        extras=Extras(original_event_data=dirty, app_data=dirty),
    )
    place = Place(city="Gia Dinh", region="Cochinchina", postal_code="SW1A 1AA", country="gb")

    built = build(sent, replace(VISITOR, place=place), alternates=alternates)

    body = event.encode(built.event).decode().lower()
    said = "".join(built.warnings).lower()
    for trace in TRACES:
        assert trace not in body
        assert trace not in said
    user = user_of(built)
    assert RAW.keys() <= user.keys()
    assert user["em"] == [sha(address.lower())]


def test_what_is_taken_out_is_said() -> None:
    sent = replace(
        SENT,
        url="https://shop.example/?email=a",
        referrer="https://shop.example/?email=a",
        user={"madid": ("jo@x.example",)},
        data={"phone": "1"},
        extras=Extras(original_event_data={"event_id": "jo@x.example"}, app_data={"email": "a"}),
    )

    assert set(build(sent).warnings) == {
        "event_source_url: personal data removed",
        "referrer_url: personal data removed",
        "user_data.madid: looks like an e-mail address, kept out",
        "custom_data.phone: looks like personal data, removed",
        "original_event_data.event_id: looks like personal data, removed",
        "app_data.email: looks like personal data, removed",
    }


def test_the_warnings_of_every_stage_are_kept() -> None:
    sent = replace(SENT, warnings=("from hit",))

    assert build(sent, replace(VISITOR, warnings=("from enrich",))).warnings == (
        "from hit",
        "from enrich",
    )


def test_limited_data_use_by_address_is_left_out_where_there_is_none() -> None:
    visitor = replace(VISITOR, address=None)
    built = event.build(SENT, visitor, NOW, None, alternates=True, limited=(0, 0))

    assert built.event.data_processing_options is None
    assert any("data_processing_options" in warning for warning in built.warnings)
    assert check(built.event, NOW) is None
