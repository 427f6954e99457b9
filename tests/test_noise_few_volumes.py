"""The noise of 2 to 12 volumes: as strong and as smooth as it is, whatever their contrast."""

from dataclasses import replace

import numpy as np
import pytest

import quell
from quell.background import sigma_of_detail, variance_of_detail
from quell.demodulation import demodulate
from quell.noise import LAGS, learn, remarks
from quell.noise.few_volumes import Shape, fit, quiet_noise, without_trend
from quell.series import Series
from quell.simulate import PhantomSettings, corrupt, g_factor, phantom

AS_MEASURED, STRONG, WHITE = (0.17, 0.34, 0.0), (0.5, 0.6, 0.0), (0.0, 0.0, 0.0)
WHITE_MATTER = 750.0


def made(n_directions: int, n_b0=1, shape=(56, 66, 8), shells=None) -> Series:
    """A clean head of few volumes, smaller than phantom A or B and of another shape."""
    settings = PhantomSettings(
        shape, 2.0, n_b0, shells or ((1000.0, n_directions),), seed=11,
        brain_mm=(47.0, 57.0, 60.0), gyrus_mm=12.0, ventricle=1.2,
    )  # fmt: skip
    return phantom(settings).clean


@pytest.fixture(scope="module")
def seven() -> Series:
    return made(6)


@pytest.fixture(scope="module")
def two() -> Series:
    return made(1)


def noisy(
    clean: Series, snr: float, correlation=AS_MEASURED, law="rician", g=1.0, seed=3
) -> Series:
    sigma = WHITE_MATTER / snr * g
    y = corrupt(clean.data, sigma, np.random.default_rng(seed), law, 1, correlation)
    return replace(clean, data=y)


def zeroed(scan: Series) -> Series:
    return replace(scan, data=np.where(scan.mask[..., None], scan.data, 0))


def relative(scan: Series, snr: float, g=1.0) -> np.ndarray:
    """Learned over true sigma in the mask."""
    return (learn(scan, scan.mask).sigma / (WHITE_MATTER / snr * g))[scan.mask]


def gain(clean: Series, scan: Series, denoised: np.ndarray) -> float:
    before, after = (
        np.mean((x - clean.data)[scan.mask][:, ~scan.is_b0] ** 2) for x in (scan.data, denoised)
    )
    return float(10 * np.log10(before / after))


# ---- one b0 and six directions -----------------------------------------------------------------


@pytest.mark.parametrize("snr", [15, 30, 60])
@pytest.mark.parametrize("has_air", [True, False])
def test_contrast_counts_neither_in_sigma_nor_in_the_correlation(seven, snr, has_air):
    scan = noisy(seven, snr)
    noise = learn(scan if has_air else zeroed(scan), scan.mask)
    assert np.median(noise.sigma[scan.mask]) == pytest.approx(WHITE_MATTER / snr, rel=0.1)
    # some 170 blocks, one component each: a standard error of .03; phantom B has .01 to .02
    assert noise.lag_one() == pytest.approx(AS_MEASURED, abs=0.07)
    assert noise.covariance[LAGS] == pytest.approx(1)
    assert not noise.is_upper_bound
    assert "noise-from-differences" not in {finding.code for finding in remarks(noise)}


@pytest.mark.parametrize("correlation", [WHITE, STRONG, (0.17, 0.34, 0.3)])
def test_noise_of_another_smoothness_is_told_apart(seven, correlation):
    noise = learn(noisy(seven, 30, correlation), seven.mask)
    assert np.median(noise.sigma[seven.mask]) == pytest.approx(WHITE_MATTER / 30, rel=0.1)
    # the surroundings of a block hold the slices beside it, so these seem to correlate less
    assert noise.lag_one() == pytest.approx(correlation, abs=0.09)


def test_the_map_follows_a_g_factor_and_not_the_anatomy(seven):
    g = g_factor(seven.mask.shape)
    steep = relative(noisy(seven, 30, g=g), 30, g)
    assert np.quantile(np.abs(steep - 1), 0.9) < 0.15  # a constant would be 50 % off
    flat = relative(noisy(seven, 60), 60)
    assert np.ptp(np.quantile(flat, [0.05, 0.95])) < 0.2


def test_b_values_are_not_needed(seven):
    scan = noisy(seven, 30)
    bare = replace(scan, bvals=None, bvecs=None)
    for axis in ("directions", "repetitions"):  # even if the contrast is said to be none
        noise = learn(replace(bare, fourth_axis=axis), scan.mask)
        assert np.median(noise.sigma[scan.mask]) == pytest.approx(WHITE_MATTER / 30, rel=0.1)
        assert noise.lag_one() == pytest.approx(AS_MEASURED, abs=0.06)


@pytest.mark.parametrize(("snr", "least"), [(15, 5.0), (30, 3.4), (60, 1.0)])
def test_joint_gains_on_the_commonest_clinical_scan(seven, snr, least):
    scan = noisy(seven, snr)
    result = quell.denoise(scan, preset="instant", threads=1)
    assert gain(seven, scan, result.denoised) > least


def test_a_map_that_is_given_is_held_against_the_noise_and_not_against_contrast(seven):
    scan = noisy(seven, 30)
    given = np.full(scan.mask.shape, 1.3 * WHITE_MATTER / 30, np.float32)
    noise = learn(scan, scan.mask, sigma=given)
    assert noise.is_given
    assert noise.found_over_given == pytest.approx(1 / 1.3, rel=0.08)
    assert noise.lag_one() == pytest.approx(AS_MEASURED, abs=0.05)


# ---- other numbers of volumes ------------------------------------------------------------------


def test_two_volumes_show_anatomy_everywhere_and_the_air_tells(two):
    noise = learn(noisy(two, 60), two.mask)
    assert noise.source == "the air around the head"
    assert np.median(noise.sigma[two.mask]) == pytest.approx(WHITE_MATTER / 60, rel=0.1)
    assert noise.lag_one()[1] == pytest.approx(AS_MEASURED[1], abs=0.06)


@pytest.mark.parametrize("correlation", [WHITE, STRONG])
def test_two_volumes_without_air_have_a_bound_that_does_no_harm_and_is_said(two, correlation):
    scan = zeroed(noisy(two, 60, correlation))
    noise = learn(scan, scan.mask)
    assert noise.is_upper_bound
    assert "noise-from-differences" in {finding.code for finding in remarks(noise)}
    result = quell.denoise(scan, noise_model=noise, preset="instant", threads=1)
    assert gain(two, scan, result.denoised) > 0


def test_nine_volumes_of_high_signal_have_no_component_of_noise_alone():
    clean = made(8)
    noise = learn(noisy(clean, 60), clean.mask)  # differences in contrast: 1.9 and .6 / .7 / .5
    assert np.median(noise.sigma[clean.mask]) == pytest.approx(WHITE_MATTER / 60, rel=0.1)
    assert noise.lag_one() == pytest.approx(AS_MEASURED, abs=0.06)
    assert "no-noise-bulk" not in {finding.code for finding in remarks(noise)}


def test_one_complex_image_without_air_shows_its_noise_in_the_imaginary_part(two):
    turn = np.exp(1j * np.linspace(0, 3, two.data.shape[0]))[:, None, None, None]
    still, rng = np.zeros_like(two.data[..., :1]), np.random.default_rng(1)
    n = [corrupt(still, 25.0, rng, "gaussian", 1, AS_MEASURED) for _ in range(2)]
    data = (two.data[..., :1] * turn + n[0] + 1j * n[1]) * two.mask[..., None]
    scan = replace(
        two, data=data.astype(np.complex64), bvals=None, bvecs=None, fourth_axis="directions"
    )
    noise = learn(demodulate(scan)[0], scan.mask, raw=scan.data)
    assert np.median(noise.sigma[scan.mask]) == pytest.approx(25, rel=0.1)
    assert noise.lag_one() == pytest.approx(AS_MEASURED, abs=0.06)


def test_a_mask_without_room_for_blocks_has_a_bound_with_white_noise(seven):
    scan = noisy(seven, 30)
    tiny = replace(scan, data=scan.data[26:31, 30:35, 2:6], mask=np.ones((5, 5, 4), bool))
    noise = learn(tiny, tiny.mask)
    assert noise.is_upper_bound
    assert noise.lag_one() == (0, 0, 0)
    assert np.median(noise.sigma) < 1.3 * WHITE_MATTER / 30


# ---- the parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_fit_finds_an_autocovariance_whatever_trend_is_taken_out(degree):
    shape = Shape(7, degree, 2)
    x, y = np.stack(np.unravel_index(np.arange(49), (7, 7)))
    line = np.array([2.0, 0.8, 0.1, 0, 0, 0, 0])
    C = line[np.abs(x[:, None] - x)] * line[np.abs(y[:, None] - y)] / 2
    P = without_trend(7, degree)
    found = fit(P @ C @ P, shape, penalty=0.0)
    np.testing.assert_allclose(found[0, 2:], [2, 0.8, 0.1], atol=1e-6)
    np.testing.assert_allclose(found[:, 2], [2, 0.8, 0.1], atol=1e-6)
    assert found[1, 3] == pytest.approx(0.32) == found[1, 1]


def test_blocks_of_pure_noise_show_it_as_it_is():
    y = corrupt(np.zeros((40, 44, 4, 6), np.float32), 1.0, np.random.default_rng(0), "gaussian", 1,
                AS_MEASURED)  # fmt: skip
    found = quiet_noise(y, np.ones(y.shape[:3], bool), (2.0, 2.0, 2.0))
    assert found is not None
    assert not found.shows_anatomy
    assert found.level == pytest.approx(1, rel=0.05)
    assert found.covariance[LAGS[0] + 1, LAGS[1], LAGS[2]] == pytest.approx(0.17, abs=0.05)


def test_the_finest_detail_of_correlated_noise_is_corrected_for_it():
    y = corrupt(np.zeros((60, 60, 4, 1), np.float32), 1.0, np.random.default_rng(0), "gaussian", 1,
                AS_MEASURED)  # fmt: skip
    mask = np.ones(y.shape[:3], bool)
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    i, j, k = LAGS
    covariance[i - 1 : i + 2, j - 1 : j + 2, k] = np.outer([0.17, 1, 0.17], [0.34, 1, 0.34])
    assert variance_of_detail(covariance) == pytest.approx(0.83 * 0.66)
    assert sigma_of_detail(y, mask)[0] == pytest.approx(np.sqrt(0.83 * 0.66), rel=0.03)
    assert sigma_of_detail(y, mask, covariance)[0] == pytest.approx(1, rel=0.03)
