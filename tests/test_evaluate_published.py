"""Scores as published: what they are blind to, and quell's own are not."""

import numpy as np
import pytest

from quell.evaluate import difusion_scores, psnr

MASK = np.ones((16, 18, 3), bool)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 800, (16, 18, 3, 2))


def test_without_error_they_are_perfect(truth):
    assert difusion_scores(truth, truth) == (np.inf, pytest.approx(1))


def test_a_wrong_scale_and_an_offset_go_unseen(truth):
    wrong = 3 * truth + 500
    published, similarity = difusion_scores(wrong, truth)
    assert published > 200
    assert similarity == pytest.approx(1)
    assert psnr(wrong, truth, MASK, 800.0) < 0


def test_one_bright_voxel_moves_them_by_many_decibels(truth):
    noisy = truth + np.random.default_rng(1).normal(0, 5, truth.shape)
    spiked = noisy.copy()
    spiked[0, 0, 0, 0] = 2000
    assert difusion_scores(noisy, truth)[0] > difusion_scores(spiked, truth)[0] + 10
    assert psnr(noisy, truth, MASK, 800.0) - psnr(spiked, truth, MASK, 800.0) < 20


def test_a_constant_result_is_no_crash(truth):
    published, _ = difusion_scores(np.zeros_like(truth), truth)
    assert np.isfinite(published)
    with pytest.raises(ValueError, match="shapes differ"):
        difusion_scores(truth[..., :1], truth)
