"""A small byte-pair vocabulary in CLIP's conventions.

The merges are learned here, since the trainer of the tokenizers library orders ties differently in every run, and a model
must be reproducible. Encoding is the library's.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's
Symbols = tuple[str, ...]


def learn_vocabulary(texts: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of at most `size` tokens for texts like these; the same one every time."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = [START, END, *alphabet, *(letter + WORD_END for letter in alphabet)]
    merges = learn_merges(_words(texts), size - len(base))
    tokens = [*base, *("".join(pair) for pair in merges)]
    return _tokenizer({token: index for index, token in enumerate(tokens)}, merges)


def learn_merges(words: Counter[Symbols], count: int) -> list[tuple[str, str]]:
    """The most frequent neighbours first, ties in the order of the alphabet.

    Reference: Sennrich et al., ACL 2016, algorithm 1.
    """
    merges: list[tuple[str, str]] = []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, often in words.items():
            for pair in pairwise(word):
                pairs[pair] += often
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({_merged(word, best): often for word, often in words.items()})
    return merges


def _merged(word: Symbols, pair: tuple[str, str]) -> Symbols:
    result: list[str] = []
    for symbol in word:
        if result and (result[-1], symbol) == pair:
            result[-1] += symbol
        else:
            result.append(symbol)
    return tuple(result)


def _words(texts: Iterable[str]) -> Counter[Symbols]:
    blank = _tokenizer({START: 0, END: 1}, [])
    assert blank.normalizer is not None
    assert blank.pre_tokenizer is not None
    words: Counter[Symbols] = Counter()
    for text in texts:
        for word, _ in blank.pre_tokenizer.pre_tokenize_str(blank.normalizer.normalize_str(text)):
            words[(*word[:-1], word[-1] + WORD_END)] += 1
    return words


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(
        BPE(vocabulary, merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix=WORD_END)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, 1), (START, 0), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(START, normalized=False), AddedToken(END, normalized=False)])
    return tokenizer


def save_vocabulary(tokenizer: Tokenizer, folder: Path) -> Path:
    """Write `tokenizer.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
