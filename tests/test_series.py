"""Reading and writing: what comes back, what is kept, and what is refused in words."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from quell.series import (
    InputError,
    Series,
    brain_mask,
    copy_gradients,
    load,
    mask_of,
    stem,
    write_nifti,
)

AFFINE = np.array([[-2.0, 0.1, 0, 90], [0.1, 2.0, 0, -120], [0, 0, 3.0, -50], [0, 0, 0, 1]])
V = 6


def integers(shape=(7, 6, 5, V)):
    return np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)


def save(path, array=None, affine=AFFINE, kind=nib.Nifti1Image, slope=None, gradients=False):
    image = kind(integers() if array is None else array, affine)
    image.header.set_slope_inter(slope, 0 if slope else None)
    nib.save(image, path)
    if gradients:
        Path(stem(path)).with_suffix(".bval").write_text("0 1000 1000 1000 1000 1000\n")
        bvecs = np.vstack([np.zeros(3), np.tile(np.eye(3), (2, 1))[: V - 1]]).T
        np.savetxt(stem(path).with_suffix(".bvec"), bvecs, fmt="%g")
    return path


def complaint(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        load(*args, **kwargs)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("name", ["dwi.nii", "dwi.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_values_come_back_in_scanner_units_and_volume_order(tmp_path, name, kind):
    path = save(tmp_path / name, kind=kind, slope=0.25)
    series = load(path)
    assert series.data.dtype == np.float32
    np.testing.assert_array_equal(series.data, nib.load(path).get_fdata())
    assert series.stored_dtype == "int16"


def test_every_field_of_the_grid_survives_the_round_trip(tmp_path):
    image = nib.Nifti1Image(integers(), AFFINE)
    other = AFFINE.copy()
    other[:3, 3] += 5
    image.set_sform(other, 4)
    image.set_qform(np.diag([2, 2, 3, 1.0]), 1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 7.6
    image.header.set_intent("estimate", name="signal")
    image.header["descrip"] = b"as exported"
    nib.save(image, tmp_path / "in.nii.gz")
    series = load(tmp_path / "in.nii.gz")
    write_nifti(tmp_path / "out.nii.gz", series.data, series)
    a, b = nib.load(tmp_path / "in.nii.gz").header, nib.load(tmp_path / "out.nii.gz").header
    changed = {k for k in a if not np.array_equal(a[k], b[k])}
    assert changed <= {"datatype", "bitpix", "scl_slope", "scl_inter"}
    np.testing.assert_array_equal(nib.load(tmp_path / "out.nii.gz").affine, series.affine)


def test_the_output_is_float32_with_slope_one(tmp_path):
    series = load(save(tmp_path / "in.nii.gz", slope=0.25))
    write_nifti(tmp_path / "out.nii.gz", series.data + np.float32(0.3), series)
    out = nib.load(tmp_path / "out.nii.gz")
    assert out.get_data_dtype() == np.float32
    assert (out.dataobj.slope, out.dataobj.inter) == (1, 0)
    np.testing.assert_array_equal(np.asarray(out.dataobj), series.data + np.float32(0.3))


def test_a_map_has_the_grid_of_its_scan(tmp_path):
    series = load(save(tmp_path / "in.nii.gz", kind=nib.Nifti2Image))
    write_nifti(tmp_path / "map.nii", series.data[..., 0], series)
    out = nib.load(tmp_path / "map.nii")
    assert isinstance(out, nib.Nifti2Image)
    assert out.shape == series.data.shape[:3]
    np.testing.assert_allclose(out.affine, AFFINE, atol=1e-6)


def test_the_same_array_gives_the_same_bytes(tmp_path):
    series = load(save(tmp_path / "in.nii.gz"))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, series.data, series)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_writing_to_a_place_that_is_not_there_is_said_and_leaves_nothing(tmp_path):
    series = load(save(tmp_path / "in.nii.gz"))
    with pytest.raises(InputError, match="cannot be written"):
        write_nifti(tmp_path / "nowhere" / "out.nii.gz", series.data, series)
    assert os.listdir(tmp_path) == ["in.nii.gz"]


def test_a_write_that_fails_keeps_the_old_file_and_no_rest(tmp_path, monkeypatch):
    series = load(save(tmp_path / "in.nii.gz"))
    (tmp_path / "out.nii.gz").write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left") as caught:
        write_nifti(tmp_path / "out.nii.gz", series.data, series)
    assert caught.value.status == 1
    assert (tmp_path / "out.nii.gz").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["in.nii.gz", "out.nii.gz"]


def test_another_ending_than_nifti_is_a_usage_error(tmp_path):
    series = load(save(tmp_path / "in.nii.gz"))
    with pytest.raises(InputError, match=r"must end in \.nii") as caught:
        write_nifti(tmp_path / "out.mgz", series.data, series)
    assert caught.value.status == 2


def test_complex_data_stay_complex(tmp_path):
    data = (integers() + 1j * integers()[::-1]).astype(np.complex64)
    series = load(save(tmp_path / "in.nii.gz", data))
    assert series.data.dtype == np.complex64
    write_nifti(tmp_path / "out.nii.gz", series.data, series)
    np.testing.assert_array_equal(load(tmp_path / "out.nii.gz").data, data)


def test_gradients_and_sidecar_beside_the_scan_are_found(tmp_path):
    path = save(tmp_path / "dwi.nii.gz", gradients=True)
    (tmp_path / "dwi.json").write_text(json.dumps({"EchoTime": 0.1}))
    series = load(path)
    assert list(series.bvals) == [0] + [1000] * 5
    np.testing.assert_array_equal(series.bvecs[1], [1, 0, 0])
    assert list(series.is_b0) == [True] + [False] * 5
    assert series.sidecar == {"EchoTime": 0.1}


def test_directions_are_read_written_either_way(tmp_path):
    path = save(tmp_path / "dwi.nii.gz", gradients=True)
    expected = load(path).bvecs
    np.savetxt(tmp_path / "upright", expected)
    np.testing.assert_array_equal(load(path, bvec=tmp_path / "upright").bvecs, expected)


@pytest.mark.parametrize("name", ["bvals", "bval"])
def test_the_folders_own_gradients_are_taken_when_they_fit(tmp_path, name):
    path = save(tmp_path / "dwi.nii.gz")
    (tmp_path / name).write_text(" ".join(["0"] * V))
    assert load(path).bval_path == tmp_path / name
    (tmp_path / name).write_text("0 0 0")
    assert load(path).bvals is None


def test_a_direction_of_a_b0_volume_is_zero(tmp_path):
    path = save(tmp_path / "dwi.nii.gz", gradients=True)
    text = (tmp_path / "dwi.bvec").read_text().splitlines()
    (tmp_path / "dwi.bvec").write_text("\n".join("nan" + line[1:] for line in text))
    assert not load(path).bvecs[0].any()


def test_gradients_are_copied_byte_for_byte(tmp_path):
    series = load(save(tmp_path / "dwi.nii.gz", gradients=True))
    written = copy_gradients(series, tmp_path / "out.nii.gz")
    assert [p.name for p in written] == ["out.bval", "out.bvec"]
    for ending in ("bval", "bvec"):
        assert (tmp_path / f"out.{ending}").read_bytes() == (
            tmp_path / f"dwi.{ending}"
        ).read_bytes()


def test_voxels_without_a_number_are_counted_zeroed_and_left_out(tmp_path):
    data = integers().astype(np.float32)
    data[0, 0, 0, :] = np.nan
    data[1, 1, 1, 2] = np.inf
    path = save(tmp_path / "in.nii.gz", data)
    save(tmp_path / "mask.nii.gz", np.ones(data.shape[:3], np.uint8))
    series = load(path, mask=tmp_path / "mask.nii.gz")
    assert series.n_nonfinite == V + 1
    assert np.isfinite(series.data).all()
    assert not series.data[0, 0, 0].any()
    for mask in (series.mask, mask_of(replace(series, mask=None))):
        assert not mask[0, 0, 0]
        assert not mask[1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((8, 8), "single slice"),
        ((4, 4, 4, 3, 2), "5 dimensions"),
    ],
)
def test_a_scan_of_another_shape_is_refused(tmp_path, shape, words):
    said = complaint(save(tmp_path / "in.nii.gz", integers(shape)))
    assert words in said
    assert "in.nii.gz" in said


@pytest.mark.parametrize(
    ("value", "words"), [(0, "every voxel is 0"), (7, "every voxel is 7"), (np.nan, "NaN or Inf")]
)
def test_a_scan_without_content_is_refused(tmp_path, value, words):
    said = complaint(save(tmp_path / "in.nii.gz", np.full((4, 4, 4, 3), value, np.float32)))
    assert words in said
    assert "in.nii.gz" in said


def spoil_missing(path):
    path.unlink()


def spoil_text(path):
    path.write_text("not an image")


def spoil_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))


def spoil_header(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:100]))


def spoil_promise(path):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:50] = np.array([30000, 30000, 30000, 100], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize(
    "spoil", [spoil_missing, spoil_text, spoil_cut, spoil_flip, spoil_header, spoil_promise]
)
def test_a_broken_file_is_named(tmp_path, spoil):
    path = save(tmp_path / "in.nii.gz", integers((20, 20, 10, V)))
    spoil(path)
    assert "in.nii.gz" in complaint(path)


def test_an_uncompressed_file_that_is_too_short_is_named(tmp_path):
    path = save(tmp_path / "in.nii")
    spoil_cut(path)
    assert "in.nii is cut short" in complaint(path)


def test_a_folder_is_not_a_scan(tmp_path):
    assert "is a folder" in complaint(tmp_path)


def test_another_image_format_is_named(tmp_path):
    nib.save(nib.MGHImage(integers().astype(np.int32), AFFINE), tmp_path / "in.mgz")
    assert "MGHImage" in complaint(tmp_path / "in.mgz")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("dwi.bval", "0 1000 1000", "holds 3 b-values and the scan 6 volumes"),
        ("dwi.bval", "0 1000 1000 1000 1000 -5", "negative"),
        ("dwi.bval", "b = 0 1000", "not a text file of numbers"),
        ("dwi.bval", "", "no rows"),
        ("dwi.bvec", "1 0 0\n0 1 0\n", "is 2 x 3 and the scan has 6 volumes"),
        ("dwi.bvec", "1 0 0\n0 1\n", "unequal length"),
        ("dwi.bvec", "nan\n" * 3, "3 x 1"),
        ("dwi.json", "{broken", "not readable JSON"),
        ("dwi.json", "[1, 2]", "not a BIDS sidecar"),
    ],
)
def test_a_bad_text_file_beside_the_scan_is_named(tmp_path, name, text, words):
    path = save(tmp_path / "dwi.nii.gz", gradients=True)
    (tmp_path / name).write_text(text)
    said = complaint(path)
    assert words in said
    assert name in said


def test_a_gradient_file_that_is_not_there_is_named(tmp_path):
    assert "none.bval does not exist" in complaint(
        save(tmp_path / "dwi.nii.gz"), bval=tmp_path / "none.bval"
    )


@pytest.mark.parametrize(
    ("mask", "shift", "words"),
    [
        (np.ones((7, 6, 4), np.uint8), 0, "7 x 6 x 4 and the scan 7 x 6 x 5"),
        (np.ones((7, 6, 5, 2), np.uint8), 0, "4 dimensions"),
        (np.ones((7, 6, 5), np.uint8), 1, "lies elsewhere"),
        (np.zeros((7, 6, 5), np.uint8), 0, "is empty"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(tmp_path, mask, shift, words):
    affine = AFFINE.copy()
    affine[0, 3] += shift
    save(tmp_path / "mask.nii.gz", mask, affine)
    said = complaint(save(tmp_path / "in.nii.gz"), mask=tmp_path / "mask.nii.gz")
    assert words in said
    assert "mask.nii.gz" in said


def test_reading_never_changes_a_folder(tmp_path):
    path = save(tmp_path / "in.nii.gz", integers((8, 8)))
    complaint(path)
    assert os.listdir(tmp_path) == ["in.nii.gz"]


def head(background, brightest=1.0):
    """A ball of 100 with a bright pool inside, on a background of noise or of zeros."""
    rng = np.random.default_rng(1)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (48, 48, 12)), indexing="ij")
    ball = x**2 + y**2 + z**2 < 0.6
    pool = x**2 + y**2 < 0.03
    noise = np.abs(rng.normal(0, 5, (*ball.shape, 2)))
    tissue = 100 * ball * np.where(pool, brightest, 1)
    return tissue[..., None] + noise * (ball[..., None] | (background == "noise")), ball


@pytest.mark.parametrize("background", ["noise", "zeros"])
@pytest.mark.parametrize("brightest", [1.0, 12.0])
def test_the_mask_is_the_head_whatever_the_background_and_the_brightest_fluid(
    background, brightest
):
    data, ball = head(background, brightest)
    mask = brain_mask(data, np.zeros(2))
    assert 2 * np.count_nonzero(mask & ball) / (mask.sum() + ball.sum()) > 0.95


@pytest.mark.parametrize(
    "data", [np.zeros((4, 4, 1, 2)), np.ones((4, 4, 2, 2)), np.eye(4)[:, :, None, None]]
)
def test_a_mask_is_never_empty_and_never_raises(data):
    mask = brain_mask(data.astype(np.float32))
    assert mask.dtype == bool
    assert mask.any()


def test_voxel_edges_come_from_the_affine():
    series = Series(np.zeros((2, 2, 2, 3), np.float32), np.diag([2, 2, 3, 1.0]), nib.Nifti1Header())
    assert series.voxel_mm == (2, 2, 3)
    assert series.n_volumes == 3
    assert not series.is_b0.any()


def test_an_offset_that_is_no_number_is_refused(tmp_path):
    path = save(tmp_path / "dwi.nii")
    raw = bytearray(path.read_bytes())
    raw[108:112] = np.float32(np.inf).tobytes()  # vox_offset
    path.write_bytes(raw)
    assert "is not a readable NIfTI file" in complaint(path)


def test_a_scan_that_lies_nowhere_is_refused(tmp_path):
    mask = save(tmp_path / "mask.nii", np.ones((7, 6, 5), np.uint8))
    raw = bytearray(nib.Nifti1Image(integers(), AFFINE).to_bytes())
    raw[280:296] = np.full(4, np.nan, np.float32).tobytes()  # srow_x
    (tmp_path / "dwi.nii").write_bytes(raw)
    assert "says no place in space" in complaint(tmp_path / "dwi.nii")
    assert "says no place in space" in complaint(tmp_path / "dwi.nii", mask=mask)


def test_a_head_without_contrast_has_a_mask():
    data = np.full((8, 8, 2, 1), 1e6, np.float32)
    data[2:6, 2:6] = np.nextafter(np.float32(1e6), np.float32(2e6))  # too alike for a histogram
    assert brain_mask(data).any()


def test_sizes_below_zero_are_refused(tmp_path):
    path = save(tmp_path / "dwi.nii")
    raw = bytearray(path.read_bytes())
    raw[42:46] = np.array([-7, -6], np.int16).tobytes()  # dim[1] and dim[2]: their product is fine
    path.write_bytes(raw)
    assert "holds no voxels" in complaint(path)


def test_a_sidecar_that_is_nested_too_deep_to_be_written_again_is_refused(tmp_path):
    path = save(tmp_path / "dwi.nii")
    (tmp_path / "dwi.json").write_text('{"a": ' + "[" * 900 + "]" * 900 + "}")
    assert "nested more than 64 deep" in complaint(path)
    (tmp_path / "dwi.json").write_text('{"a": ' + "[" * 60 + "]" * 60 + "}")
    assert list(load(path).sidecar) == ["a"]


def test_values_that_no_scanner_measures_are_refused(tmp_path):
    data = integers().astype(np.float32)
    data[3, 3, 2, 1] = 1e20
    assert "holds values up to 1e+20" in complaint(save(tmp_path / "dwi.nii", data))


def test_a_bright_image_without_darkness_has_a_mask():
    assert brain_mask(np.float32([1, 2, 3, 4]).reshape(2, 2, 1, 1) * np.float32(1e38)).any()
