"""Kurtosis maps, and FA from six directions."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import write_scan
from quell.evaluate.kurtosis import kurtosis_maps, kurtosis_scores, kurtosis_volumes
from quell.evaluate.tensor import first_six, tensor_maps
from quell.series import Series
from quell.simulate import PhantomSettings, corrupt, even_directions, phantom

BVALS = np.r_[0.0, 0.0, np.full(15, 1000.0), np.full(15, 2000.0)]
SHELLS = [even_directions(15, np.random.default_rng(seed)) for seed in (0, 1)]
BVECS = np.concatenate([np.zeros((2, 3)), *SHELLS])
MASK = np.ones((12, 12, 1), bool)


def of_kurtosis(K: np.ndarray, D: float = 0.8e-3) -> np.ndarray:
    """ln S = -b D + b² D² K / 6, the expansion that defines K; the same in all directions."""
    b = BVALS
    return (1000 * np.exp(-b * D + (b * D) ** 2 * K[..., None] / 6)).astype(np.float32)


def test_the_kurtosis_that_the_signal_was_made_with_is_found():
    K = np.linspace(0.2, 1.5, 144).reshape(MASK.shape)
    maps = kurtosis_maps(of_kurtosis(K), BVALS, BVECS, MASK)
    for found in (maps.mk, maps.ak, maps.rk):
        np.testing.assert_allclose(found, K, atol=0.01)


def test_gaussian_diffusion_has_none_and_noise_is_cut_to_what_tissue_has():
    none = of_kurtosis(np.zeros(MASK.shape))
    np.testing.assert_allclose(kurtosis_maps(none, BVALS, BVECS, MASK).mk, 0, atol=1e-3)
    noisy = corrupt(none, 300.0, np.random.default_rng(0), "rician")
    maps = kurtosis_maps(noisy, BVALS, BVECS, MASK)
    assert maps.rk.min() >= 0
    assert maps.rk.max() <= 3


def test_less_noise_scores_higher():
    K = np.random.default_rng(0).uniform(0.3, 1.2, MASK.shape)
    clean = of_kurtosis(K)
    truth, a, b = (
        kurtosis_maps(clean + sigma * np.random.default_rng(1).standard_normal(clean.shape),
                      BVALS, BVECS, MASK) for sigma in (0, 4, 20)
    )  # fmt: skip
    good, bad = (kurtosis_scores(one, truth, MASK) for one in (a, b))
    assert all(good[name] > bad[name] for name in ("mk_psnr", "ak_psnr", "rk_psnr", "mk_ssim"))


def test_which_scans_allow_kurtosis():
    assert kurtosis_volumes(BVALS).tolist() == list(range(32))
    assert kurtosis_volumes(np.where(BVALS > 0, 1000, 0)) is None  # one shell
    assert kurtosis_volumes(BVALS[2:]) is None  # no b=0
    assert kurtosis_volumes(np.r_[BVALS[:10], BVALS[-10:]]) is None  # 18 directions
    high = np.r_[BVALS, np.full(20, 5000.0)]
    assert kurtosis_volumes(high).tolist() == list(range(32))


def test_the_first_six_directions_in_their_order():
    bvals, bvecs = np.roll(BVALS, 3), np.roll(BVECS, 3, axis=0)
    assert first_six(bvals, bvecs).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert first_six(BVALS[:7], BVECS[:7]) is None
    flat = BVECS * [1, 1, 0]  # in a plane: no tensor follows from them
    flat[2:] /= np.linalg.norm(flat[2:], axis=1, keepdims=True)
    assert first_six(BVALS, flat) is None


def test_six_directions_of_a_clean_tensor_give_the_same_fa():
    D = np.diag([1.6e-3, 0.4e-3, 0.3e-3])
    signal = 1000 * np.exp(-BVALS * np.einsum("vi,ij,vj->v", BVECS, D, BVECS))
    data = np.broadcast_to(signal.astype(np.float32), (*MASK.shape, 32)).copy()
    six = first_six(BVALS, BVECS)
    few, all_ = (
        tensor_maps(data[..., v], BVALS[v], BVECS[v], MASK).fa for v in (six, np.arange(32))
    )
    np.testing.assert_allclose(few, all_, atol=1e-4)


@pytest.fixture(scope="module")
def two_shells() -> Series:
    whole = phantom(
        PhantomSettings((36, 40, 6), 4.5, 2, ((1000.0, 12), (2000.0, 12)), seed=3)
    ).clean
    return replace(whole, data=whole.data[9:27, 10:30, 2:5], mask=None)


def test_the_command_scores_both(quell, tmp_path, two_shells):
    noisy = corrupt(two_shells.data, 30.0, np.random.default_rng(0))
    better = (two_shells.data + 0.2 * (noisy - two_shells.data)).astype(np.float32)
    for name, data in (("noisy", noisy), ("better", better), ("truth", two_shells.data)):
        write_scan(tmp_path / f"{name}.nii.gz", replace(two_shells, data=data))
    words = ("evaluate", tmp_path / "noisy.nii.gz", tmp_path / "better.nii.gz", "--dki")
    ended = quell(*words, "--truth", tmp_path / "truth.nii.gz", "--threads", "1")
    assert ended.status == 0, ended.err
    found = {line[:24].strip(): line[24:].split() for line in ended.out.splitlines()}
    for score, sign in (("MK, dB", 1), ("FA error, 6 directions", -1)):
        best, noisy_score = map(float, found[score])
        assert sign * (best - noisy_score) > 0, score
    ended = quell(*words)
    assert ended.status == 1
    assert "does not allow --dki: it needs --truth" in ended.err
