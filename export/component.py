"""Traces one component of a pipeline to `model.onnx` beside its weights, and compares it with torch.

Importing this module needs `ppidm[export]`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from ppidm.engines.onnxruntime import open_session
from ppidm.export import torch_export, torch_modules
from ppidm.export.external import move_weights_out, source_of, stored_tensors, weight_files
from ppidm.export.tidy import tidy
from ppidm.export.torch_modules import Component
from ppidm.protocol.errors import UnsupportedError

TOLERANCE = 1e-4
"""Largest error of a traced graph, relative to the largest absolute value of the output."""

_TRACED = {"batch": 2, "tokens": 7, "height": 4, "width": 6}  # height and width count in the component's multiple
_COMPARED = ({"batch": 1, "tokens": 5, "height": 3, "width": 5}, {"batch": 3, "tokens": 14, "height": 6, "width": 2})


def load(folder: Path, tokens: int) -> Component:
    """Load the torch module of a component's folder; `tokens` is what the tokenizer gives."""
    stored_tensors(weight_files(folder))  # a damaged file is named here: what torch would say is less clear
    if folder.name.startswith("text_encoder"):
        return torch_modules.load_text_encoder(folder, tokens)
    return torch_modules.load_unet(folder) if folder.name == "unet" else torch_modules.load_decoder(folder)


def load_encoder(folder: Path) -> Component:
    """Load the torch module of a VAE's other half, which is traced into a file of its own."""
    stored_tensors(weight_files(folder))
    return torch_modules.load_encoder(folder)


def write_onnx(component: Component, folder: Path, file: str = "model.onnx") -> float:
    """Write a component's graph into its folder, once it has been compared with torch.

    Returns:
        The largest error.

    Raises:
        UnsupportedError: the graph cannot be made, or it computes something else.
    """
    model = onnx_from(component, folder)
    with replacing(folder / file) as path:
        ir.save(model, path)
        return compare(component, path, folder)


def onnx_from(component: Component, folder: Path) -> ir.Model:
    """Trace and tidy a component whose weights lie in `folder`."""
    model, stored = torch_export.raw_onnx(component, _TRACED), stored_tensors(weight_files(folder))
    for value in list(model.graph.initializers.values()):
        value.name = str(value.name).removeprefix(torch_modules.ROOT)
    weights = {name: value for name, value in model.graph.initializers.items() if value.dtype is ir.DataType.FLOAT}
    for name, value in weights.items():
        value.const_value = _float32(source_of(name, tuple(value.shape or ()), stored))  # type: ignore[arg-type]
    multiples = {"height": component.multiple, "width": component.multiple}
    tidy(model, frozenset(weights), component.inputs, multiples, torch_modules.ROOT)
    move_weights_out(model.graph, weights, stored)
    return model


def _float32(source: ir.ExternalTensor) -> ir.TensorProtocol:
    """What torch would hold, read from the file only if somebody looks."""
    dtype, shape = ir.DataType.FLOAT, ir.Shape(source.shape)
    return ir.LazyTensor(lambda: ir.tensor(np.asarray(source.numpy(), np.float32)), dtype=dtype, shape=shape)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; it replaces `path`, or vanishes if something fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def compare(component: Component, path: Path, folder: Path) -> float:
    """Run the graph at `path` and the torch module, with the weights of `folder`, at sizes that were not traced.

    Returns:
        The largest absolute error, relative to the largest absolute value of the output.

    Raises:
        UnsupportedError: it exceeds `TOLERANCE`.
    """
    session = open_session(path, policy=None, in_place=True)
    stored = stored_tensors(weight_files(folder))
    error = max(_error(component, session, sizes, stored) for sizes in _COMPARED)
    if not error <= TOLERANCE:
        raise UnsupportedError(
            f"{folder.name}: the traced graph differs from torch by {error:.1e} of the largest output, and {TOLERANCE:.0e} is"
            " the limit. Its model.onnx was not written."
        )
    return error


def _error(
    component: Component,
    session: onnxruntime.InferenceSession,
    sizes: Mapping[str, int],
    stored: Mapping[str, ir.ExternalTensor],
) -> float:
    inputs = component.example(sizes)
    expected = [tensor.numpy() for tensor in torch_export.run(component, inputs, stored)]
    got = session.run(list(component.outputs), {name: tensor.numpy() for name, tensor in inputs.items()})
    return max(_relative_error(*pair) for pair in zip(expected, got, strict=True))


def _relative_error(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max()) if got.shape == expected.shape else np.inf
