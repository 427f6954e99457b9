"""The recorruption referee: it ranks denoisers as the truth does, and knows no truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest, rice

from conftest import correlated
from quell.evaluate.recorruption import Recorruption
from quell.noise import NoiseModel
from quell.simulate import corrupt, phantom

SIGMA, A = 50.0, 0.5
CORRELATION = (0.3, 0.4, 0.0)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return phantom("small").clean.data[..., :8]


def model(shape: tuple[int, ...], is_correlated: bool = False, law: str = "gaussian") -> NoiseModel:
    """The true noise of the tests."""
    kind = correlated(*CORRELATION[:2]) if is_correlated else correlated()
    return replace(kind, sigma=np.full(shape[:3], SIGMA, np.float32), law=law)


def denoisers(clean: np.ndarray) -> dict:
    """Four of different quality: nothing, little and much smoothing, the mean of the volumes."""
    return {
        "nothing": lambda y: y,
        "little": lambda y: gaussian_filter(y, (0.5, 0.5, 0, 0)),
        "much": lambda y: gaussian_filter(y, (2, 2, 0, 0)),
        "mean": lambda y: np.repeat(y.mean(axis=3, keepdims=True), y.shape[3], axis=3),
    }


@pytest.mark.parametrize("is_correlated", [False, True])
def test_four_denoisers_stand_in_the_order_of_their_true_errors(clean, is_correlated):
    mask = phantom("small").clean.mask
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y = corrupt(clean, SIGMA, rng, correlation=CORRELATION if is_correlated else None)
        pair = Recorruption.of(y, mask, model(y.shape, is_correlated), rng, A)
        true, found = {}, {}
        for name, denoise in denoisers(clean).items():
            out = denoise(pair.given)
            true[name] = np.mean((out - clean)[mask] ** 2) / SIGMA**2 / (1 + A**2)
            score = pair.score(out, np.arange(8))
            found[name] = score.mse_over_variance
            # 8 volumes of 3000 voxels; what correlates counts as fewer
            assert found[name] == pytest.approx(true[name], rel=0.1, abs=0.1)
        assert sorted(found, key=found.get) == sorted(true, key=true.get)


def test_doing_nothing_scores_one_and_the_truth_nothing(clean):
    rng, mask = np.random.default_rng(0), phantom("small").clean.mask
    y = corrupt(clean, SIGMA, rng)
    pair = Recorruption.of(y, mask, model(y.shape), rng, A)
    # standard error of a mean of 26000 squares of variance 5: 0.05; divided by 1.25
    assert pair.score(pair.given, np.arange(8)).mse_over_variance == pytest.approx(1, abs=0.15)
    assert pair.score(clean, np.arange(8)).mse_over_variance == pytest.approx(0, abs=0.15)


def test_a_magnitude_with_more_noise_is_still_rician():
    signal = np.full((60, 60, 1, 4), 100.0, np.float32)
    rng = np.random.default_rng(1)
    y = corrupt(signal, SIGMA, rng, "rician")
    pair = Recorruption.of(y, np.ones(y.shape[:3], bool), model(y.shape, law="rician"), rng, A)
    sigma = SIGMA * np.sqrt(1 + A**2)
    assert kstest(pair.given.ravel(), rice(100 / sigma, scale=sigma).cdf).pvalue > 1e-3
    plain = np.abs(y + A * SIGMA * rng.standard_normal(y.shape))  # what one might do instead
    assert kstest(plain.ravel(), rice(100 / sigma, scale=sigma).cdf).pvalue < 1e-6


def test_magnitudes_are_compared_only_where_the_signal_is_well_above_the_noise(clean):
    rng, mask = np.random.default_rng(2), np.ones(clean.shape[:3], bool)
    y = corrupt(clean, SIGMA, rng, "rician")
    pair = Recorruption.of(y, mask, model(y.shape, law="rician"), rng, A)
    assert not pair.where[clean[..., 2] < 2 * SIGMA].any()
    assert pair.where[np.median(clean, axis=3) > 6 * SIGMA].all()
    out = gaussian_filter(pair.given, (0.5, 0.5, 0, 0))
    true = np.mean((out - clean)[pair.where] ** 2) / SIGMA**2 / (1 + A**2)
    assert pair.score(out, np.arange(8)).mse_over_variance == pytest.approx(true, rel=0.15)


def test_volumes_may_differ_in_noise(clean):
    rng, levels = np.random.default_rng(3), np.array([1.0, 2, 1, 1, 1, 1, 1, 3])
    n = rng.standard_normal(clean.shape).astype(np.float32) * SIGMA * levels.astype(np.float32)
    noise = replace(model(clean.shape), levels=levels)
    pair = Recorruption.of(clean + n, np.ones(clean.shape[:3], bool), noise, rng, A)
    score = pair.score(pair.given, np.array([1, 7]))
    assert score.mse_over_variance == pytest.approx(1, abs=0.15)


def test_voxels_that_the_scanner_zeroed_stay_zero(clean):
    data = clean.copy()
    data[:4] = 0
    pair = Recorruption.of(
        data, np.ones(data.shape[:3], bool), model(data.shape), np.random.default_rng(0), A
    )
    assert (pair.given[:4] == 0).all()
    assert not pair.where[:4].any()
