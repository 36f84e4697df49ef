"""Structured logs on standard error: JSON lines, or coloured text on a terminal.

Security:
    Nothing secret is logged: names, shapes, sizes and times only. Of an unexpected exception its type and the lines of
    code are logged, never its message or local variables: they may hold values of the request.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, cast

from ppidm.protocol.errors import InputError

try:
    import structlog
except ImportError as error:
    raise InputError("a server needs structlog; install it with: pip install 'ppidm[server]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger, Processor

LogLevel = Literal["debug", "info", "warning", "error"]


def make_logger(level: LogLevel) -> FilteringBoundLogger:
    """A logger of events of at least `level`. Changes no global configuration."""
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
    ]
    wrapper = structlog.make_filtering_bound_logger(getattr(logging, level.upper()))
    logger = structlog.wrap_logger(structlog.PrintLogger(sys.stderr), processors=processors, wrapper_class=wrapper)
    return cast("FilteringBoundLogger", logger)


class _Forwarder(logging.Handler):
    """Writes what a library logs to `log`; of an exception only its type."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        details = (
            describe(record.exc_info[1]) if record.exc_info and record.exc_info[1] else {"text": record.getMessage()}
        )
        self._log.log(record.levelno, "library", library=record.name, **details)


@contextmanager
def forwarding(library: str, log: FilteringBoundLogger) -> Iterator[None]:
    """Within the block, `log` gets what the named library writes to its standard logger."""
    logger, handler = logging.getLogger(library), _Forwarder(log)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def describe(error: BaseException) -> dict[str, object]:
    """What may be logged of an unexpected exception: its type, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "traceback": [f"{f.filename}:{f.lineno} {f.name}: {f.line}" for f in frames]}
