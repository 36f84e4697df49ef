"""What every export does, whatever it partitions: cut, write segments and slices, write manifests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ppidm.engines.onnx_policy import SLICE
from ppidm.engines.selftest import answers_digest, test_digits
from ppidm.export.client_files import save_graph
from ppidm.export.graph import load_graph
from ppidm.export.offload import Group, cut_offloaded
from ppidm.export.partition import partition_graph
from ppidm.export.quantize import QuantizedLayer, proof_of, quantize_layer
from ppidm.export.settings import ExportSettings, OffloadChoice, Progress
from ppidm.export.share import choose_share, work_of
from ppidm.export.slices import slice_from_layers
from ppidm.protocol.check import CheckVectors, draw_check, require_norm
from ppidm.protocol.check_file import VECTORS, write_checks
from ppidm.protocol.linear import ANSWER_RING, apply
from ppidm.protocol.manifest import (
    CheckManifest,
    Manifest,
    ServerManifest,
    digests_of,
    file_digest,
    package_digest,
    sign_manifest,
    write_manifest,
)
from ppidm.protocol.openings import OPENINGS, Opening, write_openings
from ppidm.protocol.precision import Precision
from ppidm.protocol.records import SelfTest, Subgraph

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ppidm.export.partition import Partition
    from ppidm.export.phases import Phases
    from ppidm.export.reference import DryRun
    from ppidm.protocol.linear import Layer, Shape
    from ppidm.protocol.records import Program

TEST_ROWS, TEST_PIXELS = 64, 16  # largest input of a self-test: rows of a product, height and width of an image


@dataclass(frozen=True)
class Part:
    """A graph that was partitioned.

    Attributes:
        groups: its slices.
        programs: by phase.
        segments: how many.
        dry: what a dry run told.
    """

    groups: list[Group]
    programs: dict[str, Program]
    segments: int
    dry: DryRun

    @property
    def share(self) -> float:
        """Of the FLOPs of one evaluation that servers compute."""
        offloaded = sum(work_of(group, self.dry.shapes[group.name]) for group in self.groups)
        return offloaded / (offloaded + self.dry.client_flops)


@dataclass
class Slices:
    """What becomes of the groups: a manifest entry, openings and check vectors each."""

    subgraphs: list[Subgraph] = field(default_factory=list)
    openings: dict[str, list[Opening]] = field(default_factory=dict)
    checks: dict[str, list[CheckVectors]] = field(default_factory=dict)


class Packing:
    """Writes the directories of a package.

    Args:
        staging: an empty folder.
        settings: of the export.
        progress: is told what is done.
    """

    def __init__(self, staging: Path, settings: ExportSettings, progress: Progress) -> None:
        self.settings, self.progress = settings, progress
        self.ring = settings.precision.ring
        self.client, self.check, self.server = staging / "client", staging / "check", staging / "server-0"
        (self.client / "segments").mkdir(parents=True)
        (self.server / "slices").mkdir(parents=True)
        self.check.mkdir(mode=0o700)

    def partition(
        self,
        path: Path,
        phases: Phases,
        measure: Callable[[dict[str, Program], list[Group]], DryRun],
        choice: OffloadChoice | float,
    ) -> Part:
        """Partition the graph at `path`, and write its segments.

        Args:
            path: an ONNX file.
            phases: see `partition_graph`.
            measure: runs programs without products.
            choice: what is offloaded; a share takes two passes, since FLOPs and bytes are known after the first.
        """
        if not isinstance(choice, float):
            groups, parts = self._cut(path, phases, choice)
            return Part(groups, parts.programs, len(parts.segments), measure(parts.programs, groups))
        groups, parts = self._cut(path, phases, OffloadChoice.ALL)
        dry = measure(parts.programs, groups)
        for file in parts.segments:
            (self.client / file).unlink()
        chosen = choose_share(groups, dry, choice, self.ring)
        groups, parts = self._cut(path, phases, chosen)
        return Part(groups, parts.programs, len(parts.segments), measure(parts.programs, groups))

    def _cut(self, path: Path, phases: Phases, choice: OffloadChoice | frozenset[str]) -> tuple[list[Group], Partition]:
        graph = load_graph(path)
        groups = cut_offloaded(graph.graph, choice)
        partition = partition_graph(graph, phases)
        for done, (file, segment) in enumerate(partition.segments.items()):
            self.progress(f"writing client segments of {path.parent.name}", done, len(partition.segments))
            save_graph(segment, self.client / file)
        return groups, partition

    def write_slices(self, parts: list[Part]) -> Slices:
        """Quantise and write the slices of all parts, one in memory at a time; draw their check vectors."""
        slices, total = Slices(), sum(len(part.groups) for part in parts)
        for part in parts:
            for group in part.groups:
                self.progress("writing slices", len(slices.subgraphs), total)
                bits = self._weight_bits
                layers = [
                    quantize_layer(linear.layer, linear.weights(), linear.bias(), bits) for linear in group.operators
                ]
                slices.subgraphs.append(self._write_slice(group.name, layers, part.dry.shapes[group.name]))
                slices.openings[group.name] = [Opening(layer.scales, layer.bias) for layer in layers]
                for layer in layers:
                    require_norm(layer.layer, layer.weights)
                slices.checks[group.name] = [draw_check(layer.layer, layer.weights) for layer in layers]
        return slices

    @property
    def _weight_bits(self) -> int | None:
        """Of every layer; None lets each have what suits it."""
        precision = self.settings.precision
        return precision.weight_bits if precision is Precision.FAST else None

    def _write_slice(self, name: str, layers: list[QuantizedLayer], shape: Shape) -> Subgraph:
        file = f"slices/{name}.onnx"
        save_graph(slice_from_layers(name, layers, self.ring), self.server / file, SLICE)
        tested = _test_shape([layer.layer for layer in layers], shape)
        digits = test_digits(self.ring, tested)
        answers = [apply(layer.layer, layer.weights, digits, ANSWER_RING).view("<i4") for layer in layers]
        return Subgraph(
            name=name,
            file=file,
            sha256=file_digest(self.server / file),
            layers=tuple(layer.layer for layer in layers),
            nominal_shape=shape,
            self_test=SelfTest(shape=tested, digest=answers_digest(answers)),
            proof=proof_of(layers),
        )

    def write_manifests(self, model: str, slices: Slices, client: type[Manifest], **fields: Any) -> None:  # noqa: ANN401
        """Write openings, check vectors and all manifests, sign them, and copy the server's directory.

        Args:
            model: its name.
            slices: of all parts.
            client: the kind of the client's manifest.
            fields: what that kind has besides.
        """
        write_openings(self.client / OPENINGS, slices.openings)
        write_checks(self.check / VECTORS, slices.checks)
        common = {
            "model": model,
            "package": package_digest(slices.subgraphs),
            "ring_bits": self.ring.bits,
            "weight_bits": self.settings.precision.weight_bits,
            "precision": self.settings.precision,
            "slices": tuple(slices.subgraphs),
        }
        fields |= {"servers": self.settings.servers}
        write_manifest(self.client, client(**common, files=digests_of(self.client), **fields))
        write_manifest(self.check, CheckManifest(**common, files=digests_of(self.check)))
        write_manifest(self.server, ServerManifest(**common, files=digests_of(self.server)))
        if self.settings.sign is not None:
            for directory in (self.client, self.check, self.server):
                sign_manifest(directory, self.settings.sign)
        for index in range(1, self.settings.servers):
            shutil.copytree(self.server, self.server.with_name(f"server-{index}"))


def _test_shape(layers: list[Layer], shape: Shape) -> Shape:
    """As `shape`, but small enough for a self-test to take milliseconds; an engine's arithmetic is the same."""
    if layers[0].kind == "product":
        return (min(shape[0], TEST_ROWS), shape[1])
    least = [max(d * k for d, k in zip(layer.dilations, layer.kernel, strict=True)) for layer in layers]
    return (1, *(min(size, max(TEST_PIXELS, *least)) for size in shape[1:3]), shape[3])
