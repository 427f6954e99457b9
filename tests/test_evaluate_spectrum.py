"""The residual's spectrum: noise has the curve that its model expects, anatomy does not."""

import numpy as np
import pytest

from conftest import correlated, field
from quell.evaluate.spectrum import residual_spectrum

SHAPE = (64, 64, 4)
x, y, _ = np.indices(SHAPE)
DISC = (x - 32) ** 2 + (y - 30) ** 2 < 26**2
EDGES = 4  # lowest bins: few waves fit the mask


def noise(seed: int, V: int = 40, **correlation: float) -> np.ndarray:
    images = field(SHAPE[2] * V, seed, **correlation).numpy().reshape(V, SHAPE[2], 64, 64)
    return images.transpose(2, 3, 1, 0)


def spectrum(removed: np.ndarray, sigma: np.ndarray, covariance: np.ndarray | None = None):
    found = residual_spectrum(removed, np.zeros_like(removed), sigma, DISC, covariance)
    assert found is not None
    return found


def test_white_noise_is_flat_and_one() -> None:
    power = spectrum(7 * noise(0), np.full(SHAPE, 7.0))
    np.testing.assert_allclose(power.expected, 1, rtol=1e-6)
    np.testing.assert_allclose(power.measured[EDGES:], 1, rtol=0.08)  # four sd of 160 images


@pytest.mark.parametrize("r", [{"x": 0.5}, {"x": 0.2, "y": 0.4}])
def test_correlated_noise_has_the_curve_of_its_model(r: dict[str, float]) -> None:
    power = spectrum(noise(1, **r), np.ones(SHAPE), correlated(**r).covariance)
    assert power.expected[0] > 2 * power.expected[-1]
    np.testing.assert_allclose(power.measured[EDGES:], power.expected[EDGES:], rtol=0.08)
    np.testing.assert_allclose(power.measured[:EDGES], power.expected[:EDGES], rtol=0.25)


def test_the_size_of_the_residual_is_its_mean_power() -> None:
    whole, half = (spectrum(size * noise(2), np.ones(SHAPE)) for size in (1.0, 0.5))
    np.testing.assert_allclose(half.measured, whole.measured / 4, rtol=1e-4)


def test_anatomy_in_the_residual_stands_at_low_frequencies() -> None:
    anatomy = np.cos(2 * np.pi * x / 16)[..., None]  # 1/16 cycles per voxel
    power = spectrum(noise(3) + anatomy, np.ones(SHAPE))
    over = power.measured / power.expected
    assert power.frequency[np.argmax(over)] == pytest.approx(1 / 16, abs=0.03)
    np.testing.assert_allclose(over[12:], 1, rtol=0.08)


def test_a_map_for_each_volume_is_used_volume_by_volume() -> None:
    levels = np.linspace(1, 4, 40)
    sigma = np.ones(SHAPE)[..., None] * levels
    power = spectrum(noise(4) * levels, sigma)
    np.testing.assert_allclose(power.measured[EDGES:], 1, rtol=0.08)


def test_a_mask_of_few_voxels_has_no_spectrum() -> None:
    few = np.zeros(SHAPE, bool)
    few[:3, :3] = True
    series = np.ones((*SHAPE, 2))
    assert residual_spectrum(series, 0 * series, np.ones(SHAPE), few, None) is None
