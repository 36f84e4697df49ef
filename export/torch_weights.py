"""Modules without weights, for tracing, and runs of them with weights that are read where they are used.

A U-Net of 2.6 billion weights takes 10 GB in float32. Tracing needs none of them: torch's fake tensors have a shape and
a type only. To compare the graph with torch, every layer gets its weights as it is called, and loses them after.

Importing this module imports torch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ppidm.export.external import source_of

M = TypeVar("M", bound=nn.Module)


def without_weights(make: Callable[[], M]) -> M:
    """The module that `make` gives, in evaluation mode, with fake weights: no memory, and no time to draw them."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        return make().eval()


def fake_mode_of(module: nn.Module) -> FakeTensorMode | None:
    """The mode in which a module `without_weights` was made; None of one that has its weights."""
    first = next(module.parameters(), None)
    return first.data.fake_mode if first is not None and isinstance(first.data, FakeTensor) else None


@contextmanager
def streamed_weights(module: nn.Module, stored: Mapping[str, ir.ExternalTensor], root: str) -> Iterator[None]:
    """Within the block, `module` computes in float32 with weights from `stored`, one layer of them in memory at a time.

    Args:
        module: made by `without_weights`; others are left alone.
        stored: `external.stored_tensors` of the same component.
        root: the prefix of the module's names that the stored ones do not have.
    """
    handles = []
    if fake_mode_of(module) is not None:
        for prefix, owner in module.named_modules():
            if owner._parameters:  # noqa: SLF001  (they are swapped, which torch has no public name for)
                names = {name: f"{prefix}.{name}".removeprefix(root) for name in owner._parameters}  # noqa: SLF001
                handles += _stream(owner, names, stored)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stream(owner: nn.Module, names: Mapping[str, str], stored: Mapping[str, ir.ExternalTensor]) -> list[Any]:
    fakes = dict(owner._parameters)  # noqa: SLF001

    def load(*_: object) -> None:
        for name, fake in fakes.items():
            if fake is not None:
                owner._parameters[name] = _real(source_of(names[name], tuple(fake.shape), stored))  # noqa: SLF001

    def drop(*_: object) -> None:
        owner._parameters.update(fakes)  # noqa: SLF001

    return [owner.register_forward_pre_hook(load), owner.register_forward_hook(drop, always_call=True)]


def _real(tensor: ir.ExternalTensor) -> nn.Parameter:
    values = np.array(tensor.numpy(), np.float32)
    tensor.release()  # the pages of the file count as ours as long as they are mapped
    return nn.Parameter(torch.from_numpy(values), requires_grad=False)
