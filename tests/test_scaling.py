"""Scaling: noise of sd 1 at any signal, no bias on the way there and back, nothing else touched."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import ncx2, rice

from quell.scaling import IDENTITY, Scale, Stabiliser, sigma_of_spread
from quell.scaling.magnitudes import density, mean_magnitude, variance
from quell.scaling.stabiliser import THETA_END

N_COILS = [1, 1.7, 4, 64]
SIGNALS = [0, 0.5, 1, 1.5, 2, 3, 5, 10, 20]
N_DRAWS = 200_000


def draw(theta: float, n_coils: float, seed: int) -> np.ndarray:
    """Magnitudes of N coils with sigma = 1; N need not be whole."""
    rng = np.random.default_rng(seed)
    rest = rng.chisquare(2 * n_coils - 1, N_DRAWS)
    return np.sqrt((theta + rng.standard_normal(N_DRAWS)) ** 2 + rest)


def exact_moments(theta: float, n_coils: float) -> tuple[float, float]:
    """Mean and variance of f(m), by a plain sum over SciPy's density."""
    stabiliser = Stabiliser.of("nc-chi", n_coils)
    middle = float(stabiliser.mean_of(np.array(theta)))
    edges = np.linspace(max(middle - 9, 0), middle + 9, 3001)
    m = (edges[1:] + edges[:-1]) / 2
    p = 2 * m * ncx2.pdf(m**2, 2 * n_coils, theta**2)
    p, f = p / p.sum(), stabiliser.apply(m)
    return float(p @ f), float(p @ f**2 - (p @ f) ** 2)


@pytest.mark.parametrize("n_coils", N_COILS)
@pytest.mark.parametrize("theta", SIGNALS)
def test_there_and_back_has_no_bias(theta, n_coils):
    stabiliser = Stabiliser.of("nc-chi", n_coils)
    f = stabiliser.apply(draw(theta, n_coils, seed=int(10 * theta)))
    error = 3 * f.std() / np.sqrt(N_DRAWS)  # of the mean; carried through undo it grows near θ = 0
    low, high = stabiliser.undo(np.array([f.mean() - error, f.mean() + error]))
    assert low - 0.01 <= theta <= high + 0.01


@pytest.mark.parametrize("n_coils", [0.5, *N_COILS])
def test_undo_is_exact_for_the_exact_mean(n_coils):
    stabiliser = Stabiliser.of("nc-chi", n_coils)
    signals = np.arange(0.5, 30, 1.3)
    mean_f = [exact_moments(theta, n_coils)[0] for theta in signals]
    np.testing.assert_allclose(stabiliser.undo(np.array(mean_f)), signals, atol=1e-3)  # the tables


@pytest.mark.parametrize(
    ("n_coils", "low", "high", "high_from_2"),
    [(1, 0.96, 1.10, 1.04), (1.7, 0.97, 1.08, 1.04), (4, 0.98, 1.04, 1.04), (64, 0.99, 1.01, 1.01)],
)
def test_the_variance_after_f_is_near_one_at_any_signal(n_coils, low, high, high_from_2):
    after = {theta: exact_moments(theta, n_coils)[1] for theta in np.arange(0, 10, 0.25)}
    print(n_coils, *(f"{theta:g}:{v:.3f}" for theta, v in after.items()))
    assert low < min(after.values())
    assert max(after.values()) < high  # the raw variance at θ = 0 is 0.43 to 0.50
    assert max(v for theta, v in after.items() if theta >= 2) < high_from_2


def test_mean_and_variance_are_those_of_rice():
    theta = np.array([1e-6, 0.1, 1, 3, 9.99, 10, 10.01, 30])
    mean = mean_magnitude(theta, 1.0)
    law = rice(theta)
    np.testing.assert_allclose(mean, law.mean(), rtol=1e-12)
    np.testing.assert_allclose(variance(theta, mean, 1.0), law.var(), rtol=1e-8)


@pytest.mark.parametrize("n_coils", [0.5, 1, 4.3, 64])
def test_the_mean_is_smooth_where_one_series_hands_over_to_the_other(n_coils):
    theta = np.linspace(9.9, 10.1, 201)
    bend = np.diff(mean_magnitude(theta, n_coils), 2)
    np.testing.assert_allclose(bend, np.median(bend), atol=1e-8)  # a jump would stand out in it


def test_half_a_coil_is_the_absolute_value_of_a_gaussian():
    theta = np.array([0.0, 1.0, 20.0])
    expected = [np.sqrt(2 / np.pi), 1.1666309, 20.0]  # E|θ + n|
    np.testing.assert_allclose(mean_magnitude(theta, 0.5), expected, rtol=1e-7)


@pytest.mark.parametrize("n_coils", [0.5, 1, 4.3, 64])
def test_the_density_is_that_of_scipy(n_coils):
    m, theta = np.linspace(0.05, 30, 300), np.array([[1e-5], [0.3], [5.0], [20.0]])
    expected = 2 * m * ncx2.pdf(m**2, 2 * n_coils, theta**2)
    np.testing.assert_allclose(density(m, theta, n_coils), expected, atol=1e-12)


@pytest.mark.parametrize("n_coils", [0.5, *N_COILS])
def test_the_tables_increase_and_end_as_straight_lines(n_coils):
    s = Stabiliser.of("nc-chi", n_coils)
    for table in (s.m, s.f, s.theta, s.mean, s.eta):
        assert (np.diff(table) > 0).all()
    far = np.array([1e3, 1e6, THETA_END])
    np.testing.assert_allclose(s.apply(far), far, atol=n_coils / 1e3)  # f(m) ≈ m - (N - ½)/2m
    np.testing.assert_allclose(s.undo(s.apply(far)), far, atol=n_coils / 1e3)
    below = s.apply(s.mean[0] - np.array([3.0, 2.0, 1.0, 0.0]))
    np.testing.assert_allclose(np.diff(below, 2), 0, atol=1e-9)


def test_less_than_pure_noise_is_no_signal():
    s = Stabiliser.of("rician")
    d = s.eta[0] - np.array([0, 0.5, 100])
    np.testing.assert_array_equal(s.undo(d), 0)


def test_a_mean_below_pure_noise_is_kept_but_never_negative():
    s = Stabiliser.of("rician")
    m = np.array([0.3, 0.6, 0.9])  # as in air that the scanner dimmed
    means = s.undo_to_mean(s.apply(m) - s.apply(s.mean[0]) + s.eta[0])
    np.testing.assert_allclose(means, m, atol=1e-9)
    assert s.undo_to_mean(np.array(-100.0)) == 0


def test_tables_are_made_once_and_cannot_be_changed():
    one = Stabiliser.of("rician")
    assert one is Stabiliser.of("nc-chi", 1)
    with pytest.raises(ValueError, match="read-only"):
        one.f[0] = 0


SHAPE = (6, 5, 4)
SIGMA = np.linspace(2, 9, 120).reshape(SHAPE)


def some_data(*axes: int, order: str = "C") -> np.ndarray:
    data = 200 * np.random.default_rng(0).random((*SHAPE, *axes))
    return np.array(data, np.float32, order=order)


@pytest.mark.parametrize("law", ["gaussian", "rician"])
@pytest.mark.parametrize("axes", [(), (1,), (3,)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_shape_type_and_input_stay(law, axes, order):
    data = some_data(*axes, order=order)
    before, scale = data.copy(), Scale.of(SIGMA, law)
    for convert in (scale.apply, scale.undo, scale.undo_keeping_floor):
        out = convert(data)
        assert out.shape == data.shape
        assert out.dtype == np.float32
        assert not np.shares_memory(out, data)
        np.testing.assert_array_equal(data, before)


def test_with_gaussian_noise_scaling_is_division_by_sigma():
    data, scale = some_data(3) - 100, Scale.of(SIGMA, "gaussian")
    scaled = scale.apply(data)
    np.testing.assert_allclose(scaled, data / SIGMA[..., None], rtol=1e-6)
    np.testing.assert_allclose(scale.undo(scaled), data, rtol=1e-6)
    np.testing.assert_allclose(scale.undo_keeping_floor(scaled), data, rtol=1e-6)


def test_complex_data_stay_complex():
    data, scale = some_data(2) * np.complex64(1 + 2j), Scale.of(SIGMA, "gaussian")
    assert scale.apply(data).dtype == np.complex64
    np.testing.assert_allclose(scale.undo(scale.apply(data)), data, rtol=1e-6)
    with pytest.raises(ValueError, match="a magnitude's law does not fit"):
        Scale.of(SIGMA, "rician").apply(data)


def test_every_voxel_is_scaled_by_its_own_sigma():
    scale, theta = Scale.of(SIGMA, "nc-chi", 4), 6.0
    y = draw(theta, 4, seed=1)[:120_000].reshape(*SHAPE, 1000) * SIGMA[..., None]
    scaled = scale.apply(y)
    assert scaled.std() == pytest.approx(1, abs=0.01)
    signal = scale.undo(scaled.mean(axis=3)) / SIGMA
    assert np.abs(signal - theta).max() < 0.13  # 4 of 1/sqrt(1000)
    kept = scale.undo_keeping_floor(scaled.mean(axis=3)) / SIGMA
    np.testing.assert_allclose(kept, (y / SIGMA[..., None]).mean(axis=3), atol=0.02)


def test_the_floor_kept_is_the_mean_of_the_signal_without_it():
    s = Stabiliser.of("nc-chi", 3)
    d = np.linspace(s.eta[0], 40, 200)
    # the two tables round differently: largest just above the floor, where undo is steep
    np.testing.assert_allclose(s.undo_to_mean(d), s.mean_of(s.undo(d)), atol=1e-3)


def test_units_do_not_matter():
    data = some_data(2)
    one, thousand = Scale.of(SIGMA, "rician"), Scale.of(1000 * SIGMA, "rician")
    np.testing.assert_allclose(one.apply(data), thousand.apply(1000 * data), atol=1e-5)


@pytest.mark.parametrize("n_coils", [0.5, 1.0, 4.0, 64.0])
def test_the_table_for_float32_says_what_the_exact_one_says(n_coils):
    stabiliser = Stabiliser.of("nc-chi", n_coils)
    for top in (3, 30, 300, 3e4, 1e6):
        x = np.linspace(-top / 5, top, 50_001, dtype=np.float32)
        for function in (stabiliser.apply, stabiliser.undo_to_mean):
            exact = function(x.astype(float))
            np.testing.assert_allclose(function(x), exact, rtol=1e-6, atol=3e-6)


def test_memory_is_one_result_and_a_few_volumes():
    data = np.ones((32, 32, 32, 200), np.float32)
    scale = Scale.of(np.ones((32, 32, 32)), "rician")
    tracemalloc.start()
    scale.apply(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < data.nbytes * (1 + 16 / 200)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, 1e-60])
def test_a_sigma_that_is_no_positive_number_is_refused(bad):
    sigma = SIGMA.copy()
    sigma[0, 0, :2] = bad
    with pytest.raises(ValueError, match="in 2 of 120 voxels"):
        Scale.of(sigma, "rician")


@pytest.mark.parametrize(
    ("law", "n_coils", "words"),
    [
        ("poisson", 1, "gaussian, rician, nc-chi"),
        ("rician", 4, "only nc-chi"),
        ("gaussian", 2, "only nc-chi"),
        ("nc-chi", 0, "between 0.5 and 64"),
        ("nc-chi", 65, "between 0.5 and 64"),
        ("nc-chi", np.nan, "between 0.5 and 64"),
    ],
)
def test_a_law_that_does_not_exist_is_refused_in_words(law, n_coils, words):
    with pytest.raises(ValueError, match=words):
        Stabiliser.of(law, n_coils)


def test_what_lies_on_another_grid_is_refused():
    with pytest.raises(ValueError, match="give a map"):
        Scale.of(np.array(1.0), "gaussian")
    for shape in [(6, 5), (6, 5, 3), (6, 5, 4, 2, 2)]:
        with pytest.raises(ValueError, match="not on the grid"):
            Scale.of(SIGMA, "gaussian").apply(np.ones(shape))


def test_gaussian_has_nothing_to_stabilise():
    assert Stabiliser.of("gaussian") is IDENTITY
    values = np.array([-3.0, 0.0, 5.0])
    for way in (IDENTITY.apply, IDENTITY.undo, IDENTITY.undo_to_mean, IDENTITY.mean_of):
        np.testing.assert_array_equal(way(values), values)


def test_the_floor_comes_off_a_mean_magnitude():
    theta = np.linspace(0, 12, 50).reshape(5, 5, 2).astype(np.float32)
    sigma = np.full(theta.shape, 7.0, np.float32)
    for law, n_coils in (("rician", 1.0), ("nc-chi", 4.0)):
        scale = Scale.of(sigma, law, n_coils)
        mean = (scale.stabiliser.mean_of(theta) * 7).astype(np.float32)
        np.testing.assert_allclose(scale.without_floor(mean), 7 * theta, atol=0.05)
        assert (scale.without_floor(0 * mean + 3.0) == 0).all()  # below pure noise
    np.testing.assert_allclose(Scale.of(sigma, "gaussian").without_floor(theta), theta, rtol=1e-6)


@pytest.mark.parametrize("n_coils", [1, 4])
def test_sigma_follows_from_the_spread_of_magnitudes_at_any_signal(n_coils):
    """Volumes of different signal share one sigma: the mean of their variances gives it."""
    stabiliser = Stabiliser.of("nc-chi", n_coils)
    theta = np.array([[1.0, 2.0, 5.0, 20.0], [2.5, 2.5, 3.0, 4.0], [9.0, 30.0, 40.0, 90.0]])
    mean = mean_magnitude(theta.ravel(), n_coils).reshape(theta.shape)
    spread = np.sqrt(variance(theta, mean, n_coils).mean(axis=1))
    assert spread[0] < 0.95  # of sigma
    for sigma in (1.0, 37.0):
        found = sigma_of_spread(sigma * spread, sigma * mean, stabiliser)
        np.testing.assert_allclose(found, sigma, rtol=0.004)


def test_sigma_of_pure_noise_ends_a_little_low_and_gaussian_noise_stays():
    stabiliser = Stabiliser.of("rician")
    mean, spread = np.sqrt(np.pi / 2), np.sqrt(2 - np.pi / 2)  # of a Rayleigh distribution
    found = sigma_of_spread(np.array([spread, 0.0]), np.full((2, 3), mean), stabiliser)
    assert found[0] == pytest.approx(0.93, abs=0.01)  # the spread itself is 0.66
    assert found[1] == 0
    same = np.array([3.0, 4.0])
    np.testing.assert_array_equal(sigma_of_spread(same, np.ones((2, 5)), IDENTITY), same)
