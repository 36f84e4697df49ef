import socket

import pytest

from ppidm.protocol.address import Address
from ppidm.protocol.errors import InputError
from ppidm.runtime.port import ensure_free


def test_ensure_free():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())
        with pytest.raises(
            InputError, match=rf"cannot listen on 127\.0\.0\.1:{address.port}: Address already in use; .*another port"
        ):
            ensure_free(address)
    ensure_free(address)
