"""Files that a user names: checked before minutes of work are lost, written whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from ppidm.client.arguments import MAX_PIXELS
from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LONGEST_TIMEOUT = 86400  # seconds, a day: beyond some 290 years gRPC would take it for the past


def check_timeout(timeout: float) -> None:
    """Check `--timeout`.

    Raises:
        InputError: out of range.
    """
    if not 0 < timeout <= LONGEST_TIMEOUT:
        raise InputError(f"--timeout is {timeout:g}; expected more than 0 and at most {LONGEST_TIMEOUT} seconds")


def check_writable(option: str, *paths: Path) -> None:
    """Check that files can be written.

    Raises:
        InputError: names `option` and the first that cannot.
    """
    for path in paths:
        folder = path.absolute().parent
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            problem = "a folder" if path.is_dir() else f"in {folder}, which is no folder that you may write to"
            raise InputError(f"{option} is {path}, {problem}; expected a file in an existing folder")


def load_array(option: str, path: Path) -> NDArray[np.float32]:
    """Read a .npy file, whatever its type.

    Raises:
        InputError: names `option`.
    """
    try:
        with path.open("rb") as file:
            array: NDArray[np.float32] = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{option} is {path}: {problem}; expected one array of float32 in a .npy file") from error
    return array


def load_picture(option: str, path: Path, height: int | None = None, width: int | None = None) -> Image.Image:
    """Read a picture of any format that Pillow knows, resampled to a size if one is given.

    Raises:
        InputError: names `option`.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{option} is {path}: {problem}; expected a picture, such as PNG or JPEG") from error
    size = width or picture.width, height or picture.height
    if not all(1 <= side <= MAX_PIXELS for side in size):
        raise InputError(
            f"{option} has {size[0]} x {size[1]} pixels; expected at most {MAX_PIXELS}, give --width and --height"
        )
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing; a file that is there is replaced in one move."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
