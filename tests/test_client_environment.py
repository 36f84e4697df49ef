"""A client needs no torch, no diffusers, no onnx: the base install, in an environment of its own, draws a picture."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDERS = "protocol", "engines", "export", "runtime", "client"
NOT_THERE = "torch", "diffusers", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors", "structlog"
STRIP = "PYTHON", "PPIDM_", "VIRTUAL_ENV"  # beginnings of variables that would let this environment in


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(STRIP)}
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=environment, cwd=cwd
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Python of a fresh environment with `pip install ppidm`; a build leaves folders behind, so it builds a copy."""
    folder = tmp_path_factory.mktemp("client")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("src", *FOLDERS):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment" / "bin" / "python"
    install = run(python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", source, cwd=folder)
    assert install.returncode == 0, install.stderr
    return python


def test_it_is_the_installed_wheel_with_all_modules(client, tmp_path):
    shown = run(client, "-c", "import ppidm; print(ppidm.__file__)", cwd=tmp_path)
    installed = Path(shown.stdout.strip()).parent
    assert installed.is_relative_to(client.parents[1])
    modules = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    modules |= {path.name for path in (ROOT / "src" / "ppidm").glob("*.py")} | {"py.typed"}
    suffixes = {".py", ".typed"}
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.suffix in suffixes}
    assert files == modules


@pytest.mark.parametrize("name", NOT_THERE)
def test_it_is_without(client, tmp_path, name):
    shown = run(client, "-c", f"import {name}", cwd=tmp_path)
    assert shown.returncode == 1
    assert f"ModuleNotFoundError: No module named '{name}'" in shown.stderr


def test_it_draws_a_picture(client, package, servers, tmp_path):
    command = [client, "-W", "error", client.with_name("ppidm"), "generate", package / "client", "red apple, 3d style"]
    servers = ["--evaluator", servers[0], "--dealer", servers[1]]
    options = ["--num-inference-steps", 2, "--guidance-scale", 4, "--seed", 1, "--report", "report.json"]
    shown = run(*command, *servers, *options, cwd=tmp_path)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "picture.png\n", "")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (64, 64)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["evaluations"] == 4
    assert report["verified"] is True


def test_it_inspects(client, package, tmp_path):
    shown = run(client, "-m", "ppidm", "inspect", package / "client", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "conv_in" in shown.stdout


def test_what_needs_more_says_so(client, package, tmp_path):
    shown = run(client, "-m", "ppidm", "export", ROOT / "models" / "default", tmp_path / "out", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "ppidm: this command needs onnx_ir; pip install 'ppidm[partition]'\n"
    shown = run(client, "-m", "ppidm", "serve", package / "server-0", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "ppidm: a server needs structlog; install it with: pip install 'ppidm[server]'\n"


def test_this_environment_would_not_do():
    """So that the tests above cannot pass by running here."""
    assert subprocess.run([sys.executable, "-c", "import onnx, torch"], check=False).returncode == 0
