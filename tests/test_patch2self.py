"""Patch2Self: its regressions are exact, and no volume has a say in its own estimate."""

from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np
import pytest

from quell.methods import make
from quell.methods.patch2self import Patch2Self, leave_one_out_weights, mean_and_scatter
from quell.noise import NoiseModel
from quell.run import Run
from quell.series import InputError, Series
from quell.simulate import corrupt, phantom

NO_NOISE = NoiseModel(np.ones((1, 1, 1)), np.ones((1, 1, 1)), "gaussian", 1.0, "", 1, np.ones(1))


def series(data: np.ndarray, bvals: np.ndarray | None = None) -> Series:
    return Series(data.astype(np.float32), np.eye(4), nib.Nifti1Header(), bvals=bvals)


def denoised(scan: Series, method: Patch2Self | None = None) -> np.ndarray:
    method = method or Patch2Self()
    return method.denoise(scan, NO_NOISE, method.fit([scan], [NO_NOISE], Run()), Run())


@pytest.fixture(scope="module")
def noisy() -> Series:
    clean = phantom("small").clean
    return replace(clean, data=corrupt(clean.data, 40.0, np.random.default_rng(0)))


def columns(n: int = 5000, n_volumes: int = 12, seed: int = 0) -> np.ndarray:
    """Voxels of volumes that share four contrasts, on a level of their own each."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n, 4)) @ rng.standard_normal((4, n_volumes))
    return signal + rng.standard_normal(signal.shape) + 100 * np.arange(n_volumes)


def test_the_weights_are_those_of_separate_regressions():
    Y = columns()
    W, c = leave_one_out_weights(*mean_and_scatter(Y[:, None, None]), ridge=0)
    for j in range(12):
        others = np.delete(Y, j, axis=1)
        design = np.column_stack([others - others.mean(axis=0), np.ones(len(Y))])
        separate = np.linalg.lstsq(design, Y[:, j], rcond=None)[0][:-1]
        np.testing.assert_allclose(np.delete(W[:, j], j), separate, rtol=0, atol=1e-8)
        assert c[j] == pytest.approx(Y[:, j].mean() - others.mean(axis=0) @ separate, abs=1e-6)


def test_the_ridge_changes_nothing_that_shows():
    Y = columns()[:, None, None]
    (with_it, _), (without, _) = (
        leave_one_out_weights(*mean_and_scatter(Y), ridge) for ridge in (1e-10, 0)
    )
    np.testing.assert_allclose(with_it, without, rtol=0, atol=1e-8)


def test_mean_and_scatter_are_those_of_the_covariance():
    flat = columns()
    mean, C = mean_and_scatter(flat.reshape(50, 10, 10, 12))
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(C, np.cov(flat, rowvar=False) * (len(flat) - 1), rtol=1e-9)


def patches(data: np.ndarray) -> np.ndarray:
    """(X, Y, Z, V, 27) the patch around every voxel, plainly."""
    X, Y, Z, _ = data.shape
    around = np.pad(data.astype(np.float64), ((1, 1), (1, 1), (1, 1), (0, 0)), mode="edge")
    lags = list(product(range(3), repeat=3))
    return np.stack([around[x : x + X, y : y + Y, z : z + Z] for x, y, z in lags], axis=-1)


def test_patches_are_regressed_as_by_least_squares(monkeypatch):
    monkeypatch.setattr("quell.methods.patch2self.VOXELS_AT_ONCE", 27 * 5 * 6 * 4)  # many blocks
    rng = np.random.default_rng(3)
    data = rng.standard_normal((9, 10, 6, 2)) @ rng.standard_normal((2, 5))
    data = (data + rng.standard_normal(data.shape) + 50).astype(np.float32)
    out = denoised(series(data), Patch2Self(radius=1, ridge=0))
    around = patches(data)
    for j in range(5):
        design = np.delete(around, j, axis=3).reshape(-1, 4 * 27)
        design = np.column_stack([design - design.mean(axis=0), np.ones(len(design))])
        weights = np.linalg.lstsq(design, data[..., j].ravel().astype(float), rcond=None)[0]
        predicted = (design @ weights).reshape(data.shape[:3])
        # float32 results of about 50
        np.testing.assert_allclose(out[..., j], predicted, rtol=1e-6)


def test_a_volume_alone_passes_with_patches_too(noisy):
    bvals = np.where(np.arange(noisy.n_volumes) == 3, 0.0, 1000.0)
    out = denoised(replace(noisy, bvals=bvals), Patch2Self(radius=1))
    np.testing.assert_array_equal(out[..., 3], noisy.data[..., 3])


def test_patches_see_more_than_voxels(noisy):
    clean, where = phantom("small").clean.data, noisy.mask
    weighted = ~noisy.is_b0
    error = [
        ((denoised(noisy, Patch2Self(radius=r)) - clean)[where][:, weighted] ** 2).mean()
        for r in (0, 1)
    ]
    assert error[1] < 0.8 * error[0]


def test_more_regressors_than_the_voxels_bear_are_refused_in_words():
    data = np.random.default_rng(0).standard_normal((6, 6, 6, 6))
    data[:2] = 0
    with pytest.raises(InputError, match=r"144 voxels that are not 0 are too few .* 135 values"):
        denoised(series(data), Patch2Self(radius=1))
    denoised(series(data))


@pytest.mark.parametrize(("settings", "words"), [({"radius": 2}, "0, 1"), ({"ridge": -1}, "small")])
def test_settings_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(InputError, match=words) as refusal:
        make("patch2self", **settings)
    assert refusal.value.status == 2


@pytest.mark.parametrize("radius", [0, 1])
def test_a_volume_never_sees_itself(noisy, radius):
    method, run = Patch2Self(radius=radius), Run()
    state = method.fit([noisy], [NO_NOISE], run)
    spoilt = noisy.data.copy()
    spoilt[..., 5] += 1e6
    before = method.denoise(noisy, NO_NOISE, state, run)
    after = method.denoise(replace(noisy, data=spoilt), NO_NOISE, state, run)
    np.testing.assert_array_equal(after[..., 5], before[..., 5])
    assert np.abs(after - before).max() > 1e4  # the others do see it


@pytest.mark.parametrize("n_volumes", [6, 12, 30])
def test_copies_of_one_image_are_averaged_over_the_others(n_volumes):
    rng = np.random.default_rng(1)
    image = 1000 * rng.standard_normal(
        (40, 40, 20, 1)
    )  # signal over noise so high that W sums to 1
    out = denoised(series(image + rng.standard_normal((40, 40, 20, n_volumes))))
    error = np.sqrt(np.mean((out - image) ** 2))
    assert error == pytest.approx(1 / np.sqrt(n_volumes - 1), rel=0.02)


def test_the_mean_of_every_volume_is_kept_exactly(noisy):
    kept = denoised(noisy).mean(axis=(0, 1, 2), dtype=np.float64)
    asked = noisy.data.mean(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(kept, asked, rtol=1e-6)  # float32 values


def test_b0_and_diffusion_weighted_volumes_do_not_mix(noisy):
    W = Patch2Self().fit([noisy], [NO_NOISE], Run())["weights"].numpy()
    across = noisy.is_b0[:, None] != noisy.is_b0[None]
    assert across.any()
    assert (W[across] == 0).all()
    assert (W[~across & ~np.eye(len(W), dtype=bool)] != 0).all()


def test_without_b_values_all_volumes_are_one_group(noisy):
    W = Patch2Self().fit([replace(noisy, bvals=None)], [NO_NOISE], Run())["weights"].numpy()
    assert ((W != 0) == ~np.eye(len(W), dtype=bool)).all()


def test_a_lone_b0_passes_through(noisy):
    bvals = np.where(np.arange(noisy.n_volumes) == 3, 0.0, 1000.0)
    out = denoised(replace(noisy, bvals=bvals))
    np.testing.assert_array_equal(out[..., 3], noisy.data[..., 3])
    assert np.abs(out[..., 4] - noisy.data[..., 4]).max() > 1


def test_equal_volumes_do_not_blow_up(noisy):
    data = noisy.data.copy()
    data[..., 5] = data[..., 6]
    out = denoised(replace(noisy, data=data))
    assert np.isfinite(out).all()
    # learned from its copy, noise and all
    np.testing.assert_allclose(out[..., 6], data[..., 6], atol=0.1)
    assert np.abs(out).max() < 2 * np.abs(data).max()


def test_constant_volumes_do_not_blow_up():
    data = np.zeros((8, 8, 4, 5))
    data[..., 2] = 7
    np.testing.assert_allclose(denoised(series(data)), data, atol=1e-5)


def test_it_lowers_the_error_against_the_truth(noisy):
    clean, mask = phantom("small").clean.data, noisy.mask
    weighted = ~noisy.is_b0
    error = ((denoised(noisy) - clean)[mask][:, weighted] ** 2).mean()
    assert error < 0.95 * 40.0**2  # measured 0.88: 12 directions are few for it
