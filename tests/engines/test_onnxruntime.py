"""How ONNX Runtime is set up, whatever it runs."""

import subprocess
import sys

import onnxruntime
import pytest

from ppidm.engines.onnxruntime_cuda import CUDA, CudaEngine
from ppidm.engines.tensorrt.device import architecture_here
from ppidm.protocol.errors import InputError, PackageError
from ppidm.protocol.manifest import ServerManifest, load_manifest
from ppidm.protocol.ring import Ring

PROGRAM = """
import os, sys
import ppidm
assert "onnxruntime" not in sys.modules, "ppidm must be able to set variables first"
from ppidm.engines.onnxruntime import open_session
print(os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


def test_telemetry_is_off_before_onnxruntime_is_imported():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1"]


def test_an_onnx_runtime_for_cpus_is_no_engine_for_gpus():
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime is one for GPUs")
    with pytest.raises(
        InputError, match=r"and not CUDAExecutionProvider; pip uninstall onnxruntime, then .*server-gpu"
    ):
        CudaEngine(Ring())


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_no_cpu_stands_in_for_a_gpu(package, monkeypatch):
    """What ONNX Runtime itself does where CUDA is listed and cannot be used, such as a wheel for GPUs without one."""
    try:
        if architecture_here() is not None:
            pytest.skip("this machine has a GPU")
    except InputError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    engine = CudaEngine(Ring())
    subgraph = load_manifest(package / "server-0", ServerManifest).slices[2]
    with pytest.raises(
        PackageError, match=r"slice conv_in: onnxruntime .* cannot be used here: no GPU, or not the CUDA"
    ):
        engine.load(package / "server-0", subgraph)
