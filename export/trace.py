"""The trace stage: a diffusers pipeline on disk -> one small ONNX graph per component, beside the weights it points to.

    MODEL/text_encoder/model.onnx   input_ids -> last_hidden_state
    MODEL/unet/model.onnx           sample, timestep, encoder_hidden_states -> out_sample
    MODEL/vae/model.onnx            latent_sample -> sample: the decoder, without scaling factor
    MODEL/vae/encoder.onnx          sample -> latent_parameters: for image to image; a pipeline may lack it
    MODEL/tokenizer/tokenizer.json  if it was missing
    MODEL/scheduler/samplers.npz    the samplers' tables

Tracing needs torch and diffusers. Importing this module, `is_traced`, and `resolve_model` of a folder do not.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from ppidm.protocol.errors import InputError, UnsupportedError

COMPONENTS = {"text_encoder": "CLIPTextModel", "unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
"""Folder -> the class of diffusers or transformers that it must hold."""

SECOND_ENCODER = {"text_encoder_2": "CLIPTextModelWithProjection"}
"""What SDXL has besides."""

ENCODER = "encoder.onnx"
"""In the folder of the VAE, beside the decoder's graph."""

_XL = "StableDiffusionXLPipeline"

Progress: TypeAlias = Callable[[str], None]

_MORE_NETWORKS = ("text_encoder_", "transformer", "controlnet", "image_encoder")
_ADVICE = {
    "controlnet": "Export the pipeline that it was added to, without ControlNet: ppidm does not carry its extra inputs.",
    "image_encoder": "Export the pipeline without IP-Adapter.",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_SMALL_FILES = ["model_index.json", "*/*.json", "*/*.txt"]
_HUB_WEIGHTS = [f"{name}/*model*.safetensors" for name in (*COMPONENTS, *SECOND_ENCODER)]
_MANY_TOKENS = 1 << 20  # no limit: the text encoder's own applies


def trace(model: Path, *, progress: Progress | None = None) -> None:
    """Write the ONNX graphs, the tokenizer and the sampler tables of a pipeline into its own folder.

    Every graph is compared with torch before it gets its name; files that fail are not left behind.

    Args:
        model: a folder in the layout of diffusers' StableDiffusionPipeline; safetensors in 16 or 32 bits.
        progress: called with a sentence before each part.

    Raises:
        InputError: the folder is not such a pipeline, a file is damaged, or torch is not installed.
        UnsupportedError: a component cannot be carried exactly.
    """
    tell = progress or (lambda _: None)
    _check_layout(model)
    try:
        from ppidm.export import component, samplers, tokenizer  # noqa: PLC0415  (they need torch)
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error
    tokens = _tokens(model)
    for name in components_of(model):
        tell(f"tracing {name} and comparing it with torch")
        component.write_onnx(component.load(model / name, tokens), model / name)
    tell("tracing the encoder of vae and comparing it with torch")
    component.write_onnx(component.load_encoder(model / "vae"), model / "vae", ENCODER)
    tell("writing tokenizer.json")
    for name in components_of(model):
        if name.startswith("text_encoder"):
            vocabulary = _read_json(model / name / "config.json")["vocab_size"]
            tokenizer.write_tokenizer(model / name.replace("text_encoder", "tokenizer"), vocabulary)
    tell("making the samplers' tables")
    samplers.write_samplers(model)


def refresh_samplers(model: Path) -> None:
    """Make the samplers' tables anew, if they are missing or the scheduler's configuration has changed since.

    Raises:
        InputError: there is no usable configuration, or diffusers is needed and not installed.
        UnsupportedError: the pipeline's own scheduler is not linear.
    """
    from ppidm.export import samplers  # noqa: PLC0415  (needs numpy, which is_traced does not)

    if samplers.samplers_are_current(model):
        return
    try:
        samplers.write_samplers(model)
    except ModuleNotFoundError as error:
        raise _not_installed(error) from error


def is_traced(model: Path) -> bool:
    """Whether all graphs of a pipeline are there."""
    return all((model / name / "model.onnx").is_file() for name in components_of(model))


def components_of(model: Path) -> dict[str, str]:
    """Folder -> class, of all networks that are carried: two text encoders where there is a second one."""
    return COMPONENTS | (SECOND_ENCODER if (model / "text_encoder_2").is_dir() else {})


def _check_layout(model: Path) -> None:
    index = _read_json(model / "model_index.json")
    classes = {name: entry[1] for name, entry in index.items() if isinstance(entry, list)}
    known = COMPONENTS | (SECOND_ENCODER if index.get("_class_name") == _XL else {})
    for name, expected in known.items():
        if classes.get(name) != expected:
            raise UnsupportedError(f"{model}: {name} is {classes.get(name)}; ppidm traces {expected} only.")
        _read_json(model / name / "config.json")
    others = [name for name, kind in classes.items() if kind and name.startswith(_MORE_NETWORKS) and name not in known]
    if others:
        advice = " ".join(_ADVICE[name] for name in others if name in _ADVICE)
        raise UnsupportedError(f"{model} has {', '.join(others)} too; ppidm traces {', '.join(known)} only. {advice}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} is not there: expected a folder in diffusers' layout, with {', '.join(COMPONENTS)} and"
            " model_index.json, as StableDiffusionPipeline.save_pretrained writes it."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


def _not_installed(error: ModuleNotFoundError) -> InputError:
    return InputError(
        f"tracing needs {error.name}, which is not installed: pip install 'ppidm[export]'."
        " A model that was traced elsewhere needs none of it."
    )


def _tokens(model: Path) -> int:
    """How many tokens the tokenizer gives; some configurations say 10**30 for "no limit"."""
    path = model / "tokenizer" / "tokenizer_config.json"
    longest = _read_json(path).get("model_max_length") if path.is_file() else None
    return min(int(longest or _MANY_TOKENS), _MANY_TOKENS)


def resolve_model(model: str) -> Path:
    """Find a pipeline: a folder, or the id of a model on the Hugging Face Hub, which is downloaded once.

    Args:
        model: path, or `owner/name`.

    Raises:
        InputError: there is no such folder, and it is not an id or cannot be downloaded.
    """
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(model):
        raise InputError(f"{model!r} is not a folder, and not an id of the Hugging Face Hub such as owner/name.")
    return _download(model, _cache() / model.replace("/", "--"))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ppidm" / "models"


def _download(model: str, folder: Path) -> Path:
    """Fetch what tracing reads; of weights in several precisions the 16-bit ones."""
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  (the base install has no use for it)

        small = [*_HUB_SMALL_FILES, *(pattern.replace("*.safe", "*.fp16.safe") for pattern in _HUB_WEIGHTS)]
        snapshot_download(model, local_dir=folder, allow_patterns=small)
        large = [pattern for pattern in _HUB_WEIGHTS if not any(folder.glob(pattern))]
        if large:
            snapshot_download(model, local_dir=folder, allow_patterns=large, ignore_patterns=["*.non_ema.*"])
    except Exception as error:
        raise InputError(
            f"{model!r} is not a folder, and downloading it from the Hugging Face Hub failed ({type(error).__name__}:"
            f" {_first_line(error)}). Check the spelling and the network, or download the model elsewhere and pass its"
            " folder."
        ) from error
    return folder


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
