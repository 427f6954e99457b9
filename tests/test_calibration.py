"""Calibration and blend: how far from the scan to the denoised one, against closed forms."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import quell as package
from conftest import write_scan
from quell.calibration import calibrate, noise_of_repeats, repeats
from quell.demodulation import demodulate
from quell.noise import LAGS, NoiseModel
from quell.options import Options, refuse_options
from quell.record import methods_paragraph
from quell.series import InputError, Series, write_nifti
from quell.simulate import corrupt
from quell.simulate.corruption import tap

SIGMA = 60.0
SHAPE = (40, 44, 12)
TINY = {"method": "c2s", "steps": 40, "channels": 16, "patch": 24, "threads": 1}


def series(data: np.ndarray, **known) -> Series:
    return Series(data.astype(np.float32), np.eye(4), nib.Nifti1Header(), **known)


def model(lag_1: float, shape=SHAPE) -> NoiseModel:
    """Noise of sigma 1 from the kernel (a, 1, a) along x and along y."""
    a = tap(lag_1)
    line = np.zeros(2 * LAGS[0] + 1)
    line[LAGS[0] - 2 : LAGS[0] + 3] = np.array([a * a, 2 * a, 1 + 2 * a * a, 2 * a, a * a])
    line /= line[LAGS[0]]
    across = np.zeros(2 * LAGS[2] + 1)
    across[LAGS[2]] = 1
    covariance = np.einsum("i,j,k->ijk", line, line, across)
    return NoiseModel(np.ones(shape, np.float32), covariance, "gaussian", 1.0, "", 1, np.ones(1))


def blurred(X: np.ndarray) -> np.ndarray:
    """A linear denoiser: (1/4, 1/2, 1/4) along x and along y, volume by volume."""
    for axis in (0, 1):
        X = ndimage.convolve1d(X, [0.25, 0.5, 0.25], axis=axis, mode="wrap")
    return X


def smooth_signal(rng: np.random.Generator, n_volumes: int, size: float = 3.0) -> np.ndarray:
    S = ndimage.gaussian_filter(rng.standard_normal((*SHAPE, n_volumes)), (2, 2, 2, 0), mode="wrap")
    return np.asarray(size * S / S.std())


@pytest.fixture
def inside() -> np.ndarray:
    """Away from the edges, where drawn noise does not wrap and the denoiser does."""
    mask = np.zeros(SHAPE, bool)
    mask[3:-3, 3:-3] = True
    return mask


# ---- the closed form ---------------------------------------------------------------------------


@pytest.mark.parametrize("lag_1", [0.0, 0.4])
def test_the_share_of_a_linear_denoiser_is_the_best_one(lag_1, inside):
    """c = (n - tr AΣ) / ‖AX - X‖², with Σ from the kernel of the noise and A that of the blur."""
    rng, noise = np.random.default_rng(1), model(lag_1)
    S = smooth_signal(rng, 6)
    n = np.stack([noise.draw_volume(rng) for _ in range(6)], axis=3)
    X = series(S + n)
    h = blurred(X.data)
    c, off, n_pairs = calibrate(blurred, X, h, noise, inside, np.random.default_rng(2))
    assert (off, n_pairs) == (1.0, 0)
    weights = np.array([0.25, 0.5, 0.25])
    around = noise.covariance[LAGS[0] - 1 : LAGS[0] + 2, LAGS[1] - 1 : LAGS[1] + 2, LAGS[2]]
    trace = float(weights @ around @ weights)  # of one voxel
    far = np.mean((h - X.data)[inside] ** 2)
    assert c == pytest.approx((1 - trace) / far, rel=0.02)  # one probe of 80 000 values
    best = -np.mean((n * (h - X.data))[inside]) / far  # knows the noise
    assert c == pytest.approx(best, rel=0.03)


def test_a_denoiser_that_does_nothing_or_takes_all_away(inside):
    rng, noise = np.random.default_rng(0), model(0.0)
    X = series(np.stack([noise.draw_volume(rng) for _ in range(4)], axis=3))
    c, _, _ = calibrate(np.zeros_like, X, 0 * X.data, noise, inside, rng)
    assert c == pytest.approx(1, abs=0.02)  # nothing but noise: all the way
    c, _, _ = calibrate(lambda x: x, X, X.data, noise, inside, rng)
    assert 0 <= c <= 2
    assert np.isfinite(c)


@pytest.mark.parametrize("ratio", [0.8, 1.2])
def test_a_wrong_noise_level_is_repaired_by_repeats(inside, ratio):
    """Told sigma' = ratio sigma, an ideal denoiser goes ratio² of the way: X + ρ (x* - X)."""
    rng, rho = np.random.default_rng(3), ratio**2
    S = np.repeat(smooth_signal(rng, 1), 4, axis=3)  # four b0s of one image
    X = S + rng.standard_normal(S.shape)
    power = [np.abs(np.fft.fftn(x[..., 0])) ** 2 / x[..., 0].size for x in (S,)]
    gain = (power[0] / (power[0] + 1))[..., None]

    def best(x: np.ndarray) -> np.ndarray:
        return np.fft.ifftn(gain * np.fft.fftn(x, axes=(0, 1, 2)), axes=(0, 1, 2)).real

    def told_wrongly(x: np.ndarray) -> np.ndarray:
        return x + rho * (best(x) - x)

    def error_in_db(x: np.ndarray) -> float:
        return float(10 * np.log10(np.mean((x - S)[inside] ** 2)))

    scan = series(X / ratio, bvals=np.zeros(4))  # in units of what was told
    h = told_wrongly(scan.data)
    c, off, n_pairs = calibrate(told_wrongly, scan, h, model(0.0), inside, rng)
    assert n_pairs == 2
    assert off == pytest.approx(1 / ratio, rel=0.02)
    assert c == pytest.approx(1 / rho, rel=0.05)
    ideal = error_in_db(best(X))
    assert error_in_db(ratio * h) > ideal + 0.7
    assert error_in_db(ratio * (scan.data + c * (h - scan.data))) < ideal + 0.1


def test_without_repeats_the_level_is_taken_from_the_model(inside):
    scan = series(np.random.default_rng(0).standard_normal((*SHAPE, 3)) * 5)
    assert noise_of_repeats(scan, inside) == (1.0, 0)


def test_a_drift_between_repeats_and_a_few_spikes_are_not_noise(inside):
    rng = np.random.default_rng(4)
    X = 3 * rng.standard_normal((*SHAPE, 2)) + [100, 140]
    X[5:8, 5:8, 5:8] = 1e5
    off, n_pairs = noise_of_repeats(series(X, fourth_axis="repetitions"), inside)
    assert n_pairs == 1
    assert off == pytest.approx(3, rel=0.03)


# ---- which volumes show the same ---------------------------------------------------------------


def of(bvals, bvecs=None, **known) -> Series:
    data = np.zeros((2, 2, 2, len(bvals)))
    bvecs = None if bvecs is None else np.asarray(bvecs, dtype=float)
    return series(data, bvals=np.asarray(bvals, dtype=float), bvecs=bvecs, **known)


X_, Y_, Z_, NONE = (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)
NEARLY_X = (np.cos(0.01), np.sin(0.01), 0)  # half a degree
NOT_X = (np.cos(0.03), np.sin(0.03), 0)  # two degrees


def test_b0s_are_pairs_each_used_once():
    assert repeats(of([0, 1000, 5, 0, 1000, 0, 0])) == [(0, 2), (3, 5)]  # one is left over


def test_equal_directions_of_one_shell_are_pairs():
    bvecs = [NONE, X_, Y_, np.negative(X_), NEARLY_X, X_, NOT_X]
    assert repeats(of([0, 1000, 1000, 1000, 1000, 2000, 1000], bvecs)) == [(1, 3)]
    assert repeats(of([1000, 1000], [X_, NEARLY_X])) == [(0, 1)]
    assert repeats(of([1000, 1000], [X_, NOT_X])) == []
    assert repeats(of([1000, 2000], [X_, X_])) == []


def test_volumes_without_directions_or_b_values_are_no_pairs():
    assert repeats(of([1000, 1000, 1000])) == []
    assert repeats(series(np.zeros((2, 2, 2, 4)))) == []


def test_repetitions_are_pairs_in_a_row():
    scan = series(np.zeros((2, 2, 2, 4)), fourth_axis="repetitions")
    assert repeats(scan) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("axis", ["contrasts", "echoes"])
def test_contrasts_and_echoes_are_no_pairs_whatever_their_b_values(axis):
    assert repeats(of([0, 0, 0], fourth_axis=axis)) == []


@pytest.mark.parametrize("fourth_axis", ["directions", "repetitions"])
def test_a_real_part_is_never_held_against_an_imaginary_one(fourth_axis):
    bvals, bvecs = np.array([0.0, 0, 1000, 1000, 1000]), np.array([NONE, NONE, X_, X_, Z_], float)
    data = np.random.default_rng(0).standard_normal((8, 8, 2, 5)) + 1j
    scan = series(np.zeros((8, 8, 2, 5)), bvals=bvals, bvecs=bvecs, fourth_axis=fourth_axis)
    parts, _ = demodulate(replace(scan, data=data.astype(np.complex64)))
    pairs = repeats(parts)
    assert {(0, 1), (2, 3), (5, 6), (7, 8)} <= set(pairs)
    assert all((i < 5) == (j < 5) for i, j in pairs)
    bare, _ = demodulate(replace(scan, data=data.astype(np.complex64), bvals=None, bvecs=None))
    assert all((i < 5) == (j < 5) for i, j in repeats(bare))


# ---- from scan to result -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def truth(brain) -> Series:
    """4 b0s and 2 directions, five slices."""
    keep = [*np.flatnonzero(brain.clean.is_b0), *np.flatnonzero(~brain.clean.is_b0)[:2]]
    return replace(
        brain.clean,
        data=brain.clean.data[:, :, 3:8, keep],
        mask=brain.clean.mask[:, :, 3:8],
        bvals=brain.clean.bvals[keep],
        bvecs=brain.clean.bvecs[keep],
    )


@pytest.fixture(scope="module")
def scan(truth) -> Series:
    """The same with Gaussian noise."""
    return replace(truth, data=corrupt(truth.data, SIGMA, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def plain(scan) -> package.Result:
    return package.denoise(scan, **TINY)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_a_map_that_is_off_is_repaired(scan, truth, factor):
    given = np.full(scan.data.shape[:3], factor * SIGMA, np.float32)
    left = package.denoise(scan, noise_map=given, **TINY)
    mended = package.denoise(scan, noise_map=given, calibrate=True, state=left.state, **TINY)
    assert left.calibration == {}
    assert mended.calibration["RepeatedPairs"] == 2
    assert mended.calibration["NoiseOverModel"] == pytest.approx(1 / factor, rel=0.03)
    errors = [np.mean((r.denoised - truth.data)[scan.mask] ** 2) for r in (left, mended)]
    assert errors[1] < 0.98 * errors[0]  # after so few steps little is gained by any level


def test_the_sidecar_tells_of_it(quell, scan, tmp_path):
    path = write_scan(tmp_path / "in.nii.gz", scan)
    words = ("--method", "c2s", "--set", "steps=2", "--set", "channels=8", "--set", "patch=16",
             "--threads", "1", "--no-report", "--calibrate", "--blend", "0.25")  # fmt: skip
    ran = quell("denoise", path, tmp_path / "out.nii.gz", *words)
    assert ran.status == 0, ran.err
    said = json.loads((tmp_path / "out.json").read_text())["Denoising"]
    assert set(said["Calibration"]) == {"ShareOfTheWay", "NoiseOverModel", "RepeatedPairs"}
    assert said["Blend"] == 0.25
    assert "2 pairs of repeated volumes" in " ".join(ran.err.split())


def test_a_method_without_a_noise_level_is_refused_before_any_work():
    with pytest.raises(InputError, match="can't be calibrated") as refused:
        refuse_options(Options(method="patch2self", calibrate=True))
    assert refused.value.status == 2


# ---- blend -------------------------------------------------------------------------------------


def test_no_blend_is_the_result_and_a_full_one_the_scan(scan, plain):
    none = package.denoise(scan, state=plain.state, blend=0.0, **TINY)
    np.testing.assert_array_equal(none.denoised, plain.denoised)
    full = package.denoise(scan, state=plain.state, blend=1.0, **TINY)
    np.testing.assert_allclose(full.denoised, scan.data, rtol=1e-5, atol=1e-3)


def test_a_blend_is_that_share_of_the_scan(scan, plain):
    blended = package.denoise(scan, state=plain.state, blend=0.3, **TINY)
    expected = 0.7 * plain.denoised + 0.3 * scan.data
    np.testing.assert_allclose(blended.denoised, expected, rtol=1e-5, atol=1e-2)
    assert "0.70 was taken away" in methods_paragraph(blended, Options(blend=0.3))
    assert "taken away" not in methods_paragraph(plain, Options())


def test_a_full_blend_of_magnitudes_is_nearly_the_scan(scan):
    """But for the stabiliser: what comes back is the mean magnitude of the signal that was seen."""
    magnitude = replace(scan, data=np.abs(scan.data))
    result = package.denoise(magnitude, blend=1.0, **{**TINY, "steps": 2})
    assert result.noise.law == "rician"
    bright = magnitude.data > 3 * SIGMA
    np.testing.assert_allclose(result.denoised[bright], magnitude.data[bright], rtol=0.07)


def test_a_blend_leaves_that_much_less_spread(series):
    small = {"stage1_steps": 4, "steps": 4, "channels": 8, "patch": 16, "priors": 2}
    chain = {"output": "chain", "rule": "posterior", "samples": 2, "threads": 1}
    whole, half = (
        package.denoise(series, method="ddm2", blend=b, **small, **chain) for b in (0.0, 0.5)
    )
    np.testing.assert_allclose(half.spread, 0.5 * whole.spread, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kappa", [-0.1, 1.1, np.nan, np.inf])
def test_a_share_outside_0_to_1_is_refused(kappa):
    with pytest.raises(InputError, match="give 0 to 1") as refused:
        refuse_options(Options(blend=kappa))
    assert refused.value.status == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--blend", "1.5"), "a blend of 1.5 can't be"),
        (("--blend", "nan"), "a blend of nan can't be"),
        (("--method", "patch2self", "--calibrate"), "can't be calibrated"),
        (("--fourth-axis", "time"), "fourth axis 'time' is unknown"),
    ],
)
def test_on_the_command_line_these_end_with_2(quell, scan, tmp_path, words, said):
    write_nifti(tmp_path / "in.nii.gz", scan.data, scan)
    ran = quell("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", *words)
    assert (ran.status, said in ran.err) == (2, True), ran.err
    assert not (tmp_path / "out.nii.gz").exists()
