"""`ppidm export`: a traced pipeline -> `OUT/client`, `OUT/check`, `OUT/server-<i>`; all or nothing."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from ppidm.engines.unet import GUIDANCE, POOLED, PROMPT, SAMPLE, SIZES, TIMESTEP
from ppidm.export.client_files import DECODER, config_from_model, copy_components
from ppidm.export.compare import require_close, require_equal
from ppidm.export.lora import lora_from_text, merged_model
from ppidm.export.packing import Packing, Part
from ppidm.export.reference import (
    COMPARED,
    composed_output,
    dry_run,
    program_outputs,
    reference_from_model,
    run_graph,
)
from ppidm.export.settings import VAE, ExportResult, ExportSettings, OffloadChoice, silent
from ppidm.export.staging import require_free, staged
from ppidm.export.stand_ins import FloatOffload, SliceOffload
from ppidm.export.trace import is_traced, refresh_samplers, resolve_model, trace
from ppidm.protocol.manifest import ClientManifest
from ppidm.protocol.records import Programs
from ppidm.protocol.signatures import load_private_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ppidm.engines.program import OffloadCallable
    from ppidm.export.client_files import ModelConfig
    from ppidm.export.reference import Reference
    from ppidm.export.settings import Progress

    Floats = NDArray[np.float32]

_WITH_PROMPT, _WITH_TIMESTEP = {PROMPT, POOLED, SIZES}, {TIMESTEP, GUIDANCE}
PHASES = {
    "prompt": frozenset(_WITH_PROMPT),
    "timestep": frozenset(_WITH_TIMESTEP),
    "sample": frozenset({SAMPLE} | _WITH_PROMPT | _WITH_TIMESTEP),
}
DECODER_PHASES = {"decoder": frozenset({DECODER})}


def export_package(settings: ExportSettings, progress: Progress = silent) -> ExportResult:
    """Export a pipeline.

    Raises:
        InputError: the model or the key cannot be read, or OUT exists and `force` is off.
        UnsupportedError: the model cannot be carried, or a comparison fails.
    """
    require_free(settings.out, force=settings.force)
    if settings.sign is not None:
        load_private_key(settings.sign)  # fail now, not after minutes
    loras = [lora_from_text(text) for text in settings.loras]
    model = resolve_model(settings.model)
    if settings.retrace or not is_traced(model):
        trace(model, progress=lambda part: progress(part, 0, 1))
    refresh_samplers(model)
    with staged(settings.out) as staging, TemporaryDirectory(dir=staging.parent, prefix=f"{staging.name}-") as merged:
        if loras:
            progress("merging LoRA", 0, 1)
            model = merged_model(model, loras, Path(merged) / model.resolve().name)
        return _Export(model, staging, settings, progress).run()


class _Export(Packing):
    def __init__(self, model: Path, staging: Path, settings: ExportSettings, progress: Progress) -> None:
        super().__init__(staging, settings, progress)
        self.model = model

    def run(self) -> ExportResult:
        config, with_decoder = config_from_model(self.model), VAE in self.settings.components
        self.progress("running the traced pipeline", 0, 1)
        comparison = _Comparison(self, config, with_decoder=with_decoder)
        copy_components(self.model, self.client, config, with_decoder=not with_decoder)
        parts = [self.unet(comparison.reference, config)]
        if with_decoder:
            parts.append(self.decoder(config))
        programs = Programs.model_validate({name: program for part in parts for name, program in part.programs.items()})
        self.progress("comparing the partition with the traced pipeline", 0, 1)
        floats = FloatOffload([group for part in parts for group in part.groups])
        error = max(require_equal(*pair) for pair in comparison.pairs(programs, floats))
        slices = self.write_slices(parts)
        self.progress("comparing the slices with the traced pipeline", 0, 1)
        quantised = SliceOffload(
            self.server, slices.subgraphs, slices.openings, self.ring, self.settings.precision.dropped_bits
        )
        snr = min(require_close(*pair, self.settings.precision) for pair in comparison.pairs(programs, quantised))
        self.write_manifests(
            self.model.resolve().name,
            slices,
            ClientManifest,
            programs=programs,
            image=config.image,
            max_tokens=config.max_tokens,
            scheduler=config.scheduler,
            conditioning=config.conditioning,
        )
        segments = sum(part.segments for part in parts)
        return ExportResult(self.settings.out, len(slices.subgraphs), segments, error, snr, parts[0].share)

    def unet(self, reference: Reference, config: ModelConfig) -> Part:
        feeds = {name: value[:1] for name, value in reference.conditions.items()}
        feeds |= {SAMPLE: np.zeros((1, *config.sample_shape), np.float32), TIMESTEP: np.zeros(1, np.float32)}
        return self.partition(
            self.model / "unet" / "model.onnx",
            PHASES,
            lambda programs, groups: dry_run(self.client, programs.values(), groups, feeds),
            self.settings.offload,
        )

    def decoder(self, config: ModelConfig) -> Part:
        feeds = {DECODER: np.zeros((1, *config.sample_shape), np.float32)}
        return self.partition(
            self.model / "vae" / "model.onnx",
            DECODER_PHASES,
            lambda programs, groups: dry_run(self.client, programs.values(), groups, feeds),
            OffloadChoice.ALL,
        )


class _Comparison:
    """Outputs of the traced pipeline, and what programs make of the same inputs."""

    def __init__(self, export: _Export, config: ModelConfig, *, with_decoder: bool) -> None:
        self._client = export.client
        self.reference = reference_from_model(export.model, config)
        self._latents = self.reference.sample[:1, :, : COMPARED // 2, : COMPARED // 2]
        self._picture: Floats | None = None
        if with_decoder:
            [self._picture] = run_graph(export.model / "vae" / "model.onnx", {DECODER: self._latents})

    def pairs(self, programs: Programs, offload: OffloadCallable) -> list[tuple[Floats, Floats]]:
        """(expected, got) of the U-Net, and of the decoder if it is partitioned."""
        found = [(self.reference.expected, composed_output(self._client, programs, self.reference, offload))]
        if programs.decoder is not None and self._picture is not None:
            [picture] = program_outputs(self._client, programs.decoder, {DECODER: self._latents}, offload)
            found.append((self._picture, picture))
        return found
