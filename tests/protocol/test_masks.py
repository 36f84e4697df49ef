import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from uniformity import assert_fresh_masks, assert_uniform

from ppidm.protocol.errors import InputError, MaskReuseError
from ppidm.protocol.masks import Mask, dealer_share
from ppidm.protocol.prg import Seed, Usage, expand
from ppidm.protocol.ring import Ring

RINGS = [Ring(16), Ring(24), Ring(32)]
in_every_ring = pytest.mark.parametrize("ring", RINGS, ids=lambda ring: f"k={ring.bits}")
SHAPE = (2, 5, 4, 3)
SEEDS = [Seed(bytes([number] * 32)) for number in range(1, 4)]
HIDE_ACROSS_A_FORK = """
import os
import numpy as np
from ppidm.protocol.masks import Mask
from ppidm.protocol.ring import Ring

hide = lambda: Mask.fresh(Ring(32), (8,), 1).hide(np.zeros(8, np.uint32)).tobytes().hex()
print(hide(), flush=True)  # whatever state there may be now exists before the fork
child = os.fork()
hidden = hide()
if child:
    assert os.waitpid(child, 0)[1] == 0  # the child has printed first
print(hidden, flush=True)
os._exit(0)
"""


def elements(ring, shape=SHAPE):
    return ring.reduce(np.random.default_rng(5).integers(-(2**31), 2**31, shape))


@in_every_ring
def test_a_dealers_share_is_the_keystream(ring):
    share = dealer_share(ring, SEEDS[0], SHAPE)
    assert share.shape == (ring.limbs, *SHAPE)
    assert share.tobytes() == expand(SEEDS[0], Usage.MASK_IN, 0, ring.limbs * 120)


@in_every_ring
@pytest.mark.parametrize("dealers", [1, 2, 3])
def test_what_is_sent_and_the_dealers_shares_add_up_to_the_activation(ring, dealers):
    x = elements(ring)
    sent = ring.from_digits(Mask(ring, SHAPE, SEEDS[:dealers]).hide(x)).astype(np.int64)
    shares = sum(ring.from_digits(dealer_share(ring, seed, SHAPE)).astype(np.int64) for seed in SEEDS[:dealers])
    assert np.array_equal((sent + shares) % 2**ring.bits, x)


@in_every_ring
def test_every_dealer_is_needed(ring):
    x = elements(ring, (8, 8, 16))
    sent = ring.from_digits(Mask(ring, x.shape, SEEDS).hide(x))
    for missing in SEEDS:
        others = [ring.from_digits(dealer_share(ring, seed, x.shape)) for seed in SEEDS if seed != missing]
        view = (sent + sum(others)) & ring.mask
        assert_uniform(ring.to_digits(view), "what the evaluator and all dealers but one see")
        assert_uniform(ring.to_digits((view - x) & ring.mask), "the remaining mask")


def test_a_second_use_raises():
    ring = Ring(32)
    mask = Mask.fresh(ring, SHAPE, 1)
    mask.hide(elements(ring))
    with pytest.raises(MaskReuseError, match="draw a fresh one"):
        mask.hide(elements(ring))


def test_a_use_that_failed_was_a_use():
    ring = Ring(32)
    mask = Mask.fresh(ring, SHAPE, 1)
    with pytest.raises(AssertionError):
        mask.hide(elements(ring, (3,)))
    with pytest.raises(MaskReuseError):
        mask.hide(elements(ring))


def test_a_copy_is_the_same_mask():
    ring = Ring(32)
    mask = Mask.fresh(ring, SHAPE, 1)
    twin = copy.copy(mask)
    twin.hide(elements(ring))
    with pytest.raises(MaskReuseError):
        mask.hide(elements(ring))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickle.dumps])
def test_a_mask_cannot_be_duplicated(duplicate):
    with pytest.raises(TypeError, match="cannot pickle"):
        duplicate(Mask.fresh(Ring(32), SHAPE, 1))


def test_of_many_threads_one_gets_to_use_a_mask():
    ring, x = Ring(32), elements(Ring(32))

    def use(mask):
        try:
            return mask.hide(x).tobytes()
        except MaskReuseError:
            return None

    with ThreadPoolExecutor(8) as pool:
        for mask in [Mask.fresh(ring, SHAPE, 1) for _ in range(50)]:
            assert sum(answer is not None for answer in pool.map(use, [mask] * 8)) == 1


@in_every_ring
def test_fresh_masks_differ(ring):
    x = elements(ring)
    messages = [ring.from_digits(Mask.fresh(ring, SHAPE, 2).hide(x)) for _ in range(20)]
    assert_fresh_masks(messages, ring.bits)
    for message in messages:
        assert_uniform(ring.to_digits(message))


def test_fresh_masks_have_one_fresh_seed_per_dealer():
    masks = [Mask.fresh(Ring(32), SHAPE, dealers) for dealers in (1, 2, 3)]
    assert [len(mask.seeds) for mask in masks] == [1, 2, 3]
    assert len({seed for mask in masks for seed in mask.seeds}) == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_repeats_no_mask():
    # numpy may have started threads; Python 3.12 warns of a fork then. These threads do nothing here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", HIDE_ACROSS_A_FORK]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(set(run.stdout.split())) == 3, run.stderr


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "0 seeds, 0 of them distinct; expected one distinct seed per dealer"),
        ([SEEDS[0], Seed(SEEDS[0].reveal())], "2 seeds, 1 of them distinct"),
        ([SEEDS[0], SEEDS[1], SEEDS[0]], "3 seeds, 2 of them distinct"),
    ],
)
def test_no_seed_or_equal_seeds_are_refused(seeds, message):
    with pytest.raises(InputError, match=message):
        Mask(Ring(32), SHAPE, seeds)


def test_repr_hides_the_content():
    mask = Mask(Ring(32), SHAPE, SEEDS)
    assert repr(mask) == f"Mask(shape={SHAPE}, dealers=3, used=False)"
    mask.hide(elements(Ring(32)))
    assert str(mask) == f"Mask(shape={SHAPE}, dealers=3, used=True)"
