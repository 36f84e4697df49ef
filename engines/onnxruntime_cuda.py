"""ONNX Runtime on an NVIDIA GPU: slices in the portable form, execution provider CUDA and no other.

Slices hold products and no convolution, so that nothing is left of which cuDNN could choose an algorithm. TF32 is on for slices
whose proof says that it changes nothing, and off for others; ONNX Runtime's default is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime as ort

from ppidm.engines.onnx_policy import PRODUCTS
from ppidm.engines.onnxruntime import OrtRunner, load_slice, open_graph
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.messages import ANSWER, MASKED

if TYPE_CHECKING:
    from pathlib import Path

    from ppidm.protocol.records import Subgraph
    from ppidm.protocol.ring import Ring

CUDA = "CUDAExecutionProvider"
_NOT_ON_GPU = "fallback to CPU EP has been explicitly disabled"  # in what ONNX Runtime says where CUDA cannot be used
INSTALL = "pip uninstall onnxruntime, then pip install 'ppidm[server-gpu]': both are one module, and cannot be installed together"


class CudaEngine:
    """ONNX Runtime, CUDA execution provider, portable form.

    Args:
        ring: of the package's slices.

    Raises:
        InputError: this ONNX Runtime is one for CPUs.
    """

    def __init__(self, ring: Ring) -> None:
        if CUDA not in (there := ort.get_available_providers()):
            raise InputError(
                f"engine onnxruntime-cuda: ONNX Runtime {ort.__version__} has {', '.join(there)}, and not {CUDA}; {INSTALL}"
            )
        self._ring = ring

    @property
    def name(self) -> str:
        """Library, version, execution provider and form."""
        return f"onnxruntime {ort.__version__}, {CUDA}, portable form"

    def load(self, directory: Path, subgraph: Subgraph) -> OrtRunner:
        """See `engines.base.Engine.load`."""
        path, outputs = directory / subgraph.file, [f"{ANSWER}{index}" for index in range(len(subgraph.layers))]
        options = {"device_id": "0", "use_tf32": "1" if subgraph.proof else "0"}
        try:
            session = open_graph(path, [MASKED], outputs, 1, PRODUCTS, provider=(CUDA, options))
        except PackageError as error:
            if _NOT_ON_GPU not in str(error):
                raise
            raise PackageError(
                f"slice {subgraph.name}: {self.name} cannot be used here: no GPU, or not the CUDA and cuDNN that this ONNX Runtime "
                "needs (`ppidm doctor` tells what there is). Nothing stands in for it; serve with --engine onnxruntime for the CPU"
            ) from error
        return load_slice(self, session, path, subgraph, self._ring)
