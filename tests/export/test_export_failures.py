"""An export that fails, or is refused, leaves everything as it was."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import ppidm, refused
from conftest import MODEL

from ppidm.export import component
from ppidm.export.package import export_package
from ppidm.export.settings import ExportResult, ExportSettings
from ppidm.protocol.errors import InputError


def contents(folder):
    """Every file below `folder`, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(out):
    return [path.name for path in out.parent.iterdir() if path != out]


@pytest.fixture
def model(tmp_path):
    """A copy of the shipped model that a test may damage."""
    return shutil.copytree(MODEL, tmp_path / "models" / "copy")


@pytest.fixture
def out(tmp_path):
    """A package that is there already."""
    folder = tmp_path / "exports" / "package"
    (folder / "client").mkdir(parents=True)
    (folder / "client" / "manifest.json").write_text("{}")
    return folder


@pytest.fixture
def quick(monkeypatch):
    """The export itself, in no time; returns a list of functions that are called in the middle of it."""
    during = []

    def run(self):
        (self.client / "new").write_text("")
        for each in during:
            each()
        return ExportResult(self.settings.out, 1, 1, 0.0, 60.0)

    monkeypatch.setattr("ppidm.export.package._Export.run", run)
    return during


@pytest.mark.usefixtures("quick")
def test_an_existing_folder_is_refused(out):
    before = contents(out)
    assert refused("export", MODEL, out) == f"ppidm: {out} exists; give another OUT, or --force to replace it"
    assert contents(out) == before
    assert ppidm("export", MODEL, out, "--force").status == 0
    assert set(contents(out)) == {"client/new"}
    assert leftovers(out) == []


@pytest.mark.usefixtures("quick")
def test_a_new_folder_in_new_folders(tmp_path):
    out = tmp_path / "a" / "b" / "package"
    assert ppidm("export", MODEL, out).status == 0
    assert set(contents(out)) == {"client/new"}


def test_nothing_is_there_before_it_is_complete(tmp_path, quick):
    out = tmp_path / "package"
    quick.append(lambda: present.append(out.exists()))
    present = []
    assert ppidm("export", MODEL, out).status == 0
    assert present == [False]
    assert out.exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_force_replaces_packages_only(tmp_path, kind):
    out = tmp_path / "home"
    if kind == "folder":
        (out / "documents").mkdir(parents=True)
    else:
        out.write_text("dear diary")
    assert refused("export", MODEL, out, "--force") == (
        f"ppidm: {out} is no package of `ppidm export`; --force replaces packages only"
    )
    assert out.is_file() or (out / "documents").is_dir()
    assert leftovers(out) == []


@pytest.mark.usefixtures("quick")
def test_force_takes_an_empty_folder(tmp_path):
    out = tmp_path / "package"
    out.mkdir()
    assert ppidm("export", MODEL, out, "--force").status == 0
    assert set(contents(out)) == {"client/new"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, InputError])
def test_a_failure_in_the_middle_leaves_nothing(out, quick, error):
    def fail():
        raise error

    before = contents(out)
    quick.append(fail)
    with pytest.raises(error):
        export_package(ExportSettings(str(MODEL), out, force=True))
    assert contents(out) == before
    assert leftovers(out) == []


@pytest.mark.usefixtures("quick")
def test_a_failed_move_puts_the_old_package_back(out, monkeypatch):
    rename, moves = Path.rename, []

    def rename_but_once(self, target):
        moves.append(self)
        if len(moves) == 2:
            raise OSError(5, "Input/output error", str(self))
        return rename(self, target)

    before = contents(out)
    monkeypatch.setattr(Path, "rename", rename_but_once)
    assert refused("export", MODEL, out, "--force").endswith(": Input/output error")
    assert len(moves) == 3
    assert contents(out) == before
    assert leftovers(out) == []


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(**changes):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def drop(key):
    def change(path):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))

    return change


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("unet/model.onnx", cut, "FILE"),
        ("unet/diffusion_pytorch_model.safetensors", cut, "unet/model.onnx"),
        ("text_encoder/model.onnx", cut, "FILE"),
        ("vae/model.onnx", cut, "FILE: cannot be read as ONNX"),
        ("tokenizer/tokenizer.json", cut, "FILE: not a tokenizer"),
        ("tokenizer/tokenizer_config.json", drop("pad_token"), "MODEL: the configuration has no 'pad_token'"),
        ("tokenizer/tokenizer_config.json", edit(pad_token="<pad>"), "padding '<pad>'"),
        ("scheduler/samplers.npz", cut, "FILE: cannot read the samplers"),
        ("model_index.json", edit(_class_name="FluxPipeline"), "a FluxPipeline; expected a "),
        ("model_index.json", cut, "FILE: "),
        ("unet/config.json", drop("sample_size"), "MODEL: the configuration has no 'sample_size'"),
        ("vae/config.json", edit(scaling_factor=None), "MODEL: the configuration has what does not fit"),
        ("unet/config.json", lambda path: path.write_text("[]"), "FILE: not a JSON object"),
        ("vae/config.json", Path.unlink, "FILE: "),
    ],
)
def test_a_damaged_model(model, out, file, damage, message):
    before = contents(out)
    damage(model / file)
    error = refused("export", model, out, "--force")
    assert message.replace("FILE", str(model / file)).replace("MODEL", str(model)) in error
    assert contents(out) == before
    assert leftovers(out) == []


NOISY = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@NOISY
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edit(clip_sample=True),
            "DDIMScheduler is not linear, so that a client cannot run it exactly: set clip_sample",
        ),
        (edit(_class_name="NoScheduler"), "diffusers has no scheduler 'NoScheduler'"),
    ],
)
def test_a_scheduler_that_was_changed_after_tracing(model, out, change, message):
    """The tables beside it are of the old configuration: they are made anew, which fails here."""
    before = contents(out)
    change(model / "scheduler/scheduler_config.json")
    assert message in refused("export", model, out, "--force")
    assert contents(out) == before
    assert leftovers(out) == []


def test_missing_samplers_need_diffusers(model, out, monkeypatch):
    (model / "scheduler/samplers.npz").unlink()
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "pip install 'ppidm[export]'" in refused("export", model, out, "--force")


def test_no_model(out, tmp_path):
    assert "is not a folder, and not an id of the Hugging Face Hub" in refused(
        "export", tmp_path / "none", out, "--force"
    )


def test_a_single_server_is_refused(tmp_path):
    error = refused("export", MODEL, tmp_path / "package", "--servers", "1")
    assert error == "ppidm: --servers is 1; expected at least 2: an evaluator and a dealer"


@NOISY
def test_a_scheduler_that_is_not_linear(model, out, monkeypatch):
    """Clipping; the graphs, which take longer and are traced already, are left out."""
    pytest.importorskip("diffusers")
    monkeypatch.setattr(component, "load", lambda folder, _tokens: folder)
    monkeypatch.setattr(component, "write_onnx", lambda _loaded, _folder, _file="": None)
    before = contents(out)
    edit(clip_sample=True)(model / "scheduler" / "scheduler_config.json")
    error = refused("export", model, out, "--force", "--retrace")
    assert error.startswith(
        "ppidm: DDIMScheduler is not linear, so that a client cannot run it exactly: set clip_sample"
    )
    assert contents(out) == before
    assert leftovers(out) == []
