"""`tools/gpu_check.sh` works where there is no GPU, too: engines that do not run are skipped, with the reason."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "gpu_check.sh"


def test_it_writes_what_it_found(tmp_path):
    out = tmp_path / "folder" / "gpu.json"
    settings = {"PYTHON": sys.executable, "SMALL": "1", "TESTS": "tests/engines/test_gpu.py::test_many_threads_at_once"}
    run = subprocess.run(
        [SCRIPT, out], env=os.environ | settings, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(out.read_text())
    assert "onnxruntime      runs: " in run.stdout
    assert set(found["plain"]) == {"product-32-48", "conv-16-8"}
    for name, measured in found["masked"].items():
        assert found["engines"][name] == measured["name"]
        assert measured["wrong_answers"] == 0
        assert measured["requests_per_second"] > 0
        assert set(measured["slices"]) == set(found["plain"])
        assert min(measured["slices"].values()) > 0
    assert "onnxruntime" in found["masked"]
    assert found["tests"]["failed"] == []
    assert found["tests"]["passed"] + len(found["tests"]["skipped"]) == 3
    for name, reason in found["tests"]["skipped"].items():
        engine = name.split("[")[1].rstrip("]")
        assert reason == f"{engine}: {found['engines'][engine]}"
        assert engine not in found["masked"]


def test_a_failed_test_is_the_scripts_failure(tmp_path):
    (tmp_path / "test_bad.py").write_text("import pytest\n\n\n@pytest.mark.gpu\ndef test_bad():\n    assert False\n")
    settings = {"PYTHON": sys.executable, "SMALL": "1", "TESTS": str(tmp_path / "test_bad.py")}
    out = tmp_path / "gpu.json"
    run = subprocess.run([SCRIPT, out], env=os.environ | settings, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert json.loads(out.read_text())["tests"]["failed"] == ["test_bad"]


@pytest.mark.parametrize("command", [["bash", "-n"], ["shellcheck"]], ids=" ".join)
def test_the_shell_is_sound(command):
    found = shutil.which(command[0]) or shutil.which(command[0], path=Path(sys.executable).parent)
    assert found, f"{command[0]} is not installed"
    run = subprocess.run([found, *command[1:], SCRIPT], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
