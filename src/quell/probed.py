"""What a method would erase, from a scan's file to a folder: `quell probe`.

OUT/probe.json, .csv    every structure, and the table by kind
OUT/probe.html, .png    the page and its figure

Here    A method of quell runs in this process, with one noise model and one mask for all runs. One
        that trains is trained anew on each scan with structures, as on a scan of a patient who has
        them, and the scan without is denoised by that same network: what differs between both
        results is then the structures' own, not that of another training.
        Any other program is a command, and runs on files.
"""

import csv
import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .compare.contestants import Contestant, external, gradients_of
from .compare.folder import with_gradient_files
from .compare.results import read_result
from .compare.running import DONE, run
from .files import refuse_place
from .methods import Method, trains
from .noise import NoiseModel, describe_noise
from .options import Options, refuse_options, refuse_scan
from .pipeline import Result, denoise, known
from .probing import EACH, MOST_SCANS, ONE, Measured, Probe, ProbeRow, plain, probes_of
from .record import as_json, settings_of, versions
from .run import Run, Silent, State, Voice, set_threads
from .series import InputError, Series, load, load_map, replacing, write_nifti

if TYPE_CHECKING:
    from .report import ProbeFacts, Shown

NAMES = ("probe.json", "probe.csv", "probe.png", "probe.html")
WORK = ".probe.quell"  # what is being written, and what programs read and write
SHARES = ("kept", "edges", "flat", "rim", "around", "elsewhere", "ghost")


@dataclass(frozen=True)
class Probing:
    """What one probe reads, runs and writes.

    scan      the scan
    out       folder
    program   NAME=COMMAND of another program; "" for a method of quell
    scans     with structures in them, each one run more; None: two, one where the method trains
    minutes   that a program has for one run
    force     write into a folder that is not empty
    """

    scan: Path
    out: Path
    program: str = ""
    mask: Path | None = None
    bval: Path | None = None
    bvec: Path | None = None
    phase: Path | None = None
    noise_in: Path | None = None
    scans: int | None = None
    minutes: float = 60.0
    force: bool = False

    def refuse(self) -> None:
        """Raise InputError for what can't be meant, and for a folder that must not be written."""
        if self.scans is not None and not 1 <= self.scans <= MOST_SCANS:
            raise InputError(f"--scans {self.scans} can't be; give 1 or {MOST_SCANS}", 2)
        if not self.minutes > 0:  # NaN fails too
            raise InputError(f"{self.minutes:g} minutes are none; give more than 0", 2)
        out = self.out
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; give a folder", 2)
        refuse_place(out / NAMES[0] if out.exists() else out)
        if out.exists() and any(out.iterdir()) and not self.force:
            raise InputError(
                f"{out} is not empty; give --force to write into it, or another folder"
            )


@dataclass(frozen=True)
class Found:
    """What a probe found.

    seconds  of all runs of the method
    beside   the most variance that others add to a structure's volumes, over the noise's: of
             structures in some volumes, and of those in all
    """

    rows: list[ProbeRow]
    measured: Measured
    n_volumes: int
    n_scans: int
    beside: tuple[float, float]
    seconds: float
    shown: "Shown | None" = None

    def sentences(self) -> list[str]:
        """The first thing to know: what is kept of structures of 81 voxels at 5 sigma, or so."""
        radii = sorted({row.kind.radius for row in self.rows}, key=lambda r: abs(r - ONE.radius))
        return [
            row.sentence(self.n_volumes)
            for row in self.rows
            if (row.kind.radius, row.kind.strength) == (radii[0], ONE.strength)
        ]


@dataclass
class AtWork(Voice):
    """How far a run is, without its sentences: all runs would say the same of the scan."""

    voice: Voice

    def stage(self, name: str) -> None:
        self.voice.stage(name)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        self.voice.progress(task, done, total, note)


class Runner(Protocol):
    """What denoises."""

    @property
    def name(self) -> str: ...

    def pair(self, probe: Probe) -> tuple[np.ndarray, np.ndarray]:
        """(X, Y, Z, V) its results without the structures and with them."""


@dataclass
class OwnMethod:
    """A method of quell, or of a package that adds to it."""

    method: Method
    options: Options
    noise: NoiseModel
    voice: Voice
    before: np.ndarray | None = None

    @property
    def name(self) -> str:
        return f"{self.method.name}, preset {self.options.preset}"

    def pair(self, probe: Probe) -> tuple[np.ndarray, np.ndarray]:
        """Its results without the structures and with them."""
        after = self._run(probe.probed, None)
        if trains(self.method):  # without a network that could be shared it trains once more
            return self._run(probe.scan, after.state or None).denoised, after.denoised
        if self.before is None:
            self.before = self._run(probe.scan, None).denoised
        return self.before, after.denoised

    def _run(self, scan: Series, state: State | None) -> Result:
        voice = AtWork(self.voice)
        return denoise(scan, self.options, noise_model=self.noise, state=state, voice=voice)


@dataclass
class Program:
    """Any other program: reads a file, writes a file."""

    program: Contestant
    asked: Probing
    scan: Series
    folder: Path
    threads: int
    before: np.ndarray | None = None

    @property
    def name(self) -> str:
        return f"{self.program.name} ({self.program.about})"

    def pair(self, probe: Probe) -> tuple[np.ndarray, np.ndarray]:
        """Its results without the structures and with them."""
        if self.before is None:
            self.before = self._run(self.asked.scan)
        path = self.folder / "probed.nii.gz"
        write_nifti(path, probe.data, probe.scan)
        return self.before, self._run(path)

    def _run(self, scan: Path) -> np.ndarray:
        out = self.folder / "denoised.nii.gz"
        out.unlink(missing_ok=True)
        places = {"in": str(scan.absolute()), "out": str(out.absolute())}
        places |= {"threads": str(self.threads)}
        places |= {name: str(path.absolute()) for name, path in gradients_of(self.scan).items()}
        if self.asked.mask is not None:
            places["mask"] = str(self.asked.mask.absolute())
        command = self.program.command(places)
        ended = run(command, self.folder, self.asked.minutes * 60, self.threads, "")
        if ended.status != DONE:
            raise InputError(f"{self.program.name}: {ended.status}: {ended.why}")
        try:
            return read_result(out, self.scan)
        except InputError as error:
            raise InputError(f"{self.program.name}: {error}") from None


def probe_scan(scan: Series, options: Options, voice: Voice | None = None) -> Found:
    """What a method of quell would erase on a scan.

    scan     from `quell.load`; not changed
    options  the method, its seed, device and threads, and the noise of the scan
    voice    told how far it is

    Raises InputError for a scan or a method that can't be used.
    """
    method, _ = refuse_options(options)
    refuse_scan(scan, method)
    set_threads(options.threads)
    voice = voice or Silent()
    given, _, phase, noise, _ = known(scan, options, Run(voice=voice))
    n_scans = 1 if trains(method) else MOST_SCANS
    rng = np.random.default_rng(options.seed)
    probes = probes_of(given, noise, rng, phase, n_scans)
    return _measured(probes, OwnMethod(method, options, noise, voice), noise, voice)


def probe_file(asked: Probing, options: Options, command: str, voice: Voice) -> Found:
    """What a method would erase on a scan; everything is written, or nothing.

    options  the method, its seed, device and threads, and the noise of the scan
    command  what reproduces it, for the page
    voice    told how far it is

    Raises InputError for a scan or a method that can't be used, and for a program that fails.
    """
    asked.refuse()
    method, _ = refuse_options(options)
    program = external(asked.program) if asked.program else None
    scan = load(asked.scan, asked.bval, asked.bvec, asked.mask, asked.phase)
    if program is None:
        refuse_scan(scan, method)
    elif np.iscomplexobj(scan.data):
        raise InputError("another program can't be probed on complex data; give the magnitude")
    threads = set_threads(options.threads)
    noise_map = None if asked.noise_in is None else load_map(asked.noise_in, scan)
    given, _, phase, noise, _ = known(scan, options, Run(voice=voice), noise_map=noise_map)
    with _work_in(asked.out) as work:
        runner: Runner
        if program is None:
            runner = OwnMethod(method, options, noise, voice)
        else:
            given = with_gradient_files(given, work)
            runner = Program(program, asked, given, work, threads)
        n_scans = asked.scans or (1 if program is None and trains(method) else MOST_SCANS)
        rng = np.random.default_rng(options.seed)
        found = _measured(probes_of(given, noise, rng, phase, n_scans), runner, noise, voice)
        record = record_of(found, asked, runner, options, given, noise, command)
        _write(work, found, record, facts_of(found, runner, given, noise, command))
        for name in NAMES:
            os.replace(work / name, asked.out / name)
    return found


def _measured(probes: Iterator[Probe], runner: Runner, noise: NoiseModel, voice: Voice) -> Found:
    measured, beside, seconds, n, shown = Measured([], []), [(0.0, 0.0)], 0.0, 0, None
    for n, probe in enumerate(probes, start=1):
        voice.say(f"scan {n} with {len(probe.blobs)} structures: {runner.name}")
        start = time.perf_counter()
        before, after = runner.pair(probe)
        seconds += time.perf_counter() - start
        measured = measured.with_more(probe.measure(before, after))
        beside.append(probe.beside)
        shown = shown or _shown(probe, before, after)
    rows = measured.rows(noise.covariance)
    most = np.max(beside, axis=0)
    others = (float(most[0]), float(most[1]))
    return Found(rows, measured, before.shape[3], n, others, seconds, shown)


def _shown(probe: Probe, before: np.ndarray, after: np.ndarray) -> "Shown":
    """The slice through the structure that is most like that of the short form."""
    from .report import Shown

    def unlike(kind: Any) -> tuple[float, ...]:
        return tuple(abs(getattr(kind, n) - getattr(ONE, n)) for n in ONE.__dataclass_fields__)

    blob = min(probe.blobs, key=lambda blob: unlike(blob.kind)[::-1])
    v, (x, y, z) = int(blob.volumes[0]), blob.centre
    added = probe.over_sigma(probe.data[..., v] - probe.scan.data[..., v], v)
    return Shown(v, added, probe.over_sigma(after[..., v] - before[..., v], v),
                 (int(x), int(y), int(z)))  # fmt: skip


def record_of(
    found: Found,
    asked: Probing,
    runner: Runner,
    options: Options,
    scan: Series,
    noise: NoiseModel,
    command: str,
) -> dict[str, Any]:
    """All about a probe, for its json."""
    about: dict[str, Any] = {"program": asked.program}
    if isinstance(runner, OwnMethod):
        about = {"method": options.method, "preset": options.preset}
        about["settings"] = settings_of(runner.method)
        about["trained_anew"] = trains(runner.method)
    added = found.measured.added
    return {
        "scan": asked.scan.name,
        **about,
        "shape": list(scan.data.shape),
        "voxels_in_mask": int(scan.where.sum()),
        "noise": describe_noise(noise, scan.where).removeprefix("noise: "),
        "noise_law": noise.law,
        "lag_one": noise.lag_one(),
        "sentences": found.sentences(),
        "kinds": [row.as_dict() for row in found.rows],
        "added_where_nothing_was": {"rms": plain(added.rms), "largest": plain(added.largest)},
        "structures": [
            {
                "radius": blob.kind.radius,
                "strength": blob.kind.strength,
                "centre": blob.centre.tolist(),
                "volumes": blob.volumes.tolist(),
                "at_edge": blob.is_edge,
                **{name: plain(value) for name, value in vars(said).items()},
            }
            for blob, said in found.measured.responses
        ],
        "scans_with_structures": found.n_scans,
        "variance_of_others": {
            "in_some_volumes": plain(found.beside[0]),
            "in_all": plain(found.beside[1]),
        },
        "seed": options.seed,
        "seconds": round(found.seconds, 1),
        "command": command,
        "versions": versions(),
    }


def facts_of(
    found: Found, runner: Runner, scan: Series, noise: NoiseModel, command: str
) -> "ProbeFacts":
    """What the page shows."""
    from .report import ProbeFacts

    added, n = found.measured.added, len(found.measured.responses)
    law = "y + A σ" if noise.law == "gaussian" or np.iscomplexobj(scan.data) else (
        "as its law makes it of a stronger signal")  # fmt: skip
    notes = [
        f"{n} structures in {found.n_scans} scan{'s' * (found.n_scans > 1)}, at most {EACH} of a "
        "kind, half of them where the mean volume is steep and half where it is flat; balls of "
        "uniform strength, far apart. A kind for which there was no room is not in the table.",
        f"Noise: {describe_noise(noise, scan.where).removeprefix('noise: ')}. The measured value "
        f"with a structure is {law}; the noise stays the same.",
        f"Other structures add at most {found.beside[0]:.3f} of the noise variance to a "
        f"structure's volumes, those in all volumes {found.beside[1]:.3f}, so that a method that "
        "looks at the whole scan finds each nearly alone.",
    ]
    if isinstance(runner, OwnMethod) and trains(runner.method):
        notes.append(
            "The method was trained anew on each scan with structures, and that network denoised "
            "the scan without them, too."
        )
    return ProbeFacts(
        title=scan.path.name if scan.path else "scan",
        method=runner.name,
        n_volumes=found.n_volumes,
        rows=[row.as_dict() for row in found.rows],
        sentences=found.sentences(),
        nothing=(added.rms, added.largest) if np.isfinite(added.rms) else None,
        notes=notes,
        mask=scan.where,
        affine=scan.affine,
        command=command,
        shown=found.shown,
        versions=versions(),
    )


def _write(folder: Path, found: Found, record: dict[str, Any], facts: "ProbeFacts") -> None:
    from .report import write_probe  # brings matplotlib

    for name, text in (("probe.json", as_json(record)), ("probe.csv", as_csv(found.rows))):
        with replacing(folder / name) as file:
            file.write(text.encode("utf-8", "backslashreplace"))  # names may hold bare bytes
    write_probe(folder / "probe.html", folder / "probe.png", facts)


def as_csv(rows: list[ProbeRow]) -> str:
    """A line for each kind of structure; empty where there is no number."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    numbers = [f"{name}{end}" for name in SHARES for end in ("", "_error", "_n")]
    writer.writerow(["volumes", "voxels", "radius", "strength", "detectability", *numbers])
    for row in rows:
        line: list[Any] = [row.kind.volumes, row.n_voxels, row.kind.radius, row.kind.strength]
        line.append(plain(row.detectability))
        for share in (getattr(row, name) for name in SHARES):
            line += [plain(share.mean), plain(share.error), share.n]
        writer.writerow(["" if value is None else value for value in line])
    return file.getvalue()


def as_text(found: Found) -> str:
    """The table for a terminal, and what to know first."""
    table = [["volumes", "voxels", "strength", "kept, %", "at edges", "in flat tissue", "around",
              "elsewhere"]]  # fmt: skip
    for row in found.rows:
        cells = [str(row.kind.volumes), str(row.n_voxels), f"{row.kind.strength:g}"]
        error = f" ± {100 * row.kept.error:.0f}" if np.isfinite(row.kept.error) else ""
        cells.append(f"{100 * row.kept.mean:.0f}{error}")
        for name in ("edges", "flat", "around", "elsewhere"):
            mean = getattr(row, name).mean
            cells.append(f"{100 * mean:.0f}" if np.isfinite(mean) else "–")
        table.append(cells)
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in table]
    return "\n".join([*lines, *found.sentences()])


@contextmanager
def _work_in(out: Path) -> Iterator[Path]:
    """A hidden folder in OUT; it goes in any case, and so does OUT where it is new and empty."""
    is_new = not out.exists()
    work = out / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
        yield work
    except OSError as error:
        raise InputError(f"{out} can't be written ({error.strerror}); choose another") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
