"""A server directory, built by hand: three slices in the portable form, one of them of two layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from ppidm.engines.selftest import answers_digest, test_digits
from ppidm.protocol.linear import Layer, apply
from ppidm.protocol.manifest import (
    ServerManifest,
    digests_of,
    file_digest,
    package_digest,
    write_manifest,
)
from ppidm.protocol.records import SelfTest, Subgraph
from ppidm.protocol.ring import Ring

if TYPE_CHECKING:
    from pathlib import Path

RING = Ring(32)
OPSET = 21
LAYERS = {  # slice -> its layers, and an input shape
    "mid.to_out": ([Layer(name="to_out", kind="product", in_channels=16, out_channels=5)], (7, 16)),
    "mid.qk": (
        [
            Layer(name="q", kind="product", in_channels=16, out_channels=16),
            Layer(name="k", kind="product", in_channels=16, out_channels=24),
        ],
        (9, 16),
    ),
    "down.conv": (
        [
            Layer(
                name="conv",
                kind="convolution",
                in_channels=8,
                out_channels=6,
                kernel=(3, 3),
                strides=(2, 2),
                pads=(1, 1, 1, 1),
            )
        ],
        (2, 9, 6, 8),
    ),
}


@dataclass
class Package:
    """A server directory, and what its slices compute."""

    directory: Path
    manifest: ServerManifest
    weights: dict[str, list[np.ndarray]]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=lambda: {name: LAYERS[name][1] for name in LAYERS})

    def layers(self, name):
        return next(subgraph.layers for subgraph in self.manifest.slices if subgraph.name == name)


def build_package(directory):
    rng = np.random.default_rng(12)
    (directory / "slices").mkdir(parents=True)
    weights = {name: [draw_weights(rng, layer) for layer in layers] for name, (layers, _) in LAYERS.items()}
    slices = tuple(write_slice(directory, name, weights[name]) for name in LAYERS)
    manifest = ServerManifest(
        model="tiny",
        package=package_digest(slices),
        ring_bits=RING.bits,
        weight_bits=12,
        slices=slices,
        files=digests_of(directory),
    )
    write_manifest(directory, manifest)
    return Package(directory, manifest, weights)


def draw_weights(rng, layer):
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel)
    return rng.integers(-(2**11), 2**11, shape)


def write_slice(directory, name, weights):
    layers, shape = LAYERS[name]
    path = directory / "slices" / f"{name}.onnx"
    save(slice_model(layers, weights), path)
    digits = test_digits(RING, shape)
    answers = [apply(layer, w, digits, RING).view(np.int32) for layer, w in zip(layers, weights, strict=True)]
    return Subgraph(
        name=name,
        file=f"slices/{name}.onnx",
        sha256=file_digest(path),
        layers=tuple(layers),
        nominal_shape=shape,
        self_test=SelfTest(shape=shape, digest=answers_digest(answers)),
    )


def slice_model(layers, weights):
    """The portable form: limbs as a batch, float32 products, int32 sums."""
    rank, channels = layers[0].rank, layers[0].in_channels
    initializers = {"centre": np.float32(128), "batch": np.array([-1])}
    initializers |= {"planes": np.array([RING.limbs, -1])}
    initializers |= {f"limb_{limb}": np.int64(limb) for limb in range(RING.limbs)}
    initializers |= {f"power{limb}": np.int32(1 << (8 * limb)) for limb in range(RING.limbs)}
    nodes = [
        helper.make_node("Cast", ["masked"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["bytes", "centre"], ["digits"]),
        helper.make_node("Shape", ["digits"], ["inner"], start=2),
        helper.make_node("Concat", ["batch", "inner"], ["flat"], axis=0),
        helper.make_node("Reshape", ["digits", "flat"], ["limbs"]),  # limbs and rows, or limbs and images, in one axis
    ]
    for index, (layer, w) in enumerate(zip(layers, weights, strict=True)):
        initializers[f"weight{index}"] = weight_tensor(layer, w)
        nodes += layer_nodes(layer, index)
    free = [None] * (rank - 1)
    masked = helper.make_tensor_value_info("masked", TensorProto.UINT8, [RING.limbs, *free, channels])
    answers = [
        helper.make_tensor_value_info(f"answer_{index}", TensorProto.INT32, [*free, layer.out_channels])
        for index, layer in enumerate(layers)
    ]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()]
    graph = helper.make_graph(nodes, "slice", [masked], answers, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def weight_tensor(layer, weights):
    kernel = weights.astype(np.float32)
    return kernel.reshape(len(kernel), -1).T if layer.kind == "product" else kernel


def layer_nodes(layer, index):
    product, limbs = f"product{index}", [f"limb{index}_{limb}" for limb in range(RING.limbs)]
    yield from product_nodes(layer, index, product)
    yield helper.make_node("Cast", [product], [f"integers{index}"], to=TensorProto.INT32)
    yield helper.make_node("Shape", [f"integers{index}"], [f"row{index}"], start=1)
    yield helper.make_node("Concat", ["planes", f"row{index}"], [f"planar{index}"], axis=0)
    yield helper.make_node("Reshape", [f"integers{index}", f"planar{index}"], [f"planes{index}"])
    for limb, name in enumerate(limbs):
        yield helper.make_node("Gather", [f"planes{index}", f"limb_{limb}"], [name], axis=0)
    total = limbs[0]
    for limb, name in list(enumerate(limbs))[1:]:
        result = f"answer_{index}" if limb == RING.limbs - 1 else f"sum{index}_{limb}"
        yield helper.make_node("Mul", [name, f"power{limb}"], [f"shifted{index}_{limb}"])
        yield helper.make_node("Add", [total, f"shifted{index}_{limb}"], [result])
        total = result


def product_nodes(layer, index, result):
    if layer.kind == "product":
        yield helper.make_node("MatMul", ["limbs", f"weight{index}"], [result])
        return
    geometry = {"strides": layer.strides, "pads": layer.pads, "dilations": layer.dilations, "group": layer.groups}
    yield helper.make_node("Transpose", ["limbs"], [f"first{index}"], perm=[0, 3, 1, 2])
    yield helper.make_node("Conv", [f"first{index}", f"weight{index}"], [f"conv{index}"], **geometry)
    yield helper.make_node("Transpose", [f"conv{index}"], [result], perm=[0, 2, 3, 1])
