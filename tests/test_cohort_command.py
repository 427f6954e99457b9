"""quell cohort: the command on a study, by dask workers of its own."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from quell.cli.cohort import labels, spread
from studies_on_disk import Study, described, large, put, small

QUICK = ("--method", "mppca", "--threads", "1", "--workers", "2", "--no-report")
VALIDATOR = shutil.which("bids-validator-deno", path=Path(sys.executable).parent)


def cohort(*words: object, **more) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "quell", "cohort", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, **more)


def valid(out: Path) -> None:
    """The official validator finds no error."""
    if VALIDATOR is None:
        pytest.skip("bids-validator-deno is not installed")
    command = [VALIDATOR, "--ignoreWarnings", "--format", "json", str(out)]
    env = os.environ | {"DENO_DIR": str(out.parent / "deno"), "DENO_NO_UPDATE_CHECK": "1"}
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    issues = json.loads(said.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []


def table(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "group.tsv", encoding="utf-8") as file:
        return {row["scan"]: row for row in csv.DictReader(file, delimiter="\t")}


def images(out: Path) -> dict[str, bytes]:
    """What a run without a fault would have written, byte for byte."""
    found = [p for e in ("nii.gz", "bval", "bvec") for p in out.glob(f"sub-*/**/*.{e}")]
    return {str(p.relative_to(out)): p.read_bytes() for p in found}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Study, Path, "subprocess.CompletedProcess[str]"]:
    """Two scans that were denoised, one that can't be; not to be changed."""
    root = tmp_path_factory.mktemp("cohort")
    study = small(root / "raw", 3)
    bad = study.root / "sub-03" / "dwi" / "sub-03_dwi.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-2000])
    ended = cohort(study.root, root / "out", "participant", *QUICK)
    return study, root / "out", ended


def test_a_scan_that_fails_stops_nobody_and_is_said(done):
    _, out, ended = done
    assert ended.returncode == 1
    assert "1 of 3 scans failed; see" in ended.stderr
    assert "Traceback" not in ended.stderr
    rows = table(out)
    assert [rows[f"sub-0{i}_dwi"]["status"] for i in (1, 2, 3)] == ["done", "done", "failed"]
    assert "damaged or cut short" in rows["sub-03_dwi"]["why"]
    assert "damaged or cut short" in (out / "logs" / "sub-03_dwi.log").read_text()


def test_the_output_is_a_valid_dataset(done):
    valid(done[1])


@pytest.mark.slow
def test_a_second_run_does_what_is_missing(done):
    study, out, _ = done
    copy = out.with_name("copy")  # the dataset lies where it lay, seen from here
    shutil.copytree(out, copy)
    before = images(copy)
    (copy / "sub-02" / "dwi" / "sub-02_desc-denoised_dwi.nii.gz").unlink()
    mtime = (copy / "sub-01" / "dwi" / "sub-01_desc-denoised_dwi.nii.gz").stat().st_mtime_ns
    asked = ("--participant-label", "01", "sub-02")
    ended = cohort(study.root, copy, "participant", *asked, *QUICK)
    assert ended.returncode == 0, ended.stderr
    assert "2 scans, 1 of them done already" in ended.stderr
    assert images(copy) == before
    same = copy / "sub-01" / "dwi" / "sub-01_desc-denoised_dwi.nii.gz"
    assert same.stat().st_mtime_ns == mtime


def test_the_group_level_makes_table_and_page(done, tmp_path, quell):
    study, out, _ = done
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    for path in copy.glob("group.*"):
        path.unlink()
    assert quell("cohort", study.root, copy, "group").status == 0
    assert len(table(copy)) == 3
    assert "sub-03_dwi" in (copy / "group.html").read_text()


def bad(tmp_path: Path, *words: object) -> tuple[object, ...]:
    return (tmp_path / "raw", tmp_path / "out", "participant", *QUICK, *words)


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (("--participant-label", "77"), "there is no participant 77", 2),
        (("--session-label", "x"), "there is no session x", 2),
        (("--method", "magic"), "method 'magic' is not known", 2),
        (("--datatype", "eeg"), "choose dwi or anat", 2),
        (("--dask", "cloud"), "--dask cloud is not known", 2),
        (("--dask", "http://host:1"), "is not known; give local", 2),
        (("--dask", "slurm"), "cores and memory is missing", 2),
        (("--memory", "0"), "are none", 2),
        (("--shared-model",), "learns from one scan", 2),
        (("--datatype", "anat"), "there is nothing to denoise", 1),
    ],
)
def test_what_can_not_be_meant_is_one_sentence(tmp_path, quell, words, said, status):
    small(tmp_path / "raw", 1)
    ended = quell("cohort", *bad(tmp_path, *words))
    assert ended.status == status
    lines = [line for line in ended.err.splitlines() if line.startswith("quell: ")]
    assert len(lines) == 1
    assert said in lines[0]


def test_the_output_of_another_dataset_is_not_touched(done, tmp_path, quell):
    out = tmp_path / "out"
    shutil.copytree(done[1], out)
    small(tmp_path / "other", 1)
    ended = quell("cohort", tmp_path / "other", out, "participant", *QUICK)
    assert (ended.status, "holds scans of another dataset" in ended.err) == (1, True)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("raw/out", "lies among the data"),
        (".", "lies in"),
        ("full", "holds something else"),
        ("raw/dwi.json", "lies among the data"),
        ("linked", "is a link that leads out"),
        ("odd", "holds something else"),
    ],
)
def test_places_that_are_not_for_output_are_refused(tmp_path, quell, out, said):
    small(tmp_path / "raw", 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".quell").symlink_to(tmp_path / "full")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "dataset_description.json").write_text('{"GeneratedBy": true}')
    before = sorted(tmp_path.rglob("*"))
    ended = quell("cohort", tmp_path / "raw", tmp_path / out, "participant", *QUICK)
    assert ended.status in (1, 2)
    assert said in ended.err
    assert sorted(tmp_path.rglob("*")) == before


def test_no_dataset_and_no_level_are_said(tmp_path, quell):
    assert "is no folder" in quell("cohort", tmp_path / "x", tmp_path / "o", "participant").err
    assert "no folders sub-" in quell("cohort", tmp_path, tmp_path / "../o", "participant").err
    assert "level 'all' is not known" in quell("cohort", tmp_path, tmp_path, "all").err


def test_dask_that_is_missing_is_said(tmp_path, quell, monkeypatch):
    small(tmp_path / "raw", 1)
    monkeypatch.setitem(sys.modules, "distributed", None)
    ended = quell("cohort", *bad(tmp_path))
    assert (ended.status, "pip install 'quell[cohort]'" in ended.err) == (1, True)


def test_dask_is_imported_when_it_is_used():
    code = "import sys, quell.cli.cohort; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lists_are_written_as_bids_apps_have_them():
    words = ["a", "b", "participant", "--participant-label", "01", "02", "-q", "--datatype", "dwi"]
    assert spread(words, ["-q"]) == [
        *words[:5], "--participant-label", "02", *words[6:],
    ]  # fmt: skip
    before = ["--participant-label", "01", "a", "b", "participant"]
    assert spread(before, []) == before
    assert labels(["sub-01,02", "01"], "sub-") == ("01", "02")


@pytest.mark.slow
def test_a_study_of_24_scans(tmp_path):
    study, out = large(tmp_path / "raw"), tmp_path / "out"
    ended = cohort(study.root, out, "participant", *QUICK[:-1])
    assert ended.returncode == 1
    assert "4 of 24 scans failed" in ended.stderr
    rows = table(out)
    assert {n for n, row in rows.items() if row["status"] == "done"} == set(study.good)
    assert len(study.good) == 20
    for name, words in study.bad.items():
        assert words in rows[name]["why"]
    assert "Traceback" not in ended.stderr
    valid(out)


@pytest.mark.slow
def test_one_model_for_all_scans_of_a_protocol(tmp_path):
    study, out = small(tmp_path / "raw", 3), tmp_path / "out"
    words = ("--shared-model", "--train-scans", "2", "--method", "c2s", "--preset", "fast",
             "--set", "steps=10", "--threads", "1", "--workers", "2", "--no-report")  # fmt: skip
    ended = cohort(study.root, out, "participant", *words)
    assert ended.returncode == 0, ended.stderr
    assert len(list((out / "models").glob("*.safetensors"))) == 1
    assert all(row["status"] == "done" for row in table(out).values())
    assert all(row["gain"] != "n/a" for row in table(out).values())
    again = cohort(study.root, out, "participant", *words)
    assert "3 of them done already" in again.stderr
    valid(out)


@pytest.mark.slow
def test_contrasts_of_anatomy(tmp_path):
    root = described(tmp_path / "raw")
    for name in ("run-1_T2w", "run-2_T2w", "FLAIR"):
        path = put(root / "sub-01" / "anat", f"sub-01_{name}", gradients=False)
        image = nib.load(path)
        data = np.asarray(image.dataobj[..., :3] if "T2w" in name else image.dataobj[..., 0])
        nib.save(nib.Nifti1Image(data, image.affine), path)
    words = ("--datatype", "anat", "--method", "nlm", "--fourth-axis", "repetitions")
    ended = cohort(root, tmp_path / "out", "participant", *words, "--no-report", "--workers", "2")
    assert ended.returncode == 0, ended.stderr
    assert len(table(tmp_path / "out")) == 3
    valid(tmp_path / "out")
