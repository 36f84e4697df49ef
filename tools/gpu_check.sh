#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, on every engine that is installed: exactness, a server under load, a benchmark of masked
# slices against plain float16 and float32. Writes JSON. `pip install -e '.[test]'` first, and for more engines than TensorRT
# for RTX the extra server-gpu; `ppidm doctor` tells what runs.
#
#   tools/gpu_check.sh [OUT.json]     PYTHON=... picks the interpreter; SMALL=1 measures tiny layers, TESTS picks the tests
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-docs/measurements/gpu.json}
python=${PYTHON:-.venv/bin/python}
[[ -x "$(command -v "$python")" ]] || python=python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m ppidm doctor

status=0
"$python" -m pytest -m "gpu or trt" -rs --junitxml="$work/tests.xml" "${TESTS:-tests/engines}" || status=$?
"$python" tools/gpu_bench.py --output "$work/bench.json" ${SMALL:+--small --seconds 1}

"$python" - "$work" "$out" <<'PYTHON'
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

work, out = map(Path, sys.argv[1:])
cases = list(ElementTree.parse(work / "tests.xml").iter("testcase"))
skipped = {case.get("name"): case.find("skipped").get("message") for case in cases if case.find("skipped") is not None}
failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
tests = {"passed": len(cases) - len(skipped) - len(failed), "failed": failed, "skipped": skipped}
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps(json.loads((work / "bench.json").read_text()) | {"tests": tests}, indent=1) + "\n")
PYTHON
echo "$out"
exit "$status"
