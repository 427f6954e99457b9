"""What quell view reads, refuses and hands out."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest

from conftest import write_scan
from quell.view import open_scans

AFFINE = np.array([[-2.0, 0.3, 0, 10], [0.3, 2, 0.2, -8], [0, -0.2, 3, 5], [0, 0, 0, 1]])


def write(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


@pytest.fixture
def pair(tmp_path):
    """A noisy scan stored as int16 with slope and intercept, packed; a float32 one, unpacked."""
    raw = np.arange(360, dtype=np.int16).reshape(4, 5, 6, 3)
    whole = bytearray(nib.Nifti1Image(raw, AFFINE).to_bytes())
    whole[112:120] = np.array([0.37, -12.5], "<f4").tobytes()  # scl_slope and scl_inter
    noisy = tmp_path / "a.nii.gz"
    noisy.write_bytes(gzip.compress(whole))
    return noisy, write(tmp_path / "b.nii", noise(4, 5, 6, 3, seed=1))


def values_of(nifti: bytes) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(nifti).dataobj)


def test_the_curve_is_what_nibabel_reads(pair):
    scans = open_scans(pair[0], [pair[1]])
    read = [nib.load(path).get_fdata()[2, 1, 4] for path in pair]
    assert json.loads(scans.signal(2, 1, 4))["files"] == [list(curve) for curve in read]


def test_the_scan_of_the_test_really_has_a_slope(pair):
    assert nib.load(pair[0]).dataobj.slope == pytest.approx(0.37)


@pytest.mark.parametrize("i", [0, 1])
def test_a_volume_has_the_values_and_the_place_of_the_file(pair, i):
    nifti = open_scans(pair[0], [pair[1]]).volume(i, 2)
    np.testing.assert_allclose(values_of(nifti), nib.load(pair[i]).get_fdata()[..., 2], rtol=1e-6)
    np.testing.assert_allclose(nib.Nifti1Image.from_bytes(nifti).affine, AFFINE, atol=1e-6)


def test_the_difference_is_noisy_minus_denoised(pair):
    a, b = (nib.load(path).get_fdata()[..., 1] for path in pair)
    got = values_of(open_scans(pair[0], [pair[1]]).difference(1, 1))
    np.testing.assert_allclose(got, a - b, rtol=1e-5, atol=1e-4)


def test_the_ratio_is_zero_where_sigma_is_not_known(pair, tmp_path):
    sigma = np.full((4, 5, 6), 4, np.float32)
    sigma[0], sigma[1] = 0, np.nan
    scans = open_scans(pair[0], [pair[1]], write(tmp_path / "sigma.nii.gz", sigma))
    a, b = (nib.load(path).get_fdata()[..., 1] for path in pair)
    got = values_of(scans.ratio(1, 1))
    assert np.all(got[:2] == 0)
    np.testing.assert_allclose(got[2:], (a - b)[2:] / 4, rtol=1e-5, atol=1e-4)


def test_a_noise_map_of_each_volume_is_taken_volume_by_volume(pair, tmp_path):
    sigma = np.broadcast_to(np.array([1, 2, 4], np.float32), (4, 5, 6, 3))
    scans = open_scans(pair[0], [pair[1]], write(tmp_path / "sigma.nii", sigma.copy()))
    np.testing.assert_allclose(
        values_of(scans.ratio(1, 2)), values_of(scans.difference(1, 2)) / 4, rtol=1e-6
    )


def test_what_is_no_number_is_named_in_words_and_black_in_pictures(tmp_path):
    data = noise(3, 3, 3, 2)
    data[1, 1, 1] = np.nan, np.inf
    scans = open_scans(write(tmp_path / "a.nii", data), [write(tmp_path / "b.nii", data)])
    assert json.loads(scans.signal(1, 1, 1))["files"][0] == [None, None]
    for v in (0, 1):
        assert values_of(scans.volume(0, v))[1, 1, 1] == 0
        assert values_of(scans.difference(1, v))[1, 1, 1] == 0


def test_b_values_come_from_beside_the_scan(scan):
    scans = open_scans(scan, [scan])
    assert json.loads(scans.description())["bvals"] == list(np.loadtxt(scan.parent / "dwi.bval"))


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path, series):
    paths = [tmp_path / folder / "dwi.nii.gz" for folder in ("x", "y")]
    for path in paths:
        path.parent.mkdir()
        write_scan(path, series)
    described = json.loads(open_scans(paths[0], [paths[1]]).description())
    assert [file["name"] for file in described["files"]] == [str(path) for path in paths]


def test_single_images_may_follow_the_result(pair, tmp_path):
    fa = write(tmp_path / "fa.nii.gz", noise(4, 5, 6))
    scans = open_scans(pair[0], [pair[1], fa])
    assert len(json.loads(scans.signal(0, 0, 0))["files"][2]) == 1
    np.testing.assert_array_equal(values_of(scans.volume(2, 2)), nib.load(fa).get_fdata())


def shifted(pair, folder):
    moved = AFFINE.copy()
    moved[0, 3] += 0.5
    return write(folder / "moved.nii", noise(4, 5, 6, 3), moved)


def cut_short(pair, folder):
    path = folder / "cut.nii.gz"
    path.write_bytes(pair[0].read_bytes()[:-40])
    return path


def spoiled(pair, folder):
    path = folder / "text.nii.gz"
    path.write_text("not an image")
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda pair, folder: folder / "none.nii.gz", "does not exist"),
        (lambda pair, folder: folder, "is a folder"),
        (lambda pair, folder: write(folder / "c.nii", noise(4, 5, 7, 3)), "4 x 5 x 7"),
        (lambda pair, folder: write(folder / "c.nii", noise(4, 5, 6, 2)), "has 2 volumes"),
        (lambda pair, folder: write(folder / "c.nii", noise(4, 5, 6)), "has 1 volumes"),
        (lambda pair, folder: write(folder / "c.nii", noise(4, 5, 6, 3) * 1j), "write its magnit"),
        (lambda pair, folder: write(folder / "c.nii", noise(4, 5, 6, 1, 3)), "5 dimensions"),
        (shifted, "lies elsewhere"),
        (cut_short, "damaged or cut short"),
        (spoiled, "not a readable NIfTI"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(quell, pair, tmp_path, make, says):
    ran = quell("view", pair[0], make(pair, tmp_path), "--no-browser")
    assert (ran.status, ran.out) == (1, "")
    assert says in ran.err
    assert ran.err.startswith("quell: ")
    assert len(ran.err.splitlines()) == 1


def test_a_noise_map_elsewhere_is_refused(quell, pair, tmp_path):
    ran = quell("view", *pair, "--sigma", shifted(pair, tmp_path), "--no-browser")
    assert ran.status == 1
    assert "lies elsewhere" in ran.err


@pytest.mark.parametrize(
    "words", [(), ("one.nii",), ("a.nii", "b.nii", "--port", "x"), ("a.nii", *["b.nii"] * 8)]
)
def test_what_cannot_be_meant_ends_with_2(quell, pair, words):
    files = {"a.nii": pair[0], "b.nii": pair[1]}
    ran = quell("view", *(files.get(word, word) for word in words))
    assert ran.status == 2
    assert len(ran.err.splitlines()) == 1
