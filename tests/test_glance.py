"""What a glance at the bytes may say of a request: never anything else than the parser would."""

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.web.glance import Request, whole_request

HOST = b"Host: shop.example.com\r\n"
LENGTH = b"Content-Length: 3\r\n"
HIT = b"POST /k3vq8w2/h HTTP/1.1\r\n" + HOST + LENGTH + b"\r\nabc"


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (HIT, Request(b"/k3vq8w2/h", b"abc", last=False)),
        (b"GET /k3vq8w2 HTTP/1.1\r\n" + HOST + b"\r\n", Request(b"/k3vq8w2", b"", last=False)),
        (
            HIT.replace(HOST, HOST + b"CONNECTION: Close\r\n"),
            Request(b"/k3vq8w2/h", b"abc", last=True),
        ),
        (HIT.replace(b": 3", b":3 "), Request(b"/k3vq8w2/h", b"abc", last=False)),
    ],
    ids=["hit", "script", "last", "spaces"],
)
def test_a_whole_request_is_seen(data: bytes, request_: Request) -> None:
    assert whole_request(data) == request_


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HIT[:-1],
        HIT + b"G",
        HIT + HIT,
        HIT[: HIT.index(b"\r\n\r\n") + 2],
        HIT.replace(LENGTH, b""),
        HIT.replace(LENGTH, LENGTH + LENGTH),
        HIT.replace(LENGTH, LENGTH + b"content-length : 9\r\n"),
        HIT.replace(b": 3", b": 3, 3"),
        HIT.replace(b": 3", b": +3"),
        HIT.replace(b": 3", b":\r\n 3"),
        HIT.replace(HOST, HOST + b"Transfer-Encoding: chunked\r\n"),
        HIT.replace(HOST, HOST + b"Expect: 100-continue\r\n"),
        HIT.replace(HOST, HOST + b"Upgrade: h2c\r\n"),
        HIT.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HIT.replace(b"POST", b"PUT"),
        HIT.replace(b"/k3vq8w2", b"http://x/k3vq8w2"),
    ],
)
def test_what_takes_a_parser_is_left_to_it(data: bytes) -> None:
    assert whole_request(data) is None


class Parsed:
    """What the parser makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.begun = self.ended = 0
        self.url = self.body = b""
        self.last = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_headers_complete(self) -> None:
        self.last = not self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


HEADERS = st.lists(
    st.sampled_from(
        [
            HOST,
            LENGTH,
            b"content-LENGTH:0\r\n",
            b"Content-Length: 03\r\n",
            b"Content-Length: 3 \r\n",
            b"Content-Length:\r\n",
            b"X-Content-Length: 9\r\n",
            b"Cookie: _fbp=fb.1.1.1\r\n",
            b"Connection: close\r\n",
            b"Connection: keep-alive\r\n",
            b"Connection: keep-alive, close\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b" folded: 3\r\n",
            b"X: a\nContent-Length: 1\r\n",
            b"X: a\rContent-Length: 1\r\n",
        ]
    ),
    max_size=5,
)


@settings(max_examples=1000)
@given(HEADERS, st.sampled_from([b"", b"abc", b"0\r\n\r\n", b"abcd", b"\r\nabc"]))
def test_what_a_glance_tells_is_what_the_parser_tells(headers: list[bytes], body: bytes) -> None:
    data = b"".join([b"POST /k3 HTTP/1.1\r\n", *headers, b"\r\n", body])
    seen = whole_request(data)
    try:
        parsed = Parsed(data)
    except httptools.HttpParserError:
        return  # which is refused either way, and the connection with it or not
    if seen is not None:
        assert (parsed.begun, parsed.ended) == (1, 1)
        assert (parsed.url, parsed.body) == (seen.path, seen.body)
        assert parsed.last == seen.last
