"""quell evaluate: files that are there, judged side by side."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import write_scan
from quell.compare.evaluating import names_of
from quell.scaling import Scale
from quell.series import InputError, Series, load, write_nifti
from quell.simulate import corrupt, phantom


@pytest.fixture(scope="module")
def clean() -> Series:
    """18 x 20 x 4 voxels of the small phantom, 14 volumes."""
    whole = phantom("small").clean
    part = np.s_[7:25, 8:28, 3:7]
    return replace(whole, data=whole.data[part], mask=None)


@pytest.fixture
def files(tmp_path, clean) -> dict[str, Path]:
    """A noisy scan, its truth, a repeat, and two results: nearly clean, and over-smoothed."""
    noisy, second = (corrupt(clean.data, 60.0, np.random.default_rng(s)) for s in (0, 1))
    found = {"out": tmp_path / "out"}
    smooth = 0.3 * noisy + 0.7 * noisy.mean(axis=3, keepdims=True)
    arrays = {"truth": clean.data, "scan": noisy, "repeat": second}
    arrays |= {"good": clean.data + 0.2 * (noisy - clean.data), "smooth": smooth}
    for name, data in arrays.items():
        found[name] = write_scan(tmp_path / f"{name}.nii.gz", replace(clean, data=data))
    return found


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "evaluation.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_results_are_ranked_and_scored_by_the_truth(quell, files):
    ended = quell(
        "evaluate", files["scan"], files["smooth"], files["good"], "--truth", files["truth"],
        "--out", files["out"], "--r2", "dti", "--as-published", "--noise-law", "gaussian",
        "--threads", "1",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    rows = rows_of(files["out"])
    assert next(iter(rows)) == "good"
    good, smooth, noisy = (
        {
            n: float(v)
            for n, v in rows[name].items()
            if n not in ("method", "status", "remarks") and v
        }
        for name in ("good", "smooth", "noisy")
    )
    assert good["gain"] == pytest.approx(20 * np.log10(5), abs=0.01)  # a fifth of the noise
    assert good["psnr"] - noisy["psnr"] == pytest.approx(good["gain"], abs=1e-3)
    assert noisy["nrmse"] == pytest.approx(5 * good["nrmse"], rel=1e-3)
    for score in ("ssim", "fa_psnr", "md_psnr", "rd_psnr", "ad_psnr", "r2_dti", "published_psnr"):
        assert good[score] > max(smooth[score], noisy[score]), score
    assert good["angle"] < min(smooth["angle"], noisy["angle"])
    assert smooth["contrast"] < 0.85 < good["contrast"]
    assert "directions were drawn towards their mean" in rows["smooth"]["remarks"]
    page = (files["out"] / "evaluation.html").read_text()
    tiles = 2 * 2 + 2  # results with residuals; noisy and truth
    assert page.count("data:image/png") == tiles + 4 + 3 * 2  # FA of each and the truth; R²
    r2 = {name: load(files["out"] / f"r2_dti_{name}.nii.gz").data for name in ("good", "noisy")}
    assert r2["good"].mean() > r2["noisy"].mean() > 0
    assert "quell evaluation" in page
    record = json.loads((files["out"] / "evaluation.json").read_text())
    assert [row["method"] for row in record["rows"]] == list(rows)
    assert not {"preset", "minutes_per_method"} & set(record)  # no method was run


def test_without_a_folder_it_only_prints(quell, files, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    ended = quell("evaluate", files["scan"], files["good"], "--repeat", files["repeat"])
    assert ended.status == 0, ended.err
    assert "tensor gain" in ended.out
    assert "PSNR" not in ended.out  # a repeat is no truth
    assert not list((tmp_path / "empty").iterdir())


def test_quiet_prints_errors_only(quell, files):
    ended = quell("evaluate", files["scan"], files["good"], "--out", files["out"], "--quiet")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert (files["out"] / "evaluation.csv").is_file()


def test_a_result_that_is_the_scan_itself_is_said_to_keep_its_noise(quell, files):
    ended = quell("evaluate", files["scan"], files["scan"], "--noise-law", "gaussian")
    assert ended.status == 0, ended.err
    assert "most of the noise is still there" in ended.out


def test_what_cannot_be_meant_is_refused_in_words(quell, files, tmp_path, clean):
    def refused(status: int, *words: object) -> str:
        ended = quell("evaluate", files["scan"], *words)
        assert ended.status == status, ended.err
        assert ended.err.count("quell:") == 1
        return ended.err.strip().splitlines()[-1]

    good = files["good"]
    assert "--r2 dki is no model" in refused(2, good, "--r2", "dki")
    assert "1 folds" in refused(2, good, "--r2", "dti", "--folds", "1")
    both = ("--truth", files["truth"], "--repeat", files["repeat"])
    assert "--truth and --repeat exclude each other" in refused(2, good, *both)
    half = replace(clean, data=clean.data[..., :7])
    write_nifti(tmp_path / "half.nii.gz", half.data, half)
    assert "half.nii.gz can't be judged" in refused(1, tmp_path / "half.nii.gz")
    assert "can't be judged" in refused(1, tmp_path / "nowhere.nii.gz")
    # a reference that the scan is part of would praise whoever takes least away
    holds = replace(clean, data=0.5 * (clean.data + load(files["scan"]).data))
    write_scan(tmp_path / "average.nii.gz", holds)
    words = (good, "--repeat", tmp_path / "average.nii.gz", "--noise-law", "gaussian")
    assert "holds the noise of the scan itself" in refused(1, *words)


def test_results_of_one_name_bear_that_of_their_folder(tmp_path):
    a, b = tmp_path / "a" / "denoised.nii.gz", tmp_path / "b" / "denoised.nii"
    assert list(names_of([a, b, tmp_path / "c.nii"])) == ["a/denoised", "b/denoised", "c"]
    with pytest.raises(InputError, match="one name"):
        names_of([a, a])


def test_taking_the_noise_floor_off_is_seen_and_not_punished_everywhere(quell, tmp_path, clean):
    """At a signal of few sigma the mean magnitude lies above the signal: two goals, two gains."""
    sigma = float(np.median(clean.data[..., 2:])) / 1.5
    noisy = corrupt(clean.data, sigma, np.random.default_rng(0), "rician")
    scale = Scale.of(np.full(clean.data.shape[:3], sigma, np.float32), "rician")
    kept = scale.stabiliser.mean_of(clean.data / sigma) * sigma
    arrays = {"noisy": noisy, "truth": clean.data, "kept": kept + 0.3 * (noisy - kept)}
    arrays["off"] = arrays["kept"] + clean.data - kept
    for name, data in arrays.items():
        write_scan(tmp_path / f"{name}.nii.gz", replace(clean, data=data.astype(np.float32)))
    sigmas = replace(clean, data=np.full((*clean.data.shape[:3], 1), sigma, np.float32))
    write_nifti(tmp_path / "sigma.nii.gz", sigmas.data[..., 0], sigmas)
    ended = quell(
        "evaluate", tmp_path / "noisy.nii.gz", tmp_path / "kept.nii.gz", tmp_path / "off.nii.gz",
        "--truth", tmp_path / "truth.nii.gz", "--noise-law", "rician",
        "--noise-in", tmp_path / "sigma.nii.gz", "--out", tmp_path / "out", "--threads", "1",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    rows = rows_of(tmp_path / "out")
    gain, off = ({n: float(rows[n][s]) for n in ("kept", "off")} for s in ("gain", "gain_off"))
    assert gain["kept"] > gain["off"] + 3
    assert off["off"] > off["kept"] + 3
