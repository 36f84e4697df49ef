"""Masked slices of Stable Diffusion 1.5's sizes on every engine that runs here, and the same layers in plain float16 and float32.

Both are timed from host memory to host memory, copies included: that is what a server does. `tools/gpu_check.sh` runs it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import onnx_ir as ir
import torch
import typer
from local_servers import local_servers

from ppidm.client.transport import Server
from ppidm.engines.build import Build, BuildSettings
from ppidm.engines.choice import EngineChoice
from ppidm.engines.doctor import examine
from ppidm.engines.selftest import answers_digest, test_digits
from ppidm.engines.tensorrt.library import FLAVOURS
from ppidm.export.quantize import proof_of, quantize_layer
from ppidm.export.slices import slice_from_layers
from ppidm.protocol.linear import ANSWER_RING, Layer, apply
from ppidm.protocol.manifest import ServerManifest, digests_of, file_digest, package_digest, write_manifest
from ppidm.protocol.messages import masked_request
from ppidm.protocol.records import SelfTest, Subgraph
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable

    from ppidm.engines.base import Runner
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.ring import Digits

RING = Ring(32)
CONVOLUTION = {"kind": "convolution", "kernel": (3, 3), "pads": (1, 1, 1, 1)}
FULL: dict[str, tuple[dict[str, Any], Shape]] = {
    "product-320-2560": ({"kind": "product", "in_channels": 320, "out_channels": 2560}, (4096, 320)),
    "product-1280-1280": ({"kind": "product", "in_channels": 1280, "out_channels": 1280}, (256, 1280)),
    "conv-320-320": ({**CONVOLUTION, "in_channels": 320, "out_channels": 320}, (1, 64, 64, 320)),
    "conv-1280-1280": ({**CONVOLUTION, "in_channels": 1280, "out_channels": 1280}, (1, 16, 16, 1280)),
}
SMALL: dict[str, tuple[dict[str, Any], Shape]] = {
    "product-32-48": ({"kind": "product", "in_channels": 32, "out_channels": 48}, (64, 32)),
    "conv-16-8": ({**CONVOLUTION, "in_channels": 16, "out_channels": 8}, (1, 8, 8, 16)),
}
CLIENTS = 8  # at once, of the server under load


def main(
    output: Annotated[Path, typer.Option(help="JSON to write.")],
    *,
    engine: Annotated[list[str], typer.Option(help="By default all that run here. Repeatable.")] = [],  # noqa: B006
    small: Annotated[bool, typer.Option("--small", help="Tiny layers, to see that it works.")] = False,
    seconds: Annotated[float, typer.Option(help="That a server is under load.")] = 10.0,
) -> None:
    """Measure, and write JSON."""
    found = examine()
    names = engine or [verdict.engine for verdict in found.verdicts if verdict.runs]
    result: dict[str, Any] = {
        "machine": found.parts,
        "engines": {verdict.engine: verdict.told for verdict in found.verdicts},
        "unit": "milliseconds, median, host memory to host memory",
    }
    with TemporaryDirectory() as temporary:
        package, cache = Path(temporary) / "package", Path(temporary) / "cache"
        slices = write_package(package / "server-0", SMALL if small else FULL)
        result["plain"] = {subgraph.name: plain_milliseconds(subgraph) for subgraph in slices}
        result["masked"] = {name: measure(EngineChoice(name, cache), package, slices, seconds) for name in names}
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    typer.echo(str(output))


def write_package(directory: Path, layers: dict[str, tuple[dict[str, Any], Shape]]) -> list[Subgraph]:
    """A server's directory with one slice per layer, of random weights."""
    directory.mkdir(parents=True)
    slices = [write_slice(directory, name, fields, shape) for name, (fields, shape) in layers.items()]
    write_manifest(
        directory,
        ServerManifest(
            model="benchmark",
            package=package_digest(slices),
            ring_bits=RING.bits,
            weight_bits=12,
            slices=tuple(slices),
            files=digests_of(directory),
        ),
    )
    return slices


def write_slice(directory: Path, name: str, fields: dict[str, Any], shape: Shape) -> Subgraph:
    """A slice, and its entry in the manifest."""
    layer, rng = Layer(name=name, **fields), np.random.default_rng(0)
    weights = rng.standard_normal((layer.out_channels, layer.in_channels, *layer.kernel), np.float32)
    quantized = quantize_layer(layer, weights, np.zeros(layer.out_channels, np.float32))
    path = directory / f"{name}.onnx"
    ir.save(slice_from_layers(name, [quantized], RING), path)
    tested = (min(shape[0], 64), *(min(size, 8) for size in shape[1:-1]), shape[-1])
    answer = apply(quantized.layer, quantized.weights, test_digits(RING, tested), ANSWER_RING).view(np.int32)
    return Subgraph(
        name=name,
        file=path.name,
        sha256=file_digest(path),
        layers=(quantized.layer,),
        nominal_shape=shape,
        self_test=SelfTest(shape=tested, digest=answers_digest([answer])),
        proof=proof_of([quantized]),
    )


def measure(choice: EngineChoice, package: Path, slices: list[Subgraph], seconds: float) -> dict[str, Any]:
    """One engine: compiling, every slice alone, and a server under load."""
    directory, started = package / "server-0", perf_counter()
    if choice.name in FLAVOURS:
        failures = Build(BuildSettings(directory, choice.name, cache=choice.cache)).run(lambda *_: None).failures
        if failures:
            raise SystemExit("\n".join(failures))
    compiled = perf_counter() - started
    engine = choice.make(RING, 0)
    runners = {subgraph.name: engine.load(directory, subgraph) for subgraph in slices}
    alone = {subgraph.name: run_milliseconds(runners[subgraph.name], subgraph) for subgraph in slices}
    return {"name": engine.name, "compile_seconds": compiled, "slices": alone} | load(choice, package, slices, seconds)


def run_milliseconds(runner: Runner, subgraph: Subgraph) -> float:
    """Of a masked slice."""
    digits = uniform(subgraph)
    return milliseconds(lambda: runner.run(digits))


def uniform(subgraph: Subgraph) -> Digits:
    """What a masked activation looks like."""
    return np.random.default_rng(1).integers(0, 256, (RING.limbs, *subgraph.nominal_shape), np.uint8)


def milliseconds(run: Callable[[], object], least: int = 10, longest: float = 3.0) -> float:
    """Median after two runs to warm up."""
    for _ in range(2):
        run()
    times: list[float] = []
    while len(times) < least and sum(times) < longest:
        started = perf_counter()
        run()
        times.append(perf_counter() - started)
    return 1000 * median(times)


def load(choice: EngineChoice, package: Path, slices: list[Subgraph], seconds: float) -> dict[str, Any]:
    """Requests per second of a real server that `CLIENTS` ask all the time; every answer is compared with the first."""
    options = ["--engine", choice.name, *(["--cache", str(choice.cache)] if choice.cache else [])]
    requests = {subgraph.name: masked_request(uniform(subgraph)) for subgraph in slices}
    with local_servers(package, 1, options) as [address]:
        server = Server("evaluator", address, 120)
        expected = {name: server.ask(name, request)()[0].content for name, request in requests.items()}
        names, end = list(requests), monotonic() + seconds

        def ask(number: int) -> tuple[int, int]:
            done = wrong = 0
            while monotonic() < end:
                name = names[(number + done) % len(names)]
                wrong += server.ask(name, requests[name])()[0].content != expected[name]
                done += 1
            return done, wrong

        with ThreadPoolExecutor(CLIENTS) as pool:
            counts = list(pool.map(ask, range(CLIENTS)))
        server.close()
    done = sum(count for count, _ in counts)
    return {"requests_per_second": done / seconds, "wrong_answers": sum(wrong for _, wrong in counts)}


def plain_milliseconds(subgraph: Subgraph) -> dict[str, float]:
    """The same layer in torch, without masks: on the GPU in float16, TF32 and float32; on a CPU in float32."""
    if not torch.cuda.is_available():
        return {"cpu_float32": _plain(subgraph, "cpu", torch.float32)}
    result = {"float16": _plain(subgraph, "cuda", torch.float16)}
    for name, allowed in (("float32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        result[name] = _plain(subgraph, "cuda", torch.float32)
    return result


def _plain(subgraph: Subgraph, device: str, kind: torch.dtype) -> float:
    layer = subgraph.layers[0]
    weights = torch.randn(layer.out_channels, layer.in_channels, *layer.kernel, device=device, dtype=kind)
    x = torch.randn(subgraph.nominal_shape, dtype=kind)
    x = x.pin_memory() if device == "cuda" else x

    def run() -> torch.Tensor:
        there = x.to(device, non_blocking=True)
        if layer.kind == "product":
            return (there @ weights[:, :, 0, 0].T).cpu()
        return torch.nn.functional.conv2d(there.permute(0, 3, 1, 2), weights, padding=layer.pads[0]).cpu()

    with torch.inference_mode():
        return milliseconds(run)


if __name__ == "__main__":
    typer.run(main)
