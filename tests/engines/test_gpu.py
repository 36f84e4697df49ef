"""Exactness on a real GPU, of every engine that is installed: `tools/gpu_check.sh`. Elsewhere skipped, with the reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import ppidm
from conftest import ServerProcess
from shipped import RING, apply_torch, load_slices

from ppidm.client.transport import Server
from ppidm.engines.choice import CPU, ENGINES, EngineChoice
from ppidm.engines.doctor import examine
from ppidm.engines.tensorrt.library import FLAVOURS
from ppidm.protocol.messages import masked_request, parse_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.gpu
THREADS, REQUESTS = 8, 400


@cache
def verdicts():
    return {verdict.engine: verdict for verdict in examine().verdicts}


@pytest.fixture(scope="module", params=[engine for engine in ENGINES if engine != CPU])
def choice(request, package, tmp_path_factory) -> EngineChoice:
    """An engine that runs here, with all slices compiled."""
    verdict = verdicts()[request.param]
    if not verdict.runs:
        pytest.skip(f"{request.param}: {verdict.told}")
    folder = tmp_path_factory.mktemp("cache")
    if request.param in FLAVOURS:
        shown = ppidm("build", package / "server-0", "--engine", request.param, "--cache", folder)
        assert shown.out == "compiled 96 of 96 slices\n", shown.err
    return EngineChoice(request.param, folder)


def uniform(shape, seed):
    return np.random.default_rng(seed).integers(0, 256, (RING.limbs, *shape), np.uint8)


def shapes_of(loaded):
    """The model's own; a batch that runs in pieces; twice the picture; something small."""
    first, *inner, channels = loaded.subgraph.nominal_shape
    return [
        (first, *inner, channels),
        (5 * first, *inner, channels),
        (1, *(2 * size for size in inner), channels),
        loaded.small_shape(),
    ]


def test_every_slice_is_exact(choice, package):
    """Against integer arithmetic, for uniform digits; loading each is a self-test by itself."""
    engine = choice.make(RING, 1)
    for seed, loaded in enumerate(load_slices(package)):
        runner = engine.load(package / "server-0", loaded.subgraph)
        for shape in shapes_of(loaded):
            digits = uniform(shape, seed)
            x = RING.signed(RING.from_digits(digits))
            for layer, weights, answer in zip(loaded.layers, loaded.weights, runner.run(digits), strict=True):
                expected = RING.reduce(apply_torch(layer, weights, x)).view(np.int32)
                np.testing.assert_array_equal(answer, expected, layer.name)


def test_many_threads_at_once(choice, package):
    engine, slices = choice.make(RING, 1), load_slices(package)[:24]
    runners = [engine.load(package / "server-0", loaded.subgraph) for loaded in slices]

    def ask(seed):
        loaded, runner = slices[seed % len(slices)], runners[seed % len(slices)]
        digits = uniform(loaded.subgraph.nominal_shape, seed)
        pairs = zip(runner.run(digits), loaded.runner.run(digits), strict=True)
        return all(np.array_equal(got, expected) for got, expected in pairs)

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(ask, range(REQUESTS)))


@pytest.fixture
def served(choice, package) -> Iterator[list[ServerProcess]]:
    options = ["--engine", choice.name, *(("--cache", str(choice.cache)) if choice.cache else ())]
    servers = [ServerProcess.start(package / f"server-{index}", *options) for index in range(2)]
    yield servers
    assert [server.stop() for server in servers] == [0, 0]


def test_a_server_under_load(served, package):
    slices = load_slices(package)
    server = Server("evaluator", served[0].address, 60)

    def ask(seed):
        loaded = slices[seed % len(slices)]
        digits = uniform(loaded.subgraph.nominal_shape, seed)
        tensors = server.ask(loaded.subgraph.name, masked_request(digits))()
        answers = parse_answer(tensors, loaded.layers, digits.shape[1:])
        expected = [RING.reduce(each.astype(np.int64)) for each in loaded.runner.run(digits)]
        return all(np.array_equal(got, want) for got, want in zip(answers, expected, strict=True))

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(ask, range(REQUESTS)))
    server.close()


def test_a_picture_is_the_same_as_on_a_cpu(served, servers, package, tmp_path: Path):
    """To the last bit, whatever computed it: that is what exact means."""
    words = "generate", package / "client", "red apple, 3d style", "--seed", "1", "--num-inference-steps", "3"
    for name, evaluator, dealer in [
        ("gpu", served[0].address, served[1].address),
        ("cpu", servers[0], servers[1]),
    ]:
        links = "--evaluator", evaluator, "--dealer", dealer, "--output", tmp_path / f"{name}.png"
        assert ppidm(*words, *links).status == 0
    assert (tmp_path / "gpu.png").read_bytes() == (tmp_path / "cpu.png").read_bytes()
