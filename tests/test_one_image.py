"""One image: a 3-D file in, the same file without its noise out, by the methods that can."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import quell as package
from quell.checks import Look, check
from quell.methods import METHODS
from quell.series import Series, load, write_nifti
from quell.simulate import corrupt

SIGMA = 60.0  # signal-to-noise of 12 in white matter
ALONE = ("c2s", "joint")  # take one image
TINY = {"steps": 60, "channels": 16, "patch": 24, "threads": 1}
WORDS = ("--set", "steps=2", "--set", "channels=8", "--set", "patch=16", "--threads", "1")
QUIET = ("--no-report",)


@pytest.fixture(scope="module")
def image(brain) -> Series:
    """Five slices of one magnitude b0."""
    clean, mask = brain.clean.data[:, :, 3:8, :1], brain.clean.mask[:, :, 3:8]
    data = corrupt(clean, SIGMA, np.random.default_rng(0), "rician")
    return replace(brain.clean, data=data, mask=mask, bvals=None, bvecs=None)


@pytest.fixture
def scan(image, tmp_path):
    """That image as a 3-D file."""
    write_nifti(tmp_path / "t1.nii.gz", image.data[..., 0], image)
    return tmp_path / "t1.nii.gz"


def data_of(path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


# ---- what goes in comes out --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_3d_file_stays_one_where_it_was(quell, image, tmp_path, kind, name):
    file = kind(np.round(image.data[..., 0]).astype(np.int16), image.affine)
    file.set_sform(image.affine, code=2)
    file.set_qform(image.affine, code=1)
    file.header.set_xyzt_units("mm", "sec")
    file.header["pixdim"][4] = 2.5  # some tools put the repetition time here in 3-D, too
    file.header["descrip"] = b"TE=8.1"
    file.header.set_slope_inter(0.5, 1)
    nib.save(file, tmp_path / name)
    out = tmp_path / f"out.{name.partition('.')[2]}"
    ran = quell("denoise", tmp_path / name, out, "--no-report", *WORDS)
    assert ran.status == 0, ran.err
    given, result = nib.load(tmp_path / name), nib.load(out)
    assert type(result) is kind
    assert result.shape == given.shape == image.data.shape[:3]
    assert result.get_data_dtype() == np.float32
    assert result.header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert (int(result.header["sform_code"]), int(result.header["qform_code"])) == (2, 1)
    np.testing.assert_array_equal(result.affine, given.affine)
    for field in ("pixdim", "descrip", "xyzt_units", "qoffset_x", "quatern_b", "srow_x"):
        np.testing.assert_array_equal(result.header[field], given.header[field])
    inside = image.mask
    assert np.corrcoef(result.get_fdata()[inside], given.get_fdata()[inside])[0, 1] > 0.9


def test_everything_that_is_asked_for_is_3d(quell, scan, tmp_path):
    new = {option: tmp_path / f"{option}.nii.gz" for option in ("noise-out", "residual-out")}
    words = [word for option, path in new.items() for word in (f"--{option}", path)]
    ran = quell("denoise", scan, tmp_path / "out.nii.gz", *words, *WORDS)
    assert ran.status == 0, ran.err
    for path in (*new.values(), tmp_path / "out.nii.gz"):
        assert nib.load(path).shape == nib.load(scan).shape
    total = data_of(tmp_path / "out.nii.gz") + data_of(new["residual-out"])
    np.testing.assert_allclose(total, data_of(scan), rtol=1e-5, atol=1e-2)
    assert "<html" in (tmp_path / "out_report.html").read_text()
    assert not (tmp_path / "out.bval").exists()


def test_a_4d_file_of_one_volume_stays_4d(quell, image, tmp_path):
    write_nifti(tmp_path / "in.nii.gz", image.data, image)
    ran = quell("denoise", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", "--no-report", *WORDS)
    assert ran.status == 0, ran.err
    assert nib.load(tmp_path / "out.nii.gz").shape == image.data.shape


def test_3d_and_4d_files_of_one_image_give_the_same(quell, scan, image, tmp_path):
    write_nifti(tmp_path / "in.nii.gz", image.data, image)
    for given, out in ((scan, "flat"), (tmp_path / "in.nii.gz", "deep")):
        quell("denoise", given, tmp_path / f"{out}.nii.gz", "--no-report", *WORDS)
    flat, deep = data_of(tmp_path / "flat.nii.gz"), data_of(tmp_path / "deep.nii.gz")
    np.testing.assert_array_equal(flat, deep[..., 0])


def test_a_complex_3d_file_and_a_pair_of_3d_files(quell, image, tmp_path):
    phase = np.linspace(-1, 1, image.data.shape[0], dtype=np.float32)[:, None, None]
    turned = (image.data[..., 0] * np.exp(1j * phase)).astype(np.complex64)
    write_nifti(tmp_path / "c.nii.gz", turned, image)
    write_nifti(tmp_path / "m.nii.gz", np.abs(turned), image)
    write_nifti(tmp_path / "p.nii.gz", np.angle(turned), image)
    n = tmp_path / "n.nii.gz"
    words = ("--no-report", *WORDS)
    ran = quell("denoise", tmp_path / "c.nii.gz", tmp_path / "1.nii.gz", "--noise-out", n, *words)
    assert ran.status == 0, ran.err
    pair = ("--phase", tmp_path / "p.nii.gz", "--phase-out", tmp_path / "q.nii.gz")
    ran = quell("denoise", tmp_path / "m.nii.gz", tmp_path / "2.nii.gz", *pair, *words)
    assert ran.status == 0, ran.err
    c, m, q = (data_of(tmp_path / f"{name}.nii.gz") for name in "12q")
    assert c.shape == m.shape == q.shape == data_of(n).shape == turned.shape
    assert (c.dtype, m.dtype) == (np.complex64, np.float32)
    np.testing.assert_allclose(m * np.exp(1j * q), c, atol=1e-3 * np.abs(c).max())


def test_holes_in_an_image_come_back_as_0(quell, image, tmp_path):
    for name, data in (("m", image.data[..., 0]), ("c", image.data[..., 0] * (1 + 1j))):
        holes = data.copy()
        holes[30:32, 30:32, 2] = np.nan
        write_nifti(tmp_path / f"{name}.nii.gz", holes, image)
        out = tmp_path / f"{name}_out.nii.gz"
        ran = quell("denoise", tmp_path / f"{name}.nii.gz", out, "--no-report", *WORDS)
        assert ran.status == 0, ran.err
        assert np.isfinite(data_of(out)).all()
        assert not data_of(out)[30:32, 30:32, 2].any()
        assert "values are NaN or Inf" in ran.err


@pytest.mark.parametrize("complex_", [False, True])
def test_a_single_slice_is_an_image(quell, image, tmp_path, complex_):
    data = image.data[:, :, 2:3, 0]
    write_nifti(tmp_path / "in.nii.gz", data * (1 + 1j) if complex_ else data,
                replace(image, data=data[..., None]))  # fmt: skip
    for method, report in zip(ALONE, (() if complex_ else QUIET, QUIET), strict=True):
        out = tmp_path / f"{method}.nii.gz"
        ran = quell("denoise", tmp_path / "in.nii.gz", out, "--method", method, *WORDS, *report)
        assert ran.status == 0, ran.err
        assert nib.load(out).shape == data.shape


def test_gradients_of_another_scan_in_the_folder_are_not_its_own(quell, scan, tmp_path):
    """A single number of volumes is a shape that every table has somewhere."""
    (tmp_path / "bvals").write_text("0 1000 1000 1000\n")
    (tmp_path / "bvecs").write_text("0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    assert load(scan).bvals is None
    ran = quell("check", scan)
    assert ran.status == 0, ran.out + ran.err
    for n in (1, 3):
        write_nifti(tmp_path / "few.nii.gz", np.random.default_rng(0).random((8, 8, 2, n)),
                    Series(np.zeros((8, 8, 2, n)), np.eye(4), nib.Nifti1Header()))  # fmt: skip
        assert load(tmp_path / "few.nii.gz").bvecs is None


# ---- what is said ------------------------------------------------------------------------------


SEVERAL = [name for name in METHODS if not getattr(METHODS[name], "takes_one_image", False)]


@pytest.mark.parametrize("method", SEVERAL)
def test_methods_that_need_several_name_one_that_does_not(quell, scan, tmp_path, method):
    ran = quell("denoise", scan, tmp_path / "out.nii.gz", "--method", method)
    assert ran.status == 1
    (line,) = ran.err.splitlines()
    assert f"is one image and {method} needs several; use --method c2s" in line
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("kind", ["magnitude", "integers", "complex"])
def test_check_works_on_one_image(quell, image, tmp_path, kind, recwarn):
    data = {"magnitude": image.data, "complex": image.data * (1 + 1j)}.get(kind)
    if kind == "integers":
        nib.save(nib.Nifti1Image(image.data[..., 0].astype(np.int16), image.affine),
                 tmp_path / "in.nii.gz")  # fmt: skip
    else:
        write_nifti(tmp_path / "in.nii.gz", data[..., 0], image)
    ran = quell("check", tmp_path / "in.nii.gz")
    said = " ".join(ran.out.split())
    assert ran.status == 0, said
    assert "the air around the head" in said
    assert "this is one image" in said
    assert "1 volumes" not in said
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_one_image_is_not_judged_as_a_series(image):
    found = {finding.code for finding in check(image, image.mask)}
    assert not found & {"few-volumes", "smooth-noise", "single-b0", "no-bvals", "thin-shell"}
    assert not Look(image, image.mask).pure_noise.any()  # nothing to tell it from


def test_the_sidecar_is_valid_and_tells_where_the_noise_came_from(quell, scan, tmp_path):
    assert quell("denoise", scan, tmp_path / "out.nii.gz", "--no-report", *WORDS).status == 0
    said = json.loads((tmp_path / "out.json").read_text())["Denoising"]
    assert said["Noise"]["Source"] == "the air around the head"
    assert said["Noise"]["MedianSigma"] == pytest.approx(SIGMA, rel=0.03)


# ---- rules of writing --------------------------------------------------------------------------


def test_a_result_that_exists_is_kept_unless_forced(quell, scan, tmp_path):
    out = tmp_path / "out.nii.gz"
    out.write_text("precious")
    ran = quell("denoise", scan, out, "--no-report", *WORDS)
    assert (ran.status, out.read_text()) == (1, "precious")
    assert quell("denoise", scan, out, "--no-report", "--force", *WORDS).status == 0
    assert nib.load(out).shape == nib.load(scan).shape


@pytest.mark.parametrize("method", ALONE)
def test_an_interrupted_run_goes_on_to_the_same_result(quell, scan, tmp_path, monkeypatch, method):
    def stop(*_):
        raise KeyboardInterrupt

    words = ("--method", method, "--no-report", *WORDS)
    assert quell("denoise", scan, tmp_path / "whole.nii.gz", *words).status == 0
    monkeypatch.setattr("quell.outputs._write", stop)
    monkeypatch.setattr("quell.checkpoint.CHECKPOINT_SECONDS", 0.0)
    ran = quell("denoise", scan, tmp_path / "out.nii.gz", *words)
    assert ran.status == 130
    assert "run the same command again" in ran.err
    assert list(tmp_path.glob(".out.quell/*/training.pt"))
    assert not (tmp_path / "out.nii.gz").exists()
    monkeypatch.undo()
    assert quell("denoise", scan, tmp_path / "out.nii.gz", *words).status == 0
    assert not (tmp_path / ".out.quell").exists()
    np.testing.assert_array_equal(
        data_of(tmp_path / "out.nii.gz"), data_of(tmp_path / "whole.nii.gz")
    )


# ---- the gain ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("law", "left"), [("rician", 0.6), ("complex", 0.45)])
@pytest.mark.parametrize("method", ALONE)
def test_much_of_the_noise_of_one_image_goes(brain, method, law, left):
    clean, mask = brain.clean.data[:, :, 3:8, :1], brain.clean.mask[:, :, 3:8]
    rng, truth = np.random.default_rng(2), clean
    if law == "complex":
        n = 2 * SIGMA * rng.standard_normal((2, *clean.shape))
        truth = clean * np.exp(1j)
        data = (truth + n[0] + 1j * n[1]).astype(np.complex64)
    else:
        data = corrupt(clean, 2 * SIGMA, rng, law)
    scan = replace(brain.clean, data=data, mask=mask, bvals=None, bvecs=None)
    result = package.denoise(scan, method=method, **TINY)
    before, after = (np.mean(np.abs(x - truth)[mask] ** 2) for x in (data, result.denoised))
    assert after < left * before
