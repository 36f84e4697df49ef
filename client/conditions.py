"""Text in, what the U-Net is told out: the text encoders, and what some models want besides."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from ppidm.engines.onnx_policy import TEXT
from ppidm.engines.onnxruntime import open_graph
from ppidm.engines.program import FLOPS
from ppidm.engines.unet import GUIDANCE, POOLED, PROMPT, SIZES
from ppidm.protocol.errors import PackageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ppidm.client.arguments import Request
    from ppidm.protocol.manifest import ClientManifest

    Floats = NDArray[np.float32]

_LONGEST_PERIOD = 10_000  # of the sines that embed a guidance scale
_GUIDANCE_UNIT = 1_000


class TextEncoder:
    """Texts -> what one text encoder makes of them.

    Args:
        directory: `OUT/client`.
        max_tokens: what a text is truncated and padded to.
        outputs: of the encoder's graph.
        suffix: of its files' names.
        threads: intra-op threads; 0 means one per core.
    """

    def __init__(
        self, directory: Path, max_tokens: int, outputs: Sequence[str], suffix: str = "", threads: int = 0
    ) -> None:
        path = directory / f"tokenizer{suffix}.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises Exception itself
            raise PackageError(f"{path}: not a tokenizer ({error}); copy or export the package again") from error
        self._max_tokens, self._outputs = max_tokens, [*outputs, FLOPS]
        _require_one_length(self._tokenizer, max_tokens, path)
        graph = directory / f"text_encoder{suffix}.onnx"
        self._session = open_graph(graph, ["input_ids"], self._outputs, threads, TEXT)

    def __call__(self, texts: Sequence[str]) -> tuple[list[Floats], int]:
        """Encode.

        Returns:
            The encoder's outputs, float32, whose first axis is the text; and the FLOPs.
        """
        encoded = self._tokenizer.encode_batch(list(texts))
        if any(encoding.overflowing for encoding in encoded):
            warnings.warn(f"a prompt was truncated to {self._max_tokens} tokens", stacklevel=6)  # the pipeline's caller
        ids = np.array([encoding.ids for encoding in encoded], np.int64).reshape(len(encoded), self._max_tokens)
        *results, flops = self._session.run(self._outputs, {"input_ids": ids})
        return results, int(flops)


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


class Conditioner:
    """All conditions of a request by name, a row per text.

    Args:
        directory: `OUT/client`.
        manifest: of the package.
        threads: intra-op threads; 0 means one per core.
    """

    def __init__(self, directory: Path, manifest: ClientManifest, threads: int = 0) -> None:
        self._of_model = manifest.conditioning
        hidden = "hidden_state" if self._of_model.sizes else "last_hidden_state"
        tokens = manifest.max_tokens
        self._encoders = [TextEncoder(directory, tokens, [hidden], threads=threads)]
        if self._of_model.sizes:
            self._encoders.append(TextEncoder(directory, tokens, [hidden, POOLED], "_2", threads))

    def __call__(self, request: Request) -> tuple[dict[str, Floats], int]:
        """The conditions of `request.texts`, and the FLOPs of the text encoders."""
        results, flops = [], 0
        for encoder in self._encoders:
            outputs, work = encoder(request.texts)
            results.append(outputs)
            flops += work
        conditions = {PROMPT: np.concatenate([hidden for hidden, *_ in results], axis=-1)}
        if self._of_model.sizes:
            conditions[POOLED] = results[-1][1]
        if self._of_model.empty_is_zero and request.guided and not request.has_negative:
            negatives = len(request.negative_prompts)
            for value in conditions.values():
                value[:negatives] = 0
        if self._of_model.sizes:
            size = [request.height, request.width, 0, 0, request.height, request.width]  # original, crop, target
            conditions[SIZES] = np.array([size] * len(request.texts), np.float32)
        if features := self._of_model.guidance_features:
            conditions[GUIDANCE] = guidance_embedding(request.guidance_scale, features)
        return conditions, flops


def guidance_embedding(guidance_scale: float, features: int) -> Floats:
    """(1, features): sines and cosines, as diffusers embeds the scale for models that were distilled on it."""
    half = features // 2
    frequencies = np.exp(-np.log(_LONGEST_PERIOD) / (half - 1) * np.arange(half, dtype=np.float32))
    angles = np.float32((guidance_scale - 1) * _GUIDANCE_UNIT) * frequencies.astype(np.float32)
    embedded = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(features % 2)])
    return embedded.astype(np.float32)[None]
