"""An export is finished when its outputs were compared: the composed program against the traced U-Net.

Twice. With float32 products in place of the slices the two must agree to float32 rounding, which proves the partition;
this run also tells every slice's shape. With the slices themselves, loaded from the package and self-tested, the error must
be that of the quantised weights.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.engines.onnxruntime import CpuEngine, open_session
from ppidm.engines.unet import PROMPT, SAMPLE, TIMESTEP, PartitionedUNet, select_rows
from ppidm.protocol.errors import UnsupportedError
from ppidm.protocol.fixed_point import decode, encode, largest_scale
from ppidm.protocol.linear import patches
from ppidm.protocol.shares import aggregate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.engines.program import OffloadCallable
    from ppidm.export.offload import Group
    from ppidm.export.operators import Linear
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.manifest import Programs, Subgraph
    from ppidm.protocol.openings import Opening
    from ppidm.protocol.ring import Ring

    Floats = NDArray[np.float32]

PARTITION_TOLERANCE = 1e-3  # of the largest output: float32 rounding over some hundred layers
QUANTIZED_SNR_DB = 40.0  # 12-bit weights give 50 to 65 dB; a wrong slice gives less than 10
TIMESTEPS = np.array([981.0, 241.0])


@dataclass(frozen=True)
class Reference:
    """Inputs for two evaluations, and what the traced U-Net makes of them. The first axis is the evaluation."""

    sample: Floats
    hidden: Floats
    expected: Floats


def reference_from_model(model: Path, sample_shape: Shape, tokens: int, vocabulary: int) -> Reference:
    """Run the traced pipeline's text encoder and U-Net on two prompts of random tokens at two timesteps."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, vocabulary, (2, tokens))
    hidden = open_session(model / "text_encoder" / "model.onnx").run(None, {"input_ids": ids})[0]
    sample = rng.standard_normal((2, *sample_shape), np.float32)
    feeds = {SAMPLE: sample, TIMESTEP: TIMESTEPS.astype(np.float32), PROMPT: hidden}
    return Reference(sample, hidden, open_session(model / "unet" / "model.onnx").run(None, feeds)[0])


def composed_output(client: Path, programs: Programs, reference: Reference, offload: OffloadCallable) -> Floats:
    """What the programs of `client` give for the inputs of `reference`, with `offload` in place of the servers."""
    with ThreadPoolExecutor(1) as pool:
        unet = PartitionedUNet(client, programs, pool)
        prompts = unet.hoist_prompts(reference.hidden, offload).outputs
        timesteps = unet.hoist_timesteps(TIMESTEPS, offload).outputs
        results = []
        for row in range(len(TIMESTEPS)):
            hoisted = select_rows(prompts, [row]), select_rows(timesteps, [row])
            results.append(unet.evaluate(reference.sample[row : row + 1], *hoisted, offload))
    return np.concatenate([prediction for result in results for prediction in result.outputs.values()])


class FloatOffload:
    """Slices as float32 products of the original weights. `shapes` collects the shape of every slice's input."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = {group.name: group.operators for group in groups}
        self.shapes: dict[str, Shape] = {}

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        return [self._apply(name, linear, x) for linear in self._groups[name]]

    def _apply(self, name: str, linear: Linear, x: Floats) -> Floats:
        layer = linear.layer
        rows_in = x.reshape(-1, x.shape[-1]) if layer.kind == "product" else x
        self.shapes[name] = rows_in.shape
        groups = zip(np.split(patches(layer, rows_in), layer.groups, axis=3), np.split(linear.weights(), layer.groups), strict=True)
        results = [rows.reshape(-1, layer.row_length) @ kernel.reshape(len(kernel), -1).T for rows, kernel in groups]
        shape = (*x.shape[:-1], layer.out_channels) if layer.kind == "product" else layer.output_shape(x.shape)
        return np.concatenate(results, axis=1).reshape(shape) + linear.bias()


class SliceOffload:
    """The exported slices, on encoded but unmasked activations: masking cancels exactly, so the result is the same."""

    def __init__(
        self, server: Path, slices: Sequence[Subgraph], openings: Mapping[str, Sequence[Opening]], ring: Ring
    ) -> None:
        engine = CpuEngine(ring)
        self._runners = {subgraph.name: engine.load(server, subgraph) for subgraph in slices}
        self._slices = {subgraph.name: subgraph for subgraph in slices}
        self._openings, self._ring = openings, ring

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        layers = self._slices[name].layers
        rows = x.reshape(-1, x.shape[-1]) if layers[0].kind == "product" else x
        scale = largest_scale(self._ring, layers, rows, dealers=1)
        answers = self._runners[name].run(self._ring.to_digits(self._ring.reduce(encode(rows, scale))))
        results = []
        for answer, opening in zip(answers, self._openings[name], strict=True):
            y = decode(aggregate(self._ring, [answer.view(np.uint32)]), scale, opening.scales, opening.bias)
            results.append(y.reshape(*x.shape[:-1], -1) if layers[0].kind == "product" else y)
        return results


def snr_db(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Signal-to-noise ratio in decibels."""
    noise = float(np.square(expected - got, dtype=np.float64).sum())
    signal = float(np.square(expected, dtype=np.float64).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(signal / noise))


def require_equal(expected: Floats, got: Floats) -> float:
    """The largest error, relative to the largest output.

    Raises:
        UnsupportedError: the partitioned graph computes something else than the traced one.
    """
    error = float(np.abs(expected - got).max() / np.abs(expected).max())
    if not error <= PARTITION_TOLERANCE:
        raise UnsupportedError(
            f"the partitioned U-Net differs from the traced one by {error:.1e} of the largest output; expected at most "
            f"{PARTITION_TOLERANCE:.0e}. This graph is not carried exactly; please report it with the model's configuration"
        )
    return error


def require_close(expected: Floats, got: Floats) -> float:
    """The SNR of the quantised U-Net.

    Raises:
        UnsupportedError: it is too low for the weights' bits.
    """
    snr = snr_db(expected, got)
    if not snr >= QUANTIZED_SNR_DB:
        raise UnsupportedError(
            f"the quantised U-Net has an SNR of {snr:.1f} dB; expected at least {QUANTIZED_SNR_DB:.0f} dB. The weights or "
            "activations of this model have too wide a range for this precision"
        )
    return snr
