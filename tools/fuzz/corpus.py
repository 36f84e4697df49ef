"""Good inputs of every target, to be damaged: a small package of two slices, its files, and messages about it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape
from victim import serialised

from ppidm.engines.selftest import answers_digest, test_digits
from ppidm.export.quantize import quantize_layer
from ppidm.export.slices import slice_from_layers
from ppidm.protocol.check import draw_check
from ppidm.protocol.check_file import write_checks
from ppidm.protocol.linear import Layer, apply
from ppidm.protocol.manifest import (
    ClientManifest,
    ServerManifest,
    digests_of,
    file_digest,
    package_digest,
    write_manifest,
)
from ppidm.protocol.messages import answer, masked_request, seed_request
from ppidm.protocol.prg import Seed
from ppidm.protocol.records import ImageConfig, Offload, Program, Programs, SelfTest, Subgraph
from ppidm.protocol.ring import Ring
from ppidm.protocol.sampler_table import ENTRY, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from ppidm.protocol.linear import Shape

RING = Ring(32)
SHAPES: dict[str, Shape] = {"to_out": (3, 6), "conv": (1, 4, 5, 3)}
LAYERS = {
    "to_out": Layer(name="to_out", kind="product", in_channels=6, out_channels=5),
    "conv": Layer(name="conv", kind="convolution", in_channels=3, out_channels=4, kernel=(3, 3), pads=(1, 1, 1, 1)),
}


@dataclass(frozen=True)
class SmallPackage:
    """A server directory, a client's manifest, check vectors; all in one folder."""

    folder: Path
    slices: tuple[Subgraph, ...]

    @classmethod
    def write(cls, folder: Path) -> SmallPackage:
        """Export two layers of random weights."""
        rng = np.random.default_rng(0)
        slices = tuple(write_slice(folder, name, rng) for name in LAYERS)
        digest = package_digest(slices)
        common = {"model": "small", "package": digest, "ring_bits": 32, "weight_bits": 12, "slices": slices}
        write_manifest(folder, ServerManifest(**common, files=digests_of(folder)))
        (folder / "client").mkdir()
        step = Offload(slice="conv", reads=("sample",), writes=("y",))
        program, empty = (
            Program(inputs=("sample",), outputs=("y",), steps=(step,)),
            Program(inputs=(), outputs=(), steps=()),
        )
        client = ClientManifest(
            **common,
            files={},
            servers=2,
            programs=Programs(prompt=empty, timestep=empty, sample=program),
            image=ImageConfig(
                height=8, width=8, latent_channels=3, vae_scale_factor=2, size_multiple=4, scaling_factor=0.18
            ),
            max_tokens=8,
            scheduler="DDIMScheduler",
        )
        write_manifest(folder / "client", client)
        return cls(folder, slices)


def write_slice(folder: Path, name: str, rng: np.random.Generator) -> Subgraph:
    """A slice in the portable form, and its entry in a manifest."""
    layer, shape = LAYERS[name], SHAPES[name]
    weights = rng.standard_normal((layer.out_channels, layer.in_channels, *layer.kernel), np.float32)
    quantized = quantize_layer(layer, weights, np.zeros(layer.out_channels, np.float32))
    path = folder / f"{name}.onnx"
    ir.save(slice_from_layers(name, [quantized], RING), path)
    answers = [apply(layer, quantized.weights, test_digits(RING, shape), RING).view(np.int32)]
    test = SelfTest(shape=shape, digest=answers_digest(answers))
    return Subgraph(
        name=name,
        file=path.name,
        sha256=file_digest(path),
        layers=(quantized.layer,),
        nominal_shape=shape,
        self_test=test,
    )


def segment() -> bytes:
    """What a client runs between two slices: sigmoid, a product of public shape, a sum."""
    tape = Tape()
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", 6]))
    weight = tape.initializer(ir.tensor(np.ones((6, 4), np.float32), name="weight"))
    y = tape.op(
        "Add",
        [tape.op("MatMul", [tape.op("Sigmoid", [x]), weight]), tape.initializer(ir.tensor(np.float32(1), name="one"))],
    )
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape(["rows", 4])
    graph = ir.Graph([x], [y], nodes=tape.nodes, initializers=tape.initializers, name="segment", opset_imports={"": 17})
    return ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()


def requests() -> list[bytes]:
    """Serialised requests of both roles for every slice."""
    rng = np.random.default_rng(1)
    found = []
    for name, shape in SHAPES.items():
        digits = rng.integers(0, 256, (RING.limbs, *shape), np.uint8)
        found += [serialised(name, each) for each in (masked_request(digits), seed_request(Seed(bytes(32)), shape))]
    return found


def answers() -> list[bytes]:
    """Serialised answers; on the wire they look like requests of other names."""
    outputs = {name: np.zeros(LAYERS[name].output_shape(shape), np.int32) for name, shape in SHAPES.items()}
    return [serialised(name, answer([values])) for name, values in outputs.items()]


def check_file(folder: Path) -> bytes:
    """The npz of check vectors."""
    rng = np.random.default_rng(2)
    weights = {
        n: rng.integers(-9, 9, (each.out_channels, each.in_channels, *each.kernel)) for n, each in LAYERS.items()
    }
    path = folder / "vectors.npz"
    write_checks(path, {name: [draw_check(LAYERS[name], each)] for name, each in weights.items()})
    return path.read_bytes()


def sampler_entries(steps: int = 3) -> bytes:
    """A table of one scheduler and one step count, as raw entries."""
    rows = [
        (steps, 0, Kind.TIMESTEP, 0, 9.0),
        (steps, 0, Kind.INPUT_SCALE, 0, 1.0),
        (steps, 0, Kind.INIT_SIGMA, 0, 1.0),
    ]
    rows += [(steps, 0, Kind.SAMPLE, 0, 0.5), (steps, 0, Kind.OUTPUT, 0, 0.5)]
    for row in range(1, steps):
        rows += [(steps, row, Kind.TIMESTEP, 0, 5.0), (steps, row, Kind.INPUT_SCALE, 0, 1.0)]
        rows += [
            (steps, row, Kind.OUTPUT, row, 0.5),
            (steps, row, Kind.NOISE, row - 1, 0.1),
            (steps, row, Kind.RESULT, 0, 1.0),
        ]
    return np.array(rows, ENTRY).tobytes()


def npy(array: np.ndarray) -> bytes:
    """An array as a member of an npz."""
    file = BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()
