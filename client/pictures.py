"""Text in, pictures out: the client's own components around the U-Net."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from ppidm.engines.onnx_policy import TEXT
from ppidm.engines.onnxruntime import open_graph
from ppidm.engines.program import FLOPS
from ppidm.protocol.errors import PackageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.protocol.manifest import ImageConfig

    Floats = NDArray[np.float32]

_HIDDEN = "last_hidden_state"


class TextEncoder:
    """Prompts -> `encoder_hidden_states`.

    Args:
        directory: `OUT/client`.
        max_tokens: what a prompt is truncated and padded to.
        threads: intra-op threads; 0 means one per core.
    """

    def __init__(self, directory: Path, max_tokens: int, threads: int = 0) -> None:
        path = directory / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises Exception itself
            raise PackageError(f"{path}: not a tokenizer ({error}); copy or export the package again") from error
        self._max_tokens = max_tokens
        _require_one_length(self._tokenizer, max_tokens, path)
        self._session = open_graph(directory / "text_encoder.onnx", ["input_ids"], [_HIDDEN, FLOPS], threads, TEXT)

    def __call__(self, prompts: Sequence[str]) -> tuple[Floats, int]:
        """Encode.

        Returns:
            Float32, (prompts, tokens, features), and the FLOPs.
        """
        encoded = self._tokenizer.encode_batch(list(prompts))
        if any(encoding.overflowing for encoding in encoded):
            warnings.warn(f"a prompt was truncated to {self._max_tokens} tokens", stacklevel=4)  # the pipeline's caller
        ids = np.array([encoding.ids for encoding in encoded], np.int64).reshape(len(encoded), self._max_tokens)
        hidden, flops = self._session.run([_HIDDEN, FLOPS], {"input_ids": ids})
        return hidden, int(flops)


def _require_one_length(tokenizer: Tokenizer, tokens: int, path: Path) -> None:
    """The number of tokens is the size of messages: it must not depend on the prompt.

    Raises:
        PackageError: it would.
    """
    lengths = (tokenizer.truncation or {}).get("max_length"), (tokenizer.padding or {}).get("length")
    if lengths != (tokens, tokens):
        raise PackageError(
            f"{path}: texts are cut to {lengths[0]} tokens and filled up to {lengths[1]}; expected {tokens}, or servers could "
            "tell prompts apart. Export the model again"
        )


class ImageDecoder:
    """Latents -> pictures.

    Args:
        directory: `OUT/client`.
        config: of the manifest.
        threads: intra-op threads; 0 means one per core.
    """

    def __init__(self, directory: Path, config: ImageConfig, threads: int = 0) -> None:
        self._config = config
        self._session = open_graph(directory / "vae_decoder.onnx", ["latent_sample"], ["sample", FLOPS], threads)

    def __call__(self, latents: Floats) -> tuple[Floats, int]:
        """Decode (N, C, h, w).

        Returns:
            Float32 in [0, 1], (N, height, width, 3), and the FLOPs.
        """
        scaled = latents / np.float32(self._config.scaling_factor) + np.float32(self._config.shift_factor)
        images, flops = self._session.run(["sample", FLOPS], {"latent_sample": scaled})
        return np.clip(images / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1), int(flops)


def pil_from_floats(images: Floats) -> list[Image.Image]:
    """(N, height, width, 3) in [0, 1] -> one picture each."""
    return [Image.fromarray(image) for image in np.rint(images * 255).astype(np.uint8)]
