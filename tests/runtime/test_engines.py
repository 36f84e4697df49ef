"""A server runs on the engine that its operator names, or not at all."""

import re

import pytest
from command_line import refused

from ppidm.engines.choice import EngineChoice
from ppidm.engines.tensorrt.device import architecture_here
from ppidm.protocol.errors import InputError
from ppidm.protocol.ring import Ring


@pytest.fixture(scope="module")
def no_gpu():
    try:
        if architecture_here() is not None:
            pytest.skip("this machine has a GPU")
    except InputError as error:
        pytest.skip(str(error))


def test_onnx_runtime_on_a_cpu():
    assert "CPUExecutionProvider" in EngineChoice().make(Ring(32), 1).name


@pytest.mark.parametrize(
    ("engine", "reason", "advice"),
    [
        ("onnxruntime-cuda", "has .*CPUExecutionProvider, and not CUDAExecutionProvider", r"ppidm\[server-gpu\]'"),
        ("tensorrt", "the Python package tensorrt cannot be imported", r"ppidm\[server-gpu\]' --extra-index-url"),
        ("tensorrt-rtx", "no NVIDIA GPU, or no driver for it", "serve with --engine onnxruntime on this machine"),
    ],
)
@pytest.mark.usefixtures("no_gpu")
def test_nothing_stands_in_for_an_engine(package, tmp_path, engine, reason, advice):
    """Without a GPU each says which engine, why not, and what to do; and does not serve."""
    shown = refused("serve", package.directory, "--engine", engine, LISTEN="127.0.0.1:0", CACHE=tmp_path / "cache")
    assert re.search(f"{reason}.*{advice}", shown), shown
