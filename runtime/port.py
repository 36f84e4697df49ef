"""Whether an address can be listened on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ppidm.protocol.errors import InputError

if TYPE_CHECKING:
    from ppidm.protocol.address import Address


def ensure_free(address: Address) -> None:
    """Fail now, not after minutes of loading, where `address` (numeric) cannot be listened on.

    Raises:
        InputError: the port is in use, or the operating system forbids it.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections of a past server are fine
            probe.bind((address.host, address.port))
    except OSError as error:
        problem = f"cannot listen on {address}: {error.strerror}"
        raise InputError(f"{problem}; stop what uses it, or choose another port (0 picks a free one)") from error
