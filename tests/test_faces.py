"""How connections are taken."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette

from gateway import faces
from gateway.admission import Callers
from gateway.web.door import Door, Limits

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]:
    return "asyncio", {"loop_factory": uvloop.new_event_loop}


class OutOfDescriptors(socket.socket):
    """A listening socket of a process that has none left, for a while."""

    refusals = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """As always, but at first."""
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@contextlib.asynccontextmanager
async def serving(face: socket.socket) -> AsyncIterator[Door]:
    """A server without routes."""
    door = Door(Limits(), Callers())
    server = faces.http_server(Starlette(), door)
    task = asyncio.create_task(server.serve(sockets=[face]))
    while not server.started:
        await asyncio.sleep(0)
    yield door
    server.should_exit = True
    await task


async def test_all_who_came_at_once_are_taken_within_a_few_turns_of_the_loop() -> None:
    with faces.listen("127.0.0.1", 0, "port") as face, contextlib.ExitStack() as clients:
        async with serving(face) as door:
            for _ in range(faces.ACCEPTED):
                clients.enter_context(socket.create_connection(face.getsockname()))
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(door.open) == faces.ACCEPTED


async def test_without_a_descriptor_it_waits_and_then_takes_who_waited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(faces, "PAUSE_S", 0.01)
    with OutOfDescriptors() as face:
        face.bind(("127.0.0.1", 0))
        face.listen()
        face.refusals = 3
        async with serving(face) as door:
            with socket.create_connection(face.getsockname()):
                async with asyncio.timeout(10):
                    while not door.open:
                        await asyncio.sleep(0.01)
    assert face.refusals == 0
    assert [record.message for record in caplog.records].count(
        "no connection can be taken (Too many open files)"
    ) == 3


async def test_who_is_gone_before_being_taken_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with faces.listen("127.0.0.1", 0, "port") as face:
        async with serving(face) as door:
            for _ in range(20):
                gone = socket.create_connection(face.getsockname())
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                gone.close()
            with socket.create_connection(face.getsockname()):
                while len(door.open) != 1:
                    await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}]
