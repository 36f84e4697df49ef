"""Private image generation with Stable Diffusion on rented servers that nobody has to trust.

The client keeps the prompt, the text encoder, every non-linear function, the sampler and the image decoder. The linear
layers of the U-Net run on servers, on inputs masked with one-time uniform masks. Any set of servers that does not
contain the evaluator and all dealers together learns nothing about prompt or picture (semi-honest servers; a wrong
answer is detected). What is learned anyway (shapes, step count, timing) is listed in SECURITY.md.

Modules, in import order:

- `ppidm.protocol`: ring, fixed point, masks, checks, messages, manifest; `run_protocol()` is the protocol on one page.
- `ppidm.engines`: runs slices (on a server) and the program of a partitioned model (on the client).
- `ppidm.export`: a diffusers pipeline -> ONNX -> partition -> a package for one client and its servers.
- `ppidm.runtime`: the server process.
- `ppidm.client`: `PrivateStableDiffusionPipeline`.
"""

import os as _os
import sys as _sys

__version__ = "0.1.0"

# No TLS older than 1.3, see `ppidm.protocol.tls`. gRPC reads this variable when it is imported, and never again.
if "grpc" not in _sys.modules:
    _os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"

# ONNX Runtime's wheels report to Microsoft by default (since 1.29 on Linux and macOS, too): an identifier of the machine, the
# path of the executable, names of graphs, and how often and how long sessions ran. A server's operator and a client's user both
# did not ask for that. It reads this variable once, when it is loaded; `disable_telemetry_events` would come too late.
_os.environ["ORT_DISABLE_TELEMETRY"] = "1"
