"""The way of a cohort: what is there, what is to be done, do it, say what became of it.

find scans -> leave out what is done -> estimate memory -> workers -> learn the shared models ->
send, take back -> table and page.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..compare.running import DONE, FAILED
from ..options import Options, refuse_options
from ..run import Voice, choose_device
from ..series import InputError
from ..train_many import refuse_method
from . import cluster, shared
from .admission import Admission, Waiting
from .asked import Cohort
from .batch import CLUSTERS, TLS, batch, read_file
from .bids import Dataset, Scan
from .job import Asked, Job
from .manifest import Entry, record_of
from .memory import budget, need_of, size_of, workers_that_fit
from .names import write_dataset
from .progress import Impatience, note, time_left
from .showing import write_group


def denoise_participants(
    asked: Cohort, options: Options, command: str, voice: Voice
) -> list[Entry]:
    """Denoise every scan that is asked for; the record of each, whatever became of it.

    options  of all scans; `threads` of each worker
    command  what reproduces the run
    voice    told how far it is

    Raises InputError for what stops all of them, not for what stops one.
    """
    asked.refuse()
    here = asked.dask == "local"  # elsewhere there may be other devices
    refuse_options(options if here else replace(options, device="cpu"))
    if asked.shared_model:
        refuse_method(options)
    said = read_file(asked.dask_file)
    dataset = Dataset(asked.root.absolute())
    scans = dataset.scans(asked.participants, asked.sessions, asked.datatypes)
    _say_what_is_left_out(dataset, scans, asked, voice)
    if not scans:
        raise InputError(f"there is nothing to denoise in {asked.root}; see --datatype")
    _make(asked, dataset)
    with _kept_when_stopped(asked):
        return Cohorts(asked, options, command, voice, said).all(dataset, scans)


@dataclass
class Cohorts:
    """One run over a study."""

    asked: Cohort
    options: Options
    command: str
    voice: Voice
    said: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)

    def all(self, dataset: Dataset, scans: Sequence[Scan]) -> list[Entry]:
        """The record of every scan, those included that were done before."""
        jobs = self._jobs(dataset, scans)
        trainings = self._trainings(jobs) if self.asked.shared_model else {}
        jobs = [_with_model(job, trainings) for job in jobs]
        todo = [job for job in jobs if not self._is_done(job)]
        n = sum(entry.status == DONE for entry in self.entries)
        self.voice.say(f"{len(scans)} scans" + (f", {n} of them done already" if n else ""))
        if todo:
            self._work(todo, trainings)
        write_group(self.asked.out, self.command, self.voice)
        return sorted(self.entries, key=lambda entry: entry.name)

    def _jobs(self, dataset: Dataset, scans: Sequence[Scan]) -> list[Job]:
        """What is to be done with each; those whose metadata can't be used have failed by then."""
        wanted = Asked(
            out=self.asked.out.absolute(),
            work=self.asked.folder,
            options=self.options,
            command=self.command,
            recorrupt=self.asked.recorrupt or self.asked.shared_model,
            residual=self.asked.residual,
            report=self.asked.report,
        )
        jobs = []
        for scan in scans:
            try:
                jobs.append(Job.of(scan, dataset, wanted))
            except InputError as error:
                plain = Job.bare(scan, dataset, wanted)
                self._tell(plain.entry(FAILED, str(error)))
        return jobs

    def _trainings(self, jobs: Sequence[Job]) -> dict[str, shared.Training]:
        """Job's name -> the training of its protocol's model."""
        found: dict[str, shared.Training] = {}
        for name, alike in shared.protocols(jobs).items():
            training = shared.training_of(
                name, alike, self.asked.train_scans, self.asked.out.absolute(), self.asked.folder
            )
            found |= {job.name: training for job in alike}
        return found

    def _is_done(self, job: Job) -> bool:
        """Whether nothing is to be done; its record is kept then."""
        known = None if self.asked.again else Entry.read(record_of(self.asked.out, job.name))
        if known is None or not known.is_done(job.how, job.files, self.asked.out):
            return False
        self.entries.append(known)
        return True

    def _work(self, todo: list[Job], trainings: dict[str, shared.Training]) -> None:
        """All that is to be done, on workers."""
        sizes = {job.name: size_of(job) for job in todo}
        waiting = [Waiting(job, need_of(job, sizes[job.name])) for job in todo]
        start, total = time.monotonic(), len(todo)
        ended: list[Entry] = []

        def tell(entry: Entry) -> None:
            ended.append(entry)
            self._tell(entry)
            left = time_left(time.monotonic() - start, sizes, ended)
            self.voice.progress("denoising", len(ended), total, note(ended, left))

        threads, farm = self._farm(waiting)
        with farm as workers, _swept(self.asked.folder):
            self.voice.say(f"{total} scans to denoise")
            lost = shared.learn_missing(
                workers.client, todo, trainings, self.options.threads, self.voice
            )
            for item in [w for w in waiting if w.job.name in lost]:
                waiting.remove(item)
                tell(item.job.entry(FAILED, lost[item.job.name]))
            Admission(
                workers,
                waiting,
                threads,
                tell,
                Impatience(self.voice, self.asked.dask == "local").look,
            ).run()

    def _farm(
        self, waiting: Sequence[Waiting]
    ) -> tuple[int | None, AbstractContextManager[cluster.Farm]]:
        """Threads of a scan (None: as its worker has), and the workers, yet to be started."""
        folder = cluster.own_folder(self.asked.folder)
        if self.asked.dask in CLUSTERS:
            said = {key: value for key, value in self.said.items() if key not in TLS}
            return self.options.threads, batch(self.asked.dask, said, len(waiting), folder)
        if self.asked.dask != "local":
            tls = {key[4:]: str(self.said[key]) for key in TLS if key in self.said}
            return self.options.threads, cluster.existing(self.asked.dask, tls)
        gpus = _gpus(self.options.device)
        cores, memory = _cores(), budget(self.asked.memory_gib)
        n = workers_that_fit([w.need for w in waiting], gpus or cores, memory)
        n = min(self.asked.workers or n, len(waiting))
        if gpus and n > gpus:
            raise InputError(f"{n} workers need a GPU each and there are {gpus}; start fewer", 2)
        threads = self.options.threads or max(1, cores // n)
        self.voice.say(
            f"{n} worker{'s' * (n > 1)} of {threads} thread{'s' * (threads > 1)}"
            f"{' and a GPU' if gpus else ''}, {memory / 2**30:.1f} GiB of memory together"
        )
        return threads, cluster.local(n, threads, memory, gpus, folder)

    def _tell(self, entry: Entry) -> None:
        """Keep a record, and say it where it is bad."""
        self.entries.append(entry)
        with suppress(InputError):  # a full disk: it is said all the same
            path = record_of(self.asked.out, entry.name)
            if Entry.read(path) != entry:
                entry.write(path)
        if entry.status != DONE:
            self.voice.say(f"{entry.name}: {entry.why}")


def _with_model(job: Job, trainings: dict[str, shared.Training]) -> Job:
    training = trainings.get(job.name)
    if training is None:
        return job
    return replace(job, model=training.model, how=f"{job.how}-{training.learned}")


def _say_what_is_left_out(
    dataset: Dataset, scans: Sequence[Scan], asked: Cohort, voice: Voice
) -> None:
    for sentence in dataset.left_out:
        voice.say(f"left out: {sentence}")
    for kind, n in dataset.others(scans, asked.datatypes).items():
        voice.say(f"left out: {n} image{'s' * (n > 1)} of {kind}; --datatype {kind} takes them")


def _make(asked: Cohort, dataset: Dataset) -> None:
    """The output, as a BIDS dataset from the first moment on."""
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
        asked.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{error.filename} can't be made ({error.strerror}); choose another folder"
        ) from error
    write_dataset(asked.out, dataset)


@contextmanager
def _swept(folder: Path) -> Iterator[None]:
    """The work folder, gone in the end if nothing is left in it."""
    try:
        yield
    finally:
        for place in (folder / "new", folder):
            with suppress(OSError):  # not empty, or not there
                place.rmdir()


@contextmanager
def _kept_when_stopped(asked: Cohort) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished scans are kept in {asked.out}: run the same command again to go on"
        ) from None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus(device: str) -> int:
    """How many GPUs are to be used; 0: none."""
    import torch

    if choose_device(device).type != "cuda":
        return 0
    return 1 if ":" in device else torch.cuda.device_count()
