"""Corruption: the moments of each law, correlation and variance as asked, nothing else touched."""

import numpy as np
import pytest

from quell.simulate.corruption import LAWS, corrupt, g_factor, tap, unit_noise

SHAPE = (40, 40, 20, 10)  # 320 000 values: a standard error of a mean of 0.002 sigma


def flat(value: float) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def test_gaussian_noise_has_the_mean_and_deviation_asked_for():
    noise = corrupt(flat(5.0), 2.0, np.random.default_rng(0)) - 5
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(2, rel=0.01)


def test_rician_noise_without_signal_is_rayleigh():
    y = corrupt(flat(0.0), 3.0, np.random.default_rng(1), "rician")
    assert y.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.005)
    assert y.var() == pytest.approx(9 * (2 - np.pi / 2), rel=0.01)


@pytest.mark.parametrize("n_coils", [1, 4])
def test_nc_chi_mean_of_squares_is_signal_squared_plus_2n_variances(n_coils):
    y = corrupt(flat(4.0), 2.0, np.random.default_rng(2), "nc-chi", n_coils)
    assert (y.astype(float) ** 2).mean() == pytest.approx(16 + 2 * n_coils * 4, rel=0.005)


def test_rician_is_nc_chi_of_one_coil():
    rician = corrupt(flat(1.0), 1.0, np.random.default_rng(3), "rician")
    np.testing.assert_array_equal(
        rician, corrupt(flat(1.0), 1.0, np.random.default_rng(3), "nc-chi", 1)
    )


def test_a_magnitude_without_noise_is_the_image():
    for law in LAWS:
        y = corrupt(flat(7.0), 0.0, np.random.default_rng(4), law)
        np.testing.assert_array_equal(y, flat(7.0))


def test_sigma_may_change_from_voxel_to_voxel():
    sigma = np.ones(SHAPE[:3], np.float32)
    sigma[20:] = 3
    noise = corrupt(flat(0.0), sigma, np.random.default_rng(5))
    assert noise[:20].std() == pytest.approx(1, rel=0.01)
    assert noise[20:].std() == pytest.approx(3, rel=0.01)


def lag_1(noise: np.ndarray, axis: int) -> float:
    n = noise.shape[axis]
    below, above = np.take(noise, range(n - 1), axis), np.take(noise, range(1, n), axis)
    return float((below * above).mean() / (noise**2).mean())


@pytest.mark.parametrize("asked", [(0.17, 0.34, 0.0), (0.6, -0.3, 0.7), None])
def test_neighbours_correlate_as_asked(asked):
    noise = corrupt(
        np.zeros((48, 48, 24, 12), np.float32), 1.0, np.random.default_rng(6), correlation=asked
    )
    got = [lag_1(noise, axis) for axis in range(3)]
    np.testing.assert_allclose(got, asked or (0, 0, 0), atol=0.01)


def test_the_parts_of_a_magnitude_correlate_too():
    y = corrupt(flat(1000.0), 1.0, np.random.default_rng(7), "rician", correlation=(0.0, 0.5, 0.0))
    assert lag_1(y - y.mean(), 1) == pytest.approx(0.5, abs=0.01)  # far from zero: Gaussian


def test_correlated_noise_keeps_unit_variance_at_the_edges():
    noise = corrupt(
        np.zeros((24, 24, 24, 40), np.float32), 1.0, np.random.default_rng(8),
        correlation=(0.5, 0.5, 0.5),
    )  # fmt: skip
    faces = [noise[0], noise[-1], noise[:, 0], noise[:, -1], noise[:, :, 0], noise[:, :, -1]]
    for face in [*faces, noise]:
        assert face.std() == pytest.approx(1, abs=0.03)  # 23 000 values with few independent


def test_the_tap_gives_the_correlation_of_its_formula():
    for r in (-0.7, -0.2, 0.0, 0.17, 0.34, 0.7071):
        a = tap(r)
        assert 2 * a / (1 + 2 * a * a) == pytest.approx(r, abs=1e-12)


def test_volumes_are_independent():
    noise = corrupt(flat(0.0), 1.0, np.random.default_rng(9), correlation=(0.3, 0.3, 0.3))
    r = np.corrcoef(noise.reshape(-1, SHAPE[3]).T) - np.eye(SHAPE[3])
    assert np.abs(r).max() < 0.04


@pytest.mark.parametrize("law", LAWS)
def test_the_same_generator_gives_the_same_bytes_and_the_input_stays(law):
    clean = flat(2.0)
    one, two = (corrupt(clean, 1.0, np.random.default_rng(10), law) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert one.dtype == np.float32
    np.testing.assert_array_equal(clean, flat(2.0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"law": "poisson"}, "gaussian, rician, nc-chi"),
        ({"n_coils": 4}, "only nc-chi"),
        ({"sigma": -1.0}, "zero or positive"),
        ({"sigma": np.nan}, "zero or positive"),
        ({"sigma": np.ones((2, 2))}, "give a number or a"),
        ({"correlation": (0.8, 0.0, 0.0)}, "out of reach"),
        ({"clean": np.zeros((4, 4, 4))}, "must be real"),
        ({"clean": np.zeros((4, 4, 4, 2), np.complex64)}, "must be real"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(change, words):
    arguments = {"clean": np.zeros((4, 4, 4, 2)), "sigma": 1.0, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=words):
        corrupt(**(arguments | change))


def test_noise_fits_a_single_slice():
    assert unit_noise((8, 9, 1), np.random.default_rng(0), (0.2, 0.2, 0.0)).shape == (8, 9, 1)


def test_the_g_factor_peaks_in_the_centre_and_is_one_on_average_over_the_head():
    g = g_factor((64, 80, 6), 1.8)
    x, y = np.meshgrid((np.arange(64) - 32) / 32, (np.arange(80) - 40) / 40, indexing="ij")
    assert g[32, 40, 3] == g.max() == pytest.approx(1.8)
    assert g[np.hypot(x, y) <= 0.8].mean() == pytest.approx(1, abs=1e-5)
    assert 0.3 < g.min() < 1
    assert np.abs(np.diff(g, axis=0)).max() < 0.1  # smooth


def test_a_g_factor_peak_of_one_changes_nothing():
    np.testing.assert_allclose(g_factor((16, 16, 2), 1.0), 1)


@pytest.mark.parametrize("peak", [0.5, 5.0])
def test_a_g_factor_out_of_range_is_refused(peak):
    with pytest.raises(ValueError, match="choose at least 1"):
        g_factor((32, 32, 4), peak)
