"""Requests that a server must refuse, and survive."""

import json

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from ppidm.protocol.messages import Tensor, masked_request, seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import serve

RING = Ring(32)
SEED = Tensor("seed", "UINT8", (32,), bytes(32))
MASKED = Tensor("masked", "UINT8", (4, 7, 16), bytes(448))


@pytest.fixture(scope="module")
def channel(evaluator):
    with grpc.insecure_channel(evaluator.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return pb_grpc.GRPCInferenceServiceStub(channel)


def shape(*sizes):
    return Tensor("shape", "INT64", (len(sizes),), np.array(sizes, "<i8").tobytes())


def request_of(tensors, name="mid.to_out", **fields):
    inputs = [pb.ModelInferRequest.InferInputTensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in tensors]
    return pb.ModelInferRequest(
        model_name=name, inputs=inputs, raw_input_contents=[t.content for t in tensors], **fields
    )


def refusal(stub, request):
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request)
    return error.value.code().name, error.value.details()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "a request with tensors []; expected ['masked'], or ['seed', 'shape']"),
        ([SEED], "a request with tensors ['seed']"),
        ([MASKED, SEED, shape(7, 16)], "a request with tensors ['masked', 'seed', 'shape']"),
        ([MASKED, MASKED], "a request with tensors ['masked', 'masked']"),
        ([Tensor("mask", "UINT8", (4, 7, 16), bytes(448))], "a request with tensors ['mask']"),
        ([Tensor("masked", "INT32", (4, 7, 4), bytes(448))], "is 'INT32'; expected UINT8"),
        ([Tensor("masked", "UINT8", (4, 7, 16), bytes(447))], "has 447 bytes; shape (4, 7, 16) needs 448"),
        ([Tensor("masked", "UINT8", (4, -7, -16), bytes(448))], "has shape (4, -7, -16)"),
        ([Tensor("masked", "UINT8", (3, 7, 16), bytes(336))], "expected 4 limbs"),
        ([Tensor("masked", "UINT8", (4, 7, 15), bytes(420))], "expected (rows, C) with C = 16"),
        ([Tensor("masked", "UINT8", (4, 0, 16), b"")], "expected 1 to 134217728 elements"),
        ([Tensor("masked", "UINT8", (4, 7, 1, 16), bytes(448))], "expected (rows, C) with C = 16"),
        ([Tensor("seed", "UINT8", (31,), bytes(31)), shape(7, 16)], "'seed' has 31 bytes; expected 32"),
        ([SEED, Tensor("shape", "INT32", (2,), bytes(8))], "is 'INT32'; expected INT64"),
        ([SEED, shape(7, 17)], "expected (rows, C) with C = 16"),
        ([SEED, shape(-7, 16)], "expected (rows, C) with C = 16"),
        ([SEED, shape()], "expected 1 to 134217728 elements"),
        ([SEED, shape(*[16] * 1000)], "expected (rows, C) with C = 16"),
        ([SEED, shape(2**40, 16)], "expected at most 134217728 elements"),
        ([SEED, shape(2**62, 16)], "expected at most 134217728 elements"),
    ],
)
def test_malformed_tensors(stub, tensors, message):
    code, details = refusal(stub, request_of(tensors))
    assert code == "INVALID_ARGUMENT"
    assert message in details


def test_an_answer_that_no_message_can_hold(stub):
    code, details = refusal(stub, request_of([SEED, shape(2**22, 16)], "mid.qk"))
    assert code == "INVALID_ARGUMENT"
    assert "mid.qk: (4194304, 16) is 67108864 elements; this server takes 1048576 (--max-scale 64" in details


def test_an_image_smaller_than_the_kernel(stub):
    assert refusal(stub, request_of([SEED, shape(1, 0, 9, 8)], "down.conv"))[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("name", "version"), [("mid", ""), ("", ""), ("mid.qk", "2"), ("../mid.qk", "1"), ("x" * 9999, "")]
)
def test_unknown_models(stub, name, version):
    code, details = refusal(stub, request_of([MASKED], name, model_version=version))
    assert code == "NOT_FOUND"
    assert "this server has 3, version '1': down.conv, mid.qk, mid.to_out. Client and server must hold" in details
    with pytest.raises(grpc.RpcError) as error:
        stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version))
    assert error.value.code().name == "NOT_FOUND"


def test_typed_contents(stub):
    request = request_of([Tensor("masked", "UINT8", (4, 7, 16), b"")])
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend(bytes(448))
    code, details = refusal(stub, request)
    assert code == "INVALID_ARGUMENT"
    assert "typed `contents`; expected all inputs in `raw_input_contents`" in details


@pytest.mark.parametrize("contents", [[], [bytes(448)] * 2])
def test_number_of_raw_contents(stub, contents):
    request = request_of([MASKED])
    del request.raw_input_contents[:]
    request.raw_input_contents.extend(contents)
    code, details = refusal(stub, request)
    assert code == "INVALID_ARGUMENT"
    assert f"1 inputs with {len(contents)} raw_input_contents" in details


def test_unknown_requested_output(stub):
    output = pb.ModelInferRequest.InferRequestedOutputTensor(name="answer_1")
    code, details = refusal(stub, request_of([MASKED], outputs=[output]))
    assert code == "INVALID_ARGUMENT"
    assert details == "requested output 'answer_1'; expected one of ['answer_0']"


@pytest.mark.parametrize(
    "request_",
    [
        request_of([Tensor("x" * 100_000, "UINT8", (1,), bytes(1))]),
        request_of([Tensor("masked", "x" * 100_000, (1,), bytes(1))]),
        request_of([Tensor("masked", "UINT8", [1] * 100_000, bytes(1))]),
        request_of([MASKED], outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="x" * 100_000)]),
    ],
)
def test_what_a_request_says_is_quoted_shortened(stub, request_):
    code, details = refusal(stub, request_)
    assert code == "INVALID_ARGUMENT"
    assert len(details) < 1010


@pytest.mark.parametrize("method", ["ModelConfig", "ModelStatistics", "RepositoryIndex"])
def test_the_rest_of_the_protocol_is_unimplemented(stub, method):
    request = getattr(pb, method + "Request")()
    with pytest.raises(grpc.RpcError) as error:
        getattr(stub, method)(request)
    assert error.value.code().name == "UNIMPLEMENTED"


NAMES = st.sampled_from(["masked", "seed", "shape", "answer_0"]) | st.text(max_size=20)
SIZES = st.integers(-3, 20) | st.integers(-(2**63), 2**63 - 1)
CONTENTS = st.binary(max_size=40) | st.just(bytes(32)) | st.just(bytes(448))
TENSORS = st.builds(
    Tensor,
    NAMES,
    st.sampled_from(["UINT8", "INT32", "INT64", "FP32", "BYTES", ""]),
    st.lists(SIZES, max_size=10),
    CONTENTS,
)
REQUESTS = st.builds(
    request_of,
    st.lists(TENSORS, max_size=4),
    st.sampled_from(["mid.to_out", "mid.qk", "down.conv"]) | st.text(max_size=10),
    model_version=st.sampled_from(["", "1"]) | st.text(max_size=3),
)


@settings(max_examples=100, deadline=None)
@given(REQUESTS)
def survives_malformed_requests(stub, request):
    try:
        stub.ModelInfer(request, timeout=10)
    except grpc.RpcError as error:
        assert error.code().name in {"INVALID_ARGUMENT", "NOT_FOUND"}, error  # noqa: PT017


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=200))
def survives_bytes(channel, content):
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as error:
        call(content, timeout=10)
    assert error.value.code().name in {"INTERNAL", "NOT_FOUND", "INVALID_ARGUMENT"}


def test_it_survives_and_still_answers_right(evaluator, stub, channel, package, ask):
    survives_malformed_requests(stub)
    survives_bytes(channel)
    for request in (seed_request(Seed(bytes(32)), (7, 16)), masked_request(np.zeros((4, 7, 16), np.uint8))):
        expected = serve(RING, package.layers("mid.to_out"), package.weights["mid.to_out"], request)
        assert ask(evaluator, "mid.to_out", request) == expected
    assert evaluator.process.poll() is None
    for line in evaluator.log.read_text().splitlines():
        assert json.loads(line)["event"] != "request failed"
