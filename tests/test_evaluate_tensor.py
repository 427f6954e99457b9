"""Maps of the tensor: what they are of known tensors, and their scores."""

from dataclasses import replace

import numpy as np
import pytest

from quell.evaluate import direction_error, map_scores, tensor_maps
from quell.simulate import even_directions

B, SHAPE = 1000.0, (12, 12, 2)
EVERYWHERE = np.ones(SHAPE, bool)


@pytest.fixture(scope="module")
def gradients() -> tuple[np.ndarray, np.ndarray]:
    directions = even_directions(20, np.random.default_rng(0))
    return np.r_[0, 0, np.full(20, B)], np.r_[np.zeros((2, 3)), directions]


def signals(bvals, bvecs, along: float, across: float, direction) -> np.ndarray:
    """One bundle of these diffusivities (mm²/s) in every voxel."""
    u = np.asarray(direction) / np.linalg.norm(direction)
    rate = across + (along - across) * (bvecs @ u) ** 2
    return np.broadcast_to(1000 * np.exp(-bvals * rate), (*SHAPE, len(bvals))).copy()


def test_maps_of_a_known_tensor(gradients):
    maps = tensor_maps(signals(*gradients, 1.7e-3, 0.3e-3, (1, 2, 2)), *gradients, EVERYWHERE)
    np.testing.assert_allclose(maps.ad, 1.7e-3, rtol=1e-4)
    np.testing.assert_allclose(maps.rd, 0.3e-3, rtol=1e-3)
    np.testing.assert_allclose(maps.md, (1.7e-3 + 0.6e-3) / 3, rtol=1e-4)
    cosines = np.abs(maps.direction @ np.array([1, 2, 2]) / 3)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 10.0, 60.0])
def test_the_angle_is_that_between_both_bundles(gradients, degrees):
    turned = (np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0)
    first = tensor_maps(signals(*gradients, 1.7e-3, 0.3e-3, (1, 0, 0)), *gradients, EVERYWHERE)
    second = tensor_maps(signals(*gradients, 1.7e-3, 0.3e-3, turned), *gradients, EVERYWHERE)
    assert direction_error(second, first, EVERYWHERE) == pytest.approx(degrees, abs=0.1)
    opposite = replace(second, direction=-second.direction)  # an axis has no sign
    assert direction_error(opposite, first, EVERYWHERE) == pytest.approx(degrees, abs=0.1)


def test_where_nothing_has_a_direction_there_is_no_angle(gradients):
    maps = tensor_maps(signals(*gradients, 1e-3, 0.95e-3, (1, 0, 0)), *gradients, EVERYWHERE)
    assert np.isnan(direction_error(maps, maps, EVERYWHERE))


def test_scores_of_maps_have_a_closed_form(gradients):
    truth = tensor_maps(signals(*gradients, 1.7e-3, 0.3e-3, (1, 0, 0)), *gradients, EVERYWHERE)
    shifted = replace(truth, fa=truth.fa + np.float32(0.01), ad=truth.ad * np.float32(1.1))
    scores = map_scores(shifted, truth, EVERYWHERE)
    assert scores["fa_psnr"] == pytest.approx(40, abs=0.01)  # of a range of 1
    assert scores["ad_psnr"] == pytest.approx(20, abs=0.01)  # of the largest true one
    assert scores["md_psnr"] == np.inf
    assert scores["md_ssim"] == pytest.approx(1)
    assert scores["ad_ssim"] < 0.999
