"""Each attack finds a leak that was planted, and nothing where there is none."""

import numpy as np
import pytest
from made_evaluation import SIDE, made_pictures
from tools.evaluate.attacks import ATTACKS, blocks_from_pictures, pictures_from_blocks
from tools.evaluate.reductions import attempt
from tools.evaluate.similarity import psnr_db
from tools.evaluate.task import Task, View

PICTURES = made_pictures(np.random.default_rng(3), 80)
TASK = Task.split(PICTURES, 100)
BLOCKS = blocks_from_pictures(PICTURES, SIDE)[..., :3]


def noise(*shape):
    return np.random.default_rng(4).standard_normal((len(PICTURES), *shape)).astype(np.float32)


def view(**leaking):
    return View(**({"maps": noise(3, SIDE, SIDE), "pooled": noise(6), "sizes": noise(2)} | leaking))


def gain_db(name, held):
    found = attempt("view", name, ATTACKS[name](held, TASK), TASK)
    guess = psnr_db(np.broadcast_to(TASK.guess, PICTURES.shape)[TASK.test], PICTURES[TASK.test])
    return float((found.scores_db - guess).mean())


LEAKS = {
    "metadata": view(sizes=BLOCKS.mean(axis=(1, 2)) * 1e-5),  # of any unit
    "least_squares": view(pooled=BLOCKS.reshape(len(BLOCKS), -1) * 1e-5),
    "local_least_squares": view(maps=BLOCKS.transpose(0, 3, 1, 2) * 1e-5),
    "inversion_network": view(maps=BLOCKS.transpose(0, 3, 1, 2) * 1e-5),
}
LEAST_GAIN_DB = {"metadata": 0.1, "least_squares": 1, "local_least_squares": 10, "inversion_network": 4}


def test_every_attack_has_a_leak():
    assert set(LEAKS) == set(ATTACKS)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_planted_leak_is_found(name):
    assert gain_db(name, LEAKS[name]) > LEAST_GAIN_DB[name]


@pytest.mark.parametrize("name", ATTACKS)
def test_there_is_nothing_in_noise(name):
    assert abs(gain_db(name, view())) < 0.05


@pytest.mark.parametrize("name", ATTACKS)
def test_test_pictures_are_not_looked_at(name):
    changed = PICTURES.copy()
    changed[TASK.test] = 0
    few, other = Task.split(PICTURES, 20), Task.split(changed, 20)
    assert np.allclose(ATTACKS[name](LEAKS[name], few), ATTACKS[name](LEAKS[name], other), atol=1e-5)


def test_the_split_has_no_overlap():
    parts = [TASK.train, TASK.validation, TASK.test]
    assert sorted(np.concatenate(parts)) == list(range(len(PICTURES)))
    assert [len(part) for part in parts] == [40, 16, 24]
    assert TASK.test[0] == 0


def test_blocks_are_where_they_belong():
    assert (pictures_from_blocks(blocks_from_pictures(PICTURES, SIDE)) == PICTURES).all()
    block = blocks_from_pictures(PICTURES, SIDE)[0, 1, 2].reshape(4, 4, 3)
    assert (block == PICTURES[0, 4:8, 8:12]).all()
