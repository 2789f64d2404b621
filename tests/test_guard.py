"""What a connection is allowed, byte by byte, on real sockets and a clock that jumps over the waiting."""

import asyncio
import contextlib
import itertools
import random
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import uvicorn
from e2e.harness import JumpingLoop
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope
from uvicorn.server import ServerState

from gateway.admission import Callers
from gateway.overload import Load, looks_vital
from gateway.web.door import Door, Limits
from gateway.web.guard import protocol

pytestmark = pytest.mark.anyio

LIMITS = Limits()
HOST = b"Host: shop.example.com\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, type[asyncio.AbstractEventLoop]]]:
    return "asyncio", {"loop_factory": JumpingLoop}


@dataclass(kw_only=True)
class Listener:
    """A guarded socket, and what the application behind it was given."""

    port: int
    door: Door
    whose: list[str | None]
    """whom the connections to come stand for, the first one first; else a front server"""
    seen: list[bytes] = field(default_factory=list)
    """method, path, headers and body of every complete request, in one text"""
    cut: int = 0
    """requests whose body ended early"""
    wires: list["Wire"] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """cleared, the application works on and on"""

    resting: int = 0
    """requests that wait for the disk"""
    state: ServerState

    def __post_init__(self) -> None:
        self.held.set()

    def stop(self) -> None:
        """What uvicorn does to every connection when the process is told to stop."""
        for connection in list(self.state.connections):
            connection.shutdown()

    async def wire(self, caller: str | None = None) -> "Wire":
        """A new connection."""
        self.whose.append(caller)
        before = len(self.whose)
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self.wires.append(wire)
        while len(self.whose) == before:
            await asyncio.sleep(0)
        return wire

    async def ask(self, *pieces: bytes) -> bytes:
        """Everything that comes back on a connection of its own, until it ends."""
        wire = await self.wire()
        await wire.say(*pieces)
        return await wire.rest()


class Wire:
    """One client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *pieces: bytes, every_s: float = 0) -> None:
        """Send piece by piece, as long as somebody listens."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
                await asyncio.sleep(every_s)

    async def rest(self) -> bytes:
        """Everything until the end of the connection; a reset ends it too."""
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                answer += piece
        self.writer.close()
        return answer

    async def answer(self) -> bytes:
        """One answer, which has to have a Content-Length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length, head
        return head + await self.reader.readexactly(int(length[1]))


@contextlib.asynccontextmanager
async def listening(limits: Limits = LIMITS, *, reads: bool = True) -> AsyncIterator[Listener]:
    """A listener whose application answers every request with its body, or 413 without reading it."""
    whose: list[str | None] = []

    class Named(Callers):
        """Everybody comes from 127.0.0.1 here, so who it is meant to be is said beforehand."""

        def __init__(self) -> None:
            super().__init__()
            self.of = lambda _address: whose.pop(0)  # type: ignore[assignment]

    door = Door(
        limits,
        Named(),
        vital=lambda path, body: path.startswith(b"/k3") and body == b"buy",
        resting=lambda: listener.resting,
    )
    guarded = protocol(door)

    async def application(
        scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        assert scope["type"] == "http"
        body, more = b"", reads
        while more:
            message = await receive()
            if message["type"] != "http.request":
                listener.cut += 1
                return
            body, more = body + message["body"], message["more_body"]
        await listener.held.wait()
        told = [scope["method"].encode(), scope["raw_path"]]
        listener.seen.append(b" ".join([*told, *(b": ".join(h) for h in scope["headers"]), body]))
        length = (b"content-length", str(len(body)).encode())
        status = 200 if reads else 413
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    config = uvicorn.Config(
        application, ws="none", lifespan="off", log_config=None, proxy_headers=False
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: guarded(config, state, {}), "127.0.0.1", 0)
    listener = Listener(
        port=server.sockets[0].getsockname()[1], door=door, whose=whose, state=state
    )
    async with server:
        yield listener
        for wire in listener.wires:
            wire.writer.transport.abort()
        while state.connections:
            await asyncio.sleep(0.01)


async def within(seconds: float, wire: Wire) -> tuple[bytes, float]:
    """What came until the connection's end, and how long that took by the loop's clock."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(seconds):
        return await wire.rest(), loop.time() - begun


def trickle(text: bytes) -> list[bytes]:
    return [text[n : n + 1] for n in range(len(text))]


# --- deadlines -----------------------------------------------------------------------------------


async def test_headers_that_trickle_are_408_after_5_seconds() -> None:
    async with listening() as listener:
        wire = await listener.wire()
        slow = asyncio.create_task(wire.say(*trickle(GET + GET), every_s=1))
        answer, took = await within(60, wire)
        await slow
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 4.9 < took < 9
    assert listener.seen == []


async def test_a_body_that_trickles_is_408_after_10_seconds_and_the_application_is_told() -> None:
    async with listening() as listener:
        wire = await listener.wire()
        head = b"POST /h HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n"
        slow = asyncio.create_task(wire.say(head, *trickle(b"x" * 90), every_s=1))
        answer, took = await within(60, wire)
        await slow
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"retry-after" in answer.lower()
    assert 9.9 < took < 14
    assert listener.cut == 1


async def test_a_request_in_pieces_within_the_deadlines_is_answered() -> None:
    async with listening() as listener:
        wire = await listener.wire()
        request = b"POST /h HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
        await wire.say(request[:10], request[10:-2], request[-2:-1], request[-1:], every_s=4)
        assert (await wire.answer()).endswith(b"\r\n\r\nabc")


async def test_a_connection_that_says_nothing_is_closed_without_an_answer() -> None:
    async with listening() as listener:
        answer, took = await within(60, await listener.wire())
    assert answer == b""
    assert 4.9 < took < 9


@pytest.mark.parametrize(
    ("caller", "seconds"), [("203.0.113.7", 15), (None, 5)], ids=["visitor", "front"]
)
async def test_between_requests_a_front_server_has_uvicorn_s_time_and_a_visitor_15_seconds(
    caller: str | None, seconds: int
) -> None:
    # 5 is what uvicorn does by itself; the server sets 75.
    async with listening() as listener:
        wire = await listener.wire(caller)
        await wire.say(GET, GET)
        await wire.answer()
        await wire.answer()
        answer, took = await within(120, wire)
    assert answer == b""
    assert seconds - 0.1 < took < seconds + 4


async def test_the_second_request_of_a_connection_has_a_deadline_too() -> None:
    async with listening() as listener:
        wire = await listener.wire("203.0.113.7")
        await wire.say(GET)
        await wire.answer()
        await wire.say(b"POST /h HTTP/1.1\r\n")
        answer, took = await within(60, wire)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 4.9 < took < 9


async def test_a_client_that_does_not_read_its_answer_is_cut_off() -> None:
    async with listening() as listener:
        wire = await listener.wire()
        wire.writer.transport.set_write_buffer_limits(high=2**24)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        size = 12 * 2**20  # more than the kernel keeps for a socket
        head = b"POST /h HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size
        await wire.say(head, b"x" * size)
        while listener.door.open:
            await asyncio.sleep(1)
        assert len(listener.seen) == 1
        wire.writer.transport.abort()


async def test_told_to_stop_it_answers_what_is_there_and_gives_the_rest_three_seconds() -> None:
    head = b"POST /h HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\n"
    async with listening() as listener:
        whole, quick, slow, begun, silent, idle = [await listener.wire() for _ in range(6)]
        await idle.say(GET)
        await idle.answer()
        listener.held.clear()
        await whole.say(head + b"abc" + b"POST")  # the next one has begun, too
        await begun.say(head[:10])
        for wire in (quick, slow):
            await wire.say(head + b"ab")
        while len(listener.state.tasks) < 3 or listener.door.load() == 0:
            await asyncio.sleep(0)
        listener.stop()
        assert await idle.rest() == await silent.rest() == b""
        assert (await begun.rest()).startswith(b"HTTP/1.1 503 ")
        await quick.say(b"c")
        listener.held.set()
        for wire in (whole, quick):
            answer = await wire.rest()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer
        answer, took = await within(60, slow)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert took < 9


# --- sizes ---------------------------------------------------------------------------------------


async def test_a_header_without_end_is_431_and_is_not_kept() -> None:
    async with listening() as listener:
        wire = await listener.wire()
        begin = b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: "
        sent = 0

        async def pour() -> None:
            nonlocal sent
            with contextlib.suppress(ConnectionError):
                wire.writer.write(begin)
                for _ in range(1600):  # 100 MB
                    wire.writer.write(b"x" * 65536)
                    await wire.writer.drain()
                    sent += 65536

        pouring = asyncio.create_task(pour())
        answer = await wire.answer()
        await pouring
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert sent < 20 * 2**20


SIZES = {
    "16-kib-of-headers": (b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"x" * 16_300 + b"\r\n\r\n", 200),
    "more-headers": (b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"x" * 16_400 + b"\r\n\r\n", 431),
    "64-fields": (b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 63 + b"\r\n", 200),
    "65-fields": (b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 64 + b"\r\n", 431),
    "8-kib-of-url": (b"GET /" + b"a" * 8191 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "longer-url": (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "url-without-end": (b"GET /" + b"a" * 20_000, 414),
    "headers-without-end": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000, 431),
}  # fmt: skip


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("name", SIZES)
async def test_sizes_of_a_head(name: str, in_pieces: bool) -> None:
    request, status = SIZES[name]
    request = request.replace(HOST, HOST + b"Connection: close\r\n") if status == 200 else request
    if name == "64-fields":
        request = request.replace(b"a: b\r\n", b"", 1)
    pieces = [request[n : n + 1000] for n in range(0, len(request), 1000)]
    async with listening() as listener:
        answer = await listener.ask(*(pieces if in_pieces else [request]))
    assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_a_large_body_does_not_count_as_headers() -> None:
    body = b"x" * 200_000
    head = b"POST /h HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 200000\r\n\r\n"
    async with listening() as listener:
        assert (await listener.ask(head + body)).endswith(body)


async def test_many_requests_in_one_piece_are_each_measured_alone() -> None:
    one = b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: " + b"x" * 10_000 + b"\r\n\r\n"
    last = one.replace(HOST, HOST + b"Connection: close\r\n")
    async with listening() as listener:
        answer = await listener.ask(one * 3 + last)
    assert answer.count(b"HTTP/1.1 200 ") == 4


CHUNKED = b"POST /h HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "endless",
    [b"1;" + b"x" * 100_000, b"0\r\nTrailer: " + b"x" * 100_000],
    ids=["chunk", "trailer"],
)
async def test_framing_without_end_is_431(endless: bytes) -> None:
    async with listening() as listener:
        pieces = [endless[n : n + 1000] for n in range(0, len(endless), 1000)]
        answer = await listener.ask(CHUNKED, *pieces)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert listener.cut == 1


async def test_chunks_without_end_are_cut_off_once_the_application_has_refused_them() -> None:
    async with listening(reads=False) as listener:
        wire = await listener.wire()
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        sent = 0

        async def pour() -> None:
            nonlocal sent
            with contextlib.suppress(ConnectionError):
                wire.writer.write(CHUNKED)
                while sent < 64 * 2**20:
                    wire.writer.write(chunk)
                    await wire.writer.drain()
                    sent += 65536

        pouring = asyncio.create_task(pour())
        answer = await wire.answer()
        await pouring
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 20 * 2**20


async def test_after_a_refused_body_the_connection_goes_on_and_ends_by_itself() -> None:
    async with listening(reads=False) as listener:
        wire = await listener.wire("203.0.113.7")
        request = b"POST /h HTTP/1.1\r\n" + HOST + b"Content-Length: 20\r\n\r\n" + b"x" * 10
        await wire.say(request)
        assert (await wire.answer()).startswith(b"HTTP/1.1 413 ")
        await wire.say(b"x" * 10)
        answer, took = await within(60, wire)
    assert answer == b""
    assert 14.9 < took < 25


async def test_what_follows_a_body_does_not_become_a_header() -> None:
    trailer = b"0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    async with listening() as listener:
        await listener.ask(
            CHUNKED.replace(HOST, HOST + b"Connection: close\r\n") + b"1\r\nx\r\n" + trailer
        )
    [seen] = listener.seen
    assert seen.endswith(b" x")
    assert b"6.6.6.6" not in seen


# --- one parser, one meaning ---------------------------------------------------------------------

SMUGGLING = {
    "length-and-chunked": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-and-length": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two-lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    "two-equal-lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "length-with-sign": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +4\r\n\r\nabcd",
    "length-list": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4, 4\r\n\r\nabcd",
    "folded-line": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n",
    "bare-line-feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "space-before-colon": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 4\r\n\r\nabcd",
    "chunked-in-disguise": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked-not-last": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunk-size-of-rubbish": CHUNKED + b"0x4\r\nabcd\r\n0\r\n\r\n",
    "nul-in-a-value": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n",
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "two-hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "another-version": b"GET / HTTP/3.7\r\n" + HOST + b"\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLING)
async def test_what_two_parsers_could_read_differently_is_400_and_the_end(name: str) -> None:
    async with listening() as listener:
        answer = await listener.ask(SMUGGLING[name] + GET)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert all(b"GET" not in seen for seen in listener.seen)


STREAM = (
    GET
    + b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
    + CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    + b"GET /" + b"u" * 3000 + b" HTTP/1.1\r\n" + HOST + b"Cookie: " + b"c" * 9000 + b"\r\n\r\n"
    + b"POST /last HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 3\r\n\r\nend"
)  # fmt: skip


async def test_however_a_stream_is_cut_it_means_the_same() -> None:
    draw = random.Random(20261124)
    async with listening() as listener:
        whole = await listener.ask(STREAM)
        assert whole.count(b"HTTP/1.1 200 ") == 5
        told = listener.seen.copy()
        for _ in range(150):
            cuts = sorted(draw.sample(range(len(STREAM)), draw.choice((1, 2, 5, 40))))
            pieces = [STREAM[a:b] for a, b in itertools.pairwise([0, *cuts, len(STREAM)])]
            listener.seen.clear()
            assert await listener.ask(*pieces) == whole, cuts
            assert listener.seen == told
        assert listener.door.load() == 0
        assert not listener.door.idle


async def test_no_bytes_whatever_end_in_more_than_a_refusal() -> None:
    draw = random.Random(20261125)
    async with listening() as listener:
        for _ in range(300):
            broken = bytearray(STREAM[: draw.randrange(1, len(STREAM))])
            for _ in range(draw.choice((1, 1, 3, 30))):
                broken[draw.randrange(len(broken))] = draw.randrange(256)
            answer = await listener.ask(bytes(broken))
            statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
            assert set(statuses) <= {b"200", b"400", b"408", b"414", b"431"}, broken
            assert all(status == b"200" for status in statuses[:-1])
        while listener.door.open:
            await asyncio.sleep(0.1)
        assert listener.door.load() == 0
        assert not listener.door.idle


async def test_http_1_0_needs_no_host() -> None:
    async with listening() as listener:
        assert (await listener.ask(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_an_upgrade_is_answered_as_if_it_had_not_been_asked_for_and_is_the_last() -> None:
    ask = b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with listening() as listener:
        answer = await listener.ask(b"GET / HTTP/1.1\r\n" + HOST + ask + GET)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_rubbish_after_a_request_is_not_answered_in_its_place() -> None:
    async with listening() as listener:
        answer = await listener.ask(GET + b"\x00\x00\r\n\r\n")
    assert not answer.startswith(b"HTTP/1.1 400 ")


# --- numbers -------------------------------------------------------------------------------------


async def test_connections_over_the_number_are_503_and_others_work_on() -> None:
    async with listening(replace(LIMITS, connections=3)) as listener:
        wires = [await listener.wire() for _ in range(3)]
        for wire in wires:
            await wire.say(b"POST ")
        answer = await (await listener.wire()).rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert re.search(rb"\r\nRetry-After: ([5-9]|10)\r\n", answer)
        await wires[0].say(b"/h HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx")
        assert (await wires[0].answer()).startswith(b"HTTP/1.1 200 ")


async def test_the_connection_that_is_idle_for_longest_gives_way_to_a_new_one() -> None:
    async with listening(replace(LIMITS, connections=2)) as listener:
        first, second = await listener.wire(), await listener.wire()
        for wire in (first, second, first):
            await wire.say(GET)
            await wire.answer()
        third = await listener.wire()
        await third.say(GET)
        assert (await third.answer()).startswith(b"HTTP/1.1 200 ")
        assert await second.rest() == b""
        await first.say(GET)
        assert (await first.answer()).startswith(b"HTTP/1.1 200 ")


async def test_one_caller_may_leave_so_many_requests_unfinished_and_no_other_suffers() -> None:
    async with listening(replace(LIMITS, unfinished=2)) as listener:
        slow = [await listener.wire("203.0.113.7") for _ in range(2)]
        assert (await (await listener.wire("203.0.113.7")).rest()).startswith(b"HTTP/1.1 503 ")
        for caller in ("203.0.113.8", None):
            other = await listener.wire(caller)
            await other.say(GET)
            assert (await other.answer()).startswith(b"HTTP/1.1 200 ")
        await slow[0].say(GET)
        await slow[0].answer()
        again = await listener.wire("203.0.113.7")
        await again.say(GET)
        assert (await again.answer()).startswith(b"HTTP/1.1 200 ")


PAGE = b"POST /k3vq8w2/h HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc"
VITAL = PAGE.replace(b"abc", b"buy")


async def test_what_matters_least_is_turned_away_first_and_the_connection_goes_on() -> None:
    async with listening(replace(LIMITS, working=1, working_vital=2)) as listener:
        trickling = await listener.wire()
        await trickling.say(PAGE[:-1])  # an unfinished request is no work yet
        first, second, third, fourth = [await listener.wire() for _ in range(4)]
        listener.held.clear()
        await first.say(PAGE)
        while listener.door.load() < 1:
            await asyncio.sleep(0)
        for _ in range(2):
            await second.say(PAGE[:-2], PAGE[-2:])
            answer = await second.answer()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert re.search(rb"\r\nRetry-After: ([5-9]|10)\r\n", answer)
        await third.say(GET.replace(HOST, HOST + b"Connection: close\r\n"))
        assert b"Connection: close" in await third.rest()
        await second.say(VITAL[:-2], VITAL[-2:])
        while listener.door.load() < 2:
            await asyncio.sleep(0)
        await fourth.say(VITAL)
        assert (await fourth.answer()).startswith(b"HTTP/1.1 503 ")
        listener.held.set()
        assert (await first.answer()).endswith(b"\r\n\r\nabc")
        assert (await second.answer()).endswith(b"\r\n\r\nbuy")
        assert listener.door.load() == 0
        assert listener.door.turned_away == 4
        await fourth.say(PAGE)
        assert (await fourth.answer()).endswith(b"\r\n\r\nabc")
        assert len(listener.seen) == 3


async def test_what_is_turned_away_unread_leaves_the_connection_as_a_parsed_request_would() -> None:
    last = PAGE.replace(HOST, HOST + b"Connection: close\r\n")
    async with listening(replace(LIMITS, working=1, working_vital=1)) as listener:
        listener.held.clear()
        busy, silent, kept, closed = [await listener.wire("203.0.113.7") for _ in range(4)]
        await busy.say(PAGE)
        while listener.door.load() < 1:
            await asyncio.sleep(0)
        for wire in (kept, kept, silent):
            await wire.say(PAGE)
            assert (await wire.answer()).startswith(b"HTTP/1.1 503 ")
        await closed.say(last)
        assert b"Connection: close" in await closed.rest()
        assert len(listener.door.idle) == 2
        assert not listener.door.unfinished
        listener.held.set()
        await busy.answer()
        await kept.say(PAGE)
        assert (await kept.answer()).endswith(b"\r\n\r\nabc")
        answer, took = await within(60, silent)
    assert answer == b""
    assert 14.9 < took < 25


async def test_a_few_requests_begin_in_a_turn_and_all_in_the_order_they_came() -> None:
    begun: list[int] = []
    door = Door(replace(LIMITS, together=3), Callers())
    seen = []
    for number in range(10):
        door.begin(partial(begun.append, number))
    while len(begun) < 10:
        seen.append(len(begun))
        await asyncio.sleep(0)
    assert begun == list(range(10))
    assert seen == [3, 6, 9]


@pytest.mark.parametrize(
    ("stored", "page", "vital"),
    [(Load.CALM, True, True), (Load.HIGH, False, True), (Load.FULL, False, False)],
)
def test_who_is_let_in_depends_on_what_the_store_has_to_do(
    stored: Load, page: bool, vital: bool
) -> None:
    door = Door(LIMITS, Callers(), vital=looks_vital, stored=lambda: stored)
    assert door.lets_in(b"/k3vq8w2/h", b'{"name":"PageView"}') == page
    assert door.lets_in(b"/k3vq8w2/h", b'{"name":"Purchase"}') == vital
    assert door.is_busy() == (not page)


async def test_pipelined_requests_are_answered_in_turn_also_where_some_are_turned_away() -> None:
    async with listening(replace(LIMITS, working=1, working_vital=9)) as listener:
        listener.held.clear()
        busy, wire = await listener.wire(), await listener.wire("203.0.113.7")
        await busy.say(PAGE)
        while listener.door.load() < 1:
            await asyncio.sleep(0)
        await wire.say(PAGE + VITAL + PAGE + VITAL)
        assert (await wire.answer()).startswith(b"HTTP/1.1 503 ")
        while listener.door.load() < 2:
            await asyncio.sleep(0)
        listener.held.set()
        rest = [await wire.answer() for _ in range(3)]
        # When the third one's turn comes, the fourth waits too.
        assert [answer[9:12] for answer in rest] == [b"200", b"503", b"200"]
        assert listener.door.load() == 0
        answer, took = await within(60, wire)
    assert answer == b""
    assert 14.9 < took < 25


async def test_a_thousand_pipelined_requests_are_the_end_of_the_connection() -> None:
    async with listening() as listener:
        assert (await listener.ask(GET * 1000)).count(b"HTTP/1.1 200 ") <= 16
    async with listening() as listener:
        last = GET.replace(HOST, HOST + b"Connection: close\r\n")
        assert (await listener.ask(GET * 16 + last)).count(b"HTTP/1.1 200 ") == 17


async def test_a_large_body_is_not_kept_for_a_glance_at_it() -> None:
    async with listening(replace(LIMITS, working=1)) as listener:
        listener.held.clear()
        busy, large = await listener.wire(), await listener.wire()
        await busy.say(PAGE)
        while listener.door.load() < 1:
            await asyncio.sleep(0)
        size = 500_000
        head = b"POST /h HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size
        await large.say(head, b"x" * size)
        while listener.door.load() < 2:
            await asyncio.sleep(0)
        listener.held.set()
        assert len(await large.answer()) > size


async def test_what_waits_for_the_disk_is_no_work() -> None:
    async with listening(replace(LIMITS, working=1)) as listener:
        listener.held.clear()
        listener.resting = 1
        wires = [await listener.wire() for _ in range(2)]
        for wire in wires:
            await wire.say(PAGE)
        while listener.door.working < 2:
            await asyncio.sleep(0)
        listener.held.set()
        for wire in wires:
            assert (await wire.answer()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("end", [Wire.rest, None], ids=["by-deadline", "by-the-client"])
async def test_nothing_is_kept_of_connections_that_are_gone(
    end: Callable[[Wire], object] | None,
) -> None:
    async with listening() as listener:
        wires = [await listener.wire("203.0.113.7") for _ in range(5)]
        for wire, piece in zip(wires, (b"", b"GE", GET, CHUNKED, CHUNKED + b"1\r\n"), strict=True):
            await wire.say(piece)
        for wire in wires:
            if end is None:
                wire.writer.transport.abort()
            else:
                await wire.rest()
        while listener.door.open:
            await asyncio.sleep(0.1)
        assert not listener.door.idle
        assert not listener.door.unfinished
        assert listener.door.load() == 0
