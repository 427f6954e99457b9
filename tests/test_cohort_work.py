"""One scan of a study: what is written, what is kept, what is said when it can't be."""

import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from quell.cohort.bids import Dataset
from quell.cohort.job import Asked, Job
from quell.cohort.manifest import Entry
from quell.cohort.names import write_dataset
from quell.cohort.work import denoise_scan
from quell.compare.running import DONE, FAILED
from quell.options import Options
from studies_on_disk import described, put, small

QUICK = Options(method="mppca", threads=1)


def job_of(root: Path, out: Path, **more) -> Job:
    """The job of the first scan."""
    dataset = Dataset(root)
    out.mkdir(exist_ok=True)
    write_dataset(out, dataset)
    asked = replace(Asked(out, out / ".quell", QUICK, "quell cohort", report=False), **more)
    return Job.of(dataset.scans((), (), ("dwi",))[0], dataset, asked)


def work(job: Job) -> Entry:
    return Entry.of_text(denoise_scan(job.text))


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.glob("sub-*/**/*") if p.is_file()}


@pytest.fixture
def study(tmp_path):
    return small(tmp_path / "raw", 1).root


def test_a_scan_and_all_that_belongs_to_it_is_written(study, tmp_path):
    out = tmp_path / "out"
    entry = work(job_of(study, out, residual=True, report=True))
    assert (entry.status, entry.why) == (DONE, "")
    folder, stem = out / "sub-01" / "dwi", "sub-01_desc"
    scan = nib.load(study / "sub-01" / "dwi" / "sub-01_dwi.nii.gz")
    denoised = nib.load(folder / f"{stem}-denoised_dwi.nii.gz")
    residual = nib.load(folder / f"{stem}-residual_dwi.nii.gz")
    removed = scan.get_fdata() - denoised.get_fdata()
    np.testing.assert_allclose(residual.get_fdata(), removed, atol=0.1)
    mask = nib.load(folder / f"{stem}-brain_mask.nii.gz")
    assert (mask.get_data_dtype(), mask.shape) == (np.uint8, scan.shape[:3])
    assert nib.load(folder / f"{stem}-noise_dwimap.nii.gz").shape == scan.shape[:3]
    for ending in ("bval", "bvec"):
        same = (study / f"dwi.{ending}").read_bytes()
        assert (folder / f"{stem}-denoised_dwi.{ending}").read_bytes() == same
    assert (out / entry.report).is_file()
    assert not list((out / ".quell").glob("**/*.nii.gz"))


def test_the_sidecar_keeps_the_metadata_and_says_the_source(study, tmp_path):
    job = job_of(study, tmp_path / "out")
    work(job)
    said = json.loads(
        (tmp_path / "out" / job.targets["out"].replace(".nii.gz", ".json")).read_text()
    )
    assert (said["RepetitionTime"], said["EchoTime"]) == (3.2, 0.08)
    assert said["SpatialReference"] == "orig"
    assert said["Sources"] == ["bids:raw:sub-01/dwi/sub-01_dwi.nii.gz"]
    assert said["GeneratedBy"][0]["Name"] == "quell"
    assert said["Denoising"]["Method"] == "mppca"


def test_what_is_done_is_not_done_again(study, tmp_path):
    job = job_of(study, tmp_path / "out")
    first = work(job)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("sub-*/**/*")}
    assert work(job) == first
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("sub-*/**/*")}


def test_what_changed_or_is_missing_is_not_done(study, tmp_path):
    out, file = tmp_path / "out", study / "sub-01" / "dwi" / "sub-01_dwi.nii.gz"
    job = job_of(study, out)
    entry = work(job)
    assert entry.is_done(job.how, job.files, out)
    os.utime(file)  # a copy of the same bytes is the same scan
    assert entry.is_done(job.how, job.files, out)
    assert not entry.is_done(job_of(study, out, residual=True).how, job.files, out)
    (study / "dwi.json").write_text('{"EchoTime": 0.09}')
    assert not entry.is_done(job_of(study, out).how, job.files, out)
    put(study / "sub-01" / "dwi", "sub-01_dwi", seed=7, gradients=False)
    assert not entry.is_done(job.how, job.files, out)
    put(study / "sub-01" / "dwi", "sub-01_dwi", seed=0, gradients=False)
    assert entry.is_done(job.how, job.files, out)
    (out / job.targets["mask"]).unlink()
    assert not entry.is_done(job.how, job.files, out)


def test_what_is_no_longer_wanted_goes(study, tmp_path):
    job = job_of(study, tmp_path / "out", residual=True)
    work(job)
    assert (tmp_path / "out" / job.targets["residual"]).exists()
    assert work(job_of(study, tmp_path / "out")).status == DONE
    assert not (tmp_path / "out" / job.targets["residual"]).exists()


def test_a_full_disk_leaves_the_earlier_result_as_it_was(study, tmp_path):
    job = job_of(study, tmp_path / "out")
    work(job)
    before = contents(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))  # files can't grow larger
    try:
        entry = work(job_of(study, tmp_path / "out", residual=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert entry.status == FAILED
    assert "free space" in entry.why
    assert "the result of an earlier run is still there" in entry.why
    assert contents(tmp_path / "out") == before


def test_a_link_out_of_the_output_is_not_followed(study, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    job = job_of(study, out)
    elsewhere.mkdir()
    (out / "sub-01").symlink_to(elsewhere)
    assert "leads out of" in work(job).why
    assert not list(elsewhere.iterdir())


def test_a_link_to_data_that_was_not_fetched_is_said(study, tmp_path):
    file = study / "sub-01" / "dwi" / "sub-01_dwi.nii.gz"
    file.unlink()
    file.symlink_to(".git/annex/objects/x")
    assert "a file that is not there; fetch" in work(job_of(study, tmp_path / "out")).why


def test_a_dwi_without_directions_is_refused(tmp_path):
    root = described(tmp_path / "raw")
    put(root / "sub-01" / "dwi", "sub-01_dwi", gradients=False)
    (root / "dwi.bvec").unlink()
    entry = work(job_of(root, tmp_path / "out"))
    assert "has no bvec, beside it or above" in entry.why
    assert "has no bvec" in (tmp_path / "out" / "logs" / "sub-01_dwi.log").read_text()


def test_another_version_on_the_worker_is_said(study, tmp_path):
    job = replace(job_of(study, tmp_path / "out"), version="0.0.1")
    assert "the run is by 0.0.1; install the same" in work(job).why


def test_a_fault_of_ours_is_a_sentence_and_its_trace_is_in_the_log(study, tmp_path, monkeypatch):
    monkeypatch.setattr("quell.cohort.work.denoise_file", lambda *_: 1 / 0)
    entry = work(job_of(study, tmp_path / "out"))
    assert entry.why.startswith("quell failed unexpectedly (ZeroDivisionError")
    assert "Traceback" in (tmp_path / "out" / "logs" / "sub-01_dwi.log").read_text()


def test_a_judge_without_truth_says_the_gain(study, tmp_path):
    entry = work(job_of(study, tmp_path / "out", recorrupt=True))
    assert entry.scores["gain"] is None or -3 < entry.scores["gain"] < 20


def test_magnitude_and_phase_are_denoised_together(tmp_path):
    root = described(tmp_path / "raw")
    path = put(root / "sub-01" / "dwi", "sub-01_part-mag_dwi", gradients=False)
    image = nib.load(path)
    angle = np.random.default_rng(0).uniform(-1, 1, image.shape).astype(np.float32)
    phase = path.with_name("sub-01_part-phase_dwi.nii.gz")
    nib.save(nib.Nifti1Image(angle, image.affine, image.header), phase)
    job = job_of(root, tmp_path / "out")
    entry = work(job)
    assert entry.status == DONE, entry.why
    said = json.loads(
        (tmp_path / "out" / job.targets["phase"].replace(".nii.gz", ".json")).read_text()
    )
    assert (said["Units"], len(said["Sources"])) == ("rad", 2)


@pytest.mark.parametrize("name", ["logs/sub-01_dwi.log", ".quell/sub-01_dwi"])
def test_a_link_in_the_place_of_a_log_or_a_work_folder_is_not_followed(study, tmp_path, name):
    job, place = job_of(study, tmp_path / "out"), tmp_path / "out" / name
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("precious")
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(elsewhere / "precious" if "log" in name else elsewhere)
    assert "is a link" in work(job).why
    assert (elsewhere / "precious").read_text() == "precious"
