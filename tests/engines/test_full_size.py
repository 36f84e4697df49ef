"""Every slice of Stable Diffusion 1.5 at full size compiles: half an hour, 12 GB of disk, 4 GB of memory."""

import json
import os
import subprocess
import sys

import pytest
from made_models import TOOLS, tool

MODEL = "PPIDM_TEST_SD15_PACKAGE"  # OUT/server-0 of `tools/make_model.py sd15` and `ppidm export`, to save half of it


@pytest.mark.slow
@pytest.mark.trt
def test_every_slice_of_sd15_compiles(rtx, tmp_path):  # noqa: ARG001
    directory = os.environ.get(MODEL)
    if directory is None:
        tool("make_model").make_model("sd15", tmp_path / "sd15")
        command = [sys.executable, "-m", "ppidm", "export", tmp_path / "sd15", tmp_path / "package"]
        subprocess.run(command, check=True)
        directory = tmp_path / "package" / "server-0"
    output = tmp_path / "engines.json"
    subprocess.run([sys.executable, TOOLS / "build_bench.py", directory, "--output", output], check=True)
    [measured] = json.loads(output.read_text())["models"].values()
    assert (measured["result"], measured["failures"]) == ("compiled 198 of 198 slices", [])
    assert measured["proved"] == measured["plans"] == 198
    assert measured["plan_bytes"] > measured["weights_on_gpu_bytes"] > 2 << 30
