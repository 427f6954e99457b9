"""Coils and k-space: noise as asked, correlated as by formula, and the image left as it was."""

import numpy as np
import pytest

from quell.kspace import to_images, to_kspace
from quell.series import InputError
from quell.simulate import Acquisition, acquire, image_phase, phantom, sensitivities
from quell.simulate.coils import unit_noise_of_coils

SHAPE = (40, 48, 12, 8)  # 184 000 voxels: a standard deviation is known to 0.2 %


def rng(seed=0):
    return np.random.default_rng(seed)


def flat(value):
    return np.full(SHAPE, value, np.float32)


def noise_of(how, seed=0):
    """(X, Y, Z, N) complex noise of sigma 1 in the samples."""
    mixing = np.linalg.cholesky(how.covariance).astype(np.float32)
    return unit_noise_of_coils((40, 48, 60), how.box((40, 48, 60)), mixing, rng(seed))


def along(noise, axis, lag=1):
    """Correlation of the real parts of voxels so far apart."""
    x = np.moveaxis(noise.real, axis, 0)
    return float((x[lag:] * x[:-lag]).mean() / (x**2).mean())


@pytest.mark.parametrize("n_coils", [1, 2, 3, 4, 9, 32])
def test_the_squares_of_the_sensitivities_sum_to_one(n_coils):
    maps = sensitivities((30, 44), n_coils)
    assert maps.shape == (30, 44, n_coils)
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(axis=-1), 1, rtol=1e-12)
    assert max(np.abs(np.diff(maps, axis=axis)).max() for axis in (0, 1)) < 0.12  # smooth


def test_each_of_four_coils_is_strongest_at_its_own_side():
    maps = np.abs(sensitivities((64, 64), 4))
    sides = [(0, 32), (63, 32), (32, 0), (32, 63)]  # as M4Raw's benchmark has them
    assert [int(maps[side].argmax()) for side in sides] == [0, 1, 2, 3]


def test_every_coil_has_the_noise_asked_for_and_none_shares_it():
    noise = noise_of(Acquisition(3))
    parts = np.concatenate([noise.real, noise.imag], axis=-1).reshape(-1, 6)
    np.testing.assert_allclose(np.cov(parts.T), np.eye(6), atol=0.02)
    assert abs(along(noise, 0)) < 0.01
    assert abs(along(noise, 1)) < 0.01


def test_the_noise_of_coils_correlates_as_asked():
    noise = noise_of(Acquisition(3, coil_correlation=0.3)).real.reshape(-1, 3)
    np.testing.assert_allclose(np.cov(noise.T), 0.7 * np.eye(3) + 0.3, atol=0.02)


@pytest.mark.parametrize("n_coils", [1, 4, 7])
def test_without_signal_the_mean_square_is_2n_variances(n_coils):
    y = acquire(flat(0.0), Acquisition(n_coils), rng(1)).at(3.0)
    assert (y.astype(float) ** 2).mean() == pytest.approx(2 * n_coils * 9, rel=0.01)


@pytest.mark.parametrize(
    "how",
    [
        Acquisition(4),
        Acquisition(4, "adaptive"),
        Acquisition(6, "adaptive", coil_correlation=0.4),
        Acquisition(4, "adaptive", partial_fourier=0.7, coil_correlation=0.2),
        Acquisition(4, partial_fourier=0.7, zero_fill=1.5),
    ],
)
def test_far_above_zero_the_noise_has_the_sigma_of_the_map(how):
    got = acquire(flat(1000.0), how, rng(2))
    z = (got.at(5.0) - got.truth) / (5 * got.sd_over_sigma[..., None])
    assert z.mean() == pytest.approx(0, abs=0.03)
    assert z.std() == pytest.approx(1, rel=0.015)
    inside = slice(8, -8)
    assert z[inside, inside].std() == pytest.approx(1, rel=0.02)


def test_coils_added_in_phase_keep_the_sigma_of_one():
    sd = acquire(flat(100.0), Acquisition(8, "adaptive"), rng()).sd_over_sigma
    np.testing.assert_allclose(sd, 1, rtol=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.75, 0.875])
def test_partial_fourier_scales_the_variance_and_correlates_along_the_phase_axis(share):
    how = Acquisition(1, partial_fourier=share)
    noise, n = noise_of(how), round(share * 48)
    assert noise.real.var() == pytest.approx(share, rel=0.02)
    middle = 48 / 2 - 1 - (n - 1) / 2  # of the lines measured, from that of k-space
    for lag in (1, 2):
        box = np.sin(np.pi * n * lag / 48) / (n * np.sin(np.pi * lag / 48))
        expected = box * np.cos(2 * np.pi * middle * lag / 48)
        assert along(noise, 1, lag) == pytest.approx(expected, abs=0.01)
        assert how.correlation((40, 48, 1), lag)[1] == pytest.approx(expected, abs=1e-12)
        assert abs(along(noise, 0, lag)) < 0.01


def test_zero_filling_scales_the_variance_and_correlates_along_both_axes():
    how = Acquisition(1, zero_fill=2)
    noise = noise_of(how)
    assert how.matrix((40, 48, 60)) == (20, 24)
    assert noise.real.var() == pytest.approx(1 / 4, rel=0.02)
    for axis, n in ((0, 40), (1, 48)):
        expected = 1 / (n / 2 * np.sin(np.pi / n)) * np.cos(np.pi / n)  # sin(π/2) above
        assert along(noise, axis) == pytest.approx(expected, abs=0.01)
        assert how.correlation((40, 48, 60))[axis] == pytest.approx(expected, abs=1e-12)
        assert abs(along(noise, axis, 2)) < 0.015


@pytest.mark.parametrize("n_coils", [1, 4, 5])
def test_fully_sampled_the_truth_is_the_image(n_coils):
    clean = phantom("small").clean.data
    got = acquire(clean, Acquisition(n_coils), rng())
    np.testing.assert_allclose(got.truth, clean, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got.at(0.0), got.truth)


def test_adaptive_weights_lose_little_of_the_image():
    small = phantom("small").clean
    truth = acquire(small.data, Acquisition(4, "adaptive"), rng()).truth
    lost = 1 - truth[small.mask] / small.data[small.mask]
    assert lost.min() > -1e-5  # weights of length one can't add any
    assert lost.mean() < 0.005


def test_one_draw_at_every_sigma_is_noise_added_in_kspace():
    clean = phantom("small").clean.data[..., :2]
    got = acquire(clean, Acquisition(3), rng(4))
    maps, again = sensitivities(clean.shape[:2], 3)[:, :, None], rng(4)
    turn = np.exp(1j * image_phase(clean.shape[:3]))
    for v in range(2):
        seen = to_kspace(clean[..., v, None] * maps * turn[..., None])
        parts = again.standard_normal((2, *seen.shape), np.float32)
        for sigma in (1.0, 60.0):
            coils = to_images(seen + sigma * (parts[0] + 1j * parts[1]))
            expected = np.sqrt((np.abs(coils) ** 2).sum(axis=-1))
            np.testing.assert_allclose(got.at(sigma)[..., v], expected, rtol=1e-4, atol=0.01)


def test_volumes_are_independent_and_the_input_stays():
    clean = flat(500.0)
    got = acquire(clean, Acquisition(2), rng(5))
    noise = (got.at(5.0) - got.truth).reshape(-1, SHAPE[3])
    assert np.abs(np.corrcoef(noise.T) - np.eye(SHAPE[3])).max() < 0.03
    np.testing.assert_array_equal(clean, flat(500.0))


def test_the_same_generator_gives_the_same_bytes():
    one, two = (acquire(flat(1.0), Acquisition(2), rng(6)).at(1.0) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert one.dtype == np.float32


def test_the_phase_makes_the_halves_of_kspace_differ():
    image = phantom("small").clean.data[:31, :35, 5, 0]  # odd: every sample has its mirror
    phase = image_phase((31, 35, 1))[..., 0]
    powers = [np.abs(to_kspace(image * turn)) ** 2 for turn in (1, np.exp(1j * phase))]
    real, turned = (np.abs(p - p[::-1, ::-1]).sum() / p.sum() for p in powers)
    assert real < 1e-5
    assert turned > 0.5


@pytest.mark.parametrize("share", [0.5, 0.55, 0.75, 1.0])
@pytest.mark.parametrize("factor", [1.0, 1.3, 2.0, 4.0])
@pytest.mark.parametrize("shape", [(32, 36), (31, 35), (9, 4), (1, 1)])
def test_the_middle_of_kspace_is_always_measured(shape, factor, share):
    for n, part in zip(shape, Acquisition(1, "rss", share, factor).box(shape), strict=True):
        assert 0 <= part.start <= n // 2 < part.stop <= n


@pytest.mark.parametrize(
    ("how", "law"),
    [
        (Acquisition(1), "rician"),
        (Acquisition(4), "nc-chi"),
        (Acquisition(4, "adaptive"), "rician"),
    ],
)
def test_the_law_is_that_of_the_combination(how, law):
    assert how.law == law


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_coils": 0}, "give 1 or more"),
        ({"combine": "sense"}, "give rss or adaptive"),
        ({"partial_fourier": 0.4}, "give 0.5 to 1"),
        ({"partial_fourier": float("nan")}, "give 0.5 to 1"),
        ({"zero_fill": 0.5}, "give 1 to 4"),
        ({"coil_correlation": 1.0}, "below 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(change, words):
    with pytest.raises(InputError, match=words) as refused:
        acquire(flat(1.0), Acquisition(**change), rng())
    assert refused.value.status == 2
