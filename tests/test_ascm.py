"""ASCM: detail comes from small blocks and the rest from large ones, whatever the units."""

from dataclasses import replace

import numpy as np
import pytest
from dipy.denoise.adaptive_soft_matching import adaptive_soft_matching

from conftest import correlated, few_images
from quell.methods import make
from quell.methods.ascm import AdaptiveSoftMatching, match
from quell.methods.nlm import NonLocalMeans
from quell.run import Run
from quell.series import InputError
from quell.simulate import corrupt, phantom

SHAPE = (32, 32, 16)
COARSE = 1 / 8  # of the energy of white noise lies in the one subband without detail


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def energy_of_small(mixed: np.ndarray, small: np.ndarray) -> float:
    """Share of a mixture with an image of zeros that comes from the other one."""
    return float((mixed * small).sum() / (small**2).sum())


@pytest.mark.parametrize("shape", [(33, 31, 3), (9, 7, 1), (1, 1, 1), (16, 20, 2), (17, 64, 32)])
def test_two_estimates_that_agree_are_given_back(shape):
    image = noise(0, shape)
    np.testing.assert_allclose(match(3 * noise(1, shape), image, image, 1.0), image, atol=1e-9)


def test_detail_comes_from_small_blocks():
    # every coefficient is about 30 sigma, T = 1/30
    share = energy_of_small(match(30 * noise(0), noise(1), np.zeros(SHAPE), 1.0), noise(1))
    assert share > 0.95


def test_noise_comes_from_large_blocks_but_for_what_is_no_detail():
    # no subband has more than its noise: T is the largest coefficient, above 3 sigma
    y = 0.99 * noise(0)
    share = energy_of_small(match(y, noise(1), np.zeros(SHAPE), 1.0), noise(1))
    assert COARSE < share < COARSE + 0.12


@pytest.mark.parametrize("y", [30 * noise(0), 0.99 * noise(0)])
def test_dipy_by_itself_takes_the_plain_mean_of_values_from_0_to_1(y):
    unit = 1 / 200  # of the largest value: sigma
    mixed = adaptive_soft_matching(y * unit, noise(1) * unit, np.zeros(SHAPE), unit) / unit
    half = COARSE + (1 - COARSE) / 2
    assert energy_of_small(mixed, noise(1)) == pytest.approx(half, abs=0.02)


def test_with_the_slope_of_dipy_it_is_dipy():
    y, small, large = 3 * noise(0), noise(1), noise(2)
    expected = adaptive_soft_matching(100 * y, 100 * small, 100 * large, 100.0) / 100
    np.testing.assert_allclose(match(y, small, large, 1.0), expected, atol=1e-9)


def test_it_takes_more_noise_off_than_the_large_blocks_and_nearly_all_that_the_small_ones_do():
    head = phantom("small").clean
    truth, inside = head.data[..., 2:3] / np.float32(100), head.mask
    scan = replace(head, data=corrupt(truth, 1.0, np.random.default_rng(0)))
    noisy, mixed, small, large = (
        np.mean((data - truth)[inside] ** 2)
        for data in (
            scan.data,
            *(
                method.denoise(scan, correlated(), {}, Run())
                for method in (AdaptiveSoftMatching(), NonLocalMeans(), NonLocalMeans(patch=2))
            ),
        )
    )
    assert mixed < large
    assert mixed < 1.05 * small
    assert mixed < 0.75 * noisy


def test_one_slice_is_enough():
    clean = few_images(100.0)
    y = corrupt(clean.data[:, :, :1, :1], 1.0, np.random.default_rng(0))
    out = AdaptiveSoftMatching().denoise(replace(clean, data=y), correlated(), {}, Run())
    assert out.shape == y.shape
    assert np.isfinite(out).all()
    assert 0.3 < (out - y).std() < 1.2


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"slope": 0.0}, "slope=0.0 is too small"), ({"large": 0}, "more than 0")],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("ascm", **settings)
    assert refusal.value.status == 2
