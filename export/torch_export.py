"""Torch's exporter: a component -> its raw ONNX graph; and the component itself, run on the same inputs.

Importing this module imports torch.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from ppidm.export.torch_modules import ROOT, Component, quiet
from ppidm.export.torch_weights import fake_mode_of, streamed_weights
from ppidm.protocol.errors import UnsupportedError

OPSET = 23
"""The first opset with Attention."""

_MAX_BATCH = 63  # from 64 on, diffusers' upsampling copies its input first; the graph itself has no limit


def raw_onnx(component: Component, sizes: Mapping[str, int]) -> ir.Model:
    """Run torch's exporter; initialisers have their torch names, and no values if the module has none.

    Raises:
        UnsupportedError: torch cannot trace the module.
    """
    try:
        with quiet(), fake_mode_of(component.module) or nullcontext():
            program = _export(component, component.example(sizes))
    except Exception as error:
        raise UnsupportedError(f"torch cannot trace {component.outputs[0]}: {error.__cause__ or error}") from error
    assert program is not None
    return program.model


def _export(component: Component, example: dict[str, Tensor]) -> torch.onnx.ONNXProgram | None:
    return torch.onnx.export(
        component.module,
        kwargs=example,
        input_names=list(example),
        output_names=list(component.outputs),
        dynamic_shapes=_dynamic_shapes(component),
        opset_version=OPSET,
        dynamo=True,
        optimize=False,
        verbose=False,
    )


def _dynamic_shapes(component: Component) -> dict[str, dict[int, Any]]:
    dims = {"batch": torch.export.Dim("batch", max=_MAX_BATCH), "tokens": torch.export.Dim("tokens")}
    return {
        name: {
            index: dims.get(dim, torch.export.Dim.DYNAMIC) for index, dim in enumerate(shape) if isinstance(dim, str)
        }
        for name, shape in component.inputs.items()
    }


def run(
    component: Component, inputs: Mapping[str, Tensor], stored: Mapping[str, ir.ExternalTensor]
) -> tuple[Tensor, ...]:
    """Run the module itself, in float32; weights that it does not have come from `stored`."""
    with torch.inference_mode(), streamed_weights(component.module, stored, ROOT):
        out = component.module(**inputs)
    return out if isinstance(out, tuple) else (out,)
