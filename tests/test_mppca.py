"""MP-PCA: its patches are those of an SVD each, in white or correlated noise, real or complex."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

import quell
from quell.marchenko_pastur import Law
from quell.methods import make
from quell.methods.mppca import MpPca, Whitener, patch_shape, shrink_patches, starts
from quell.noise import NoiseModel
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt, phantom

CENTRE = (6, 6, 2)
CORRELATION = (0.17, 0.34, 0.0)


def white() -> np.ndarray:
    covariance = np.zeros([2 * n + 1 for n in CENTRE])
    covariance[CENTRE] = 1
    return covariance


def correlated() -> np.ndarray:
    """The correlation of `corrupt`, whose kernel is (a, 1, a) along x and y."""
    covariance = white()
    a = [(1 - np.sqrt(1 - 2 * r**2)) / (2 * r) for r in CORRELATION[:2]]
    x, y = ([t**2, 2 * t, 1 + 2 * t**2, 2 * t, t**2] / (1 + 2 * t**2) for t in a)
    covariance[4:9, 4:9, 2] = np.outer(x, y)
    return covariance


def model(covariance: np.ndarray, shape: tuple[int, ...]) -> NoiseModel:
    return NoiseModel(np.ones(shape[:3]), covariance, "gaussian", 1.0, "", 1, np.ones(shape[3]))


def series(data: np.ndarray, **about) -> Series:
    return Series(data.astype(np.float32), np.eye(4), nib.Nifti1Header(), **about)


def denoised(
    scan: Series, method: MpPca | None = None, covariance: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    run, noise = Run(), model(white() if covariance is None else covariance, scan.data.shape)
    torch.set_num_threads(1)
    return (method or MpPca()).denoise(scan, noise, {}, run), run.kept


def low_rank(shape: tuple[int, ...], k: int = 3, seed: int = 0) -> np.ndarray:
    """A series of k components, (X, Y, Z, V)."""
    rng = np.random.default_rng(seed)
    return 10 * rng.normal(size=(*shape[:3], k)) @ rng.normal(size=(k, shape[3]))


def by_svd(Y: np.ndarray, root: np.ndarray) -> tuple[np.ndarray, float, int]:
    """One patch, plainly: its estimate, sigma and rank."""
    N, V = Y.shape
    law = Law(N, V)
    U, s, Vh = np.linalg.svd(np.linalg.inv(root) @ Y, full_matrices=False)
    k = 0
    while True:
        which, sizes = (table[k] for table in law.medians)
        sigma = s[::-1][which] / np.sqrt(sizes)
        found = int((s > sigma * np.sqrt(law.edge)).sum())
        if found <= k:
            break
        k = found
    X = np.zeros_like(Y)
    for i in range(found):
        y, b = s[i] / sigma / np.sqrt(law.n), law.beta
        x2 = (y**2 - b - 1 + np.sqrt((y**2 - b - 1) ** 2 - 4 * b)) / 2
        c_voxels, c_volumes = (
            np.sqrt((x2**2 - b) / (x2**2 + x2 * side / law.n)) for side in (N, V)
        )
        u = root @ U[:, i]
        size = np.linalg.eigvalsh(root @ root)
        tau = np.clip((u @ u.conj() - (1 - c_voxels**2)).real / c_voxels**2, size[0], size[-1])
        along = tau / (c_voxels**2 * tau + 1 - c_voxels**2)
        strength = sigma * np.sqrt(law.n * x2) * c_voxels * c_volumes
        X += min(strength * along, s[i]) * np.outer(u, Vh[i])
    return X, sigma, found


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("covariance", [white(), correlated()], ids=["white", "correlated"])
@pytest.mark.parametrize("V", [12, 40])  # fewer and more than voxels
def test_a_batch_of_patches_is_an_svd_of_each(V, covariance, is_complex):
    rng, shape = np.random.default_rng(V), (3, 3, 3)
    Y = rng.normal(size=(5, 27, V)) + 3 * rng.normal(size=(5, 27, 2)) @ rng.normal(size=(5, 2, V))
    if is_complex:
        Y = Y + 1j * rng.normal(size=Y.shape)
    whitener = Whitener.of(covariance, shape)
    inverse = np.eye(27) if whitener.matrix is None else whitener.matrix.numpy().astype(float)
    X, sigma, rank = shrink_patches(torch.from_numpy(Y), whitener, Law(27, V), "median")
    for i in range(5):
        estimate, one_sigma, one_rank = by_svd(Y[i], np.linalg.inv(inverse))
        assert rank[i] == one_rank
        assert sigma[i].item() == pytest.approx(one_sigma, rel=1e-5)  # whitened in float32
        np.testing.assert_allclose(X[i].numpy(), estimate, rtol=0, atol=1e-4)


def test_whitened_noise_is_white():
    rng, covariance = np.random.default_rng(1), correlated()
    y = corrupt(np.zeros((25, 25, 25, 40), np.float32), 1.0, rng, correlation=CORRELATION)
    tiles = y.reshape(5, 5, 5, 5, 5, 5, 40).transpose(0, 2, 4, 1, 3, 5, 6).reshape(125, 125, 40)
    Y = Whitener.of(covariance, (5, 5, 5)).apply(torch.from_numpy(tiles)).numpy()
    C = np.einsum("pnv,pmv->nm", Y, Y) / (125 * 40)
    assert np.abs(C - np.eye(125)).max() < 5 / np.sqrt(125 * 40)  # five standard errors
    raw = np.einsum("pnv,pmv->nm", tiles, tiles) / (125 * 40)
    assert np.abs(raw - np.eye(125)).max() > 0.3


@pytest.mark.parametrize("estimator", ["median", "mp"])
def test_the_noise_map_and_the_rank_map_are_those_of_the_scan(estimator):
    shape = (12, 12, 12, 40)
    y = low_rank(shape) + 3 * np.random.default_rng(1).normal(size=shape)
    _, kept = denoised(series(y), MpPca(estimator=estimator))
    assert np.median(kept["noise map"]) == pytest.approx(3, rel=0.01)
    assert np.median(kept["rank map"]) == pytest.approx(3, abs=0.3)  # noise that passes the edge
    assert all(m.shape == shape[:3] and m.dtype == np.float32 for m in kept.values())


def test_correlated_noise_is_taken_for_signal_only_if_it_is_not_whitened():
    shape = (16, 16, 10, 40)
    clean = low_rank((1, 1, 1, 40)) + np.zeros(shape)
    y = corrupt(clean.astype(np.float32), 1.0, np.random.default_rng(2), correlation=CORRELATION)
    scan, found = series(y), {}
    for noise in ("measured", "white"):
        out, kept = denoised(scan, MpPca(noise=noise), correlated())
        found[noise] = ((out - clean) ** 2).mean(), np.median(kept["rank map"])
        if noise == "measured":
            assert np.median(kept["noise map"]) == pytest.approx(1, rel=0.02)
    assert found["measured"][1] < 2 < found["white"][1]  # the truth is 1
    assert found["measured"][0] < 0.9 * found["white"][0]


def test_complex_volumes_are_complex_matrices():
    shape, rng = (6, 6, 5, 20), np.random.default_rng(3)
    y = low_rank(shape) * np.exp(1j * rng.normal(size=20))
    y = (y + rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    parts = series(np.concatenate([y.real, y.imag], axis=3), parts=np.repeat([0, 1], 20))
    out, kept = denoised(parts, MpPca(extent=5, stride=1))
    assert np.median(kept["noise map"]) == pytest.approx(1, rel=0.02)  # of one part; four patches
    assert np.median(kept["rank map"]) == pytest.approx(3, abs=0.3)
    total, weights = np.zeros(shape, complex), np.zeros((*shape[:3], 1))
    near = np.exp(-0.5 * ((np.arange(5) - 2) / (0.35 * 5)) ** 2)
    near = near[:, None, None, None] * near[:, None, None] * near[:, None]
    for x in (0, 1):
        for at in (0, 1):  # by hand: two starts along x and y, one along z
            box = np.s_[x : x + 5, at : at + 5]
            X, _, k = by_svd(y[box].reshape(125, 20).astype(complex), np.eye(125))
            total[box] += near / (1 + k) * X.reshape(5, 5, 5, 20)
            weights[box] += near / (1 + k)
    by_hand = total / weights
    # 1e-4 of the noise: float32 data of up to 50
    np.testing.assert_allclose(out[..., :20] + 1j * out[..., 20:], by_hand, rtol=0, atol=1e-4)


def test_patches_cover_the_image_and_stay_inside():
    for n in range(1, 30):
        for edge in range(1, n + 1):
            for stride in range(1, edge + 1):
                at = starts(n, edge, stride)
                assert at[0] == 0
                assert at[-1] + edge == n
                assert (np.diff(at) <= stride).all()


@pytest.mark.parametrize(
    ("grid", "V", "extent", "shape"),
    [
        ((81, 106, 76), 160, 0, (7, 7, 7)),
        ((81, 106, 76), 125, 0, (5, 5, 5)),
        ((81, 106, 3), 125, 0, (7, 7, 3)),  # thin: wider instead
        ((81, 106, 1), 160, 0, (13, 13, 1)),
        ((81, 106, 3), 125, 5, (5, 5, 3)),
        ((81, 106, 76), 2, 0, (3, 3, 3)),
        ((4, 4, 2), 160, 0, (4, 4, 2)),  # fewer voxels than volumes
    ],
)
def test_the_patch_is_the_least_cube_with_a_voxel_for_every_volume(grid, V, extent, shape):
    assert patch_shape(grid, V, extent) == shape


@pytest.mark.parametrize("shape", [(9, 8, 1, 20), (9, 8, 3, 20), (6, 7, 8, 2), (4, 3, 2, 40)])
def test_thin_scans_and_few_volumes_are_denoised(shape):
    rng = np.random.default_rng(4)
    clean = 100 * rng.normal(size=(*shape[:3], 1)) + np.zeros(shape)
    y = clean + rng.normal(size=shape)
    out, kept = denoised(series(y))
    assert np.isfinite(out).all()
    # one component of N + V numbers from N V: two volumes can't lose more than half
    assert ((out - clean) ** 2).mean() < (0.6 if shape[3] == 2 else 0.25)
    assert np.isfinite(kept["noise map"]).all()


def test_patches_without_signal_or_without_noise_come_back():
    shape = (12, 9, 9, 20)
    data = low_rank(shape, k=1)
    data[:6] = 0
    out, kept = denoised(series(data))
    np.testing.assert_allclose(out, data, atol=1e-4)  # float32 of some 10
    assert (out[:3] == 0).all()
    assert np.isfinite(kept["noise map"]).all()
    out, _ = denoised(series(np.full(shape, 7.0)))
    np.testing.assert_allclose(out, 7, rtol=1e-5)


def test_threads_change_nothing():
    y = series(low_rank((9, 9, 9, 20)) + np.random.default_rng(5).normal(size=(9, 9, 9, 20)))
    results = []
    for n in (1, 2):
        torch.set_num_threads(n)
        run = Run()
        results.append(MpPca().denoise(y, model(white(), y.data.shape), {}, run))
        assert torch.get_num_threads() == n
    torch.set_num_threads(1)
    np.testing.assert_array_equal(*results)


def test_it_lowers_the_error_of_the_phantom_and_shrinking_beats_the_threshold():
    clean = phantom("small").clean
    scan = replace(clean, data=corrupt(clean.data, 40.0, np.random.default_rng(0)))
    errors = []
    for estimator in ("median", "mp"):
        out, _ = denoised(scan, MpPca(estimator=estimator))
        errors.append(((out - clean.data)[clean.mask] ** 2).mean() / 40.0**2)
    assert errors[0] < 0.3  # measured 0.26
    assert errors[0] < errors[1]


def test_only_the_white_variant_says_so():
    assert not make("mppca").assumes_white
    assert make("mppca", noise="white").assumes_white


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"extent": 4}, "odd"),
        ({"stride": -1}, "0 or more"),
        ({"estimator": "exp2"}, "median, mp"),
        ({"noise": "pink"}, "measured, white"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("mppca", **settings)
    assert refusal.value.status == 2


def test_a_stride_beyond_the_patch_leaves_no_voxel_out():
    clean = phantom("small").clean
    out = quell.denoise(clean, method="mppca", stride=50, extent=3, threads=1).denoised
    assert np.isfinite(out).all()
    assert (out[clean.mask] != 0).mean() > 0.99


def test_the_noise_map_of_magnitudes_is_that_of_their_gaussian_parts():
    """At a signal of 2 sigma the magnitudes themselves spread by 0.88 sigma."""
    shape = (14, 14, 12, 30)
    clean = np.random.default_rng(5).uniform(1.6, 2.4, 30) + np.zeros(shape)
    y = corrupt(clean, 1.0, np.random.default_rng(4), "rician")
    scan = series(y)
    spread = np.median(denoised(scan)[1]["noise map"])  # taken for Gaussian
    assert spread < 0.93
    run = Run()
    MpPca().denoise(scan, replace(model(white(), shape), law="rician"), {}, run)
    assert np.median(run.kept["noise map"]) == pytest.approx(1, rel=0.02)
