"""quell reconstruct on files: repetitions become volumes, and what to do next is said."""

import json
import os

import h5py
import nibabel as nib
import numpy as np
import pytest

from quell.kspace import to_kspace

X, Y, Z, N = 40, 36, 2, 3
HEADER = (
    '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
    + "".join(
        f"<{space}><matrixSize><x>40</x><y>36</y><z>1</z></matrixSize>"
        "<fieldOfView_mm><x>80</x><y>72</y><z>5</z></fieldOfView_mm>"
        f"</{space}>"
        for space in ("encodedSpace", "reconSpace")
    )
    + "</encoding></ismrmrdHeader>"
)


def kspace(seed):
    """(Z, N, X, Y): a soft ball seen by three coils, with noise."""
    x, y = np.meshgrid(np.linspace(-1, 1, X), np.linspace(-1, 1, Y), indexing="ij")
    ball = 40 * np.exp(-4 * (x**2 + y**2))
    coils = np.stack([1 + 0.3 * x, 1j * (1 - 0.3 * x), np.exp(1j * y)])
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(2, Z, N, X, Y))
    signal = np.moveaxis(to_kspace(np.moveaxis(ball * coils, 0, 2)), 2, 0)
    return (3e-5 * (signal + noise[0] + 1j * noise[1])).astype(np.complex64)


@pytest.fixture
def raws(tmp_path):
    """Three repetitions, as M4Raw has them: one file each."""
    paths = [tmp_path / f"2022061003_T10{i}.h5" for i in (1, 2, 3)]
    for seed, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file["kspace"], file["ismrmrd_header"] = kspace(seed), HEADER
    return paths


def test_repetitions_in_files_become_volumes(quell, raws, tmp_path):
    out = tmp_path / "t1.nii.gz"
    ran = quell("reconstruct", *raws, out)
    assert ran.status == 0, ran.err
    image = nib.load(out)
    assert image.shape == (X, Y, Z, 3)
    assert image.get_data_dtype() == np.complex64
    np.testing.assert_allclose(image.header.get_zooms()[:3], (2, 2, 5))
    data = np.asarray(image.dataobj)
    assert np.std(np.diff(data.real, axis=-1)) / np.sqrt(2) == pytest.approx(1, rel=0.06)
    said = json.loads((tmp_path / "t1.json").read_text())["Reconstruction"]
    assert said["RawFiles"] == [path.name for path in raws]
    assert said["Sigma"] == 1
    assert said["NoiseLaw"] == "gaussian"
    assert f"next: quell denoise {out} {tmp_path / 't1_denoised.nii.gz'}" in ran.err
    assert ran.err.strip().endswith("--noise-law gaussian")
    assert "note: the header does not say how the patient lay" in ran.err


def test_what_is_said_to_run_next_runs(quell, raws, tmp_path):
    ran = quell("reconstruct", *raws, tmp_path / "t1.nii", "--combine", "rss")
    line = ran.err.strip().splitlines()[-1]
    assert line.endswith("--noise-law nc-chi --coils 3")
    words = line.removeprefix("next: quell ").split()
    ran = quell(*words, "--method", "patch2self", "--no-report", "--threads", 1)
    assert ran.status == 0, ran.err
    assert "processed" not in ran.err


def test_the_magnitude_of_the_adaptive_combination(quell, raws, tmp_path):
    quell("reconstruct", *raws, tmp_path / "c.nii")
    ran = quell("reconstruct", *raws, tmp_path / "m.nii", "--combine", "magnitude")
    assert ran.err.strip().endswith("--noise-law rician")
    magnitude, complex_ = (nib.load(tmp_path / f"{n}.nii").dataobj[:] for n in "mc")
    np.testing.assert_allclose(magnitude, np.abs(complex_), rtol=1e-5)


def test_one_array_with_named_axes(quell, tmp_path):
    np.save(tmp_path / "a.npy", kspace(0))
    out = tmp_path / "a.nii"
    ran = quell("reconstruct", tmp_path / "a.npy", out, "--axes", "z,coil,x,y", "-q")
    assert (ran.status, ran.err, ran.out) == (0, "", "")
    assert nib.load(out).shape == (X, Y, Z, 1)


def test_a_single_volume_goes_to_a_method_of_single_images(quell, raws, tmp_path):
    ran = quell("reconstruct", raws[0], tmp_path / "a.nii")
    words = "--method c2s --noise-law gaussian"
    assert ran.err.strip().endswith(f"{tmp_path / 'a_denoised.nii.gz'} {words}")


def test_an_output_that_exists_is_kept_unless_forced(quell, raws, tmp_path):
    out = tmp_path / "a.nii"
    out.write_text("mine")
    (tmp_path / "a.bval").write_text("of another scan")
    ran = quell("reconstruct", raws[0], out)
    assert ran.status == 1
    assert "--force" in ran.err
    assert out.read_text() == "mine"
    assert quell("reconstruct", raws[0], out, "--force").status == 0
    assert nib.load(out).shape == (X, Y, Z, 1)
    assert not (tmp_path / "a.bval").exists()


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (("--combine", "sense"), 2, "give adaptive, rss, magnitude"),
        (("--axes", "x,y"), 2, "4 axes (2 x 3 x 40 x 36) and x,y names 2"),
        (("--key", "image"), 1, "holds no array image; it holds ismrmrd_header, kspace"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    quell, raws, tmp_path, more, status, words
):
    ran = quell("reconstruct", *raws, tmp_path / "a.nii", *more)
    assert ran.status == status
    assert words in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == [path.name for path in raws]


@pytest.mark.parametrize("name", ["a.h5", "no/a.nii", "a.mgz"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    quell, raws, tmp_path, name
):
    raws[0].write_text("damaged")
    ran = quell("reconstruct", raws[0], tmp_path / name)
    assert ran.status in (1, 2)
    assert "HDF5" not in ran.err


def test_an_input_is_never_written_over(quell, raws, tmp_path):
    ran = quell("reconstruct", *raws, raws[0], "--force")
    assert ran.status == 2
    with h5py.File(raws[0]) as file:
        assert "kspace" in file
