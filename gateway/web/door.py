"""What the connections of one listener share: their limits, how many there are, and how much work they make."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.admission import Callers
from gateway.overload import Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, bytes and numbers."""

    head_s: float = 5.0
    """from the first byte of a request, or the connection's beginning, to the end of the headers"""
    body_s: float = 10.0
    """from there to the end of the body"""
    write_s: float = 10.0
    """how long an answer may wait for a client that does not read"""
    drain_s: float = 3.0
    """for the rest of a body once the process is told to stop"""
    linger_s: float = 1.0
    """how long whoever was refused may take to read why"""
    idle_s: int = 15
    """between requests. A front server keeps connections for longer and is given uvicorn's own time"""
    head_bytes: int = 16 * 1024
    fields: int = 64
    url_bytes: int = 8 * 1024
    unread_bytes: int = 1024 * 1024
    """that may still come once the answer was given"""
    pipelined: int = 16
    """requests sent ahead of the answers; no browser does that, and a thousand fit into one piece"""
    connections: int = 4096
    unfinished: int = 256
    """connections of one caller whose request is not there yet; whole offices behind one address have few"""
    working: int = 128
    """requests that are worked on, some 30 ms; one more is 503 at a tenth of its cost"""
    working_vital: int = 256
    """the same for those that are turned away last"""
    together: int = 8
    """requests begun in one turn of the loop, some 2 ms: whoever is turned away or connects meanwhile waits so long"""


class Connection(Protocol):
    """What may have to make room for another one."""

    def give_way(self) -> None:
        """Close, as nothing is under way and another connection needs the room."""
        ...


class Door:
    """What the connections of one listener share."""

    def __init__(
        self,
        limits: Limits,
        callers: Callers,
        *,
        vital: Callable[[bytes, bytes], bool] = lambda _path, _body: False,
        resting: Callable[[], int] = lambda: 0,
        stored: Callable[[], Load] = lambda: Load.CALM,
    ) -> None:
        """`vital`: whether the path and body of a request are of the kind that is turned away last.

        `resting`: how many of the requests being answered wait for a disk, which costs no work.
        `stored`: how much the store has to do.
        """
        self.limits = limits
        self.callers = callers
        self._vital = vital
        self._resting = resting
        self._stored = stored
        self.open: set[Connection] = set()
        self.idle: dict[Connection, None] = {}
        """between requests, the longest first"""
        self.unfinished: Counter[str] = Counter()
        """by caller; no caller is kept with 0"""
        self.working = 0
        """requests that are complete and not yet answered"""
        self.turned_away = 0
        """requests and connections ever"""
        self._begin_more = limits.together
        self._to_begin: deque[Callable[[], None]] = deque()
        self._turning = False

    def load(self) -> float:
        """The share of the work it may have that there is; 1 and more: too much."""
        return (self.working - self._resting()) / self.limits.working

    def is_busy(self) -> bool:
        """Whether not everybody is let in."""
        return self.load() >= 1 or self._stored() > Load.CALM

    def lets_in(self, path: bytes, body: bytes) -> bool:
        """Whether a request is worked on, or turned away unread."""
        work, stored = self.working - self._resting(), self._stored()
        if work < self.limits.working and stored is Load.CALM:
            return True
        if work >= self.limits.working_vital or stored is Load.FULL:
            return False
        return self._vital(path, body)

    def begin(self, work: Callable[[], None]) -> None:
        """Do this now, or after what came before it: only a few in each turn of the loop."""
        if self._begin_more:
            self._begin_more -= 1
            work()
        else:
            self._to_begin.append(work)
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        begun = min(len(self._to_begin), self.limits.together)
        self._begin_more = self.limits.together - begun
        for _ in range(begun):
            self._to_begin.popleft()()
        self._turning = bool(self._to_begin)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)

    def has_room(self) -> bool:
        """Whether one more connection fits, if need be instead of the one that is idle for longest."""
        if len(self.open) < self.limits.connections:
            return True
        if not self.idle:
            return False
        next(iter(self.idle)).give_way()
        return True
