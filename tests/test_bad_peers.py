"""Servers that are the same, or somebody else: the client says which one, before anything is sent."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from command_line import ppidm
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server

PROMPT = "red apple"


@pytest.fixture
def failing(package, tmp_path):
    """A call of generate that must fail; returns its error."""

    def generate(evaluator, dealer, status, *arguments):
        common = "--evaluator", evaluator, "--dealer", dealer, "--output", tmp_path / "picture.png"
        shown = ppidm("generate", package / "client", PROMPT, *common, *arguments)
        assert (shown.status, shown.out) == (status, "")
        assert list(tmp_path.iterdir()) == []
        [line] = shown.err.splitlines()
        return line

    return generate


# one server in two roles


def test_one_address_twice(failing, servers):
    port = servers[0].rpartition(":")[2]
    for dealer in (servers[0], f"localhost:{port}"):
        error = failing(servers[0], dealer, 2)
        assert error.startswith(f"ppidm: dealer {servers[0]} is the same server as evaluator {servers[0]}; expected ")
        assert error.endswith("one that is both evaluator and dealer could read everything")


def test_one_dealer_twice(failing, servers):
    error = failing(servers[0], servers[1], 2, "--dealer", servers[1])
    assert error.startswith(f"ppidm: dealer {servers[1]} is the same server as dealer {servers[1]}; ")


def pump(source, sink):
    try:
        while content := source.recv(1 << 16):
            sink.sendall(content)
    except OSError:
        pass  # the other side has gone
    finally:
        sink.close()


@contextmanager
def listening(handle):
    """A TCP listener; `handle` gets every connection, in a thread."""
    connections = []

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=handle, args=[connection]).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


def forwarder(address):
    """Another port of the server at `address`."""
    host, _, port = address.rpartition(":")

    def forward(client):
        upstream = socket.create_connection((host, int(port)))
        threading.Thread(target=pump, args=[upstream, client]).start()
        pump(client, upstream)

    return listening(forward)


def test_one_server_behind_two_ports(failing, servers):
    with forwarder(servers[0]) as other:
        error = failing(servers[0], other, 2)
        assert error.startswith(f"ppidm: dealer {other} is the same server as evaluator {servers[0]}; expected ")
        error = failing(other, servers[0], 2)
        assert error.startswith(f"ppidm: dealer {servers[0]} is the same server as evaluator {other}; expected ")


def test_a_forwarder_alone_is_no_error(package, servers, tmp_path):
    """So that the test above shows the second role, and not that forwarding fails."""
    with forwarder(servers[0]) as other:
        arguments = "--evaluator", other, "--dealer", servers[1], "--output", tmp_path / "picture.png"
        shown = ppidm("generate", package / "client", PROMPT, *arguments, NUM_INFERENCE_STEPS=1, GUIDANCE_SCALE=1)
    assert (shown.status, shown.err) == (0, "")


# other protocols


def test_a_peer_that_says_nothing(failing, servers):
    with listening(lambda _: None) as silent:
        started = time.monotonic()
        error = failing(servers[0], silent, 4, "--timeout", "1.5")
    assert 1.4 < time.monotonic() - started < 10
    assert error.startswith(f"ppidm: dealer {silent} failed: DEADLINE_EXCEEDED, ")
    assert error.endswith("; no answer within 1.5 s; raise --timeout, or try again")


def test_a_peer_that_speaks_something_else(failing, servers):
    def answer(connection):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" + bytes(100))

    with listening(answer) as other:
        error = failing(other, servers[1], 4, "--timeout", "5")
    assert error.startswith(f"ppidm: evaluator {other} failed: ")
    assert "UNAVAILABLE" in error or "DEADLINE_EXCEEDED" in error


def test_a_peer_that_closes_at_once(failing, servers):
    with listening(lambda connection: connection.close()) as other:
        error = failing(servers[0], other, 4, "--timeout", "5")
    assert error.startswith(f"ppidm: dealer {other} failed: UNAVAILABLE, ")


class OtherServer(GRPCInferenceServiceServicer):
    """KServe v2, but not ours."""

    def ServerMetadata(self, _request, _context):  # noqa: N802  (of the generated base class)
        return pb.ServerMetadataResponse(name="triton", version="2.60", extensions=["classification", "statistics"])


@pytest.mark.parametrize(
    ("servicer", "message"),
    [
        (
            OtherServer,
            ": a server with extensions ['classification', 'statistics']; expected exactly one 'ppidm.package:'",
        ),
        (GRPCInferenceServiceServicer, " failed: UNIMPLEMENTED, "),
    ],
)
def test_a_server_of_another_kind(failing, servers, servicer, message):
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        add_GRPCInferenceServiceServicer_to_server(servicer(), server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            error = failing(servers[0], address, 4)
        finally:
            server.stop(None).wait()
    assert error.startswith(f"ppidm: dealer {address}{message}")
