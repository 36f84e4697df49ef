"""Private pictures through two server processes, with their transcripts; and the same by plain diffusers in float32."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tools.evaluate.settings import MODEL, Settings
from tools.evaluate.transcripts import Recorder
from tools.evaluate.views import Layout, ViewMaker
from tools.local_servers import local_servers

from ppidm.client import PrivateStableDiffusionPipeline
from ppidm.client.package import load_package
from ppidm.client.servers import connect
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.client.package import ClientPackage
    from ppidm.protocol.manifest import ClientManifest

    Floats = NDArray[np.float32]
    Progress = Callable[[str, int, int], None]

LAYOUT = "layout"
TIMEOUT = 120.0  # seconds of a request: the machine is busy
BATCH = 8  # plain pictures at the same time


@dataclass(frozen=True)
class Drawing:
    """A picture to be drawn: a prompt, and a seed for its latents."""

    prompt: str
    seed: int

    @property
    def latents(self) -> Floats:
        """Initial noise, (1, 4, 16, 16)."""
        return np.random.default_rng(self.seed).standard_normal((1, 4, 16, 16), np.float32)


class PrivatePainter:
    """Draws through servers, and records what they receive."""

    def __init__(self, pipe: PrivateStableDiffusionPipeline, recorder: Recorder, maps: str, settings: Settings) -> None:
        self._pipe, self._recorder, self._maps, self._settings = pipe, recorder, maps, settings

    def draw(self, drawing: Drawing, first: dict[str, NDArray[np.uint32]]) -> dict[str, NDArray[Any]]:
        """The picture, the features of every view, sizes of messages, and what share of the FLOPs servers did.

        Args:
            drawing: what to draw.
            first: see `ViewMaker`.
        """
        self._recorder.clear()
        output = self._pipe(
            drawing.prompt,
            num_inference_steps=self._settings.steps,
            guidance_scale=self._settings.guidance,
            latents=drawing.latents,
            output_type="np",
        )
        assert not isinstance(output, tuple)
        offload = output.report.offload
        return {
            "picture": np.asarray(output.images)[0],
            "offload": np.array([offload.unet_fraction, offload.fraction]),
            "sizes": self._recorder.lengths(),
            **self.features(drawing.seed, first),
        }

    def features(self, seed: int, first: dict[str, NDArray[np.uint32]]) -> dict[str, Floats]:
        """Of every view of the last picture."""
        return ViewMaker(np.random.default_rng(seed), first).features(self._recorder, self.layout)

    def widths(self, first: dict[str, NDArray[np.uint32]]) -> dict[str, dict[str, int]]:
        """How many values of `pooled` each slice has, by name of a layout: its channels, for every group of requests."""
        return {LAYOUT: {name: len(groups) * first[name].shape[-1] for name, groups in self.layout.requests.items()}}

    @property
    def layout(self) -> Layout:
        """Of the features of the last picture."""
        steps = self._settings.steps
        return Layout.of(self._recorder.counts(), self._maps, self._settings.pooled_steps, steps)


@contextmanager
def private_painter(folder: Path, settings: Settings, progress: Progress) -> Iterator[PrivatePainter]:
    """Export the shipped model into `folder`, start an evaluator and a dealer, connect."""
    export_package(ExportSettings(str(MODEL), folder / "package", force=True), progress)
    package = load_package(folder / "package" / "client")
    recorder = Recorder(package.ring)
    with local_servers(folder / "package") as (evaluator, dealer):
        servers = recorder.around(connect(evaluator, [dealer], package.manifest.package, TIMEOUT))
        with PrivateStableDiffusionPipeline(package, servers) as pipe:
            yield PrivatePainter(pipe, recorder, first_slice(package), settings)


def first_slice(package: ClientPackage[ClientManifest]) -> str:
    """The slice that reads the latents."""
    channels = package.manifest.image.latent_channels
    return next(name for name, subgraph in package.slices.items() if subgraph.layers[0].in_channels == channels)


class PlainPainter:
    """diffusers' own StableDiffusionPipeline in float32."""

    def __init__(self, settings: Settings) -> None:
        import diffusers  # noqa: PLC0415  (takes seconds, and tests of other things need not wait)
        import torch  # noqa: PLC0415
        import transformers  # noqa: PLC0415

        self._torch, self._settings = torch, settings
        for library in (diffusers, transformers):
            library.utils.logging.set_verbosity_error()
            library.utils.logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pipe = diffusers.StableDiffusionPipeline.from_pretrained(str(MODEL), torch_dtype=torch.float32)
        self._pipe.set_progress_bar_config(disable=True)

    def draw(self, drawings: Sequence[Drawing]) -> Floats:
        """(pictures, 64, 64, 3) in [0, 1]."""
        latents = np.concatenate([drawing.latents for drawing in drawings])
        images: Floats = self._pipe(
            [drawing.prompt for drawing in drawings],
            num_inference_steps=self._settings.steps,
            guidance_scale=self._settings.guidance,
            latents=self._torch.from_numpy(latents),
            output_type="np",
        ).images
        return images


def draw_plainly(drawings: Sequence[Drawing], settings: Settings, stage: str, progress: Progress) -> Floats:
    """All of them, in batches."""
    painter, done = PlainPainter(settings), []
    for start in range(0, len(drawings), BATCH):
        progress(stage, start, len(drawings))
        done.append(painter.draw(drawings[start : start + BATCH]))
    return np.concatenate(done)
