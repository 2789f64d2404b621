"""Several processes that do the same work, kept alive and stopped together."""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

from gateway.errors import GatewayError

AGAIN_S = 1.0
"""how long a process that ended by itself stays away"""
_PR_SET_PDEATHSIG = 1
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_HEARD = {*_PASSED_ON, signal.SIGCHLD}

Work = Callable[[int, Callable[[], None]], None]
"""What process number n does until it is told to stop; it calls the function once it is at work."""

logger = logging.getLogger(__name__)


class Processes:
    """The processes, by number. Call before any thread or event loop exists, as they are forked."""

    def __init__(self, count: int, work: Work) -> None:
        self._work = work
        self._numbers: dict[int, int] = {}
        """by process id"""
        self._ready_ends: dict[int, int] = {}
        """by process id, the end of a pipe on which it says that it is at work"""
        self._missing = dict.fromkeys(range(count), 0.0)
        """numbers without a process, and when to start one"""
        self._proven = False
        """whether one of them has ever been at work"""
        self._status = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        stopping = False
        while self._numbers or not stopping:
            if not stopping:
                self._start_missing()
            heard = signal.sigtimedwait(_HEARD, self._patience())
            number = heard.si_signo if heard else None
            stopping = stopping or number in (signal.SIGTERM, signal.SIGINT)
            if number in _PASSED_ON:
                self._tell(signal.Signals(number))
            if not self._bury(stopping=stopping):
                stopping = True
                self._tell(signal.SIGTERM)
        return self._status

    def _patience(self) -> float:
        """Seconds until a process is to be started."""
        now = time.monotonic()
        return max(0.0, min((due - now for due in self._missing.values()), default=60.0))

    def _start_missing(self) -> None:
        for number, due in list(self._missing.items()):
            if due <= time.monotonic():
                del self._missing[number]
                self._start(number)

    def _start(self, number: int) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writing)
            self._numbers[pid] = number
            self._ready_ends[pid] = reading
            return
        os.close(reading)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        if sys.platform == "linux":  # if this parent is killed, nobody else would stop them
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        status = 0
        try:
            self._work(number, lambda: _say_ready(writing))
        except GatewayError as error:
            print(f"gateway: {error}", file=sys.stderr)
            status = 1
        except BaseException:
            logger.exception("a process failed")
            status = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._numbers:
            os.kill(pid, number)

    def _bury(self, *, stopping: bool) -> bool:
        """Take note of who has ended; False when none of them can ever be at work."""
        for pid in list(self._numbers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            number = self._numbers.pop(pid)
            reading = self._ready_ends.pop(pid)
            self._proven = bool(os.read(reading, 1)) or self._proven
            os.close(reading)
            code = os.waitstatus_to_exitcode(status)
            if stopping:
                self._status = self._status or int(code != 0)
                continue
            if not self._proven:
                self._status = 1
                return False
            logger.error("a process ended", extra={"number": number, "code": code})
            self._missing[number] = time.monotonic() + AGAIN_S
        return True


def _say_ready(writing: int) -> None:
    os.write(writing, b"!")
    os.close(writing)
