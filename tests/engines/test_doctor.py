"""What `ppidm doctor` finds is so."""

import platform
import re
import sys

import onnxruntime
import pytest
from command_line import ppidm
from host_gpu import HostCuda

from ppidm.engines import doctor
from ppidm.engines.choice import ENGINES, EngineChoice
from ppidm.engines.doctor import NONE, examine
from ppidm.engines.tensorrt import device
from ppidm.protocol.errors import InputError
from ppidm.protocol.ring import Ring


def test_every_engine_has_a_verdict_that_is_true(tmp_path):
    found = examine(tmp_path)
    assert [verdict.engine for verdict in found.verdicts] == list(ENGINES)
    for verdict in found.verdicts:
        if verdict.runs:
            assert verdict.told == EngineChoice(verdict.engine, tmp_path).make(Ring(), 1).name
        elif "no NVIDIA GPU" not in verdict.told:
            with pytest.raises(InputError, match=re.escape(verdict.told)):
                EngineChoice(verdict.engine, tmp_path).make(Ring(), 1)
    assert found.verdicts[0].runs


def test_what_is_printed(tmp_path):
    shown = ppidm("doctor", "--cache", tmp_path)
    assert (shown.status, shown.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if line)
    assert lines["Python"].startswith(platform.python_version())
    assert lines["ONNX"].startswith(f"Runtime     {onnxruntime.__version__}: ")
    assert lines["onnxruntime"] == f"runs: {EngineChoice().make(Ring(), 1).name}"
    assert set(ENGINES) <= set(lines)


def test_what_is_missing(tmp_path, monkeypatch):
    for module in ("tensorrt", "tensorrt_rtx", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, module, None)
    found = examine(tmp_path)
    names = ("tensorrt", "tensorrt_rtx", "NVIDIA driver", "GPU")
    assert [found.parts[name] for name in names] == [NONE] * 4
    told = {verdict.engine: verdict for verdict in found.verdicts}
    assert not told["tensorrt-rtx"].runs
    assert not told["tensorrt-rtx"].compiles
    assert told["tensorrt-rtx"].told.endswith("pip install 'ppidm[server-rtx]'")
    assert "pypi.nvidia.com" in told["tensorrt"].told


def test_a_gpu(tmp_path, monkeypatch, rtx):  # noqa: ARG001
    """On the stand-in of a GPU."""
    host = HostCuda()
    for module in (device, doctor):
        monkeypatch.setattr(module, "load_cuda", lambda: host)
    found = examine(tmp_path)
    assert found.parts["NVIDIA driver"] == "for CUDA 13.0"
    assert found.parts["GPU"] == "Stand-in, sm89, 8.0 GiB"
    told = {verdict.engine: verdict for verdict in found.verdicts}
    assert told["tensorrt-rtx"].runs
    assert ", sm89, portable form" in told["tensorrt-rtx"].told


def test_a_machine_without_a_gpu_compiles(rtx, tmp_path):  # noqa: ARG001
    verdict = {verdict.engine: verdict for verdict in examine(tmp_path).verdicts}["tensorrt-rtx"]
    assert verdict.compiles
    assert verdict.runs or "no NVIDIA GPU" in verdict.told
