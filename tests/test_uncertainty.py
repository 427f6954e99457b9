"""Uncertainty: posterior variances that are known in closed form, and truths that are known."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import quell as package
from quell.noise import LAGS, NoiseModel
from quell.series import InputError, Series
from quell.simulate import corrupt, phantom
from quell.simulate.corruption import tap, unit_noise
from quell.uncertainty import add_left_out, posterior_sd

SHAPE = (24, 24, 8)


def white(shape=SHAPE) -> NoiseModel:
    covariance = np.zeros([2 * lag + 1 for lag in LAGS])
    covariance[LAGS] = 1.0
    return NoiseModel(np.ones(shape, np.float32), covariance, "gaussian", 1.0, "", 1, np.ones(1))


def sigma_1(data: np.ndarray, **known) -> Series:
    return Series(data.astype(np.float32), np.eye(4), nib.Nifti1Header(), **known)


@pytest.mark.parametrize("ev", [0.25, 1.0, 9.0])
def test_of_a_gaussian_signal_it_is_that_of_the_wiener_filter(ev):
    """x ~ N(0, ev): E[x | y] = w y with w = ev / (1 + ev), and Var[x | y] = w."""
    rng, w = np.random.default_rng(0), ev / (1 + ev)
    X = sigma_1(rng.standard_normal((*SHAPE, 20)) * np.sqrt(1 + ev))
    mask = np.ones(SHAPE, bool)
    sd = posterior_sd(lambda y: np.float32(w) * y, X, np.float32(w) * X.data, white(), mask, rng)
    assert sd.shape == X.data.shape
    assert np.sqrt(np.mean(sd**2)) == pytest.approx(np.sqrt(w), rel=0.01)


def test_it_differs_from_place_to_place_and_from_shell_to_shell():
    rng = np.random.default_rng(1)
    bvals = np.array([0.0] * 4 + [1000.0] * 12)
    X = sigma_1(rng.standard_normal((*SHAPE, 16)), bvals=bvals, bvecs=np.tile([1.0, 0, 0], (16, 1)))
    w = np.full((*SHAPE, 16), 0.8, np.float32)
    w[:12, ..., :4], w[12:, ..., :4] = 0.1, 0.4
    sd = posterior_sd(lambda y: w * y, X, w * X.data, white(), np.ones(SHAPE, bool), rng)
    for part, expected in ((np.s_[:6, ..., :4], 0.1), (np.s_[18:, ..., :4], 0.4),
                           (np.s_[..., 4:], 0.8)):  # fmt: skip
        assert np.mean(sd[part] ** 2) == pytest.approx(expected, rel=0.1)


def test_it_is_as_steady_as_what_it_tells():
    """h: the mean of alike volumes, Var = 1/V everywhere; a map of one probe varies."""
    V, rng, noise = 10, np.random.default_rng(7), correlated((0.5, 0.5, 0))
    data = rng.standard_normal((*SHAPE, V)).astype(np.float32)
    X = Series(data, np.diag([3.0, 3, 3, 1]), nib.Nifti1Header(), fourth_axis="repetitions")

    def mean(y):
        return np.repeat(y.mean(axis=3, keepdims=True), V, axis=3)

    sd = posterior_sd(mean, X, mean(X.data), noise, np.ones(SHAPE, bool), rng)
    assert np.sqrt(np.mean(sd**2)) == pytest.approx(V**-0.5, rel=0.1)
    assert np.std(sd) < 0.05 * np.mean(sd)  # 0.12 with one probe


def test_noise_that_correlates_is_let_through_by_a_blur():
    """h = K y: Var = (K Σ)_ii, which is more than K_ii where neighbours share their noise."""
    rng, noise = np.random.default_rng(2), white()
    i, j, k = LAGS
    noise.covariance[[i - 1, i + 1], j, k] = 0.4
    X = sigma_1(rng.standard_normal((*SHAPE, 30)))

    def blurred(y):
        return (y + 0.5 * np.roll(y, 1, axis=0) + 0.5 * np.roll(y, -1, axis=0)) / 2

    sd = posterior_sd(blurred, X, blurred(X.data), noise, np.ones(SHAPE, bool), rng)
    assert np.mean(sd[4:-4] ** 2) == pytest.approx(0.5 + 0.25 * 2 * 0.4, rel=0.05)


# ---- what the denoiser left out ----------------------------------------------------------------

SAID = 0.2  # before anything is added
NOBODY = np.zeros((0, 4), int)  # voxels that were kept as they were
ALIKE = (0.17, 0.34, 0.0)


def correlated(correlation=ALIKE) -> NoiseModel:
    """The exact autocorrelation of `unit_noise`, which has three taps an axis."""
    noise = white()
    lines = [np.zeros(n) for n in noise.covariance.shape]
    for line, lag, lag_1 in zip(lines, LAGS, correlation, strict=True):
        a = tap(lag_1)
        of_lags = np.array([1 + 2 * a * a, 2 * a, a * a]) / (1 + 2 * a * a)
        for n in range(min(lag, 2) + 1):
            line[lag + n] = line[lag - n] = of_lags[n]
    noise.covariance[:] = np.einsum("i,j,k->ijk", *lines)
    return noise


def residual_of_noise(n_volumes: int, correlation, seed: int, shape=SHAPE) -> np.ndarray:
    rng, taps = np.random.default_rng(seed), tuple(tap(c) for c in correlation)
    return np.stack([unit_noise(shape, rng, taps) for _ in range(n_volumes)], axis=3)


def ball(radius: float, centre=(12, 12, 4)) -> np.ndarray:
    axes = np.indices(SHAPE) - np.array(centre)[:, None, None, None]
    return (axes**2).sum(axis=0) <= radius**2


@pytest.mark.parametrize("correlation", [(0, 0, 0), ALIKE])
@pytest.mark.parametrize("slices", [1, 8])
def test_noise_alone_hardly_changes_it(correlation, slices):
    shape = (40, 40, slices)
    residual = residual_of_noise(12, correlation, 4, shape)
    mask = np.zeros(shape, bool)
    mask[5:-5, 5:-5] = True
    sd = np.full(residual.shape, SAID, np.float32)
    add_left_out(sd, residual, mask, correlated(correlation), NOBODY)
    changed = np.mean(sd[mask] > SAID)
    assert 0.0005 < changed < 0.01  # it looks everywhere, with the chance that it says
    assert sd[mask].mean() == pytest.approx(SAID, rel=0.02)


@pytest.mark.parametrize("amplitude", [-2.0, 2.0, 4.0])
def test_where_a_volume_shows_what_was_left_out_it_is_about_as_large(amplitude):
    residual, where = residual_of_noise(20, ALIKE, 5), ball(3.0)
    residual[where, :10] += amplitude
    sd = np.full(residual.shape, SAID, np.float32)
    mask = np.ones(SHAPE, bool)
    add_left_out(sd, residual, mask, correlated(), NOBODY)
    assert np.sqrt(np.mean(sd[ball(1.5), :10] ** 2)) == pytest.approx(abs(amplitude), rel=0.2)
    assert np.sqrt(np.mean(sd[where, :10] ** 2)) == pytest.approx(abs(amplitude), rel=0.35)
    left_out = amplitude**2 * where.mean()  # the window spreads it, and takes little away
    assert np.mean(sd[..., :10] ** 2) - SAID**2 == pytest.approx(left_out, rel=0.3)
    assert sd[..., 10:].mean() == pytest.approx(SAID, rel=0.02)  # the other volumes


def test_outside_the_mask_nothing_changes_and_at_its_rim_it_is_as_large():
    """Half of the window lies outside at a flat rim, and what is there counts for nothing."""
    residual = residual_of_noise(20, ALIKE, 6)
    mask = np.zeros(SHAPE, bool)
    mask[12:] = True
    residual[~mask] += 50
    sd = np.full(residual.shape, SAID, np.float32)
    add_left_out(sd, residual, mask, correlated(), NOBODY)
    assert np.all(sd[~mask] == np.float32(SAID))
    assert np.mean(sd[12] > SAID) < 0.01
    residual[12:16] += 1.0
    add_left_out(sd, residual, mask, correlated(), NOBODY)
    assert np.sqrt(np.mean(sd[12] ** 2)) == pytest.approx(1.0, rel=0.15)


def test_what_was_kept_as_it_was_has_the_noise_of_the_scan():
    residual = np.zeros((*SHAPE, 3), np.float32)
    sd = np.full(residual.shape, SAID, np.float32)
    sd[3, 3, 3, 1] = 1.5
    kept = np.array([[2, 2, 2, 0], [3, 3, 3, 1]])
    add_left_out(sd, residual, np.ones(SHAPE, bool), white(), kept)
    assert sd[2, 2, 2, 0] == 1
    assert sd[3, 3, 3, 1] == 1.5  # more is not made less
    assert np.count_nonzero(sd != np.float32(SAID)) == 2


@pytest.mark.parametrize("law", ["gaussian", "rician"])
def test_the_truth_lies_as_far_away_as_it_says(law):
    head = phantom("small")
    clean = head.clean
    sigma = np.full(clean.data.shape[:3], head.white_matter_b0 / 12, np.float32)
    noisy = replace(clean, data=corrupt(clean.data, sigma, np.random.default_rng(3), law))
    result = package.denoise(noisy, method="wiener", uncertainty=True, remove_floor=True, threads=1)
    inside = clean.mask[..., None] & ~clean.is_b0
    error = np.mean((result.denoised - clean.data)[inside] ** 2)
    said = np.mean(result.uncertainty[inside] ** 2)
    assert said == pytest.approx(error, rel=0.25)


def test_it_is_written_and_shown(tmp_path, quell, scan):
    out, sd = tmp_path / "out.nii.gz", tmp_path / "sd.nii.gz"
    ended = quell("denoise", scan, out, "--method", "wiener", "--uncertainty-out", sd)
    assert ended.status == 0, ended.err
    written = nib.load(sd)
    assert written.shape == nib.load(scan).shape
    assert np.median(written.get_fdata()) > 0
    assert "How far the truth lies" in (tmp_path / "out_report.html").read_text()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"method": "mppca"}, "how sure it is"),
        ({"method": "wiener", "blend": 0.1}, "own result"),
        ({"method": "wiener", "calibrate": True}, "own result"),
    ],
)
def test_where_it_can_not_be_said_it_is_refused(series, choice, words):
    with pytest.raises(InputError, match=words) as caught:
        package.denoise(series, uncertainty=True, **choice)
    assert caught.value.status == 2
