"""Training on many scans: what is learned from, how it is kept, and where a model may be used."""

import ctypes
import json
import os
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from conftest import write_scan
from quell import trainer, training_set
from quell.fingerprints import fingerprint_of_scan
from quell.methods import make
from quell.methods.c2s import Images
from quell.models import TrainingScan, read_model, signal_over_noise
from quell.noise import NoiseModel, learn
from quell.options import Options
from quell.prepared import Prepared, opened
from quell.run import Run, Silent
from quell.scaling import Scale
from quell.series import Series, load, mask_of
from quell.simulate import corrupt, phantom
from quell.training_set import Preparation, find_scans

TINY = ("--set", "steps=4", "--set", "channels=8", "--set", "patch=16", "--threads", "1")
WORK = ".m.safetensors.quell"


def noisy_piece(seed: int, n_volumes: int = 9, sigma: float = 40.0) -> Series:
    """A piece of the small phantom, 16 x 18 x 3, with Rician noise."""
    clean = phantom("small").clean
    piece = clean.data[8:24, 9:27, 4:7, :n_volumes]
    noisy = corrupt(piece, sigma, np.random.default_rng(seed), "rician")
    gradients = {"bvals": clean.bvals[:n_volumes], "bvecs": clean.bvecs[:n_volumes]}
    return replace(clean, data=noisy, mask=None, sidecar={}, **gradients)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two scans, in a folder and in one below it."""
    (tmp_path / "scans" / "later").mkdir(parents=True)
    write_scan(tmp_path / "scans" / "b.nii.gz", noisy_piece(0))
    write_scan(tmp_path / "scans" / "later" / "a.nii", noisy_piece(1, 10))
    return tmp_path / "scans"


@pytest.fixture
def trained(quell, folder, tmp_path) -> Path:
    """A model of these two scans, hardly trained."""
    model = tmp_path / "m.safetensors"
    ended = quell("train", folder, "--model-out", model, *TINY)
    assert ended.status == 0, ended.err
    return model


def data_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def weights(model: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in read_model(model).state.items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# ---- learning and using --------------------------------------------------------------------------


def test_a_model_of_many_scans_takes_noise_off_a_new_one(quell, tmp_path):
    clean = phantom("small").clean
    piece = clean.data[:, :, 3:6]
    (tmp_path / "scans").mkdir()
    for seed in range(3):
        noisy = corrupt(piece, 40.0, np.random.default_rng(seed), "rician")
        write_scan(tmp_path / "scans" / f"{seed}.nii", replace(clean, data=noisy, mask=None))
    noisy = corrupt(piece, 40.0, np.random.default_rng(9), "rician")
    new = write_scan(tmp_path / "new.nii", replace(clean, data=noisy, mask=None))
    error = {}
    for steps in (1, 80):
        model, out = tmp_path / f"{steps}.safetensors", tmp_path / f"{steps}.nii"
        words = "--set", f"steps={steps}", "--set", "channels=16", "--set", "patch=32"
        ended = quell("train", tmp_path / "scans", "--model-out", model, *words, "--threads", "1")
        assert ended.status == 0, ended.err
        ended = quell("apply", model, new, out, "--no-report", "--threads", "1")
        assert ended.status == 0, ended.err
        inside = piece.mean(axis=3) > 50
        error[steps] = np.mean((data_of(out) - piece)[inside] ** 2)
    error["none"] = np.mean((noisy - piece)[inside] ** 2)
    assert error[80] < 0.8 * error["none"]
    assert error[80] < 0.97 * error[1]  # untrained, it is the Wiener filter of a volume


def test_nothing_is_left_beside_the_model(trained, tmp_path):
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "scans"]


def test_a_model_says_what_it_was_learned_from(trained, folder):
    bundle = read_model(trained)
    scans = [noisy_piece(0), noisy_piece(1, 10)]
    assert [s.scan for s in bundle.training] == [fingerprint_of_scan(s) for s in scans]
    assert [s.shape for s in bundle.training] == [(16, 18, 3, 9), (16, 18, 3, 10)]
    assert (bundle.method, bundle.channels, bundle.contrasts) == ("c2s", 1, 0)
    assert bundle.laws == ["rician"]
    np.testing.assert_allclose(bundle.voxel_mm_range, [scans[0].voxel_mm] * 2, rtol=1e-5)
    snrs = [signal_over_noise(s, learn(s, mask_of(s))) for s in scans]
    np.testing.assert_allclose(bundle.snr_range, sorted(snrs), rtol=0.02)
    assert len(bundle.losses) == bundle.settings["steps"] == 4
    assert all(np.isfinite(bundle.losses))


def test_voxels_and_signal_of_several_scans_are_a_range(trained, tmp_path):
    with safe_open(trained, "pt") as file:
        metadata = file.metadata()
    first = json.loads(metadata["training"])[0]
    others = [
        {**first, "voxel_mm": [2, 3, 1], "snr": 30, "law": "gaussian"},
        {**first, "voxel_mm": [1, 4, 2], "snr": 10, "law": "rician"},
    ]
    changed = {**metadata, "training": json.dumps(others)}
    save_file(read_model(trained).state, tmp_path / "x.safetensors", changed)
    bundle = read_model(tmp_path / "x.safetensors")
    assert bundle.voxel_mm_range == ((1, 3, 1), (2, 4, 2))
    assert bundle.snr_range == (10, 30)
    assert bundle.laws == ["gaussian", "rician"]


@pytest.mark.parametrize(
    "said",
    [
        "no json", '[{"scan": "x"}]', "[1]", '{"a": 1}',
        json.dumps([{"scan": "x", "shape": [1, 1, 1, 0], "voxel_mm": [1, 1, 1], "law": "rician",
                     "n_coils": 1, "snr": 1}]),
    ],
)  # fmt: skip
def test_what_a_model_cannot_have_been_learned_from_is_refused(quell, trained, scan, said):
    with safe_open(trained, "pt") as file:
        metadata = file.metadata()
    save_file(read_model(trained).state, trained, {**metadata, "training": said})
    ended = quell("apply", trained, scan, trained.with_name("o.nii"))
    assert ended.status == 1
    assert "is not a model of quell" in ended.err


def test_apply_and_denoise_with_a_model_are_one_thing(quell, trained, scan, tmp_path):
    one, other = tmp_path / "1.nii", tmp_path / "2.nii"
    words = "--no-report", "--threads", "1"
    assert quell("apply", trained, scan, one, *words).status == 0
    assert quell("denoise", scan, other, "--model", trained, *words).status == 0
    np.testing.assert_array_equal(data_of(one), data_of(other))
    said = json.loads(one.with_suffix(".json").read_text())["Denoising"]
    assert said["Method"] == "c2s"
    assert "training" not in said["Seconds"]


def test_apply_writes_what_is_asked_for(quell, trained, scan, tmp_path):
    out, noise, residual = (tmp_path / f"{n}.nii" for n in ("o", "n", "r"))
    words = "--noise-out", noise, "--residual-out", residual, "--report", tmp_path / "r.html"
    ended = quell("apply", trained, scan, out, *words, "--threads", "1", "-q")
    assert (ended.status, ended.err) == (0, "")
    np.testing.assert_allclose(
        data_of(residual) + data_of(out), data_of(scan), rtol=1e-6, atol=1e-3
    )
    assert data_of(noise).shape == data_of(scan).shape[:3]
    assert (tmp_path / "r.html").exists()
    assert quell("apply", trained, scan, out).status == 1  # exists


# ---- where a model may be used -------------------------------------------------------------------


def test_a_model_of_one_scan_is_refused_by_apply(quell, scan, tmp_path):
    model = tmp_path / "m.safetensors"
    words = "--method", "c2s", *TINY, "--no-report", "--model-out", model
    assert quell("denoise", scan, tmp_path / "a.nii", *words).status == 0
    ended = quell("apply", model, scan, tmp_path / "b.nii", "--allow-mismatch")
    assert ended.status == 1
    assert "quell denoise --model" in ended.err
    assert not (tmp_path / "b.nii").exists()


def larger_voxels(series: Series, factor: float) -> Series:
    affine = series.affine.copy()
    affine[:3, 2] *= factor
    return replace(series, affine=affine)


@pytest.mark.parametrize("command", ["apply", "denoise"])
def test_other_voxels_are_refused_unless_allowed(quell, trained, series, tmp_path, command):
    def use(scan, out, *words):
        pair = (trained, scan, out) if command == "apply" else (scan, out, "--model", trained)
        return quell(command, *pair, "--no-report", "--threads", "1", *words)

    near = write_scan(tmp_path / "near.nii", larger_voxels(series, 1.2))
    far = write_scan(tmp_path / "far.nii", larger_voxels(series, 1.3))
    assert use(near, tmp_path / "1.nii").status == 0
    refused = use(far, tmp_path / "2.nii")
    assert refused.status == 1
    assert "voxels of 5 x 5 x 6.5 mm" in refused.err
    assert "--allow-mismatch" in refused.err
    assert not (tmp_path / "2.nii").exists()
    allowed = use(far, tmp_path / "2.nii", "--allow-mismatch")
    assert allowed.status == 0
    assert "warning" in allowed.err
    assert "look at the residual" in allowed.err


def test_noise_of_another_law_is_refused_unless_allowed(quell, trained, scan, tmp_path):
    words = trained, scan, tmp_path / "o.nii", "--no-report", "--noise-law", "gaussian"
    refused = quell("apply", *words)
    assert refused.status == 1
    assert "is gaussian and" in refused.err
    assert "learned from rician" in refused.err
    allowed = quell("apply", *words, "--allow-mismatch")
    assert allowed.status == 0
    assert "is gaussian and" in allowed.err


def test_a_signal_unlike_that_of_the_training_is_said(quell, trained, scan, series, tmp_path):
    usual = quell("apply", trained, scan, tmp_path / "1.nii", "--no-report")
    assert "times its noise" not in usual.err
    weak = write_scan(tmp_path / "weak.nii", noisy_piece(5, 14, sigma=200.0))
    ended = quell("apply", trained, weak, tmp_path / "2.nii", "--no-report")
    assert ended.status == 0
    assert "times its noise" in ended.err


def test_too_few_volumes_to_show_cannot_be_allowed(quell, folder, scan, tmp_path):
    model = tmp_path / "m.safetensors"
    words = "--set", "others=3", "--set", "neighbours=acquisition"
    ended = quell("train", folder, "--model-out", model, *TINY, *words)
    assert ended.status == 1  # b=0 has no others in the order of acquisition
    assert "--set others=0" in ended.err
    ended = quell("train", folder, "--model-out", model, *TINY, "--set", "others=3")
    assert ended.status == 0, ended.err
    assert read_model(model).channels == 4
    few = replace(noisy_piece(3, 4), bvals=None, bvecs=None)
    few = replace(few, data=few.data[..., :3])
    nib.save(nib.Nifti1Image(few.data, few.affine), tmp_path / "few.nii")
    ended = quell("apply", model, tmp_path / "few.nii", tmp_path / "o.nii", "--allow-mismatch")
    assert ended.status == 1
    assert "learned from 4 images at once" in ended.err


def test_a_model_of_many_is_not_written_again(quell, trained, scan, tmp_path):
    words = "--model", trained, "--model-out", tmp_path / "n.safetensors"
    ended = quell("denoise", scan, tmp_path / "o.nii", *words)
    assert ended.status == 2
    assert "--model-out" in ended.err


# ---- which scans are meant -----------------------------------------------------------------------


def test_a_folder_is_searched_in_order_and_hidden_files_are_not_scans(folder):
    for hidden in (".old.nii", ".cache/c.nii.gz"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).touch()
    (folder / "notes.txt").touch()
    found = find_scans([folder, folder / "b.nii.gz"], Silent())
    assert [p.relative_to(folder).as_posix() for p in found] == ["b.nii.gz", "later/a.nii"]


def test_what_quell_has_denoised_is_left_out_and_said(quell, folder, tmp_path):
    out = folder / "c.nii"
    words = "--method", "patch2self", "--no-report", "--threads", "1"
    assert quell("denoise", folder / "b.nii.gz", out, *words).status == 0
    ended = quell("train", folder, "--model-out", tmp_path / "m.safetensors", *TINY)
    assert ended.status == 0, ended.err
    assert f"left out: {out} was written by quell" in ended.err
    assert len(read_model(tmp_path / "m.safetensors").training) == 2


def test_the_same_scan_teaches_once(quell, folder, tmp_path):
    for ending in (".nii.gz", ".bval", ".bvec"):
        (folder / f"copy{ending}").write_bytes((folder / f"b{ending}").read_bytes())
    ended = quell("train", folder, "--model-out", tmp_path / "m.safetensors", *TINY)
    assert ended.status == 0
    assert "is the same scan as" in ended.err
    assert len(read_model(tmp_path / "m.safetensors").training) == 2


def test_a_file_that_is_no_scan_is_refused_by_name_or_left_out(quell, folder, tmp_path):
    noise = np.ones((16, 18, 3), dtype=np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), folder / "map.nii")
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    words = "train", folder, "--model-out", tmp_path / "m.safetensors", *TINY
    refused = quell(*words)
    assert refused.status == 1
    assert str(folder / "broken.nii.gz") in refused.err.splitlines()[-1]
    assert "--skip-bad" in refused.err
    assert not (tmp_path / "m.safetensors").exists()
    ended = quell(*words, "--skip-bad")
    assert ended.status == 0, ended.err
    assert f"left out: {folder / 'broken.nii.gz'}" in ended.err
    assert f"left out: {folder / 'map.nii'}" in ended.err
    assert len(read_model(tmp_path / "m.safetensors").training) == 2


def test_a_mask_of_all_scans_is_obeyed_and_is_no_scan(quell, folder, series, tmp_path):
    mask = np.zeros((16, 18, 3), dtype=np.float32)
    mask[4:12, 4:12] = 1
    nib.save(nib.Nifti1Image(mask, series.affine), folder / "mask.nii")
    model = tmp_path / "m.safetensors"
    ended = quell("train", folder, "--model-out", model, *TINY, "--mask", folder / "mask.nii")
    assert ended.status == 0, ended.err
    scan = replace(noisy_piece(0), mask=mask > 0)
    snr = signal_over_noise(scan, learn(scan, scan.mask))
    assert read_model(model).training[0].snr == pytest.approx(snr, rel=1e-4)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--method", "difusion"], 2, "difusion learns from one scan"),
        (["--method", "magic"], 2, "is not known"),
        (["--set", "others=-1"], 2, "others"),
        (["--noise-law", "cauchy"], 2, "is not known"),
        (["--device", "abacus"], 2, "is not known"),
        (["--model-out", "m.nii"], 2, "ends in .safetensors"),
        (["--model-out", "nowhere/m.safetensors"], 1, "does not exist"),
        (["--work", "nowhere"], 1, "does not exist"),
        (["--mask", "nowhere.nii"], 1, "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    quell, folder, tmp_path, monkeypatch, words, status, says
):
    monkeypatch.chdir(tmp_path)
    given = [] if "--model-out" in words else ["--model-out", "m.safetensors"]
    ended = quell("train", folder, *given, *TINY, *words)
    assert ended.status == status
    assert says in ended.err
    assert [p.name for p in tmp_path.iterdir()] == ["scans"]


def test_an_empty_folder_and_a_missing_file_are_refused(quell, tmp_path):
    (tmp_path / "empty").mkdir()
    for source, says in (("empty", "there is no noisy scan"), ("none.nii", "does not exist")):
        ended = quell("train", tmp_path / source, "--model-out", tmp_path / "m.safetensors", *TINY)
        assert ended.status == 1
        assert says in ended.err


def test_a_model_that_exists_is_kept_unless_forced(quell, folder, trained):
    before = trained.read_bytes()
    ended = quell("train", folder, "--model-out", trained, *TINY)
    assert (ended.status, trained.read_bytes()) == (1, before)
    ended = quell("train", folder, "--model-out", trained, *TINY, "--seed", "4", "--force")
    assert ended.status == 0
    assert trained.read_bytes() != before


def test_a_disk_without_room_for_the_set_is_refused_before_any_work(
    quell, folder, tmp_path, monkeypatch
):
    usage = training_set.shutil.disk_usage(tmp_path)._replace(free=4 * 16 * 18 * 3 * 19 - 1)
    monkeypatch.setattr(training_set.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(training_set, "load", None)
    ended = quell("train", folder, "--model-out", tmp_path / "m.safetensors", *TINY)
    assert ended.status == 1
    assert "free space or give --work" in ended.err


# ---- what is kept while it runs ------------------------------------------------------------------


class Stopped:
    """A training that the person stops at its n-th step."""

    def __init__(self, monkeypatch, n: int) -> None:
        self.left, self.own = n, trainer._pace
        monkeypatch.setattr(trainer, "_pace", self)

    def __call__(self, step: int, steps: int) -> float:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.own(step, steps)


def test_a_stopped_training_goes_on_with_what_was_prepared_and_learned(
    quell, folder, trained, tmp_path, monkeypatch
):
    model = tmp_path / "again.safetensors"
    words = "train", folder, "--model-out", model, *TINY, "--work", folder
    with monkeypatch.context() as patch:
        Stopped(patch, 3)
        stopped = quell(*words)
    assert stopped.status == 130
    work = folder / ".again.safetensors.quell"
    assert f"kept in {work}" in stopped.err
    assert list(work.glob("*/training.pt"))
    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(training_set, "known", None)  # no scan is looked at again
        own = trainer._pace
        patch.setattr(trainer, "_pace", lambda k, n: steps.append(k) or own(k, n))
        ended = quell(*words)
    assert ended.status == 0, ended.err
    assert steps == [2, 3]
    assert same(weights(model), weights(trained))
    assert not work.exists()


def test_what_was_learned_with_other_parts_is_not_gone_on_with(
    quell, folder, tmp_path, monkeypatch
):
    words = "train", folder, "--model-out", tmp_path / "m.safetensors", *TINY
    with monkeypatch.context() as patch:
        Stopped(patch, 3)
        assert quell(*words, "--parts", "2").status == 130
    assert quell(*words, "--parts", "1").status == 0
    assert quell(*words[:3], tmp_path / "n.safetensors", *TINY).status == 0
    assert same(weights(tmp_path / "m.safetensors"), weights(tmp_path / "n.safetensors"))


def prepared(folder: Path, cache: Path, **more) -> list[Prepared]:
    chosen = {"mask": None, "skip_bad": False, "options": Options()} | more
    preparation = Preparation(cache, make("c2s"), voice=Silent(), **chosen)
    return preparation.prepare(find_scans([folder], Silent()))


def test_only_a_changed_file_is_prepared_again(folder, tmp_path, monkeypatch):
    before = [p.folder.name for p in prepared(folder, tmp_path / "cache")]
    looked_at, own = [], training_set.load
    monkeypatch.setattr(
        training_set, "load", lambda path, **more: looked_at.append(path.name) or own(path, **more)
    )
    assert [p.folder.name for p in prepared(folder, tmp_path / "cache")] == before
    assert looked_at == []
    times = {path: os.stat(path) for path in folder.glob("b.*")}
    write_scan(folder / "b.nii.gz", noisy_piece(7))
    for path, then in times.items():  # as a copying program leaves them
        os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))
    after = [p.folder.name for p in prepared(folder, tmp_path / "cache")]
    assert looked_at == ["b.nii.gz"]
    assert (after[0] != before[0], after[1]) == (True, before[1])
    kept = {p.name for p in (tmp_path / "cache").iterdir()}
    assert kept == {*after, "scans.json"}  # what is no longer needed has gone
    prepared(folder, tmp_path / "cache", options=Options(noise_law="gaussian"))
    assert looked_at == ["b.nii.gz", "b.nii.gz", "a.nii"]


def test_a_damaged_cache_is_made_anew(folder, tmp_path):
    (first, _) = prepared(folder, tmp_path / "cache")
    whole = (first.folder / "series.npy").read_bytes()
    (first.folder / "series.npy").write_bytes(whole[:-100])
    prepared(folder, tmp_path / "cache")
    assert (first.folder / "series.npy").read_bytes() == whole


def test_a_prepared_scan_is_the_scaled_scan(folder, tmp_path):
    prepared(folder, tmp_path / "cache")
    found = opened(tmp_path / "cache")[1]
    scan = load(folder / "later" / "a.nii")
    noise = learn(scan, mask_of(scan))
    scaled = Scale.of(noise.sigma, "rician").apply(scan.data)
    np.testing.assert_array_equal(found.series().data, scaled)
    np.testing.assert_array_equal(found.series().where, mask_of(scan))
    np.testing.assert_array_equal(found.series().bvals, scan.bvals)
    np.testing.assert_array_equal(found.series().bvecs, scan.bvecs)
    np.testing.assert_array_equal(found.noise().covariance, noise.covariance)
    assert found.noise().sigma.max() == 1


# ---- a set larger than the memory ----------------------------------------------------------------


def rss_anon() -> int:
    """Bytes of this process that are not mapped from files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


@contextmanager
def highest_memory():
    """The highest such number inside, over that before; looked at every few milliseconds."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # what was freed and kept would be given out again unseen
    before, peak, is_over = rss_anon(), [0], threading.Event()

    def watch():
        while not is_over.is_set():
            peak[0] = max(peak[0], rss_anon() - before)
            time.sleep(0.003)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def large_set(folder: Path, n_scans: int) -> list[Prepared]:
    """Prepared scans of 34 MB each."""
    shape, rng = (128, 128, 16, 32), np.random.default_rng(0)
    mask = np.zeros(shape[:3], dtype=bool)
    mask[40:80, 40:80] = True
    covariance = np.zeros((13, 13, 5))
    covariance[6, 6, 2] = 1
    sigma = np.ones(shape[:3], dtype=np.float32)
    noise = NoiseModel(sigma, covariance, "gaussian", 1.0, "made up", 1, np.ones(32))
    data = rng.standard_normal(shape, dtype=np.float32)
    scan = Series(data, np.eye(4), nib.Nifti1Header(), mask=mask)
    return [Prepared.write(folder / str(i), scan, noise) for i in range(n_scans)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_training_does_not_load_the_set(tmp_path):
    method = make("c2s", steps=3, channels=8, patch=16, patches=2)
    scans = large_set(tmp_path, 6)
    size = sum((p.folder / "series.npy").stat().st_size for p in scans)
    noises = [p.noise() for p in scans]
    method.fit([scans[0].series()], noises[:1], Run())  # what torch needs the first time
    with highest_memory() as mapped:
        method.fit([p.series() for p in scans], noises, Run())
    with highest_memory() as loaded:
        in_memory = [replace(p.series(), data=np.array(p.series().data)) for p in scans]
        method.fit(in_memory, noises, Run())
    assert size > 200e6
    assert mapped[0] < 0.2 * size
    assert loaded[0] > 0.6 * size  # the measure sees what is loaded, but for pages used before


def test_a_scan_on_disk_is_read_volume_by_volume(tmp_path):
    scan = large_set(tmp_path, 1)[0].series()
    scan = replace(scan, mask=np.ones(scan.data.shape[:3], dtype=bool))
    tracemalloc.start()
    Images.of(scan, 0, "directions")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scan.data.nbytes / 4  # some copies of one of 32 volumes, in float64


def test_one_scan_at_a_time_is_in_memory_while_preparing(tmp_path):
    peaks = []
    for n_scans in (1, 4):
        folder = tmp_path / str(n_scans)
        folder.mkdir()
        for seed in range(n_scans):
            write_scan(folder / f"{seed}.nii", noisy_piece(seed))
        prepared(folder, tmp_path / f"cache{n_scans}")  # what is imported and kept at first
        tracemalloc.start()
        prepared(folder, tmp_path / f"again{n_scans}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_what_a_model_remembers_of_a_scan_is_read_as_it_was_written():
    scan = noisy_piece(0)
    said = TrainingScan.of(replace(scan, mask=mask_of(scan)), learn(scan, mask_of(scan)))
    assert TrainingScan.read(json.loads(json.dumps(said.__dict__))) == said


def test_masks_and_maps_in_a_folder_are_no_scans_unless_named(tmp_path):
    said = []

    class Heard(Silent):
        def say(self, text):
            said.append(text)

    names = ("a.nii.gz", "a_mask.nii.gz", "a_noise_map.nii", "a_residual.nii.gz", "masked.nii.gz")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    voice = Heard()
    assert [p.name for p in find_scans([tmp_path], voice)] == ["a.nii.gz", "masked.nii.gz"]
    assert len(said) == 3
    assert find_scans([tmp_path / "a_mask.nii.gz"], voice) == [tmp_path / "a_mask.nii.gz"]
