"""The two faces of the process: their sockets, and the HTTP servers behind the guard."""

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

import uvicorn
from starlette.applications import Starlette

from gateway.config import Settings
from gateway.errors import SettingsError
from gateway.web import guard
from gateway.web.door import Door, Limits

BACKLOG = 2048
"""connections that may wait to be taken, as many as uvicorn allows"""
ACCEPTED = 64
"""connections taken in one turn of the loop"""
PAUSE_S = 1.0
"""after the system had no descriptor for one more"""
OPERATOR_CONNECTIONS = 64
FILES = OPERATOR_CONNECTIONS + 128
"""descriptors for everything but the connections of visitors"""
GRACE_S = 4
"""how long requests that are under way may take once the process is told to stop: a little longer than the guard gives
them to arrive"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Faces:
    """The sockets, taken before anything else, so that a taken port costs nothing. A face may be absent."""

    public: socket.socket | None
    operator: socket.socket | None

    @property
    def urls(self) -> dict[str, str]:
        """Where each face listens."""
        faces = {"public": self.public, "operator": self.operator}
        return {name: _url_of(face) for name, face in faces.items() if face}


@contextlib.contextmanager
def take_faces(
    settings: Settings, *, public: bool = True, operator: bool = True
) -> Iterator[Faces]:
    """The faces that are wanted. Raises SettingsError for a port that is taken."""
    with contextlib.ExitStack() as taken:
        yield Faces(
            taken.enter_context(listen(settings.host, settings.port, "port")) if public else None,
            taken.enter_context(listen(settings.admin_host, settings.admin_port, "admin_port"))
            if operator
            else None,
        )


def listen(host: str, port: int, key: str) -> socket.socket:
    """A socket people can queue at. Raises SettingsError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
        # From here on the kernel queues who connects, so nobody is refused while we start.
        taken.listen(BACKLOG)
    except OSError as error:
        taken.close()
        reason = error.strerror or str(error)
        raise SettingsError(f"{key}: cannot listen on {host}:{port}: {reason}") from None
    return taken


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


class Server(uvicorn.Server):
    """Leaves the signals to us, as two servers share one process, and takes connections by itself."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._taking: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets=[])
        for face in sockets or []:
            face.setblocking(False)
            asyncio.get_running_loop().add_reader(face, self._accept, face)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more, and finish what is under way."""
        for face in sockets or []:
            asyncio.get_running_loop().remove_reader(face)
        await super().shutdown(sockets)

    def _accept(self, face: socket.socket) -> None:
        """Take everybody who waits, up to a number. uvloop takes one each turn, and under load a turn is long."""
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTED):
            try:
                wire, _ = face.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors, or no memory. The connection stays in the queue and would be offered again at once.
                logger.error("no connection can be taken (%s)", error.strerror)
                loop.remove_reader(face)
                loop.call_later(PAUSE_S, self._resume, face)
                return
            wire.setblocking(False)
            task = loop.create_task(self._take(wire))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    async def _take(self, wire: socket.socket) -> None:
        with contextlib.suppress(OSError):  # whoever it was is gone again
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, wire)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _resume(self, face: socket.socket) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(face, self._accept, face)


def http_server(application: Starlette, door: Door, trusted: tuple[str, ...] = ()) -> Server:
    return Server(
        uvicorn.Config(
            application,
            http=guard.protocol(door),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted),
            forwarded_allow_ips=[*trusted, *_mapped(trusted)],
            # Longer than the 60 s a front server keeps its connections to us.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


def connections() -> int:
    """As many as the guard has room for, or as the system lets this process have."""
    wanted = Limits().connections + FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most - FILES, 1)


def _mapped(networks: Iterable[str]) -> Iterator[str]:
    """IPv4 networks as a socket sees them that listens on IPv6 too: ::ffff:a.b.c.d."""
    for network in map(ip_network, networks):
        if network.version == 4:
            yield f"::ffff:{network.network_address}/{96 + network.prefixlen}"
