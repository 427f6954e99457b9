"""Streamlines follow a bundle that is known, and coherence tells which of them stray."""

import csv
from dataclasses import replace
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from conftest import write_scan
from quell.evaluate.coherence import (
    COHERENT,
    REACH,
    _support,
    _table,
    coherence,
    kernel,
    tangents,
)
from quell.evaluate.regions import read_regions
from quell.evaluate.tractography import (
    Bundle,
    TractographySettings,
    coherence_scores,
    fibre_bundle,
    tract_response,
)
from quell.report import view_of
from quell.report.bundle import bundle_picture, bundle_view, fbc_histogram, largest_plane
from quell.series import InputError, Series
from quell.simulate import corrupt, even_directions

SHAPE, VOXEL_MM = (20, 12, 8), 2.0
EVERYWHERE = np.ones(SHAPE, bool)
RADIUS, CENTRE = 28.0, np.array([4.0, 34.0, 7.0])  # mm, of the arc along which the bundle runs
TUBE = 3.5  # mm, its own radius
QUICK = TractographySettings(density=2)
BVALS = np.r_[0, 0, np.full(30, 1500.0)]
ALONG_AXES = np.r_[np.zeros((2, 3)), even_directions(30, np.random.default_rng(0))]
LEFT_FIRST, RIGHT_FIRST = np.diag([2.0, 2, 2, 1]), np.diag([-2.0, 2, 2, 1])  # det > 0 and < 0


@pytest.fixture(scope="module")
def arc() -> np.ndarray:
    """Clean signal of a bundle bent in plane, in a tissue without directions; (X, Y, Z, V)."""
    p = positions()
    tangent = np.stack([-p[..., 1], p[..., 0], 0 * p[..., 0]], axis=-1)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    rate = 0.3e-3 + 1.4e-3 * (tangent @ ALONG_AXES.T) ** 2
    f = fraction()[..., None]
    return 1000 * (f * np.exp(-BVALS * rate) + (1 - f) * np.exp(-BVALS * 0.8e-3))


@pytest.fixture(scope="module")
def bundle(arc) -> Bundle:
    return track(arc)


def positions() -> np.ndarray:
    """(X, Y, Z, 3) mm along the voxel axes, from the middle of the arc's circle."""
    return VOXEL_MM * np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) - CENTRE


def off_the_arc(p: np.ndarray) -> np.ndarray:
    """Distance in mm of positions (..., 3) from the bundle's middle line."""
    return np.hypot(np.hypot(p[..., 0], p[..., 1]) - RADIUS, p[..., 2])


def fraction() -> np.ndarray:
    return np.clip(0.5 + (TUBE - off_the_arc(positions())) / VOXEL_MM, 0, 1)


def piece(low: float, high: float) -> np.ndarray:
    """(X, Y, Z) bool: the bundle between two angles along its arc, degrees."""
    angle = np.degrees(np.arctan2(positions()[..., 0], -positions()[..., 1]))
    return (fraction() > 0.5) & (angle > low) & (angle < high)


def as_in_fsl(g: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """What a bvec file says of directions along the voxel axes: x is turned about if det > 0."""
    return g * [-1, 1, 1] if np.linalg.det(affine[:3, :3]) > 0 else g


def track(data, affine=LEFT_FIRST, mask=EVERYWHERE, seed=1, settings=QUICK, response=None):
    seeds, target = piece(4, 11), piece(48, 55)
    given = (
        data,
        BVALS,
        as_in_fsl(ALONG_AXES, affine),
        mask,
        affine,
        seeds,
        target,
        seed,
        settings,
        response,
    )
    return fibre_bundle(*given)


# --- coherence ----------------------------------------------------------------------------------


def strands(n: int = 40, points: int = 60) -> list[np.ndarray]:
    """Parallel streamlines along x, 0.5 mm steps, in a tube of 1 mm."""
    across = np.random.default_rng(0).normal(0, 1, (n, 2))
    x = np.arange(points) / 2
    return [np.c_[x, np.broadcast_to(yz, (points, 2))] for yz in across]


def test_the_kernel_is_that_of_dipy():
    from dipy.denoise.enhancement_kernel import EnhancementKernel

    rng = np.random.default_rng(0)
    dipy = EnhancementKernel(1.0, 0.02, 1.0, orientations=0, verbose=False)  # without its table
    v, r = rng.normal(size=(2, 50, 3))
    v, r = (u / np.linalg.norm(u, axis=1, keepdims=True) for u in (v, 0.5 * r + v))
    r *= np.sign(np.sum(v * r, axis=1, keepdims=True))
    x, at = rng.uniform(-2, 2, (50, 3)), np.zeros(3)
    said = [dipy.evaluate_kernel(*given) for given in zip(x, 0 * x, r, v, strict=True)]
    peak = dipy.evaluate_kernel(at, at, v[0], v[0])
    np.testing.assert_allclose(kernel(x, v, r), np.array(said) / peak, rtol=1e-6)
    np.testing.assert_allclose(kernel(x, v, -r), kernel(x, v, r))


def test_support_is_the_kernel_summed_over_all_points_of_the_others():
    lines = [np.cumsum(x, axis=0) for x in np.random.default_rng(0).normal(0.2, 0.4, (3, 12, 3))]
    axes, _, _ = _table()
    cells = [np.floor(points + 0.5) for points in lines]
    nearest = [axes[np.abs(tangents(points) @ axes.T).argmax(axis=1)] for points in lines]
    for i, support in enumerate(_support(lines)):
        expected = np.zeros(12)
        for j in {0, 1, 2} - {i}:
            offset = cells[i][:, None] - cells[j]
            lent = kernel(offset, nearest[j][None], nearest[i][:, None])
            expected += np.where(np.abs(offset).max(axis=-1) <= REACH, lent, 0).sum(axis=1)
        assert expected.max() > 0.1
        np.testing.assert_allclose(support, expected, atol=1e-5)  # of float32


def test_neither_the_origin_nor_the_sense_of_a_streamline_matters():
    lines = strands()
    _, rfbc = coherence(lines)
    _, shifted = coherence([points + np.array([120, -75, 33]) for points in lines])
    np.testing.assert_allclose(shifted, rfbc, rtol=1e-5)
    _, turned = coherence([points[::-1] if i % 2 else points for i, points in enumerate(lines)])
    np.testing.assert_allclose(turned, rfbc, atol=0.03)  # its ends are a step further on


@pytest.mark.parametrize("kind", ["crosses", "leaves", "is alone"])
def test_a_streamline_that_strays_is_less_coherent_than_all_others(kind):
    s = np.arange(60) / 2
    stray = {
        "crosses": np.c_[15 + 0 * s, s - 15, 0 * s],
        "leaves": np.c_[s, np.maximum(s - 15, 0), 0 * s],
        "is alone": np.c_[s, 30 + 0 * s, 0 * s],
    }[kind]
    _, rfbc = coherence([*strands(), stray])
    assert rfbc[-1] < 0.05 < COHERENT
    assert np.mean(rfbc[:-1] > COHERENT) > 0.9
    assert rfbc[-1] < rfbc[:-1].min()


def test_what_crosses_inside_a_bundle_gets_less_than_what_runs_along():
    lines = strands()
    along = np.c_[np.arange(10) / 2 + 12, np.zeros((10, 2))]
    across = np.c_[np.full(10, 14.0), np.arange(10) / 2 - 2.25, np.zeros(10)]
    lfbc, _ = coherence([*lines, along, across])
    assert lfbc[-1].max() < 0.1 * lfbc[-2].min()


# --- streamlines --------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [LEFT_FIRST, RIGHT_FIRST], ids=["det > 0", "det < 0"])
def test_streamlines_follow_the_bundle_on_either_kind_of_grid(arc, affine):
    turned = np.deg2rad(20)
    oblique = np.eye(4)
    oblique[:2, :2] = [[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]
    oblique[:3, 3] = -40, 25, 10
    affine = oblique @ affine
    found = track(arc, affine)
    scores = coherence_scores(found)
    assert scores["reached"] > 0.6  # seeds at the bundle's edge, mixed with what is around, end
    assert scores["coherent"] > 0.95 * scores["streamlines"] > 0
    voxels = nib.affines.apply_affine(np.linalg.inv(affine), np.concatenate(found.streamlines))
    off = off_the_arc(VOXEL_MM * voxels - CENTRE)
    assert np.mean(off < TUBE + VOXEL_MM / 2) > 0.99
    angle = np.degrees(np.arctan2(*(VOXEL_MM * voxels - CENTRE)[:, :2].T * [[1], [-1]]))
    assert angle.min() < 11
    assert angle.max() > 48


def test_steps_are_short_and_turn_little(arc):
    noisy = corrupt(arc, 200.0, np.random.default_rng(0), "rician")
    for points in track(noisy).streamlines:
        steps = np.diff(points.astype(float), axis=0)
        length = np.linalg.norm(steps, axis=1)
        np.testing.assert_allclose(length, 0.5, atol=1e-4)
        cosines = np.sum(steps[1:] * steps[:-1], axis=1) / (length[1:] * length[:-1])
        assert np.degrees(np.arccos(np.clip(cosines, -1, 1))).max() < 30.1


def test_the_same_seed_gives_the_same_streamlines(arc, bundle):
    again, other = track(arc), track(arc, seed=2)
    assert len(again.streamlines) == len(bundle.streamlines)
    for a, b in zip(again.streamlines, bundle.streamlines, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(again.rfbc, bundle.rfbc)
    assert not np.array_equal(other.streamlines[0], bundle.streamlines[0])


def test_noise_makes_a_bundle_less_coherent(arc, bundle):
    noisy = corrupt(arc, 200.0, np.random.default_rng(0), "rician")
    clean, spoilt = coherence_scores(bundle), coherence_scores(track(noisy))
    assert spoilt["streamlines"] > 0.5 * clean["streamlines"]
    share = spoilt["coherent"] / spoilt["streamlines"]
    assert share < 0.9 * clean["coherent"] / clean["streamlines"]
    assert spoilt["rfbc"] < 0.9 * clean["rfbc"]


@pytest.mark.parametrize("value", [0.0, 300.0])
def test_a_blanked_scan_has_no_streamlines_and_that_is_a_result(arc, value):
    found = track(np.full_like(arc, value))
    assert found.streamlines == ()
    scores = coherence_scores(found)
    assert [scores[name] for name in ("streamlines", "coherent", "reached")] == [0, 0, 0]
    assert np.isnan(scores["rfbc"])


def test_no_streamline_leaves_the_mask(arc):
    mask = EVERYWHERE & ~piece(25, 32)  # the way is cut
    assert len(track(arc, mask=mask).streamlines) == 0


def test_seeds_are_so_many_in_each_voxel_up_to_a_limit(arc):
    n = int(piece(4, 11).sum())
    assert track(arc).n_seeds == 8 * n
    assert track(arc, settings=TractographySettings(density=2, most_seeds=50)).n_seeds == 50


def test_shells_of_fewer_directions_have_no_say(arc, bundle):
    rng = np.random.default_rng(0)
    data = np.concatenate([arc, rng.uniform(0, 1000, (*SHAPE, 12))], axis=-1)
    bvals = np.r_[BVALS, np.full(12, 3000.0)]
    bvecs = as_in_fsl(np.r_[ALONG_AXES, even_directions(12, rng)], LEFT_FIRST)
    regions = (piece(4, 11), piece(48, 55))
    found = fibre_bundle(data, bvals, bvecs, EVERYWHERE, LEFT_FIRST, *regions, 1, QUICK)
    np.testing.assert_array_equal(found.rfbc, bundle.rfbc)


def test_a_scan_too_smooth_for_a_response_can_have_that_of_the_raw_one(arc):
    smooth = arc.copy()
    smooth[..., 2:] = 0.4 * arc[..., 2:] + 0.6 * arc[..., 2:].mean(axis=-1, keepdims=True)
    with pytest.raises(InputError, match="take that of the raw scan"):
        track(smooth, settings=TractographySettings(density=2, gfa=0.05))
    response = tract_response(arc, BVALS, ALONG_AXES, EVERYWHERE)
    found = track(smooth, settings=TractographySettings(density=2, gfa=0.05), response=response)
    assert len(found.streamlines) > 0


def test_regions_that_cannot_be_used_are_refused_in_words(arc):
    seeds, target, none = piece(4, 11), piece(48, 55), np.zeros(SHAPE, bool)

    def refused(seeds, target, mask=EVERYWHERE, bvals=BVALS, volumes=np.s_[:]) -> str:
        given = (arc[..., volumes], bvals[volumes], ALONG_AXES[volumes], mask, LEFT_FIRST)
        with pytest.raises(InputError) as error:
            fibre_bundle(*given, seeds, target, 1, QUICK)
        return str(error.value)

    assert "seed region is empty" in refused(none, target)
    assert "target region is empty" in refused(seeds, none)
    assert "target region lies outside the mask" in refused(seeds, target, ~target)
    assert "seed region lies outside the mask" in refused(seeds, target, ~seeds)
    assert "target region is 5 x 5 x 5" in refused(seeds, np.ones((5, 5, 5), bool))
    assert f"share {seeds.sum()} voxels" in refused(seeds, seeds | target)
    assert "here are 2 and 12" in refused(seeds, target, volumes=np.s_[:14])
    assert "here are 0 and 30" in refused(seeds, target, volumes=np.s_[2:])
    assert "here are 2 and 0" in refused(seeds, target, volumes=np.s_[:2])


# --- regions ------------------------------------------------------------------------------------


@pytest.fixture
def like() -> Series:
    return Series(np.zeros((*SHAPE, 2), np.float32), RIGHT_FIRST, nib.Nifti1Header())


def write_labels(path, labels, like, shift=0.0):
    affine = like.affine.copy()
    affine[0, 3] += shift
    nib.save(nib.Nifti1Image(labels.astype(np.int16), affine), path)
    return path


def test_regions_are_read_by_their_labels(tmp_path, like):
    labels = 1 * piece(4, 11) + 2 * piece(48, 55) + 7 * piece(20, 30)
    seeds, target = read_regions(write_labels(tmp_path / "r.nii.gz", labels, like), like)
    np.testing.assert_array_equal(seeds, piece(4, 11))
    np.testing.assert_array_equal(target, piece(48, 55))


def test_region_maps_that_do_not_fit_are_refused_in_words(tmp_path, like):
    labels = 1 * piece(4, 11) + 2 * piece(48, 55)
    path = tmp_path / "r.nii.gz"

    def refused(labels, shift=0.0) -> str:
        with pytest.raises(InputError) as error:
            read_regions(write_labels(path, labels, like, shift), like)
        return str(error.value)

    assert "no voxel of label 1, the seeds" in refused(2 * piece(48, 55))
    assert "no voxel of label 2, the target" in refused(1 * piece(4, 11))
    assert "lies elsewhere" in refused(labels, shift=3.0)
    assert "19 x 12 x 8" in refused(labels[1:])


# --- pictures -----------------------------------------------------------------------------------


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(float)


def coloured(picture: np.ndarray) -> np.ndarray:
    return np.ptp(picture, axis=-1) > 60


@pytest.mark.parametrize("sign", [-1, 1])
def test_streamlines_are_drawn_where_they_run(sign):
    affine = np.diag([2.0 * sign, 2, 2, 1])
    affine[:3, 3] = -20 * sign, -20, -20  # a cube of 42 mm about the origin
    up = np.arange(4, 14.1, 0.5)
    lines = tuple(np.c_[8 + 0 * up, y + 0 * up, up].astype(np.float32) for y in range(8))
    lfbc = tuple(np.full(len(up), 2, np.float32) for _ in lines)
    found = Bundle(lines, lfbc, np.ones(8), 8)
    view = view_of(np.ones((21, 21, 21), bool), affine)
    assert largest_plane(found, affine) == "sagittal"
    picture = bundle_picture(found, np.zeros((21, 21, 21)), view, (0, 1), names=("coronal",))
    drawn = np.argwhere(coloured(pixels(picture)[:440]))  # without the scale
    row, column = (drawn.mean(axis=0) - 18) / 404 * 42 - 21  # mm
    assert column == pytest.approx(8, abs=0.2)  # to the right
    assert row == pytest.approx(-9, abs=0.2)  # and up


def test_coherent_streamlines_are_bright_and_stray_ones_dark(bundle):
    background, affine = np.zeros(SHAPE), LEFT_FIRST
    view = bundle_view(bundle, EVERYWHERE, affine)
    light = []
    for level in (0.03, 0.3, 3.0):
        lfbc = tuple(np.full_like(along, level) for along in bundle.lfbc)
        drawn = Bundle(bundle.streamlines, lfbc, bundle.rfbc, bundle.n_seeds)
        picture = pixels(bundle_picture(drawn, background, view, (0, 1), names=("axial",)))[:-60]
        light.append(picture[coloured(picture)].mean())
    assert light[0] + 20 < light[1] < light[2] - 20


def test_an_empty_bundle_is_drawn_as_anatomy_alone(bundle):
    nothing = Bundle((), (), np.zeros(0), 10)
    view = bundle_view(nothing, EVERYWHERE, LEFT_FIRST)
    picture = pixels(bundle_picture(nothing, np.ones(SHAPE), view, (0, 1)))[:-60]
    assert not coloured(picture).any()
    assert (picture > 60).mean() > 0.3  # the anatomy is there
    both = pixels(fbc_histogram({"scan": bundle, "blank": nothing}))
    middle = both.shape[0] // 2
    assert coloured(both[: middle - 20]).any()
    assert not coloured(both[middle + 20 :]).any()


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_tracks_in_every_result_from_the_same_seeds(quell, arc, tmp_path):
    noisy = corrupt(arc, 120.0, np.random.default_rng(0))
    whole = Series(arc, RIGHT_FIRST, nib.Nifti1Header(), BVALS, ALONG_AXES)
    better = arc + 0.2 * (noisy - arc)
    for name, data in (("noisy", noisy), ("better", better), ("blank", np.ones_like(arc))):
        write_scan(tmp_path / f"{name}.nii.gz", replace(whole, data=data.astype(np.float32)))
    labels = piece(4, 11).astype(np.uint8) + 2 * piece(48, 55).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, RIGHT_FIRST), tmp_path / "regions.nii.gz")
    mask = nib.Nifti1Image(EVERYWHERE.astype(np.uint8), RIGHT_FIRST)
    nib.save(mask, tmp_path / "mask.nii.gz")
    words = ("evaluate", *(tmp_path / f"{name}.nii.gz" for name in ("noisy", "better", "blank")))
    words += ("--mask", tmp_path / "mask.nii.gz", "--noise-law", "gaussian", "--threads", "1")
    ended = quell(*words, "--regions", tmp_path / "regions.nii.gz", "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    with open(tmp_path / "out" / "evaluation.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    better, noisy, blank = (
        {name: float(rows[one][name] or "nan") for name in ("streamlines", "reached", "rfbc")}
        for one in ("better", "noisy", "blank")
    )
    assert better["rfbc"] > noisy["rfbc"] > 0  # the noisy scan may have more of them, that stray
    assert better["reached"] > 0.5
    assert blank["streamlines"] == 0
    assert np.isnan(blank["rfbc"])  # none is no coherence
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "Streamlines from the seeds to the target" in page
    assert "0 streamlines, 0 coherent" in page
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), RIGHT_FIRST), tmp_path / "one.nii.gz")
    ended = quell(*words, "--regions", tmp_path / "one.nii.gz")
    assert ended.status == 1
    assert "no voxel of label 2" in ended.err
