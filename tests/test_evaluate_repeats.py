"""The mean squared error from a repeat is the true one."""

import numpy as np
import pytest

from quell.evaluate import RepeatScore, mse_over_variance, sigma_of_repeats

SHAPE = (20, 20, 10, 24)
MASK = np.ones(SHAPE[:3], bool)


@pytest.fixture(scope="module")
def repeats() -> tuple[np.ndarray, ...]:
    """Truth and two repeats of it with independent noise of σ = 5."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(50, 500, SHAPE).astype(np.float32)
    first, second = (truth + 5 * rng.standard_normal(SHAPE).astype(np.float32) for _ in range(2))
    return truth, first, second


def test_doing_nothing_scores_one(repeats: tuple[np.ndarray, ...]) -> None:
    _, first, second = repeats
    score = mse_over_variance(first, second, 5.0, MASK)
    assert abs(score.mse_over_variance - 1) < 3 * score.standard_error
    assert score.standard_error < 0.02


def test_the_truth_scores_zero(repeats: tuple[np.ndarray, ...]) -> None:
    truth, _, second = repeats
    score = mse_over_variance(truth, second, 5.0, MASK)
    assert abs(score.mse_over_variance) < 3 * score.standard_error


def test_a_biased_estimate_scores_its_squared_bias(repeats: tuple[np.ndarray, ...]) -> None:
    truth, _, second = repeats
    score = mse_over_variance(truth + 2.5, second, 5.0, MASK)
    assert abs(score.mse_over_variance - 0.25) < 3 * score.standard_error


def test_a_noise_map_gives_what_a_number_gives(repeats: tuple[np.ndarray, ...]) -> None:
    _, first, second = repeats
    sigma = np.full(SHAPE[:3], 5.0)
    sigma[0] = 0  # unknown there: left out
    inside = MASK.copy()
    inside[0] = False
    by_map = mse_over_variance(first, second, sigma, MASK)
    by_number = mse_over_variance(first, second, 5.0, inside)
    assert by_map.mse_over_variance == pytest.approx(by_number.mse_over_variance)


def test_sigma_of_repeats_finds_the_noise_in_spite_of_drift(
    repeats: tuple[np.ndarray, ...],
) -> None:
    _, first, second = repeats
    # 96 000 differences know their sd to 0.23 %; 1 % is four standard errors
    assert sigma_of_repeats(first, second + 30, MASK) == pytest.approx(5.0, rel=0.01)


def test_doing_nothing_scores_exactly_one_with_the_pairs_own_sigma(
    repeats: tuple[np.ndarray, ...],
) -> None:
    _, first, second = repeats
    score = mse_over_variance(first, second, sigma_of_repeats(first, second, MASK), MASK)
    # the squared mean difference that sigma_of_repeats takes off is 2σ²/4000 of each volume
    assert score.mse_over_variance == pytest.approx(1.0, abs=2e-3)


def test_half_the_error_power_is_three_decibels() -> None:
    assert RepeatScore(0.5, 0.01, 20).gain_db == pytest.approx(3.0103, abs=1e-4)
    assert RepeatScore(-0.01, 0.01, 20).gain_db == np.inf


def test_one_volume_has_no_standard_error(repeats: tuple[np.ndarray, ...]) -> None:
    _, first, second = repeats
    assert np.isnan(mse_over_variance(first[..., :1], second[..., :1], 5.0, MASK).standard_error)


def test_a_mask_without_noise_is_refused(repeats: tuple[np.ndarray, ...]) -> None:
    _, first, second = repeats
    with pytest.raises(ValueError, match="noise level above 0"):
        mse_over_variance(first, second, 0.0, MASK)
