"""quell simulate on files: the noisy scan, its truth and the record say one thing."""

import json
import shlex

import nibabel as nib
import numpy as np
import pytest

from quell.evaluate import difusion_scores
from quell.simulate import phantom
from quell.simulate.anatomy import GREY
from quell.studies import LEVELS, writing

SMALL = ("--phantom", "small")
SCANS = {
    f"{name}{ending}" for name in ("noisy", "truth") for ending in (".nii.gz", ".bval", ".bvec")
}
KNOWN = {"mask.nii.gz", "sigma.nii.gz", "simulation.json"}


def data_of(path):
    return np.asarray(nib.load(path).dataobj)


def record_of(out):
    return json.loads((out / "simulation.json").read_text())


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def own(tmp_path):
    """A clean scan as a scanner may write it: integers, oblique, codes 2 and 1, a TR, gradients."""
    clean = phantom("small").clean
    image = nib.Nifti1Image(np.round(clean.data).astype(np.int16), clean.affine)
    image.set_sform(clean.affine, code=2)
    image.set_qform(clean.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 3.5
    path = tmp_path / "clean.nii.gz"
    nib.save(image, path)
    (tmp_path / "clean.bval").write_text(" ".join(f"{b:g}" for b in clean.bvals) + "\n\n")
    np.savetxt(tmp_path / "clean.bvec", clean.bvecs.T, fmt="%.4f")
    return path


@pytest.fixture
def one(tmp_path):
    """One clean image, 3-D."""
    clean = phantom("small").clean
    path = tmp_path / "t2.nii.gz"
    nib.save(nib.Nifti1Image(clean.data[..., 0], clean.affine), path)
    return path


def test_a_folder_holds_the_scan_its_truth_and_what_is_known(quell, tmp_path):
    out, made = tmp_path / "out", phantom("small")
    ran = quell("simulate", out, *SMALL, "--coils", 4, "--snr", 20)
    assert ran.status == 0, ran.err
    assert names(out) == SCANS | KNOWN | {"tissue.nii.gz"}
    assert all(nib.load(path).get_data_dtype() == np.float32 for path in out.glob("*.nii.gz"))
    np.testing.assert_allclose(data_of(out / "truth.nii.gz"), made.clean.data, rtol=1e-5)
    np.testing.assert_array_equal(data_of(out / "mask.nii.gz"), made.clean.mask)
    np.testing.assert_array_equal(data_of(out / "tissue.nii.gz"), made.tissue)
    assert np.all(data_of(out / "sigma.nii.gz") == np.float32(750 / 20))
    np.testing.assert_allclose(np.loadtxt(out / "noisy.bval"), made.clean.bvals)
    np.testing.assert_allclose(np.loadtxt(out / "truth.bvec"), made.clean.bvecs.T, atol=1e-6)


def test_the_record_says_how_it_was_made(quell, tmp_path):
    words = ("--coils", 4, "--level", 3, "--partial-fourier", 0.75, "--seed", 7)
    ran = quell("simulate", tmp_path / "out", *SMALL, *words)
    said, out = record_of(tmp_path / "out"), tmp_path / "out"
    assert said["Scan"]["Source"] == "phantom small"
    assert said["Scan"]["Tissues"][GREY] == "grey"
    assert (said["Noise"]["Law"], said["Noise"]["Coils"]) == ("nc-chi", 4)
    assert said["Noise"]["SNR"] == pytest.approx(750 / said["Noise"]["Sigma"], rel=1e-4)
    assert data_of(out / "sigma.nii.gz")[0, 0, 0] == pytest.approx(
        said["Noise"]["SigmaInImage"], rel=1e-5
    )
    ratio = said["Noise"]["SigmaInImage"] / said["Noise"]["Sigma"]
    assert ratio == pytest.approx(0.75**0.5, rel=1e-4)
    assert said["Noise"]["Correlation"][1] > 0.2
    assert said["Acquisition"]["MeasuredMatrix"] == [32, 27]
    scores = difusion_scores(data_of(out / "noisy.nii.gz"), data_of(out / "truth.nii.gz"))
    found = said["PublishedScores"]
    assert (found["PSNR"], found["SSIM"]) == pytest.approx(scores, rel=1e-4)
    assert (said["Seed"], said["HasRepeat"]) == (7, False)
    assert said["Command"] == shlex.join(["quell", "simulate", str(out), *SMALL, *map(str, words)])
    assert {"python", "quell", "numpy"} <= set(said["Versions"])
    assert f"PSNR {LEVELS[3]:.2f} dB" in ran.out


def test_the_noise_has_the_sigma_of_the_map(quell, tmp_path):
    quell("simulate", tmp_path / "a", *SMALL, "--law", "gaussian", "--sigma", 12)
    noise = data_of(tmp_path / "a" / "noisy.nii.gz") - data_of(tmp_path / "a" / "truth.nii.gz")
    assert noise.std() == pytest.approx(12, rel=0.01)
    assert np.all(data_of(tmp_path / "a" / "sigma.nii.gz") == 12)


def test_noise_on_the_image_correlates_as_asked(quell, tmp_path):
    words = ("--law", "gaussian", "--sigma", 12, "--correlation", "0,0.4,0")
    quell("simulate", tmp_path / "a", *SMALL, *words)
    noise = data_of(tmp_path / "a" / "noisy.nii.gz") - data_of(tmp_path / "a" / "truth.nii.gz")
    assert (noise[:, 1:] * noise[:, :-1]).mean() / 144 == pytest.approx(0.4, abs=0.02)
    assert record_of(tmp_path / "a")["Noise"]["Correlation"] == [0, 0.4, 0]


@pytest.mark.parametrize("words", [("--coils", 2), ("--law", "rician")])
@pytest.mark.parametrize("level", LEVELS)
def test_an_own_scan_meets_every_level(quell, own, tmp_path, level, words):
    out = tmp_path / "out"
    ran = quell("simulate", out, "--from", own, "--level", level, *words)
    assert ran.status == 0, ran.err
    scores = difusion_scores(data_of(out / "noisy.nii.gz"), data_of(out / "truth.nii.gz"))
    assert scores[0] == pytest.approx(LEVELS[level], abs=0.05)


def test_an_own_scan_keeps_its_place_units_and_gradients(quell, own, tmp_path):
    out, given = tmp_path / "out", nib.load(own)
    ran = quell("simulate", out, "--from", own, "--snr", 10, "--repeat")
    assert ran.status == 0, ran.err
    assert names(out) == SCANS | KNOWN | {f"repeat{e}" for e in (".nii.gz", ".bval", ".bvec")}
    np.testing.assert_allclose(data_of(out / "truth.nii.gz"), given.get_fdata(), rtol=1e-5)
    for path in out.glob("*.nii.gz"):
        image = nib.load(path)
        np.testing.assert_array_equal(image.affine, given.affine)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, 1)
        assert image.header.get_xyzt_units() == ("mm", "sec")
        assert image.header["pixdim"][4] == np.float32(3.5)
    for name in ("noisy", "truth", "repeat"):
        for ending in (".bval", ".bvec"):
            written = (out / f"{name}{ending}").read_bytes()
            assert written == own.with_name(f"clean{ending}").read_bytes()


def test_the_snr_of_an_own_scan_counts_in_its_mean_at_b0_in_the_mask(quell, own, tmp_path):
    mask = np.zeros((32, 36, 10), np.float32)
    mask[10:20, 10:20, 3:6] = 1
    nib.save(nib.Nifti1Image(mask, nib.load(own).affine), tmp_path / "m.nii.gz")
    words = ("--from", own, "--mask", tmp_path / "m.nii.gz", "--snr", 10)
    assert quell("simulate", tmp_path / "out", *words).status == 0
    is_b0 = np.loadtxt(tmp_path / "clean.bval") == 0
    mean = data_of(own)[mask > 0][:, is_b0].mean()
    assert record_of(tmp_path / "out")["Noise"]["Sigma"] == pytest.approx(mean / 10, rel=1e-5)
    np.testing.assert_array_equal(data_of(tmp_path / "out" / "mask.nii.gz"), mask)


def test_one_image_stays_one_image(quell, one, tmp_path):
    ran = quell("simulate", tmp_path / "out", "--from", one, "--level", 4)
    assert ran.status == 0, ran.err
    assert names(tmp_path / "out") == {"noisy.nii.gz", "truth.nii.gz"} | KNOWN
    assert all(nib.load(p).shape == (32, 36, 10) for p in (tmp_path / "out").glob("*.nii.gz"))
    assert "--method c2s" in ran.out


def test_repetitions_share_one_truth_and_have_noise_of_their_own(quell, tmp_path):
    out, words = tmp_path / "out", ("--law", "gaussian", "--sigma", 9)
    ran = quell("simulate", out, *SMALL, "--repetitions", 5, "--volume", 3, *words)
    assert names(out) == {"noisy.nii.gz", "truth.nii.gz", "tissue.nii.gz"} | KNOWN  # no gradients
    noisy, truth = data_of(out / "noisy.nii.gz"), data_of(out / "truth.nii.gz")
    expected = phantom("small").clean.data[..., 3]
    assert truth.shape == (32, 36, 10, 5)
    assert all(np.array_equal(truth[..., v], expected) for v in range(5))
    correlation = np.corrcoef((noisy - truth).reshape(-1, 5).T)
    assert np.abs(correlation - np.eye(5)).max() < 0.04  # of 11 520 voxels
    assert "--fourth-axis repetitions" in ran.out


def test_repetitions_of_one_image_of_ones_own(quell, one, tmp_path):
    words = ("--from", one, "--repetitions", 4, "--snr", 8)
    assert quell("simulate", tmp_path / "out", *words).status == 0
    assert nib.load(tmp_path / "out" / "noisy.nii.gz").shape == (32, 36, 10, 4)


def test_the_repeat_is_the_same_scan_with_other_noise(quell, tmp_path):
    words = (*SMALL, "--coils", 4, "--snr", 25)
    quell("simulate", tmp_path / "a", *words)
    quell("simulate", tmp_path / "b", *words, "--repeat")
    noisy = (tmp_path / "b" / "noisy.nii.gz").read_bytes()
    assert noisy == (tmp_path / "a" / "noisy.nii.gz").read_bytes()
    truth = data_of(tmp_path / "b" / "truth.nii.gz")
    bright = truth > 300  # ten sigma: the noise of the magnitude is Gaussian
    first, second = (
        (data_of(tmp_path / "b" / f"{name}.nii.gz") - truth)[bright] for name in ("noisy", "repeat")
    )
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert second.std() == pytest.approx(first.std(), rel=0.02) == pytest.approx(30, rel=0.02)


def test_the_seed_is_all_that_the_noise_depends_on(quell, tmp_path):
    folders = []
    for number, seed in enumerate((1, 1, 2)):
        folders.append(tmp_path / str(number))
        quell("simulate", folders[-1], *SMALL, "--coils", 2, "--snr", 9, "--seed", seed)
    noisy = [(folder / "noisy.nii.gz").read_bytes() for folder in folders]
    truth = [(folder / "truth.nii.gz").read_bytes() for folder in folders]
    assert noisy[0] == noisy[1] != noisy[2]
    assert truth[0] == truth[1] == truth[2]


def test_what_is_said_to_run_next_runs(quell, tmp_path):
    ran = quell("simulate", tmp_path / "a", *SMALL, "--coils", 3, "--level", 5)
    denoise, evaluate = (shlex.split(line) for line in ran.out.splitlines()[-2:])
    denoise = denoise[denoise.index("denoise") :]
    ran = quell(*denoise, "--method", "patch2self", "--no-report", "--threads", 1)
    assert ran.status == 0, ran.err
    ran = quell(*evaluate[evaluate.index("evaluate") :], "--threads", 1)
    assert ran.status == 0, ran.err
    gain = next(line for line in ran.out.splitlines() if line.startswith("gain"))
    assert float(gain.split()[2]) > 1


def test_quiet_says_nothing(quell, tmp_path):
    ran = quell("simulate", tmp_path / "a", *SMALL, "--snr", 20, "-q")
    assert (ran.status, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize("columns", [80, 200])
def test_the_help_is_plain_and_fits(quell, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    ran = quell("simulate", "--help")
    assert ran.out.startswith("Usage: quell simulate OUT_FOLDER")
    assert max(map(len, ran.out.splitlines())) <= min(columns, 100)
    assert ran.out.isascii()


# ---- what is there already


def test_a_folder_that_is_not_empty_is_kept_unless_forced(quell, tmp_path):
    out = tmp_path / "out"
    assert quell("simulate", out, *SMALL, "--snr", 20, "--repeat").status == 0
    (out / "denoised.nii.gz").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    ran = quell("simulate", out, *SMALL, "--snr", 10)
    assert (ran.status, "--force" in ran.err) == (1, True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert quell("simulate", out, *SMALL, "--snr", 10, "--force").status == 0
    assert names(out) == SCANS | KNOWN | {"tissue.nii.gz", "denoised.nii.gz"}  # no old repeat
    assert (out / "denoised.nii.gz").read_text() == "mine"
    assert record_of(out)["Noise"]["SNR"] == 10


def test_an_input_is_never_written_over(quell, own, tmp_path):
    truth = own.rename(tmp_path / "truth.nii.gz")
    before = truth.read_bytes()
    ran = quell("simulate", tmp_path, "--from", truth, "--snr", 10, "--force")
    assert (ran.status, "is an input of this run" in ran.err) == (2, True)
    assert truth.read_bytes() == before


def test_a_full_disk_leaves_nothing_behind(quell, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_gradients", full)
    ran = quell("simulate", tmp_path / "out", *SMALL, "--snr", 10)
    assert ran.status == 1
    assert "out can't be written (No space left on device)" in ran.err
    assert names(tmp_path) == set()


# ---- what can't be done


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "how much noise is not said"),
        (("--snr", 5, "--level", 1), 2, "--snr and --level exclude each other"),
        (("--level", 6), 2, "give 1 to 5"),
        (("--snr", 0), 2, "give a number above 0"),
        (("--sigma", "nan"), 2, "give a number above 0"),
        (("--sigma", "inf"), 2, "give a number above 0"),
        (("--noisy-psnr", 101), 2, "give 100 or less"),
        (("--noisy-psnr", 1), 2, "can't be as low as 1 dB"),
        (("--snr", 5, "--phantom", "C"), 2, "give A, B, small"),
        (("--snr", 5, "--from", "x.nii"), 2, "--phantom or --from"),
        (("--snr", 5, "--mask", "m.nii"), 2, "its own mask"),
        (("--snr", 5, "--seed", -1), 2, "is negative"),
        (("--snr", 5, "--repetitions", 0), 2, "give 1 or more"),
        (("--snr", 5, "--volume", 2), 2, "give both"),
        (("--snr", 5, "--repetitions", 2, "--volume", 14), 2, "give one of 0 to 13"),
        (("--snr", 5, "--law", "poisson"), 2, "give gaussian, rician, nc-chi"),
        (("--snr", 5, "--law", "rician", "--coils", 4), 2, "that of one coil"),
        (("--snr", 5, "--law", "rician", "--zero-fill", 2), 2, "no k-space"),
        (("--snr", 5, "--correlation", "0.1,0.1,0"), 2, "give --law"),
        (("--snr", 5, "--law", "rician", "--correlation", "0.9,0,0"), 2, "out of reach"),
        (("--snr", 5, "--law", "rician", "--correlation", "0.1"), 2, "write it as 0.2,0.3,0"),
        (("--snr", 5, "--partial-fourier", 0.3), 2, "give 0.5 to 1"),
        (("--snr", 5, "--combine", "sense"), 2, "give rss or adaptive"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    quell, tmp_path, words, status, said
):
    ran = quell("simulate", tmp_path / "out", *SMALL, *words)
    assert (ran.status, ran.out) == (status, "")
    assert said in ran.err
    assert ran.err.splitlines()[-1].startswith("quell: ")
    assert names(tmp_path) == set()


def signed(data):
    return data - 500


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (signed, "has negative values"),
        (lambda data: data * 1j, "is complex"),
        (np.zeros_like, "is empty"),
    ],
)
def test_a_scan_that_cannot_be_used_is_refused_in_words(quell, one, tmp_path, change, said):
    image = nib.load(one)
    changed = change(image.get_fdata(dtype=np.float32))
    nib.save(nib.Nifti1Image(changed, image.affine), one)
    ran = quell("simulate", tmp_path / "out", "--from", one, "--sigma", 5)
    assert (ran.status, said in ran.err) == (1, True)
    assert names(tmp_path) == {one.name}


def test_signed_data_take_gaussian_noise(quell, one, tmp_path):
    image = nib.load(one)
    nib.save(nib.Nifti1Image(signed(image.get_fdata(dtype=np.float32)), image.affine), one)
    words = ("--from", one, "--sigma", 5, "--law", "gaussian")
    assert quell("simulate", tmp_path / "out", *words).status == 0


@pytest.mark.parametrize(("place", "status"), [("no/out", 1), ("file", 2)])
def test_a_place_that_cannot_be_written_is_refused_first(quell, tmp_path, place, status):
    (tmp_path / "file").write_text("mine")
    ran = quell("simulate", tmp_path / place, "--from", tmp_path / "none.nii", "--snr", 5)
    assert ran.status == status
    assert "none.nii" not in ran.err
    assert names(tmp_path) == {"file"}
