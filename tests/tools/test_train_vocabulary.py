from collections import Counter

import pytest
from tools.train.models import new_tokenizer
from tools.train.vocabulary import learn_merges, learn_vocabulary, save_vocabulary
from transformers import CLIPTokenizer

from ppidm.protocol.errors import InputError

TEXTS = ["red apple", "green apple", "red heart", "pineapple", "soccer ball", "ball", "tiger face", "it's 3 o'clock"]


def test_merges_are_the_most_frequent_pairs_with_ties_in_alphabetical_order():
    words = Counter({("a", "b", "c</w>"): 2, ("a", "b", "d</w>"): 1, ("x", "y</w>"): 2, ("e", "f</w>"): 2})
    assert learn_merges(words, 4) == [("a", "b"), ("ab", "c</w>"), ("e", "f</w>"), ("x", "y</w>")]


def test_repeated_symbols_merge_from_the_left():
    assert learn_merges(Counter({("a", "a", "a</w>"): 1}), 2) == [("a", "a"), ("aa", "a</w>")]


def test_the_vocabulary_is_the_same_every_time():
    assert learn_vocabulary(TEXTS, 600).to_str() == learn_vocabulary(TEXTS, 600).to_str()


def test_frequent_words_are_one_token_and_everything_can_be_written():
    tokenizer = learn_vocabulary(TEXTS, 700)
    assert tokenizer.encode("Red  APPLE").tokens == ["<|startoftext|>", "red</w>", "apple</w>", "<|endoftext|>"]
    unknown = tokenizer.encode("żółw 42")
    assert "".join(unknown.tokens[1:-1]).count("</w>") == 3
    assert unknown.ids.count(1) == 1


def test_transformers_reads_it_as_clips(tmp_path):
    tokenizer = new_tokenizer(save_vocabulary(learn_vocabulary(TEXTS, 700), tmp_path))
    assert isinstance(tokenizer, CLIPTokenizer)
    assert len(tokenizer) > 512
    encoded = tokenizer("red apple", padding="max_length", max_length=8)
    assert encoded.input_ids[0] == 0
    assert encoded.input_ids[3:] == [1] * 5


def test_a_vocabulary_of_almost_nothing_is_refused(tmp_path):
    content = learn_vocabulary(TEXTS, 0)
    content.model = type(content.model)({"<|startoftext|>": 0, "<|endoftext|>": 1}, [])
    with pytest.raises(InputError, match="a vocabulary of 2 tokens; expected at least 300"):
        new_tokenizer(save_vocabulary(content, tmp_path))
