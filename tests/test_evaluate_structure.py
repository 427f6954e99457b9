"""What the image tells of a residual, and whether its structure is chance."""

import numpy as np
import pytest

from quell.evaluate.information import mutual_information
from quell.evaluate.structure import structure_of

WHERE = np.zeros((30, 30, 8), bool)
WHERE[3:-3, 3:-3, 1:-1] = True
N = int(WHERE.sum())
NONE = np.zeros(3)


@pytest.mark.parametrize("r", [0.2, 0.5, 0.8])
def test_information_of_gaussians_is_the_closed_form(r):
    """-log2(1 - r²)/2 bits, less the little that bins lose."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(40_000)
    y = r * x + np.sqrt(1 - r * r) * rng.standard_normal(x.size)
    expected = -0.5 * np.log2(1 - r * r)
    assert 0.85 * expected < mutual_information(x, y) < expected + 0.004
    assert mutual_information(x, y) == pytest.approx(mutual_information(y, x), abs=1e-12)
    assert mutual_information(np.exp(3 * x), -y) == pytest.approx(mutual_information(x, y), rel=0.1)


def test_independent_values_share_none_on_average():
    rng = np.random.default_rng(1)
    found = [mutual_information(*rng.standard_normal((2, 2000))) for _ in range(40)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(40) + 1e-3
    # the counts alone would see 0.08 bits
    assert 15**2 / (2 * 2000 * np.log(2)) > 10 * abs(np.mean(found))


def test_what_correlation_does_not_see():
    """Noise that was taken from bright tissue only: r = 0, and yet the image tells of it."""
    rng = np.random.default_rng(2)
    image = rng.uniform(0, 1, 20_000)
    residual = rng.standard_normal(20_000) * np.where(image > 0.5, 1.5, 0.5)
    assert abs(np.corrcoef(image, residual)[0, 1]) < 0.03
    assert mutual_information(residual, image) > 0.1
    assert np.isnan(mutual_information(image[:100], residual[:100]))
    assert mutual_information(np.zeros(5000), image[:5000]) == 0


def power_of(n_volumes: int, seed: int, spread: float = 0.0) -> np.ndarray:
    """(N,) power of noise whose strength varies by a checkerboard of 6 x 6 voxels."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.nonzero(WHERE)
    strength = 1 + spread * np.where((x // 6 + y // 6) % 2, 1, -1)
    return rng.chisquare(n_volumes, N) * strength


def test_p_of_noise_is_uniform():
    found = np.array([structure_of(power_of(12, seed), WHERE, NONE, 12)[1] for seed in range(60)])
    assert 0.35 < found.mean() < 0.65
    assert (found < 0.05).mean() < 0.15
    assert found.min() >= 0.01  # 1 of 100


def test_structure_has_a_small_p_and_its_size():
    score, p = structure_of(power_of(12, 0, spread=0.3), WHERE, NONE, 12)
    assert p <= 0.02
    assert score == pytest.approx(0.3 * np.sqrt(1 / 3), rel=0.35)  # 4 of 6 pairs share a field
    assert structure_of(np.zeros(N), WHERE, NONE, 12) == (0.0, 1.0)


def test_correlated_noise_is_no_structure():
    """Noise that reaches two voxels is seen, unless its correlation is told."""
    rng, V = np.random.default_rng(0), 12
    power = np.zeros(N)
    for _ in range(V):
        white = rng.standard_normal((34, *WHERE.shape[1:]))
        power += (((white[2:-2] + white[:-4] + white[4:])[WHERE]) ** 2) / 3
    untold, told = (structure_of(power, WHERE, np.array([r, 0, 0]), V) for r in (0, 2 / 3))
    assert untold[1] == 0.01
    assert told[1] > 0.05
    assert told[0] < untold[0]


def test_one_row_of_voxels_has_none():
    where = np.zeros((5, 5, 4), bool)
    where[2, 2, :] = True
    assert np.isnan(structure_of(np.arange(4.0), where, NONE, 3)).all()
