"""Meta's answers, as published, and what each means for the events of the request."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import capi
from gateway.capi import Fate, Verdict

SAID_BY_META = "Prohibited text of Meta's, victim@example.com"


def answered(
    status: int,
    code: int | None,
    subcode: int | None = None,
    headers: Mapping[str, str] = {},
    **more: object,
) -> Verdict:
    """A Graph error in full, as the published ones are."""
    error = {
        "message": f"(#{code}) {SAID_BY_META}",
        "type": "OAuthException",
        "code": code,
        "error_subcode": subcode,
        "is_transient": False,
        "error_user_title": SAID_BY_META,
        "error_user_msg": SAID_BY_META,
        "error_data": {"blame_field_specs": [["data[0]"]]},
        "fbtrace_id": "AbCdEf",
        **more,
    }
    body = {k: v for k, v in error.items() if v is not None}
    return capi.classify(status, headers, json.dumps({"error": body}).encode(), 5)


# --- batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 1000])
@pytest.mark.parametrize("code", [None, "TEST123"])
def test_a_batch_is_one_json_text_with_the_token_inside(count: int, code: str | None) -> None:
    bodies = [json.dumps({"event_name": f"e{n}"}).encode() for n in range(count)]

    framed = capi.batch(bodies, 'tok"en\\\n', code)

    test_code = {"test_event_code": code} if code else {}
    assert json.loads(framed) == {
        "access_token": 'tok"en\\\n',
        "data": [json.loads(body) for body in bodies],
        **test_code,
    }
    assert all(body in framed for body in bodies)


@given(
    values=st.lists(st.text(), min_size=1, max_size=5),
    token=st.text(min_size=1),
    code=st.none() | st.text(min_size=1),
)
def test_whatever_is_in_events_and_token_the_frame_holds(
    values: list[str], token: str, code: str | None
) -> None:
    bodies = [json.dumps({"x": value}).encode() for value in values]

    framed = json.loads(capi.batch(bodies, token, code))

    assert framed["access_token"] == token
    assert framed.get("test_event_code") == code
    assert [one["x"] for one in framed["data"]] == values


# --- delivered -------------------------------------------------------------------------------


def test_delivered_is_when_meta_counted_every_event() -> None:
    body = b'{"events_received":5,"messages":[],"fbtrace_id":"AbC"}'

    assert capi.classify(200, {}, body, 5) == Verdict(fate=Fate.DELIVERED, reason="", trace="AbC")


@pytest.mark.parametrize(
    "body",
    [
        b'{"events_received":5,"messages":["a warning"],"fbtrace_id":"A"}',
        b'{"events_received":5,"messages":[],"fbtrace_id":null}',
        b'{"events_received":5}',
        b'{"id":"1","num_processed_entries":5,"events_received":5}',
    ],
)
def test_delivered_in_the_shapes_meta_answers(body: bytes) -> None:
    assert capi.classify(200, {}, body, 5).fate is Fate.DELIVERED


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b'{"events_received":4,"fbtrace_id":"A"}', id="one fewer"),
        pytest.param(200, b'{"events_received":6}', id="one more"),
        pytest.param(200, b'{"events_received":0}', id="none"),
        pytest.param(200, b'{"events_received":true}', id="a boolean"),
        pytest.param(200, b'{"events_received":"5"}', id="a text"),
        pytest.param(200, b"{}", id="empty object"),
        pytest.param(200, b"null", id="null"),
        pytest.param(200, b"[]", id="array"),
        pytest.param(200, b"", id="empty"),
        pytest.param(200, b'{"events_received":5', id="cut off"),
        pytest.param(200, b"<html>Welcome to the hotel</html>", id="a proxy's page"),
        pytest.param(200, b"\xff\xfe\x00", id="no text"),
        pytest.param(200, b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}", id="nested"),
        *(
            pytest.param(status, body, id=f"{status} {name}")
            for status in (500, 502, 503, 504)
            for name, body in [
                ("empty", b""),
                ("html", b"<html>Bad gateway</html>"),
                ("even with a count", b'{"events_received":5}'),
            ]
        ),
    ],
)
def test_an_answer_that_proves_nothing_is_retried(status: int, body: bytes) -> None:
    verdict = capi.classify(status, {}, body, 5)

    assert verdict.fate is Fate.RETRY
    assert verdict.reason


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 403])
def test_a_count_with_another_status_than_200_is_no_delivery(status: int) -> None:
    assert capi.classify(status, {}, b'{"events_received":5}', 5).fate is not Fate.DELIVERED


# --- errors ----------------------------------------------------------------------------------

Code = tuple[int, int | None, int | None]
TOKEN: list[Code] = [(401, 190, s) for s in (None, 463, 460, 458, 459, 464, 467, 492, 999)]
TOKEN += [(400, 190, 463), (400, 102, None), (400, 104, None), (403, 10, None), (400, 3, None)]
TOKEN += [(403, 200, None), (403, 210, None), (403, 299, None), (400, 294, None)]
TOKEN += [(404, 803, None), (400, 100, 33), (400, 368, None)]
THROTTLE: list[Code] = [(403, 4, None), (400, 17, 2446079), (400, 32, None), (400, 341, None)]
THROTTLE += [(400, 613, None), (400, 613, 1487742), (400, 613, 5044001), (400, 613, 1996)]
THROTTLE += [(400, 80_000, None), (400, 80_004, None), (400, 80_014, None)]
THROTTLE += [(429, None, None), (429, 4, None), (429, 99_999, None)]
TRANSIENT: list[Code] = [(500, 1, None), (400, 1, None), (503, 2, None), (400, 2, None)]
TRANSIENT += [(500, 99_999, None), (500, None, None)]
PAYLOAD = [2804001, 2804003, 2804007, 2804008, 2804009, 2804010, 2804016, 2804017]
PAYLOAD += [2804019, 2804023, 2804036, 2804043, 2804048, 2804050, 2804063, 2804066, 2804069]
PAYLOAD += [2804079, 2804087, 2804116, 2804117, 2804118, 2804131, 2804132]
SPLIT: list[Code] = [(400, 100, s) for s in (None, *PAYLOAD, 1)]
SPLIT += [(400, 99_999, None), (404, 2500, None), (400, 300, None), (400, 80_015, None)]
SPLIT += [(400, None, None)]


@pytest.mark.parametrize(
    ("fate", "status", "code", "subcode"),
    [
        *((Fate.PAUSE, *case) for case in TOKEN),
        *((Fate.RETRY, *case) for case in THROTTLE),
        *((Fate.RETRY, *case) for case in TRANSIENT),
        *((Fate.SPLIT, *case) for case in SPLIT),
    ],
)
def test_an_error_means_what_its_code_means(
    fate: Fate, status: int, code: int | None, subcode: int | None
) -> None:
    verdict = answered(status, code, subcode)

    assert verdict.fate is fate
    assert verdict.trace == "AbCdEf"
    assert f"code {code}" in verdict.reason
    # Localised, and at times it quotes the event.
    assert SAID_BY_META not in verdict.reason
    assert "victim" not in verdict.reason


@pytest.mark.parametrize(("status", "code", "subcode"), [*TOKEN, *THROTTLE])
def test_a_refused_pixel_waits_as_a_whole_and_nothing_of_it_was_counted(
    status: int, code: int | None, subcode: int | None
) -> None:
    verdict = answered(status, code, subcode)

    assert verdict.lane
    assert not verdict.ambiguous


@pytest.mark.parametrize(("status", "code", "subcode"), TRANSIENT)
def test_a_passing_failure_leaves_open_whether_the_events_were_counted(
    status: int, code: int | None, subcode: int | None
) -> None:
    verdict = answered(status, code, subcode)

    assert verdict.ambiguous
    assert not verdict.lane


@pytest.mark.parametrize(("status", "code", "subcode"), SPLIT)
def test_a_rejected_event_ends_as_a_dead_letter_that_says_what_to_do(
    status: int, code: int | None, subcode: int | None
) -> None:
    verdict = answered(status, code, subcode)

    assert verdict.alone is Fate.DEAD
    assert not verdict.ambiguous
    assert ";" in verdict.reason or verdict.blame


def test_an_event_from_the_future_is_split_but_never_dead() -> None:
    verdict = answered(400, 100, 2804004)

    assert (verdict.fate, verdict.alone, verdict.early) == (Fate.SPLIT, Fate.RETRY, True)
    assert "set the gateway's clock" in verdict.reason
    assert not answered(400, 100, 2804003).early


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sun, 06 Nov 1994 08:49:37 +0100", 784108177),
        ("yesterday", 0),
        ("", 0),
        ("Sun, 06 Nov 99999 08:49:37 GMT", 0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", 0),
    ],
)
def test_an_answer_tells_the_time_at_meta(date: str, seconds: int) -> None:
    assert answered(400, 100, 2804004, {"date": date}).date_s == seconds
    assert capi.classify(200, {"date": date}, b'{"events_received":1}', 1).date_s == seconds


@given(st.text())
def test_no_date_can_break_the_reading_of_an_answer(date: str) -> None:
    capi.classify(200, {"date": date}, b'{"events_received":1}', 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"event_time": 101, "x": 1.5}, {"event_time": 100, "x": 1.5}, id="later"),
        pytest.param({"event_time": 100, "x": 1}, {"event_time": 100, "x": 1}, id="now"),
        pytest.param({"event_time": 5}, {"event_time": 5}, id="earlier"),
        pytest.param({"x": {"event_time": 101}}, {"x": {"event_time": 101}}, id="none"),
    ],
)
def test_an_event_is_no_later_than_it_may_be(before: object, after: object) -> None:
    body = json.dumps(before).encode()
    mended = capi.not_after(body, 100)
    assert json.loads(mended) == after
    assert (mended is body) == (before == after)


def test_code_1_99_is_split_but_never_dead() -> None:
    verdict = answered(500, 1, 99)

    assert (verdict.fate, verdict.alone, verdict.ambiguous) == (Fate.SPLIT, Fate.RETRY, True)


def test_a_block_for_policy_holds_for_an_hour() -> None:
    verdict = answered(400, 368)

    assert verdict.fate is Fate.PAUSE
    assert verdict.wait_ms >= 3_600_000


# --- blame -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subcode", "field"),
    [(2804001, "user_data.fbc"), (2804016, "user_data.ct"), (2804036, "user_data.lead_id")],
)
def test_a_subcode_that_names_a_field_blames_it(subcode: int, field: str) -> None:
    assert answered(400, 100, subcode).blame == field


@pytest.mark.parametrize(
    ("error_data", "field"),
    [
        ({"blame_field_specs": [["data[0][user_data][ph]"]]}, "user_data.ph"),
        ('{"blame_field_specs":[["data[3][user_data][fbp]"]]}', "user_data.fbp"),
        ({"blame_field_specs": [["data", "user_data.em"]]}, "user_data.em"),
        ({"blame_field_specs": [["data[0][custom_data][value]"]]}, ""),
        ({"blame_field_specs": [["data[0][user_data]"]]}, ""),
        ({"blame_field_specs": "user_data"}, ""),
        ({"blame_field_specs": [[[[[["user_data[em]"]]]]]]}, ""),
        ("not JSON", ""),
        (7, ""),
    ],
)
def test_the_match_key_meta_blames_is_read_from_the_error(error_data: object, field: str) -> None:
    assert answered(400, 100, 2804019, error_data=error_data).blame == field


def test_only_a_rejected_event_has_a_field_to_blame() -> None:
    blaming = {"blame_field_specs": [["data[0][user_data][ph]"]]}

    assert answered(401, 190, error_data=blaming).blame == ""


def test_an_event_without_the_blamed_field_is_otherwise_the_same() -> None:
    body = b'{"event_name":"Lead","user_data":{"fbc":"x","em":["y"]},"custom_data":{"fbc":1}}'

    left = capi.without(body, "user_data.fbc")

    assert left is not None
    assert json.loads(left) == {
        "event_name": "Lead",
        "user_data": {"em": ["y"]},
        "custom_data": {"fbc": 1},
    }
    assert capi.without(body, "user_data.ph") is None
    assert capi.without(body, "app_data.fbc") is None


# --- headers ---------------------------------------------------------------------------------

BUSINESS = json.dumps(
    {"123": [{"type": "ads_management", "call_count": 88, "estimated_time_to_regain_access": 7}]}
)


@pytest.mark.parametrize(
    ("headers", "usage"),
    [
        ({}, (0, 0)),
        ({"x-app-usage": '{"call_count":28,"total_time":25,"total_cputime":76}'}, (76, 0)),
        ({"x-ad-account-usage": '{"acc_id_util_pct":9.67,"reset_time_duration":100}'}, (9, 0)),
        ({"x-business-use-case-usage": BUSINESS}, (88, 7 * 60_000)),
        (
            {"x-app-usage": '{"call_count":10}', "x-business-use-case-usage": BUSINESS},
            (88, 420_000),
        ),
        ({"x-app-usage": "rubbish"}, (0, 0)),
        ({"x-app-usage": '{"call_count":"100"}'}, (0, 0)),
        ({"x-app-usage": "[" * 5000}, (0, 0)),
    ],
)
def test_the_usage_headers_are_read(headers: dict[str, str], usage: tuple[int, int]) -> None:
    assert capi.usage_of(headers) == usage
    assert capi.classify(200, headers, b'{"events_received":5}', 5).usage == usage[0]


def test_a_throttle_waits_as_long_as_meta_says() -> None:
    headers = {"x-business-use-case-usage": BUSINESS}

    assert answered(400, 80_004, headers=headers).wait_ms == 420_000
    assert answered(400, 80_004).wait_ms == 0


def test_a_version_about_to_go_is_said() -> None:
    headers = {"x-ad-api-version-warning": "The call has been auto-upgraded to v27.0"}

    verdict = capi.classify(200, headers, b'{"events_received":5}', 5)

    assert "v27.0" in verdict.version_warning


def test_the_trace_of_an_answer_without_one_is_in_its_headers() -> None:
    assert capi.classify(502, {"x-fb-trace-id": "Tr"}, b"", 5).trace == "Tr"


# --- shapes ----------------------------------------------------------------------------------


def test_an_unknown_code_that_calls_itself_transient_is_retried() -> None:
    assert answered(400, 99_999, is_transient=True).fate is Fate.RETRY


def test_a_200_with_an_error_is_judged_by_the_error() -> None:
    body = b'{"events_received":5,"error":{"message":"x","code":190}}'

    assert capi.classify(200, {}, body, 5).fate is Fate.PAUSE


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"error":{"code":190}}', id="nothing but the code"),
        pytest.param(
            b'{"error":{"message":null,"type":null,"code":190,"error_subcode":null,'
            b'"is_transient":null,"fbtrace_id":null}}',
            id="nulls",
        ),
        pytest.param(b'{"error":{"code":190,"error_data":"text"}}', id="error_data as text"),
        pytest.param(b'{"error":{"code":190,"error_data":{"a":1}}}', id="error_data as object"),
        pytest.param(b'{"error":{"code":190},"__debug__":{}}', id="debug block"),
    ],
)
def test_an_errors_optional_fields_may_be_missing(body: bytes) -> None:
    # Taken for no answer of Meta's a 400 would be the end of the events.
    assert capi.classify(400, {}, body, 5).fate is Fate.PAUSE


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 407, 408])
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"{}", b'{"error":"text"}'])
def test_what_is_not_metas_answer_ends_nothing(status: int, body: bytes) -> None:
    # A proxy in between, or a wrong address: no reason to give an event up.
    verdict = capi.classify(status, {}, body, 5)

    assert (verdict.fate, verdict.ambiguous) == (Fate.RETRY, False)


def test_too_large_for_something_in_between_is_split() -> None:
    assert capi.classify(413, {}, b"<html>", 5).fate is Fate.SPLIT


def test_too_many_requests_without_an_answer_of_metas_waits() -> None:
    verdict = capi.classify(429, {}, b"slow down", 5)

    assert (verdict.fate, verdict.lane) == (Fate.RETRY, True)


def test_the_reason_has_the_numbers_support_asks_for() -> None:
    assert "100/2804050" in answered(400, 100, 2804050).reason


@pytest.mark.parametrize("ambiguous", [True, False])
def test_no_answer_at_all_is_retried(ambiguous: bool) -> None:
    assert capi.unreachable("network: ConnectError", ambiguous=ambiguous) == Verdict(
        fate=Fate.RETRY, reason="network: ConnectError", ambiguous=ambiguous
    )


def test_no_token_pauses_the_pixel() -> None:
    assert (capi.no_token().fate, capi.no_token().lane) == (Fate.PAUSE, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "events_received", "error_subcode", "message"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()),
    sent=st.integers(1, 1000),
)
def test_whatever_is_answered_gets_a_verdict(status: int, body: bytes, sent: int) -> None:
    verdict = capi.classify(status, {}, body, sent)

    if verdict.fate is Fate.DELIVERED:
        assert status == 200
        assert json.loads(body)["events_received"] == sent
    else:
        assert verdict.reason
