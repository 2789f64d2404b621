"""A TCP proxy that can swallow everything, both ways, and leave the connections open."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Blackhole:
    """Passes bytes on to a port of 127.0.0.1; each connection ends when either side ends it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._swallowing = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def swallowing(self) -> Iterator[None]:
        """Nothing comes through until the end of the block, and what was sent meanwhile never does."""
        self._swallowing = True
        try:
            yield
        finally:
            self._swallowing = False

    def close(self) -> None:
        """Take no more connections; those that are open last as long as their ends."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._swallowing:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
