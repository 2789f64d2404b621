"""Rubbish from outside, impossible settings: said in one sentence, and everything else goes on working."""

import gzip
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

from .harness import (
    CHROME,
    PAGE,
    TOKEN,
    Gateway,
    StandIn,
    backend_event,
    call,
    live,
    page_event,
    wait_until,
)

PLANTED = "erika.planted@example.com"
PASSWORD = "planted-admin-password"


class Witness(Gateway):
    """A gateway that remembers all it ever answered."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__(folder, env)
        self.answers: list[bytes] = []

    def post(
        self,
        body: bytes | str | Iterator[bytes],
        *,
        path: str = "/h",
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Below the slug."""
        return self._noted(
            call(
                "POST",
                self.script_url + path,
                content=body,
                headers={"User-Agent": CHROME, **(headers or {})},
            )
        )

    def to_backend(self, body: object, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """To the backend API; text goes as it is."""
        key = {"Authorization": f"Bearer {self.api_key}"}
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return self._noted(
            call(
                "POST",
                f"{self.url}/v1/events",
                content=content,
                headers=key if headers is None else headers,
            )
        )

    def raw(self, request: bytes, url: str = "") -> bytes:
        """Send these bytes; everything that comes back until the connection ends."""
        host, _, port = (url or self.url).removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as wire:
            wire.sendall(request)
            answer = b""
            while piece := wire.recv(65536):
                answer += piece
        self.answers.append(answer)
        return answer

    def raw_hit(
        self, *lines: bytes, event_id: str = "raw", host: bytes = b"shop.example.com"
    ) -> bytes:
        """A good hit with header lines of one's own, byte by byte."""
        body = json.dumps({"events": [page_event(event_id)]}).encode()
        head = [
            f"POST /{self.slug}/h HTTP/1.1".encode(),
            b"Host: " + host,
            f"User-Agent: {CHROME}".encode(),
            f"Content-Length: {len(body)}".encode(),
            b"Connection: close",
            *lines,
        ]
        return self.raw(b"\r\n".join(head) + b"\r\n\r\n" + body)

    def peak_memory(self) -> int:
        """The most bytes the process ever had in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def _noted(self, response: httpx2.Response) -> httpx2.Response:
        self.answers.append(str(response.headers).encode() + response.content)
        return response


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Witness]:
    env = live(stand_in.url, GATEWAY_SITE_HOSTS="example.com", GATEWAY_ADMIN_PASSWORD=PASSWORD)
    with Witness(tmp_path_factory.mktemp("gateway"), env) as started:
        started.start()
        yield started


# --- pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", ""),
        (f"{{'events': '{PLANTED}'", ""),
        ("[1,2", ""),
        ("null", ""),
        ("[]", ""),
        (json.dumps(PLANTED), ""),
        (b"\xff\xfe\x00", ""),
        ("{}", "events"),
        (json.dumps({"events": PLANTED}), "events"),
        (json.dumps({"events": [], "consent": PLANTED}), "consent"),
        (json.dumps({"events": [], "user": [PLANTED]}), "user"),
        (json.dumps({"events": [], "sent": PLANTED}), "sent"),
        ("[" * 100_000, None),
        ('{"events":[],"sent":1e999}', ""),
    ],
)
def test_a_hit_that_cannot_be_read_is_400_or_413_and_names_the_field(
    gateway: Witness, body: str | bytes, field: str | None
) -> None:
    answer = gateway.post(body)
    assert answer.status_code == (413 if field is None else 400)
    assert field is None or answer.json()["field"] == field


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (PLANTED, "events[0]"),
        ({"id": "a", "url": PAGE}, "events[0].name"),
        ({"name": "PageView", "url": PAGE}, "events[0].id"),
        ({"name": 5, "id": "a"}, "events[0].name"),
        ({"name": "x" * 51, "id": "a"}, "events[0].name"),
        ({"name": "a\nb", "id": "a"}, "events[0].name"),
        ({"name": "PageView", "id": ""}, "events[0].id"),
        ({"name": "PageView", "id": "a" * 201}, "events[0].id"),
        ({"name": "PageView", "id": "a", "data": [PLANTED]}, "events[0].data"),
        ({"name": "PageView", "id": "a", "time": PLANTED}, "events[0].time"),
        ({"name": "PageView", "id": "a"}, "event_source_url"),
        ({"name": "PageView", "id": "a", "url": f"javascript:{PLANTED}"}, "event_source_url"),
        (page_event("a", "Purchase"), "custom_data.value"),
        (page_event("a", "Lead", data={"value": "much"}), "custom_data.value"),
        (page_event("a", "Lead", data={"value": 1}), "custom_data.currency"),
        (page_event("a", "Lead", data={"value": 1, "currency": PLANTED}), "custom_data.currency"),
        (page_event("a", PLANTED), "event_name"),
    ],
)
def test_an_event_that_meta_would_refuse_is_400_and_names_the_field(
    gateway: Witness, event: object, field: str
) -> None:
    answer = gateway.post(json.dumps({"events": [event]}))
    assert answer.status_code == 400
    assert [e["field"] for e in answer.json()["errors"]] == [field]


def test_a_bad_event_does_not_take_its_neighbours_along(
    gateway: Witness, stand_in: StandIn
) -> None:
    answer = gateway.post(json.dumps({"events": [{"name": 5}, page_event("neighbour")]}))
    assert answer.status_code == 204
    assert answer.headers["server-timing"] == "outcome;desc=invalid, outcome;desc=pending"
    stand_in.one("neighbour")


def test_a_hit_over_64_kib_is_413_with_and_without_a_content_length(gateway: Witness) -> None:
    body = json.dumps({"events": [page_event("big", data={"x": "y" * 66_000})]}).encode()
    assert gateway.post(body).status_code == 413
    pieces = (body[n : n + 1000] for n in range(0, len(body), 1000))
    assert gateway.post(pieces).status_code == 413
    fitting = json.dumps({"events": [page_event("fits", data={"x": "y" * 64_000})]}).encode()
    pieces = (fitting[n : n + 1000] for n in range(0, len(fitting), 1000))
    assert gateway.post(pieces).status_code == 204


def test_more_than_50_events_in_a_hit_are_413(gateway: Witness) -> None:
    fifty = [page_event(f"many-{n}") for n in range(50)]
    assert gateway.post(json.dumps({"events": fifty})).status_code == 204
    assert gateway.post(json.dumps({"events": [*fifty, page_event("51")]})).status_code == 413


def test_a_compressed_body_is_refused(gateway: Witness) -> None:
    body = json.dumps({"events": [page_event("compressed")]}).encode()
    for encoding in ("gzip", "br", "identity, gzip"):
        answer = gateway.post(gzip.compress(body), headers={"Content-Encoding": encoding})
        assert answer.status_code == 415
    assert gateway.post(body, headers={"Content-Encoding": "identity"}).status_code == 204


def test_events_of_another_site_are_not_taken(gateway: Witness) -> None:
    other = {"name": "PageView", "id": "foreign-1", "url": "https://example.com.evil.test/"}
    for body, headers in (
        ({"events": [other]}, {}),
        ({"events": [page_event("foreign-2")]}, {"Origin": "https://notexample.com"}),
    ):
        answer = gateway.post(json.dumps(body), headers=headers)
        assert answer.headers["server-timing"] == "outcome;desc=foreign_host"
        assert "access-control-allow-origin" not in answer.headers
    told = gateway.to_backend(backend_event("foreign-3", event_source_url="https://other.test/x"))
    assert told.status_code == 422
    assert told.json()["rejected"][0]["errors"][0]["field"] == "url"


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("https://shop.example.com", True),
        ("https://example.com", True),
        ("https://a.b.example.com:8443", True),
        ("http://127.0.0.1:5000", True),  # the host that was asked
        ("null", False),
        ("https://example.com.evil.test", False),
        ("https://evilexample.com", False),
        ("https://evil.test/https://example.com", False),
        ("https://example.com@evil.test", False),
        ("*", False),
        ("", False),
        (None, False),
    ],
)
def test_only_the_site_s_own_pages_may_read_the_answer(
    gateway: Witness, origin: str | None, told: bool
) -> None:
    body = json.dumps({"events": [page_event(f"cors-{origin}")]})
    headers = {} if origin is None else {"Origin": origin}
    for answer in (gateway.post(body, headers=headers), gateway.post("{", headers=headers)):
        assert answer.headers.get("access-control-allow-origin") == (origin if told else None)
        allowed = {name for name in answer.headers if name.startswith("access-control-")}
        assert bool(allowed) is told
        assert ("Origin" in answer.headers.get("vary", "")) is told


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (page_event("odd-1") | {"url": "http://[x]/"}, "invalid"),
        (page_event("odd-2") | {"url": "http://[::1"}, "invalid"),
        (page_event("odd-3") | {"url": "http://[::1]@["}, "invalid"),
        (page_event("odd-8") | {"url": "https://"}, "invalid"),
        (page_event("odd-4") | {"url": "https://shop.example.com:99999999/"}, "pending"),
        (page_event("odd-5", referrer="http://[x"), "pending"),
        (page_event("odd-6", data={"x": int("9" * 40), "\u0000": "\u0000"}), "pending"),
        (page_event("odd-7", data={"x": {"y": [[[]]]}, "currency": None, "value": ""}), "pending"),
    ],
)
def test_odd_values_are_judged_not_a_failure(
    gateway: Witness, event: Mapping[str, object], outcome: str
) -> None:
    answer = gateway.post(json.dumps({"events": [event]}))
    assert answer.headers.get("server-timing") == f"outcome;desc={outcome}", answer.status_code


NOT_JSON = {
    "nan": b'{"value": NaN, "currency": "EUR"}',
    "infinity": b'{"value": -Infinity, "currency": "EUR"}',
    "beyond-floats": b'{"value": 1e999, "currency": "EUR"}',
    "half-a-character": b'{"a": "\\ud800"}',
    "half-a-character-raw": b'{"a": "\xed\xa0\x80"}',
    "overlong-utf-8": b'{"a": "\xc0\xaf"}',
    "control-character": b'{"a": "\x00"}',
    "comment": b'{"a": 1 /* b */}',
    "comma-too-many": b'{"a": 1,}',
    "single-quotes": b"{'a': 1}",
    "hexadecimal": b'{"a": 0x10}',
    "leading-zero": b'{"a": 01}',
    "too-deep": b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}",
    "far-too-deep": b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "two-documents": b'{"a": 1}} {"b": {"c": 2}',
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_strict_json_is_400_at_every_door(gateway: Witness, name: str) -> None:
    data = NOT_JSON[name]
    page = b'{"events": [{"name": "Lead", "id": "json", "url": "https://shop.example.com/", "data": %b}]}'
    event = b'{"event_name": "Lead", "event_id": "json", "user_data": {"external_id": "1"}, "custom_data": %b}'
    assert gateway.post(page % data).status_code == 400
    assert gateway.to_backend(event % data).status_code == 400
    graph = f"{gateway.url}/v26.0/1234567890123456/events?access_token={gateway.api_key}"
    body = b'{"data": [%b]}' % (event % data)
    kind = {"Content-Type": "application/json"}
    assert call("POST", graph, content=body, headers=kind).status_code == 400
    assert not gateway.events("--event-id", "json")


def test_of_two_members_with_one_name_the_last_is_taken_and_meta_gets_one(
    gateway: Witness, stand_in: StandIn
) -> None:
    body = '{"event_name": "Lead", "event_id": "first", "event_id": "last-one", "user_data": {"external_id": "1"}, "action_source": "system_generated"}'
    assert gateway.to_backend(body).status_code == 202
    stand_in.one("last-one")
    assert stand_in.of("first") == []


_DEEP = '{"events":[{"name":"Lead","id":"deep","url":"https://a.example.com/","data":{"x":%s}}]}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_DEEP % ("[" * 700 + "]" * 700), id="deep-arrays"),
        pytest.param(_DEEP % ('{"a":' * 400 + "1" + "}" * 400), id="deep-objects"),
        pytest.param(
            json.dumps({"sent": 1e308, "events": [page_event("clock-1", time=-1e308)]}),
            id="clock-overflow",
        ),
        pytest.param(
            json.dumps({"sent": int("9" * 400), "events": [page_event("clock-2", time=1.5)]}),
            id="clock-of-400-digits",
        ),
        pytest.param(
            json.dumps({"events": [page_event("superscript", data={"num_items": "²"})]}),
            id="superscript-number",
        ),
    ],
)
def test_no_page_body_makes_the_gateway_fail(gateway: Witness, body: str) -> None:
    assert gateway.post(body).status_code in (204, 400)


# --- backends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer gwk_wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic Og=="},
        {"X-Api-Key": "x"},
    ],
)
def test_a_wrong_or_missing_key_is_401(gateway: Witness, headers: Mapping[str, str]) -> None:
    answer = gateway.to_backend(backend_event("unauthorised"), headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not gateway.events("--event-id", "unauthorised")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        (f"{{{PLANTED}", 400),
        ([], 400),
        ({"events": PLANTED}, 400),
        ([PLANTED], 422),
        (5, 422),
        ({"event_name": PLANTED}, 422),
        ({"event_name": "Lead", "user_data": PLANTED}, 422),
        ({"event_name": "Lead", "consent": PLANTED}, 422),
        ({"event_name": "Lead", "event_time": PLANTED}, 422),
        ({"event_name": "Lead", "event_time": 1}, 422),
        ({"event_name": "Lead", "event_time": 99999999999999}, 422),
        ({"event_name": "Lead", "action_source": PLANTED}, 422),
        ({"event_name": "Lead"}, 422),
        (backend_event("other-pixel", pixel_id="999999"), 422),
        ([backend_event(f"x{n}") for n in range(1001)], 413),
        (json.dumps(backend_event("huge", custom_data={"x": "y" * 2_100_000})), 413),
    ],
)
def test_a_backend_is_told_what_is_wrong(gateway: Witness, body: object, status: int) -> None:
    answer = gateway.to_backend(body)
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["rejected"][0]["errors"][0]["error"]
    else:
        assert answer.json()["error"]


@pytest.mark.parametrize("path", ["/v1/events", "/v26.0/1234567890123456/events"])
def test_a_backend_may_compress_and_a_bomb_is_unfolded_no_further_than_a_body_may_be(
    gateway: Witness, path: str
) -> None:
    def post(body: bytes, encoding: str = "gzip", key: str | None = None) -> int:
        headers = {
            "Authorization": f"Bearer {key or gateway.api_key}",
            "Content-Encoding": encoding,
            "Content-Type": "application/json",
        }
        return call("POST", gateway.url + path, content=body, headers=headers).status_code

    events = [backend_event(f"gzip-{path[2]}-{n}") for n in range(1000)]
    name = "events" if path == "/v1/events" else "data"
    good = gzip.compress(json.dumps({name: events}).encode())
    taken, too_large, not_taken = (202, 413, 415) if name == "events" else (200, 400, 400)
    assert post(good) == taken
    memory = gateway.peak_memory()
    bomb = gzip.compress(b" " * 200_000_000)
    assert len(bomb) < 300_000
    assert post(bomb) == too_large
    assert gateway.peak_memory() - memory < 50_000_000
    assert post(good[:-10]) == 400
    assert post(good + b"x") == 400
    assert post(good + good) == 400
    assert post(b"no gzip") == 400
    assert post(good, "br") == not_taken
    assert post(good, "gzip, gzip") == not_taken
    assert post(bomb, key="wrong") == (401 if name == "events" else 400)


def test_unknown_fields_are_named_and_left_out(gateway: Witness, stand_in: StandIn) -> None:
    event = backend_event("unknown-1", colour="red") | {
        "user_data": {"external_id": "1", "shoe_size": PLANTED, PLANTED: 1}
    }
    answer = gateway.to_backend(event)
    assert answer.status_code == 202
    assert answer.json()["warnings"][0]["warnings"] == [
        "colour: unknown field, kept out",
        "user_data.shoe_size: unknown field, kept out",
        "user_data.(unnamed): unknown field, kept out",
    ]
    assert set(stand_in.one("unknown-1").user_data) == {"external_id"}


@pytest.mark.parametrize(
    "time", [1e308, "9" * 5000, "²"], ids=["float", "5000-digits", "superscript"]
)
def test_no_backend_time_makes_the_gateway_fail(gateway: Witness, time: object) -> None:
    assert gateway.to_backend(backend_event("time", event_time=time)).status_code == 422


SHOP: dict[str, object] = {"value": 1, "currency": "EUR"}
REFUSED_BY_GRAPH: dict[str, tuple[dict[str, object], str]] = {
    "contents-text": ({"custom_data": SHOP | {"contents": "abc"}}, "custom_data.contents"),
    "contents-of-text": ({"custom_data": SHOP | {"contents": ["a"]}}, "custom_data.contents"),
    "contents-without-id": (
        {"custom_data": SHOP | {"contents": [{"quantity": 1}]}},
        "custom_data.contents",
    ),
    "contents-quantity": (
        {"custom_data": SHOP | {"contents": [{"id": "a", "quantity": "x"}]}},
        "custom_data.contents",
    ),
    "content-ids": ({"custom_data": SHOP | {"content_ids": {"a": 1}}}, "custom_data.content_ids"),
    "num-items-text": ({"custom_data": SHOP | {"num_items": "three"}}, "custom_data.num_items"),
    "num-items-half": ({"custom_data": SHOP | {"num_items": 1.5}}, "custom_data.num_items"),
    "content-type": ({"custom_data": SHOP | {"content_type": {}}}, "custom_data.content_type"),
    "content-name": ({"custom_data": SHOP | {"content_name": [1]}}, "custom_data.content_name"),
    "order-id": ({"custom_data": SHOP | {"order_id": 1.5}}, "custom_data.order_id"),
    "search-string": ({"custom_data": SHOP | {"search_string": 5}}, "custom_data.search_string"),
    "delivery-category": (
        {"custom_data": SHOP | {"delivery_category": "drone"}},
        "custom_data.delivery_category",
    ),
    "segmentation": ({"customer_segmentation": "vip"}, "customer_segmentation"),
    "processing-word": ({"data_processing_options": ["CCPA"]}, "data_processing_options"),
    "processing-ldu": ({"data_processing_options": ["LDU"]}, "data_processing_options"),
    "app-without-data": ({"action_source": "app"}, "app_data"),
    "messaging-without-channel": ({"action_source": "business_messaging"}, "messaging_channel"),
    "lead-id": ({"user_data": {"external_id": "1", "lead_id": "abc"}}, "user_data.lead_id"),
    "url-without-host": (
        {
            "action_source": "website",
            "event_source_url": "https://",
            "user_data": {"external_id": "1", "user_agent": "x"},
        },
        "event_source_url",
    ),
}


@pytest.mark.parametrize("name", REFUSED_BY_GRAPH)
def test_what_graph_refuses_a_whole_request_for_is_refused_or_put_right_here(
    gateway: Witness, name: str
) -> None:
    # A page may send custom_data too: without this, anybody could spoil everybody's requests.
    more, field = REFUSED_BY_GRAPH[name]
    event_id = f"graph-{name}"
    told = gateway.to_backend(backend_event(event_id, "Purchase", custom_data=SHOP) | more)
    if told.status_code == 422:
        assert told.json()["rejected"][0]["errors"][0]["field"].startswith(field)
        return
    assert told.status_code == 202
    ended = wait_until(
        lambda: [e for e in gateway.events("--event-id", event_id) if e.outcome != "pending"]
    )
    assert [(e.outcome, e.reason) for e in ended] == [("delivered", "")]


# --- headers and URLs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        (b"Cookie: _fbp=\xff\xfe\xb2; \xe9=\xe9; _fbc=fb.1.x.\xff",),
        (b"Cookie: " + b"; ".join(b"c%d=v" % n for n in range(100)),),
        (b"Cookie: x==;=;;;===; _fbp; _fbc===",),
        (b"Cookie: _fbp=fb.1.1764000000000.1%0d%0aSet-Cookie:%20evil=1",),
        (b"Cookie: _fbc=fb.1.1764000000000.a%0d%0aEvil:%201; _fbp=fb.1.0.0",),
        (b"User-Agent: \xff\xfe",),
        (b"User-Agent: " + b"x" * 15_000,),
        (b"Origin: http://[x", b"Referer: http://[x"),
        (b"Origin: http://\xe9.example.com", b"Referer: \xff"),
        (b"X-Forwarded-For: \xff, , ,,", b"X-Forwarded-Proto: \xff"),
        (b"Sec-GPC: \xff", b"Sec-Purpose: \xff"),
        (b"Authorization: Basic \xff",),
    ],
)
def test_rubbish_in_headers_is_survived_and_comes_back_in_none(
    gateway: Witness, lines: tuple[bytes, ...]
) -> None:
    answer = gateway.raw_hit(*lines)
    assert answer.startswith(b"HTTP/1.1 204")
    head = answer.lower()
    assert b"\r\nevil:" not in head
    assert b"set-cookie: evil" not in head
    assert b"set-cookie:%20" not in head


def test_an_fbp_in_other_people_s_digits_is_not_taken(gateway: Witness) -> None:
    answer = gateway.raw_hit(b"Cookie: _fbp=fb.1.1764000000000.%D9%A1%D9%A2")
    assert answer.startswith(b"HTTP/1.1 204")


@pytest.mark.parametrize(
    "host",
    [b"", b"[::1", b"....", b"a..b.com", b"\xe9\xff.com", b"a" * 300 + b".com", b"x;y.com",
     b"x%0d%0aSet-Cookie:a=b", b"1.2.3.4:99999999", b"com", b"xn--\xff.com", b"@", b"/"],
)  # fmt: skip
def test_an_absurd_host_is_survived(gateway: Witness, host: bytes) -> None:
    assert gateway.raw_hit(host=host).startswith(b"HTTP/1.1 204")


@pytest.mark.parametrize(
    "line", [b"A: b\rSet-Cookie: evil=1", b"A\x00: b", b"A b: c", b"Content-Length: 5", b": x"]
)
def test_headers_that_are_not_http_are_refused(gateway: Witness, line: bytes) -> None:
    answer = gateway.raw_hit(line)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"evil" not in answer


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Host: other.example.com", 400),
        (b"Cookie: " + b"x" * 20_000, 431),
        (b"A: b\r\n" * 64 + b"A: b", 431),
    ],
    ids=["two-hosts", "bytes", "fields"],
)
def test_heads_beyond_the_guard_s_limits_are_refused_on_both_faces(
    gateway: Witness, line: bytes, status: int
) -> None:
    assert gateway.raw_hit(line).startswith(b"HTTP/1.1 %d " % status)
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % line
    assert gateway.raw(request, gateway.admin_url).startswith(b"HTTP/1.1 %d " % status)


def test_who_hangs_up_within_a_body_leaves_no_trace(gateway: Witness) -> None:
    head = f"POST /{gateway.slug}/h HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    before = gateway.log
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=10) as wire:
            wire.sendall(head.encode() + b"{")
    assert gateway.post(json.dumps({"events": [page_event("hung-up")]})).status_code == 204
    assert gateway.log == before


def test_a_page_s_click_id_cannot_break_out_of_the_cookie(gateway: Witness) -> None:
    for bad in ("a%0d%0aSet-Cookie:%20evil=1", "a;Domain=evil.test", "a%20b", "%00", "é"):
        event = page_event("click") | {"url": f"{PAGE}?fbclid={bad}&utm_source={bad}"}
        lines = gateway.post(json.dumps({"events": [event]})).headers.get_list("set-cookie")
        assert not [line for line in lines if line.startswith("_fbc=") or "evil" in line]


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/events/", "/v1/users", "/metrics", "/livez", "/api/overview", "/..%2f..%2fetc/passwd",
     "/%00", "/%ff", "//evil.test/", "/h", "/favicon.ico", "/robots.txt"],
)  # fmt: skip
def test_every_other_url_of_the_public_face_is_404_and_empty(gateway: Witness, path: str) -> None:
    for method in ("GET", "POST"):
        request = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        head, _, body = gateway.raw(request.encode()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404")
        assert body == b""


def test_other_methods_do_not_exist_either(gateway: Witness) -> None:
    for method, url in (
        ("POST", gateway.script_url),
        ("GET", f"{gateway.script_url}/h"),
        ("PUT", f"{gateway.script_url}/h"),
        ("GET", f"{gateway.script_url}/"),
        ("GET", f"{gateway.url}/v1/events"),
        ("DELETE", f"{gateway.url}/v1/events"),
    ):
        answer = call(method, url)
        assert (answer.status_code, answer.content) == (404, b""), (method, url)


def test_a_head_of_the_script_has_no_body(gateway: Witness) -> None:
    answer = call("HEAD", gateway.script_url)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "credentials",
    [b"Basic \xff\xfe", b"Basic ===", b"Basic", b"Bearer \xff", b"Basic " + b"A" * 5000],
)
def test_rubbish_instead_of_the_dashboard_s_password_is_401(
    gateway: Witness, credentials: bytes
) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %b\r\n\r\n"
    assert gateway.raw(request % credentials, gateway.admin_url).startswith(b"HTTP/1.1 401")


def test_after_all_of_it_a_good_hit_works_and_nothing_given_was_repeated(
    gateway: Witness, stand_in: StandIn
) -> None:
    assert gateway.post(json.dumps({"events": [page_event("at-last")]})).status_code == 204
    stand_in.one("at-last")
    gateway.ledger()
    text = b"".join(gateway.answers).decode("utf-8", "replace") + gateway.log
    text += gateway.admin("/metrics").text + gateway.told("events", "--json")
    for planted in (PLANTED, PLANTED.upper(), PASSWORD, TOKEN, gateway.api_key):
        assert planted not in text


# --- what stops the start ------------------------------------------------------------------------


def refused(folder: Path, env: Mapping[str, str], *options: str) -> str:
    """The one sentence a gateway that does not start says."""
    gateway = Gateway(folder, env)
    done = gateway.cli("serve", "--port", "0", "--admin-port", "0", *options)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("gateway: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("content", [b"", b"not a database", b"\xab\xcd\xefMaxMind.com" * 3])
def test_a_geoip_file_that_is_none_stops_the_start(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.mmdb"
    file.write_bytes(content)
    said = refused(tmp_path, {"GATEWAY_GEOIP_DATABASE": str(file)})
    assert "geoip_database" in said
    assert str(file) in said


def test_a_geoip_file_that_cannot_be_read_stops_the_start(tmp_path: Path, city_file: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.mmdb"):
        assert "geoip_database" in refused(tmp_path, {"GATEWAY_GEOIP_DATABASE": str(path)})
    cut = tmp_path / "cut.mmdb"
    cut.write_bytes(city_file.read_bytes()[: city_file.stat().st_size // 2])
    assert "geoip_database" in refused(tmp_path, {"GATEWAY_GEOIP_DATABASE": str(cut)})


def test_a_data_directory_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("here")
    for store in (file / "gateway.db", file / "deeper" / "gateway.db"):
        assert str(file) in refused(tmp_path, {"GATEWAY_STORE": f"sqlite:///{store}"})
    folder = tmp_path / "folder" / "gateway.db"
    folder.mkdir(parents=True)
    assert str(folder) in refused(tmp_path, {"GATEWAY_STORE": f"sqlite:///{folder}"})


def test_a_file_that_is_no_store_stops_the_start_and_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "letters.db"
    file.write_text("dear diary " * 1000)
    assert str(file) in refused(tmp_path, {"GATEWAY_STORE": f"sqlite:///{file}"})
    assert file.read_text() == "dear diary " * 1000


def test_a_taken_port_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f":{port}" in refused(tmp_path, {}, "--port", port)
        assert f":{port}" in refused(tmp_path, {}, "--admin-port", port)


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"GATEWAY_SITE_HOST": "a.example"}, "did you mean GATEWAY_SITE_HOSTS"),
        ({"GATEWAY_PORT": "http"}, "GATEWAY_PORT"),
        ({"FB_PIXEL_ID": "pixel"}, "FB_PIXEL_ID"),
        ({"FB_ACCESS_TOKEN": TOKEN}, "FB_PIXEL_ID"),
        ({"GATEWAY_TRUSTED_PROXIES": "10.0.0.1/8"}, "GATEWAY_TRUSTED_PROXIES"),
        ({"GATEWAY_CONSENT": "maybe"}, "GATEWAY_CONSENT"),
        ({"GATEWAY_SLUG": "x"}, "GATEWAY_SLUG"),
        ({"GATEWAY_CONFIG": "missing.toml"}, "missing.toml"),
        ({"GATEWAY_API_KEY_FILE": "missing"}, "GATEWAY_API_KEY_FILE"),
        ({"GATEWAY_STORE": "postgres://x"}, "GATEWAY_STORE"),
    ],
)
def test_an_impossible_setting_stops_the_start_and_is_named(
    tmp_path: Path, env: Mapping[str, str], named: str
) -> None:
    said = refused(tmp_path, env)
    assert named in said
    assert TOKEN not in said
    assert not (tmp_path / "data").exists()


def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {})
    for arguments in (["serve", "--nope"], ["nope"], ["dead", "retry"], ["dead", "show", "x"]):
        assert gateway.cli(*arguments).returncode == 2


def test_commands_without_a_store_or_server_say_so_and_exit_1(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, {})
    for arguments in (
        ["events"],
        ["ledger"],
        ["dead", "list"],
        ["dead", "discard", "1"],
        ["send", "Lead"],
    ):
        done = gateway.cli(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("gateway: ")
        assert done.stderr.count("\n") == 1


def test_a_second_gateway_on_the_same_store_waits_for_the_first_to_end(
    tmp_path: Path, stand_in: StandIn
) -> None:
    with Gateway(tmp_path, live(stand_in.url)) as first, Gateway(tmp_path / "b", {}) as second:
        first.start()
        first.hit(page_event("first-s"))
        store = f"sqlite:///{first.data / 'gateway.db'}"
        second.env |= live(stand_in.url, GATEWAY_STORE=store)
        second.launch()
        until_it_waits_for(second, first.data / "gateway.db.lock")
        assert second.said == ""
        assert first.hit(page_event("first-s")).headers["server-timing"].endswith("duplicate")
        assert first.terminate() == 0
        second.greeting("is listening on")
        assert stand_in.one("first-s")


def until_it_waits_for(gateway: Gateway, lock: Path) -> None:
    """Until a process has a file open, which it does not own."""

    def has_it_open() -> bool:
        return str(lock.resolve()) in map(opened, Path(f"/proc/{gateway.pid}/fd").iterdir())

    def opened(descriptor: Path) -> str:
        try:
            return str(descriptor.readlink())
        except FileNotFoundError:  # closed meanwhile
            return ""

    wait_until(has_it_open)
