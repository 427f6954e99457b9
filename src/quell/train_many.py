"""`quell train`: many scans in, one model out, by one process or several.

The way: find scans -> prepare each (check, noise, scale, cache) -> method.fit on what lies in the
cache (resumes) -> write the model -> remove the cache.
"""

import shlex
import shutil
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np

from .files import refuse_ending, refuse_place, remains
from .glimpse import Glimpse
from .images import shown_together
from .methods import METHODS, LearnsMany
from .models import write_model_of_many
from .options import Options, refuse_options
from .prepared import Prepared, opened
from .processes import main_first, threads_of_each
from .run import Processes, Run, State, Voice, set_threads
from .series import InputError
from .trainer import refuse_parts
from .training_set import Preparation, find_scans


@dataclass(frozen=True)
class TrainingFiles:
    """What one `quell train` reads and writes.

    sources    scans, and folders of scans
    model_out  where the model goes, .safetensors
    mask       file, for scans of one grid; None: computed for each
    work       folder for the cache and the checkpoints; None: beside the model
    skip_bad   leave out what can't be used
    force      replace a model that exists
    """

    sources: tuple[Path, ...]
    model_out: Path
    mask: Path | None = None
    work: Path | None = None
    skip_bad: bool = False
    force: bool = False

    @property
    def folder(self) -> Path:
        """The hidden folder of this training: cache and checkpoints."""
        return (self.work or self.model_out.parent) / f".{self.model_out.name}.quell"

    def refuse(self) -> None:
        """Raise InputError for a model that can't or must not be written."""
        refuse_ending(self.model_out, (".safetensors",))
        for path in (self.model_out, self.folder):
            refuse_place(path)
        if self.model_out.is_dir():
            raise InputError(f"{self.model_out} is a folder; give a file name", 2)
        if self.model_out.exists() and not self.force:
            raise InputError(
                f"{self.model_out} exists; give --force to replace it, or choose another name"
            )


def train_files(
    files: TrainingFiles,
    options: Options,
    parts: int | None,
    processes: Processes,
    voice: Voice,
) -> None:
    """Learn one model from many scans, from files to a file.

    files      what to read and write
    options    method, its settings, noise law, seed, device, threads
    parts      batches of one step; None: one for each process
    processes  who share the work; each of them calls this
    voice      told how far it is

    Raises InputError in one sentence, with no model written. What was prepared and learned lies in
    a hidden folder until the model is written: the same command goes on there.
    """
    start = time.monotonic()
    voice.stage("preparing")
    method = refuse_method(options)
    _, device = refuse_options(options)
    parts = processes.count if parts is None else parts
    refuse_parts(parts, processes.count)
    set_threads(options.threads or threads_of_each(set_threads(None)))
    try:
        main_first(processes, lambda: _prepare(files, method, options, voice))
        scans = opened(files.folder / "cache")
        run = Run(options.seed, device, voice=voice, parts=parts, processes=processes)
        run.folder = files.folder / _fingerprint(scans, method, run)
        voice.look_at(lambda: Glimpse.of(method, scans[0].series(), scans[0].noise(), run))
        voice.stage("training")
        state = method.fit([s.series() for s in scans], [s.noise() for s in scans], run)
        main_first(processes, lambda: _write(files, scans, method, options, state, run))
    except KeyboardInterrupt:
        if not remains(files.folder):
            raise
        raise KeyboardInterrupt(
            f"stopped; what was prepared and learned is kept in {files.folder}: "
            "run the same command again to go on"
        ) from None
    except BaseException:
        remains(files.folder)
        raise
    voice.say(f"wrote {files.model_out} in {time.monotonic() - start:.0f} s")
    voice.say(f"next: quell apply {shlex.quote(str(files.model_out))} SCAN OUT")


def refuse_method(options: Options) -> LearnsMany:
    """The method that is meant; InputError (status 2) for one that learns from one scan only."""
    method, _ = refuse_options(replace(options, device="cpu"))  # unknown methods in words
    if not getattr(method, "learns_many", False):
        known = ", ".join(n for n, kind in METHODS.items() if getattr(kind, "learns_many", False))
        raise InputError(
            f"{method.name} learns from one scan, for that scan; use it with quell denoise, or "
            f"train {known}",
            2,
        )
    assert isinstance(method, LearnsMany)
    return method


def _prepare(files: TrainingFiles, method: LearnsMany, options: Options, voice: Voice) -> None:
    """The cache, made or completed; by the main process alone."""
    files.refuse()
    paths = find_scans(files.sources, voice, files.mask)
    cache = files.folder / "cache"
    preparation = Preparation(cache, method, options, files.mask, files.skip_bad, voice)
    made = preparation.prepare(paths)
    n_volumes = sum(scan.about.shape[3] for scan in made)
    voice.say(f"learning from {len(made)} scans, {n_volumes} volumes")


def _fingerprint(scans: list[Prepared], method: LearnsMany, run: Run) -> str:
    """Twelve letters that change with whatever decides what is learned; not with the processes."""
    names = "/".join(scan.folder.name for scan in scans)
    words = f"{names}/{method!r}/{run.seed}/{run.device.type}/{run.parts}/{version('quell')}"
    return sha256(words.encode()).hexdigest()[:12]


def _write(
    files: TrainingFiles,
    scans: list[Prepared],
    method: LearnsMany,
    options: Options,
    state: State,
    run: Run,
) -> None:
    """The model, whole; then nothing else is needed."""
    first = scans[0].series()
    write_model_of_many(
        files.model_out,
        state,
        method,
        options,
        training=[scan.about for scan in scans],
        channels=shown_together(first, method),
        contrasts=0 if first.contrasts is None else first.contrasts.shape[3],
        losses=run.kept.get("losses", np.zeros(0)),
    )
    shutil.rmtree(files.folder, ignore_errors=True)
