"""A real redis-server, and a cluster of three, on free ports and in folders of their own."""

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep

from redis import Redis
from redis.exceptions import RedisError

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
DATABASES = 64


class RedisServer:
    """One server; its data outlives `kill`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._options = options or DURABLE
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> "RedisServer":
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--databases", str(DATABASES), *self._options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log)
        give_up = monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert monotonic() < give_up
            sleep(0.01)
        return self

    def kill(self) -> None:
        """SIGKILL. Does nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP until the end of the block: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """SIGKILL, and again on the same append-only file."""
        self.kill()
        self.start()

    def set(self, name: str, value: str) -> None:
        """Change a setting of the running server."""
        with Redis(port=self.port) as client:
            client.config_set(name, value)

    def new_database(self) -> str:
        """The URL of an empty database; the one used longest ago is emptied for it."""
        number = self._databases % DATABASES
        self._databases += 1
        url = f"{self.url}/{number}"
        with Redis.from_url(url) as client:
            client.flushdb()
        return url

    def _answers(self) -> bool:
        with Redis(port=self.port) as client, contextlib.suppress(RedisError):
            return bool(client.ping())
        return False


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server until the end of the block."""
    server = RedisServer(folder, *options)
    try:
        yield server.start()
    finally:
        server.kill()


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """Three servers that are a cluster, each with a third of the slots."""
    with contextlib.ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--databases", "1", *DURABLE)
        servers = [stack.enter_context(running(folder / str(n), *options)) for n in range(3)]
        nodes = [f"127.0.0.1:{server.port}" for server in servers]
        command = ["redis-cli", "--cluster", "create", *nodes, "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        wait_for_cluster(servers)
        yield servers


def wait_for_cluster(servers: Sequence[RedisServer]) -> None:
    """Until each of them has found the others, which takes a moment after a start."""
    give_up = monotonic() + 30
    for server in servers:
        with Redis(port=server.port) as client:
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                assert monotonic() < give_up
                sleep(0.05)


def free_port() -> int:
    """A port nobody listens on, nor on the one 10000 above, which a cluster takes too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            if port >= 55_535:
                continue
            with contextlib.suppress(OSError):
                second.bind(("127.0.0.1", port + 10_000))
                return port
