"""Clusters: a structure that one volume alone shows is found and kept, and noise is not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import quell
from quell.noise import filtered_sd, find_clusters, put_back
from quell.noise.clusters import WIDTHS
from quell.simulate import Phantom, PhantomSettings, corrupt, phantom
from quell.simulate.corruption import tap, unit_noise

SHAPE, V = (40, 44, 12), 24
MASK = np.zeros(SHAPE, dtype=bool)
MASK[4:-4, 4:-4, 1:-1] = True
CORRELATION = (0.17, 0.34, 0.0)


@pytest.fixture(scope="module")
def small() -> Phantom:
    settings = PhantomSettings((40, 46, 12), 4.0, 4, ((1000.0, 20),), seed=28, supersample=4)
    return phantom(settings)


def noise_of(seed: int, correlation=CORRELATION) -> np.ndarray:
    rng, taps = np.random.default_rng(seed), tuple(tap(c) for c in correlation)
    return np.stack([unit_noise(SHAPE, rng, taps) for _ in range(V)], axis=3)


def covariance_of(correlation=CORRELATION) -> np.ndarray:
    """The exact autocorrelation of `unit_noise`, which has three taps an axis."""
    lines = []
    for lag_1 in correlation:
        a = tap(lag_1)
        lines.append(np.array([a * a, 2 * a, 1 + 2 * a * a, 2 * a, a * a]) / (1 + 2 * a * a))
    return np.einsum("i,j,k->ijk", *lines)


def ball(n: int, centre=(20, 22, 6)) -> np.ndarray:
    """The n voxels nearest to a centre."""
    axes = np.indices(SHAPE) - np.array(centre)[:, None, None, None]
    found = np.zeros(SHAPE, dtype=bool)
    found.flat[np.argsort((axes**2).sum(axis=0), axis=None, kind="stable")[:n]] = True
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_the_sd_of_filtered_noise_is_that_of_its_autocorrelation(width):
    z = noise_of(0)
    found = [ndimage.gaussian_filter(z[..., v], width)[6:-6, 6:-6, 4:-4] for v in range(V)]
    assert np.std(found) == pytest.approx(filtered_sd(covariance_of(), width), rel=0.05)


def test_white_noise_needs_no_covariance():
    white = np.zeros((5, 5, 5))
    white[2, 2, 2] = 1
    assert filtered_sd(None, 1.5) == pytest.approx(filtered_sd(white, 1.5))


def test_noise_has_no_clusters_whatever_its_correlation():
    for seed, correlation in enumerate([(0, 0, 0), CORRELATION, (0.5, 0.5, 0.3), CORRELATION]):
        z = noise_of(seed, correlation)
        assert find_clusters(lambda v, z=z: z[..., v], V, MASK, covariance_of(correlation)) == ()


@pytest.mark.parametrize(("n", "amplitude"), [(27, 5.0), (81, 5.0), (81, -5.0), (179, 3.0)])
def test_a_structure_of_one_volume_is_found_where_it_is_and_most_of_it_put_back(n, amplitude):
    where, residual = ball(n), noise_of(3)
    residual[..., 7] += amplitude * where
    (cluster,) = find_clusters(lambda v: residual[..., v], V, MASK, covariance_of())
    assert cluster.volume == 7
    assert where[cluster.centre]
    assert np.sign(cluster.peak) == np.sign(cluster.amplitude) == np.sign(amplitude)
    out = np.zeros_like(residual)  # a method that took everything away
    put_back(out, residual, MASK, covariance_of())
    assert out[..., 7][where].mean() / amplitude > 0.75
    assert not out[..., :7].any()
    assert not out[..., 8:].any()
    assert not out[..., 7][~ndimage.binary_dilation(where, iterations=6)].any()


def test_what_every_volume_has_in_a_place_asks_more_of_each():
    """A noise map that is a third too low in a corner makes no clusters there."""
    residual = noise_of(4)
    residual[:16, :16] *= 1.5
    assert find_clusters(lambda v: residual[..., v], V, MASK, covariance_of()) == ()


def test_two_structures_of_one_volume_are_two():
    residual = noise_of(5)
    residual[..., 2] += 6 * ball(81, (12, 12, 6)) - 6 * ball(81, (28, 32, 6))
    found = find_clusters(lambda v: residual[..., v], V, MASK, covariance_of())
    assert sorted(np.sign(cluster.peak) for cluster in found) == [-1, 1]


def test_joint_keeps_what_one_volume_shows_and_says_so(small):
    """Of 81 voxels at 5 sigma in one volume three quarters; and nowhere else anything changes."""
    clean, sigma = small.clean, 40.0
    place = tuple(np.argwhere(small.tissue == 3).mean(axis=0).round().astype(int))
    axes = np.indices(clean.data.shape[:3]) - np.array(place)[:, None, None, None]
    where = np.zeros(clean.data.shape[:3], dtype=bool)
    nearest = np.argsort((axes**2).sum(axis=0), axis=None, kind="stable")
    where.flat[nearest[:81]] = True
    data = corrupt(clean.data, sigma, np.random.default_rng(0), "rician", correlation=CORRELATION)
    with_it = data.copy()
    with_it[..., 9][where] += 5 * sigma
    plain, result = (
        quell.denoise(replace(clean, data=d), preset="instant", uncertainty=True, threads=2)
        for d in (data, with_it)
    )
    kept = (result.denoised - plain.denoised)[..., 9][where].mean() / (5 * sigma)
    assert kept > 0.75
    assert result.kept["kept clusters"][0, 0] == 9
    assert not len(plain.kept["kept clusters"])
    assert not result.statistics.clusters
    # where the scan was kept as it was, so was its noise
    assert np.median(result.uncertainty[..., 9][where]) > 0.8 * sigma
    assert np.median(plain.uncertainty[..., 9][where]) < 0.6 * sigma


def test_a_method_that_erases_it_is_told_so(small):
    clean, sigma = small.clean, 40.0
    data = corrupt(clean.data, sigma, np.random.default_rng(0), "rician", correlation=CORRELATION)
    where = ndimage.binary_erosion(clean.mask, iterations=3)
    where &= np.indices(clean.data.shape[:3])[0] < 12
    assert where.sum() > 20
    data[..., 9][where] += 5 * sigma
    scan = replace(clean, data=data)
    result = quell.denoise(scan, method="patch2self", threads=2)
    assert result.statistics.clusters[0].volume == 9
    assert where[result.statistics.clusters[0].centre]
    assert result.statistics.as_dict()["clusters"][0]["volume"] == 9
