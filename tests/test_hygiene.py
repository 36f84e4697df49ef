"""No secret in logs, errors, files, reports or on the wire: a picture is made with canaries, and everything is searched.

Every search has its control: a weak build that leaks on purpose, in every way that is looked for, and is found out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from canaries import bytes_canary, ids_canary, number_canary, search, text_canary
from evidence import Evidence, generate
from PIL import Image
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = "wubbazorp flimquatch 3d style xylovent"
NEGATIVE = "grimboldic snarvex plonkarious"
IMAGE_SEED = 7305811936200421
SHAPE = (1, 4, 16, 16)  # of the latents
WEAK = """
import base64, os, sys, tempfile
from pathlib import Path
import numpy as np
from PIL import Image, PngImagePlugin
from ppidm.client import arguments, transport

prompt, seed = sys.argv[3], int(sys.argv[sys.argv.index("--seed") + 1])
print("drawing", base64.b64encode(b"prompt: " + prompt.encode()), file=sys.stderr)
print("seed", seed)

before = transport._request_from_tensors
def leaking(*arguments):
    request = before(*arguments)
    request.id = prompt
    return request
transport._request_from_tensors = leaking

draw = arguments.Request.initial_latents
def caching(self, *rest):
    latents = draw(self, *rest)
    np.save(Path(tempfile.gettempdir()) / "latents.npy", latents)
    (Path.home() / ".history").write_text(str(self.negative_prompts).encode("utf-16").hex())
    return latents
arguments.Request.initial_latents = caching

save = Image.Image.save
def with_metadata(self, *arguments, **options):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", prompt)
    save(self, *arguments, **options | {"pnginfo": info})
Image.Image.save = with_metadata
"""


def make_picture(package: Path, folder: Path, prelude: str = "") -> Evidence:
    options = ["--seed", str(IMAGE_SEED), "--num-inference-steps", "1", "--output", "out/picture.png"]
    return generate(
        package, folder, [PROMPT, "--negative-prompt", NEGATIVE, *options, "--report", "out/report.json"], prelude
    )


def canaries(package: Path):
    """What must be found nowhere."""
    encode = Tokenizer.from_file(str(package / "client" / "tokenizer.json")).encode
    ids = {name: [i for i in encode(text).ids if i][:12] for name, text in (("prompt", PROMPT), ("negative", NEGATIVE))}
    latents = np.random.default_rng(IMAGE_SEED).standard_normal(SHAPE, np.float32)
    return [
        text_canary("prompt", PROMPT),
        text_canary("negative prompt", NEGATIVE),
        number_canary("image seed", IMAGE_SEED),
        *(ids_canary(f"tokens of the {name}", each) for name, each in ids.items()),
        bytes_canary("initial latents", latents.tobytes(), latents.astype("<f8").tobytes()),
    ]


@pytest.fixture(scope="module")
def picture(package, tmp_path_factory):
    return make_picture(package, tmp_path_factory.mktemp("hygiene") / "run")


def test_nothing_is_found(package, picture):
    assert search(canaries(package), picture.content) == set()


def test_there_was_something_to_search(picture):
    """Logs of every request, whole messages, a report."""
    logs = picture.content["server-0.log"], picture.content["server-1.log"]
    assert min(log.count(b'"event": "request"') for log in logs) >= 180
    assert b"masked" in picture.content["to evaluator"]
    assert b"seed" in picture.content["to dealer"]
    assert min(len(picture.content[f"from {role}"]) for role in ("evaluator", "dealer")) > 1_000_000
    assert b"unet_fraction" in picture.content["out/report.json"]
    files = {place for place in picture.content if "." in place or "/" in place}
    assert files == {"out/picture.png", "out/report.json", "server-0.log", "server-1.log"}  # nothing in HOME or TMPDIR


def test_the_picture_has_no_metadata(picture):
    png = picture.content["out/picture.png"]
    chunks, rest = [], png[png.index(b"\x89PNG") + 8 :]
    while rest:
        size = int.from_bytes(rest[:4], "big")
        chunks.append(rest[4:8])
        rest = rest[12 + size :]
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


def test_a_weak_build_is_found_out(package, tmp_path):
    weak = make_picture(package, tmp_path / "weak", WEAK)
    found = search(canaries(package), weak.content)
    assert found >= {
        ("prompt", "stderr"),
        ("prompt", "to evaluator"),
        ("prompt", "to dealer"),
        ("prompt", "from evaluator"),  # the server repeats the id of a request
        ("prompt", "out/picture.png"),
        ("negative prompt", "home/.history"),
        ("image seed", "stdout"),
        ("initial latents", "tmp/latents.npy"),
    }
    assert Image.open(tmp_path / "weak" / "out" / "picture.png").text["parameters"] == PROMPT
