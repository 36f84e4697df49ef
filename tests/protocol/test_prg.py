import hashlib
import hmac
import os
import subprocess
import sys
from itertools import product

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from uniformity import assert_uniform

from ppidm.protocol.prg import SEED_BYTES, Seed, Usage, expand

SEED = Seed(bytes(range(32)))
KNOWN = [  # HKDF-Expand by hmac and hashlib, AES-256-CTR by `openssl enc -aes-256-ctr` of OpenSSL 3
    (Usage.MASK_IN, 0, "2c97e0dec776e7ff6c84df26e2b7f87c73df3e3b5f3e7d2520dd9dc67df24e782aa1847976eed755"),
    (Usage.MASK_OUT, 0, "7bcf66c455915bea30b57c4e5c4d9940e152d858133328a6ae76073a8451ccf28ebd8855e94ca832"),
    (Usage.MASK_OUT, 258, "f71bcd4673519ce1c57e2933ff531d1e31f056c0d952a13fe69ef68733dcf3a9cde2cc83bd73e291"),
]
DRAW_ACROSS_A_FORK = """
import os
from ppidm.protocol.prg import Seed

draw = lambda: " ".join(Seed.fresh().reveal().hex() for _ in range(3))
print(draw(), flush=True)  # whatever state there may be now exists before the fork
child = os.fork()
drawn = draw()
if child:
    assert os.waitpid(child, 0)[1] == 0  # the child has printed first
print(drawn, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(("usage", "index", "expected"), KNOWN)
def test_known_answers(usage, index, expected):
    assert expand(SEED, usage, index, 40).hex() == expected


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 5000])
def test_it_is_aes_256_in_counter_mode_keyed_by_hkdf(length):
    info = b"ppidm/1 prg" + b"\x02" + b"\x01\x02\x00\x00"
    key = hmac.digest(SEED.reveal(), info + b"\x01", hashlib.sha256)  # RFC 5869: T(1), 32 bytes
    counters = b"".join(block.to_bytes(16, "big") for block in range(length // 16 + 1))
    blocks = Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(counters)
    assert expand(SEED, Usage.MASK_OUT, 0x0201, length) == blocks[:length]


def test_seeds_usages_and_indices_are_separate():
    other = Seed(bytes(range(1, 33)))
    streams = {
        (seed, usage, index): expand(seed, usage, index, 64)
        for seed, usage, index in product([SEED, other], Usage, [0, 1, 256, 2**32 - 1])
    }
    assert len(set(streams.values())) == len(streams) == 16
    assert_uniform(b"".join(streams.values()))


def test_a_longer_stream_begins_with_the_shorter():
    assert expand(SEED, Usage.MASK_IN, 0, 1000)[:99] == expand(SEED, Usage.MASK_IN, 0, 99)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match=f"a seed has 32 bytes; got {length}"):
        Seed(bytes(length))


def test_a_fresh_seed_is_32_bytes_of_the_operating_system(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "urandom", lambda length: asked.append(length) or bytes([7] * length))
    assert Seed.fresh().reveal() == bytes([7] * 32)
    assert asked == [SEED_BYTES]


def test_fresh_seeds_differ():
    assert len({Seed.fresh() for _ in range(1000)}) == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_repeats_nothing():
    run = subprocess.run([sys.executable, "-c", DRAW_ACROSS_A_FORK], capture_output=True, text=True, check=True)
    assert len(set(run.stdout.split())) == 9, run.stderr


def test_equality_is_that_of_the_content():
    assert Seed(bytes(32)) == Seed(bytes(32))
    assert hash(Seed(bytes(32))) == hash(Seed(bytes(32)))
    assert Seed(bytes(32)) != SEED
    assert SEED.reveal() != SEED


def test_nothing_printed_shows_the_content():
    for text in (repr(SEED), str(SEED), f"{SEED}", f"{[SEED]}", f"{SEED!r:>40}"):
        assert text.strip("[] ") == "Seed(<secret>)"
    assert not hasattr(SEED, "__dict__")  # nor does vars(), which debuggers and loggers of locals use
