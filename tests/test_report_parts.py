"""What stands on the report: its slices to browse, maps, charts and the answers at its top."""

from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from quell.checks import Finding
from quell.evaluate import headline, residual_statistics, verdict
from quell.evaluate.outliers import Outlier, SliceResiduals, outliers, with_dropouts
from quell.options import Options
from quell.pipeline import denoise as denoised_by
from quell.report.averages import average_maps, own_maps, pass_over
from quell.report.browse import MOST_VOXELS, browse, side_by_side, thinning
from quell.report.charts import charts
from quell.report.figures import view_of
from quell.report.page import page_of
from quell.report.shown import outlier_pictures
from quell.report.summary import answers, listed
from quell.report.tensors import tensor_maps_shown, tensor_volumes
from quell.reported import report_facts
from quell.simulate import even_directions


def opened(address: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(address.split(",")[1])))


def voxel(sheet: np.ndarray, found, x: int, y: int, z: int) -> int:
    """A voxel of the turned volume, read from the picture as the script does."""
    X, Y, _ = found.grid
    row, column = divmod(z, found.columns)
    return int(sheet[row * Y + Y - 1 - y, column * X + x])


# ---- slices to browse ----------------------------------------------------------------------------


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_every_voxel_is_in_the_sheet_however_the_scan_is_stored(facts, flips, order) -> None:
    volume = np.random.default_rng(0).uniform(0, 255, (6, 7, 5))  # right, anterior, superior
    stored = np.transpose(volume[tuple(slice(None, None, f) for f in flips)], order)
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([1.0, 2, 3]) * flips)[:, order]
    mask = np.ones(stored.shape, bool)
    here = replace(facts, noisy=stored[..., None], denoised=stored[..., None], mask=mask,
                   sigma=np.ones(stored.shape), affine=affine)  # fmt: skip
    found = browse(here, 0, view_of(mask, affine), (0.0, 255.0))
    sheet = np.asarray(opened(found.pictures["before"]))
    assert (found.grid, found.mm, found.first) == (volume.shape, (1.0, 2.0, 3.0), (0, 0, 0))
    for x, y, z in np.ndindex(*volume.shape):
        assert voxel(sheet, found, x, y, z) == round(volume[x, y, z])


def test_the_sliders_begin_where_the_other_pictures_are_cut(facts) -> None:
    view = view_of(facts.mask, facts.affine)
    found = browse(facts, 1, view, (0.0, 400.0))
    at = np.array(found.first) + np.array(found.step) * np.array(found.start)
    assert tuple(at) == view.centre  # stored along right, anterior, superior already
    sheet = np.asarray(opened(found.pictures["after"]))
    grey = round(255 * float(facts.denoised[(*view.centre, 1)]) / 400)
    assert voxel(sheet, found, *found.start) == grey


@pytest.mark.parametrize("shape", [(128, 128, 78), (256, 256, 180), (400, 500, 20), (10, 10, 10)])
def test_a_large_box_is_thinned_until_it_fits(shape) -> None:
    step = thinning(shape, np.array([1.0, 1.0, 1.5]))
    assert np.prod(np.ceil(np.array(shape) / step)) <= MOST_VOXELS
    assert (np.prod(shape) > MOST_VOXELS) == (step > 1).any()


def test_sheets_are_about_square() -> None:
    sheet, columns = side_by_side(np.zeros((100, 120, 70), np.uint8))
    height, width = sheet.shape
    assert 0.7 < height / width < 1.4
    assert columns * 100 == width


# ---- maps ----------------------------------------------------------------------------------------


def test_removed_noise_is_as_large_as_the_noise_and_averages_out(facts) -> None:
    seen = pass_over(facts)
    inside = facts.mask
    assert seen.rms[inside].mean() == pytest.approx(1, abs=0.1)  # 6 volumes, 1500 voxels
    assert np.sqrt(np.mean(seen.removed[inside] ** 2)) == pytest.approx(10, rel=0.05)
    assert seen.mean[inside].std() == pytest.approx(1, abs=0.06)
    assert seen.n_averaged == 2


def test_residual_and_noise_map_have_one_scale(facts) -> None:
    removed, noise = average_maps(facts, pass_over(facts))[:2]
    assert removed.window == noise.window
    assert removed.colours == noise.colours


def test_the_spread_is_shown_over_the_volumes_that_have_one(facts) -> None:
    spread = np.zeros(facts.noisy.shape, np.float32)
    spread[..., 1:] = 3
    (shown,) = own_maps(replace(facts, spread=spread), pass_over(facts))
    np.testing.assert_allclose(shown.volume, 3)
    assert "over 5 volumes" in shown.text
    assert "0.3 of σ" in shown.text


def test_fa_and_md_of_one_tensor_are_its_own(facts) -> None:
    bvecs = np.vstack([np.zeros(3), even_directions(12, np.random.default_rng(0))])
    bvals = np.array([0.0] + [1000.0] * 12)
    D = np.diag([1.7e-3, 0.3e-3, 0.3e-3])
    signal = 1000 * np.exp(-bvals * np.einsum("vi,ij,vj->v", bvecs, D, bvecs))
    data = np.broadcast_to(signal.astype(np.float32), (*facts.mask.shape, 13))
    here = replace(facts, noisy=data, denoised=data, bvals=bvals, bvecs=bvecs)
    shown, said = tensor_maps_shown(here, view_of(facts.mask, facts.affine))
    assert [m.text.split()[1] for m in shown[:4:3]] == ["0.799.", "0.767"]
    assert (shown[2].volume == 0).all()
    assert "13 volumes up to b=1000" in said


def test_tensors_leave_out_shells_where_they_no_longer_hold() -> None:
    directions = even_directions(10, np.random.default_rng(1))
    bvecs = np.vstack([np.zeros((1, 3)), directions, directions])
    bvals = np.array([0.0] + [1000.0] * 10 + [3000.0] * 10)
    np.testing.assert_array_equal(tensor_volumes(bvals, bvecs), np.arange(11))
    high = np.concatenate([[0], np.arange(11, 21)])
    np.testing.assert_array_equal(tensor_volumes(bvals[high], bvecs[high]), np.arange(11))


def test_without_directions_or_b0_no_tensor_is_shown(facts) -> None:
    directions = even_directions(10, np.random.default_rng(1))
    assert tensor_volumes(np.full(10, 1000.0), directions) is None
    assert tensor_volumes(None, None) is None
    one = np.vstack([np.zeros(3), np.tile([1.0, 0, 0], (9, 1))])
    assert tensor_volumes(np.array([0.0] + [1000.0] * 9), one) is None
    assert "Not shown" in page_of(facts)


# ---- the answers at the top ----------------------------------------------------------------------


def said_of(facts, found=(), findings=()):
    judgements = verdict(replace(facts.statistics, outliers=tuple(found)), findings=findings)
    residuals = SliceResiduals(np.ones((6, 8)), np.zeros((6, 8)))
    found = with_dropouts(found, [cell for f in findings for cell in f.slices], residuals)
    return answers(judgements, findings, found, residuals), headline(judgements, findings)


def test_noise_that_was_removed_is_good_all_over(facts) -> None:
    said, whole = said_of(facts)
    assert [a.level for a in said] == ["good"] * 4
    assert whole.sentence == "Use it."  # though six volumes hold too little contrast to measure
    assert whole.lines == []


def test_a_slice_that_stands_out_or_a_finding_is_said_at_the_top(facts) -> None:
    said, whole = said_of(facts, [Outlier(1, (3,), "a larger residual", 2.0, 8)])
    assert (said[2].level, said[2].said) == ("note", "1 slice (2.1 %) stands out")
    assert whole.sentence == (
        "Use it, but know this: 1 slice stands out, that is slice 3 of volume 1: a larger residual."
    )
    two = [Finding(code, "warning", code, "") for code in ("a", "b")]
    said, whole = said_of(facts, findings=two)
    assert (said[3].level, said[3].said, whole.level) == ("warning", "2 remarks", "note")
    assert whole.sentence == "Use it, but know this: a."
    assert whole.lines == ["Also: b."]


def test_a_dropout_that_the_result_follows_stands_out_all_the_same(facts) -> None:
    lost = Finding("dark-slices", "warning", "slice 3 of volume 1 has no signal", "drop it",
                   is_fault=True, slices=((1, 3),))  # fmt: skip
    said, whole = said_of(facts, findings=[lost])
    assert (said[2].level, said[2].said) == ("warning", "1 slice (2.1 %) stands out")
    assert (whole.level, whole.sentence) == ("warning", f"Look first: {lost.sentence}.")
    page = page_of(replace(facts, findings=[lost.to_dict()], warnings=()))
    assert "Look first: slice 3 of volume 1 has no signal." in page
    assert "dark or empty in the scan: a drop-out" in page
    assert "Volume 1, slice 3" in page  # its picture


def test_notes_are_folded_away_and_no_reason(facts) -> None:
    note = Finding("protocol", "note", "the protocol has partial Fourier 0.75", "nothing")
    page = page_of(replace(facts, findings=[note.to_dict()], warnings=()))
    assert "Use it." in page
    assert "Nothing was found against the scan." in page
    assert page.index("About this scan: 1 note") < page.index(note.sentence)


def test_anatomy_in_the_residual_is_said_at_the_top(facts) -> None:
    blurred = 0.8 * facts.denoised
    off = residual_statistics(facts.noisy, blurred, facts.sigma, facts.mask, facts.bvals, None)
    said, whole = said_of(replace(facts, denoised=blurred, statistics=off))
    assert (said[0].level, said[1].level, whole.level) == ("error",) * 3
    assert whole.sentence.startswith("Look first: the residual is larger than the noise")
    assert "It follows the image" in said[1].said


def test_long_lists_are_cut_short() -> None:
    many = [Outlier(v, tuple(range(20)), "motion", 2.0, 50) for v in range(30)]
    rows = listed([Outlier(0, tuple(range(40)), "motion", 3.0, 50), *many])
    assert len(rows) == 12
    assert rows[0][1] == "most of it (40 of 50 slices)"
    assert rows[1][1].endswith("11 and 8 more")


def test_slices_that_stand_out_are_drawn(facts) -> None:
    noisy = facts.noisy.copy()
    noisy[:, :, 4, 2] -= 50
    bvals = np.array([0.0] + [1000.0] * 5)
    here = replace(facts, noisy=noisy, bvals=bvals)
    found = outliers(pass_over(here).slices, bvals)
    pictures = outlier_pictures(here, view_of(facts.mask, facts.affine), found)
    assert [picture["name"] for picture in pictures] == ["Volume 2, slice 4"]
    assert opened(pictures[0]["image"]).size[0] == 3 * 260


# ---- from a run ----------------------------------------------------------------------------------


def test_charts_are_drawn_for_what_there_is(facts) -> None:
    steps = {"stopping steps": np.array([[1, 5], [900, 3]])}
    drawn = charts(replace(facts, steps=steps, distances=(1.0, 2.0), eigenvalues=None))
    assert set(drawn) == {"volumes", "shells", "autocorrelation", "power", "loss", "steps",
                          "distance"}  # fmt: skip


def test_a_result_hands_in_its_maps_directions_and_papers(series) -> None:
    options = Options(method="mppca", threads=1)
    result = denoised_by(series, options)
    found = report_facts(result, series, options, "quell denoise")
    assert set(found.maps) == {"noise", "rank"}
    np.testing.assert_array_equal(found.bvecs, series.bvecs)
    assert found.covariance is result.noise.covariance
    assert "quell" in found.citations[0]
    assert "Veraart" in found.citations[1]
    assert ["Foi" in c for c in found.citations] == [False, False, True]  # Rician: stabilised
    page = page_of(found)
    assert all(words in page for words in ("Rank map", "Noise map", "FA after", "nibabel"))


@pytest.mark.parametrize(("Z", "V"), [(1, 6), (8, 1)])
def test_one_slice_or_one_volume_or_a_map_for_each_volume_has_its_page(facts, Z, V) -> None:
    noisy, denoised = facts.noisy[:, :, :Z, :V], facts.denoised[:, :, :Z, :V]
    sigma, mask = facts.sigma[..., :Z], facts.mask[..., :Z]
    page = page_of(
        replace(
            facts,
            noisy=noisy,
            denoised=denoised,
            sigma=np.repeat(sigma[..., None], V, axis=3),
            mask=mask,
            bvals=None,
            statistics=residual_statistics(noisy, denoised, sigma, mask, None, None),
            steps={"matched states": np.zeros(0)},
        )
    )
    assert f'data-grid="14 16 {Z}"' in page
    assert 'id="steps"' not in page


def test_the_view_of_an_oblique_scan_is_along_its_own_slices(facts) -> None:
    turned = nib.affines.from_matvec(
        nib.eulerangles.euler2mat(0.1, 0.2, 0.1) @ np.diag([2.0, 2, 3])
    )
    found = browse(facts, 0, view_of(facts.mask, turned), (0.0, 400.0))
    np.testing.assert_allclose(found.mm, (2, 2, 3))
