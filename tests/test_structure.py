"""The layout of the project: who imports whom, what is installed, how long files are."""

import ast
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {  # package -> those of ours that its modules may import, for types too
    "protocol": {"protocol"},
    "engines": {"protocol", "engines"},
    "export": {"protocol", "engines", "export"},
    "runtime": {"protocol", "engines", "runtime"},
    "client": {"protocol", "engines", "client"},
}
PACKAGES = sorted(MAY_IMPORT)
PROTOCOL_NEEDS = {"numpy", "cryptography", "pydantic"}
NOT_ON_A_CLIENT = {"torch", "diffusers", "transformers", "onnx", "onnx_ir", "onnxscript"}
LONGEST_MEDIAN = 200  # lines


def sources(folder):
    return sorted(path for path in (ROOT / folder).glob("**/*.py"))


OURS = {path.relative_to(ROOT).as_posix(): path for package in PACKAGES for path in sources(package)}
TOP = {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "src" / "ppidm").glob("*.py"))}
CLIENT_SIDE = {
    name: path for name, path in (OURS | TOP).items() if name.split("/")[0] in {"protocol", "engines", "client", "src"}
}


def by_path(paths):
    return pytest.mark.parametrize("path", paths.values(), ids=paths)


def imported(tree, *, when_loaded=False):
    """Absolute names of what is imported: everywhere, or only what loading the module imports."""
    found, pending = set(), list(ast.iter_child_nodes(tree))
    while pending:
        node = pending.pop()
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                assert node.level == 0, f"line {node.lineno}: a relative import"
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if when_loaded:
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if when_loaded:
                pending += node.orelse
                continue
        pending += ast.iter_child_nodes(node)
    return found


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def packages_of_ours(names):
    """`protocol` of `ppidm.protocol.ring`; "" of `ppidm.__version__`."""
    parts = [name.split(".") for name in names]
    return {each[1] if each[1:] and each[1] in MAY_IMPORT else "" for each in parts if each[0] == "ppidm"}


def test_this_file_reads_imports_right():
    text = """
import os.path, ppidm
from ppidm.protocol.ring import Ring
if TYPE_CHECKING:
    from ppidm.client import pipeline
else:
    import torch
def f():
    import onnx
class C:
    import onnx_ir
try:
    import diffusers
except ImportError:
    pass
"""
    tree = ast.parse(text)
    loaded = {"os.path", "ppidm", "ppidm.protocol.ring.Ring", "torch", "onnx_ir", "diffusers"}
    assert imported(tree, when_loaded=True) == loaded
    assert imported(tree) == loaded | {"ppidm.client.pipeline", "onnx"}
    assert packages_of_ours(imported(tree)) == {"", "protocol", "client"}


def test_there_is_something_to_look_at():
    assert {name.split("/")[0] for name in OURS} == set(PACKAGES)
    assert {"src/ppidm/__init__.py", "src/ppidm/cli.py"} <= set(TOP)


@by_path(OURS)
def test_imports_go_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    assert packages_of_ours(imported(parsed(path))) - {""} <= MAY_IMPORT[package]


@by_path({name: path for name, path in TOP.items() if name != "src/ppidm/cli.py"})
def test_only_the_command_line_imports_the_client(path):
    assert "client" not in packages_of_ours(imported(parsed(path)))


@by_path({name: path for name, path in OURS.items() if name.startswith("protocol/")})
def test_the_protocol_needs_three_packages(path):
    roots = {name.split(".")[0] for name in imported(parsed(path))} - {"ppidm"}
    assert roots - set(sys.stdlib_module_names) <= PROTOCOL_NEEDS


@by_path(CLIENT_SIDE)
def test_a_client_loads_no_torch_and_no_onnx(path):
    roots = {name.split(".")[0] for name in imported(parsed(path), when_loaded=True)}
    assert not roots & NOT_ON_A_CLIENT


@by_path(OURS | TOP)
def test_no_module_imports_a_private_name_of_another(path):
    private = [name for name in imported(parsed(path)) if name.startswith("ppidm.") and is_private(name.split(".")[-1])]
    assert not private


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@by_path(OURS | TOP | {path.relative_to(ROOT).as_posix(): path for path in sources("tools")})
def test_every_source_file_has_a_docstring(path):
    assert ast.get_docstring(parsed(path))


def test_files_are_short():
    assert median(len(path.read_text(encoding="utf-8").splitlines()) for path in OURS.values()) < LONGEST_MEDIAN


def test_the_protocol_loads_nothing_but_what_it_needs():
    modules = [f"ppidm.protocol.{path.stem}" for name, path in OURS.items() if name.startswith("protocol/")]
    script = (
        f"import sys\nfor name in {modules}: __import__(name)\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & (NOT_ON_A_CLIENT | {"onnxruntime", "grpc", "tritonclient", "typer"})


def test_what_the_top_level_exports():
    script = "import ppidm\nprint(*sorted(name for name in vars(ppidm) if not name.startswith('_')))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []  # `ppidm.client` exports the pipeline; importing ppidm alone costs nothing


def has_setuptools(oldest):
    try:
        return int(version("setuptools").split(".")[0]) >= oldest
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of a copy of the tree: a build leaves folders behind, and stale ones end up in the next wheel."""
    if not has_setuptools(77):
        pytest.skip("a build without network needs setuptools >= 77 in this environment")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", "tests", "tools", *PACKAGES):
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    (path,) = out.iterdir()
    with zipfile.ZipFile(path) as archive:
        yield {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    modules = {f"ppidm/{name}" for name in OURS} | {name.removeprefix("src/") for name in TOP}
    assert "ppidm/protocol/ring.py" in modules
    installed = {name for name in wheel if ".dist-info/" not in name}
    assert installed == modules | {"ppidm/py.typed"}


def test_the_wheel_says_what_it_is(wheel):
    (metadata,) = [content.decode() for name, content in wheel.items() if name.endswith(".dist-info/METADATA")]
    (stated,) = [line.split()[1] for line in metadata.splitlines() if line.startswith("Version: ")]
    assert f'__version__ = "{stated}"' in TOP["src/ppidm/__init__.py"].read_text(encoding="utf-8")
    (scripts,) = [content.decode() for name, content in wheel.items() if name.endswith("entry_points.txt")]
    assert "ppidm = ppidm.cli:main" in scripts
    (top_level,) = [content.decode() for name, content in wheel.items() if name.endswith("top_level.txt")]
    assert top_level.split() == ["ppidm"]
