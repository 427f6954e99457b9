"""A noise map that shows ventricles is named; the maps of coils, steep or flat, are not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from quell.noise import LAGS, NoiseModel, remarks
from quell.noise.anatomy import anatomy_of

SHAPE = (48, 56, 12)
X, Y, Z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
MASK = (X / 0.85) ** 2 + (Y / 0.9) ** 2 + (Z / 1.3) ** 2 < 1
VENTRICLES = np.zeros(SHAPE, bool)
for side in (-0.17, 0.17):
    VENTRICLES |= ((X - side) / 0.1) ** 2 + (Y / 0.4) ** 2 + (Z / 0.7) ** 2 < 1
COIL = np.exp(-0.8 * ((X - 0.5) ** 2 + Y**2 + Z**2))
STEEP = 1 + 2 * np.exp(-((X / 0.35) ** 2 + (Y / 0.35) ** 2))  # as of parallel imaging
MAPS = {
    "constant": np.ones(SHAPE),
    "coil": COIL,
    "steep": STEEP,
    "ventricles": COIL * (1 + VENTRICLES),
}


def image(seed: int) -> np.ndarray:
    """Tissue with bright ventricles under a coil's profile."""
    tissue = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2)
    tissue = 1000 + 150 * tissue / tissue.std()
    return np.where(VENTRICLES, 2500, tissue) * COIL * MASK


def learned(sigma: np.ndarray, seed: int) -> np.ndarray:
    """A map as it is learned: smooth, and wrong by 5 % here and there."""
    wrong = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2.5)
    share = ndimage.gaussian_filter(MASK.astype(float), 2).clip(0.01)
    smooth = ndimage.gaussian_filter(np.where(MASK, sigma, 0), 2) / share
    return np.where(MASK, smooth * (1 + 0.05 * wrong / wrong.std()), 1).astype(np.float32)


def named(series, sigma: np.ndarray, shown: np.ndarray) -> list[str]:
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    covariance[LAGS] = 1
    noise = NoiseModel(sigma, covariance, "gaussian", 1.0, "a test", 8, np.ones(14))
    scan = replace(series, data=np.repeat(shown[..., None], 14, axis=3).astype(np.float32))
    return [f"{f.code}, {f.level}" for f in remarks(noise, "", scan, MASK)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MAPS)
def test_only_the_map_with_ventricles_in_it_is_named(series, name, seed):
    found = named(series, learned(MAPS[name], seed), image(seed + 10))
    assert found == (["noise-shows-anatomy, warning"] if name == "ventricles" else [])


def test_a_weak_trace_of_anatomy_is_a_note(series):
    weak = learned(COIL * (1 + 0.5 * VENTRICLES), 0)
    assert named(series, weak, image(10)) == ["noise-shows-anatomy, note"]


def test_a_map_without_a_shape_or_a_mask_without_room_shows_nothing():
    assert anatomy_of(np.ones(SHAPE), image(0), MASK) == (0.0, 0.0)
    few = np.zeros(SHAPE, bool)
    few[20:24, 20:24, 6] = True
    assert anatomy_of(MAPS["ventricles"], image(0), few) == (0.0, 0.0)
    assert anatomy_of(MAPS["ventricles"], image(0), np.zeros(SHAPE, bool)) == (0.0, 0.0)
