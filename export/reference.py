"""What an export is compared with: outputs of the graphs as they were before they were partitioned.

Pictures larger than `COMPARED` latents are compared at a smaller size: the sums of a layer are the same at any size.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ppidm.engines.onnxruntime import open_session
from ppidm.engines.program import ProgramRunner
from ppidm.engines.unet import GUIDANCE, POOLED, PROMPT, SAMPLE, SIZES, TIMESTEP, PartitionedUNet, select_rows
from ppidm.export.stand_ins import ZeroOffload
from ppidm.protocol.errors import InputError, PackageError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.engines.program import OffloadCallable
    from ppidm.export.client_files import ModelConfig
    from ppidm.export.offload import Group
    from ppidm.protocol.linear import Shape
    from ppidm.protocol.records import Program, Programs

    Floats = NDArray[np.float32]

TIMESTEPS = np.array([981.0, 241.0])
COMPARED = 32  # latents in each direction, at most


@dataclass(frozen=True)
class Reference:
    """Inputs for two evaluations, and what the traced U-Net makes of them. The first axis is the evaluation.

    Attributes:
        sample: latents.
        conditions: what else the U-Net reads, but for the timestep, by name.
        expected: the U-Net's output.
    """

    sample: Floats
    conditions: dict[str, Floats]
    expected: Floats


def reference_from_model(model: Path, config: ModelConfig) -> Reference:
    """Run the traced pipeline's text encoders and U-Net on two prompts of random tokens at two timesteps.

    Raises:
        InputError: ONNX Runtime cannot load them.
    """
    rng = np.random.default_rng(0)
    conditions = conditions_of(model, config, rng)
    channels, height, width = config.sample_shape
    shape = (len(TIMESTEPS), channels, min(height, COMPARED), min(width, COMPARED))
    sample = rng.standard_normal(shape, np.float32)
    feeds = {SAMPLE: sample, TIMESTEP: TIMESTEPS.astype(np.float32), **conditions}
    return Reference(sample, conditions, run_graph(model / "unet" / "model.onnx", feeds)[0])


def conditions_of(model: Path, config: ModelConfig, rng: np.random.Generator) -> dict[str, Floats]:
    """What the U-Net reads besides latents and timestep, for two prompts of random tokens."""
    ids = rng.integers(0, config.vocabulary, (len(TIMESTEPS), config.max_tokens))
    hidden = run_graph(model / "text_encoder" / "model.onnx", {"input_ids": ids})
    conditions = {PROMPT: hidden[0]}
    if config.conditioning.sizes:
        second, pooled = run_graph(model / "text_encoder_2" / "model.onnx", {"input_ids": ids})
        sizes = [config.image.height, config.image.width, 0, 0, config.image.height, config.image.width]
        conditions[PROMPT] = np.concatenate([hidden[0], second], axis=-1)
        conditions |= {POOLED: pooled, SIZES: np.array([sizes] * len(TIMESTEPS), np.float32)}
    if features := config.conditioning.guidance_features:
        conditions[GUIDANCE] = rng.standard_normal((len(TIMESTEPS), features), np.float32)
    return conditions


def run_graph(path: Path, feeds: Mapping[str, NDArray[Any]]) -> list[Floats]:
    """All outputs of a graph as it is.

    Raises:
        InputError: ONNX Runtime cannot load it, or the feeds do not fit.
    """
    try:
        outputs: list[Floats] = open_session(path, policy=None, in_place=True).run(None, dict(feeds))
    except PackageError as error:
        raise InputError(f"{path}: {error.__cause__}; trace the pipeline again with --retrace") from error
    return outputs


def composed_output(client: Path, programs: Programs, reference: Reference, offload: OffloadCallable) -> Floats:
    """What the programs of `client` give for the inputs of `reference`, with `offload` in place of the servers.

    Raises:
        UnsupportedError: a hoisted value has no row per prompt, or per timestep, so that a client could not use it.
    """
    rows = range(len(TIMESTEPS))
    with ThreadPoolExecutor(1) as pool:
        unet = PartitionedUNet(client, programs, pool)
        prompts = unet.hoist_prompts(reference.conditions, offload).outputs
        timesteps = unet.hoist_timesteps(TIMESTEPS, offload, reference.conditions).outputs
        for name, value in (prompts | timesteps).items():
            if value.shape[:1] != (len(rows),):
                raise UnsupportedError(
                    f"hoisted value {name} has shape {value.shape} for {len(rows)} prompts or timesteps; expected one "
                    "row each. This graph cannot be split into what depends on the prompt or the timestep only"
                )
        hoisted = select_rows(prompts, rows), select_rows(timesteps, rows)
        (output,) = unet.evaluate(reference.sample, *hoisted, offload).outputs.values()
    return output


def program_outputs(
    client: Path, program: Program, feeds: Mapping[str, Floats], offload: OffloadCallable
) -> list[Floats]:
    """What one program gives, in the order of its outputs."""
    with ThreadPoolExecutor(1) as pool:
        return list(ProgramRunner(client, program).run(feeds, offload, pool).outputs.values())


@dataclass
class DryRun:
    """What a run without products tells, one evaluation at the model's own size.

    Attributes:
        shapes: of every slice's input.
        client_flops: what the client computes itself.
        rounds: the longest chain of offloads, over all programs.
    """

    shapes: dict[str, Shape]
    client_flops: int = 0
    rounds: int = field(default=0)


def dry_run(client: Path, programs: Iterable[Program], groups: Sequence[Group], feeds: Mapping[str, Floats]) -> DryRun:
    """Run programs one after the other, each on what the former gave; slices give zeros.

    Args:
        client: the folder that holds their segments.
        programs: in order.
        groups: what was cut out.
        feeds: inputs of the whole graph, for one evaluation.
    """
    offload, values = ZeroOffload(groups), dict(feeds)
    result = DryRun(offload.shapes)
    with ThreadPoolExecutor(1) as pool, np.errstate(all="ignore"):
        for program in programs:
            run = ProgramRunner(client, program).run(values, offload, pool)
            values |= run.outputs
            result.client_flops += run.flops
            result.rounds += run.rounds
    return result
