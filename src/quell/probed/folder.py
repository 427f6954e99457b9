"""The way of a probe: noise of the scan -> structures -> two results of each -> what is kept."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compare.contestants import external
from ..compare.folder import with_gradient_files
from ..methods import trains
from ..noise import NoiseModel
from ..options import Options, refuse_options, refuse_scan
from ..pipeline import known
from ..probing import MOST_SCANS, ONE, Measured, Probe, probes_of
from ..run import Run, Silent, Voice, set_threads
from ..series import InputError, Series, load, load_map
from .asked import NAMES, Probing
from .runners import OwnMethod, Program, Runner
from .showing import Found, facts_of, record_of, write_all

if TYPE_CHECKING:
    from ..report import Shown

WORK = ".probe.quell"  # what is being written, and what programs read and write


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
        write_all(work, found, record, facts_of(found, runner, given, noise, command))
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
    from ..report import Shown

    def unlike(kind: Any) -> tuple[float, ...]:
        return tuple(abs(getattr(kind, n) - getattr(ONE, n)) for n in ONE.__dataclass_fields__)

    blob = min(probe.blobs, key=lambda blob: unlike(blob.kind)[::-1])
    v, (x, y, z) = int(blob.volumes[0]), blob.centre
    added = probe.over_sigma(probe.data[..., v] - probe.scan.data[..., v], v)
    return Shown(v, added, probe.over_sigma(after[..., v] - before[..., v], v),
                 (int(x), int(y), int(z)))  # fmt: skip


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
