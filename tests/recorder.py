"""A recorder in the middle: forwards TCP connections to a server and keeps every byte of both directions."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 16


class Recorder:
    """Listens on `address`, forwards to another, records into `sent` and `received` (seen from the client)."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent, self.received = bytearray(), bytearray()
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed: the end
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for pair in ((client, server, self.sent), (server, client, self.received)):
                thread = threading.Thread(target=self._forward, args=pair, daemon=True)
                thread.start()
                self._threads.append(thread)

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        with suppress(OSError):
            while content := source.recv(CHUNK):
                record += content
                sink.sendall(content)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break all connections, and take no new ones."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, and wait for connections that are closing."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()


@contextmanager
def recording(*targets: str) -> Iterator[list[Recorder]]:
    """One recorder per server."""
    recorders = [Recorder(target) for target in targets]
    try:
        yield recorders
    finally:
        for recorder in recorders:
            recorder.close()
