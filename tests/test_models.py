"""Models on disk: used again without training, refused on another scan, and sampled from."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from conftest import write_scan

TINY = "levels=0", "stage1_steps=4", "steps=4", "channels=8", "patch=16", "priors=4"
DDM2 = [
    "--method",
    "ddm2",
    "--no-report",
    "--threads",
    "1",
    *(w for t in TINY for w in ("--set", t)),
]


@pytest.fixture
def learned(quell, scan, tmp_path):
    """A model of the scan, and what came of training it."""
    model = tmp_path / "m.safetensors"
    assert quell("denoise", scan, tmp_path / "a.nii.gz", *DDM2, "--model-out", model).status == 0
    return model, np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj)


def test_a_model_gives_the_same_result_without_training(quell, scan, learned, tmp_path):
    model, first = learned
    out = tmp_path / "b.nii.gz"
    assert quell("denoise", scan, out, "--model", model, "--threads", "1").status == 0
    np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj), first)
    said = json.loads((tmp_path / "b.json").read_text())["Denoising"]
    assert said["Method"] == "ddm2"
    assert "training" not in said["Seconds"]
    assert said["VolumesPassedUnchanged"] == []
    assert said["MatchedStates"]["Least"] >= 2


def test_settings_of_the_denoising_may_differ_from_those_of_the_training(
    quell, scan, learned, tmp_path
):
    model, first = learned
    out, spread = tmp_path / "b.nii.gz", tmp_path / "s.nii.gz"
    ended = quell(
        "denoise", scan, out, "--model", model, "--set", "output=chain", "--set", "rule=posterior",
        "--set", "samples=2", "--spread-out", spread,
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert np.abs(np.asarray(nib.load(out).dataobj) - first).max() > 1
    values = np.asarray(nib.load(spread).dataobj)
    assert values.shape == first.shape
    assert (values.max(axis=(0, 1, 2)) > 0).all()


def test_a_model_of_another_scan_is_refused_unless_allowed(quell, scan, learned, series, tmp_path):
    model, _ = learned
    (tmp_path / "other").mkdir()
    other = write_scan(tmp_path / "other" / "o.nii.gz", replace(series, data=series.data * 2))
    ended = quell("denoise", other, tmp_path / "b.nii.gz", "--model", model)
    assert ended.status == 1
    assert "--allow-mismatch" in ended.err
    assert not (tmp_path / "b.nii.gz").exists()
    words = "denoise", other, tmp_path / "b.nii.gz", "--model", model, "--allow-mismatch"
    ended = quell(*words)
    assert ended.status == 0
    assert "another scan" in ended.out + ended.err


def test_a_model_of_another_number_of_volumes_cannot_be_allowed(quell, learned, series, tmp_path):
    model, _ = learned
    (tmp_path / "other").mkdir()
    few = replace(series, data=series.data[..., :9], bvals=series.bvals[:9], bvecs=series.bvecs[:9])
    other = write_scan(tmp_path / "other" / "o.nii.gz", few)
    words = "denoise", other, tmp_path / "b.nii.gz", "--model", model, "--allow-mismatch"
    ended = quell(*words)
    assert ended.status == 1
    assert "14 volumes" in ended.err


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]
)
def test_what_is_no_model_is_refused_in_a_sentence(quell, scan, tmp_path, content):
    (tmp_path / "m.safetensors").write_bytes(content)
    ended = quell("denoise", scan, tmp_path / "b.nii.gz", "--model", tmp_path / "m.safetensors")
    assert ended.status == 1
    assert "is not a model of quell" in ended.err
    assert "Traceback" not in ended.err


def test_a_spread_that_nobody_drew_is_refused(quell, scan, tmp_path):
    ended = quell(
        "denoise", scan, tmp_path / "b.nii.gz", "--method", "patch2self", "--spread-out",
        tmp_path / "s.nii.gz",
    )  # fmt: skip
    assert ended.status == 2
    assert "samples" in ended.err
    assert not (tmp_path / "b.nii.gz").exists()


def test_images_are_drawn_from_a_model(quell, learned, tmp_path):
    model, first = learned
    out = tmp_path / "images.nii.gz"
    ended = quell("sample", model, out, "--number", "3", "--steps", "4", "--seed", "5")
    assert ended.status == 0, ended.err
    images = np.asarray(nib.load(out).dataobj).squeeze()
    assert images.shape == (*first.shape[:2], 3)
    assert 0 <= images.min() < images.max() <= 1
    assert not np.array_equal(images[..., 0], images[..., 1])
    assert quell("sample", model, out).status == 1  # exists
    again = quell("sample", model, out, "-n", "3", "--steps", "4", "--seed", "5", "--force")
    assert again.status == 0
    np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj).squeeze(), images)


def test_a_method_that_draws_no_images_says_so(quell, scan, tmp_path):
    model = tmp_path / "m.safetensors"
    words = "--method", "patch2self", "--no-report", "--model-out", model
    assert quell("denoise", scan, tmp_path / "a.nii.gz", *words).status == 0
    ended = quell("sample", model, tmp_path / "i.nii.gz")
    assert ended.status == 1
    assert "draws no images" in ended.err


def test_stop_is_a_setting_of_difusion_and_goes_further_when_larger(quell, scan, tmp_path):
    tiny = "steps=4", "channels=8", "patch=16", "latter=301", "stride=100", "walk_from=1"
    words = ["--method", "difusion", "--no-report", *(w for t in tiny for w in ("--set", t))]
    taken = []
    for stop in (0, 100):
        out = tmp_path / f"{stop}.nii.gz"
        assert quell("denoise", scan, out, *words, "--stop", stop).status == 0
        said = json.loads((tmp_path / f"{stop}.json").read_text())["Denoising"]
        taken.append(said["StepsTaken"]["Median"])
        assert len(said["DistanceFromInput"]) == taken[-1]
    assert taken == [1, 4]
    ended = quell("denoise", scan, tmp_path / "x.nii.gz", "--stop", "1")
    assert ended.status == 2  # joint has no such setting


def test_a_model_that_learned_no_whole_chain_draws_no_images(quell, scan, tmp_path):
    model = tmp_path / "m.safetensors"
    words = [w if w != "levels=0" else "levels=1.5" for w in DDM2]
    assert quell("denoise", scan, tmp_path / "a.nii.gz", *words, "--model-out", model).status == 0
    ended = quell("sample", model, tmp_path / "i.nii.gz")
    assert ended.status == 1
    assert "levels=0" in ended.err


@pytest.mark.parametrize("setting", ["channels=16", "intensities=volume-maximum", "steps=9"])
def test_what_was_learned_with_cannot_change_afterwards(quell, scan, learned, tmp_path, setting):
    ended = quell("denoise", scan, tmp_path / "b.nii.gz", "--model", learned[0], "--set", setting)
    assert ended.status == 2
    assert "can't change once a model is learned" in ended.err


def test_another_method_beside_a_model_is_refused(quell, scan, learned, tmp_path):
    words = "--model", learned[0], "--method", "patch2self"
    ended = quell("denoise", scan, tmp_path / "b.nii.gz", *words)
    assert ended.status == 2
    assert "is a model of ddm2" in ended.err
