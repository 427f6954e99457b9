"""Hostile inputs, one after the other, for a given time: no crash, no hang, nothing out of place.

    QUELL_FUZZ_SECONDS=600 python -m pytest -m slow tests/test_fuzz.py
    QUELL_FUZZ_SEED=1234 QUELL_FUZZ_SECONDS=0 python -m pytest -m slow tests/test_fuzz.py

Here    A case is a number; the cases follow each other from QUELL_FUZZ_SEED on (0), until the time
        is over (60 s). The second command above runs one case alone.
"""

import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import hostile
from quell.cohort import cluster
from quell.cohort.work import denoise_scan
from studies_on_disk import piece, put, small

SECONDS = float(os.environ.get("QUELL_FUZZ_SECONDS", "60"))
FIRST = int(os.environ.get("QUELL_FUZZ_SEED", "0"))
LIMIT = 120.0  # seconds of a case; the usual one takes less than one, a busy machine more
MEMORY = 4 * 2**30  # bytes that a case may ask for
METHODS = ("wiener", "mppca", "patch2self")


class TooLongError(BaseException):
    """Not an Exception, so that nothing takes it for a failure of a scan."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLongError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Done:
    """The answer of a worker that works at once."""

    def __init__(self, text: str) -> None:
        self.text = text

    def done(self) -> bool:
        return True

    def result(self) -> str:
        return self.text

    def add_done_callback(self, call) -> None:
        call(self)


class Here:
    """This process, as the only worker."""

    client = None

    def workers(self) -> list[cluster.Worker]:
        return [cluster.Worker("here", "here", 4 * 2**30, 1)]

    def submit(self, text: str, worker: cluster.Worker) -> Done:
        return Done(denoise_scan(text))


@contextmanager
def here(*_: object) -> Iterator[Here]:
    yield Here()


def snapshot(box: Path) -> dict[str, object]:
    """What stands outside of `out`, by name: a link's target, a file's content."""
    found: dict[str, object] = {}
    for path in hostile.below(box):
        name = str(path.relative_to(box))
        if name == "out" or name.startswith("out/"):
            continue
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = path.stat().st_mode
    return found


# ---- a case --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A dataset of two scans; `quell cohort` fills its `out` once, in the first case."""
    box = tmp_path_factory.mktemp("template")
    small(box / "in", 2)
    put(box / "in" / "sub-01" / "ses-a" / "dwi", "sub-01_ses-a_dwi", 2, gradients=False)
    return box


def one_scan(rng: random.Random, box: Path) -> list[str]:
    """The command about one scan with something wrong in or beside it."""
    series = piece(rng.randrange(4))
    folder = box / "in"
    good = put(folder, "dwi", rng.randrange(4))
    raw = hostile.gzip.decompress(good.read_bytes())
    name = rng.choice(("dwi", "dwi", *hostile.NAMES))
    name = name if name not in ("..", ".") else "dwi"
    ending = rng.choice((".nii.gz", ".nii.gz", ".nii", ".NII"))
    if rng.random() < 0.6:
        raw = hostile.image(rng, raw)
    good.unlink()
    scan = folder / f"{name}{ending}"
    scan.write_bytes(hostile.packed(rng, raw) if ending == ".nii.gz" else raw)
    for kind in ("bval", "bvec"):
        text = (folder / f"dwi.{kind}").read_text()
        (folder / f"dwi.{kind}").unlink()
        raw = hostile.numbers(rng, text) if rng.random() < 0.4 else text.encode()
        if rng.random() < 0.9:
            (folder / f"{name}.{kind}").write_bytes(raw)
    if rng.random() < 0.4:
        (folder / f"{name}.json").write_bytes(hostile.sidecar(rng))
    if rng.random() < 0.1:
        hostile.link(rng, rng.choice(hostile.below(folder)), box)
    if rng.random() < 0.05:
        hostile.piped(rng, box)
    words = [str(scan)]
    for option in ("--mask", "--noise-in", "--phase"):
        if rng.random() < 0.15:
            other = folder / f"other{option}.nii"
            other.write_bytes(hostile.image(rng, small_map(option, series)))
            words += [option, str(other)]
    for option, values in (
        ("--fourth-axis", ("directions", "repetitions", "contrasts", "echoes")),
        ("--noise-law", ("auto", "gaussian", "rician", "nc-chi")),
        ("--coils", ("1", "64", "0.5", "nan")),
    ):
        if rng.random() < 0.1:
            words += [option, rng.choice(values)]
    if rng.random() < 0.3:
        return ["check", *words]
    return ["denoise", words[0], *results(rng, box), *words[1:]]


def small_map(option: str, series) -> bytes:
    """A map on the scan's grid, or a phase, as a NIfTI file."""
    import nibabel as nib
    import numpy as np

    data = series.data if option == "--phase" else series.data.mean(axis=3)
    values = np.angle(np.exp(1j * data)) if option == "--phase" else data / 20
    return nib.Nifti1Image(values.astype(np.float32), series.affine).to_bytes()


def results(rng: random.Random, box: Path) -> list[str]:
    """Where `quell denoise` is to write, and how."""
    name = rng.choice(("out", "out", *(n for n in hostile.NAMES if n != "..")))  # that is no file
    out = box / "out" / f"{name}{rng.choice(('.nii.gz', '.nii', '.mif', '.txt', ''))}"
    words = [str(out), "--method", rng.choice(METHODS), "--threads", "1"]
    if rng.random() < 0.2:
        hostile.link(rng, box / "out" / rng.choice((f"{name}.json", out.name or "x")), box)
        words += ["--force"]
    for option, chance in (
        ("--no-report", 0.95), ("--remove-noise-floor", 0.1), ("--apply-mask", 0.1),
        ("--strict", 0.05), ("--quiet", 0.1), ("--force", 0.1),
    ):  # fmt: skip
        words += [option] * (rng.random() < chance)
    for option, ending in (("--noise-out", "n.nii.gz"), ("--residual-out", "r.nii")):
        words += [option, str(box / "out" / ending)] if rng.random() < 0.2 else []
    return words


def a_study(rng: random.Random, box: Path, template: Path) -> list[str]:
    """The command about a dataset with something wrong in it, or in what an earlier run left."""
    for name in ("in", "out"):
        remove_and_copy(template / name, box / name)
    if rng.random() < 0.3:
        shutil.rmtree(box / "out")
        (box / "out").mkdir()
    hostile.mutate(rng, box)
    if rng.random() < 0.15:
        return ["cohort", str(box / "in"), str(box / "out"), "group"]
    words = ["cohort", str(box / "in"), str(box / "out"), "participant", "--threads", "1"]
    words += ["--method", rng.choice(METHODS), "--memory", "4"]
    for option, chance in (
        ("--no-report", 0.95), ("--residual", 0.2), ("--recorrupt", 0.1), ("--again", 0.2),
        ("--quiet", 0.2), ("--strict", 0.05),
    ):  # fmt: skip
        words += [option] * (rng.random() < chance)
    for option in ("--participant-label", "--session-label", "--datatype"):
        if rng.random() < 0.08:
            words += [option, rng.choice((*hostile.PATHS, "anat", "dwi", "a"))]
    return words


def remove_and_copy(source: Path, target: Path) -> None:
    hostile.remove(target)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        target.mkdir()


def faults(before: dict[str, object], ended, box: Path) -> list[str]:
    """Everything that must not be, in words."""
    found = []
    if ended.status not in (0, 1, 2):
        found.append(f"status {ended.status}")
    for word in ("Traceback", "unexpectedly"):
        if word in ended.err or word in ended.out:
            found.append(f"{word}: {ended.err[-2000:]}")
    is_said = any(line.startswith("quell: ") for line in ended.err.splitlines())
    is_said = is_said or "scans failed" in ended.err or "error" in ended.out
    if ended.status and not is_said:
        found.append(f"no sentence: {ended.err[-500:]!r}")
    after = snapshot(box)
    found += [f"{n} is gone" for n in before.keys() - after.keys()]
    found += [f"{n} is new" for n in after.keys() - before.keys()]
    found += [f"{n} changed" for n in before.keys() & after.keys() if before[n] != after[n]]
    for path in hostile.below(box / "out"):
        is_page = path.suffix == ".html" and path.is_file() and not path.is_symlink()
        if is_page and hostile.MARK in path.read_text("utf-8", "replace"):
            found.append(f"{path.name} holds {hostile.MARK}")
        if path.suffix == ".part":
            found.append(f"{path.name} was left")
    return found


def run_case(seed: int, box: Path, template: Path, quell) -> tuple[Sequence[str], list[str]]:
    """A case: its command, and what was wrong with how it ended."""
    rng = random.Random(seed)
    hostile.surroundings(box)
    words = one_scan(rng, box) if rng.random() < 0.55 else a_study(rng, box, template)
    before = snapshot(box)
    try:
        with limited(LIMIT):
            ended = quell(*words)
    except TooLongError as error:
        where = traceback.extract_tb(error.__traceback__)[-8:]
        return words, [str(error), *(f"{f.filename}:{f.lineno} {f.name}" for f in where)]
    return words, faults(before, ended, box)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hostile_inputs_are_used_or_refused(tmp_path, template, quell, monkeypatch):
    monkeypatch.setattr(cluster, "local", here)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    good = ("cohort", template / "in", template / "out", "participant", "--method", "mppca")
    assert quell(*good, "--no-report", "--threads", "1", "--residual").status == 0
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limits[1]))
    seed, end, kinds = FIRST, time.monotonic() + SECONDS, Counter()
    bad: dict[int, str] = {}
    try:
        while True:
            box = tmp_path / str(seed)
            box.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(box / "tmp"))
            (box / "here").mkdir()
            monkeypatch.chdir(box / "here")
            words, found = run_case(seed, box, template, quell)
            kinds[words[0]] += 1
            if found:
                bad[seed] = f"{words}\n  " + "\n  ".join(found)
            else:
                monkeypatch.chdir(tmp_path)
                shutil.rmtree(box)
            seed += 1
            if time.monotonic() > end:
                break
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    said = f"{seed - FIRST} cases from {FIRST} on: {dict(kinds)}"
    print(said)
    assert not bad, f"{said}\n" + "\n".join(f"QUELL_FUZZ_SEED={s}: {w}" for s, w in bad.items())
