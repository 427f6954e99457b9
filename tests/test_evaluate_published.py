"""Scores as published: what they are blind to, and quell's own are not."""

import numpy as np
import pytest

from quell.evaluate import c2s_scores, difusion_scores, psnr

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


def test_clipped_scores_do_not_see_what_is_outside_of_the_scans_range(truth):
    noisy = truth + np.random.default_rng(1).normal(0, 20, truth.shape)
    without, similarity = c2s_scores(truth, truth, noisy)
    assert (without, similarity) == (np.inf, pytest.approx(1))
    error = c2s_scores(noisy, truth, noisy)[0]
    span = np.ptp(noisy, axis=(0, 1, 2)).mean()
    assert error == pytest.approx(20 * np.log10(span / 20), abs=0.2)
    top = truth == truth.max(axis=(0, 1, 2))
    high, clipped = (np.where(top, value * noisy.max(), truth) for value in (50, 1.0))
    assert c2s_scores(high, truth, noisy) == c2s_scores(clipped, truth, noisy)
    assert psnr(high, truth, MASK, 800.0) < psnr(clipped, truth, MASK, 800.0) - 20
    with pytest.raises(ValueError, match="shapes differ"):
        c2s_scores(truth[..., :1], truth, noisy)


def test_a_published_score_depends_on_the_air_and_quells_own_does_not(truth):
    """Half of the image is air: a method that leaves noise there, or takes it away."""
    mask = np.zeros(MASK.shape, bool)
    mask[:8] = True
    clean = np.where(mask[..., None], truth, 0)
    noisy = clean + np.random.default_rng(1).normal(0, 20, clean.shape)
    blanked = np.where(mask[..., None], noisy, 0)
    for scores in (difusion_scores, lambda a, b: c2s_scores(a, b, noisy)):
        assert scores(blanked, clean)[0] > scores(noisy, clean)[0] + 2
    assert psnr(blanked, clean, mask, 800.0) == psnr(noisy, clean, mask, 800.0)
