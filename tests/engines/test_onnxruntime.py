"""How ONNX Runtime is set up, whatever it runs."""

import subprocess
import sys

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
