"""`make demo`: export the shipped model, start an evaluator and a dealer, draw a picture.

Leaves in demo/: package/ (what `ppidm export` writes), picture.png, report.json, evaluator-saw.png (the last latents as
the evaluator received them, put through the same image decoder) and side-by-side.png.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from local_servers import local_servers
from PIL import Image
from rich.console import Console

from ppidm.client.package import ClientPackage, load_package
from ppidm.client.pictures import ImageDecoder, pil_from_floats
from ppidm.client.pipeline import PrivateStableDiffusionPipeline
from ppidm.client.servers import connect
from ppidm.console import stage_progress
from ppidm.export.package import export_package
from ppidm.export.settings import ExportSettings
from ppidm.protocol.messages import MASKED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ppidm.client.report import Report
    from ppidm.client.transport import Server
    from ppidm.protocol.messages import Tensor

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
PROMPT, SEED, STEPS, GUIDANCE = "rocket, 3d style", 3, 25, 4.0
ENLARGED = 384  # pixels


class RecordedServer:
    """The evaluator, with a copy of the last masked tensor of one slice that it received."""

    def __init__(self, server: Server, slice_name: str) -> None:
        self._server, self._slice = server, slice_name
        self.saw: Tensor | None = None

    def ask(self, model: str, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Forward a request."""
        if model == self._slice:
            self.saw = next(tensor for tensor in tensors if tensor.name == MASKED)
        return self._server.ask(model, tensors)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._server, name)

    def __str__(self) -> str:
        return str(self._server)


def main() -> None:
    """Run the demo."""
    console = Console()
    DEMO.mkdir(exist_ok=True)
    console.print("[bold]1.[/] exporting models/default: a client package and two server packages (no torch involved)")
    with stage_progress() as report:
        result = export_package(ExportSettings(str(ROOT / "models/default"), DEMO / "package", force=True), report)
    console.print(f"   {result.slices} slices for the servers, {result.segments} segments for the client")
    console.print("[bold]2.[/] starting an evaluator and a dealer, each a process of its own")
    with local_servers(DEMO / "package") as (evaluator, dealer):
        console.print(f"   evaluator {evaluator}, dealer {dealer}")
        console.print(f"[bold]3.[/] drawing {PROMPT!r}")
        draw(console, load_package(DEMO / "package" / "client"), evaluator, dealer)


def draw(console: Console, package: ClientPackage, evaluator: str, dealer: str) -> None:
    """Draw the picture, and what the evaluator saw of it."""
    servers = connect(evaluator, [dealer], package.manifest.package, timeout=60)
    recorded = RecordedServer(servers.evaluator, first_slice(package))
    with (
        stage_progress() as progress,
        PrivateStableDiffusionPipeline(
            package,
            replace(servers, evaluator=recorded),  # type: ignore[arg-type]
        ) as pipe,
    ):

        def on_step(_pipe: Any, step: int, _timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
            progress("steps", step + 1, STEPS)
            return tensors

        output = pipe(
            PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=SEED, callback_on_step_end=on_step
        )
    assert recorded.saw is not None
    (seen,) = pil_from_floats(
        ImageDecoder(package.directory, package.manifest)(evaluator_view(package, recorded.saw))[0]
    )
    output.images[0].save(DEMO / "picture.png")
    seen.save(DEMO / "evaluator-saw.png")
    side_by_side(output.images[0], seen).save(DEMO / "side-by-side.png")
    (DEMO / "report.json").write_text(output.report.model_dump_json(indent=1) + "\n")
    summarise(console, output.report)


def first_slice(package: ClientPackage) -> str:
    """The slice that gets the latents."""
    channels = package.manifest.image.latent_channels
    return next(name for name, subgraph in package.slices.items() if subgraph.layers[0].in_channels == channels)


def evaluator_view(package: ClientPackage, seen: Tensor) -> NDArray[np.float32]:
    """Ring elements as the evaluator holds them, read as latents: signed, scaled to the variance that latents have."""
    elements = package.ring.signed(package.ring.from_digits(seen.array("UINT8"))).astype(np.float32)
    return np.ascontiguousarray((elements / elements.std()).transpose(0, 3, 1, 2))


def side_by_side(picture: Image.Image, seen: Image.Image) -> Image.Image:
    """Both pictures, enlarged."""
    sheet = Image.new("RGB", (2 * ENLARGED + 16, ENLARGED), "white")
    for index, image in enumerate((picture, seen)):
        sheet.paste(image.resize((ENLARGED, ENLARGED), Image.Resampling.NEAREST), (index * (ENLARGED + 16), 0))
    return sheet


def summarise(console: Console, report: Report) -> None:
    """What the picture cost."""
    evaluator, dealer = report.traffic.evaluator, report.traffic.dealers[0]
    console.print(
        f"   {report.seconds.total:.1f} s, {report.rounds} rounds, {report.evaluations} evaluations of the U-Net"
    )
    console.print(
        f"   {report.offload.unet_fraction:.1%} of the U-Net's FLOPs and {report.offload.fraction:.1%} of all offloaded"
    )
    console.print(
        f"   evaluator {evaluator.sent / 1e6:.1f} MB up, {evaluator.received / 1e6:.1f} MB down; dealer "
        f"{dealer.sent / 1e6:.1f} MB up, {dealer.received / 1e6:.1f} MB down; every answer checked"
    )
    console.print(f"[bold]4.[/] look at {DEMO.name}/picture.png, evaluator-saw.png, side-by-side.png and report.json")


if __name__ == "__main__":
    main()
