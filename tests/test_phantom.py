"""The phantom: closed-form signal, crossing bundles, a lesion, and the same bytes every time."""

from dataclasses import replace
from itertools import combinations

import nibabel as nib
import numpy as np
import pytest

from quell.simulate.anatomy import TISSUES, WHITE
from quell.simulate.fibres import BUNDLES
from quell.simulate.phantom import BUNDLE_TENSOR, INSTANCES, RADIAL_TENSOR, Phantom, phantom, signal
from quell.simulate.schemes import even_directions, scheme


@pytest.fixture(scope="module")
def small() -> Phantom:
    return phantom("small")


@pytest.fixture(scope="module")
def b() -> Phantom:
    return phantom("B")


@pytest.fixture(scope="module")
def a() -> Phantom:
    return phantom("A")


def one_voxel_signal(fibres, tangents, bvals, bvecs):
    """White matter only, no texture, (V,)."""
    tissues = np.zeros((len(TISSUES), 1, 1, 1), np.float32)
    tissues[WHITE] = 1
    fibres = np.reshape(fibres, (-1, 1, 1, 1)).astype(np.float32)
    tangents = np.reshape(tangents, (-1, 3, 1, 1, 1)).astype(np.float32)
    still = np.zeros((2, 1, 1, 1), np.float32)
    return signal(tissues, fibres, tangents, bvals, bvecs, still)[0, 0, 0]


def test_a_single_fibre_has_the_diffusivity_of_its_tensor_in_every_direction():
    bvals, bvecs = scheme(1, ((1000.0, 20),), np.random.default_rng(0))
    fibre = np.array([0.48, 0.6, 0.64])
    s = one_voxel_signal([1, 0], [fibre, [1, 0, 0]], bvals, bvecs)
    along, across = BUNDLE_TENSOR
    expected = across + (along - across) * (bvecs[1:] @ fibre) ** 2
    np.testing.assert_allclose(np.log(s[0] / s[1:]) / 1000, expected, rtol=1e-4)


def test_crossing_fibres_add_up_by_their_fractions():
    bvals, bvecs = np.array([0.0, 2000.0]), np.array([[0, 0, 0], [0.6, 0.8, 0.0]])
    s = one_voxel_signal([0.7, 0.3], [[1, 0, 0], [0, 1, 0]], bvals, bvecs)
    (along, across), (along_2, across_2) = BUNDLE_TENSOR, RADIAL_TENSOR
    first = np.exp(-2000 * (across + (along - across) * 0.36))
    second = np.exp(-2000 * (across_2 + (along_2 - across_2) * 0.64))
    assert s[1] / s[0] == pytest.approx(0.7 * first + 0.3 * second, rel=1e-5)


def test_the_same_name_gives_the_same_bytes(small):
    again = phantom("small")
    assert again.clean.data.tobytes() == small.clean.data.tobytes()
    assert again.clean.bvecs.tobytes() == small.clean.bvecs.tobytes()


def test_another_seed_gives_another_anatomy(small):
    other = phantom(replace(INSTANCES["small"], seed=4))
    assert (other.tissue != small.tissue).mean() > 0.05


def test_an_unknown_name_is_refused_in_words():
    with pytest.raises(ValueError, match="choose from A, B, small"):
        phantom("C")


@pytest.mark.parametrize(
    ("name", "n_b0", "shells"),
    [("A", 6, {1000: 30, 2000: 30}), ("B", 6, {1000: 64}), ("small", 2, {1000: 12})],
)
def test_an_instance_has_its_grid_and_its_scheme(name, n_b0, shells, request):
    clean = request.getfixturevalue(name.lower()).clean
    assert clean.data.shape == (*INSTANCES[name].shape, n_b0 + sum(shells.values()))
    b, n = np.unique(clean.bvals, return_counts=True)
    assert dict(zip(b, n, strict=True)) == {0: n_b0} | shells
    np.testing.assert_allclose(np.linalg.norm(clean.bvecs, axis=1), clean.bvals > 0, atol=1e-12)


def test_the_instance_to_choose_on_and_the_one_to_report_on_differ_in_anatomy(a, b):
    differ = a.tissue[:, :, 2:22] != b.tissue  # the same 20 heights, within 1 mm
    in_both = a.clean.mask[:, :, 2:22] & b.clean.mask
    assert differ[in_both].mean() > 0.2


def test_b0_volumes_stand_between_the_weighted_ones(b):
    at = np.flatnonzero(b.clean.is_b0)
    assert at[0] == 0
    assert set(np.diff(at)) <= {11, 12}


@pytest.mark.parametrize("n", [6, 30, 64])
def test_directions_are_spread_evenly(n):
    g = even_directions(n, np.random.default_rng(0))
    cosine = np.abs(g @ g.T) - 2 * np.eye(n)
    nearest = np.arccos(cosine.max(axis=1))
    ideal = np.sqrt(4 * np.pi / (np.sqrt(3) * n))  # spacing of a hexagonal lattice on a half sphere
    assert nearest.min() > 0.75 * ideal


@pytest.mark.parametrize("name", ["small", "a", "b"])
def test_pure_white_matter_has_the_stated_mean_at_b0(name, request):
    made = request.getfixturevalue(name)
    pure = made.fractions.sum(axis=-1) > 0.95
    b0 = made.clean.data[pure][:, made.clean.is_b0]
    assert b0.mean() == pytest.approx(made.white_matter_b0, rel=1e-4)
    assert 0.02 < b0[:, 0].std() / b0.mean() < 0.08  # texture: tissue is not one flat value


@pytest.mark.parametrize("name", ["a", "b"])
def test_grey_matter_is_brighter_than_white_and_csf_brightest_at_b0(name, request):
    made = request.getfixturevalue(name)
    b0 = made.clean.data[..., made.clean.is_b0].mean(axis=-1)
    csf, grey, white = (np.median(b0[made.tissue == i]) for i in (1, 2, 3))
    assert 700 < white < 800 < 900 < grey < 1050 < 1300 < csf < 1800


def test_outside_the_head_is_exactly_zero_and_the_mask_leaves_out_the_scalp(b):
    assert not b.clean.data[b.clean.data[..., 0] == 0].any()
    assert not b.clean.data[:2, :2].any()
    assert not b.clean.mask[b.tissue == TISSUES.index("scalp")].any()
    assert b.clean.mask[b.tissue == WHITE].all()


@pytest.mark.parametrize("name", ["a", "b"])
def test_bundles_cross_at_steep_angles(name, request):
    made = request.getfixturevalue(name)
    for one, other in combinations(("callosum", "corticospinal", "arcuate"), 2):
        pair = [BUNDLES.index(one), BUNDLES.index(other)]
        both = (made.fractions[..., pair] > 0.2).all(axis=-1)
        u, v = np.moveaxis(made.directions[both][:, pair], 1, 0)
        steep = np.abs((u * v).sum(axis=-1)) < np.cos(np.deg2rad(45))
        assert steep.sum() > 50, (one, other)


@pytest.mark.parametrize("bundle", ["callosum", "corticospinal", "arcuate", "cingulum"])
def test_a_bundle_bends_along_its_way(b, bundle):
    i = BUNDLES.index(bundle)
    t = b.directions[b.fractions[..., i] > 0.3][:, i].astype(float)
    spread = np.linalg.eigvalsh(t.T @ t / len(t))  # a straight bundle: 0, 0, 1
    assert len(t) > 100
    assert spread[-1] < 0.97


@pytest.mark.parametrize("name", ["small", "a", "b"])
def test_directions_are_unit_vectors_and_fractions_at_most_one(name, request):
    made = request.getfixturevalue(name)
    np.testing.assert_allclose(np.linalg.norm(made.directions, axis=-1), 1, atol=1e-5)
    assert made.fractions.min() >= 0
    assert made.fractions.sum(axis=-1).max() <= 1 + 1e-5


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_principal_direction_is_the_one_water_follows_in_the_callosum(name, request):
    made = request.getfixturevalue(name)
    pure = made.fractions[..., BUNDLES.index("callosum")] > 0.85
    dwi = made.clean.bvals == 1000
    cosine = np.abs(made.principal[pure] @ made.clean.bvecs[dwi].T)
    s = made.clean.data[pure][:, dwi]
    correlation = [np.corrcoef(c, v)[0, 1] for c, v in zip(cosine, s, strict=True)]
    assert max(correlation) < -0.8  # signal falls as the gradient turns to the fibre


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_lesion_is_small_and_stands_out_at_b0_and_in_the_weighted_mean(name, request):
    made = request.getfixturevalue(name)
    assert 30 <= made.lesion.sum() <= 80
    white = made.fractions.sum(axis=-1) > 0.95
    b0 = made.clean.data[..., made.clean.is_b0].mean(axis=-1)
    dwi = made.clean.data[..., made.clean.bvals == 1000].mean(axis=-1)
    assert b0[made.lesion].mean() > 1.4 * b0[white].mean()
    assert dwi[made.lesion].mean() > 1.2 * dwi[white].mean()
    fall = b0[made.lesion].mean() / dwi[made.lesion].mean()  # faster diffusion than around it
    assert fall > 1.1 * b0[white].mean() / dwi[white].mean()


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_lesion_keeps_away_from_the_cores_of_bundles(name, request):
    made = request.getfixturevalue(name)
    assert made.fractions[made.lesion][:, :-1].max() < 0.5


def test_borders_have_partial_volume(b):
    white = b.fractions.sum(axis=-1)
    assert ((white > 0.1) & (white < 0.9)).sum() > 0.3 * (white > 0).sum()


def test_the_grid_is_oblique_and_both_forms_of_the_header_say_so(small):
    header, affine = small.clean.header, small.clean.affine
    assert (header["qform_code"], header["sform_code"]) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-3)
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-4)
    assert nib.affines.obliquity(affine).max() > np.deg2rad(3)
    assert np.linalg.det(affine) < 0  # voxel axes are then FSL's axes for bvecs


@pytest.mark.parametrize("bundle", BUNDLES[:-1])
def test_four_voxels_along_the_tangent_one_is_still_in_the_bundle(b, bundle):
    i = BUNDLES.index(bundle)
    white = b.fractions.sum(axis=-1)
    share = b.fractions[..., i] / np.maximum(white, 1e-6)
    start = np.argwhere((share > 0.4) & (white > 0.5))
    tangent = b.directions[..., i, :][tuple(start.T)]
    for way in (4, -4):  # across, a thin bundle keeps 5 to 25 %
        there = np.rint(start + way * tangent).astype(int)
        there = tuple(there[((there >= 0) & (there < share.shape)).all(axis=1)].T)
        assert (share[there][white[there] > 0.5] > 0.15).mean() > 0.94
