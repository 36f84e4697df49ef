"""A server under attack: what it is asked, and how much memory it takes."""

import time
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2 as pb

OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


def content_of(name, tensors):
    inputs = [pb.ModelInferRequest.InferInputTensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in tensors]
    contents = [tensor.content for tensor in tensors]
    return pb.ModelInferRequest(model_name=name, inputs=inputs, raw_input_contents=contents).SerializeToString()


class Victim:
    """A server under attack. `peak` is what it has grown by since it was last asked for nothing."""

    def __init__(self, server):
        self.address, self._folder = server.address, Path(f"/proc/{server.process.pid}")
        self._before = self.resident()

    def resident(self, field="VmRSS"):
        [line] = [line for line in (self._folder / "status").read_text().splitlines() if line.startswith(field)]
        return 1024 * int(line.split()[1])

    @property
    def growth(self):
        return self.resident() - self._before

    @property
    def peak(self):
        return self.resident("VmHWM") - self._before

    def forget_peak(self):
        (self._folder / "clear_refs").write_text("5")


def eventually(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def call(address, path, content, **options):
    """The answer, or the name of the error."""
    with grpc.insecure_channel(address, OPTIONS) as channel:
        try:
            return channel.unary_unary(path)(content, timeout=30, **options)
        except grpc.RpcError as error:
            return error.code().name
