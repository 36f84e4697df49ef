"""A server process, talked to with Triton's own client."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tritonclient import grpc as triton

import ppidm
from ppidm.protocol.check import draw_check
from ppidm.protocol.handshake import parse_extensions
from ppidm.protocol.masks import Mask
from ppidm.protocol.messages import masked_request, seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.ring import Ring
from ppidm.protocol.run import ask as mask_and_ask
from ppidm.protocol.run import open_answers, serve

RING = Ring(32)
SLICES = ["mid.to_out", "mid.qk", "down.conv"]


def requests_for(package, name):
    """A request for an evaluator and one for a dealer."""
    shape = package.shapes[name]
    digits = np.random.default_rng(3).integers(0, 256, (RING.limbs, *shape), np.uint8)
    return {"evaluator": masked_request(digits), "dealer": seed_request(Seed(bytes(range(32))), shape)}


def test_it_is_live_and_ready(evaluator, connect):
    with connect(evaluator) as client:
        assert client.is_server_live()
        assert client.is_server_ready()


def test_server_metadata_names_package_and_process(evaluator, dealer, package, connect):
    with connect(evaluator) as first, connect(dealer) as second:
        metadata = [client.get_server_metadata() for client in (first, second, first)]
    assert {(m.name, m.version) for m in metadata} == {("ppidm", ppidm.__version__)}
    hands = [parse_extensions(m.extensions) for m in metadata]
    assert {hand.package for hand in hands} == {package.manifest.package}
    assert hands[0].instance == hands[2].instance != hands[1].instance


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("mid.qk", "", True), ("mid.qk", "1", True), ("mid.qk", "2", False), ("x", "", False)],
)
def test_model_ready(evaluator, connect, name, version, ready):
    with connect(evaluator) as client:
        assert client.is_model_ready(name, version) is ready


def test_model_metadata(evaluator, connect):
    with connect(evaluator) as client:
        product, convolution = client.get_model_metadata("mid.qk"), client.get_model_metadata("down.conv", "1")
    assert (product.name, list(product.versions)) == ("mid.qk", ["1"])
    assert "onnxruntime" in product.platform
    assert described(product.inputs) == [
        ("masked", "UINT8", [4, -1, 16]),
        ("seed", "UINT8", [32]),
        ("shape", "INT64", [2]),
        ("answer_bits", "UINT8", [1]),
    ]
    assert described(product.outputs) == [("answer_0", "INT32", [-1, 16]), ("answer_1", "INT32", [-1, 24])]
    assert described(convolution.inputs)[0] == ("masked", "UINT8", [4, -1, -1, -1, 8])
    assert described(convolution.outputs) == [("answer_0", "INT32", [-1, -1, -1, 6])]


def described(tensors):
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in tensors]


@pytest.mark.parametrize("role", ["evaluator", "dealer"])
@pytest.mark.parametrize("name", SLICES)
def test_answers_are_those_of_the_protocol(evaluator, package, ask, name, role):
    request = requests_for(package, name)[role]
    assert ask(evaluator, name, request) == serve(RING, package.layers(name), package.weights[name], request)


def test_it_answers_other_shapes_than_the_nominal_one(evaluator, package, ask):
    request = seed_request(Seed(bytes(32)), (1, 33, 20, 8))
    assert ask(evaluator, "down.conv", request) == serve(
        RING, package.layers("down.conv"), package.weights["down.conv"], request
    )


def test_request_id_and_requested_outputs(evaluator, package, connect):
    [masked] = requests_for(package, "mid.qk")["evaluator"]
    tensor = triton.InferInput(masked.name, masked.shape, masked.datatype)
    tensor.set_data_from_numpy(masked.array("UINT8"))
    with connect(evaluator) as client:
        response = client.infer(
            "mid.qk", [tensor], request_id="no. 5", outputs=[triton.InferRequestedOutput("answer_1")]
        ).get_response()
    assert (response.id, response.model_name, response.model_version) == ("no. 5", "mid.qk", "1")
    assert [output.name for output in response.outputs] == ["answer_1"]
    assert len(response.raw_output_contents) == 1


@pytest.mark.parametrize("name", SLICES)
def test_a_whole_private_slice(evaluator, dealer, package, ask, name):
    x = np.random.default_rng(4).integers(-(2**13), 2**13, package.shapes[name])
    layers, weights = package.layers(name), package.weights[name]
    transcript = mask_and_ask(RING, x, Mask.fresh(RING, x.shape, 1))
    pairs = zip((evaluator, dealer), transcript.requests, strict=True)
    answers = [ask(server, name, request) for server, request in pairs]
    checks = [draw_check(layer, w) for layer, w in zip(layers, weights, strict=True)]
    opened = open_answers(RING, layers, checks, x, answers)
    if name == "mid.qk":
        for y, w in zip(opened, weights, strict=True):
            assert np.array_equal(y, x @ w[:, :, 0, 0].T)


def test_many_requests_at_once(evaluator, package, ask):
    names = SLICES * 8
    expected = {
        n: serve(RING, package.layers(n), package.weights[n], requests_for(package, n)["dealer"]) for n in SLICES
    }
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda name: ask(evaluator, name, requests_for(package, name)["dealer"]), names))
    assert got == [expected[name] for name in names]


SLOW = """
import time
from ppidm.engines.onnxruntime import OrtRunner
fast = OrtRunner.run
def slow(self, digits):
    if digits.shape[1] == 100:
        print("computing", flush=True)
        time.sleep(1)
    return fast(self, digits)
OrtRunner.run = slow
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_request_in_flight_finish(start_server, package, ask, number):
    request = seed_request(Seed(bytes(32)), (100, 16))
    with start_server(package.directory, prelude=SLOW) as server, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(ask, server, "mid.to_out", request)
        assert server.process.stdout.readline() == "computing\n"
        signalled = time.monotonic()
        assert server.stop(number) == 0
        assert time.monotonic() - signalled > 0.5
        assert pending.result() == serve(RING, package.layers("mid.to_out"), package.weights["mid.to_out"], request)
        assert server.process.stdout.read() == ""
        assert [json.loads(line)["event"] for line in server.log.read_text().splitlines()][-3:] == [
            "stopping",
            "request",
            "stopped",
        ]


def test_an_idle_server_stops_at_once(start_server, package):
    with start_server(package.directory) as server:
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5


def test_only_one_line_on_standard_output(start_server, package, ask):
    with start_server(package.directory) as server:
        ask(server, "mid.qk", requests_for(package, "mid.qk")["dealer"])
        server.stop()
        assert server.process.stdout.read() == ""


RACE = """
import os, random, signal, threading
from ppidm.runtime.server import _stop_signals
def stop_soon(ready):
    ready.wait()
    for _ in range(random.randrange(60)):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
for _ in range(2000):
    with _stop_signals() as wait_for_stop:
        ready = threading.Event()
        thread = threading.Thread(target=stop_soon, args=[ready])
        thread.start()
        ready.set()
        wait_for_stop()
        thread.join()
"""


def test_no_signal_is_missed():
    subprocess.run([sys.executable, "-c", RACE], check=True, timeout=60)
