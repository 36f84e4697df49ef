"""Reductions: 0 without protection, 1 where nothing leaks, and choices that do not see the test set."""

import numpy as np
import pytest
from made_evaluation import made_pictures
from tools.evaluate.reductions import attempt, best, reduction
from tools.evaluate.similarity import psnr_db
from tools.evaluate.task import Task

PICTURES = made_pictures(np.random.default_rng(3), 100)  # 48 free values each: noise may well agree by chance
TASK = Task.split(PICTURES, 1)
GUESS = psnr_db(np.broadcast_to(TASK.guess, PICTURES.shape)[TASK.test], PICTURES[TASK.test])


def of(attack, unprotected=None, family=18):
    reference = attack if unprotected is None else unprotected
    return reduction(attack.scores_db, GUESS, reference.scores_db, family=family, resamples=2000)


def leaking(share):
    noise = np.random.default_rng(7).normal(0, 0.02, PICTURES.shape).astype(np.float32)
    return attempt("v", "a", share * TASK.residuals + noise, TASK)


def noise_attack(seed):
    noise = np.random.default_rng(seed).normal(0, 0.2, (100, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return attempt("v", "a", noise.astype(np.float32), TASK)


def test_without_protection_it_is_zero():
    found = of(leaking(1.0))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_half_of_the_decibels_is_a_half():
    guess, scores = np.full(20, 10.0), np.full(20, 15.0)
    assert reduction(scores, guess, guess + 10, family=1, resamples=50).value == pytest.approx(0.5)


def test_rounding_neither_leaks_nor_protects():
    guess = np.linspace(10, 15, 40)
    for rounding in (1e-13, -1e-13):
        found = reduction(guess + rounding, guess, guess + 10, family=18, resamples=50)
        assert (found.low, found.value, found.high) == (1, 1, 1)
    assert reduction(guess + 1e-6, guess, guess + 10, family=18, resamples=50).high < 1


def test_a_planted_leak_keeps_the_interval_below_one():
    whole = leaking(1.0)
    half = TASK.residuals * (np.arange(64 // 4) % 2)[None, :, None, None]  # every second row of pixels
    found = of(attempt("v", "a", half.astype(np.float32), TASK), whole)
    assert found.high < 0.95
    assert found.low <= found.value <= found.high


def test_noise_leaves_nothing_in_almost_every_evaluation():
    whole = leaking(1.0)
    found = [of(best([noise_attack(4 * i + j) for j in range(4)]), whole) for i in range(60)]
    assert all(each.value >= 0.99 for each in found)
    assert all(each.low <= 1 <= each.high for each in found)


def test_choosing_on_the_test_set_would_be_noticed():
    """The lesson that the split is for: the best of many noises on the test set itself looks like a leak."""
    attempts = [noise_attack(i) for i in range(60)]
    cheated = max(attempts, key=lambda each: each.scores_db.mean())
    assert cheated.scores_db.mean() > GUESS.mean()


def test_one_who_has_learnt_nothing_stays_with_the_guess():
    wrong = attempt("v", "a", -TASK.residuals, TASK)
    assert wrong.trust == 0
    assert (wrong.scores_db == GUESS).all()
    for nothing in (np.zeros_like(PICTURES), 1e-8 * TASK.residuals):  # and rounding errors are nothing
        found = of(attempt("v", "a", nothing, TASK), leaking(1.0))
        assert (found.value, found.low, found.high) == (1, 1, 1)


def test_an_attack_that_is_too_bold_is_toned_down():
    assert attempt("v", "a", 4 * TASK.residuals, TASK).trust == pytest.approx(0.25)


def test_more_intervals_are_wider():
    whole, some = leaking(1.0), leaking(0.3)
    narrow, wide = of(some, whole, family=1), of(some, whole, family=100)
    assert wide.low <= narrow.low <= narrow.high <= wide.high
