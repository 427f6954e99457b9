"""quell compare: everyone on one footing, judged alike, and nothing done twice."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from conftest import write_scan
from quell.compare import Judge, as_text
from quell.compare.contestants import NOISY, external, of_quell, quells_own, refuse_twins
from quell.compare.results import read_result
from quell.compare.running import DONE, FAILED, LATE, Outcome, run
from quell.compare.table import Row, as_csv, as_json, as_markdown, ranked
from quell.options import Options
from quell.pipeline import known
from quell.run import Run
from quell.series import InputError, Series, write_nifti
from quell.simulate import corrupt, phantom

PYTHON = sys.executable
SIGMA = 60.0
# A denoiser of ten lines: it moves every volume towards the mean of all, by a share.
SHRINK = """
import sys, nibabel, numpy
scan = nibabel.load(sys.argv[1]); y = scan.get_fdata(dtype="float32")
share = float(sys.argv[3])
out = y + numpy.float32(share) * (y.mean(axis=3, keepdims=True) - y)
nibabel.save(nibabel.Nifti1Image(out, scan.affine), sys.argv[2])
open(sys.argv[2] + ".ran", "a").write("x")
"""


@pytest.fixture(scope="module")
def clean() -> Series:
    """18 x 20 x 4 voxels of the small phantom, 14 volumes."""
    whole = phantom("small").clean
    part = np.s_[7:25, 8:28, 3:7]
    return replace(whole, data=whole.data[part], mask=whole.mask[part])


def noisy_of(clean: Series, seed: int, law: str = "gaussian", sigma: float = SIGMA) -> Series:
    rng = np.random.default_rng(seed)
    return replace(clean, data=corrupt(clean.data, sigma, rng, law))


def judge_of(clean: Series, reference: Series | None, is_truth: bool, law: str = "gaussian"):
    scan = noisy_of(clean, 0, law)
    scan, _, _, noise, _ = known(scan, Options(noise_law=law), Run())
    return Judge(scan, noise, reference, is_truth)


@pytest.fixture
def files(tmp_path, clean) -> dict[str, Path]:
    """A noisy scan, its truth and its repeat as files, and a folder to write to."""
    truth = write_scan(tmp_path / "clean.nii.gz", clean)
    scan = write_scan(tmp_path / "dwi.nii.gz", noisy_of(clean, 0))
    repeat = write_scan(tmp_path / "repeat.nii.gz", noisy_of(clean, 1))
    (tmp_path / "shrink.py").write_text(SHRINK)
    return {"scan": scan, "truth": truth, "repeat": repeat, "out": tmp_path / "out"}


def shrink(files: dict[str, Path], name: str, share: float) -> str:
    return f"{name}={PYTHON} {files['scan'].parent / 'shrink.py'} {{in}} {{out}} {share}"


def table(files: dict[str, Path]) -> dict[str, dict[str, str]]:
    with open(files["out"] / "comparison.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


# ---- the command ---------------------------------------------------------------------------------


def test_two_programs_and_a_method_of_quell_are_ranked_by_the_truth(quell, files):
    ended = quell(
        "compare", files["scan"], "--out", files["out"], "--truth", files["truth"],
        "--methods", "patch2self", "--external", shrink(files, "half", 0.5),
        "--external", shrink(files, "nothing", 0.0), "--threads", "1",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    rows = table(files)
    gain = {name: float(row["gain"]) for name, row in rows.items()}
    assert gain["nothing"] == pytest.approx(gain["noisy"], abs=1e-3)
    assert gain["noisy"] == pytest.approx(0, abs=1e-6)
    assert max(gain["half"], gain["patch2self"]) > 0.5
    assert list(rows) == sorted(rows, key=lambda name: -gain[name])  # best first
    for ending in ("md", "html"):
        text = (files["out"] / f"comparison.{ending}").read_text()
        assert all(name in text for name in rows)
    page = (files["out"] / "comparison.html").read_text()
    assert page.count("data:image/png") == 2 * 3 + 2  # result and residual; noisy and truth
    assert "http://" not in page
    assert "<script" not in page
    record = json.loads((files["out"] / "comparison.json").read_text())
    assert [row["method"] for row in record["rows"]] == list(rows)
    assert all(name in ended.out for name in rows)


def test_what_is_done_is_not_run_again_and_what_changed_is(quell, files):
    def compare(*more: object) -> int:
        words = ["compare", files["scan"], "--out", files["out"], "--methods", "none"]
        assert quell(*words, "--repeat", files["repeat"], *more).status == 0
        return len((files["out"] / "half" / "denoised.nii.gz.ran").read_text())

    half = shrink(files, "half", 0.5)
    assert compare("--external", half) == 1
    before = table(files)
    assert compare("--external", half) == 1
    assert table(files) == before
    assert compare("--external", half, "--external", shrink(files, "all", 1.0)) == 1
    assert compare("--external", shrink(files, "half", 0.6)) == 1  # anew: the old file went
    assert table(files)["half"]["gain"] != before["half"]["gain"]
    result = files["out"] / "half" / "denoised.nii.gz"
    last = result.stat().st_mtime_ns
    assert compare("--external", shrink(files, "half", 0.6)) == 1
    assert result.stat().st_mtime_ns == last
    assert compare("--external", shrink(files, "half", 0.6), "--again") == 1
    assert result.stat().st_mtime_ns > last
    result.unlink()  # by hand: what was said of it is worth nothing
    assert compare("--external", shrink(files, "half", 0.6)) == 1
    assert result.exists()


def test_a_run_that_was_stopped_leaves_no_outcome_of_an_earlier_one(quell, files, monkeypatch):
    words = ["compare", files["scan"], "--out", files["out"], "--methods", "none"]
    words += ["--external", shrink(files, "half", 0.5)]
    assert quell(*words).status == 0

    def stop(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr("quell.compare.folder.run", stop)
    ended = quell(*words, "--again")
    assert ended.status == 130
    assert "run the same command again to go on" in ended.err
    monkeypatch.undo()
    assert quell(*words).status == 0
    assert (files["out"] / "half" / "denoised.nii.gz").exists()


def test_one_failure_stops_nobody(quell, files):
    ended = quell(
        "compare", files["scan"], "--out", files["out"], "--methods", "none",
        "--truth", files["truth"],
        "--external", f"broken={PYTHON} -c 'raise SystemExit(\"no licence\")' {{in}} {{out}}",
        "--external", f"silent={PYTHON} -c pass {{in}} {{out}}",
        "--external", "missing=no-such-program {in} {out}",
        "--external", shrink(files, "half", 0.5),
    )  # fmt: skip
    assert ended.status == 0
    rows = table(files)
    assert rows["half"]["status"] == DONE
    assert rows["broken"]["remarks"] == "failed: no licence"
    assert rows["silent"]["remarks"] == "failed: it wrote no result"
    assert "no-such-program" in rows["missing"]["remarks"]
    assert {row["status"] for row in list(rows.values())[:2]} == {DONE}  # and failures stand last


def test_a_folder_of_other_things_is_left_alone(quell, files):
    (files["out"] / "half").mkdir(parents=True)
    mine = files["out"] / "half" / "denoised_by_hand.nii.gz"
    mine.write_text("a year's work")
    words = ["--methods", "none", "--external", shrink(files, "half", 0.5)]
    ended = quell("compare", files["scan"], "--out", files["out"], *words)
    assert ended.status == 1
    assert "holds something else" in ended.err
    assert mine.read_text() == "a year's work"


def test_when_all_fail_the_command_fails(quell, files):
    ended = quell(
        "compare", files["scan"], "--out", files["out"], "--methods", "none",
        "--external", "missing=no-such-program {in} {out}",
    )  # fmt: skip
    assert ended.status == 1
    assert "none of the methods came to a result" in ended.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--methods", "magic"], 2, "method 'magic' is not known"),
        (["--methods", "c2s:magic"], 2, "no preset 'magic'"),
        (["--methods", "none"], 2, "nothing is to be compared"),
        (["--methods", ","], 2, "no method is named"),
        (["--methods", "c2s,c2s"], 2, "stands twice"),
        (["--external", "program {in} {out}"], 2, "not understood"),
        (["--external", "a/b=program {in} {out}"], 2, "not understood"),
        (["--external", "mine=program {in}"], 2, "where to read or to write"),
        (["--external", "mine=program '{in} {out}"], 2, "quotes"),
        (["--external", "mine=sh -c \"p '{in}' {out}\""], 2, "leave out those quotes"),
        (["--external", "comparison.json=program {in} {out}"], 2, "quell's own name"),
        (["--external", "n" * 101 + "=program {in} {out}"], 2, "not understood"),
        (["--truth", "TRUTH", "--repeat", "REPEAT"], 2, "exclude each other"),
        (["--truth", "TRUTH", "--recorrupt"], 2, "exclude each other"),
        (["--truth", "SCAN"], 1, "holds the noise of the scan itself"),
        (["--minutes-per-method", "0"], 2, "more than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(quell, files, words, status, said):
    places = {"TRUTH": files["truth"], "REPEAT": files["repeat"], "SCAN": files["scan"]}
    words = [places.get(word, word) for word in words]
    words += [] if "--methods" in words or "--external" in words else ["--methods", "patch2self"]
    ended = quell("compare", files["scan"], "--out", files["out"], *words)
    assert ended.status == status
    assert said in ended.err
    assert not files["out"].exists()


def test_a_scan_alone_is_judged_by_itself_with_more_noise(quell, files, clean):
    scan = files["scan"].read_bytes()
    words = ["compare", files["scan"], "--out", files["out"], "--methods", "patch2self"]
    words += ["--external", shrink(files, "all", 1.0), "--recorrupt", "--threads", "1"]
    write_nifti(files["out"].with_name("mask.nii.gz"), clean.mask, clean)
    words += ["--noise-law", "gaussian", "--mask", files["out"].with_name("mask.nii.gz")]
    ended = quell(*words)
    assert ended.status == 0, ended.err
    assert files["scan"].read_bytes() == scan
    gain = {name: float(row["gain"]) for name, row in table(files).items()}
    assert gain["noisy"] == pytest.approx(0, abs=0.5)
    result = nib.load(files["out"] / "patch2self" / "denoised.nii.gz").get_fdata()
    given = nib.load(files["out"] / "recorrupted.nii.gz").get_fdata()
    m, dwi = clean.mask, ~clean.is_b0
    true = [np.mean((a - clean.data)[m][:, dwi] ** 2) for a in (given, result)]
    expected = 10 * np.log10(true[0] / true[1])
    assert gain["patch2self"] == pytest.approx(expected, abs=0.8)  # an error of .05 of .55
    assert gain["all"] < 0 < gain["patch2self"]
    assert "of its own noise was added" in (files["out"] / "comparison.html").read_text()
    before = table(files)
    assert quell(*words).status == 0
    assert table(files) == before  # the same seed gives the same scan, so nothing is run again


# ---- contestants ---------------------------------------------------------------------------------


def test_names_with_presets_of_their_own(clean):
    found = quells_own("c2s:paper, noise2void", "fast", clean, Options())
    assert [one.name for one in found] == ["c2s:paper", "noise2void"]
    assert [one.words[one.words.index("--preset") + 1] for one in found] == ["paper", "fast"]
    (plain,) = quells_own("patch2self", "fast", clean, Options())
    assert plain.words[plain.words.index("--preset") + 1] == "default"  # it has no "fast"


def test_all_are_those_that_can_take_the_scan(clean):
    whole = {one.name for one in quells_own("all", "fast", clean, Options())}
    image = replace(clean, data=clean.data[..., :1], is_one_image=True)
    few = {one.name for one in quells_own("all", "fast", image, Options())}
    assert {"joint", "patch2self", "ddm2"} <= whole
    assert "c2s" in few
    assert not {"patch2self", "ddm2"} & few


def test_paths_are_quoted_only_inside_a_line_for_a_shell():
    places = {"in": "/a b/$(rm x).nii", "out": "o", "threads": "2"}
    plain = external("p=prog --in={in} {out} -n {threads}").command(places)
    assert plain == ["prog", "--in=/a b/$(rm x).nii", "o", "-n", "2"]  # no shell reads these
    for line in ("sh -c 'prog {in}|cat>{out}'", "env A=1 /bin/bash -ec 'prog {in}|cat>{out}'"):
        shell = external(f"p={line}").command(places)
        assert shell[-1] == "prog '/a b/$(rm x).nii'|cat>o"
    other = external("p=matlab -batch \"f('{in}', '{out}')\"").command(places)
    assert other[2] == "f('/a b/$(rm x).nii', 'o')"  # no shell reads this either


def test_a_place_that_there_is_none_of_is_said():
    with pytest.raises(InputError, match=r"asks for \{bval\}"):
        external("p=prog {in} {out} {bval}").command({"in": "a", "out": "b"})


def test_names_that_would_share_a_folder_are_refused(clean):
    with pytest.raises(InputError, match="stands twice"):
        refuse_twins([external("Mine=p {in} {out}"), external("mine=p {in} {out}")])
    with pytest.raises(InputError, match="stands twice"):
        refuse_twins([of_quell("c2s", "fast", Options(), True), external("c2s-fast=p {in} {out}")])


# ---- running -------------------------------------------------------------------------------------


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path):
    child = f'{PYTHON} -c \'import time; open("alive", "w"); time.sleep(60)\''
    outcome = run(["sh", "-c", f"cd {tmp_path}; {child} & wait"], tmp_path, 1.5, 1, "k")
    assert outcome.status == LATE
    assert "not done after" in outcome.why
    assert (tmp_path / "alive").exists()
    running = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"alive" in _read(p)]
    assert not running


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_what_a_command_took_is_measured(tmp_path):
    work = "x = bytearray(200_000_000); import time; time.sleep(0.5)"
    outcome = run([PYTHON, "-c", work], tmp_path, 60, 1, "k")
    assert outcome.status == DONE
    assert 0.5 < outcome.seconds < 30
    assert 200e6 < outcome.memory < 300e6  # and not this process's own


def test_an_outcome_is_kept_whole(tmp_path):
    for outcome in (
        Outcome("k", DONE, seconds=2.5, memory=1e6, scores={"gain": None, "ratio": 1.0}),
        Outcome("k", FAILED, "a 'reason' with <signs>"),
    ):
        outcome.write(tmp_path / "o.json")
        assert repr(Outcome.read(tmp_path / "o.json")) == repr(outcome)  # repr: NaN is not NaN
    (tmp_path / "o.json").write_text('{"key": "k", "status": "done", "more": 1}')
    assert Outcome.read(tmp_path / "o.json") is None


# ---- judging -------------------------------------------------------------------------------------


def test_the_gain_by_the_truth_is_the_ratio_of_squared_errors(clean):
    judge = judge_of(clean, clean, True)
    half = (judge.scan.data + clean.data) / 2
    assert judge.scores(half)["gain"] == pytest.approx(20 * np.log10(2), abs=1e-3)
    assert judge.scores(judge.scan.data)["gain"] == 0
    assert judge.scores(clean.data)["fa_error"] == 0


def test_a_repeat_gives_the_gain_without_the_truth(clean):
    truth, repeat = judge_of(clean, clean, True), judge_of(clean, noisy_of(clean, 1), False)
    part = truth.scan.data + 0.6 * (clean.data - truth.scan.data)
    by_truth, by_repeat = truth.scores(part)["gain"], repeat.scores(part)
    assert by_repeat["gain"] == pytest.approx(by_truth, abs=4 * by_repeat["gain_error"])
    assert by_repeat["tensor_gain"] > repeat.scores(truth.scan.data)["tensor_gain"]


def test_a_magnitude_that_keeps_its_floor_is_compared_with_the_truths_floor(clean):
    judge = judge_of(clean, clean, True, "rician")
    rng = np.random.default_rng(5)
    mean = np.mean([corrupt(clean.data, SIGMA, rng, "rician") for _ in range(400)], axis=0)
    # noise/20 is left in the mean: 26 dB; the noise map is not exact either
    assert judge.scores(mean.astype(np.float32))["gain"] > 20


def test_a_reference_with_the_scans_own_noise_is_refused(clean):
    scan, other = noisy_of(clean, 0), noisy_of(clean, 1)
    for data, is_refused in (
        (scan.data, True), ((scan.data + other.data) / 2, True),
        (other.data, False), (clean.data, False),
    ):  # fmt: skip
        judge = judge_of(clean, replace(clean, data=data), True)
        if is_refused:
            with pytest.raises(InputError, match="holds the noise of the scan itself"):
                judge.refuse_dependence("it")
        else:
            judge.refuse_dependence("it")


def test_a_reference_of_another_grid_is_refused(tmp_path, clean):
    judge = judge_of(clean, None, False)
    short = replace(clean, data=clean.data[..., :5], bvals=None, bvecs=None)
    write_nifti(tmp_path / "short.nii.gz", short.data, short)
    with pytest.raises(InputError, match="same volumes on the same grid"):
        Judge.of(judge.scan, judge.noise, tmp_path / "short.nii.gz", None)


def test_a_result_that_is_not_this_scan_denoised_is_refused(tmp_path, clean):
    moved, path = clean.affine.copy(), tmp_path / "r.nii.gz"
    moved[0, 3] += 1
    spoiled = clean.data.copy()
    spoiled[clean.mask.nonzero()[0][0], clean.mask.nonzero()[1][0], clean.mask.nonzero()[2][0]] = (
        np.nan
    )
    for wrong, said in (
        (replace(clean, affine=moved), "lies elsewhere"),
        (replace(clean, data=clean.data[:, :-1]), "and the scan"),
        (replace(clean, data=spoiled), "14 values in the mask that are not numbers"),
    ):
        write_nifti(path, wrong.data, wrong)
        with pytest.raises(InputError, match=said):
            read_result(path, clean)
    path.write_text("nothing")
    with pytest.raises(InputError, match="can't be read"):
        read_result(path, clean)


def test_without_a_referee_the_evenest_residual_stands_first(clean):
    judge = judge_of(clean, None, False)
    assert "give --truth" in judge.words
    even = judge.scores(clean.data)
    blurred = judge.scores(np.broadcast_to(clean.data.mean(axis=(0, 1)), clean.data.shape))
    assert "gain" not in even
    rows = [Row(n, "", Outcome("", DONE, scores=s)) for n, s in (("b", blurred), ("a", even))]
    rows += [
        Row("c", "", Outcome("", FAILED)),
        Row(NOISY, "", Outcome("", DONE, scores=judge.scores(judge.scan.data))),
    ]
    rows = [replace(row, result=None if row.name == NOISY else Path("x")) for row in rows]
    assert [row.name for row in ranked(rows)] == ["a", "b", NOISY, "c"]


def test_no_error_at_all_stands_first():
    gains = {"a": 3.0, "b": None, "c": -1.0}
    rows = [Row(n, "", Outcome("", DONE, scores={"gain": g})) for n, g in gains.items()]
    assert [row.name for row in ranked(rows)] == ["b", "a", "c"]


def test_volumes_that_differ_in_noise_are_measured_in_units_of_their_own(clean):
    judge = judge_of(clean, None, False)
    levels = np.linspace(1, 3, clean.n_volumes).astype(np.float32)
    n = np.random.default_rng(0).standard_normal(clean.data.shape).astype(np.float32)
    noise = replace(judge.noise, sigma=np.full(clean.mask.shape, SIGMA, np.float32), levels=levels)
    scan = replace(judge.scan, data=clean.data + SIGMA * levels * n)
    assert Judge(scan, noise).scores(clean.data)["ratio"] == pytest.approx(1, abs=0.02)


# ---- the table -----------------------------------------------------------------------------------


def test_names_and_remarks_do_not_break_the_table():
    odd = "a|b <script>\n"
    rows = [Row(odd, odd, Outcome("", FAILED, odd)), Row("x", "", Outcome("", DONE, seconds=1.0))]
    markdown = as_markdown(rows).splitlines()
    assert len(markdown) == 4
    assert "<script>" not in "".join(markdown)
    assert len(list(csv.reader(as_csv(rows).splitlines(keepends=True)))) == 3
    assert json.loads(as_json(rows, {}))["rows"][0]["method"] == odd
    assert "x" in as_text(rows)
