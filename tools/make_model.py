"""Write a pipeline folder with the public configuration of a well-known model and seeded random weights.

    tools/make_model.py sd15 /tmp/sd15
    tools/make_model.py sdxl /tmp/small-sdxl --scale small

FLOPs, bytes, memory, exactness and time are those of the real model; the pictures are noise. Weights are float16 in
safetensors, written tensor by tensor: the largest model (sdxl, 7 GB) takes less than 1 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import transformers

sys.path.append(str(Path(__file__).parent))
from making import configurations, vocabulary, weights

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = {
    "text_encoder": ("transformers", "CLIPTextModel", "model.safetensors"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection", "model.safetensors"),
    "unet": ("diffusers", "UNet2DConditionModel", "diffusion_pytorch_model.safetensors"),
    "vae": ("diffusers", "AutoencoderKL", "diffusion_pytorch_model.safetensors"),
}


def make_model(
    name: str,
    out: Path,
    *,
    small: bool = False,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda _part, _done, _total: None,
) -> None:
    """Write the folder `out`.

    Args:
        name: one of `configurations.names()`.
        out: must not exist.
        small: a reduced size for tests.
        seed: of all weights.
        progress: called with a component, the bytes written of it, and the bytes in all.
    """
    made = configurations.configuration_from_name(name, small=small)
    out.mkdir(parents=True)
    for number, (part, config) in enumerate(made.components.items()):
        _write_component(out / part, config, [seed, number], lambda done, total, part=part: progress(part, done, total))
    length = made.components["text_encoder"]["max_position_embeddings"]
    for folder, pad in made.pads.items():
        vocabulary.write_tokenizer(out / folder, made.tokens, length, pad)
    scheduler = getattr(diffusers, made.scheduler["_class_name"]).from_config(made.scheduler)
    scheduler.save_pretrained(out / "scheduler")
    (out / "model_index.json").write_text(json.dumps(_index(made), indent=2))


def _write_component(folder: Path, config: dict[str, Any], seed: Any, progress: Callable[[int, int], None]) -> None:  # noqa: ANN401
    library, kind, file = CLASSES[folder.name]
    if library == "diffusers":
        module = weights.shapes_of(getattr(diffusers, kind), config)
        module.save_config(folder)
    else:
        config_of_library = transformers.CLIPTextConfig(**config, dtype="float16", architectures=[kind])
        module = weights.shapes_of(getattr(transformers, kind), config_of_library)
        config_of_library.save_pretrained(folder)
    weights.write_weights(module, folder / file, seed, progress)


def _index(made: configurations.Configuration) -> dict[str, Any]:
    index: dict[str, Any] = {"_class_name": made.pipeline, "_diffusers_version": diffusers.__version__}
    index |= {part: CLASSES[part][:2] for part in made.components}
    index |= dict.fromkeys(made.pads, ("transformers", "CLIPTokenizer"))
    index["scheduler"] = "diffusers", made.scheduler["_class_name"]
    if made.pipeline == "StableDiffusionXLPipeline":
        return index | {"force_zeros_for_empty_prompt": True, "feature_extractor": [None, None]}
    return index | {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}


def main() -> None:
    """Parse the command line, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="CONFIG", choices=configurations.names(), help="%(choices)s")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write; must not exist")
    parser.add_argument("--scale", choices=["full", "small"], default="full", help="small: a reduced size for tests")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"{arguments.out} exists; give another folder")

    def show(part: str, done: int, total: int) -> None:
        end = "\n" if done == total else "\r"
        if sys.stdout.isatty() or done == total:
            print(f"{part}: {done / 2**20:.0f} of {total / 2**20:.0f} MiB", end=end, flush=True)

    make_model(arguments.config, arguments.out, small=arguments.scale == "small", seed=arguments.seed, progress=show)


if __name__ == "__main__":
    main()
