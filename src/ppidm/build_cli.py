"""`ppidm build`: its options, parsed into frozen settings."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads annotations)
from typing import Annotated, Literal

import typer

from ppidm.console import print_error, stage_progress
from ppidm.options import Cache, Signer, import_late, setting
from ppidm.protocol.errors import InputError


def build(
    directory: Annotated[Path, typer.Argument(help="OUT/server-<i> of `ppidm export`.")],
    *,
    engine: Annotated[
        Literal["tensorrt-rtx", "tensorrt", "onnxruntime"],
        setting("ENGINE", "What compiles: TensorRT for RTX, which needs no GPU; TensorRT; or a trial of ONNX Runtime."),
    ],
    target: Annotated[
        list[str],
        setting("TARGET", "GPU architecture, such as sm89; all by default. Repeatable; in the variable, by spaces."),
    ] = [],  # noqa: B006  (typer copies it)
    jobs: Annotated[int, setting("JOBS", "Slices compiled at once; 0: one per core.")] = 0,
    largest: Annotated[
        int, setting("LARGEST", "Largest height and width of pictures, relative to the model's own.")
    ] = 2,
    cache: Cache = None,
    signer: Signer = None,
) -> None:
    """Compile the slices of a package for a GPU, ahead of `ppidm serve --engine`.

    [cyan]ppidm build package/server-0 --engine tensorrt-rtx --target sm89[/]

    Engines are kept in a cache, by the digest of what they are made of: a build
    that was interrupted goes on, and copies of a package share their engines.
    `ppidm doctor` tells which engines run on this machine.

    Needs the extra `server-rtx`, or `server-gpu` on a machine with a GPU.
    """
    module = import_late("ppidm.engines.build", "")
    build = module.Build(module.BuildSettings(directory, engine, tuple(target), jobs, largest, cache, signer))
    if build.estimate is not None:
        typer.echo(str(build.estimate), err=True)
    with stage_progress() as report:
        result = build.run(report)
    for failure in result.failures:
        print_error(failure)
    typer.echo(f"compiled {result.good} of {result.slices} slices")
    if result.failures:
        raise typer.Exit(InputError.exit_status)
