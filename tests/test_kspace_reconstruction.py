"""Images from k-space: where the object lies, and noise of the law and sigma that are stated."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from quell.kspace import (
    KSpace,
    adaptive_combination,
    adaptive_weights,
    coil_noise,
    reconstruct,
    root_sum_of_squares,
    to_images,
    to_kspace,
    whiten,
)
from quell.series import InputError, load, write_nifti

SHAPE = X, Y, Z, N, V = 48, 40, 3, 4, 6


def noise(*shape, seed=0):
    """Complex, sigma 1 in each part."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def mixing(n=N, seed=1):
    """Coils that share noise, and that differ in size by a factor of twenty."""
    return (np.eye(n) + 0.3 * noise(n, n, seed=seed)) * np.geomspace(1, 20, n)[:, None]


def sensitivities():
    """(X, Y, 1, N, 1): smooth, complex, one coil in each quadrant."""
    x, y = np.meshgrid(np.linspace(-1, 1, X), np.linspace(-1, 1, Y), indexing="ij")
    near = [
        np.exp(-((x - a) ** 2 + (y - b) ** 2) / 3 + 1j * (0.7 * a * x + 0.4 * b * y + a + b))
        for a in (-1, 1)
        for b in (-1, 1)
    ]
    return np.stack(near, axis=-1)[:, :, None, :, None]


def disc():
    """(X, Y, 1, 1, 1): 1 inside, off centre along x, 0 outside, soft enough for the grid."""
    x, y = np.meshgrid(np.linspace(-1, 1, X), np.linspace(-1, 1, Y), indexing="ij")
    return 1 / (1 + np.exp((np.hypot(x - 0.1, y) - 0.55) / 0.05))[:, :, None, None, None]


INSIDE = disc()[:, :, 0, 0, 0] > 0.99
BACKGROUND = disc()[:, :, 0, 0, 0] < 0.01


def scan(level=0.0, mixed=None, **more):
    """A raw scan of a disc of `level` sigma in the strongest coil, with noise of sigma 1."""
    image = level * disc() * sensitivities() * np.ones((1, 1, Z, 1, V))
    data = to_kspace(image) + noise(*SHAPE)
    if mixed is not None:
        data = np.matmul(mixed, data)
    more = {"affine": np.eye(4), "is_affine_true": True, "image_size": (X, Y), **more}
    return KSpace(data=data.astype(np.complex64), **more)


def sd_of_parts(values):
    return float(np.sqrt(np.mean(np.abs(values) ** 2) / 2))


@pytest.mark.parametrize("shape", [(8, 6), (7, 6), (7, 9)])
def test_the_transform_is_undone_and_keeps_the_energy(shape):
    data = noise(*shape, 2)
    images = to_images(data)
    np.testing.assert_allclose(to_kspace(images), data, atol=1e-5)
    np.testing.assert_allclose(np.sum(np.abs(images) ** 2), np.sum(np.abs(data) ** 2), rtol=1e-5)
    assert images.dtype == np.complex64


@pytest.mark.parametrize("shape", [(8, 6), (7, 9)])
def test_the_centre_of_k_space_is_the_mean_and_a_ramp_is_a_shift(shape):
    data = np.zeros(shape, np.complex64)
    data[shape[0] // 2, shape[1] // 2] = 1
    np.testing.assert_allclose(to_images(data), 1 / np.sqrt(np.prod(shape)), atol=1e-6)
    kx = np.arange(shape[0]) - shape[0] // 2
    moved = to_images(np.exp(-2j * np.pi * kx * 2 / shape[0])[:, None] * np.ones(shape))
    assert np.unravel_index(np.argmax(np.abs(moved)), shape) == (shape[0] // 2 + 2, shape[1] // 2)


def test_noise_is_measured_under_the_signal_and_whitened_away():
    mixed = mixing()
    kspace = scan(level=30, mixed=mixed)
    expected = 2 * mixed @ mixed.conj().T
    found = coil_noise(kspace).covariance
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected))).real
    assert np.abs((found - expected) / size).max() < 0.1  # 3 456 samples: 2 % each
    white = whiten(np.matmul(mixed, noise(*SHAPE, seed=5)), found)
    flat = np.moveaxis(white, 3, 0).reshape(N, -1)
    np.testing.assert_allclose(flat @ flat.conj().T / flat.shape[1], 2 * np.eye(N), atol=0.15)


def test_with_the_true_covariance_whitening_is_exact():
    mixed = mixing()
    white = whiten(mixed[None, None, None].astype(np.complex64), 2 * mixed @ mixed.conj().T)
    product = white[0, 0, 0] @ white[0, 0, 0].conj().T
    np.testing.assert_allclose(product, np.eye(N), atol=1e-5)


def test_spikes_at_the_edge_of_k_space_do_not_count_as_noise():
    kspace = scan()
    clean = coil_noise(kspace).covariance
    kspace.data[:2, :2, 0, :, :2] += 300
    assert np.abs(coil_noise(kspace).covariance - clean).max() < 0.15


def first_repetition(kspace):
    return replace(kspace, data=kspace.data[..., :1].copy())


def test_signal_at_the_edge_is_told_from_noise():
    one = first_repetition(scan(level=30))
    assert coil_noise(one).excess == pytest.approx(1, abs=0.15)
    kx = np.abs(np.arange(X) - X // 2)
    one.data[:] *= np.exp((X // 2 - kx) / 5)[:, None, None, None, None]  # falls as signal does
    series = reconstruct(one)
    assert series.sidecar["Reconstruction"]["NoiseEdgeExcess"] > 1.15
    assert any("signal is left there" in n for n in series.sidecar["Reconstruction"]["Notes"])


def test_repetitions_part_noise_from_signal_at_the_edge():
    sharp = scan(level=0)
    point = np.zeros(SHAPE, np.complex64)
    point[20, 20] = 400  # fills all of k-space
    sharp.data[:] += to_kspace(point)
    assert np.diag(coil_noise(sharp).covariance).real == pytest.approx(2, rel=0.1)
    assert np.diag(coil_noise(first_repetition(sharp)).covariance).real.min() > 20


def test_the_same_scan_given_twice_is_refused():
    one = scan().data[..., :1]
    with pytest.raises(InputError, match="the same data"):
        reconstruct(KSpace(np.repeat(one, 2, axis=4), np.eye(4), True, (X, Y)))


@pytest.mark.parametrize("level", [0, 30])
def test_noise_of_the_combined_image_has_the_stated_sigma(level):
    kspace = scan(level, mixing())
    data = reconstruct(kspace).data
    assert data.dtype == np.complex64
    assert data.shape == (X, Y, Z, V)
    for where in (BACKGROUND, INSIDE):
        # repetitions differ by their noise alone
        assert sd_of_parts(np.diff(data[where], axis=-1)) / np.sqrt(2) == pytest.approx(1, rel=0.04)
    far = data[:6, :6] if level else data
    assert sd_of_parts(far) == pytest.approx(1, rel=0.05)
    assert np.mean(far.real**2) == pytest.approx(np.mean(far.imag**2), rel=0.12)


def test_noise_alone_has_the_stated_sigma_up_to_the_border_of_a_single_repetition():
    data = adaptive_combination(noise(60, 50, 4, 8, 1))[..., 0]
    assert sd_of_parts(data) == pytest.approx(1, rel=0.015)  # Walsh's own weights: 1.25
    border = np.concatenate([data[0], data[-1], data[:, 0], data[:, -1]])
    assert sd_of_parts(border) == pytest.approx(1, rel=0.05)


def test_weights_never_know_the_noise_they_are_applied_to():
    images = noise(X, Y, 1, N)
    before = adaptive_weights(images)
    images[20:23, 10:13] *= 50
    # up to one phase, which is the whole image's
    same = np.abs(np.sum(before.conj() * adaptive_weights(images), axis=3))
    assert same[21, 11] == pytest.approx(1, abs=1e-4)
    assert same[24, 11] < 0.99


def test_weights_are_the_sensitivities_and_the_signal_is_whole():
    coils = sensitivities()
    images = 50 * disc() * coils * np.ones((1, 1, 1, 1, 2)) + noise(X, Y, 1, N, 2)
    weights = adaptive_weights(images.mean(axis=4))
    np.testing.assert_allclose(np.linalg.norm(weights, axis=3), 1, rtol=1e-5)
    norm = np.linalg.norm(coils[:, :, 0, :, 0], axis=2)
    along = np.abs(np.sum(weights[:, :, 0].conj() * coils[:, :, 0, :, 0], axis=2)) / norm
    assert along[INSIDE].min() > 0.99
    combined = adaptive_combination(images)[:, :, 0]
    ratio = np.abs(combined.mean(axis=-1))[INSIDE] / (50 * norm[INSIDE])
    assert ratio.mean() == pytest.approx(1, abs=0.005)


def test_the_phase_of_the_combined_image_is_smooth():
    combined = reconstruct(scan(level=60)).data.mean(axis=-1)[:, :, 1]
    both = INSIDE[1:] & INSIDE[:-1]
    steps = np.angle(combined[1:] * combined[:-1].conj())[both]
    assert np.abs(steps).max() < 0.4


def test_the_root_of_squares_of_noise_is_chi_with_two_n_degrees_of_freedom():
    data = reconstruct(scan(mixed=mixing()), "rss").data
    assert data.dtype == np.float32
    one_in_three = data[::3, ::3].ravel()
    assert stats.kstest(one_in_three, stats.chi(2 * N).cdf).statistic < 0.05
    assert stats.kstest(one_in_three, stats.chi(2).cdf).statistic > 0.5


def test_adaptive_combination_has_less_floor_than_the_root_of_squares():
    kspace = scan(level=30)
    adaptive, rss = reconstruct(kspace, "magnitude").data, reconstruct(kspace, "rss").data
    assert adaptive[:6].mean() == pytest.approx(np.sqrt(np.pi / 2), rel=0.05)  # Rayleigh
    assert rss[:6].mean() == pytest.approx(stats.chi(2 * N).mean(), rel=0.05)
    assert adaptive[INSIDE].mean() == pytest.approx(rss[INSIDE].mean(), rel=0.02)


def test_sigma_stays_one_where_lines_at_the_edge_are_zero():
    kspace = scan()
    kspace.data[:, :10] = 0
    kspace.data[:3] = 0
    series = reconstruct(kspace)
    assert sd_of_parts(series.data) == pytest.approx(1, rel=0.05)
    assert series.sidecar["Reconstruction"]["MeasuredShare"] == pytest.approx(0.75 * 45 / 48, 1e-3)


def test_units_of_the_scanner_do_not_matter():
    kspace = scan(level=10, mixed=mixing())
    tiny = KSpace(kspace.data * np.float32(1e-6), np.eye(4), True, (X, Y))
    np.testing.assert_allclose(reconstruct(tiny).data, reconstruct(kspace).data, atol=1e-3)


def test_the_middle_of_an_oversampled_readout_is_kept():
    whole = reconstruct(scan(level=40), "rss").data
    half = reconstruct(scan(level=40, image_size=(24, 40)), "rss").data
    np.testing.assert_allclose(half, whole[12:36], rtol=1e-5)


def test_a_single_coil_is_not_combined():
    kspace = scan(level=20)
    one = KSpace(kspace.data[:, :, :, :1] * 7, np.eye(4), True, (X, Y))
    images = to_images(one.data)[:, :, :, 0]
    for combine in ("none", "adaptive"):
        data = reconstruct(one, combine).data
        np.testing.assert_allclose(data / images, (data / images)[0, 0, 0, 0], rtol=1e-3)
    assert reconstruct(one, "rss").sidecar["Reconstruction"]["NoiseLaw"] == "rician"


def test_the_images_lie_where_they_are_said_to_lie_after_writing_and_reading(tmp_path):
    affine = np.diag([-2.0, 3, 5, 1])
    affine[:3, 3] = [2 * 23.5, -3 * 19.5, -5]
    series = reconstruct(scan(level=20, affine=affine), "rss")
    assert series.fourth_axis == "repetitions"
    write_nifti(tmp_path / "a.nii.gz", series.data, series)
    back = load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(back.affine, affine, atol=1e-4)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(back.data, series.data)


@pytest.mark.parametrize(
    ("coils", "words"),
    [
        (lambda data: data * np.array([1, 1, 0, 1])[:, None], "coil 2"),
        (lambda data: data[:, :, :, [0, 1, 1, 2]], "repeat each other"),
        (lambda data: data[:4, :4, :1, :, :1], "too small"),
    ],
)
def test_coils_that_cannot_be_whitened_are_refused(coils, words):
    data = coils(scan().data)
    with pytest.raises(InputError, match=words):
        reconstruct(KSpace(data, np.eye(4), False, data.shape[:2]))


@pytest.mark.parametrize(("combine", "words"), [("none", "4 coils"), ("sense", "called sense")])
def test_a_combination_that_does_not_fit_is_a_usage_error(combine, words):
    with pytest.raises(InputError, match=words) as caught:
        reconstruct(scan(), combine)
    assert caught.value.status == 2


def test_root_of_squares_is_that():
    images = noise(3, 3, 1, N, 2)
    np.testing.assert_allclose(
        root_sum_of_squares(images), np.linalg.norm(images, axis=3), rtol=1e-5
    )
