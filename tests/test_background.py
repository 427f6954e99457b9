"""The noise of a few images, from the air around the head: level, correlation, law, and doubts."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import quell as package
from conftest import write_scan
from quell.background import air_of, correlation_of_squares, sigma_of_air, sigma_of_detail
from quell.demodulation import demodulate
from quell.noise import LAGS, learn, remarks
from quell.series import InputError, Series, mask_of, write_nifti
from quell.simulate import PhantomSettings, corrupt, phantom

SIGMA = 30.0  # signal-to-noise of 25 in white matter at b=0
CORRELATION = (0.3, 0.4, 0.0)
TINY = {"method": "c2s", "steps": 2, "channels": 8, "patch": 16, "threads": 1}
WORDS = ("--method", "c2s", "--set", "steps=2", "--set", "channels=8", "--set", "patch=16",
         "--threads", "1")  # fmt: skip


def images(clean: Series, *volumes: int, **changes) -> Series:
    """Some volumes of the phantom without b-values."""
    data = clean.data[..., list(volumes)]
    return replace(clean, data=data, bvals=None, bvecs=None, **changes)


def noisy(clean: Series, sigma=SIGMA, law="rician", n_coils=1, correlation=None, seed=1) -> Series:
    rng = np.random.default_rng(seed)
    return replace(clean, data=corrupt(clean.data, sigma, rng, law, n_coils, correlation))


def complex_of(clean: Series, sigma=SIGMA, correlation=None) -> Series:
    """The images with a smooth phase and noise in both parts."""
    parts = [noisy(replace(clean, data=0 * clean.data), 1, "gaussian", 1, correlation, s).data
             for s in (1, 2)]  # fmt: skip
    turn = np.linspace(0, 4, clean.data.shape[0])[:, None, None, None]
    data = clean.data * np.exp(1j * turn) + sigma * (parts[0] + 1j * parts[1])
    return replace(clean, data=data.astype(np.complex64))


def codes(noise) -> set[str]:
    return {finding.code for finding in remarks(noise)}


@pytest.fixture(scope="module")
def one(brain) -> Series:
    """One clean b0."""
    return images(brain.clean, 0)


# ---- level -----------------------------------------------------------------------------------

LAWS = [("gaussian", 1), ("rician", 1), ("nc-chi", 4)]


@pytest.mark.parametrize(("law", "n_coils"), LAWS)
@pytest.mark.parametrize("correlation", [None, CORRELATION])
def test_sigma_of_one_image_is_that_of_its_air(one, law, n_coils, correlation):
    scan = noisy(one, law=law, n_coils=n_coils, correlation=correlation)
    noise = learn(scan, mask_of(replace(scan, mask=None)), law, n_coils)
    assert noise.source == "the air around the head"
    assert np.ptp(noise.sigma) == 0
    # 20 000 values of air: 1 %, somewhat more where neighbours share theirs
    assert noise.sigma[0, 0, 0] == pytest.approx(SIGMA, rel=0.02)
    assert noise.levels is None


@pytest.mark.parametrize(("law", "n_coils"), LAWS)
@pytest.mark.parametrize(
    ("strength", "sigma_within", "lag_within"), [(0.03, 0.1, 0.1), (0.15, 0.02, 0.02)]
)
def test_a_ghost_changes_little(one, law, n_coils, strength, sigma_within, lag_within):
    """A strong one is left out; one that hides below the noise does little harm."""
    ghost = strength * np.roll(one.data, one.data.shape[1] // 2, axis=1)
    scan = noisy(replace(one, data=one.data + ghost), law=law, n_coils=n_coils)
    noise = learn(scan, one.mask, law, n_coils)
    assert noise.sigma[0, 0, 0] == pytest.approx(SIGMA, rel=sigma_within)
    assert noise.lag_one() == pytest.approx((0, 0, 0), abs=lag_within)


@pytest.mark.parametrize("law", ["gaussian", "rician"])
def test_the_scalp_outside_a_mask_of_the_brain_is_not_air(law):
    """At 1 mm the scalp lies well beyond the voxels that are left out around the mask."""
    head = phantom(PhantomSettings((200, 220, 2), 1.0, 1, ((1000.0, 1),), seed=5))
    scan = noisy(images(head.clean, 0), law=law)
    air = air_of(scan.data, scan.mask)
    assert np.mean(head.tissue[air] > 0) < 0.001
    noise = learn(scan, scan.mask, law)
    assert noise.sigma[0, 0, 0] == pytest.approx(SIGMA, rel=0.02)
    assert noise.lag_one() == pytest.approx((0, 0, 0), abs=0.03)


def test_air_without_structure_is_kept():
    """What looks for ghosts must not cut the noise itself, else sigma would come out low."""
    still = np.zeros((80, 80, 6, 2), np.float32)
    mask = np.zeros(still.shape[:3], bool)
    mask[36:44, 36:44] = True
    for correlation in (None, (0.5, 0.6, 0.0)):
        y = corrupt(still, SIGMA, np.random.default_rng(0), "rician", 1, correlation)
        air = air_of(y, mask)
        far = ~ndimage.binary_dilation(mask, iterations=4)
        assert np.count_nonzero(air) > 0.95 * np.count_nonzero(far)
        assert sigma_of_air(y[air], "rician", 1) == pytest.approx([SIGMA] * 2, rel=0.03)


# ---- correlation -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "rician", "nc-chi", "complex"])
def test_the_correlation_of_neighbours_is_that_of_the_air(one, kind):
    if kind == "complex":
        scan = complex_of(one, correlation=CORRELATION)
        noise = learn(demodulate(scan)[0], one.mask, raw=scan.data)
    else:
        n_coils = 4 if kind == "nc-chi" else 1
        scan = noisy(one, law=kind, n_coils=n_coils, correlation=CORRELATION)
        noise = learn(scan, one.mask, kind, n_coils)
    assert noise.lag_one() == pytest.approx(CORRELATION, abs=0.03)
    assert noise.covariance[LAGS] == 1


@pytest.mark.parametrize("law", ["gaussian", "rician"])
def test_noise_that_is_stronger_on_one_side_does_not_correlate_for_that(one, law):
    """Squares of it would, at any distance: their mean differs from place to place."""
    x = np.linspace(0.5, 1.5, one.data.shape[0], dtype=np.float32)[:, None, None]
    still = replace(one, data=0 * one.data)
    scan = noisy(still, SIGMA * np.broadcast_to(x, one.data.shape[:3]), law)
    covariance = learn(scan, one.mask, law).covariance.copy()
    covariance[LAGS] = 0
    assert np.abs(covariance).max() < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_white_magnitude_noise_has_no_correlation_at_all(one, seed):
    """The root of what is left by chance (0.01) would be a correlation of 0.1."""
    noise = learn(noisy(one, seed=seed), one.mask)
    assert np.count_nonzero(noise.covariance) == 1


def test_only_what_is_certain_has_a_root():
    r = correlation_of_squares(
        np.array([1, 0.04, 0.04, -0.5]), np.array([40_000, 40_000, 1_000, 9])
    )
    np.testing.assert_allclose(r, [1, 0.2, 0, 0])  # 4.5 / √n is 0.02 and 0.14


# ---- without air -----------------------------------------------------------------------------


def zeroed(scan: Series) -> Series:
    return replace(scan, data=np.where(scan.mask[..., None], scan.data, 0))


def test_zeroed_air_is_none_and_a_few_zeros_are_left_out(one):
    scan = noisy(one)
    assert air_of(zeroed(scan).data, one.mask) is None
    data = scan.data.copy()
    data[:2] = 0  # a border of the scanner's, under a tenth of the air
    air = air_of(data, one.mask)
    assert air is not None
    assert not air[:2].any()
    assert sigma_of_air(data[air], "rician", 1) == pytest.approx([SIGMA], rel=0.02)


def test_air_zeroed_in_one_image_of_many_is_no_air_at_all(brain):
    """The zeros are few among all values, but no voxel is left in which all images show noise."""
    scan = noisy(brain.clean)
    scan.data[~scan.mask, 3] = 0
    assert air_of(scan.data, scan.mask) is None


def test_a_mask_of_everything_leaves_no_air(one):
    assert air_of(noisy(one).data, np.ones(one.data.shape[:3], bool)) is None


def test_without_air_the_finest_detail_stands_in_with_a_warning(one):
    scan = zeroed(noisy(one))
    noise = learn(scan, scan.mask)
    assert "finest detail" in noise.source
    assert noise.lag_one() == (0, 0, 0)
    assert codes(noise) == {"noise-from-differences"}
    assert 0.95 * SIGMA < noise.sigma[0, 0, 0] < 3 * SIGMA  # edges count: an upper bound


def test_the_warning_is_said_where_the_scan_is_denoised(quell, one, tmp_path):
    write_nifti(tmp_path / "in.nii.gz", zeroed(noisy(one)).data, one)
    ran = quell("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", "--no-report", *WORDS)
    assert ran.status == 0, ran.err
    assert "warning: too few volumes for noise-only components" in " ".join(ran.err.split())


def test_the_finest_detail_of_a_smooth_image_is_its_noise():
    rng, shape = np.random.default_rng(0), (48, 48, 4, 2)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), (6, 6, 1, 0)) * 1e4
    mask = np.zeros(shape[:3], bool)
    mask[6:42, 6:42] = True
    y = (smooth + rng.standard_normal(shape) * [20, 60]).astype(np.float32)
    assert sigma_of_detail(y, mask) == pytest.approx([20, 60], rel=0.05)


def test_an_image_without_any_noise_is_refused(one):
    flat = np.where(one.mask, 500.0, 0.0).astype(np.float32)[..., None]
    with pytest.raises(InputError, match="--noise-in"):
        learn(replace(one, data=flat), one.mask)


# ---- one image, one complex image, three contrasts -------------------------------------------


def test_one_magnitude_image_has_one_map(one):
    result = package.denoise(noisy(one), **TINY)
    assert result.noise_map.shape == one.data.shape[:3]
    assert result.denoised.shape == one.data.shape


def test_one_complex_image_has_one_map(one):
    """Of its real and imaginary part the noise is the same, whatever two estimates say."""
    scan = complex_of(one)
    few = replace(scan, data=scan.data[8:56, 8:64, :1], mask=one.mask[8:56, 8:64, :1])
    for image in (scan, few):
        result = package.denoise(image, **TINY)
        assert result.noise_map.shape == image.data.shape[:3]
        assert np.median(result.noise_map) == pytest.approx(SIGMA, rel=0.05)
        assert result.denoised.dtype == np.complex64


def test_complex_contrasts_have_a_map_each(brain):
    data = np.stack([complex_of(images(brain.clean, v), s).data[..., 0]
                     for v, s in ((0, 15), (1, 60))], axis=3)  # fmt: skip
    scan = images(brain.clean, 0, 1, fourth_axis="contrasts")
    result = package.denoise(replace(scan, data=data), **TINY)
    assert result.noise_map.shape == data.shape
    assert result.noise_map[0, 0, 0] == pytest.approx([15, 60], rel=0.03)


LEVELS = (15.0, 30.0, 120.0)


@pytest.fixture(scope="module")
def contrasts(brain) -> tuple[Series, Series]:
    """Three images of different signal and noise, clean and noisy."""
    gain = np.array([0.5, 1.0, 3.0], np.float32)
    clean = images(brain.clean, 0, 1, 5, fourth_axis="contrasts")
    clean = replace(clean, data=clean.data * gain)
    data = [noisy(images(clean, k), s, seed=k).data for k, s in enumerate(LEVELS)]
    return clean, replace(clean, data=np.concatenate(data, axis=3))


def test_contrasts_have_their_own_levels(contrasts):
    noise = learn(contrasts[1], contrasts[1].mask)
    assert noise.sigma[0, 0, 0] * noise.levels == pytest.approx(LEVELS, rel=0.02)
    assert codes(noise) <= {"correlated-noise"}


def test_contrasts_come_back_in_their_own_units(contrasts):
    clean, scan = contrasts
    result = package.denoise(scan, **{**TINY, "steps": 60, "channels": 16})
    assert result.noise_map.shape == scan.data.shape
    assert result.noise_map.dtype == np.float32
    for v in range(3):
        before, after = (
            np.mean((x[..., v] - clean.data[..., v])[scan.mask] ** 2)
            for x in (scan.data, result.denoised)
        )
        assert after < (0.75 if v == 2 else 1) * before  # the first two have little noise
    means = scan.data[scan.mask].mean(axis=0)
    np.testing.assert_allclose(result.denoised[scan.mask].mean(axis=0), means, rtol=0.01)
    np.testing.assert_allclose(result.statistics.signal_before, means, rtol=1e-4)
    np.testing.assert_allclose(result.statistics.signal_after, means, rtol=0.01)


def test_another_unit_of_one_contrast_changes_nothing_else(contrasts):
    scan = contrasts[1]
    once = package.denoise(scan, **TINY).denoised
    factor = np.array([1, 1, 1000], np.float32)
    again = package.denoise(replace(scan, data=scan.data * factor), **TINY).denoised
    np.testing.assert_allclose(again, once * factor, rtol=1e-3, atol=1)


def test_contrasts_are_not_held_against_each_other(contrasts):
    """Signal that differs, noise in common: none of it is a fault of contrasts."""
    found = {finding.code for finding in package.denoise(contrasts[1], **TINY).findings}
    assert not found & {"volume-scale", "smooth-noise", "motion", "thin-shell", "single-b0"}


def test_contrasts_from_file_to_file_with_bvals_beside(quell, contrasts, tmp_path):
    scan = replace(contrasts[1], bvals=np.array([0.0, 0, 1000]), bvecs=np.eye(3)[:3])
    path = write_scan(tmp_path / "in.nii.gz", scan)
    words = ("--fourth-axis", "contrasts", "--noise-out", tmp_path / "n.nii.gz", "--calibrate")
    ran = quell("denoise", path, tmp_path / "out.nii.gz", *words, *WORDS)
    assert ran.status == 0, ran.err
    assert nib.load(tmp_path / "n.nii.gz").shape == scan.data.shape
    assert (tmp_path / "out.bval").read_bytes() == (tmp_path / "in.bval").read_bytes()
    page = (tmp_path / "out_report.html").read_text()
    assert "can be removed, rms over the volumes" in page  # the noise map shown
    said = json.loads((tmp_path / "out.json").read_text())["Denoising"]
    assert said["Calibration"]["RepeatedPairs"] == 0  # two b0s of different contrast are no pair


# ---- a given map -----------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("kind", ["one image", "complex image", "series"])
def test_a_map_that_is_off_is_noticed(brain, one, kind, factor):
    if kind == "series":
        scan = noisy(brain.clean)
    else:
        scan = noisy(one) if kind == "one image" else demodulate(complex_of(one))[0]
    given = np.full(one.data.shape[:3], factor * SIGMA)
    noise = learn(scan, one.mask, sigma=given)
    np.testing.assert_allclose(noise.sigma, given, rtol=1e-6)
    assert noise.levels is None
    assert noise.found_over_given == pytest.approx(1 / factor, rel=0.06)
    assert ("noise-map-off" in codes(noise)) == (factor != 1)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("kind", ["one image", "series"])
def test_a_map_that_is_off_is_said_and_written_down(quell, brain, one, tmp_path, kind, factor):
    scan = noisy(one if kind == "one image" else brain.clean)
    path = tmp_path / "in.nii.gz"
    write_nifti(path, scan.data, scan)
    if kind == "series":
        write_scan(path, scan)
    map_ = np.full(scan.data.shape[:3], factor * SIGMA, np.float32)
    write_nifti(tmp_path / "map.nii.gz", map_, scan)
    words = WORDS if kind == "one image" else ("--method", "patch2self", "--threads", "1")
    ran = quell("denoise", path, tmp_path / "out.nii.gz", "--noise-in", tmp_path / "map.nii.gz",
                "--no-report", *words)  # fmt: skip
    assert ran.status == 0, ran.err
    checks = json.loads((tmp_path / "out.json").read_text())["Denoising"]["Checks"]
    is_off = factor != 1
    assert ("noise-map-off" in {check["code"] for check in checks}) == is_off
    sentence = "warning: the scan's own noise is" in " ".join(ran.err.split())
    assert sentence == is_off


def test_without_air_edges_do_not_pass_for_a_map_that_is_off(one):
    noise = learn(zeroed(noisy(one)), one.mask, sigma=np.full(one.data.shape[:3], SIGMA))
    assert noise.found_over_given == 1
    assert codes(noise) == set()


def test_a_head_noisier_than_its_air_is_said(one):
    """Parallel imaging: the head has 3 times the noise of the air, or just the same."""
    far = ndimage.distance_transform_edt(~one.mask)
    for factor, is_said in ((3.0, True), (1.0, False)):
        sigma = SIGMA * np.where(far < 3, factor, 1.0).astype(np.float32)
        scan = noisy(one, sigma)
        model = learn(scan, scan.mask)
        assert model.source == "the air around the head"
        warned = {found.code for found in remarks(model) if found.level == "warning"}
        assert ("air-is-not-the-head" in warned) == is_said


def test_where_the_head_is_flat_it_shows_the_noise_of_its_air():
    flat = Series(np.zeros((64, 64, 4, 1), np.float32), np.eye(4), nib.Nifti1Header())
    x, y = np.meshgrid(*(np.linspace(-1, 1, 64),) * 2, indexing="ij")
    ball = np.repeat((x**2 + y**2 < 0.35)[..., None], 4, axis=2)
    flat = replace(flat, data=(1000.0 * ball[..., None]).astype(np.float32), mask=ball)
    scan = noisy(flat)
    model = learn(scan, scan.mask)
    assert model.head_over_air == pytest.approx(1.0, abs=0.1)
    assert "air-is-not-the-head" not in codes(model)
