"""TensorRT's two libraries have one API: `tensorrt` for data-centre GPUs, `tensorrt_rtx` for those of desktops and laptops.

Both are imported late, so that nobody needs what they do not use.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ppidm.protocol.errors import InputError

_LISTED = 3  # messages of the library that an error repeats
_LONGEST = 300  # characters of each
_NO_GPU = "cudaError 35", "CUDA driver version is insufficient"  # said of every failure where there is no GPU


@dataclass(frozen=True)
class Flavour:
    """One of the two.

    Attributes:
        engine: our name for it.
        module: to import.
        install: what to type where it is missing.
        ahead: whether it compiles for other GPUs than that of this machine, and without one.
        buckets: of picture sizes, see `engines.profiles`. TensorRT for RTX makes kernels for the shape at hand when it runs, so
            that one does.
    """

    engine: str
    module: str
    install: str
    ahead: bool
    buckets: int


RTX = Flavour("tensorrt-rtx", "tensorrt_rtx", "pip install 'ppidm[server-rtx]'", ahead=True, buckets=1)
FULL = Flavour(
    "tensorrt",
    "tensorrt",
    "pip install 'ppidm[server-gpu]' --extra-index-url https://pypi.nvidia.com (the packages on PyPI are stubs)",
    ahead=False,
    buckets=2,
)
FLAVOURS = {flavour.engine: flavour for flavour in (RTX, FULL)}


@dataclass(frozen=True)
class Library:
    """An imported library.

    Attributes:
        flavour: which one.
        trt: the module.
    """

    flavour: Flavour
    trt: Any

    @property
    def version(self) -> str:
        """Of the library: plans of another are refused."""
        return str(self.trt.__version__)

    @property
    def targets(self) -> tuple[str, ...]:
        """GPU architectures that it compiles for ahead, such as "sm89"; the oldest first."""
        names = [
            name.lower() for name in getattr(self.trt, "ComputeCapability", type).__dict__ if name.startswith("SM")
        ]
        return tuple(sorted(names, key=lambda name: int(name[2:])))

    def log(self) -> Any:  # noqa: ANN401
        """A logger that keeps what went wrong in `errors`, and prints nothing."""

        class Log(self.trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
                if severity <= trt.ILogger.ERROR:
                    self.errors.append(message)

        trt = self.trt
        return Log()


def load_library(engine: str) -> Library:
    """Import the library of an engine.

    Raises:
        InputError: it is not installed, or cannot be loaded.
    """
    flavour = FLAVOURS[engine]
    try:
        return Library(flavour, import_module(flavour.module))
    except (ImportError, OSError) as error:
        raise InputError(
            f"engine {engine}: the Python package {flavour.module} cannot be imported ({error}); {flavour.install}"
        ) from error


def summary(messages: list[str]) -> str:
    """The first messages of a library, without those that say only that there is no GPU."""
    telling = [message for message in messages if not any(mark in message for mark in _NO_GPU)] or messages
    return "; ".join(" ".join(message.split())[:_LONGEST] for message in telling[:_LISTED]) or "it gives no reason"
