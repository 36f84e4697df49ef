"""A byte-level BPE vocabulary of the size of CLIP's, made up: tokens of random letters, always the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

if TYPE_CHECKING:
    from pathlib import Path

BEGIN, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def write_tokenizer(folder: Path, tokens: int, length: int, pad: str | None) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`.

    Args:
        folder: of a pipeline.
        tokens: size of the vocabulary.
        length: of every text, in tokens.
        pad: what shorter texts are filled up with; None is the end of a text.
    """
    folder.mkdir()
    tokenizer = make_tokenizer(tokens)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": pad or END}
    config = names | {"model_max_length": length, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def make_tokenizer(tokens: int) -> Tokenizer:
    """A tokenizer that splits and lowers text as CLIP's does."""
    vocabulary, merges = _vocabulary(tokens)
    model = models.BPE(vocabulary, merges, unk_token=END, end_of_word_suffix=WORD_END, continuing_subword_prefix="")
    tokenizer = Tokenizer(model)
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ends = (END, vocabulary[END]), (BEGIN, vocabulary[BEGIN])
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    tokenizer.add_special_tokens([BEGIN, END])
    return tokenizer


def _vocabulary(tokens: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*bytes_, *(byte + WORD_END for byte in bytes_)]
    letters = [byte for byte in bytes_ if byte.isascii() and byte.islower()]
    rng, known, merges = np.random.default_rng(0), set(names), []
    stems = list(letters)  # what a further letter can follow
    while len(names) < tokens - 2:
        left, right = stems[rng.integers(len(stems))], letters[rng.integers(len(letters))]
        right += WORD_END if rng.integers(2) else ""
        if (merged := left + right) not in known:
            known.add(merged)
            names.append(merged)
            merges.append((left, right))
            if not right.endswith(WORD_END):
                stems.append(merged)
    return {name: number for number, name in enumerate([*names, BEGIN, END])}, merges
