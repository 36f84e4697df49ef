"""A tap on a wire: a TCP proxy that copies all bytes both ways, and keeps them, one file per connection and direction.

In this process, or as one of its own: python tap.py LISTEN-HOST LISTEN-PORT TARGET-HOST TARGET-PORT FOLDER
"""

from __future__ import annotations

import socket
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 16
CHANGE_CIPHER_SPEC, HANDSHAKE, APPLICATION_DATA = 20, 22, 23  # kinds of TLS records


class Tap:
    """Forwards what comes to `listener` to `target`; keeps it as FOLDER/<port>-<connection>.sent and .received."""

    def __init__(self, listener: socket.socket, target: tuple[str, int], folder: Path) -> None:
        self._listener, self._target, self._folder = listener, target, folder

    def run(self) -> None:
        """Until the listener is shut down and the last connection is closed."""
        threads: list[Thread] = []
        port = self._listener.getsockname()[1]
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                stem = f"{port}-{len(threads)}"
                threads.append(Thread(target=self._connection, args=(client, stem), daemon=True))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def _connection(self, client: socket.socket, stem: str) -> None:
        with (
            client,
            socket.create_connection(self._target) as server,
            (self._folder / f"{stem}.sent").open("wb", 0) as sent,
            (self._folder / f"{stem}.received").open("wb", 0) as received,
        ):
            back = Thread(target=copy, args=(server, client, received), daemon=True)
            back.start()
            copy(client, server, sent)
            back.join()


def copy(source: socket.socket, target: socket.socket, record: BinaryIO) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            record.write(chunk)
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tapping(address: str, folder: Path) -> Iterator[str]:
    """Within the block, what goes through the address that it yields ends up at `address`, and in `folder`."""
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=Tap(listener, (host, int(port)), folder).run)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def streams(folder: Path, direction: str) -> list[bytes]:
    """What was "sent" or "received", per connection."""
    return [path.read_bytes() for path in sorted(folder.glob(f"*.{direction}"))]


def tls_records(stream: bytes) -> list[tuple[int, bytes]]:
    """Kind and content of all records of a stream; fails if it is not TLS from its first to its last byte."""
    records, place = [], 0
    while place < len(stream):
        kind, version, size = stream[place], stream[place + 1 : place + 3], stream[place + 3 : place + 5]
        assert kind in (HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA), kind
        assert version in (b"\x03\x01", b"\x03\x03"), version
        end = place + 5 + int.from_bytes(size)
        assert end <= len(stream), "the last record is cut"
        records.append((kind, stream[place + 5 : end]))
        place = end
    return records


def main(listen_host: str, listen_port: str, target_host: str, target_port: str, folder: str) -> None:
    with socket.create_server((listen_host, int(listen_port))) as listener:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        Tap(listener, (target_host, int(target_port)), Path(folder)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
