"""Just enough HTTP/2 to be a client that gRPC's own would never be: it stalls, reads nothing, or comes from elsewhere."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, DATA = 1, 4, 0
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INFER = "/inference.GRPCInferenceService/ModelInfer"
FRAME = 16_384  # bytes of the largest frame; a stream may send 65,535 before the server answers


def frame(kind, flags, stream, content=b""):
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def text(value):
    return bytes([len(value)]) + value.encode()


def headers(path):
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
    fields |= {"content-type": "application/grpc", "te": "trailers"}
    return b"".join(b"\0" + text(name) + text(value) for name, value in fields.items())


def connect(address, source="127.0.0.2"):
    """A connection with default windows: the server may send 65,535 bytes and no more, for nobody grants others."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
    return connection


def start_call(connection, stream, message, *, length=None, path=INFER):
    """Send a call with `message`, as part of one of `length` bytes; `stream` is odd."""
    whole = length is None
    content = b"\0" + struct.pack(">I", len(message) if whole else length) + message
    frames = [frame(HEADERS, END_HEADERS, stream, headers(path))]
    pieces = [content[start : start + FRAME] for start in range(0, len(content), FRAME)]
    frames += [frame(DATA, 0, stream, piece) for piece in pieces]
    if whole:
        frames.append(frame(DATA, END_STREAM, stream))
    connection.sendall(b"".join(frames))


def is_closed(connection):
    """Whether the server has closed the connection; reads what it sent."""
    connection.settimeout(0)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
