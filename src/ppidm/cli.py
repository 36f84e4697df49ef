"""The command line: parses into frozen settings, calls one typed function, turns errors into exit statuses."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  (typer reads annotations)
from typing import Annotated

import typer

import ppidm
from ppidm import build_cli, doctor_cli, export_cli, generate_cli, keys_cli, run_cli, serve_cli
from ppidm.console import print_error, warnings_on_stderr
from ppidm.hygiene import forbid_core_dumps
from ppidm.options import Signer, import_late
from ppidm.protocol.errors import InputError, PpidmError

EPILOG = (
    "Exit status: 0 done; 2 usage or bad input; 3 an answer failed the check; 4 a server failed; 130 interrupted. "
    "Every option can also be set by the environment variable shown beside it; the command line wins."
)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
app.add_typer(keys_cli.app, name="keys", epilog=EPILOG)


def main() -> None:
    """Run the command line; the entry point `ppidm`."""
    forbid_core_dumps()
    try:
        with warnings_on_stderr():
            app(prog_name="ppidm")
    except PpidmError as error:
        print_error(str(error))
        sys.exit(error.exit_status)
    except OSError as error:  # no space left, permission denied: nothing of ours, and no reason for a traceback
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(InputError.exit_status)


def _print_version(value: bool) -> None:  # noqa: FBT001
    if value:
        typer.echo(f"ppidm {ppidm.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Private image generation with Stable Diffusion on rented servers that nobody has to trust.

    [bold]1.[/] One package for a client and its servers:
       [cyan]ppidm export models/default package[/]
    [bold]2.[/] On two servers of different operators (or in two terminals):
       [cyan]ppidm serve package/server-0 --listen 127.0.0.1:8001[/]
       [cyan]ppidm serve package/server-1 --listen 127.0.0.1:8002[/]
    [bold]3.[/] On your own machine:
       [cyan]ppidm generate package/client "red apple, 3d style"
           --evaluator 127.0.0.1:8001 --dealer 127.0.0.1:8002[/]
    """


for command in (
    export_cli.export,
    build_cli.build,
    serve_cli.serve,
    generate_cli.generate,
    run_cli.run,
    export_cli.check_keys,
    doctor_cli.doctor,
):
    app.command(epilog=EPILOG)(command)


@app.command(epilog=EPILOG)
def inspect(
    directory: Annotated[Path, typer.Argument(help="OUT/client or OUT/server-<i>.")], *, signer: Signer = None
) -> None:
    """Print the partition: every slice with shape, FLOPs, bytes, ring and the bound on its sums.

    [cyan]ppidm inspect package/server-0[/]

    One line per slice, at the model's own picture size: what a client sends to
    the evaluator and gets from each server for one evaluation; and the largest
    sum of a product as a share of 2^24, up to which float32 is exact.
    """
    import_late("ppidm.inspection", "").print_partition(directory, signer)
