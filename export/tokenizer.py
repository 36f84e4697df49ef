"""Writes `tokenizer.json`, which is read without transformers, from `vocab.json` and `merges.txt` of a CLIP tokenizer.

Importing this module needs `ppidm[export]`.
"""

from pathlib import Path

from tokenizers import Tokenizer
from transformers import CLIPTokenizerFast

from ppidm.export.component import replacing
from ppidm.protocol.errors import InputError


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write `folder/tokenizer.json` if it is missing, and check it.

    Args:
        folder: the `tokenizer` folder of a diffusers pipeline.
        vocab_size: rows of the text encoder's embedding.

    Raises:
        InputError: there is no vocabulary, or it is not the one of this text encoder.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        check_vocabulary(Tokenizer.from_file(str(path)), vocab_size, path)
    else:
        with replacing(path) as temporary:
            tokenizer = _tokenizer_from(folder)
            check_vocabulary(tokenizer, vocab_size, folder / "vocab.json")
            temporary.write_text(tokenizer.to_str(), encoding="utf-8")


def _tokenizer_from(folder: Path) -> Tokenizer:
    missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} holds neither tokenizer.json nor {' and '.join(missing)}. Fetch the folder again.")
    tokenizer: Tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True).backend_tokenizer
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int, source: Path) -> None:
    """Refuse a vocabulary that is not the text encoder's: some versions of transformers silently make one of 2 tokens.

    An embedding may have spare rows (padding, tokens added by textual inversion), at most as many as are used.
    """
    size = tokenizer.get_vocab_size()
    if not vocab_size // 2 < size <= vocab_size:
        raise InputError(
            f"the tokenizer made from {source} has {size} tokens, the text encoder {vocab_size}: it would read another"
            " prompt. Fetch the tokenizer folder again, or save it with a transformers that writes tokenizer.json."
        )
