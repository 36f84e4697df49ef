"""What a server takes, what it refuses, and that health does not wait."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from ppidm.protocol.address import Address
from ppidm.protocol.errors import InputError
from ppidm.protocol.messages import masked_request, seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.runtime.grpc_server import running
from ppidm.runtime.limits import FEW_ELEMENTS, Admission, GoneError, Limits, Pool, RefusedError, client_of
from ppidm.runtime.log import make_logger
from ppidm.runtime.service import Service

SEED, SHAPE = Seed(bytes(32)), (7, 16)


class Runner:
    """Answers zeros, once `go` is set; counts."""

    def __init__(self):
        self.go, self.started, self.shapes = threading.Event(), threading.Semaphore(0), []

    def run(self, digits):
        self.shapes.append(digits.shape)
        self.started.release()
        assert self.go.wait(20)
        return [np.zeros((digits.shape[1], 5), np.int32)]


@pytest.fixture
def runner():
    runner = Runner()
    yield runner
    runner.go.set()


@pytest.fixture
def serving(package):
    @contextmanager
    def serving(runner, *, workers=1, **settings):
        limits = Limits(**settings)
        runners = {subgraph.name: runner for subgraph in package.manifest.slices}
        service = Service(package.manifest, runners, "test", limits)
        address = Address("127.0.0.1", 0)
        with (
            running(service, address, workers, make_logger("error"), limits=limits) as bound,
            grpc.insecure_channel(str(bound), [("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            try:
                yield channel
            finally:
                runner.go.set()

    return serving


def request(tensors=None, name="mid.to_out"):
    tensors = tensors or seed_request(SEED, SHAPE)
    inputs = [pb.ModelInferRequest.InferInputTensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in tensors]
    return pb.ModelInferRequest(model_name=name, inputs=inputs, raw_input_contents=[t.content for t in tensors])


def infer(channel, tensors=None, **options):
    return pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request(tensors), **options)


def refusal(call):
    error = call.exception(20)
    assert error is not None
    return error.code().name, error.details()


def test_health_does_not_wait(serving, runner):
    with serving(runner, client_requests=40) as channel:
        calls = [infer(channel) for _ in range(60)]
        assert runner.started.acquire(timeout=10)
        health, inference = health_pb2_grpc.HealthStub(channel), pb_grpc.GRPCInferenceServiceStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=2)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert inference.ServerLive(pb.ServerLiveRequest(), timeout=2).live
        assert inference.ServerReady(pb.ServerReadyRequest(), timeout=2).ready
        assert inference.ServerMetadata(pb.ServerMetadataRequest(), timeout=2).name == "ppidm"
        runner.go.set()
        codes = [error.code().name if (error := call.exception(20)) else "OK" for call in calls]
    assert codes.count("OK") == 40
    assert codes.count("RESOURCE_EXHAUSTED") == 20


def test_reflection_names_the_services(evaluator):
    with grpc.insecure_channel(evaluator.address) as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert set(services) >= {"inference.GRPCInferenceService", "grpc.health.v1.Health"}


def test_too_many_requests_of_one_client(serving, runner):
    with serving(runner, client_requests=2) as channel:
        calls = [infer(channel) for _ in range(2)]
        assert runner.started.acquire(timeout=10)
        code, details = refusal(infer(channel))
        assert (code, details) == ("RESOURCE_EXHAUSTED", "too many requests at once; one client may have 2")
        runner.go.set()
        assert [call.exception(20) for call in calls] == [None, None]
        assert infer(channel).exception(20) is None


def test_a_request_whose_deadline_has_passed_is_not_computed(serving, runner):
    with serving(runner) as channel:
        first = infer(channel)
        assert runner.started.acquire(timeout=10)
        late = infer(channel, seed_request(SEED, (9, 16)), timeout=0.3)
        assert refusal(late)[0] in {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}  # the client's clock, or the server's
        runner.go.set()
        assert first.exception(20) is None
        assert infer(channel).exception(20) is None
    assert [shape[1] for shape in runner.shapes] == [7, 7]


def test_a_cancelled_request_is_not_computed(serving, runner):
    with serving(runner, client_requests=2) as channel:
        first = infer(channel)
        assert runner.started.acquire(timeout=10)
        cancelled = infer(channel, seed_request(SEED, (9, 16)))
        while refusal_now(channel) != "RESOURCE_EXHAUSTED":  # until the server has it
            time.sleep(0.01)
        cancelled.cancel()
        while refusal_now(channel) == "RESOURCE_EXHAUSTED":  # its place comes free at once
            time.sleep(0.01)
        runner.go.set()
        assert first.exception(20) is None
    assert 9 not in [shape[1] for shape in runner.shapes]


def refusal_now(channel):
    try:
        infer(channel, timeout=0.2).result()
    except grpc.RpcError as error:
        return error.code().name


def test_a_request_that_waits_too_long_is_refused(serving, runner):
    with serving(runner, seconds=0.5, client_requests=4) as channel:
        calls = [infer(channel) for _ in range(3)]
        codes = {refusal(call)[0] for call in calls}
        assert codes <= {"RESOURCE_EXHAUSTED", "CANCELLED"}
        runner.go.set()
    assert len(runner.shapes) == 1


def test_what_a_seed_may_ask_for(serving, runner):
    runner.go.set()
    with serving(runner) as channel:
        assert infer(channel, seed_request(SEED, (FEW_ELEMENTS // 16, 16))).exception(20) is None
        code, details = refusal(infer(channel, seed_request(SEED, (FEW_ELEMENTS // 16 + 1, 16))))
    assert code == "INVALID_ARGUMENT"
    assert details.startswith(
        "mid.to_out: (65537, 16) is 1048592 elements; this server takes 1048576 (--max-scale 64 times"
    )
    with serving(runner, max_scale=10_000) as channel:
        assert infer(channel, seed_request(SEED, (70_000, 16))).exception(20) is None


def test_a_request_that_needs_more_memory_than_a_client_gets(serving, runner):
    runner.go.set()
    with serving(runner, memory=128 << 20) as channel:
        code, details = refusal(infer(channel, seed_request(SEED, (65536, 16))))
        assert infer(channel, seed_request(SEED, (8192, 16))).exception(20) is None
    assert code == "RESOURCE_EXHAUSTED"
    assert details.startswith(
        "this request needs 99 MiB, one client gets 32 MiB; ask for a smaller picture or batch, or the"
    )


def test_a_message_larger_than_any_request(serving, runner):
    with serving(runner, memory=64 << 20) as channel:
        code, _ = refusal(infer(channel, masked_request(np.zeros((4, 20_000, 16), np.uint8))))
    assert code == "RESOURCE_EXHAUSTED"


def test_many_clients_share_fairly():
    admission = Admission(Limits(memory=64 << 20), 1)
    pool = admission.messages
    assert pool.try_take("greedy", pool.share)
    assert not pool.try_take("greedy", 1)
    assert pool.try_take("modest", pool.share)
    assert not pool.try_take("third", 1)
    pool.give_back("greedy", 1)
    assert pool.try_take("third", 1)
    assert pool.used == 32 << 20


def test_a_pool_wakes_who_waits():
    pool = Pool(threading.Condition(), 2, 2)
    pool.take("a", 2, 0, lambda: True)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(pool.take, "b", 1, time.monotonic() + 20, lambda: True)
        pool.give_back("a", 1)
        waiting.result(10)
    with pytest.raises(RefusedError, match="busy"):
        pool.take("b", 1, time.monotonic() + 0.1, lambda: True)
    with pytest.raises(GoneError):
        pool.take("b", 1, time.monotonic() + 20, lambda: False)


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:127.0.0.1:50001", "127.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:1", "2001:db8:1:2::"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:1", "10.0.0.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::"),
        ("unix:", ""),
    ],
)
def test_who_a_client_is(peer, client):
    assert client_of(peer) == client


@pytest.mark.parametrize(
    "settings",
    [{"max_scale": 0}, {"memory": 1}, {"requests": 0}, {"connections": 0}, {"seconds": 0}, {"seconds": float("nan")}],
)
def test_settings_out_of_range(settings):
    with pytest.raises(InputError, match="expected at least 1 each"):
        Limits(**settings)


def test_the_largest_message_is_what_the_scale_allows_or_the_memory(package):
    slices = package.manifest.slices
    assert Limits().largest_message(Ring(32), slices) == 4 * FEW_ELEMENTS + (1 << 16)
    assert Limits(memory=64 << 20).largest_message(Ring(32), slices) == 1 << 20
