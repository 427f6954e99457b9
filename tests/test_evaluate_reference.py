"""Errors against a known truth, on cases with a closed-form answer."""

from functools import partial

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from quell.evaluate import (
    bias,
    fa_error,
    md_error,
    nrmse,
    psnr,
    range_of,
    rmse,
    ssim,
    tensor_maps,
)

MASK = np.ones((4, 5, 6), bool)


def test_psnr_of_a_constant_error_has_a_closed_form() -> None:
    truth = np.zeros((4, 5, 6, 3), np.float32)
    assert psnr(truth + 10, truth, MASK, data_range=1000) == pytest.approx(40.0)


def test_psnr_without_any_error_is_infinite() -> None:
    truth = np.ones((4, 5, 6, 3), np.float32)
    assert psnr(truth, truth, MASK, data_range=1) == np.inf


def test_errors_outside_the_mask_do_not_count() -> None:
    truth = np.ones((4, 5, 6), np.float32)
    estimate, mask = truth.copy(), MASK.copy()
    estimate[0], mask[0] = 1e6, False
    assert rmse(estimate, truth, mask) == 0


def test_bias_is_the_relative_shift_of_each_volume() -> None:
    truth = np.full((4, 5, 6, 3), 200.0, np.float32)
    estimate = truth * np.array([1.0, 1.02, 0.9], np.float32)
    np.testing.assert_allclose(bias(estimate, truth, MASK), [0, 0.02, -0.1], atol=1e-6)


def test_bias_of_a_dark_volume_is_not_a_number() -> None:
    truth = np.zeros((4, 5, 6, 1), np.float32)
    assert np.isnan(bias(truth + 1, truth, MASK)).all()


def test_differing_shapes_and_empty_masks_are_refused() -> None:
    truth = np.zeros((4, 5, 6, 3))
    with pytest.raises(ValueError, match="shapes differ"):
        rmse(truth[..., :2], truth, MASK)
    with pytest.raises(ValueError, match="at least one voxel"):
        rmse(truth, truth, ~MASK)


def directions(n: int) -> np.ndarray:
    """n unit vectors, spread over the half-sphere by the golden angle."""
    z = (np.arange(n) + 0.5) / n
    angle = np.arange(n) * np.pi * (3 - 5**0.5)
    return np.column_stack([np.cos(angle), np.sin(angle), z]) * np.column_stack(
        [np.sqrt(1 - z**2)] * 2 + [np.ones(n)]
    )


def tensor_signal(eigenvalues: tuple[float, float, float]) -> tuple[np.ndarray, ...]:
    """Signals of one diagonal tensor (mm²/s) in every voxel, with their b-values and vectors."""
    bvecs = np.vstack([np.zeros((1, 3)), directions(30)])
    bvals = np.r_[0.0, np.full(30, 1000.0)]
    signal = 1000 * np.exp(-bvals * (bvecs**2 @ np.array(eigenvalues)))
    return np.broadcast_to(signal, (2, 2, 2, 31)).astype(np.float32), bvals, bvecs


def test_fa_and_md_of_a_known_tensor() -> None:
    data, bvals, bvecs = tensor_signal((1.7e-3, 0.3e-3, 0.3e-3))
    maps = tensor_maps(data, bvals, bvecs, np.ones((2, 2, 2), bool))
    np.testing.assert_allclose(maps.md, 2.3e-3 / 3, rtol=1e-4)
    np.testing.assert_allclose(maps.fa, 1.4 / np.sqrt(1.7**2 + 2 * 0.3**2), rtol=1e-4)


def test_tensor_maps_are_zero_outside_the_mask() -> None:
    data, bvals, bvecs = tensor_signal((1.7e-3, 0.3e-3, 0.3e-3))
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = True
    assert np.count_nonzero(tensor_maps(data, bvals, bvecs, mask).md) == 1


def test_tensor_errors_are_root_mean_squares_over_the_mask() -> None:
    mask = np.ones((2, 2, 2), bool)
    one, other = (
        tensor_maps(*tensor_signal(values), mask)
        for values in ((1e-3, 1e-3, 1e-3), (1.2e-3, 1.2e-3, 1.2e-3))
    )
    assert md_error(one, other, mask) == pytest.approx(0.2e-3, rel=1e-4)
    assert fa_error(one, other, mask) == pytest.approx(0.0, abs=1e-4)


def test_a_tensor_needs_six_directions() -> None:
    data, bvals, bvecs = tensor_signal((1e-3, 1e-3, 1e-3))
    with pytest.raises(ValueError, match="6 directions"):
        tensor_maps(data[..., :6], bvals[:6], bvecs[:6], np.ones((2, 2, 2), bool))


# ---- similarity, and the traps of scores ---------------------------------------------------------

AIR = np.zeros((24, 26, 3), bool)
AIR[:6] = True


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A truth with edges, and the same with noise, (24, 26, 3, 2)."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.uniform(200, 900, (6, 13, 3, 2)), np.ones((4, 2, 1, 1)))
    truth[AIR] = 0
    return truth, truth + rng.normal(0, 60, truth.shape)


def test_ssim_of_a_whole_image_is_that_of_scikit_image(pictures) -> None:
    truth, noisy = pictures
    everywhere = np.ones(truth.shape[:3], bool)
    found = ssim(noisy, truth, everywhere, 900.0)
    settings = {"gaussian_weights": True, "use_sample_covariance": False, "full": True}
    expected = [
        structural_similarity(truth[..., z, v], noisy[..., z, v], data_range=900.0, **settings)[1]
        for z in range(3)
        for v in range(2)
    ]
    assert found == pytest.approx(np.mean(expected), rel=1e-12)
    assert 0.2 < found < 0.99


def test_what_is_done_to_the_air_changes_no_score(pictures) -> None:
    truth, noisy = pictures
    blanked = np.where(AIR[..., None], 0, noisy)
    flattened = np.where(AIR[..., None], 55, noisy)
    for score in (rmse, nrmse, partial(ssim, data_range=900.0), partial(psnr, data_range=900.0)):
        expected = score(noisy, truth, ~AIR)
        assert score(blanked, truth, ~AIR) == expected
        assert score(flattened, truth, ~AIR) == expected


def test_blanking_everything_scores_worst(pictures) -> None:
    truth, noisy = pictures
    blank, inside = np.zeros_like(truth), ~AIR
    assert nrmse(blank, truth, inside) == pytest.approx(1)
    assert nrmse(noisy, truth, inside) < 0.2
    for score in (psnr, ssim):
        assert score(blank, truth, inside, 900.0) < score(noisy, truth, inside, 900.0) - 0.1
    assert ssim(truth, truth, inside, 900.0) == pytest.approx(1)


def test_the_range_is_that_of_the_reference(pictures) -> None:
    truth, noisy = pictures
    assert range_of(truth, ~AIR) == truth[~AIR].max()
    assert range_of(np.array([[[-3.0, 5.0]]]), np.ones((1, 1, 2), bool)) == 8
    bright = noisy.copy()
    bright[10, 10, 1, 0] = 9000  # a spike: a range taken from the result would be ten times as wide
    assert psnr(bright, truth, ~AIR, 900.0) < psnr(noisy, truth, ~AIR, 900.0)


def test_slices_smaller_than_the_window_have_no_similarity() -> None:
    truth = np.ones((4, 5, 6, 2))
    assert np.isnan(ssim(truth, truth, MASK, 1.0))
