"""Noise: map, correlation and law of a scan are found again; drawn noise is like it."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

import quell
from quell.background import coils_of_background
from quell.noise import (
    LAGS,
    NoiseModel,
    draw,
    learn,
    n_noise_components,
    power_spectrum,
    principal_components,
    remarks,
)
from quell.scaling import Scale
from quell.series import InputError, Series, mask_of
from quell.simulate import Phantom, PhantomSettings, corrupt, g_factor, phantom
from quell.simulate.corruption import tap

SIGMA = 30.0  # signal-to-noise of 25 in white matter at b=0
AS_MEASURED = (0.17, 0.34, 0.0)  # what a scanner's partial Fourier and filters leave
DATA = Path(os.environ.get("QUELL_DATA", Path(__file__).parents[2] / "shared" / "data"))
SPHERE = DATA / "phantom-noise-sense3mb3"


@pytest.fixture(scope="module")
def head() -> Phantom:
    """24 volumes of 2 mm voxels: enough of both for a noise model as on a real scan."""
    settings = PhantomSettings(
        (48, 56, 10), 2.0, 3, ((1000.0, 21),), seed=5, brain_mm=(40.0, 50.0, 60.0)
    )
    return phantom(settings)


def scan(head: Phantom, law="rician", n_coils=1, correlation=None, seed=1) -> Series:
    """The head with noise spread by a g-factor."""
    sigma = SIGMA * g_factor(head.clean.data.shape[:3])
    rng = np.random.default_rng(seed)
    return replace(head.clean, data=corrupt(head.clean.data, sigma, rng, law, n_coils, correlation))


def relative(noise: NoiseModel, mask: np.ndarray) -> np.ndarray:
    """Learned over true sigma, in the mask."""
    return noise.sigma[mask] / (SIGMA * g_factor(mask.shape)[mask])


def model(correlation: tuple[float, float, float], shape=(64, 64, 1)) -> NoiseModel:
    """The exact model of `corrupt`: lags 1 and 2 of the kernel (a, 1, a) along every axis."""
    parts = []
    for lag, a in zip(LAGS, map(tap, correlation), strict=True):
        parts.append(np.zeros(2 * lag + 1))
        parts[-1][lag - 2 : lag + 3] = np.array([a * a, 2 * a, 1 + 2 * a * a, 2 * a, a * a])
        parts[-1] /= parts[-1][lag]
    covariance = np.einsum("i,j,k->ijk", *parts)
    return NoiseModel(np.ones(shape, np.float32), covariance, "gaussian", 1.0, "", 1, np.ones(1))


def covariance_at(fields: np.ndarray, lag: tuple[int, ...]) -> float:
    """Mean product of values so far apart along the last axes; the fields have mean 0."""
    lead = (slice(None),) * (fields.ndim - len(lag))
    near = fields[(*lead, *(slice(0, n - d) for n, d in zip(fields.shape[-len(lag) :], lag)))]  # noqa: B905
    far = fields[(*lead, *(slice(d, None) for d in lag))]
    return float((near * far).mean(dtype=np.float64))


# ---- learned: map, correlation, law ---------------------------------------------------------


@pytest.mark.parametrize(("law", "n_coils"), [("gaussian", 1), ("rician", 1), ("nc-chi", 4)])
@pytest.mark.parametrize("correlation", [None, AS_MEASURED])
def test_the_noise_map_follows_the_g_factor(head, law, n_coils, correlation):
    noise = learn(scan(head, law, n_coils, correlation), head.clean.mask, law, n_coils)
    error = relative(noise, head.clean.mask)
    # Signal left in the smallest components adds 1 to 2 %; counting noise adds about 1 %.
    assert np.median(np.abs(error - 1)) < 0.03
    assert np.quantile(np.abs(error - 1), 0.95) < 0.12  # the window of 5 mm flattens the hill


@pytest.mark.parametrize("law", ["gaussian", "rician"])
@pytest.mark.parametrize("correlation", [(0.0, 0.0, 0.0), AS_MEASURED, (0.0, 0.0, 0.3)])
def test_the_correlation_of_neighbours_is_found_again(head, law, correlation):
    noise = learn(scan(head, law, 1, correlation), head.clean.mask, law)
    # 15 000 voxels x 12 components give 0.003; signal left in them gives 0.01 to 0.02.
    assert noise.lag_one() == pytest.approx(correlation, abs=0.025)
    assert noise.covariance[LAGS] == 1


def test_at_low_signal_the_correlation_is_that_of_the_stabilised_magnitude(head):
    """A magnitude of many coils correlates less than its Gaussian parts, and methods need that."""
    sigma = np.full(head.clean.mask.shape, 2 * SIGMA, np.float32)
    law = {"law": "nc-chi", "n_coils": 4}
    y = corrupt(head.clean.data, sigma, np.random.default_rng(3), correlation=AS_MEASURED, **law)
    noise = learn(replace(head.clean, data=y), head.clean.mask, **law)
    scale, few = Scale.of(sigma, *law.values()), head.clean.data[..., :8]
    draws = [
        scale.apply(corrupt(few, sigma, np.random.default_rng(s), correlation=AS_MEASURED, **law))
        for s in range(8)
    ]
    error = np.stack(draws) - np.mean(draws, axis=0)
    inside = ndimage.binary_erosion(head.clean.mask)
    for axis, learned in enumerate(noise.lag_one()[:2]):
        product = (error * np.roll(error, 1, axis=1 + axis))[:, inside].mean()
        itself = product / (error**2)[:, inside].mean()
        assert itself < AS_MEASURED[axis] - 0.02
        assert learned == pytest.approx(itself, abs=0.015)


def test_without_signal_the_whole_covariance_is_found_again(head):
    still = np.zeros_like(head.clean.data)
    y = corrupt(still, SIGMA, np.random.default_rng(2), correlation=AS_MEASURED)
    noise = learn(replace(head.clean, data=y), head.clean.mask)
    exact = model(AS_MEASURED).covariance
    # 15 000 x 12 products a lag: a standard error of 0.003; the largest of 845 lags is 4 of them
    np.testing.assert_allclose(noise.covariance, exact, atol=0.015)


def test_twice_the_scan_has_twice_the_noise(head):
    y = scan(head)
    once, twice = (learn(replace(y, data=c * y.data), y.mask) for c in (1, 2))
    np.testing.assert_array_equal(twice.sigma, 2 * once.sigma)  # doubling rounds nothing
    np.testing.assert_array_equal(twice.covariance, once.covariance)


def test_a_background_set_to_zero_changes_nothing_in_the_mask(head):
    y = scan(head)
    zeroed = np.where(y.mask[..., None], y.data, 0)
    a, b = learn(y, y.mask), learn(replace(y, data=zeroed), y.mask)
    np.testing.assert_array_equal(a.sigma[y.mask], b.sigma[y.mask])
    np.testing.assert_array_equal(a.covariance, b.covariance)


def test_signed_data_are_gaussian_and_magnitudes_rician(head):
    y = scan(head, "gaussian")
    assert learn(y, y.mask).law == "gaussian"
    magnitude = replace(y, data=np.abs(y.data))
    assert learn(magnitude, y.mask).law == "rician"
    assert learn(magnitude, y.mask, n_coils=4).law == "nc-chi"


@pytest.mark.parametrize("n_coils", [1, 4, 12])
def test_the_number_of_coils_is_read_from_the_air(head, n_coils):
    sigma = SIGMA * g_factor(head.clean.mask.shape)
    y = corrupt(head.clean.data, sigma, np.random.default_rng(3), "nc-chi", n_coils)
    # the mask leaves the scalp out, so it has to be told from air: its dark edges cost a few %
    assert coils_of_background(y, head.clean.mask) == pytest.approx(n_coils, rel=0.05)


def test_a_zeroed_background_says_nothing_about_coils(head):
    y = scan(head, "nc-chi", 4)
    zeroed = replace(y, data=np.where(y.mask[..., None], y.data, 0))
    assert coils_of_background(zeroed.data, y.mask) is None
    with pytest.raises(InputError, match="--coils"):
        learn(zeroed, y.mask, "nc-chi")


def test_coils_from_the_background_are_named_in_the_source(head):
    y = corrupt(head.clean.data, SIGMA, np.random.default_rng(4), "nc-chi", 4)
    noise = learn(replace(head.clean, data=y), head.clean.mask, "nc-chi")
    assert noise.n_coils == pytest.approx(4, rel=0.05)
    assert f"N = {noise.n_coils:.1f} from the background" in noise.source


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("n_volumes", [12, 24, 60])
def test_rank_k_signal_leaves_all_but_k_components_for_noise(rank, n_volumes):
    rng = np.random.default_rng(rank)
    signal = rng.standard_normal((20_000, rank)) @ rng.standard_normal((rank, n_volumes))
    _, values, _ = principal_components(5 * signal + rng.standard_normal(signal.shape[:2]))
    assert n_noise_components(values, 20_000) == n_volumes - rank


def test_of_pure_noise_all_but_one_component_count_as_noise():
    y = np.random.default_rng(0).standard_normal((20_000, 24))
    _, values, _ = principal_components(y)
    assert n_noise_components(values, 20_000) == 23  # a scan is taken to show something


def test_principal_components_are_those_of_the_covariance():
    Y = np.random.default_rng(0).standard_normal((70_000, 5)) * [5, 4, 3, 2, 1] + 7  # two chunks
    mean, values, vectors = principal_components(Y)
    np.testing.assert_allclose(mean, Y.mean(axis=0), rtol=1e-6)  # float32
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-12)
    cov = np.cov(Y, rowvar=False, bias=True)
    np.testing.assert_allclose(vectors.T @ cov @ vectors, np.diag(values), atol=1e-5)  # float32


# ---- a given map, and what is refused --------------------------------------------------------


def test_a_given_map_is_obeyed_and_only_the_correlation_learned(head):
    y = scan(head, correlation=AS_MEASURED)
    given = 1.3 * SIGMA * g_factor(y.mask.shape)
    noise = learn(y, y.mask, sigma=given)
    np.testing.assert_array_equal(noise.sigma, given)
    assert noise.source == "map given"
    assert noise.lag_one() == pytest.approx(AS_MEASURED, abs=0.03)


def test_holes_of_a_given_map_outside_the_mask_are_filled(head):
    y = scan(head)
    noise = learn(y, y.mask, sigma=np.where(y.mask, SIGMA, np.nan))
    np.testing.assert_array_equal(noise.sigma, np.float32(SIGMA))


def test_a_map_that_does_not_fit_is_refused(head):
    y = scan(head)
    with pytest.raises(InputError, match="on the scan's grid"):
        learn(y, y.mask, sigma=np.ones((4, 4, 4)))
    with pytest.raises(InputError, match="not positive"):
        learn(y, y.mask, sigma=np.zeros(y.mask.shape))


def test_a_mask_too_small_to_learn_from_is_refused(head):
    mask = np.zeros(head.clean.mask.shape, bool)
    mask[20:24, 20:24, 5] = True
    with pytest.raises(InputError, match="16 voxels"):
        learn(scan(head), mask)


@pytest.mark.parametrize("choice", [{"law": "poisson"}, {"n_coils": 100.0}, {"n_coils": 0.0}])
def test_a_law_that_does_not_exist_is_refused_as_a_wrong_choice(head, choice):
    with pytest.raises(InputError) as refusal:
        learn(head.clean, head.clean.mask, **choice)
    assert refusal.value.status == 2


# ---- few volumes -------------------------------------------------------------------------------

FALL_BACKS = {
    "b0 volumes": (lambda n: np.zeros(n), lambda n: np.zeros((n, 3))),
    "neighbouring directions": (
        lambda n: np.r_[0, np.full(n - 1, 1000.0)],
        lambda n: np.r_[np.zeros((1, 3)), np.tile([0.6, 0.8, 0.0], (n - 1, 1))],
    ),
    "consecutive volumes": (lambda n: None, lambda n: None),
}


@pytest.mark.parametrize("law", ["gaussian", "rician"])
@pytest.mark.parametrize(
    ("n_volumes", "known_as"),
    [(2, "b0 volumes"), (2, "consecutive volumes")]
    + [(n, words) for n in (4, 6) for words in FALL_BACKS],
)
def test_few_repeats_of_one_image_still_show_the_noise(head, law, n_volumes, known_as):
    bvals, bvecs = FALL_BACKS[known_as]
    image = np.repeat(head.clean.data[..., :1], n_volumes, axis=3)
    y = corrupt(image, SIGMA * g_factor(image.shape[:3]), np.random.default_rng(5), law)
    few = replace(head.clean, data=y, bvals=bvals(n_volumes), bvecs=bvecs(n_volumes))
    noise = learn(few, few.mask, law)
    if known_as == "b0 volumes":
        assert known_as in noise.source
        # one difference of two images, in a window of about 200 voxels: 5 %; Rician 2 % of bias
        assert np.median(np.abs(relative(noise, few.mask) - 1)) < 0.06
        assert np.median(relative(noise, few.mask)) == pytest.approx(1, abs=0.03)
    else:  # nobody knows that they show the same
        assert "small places" in noise.source
        assert np.median(relative(noise, few.mask)) == pytest.approx(1, abs=0.08)
    assert not noise.is_upper_bound


def test_few_volumes_are_not_called_smoothed_for_their_contrast(head):
    y = scan(head, "gaussian")
    few = replace(y, data=y.data[..., :6], bvals=None, bvecs=None)
    assert "no-noise-bulk" not in {finding.code for finding in remarks(learn(few, few.mask))}


def test_equal_b0s_are_preferred_and_need_no_warning(head):
    image = np.repeat(head.clean.data[..., :1], 4, axis=3)
    y = corrupt(image, SIGMA, np.random.default_rng(6))
    bvals = np.array([0, 1000.0, 0, 1000.0])
    few = replace(head.clean, data=y, bvals=bvals, bvecs=np.zeros((4, 3)))
    noise = learn(few, few.mask)
    assert not noise.is_upper_bound  # whether from their difference or from small places
    assert np.median(noise.sigma[few.mask]) == pytest.approx(SIGMA, rel=0.05)
    assert remarks(noise) == []


# ---- remarks -----------------------------------------------------------------------------------


def test_correlated_noise_is_remarked_and_white_noise_is_not(head):
    white, correlated = (
        learn(scan(head, correlation=c), head.clean.mask) for c in (None, AS_MEASURED)
    )
    assert remarks(white) == []
    assert [finding.code for finding in remarks(correlated)] == ["correlated-noise"]


def test_components_of_unequal_noise_are_remarked(head):
    rng, V = np.random.default_rng(7), head.clean.n_volumes
    rotation = np.linalg.qr(rng.standard_normal((V, V)))[0]
    sizes = np.linspace(0.3, 1, V)  # as if the series had been smoothed along its volumes
    y = (rng.standard_normal(head.clean.data.shape) @ (rotation * sizes) @ rotation.T) * SIGMA
    noise = learn(replace(head.clean, data=y.astype(np.float32)), head.clean.mask)
    assert "no-noise-bulk" in {finding.code for finding in remarks(noise)}


# ---- drawn -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (9, 19), (21, 9), (12, 69)])  # some end on odd sizes
def test_drawn_noise_has_the_covariance_of_the_model(shape):
    noise = model((0.3, -0.5, 0.0))
    n = 2_000_000 // (shape[0] * shape[1])
    rng = torch.Generator().manual_seed(0)
    fields = draw(noise.in_plane_filter(shape), (n, *shape), rng).numpy()
    assert fields.shape == (n, *shape)
    for lag in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (3, 0), (5, 0)]:
        expected = noise.covariance[LAGS[0] + lag[0], LAGS[1] + lag[1], LAGS[2]]
        assert covariance_at(fields, lag) == pytest.approx(
            expected, abs=0.006
        )  # 4 / sqrt(n values)


def test_drawn_noise_has_unit_variance_up_to_the_edges_and_does_not_wrap():
    noise = model((0.6, 0.6, 0.0))
    rng = torch.Generator().manual_seed(1)
    fields = draw(noise.in_plane_filter((20, 20)), (5000, 20, 20), rng)
    np.testing.assert_allclose(fields.var(dim=0), 1, atol=0.1)  # 5 standard errors of 0.02
    across = (fields[:, 0] * fields[:, -1]).mean()  # first and last line: far apart
    assert float(across) == pytest.approx(0, abs=0.02)


def test_a_drawn_volume_has_the_map_and_the_covariance_of_the_model():
    shape = (24, 20, 12)
    noise = replace(model((0.3, -0.5, 0.4)), sigma=SIGMA * g_factor(shape))
    rng = np.random.default_rng(0)
    fields = np.stack([noise.draw_volume(rng) for _ in range(200)]) / noise.sigma
    np.testing.assert_allclose(
        fields.var(axis=(0, 3)), 1, atol=0.25
    )  # 5 standard errors: edges too
    for lag in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (2, 0, 0)]:
        expected = noise.covariance[tuple(np.add(LAGS, lag))]
        # 0 to 0.01: the lag of 2 slices is the last one measured, and tapered
        assert covariance_at(fields, lag) == pytest.approx(expected, abs=0.015)


def test_noise_drawn_from_a_learned_model_is_that_of_the_scan(head):
    noise = learn(scan(head, correlation=AS_MEASURED), head.clean.mask)
    rng = torch.Generator().manual_seed(2)
    fields = draw(noise.in_plane_filter((32, 32)), (1000, 32, 32), rng).numpy()
    assert covariance_at(fields, (0, 0)) == pytest.approx(1, abs=0.01)
    assert covariance_at(fields, (1, 0)) == pytest.approx(AS_MEASURED[0], abs=0.03)  # as learned
    assert covariance_at(fields, (0, 1)) == pytest.approx(AS_MEASURED[1], abs=0.03)


def test_the_same_generator_draws_the_same_noise():
    root = model(AS_MEASURED).in_plane_filter((16, 16))
    a, b = (draw(root, (2, 16, 16), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)


def test_the_power_spectrum_is_nowhere_negative_and_has_mean_one():
    measured = model((0.3, 0.3, 0.3)).covariance.copy()
    measured[7, 6, 2] = measured[5, 6, 2] = 0.95  # no noise can have this covariance
    power = power_spectrum(measured, [20, 24, 9])
    assert power.min() >= 0
    assert power.mean() == pytest.approx(1, abs=1e-12)


def test_white_noise_has_a_flat_spectrum():
    white = model(AS_MEASURED).as_white()
    np.testing.assert_allclose(power_spectrum(white.covariance, [20, 24, 9]), 1, atol=1e-12)
    assert white.lag_one() == (0, 0, 0)
    assert "white" in white.source


def test_in_units_of_sigma_only_map_and_law_change():
    noise = replace(model(AS_MEASURED), sigma=np.full((4, 4, 4), 7.0), law="nc-chi", n_coils=4.0)
    unit = noise.in_units_of_sigma()
    assert (unit.law, unit.n_coils, unit.lag_one()) == ("gaussian", 1.0, noise.lag_one())
    np.testing.assert_array_equal(unit.sigma, 1)


# ---- against measured noise ----------------------------------------------------------------------


def local_sigma(magnitudes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sigma of magnitudes that hold no signal, mean of m² = 2 sigma², smoothed by 5 mm."""
    square = (magnitudes.astype(np.float64) ** 2).mean(axis=3) / 2
    share = ndimage.gaussian_filter(mask.astype(np.float64), 2.5)
    return np.sqrt(ndimage.gaussian_filter(square * mask, 2.5) / np.maximum(share, 1e-6))


def up_to_a_factor(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Median of a / b, and the median deviation of a / b from it."""
    ratio = a / b
    return float(np.median(ratio)), float(np.median(np.abs(ratio / np.median(ratio) - 1)))


@pytest.mark.skipif(not SPHERE.exists(), reason=f"measured noise is not at {SPHERE}")
def test_sigma_learned_from_a_scan_is_that_of_the_scanners_noise_only_volumes():
    sphere = quell.load(SPHERE / "dwi.nii.gz")
    mask = mask_of(sphere)
    sigma = learn(sphere, mask, "rician").sigma[mask]
    noise_only = nib.load(SPHERE / "noisemap.nii.gz").get_fdata(dtype=np.float32)
    weakest = sphere.data[..., sphere.bvals == 3000]  # nothing is left of this sphere's signal
    gain, deviation = up_to_a_factor(sigma, local_sigma(noise_only, mask)[mask])
    assert gain == pytest.approx(1, abs=0.1)
    assert deviation < 0.2  # the scan's own noise-only volumes at b=3000 deviate by 0.18
    assert up_to_a_factor(sigma, local_sigma(weakest, mask)[mask])[1] < 0.08


@pytest.mark.parametrize("lag_1", [0.0, 0.4])
def test_noise_alone_has_no_eigenvalue_above_its_edge(lag_1):
    rng, shape, V = np.random.default_rng(4), (40, 40, 12), 60
    mask = np.ones(shape, bool)
    own = replace(
        model((lag_1, lag_1, 0.0), shape), eigenvalues=np.ones(V), n_voxels=int(mask.sum())
    )
    y = np.stack([own.draw_volume(rng) for _ in range(V)], axis=3)
    largest = principal_components(y[mask])[1][0]
    assert largest == pytest.approx(own.edge, rel=0.03)


@pytest.mark.parametrize(("factor", "cause"), [(1e34, "too large"), (1e-42, "differ by less")])
def test_values_too_large_or_too_small_to_reckon_with_are_refused(series, factor, cause):
    scan = replace(series, data=(series.data * np.float64(factor)).astype(np.float32))
    with pytest.raises(InputError, match=f"no noise can be learned: .*{cause}"):
        learn(scan, np.ones(scan.data.shape[:3], bool))


def test_air_whose_noise_overflows_is_refused(brain):
    noisy = corrupt(brain.clean.data, 30.0, np.random.default_rng(0), "rician")
    noisy[:2] = 1e30 * np.random.default_rng(1).random(noisy[:2].shape)  # in the air
    scan = replace(brain.clean, data=noisy.astype(np.float32))
    with pytest.raises(InputError, match="no noise can be learned: some values are too large"):
        learn(scan, brain.clean.mask, "gaussian")


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_a_noise_map_that_is_no_number_in_the_mask_is_refused(series, value):
    mask = np.ones(series.data.shape[:3], bool)
    sigma = np.where(np.arange(mask.size).reshape(mask.shape) == 7, value, 40.0)
    with pytest.raises(InputError, match="not positive, or no number"):
        learn(series, mask, sigma=sigma)


def test_copies_of_one_volume_have_no_noise_whatever_the_map_says(series):
    mask = np.ones(series.data.shape[:3], bool)
    copies = replace(series, data=np.zeros_like(series.data) + 100)
    with pytest.raises(InputError, match="in the mask the volumes are equal"):
        learn(copies, mask, sigma=np.full(mask.shape, 40.0))


# ---- outside the mask ------------------------------------------------------------------------


def stripped(y: Series, kept: np.ndarray) -> Series:
    """The scan with zeros where nothing was kept."""
    return replace(y, data=np.where(kept[..., None], y.data, 0))


def strayed(mask: np.ndarray, n: int) -> np.ndarray:
    """The mask and n voxels far from each other, outside it."""
    kept, outside = mask.copy(), np.flatnonzero(~mask)
    kept.flat[outside[:: len(outside) // n][:n]] = True
    return kept


@pytest.mark.parametrize("n", [1, 4, 100])
def test_stray_voxels_of_a_stripped_scan_have_the_noise_of_the_head(head, n):
    y = scan(head)
    noise = learn(stripped(y, strayed(y.mask, n)), y.mask)
    whole = learn(y, y.mask).sigma
    np.testing.assert_array_equal(noise.sigma[y.mask], whole[y.mask])
    outside = noise.sigma[~y.mask]
    assert whole[y.mask].min() <= outside.min()
    assert outside.max() <= whole[y.mask].max()


def test_values_in_one_volume_or_the_same_in_all_are_no_noise(head):
    y = scan(head)
    bare = stripped(y, y.mask)
    expected = learn(bare, y.mask).sigma
    one, padded = bare.data.copy(), np.where(y.mask[..., None], y.data, 1)
    one[~y.mask, 5] = 3
    for data in (one, padded):
        np.testing.assert_array_equal(learn(replace(y, data=data), y.mask).sigma, expected)


@pytest.mark.parametrize("size", [1, 4])
def test_a_hole_of_the_mask_has_the_noise_around_it(head, size):
    y = stripped(scan(head), head.clean.mask)
    mask = y.mask.copy()
    mask[24 : 24 + size, 28 : 28 + size, 5] = False
    hole, whole = learn(y, mask).sigma[y.mask & ~mask], learn(y, y.mask).sigma[y.mask & ~mask]
    np.testing.assert_allclose(hole, whole, rtol=0.05)


def test_a_mask_thinner_than_the_window_shows_noise(head):
    y = scan(head)
    fine = replace(y, affine=np.eye(4))  # the window is wider in voxels, the smaller they are
    mask = np.zeros_like(y.mask)
    mask[24, 20:36] = y.mask[24, 20:36]
    assert np.median(relative(learn(fine, mask), mask)) == pytest.approx(1, abs=0.1)


def test_signal_that_the_mask_does_not_know_is_no_noise(head):
    """Fat around the head that is brighter in some volumes, as where its suppression fails."""
    fat = ~head.clean.mask & ndimage.binary_dilation(head.clean.mask, iterations=3)
    data = head.clean.data.copy()
    data[fat] = np.random.default_rng(2).uniform(200, 800, data.shape[3])
    sigma = SIGMA * g_factor(head.clean.mask.shape)
    noisy = corrupt(data, sigma, np.random.default_rng(1), "rician")
    found = relative(learn(replace(head.clean, data=noisy), head.clean.mask), fat)
    assert np.median(found) == pytest.approx(1, abs=0.05)
    assert found.max() < 1.3


def test_complex_parts_of_a_stripped_scan_with_stray_voxels(head):
    y = scan(head, "gaussian")
    V = y.n_volumes
    both = replace(
        y, data=np.concatenate([y.data, y.data[..., ::-1]], axis=3), parts=np.repeat([0, 1], V),
        bvals=None, bvecs=None,
    )  # fmt: skip
    noise = learn(stripped(both, strayed(y.mask, 4)), y.mask)
    expected = learn(both, y.mask).sigma
    np.testing.assert_array_equal(noise.sigma[y.mask], expected[y.mask])
