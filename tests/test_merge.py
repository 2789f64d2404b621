"""Two copies of one event: what each side knows better, and what holds for any two."""

from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import event, ingest, merge, validate
from gateway.event import Event, UserData
from gateway.merge import Side
from gateway.stores import Half, Joined, Note

NOW_S = 1_764_000_000


def made(**fields: object) -> Event:
    given: dict[str, object] = {
        "event_name": "Purchase",
        "event_time": NOW_S,
        "event_id": "o-1",
        "action_source": "website",
        "user_data": {},
        **fields,
    }
    return msgspec.convert(given, Event)


PAGE = made(
    event_time=NOW_S + 5,
    event_source_url="https://shop.example/thanks",
    referrer_url="https://shop.example/cart",
    user_data={
        "client_ip_address": "203.0.113.7",
        "client_user_agent": "Firefox",
        "fbp": "fb.1.1.1",
        "fbc": "fb.1.1.click",
        "em": ["page"],
        "ct": ["rome"],
        "country": ["it"],
    },
    custom_data={"value": 5.0, "currency": "EUR", "content_ids": ["sku-page"], "utm_source": "ad"},
)
SHOP = made(
    action_source="system_generated",
    event_source_url="https://api.shop.example/",
    user_data={
        "client_ip_address": "198.51.100.1",
        "client_user_agent": "curl",
        "fbp": "fb.1.2.2",
        "em": ["shop"],
        "ph": ["phone"],
        "zp": ["10115"],
    },
    custom_data={"value": 9.5, "currency": "USD", "order_id": "1", "num_items": 2},
)


def test_each_half_wins_where_it_knows_better() -> None:
    assert merge.union(PAGE, Side.BROWSER, SHOP, Side.BACKEND) == made(
        event_time=NOW_S,
        action_source="website",
        event_source_url="https://shop.example/thanks",
        referrer_url="https://shop.example/cart",
        user_data={
            "client_ip_address": "203.0.113.7",
            "client_user_agent": "Firefox",
            "fbp": "fb.1.1.1",
            "fbc": "fb.1.1.click",
            "em": ["shop"],
            "ph": ["phone"],
            "zp": ["10115"],
            "country": ["it"],
        },
        custom_data={
            "value": 9.5,
            "currency": "USD",
            "order_id": "1",
            "num_items": 2,
            "utm_source": "ad",
        },
    )


def test_what_the_better_half_does_not_know_comes_from_the_other() -> None:
    bare_page, bare_shop = made(event_source_url="https://shop.example/"), made()
    ours = merge.union(bare_page, Side.BROWSER, SHOP, Side.BACKEND)
    assert ours.user_data == SHOP.user_data
    assert ours.custom_data == SHOP.custom_data
    theirs = merge.union(PAGE, Side.BROWSER, bare_shop, Side.BACKEND)
    assert theirs.user_data == PAGE.user_data
    assert theirs.custom_data == PAGE.custom_data


def test_of_one_side_the_first_copy_wins_and_the_second_fills_in() -> None:
    first = made(user_data={"em": ["a"], "fbp": "1"}, custom_data={"value": 1, "currency": "EUR"})
    second = made(
        user_data={"em": ["b"], "ph": ["c"], "fbp": "2", "fbc": "3"},
        custom_data={"value": 2, "currency": "USD", "order_id": "1"},
    )
    assert merge.union(first, Side.BROWSER, second, Side.BROWSER) == made(
        user_data={"em": ["a", "b"], "ph": ["c"], "fbp": "1", "fbc": "3"},
        custom_data={"value": 1, "currency": "EUR", "order_id": "1"},
    )


@pytest.mark.parametrize(
    ("page", "shop", "together"),
    [
        pytest.param(
            {"currency": "EUR"},
            {"value": 1},
            {"value": 1, "currency": "EUR"},
            id="an amount here, its currency there",
        ),
        pytest.param(
            {"value": 1, "currency": "EUR"},
            {"predicted_ltv": 7, "currency": "EUR"},
            {"value": 1, "predicted_ltv": 7, "currency": "EUR"},
            id="amounts in the same currency",
        ),
        pytest.param(
            {"value": 1, "currency": "EUR"},
            {"currency": "USD"},
            {"value": 1, "currency": "EUR"},
            id="a currency without a value",
        ),
        pytest.param(
            {"value": 1, "currency": "EUR", "predicted_ltv": 7},
            {"value": 2, "currency": "USD"},
            {"value": 2, "currency": "USD"},
            id="an amount in another currency",
        ),
        pytest.param(
            {"value": 1, "currency": "EUR"},
            {"value": 2, "x": 1},
            {"value": 1, "currency": "EUR", "x": 1},
            id="an amount in no currency",
        ),
        pytest.param(
            {"contents": [{"id": "a"}], "num_items": 1, "content_type": "product"},
            {"content_ids": ["a", "b"]},
            {"content_ids": ["a", "b"], "content_type": "product"},
            id="the count of other goods",
        ),
        pytest.param({"value": 5, "x": 1}, {"value": 0}, {"value": 0, "x": 1}, id="a zero"),
    ],
)
def test_values_that_belong_together_come_from_one_half(
    page: dict[str, object], shop: dict[str, object], together: dict[str, object]
) -> None:
    halves = made(custom_data=page), Side.BROWSER, made(custom_data=shop), Side.BACKEND
    assert merge.union(*halves).custom_data == together


@pytest.mark.parametrize(
    ("page", "shop", "together"),
    [
        pytest.param({}, {"value": 5}, {}, id="a value in no currency"),
        pytest.param({"value": 5}, {}, {}, id="the page's value in no currency"),
        pytest.param({"value": 5}, {"value": 6}, {"value": 6}, id="both in no currency"),
        pytest.param(
            {"value": 1, "currency": "EUR"},
            {"predicted_ltv": 500, "currency": "USD"},
            {"predicted_ltv": 500, "currency": "USD"},
            id="another amount in another currency",
        ),
        pytest.param(
            {"value": 1, "currency": "EUR"},
            {"currency": "USD"},
            {"value": 1, "currency": "EUR"},
            id="a currency alone",
        ),
    ],
)
def test_a_lead_needs_no_value_and_is_not_spoilt_by_one_without_its_currency(
    page: dict[str, object], shop: dict[str, object], together: dict[str, object]
) -> None:
    halves = (
        made(event_name="Lead", custom_data=page),
        Side.BROWSER,
        made(event_name="Lead", custom_data=shop),
        Side.BACKEND,
    )
    assert merge.union(*halves).custom_data == together


LDU = {
    "data_processing_options": ["LDU"],
    "data_processing_options_country": 1,
    "data_processing_options_state": 1000,
}


@pytest.mark.parametrize("sides", list(permutations(Side)))
@pytest.mark.parametrize(
    ("fields", "others", "together"),
    [
        ({"opt_out": True}, {"opt_out": False}, {"opt_out": True}),
        ({"opt_out": True}, {}, {"opt_out": True}),
        ({"opt_out": False}, {}, {"opt_out": False}),
        (LDU, {}, LDU),
        (LDU, {"data_processing_options": []}, LDU),
        ({"data_processing_options": []}, {}, {"data_processing_options": []}),
    ],
)
def test_what_limits_the_use_of_data_wins(
    fields: dict[str, object],
    others: dict[str, object],
    together: dict[str, object],
    sides: tuple[Side, Side],
) -> None:
    assert merge.union(made(**fields), sides[0], made(**others), sides[1]) == made(**together)


def test_an_earlier_time_alone_adds_nothing() -> None:
    earlier = msgspec.structs.replace(PAGE, event_time=NOW_S)
    assert not merge.adds(merge.union(PAGE, Side.BROWSER, earlier, Side.BROWSER), PAGE)
    assert merge.adds(merge.union(PAGE, Side.BROWSER, SHOP, Side.BACKEND), PAGE)


# --- for any two -----------------------------------------------------------------------------

texts = st.sampled_from(["a", "b", "c"])
lists = st.lists(texts, unique=True, max_size=3)
user_data = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("em", "ph", "ct", "st", "zp", "country", "external_id"), lists),
        **dict.fromkeys(("client_ip_address", "client_user_agent", "fbp", "fbc", "fi"), texts),
    },
)
custom_data = st.fixed_dictionaries(
    {},
    optional={
        "value": st.sampled_from([0, 1, 2.5]),
        "currency": st.sampled_from(["EUR", "USD"]),
        "predicted_ltv": st.just(7),
        "content_ids": st.lists(texts),
        "contents": st.lists(st.fixed_dictionaries({"id": texts})),
        "num_items": st.just(3),
        "own": texts,
    },
)
events = st.builds(
    made,
    event_time=st.integers(NOW_S - 5, NOW_S),
    action_source=st.sampled_from(["website", "system_generated"]),
    event_source_url=st.sampled_from(["", "https://a.example/", "https://b.example/"]),
    user_data=user_data,
    custom_data=custom_data,
    opt_out=st.sampled_from([None, False, True]),
    data_processing_options=st.sampled_from([None, [], ["LDU"]]),
    data_processing_options_country=st.sampled_from([None, 0, 1]),
)
sides = st.sampled_from(Side)


def half(one: Event, side: Side) -> Half:
    return Half(side=side, body=event.encode(one), note=Note(event_name="", event_id="", source=""))


def joined(held: Half, new: Half) -> Joined:
    answer = ingest.join(held, new)
    assert answer is not None
    return answer


@given(events, events)
def test_two_halves_give_the_same_bytes_whichever_came_first(page: Event, shop: Event) -> None:
    first, second = half(page, Side.BROWSER), half(shop, Side.BACKEND)
    one, other = joined(first, second), joined(second, first)
    assert (one.body, one.lacks) == (other.body, other.lacks)
    assert one.complete == other.complete == (not one.lacks)


@given(events, sides)
def test_a_copy_of_itself_adds_nothing(one: Event, side: Side) -> None:
    assert merge.union(one, side, one, side) == one
    assert ingest.join(half(one, side), half(one, side)) is None


@given(events, sides, events, sides)
def test_the_second_copy_again_adds_nothing(
    first: Event, side: Side, second: Event, other_side: Side
) -> None:
    once = merge.union(first, side, second, other_side)
    assert merge.union(once, side, second, other_side) == once


@given(events, sides, events, sides)
def test_no_field_that_either_knows_is_lost(
    first: Event, side: Side, second: Event, other_side: Side
) -> None:
    together = merge.union(first, side, second, other_side)
    known = {*first.user_data.keys(), *second.user_data.keys()} - {"ct", "st", "zp"}
    assert known <= set(together.user_data.keys())
    assert together.event_time == min(first.event_time, second.event_time)
    assert "own" in together.custom_data or not {"own"} & {*first.custom_data, *second.custom_data}


MATCHED = {"em": ["hash"], "client_user_agent": "Firefox", "client_ip_address": "203.0.113.7"}
valid_events = st.builds(
    made,
    event_source_url=st.sampled_from(["https://a.example/", "https://b.example/"]),
    user_data=user_data.map(lambda user: MATCHED | user),
    custom_data=custom_data.map(lambda custom: {"value": 3, "currency": "JPY"} | custom),
    data_processing_options=st.sampled_from([None, [], ["LDU"]]),
    data_processing_options_country=st.just(0),
).filter(lambda one: not (validate.wrong(one, NOW_S * 1000) or validate.missing(one)))


@given(valid_events, sides, valid_events, sides)
def test_two_events_that_meta_takes_make_one_that_it_takes(
    first: Event, side: Side, second: Event, other_side: Side
) -> None:
    together = merge.union(first, side, second, other_side)
    assert not validate.wrong(together, NOW_S * 1000)
    assert not validate.missing(together)


# What Meta takes with no money, no page and no address too; and what may be held although Meta would not take it alone.
bare_events = st.builds(
    made,
    event_name=st.sampled_from(["Lead", "Purchase"]),
    action_source=st.sampled_from(["website", "system_generated"]),
    event_source_url=st.sampled_from(["", "https://b.example/"]),
    user_data=user_data,
    custom_data=custom_data,
    data_processing_options=st.sampled_from([None, ["LDU"]]),
    data_processing_options_country=st.just(0),
).filter(lambda one: validate.wrong(one, NOW_S * 1000) is None)


@given(valid_events | bare_events, sides, bare_events, sides)
def test_a_half_never_spoils_one_that_meta_takes(
    first: Event, side: Side, second: Event, other_side: Side
) -> None:
    second = msgspec.structs.replace(second, event_name=first.event_name)
    lacked, lacks = validate.missing(first), validate.missing(second)
    answer = ingest.join(half(first, side), half(second, other_side))
    if answer is None:
        assert side is other_side
        assert not lacked or lacks  # a correction is taken
        return
    together = event.decode(answer.body)
    assert bool(answer.lacks) == bool(validate.missing(together))
    assert not (answer.lacks and answer.complete)
    limited = [one for one in (first, second) if one.data_processing_options]
    # What limits the use of data is never left out, even where nothing can be sent then.
    assert bool(together.data_processing_options) == bool(limited)
    if not (limited or (lacked and lacks)):
        assert not answer.lacks


def test_one_that_can_go_alone_goes_without_what_spoils_it_but_not_without_an_opt_out() -> None:
    shop = msgspec.structs.replace(SHOP, event_source_url="")
    shop = msgspec.structs.replace(shop, user_data=UserData(em=("shop",)))
    page = lacking(
        event_source_url="",
        opt_out=True,
        data_processing_options=["LDU"],
        data_processing_options_country=0,
    )
    for two in (
        (half(shop, Side.BACKEND), half(page, Side.BROWSER)),
        (half(page, Side.BROWSER), half(shop, Side.BACKEND)),
    ):
        ends = joined(*two)
        assert ends.complete
        together = event.decode(ends.body)
        assert (together.action_source, together.opt_out) == ("system_generated", True)
        assert together.data_processing_options == ["LDU"]
        assert together.user_data.client_ip_address == SHOP.user_data.client_ip_address


def lacking(*, agent: str = "", **fields: object) -> Event:
    """A half of SHOP as from a website that knows no page; and, without `agent`, none of its visitor's browser."""
    user = msgspec.structs.replace(SHOP.user_data, client_user_agent=agent)
    url = "https://shop.example/"
    fields = {
        "action_source": "website",
        "event_source_url": url,
        "user_data": user,
        **fields,
    }
    return msgspec.structs.replace(SHOP, **fields)


LACKS = "user_data.client_user_agent: a website event needs the visitor's user agent; left to another copy of the event"


def test_a_half_waits_for_what_it_lacks_until_a_copy_brings_it() -> None:
    bare, known = half(lacking(), Side.BACKEND), half(lacking(agent="Firefox"), Side.BACKEND)
    more = joined(bare, half(lacking(referrer_url="https://a.example/"), Side.BACKEND))
    assert (more.complete, more.lacks) == (False, LACKS)
    both = joined(bare, half(lacking(), Side.BROWSER))
    assert (both.complete, both.lacks) == (False, LACKS)
    # One that has it waits for the page as any other does.
    corrected = joined(bare, known)
    assert (corrected.complete, corrected.lacks) == (False, "")
    for two in ((bare, half(PAGE, Side.BROWSER)), (half(PAGE, Side.BROWSER), bare)):
        ends = joined(*two)
        assert (ends.complete, ends.lacks) == (True, "")


def test_two_copies_that_lack_something_and_together_nothing_do_not_wait_any_more() -> None:
    no_page = half(lacking(agent="Firefox", event_source_url=""), Side.BACKEND)
    ends = joined(half(lacking(), Side.BACKEND), no_page)
    assert (ends.complete, ends.lacks) == (True, "")


def test_a_correction_says_what_the_event_is() -> None:
    offline = msgspec.structs.replace(SHOP, action_source="system_generated", event_source_url="")
    ends = joined(half(lacking(), Side.BACKEND), half(offline, Side.BACKEND))
    assert ends.lacks == ""
    assert event.decode(ends.body).action_source == "system_generated"


def test_a_value_that_is_left_out_is_told() -> None:
    page, shop = (
        msgspec.structs.replace(one, event_name="Lead", custom_data=custom)
        for one, custom in ((PAGE, {}), (SHOP, {"value": 5}))
    )
    ends = joined(half(page, Side.BROWSER), half(shop, Side.BACKEND))
    assert event.decode(ends.body).custom_data == {}
    assert ends.note.warnings == ("custom_data.value: left out, as no copy names its currency",)


HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("whole", "hold_ms", "left_ms", "waits_ms"),
    [
        (True, 10_000, HOUR_MS, 10_000),
        (False, 10_000, HOUR_MS, merge.PATIENCE_MS),
        (False, HOUR_MS, 3 * HOUR_MS, HOUR_MS),
        (True, 10_000, 20_000, 0),
        (False, 10_000, 2 * merge.PATIENCE_MS, 0),
    ],
)
def test_how_long_a_copy_waits(*, whole: bool, hold_ms: int, left_ms: int, waits_ms: int) -> None:
    assert merge.wait_ms(whole=whole, hold_ms=hold_ms, left_ms=left_ms) == waits_ms


def test_a_note_says_what_the_union_carries() -> None:
    first = Half(
        side=Side.BACKEND,
        body=event.encode(SHOP),
        note=Note(event_name="Purchase", event_id="o-1", source="backend", warnings=("odd",)),
    )
    second = Half(
        side=Side.BROWSER,
        body=event.encode(PAGE),
        note=Note(event_name="Purchase", event_id="o-1", source="page", agent="Firefox"),
    )
    note = joined(first, second).note
    assert note == Note(
        event_name="Purchase",
        event_id="o-1",
        source="backend",
        host="shop.example",
        keys=UserData.keys(merge.union(PAGE, Side.BROWSER, SHOP, Side.BACKEND).user_data),
        custom={"value": 9.5, "currency": "USD", "num_items": 2, "utm_source": "ad"},
        agent="Firefox",
        warnings=("odd",),
    )
