"""Meta's answers, as published, and what each means for the events of the request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import capi
from gateway.capi import Fate, Verdict

SAID_BY_META = "Prohibited text of Meta's, victim@example.com"


def answered(status: int, code: int | None, subcode: int | None = None, **more: object) -> Verdict:
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
    return capi.classify(status, json.dumps({"error": body}).encode(), 5)


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

    assert capi.classify(200, body, 5) == Verdict(fate=Fate.DELIVERED, reason="", trace="AbC")


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
    assert capi.classify(200, body, 5).fate is Fate.DELIVERED


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
                ("with an error", b'{"error":{"message":"x","code":100}}'),
            ]
        ),
    ],
)
def test_an_answer_that_proves_nothing_is_retried(status: int, body: bytes) -> None:
    verdict = capi.classify(status, body, 5)

    assert verdict.fate is Fate.RETRY
    assert verdict.reason


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 403])
def test_a_count_with_another_status_than_200_is_no_delivery(status: int) -> None:
    assert capi.classify(status, b'{"events_received":5}', 5).fate is not Fate.DELIVERED


# --- errors ----------------------------------------------------------------------------------

Code = tuple[int, int | None, int | None]
TOKEN: list[Code] = [(401, 190, s) for s in (None, 463, 460, 458, 459, 464, 467, 492)]
TOKEN += [(400, 190, 463), (400, 102, None), (400, 104, None), (403, 10, None), (400, 3, None)]
TOKEN += [(403, 200, None), (403, 210, None), (403, 299, None), (400, 294, None)]
TOKEN += [(404, 803, None), (400, 100, 33)]
THROTTLE: list[Code] = [(403, 4, None), (400, 17, 2446079), (400, 32, None), (400, 341, None)]
THROTTLE += [(400, 613, None), (400, 613, 1487742), (400, 613, 5044001), (400, 613, 1996)]
THROTTLE += [(400, 80_000, None), (400, 80_004, None), (400, 80_014, None)]
THROTTLE += [(429, None, None), (429, 4, None), (429, 99_999, None)]
TRANSIENT: list[Code] = [
    (500, 1, None),
    (400, 1, 99),
    (503, 2, None),
    (400, 2, None),
    (500, 100, None),
]
PAYLOAD = [2804003, 2804004, 2804008, 2804009, 2804010, 2804019, 2804023, 2804036, 2804043]
PAYLOAD += [2804050, 2804063, 2804001]
DEAD: list[Code] = [(400, 100, s) for s in (None, *PAYLOAD)]
DEAD += [(400, 99_999, None), (404, 2500, None), (400, 300, None), (400, 80_015, None)]
DEAD += [(400, None, None)]


@pytest.mark.parametrize(
    ("fate", "status", "code", "subcode"),
    [
        *((Fate.PAUSE, *case) for case in TOKEN),
        *((Fate.RETRY, *case) for case in THROTTLE),
        *((Fate.RETRY, *case) for case in TRANSIENT),
        *((Fate.DEAD, *case) for case in DEAD),
    ],
)
def test_an_error_means_what_its_code_means(
    fate: Fate, status: int, code: int | None, subcode: int | None
) -> None:
    verdict = answered(status, code, subcode)

    assert verdict.fate is fate
    assert verdict.trace == "AbCdEf"
    # Localised, and at times it quotes the event.
    assert SAID_BY_META not in verdict.reason
    assert "victim" not in verdict.reason


@pytest.mark.parametrize(("status", "code", "subcode"), [*TOKEN, *THROTTLE])
def test_a_paused_or_throttled_lane_waits(
    status: int, code: int | None, subcode: int | None
) -> None:
    assert answered(status, code, subcode).again_ms >= 60_000


@pytest.mark.parametrize(("status", "code", "subcode"), TRANSIENT)
def test_a_passing_failure_waits_by_backoff_alone(
    status: int, code: int | None, subcode: int | None
) -> None:
    assert answered(status, code, subcode).again_ms == 0


def test_a_block_for_policy_holds_for_an_hour() -> None:
    verdict = answered(400, 368)

    assert verdict.fate is Fate.PAUSE
    assert verdict.again_ms >= 3_600_000


def test_an_unknown_code_that_calls_itself_transient_is_retried() -> None:
    assert answered(400, 99_999, is_transient=True).fate is Fate.RETRY


def test_a_200_with_an_error_is_judged_by_the_error() -> None:
    body = b'{"events_received":5,"error":{"message":"x","code":190}}'

    assert capi.classify(200, body, 5).fate is Fate.PAUSE


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
    assert capi.classify(400, body, 5).fate is Fate.PAUSE


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413])
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"{}", b'{"error":"text"}'])
def test_another_4xx_is_the_end(status: int, body: bytes) -> None:
    assert capi.classify(status, body, 5).fate is Fate.DEAD


def test_too_many_requests_without_an_answer_of_metas_waits() -> None:
    verdict = capi.classify(429, b"slow down", 5)

    assert verdict.fate is Fate.RETRY
    assert verdict.again_ms >= 60_000


def test_the_reason_has_the_numbers_support_asks_for() -> None:
    assert "100/2804050" in answered(400, 100, 2804050).reason


def test_no_answer_at_all_is_retried() -> None:
    assert capi.unreachable("network: ConnectError") == Verdict(
        fate=Fate.RETRY, reason="network: ConnectError"
    )


def test_no_token_pauses_and_waits() -> None:
    assert capi.no_token().fate is Fate.PAUSE
    assert capi.no_token().again_ms > 0


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
    verdict = capi.classify(status, body, sent)

    if verdict.fate is Fate.DELIVERED:
        assert status == 200
        assert json.loads(body)["events_received"] == sent
    else:
        assert verdict.reason
