"""`ppidm export`: a traced pipeline -> `OUT/client`, `OUT/check`, `OUT/server-<i>`; all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from ppidm.engines.onnx_policy import SLICE
from ppidm.engines.selftest import answers_digest, test_digits
from ppidm.export.client_files import ModelConfig, config_from_model, copy_components, save_graph
from ppidm.export.compare import (
    FloatOffload,
    Reference,
    SliceOffload,
    composed_output,
    reference_from_model,
    require_close,
    require_equal,
)
from ppidm.export.graph import load_graph
from ppidm.export.offload import Group, OffloadChoice, cut_offloaded
from ppidm.export.partition import Partition, partition_graph
from ppidm.export.quantize import WEIGHT_BITS, QuantizedLayer, quantize_layer
from ppidm.export.slices import slice_from_layers
from ppidm.export.trace import is_traced, refresh_samplers, resolve_model, trace
from ppidm.protocol.check import CheckVectors, draw_check, require_norm
from ppidm.protocol.check_file import VECTORS, write_checks
from ppidm.protocol.errors import InputError
from ppidm.protocol.linear import apply
from ppidm.protocol.manifest import (
    CheckManifest,
    ClientManifest,
    Programs,
    SelfTest,
    ServerManifest,
    Subgraph,
    digests_of,
    file_digest,
    package_digest,
    sign_manifest,
    write_manifest,
)
from ppidm.protocol.openings import OPENINGS, Opening, write_openings
from ppidm.protocol.ring import Ring
from ppidm.protocol.signatures import load_private_key

if TYPE_CHECKING:
    from ppidm.protocol.linear import Shape

PHASES = {
    "prompt": frozenset({"encoder_hidden_states"}),
    "timestep": frozenset({"timestep"}),
    "sample": frozenset({"sample", "timestep", "encoder_hidden_states"}),
}
Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class ExportSettings:
    """What `ppidm export` takes; see its `--help`."""

    model: str
    out: Path
    servers: int = 2
    offload: OffloadChoice = OffloadChoice.ALL
    retrace: bool = False
    force: bool = False
    sign: Path | None = None


@dataclass(frozen=True)
class ExportResult:
    """What was written and how well it compares.

    Attributes:
        slices: number of slices.
        segments: number of client segments.
        partition_error: largest error of the partition with float32 products, relative to the largest output.
        snr_db: of the quantised U-Net against the traced one.
    """

    out: Path
    slices: int
    segments: int
    partition_error: float
    snr_db: float


def export_package(settings: ExportSettings, progress: Progress = _silent) -> ExportResult:
    """Export a pipeline.

    Raises:
        InputError: the model or the key cannot be read, or OUT exists and `force` is off.
        UnsupportedError: the model cannot be carried, or a comparison fails.
    """
    _require_free(settings)
    if settings.sign is not None:
        load_private_key(settings.sign)  # fail now, not after minutes
    model = resolve_model(settings.model)
    if settings.retrace or not is_traced(model):
        trace(model, progress=lambda part: progress(part, 0, 1))
    refresh_samplers(model)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(mkdtemp(prefix=f".{settings.out.name}-", dir=settings.out.parent))
    try:
        result = _Export(model, staging, settings, progress).run()
        _move_into_place(staging, settings.out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return result


def _require_free(settings: ExportSettings) -> None:
    if settings.servers < 2:  # noqa: PLR2004
        raise InputError(f"--servers is {settings.servers}; expected at least 2: an evaluator and a dealer")
    if not settings.out.exists():
        return
    if not settings.force:
        raise InputError(f"{settings.out} exists; give another OUT, or --force to replace it")
    if not settings.out.is_dir() or (
        any(settings.out.iterdir()) and not (settings.out / "client" / "manifest.json").exists()
    ):
        raise InputError(f"{settings.out} is no package of `ppidm export`; --force replaces packages only")


def _move_into_place(staging: Path, out: Path) -> None:
    staging.chmod(0o755)
    if not out.exists():
        staging.rename(out)
        return
    old = staging.with_name(f"{staging.name}-old")
    out.rename(old)
    try:
        staging.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old)


@dataclass
class _Slices:
    """What becomes of the groups: a manifest entry, openings and check vectors each."""

    subgraphs: list[Subgraph] = field(default_factory=list)
    openings: dict[str, list[Opening]] = field(default_factory=dict)
    checks: dict[str, list[CheckVectors]] = field(default_factory=dict)


class _Export:
    def __init__(self, model: Path, staging: Path, settings: ExportSettings, progress: Progress) -> None:
        self.model, self.settings, self.progress = model, settings, progress
        self.ring = Ring(32)
        self.client, self.check, self.server = staging / "client", staging / "check", staging / "server-0"
        (self.client / "segments").mkdir(parents=True)
        (self.server / "slices").mkdir(parents=True)
        self.check.mkdir(mode=0o700)

    def run(self) -> ExportResult:
        config = config_from_model(self.model)
        reference = reference_from_model(self.model, config.sample_shape, config.max_tokens, config.vocabulary)
        copy_components(self.model, self.client, config)
        groups, partition = self.partition()
        programs = Programs(**partition.programs)
        error, shapes = self.compare_partition(programs, reference, groups)
        slices = self.write_slices(groups, shapes)
        self.progress("comparing the slices with the traced pipeline", 0, 1)
        offload = SliceOffload(self.server, slices.subgraphs, slices.openings, self.ring)
        snr = require_close(reference.expected, composed_output(self.client, programs, reference, offload))
        self.write_manifests(config, programs, slices)
        return ExportResult(self.settings.out, len(groups), len(partition.segments), error, snr)

    def partition(self) -> tuple[list[Group], Partition]:
        unet = load_graph(self.model / "unet" / "model.onnx")
        groups = cut_offloaded(unet.graph, self.settings.offload)
        partition = partition_graph(unet, PHASES)
        for done, (file, segment) in enumerate(partition.segments.items()):
            self.progress("writing client segments", done, len(partition.segments))
            save_graph(segment, self.client / file)
        return groups, partition

    def compare_partition(
        self, programs: Programs, reference: Reference, groups: list[Group]
    ) -> tuple[float, dict[str, Shape]]:
        self.progress("comparing the partition with the traced pipeline", 0, 1)
        offload = FloatOffload(groups)
        error = require_equal(reference.expected, composed_output(self.client, programs, reference, offload))
        return error, offload.shapes

    def write_slices(self, groups: list[Group], shapes: dict[str, Shape]) -> _Slices:
        slices = _Slices()
        for done, group in enumerate(groups):
            self.progress("writing slices", done, len(groups))
            layers = [quantize_layer(linear.layer, linear.weights(), linear.bias()) for linear in group.operators]
            slices.subgraphs.append(self.write_slice(group.name, layers, shapes[group.name]))
            slices.openings[group.name] = [Opening(layer.scales, layer.bias) for layer in layers]
            for layer in layers:
                require_norm(layer.layer, layer.weights)
            slices.checks[group.name] = [draw_check(layer.layer, layer.weights) for layer in layers]
        return slices

    def write_slice(self, name: str, layers: list[QuantizedLayer], shape: Shape) -> Subgraph:
        file = f"slices/{name}.onnx"
        save_graph(slice_from_layers(name, layers, self.ring), self.server / file, SLICE)
        digits = test_digits(self.ring, shape)
        answers = [apply(layer.layer, layer.weights, digits, self.ring).view("<i4") for layer in layers]
        return Subgraph(
            name=name,
            file=file,
            sha256=file_digest(self.server / file),
            layers=tuple(layer.layer for layer in layers),
            nominal_shape=shape,
            self_test=SelfTest(shape=shape, digest=answers_digest(answers)),
        )

    def write_manifests(self, config: ModelConfig, programs: Programs, slices: _Slices) -> None:
        write_openings(self.client / OPENINGS, slices.openings)
        write_checks(self.check / VECTORS, slices.checks)
        common = {
            "model": self.model.resolve().name,
            "package": package_digest(slices.subgraphs),
            "ring_bits": self.ring.bits,
            "weight_bits": WEIGHT_BITS,
            "slices": tuple(slices.subgraphs),
        }
        client = ClientManifest(
            **common,
            files=digests_of(self.client),
            servers=self.settings.servers,
            programs=programs,
            image=config.image,
            max_tokens=config.max_tokens,
            scheduler=config.scheduler,
        )
        write_manifest(self.client, client)
        write_manifest(self.check, CheckManifest(**common, files=digests_of(self.check)))
        write_manifest(self.server, ServerManifest(**common, files=digests_of(self.server)))
        if self.settings.sign is not None:
            for directory in (self.client, self.check, self.server):
                sign_manifest(directory, self.settings.sign)
        for index in range(1, self.settings.servers):
            shutil.copytree(self.server, self.server.with_name(f"server-{index}"))
