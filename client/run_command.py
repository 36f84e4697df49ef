"""What `ppidm run` runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppidm.client.files import check_writable, load_array, write_whole
from ppidm.client.graph import PrivateGraph
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from ppidm.client.connected import Connection


@dataclass(frozen=True)
class RunSettings:
    """The options of `ppidm run`; see its `--help`."""

    connection: Connection
    inputs: tuple[str, ...]
    output: Path
    report: Path | None = None


def run(settings: RunSettings) -> list[Path]:
    """Run a graph, and write its outputs and the report.

    Returns:
        The files written, `DIR/<output name>.npy`.

    Raises:
        InputError: a setting is wrong.
        PpidmError: see `PrivateGraph`. Nothing is written then.
        OSError: a file cannot be written.
    """
    settings.connection.require_valid()
    if settings.report is not None:
        check_writable("--report", settings.report)
    inputs = dict(_input(text) for text in settings.inputs)
    settings.output.mkdir(parents=True, exist_ok=True)
    with settings.connection.open(PrivateGraph) as graph:
        result = graph({name: load_array("--input", path) for name, path in inputs.items()})
    files = {settings.output / _file_name(name): value for name, value in result.outputs.items()}
    for path, value in files.items():
        content = BytesIO()
        np.save(content, value)
        write_whole(path, content.getvalue())
    if settings.report is not None:
        write_whole(settings.report, (result.report.model_dump_json(indent=1) + "\n").encode())
    return list(files)


def _input(text: str) -> tuple[str, Path]:
    name, found, path = text.partition("=")
    if not (name and found and path):
        raise InputError(f"--input is {text!r}; expected NAME=FILE.npy")
    return name, Path(path)


def _file_name(output: str) -> str:
    """A package may be hostile: names of outputs stay inside of the folder."""
    return re.sub(r"[^\w.-]+", "_", output).lstrip(".") + ".npy"
