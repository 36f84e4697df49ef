"""A slice -> a plan: TensorRT's compiler, for given input shapes and GPU architectures.

The network is strongly typed: float32 stays float32. TF32 is allowed where the exporter proved that it changes nothing. Nothing
may choose an inexact algorithm: a slice holds no convolution (see `export.slices`), and a product of integers is exact in
any order of summation.

Security:
    Files may be hostile: `onnx_guard` reads each before TensorRT's parser does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ppidm.engines.onnx_guard import require_allowed_content
from ppidm.engines.onnx_policy import PRODUCTS
from ppidm.engines.tensorrt.library import summary
from ppidm.protocol.errors import InputError, UnsupportedError
from ppidm.protocol.messages import MASKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ppidm.engines.profiles import Profile
    from ppidm.engines.tensorrt.library import Library
    from ppidm.engines.tensorrt.timing import Timings

_NOT_FOR_FLOATS = "sm75"  # TensorRT for RTX has no float32 products for Turing


@dataclass(frozen=True)
class PlanRequest:
    """What a plan is to be good for.

    Attributes:
        limbs: of the ring; the first axis of every input.
        profiles: of input shapes, without limbs.
        targets: GPU architectures.
        tf32: whether products may round operands to TF32.
    """

    limbs: int
    profiles: tuple[Profile, ...]
    targets: tuple[str, ...]
    tf32: bool


def build_plan(
    library: Library, name: str, content: bytes, request: PlanRequest, timings: Timings | None = None
) -> bytes:
    """Compile a slice.

    Args:
        library: which TensorRT.
        name: of the slice, for messages.
        content: of its ONNX file.
        request: what for.
        timings: of kernels; lent and learned from.

    Returns:
        A serialised engine. Two builds differ in a few bytes.

    Raises:
        PackageError: the file holds what no slice of products may.
        UnsupportedError: TensorRT cannot compile it; the message names the node and the reason.
    """
    require_allowed_content(content, PRODUCTS, name)
    log = library.log()
    builder = library.trt.Builder(log)
    network = _parsed(library, name, content, builder, log)
    config = _config(library, builder, request)
    if timings is not None:
        timings.lend(config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise UnsupportedError(
            f"{name}: {library.flavour.engine} {library.version} cannot compile it: {summary(log.errors)}"
        )
    if timings is not None:
        timings.keep(config)
    return bytes(plan)


def _parsed(library: Library, name: str, content: bytes, builder: Any, log: Any) -> Any:  # noqa: ANN401
    trt = library.trt
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(content):
        errors = [parser.get_error(number) for number in range(parser.num_errors)]
        told = [f"node {each.node_name()!r} ({each.node_operator()}): {_reason(each.desc())}" for each in errors]
        raise UnsupportedError(
            f"{name}: {library.flavour.engine} {library.version} cannot read it: {summary(told or log.errors)}; export the "
            "package again with this version of ppidm"
        )
    return network


def _reason(description: str) -> str:
    """Of a parser's error: without what it says about a missing GPU."""
    return " ".join(line for line in description.splitlines() if "checkMacros" not in line)


def _config(library: Library, builder: Any, request: PlanRequest) -> Any:  # noqa: ANN401
    config = builder.create_builder_config()
    tf32 = library.trt.BuilderFlag.TF32
    config.set_flag(tf32) if request.tf32 else config.clear_flag(tf32)
    for profile in request.profiles:
        ranges = builder.create_optimization_profile()
        ranges.set_shape(MASKED, *((request.limbs, *shape) for shape in (profile.least, profile.best, profile.most)))
        config.add_optimization_profile(ranges)
    if library.flavour.ahead:
        config.num_compute_capabilities = len(request.targets)
        for index, target in enumerate(request.targets):
            config.set_compute_capability(getattr(library.trt.ComputeCapability, target.upper()), index)
    return config


def choose_targets(library: Library, asked: Sequence[str], here: str | None) -> tuple[str, ...]:
    """GPU architectures to compile for.

    Args:
        library: which TensorRT.
        asked: `--target`; by default all that the library has float32 products for, or the GPU of this machine.
        here: the architecture of this machine's GPU; None if it has none.

    Raises:
        InputError: the library does not compile for them, or not here.
    """
    if not library.flavour.ahead:
        if here is None:
            raise InputError(
                f"engine {library.flavour.engine} compiles on a machine with the GPU that it is for, and finds none here; build "
                "there, or use --engine tensorrt-rtx"
            )
        if set(asked) - {here}:
            raise InputError(
                f"--target {' '.join(asked)}: {library.flavour.engine} compiles for this machine's {here} only"
            )
        return (here,)
    good = [target for target in library.targets if target != _NOT_FOR_FLOATS]
    if unknown := [target for target in asked if target not in good]:
        raise InputError(
            f"--target {unknown[0]}: {library.flavour.engine} {library.version} compiles for {', '.join(good)}"
        )
    return tuple(target for target in good if target in asked) or tuple(good)
