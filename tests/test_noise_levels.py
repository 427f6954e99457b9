"""Volumes of unequal noise are found and used, equal ones left alone; one noise edge for all."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import quell
from quell.noise import LAGS, NoiseModel, describe_noise, learn, remarks
from quell.noise.edge import independent_voxels, noise_edge
from quell.noise.levels import Levels, over_levels
from quell.noise.words import unequal_volumes
from quell.options import Options
from quell.pipeline import Result
from quell.record import sidecar
from quell.scaling import Stabiliser
from quell.series import Series
from quell.simulate import Phantom, PhantomSettings, corrupt, phantom

SIGMA = 50.0  # signal-to-noise of 15 in white matter at b=0
AS_MEASURED = (0.17, 0.34, 0.0)
V = 24
VOLUMES = np.arange(V)
LEVELS = {
    "alternating": np.where(VOLUMES % 2, 1.5, 1.0),
    "one": np.where(VOLUMES == 11, 3.0, 1.0),
    "runs": np.where(VOLUMES < V // 2, 1.0, 2.0),
    "halves": np.where(VOLUMES < V // 2, 0.5, 1.0),
}


@pytest.fixture(scope="module")
def head() -> Phantom:
    settings = PhantomSettings(
        (48, 56, 10), 2.0, 3, ((1000.0, 21),), seed=5, brain_mm=(40.0, 50.0, 60.0)
    )
    return phantom(settings)


@pytest.fixture(scope="module")
def alternating(head) -> Series:
    return scan(head, LEVELS["alternating"])


@pytest.fixture(scope="module")
def result(alternating) -> Result:
    return quell.denoise(alternating, method="wiener", threads=1)


def scan(head: Phantom, levels=None, sigma=SIGMA, law="rician", truth=None, has_air=True) -> Series:
    """The head, or another truth, with noise of so many times sigma in each volume."""
    truth = head.clean.data if truth is None else truth
    levels, rng = np.ones(truth.shape[3]) if levels is None else levels, np.random.default_rng(1)
    y = np.concatenate(
        [
            corrupt(truth[..., [v]], sigma * level, rng, law, correlation=AS_MEASURED)
            for v, level in enumerate(levels)
        ],
        axis=3,
    )
    return replace(head.clean, data=y if has_air else y * head.clean.mask[..., None])


def learned(y: Series, **more) -> NoiseModel:
    return learn(y, y.mask, **more)


def of_each_volume(noise: NoiseModel, mask: np.ndarray) -> np.ndarray:
    assert noise.levels is not None
    return np.median(noise.sigma[mask]) * noise.levels


# ---- found ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "has_air"), [("one", True), ("runs", True), ("halves", True), ("runs", False)]
)
def test_the_noise_of_each_volume_is_found(head, name, has_air):
    noise = learned(scan(head, LEVELS[name], has_air=has_air))
    error = np.abs(of_each_volume(noise, head.clean.mask) / (SIGMA * LEVELS[name]) - 1)
    assert np.median(error) < 0.03
    assert error.max() < 0.08  # signal left in the smallest components, where a volume is quiet
    assert noise.lag_one() == pytest.approx(AS_MEASURED, abs=0.03)


def test_averaged_b0s_have_less_noise_also_without_air(head):
    levels = np.where(head.clean.is_b0, 0.5, 1.0)
    noise = learned(scan(head, levels, has_air=False))
    np.testing.assert_allclose(of_each_volume(noise, head.clean.mask), SIGMA * levels, rtol=0.06)


def test_a_lone_averaged_b0_is_known_by_its_air(head):
    kept = np.r_[np.flatnonzero(head.clean.is_b0)[:1], np.flatnonzero(~head.clean.is_b0)]
    y = scan(head, np.where(head.clean.is_b0, 0.5, 1.0))
    y = replace(y, data=y.data[..., kept], bvals=y.bvals[kept], bvecs=y.bvecs[kept])
    assert learned(y).levels[0] == pytest.approx(0.5, rel=0.05)


def test_a_scale_of_each_volume_is_found_as_its_noise(head):
    factor = np.where(VOLUMES % 3, 1.0, 2.0).astype(np.float32)
    y = scan(head)
    found = learned(replace(y, data=y.data * factor)).levels
    np.testing.assert_allclose(found / np.median(found), factor, rtol=0.05)


def test_a_given_map_is_obeyed_and_the_levels_are_found_beside_it(head, alternating):
    given = np.full(head.clean.mask.shape, SIGMA, np.float32)
    noise = learned(alternating, sigma=given)
    np.testing.assert_array_equal(noise.sigma, given)
    ratio = noise.levels / LEVELS["alternating"]
    np.testing.assert_allclose(ratio / np.median(ratio), 1, rtol=0.05)


def test_both_parts_of_a_complex_volume_share_a_level(head):
    rng, levels = np.random.default_rng(4), LEVELS["alternating"]
    phase = np.exp(0.3j * np.linspace(0, 6, head.clean.mask.shape[0]))[:, None, None, None]
    n = rng.standard_normal((2, *head.clean.data.shape)) * SIGMA * levels
    y = replace(head.clean, data=(head.clean.data * phase + n[0] + 1j * n[1]).astype(np.complex64))
    few = np.s_[:, :, 3:7]
    y = replace(y, data=y.data[few], mask=y.mask[few])
    got = quell.denoise(y, method="wiener", threads=1)
    first, second = got.noise.levels.reshape(2, V)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first / np.median(first) * 1.25, levels, rtol=0.08)
    assert got.noise_map.shape == y.data.shape
    assert "volumes 1, 3, 5" in unequal_volumes(got.noise.levels)


# ---- left alone ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "has_air"), [(12.0, False), (SIGMA, True), (SIGMA, False), (200.0, False)]
)
def test_volumes_alike_are_left_as_they_were(head, sigma, has_air):
    assert learned(scan(head, sigma=sigma, has_air=has_air)).levels is None


def dropped(truth: np.ndarray) -> np.ndarray:
    truth[:, :, 4, 9] *= 0.1
    truth[:, :, 6:8, 15] *= 0.3
    return truth


def moved(truth: np.ndarray) -> np.ndarray:
    for v in (7, 8, *range(18, V)):
        truth[..., v] = ndimage.shift(truth[..., v], (1.2, -0.8, 0), order=1)
    return truth


@pytest.mark.parametrize("fault", [dropped, moved])
def test_dropped_slices_and_motion_are_not_noise(head, fault):
    truth = fault(head.clean.data.copy())
    assert learned(scan(head, truth=truth, has_air=False)).levels is None


def test_what_a_lone_b0_shows_is_not_noise(head):
    kept = np.r_[np.flatnonzero(head.clean.is_b0)[:1], np.flatnonzero(~head.clean.is_b0)]
    y = scan(head, has_air=False)
    y = replace(y, data=y.data[..., kept], bvals=y.bvals[kept], bvecs=y.bvecs[kept])
    assert learned(y).levels is None


def test_coarse_values_are_not_unequal_noise(head):
    y = scan(head)
    assert learned(replace(y, data=np.round(y.data / 25) * 25)).levels is None


def test_an_empty_volume_has_no_level_and_hides_no_other(head, alternating):
    data = alternating.data.copy()
    data[..., 5] = 0
    found = learned(replace(alternating, data=data)).levels
    ratio = np.delete(found / LEVELS["alternating"], 5)
    np.testing.assert_allclose(ratio / np.median(ratio), 1, rtol=0.07)
    assert found[5] == pytest.approx(1, abs=0.1)


# ---- used ----------------------------------------------------------------------------------------


def gain(got: Result, truth: np.ndarray, levels: np.ndarray) -> float:
    """dB over the noisy scan in the mask, against the mean magnitude."""
    sigma, of = SIGMA * levels, Stabiliser.of("rician")
    goal = of.mean_of(truth[got.mask] / sigma) * sigma
    before, after = (np.mean((data[got.mask] - goal) ** 2) for data in (got.noisy, got.denoised))
    return float(10 * np.log10(before / after))


def test_a_result_is_better_by_what_is_known_of_each_volume(head, alternating, result):
    few, levels = np.s_[6:42, 8:48, 4:5], LEVELS["alternating"]  # the network is slow
    y = replace(alternating, data=alternating.data[few], mask=alternating.mask[few])
    alike = learned(alternating, alike=True)
    gains = {}
    for name, noise in (("found", result.noise), ("alike", alike)):
        own = replace(noise, sigma=noise.sigma[few])
        for method, preset in (("joint", "instant"), ("wiener", "default")):
            got = quell.denoise(y, method=method, preset=preset, noise_model=own, threads=1)
            gains[name, method] = gain(got, head.clean.data[few], levels)
    for method in ("joint", "wiener"):
        assert gains["found", method] > gains["alike", method] + 1.5


def test_the_noise_of_each_volume_is_said(head, alternating, result):
    expected = SIGMA * LEVELS["alternating"]
    found = np.median(result.noise_map[head.clean.mask], axis=0)
    np.testing.assert_allclose(found, expected, rtol=0.06)
    said = {finding.code: finding for finding in result.findings}["unequal-volumes"]
    assert said.level == "note"
    assert "volumes 1, 3, 5, 7, 9 and 7 more have 1.5 times the noise of the rest" in said.sentence
    record = sidecar(result, alternating, Options(method="wiener"), "")["Denoising"]["Noise"]
    np.testing.assert_allclose(record["LevelOfEachVolume"], result.noise.levels, atol=1e-4)
    assert "in single volumes" in describe_noise(result.noise, result.mask)


def test_of_equal_volumes_nothing_is_said(result, alternating):
    equal = replace(result, noise=replace(result.noise, levels=None))
    assert equal.noise_map.shape == alternating.mask.shape
    assert "unequal-volumes" not in {finding.code for finding in remarks(equal.noise)}
    record = sidecar(equal, alternating, Options(method="wiener"), "")["Denoising"]["Noise"]
    assert "LevelOfEachVolume" not in record


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ([1, 1, 1, 1, 3, 1, 1, 1], "volume 4 has 3 times the noise of the rest"),
        ([0.5, 1, 1, 1, 1, 0.5, 1, 1], "volumes 0, 5 have 0.5 times the noise of the rest"),
        (np.geomspace(1, 4, 8), "single volumes is 1.00 to 4.00 times that of a typical one"),
        (np.linspace(1, 1.15, 8), ""),
    ],
)
def test_which_volumes_are_noisier_is_said_in_words(levels, words):
    said = unequal_volumes(np.array(levels, dtype=float))
    assert words in said
    assert bool(words) == bool(said)


def test_volumes_over_their_levels_have_the_same_noise(head):
    levels = Levels(LEVELS["runs"], np.ones(V, bool))
    y = scan(head, LEVELS["runs"], law="gaussian", truth=np.zeros_like(head.clean.data))
    np.testing.assert_allclose(
        over_levels(y, levels.values).data.std(axis=(0, 1, 2)), SIGMA, rtol=0.03
    )


# ---- one edge ------------------------------------------------------------------------------------


def small(head: Phantom, n_volumes: int, seed: int) -> Series:
    """A box of 9 x 9 x 4 voxels inside the head."""
    box = np.s_[16:25, 20:29, 2:6]
    assert head.clean.mask[box].all()
    rng = np.random.default_rng(seed)
    y = corrupt(head.clean.data[..., :n_volumes], SIGMA, rng, "rician", correlation=AS_MEASURED)
    return replace(
        head.clean, data=y[box].copy(), mask=np.ones(y[box].shape[:3], bool),
        bvals=head.clean.bvals[:n_volumes], bvecs=head.clean.bvecs[:n_volumes],
    )  # fmt: skip


def test_sigma_of_a_small_mask_is_that_of_the_whole(head):
    found = [np.median(learned(small(head, 20, seed)).sigma) for seed in range(4)]
    assert np.mean(found) == pytest.approx(SIGMA, rel=0.03)
    np.testing.assert_allclose(found, SIGMA, rtol=0.06)


def exact_correlation() -> np.ndarray:
    """Of the noise of `small`: lags 1 and 2 of three taps."""
    lines = []
    for lag, r in zip(LAGS, AS_MEASURED, strict=True):
        a = (1 - np.sqrt(1 - 2 * r * r)) / (2 * r) if r else 0.0
        line = np.zeros(2 * lag + 1)
        line[lag - 2 : lag + 3] = np.array([a * a, 2 * a, 1 + 2 * a * a, 2 * a, a * a])
        lines.append(line / line[lag])
    return np.einsum("i,j,k->ijk", *lines)


def test_the_edge_of_a_small_mask_counts_no_correlation_of_chance(head):
    y = small(head, 20, 0)
    noise, n = learned(y), int(y.mask.sum())
    right = noise_edge(20, n, exact_correlation())
    assert noise.edge == pytest.approx(right, rel=0.03)


def test_lags_of_a_small_mask_add_up_to_little():
    rng, n, images = np.random.default_rng(0), 324, 12
    chance = exact_correlation() + rng.standard_normal((13, 13, 5)) / np.sqrt(n * images)
    chance[LAGS] = 1.0
    right = independent_voxels(n, exact_correlation())
    assert independent_voxels(n, chance, images) == pytest.approx(right, rel=0.1)
    assert independent_voxels(n, chance) < 0.97 * right  # as if it were exact


def test_model_and_methods_part_signal_from_noise_at_the_same_place(head):
    noise = learned(small(head, 20, 1))
    n = noise.n_noise_components
    bulk = noise.eigenvalues[-n:]
    assert noise.eigenvalues[-n - 1] > noise.edge * bulk.mean() * 0.97
    assert bulk[0] < noise.edge * 1.03


def test_independent_voxels_of_white_noise_are_all():
    white = np.zeros([2 * lag + 1 for lag in LAGS])
    white[LAGS] = 1.0
    assert independent_voxels(1000, white) == 1000 == independent_voxels(1000)
    assert noise_edge(10, 1000) == pytest.approx(1.21)
    assert noise_edge(10, 0) == 1
