"""The command line on files: what is written, what is kept, how it speaks."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors import safe_open

import quell as package
from conftest import QUICK, write_scan
from quell.cli import usage
from quell.series import write_nifti
from quell.simulate import corrupt, phantom
from quell.voice import Lines, printable


def data_of(path):
    return np.asarray(nib.load(path).dataobj)


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_everything_stands_beside_the_result(quell, scan, tmp_path):
    out = tmp_path / "clean.nii.gz"
    ran = quell("denoise", scan, out, "--set", "steps=2", "--threads", 1)
    assert ran.status == 0, ran.err
    new = {name for name in listing(tmp_path) if name.startswith("clean")}
    assert new == {f"clean{e}" for e in (".nii.gz", ".bval", ".bvec", ".json", "_report.html")}
    assert not [name for name in listing(tmp_path) if name.startswith(".")]
    for ending in (".bval", ".bvec"):
        given, copied = tmp_path / f"dwi{ending}", tmp_path / f"clean{ending}"
        assert given.read_bytes() == copied.read_bytes()
    assert f"wrote {out}" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("name", ["dwi.nii", "dwi.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_the_result_lies_where_the_scan_lay(quell, series, tmp_path, name, kind):
    image = kind(np.round(series.data).astype(np.int16), series.affine)
    image.set_sform(series.affine, code=2)
    image.set_qform(series.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 3.5
    image.header.set_slope_inter(0.5, 1)
    nib.save(image, tmp_path / name)
    out = tmp_path / f"out{name.removeprefix('dwi')}"
    assert quell("denoise", tmp_path / name, out, *QUICK).status == 0
    result = nib.load(out)
    assert type(result) is kind
    assert result.get_data_dtype() == np.float32
    assert result.header.get_slope_inter() in ((None, None), (1.0, 0.0))
    assert (int(result.header["sform_code"]), int(result.header["qform_code"])) == (2, 1)
    np.testing.assert_array_equal(result.affine, nib.load(tmp_path / name).affine)
    assert result.header.get_xyzt_units() == ("mm", "sec")
    assert result.header["pixdim"][4] == np.float32(3.5)
    expected = nib.load(tmp_path / name).get_fdata()
    assert result.shape == expected.shape
    same_order = np.corrcoef(result.get_fdata().mean((0, 1, 2)), expected.mean((0, 1, 2)))[0, 1]
    assert same_order > 0.999


def test_every_option_at_once(quell, scan, series, tmp_path):
    mask = np.zeros(series.data.shape[:3], dtype=np.float32)
    mask[2:14, 2:16] = 1
    image = nib.Nifti1Image(mask, series.affine)
    nib.save(image, tmp_path / "mask.nii.gz")
    nib.save(nib.Nifti1Image(np.full_like(mask, 40), series.affine), tmp_path / "map.nii.gz")
    for ending in ("bval", "bvec"):
        (tmp_path / f"dwi.{ending}").rename(tmp_path / f"gradients.{ending}")
    out = {k: tmp_path / v for k, v in (("o", "o.nii"), ("n", "n.nii.gz"), ("r", "r.nii.gz"))}
    ran = quell(
        "denoise", scan, out["o"], "--mask", tmp_path / "mask.nii.gz", "--bval",
        tmp_path / "gradients.bval", "--bvec", tmp_path / "gradients.bvec", "--noise-in",
        tmp_path / "map.nii.gz", "--noise-out", out["n"], "--residual-out", out["r"], "--preset",
        "fast", "--seed", 3, "--device", "cpu", "--nthreads", 1, "--model-out",
        tmp_path / "m.safetensors", "--report", tmp_path / "r.html", "--force",
        "--remove-noise-floor", "--apply-mask", "-q", "--set", "steps=2", "--set",
        "multipliers=1,2", "--set", "noise=white", "--noise-law", "nc-chi", "--coils", 2,
    )  # fmt: skip
    assert (ran.status, ran.err, ran.out) == (0, "", "")
    assert np.all(data_of(out["o"])[mask == 0] == 0)
    assert np.all(data_of(out["n"]) == 40)
    np.testing.assert_allclose(
        data_of(out["r"]) + data_of(out["o"]), data_of(scan), rtol=1e-6, atol=1e-3
    )
    said = json.loads((tmp_path / "o.json").read_text())["Denoising"]
    assert said["Settings"]["multipliers"] == [1, 2]
    assert (said["Settings"]["steps"], said["Seed"], said["Preset"]) == (2, 3, "fast")
    assert (said["Noise"]["Law"], said["Noise"]["Coils"]) == ("nc-chi", 2)
    assert said["NoiseFloorRemoved"] is True
    with safe_open(tmp_path / "m.safetensors", "pt") as model:
        assert model.metadata()["method"] == "joint"
        assert any(name.startswith("network.") for name in model.keys())  # noqa: SIM118
    assert "<html" in (tmp_path / "r.html").read_text()


def test_the_residual_is_what_was_taken_away(quell, scan, tmp_path):
    out, residual = tmp_path / "out.nii.gz", tmp_path / "res.nii.gz"
    assert quell("denoise", scan, out, "--residual-out", residual, *QUICK).status == 0
    np.testing.assert_array_equal(data_of(residual), data_of(scan) - data_of(out))


def test_one_seed_gives_one_result_and_another_another(quell, scan, tmp_path):
    results = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"{number}.nii.gz"
        words = ("--seed", seed, "--set", "steps=2", "--threads", 1, "--no-report")
        assert quell("denoise", scan, out, *words).status == 0
        results.append(out.read_bytes())
    assert results[0] == results[1] != results[2]


def test_the_sidecar_tells_how_the_result_was_made(quell, scan, tmp_path):
    assert quell("denoise", scan, tmp_path / "out.nii.gz", *QUICK).status == 0
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["EchoTime"] == 0.08
    assert sidecar["SpatialReference"] == "orig"
    assert sidecar["Sources"] == ["dwi.nii.gz"]
    said = sidecar["Denoising"]
    assert said["Method"] == "patch2self"
    assert said["Settings"] == {"radius": 0, "ridge": 1e-10}
    assert said["Seed"] == 0
    assert said["Noise"]["Law"] == "rician"
    assert said["Noise"]["MedianSigma"] == pytest.approx(40, rel=0.3)  # few and small volumes
    assert {"python", "torch", "numpy", "quell"} <= set(said["Versions"])
    assert {"training", "inference", "noise model"} <= set(said["Seconds"])
    assert said["PeakMemoryBytes"] > 1e7
    assert all({"code", "level", "sentence", "advice"} <= set(c) for c in said["Checks"])
    assert set(said["Verdict"]) == {"Level", "Sentence", "Reasons"}
    assert said["Command"].startswith("quell denoise ")


def test_what_is_read_is_left_alone(quell, scan, tmp_path):
    def state():
        files = sorted(tmp_path.glob("dwi*"))
        return [(p.name, p.read_bytes(), p.stat().st_mtime_ns) for p in files]

    before = state()
    assert quell("denoise", scan, tmp_path / "out.nii.gz", *QUICK).status == 0
    assert state() == before


def test_voxels_without_any_signal_stay_zero(quell, series, tmp_path):
    data = series.data.copy()
    data[:3] = 0
    path = write_scan(tmp_path / "dwi.nii.gz", replace(series, data=data))
    assert quell("denoise", path, tmp_path / "out.nii.gz", *QUICK).status == 0
    result = data_of(tmp_path / "out.nii.gz")
    assert np.all(result[:3] == 0)
    assert np.any(result[3:] != 0)


def test_without_mask_option_the_whole_image_is_denoised(quell, scan, series, tmp_path):
    mask = np.zeros(series.data.shape[:3], dtype=np.uint8)
    mask[4:12, 4:14] = 1
    nib.save(nib.Nifti1Image(mask, series.affine), tmp_path / "mask.nii.gz")
    out = tmp_path / "out.nii.gz"
    assert quell("denoise", scan, out, "--mask", tmp_path / "mask.nii.gz", *QUICK).status == 0
    assert np.all(np.any(data_of(out)[mask == 0] != 0, axis=-1))


def test_force_replaces_what_an_earlier_run_left(quell, scan, tmp_path):
    out = tmp_path / "out.nii.gz"
    assert quell("denoise", scan, out, *QUICK).status == 0
    assert quell("denoise", scan, out, *QUICK).status == 1
    out.write_text("old")
    for ending in ("bval", "bvec"):
        (tmp_path / f"dwi.{ending}").unlink()
    assert quell("denoise", scan, out, "--force", *QUICK).status == 0
    assert nib.load(out).shape == nib.load(scan).shape
    assert not (tmp_path / "out.bval").exists()  # it would be another scan's


def test_quiet_says_nothing(quell, scan, tmp_path):
    ran = quell("denoise", scan, tmp_path / "out.nii.gz", "--quiet", *QUICK)
    assert (ran.status, ran.out, ran.err) == (0, "", "")


def test_a_log_gets_plain_lines(quell, scan, tmp_path):
    words = ("--set", "steps=30", "--no-report", "--threads", 1)
    ran = quell("denoise", scan, tmp_path / "out.nii.gz", *words)
    lines = ran.err.splitlines()
    assert all(printable(line) == line for line in lines)
    progress = [line for line in lines if line.startswith("training")]
    assert 2 <= len(progress) <= 5
    assert "loss" in progress[-1]
    assert "s left" in progress[-1]


def test_strict_makes_warnings_errors(quell, series, tmp_path):
    twice = series.data.copy()
    twice[..., 5] = twice[..., 4]
    path = write_scan(tmp_path / "dwi.nii.gz", replace(series, data=twice))
    ran = quell("denoise", path, tmp_path / "out.nii.gz", "--strict", *QUICK)
    assert ran.status == 1
    assert "volumes 4 and 5 are copies" in ran.err
    assert not (tmp_path / "out.nii.gz").exists()
    assert quell("denoise", path, tmp_path / "out.nii.gz", *QUICK).status == 0


# ---- help and the other commands


def test_quell_alone_shows_its_help(quell):
    ran = quell()
    assert ran.status == 0
    assert "denoise" in ran.out
    assert "..." not in ran.out.partition("Commands:")[2]


def test_the_version_is_the_package_version(quell):
    assert quell("--version").out == f"quell {package.__version__}\n"


@pytest.mark.parametrize("command", ["denoise", "figure", "check", "methods", "demo"])
@pytest.mark.parametrize("columns", [80, 200])
def test_help_is_plain_and_fits(quell, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    ran = quell(command, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"Usage: quell {command}")
    assert max(map(len, ran.out.splitlines())) <= min(columns, 100)
    assert ran.out.isascii()


def test_every_option_of_denoise_stands_in_a_group(quell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = quell("denoise", "-h").out
    headings = [line for line in page.splitlines() if line.endswith(":") and line[0] != " "]
    names = ("Arguments", "Inputs", "Outputs", "Method", "Noise", "Run", "Options")
    assert headings == [f"{name}:" for name in names]
    assert page.split("Options:")[1].split()[:2] == ["-h,", "--help"]


def test_methods_fit_a_narrow_terminal(quell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = quell("methods").out
    assert max(map(len, page.splitlines())) <= 80
    for name, kind in package.METHODS.items():
        assert name in page
        assert kind.paper in " ".join(page.split())
    assert "multipliers=1,2,2" in page


def test_check_says_what_a_scan_is(quell, scan):
    ran = quell("check", scan)
    assert ran.status == 0
    assert "16 x 18 x 3 x 14" in ran.out
    assert "2 at b=0, 12 at b=1000" in ran.out
    assert "rician" in ran.out
    assert "[no-air]" in " ".join(ran.out.split())


def test_check_ends_with_1_for_a_scan_that_cannot_be_denoised(quell, scan, series, tmp_path):
    np.savetxt(tmp_path / "dwi.bvec", series.bvecs.T * 1000)
    ran = quell("check", scan)
    assert ran.status == 1
    assert "error    12 of 12 directions are not of length 1" in ran.out


def test_a_wrapped_line_keeps_its_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    text = "a long sentence about /some/very/long/path/that/does/not/break and more"
    lines = usage.hanging("note", text, indent=9).splitlines()
    assert " ".join(" ".join(lines).split()) == f"note {text}"
    assert all(line.startswith("         ") for line in lines[1:])


def test_demo_never_overwrites_another_scan(quell, tmp_path):
    (tmp_path / "dwi.nii.gz").write_text("precious")
    ran = quell("demo", tmp_path)
    assert ran.status == 1
    assert (tmp_path / "dwi.nii.gz").read_text() == "precious"
    assert listing(tmp_path) == ["dwi.nii.gz"]


# ---- names


@pytest.mark.parametrize(
    "name", ['a scan\'s "name" (1)', "größe-äß-脳", "-dash", "back\\slash", "x" * 240, b"\xff\xfe"]
)
def test_any_name_will_do(quell, series, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(name)
    write_scan(tmp_path / f"{name}.nii", series)
    made = f"{name}.nii.gz" if len(name) < 200 else f"{'y' * 243}.nii.gz"  # 250 letters
    (tmp_path / "out").mkdir()
    os.chdir(tmp_path / "out")
    has_report = len(name) < 3  # it takes seconds
    words = QUICK[:2] if has_report else QUICK
    ran = quell("denoise", *words, "--", f"../{name}.nii", made)
    assert ran.status == 0, ran.err
    (sidecar,) = (tmp_path / "out").glob("*.json")
    assert json.loads(sidecar.read_text())["Sources"] == [f"{name}.nii"]
    assert len(listing(tmp_path / "out")) == 4 + has_report


# ---- stopped and gone on


DRIVER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import quell.checkpoint
quell.checkpoint.CHECKPOINT_SECONDS = 0.05
from quell.cli import main
main()
"""
SMALL = ("--set", "channels=8", "--set", "patch=16", "--no-report", "--threads", "1")
LONG = ("--set", "steps=60", *SMALL)


def start(*words, **more):
    command = [sys.executable, "-c", DRIVER, *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


def stop_in_training(running, work, with_signal):
    """Send the signal once the first checkpoint lies there."""
    end = time.monotonic() + 180
    while not list(work.glob("*/training.pt")):
        assert time.monotonic() < end
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.01)
    running.send_signal(with_signal)
    return running.communicate(timeout=180)[1]


@pytest.mark.parametrize(
    "with_signal", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stopped_run_goes_on_to_the_same_bytes(quell, scan, tmp_path, with_signal):
    out, whole = tmp_path / "out.nii.gz", tmp_path / "whole.nii.gz"
    work = tmp_path / ".out.quell"
    running = start("denoise", scan, out, *LONG)
    said = stop_in_training(running, work, with_signal)
    assert running.returncode == (-9 if with_signal == signal.SIGKILL else 130)
    if with_signal == signal.SIGTERM:
        assert said.splitlines()[-1].startswith("quell: stopped; what was learned is kept in ")
        assert "Traceback" not in said
    assert not list(tmp_path.glob("out*"))
    resumed = quell("denoise", scan, out, *LONG)
    assert resumed.status == 0
    first = next(line for line in resumed.err.splitlines() if line.startswith("training"))
    assert not first.startswith("training 1/")
    assert quell("denoise", scan, whole, *LONG).status == 0
    assert out.read_bytes() == whole.read_bytes()
    assert not work.exists()


@pytest.fixture
def stopped(quell, scan, tmp_path, monkeypatch):
    """The words of a command that Ctrl-C stopped after its fourth step."""

    def stop(voice, task, done, total, note=""):
        if done == 4:
            raise KeyboardInterrupt

    words = ("denoise", scan, tmp_path / "out.nii.gz", "--set", "steps=6", *SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(Lines, "progress", stop)
        ran = quell(*words)
    assert (ran.status, ran.out) == (130, "")
    assert ran.err.splitlines()[-1].startswith("quell: stopped; what was learned is kept in ")
    return words


def test_the_same_command_goes_on_where_it_was_stopped(quell, stopped, tmp_path):
    assert not list(tmp_path.glob("out*"))
    assert "training 5/6" in quell(*stopped).err
    assert "training 1/6" in quell(*stopped, "--force").err  # done: nothing is left to go on from


@pytest.mark.parametrize(
    "change", [("--seed", 5), ("--set", "tau_max=1"), ("--noise-law", "gaussian")]
)
def test_other_choices_start_anew(quell, stopped, change):
    assert "training 1/6" in quell(*stopped, *change).err


def test_another_scan_starts_anew(quell, stopped, scan, series, tmp_path):
    write_scan(scan, replace(series, data=series.data * 2 + 1))
    assert "training 1/6" in quell(*stopped).err
    assert not (tmp_path / ".out.quell").exists()


def test_stopped_before_anything_was_learned_leaves_nothing(quell, scan, tmp_path, monkeypatch):
    def stop(voice, line):
        raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "say", stop)
    before = listing(tmp_path)
    ran = quell("denoise", scan, tmp_path / "out.nii.gz", *QUICK)
    assert (ran.status, ran.err) == (130, "quell: stopped; nothing was written\n")
    assert listing(tmp_path) == before


def test_a_terminal_is_left_whole_when_a_run_is_stopped(scan, tmp_path):
    ours, theirs = pty.openpty()
    out = tmp_path / "out.nii.gz"
    command = [sys.executable, "-c", DRIVER, "denoise", str(scan), str(out), *LONG]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen(command, stderr=theirs, stdout=theirs, env=environment)
    os.close(theirs)
    seen, is_stopped = b"", False
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if b"training" in seen and b"left" in seen and not is_stopped:
            running.send_signal(signal.SIGINT)
            is_stopped = True
    assert running.wait(180) == 130
    assert b"loss" in seen
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # the cursor is shown again
    assert b"quell: stopped" in seen[seen.rindex(b"\x1b[?25h") :]


@pytest.mark.parametrize(("factor", "is_off"), [(0.8, True), (1.0, False), (1.2, True)])
def test_check_sees_a_noise_map_that_is_off_by_a_fifth(quell, tmp_path, factor, is_off):
    clean = phantom("small").clean
    noisy = corrupt(clean.data, 40.0, np.random.default_rng(1), "rician")
    path = write_scan(tmp_path / "dwi.nii.gz", replace(clean, data=noisy, mask=None))
    sigma = np.full(clean.data.shape[:3], 40.0 * factor, np.float32)
    write_nifti(tmp_path / "sigma.nii.gz", sigma, clean)
    ran = quell("check", path, "--noise-in", tmp_path / "sigma.nii.gz")
    assert ran.status == 0
    assert ("[noise-map-off]" in " ".join(ran.out.split())) == is_off


def test_the_maps_that_mppca_finds_are_written_on_the_grid_of_the_scan(quell, scan, tmp_path):
    rank, noise = tmp_path / "rank.nii.gz", tmp_path / "sigma.nii.gz"
    words = ["--method", "mppca", "--no-report", "--threads", "1"]
    words += ["--map-out", f"rank={rank}", "--map-out", f"noise={noise}"]
    ended = quell("denoise", scan, tmp_path / "out.nii.gz", *words)
    assert ended.status == 0, ended.err
    given = nib.load(scan)
    for path in (rank, noise):
        image = nib.load(path)
        assert image.shape == given.shape[:3]
        np.testing.assert_array_equal(image.affine, given.affine)
    assert (nib.load(rank).get_fdata() >= 0).all()
    assert np.median(nib.load(noise).get_fdata()) == pytest.approx(40, rel=0.25)  # a small piece


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        ("mppca", "magic=m.nii.gz", "finds no map 'magic'; it finds noise, rank"),
        ("patch2self", "rank=m.nii.gz", "it finds none"),
        ("mppca", "rank", "names no file"),
        ("mppca", "rank=m.txt", "ends in .nii"),
    ],
)
def test_a_map_that_cannot_be_written_is_refused(quell, scan, tmp_path, method, words, said):
    ended = quell("denoise", scan, tmp_path / "o.nii.gz", "--method", method, "--map-out", words)
    assert ended.status == 2
    assert said in ended.err


def test_the_list_of_commands_needs_no_heavy_library():
    """`quell --help` answers at once: torch, numpy and nibabel come with a command."""
    words = "import sys; sys.argv = ['quell', '--help']\nfrom quell.cli import main\n"
    words += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    words += "print(sorted({'torch', 'numpy', 'scipy', 'nibabel', 'rich'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stdout + ran.stderr
    assert "Denoise a scan." in ran.stdout


def test_every_command_of_the_list_is_there_and_no_other():
    from quell.cli import COMMANDS, Commands

    group = Commands(name="quell")
    modules = {path.stem for path in Path(usage.__file__).parent.glob("*.py")}
    assert {module for module, _, _ in COMMANDS.values()} == modules - {
        "__init__",
        "interface",
        "live",
        "options",
        "pipes",
        "usage",
    }
    for name in COMMANDS:
        assert group.get_command(None, name).name == name
    assert group.get_command(None, "denoised") is None


def test_public_names_are_there_without_asking_for_their_modules():
    import quell

    for name in quell.__all__:
        assert getattr(quell, name) is not None
        assert name in dir(quell)
    with pytest.raises(AttributeError, match="no attribute 'denoised'"):
        quell.denoised  # noqa: B018
