"""The search for canaries finds every spelling, and nothing in noise."""

import base64
import json

import numpy as np
import pytest
from canaries import bytes_canary, ids_canary, number_canary, search, text_canary

WORD, SECRET = "xylovent", bytes(range(200, 248))
CANARIES = [
    text_canary("text", f"a {WORD} b"),
    bytes_canary("bytes", SECRET),
    number_canary("number", 7305811936200421, 71234.56789012345),
    ids_canary("ids", [523, 11, 9042, 7, 523]),
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text", b"... Xylovent ..."),
        ("text", WORD.encode("utf-16")),
        ("text", base64.b64encode(b"a" + WORD.encode() + b"?")),
        ("text", base64.b64encode(b"ab" + WORD.encode() + b"??")),
        ("text", base64.b64encode(b"abc" + WORD.encode() + b"???")),
        ("text", WORD.encode().hex().encode()),
        ("bytes", b"noise" + SECRET[16:32] + b"noise"),
        ("bytes", repr(SECRET).encode()),
        ("bytes", str(list(SECRET)).encode()),
        ("bytes", json.dumps(SECRET.decode("latin1")).encode()),
        ("bytes", base64.urlsafe_b64encode(b"1" + SECRET)),
        ("number", b"--seed 7305811936200421"),
        ("number", np.array([7305811936200421], "<i8").tobytes()),
        ("number", np.array([71234.56789012345]).tobytes()),
        ("number", b"scale=71234.56789012345"),
        ("ids", b"[523, 11, 9042, 7, 523]"),
        ("ids", np.array([523, 11, 9042, 7, 523], "<i8").tobytes()),
        ("ids", np.array([523, 11, 9042, 7, 523], "<i4").tobytes().hex().encode()),
    ],
)
def test_a_spelling_is_found(name, content):
    assert search(CANARIES, {"there": content, "elsewhere": b"nothing"}) == {(name, "there")}


def test_noise_holds_none():
    assert search(CANARIES, {"noise": np.random.default_rng().bytes(20_000_000)}) == set()


def test_what_does_not_stand_out_is_refused():
    for nothing in (lambda: text_canary("text", "a b"), lambda: bytes_canary("zeros", bytes(100))):
        with pytest.raises(AssertionError):
            nothing()
