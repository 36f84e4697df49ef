"""The bounds of a fuzzed process: wrong exceptions, hangs, bursts of memory and crashes are found."""

import json
import subprocess
import sys

import pytest
from targets import ALLOWED

CHILD = """
import ctypes, os, sys
from pathlib import Path
from child import Bounded
from targets import Target

kept = []
def crash(content): ctypes.string_at(0)
def loop(content):
    while content: pass
def swallow(content):
    while content:
        try: raise KeyError
        except Exception: pass
def hoard(content): kept.append(bytearray(600 << 20))
def wrong(content): raise KeyError(content.hex())
def good(content): pass

target = Target([b"x"], globals()[sys.argv[1]], 1.0)
bounded = Bounded(sys.argv[1], target, "by hand", 3, Path(sys.argv[2]))
for _ in range(10):
    bounded(b"input")
"""


def run(kind, folder):
    report = folder / "report.json"
    code = f"import sys\nsys.path[:0] = {[path for path in sys.path if path.endswith('fuzz')]}\n" + CHILD
    process = subprocess.run(
        [sys.executable, "-c", code, kind, str(report)], capture_output=True, check=False, timeout=60
    )
    return process.returncode, json.loads(report.read_text()) if report.exists() else None


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("wrong", "KeyError: '696e707574'"),
        ("loop", "HangError: more than 1 s"),
        ("swallow", "HangError: more than 1 s"),
        ("hoard", "MiB more than at the start"),
    ],
)
def test_a_bad_target_is_found_out(tmp_path, kind, failure):
    status, report = run(kind, tmp_path)
    assert status == 1
    assert failure in report["failure"]
    assert bytes.fromhex(report["failing_input"]) == b"input"


def test_a_good_one_runs_as_often_as_asked(tmp_path):
    status, report = run("good", tmp_path)
    assert status == 0
    assert (report["inputs"], report["accepted"], report["failure"]) == (3, 3, "")


def test_a_crash_leaves_no_report(tmp_path):
    status, report = run("crash", tmp_path)
    assert status != 0
    assert report is None


def test_only_our_own_errors_are_allowed():
    assert [error.__name__ for error in ALLOWED] == ["InputError", "DecodeError"]
