"""The mask of fields of view that hold little air, or none: it is the object, not its fluid."""

import numpy as np
import pytest

from quell.series import brain_mask
from quell.simulate import corrupt, phantom


@pytest.fixture(scope="module")
def brain():
    """Phantom A: its signal, b-values, and where there is any tissue."""
    made = phantom("A")
    return made.clean.data[:, :, 6:14], made.clean.bvals, made.tissue[:, :, 6:14] != 0


INSIDE = np.s_[22:54, 32:64]  # no air, a third of it fluid
WITH_SOME_AIR = np.s_[4:44, 26:66]  # 3 %, at one side
CORNER = np.s_[0:36, 4:44]  # 28 %


def overlap(a, b) -> float:
    return 2 * np.count_nonzero(a & b) / (a.sum() + b.sum())


@pytest.mark.parametrize("snr", [5, 15, 40])
@pytest.mark.parametrize(("box", "least"), [(INSIDE, 0.97), (WITH_SOME_AIR, 0.97), (CORNER, 0.94)])
def test_the_mask_is_the_object_with_little_air_and_without_any(brain, box, least, snr):
    clean, bvals, tissue = brain
    few = np.r_[0:3, 8:14]
    noisy = corrupt(clean[box][..., few], 750 / snr, np.random.default_rng(0), "rician")
    assert overlap(brain_mask(noisy, bvals[few]), tissue[box]) > least


@pytest.mark.parametrize(("law", "n_coils"), [("gaussian", 1), ("rician", 1), ("nc-chi", 16)])
def test_no_kind_of_noise_makes_fluid_the_object(brain, law, n_coils):
    clean, bvals, tissue = brain
    rng = np.random.default_rng(0)
    noisy = corrupt(clean[INSIDE][..., :9], 50.0, rng, law, n_coils, (0.6, 0.6, 0.3))
    assert overlap(brain_mask(noisy, bvals[:9]), tissue[INSIDE]) > 0.97


@pytest.mark.parametrize("n_volumes", [1, 2, 7])
def test_few_images_without_air_and_without_bvals(brain, n_volumes):
    clean, _, tissue = brain
    chosen = clean[INSIDE][..., [0, *range(8, 7 + n_volumes)]]
    noisy = corrupt(chosen, 50.0, np.random.default_rng(0), "rician")
    assert overlap(brain_mask(noisy), tissue[INSIDE]) > 0.97


def test_a_tissue_cut_out_and_put_on_zeros_is_the_object(brain):
    clean, bvals, tissue = brain
    noisy = corrupt(clean[INSIDE][..., :9], 50.0, np.random.default_rng(0), "rician")
    kept = np.ones_like(tissue[INSIDE])
    kept[:12, :12] = False
    noisy[~kept] = 0
    assert overlap(brain_mask(noisy, bvals[:9]), kept) > 0.97


def test_the_steady_floor_of_many_coils_is_air(brain):
    clean, bvals, tissue = brain
    noisy = corrupt(clean[..., :9], 50.0, np.random.default_rng(0), "nc-chi", 32)
    for known in (bvals[:9], None):  # attenuation tells, or that air has no structure
        volumes = noisy if known is not None else noisy[..., :3]
        assert overlap(brain_mask(volumes, known), tissue) > 0.9


@pytest.mark.parametrize("shape", [(32, 32, 8), (32, 32, 1), (16, 16, 3)])
def test_a_sphere_that_fills_the_field_of_view_is_the_object(shape):
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    clean = np.repeat(1000 * np.exp(-0.3 * (x**2 + y**2))[..., None], shape[2], axis=2)
    noisy = corrupt(clean[..., None], 50.0, np.random.default_rng(0), "rician")
    assert brain_mask(noisy).mean() > 0.95
