"""Outside the mask: what the mask's voxels know nothing of is denoised as well, or left alone."""

from dataclasses import replace

import numpy as np
import pytest

import quell
from quell.series import outside_mask
from quell.simulate import Phantom, PhantomSettings, corrupt, phantom

SIGMA = 40.0
PRESETS = {"joint": "instant", "wiener": "default"}


@pytest.fixture(scope="module")
def small() -> Phantom:
    settings = PhantomSettings((40, 46, 12), 4.0, 4, ((1000.0, 20),), seed=28, supersample=4)
    return phantom(settings)


@pytest.fixture(scope="module")
def noisy(small) -> np.ndarray:
    rng = np.random.default_rng(0)
    return corrupt(small.clean.data, SIGMA, rng, "gaussian", correlation=(0.17, 0.34, 0))


@pytest.mark.parametrize("method", PRESETS)
def test_what_a_mask_of_white_matter_leaves_out_is_denoised_too(small, noisy, method):
    white, others = small.tissue == 3, small.clean.mask & (small.tissue != 3)
    scan = replace(small.clean, data=noisy, mask=white)
    out = quell.denoise(scan, method=method, preset=PRESETS[method], threads=2).denoised
    error = [((out - small.clean.data)[region] ** 2).mean() for region in (white, others)]
    assert error[0] < 0.5 * SIGMA**2
    assert error[1] < 0.5 * SIGMA**2
    before, after = noisy[~white].mean(axis=0), out[~white].mean(axis=0)
    np.testing.assert_allclose(after, before, rtol=0.02)


@pytest.mark.parametrize("method", PRESETS)
def test_the_mean_of_the_air_stays_in_every_volume_of_a_magnitude(small, method):
    rng = np.random.default_rng(1)
    data = corrupt(small.clean.data, SIGMA, rng, "rician", correlation=(0.17, 0.34, 0))
    scan = replace(small.clean, data=data)
    out = quell.denoise(scan, method=method, preset=PRESETS[method], threads=2).denoised
    outside = ~small.clean.mask
    np.testing.assert_allclose(out[outside].mean(axis=0), data[outside].mean(axis=0), rtol=0.02)


def test_few_voxels_outside_have_no_components_and_stay_as_they_are(small, noisy):
    inside = small.clean.mask
    data = np.where(inside[..., None], noisy, 0)
    specks = np.argwhere(~inside)[::400]
    data[tuple(specks.T)] = noisy[tuple(specks.T)]
    scan = replace(small.clean, data=data)
    assert not outside_mask(scan).any()
    state = quell.denoise(scan, method="wiener", threads=2)
    assert "filter outside" not in state.state
    np.testing.assert_allclose(
        state.denoised[tuple(specks.T)], data[tuple(specks.T)], rtol=1e-4, atol=1e-3
    )
