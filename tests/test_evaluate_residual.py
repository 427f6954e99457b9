"""Residual statistics: silent on noise, loud on anatomy."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from quell.evaluate import Judgement, ResidualStatistics, headline, residual_statistics, shells
from quell.evaluate import verdict as judge

SHAPE = (32, 32, 16)
BVALS = np.r_[0.0, 0.0, np.full(10, 1000.0), np.full(10, 2000.0)]
SIGMA = np.full(SHAPE, 10.0, np.float32)
MASK = np.zeros(SHAPE, bool)
MASK[3:-3, 3:-3, 2:-2] = True
N = int(MASK.sum()) * BVALS.size  # 178 464 residuals: correlations are known to 0.0024


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Smooth anatomy, and in each direction its own attenuation."""
    rng = np.random.default_rng(7)
    smooth = [gaussian_filter(rng.standard_normal(SHAPE), 2.0) for _ in BVALS]
    base = 300 + 800 * gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    volumes = [
        base * np.exp(-b / 1500) * (1 + (2.0 * s if b else 0))
        for b, s in zip(BVALS, smooth, strict=True)
    ]
    return np.stack(volumes, axis=-1).astype(np.float32)


@pytest.fixture(scope="module")
def noisy(clean: np.ndarray) -> np.ndarray:
    noise = 10 * np.random.default_rng(8).standard_normal(clean.shape)
    return clean + noise.astype(np.float32)


@pytest.fixture(scope="module")
def perfect(noisy: np.ndarray, clean: np.ndarray) -> ResidualStatistics:
    return measure(noisy, clean)


def measure(noisy: np.ndarray, denoised: np.ndarray) -> ResidualStatistics:
    return residual_statistics(noisy, denoised, SIGMA, MASK, BVALS, None)


def levels(statistics: ResidualStatistics) -> dict[str, str]:
    return {j.code: j.level for j in judge(statistics)}


def test_a_white_noise_residual_has_the_noises_own_numbers(perfect: ResidualStatistics) -> None:
    assert perfect.ratio == pytest.approx(1, abs=4 / np.sqrt(2 * N))
    np.testing.assert_allclose(perfect.ratio_per_volume, 1, atol=0.04)  # 5 standard errors
    np.testing.assert_allclose(perfect.autocorrelation, 0, atol=0.012)
    assert perfect.correlation == pytest.approx(0, abs=0.012)
    assert perfect.magnitude_correlation == pytest.approx(0, abs=0.012)


def test_a_perfect_denoiser_is_judged_good(perfect: ResidualStatistics) -> None:
    assert set(levels(perfect).values()) == {"good"}
    assert headline(judge(perfect)).sentence == "Use it."


def test_a_perfect_denoiser_keeps_contrast_and_mean(perfect: ResidualStatistics) -> None:
    # 10 directions of 8112 voxels know the noise power to 0.5 %, the contrast is of its size
    np.testing.assert_allclose(perfect.contrast_change[1:], 1, atol=0.03)
    np.testing.assert_allclose(perfect.mean_change, 0, atol=0.001)


def test_doing_nothing_is_noted_not_praised(noisy: np.ndarray) -> None:
    assert levels(measure(noisy, noisy))["residual-size"] == "note"


def test_smoothed_anatomy_is_found(noisy: np.ndarray) -> None:
    found = levels(measure(noisy, gaussian_filter(noisy, (2, 2, 2, 0))))
    assert found["residual-size"] == "error"
    assert found["residual-follows-image"] in ("warning", "error")
    assert found["residual-structure"] in ("warning", "error")


def test_five_percent_of_the_signal_in_the_residual_is_found(
    noisy: np.ndarray, clean: np.ndarray
) -> None:
    found = levels(measure(noisy, 0.95 * clean))
    assert found["mean-signal"] in ("warning", "error")
    assert found["residual-mean"] == "warning"
    assert found["residual-follows-image"] in ("warning", "error")


def test_a_lowered_mean_is_a_note_when_the_floor_was_corrected(
    noisy: np.ndarray, clean: np.ndarray
) -> None:
    found = {j.code: j.level for j in judge(measure(noisy, 0.95 * clean), floor_corrected=True)}
    assert found["mean-signal"] == found["residual-mean"] == "note"


def test_collapse_to_the_mean_direction_is_found(clean: np.ndarray, noisy: np.ndarray) -> None:
    collapsed = clean.copy()
    for group in shells(BVALS, BVALS.size)[1:]:
        collapsed[..., group] = clean[..., group].mean(axis=-1, keepdims=True)
    statistics = measure(noisy, collapsed)
    np.testing.assert_allclose(statistics.contrast_after[1:], 0, atol=1e-3)
    assert levels(statistics)["directional-contrast"] == "error"


def test_a_darkened_b0_is_found_by_impossible_signals(clean: np.ndarray, noisy: np.ndarray) -> None:
    darkened = clean.copy()
    darkened[..., :2] *= 0.4
    assert levels(measure(noisy, darkened))["above-b0"] == "warning"


def test_one_spoiled_volume_is_named(clean: np.ndarray, noisy: np.ndarray) -> None:
    spoiled = clean.copy()
    spoiled[..., 5] = clean[..., 6]
    (judgement,) = [j for j in judge(measure(noisy, spoiled)) if j.code == "single-volumes"]
    assert judgement.level == "warning"
    assert "volume 5." in judgement.sentence
    assert judgement.measured == "1 too large, 1 following the image"


def test_the_noise_models_own_correlation_is_not_held_against_the_residual(
    clean: np.ndarray,
) -> None:
    rng = np.random.default_rng(9)
    white = rng.standard_normal((SHAPE[0] + 1, *clean.shape[1:])).astype(np.float32)
    noise = 10 * (white[1:] + white[:-1]) / np.sqrt(2)  # correlation 1/2 along x
    covariance = np.array([0.5, 1.0, 0.5]).reshape(3, 1, 1)
    statistics = residual_statistics(clean + noise, clean, SIGMA, MASK, BVALS, covariance)
    np.testing.assert_allclose(statistics.autocorrelation, [0.5, 0, 0], atol=0.015)
    np.testing.assert_allclose(statistics.autocorrelation_expected, [0.5, 0, 0])
    assert levels(statistics)["residual-structure"] == "good"


def test_spatially_varying_noise_is_not_held_against_the_residual(clean: np.ndarray) -> None:
    sigma = (0.03 * clean[..., 0]).astype(np.float32)
    noise = np.random.default_rng(10).standard_normal(clean.shape).astype(np.float32)
    noisy = clean + sigma[..., None] * noise
    statistics = residual_statistics(noisy, clean, sigma, MASK, BVALS, None)
    assert levels(statistics)["residual-strength"] == "good"


def test_values_that_are_no_numbers_are_counted(clean: np.ndarray, noisy: np.ndarray) -> None:
    broken = clean.copy()
    broken[10, 10, 8, :3] = np.nan, np.inf, -1
    statistics = measure(noisy, broken)
    assert (statistics.n_nonfinite, statistics.n_negative) == (2, 1)
    assert levels(statistics)["values"] == "error"


def test_a_scan_without_bvalues_is_measured_as_one_group(
    clean: np.ndarray, noisy: np.ndarray
) -> None:
    statistics = residual_statistics(noisy, clean, SIGMA, MASK, None, None)
    assert statistics.shell_sizes.tolist() == [BVALS.size]
    assert levels(statistics)["above-b0"] == "note"


def test_shells_take_jitter_together_and_b0_first() -> None:
    bvals = np.array([2005.0, 5, 995, 1000, 1990, 0, 1005])
    assert [g.tolist() for g in shells(bvals, 7)] == [[1, 5], [2, 3, 6], [0, 4]]


def test_the_input_is_not_modified(clean: np.ndarray, noisy: np.ndarray) -> None:
    before = noisy.copy()
    measure(noisy, clean)
    np.testing.assert_array_equal(noisy, before)


def test_the_numbers_can_be_written_as_json(perfect: ResidualStatistics) -> None:
    text = json.dumps(replace(perfect, above_b0_after=np.nan).as_dict(), allow_nan=False)
    assert json.loads(text)["above_b0_after"] is None


def test_a_mask_without_noise_is_refused(clean: np.ndarray) -> None:
    with pytest.raises(ValueError, match="fewer than two voxels"):
        residual_statistics(clean, clean, 0 * SIGMA, MASK, BVALS, None)


def test_the_headline_takes_the_worst_level() -> None:
    fine, bad = (Judgement("c", "t", level, "1", "0", "s") for level in ("good", "error"))
    assert headline([fine, bad]).level == "error"


def test_the_posterior_mean_correlates_with_its_residual_as_predicted():
    rng = np.random.default_rng(5)
    shape, sigma = (24, 24, 12, 3), 20.0
    truth = 1000 + 60 * rng.standard_normal(shape)  # signal variance 9 sigma²
    noisy = truth + sigma * rng.standard_normal(shape)
    half = truth + sigma * rng.standard_normal(shape)  # seen twice: the residual is not all of x̂
    gain = 3600 / (3600 + sigma**2 / 2)
    best = 1000 + gain * ((noisy + half) / 2 - 1000)  # posterior mean given both
    mask = np.ones(shape[:3], dtype=bool)
    s = residual_statistics(noisy, best, np.full(shape[:3], sigma), mask, None, None)
    assert s.correlation > 0.1  # an honest estimate, and yet
    # 3 x 6912 values: a standard error of 0.007
    np.testing.assert_allclose(s.correlation, s.correlation_of_best, atol=0.02)


def test_a_residual_of_noise_has_no_structure_however_much_a_method_keeps() -> None:
    rng = np.random.default_rng(11)
    n = rng.standard_normal((*SHAPE, BVALS.size)).astype(np.float32)
    kept = n.copy()  # of the noise: what lies in 10 of 22 directions, as a PCA would
    kept[..., 10:] = 0
    for estimate in (0 * n, kept):
        # lag-2 covariances of 4000 voxel pairs of variance 2/12: 0.17/√4000, whose root is 0.05
        assert measure(10 * n, 10 * estimate).structure < 0.06


def test_edges_in_a_residual_are_structure(clean: np.ndarray, noisy: np.ndarray) -> None:
    blurred = gaussian_filter(noisy, (1.5, 1.5, 1.5, 0))
    assert measure(noisy, blurred).structure > 0.15  # three times what chance gives
    half = measure(noisy, clean + (blurred - clean) / 4).structure
    assert 0 < half < measure(noisy, blurred).structure


def test_doing_nothing_has_no_structure(noisy: np.ndarray) -> None:
    assert measure(noisy, noisy).structure == 0
