"""What a connection may do before it is a request: deadlines and sizes, which uvicorn leaves open.

A subclass of uvicorn's protocol, because only the protocol sees a request that does not end. Limits: bytes are counted
as they come, a deadline is a timer only while something is missing, so a request that arrives in one piece costs
a few comparisons. What is refused here is answered in the shortest form and the connection is closed: after an error nobody
knows where the next request begins.
"""

import asyncio
import itertools
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import ClassVar

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway import metrics
from gateway.web import glance
from gateway.web.answer import retry_after
from gateway.web.door import Door

UNDECIDED_BYTES = 60 * 1024
"""of a body that are kept for a glance at it; uvicorn reads no more than 64 KiB for nobody"""


class _Part(Enum):
    """What of a request is coming in."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class _Refused(Exception):
    """Ends the parsing; the parser wraps it into an error of its own."""


class Guard(HttpToolsProtocol):
    """One connection."""

    door: ClassVar[Door]

    _part = _Part.NOTHING
    _barren = 0
    """bytes since the request began, or since a piece of body came"""
    _fed = 0
    """bytes of the piece being parsed"""
    _shared = 0
    """of `_barren`, what came in one piece with the end of something else"""
    _unread = 0
    _working = 0
    """requests that are complete and not yet answered"""
    _undecided: tuple[RequestResponseCycle, ASGI3Application] | None = None
    """a request that may be turned away once its body is there"""
    _status = 400
    _refused = False
    _caller: str | None = None
    _unfinished = False
    _deadline: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    # --- the connection ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        door, limits = self.door, self.door.limits
        self._caller = door.callers.of(self.client[0]) if self.client else None
        if self._caller is not None:
            self.timeout_keep_alive = limits.idle_s
            if door.unfinished[self._caller] >= limits.unfinished:
                self._turn_back()
                return
        if not door.has_room():
            self._turn_back()
            return
        door.open.add(self)
        self._expect_within(limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        if self._stuck is not None:
            self._stuck.cancel()
        self._unset_keepalive_if_required()
        self.door.working -= self._working
        self._working = 0
        self.door.open.discard(self)
        self.door.idle.pop(self, None)
        super().connection_lost(exc)

    def give_way(self) -> None:
        """Close, as nothing is under way and another connection needs the room."""
        self.door.open.discard(self)
        self.door.idle.pop(self, None)
        self.transport.close()

    def shutdown(self) -> None:
        """No more requests: what is being answered is answered, what is coming in has a little time left."""
        if self._part is _Part.HEAD and self._may_answer():
            self._refuse(503)
            return
        super().shutdown()
        if self._part is _Part.BODY:
            self._expect_within(self.door.limits.drain_s)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.door.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # whoever has not read by now never will
            self.transport.abort()
        super().timeout_keep_alive_handler()

    # --- what comes in -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._unread += len(data)
            if self._unread > self.door.limits.unread_bytes:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self.door.idle.pop(self, None)
        if self.door.is_busy() and self._turned_away_unread(data):
            return
        self._fed = len(data)
        self._barren += self._fed
        before = self._part
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # There is no other protocol here; the request is answered as it is, and is the last.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(self._status)
            return
        if self._part is _Part.NOTHING:
            self._rest()
            if self.cycle is not None and self.cycle.response_complete:
                self._wait_for_the_next()
        elif self._is_too_much():
            self._refuse(414 if self._is_url_too_long() else 431)
        elif self._part is not before or self._deadline is None:
            limits = self.door.limits
            self._expect_within(limits.head_s if self._part is _Part.HEAD else limits.body_s)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part = _Part.HEAD
        self._barren = self._shared = self._fed
        self._unread = 0

    def on_headers_complete(self) -> None:
        if status := self._fault():
            self._status = status
            raise _Refused
        super().on_headers_complete()
        # What follows a chunked body looks like headers and would be added to them, behind everybody's back:
        # a forwarded address for one, after the front server's own.
        self.headers = []
        self._part = _Part.BODY
        self._barren = self._shared = 0

    def on_body(self, body: bytes) -> None:
        self._barren = 0
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > self.door.limits.unread_bytes:
                raise _Refused
        super().on_body(body)
        if self._undecided is not None and len(self.cycle.body) > UNDECIDED_BYTES:
            (cycle, app), self._undecided = self._undecided, None
            self._begin(cycle, app)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = _Part.NOTHING
        self._barren = 0
        self._rest()
        if self._undecided is not None:
            (cycle, app), self._undecided = self._undecided, None
            self._start_or_turn_away(cycle, app)
        if not self.cycle.response_complete:
            self._working += 1
            self.door.working += 1

    def on_response_complete(self) -> None:
        if self._working:
            self._working -= 1
            self.door.working -= 1
        super().on_response_complete()
        if self._part is _Part.NOTHING and not self.pipeline and not self.transport.is_closing():
            self.door.idle[self] = None

    def _fault(self) -> int:
        """The status that refuses the headers that are complete; 0 when nothing is wrong with them."""
        limits = self.door.limits
        if len(self.pipeline) >= limits.pipelined:
            return 400
        if self._is_url_too_long():
            return 414
        if len(self.headers) > limits.fields:
            return 431
        if self._is_head_too_long():
            return 431
        hosts = sum(name == b"host" for name, _ in self.headers)
        # RFC 9112, 3.2. HTTP/1.0 knew no Host.
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            return 400
        return 0

    def _is_url_too_long(self) -> bool:
        return self._part is _Part.HEAD and len(self.url) > self.door.limits.url_bytes

    def _is_head_too_long(self) -> bool:
        most = self.door.limits.head_bytes
        if self._barren <= most:  # counting costs more than the rest of this class
            return False
        return (
            len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > most
        )

    def _is_too_much(self) -> bool:
        """Whether what is still incomplete has become too long to wait for its end."""
        if self._part is _Part.HEAD and self._is_head_too_long():
            return True
        return self._barren - self._shared > self.door.limits.head_bytes

    # --- too much to do ----------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.expect_100_continue or not self.door.is_busy():
            self._begin(cycle, app)
        elif cycle.more_body:
            self._undecided = (cycle, app)
        else:
            self._start_or_turn_away(cycle, app)

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.door.begin(partial(super()._start_asgi_task, cycle, app))

    def _start_or_turn_away(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Work on a complete request, or answer 503 without a task, a framework or its body parsed."""
        if self.door.lets_in(cycle.scope["raw_path"], bytes(cycle.body)):
            self._begin(cycle, app)
            return
        cycle.response_started = cycle.response_complete = True
        self._turn_away(last=not cycle.keep_alive)
        self.on_response_complete()

    def _turned_away_unread(self, data: bytes) -> bool:
        """Answer 503 to a request that came in one piece, at a third of what parsing it would cost."""
        if self._part is not _Part.NOTHING or (self.cycle and not self.cycle.response_complete):
            return False
        request = glance.whole_request(data)
        if request is None or self.door.lets_in(request.path, request.body):
            return False
        self._rest()
        self._turn_away(last=request.last)
        if not request.last:
            self._wait_for_the_next()
        return True

    def _turn_away(self, *, last: bool) -> None:
        _TURNED_AWAY.inc()
        self.door.turned_away += 1
        self.transport.write(next(_LATER_AND_CLOSED if last else _LATER))
        if last:
            self.transport.close()

    # --- deadlines and refusals --------------------------------------------------------------

    def _expect_within(self, seconds: float) -> None:
        """Something is missing; what comes next must come in time."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._late)
        if self._caller is not None and not self._unfinished:
            self._unfinished = True
            self.door.unfinished[self._caller] += 1

    def _rest(self) -> None:
        """Nothing is missing."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._unfinished:
            self._unfinished = False
            assert self._caller is not None
            self.door.unfinished[self._caller] -= 1
            if not self.door.unfinished[self._caller]:
                del self.door.unfinished[self._caller]

    def _wait_for_the_next(self) -> None:
        # uvicorn's timer began with the answer, and the rest of the body ended it.
        if self.timeout_keep_alive_task is not None:
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        self.door.idle[self] = None

    def _late(self) -> None:
        self._deadline = None
        # Browsers open connections ahead of need, and take an answer nobody asked for as the next one's.
        if self._part is _Part.NOTHING:
            self._refused = True
            self.transport.close()
        else:
            self._refuse(408)

    def _turn_back(self) -> None:
        """One connection too many: it keeps none of what is short, not even to read why."""
        self._refused = True
        self._turn_away(last=True)

    def _refuse(self, status: int) -> None:
        """Answer when it is the request's turn to be answered, and close."""
        self._refused = True
        self._rest()
        metrics.REFUSED.labels("door", str(status)).inc()
        if self._may_answer():
            self.transport.write(_answer(status))
            self.transport.write_eof()
            # Closing while more comes resets the connection, and with it the answer on its way.
            self._deadline = self.loop.call_later(self.door.limits.linger_s, self.transport.abort)
        else:
            self.transport.close()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever reads the body learns that there is no more
            self.cycle.message_event.set()
        self.pipeline.clear()

    def _may_answer(self) -> bool:
        """Whether an answer now would be taken for this request's and no other's."""
        cycle = self.cycle
        if self.transport.is_closing():
            return False
        if cycle is None or self._part is not _Part.BODY:
            return cycle is None or cycle.response_complete
        return not self.pipeline and not cycle.response_started


def _answer(status: int, *, last: bool = True) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Length: 0",
        *(["Connection: close"] if last else []),
        *(f"{name}: {value}" for name, value in retry_after().items() if status in {408, 503}),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


# Made beforehand: whoever is turned away must cost next to nothing. The moments to come again differ.
_TURNED_AWAY = metrics.REFUSED.labels("door", "503")
_LATER = itertools.cycle([_answer(503, last=False) for _ in range(100)])
_LATER_AND_CLOSED = itertools.cycle([_answer(503) for _ in range(100)])


def protocol(own: Door) -> type[Guard]:
    """The protocol class of one listener, as uvicorn wants it."""

    class Guarded(Guard):
        door = own

    return Guarded
