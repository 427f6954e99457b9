"""MRtrix's own tools on what quell writes, and quell on what they write."""

import os
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from conftest import QUICK
from quell.series import load, write_image

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("mrconvert", "mrinfo", "mrdump"))), reason="needs MRtrix"
)
LAYOUTS = ("1,2,3,4", "-1,-2,3,4", "-2,+1,+3,4", "2,3,4,1", "-3,-1,4,2", "3,1,-2,-4")
SHAPE = (5, 4, 3, 6)


def run(*words):
    ended = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """An oblique NIfTI scan with gradients, and MRtrix's own copy of it."""
    folder = tmp_path_factory.mktemp("given")
    rng = np.random.default_rng(0)
    affine = np.array([[-2, 0.1, 0, 10], [0.1, 2.1, 0.2, -5], [0, -0.2, 2.5, 3], [0, 0, 0, 1.0]])
    directions = rng.normal(size=(3, 6))
    directions /= np.linalg.norm(directions, axis=0)
    directions[:, 0] = 0
    np.savetxt(folder / "dwi.bvec", directions)
    np.savetxt(folder / "dwi.bval", [[0, 1000, 1000, 2000, 2000, 700]])
    image = nib.Nifti1Image(rng.normal(100, 9, SHAPE).astype(np.float32), affine)
    nib.save(image, folder / "dwi.nii")
    words = folder / "dwi.nii", "-fslgrad", folder / "dwi.bvec", folder / "dwi.bval"
    run("mrconvert", "-quiet", *words, folder / "dwi.mif")
    return folder


@pytest.mark.parametrize("ending", [".mif", ".mih", ".mif.gz"])
@pytest.mark.parametrize("strides", LAYOUTS)
def test_a_scan_goes_through_unchanged(given, tmp_path, strides, ending):
    theirs, ours = tmp_path / f"theirs{ending}", tmp_path / f"ours{ending}"
    run("mrconvert", "-quiet", given / "dwi.mif", "-strides", strides, theirs)
    scan = load(theirs)
    write_image(ours, scan.data, scan)
    for what in ("-strides", "-size", "-spacing", "-transform", "-dwgrad", "-datatype"):
        assert run("mrinfo", ours, what) == run("mrinfo", theirs, what)
    assert run("mrinfo", ours, "-property", "command_history") == run(
        "mrinfo", theirs, "-property", "command_history"
    )
    assert run("mrdump", ours) == run("mrdump", theirs)
    if ending == ".mih":
        assert (tmp_path / "ours.dat").read_bytes() == (tmp_path / "theirs.dat").read_bytes()


@pytest.mark.parametrize("strides", LAYOUTS[:-1])  # mrconvert 3.0.3 loses a negative fourth
def test_a_scan_is_read_as_mrconvert_writes_it(given, tmp_path, strides):
    path, nifti = tmp_path / "in.mif", tmp_path / "in.nii"
    run("mrconvert", "-quiet", given / "dwi.mif", "-strides", strides, path)
    beside = tmp_path / "in.bvec", tmp_path / "in.bval"
    run("mrconvert", "-quiet", path, nifti, "-export_grad_fsl", *beside)
    ours, theirs = load(path), load(nifti)
    assert np.array_equal(ours.data, theirs.data)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)  # NIfTI has float32
    np.testing.assert_allclose(ours.bvecs, theirs.bvecs, atol=1e-7)
    assert np.array_equal(ours.bvals, theirs.bvals)


@pytest.mark.parametrize("strides", LAYOUTS[:5])
def test_a_nifti_scan_becomes_what_mrconvert_makes_of_it(given, tmp_path, strides):
    nifti = tmp_path / "in.nii"
    beside = tmp_path / "in.bvec", tmp_path / "in.bval"
    words = "-strides", strides, "-export_grad_fsl", *beside
    run("mrconvert", "-quiet", given / "dwi.mif", *words, nifti)
    run("mrconvert", "-quiet", nifti, "-fslgrad", *beside, tmp_path / "theirs.mif")
    scan = load(nifti)
    write_image(tmp_path / "ours.mif", scan.data, scan)
    for what in ("-strides", "-size"):
        assert run("mrinfo", tmp_path / "ours.mif", what) == run(
            "mrinfo", tmp_path / "theirs.mif", what
        )
    for what in ("-transform", "-dwgrad", "-spacing"):
        ours, theirs = (
            np.array(run("mrinfo", tmp_path / name, what).split(), float)
            for name in ("ours.mif", "theirs.mif")
        )
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert run("mrdump", tmp_path / "ours.mif") == run("mrdump", tmp_path / "theirs.mif")


@pytest.mark.parametrize("kind", ["int16be", "uint16le", "uint8", "float64be", "bit"])
def test_every_type_of_theirs_is_read(given, tmp_path, kind):
    path = tmp_path / "in.mif"
    step = ["mrcalc", "-quiet", given / "dwi.mif", 100, "-gt" if kind == "bit" else "-mult"]
    run(*step, "-datatype", kind, tmp_path / "step.mif")
    run("mrconvert", "-quiet", tmp_path / "step.mif", path, "-strides", "3,-1,2,4")
    run("mrconvert", "-quiet", path, tmp_path / "in.nii", "-datatype", "float32")
    assert np.array_equal(load(path).data, load(tmp_path / "in.nii").data)


def test_complex_images_are_read_and_written(given, tmp_path):
    path, ours = tmp_path / "in.mif", tmp_path / "out.mif"
    run("mrcalc", "-quiet", given / "dwi.mif", given / "dwi.mif", 2, "-div", "-complex", path)
    scan = load(path)
    assert scan.data.dtype == np.complex64
    write_image(ours, scan.data, scan)
    assert run("mrdump", ours) == run("mrdump", path)


def test_it_stands_in_a_pipe_for_dwidenoise(scan, tmp_path):
    """mrconvert dwi.nii.gz - | quell denoise - - | mrconvert - out.mif"""
    (tmp_path / "temporary").mkdir()
    beside = [scan.with_name(f"dwi.{ending}") for ending in ("bvec", "bval")]
    places = {"MRTRIX_TMPFILE_DIR": str(tmp_path / "temporary")}
    env = os.environ | places | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    quell = [sys.executable, "-m", "quell", "denoise", "-", "-", *QUICK, "--mask"]
    run("mrcalc", "-quiet", scan, 0, "-gt", "-datatype", "bit", tmp_path / "all.mif")
    run("mrconvert", "-quiet", tmp_path / "all.mif", "-coord", 3, 0, "-axes", "0,1,2",
        tmp_path / "mask.mif")  # fmt: skip
    steps = [
        ["mrconvert", "-quiet", scan, "-fslgrad", *beside, "-"],
        [*quell, tmp_path / "mask.mif", "--noise-out", tmp_path / "noise.mif"],
        ["mrconvert", "-quiet", "-", tmp_path / "out.mif"],
    ]
    piped = b""
    for step in steps:
        words = [str(word) for word in step]
        ended = subprocess.run(words, input=piped, capture_output=True, env=env, check=True)
        piped = ended.stdout
    assert not list((tmp_path / "temporary").iterdir())
    whole, out = load(scan), load(tmp_path / "out.mif")
    assert out.data.shape == whole.data.shape
    np.testing.assert_allclose(out.bvecs, whole.bvecs, atol=1e-5)
    history = run("mrinfo", tmp_path / "out.mif", "-property", "command_history")
    assert [line.split()[0] for line in history.splitlines()] == ["mrconvert", "quell", "mrconvert"]
    assert run("mrinfo", tmp_path / "noise.mif", "-ndim").strip() == "3"
