"""The dash between commands of MRtrix: what is read, told, and deleted."""

import io
import sys

import numpy as np
import pytest

from conftest import QUICK
from quell.series import load, write_image

TEMPORARY = "mrtrix-tmp-abc123.mif"


@pytest.fixture
def pipe(monkeypatch, tmp_path):
    """A function that puts bytes into standard input; temporary files go into a folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("MRTRIX_TMPFILE_DIR", str(folder))

    def put(raw):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        return folder

    return put


def write_piped(path, series):
    write_image(path, series.data, series)
    return path


def test_a_temporary_image_is_read_and_deleted(quell, series, pipe, tmp_path):
    folder = pipe(b"%s\n" % str(tmp_path / TEMPORARY).encode())
    write_piped(tmp_path / TEMPORARY, series)
    ran = quell("denoise", "-", "-", *QUICK)
    assert ran.status == 0, ran.err
    (told,) = ran.out.splitlines()
    assert [told] == [str(path) for path in folder.iterdir()]  # nothing else lies there
    assert load(told).data.shape == series.data.shape
    assert not (tmp_path / TEMPORARY).exists()
    assert (folder / told).stat().st_mode & 0o077 == 0


def test_the_result_is_that_of_files(quell, series, pipe, tmp_path):
    write_piped(tmp_path / "dwi.mif", series)
    pipe(str(tmp_path / "dwi.mif").encode())
    assert quell("denoise", "-", tmp_path / "piped.mif", *QUICK).status == 0
    assert quell("denoise", tmp_path / "dwi.mif", tmp_path / "out.mif", *QUICK).status == 0
    piped, out = load(tmp_path / "piped.mif"), load(tmp_path / "out.mif")
    assert np.array_equal(piped.data, out.data)
    assert (tmp_path / "dwi.mif").exists()  # by its name no temporary file


def test_a_temporary_image_goes_when_the_run_fails(quell, series, pipe, tmp_path):
    folder = pipe(str(tmp_path / TEMPORARY).encode())
    (tmp_path / TEMPORARY).write_bytes(b"mrtrix image\nEND\n")
    ran = quell("denoise", "-", "-", *QUICK)
    assert (ran.status, ran.out) == (1, "")
    assert not list(folder.iterdir())
    assert not (tmp_path / TEMPORARY).exists()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no file came through the pipe"),
        (b"\n", "no file came through the pipe"),
        (b"x" * 10000, "no file's name"),
        (b"\x1f\x8b\0\0", "no file's name"),
        (b"nowhere.mif\n", "does not exist"),
        ("ünïcode.mif\n".encode("latin-1"), "does not exist"),
    ],
)
def test_what_is_no_name_is_refused(quell, pipe, tmp_path, raw, words):
    pipe(raw)
    ran = quell("check", "-")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert words in ran.err


def test_a_terminal_is_no_pipe(quell, pipe, monkeypatch, scan, tmp_path):
    pipe(b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    ran = quell("denoise", "-", tmp_path / "out.mif", *QUICK)
    assert (ran.status, "nothing is piped in" in ran.err) == (2, True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    ran = quell("denoise", scan, "-", *QUICK)
    assert (ran.status, "there is none" in ran.err) == (2, True)


# ---- files, without a pipe


def test_what_lies_beside_an_image_of_mrtrix(quell, scan, tmp_path):
    ran = quell("denoise", scan, tmp_path / "a.mif", *QUICK)
    assert ran.status == 0, ran.err
    assert sorted(p.name for p in tmp_path.glob("a.*")) == ["a.json", "a.mif"]
    out, whole = load(tmp_path / "a.mif"), load(scan)
    np.testing.assert_allclose(out.bvecs, whole.bvecs, atol=1e-6)
    assert np.array_equal(out.bvals, whole.bvals)
    given = "--fsl-gradients", "--noise-out", tmp_path / "n.mif.gz", "--residual-out"
    ran = quell("denoise", scan, tmp_path / "b.mih", *given, tmp_path / "r.mif", *QUICK)
    assert ran.status == 0, ran.err
    names = sorted(p.name for p in tmp_path.glob("b.*"))
    assert names == ["b.bval", "b.bvec", "b.dat", "b.json", "b.mih"]
    assert (tmp_path / "b.bvec").read_bytes() == (tmp_path / "dwi.bvec").read_bytes()
    noisy, denoised = load(scan).data, load(tmp_path / "b.mih").data
    np.testing.assert_allclose(load(tmp_path / "r.mif").data, noisy - denoised, atol=1e-3)
    assert load(tmp_path / "n.mif.gz").is_one_image


def test_an_image_of_two_files_is_kept_whole(quell, scan, tmp_path):
    (tmp_path / "out.dat").write_text("precious")
    ran = quell("denoise", scan, tmp_path / "out.mih", *QUICK)
    assert (ran.status, "out.dat exists" in ran.err) == (1, True)
    write_piped(tmp_path / "in.mih", load(scan))
    before = (tmp_path / "in.dat").read_bytes()
    ran = quell("denoise", tmp_path / "in.mih", tmp_path / "in.mih", *QUICK, "--force")
    assert (ran.status, "belongs to an input" in ran.err) == (2, True)
    assert (tmp_path / "in.dat").read_bytes() == before


def test_a_nifti_result_of_an_image_of_mrtrix(quell, series, tmp_path):
    write_piped(tmp_path / "dwi.mif", series)
    ran = quell("denoise", tmp_path / "dwi.mif", tmp_path / "out.nii.gz", *QUICK)
    assert ran.status == 0, ran.err
    out = load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(out.bvecs, series.bvecs, atol=1e-6)
    np.testing.assert_allclose(out.affine, load(tmp_path / "dwi.mif").affine, atol=1e-5)


def test_every_command_reads_images_of_mrtrix(quell, series, tmp_path):
    write_piped(tmp_path / "dwi.mif", series)
    write_piped(tmp_path / "same.mif.gz", series)
    assert "b=1000" in quell("check", tmp_path / "dwi.mif").out
    ran = quell("evaluate", tmp_path / "dwi.mif", tmp_path / "same.mif.gz", "--threads", 1)
    assert ran.status == 0, ran.err
    from quell.view import open_scans

    scans = open_scans(tmp_path / "dwi.mif", [tmp_path / "same.mif.gz"])
    assert scans.bvals is not None
    assert len(scans.volume(1, 2)) > series.data[..., 0].nbytes


@pytest.mark.slow
def test_a_comparison_gives_all_programs_the_gradients(quell, series, tmp_path):
    write_piped(tmp_path / "dwi.mif", series)
    compared = "--out", tmp_path / "out", "--methods", "patch2self", "--threads", 1
    ran = quell("compare", tmp_path / "dwi.mif", *compared)
    assert ran.status == 0, ran.err
    assert (tmp_path / "out" / "gradients.bval").exists()
