"""TLS 1.3 and nothing older, for both ends of a link.

gRPC offers no switch for the least version. Here every certificate has an elliptic-curve key, and the TLS 1.2 suites are
restricted to RSA: an older handshake finds no common suite and fails. gRPC reads this variable when it first uses TLS.
"""

import os

CIPHER_SUITES = "GRPC_SSL_CIPHER_SUITES"
_RSA_ONLY = "ECDHE-RSA-AES256-GCM-SHA384"


def require_tls_1_3() -> None:
    """Rule out TLS 1.2 in this process. Call it before the first credentials are made."""
    os.environ[CIPHER_SUITES] = _RSA_ONLY
