"""An export is finished when its outputs were compared: the composed program against the traced U-Net.

Twice. With float32 products in place of the slices the two must agree to float32 rounding, which proves the partition;
this run also tells every slice's shape. With the slices themselves, loaded from the package and self-tested, the error
must be that of the quantised weights. Weights are read where they are used, so that one slice is in memory at a time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.engines.onnxruntime import CpuEngine, open_session
from ppidm.engines.unet import PROMPT, SAMPLE, TIMESTEP, PartitionedUNet, select_rows
from ppidm.protocol.errors import InputError, PackageError, UnsupportedError
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
    from ppidm.protocol.linear import Layer, Shape
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
    """Run the traced pipeline's text encoder and U-Net on two prompts of random tokens at two timesteps.

    Raises:
        InputError: ONNX Runtime cannot load them.
    """
    rng = np.random.default_rng(0)
    ids = rng.integers(0, vocabulary, (len(TIMESTEPS), tokens))
    hidden = _run(model / "text_encoder" / "model.onnx", {"input_ids": ids})
    sample = rng.standard_normal((len(TIMESTEPS), *sample_shape), np.float32)
    feeds = {SAMPLE: sample, TIMESTEP: TIMESTEPS.astype(np.float32), PROMPT: hidden}
    return Reference(sample, hidden, _run(model / "unet" / "model.onnx", feeds))


def _run(path: Path, feeds: dict[str, NDArray[Any]]) -> Floats:
    try:
        output: Floats = open_session(path, policy=None).run(None, feeds)[0]
    except PackageError as error:
        raise InputError(f"{path}: {error.__cause__}; trace the pipeline again with --retrace") from error
    return output


def composed_output(client: Path, programs: Programs, reference: Reference, offload: OffloadCallable) -> Floats:
    """What the programs of `client` give for the inputs of `reference`, with `offload` in place of the servers.

    Raises:
        UnsupportedError: a hoisted value has no row per prompt, or per timestep, so that a client could not use it.
    """
    rows = range(len(TIMESTEPS))
    with ThreadPoolExecutor(1) as pool:
        unet = PartitionedUNet(client, programs, pool)
        prompts = unet.hoist_prompts(reference.hidden, offload).outputs
        timesteps = unet.hoist_timesteps(TIMESTEPS, offload).outputs
        for name, value in (prompts | timesteps).items():
            if value.shape[:1] != (len(rows),):
                raise UnsupportedError(
                    f"hoisted value {name} has shape {value.shape} for {len(rows)} prompts or timesteps; expected one "
                    "row each. This graph cannot be split into what depends on the prompt or the timestep only"
                )
        hoisted = select_rows(prompts, rows), select_rows(timesteps, rows)
        (output,) = unet.evaluate(reference.sample, *hoisted, offload).outputs.values()
    return output


class FloatOffload:
    """Slices as float32 products of the original weights.

    Attributes:
        shapes: of the input of every slice that ran, for one of the evaluations of `Reference`.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = {group.name: group.operators for group in groups}
        self.shapes: dict[str, Shape] = {}

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        """See `engines.program.ProgramRunner.run`."""
        rows = _rows(self._groups[name][0].layer, x)
        self.shapes[name] = (max(1, len(rows) // len(TIMESTEPS)), *rows.shape[1:])
        results = [_product(linear, rows) for linear in self._groups[name]]
        return [result.reshape(*x.shape[:-1], -1) if x.ndim != rows.ndim else result for result in results]


def _rows(layer: Layer, x: Floats) -> Floats:
    return x.reshape(-1, x.shape[-1]) if layer.kind == "product" else x


def _product(linear: Linear, rows: Floats) -> Floats:
    layer, kernels = linear.layer, linear.weights()
    inputs = np.split(patches(layer, rows), layer.groups, axis=3)
    results = [
        group.reshape(-1, layer.row_length) @ kernel.reshape(len(kernel), -1).T
        for group, kernel in zip(inputs, np.split(kernels, layer.groups), strict=True)
    ]
    return np.concatenate(results, axis=1).reshape(layer.output_shape(rows.shape)) + linear.bias()


class SliceOffload:
    """The exported slices, on encoded but unmasked activations: masking cancels exactly, so the result is the same."""

    def __init__(
        self, server: Path, slices: Sequence[Subgraph], openings: Mapping[str, Sequence[Opening]], ring: Ring
    ) -> None:
        self._engine, self._server, self._ring = CpuEngine(ring), server, ring
        self._slices = {subgraph.name: subgraph for subgraph in slices}
        self._openings = openings

    def __call__(self, name: str, x: Floats) -> list[Floats]:
        """See `engines.program.ProgramRunner.run`."""
        subgraph = self._slices[name]
        rows = _rows(subgraph.layers[0], x)
        scale = largest_scale(self._ring, subgraph.layers, rows, dealers=1)
        digits = self._ring.to_digits(self._ring.reduce(encode(rows, scale)))
        answers = self._engine.load(self._server, subgraph).run(digits)
        results = []
        for answer, opening in zip(answers, self._openings[name], strict=True):
            y = decode(aggregate(self._ring, [answer.view(np.uint32)]), scale, opening.scales, opening.bias)
            results.append(y.reshape(*x.shape[:-1], -1) if x.ndim != rows.ndim else y)
        return results


def snr_db(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Signal-to-noise ratio in decibels; infinite without noise."""
    noise = float(np.square(expected - got, dtype=np.float64).sum())
    signal = float(np.square(expected, dtype=np.float64).sum())
    if noise == 0 or signal == 0:
        return -inf if noise else inf
    return 10 * log10(signal / noise)


def require_equal(expected: Floats, got: Floats) -> float:
    """The largest error, relative to the largest output.

    Raises:
        UnsupportedError: the partitioned graph computes something else than the traced one.
    """
    _require_shape(expected, got)
    error, largest = float(np.abs(expected - got).max()), float(np.abs(expected).max())
    if not error <= PARTITION_TOLERANCE * largest:
        raise UnsupportedError(
            f"the partitioned U-Net differs from the traced one by {error:.1e} where the largest output is "
            f"{largest:.1e}; expected at most {PARTITION_TOLERANCE:.0e} of it. This graph is not carried exactly; "
            "please report it with the model's configuration"
        )
    return error / largest if largest else 0.0


def require_close(expected: Floats, got: Floats) -> float:
    """The SNR of the quantised U-Net.

    Raises:
        UnsupportedError: it is too low for the weights' bits.
    """
    _require_shape(expected, got)
    snr = snr_db(expected, got)
    if not snr >= QUANTIZED_SNR_DB:
        raise UnsupportedError(
            f"the quantised U-Net has an SNR of {snr:.1f} dB; expected at least {QUANTIZED_SNR_DB:.0f} dB. The weights "
            "or activations of this model have too wide a range for this precision"
        )
    return snr


def _require_shape(expected: Floats, got: Floats) -> None:
    if got.shape != expected.shape:
        raise UnsupportedError(f"the partitioned U-Net gives shape {got.shape}; the traced one {expected.shape}")
