"""What can't be read, meant or written: one sentence, an exit status, and nothing left behind."""

import errno
import os
import subprocess
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from conftest import QUICK, write_scan
from quell import outputs
from quell.series import writing


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def refused(quell, tmp_path):
    """refused(words...) runs the command, checks how it fails, and returns (status, sentence)."""

    def run(*words):
        before = listing(tmp_path)
        ran = quell(*words)
        assert ran.out == ""
        (line,) = ran.err.splitlines()[-1:]
        assert line.startswith("quell: ")
        assert "Traceback" not in ran.err
        assert "unexpectedly" not in ran.err
        assert not line.endswith(".")
        assert ";" in line  # what is wrong; what to do
        assert listing(tmp_path) == before
        return ran.status, line.removeprefix("quell: ")

    return run


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.diag([5.0, 5, 5, 1]) if affine is None else affine), path)
    return path


# ---- scans


def make_missing(path, series):
    pass


def make_truncated(path, series):
    write_scan(path, series)
    path.write_bytes(path.read_bytes()[:20000])


def make_garbage(path, series):
    path.write_bytes(b"not a scan at all" * 100)


def make_empty(path, series):
    path.write_bytes(b"")


def make_3d(path, series):
    save(path, series.data[..., 0])


def make_5d(path, series):
    save(path, np.stack([series.data] * 2, axis=4))


def make_one_volume(path, series):
    save(path, series.data[..., :1])


def make_zeros(path, series):
    save(path, np.zeros_like(series.data))


def make_all_nan(path, series):
    save(path, np.full_like(series.data, np.nan))


def make_colours(path, series):
    save(path, np.zeros(series.data.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def make_tiny(path, series):
    save(path, series.data[:2, :2, :1, :3])


def make_patch(path, series):
    save(path, series.data[4:12, 4:12, :1, :12])


def make_bvals_of_another(path, series):
    write_scan(path, series).with_name("dwi.bval").write_text("0 1000 1000\n")


def make_bvecs_unnormalised(path, series):
    write_scan(path, series)
    np.savetxt(path.with_name("dwi.bvec"), series.bvecs.T * 1000)


def make_json_broken(path, series):
    write_scan(path, series).with_name("dwi.json").write_text("{")


SCANS = {
    make_missing: "does not exist",
    make_truncated: "damaged or cut short",
    make_garbage: "not a readable NIfTI file",
    make_empty: "not a readable NIfTI file",
    make_3d: "is one image",
    make_5d: "has 5 dimensions",
    make_one_volume: "is one image",
    make_zeros: "every voxel is 0",
    make_all_nan: "every voxel is NaN or Inf",
    make_colours: "holds colours",
    make_tiny: "too few to learn the noise",
    make_patch: "too few to learn the noise",
    make_bvals_of_another: "holds 3 b-values and the scan 14 volumes",
    make_bvecs_unnormalised: "not of length 1",
    make_json_broken: "not readable JSON",
}


@pytest.mark.parametrize(("make", "words"), SCANS.items())
def test_a_scan_that_cannot_be_denoised_is_refused(refused, series, tmp_path, make, words):
    path = tmp_path / "dwi.nii.gz"
    make(path, series)
    status, sentence = refused("denoise", path, tmp_path / "out.nii.gz", *QUICK)
    assert status == 1
    assert words in sentence


def test_values_that_are_no_numbers_are_counted_and_said(quell, series, tmp_path):
    data = series.data.copy()
    data[5, 5, 1, 3], data[6, 5, 1, :2] = np.nan, np.inf
    path = write_scan(tmp_path / "dwi.nii.gz", replace(series, data=data))
    ran = quell("denoise", path, tmp_path / "out.nii.gz", *QUICK)
    assert ran.status == 0
    assert "3 values are NaN or Inf" in ran.err
    result = nib.load(tmp_path / "out.nii.gz").get_fdata()
    assert np.all(np.isfinite(result))
    assert np.all(result[5:7, 5, 1] == 0)


@pytest.mark.parametrize(
    "cut", [np.s_[:, :, :1], np.s_[..., :2], np.s_[..., :5], np.s_[:, :, :, 2:]]
)
@pytest.mark.parametrize("method", ["joint", "patch2self"])
@pytest.mark.parametrize("gradients", [True, False])
def test_small_scans_run(quell, series, tmp_path, cut, method, gradients):
    volumes = cut[-1] if len(cut) != 3 else slice(None)
    piece = replace(
        series, data=series.data[cut], bvals=series.bvals[volumes], bvecs=series.bvecs[volumes]
    )
    path = write_scan(tmp_path / "dwi.nii.gz", piece)
    if not gradients:
        (tmp_path / "dwi.bval").unlink()
        (tmp_path / "dwi.bvec").unlink()
    words = ("--set", "steps=1", "--set", "channels=8") if method == "joint" else ()
    out = tmp_path / "out.nii.gz"
    ran = quell("denoise", path, out, *QUICK, "--method", method, *words)
    assert ran.status == 0, ran.err
    assert nib.load(out).shape == piece.data.shape


def test_a_single_slice_takes_a_mask_and_a_report(quell, series, tmp_path):
    scan = save(tmp_path / "dwi.nii.gz", series.data[:, :, 1:2])
    mask = save(tmp_path / "mask.nii.gz", np.ones(series.data.shape[:2], dtype=np.uint8))
    out = tmp_path / "out.nii.gz"
    words = ("--method", "patch2self", "--threads", 1)
    refusal = quell("denoise", scan, out, "--mask", mask, *words)
    assert "has 2 dimensions" in refusal.err
    mask = save(tmp_path / "mask.nii.gz", np.ones((*series.data.shape[:2], 1), dtype=np.uint8))
    ran = quell("denoise", scan, out, "--mask", mask, *words)
    assert ran.status == 0, ran.err
    assert (tmp_path / "out_report.html").exists()


def test_negative_values_make_the_noise_gaussian(quell, series, tmp_path):
    path = write_scan(tmp_path / "dwi.nii.gz", replace(series, data=series.data - 400))
    ran = quell("denoise", path, tmp_path / "out.nii.gz", *QUICK)
    assert ran.status == 0
    assert "noise: gaussian" in ran.err
    assert "warning: " in ran.err


# ---- masks and maps


@pytest.mark.parametrize("option", ["--mask", "--noise-in"])
def test_a_map_of_another_grid_is_refused(refused, scan, series, tmp_path, option):
    shape = series.data.shape[:3]
    for array, affine, words in (
        (np.ones((4, 4, 3)), series.affine, "is 4 x 4 x 3 and the scan 16 x 18 x 3"),
        (np.ones(shape), np.eye(4), "lies elsewhere than the scan"),
        (np.ones((*shape, 2)), series.affine, "has 4 dimensions"),
    ):
        path = save(tmp_path / "map.nii.gz", array.astype(np.float32), affine)
        status, sentence = refused("denoise", scan, tmp_path / "out.nii.gz", option, path, *QUICK)
        assert (status, words in sentence) == (1, True), sentence


@pytest.mark.parametrize(("option", "value"), [("--mask", 0.0), ("--noise-in", 0.0)])
def test_an_empty_map_is_refused(refused, scan, series, tmp_path, option, value):
    array = np.full(series.data.shape[:3], value, dtype=np.float32)
    path = save(tmp_path / "map.nii.gz", array, series.affine)
    status, _ = refused("denoise", scan, tmp_path / "out.nii.gz", option, path, *QUICK)
    assert status == 1


# ---- places to write


def test_a_result_that_exists_is_kept(refused, scan, tmp_path):
    for name in ("out.nii.gz", "out.json", "out.bval"):
        (tmp_path / name).write_text("precious")
        status, sentence = refused("denoise", scan, tmp_path / "out.nii.gz", *QUICK)
        assert (status, f"{name} exists; give --force" in sentence) == (1, True)
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()


def test_an_input_is_never_written(refused, scan, tmp_path, monkeypatch):
    (tmp_path / "link.nii.gz").symlink_to(scan)
    (tmp_path / "folder").mkdir()
    outs = (scan, tmp_path / "link.nii.gz", tmp_path / "folder" / ".." / "dwi.nii.gz")
    for out in (*outs, tmp_path / "dwi.nii"):  # the last would take the scan's own sidecar
        status, sentence = refused("denoise", scan, out, "--force", *QUICK)
        assert (status, "belongs to an input" in sentence) == (2, True), sentence
    monkeypatch.chdir(tmp_path)
    assert refused("denoise", "dwi.nii.gz", "./dwi.nii.gz", "--force", *QUICK)[0] == 2


def test_two_results_need_two_names(refused, scan, tmp_path):
    out = tmp_path / "out.nii.gz"
    status, sentence = refused("denoise", scan, out, "--noise-out", out, *QUICK)
    assert (status, "asked for twice" in sentence) == (2, True)


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("nowhere/out.nii.gz", 1, "does not exist"),
        ("dwi.bval/out.nii.gz", 1, "does not exist"),
        ("out.mgz", 2, "give one that ends in .nii, .nii.gz, .mih, .mif or .mif.gz"),
        ("out", 2, "ends in .nii"),
        (".nii.gz", 2, "ends in .nii"),
        ("", 2, "ends in .nii"),
        ("x" * 250 + ".nii", 2, "too long"),
        ("x" * 300 + ".nii", 2, "too long"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused(
    refused, scan, tmp_path, name, status, words
):
    said = refused("denoise", scan, tmp_path / name, *QUICK)
    assert (said[0], words in said[1]) == (status, True), said


def test_odd_endings_of_other_results_are_refused(refused, scan, tmp_path):
    for option in ("--noise-out", "--residual-out", "--model-out", "--report"):
        words = ("denoise", scan, tmp_path / "o.nii", option, tmp_path / "x.txt", "--threads", 1)
        assert refused(*words)[0] == 2


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write")
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(refused, scan):
    status, sentence = refused("denoise", scan, "/proc/out.nii.gz", *QUICK)
    assert (status, "the folder /proc can't be written" in sentence) == (1, True)


def test_too_little_space_is_said_before_any_work(refused, scan, tmp_path, monkeypatch):
    usage = outputs.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda _: usage)
    status, sentence = refused("denoise", scan, tmp_path / "out.nii.gz", *QUICK)
    assert (status, "free space" in sentence) == (1, True)


@pytest.mark.parametrize("failing", ["r.nii.gz", "out.json", "out.nii.gz"])
@pytest.mark.parametrize("is_forced", [False, True])
def test_a_disk_that_fills_up_leaves_everything_as_it_was(
    refused, scan, tmp_path, monkeypatch, failing, is_forced
):
    out, residual = tmp_path / "out.nii.gz", tmp_path / "r.nii.gz"
    if is_forced:
        for path in (out, residual, tmp_path / "out.json"):
            path.write_text("precious")

    def fail(source, target):
        if str(target).endswith(failing):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr(writing.os, "replace", fail)
    words = ("--residual-out", residual, *(["--force"] if is_forced else []))
    status, sentence = refused("denoise", scan, out, *words, *QUICK)
    assert status == 1
    assert f"{tmp_path / failing} cannot be written (No space left on device)" in sentence
    if is_forced:
        assert residual.read_text() == out.read_text() == "precious"


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 32 kB, where this user may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_is_left_empty(refused, scan, small_disk, monkeypatch):
    status, sentence = refused("denoise", scan, small_disk / "out.nii.gz", *QUICK)
    assert (status, "the results may need" in sentence) == (1, True)
    monkeypatch.setattr(outputs, "refuse_full_disk", lambda files, scan: None)
    status, sentence = refused("denoise", scan, small_disk / "out.nii.gz", *QUICK)
    assert status == 1
    assert f"{small_disk / 'out.nii.gz'} cannot be written (No space left on device)" in sentence


def test_a_checkpoint_that_finds_no_space_is_one_sentence(refused, scan, small_disk, monkeypatch):
    monkeypatch.setattr(outputs, "refuse_full_disk", lambda files, scan: None)
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)
    words = ("--set", "steps=3", "--threads", 1, "--no-report")
    status, sentence = refused("denoise", scan, small_disk / "out.nii.gz", *words)
    assert (status, "free space" in sentence) == (1, True), sentence


def test_a_damaged_checkpoint_is_not_gone_on_from(quell, scan, tmp_path, monkeypatch):
    monkeypatch.setattr("quell.outputs._write", _stop)
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)
    words = ("--set", "steps=3", "--set", "channels=8", "--threads", 1, "--no-report")
    assert quell("denoise", scan, tmp_path / "out.nii.gz", *words).status == 130
    (checkpoint,) = tmp_path.glob(".out.quell/*/training.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    monkeypatch.undo()
    assert quell("denoise", scan, tmp_path / "out.nii.gz", *words).status == 0


def _stop(*arguments):
    raise KeyboardInterrupt


# ---- words that can't be meant


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--foo"], "no such option"),
        (["--seed", "x"], "invalid value for '--seed'"),
        (["--threads", "0"], "invalid value for '--threads'"),
        (["--threads", "-1"], "invalid value for '--threads'"),
        (["--method", "magic"], "method 'magic' is not known; choose from joint"),
        (["--preset", "slow"], "no preset 'slow'; choose from instant"),
        (["--set", "depth=3"], "no setting 'depth'; it has"),
        (["--set", "steps"], "has no '='"),
        (["--set", "steps="], "steps= does not fit; steps is a whole number"),
        (["--set", "steps=abc"], "steps=abc does not fit; steps is a whole number"),
        (["--set", "steps=2.5"], "steps is a whole number"),
        (["--set", "steps=-5"], "too small; give 0 or more"),
        (["--set", "steps=0", "--set", "channels=8"], "learns nothing"),
        (["--set", "patch=0"], "too small; give 1 or more"),
        (["--set", "channels=12"], "multiple of 8"),
        (["--set", "multipliers=1,a"], "multipliers is a whole number"),
        (["--set", "multipliers=0,1"], "a multiplier is below 1"),
        (["--set", "noise=purple"], "choose from measured, white"),
        (["--set", "tau_max=nan"], "tau_max is a number"),
        (["--set", "tau_max=0"], "tau_min"),
        (["--method", "patch2self", "--set", "ridge=-1"], "give 0 or more"),
        (["--noise-law", "cauchy"], "choose from auto, gaussian, rician, nc-chi"),
        (["--coils", "0"], "give a number from 0.5 to 64"),
        (["--coils", "nan"], "give a number from 0.5 to 64"),
        (["--coils", "4", "--noise-law", "rician"], "has no number of coils"),
        (["--device", "abacus"], "give auto, cpu, cuda"),
        (["--report", "r.html", "--no-report"], "exclude each other"),
        (["--mask"], "requires an argument"),
        (["extra"], "extra"),
    ],
)
def test_words_that_cannot_be_meant_end_with_2(refused, scan, tmp_path, words, said):
    status, sentence = refused("denoise", scan, tmp_path / "out.nii.gz", *words)
    assert (status, said in sentence) == (2, True), sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_ends_with_2(refused, scan, tmp_path):
    for name in ("cuda", "cuda:3", "cuda:x"):
        assert refused("denoise", scan, tmp_path / "out.nii.gz", "--device", name)[0] == 2


@pytest.mark.parametrize("words", [("denoise",), ("denoise", "a.nii"), ("dnoise",), ("--foo",)])
def test_half_a_command_ends_with_2(refused, words):
    status, sentence = refused(*words)
    assert status == 2
    assert sentence.endswith("--help")


def test_a_name_cannot_break_the_line_or_move_the_cursor(refused, tmp_path):
    status, sentence = refused("denoise", tmp_path / "a\n\x1b[2Jb.nii", tmp_path / "out.nii")
    assert status == 1
    assert "a\\n\\x1b[2Jb.nii does not exist" in sentence
