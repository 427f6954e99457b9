"""quell probe: a folder that is whole or not there, for any method and any program."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from conftest import write_scan

PYTHON = sys.executable
FILES = {"probe.json", "probe.csv", "probe.html", "probe.png"}
# A denoiser of four lines: it moves every volume towards the mean of all, by a share.
SHRINK = """
import sys, nibabel, numpy
scan = nibabel.load(sys.argv[1]); y = scan.get_fdata(dtype="float32")
out = y + numpy.float32(sys.argv[3]) * (y.mean(axis=3, keepdims=True) - y)
nibabel.save(nibabel.Nifti1Image(out, scan.affine), sys.argv[2])
"""
HOSTILE = "<img src=x onerror=alert(1)>'é.nii.gz"


@pytest.fixture(scope="module")
def large(tmp_path_factory, brain) -> Path:
    """48 x 56 x 10 voxels of the brain, 12 volumes, as a file of a hostile name."""
    folder, rng = tmp_path_factory.mktemp("probe"), np.random.default_rng(0)
    own = brain.clean
    data = own.data[8:56, 8:64] + 40 * rng.standard_normal((48, 56, 10, 12))
    (folder / "shrink.py").write_text(SHRINK)
    return write_scan(folder / HOSTILE, replace(own, data=np.float32(data), mask=None))


@pytest.fixture(scope="module")
def by_wiener(large, tmp_path_factory):
    """The folder that `quell probe --method wiener` wrote."""
    out = tmp_path_factory.mktemp("by") / "wiener"
    words = [PYTHON, "-m", "quell", "probe", str(large), "--out", str(out), "--noise-law",
             "gaussian", "--method", "wiener", "--threads", "1"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_folder_holds_tables_page_and_figure_that_agree(by_wiener):
    out, said = by_wiener
    assert {path.name for path in out.iterdir()} == FILES
    record = json.loads((out / "probe.json").read_text())
    with open(out / "probe.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(record["kinds"]) >= 6
    for line, kind in zip(lines, record["kinds"], strict=True):
        assert float(line["kept"]) == kind["kept"]["mean"]
        assert int(line["kept_n"]) == kind["kept"]["n"] >= 1
    assert {kind["volumes"] for kind in record["kinds"]} == {1, 4, 12}
    assert record["scans_with_structures"] == 2
    assert sum(kind["kept"]["n"] for kind in record["kinds"]) == len(record["structures"])
    kept = {k["volumes"]: k["kept"]["mean"] for k in record["kinds"] if k["n_voxels"] == 27}
    assert kept[1] < kept[12]  # what all volumes show is what they have in common
    assert all(sentence in said for sentence in record["sentences"])
    assert Image.open(out / "probe.png").size[0] > 800


def test_the_page_is_self_contained_and_escapes_names(by_wiener):
    page = (by_wiener[0] / "probe.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert page.count("data:image/png") == 4  # the chart in two themes, added, came back


def shrink(large: Path, share: float, name: str = "shrink") -> str:
    return f"{name}={PYTHON} {large.parent / 'shrink.py'} {{in}} {{out}} {share}"


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_any_program_is_probed_by_its_files(quell, large, tmp_path, share):
    out = tmp_path / "out"
    words = ["probe", large, "--out", out, "--external", shrink(large, share), "--scans", "1"]
    ended = quell(*words, "--noise-law", "gaussian", "--threads", "1")
    assert ended.status == 0, ended.err
    assert {path.name for path in out.iterdir()} == FILES
    record = json.loads((out / "probe.json").read_text())
    for kind in record["kinds"]:
        goal = 1 - share * (1 - kind["volumes"] / 12)
        assert kind["kept"]["mean"] == pytest.approx(goal, abs=1e-3)


def test_a_program_that_fails_leaves_nothing(quell, large, tmp_path):
    out = tmp_path / "out"
    ended = quell("probe", large, "--out", out, "--external", "bad=false {in} {out}")
    assert ended.status == 1
    assert ended.err.splitlines()[-1].startswith("quell: bad: failed")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scans", "3"], "--scans 3 can't be"),
        (["--minutes-per-run", "0"], "0 minutes are none"),
        (["--method", "mppca", "--external", "a=b {in} {out}"], "leave out --method"),
        (["--external", "a=b {in}"], "does not say where"),
        (["--method", "nothing"], "method 'nothing' is not known"),
        (["--preset", "nothing"], "has no preset 'nothing'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(quell, large, tmp_path, words, said):
    ended = quell("probe", large, "--out", tmp_path / "out", *words)
    assert ended.status == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone_unless_forced(quell, large, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    words = ["probe", large, "--out", tmp_path, "--method", "wiener", "--scans", "1", "-q"]
    words += ["--threads", "1"]
    assert "not empty" in quell(*words).err
    assert quell(*words, "--force").status == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"mine.txt"}


def test_complex_data_are_probed_along_their_phase_by_methods_of_quell_only(quell, large, tmp_path):
    magnitude = nib.load(large)
    data = magnitude.get_fdata(dtype=np.float32)
    ramp = np.linspace(0, 2, data.shape[0])[:, None, None, None]
    rng = np.random.default_rng(1)
    data = data * np.exp(1j * ramp) + 40j * rng.standard_normal(data.shape)
    image = nib.Nifti1Image(data.astype(np.complex64), magnitude.affine)
    nib.save(image, tmp_path / "complex.nii.gz")
    words = ["probe", tmp_path / "complex.nii.gz", "--out", tmp_path / "out", "--threads", "1"]
    ended = quell(*words, "--external", shrink(large, 0.0))
    assert "give the magnitude" in ended.err
    ended = quell(*words, "--method", "wiener", "--scans", "1")
    assert ended.status == 0, ended.err
    record = json.loads((tmp_path / "out" / "probe.json").read_text())
    kept = {k["volumes"]: k["kept"]["mean"] for k in record["kinds"] if k["n_voxels"] == 81}
    assert 0 < kept[1] < kept[12] < 1.05


def test_a_method_that_trains_is_trained_on_the_scan_with_structures(quell, scan, tmp_path):
    out = tmp_path / "out"
    words = ["probe", scan, "--out", out, "--method", "c2s", "--preset", "fast", "--set", "steps=2"]
    ended = quell(*words, "--set", "channels=8", "--threads", "1")
    assert ended.status == 0, ended.err
    record = json.loads((out / "probe.json").read_text())
    assert record["trained_anew"]
    assert record["scans_with_structures"] == 1
    assert "trained anew" in (out / "probe.html").read_text()


# ---- the short form in every report --------------------------------------------------------------


def test_the_report_and_the_sidecar_say_what_would_be_kept(quell, large, tmp_path):
    out = tmp_path / "denoised.nii.gz"
    words = ["denoise", large, out, "--method", "wiener", "--threads", "1"]
    assert quell(*words).status == 0
    probe = json.loads((tmp_path / "denoised.json").read_text())["Denoising"]["Probe"]
    page = (tmp_path / "denoised_report.html").read_text()
    share = f"{100 * probe['kept']['mean']:.0f} % would be kept"
    assert f"of {probe['n_voxels']} voxels seen in one volume: {share}" in page
    before = out.read_bytes()
    assert quell(*words, "--force", "--no-probe").status == 0
    assert out.read_bytes() == before
    assert "Probe" not in json.loads((tmp_path / "denoised.json").read_text())["Denoising"]
    assert "Not measured here: quell probe" in (tmp_path / "denoised_report.html").read_text()


# ---- in a comparison -----------------------------------------------------------------------------


def test_a_comparison_says_what_each_keeps(quell, large, tmp_path):
    words = ["compare", large, "--out", tmp_path / "out", "--methods", "wiener", "--probe"]
    words += ["--external", shrink(large, 0.6), "--external", "bad=false {in} {out}"]
    words += ["--noise-law", "gaussian", "--threads", "1"]
    assert quell(*words).status == 0
    with open(tmp_path / "out" / "comparison.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["noisy"]["kept"]) == pytest.approx(100, abs=1e-2)
    assert float(rows["shrink"]["kept"]) == pytest.approx(100 * (1 - 0.6 * 11 / 12), abs=0.1)
    assert float(rows["shrink"]["kept_all"]) == pytest.approx(100, abs=0.1)
    assert 0 < float(rows["wiener"]["kept"]) < 100
    assert float(rows["wiener"]["made"]) > 0
    assert rows["bad"]["kept"] == ""
    done = tmp_path / "out" / "wiener" / "probe" / "denoised.nii.gz"
    last = done.stat().st_mtime_ns
    assert quell(*words).status == 0
    assert done.stat().st_mtime_ns == last  # what is done is not run again
    assert "kept, %" in (tmp_path / "out" / "comparison.html").read_text()
