"""The stand-in of Graph: what it refuses and with which codes, what it takes, how it fails on order."""

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from urllib.parse import urlencode

import httpx2
import msgspec
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox import Fault, Faults, Problem, Sandbox, validate
from gateway.sandbox.rules import problems

NOW_S = 1_780_000_000
DAY_S = 86_400
URL = "/v26.0/123/events"
# Meta, Customer Information Parameters: the hash printed there for an e-mail address.
EM = "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"
MISSING = object()

WEB: dict[str, object] = {
    "event_name": "Purchase",
    "event_time": NOW_S - 60,
    "event_id": "order-1",
    "action_source": "website",
    "event_source_url": "https://shop.example/thanks",
    "user_data": {
        "em": [EM],
        "client_ip_address": "203.0.113.7",
        "client_user_agent": "Mozilla/5.0",
        "fbp": "fb.1.1779999000000.1234567890",
        "fbc": "fb.1.1779999000000.IwAR2_x-Y",
    },
    "custom_data": {
        "value": 129.9,
        "currency": "EUR",
        "contents": [{"id": "sku-1", "quantity": 1, "item_price": 99.9}],
    },
}
APP: dict[str, object] = {
    "event_name": "Lead",
    "event_time": NOW_S,
    "action_source": "app",
    "user_data": {"madid": "38400000-8cf0-11bd-b23e-10b96e40000d"},
    "app_data": {
        "advertiser_tracking_enabled": 1,
        "application_tracking_enabled": 0,
        "extinfo": ["a2", "", "", "", "14", *[""] * 11],
    },
}
WHATSAPP: dict[str, object] = {
    "event_name": "LeadSubmitted",
    "event_time": NOW_S,
    "action_source": "business_messaging",
    "messaging_channel": "whatsapp",
    "user_data": {"page_id": 17, "ctwa_clid": "ARAk"},
}
MESSENGER = WHATSAPP | {
    "messaging_channel": "messenger",
    "user_data": {"page_id": "17", "page_scoped_user_id": "18"},
}
INSTAGRAM = WHATSAPP | {
    "messaging_channel": "instagram",
    "user_data": {"ig_account_id": "17", "ig_sid": "18"},
}
LDU = {"data_processing_options": ["LDU"]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def with_(event: dict[str, object], **changes: object) -> dict[str, object]:
    """A copy with `a__b=value` put at a.b, or taken away when the value is MISSING."""
    changed = deepcopy(event)
    for path, value in changes.items():
        *parents, key = path.split("__")
        target: dict[str, object] = changed
        for parent in parents:
            inner = target[parent]
            assert isinstance(inner, dict)
            target = inner
        if value is MISSING:
            del target[key]
        else:
            target[key] = value
    return changed


def web(**changes: object) -> dict[str, object]:
    return with_(WEB, **changes)


def lead(**changes: object) -> dict[str, object]:
    return web(event_name="Lead", **changes)


def known_by(**user_data: object) -> dict[str, object]:
    return lead(user_data=user_data)


REFUSED: dict[str, tuple[object, int | None]] = {
    "not an object": ("Purchase", None),
    "no name": (web(event_name=MISSING), None),
    "empty name": (web(event_name=""), None),
    "name of 51": (web(event_name="x" * 51), None),
    "no time": (web(event_time=MISSING), None),
    "time in a string": (web(event_time=str(NOW_S)), None),
    "time with a fraction": (web(event_time=NOW_S - 0.5), None),
    "time is true": (web(event_time=True), None),
    "over 7 days": (web(event_time=NOW_S - 7 * DAY_S - 1), 2804003),
    "over 62 days in a shop": (
        web(action_source="physical_store", event_time=NOW_S - 62 * DAY_S - 1),
        2804003,
    ),
    "future": (web(event_time=NOW_S + 61), 2804004),
    "milliseconds": (web(event_time=NOW_S * 1000), 2804004),
    "no source": (web(action_source=MISSING), None),
    "unknown source": (web(action_source="web"), None),
    "source is a list": (web(action_source=["website"]), None),
    "no url": (web(event_source_url=MISSING), None),
    "url without a scheme": (web(event_source_url="shop.example/thanks"), None),
    "url without a host": (web(event_source_url="https:///thanks"), None),
    "url that cannot be split": (web(event_source_url="http://[::1"), None),
    "empty id": (web(event_id=""), None),
    "id is a number": (web(event_id=7), None),
    "referrer is an object": (web(referrer_url={}), None),
    "opt_out in a string": (web(opt_out="true"), None),
    "unknown segment": (web(customer_segmentation="vip"), None),
    "original_event_data is a list": (web(original_event_data=[]), None),
    "no user_data": (web(user_data=MISSING), None),
    "user_data is a list": (web(user_data=[]), None),
    "hash is a number": (web(user_data__em=7), None),
    "hashes hold a null": (web(user_data__em=[EM, None]), None),
    "two addresses": (web(user_data__client_ip_address=["203.0.113.7"]), None),
    "two fbp": (web(user_data__fbp=["fb.1.1779999000000.1"]), None),
    "page id is an object": (web(user_data__page_id={}), None),
    "empty click id": (web(user_data__fbc="fb.1.1779999000000."), 2804001),
    "click id lost before its appendix": (
        web(user_data__fbc="fb.1.1779999000000..AQIAAQMC"),
        2804001,
    ),
    "lead_id of 14": (web(user_data__lead_id=12345678901234), 2804036),
    "lead_id of 18": (web(user_data__lead_id="123456789012345678"), 2804036),
    "lead_id is a list": (web(user_data__lead_id=["123456789012345"]), 2804036),
    "lead_id in letters": (web(user_data__lead_id="abc"), 2804036),
    "nobody": (known_by(), 2804050),
    "only an agent": (known_by(client_user_agent="Mozilla/5.0"), 2804050),
    "only a place": (known_by(country=EM, ct=EM, st=EM, zp=EM, client_user_agent="x"), 2804050),
    "only a birthday": (known_by(db=EM, client_user_agent="x"), 2804050),
    "first name and gender": (known_by(fn=EM, ge=EM), 2804050),
    "last name and gender": (known_by(ln=EM, ge=EM), 2804050),
    "empty values do not count": (known_by(em=[""], ph="", client_user_agent="x"), 2804050),
    "unknown keys do not count": (known_by(email=EM, client_user_agent="x"), 2804050),
    "purchase without custom_data": (web(custom_data=MISSING), 2804009),
    "purchase without value": (web(custom_data__value=MISSING), 2804009),
    "purchase of words": (web(custom_data__value="ten"), 2804010),
    "purchase of infinity": (web(custom_data__value="inf"), 2804010),
    "purchase without currency": (web(custom_data__currency=MISSING), 2804010),
    "purchase in no currency": (web(custom_data__currency="ABC"), 2804010),
    "custom_data is a list": (lead(custom_data=[]), None),
    "value without currency": (lead(custom_data__currency=MISSING), 2804023),
    "value is true": (lead(custom_data__value=True), None),
    "no such currency": (lead(custom_data__currency="€"), None),
    "content_ids is a string": (lead(custom_data__content_ids="sku-1"), None),
    "content_ids hold a null": (lead(custom_data__content_ids=["sku-1", None]), None),
    "contents is an object": (lead(custom_data__contents={}), None),
    "content is a string": (lead(custom_data__contents=["sku-1"]), None),
    "content without id": (lead(custom_data__contents=[{"quantity": 1}]), 2804008),
    "quantity in words": (lead(custom_data__contents=[{"id": 1, "quantity": "two"}]), None),
    "delivery by drone": (lead(custom_data__delivery_category="drone"), None),
    "num_items in words": (lead(custom_data__num_items="two"), None),
    "predicted_ltv in words": (lead(custom_data__predicted_ltv="high"), None),
    "order_id is an object": (lead(custom_data__order_id={}), None),
    "app without app_data": (with_(APP, app_data=MISSING), None),
    "app without its flag": (with_(APP, app_data__application_tracking_enabled=MISSING), None),
    "app flag in words": (with_(APP, app_data__advertiser_tracking_enabled="yes"), None),
    "app flag of 2": (with_(APP, app_data__advertiser_tracking_enabled=2), None),
    "extinfo holds a null": (
        with_(APP, app_data__extinfo=["a2", None, "", "", "14", *[""] * 11]),
        2804043,
    ),
    "app without extinfo": (with_(APP, app_data__extinfo=MISSING), 2804043),
    "extinfo of 15": (with_(APP, app_data__extinfo=["a2", "", "", "", "14", *[""] * 10]), 2804043),
    "extinfo of windows": (
        with_(APP, app_data__extinfo=["w2", "", "", "", "14", *[""] * 11]),
        2804043,
    ),
    "extinfo without version": (with_(APP, app_data__extinfo=["a2", *[""] * 15]), 2804043),
    "app without a device": (with_(APP, user_data={"em": EM}), None),
    "no channel": (with_(WHATSAPP, messaging_channel=MISSING), 2804063),
    "unknown channel": (with_(WHATSAPP, messaging_channel="sms"), 2804063),
    "not a messaging event": (with_(WHATSAPP, event_name="Lead"), 2804066),
    "whatsapp without account": (with_(WHATSAPP, user_data__page_id=MISSING), 2804116),
    "whatsapp without click": (with_(WHATSAPP, user_data__ctwa_clid=MISSING), 2804087),
    "messenger without page": (with_(MESSENGER, user_data__page_id=MISSING), 2804069),
    "messenger without user": (with_(MESSENGER, user_data__page_scoped_user_id=MISSING), None),
    "instagram without account": (with_(INSTAGRAM, user_data__ig_account_id=MISSING), 2804079),
    "instagram without user": (with_(INSTAGRAM, user_data__ig_sid=MISSING), None),
    "options is a string": (web(data_processing_options="LDU"), None),
    "other options": (web(data_processing_options=["ABC"]), None),
    "LDU without country": (web(**LDU), None),
    "LDU without state": (web(**LDU, data_processing_options_country=1), None),
    "LDU in no state": (
        web(**LDU, data_processing_options_country=1, data_processing_options_state=1014),
        None,
    ),
    "LDU country in a string": (web(**LDU, data_processing_options_country="0"), None),
    "LDU to be located without address": (
        web(
            **LDU,
            data_processing_options_country=0,
            data_processing_options_state=0,
            user_data__client_ip_address=MISSING,
        ),
        None,
    ),
}

TAKEN: dict[str, dict[str, object]] = {
    "purchase": WEB,
    "app": APP,
    "whatsapp": WHATSAPP,
    "whatsapp by account": with_(
        WHATSAPP, user_data={"whatsapp_business_account_id": 1, "ctwa_clid": "x"}
    ),
    "messenger": MESSENGER,
    "instagram": INSTAGRAM,
    "instagram by business account": with_(
        INSTAGRAM, user_data={"instagram_business_account_id": "1", "ig_sid": "2"}
    ),
    "7 days": web(event_time=NOW_S - 7 * DAY_S),
    "62 days in a shop": web(action_source="physical_store", event_time=NOW_S - 62 * DAY_S),
    "skew of 60 s": web(event_time=NOW_S + 60),
    "name of 1": web(event_name="x"),
    "hash beside an empty one": known_by(em=["", EM]),
    "lead_id of 15": web(user_data__lead_id=123456789012345),
    "content_ids": lead(custom_data__content_ids=["sku-1", 2]),
    "custom name of 50": web(event_name="x" * 50),
    "no id": web(event_id=MISSING),
    "no agent": web(user_data__client_user_agent=MISSING),
    "phone call without url": web(action_source="phone_call", event_source_url=MISSING),
    "address and agent": known_by(client_ip_address="203.0.113.7", client_user_agent="x"),
    "first and last name": known_by(fn=EM, ln=EM),
    "fbp alone": known_by(fbp="fb.1.1779999000000.1"),
    "lead_id": web(user_data__lead_id=1234567890123456),
    "lead_id in a string": web(user_data__lead_id="12345678901234567"),
    "null is absent": lead(custom_data=None, opt_out=None, user_data__ph=None),
    "value in a string, small currency": web(custom_data__value="9.5", custom_data__currency="eur"),
    "free purchase": web(custom_data__value=0),
    "lead without money": lead(custom_data={}),
    "custom property": lead(custom_data__compared={"deep": [1]}),
    "not limited": web(data_processing_options=[]),
    "LDU to be located": web(
        **LDU, data_processing_options_country=0, data_processing_options_state=0
    ),
    "LDU in California": web(
        **LDU, data_processing_options_country=1, data_processing_options_state=1000
    ),
    "LDU in Rhode Island": web(
        **LDU, data_processing_options_country=1, data_processing_options_state=1013
    ),
    "segment": web(customer_segmentation="existing_customer_to_business_line"),
    "hash with an appendix": web(user_data__em=EM + ".AQIAAQMC"),
}

PROBLEMS: dict[str, tuple[dict[str, object], str]] = {
    "unknown event key": (web(eventId="x"), "eventId"),
    "unknown user key": (web(user_data__email=EM), "user_data.email"),
    "name in other case": (web(event_name="purchase"), "event_name"),
    "no agent": (web(user_data__client_user_agent=MISSING), "user_data.client_user_agent"),
    "raw e-mail": (web(user_data__em="anna@example.com"), "user_data.em"),
    "raw phone in a list": (web(user_data__ph=[EM, "491701234567"]), "user_data.ph"),
    "MD5": (web(user_data__fn=EM[:32]), "user_data.fn"),
    "hash in capitals": (web(user_data__ln=EM.upper()), "user_data.ln"),
    "hash of nothing": (
        web(
            user_data__st="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        "user_data.st",
    ),
    "e-mail as external_id": (web(user_data__external_id="a@b.example"), "user_data.external_id"),
    **{
        f"address {address}": (
            web(user_data__client_ip_address=address),
            "user_data.client_ip_address",
        )
        for address in (
            *("10.255.0.1", "127.0.0.1", "169.254.255.1", "172.31.0.1", "192.168.255.1", "0.0.0.0"),
            *("::", "::1", "fdff::1", "febf::1", "203.0.113.7, 198.51.100.1", "localhost"),
        )
    },
    "mapped private address": (
        web(user_data__client_ip_address="::ffff:192.168.1.1"),
        "user_data.client_ip_address",
    ),
    "address with port": (
        web(user_data__client_ip_address="203.0.113.7:443"),
        "user_data.client_ip_address",
    ),
    "fbp in seconds": (web(user_data__fbp="fb.1.1779999000.12"), "user_data.fbp"),
    "fbp of letters": (web(user_data__fbp="fb.1.1779999000000.abc"), "user_data.fbp"),
    "fbp from 2009": (web(user_data__fbp="fb.1.1262303999999.12"), "user_data.fbp"),
    "fbc from tomorrow": (web(user_data__fbc="fb.1.9979999000000.IwAR"), "user_data.fbc"),
    "fbc is a bare click id": (web(user_data__fbc="IwAR2"), "user_data.fbc"),
    "no quantity": (lead(custom_data__contents=[{"id": 1}]), "custom_data.contents.quantity"),
}

FINE: dict[str, dict[str, object]] = {
    "purchase": WEB,
    "app": APP,
    "whatsapp": WHATSAPP,
    "raw external_id": web(user_data__external_id=["user-42"]),
    "IPv6": web(user_data__client_ip_address="2001:db8::1"),
    "address with an appendix": web(user_data__client_ip_address="203.0.113.7.AQQCAQMC"),
    "fbp from 2010": web(user_data__fbp="fb.0.1262304000000.12"),
    "fbp with two appendices": web(user_data__fbp="fb.1.1779999000000.12.AQYCAQMB.AQYCAQMB"),
    "fbc with dots": web(user_data__fbc="fb.1.1779999000000.Iw.AR_x_1.AQ"),
}


def cases(table: dict[str, object]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", list(table.values()), ids=list(table))


def sandbox_with(**faults: object) -> Sandbox:
    return Sandbox(clock_ms=lambda: NOW_S * 1000, faults=msgspec.convert(faults, Faults))


@asynccontextmanager
async def in_process(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=sandbox.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://graph.test") as client:
        yield client


@asynccontextmanager
async def on_socket(sandbox: Sandbox, http: str = "httptools") -> AsyncIterator[httpx2.AsyncClient]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        sandbox.app, http=http, lifespan="off", log_level="critical", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx2.AsyncClient(base_url=base_url) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


async def send(client: httpx2.AsyncClient, *events: object, url: str = URL) -> httpx2.Response:
    return await client.post(url, json={"data": list(events), "access_token": "t"})


def code_of(answer: httpx2.Response) -> tuple[int, object, object]:
    error = answer.json()["error"]
    assert error["fbtrace_id"]
    assert answer.headers["x-fb-trace-id"] == error["fbtrace_id"]
    return answer.status_code, error["code"], error.get("error_subcode")


# What is refused, taken, and taken without use


@cases(dict(REFUSED))
@pytest.mark.anyio
async def test_an_event_that_breaks_a_rule_is_refused_with_graphs_code(
    case: tuple[object, int | None],
) -> None:
    event, subcode = case
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        answer = await send(client, event)
    assert code_of(answer) == (400, 100, subcode)
    assert sandbox.received == []
    [request] = sandbox.requests
    assert (request.pixel, request.n_events, request.code, request.subcode) == (
        "123",
        1,
        100,
        subcode,
    )


@cases(dict(TAKEN))
@pytest.mark.anyio
async def test_a_good_event_is_taken(case: dict[str, object]) -> None:
    assert validate(case, NOW_S) is None


@cases(dict(PROBLEMS))
@pytest.mark.anyio
async def test_what_graph_takes_and_does_not_use_is_a_problem(
    case: tuple[dict[str, object], str],
) -> None:
    event, field = case
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        assert (await send(client, event)).json()["messages"] == []
    assert [one.field for one in sandbox.problems] == [field]


@cases(dict(FINE))
@pytest.mark.anyio
async def test_a_good_event_has_no_problem(case: dict[str, object]) -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        await send(client, case)
    assert sandbox.problems == []


@pytest.mark.anyio
async def test_no_message_and_no_problem_holds_the_value() -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        refused = await send(client, web(event_time="anna@example.com"))
        await send(client, web(user_data__em="anna@example.com"))
        told = (await client.get("/_sandbox/problems")).text
    assert "anna" not in refused.text + told
    [problem] = msgspec.json.decode(told, type=dict[str, list[Problem]])["problems"]
    assert (problem.pixel, problem.event_id, problem.field) == ("123", "order-1", "user_data.em")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    f"{prefix}{key}"
    for prefix, keys in (
        ("", {*WEB, *APP, *WHATSAPP, *LDU, "opt_out", "referrer_url", "extra"}),
        ("user_data__", {"em", "fbc", "fbp", "client_ip_address", "lead_id", "page_id", "extra"}),
        ("custom_data__", {"value", "currency", "contents", "content_ids", "num_items"}),
    )
    for key in sorted(keys)
]


@given(st.sampled_from(PLACES), JSON_VALUES, st.sampled_from(["website", "app"]))
def test_any_json_in_any_place_is_judged_without_an_exception(
    place: str, value: object, source: str
) -> None:
    event = with_({"app_data": APP["app_data"]} | web(action_source=source), **{place: value})
    if validate(event, NOW_S) is None:
        assert all(name and told for name, told in problems(event, NOW_S))


# The request


@pytest.mark.anyio
async def test_one_bad_event_refuses_all_and_the_error_has_no_index() -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        answer = await send(client, WEB, web(event_time=0), web(event_id="order-2"))
    assert code_of(answer) == (400, 100, 2804003)
    error = answer.json()["error"]
    assert error["message"] == "Invalid parameter"
    assert (error["type"], error["is_transient"]) == ("OAuthException", False)
    assert "1" not in error["message"] + error["error_user_title"]
    assert sandbox.received == []
    assert sandbox.problems == []


@pytest.mark.anyio
async def test_success_counts_the_events() -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        answer = await send(client, WEB, APP)
    body = answer.json()
    assert body.keys() == {"events_received", "messages", "fbtrace_id"}
    assert (answer.status_code, body["events_received"]) == (200, 2)
    assert [(one.at_ms, one.pixel, one.event) for one in sandbox.received] == [
        (NOW_S * 1000, "123", WEB),
        (NOW_S * 1000, "123", APP),
    ]


JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
AS_STRINGS = json.dumps([json.dumps(WEB)])


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        pytest.param(json.dumps({"data": [WEB]}), JSON, id="json"),
        pytest.param(json.dumps({"data": [json.dumps(WEB)]}), JSON, id="json-of-strings"),
        pytest.param(json.dumps({"data": json.dumps([WEB])}), JSON, id="json-in-a-string"),
        pytest.param(
            urlencode({"data": AS_STRINGS}), FORM, id="form-of-strings-as-metas-python-sdk"
        ),
        pytest.param(urlencode({"data": json.dumps([WEB])}), FORM, id="form-of-objects"),
        pytest.param(
            f'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{AS_STRINGS}\r\n--b--\r\n',
            {"content-type": "multipart/form-data; boundary=b"},
            id="multipart",
        ),
    ],
)
@pytest.mark.anyio
async def test_every_encoding_is_read(content: str, headers: dict[str, str]) -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        answer = await client.post(f"{URL}?access_token=t", content=content, headers=headers)
    assert answer.json()["events_received"] == 1
    assert sandbox.received[0].event == WEB
    assert sandbox.problems == []


@pytest.mark.anyio
async def test_multipart_as_a_client_writes_it_is_read() -> None:
    sandbox = sandbox_with(tokens=["t"])
    parts = {"access_token": (None, "t"), "data": (None, json.dumps([web(event_id="Łódź")]))}
    async with in_process(sandbox) as client:
        answer = await client.post(URL, files=parts)
    assert answer.status_code == 200
    assert sandbox.received[0].event["event_id"] == "Łódź"


@pytest.mark.parametrize("where", ["query", "form", "json", "bearer"])
@pytest.mark.anyio
async def test_the_token_may_stand_in_four_places(where: str) -> None:
    data = json.dumps([WEB])
    async with in_process(sandbox_with(tokens=["good"])) as client:
        for token, expected in (("good", 200), ("bad", 401)):
            match where:
                case "query":
                    answer = await client.post(f"{URL}?access_token={token}", json={"data": [WEB]})
                case "form":
                    answer = await client.post(URL, data={"data": data, "access_token": token})
                case "json":
                    answer = await client.post(URL, json={"data": [WEB], "access_token": token})
                case _:
                    headers = {"authorization": f"Bearer {token}"}
                    answer = await client.post(URL, json={"data": [WEB]}, headers=headers)
            assert answer.status_code == expected
    assert code_of(answer) == (401, 190, None)


@pytest.mark.anyio
async def test_a_token_that_is_no_string_is_none() -> None:
    async with in_process(sandbox_with()) as client:
        assert code_of(await client.post(URL, json={"data": [WEB], "access_token": 7}))[1] == 104


@pytest.mark.parametrize("headers", [{}, {"authorization": "Basic dDp0"}], ids=["none", "basic"])
@pytest.mark.anyio
async def test_a_request_without_token_is_refused_before_its_events_are_read(
    headers: dict[str, str],
) -> None:
    async with in_process(sandbox_with()) as client:
        answer = await client.post(URL, json={"data": "x", "access_token": ""}, headers=headers)
    assert code_of(answer) == (400, 104, None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": {}},
        {"data": "["},
        {"data": "[" * 100_000},
        {"data": ["{"]},
        {"data": [WEB] * 1001},
        {"data": [WEB], "test_event_code": 7},
    ],
    ids=["none", "null", "empty", "object", "cut", "deep", "cut-event", "1001", "code-is-a-number"],
)
@pytest.mark.anyio
async def test_a_request_that_is_no_list_of_1_to_1000_events_is_refused(
    body: dict[str, object],
) -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        answer = await client.post(URL, json=body | {"access_token": "t"})
    assert code_of(answer) == (400, 100, None)
    assert sandbox.received == []


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"data": "\xff"}', b""])
@pytest.mark.anyio
async def test_a_body_that_is_not_a_json_object_has_no_events(content: bytes) -> None:
    async with in_process(sandbox_with()) as client:
        answer = await client.post(f"{URL}?access_token=t", content=content, headers=JSON)
    assert code_of(answer) == (400, 100, None)


@pytest.mark.anyio
async def test_a_thousand_events_are_taken() -> None:
    async with in_process(sandbox_with()) as client:
        assert (await send(client, *[WEB] * 1000)).json()["events_received"] == 1000


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/123/events", (400, 2500, None)),
        ("POST", "/v26/123/events", (400, 2500, None)),
        ("POST", "/v26.0/123/event", (400, 2500, None)),
        ("GET", "/", (400, 2500, None)),
        ("GET", "/v26.0/123/events", (400, 100, 33)),
        ("DELETE", "/v26.0/123/events", (400, 100, 33)),
        ("POST", "/v26.0/my-pixel/events?access_token=t", (404, 803, None)),
        ("POST", "/v26.0/102/events?access_token=t", (400, 100, None)),
    ],
)
@pytest.mark.anyio
async def test_other_paths_and_methods_get_graphs_errors(
    method: str, path: str, expected: tuple[int, int, int | None]
) -> None:
    async with in_process(sandbox_with()) as client:
        assert code_of(await client.request(method, path)) == expected


@pytest.mark.anyio
async def test_an_unknown_parameter_of_the_request_is_a_problem() -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        await client.post(URL, json={"data": [WEB], "access_token": "t", **LDU})
    assert [one.field for one in sandbox.problems] == ["data_processing_options"]


# What it remembers


@pytest.mark.anyio
async def test_a_repeat_within_48_hours_of_the_first_is_a_duplicate() -> None:
    now_s = [NOW_S]
    sandbox = Sandbox(clock_ms=lambda: now_s[0] * 1000)
    seen = []
    async with in_process(sandbox) as client:
        for after_s in (0, 24 * 3600, 48 * 3600, 48 * 3600 + 1, 49 * 3600):
            now_s[0] = NOW_S + after_s
            await send(client, WEB)
            seen.append(sandbox.duplicates)
        await send(client, lead())
        await send(client, WEB, url="/v26.0/456/events")
        await send(client, web(event_id=MISSING), web(event_id=MISSING))
    assert seen == [0, 1, 2, 2, 3]
    assert sandbox.duplicates == 3
    assert len(sandbox.received) == 9


@pytest.mark.anyio
async def test_the_lists_keep_the_newest() -> None:
    sandbox = Sandbox(clock_ms=lambda: NOW_S * 1000, keep=2)
    async with in_process(sandbox) as client:
        for name in "abc":
            await send(client, web(event_id=name, unknown=1))
    assert [one.event["event_id"] for one in sandbox.received] == ["b", "c"]
    assert [one.event_id for one in sandbox.problems] == ["b", "c"]
    assert len(sandbox.requests) == 2


@pytest.mark.anyio
async def test_a_repeat_is_known_among_ten_times_as_many_keys_as_kept_events() -> None:
    sandbox = Sandbox(clock_ms=lambda: NOW_S * 1000, keep=1)
    async with in_process(sandbox) as client:
        await send(client, *(web(event_id=str(number)) for number in range(11)))
        await send(client, web(event_id="0"))
        assert sandbox.duplicates == 0
        await send(client, web(event_id="2"))
    assert sandbox.duplicates == 1


@pytest.mark.anyio
async def test_people_can_look_inside_and_start_afresh() -> None:
    sandbox = sandbox_with()
    async with in_process(sandbox) as client:
        await send(client, WEB)
        await send(client, WEB, url="/v26.0/456/events")
        await send(client, WEB, url="/v26.0/456/events")
        everything = (await client.get("/_sandbox/received")).json()
        one_pixel = (await client.get("/_sandbox/received?pixel=123")).json()
        [first, *_] = (await client.get("/_sandbox/requests")).json()["requests"]
        assert (await client.delete("/_sandbox/received")).status_code == 204
        await send(client, WEB)
        afresh = (await client.get("/_sandbox/received")).json()
    assert (len(everything["received"]), everything["duplicates"]) == (3, 1)
    assert one_pixel["received"] == [{"at_ms": NOW_S * 1000, "pixel": "123", "event": WEB}]
    assert (first["pixel"], first["n_events"], first["status"]) == ("123", 1, 200)
    assert (len(afresh["received"]), afresh["duplicates"]) == (1, 0)


# Faults

ERRORS = {
    Fault.UNKNOWN: (500, 1, None),
    Fault.SERVICE: (503, 2, None),
    Fault.APP_LIMIT: (403, 4, None),
    Fault.USER_LIMIT: (400, 17, 2446079),
    Fault.PAGE_LIMIT: (400, 32, None),
    Fault.CUSTOM_LIMIT: (400, 613, None),
    Fault.ADS_LIMIT: (400, 80004, None),
    Fault.BLOCKED: (400, 368, None),
    Fault.TOKEN_EXPIRED: (401, 190, 463),
    Fault.TOKEN_MALFORMED: (401, 190, None),
    Fault.PERMISSION: (403, 200, None),
    Fault.WRONG_PIXEL: (400, 100, 33),
}
BODIES = {
    Fault.SERVER_ERROR: (500, "<!DOCTYPE html>", 0),
    Fault.HTTP_429: (429, "<!DOCTYPE html>", 0),
    Fault.HTML_200: (200, "<!DOCTYPE html>", 0),
    Fault.EMPTY_200: (200, "", 0),
    Fault.BROKEN_JSON_200: (200, '{"events_received":2', 2),
    Fault.SHORT_COUNT: (200, '{"events_received":1,', 1),
}
LOST = {Fault.HANG: 0, Fault.RESET_BEFORE: 0, Fault.RESET_AFTER: 2}


@pytest.mark.anyio
async def test_every_fault_is_in_a_table_of_these_tests() -> None:
    assert ERRORS.keys() | BODIES.keys() | LOST.keys() == set(Fault)


@pytest.mark.parametrize("fault", ERRORS)
@pytest.mark.anyio
async def test_an_ordered_error_answers_instead(fault: Fault) -> None:
    sandbox = sandbox_with(error=fault)
    async with in_process(sandbox) as client:
        answer = await send(client, WEB)
    assert code_of(answer) == ERRORS[fault]
    assert sandbox.received == []
    assert (sandbox.requests[0].n_events, sandbox.requests[0].code) == (1, ERRORS[fault][1])


@pytest.mark.parametrize("fault", BODIES)
@pytest.mark.anyio
async def test_an_ordered_body_answers_instead(fault: Fault) -> None:
    status, start, taken = BODIES[fault]
    sandbox = sandbox_with(error=fault)
    async with in_process(sandbox) as client:
        answer = await send(client, WEB, APP)
    assert (answer.status_code, answer.text[: len(start)]) == (status, start)
    if fault == Fault.BROKEN_JSON_200:
        with pytest.raises(ValueError, match=r"JSON|Expecting|Unterminated"):
            answer.json()
    assert len(sandbox.received) == taken


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("fault", [Fault.RESET_BEFORE, Fault.RESET_AFTER])
@pytest.mark.anyio
async def test_a_reset_closes_the_connection_without_a_byte(fault: Fault, http: str) -> None:
    sandbox = sandbox_with(error=fault, times=1)
    async with on_socket(sandbox, http) as client:
        with pytest.raises(httpx2.TransportError, match="without sending a response"):
            await send(client, WEB, APP)
        assert len(sandbox.received) == LOST[fault]
        assert sandbox.requests[0].status == 0
        assert (await send(client, WEB, APP)).status_code == 200
    assert sandbox.duplicates == LOST[fault] // 2  # of the two, only WEB has an id


@pytest.mark.anyio
async def test_a_reset_in_process_is_the_same_exception() -> None:
    async with in_process(sandbox_with(error="reset_after")) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await send(client, WEB)


@pytest.mark.anyio
async def test_a_hang_answers_nothing_until_the_client_leaves() -> None:
    sandbox = sandbox_with(error="hang", times=2)
    async with on_socket(sandbox) as client:
        client.timeout = httpx2.Timeout(5, read=0.1)
        with pytest.raises(httpx2.ReadTimeout):
            await send(client, WEB)
    async with in_process(sandbox) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await send(client, WEB)
        assert sandbox.received == []
        assert (await send(client, WEB)).status_code == 200


@pytest.mark.anyio
async def test_latency_passes_before_anything_is_processed() -> None:
    sandbox = sandbox_with(latency_ms=60_000)
    async with in_process(sandbox) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await send(client, WEB)
        assert sandbox.requests == []
        sandbox.faults = Faults(latency_ms=20)
        before = asyncio.get_running_loop().time()
        assert (await send(client, WEB)).status_code == 200
    assert asyncio.get_running_loop().time() - before >= 0.02


@pytest.mark.anyio
async def test_a_fault_hits_so_many_requests_of_its_pixels() -> None:
    sandbox = sandbox_with(error="service", latency_ms=1, times=2, pixels=["456"])
    statuses = []
    async with in_process(sandbox) as client:
        for pixel in ("123", "456", "123", "456", "456"):
            statuses.append((await send(client, WEB, url=f"/v26.0/{pixel}/events")).status_code)
    assert statuses == [200, 503, 200, 503, 200]
    assert (sandbox.faults.error, sandbox.faults.latency_ms) == (None, 0)


@pytest.mark.anyio
async def test_poison_refuses_its_request_only() -> None:
    sandbox = sandbox_with(poison=["bad"])
    async with in_process(sandbox) as client:
        answer = await send(client, WEB, web(event_id="bad"))
        assert (await send(client, WEB)).status_code == 200
    assert code_of(answer) == (400, 100, 2804019)
    assert len(sandbox.received) == 1


@pytest.mark.anyio
async def test_usage_and_version_warning_are_in_the_headers() -> None:
    sandbox = sandbox_with(usage_percent=100, version_warning=True)
    async with in_process(sandbox) as client:
        headers = (await send(client, WEB)).headers
        sandbox.faults = Faults()
        plain = (await send(client, WEB)).headers
    assert json.loads(headers["X-App-Usage"])["call_count"] == 100
    [[usage]] = json.loads(headers["X-Business-Use-Case-Usage"]).values()
    assert (usage["total_time"], usage["estimated_time_to_regain_access"]) == (100, 5)
    assert headers["X-Ad-Api-Version-Warning"]
    assert json.loads(plain["X-App-Usage"])["call_count"] == 0
    assert "X-Ad-Api-Version-Warning" not in plain


@pytest.mark.anyio
async def test_faults_are_ordered_over_http() -> None:
    sandbox = sandbox_with(usage_percent=50)
    async with in_process(sandbox) as client:
        order = {"error": "app_limit", "times": 1, "tokens": ["t"], "poison": ["x"]}
        answer = await client.post("/_sandbox/faults", json=order)
        assert sandbox.faults == Faults(
            error=Fault.APP_LIMIT, times=1, tokens=frozenset({"t"}), poison=frozenset({"x"})
        )
        assert answer.json()["error"] == "app_limit"
        assert (await send(client, WEB)).status_code == 403
        assert (await send(client, WEB)).status_code == 200


@pytest.mark.parametrize("body", ["{", "[]", '{"error":"no"}', '{"times":0}', '{"latency":5}'])
@pytest.mark.anyio
async def test_impossible_faults_change_nothing(body: str) -> None:
    sandbox = sandbox_with(error="blocked")
    async with in_process(sandbox) as client:
        answer = await client.post("/_sandbox/faults", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sandbox.faults == Faults(error=Fault.BLOCKED)


# The command


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.anyio
async def test_the_command_serves_until_a_signal_and_leaves_with_0(signum: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.sandbox", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("sandbox on http://127.0.0.1:")
    url = line.removeprefix("sandbox on ").strip()
    fresh = web(event_time=int(time.time()))
    async with httpx2.AsyncClient(base_url=url) as client:
        await client.post("/_sandbox/faults", json={"error": "reset_after", "times": 1})
        with pytest.raises(httpx2.TransportError):
            await send(client, WEB)
        assert code_of(await send(client, web(event_time=1)))[2] == 2804003
        assert (await send(client, fresh, url="/v20.0/123/events")).status_code == 200
    process.send_signal(signum)
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.anyio
async def test_a_port_in_use_is_one_sentence_and_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.sandbox", "--port", str(taken.getsockname()[1])),
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
    assert process.returncode == 1
    assert err.decode().startswith("cannot listen on 127.0.0.1")
    assert err.count(b"\n") == 1
