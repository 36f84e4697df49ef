"""The command line: parses into frozen settings, calls one typed function, turns errors into exit statuses."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer

import ppidm
from ppidm.console import stage_progress, step_progress
from ppidm.protocol.errors import InputError, PpidmError

EPILOG = (
    "Exit status: 0 done; 2 usage or bad input; 3 an answer failed the check; 4 a server failed. "
    "Every option can also be set by the environment variable shown beside it."
)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Private image generation with Stable Diffusion on rented servers that nobody has to trust.",
    epilog=EPILOG,
)


def main() -> None:
    """Run the command line; the entry point `ppidm`."""
    try:
        app()
    except PpidmError as error:
        typer.secho(f"ppidm: {error}", fg="red", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        typer.echo("ppidm: interrupted", err=True)
        sys.exit(130)


def _version(value: bool) -> None:  # noqa: FBT001
    if value:
        typer.echo(f"ppidm {ppidm.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Private image generation with Stable Diffusion on rented servers that nobody has to trust.

    [bold]1.[/] [cyan]ppidm export models/default package[/]  makes one package for a client and its servers.
    [bold]2.[/] [cyan]ppidm serve package/server-0 --listen 127.0.0.1:8001[/]  on each server, by different operators.
    [bold]3.[/] [cyan]ppidm generate package/client "red apple, 3d style" --evaluator 127.0.0.1:8001 --dealer 127.0.0.1:8002[/]
    """


@app.command(epilog=EPILOG)
def export(
    model: Annotated[str, typer.Argument(help="Pipeline folder in diffusers' layout, or hub id.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: OUT/client, OUT/check, OUT/server-0, ...")],
    servers: Annotated[int, typer.Option(envvar="PPIDM_SERVERS", help="Server directories; all are full copies.")] = 2,
    offload: Annotated[
        Literal["all", "conv"], typer.Option(envvar="PPIDM_OFFLOAD", help="Which linear layers of the U-Net servers run.")
    ] = "all",
    retrace: Annotated[bool, typer.Option("--retrace", envvar="PPIDM_RETRACE", help="Trace even if model.onnx is there.")] = False,
    force: Annotated[bool, typer.Option("--force", envvar="PPIDM_FORCE", help="Replace OUT if it is a package.")] = False,
) -> None:
    """Partition a Stable Diffusion pipeline into a client package and server packages.

    Needs the extra `partition`; tracing a folder that has no model.onnx yet needs the extra `export` (torch, diffusers).
    OUT/check is secret and personal: it holds the vectors by which a wrong answer is caught.
    """
    package = _import("ppidm.export.package", "partition")
    choice = _import("ppidm.export.offload", "partition").OffloadChoice(offload)
    settings = package.ExportSettings(model, out, servers, choice, retrace, force)
    with stage_progress() as report:
        result = package.export_package(settings, report)
    typer.echo(
        f"{result.out}: {result.slices} slices, {result.segments} client segments, {servers} servers; partition error "
        f"{result.partition_error:.1e}, SNR of the quantised U-Net {result.snr_db:.1f} dB"
    )


@app.command(epilog=EPILOG)
def serve(
    directory: Annotated[Path, typer.Argument(help="OUT/server-<i> of `ppidm export`.")],
    listen: Annotated[str, typer.Option(envvar="PPIDM_LISTEN", help="HOST:PORT; port 0 picks one.")] = "127.0.0.1:8001",
    threads: Annotated[int, typer.Option(envvar="PPIDM_THREADS", help="Threads per request; 0: one per core.")] = 0,
    workers: Annotated[int, typer.Option(envvar="PPIDM_WORKERS", help="Requests computed at once.")] = 4,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(envvar="PPIDM_LOG_LEVEL", help="debug: every request, never its content."),
    ] = "info",
) -> None:
    """Serve the slices of a package over the Open Inference Protocol (KServe v2, gRPC).

    Prints `listening on HOST:PORT` when ready; logs go to stderr. A server has no fixed role: each request makes it an
    evaluator (masked activations) or a dealer (a seed). Ends gracefully on SIGTERM and Ctrl-C.
    """
    server = _import("ppidm.runtime.server", "server")
    address = _import("ppidm.protocol.address", "server").parse_address(listen)
    server.serve(server.ServeSettings(directory, address, threads, workers, log_level))


@app.command(epilog=EPILOG)
def generate(
    package: Annotated[Path, typer.Argument(help="OUT/client of `ppidm export`.")],
    prompt: Annotated[str, typer.Argument(help="What to draw. Never leaves this machine.")],
    evaluator: Annotated[str, typer.Option(envvar="PPIDM_EVALUATOR", help="HOST:PORT of the server that gets masked activations.")],
    dealer: Annotated[
        list[str],
        typer.Option(envvar="PPIDM_DEALER", help="HOST:PORT of a server that gets seeds, of another operator. Repeatable."),
    ],
    negative_prompt: Annotated[Optional[str], typer.Option(envvar="PPIDM_NEGATIVE_PROMPT", help="What to keep away from.")] = None,  # noqa: UP045
    num_inference_steps: Annotated[int, typer.Option(envvar="PPIDM_NUM_INFERENCE_STEPS", help="Steps of the scheduler.")] = 50,
    guidance_scale: Annotated[float, typer.Option(envvar="PPIDM_GUIDANCE_SCALE", help="1 turns guidance off: half the work.")] = 7.5,
    num_images_per_prompt: Annotated[int, typer.Option(envvar="PPIDM_NUM_IMAGES_PER_PROMPT", help="Pictures.")] = 1,
    scheduler: Annotated[
        Optional[str], typer.Option(envvar="PPIDM_SCHEDULER", help="diffusers' class name, such as EulerDiscreteScheduler.")  # noqa: UP045
    ] = None,
    seed: Annotated[Optional[int], typer.Option(envvar="PPIDM_SEED", help="Of the initial noise (numpy's); never of a mask.")] = None,  # noqa: UP045
    latents: Annotated[
        Optional[Path], typer.Option(envvar="PPIDM_LATENTS", help="Initial noise: .npy, float32, (N, C, h, w), unscaled.")  # noqa: UP045
    ] = None,
    height: Annotated[Optional[int], typer.Option(envvar="PPIDM_HEIGHT", help="Pixels; the model's own by default.")] = None,  # noqa: UP045
    width: Annotated[Optional[int], typer.Option(envvar="PPIDM_WIDTH", help="Pixels; the model's own by default.")] = None,  # noqa: UP045
    output: Annotated[Path, typer.Option(envvar="PPIDM_OUTPUT", help="PNG; of several, NAME-0.png, NAME-1.png, ...")] = Path("picture.png"),
    report: Annotated[Optional[Path], typer.Option(envvar="PPIDM_REPORT", help="JSON: offloaded share, bytes, seconds.")] = None,  # noqa: UP045
    check: Annotated[Optional[Path], typer.Option(envvar="PPIDM_CHECK", help="Check vectors; PACKAGE/../check by default.")] = None,  # noqa: UP045
    verify: Annotated[
        Literal["on", "off"], typer.Option(envvar="PPIDM_VERIFY", help="Check every answer; off is for measurements.")
    ] = "on",
    timeout: Annotated[float, typer.Option(envvar="PPIDM_TIMEOUT", help="Seconds that one request may take.")] = 60.0,
) -> None:
    """Draw a picture on servers that learn nothing of it.

    Prompt, latents and picture stay here. Servers see sizes, the number of steps, guidance on or off, and timing.
    """
    command = _import("ppidm.client.command", "")
    settings = command.GenerateSettings(
        package, prompt, evaluator, tuple(dealer), negative_prompt, num_inference_steps, guidance_scale, num_images_per_prompt,
        scheduler, seed, latents, height, width, output, report, check, verify == "on", timeout,
    )  # fmt: skip
    with step_progress("drawing") as report_step:
        paths = command.generate(settings, report_step)
    for path in paths:
        typer.echo(str(path))


@app.command(epilog=EPILOG)
def inspect(directory: Annotated[Path, typer.Argument(help="OUT/client or OUT/server-<i>.")]) -> None:
    """Print the partition: every slice with shape, FLOPs, bytes, ring and the bound on its sums."""
    _import("ppidm.inspection", "").print_partition(directory)


def _import(module: str, extra: str) -> Any:  # noqa: ANN401
    """Import a command's module late: `ppidm --help` stays fast, and the client needs no extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("ppidm"):
            raise
        raise InputError(f"this command needs {error.name}; pip install 'ppidm[{extra}]'") from error
