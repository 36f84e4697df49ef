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

__version__ = "0.1.0"

# ONNX Runtime's wheels can report to their maker: an identifier of the machine, paths, names of graphs, how often they ran.
# Neither an operator nor a user of ours asked for that. The variable is read once, when ONNX Runtime is first imported.
_os.environ["ORT_DISABLE_TELEMETRY"] = "1"
