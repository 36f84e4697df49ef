"""TLS 1.3 and nothing older, for both ends of a link.

gRPC offers no switch for the least version. Here every certificate has an elliptic-curve key, and the suites of TLS 1.2
are restricted to RSA: an older handshake finds no common suite and fails. gRPC reads the variable once, when it is
imported (measured: set later it has no effect, and TLS 1.2 works). So `ppidm/__init__.py` sets it, and
`require_tls_1_3` looks whether that was in time.
"""

import os

from ppidm.protocol.errors import InputError

CIPHER_SUITES = "GRPC_SSL_CIPHER_SUITES"
RSA_ONLY = "ECDHE-RSA-AES256-GCM-SHA384"


def require_tls_1_3() -> None:
    """Check that TLS 1.2 is ruled out in this process.

    Raises:
        InputError: gRPC was imported before ppidm.
    """
    if os.environ.get(CIPHER_SUITES) != RSA_ONLY:
        raise InputError(
            "grpc was imported before ppidm, and TLS 1.2 is still possible; expected TLS 1.3 only: import ppidm first, "
            f"or start Python with {CIPHER_SUITES}={RSA_ONLY}"
        )
