"""Work: one scan from start to end, wherever it runs, and its record.

The way: lock the scan's log -> is it done by now? -> denoise into the work folder, going on from a
checkpoint -> judge -> put everything into its place, the image last -> write the record.
"""

import fcntl
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from ..compare.running import DONE, FAILED
from ..files import Files
from ..options import Options
from ..outputs import denoise_file
from ..record import as_json
from ..series import InputError, replacing
from ..voice import Lines, printable
from .job import Job
from .judging import judged, referee
from .manifest import Entry, inputs_of, record_of, stamps_of
from .memory import peak_of_work, start_of_work
from .names import LOGS, inside
from .placing import MAPS, RESULT, like_of, place

OUT_OF_MEMORY = "not enough memory for this scan; give its workers more, or start fewer"


def denoise_scan(text: str) -> str:
    """Do a job, both as text: the task that a worker is given, and what it answers."""
    job = Job.of_text(text)
    try:
        record, log = record_of(Path(job.out), job.name), inside(Path(job.out), log_of(job.name))
        with locked(log) as file:
            known = Entry.read(record)
            if known is not None and known.is_done(job.how, job.files, Path(job.out)):
                return known.text  # by another run that was given the same scan
            entry = _attempted(job, Logged(file), known)
            with suppress(InputError):  # a full disk: whoever asked is told all the same
                entry.write(record)
            return entry.text
    except InputError as error:
        return job.entry(FAILED, printable(str(error))).text
    except OSError as error:
        why = f"{error.filename or 'a file'}: {error.strerror or error}"
        return job.entry(FAILED, printable(why)).text


def log_of(name: str) -> Path:
    """Where a scan's log lies, relative to the root of the output."""
    return Path(LOGS, f"{name}.log")


@contextmanager
def locked(log: Path) -> Iterator[IO[str]]:
    """The log, empty, held by this process alone; it waits for whoever else has the scan.

    Raises InputError for what is no file of its own: a link would lead elsewhere.
    """
    if log.is_symlink() or (log.exists() and not log.is_file()):
        raise InputError(f"{log} is a link, or no file; nothing is written there: remove it")
    with open(log, "a", encoding="utf-8", errors="backslashreplace") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        yield file


class Logged(Lines):
    """A voice that writes into a log, and remembers the warnings."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self.file = file
        self.warnings: list[str] = []

    def say(self, line: str) -> None:
        if line.startswith("warning: "):
            self.warnings.append(printable(line.removeprefix("warning: ")))
        with suppress(OSError):  # a full disk is said by what can't do without it
            print(printable(line), file=self.file, flush=True)


def _attempted(job: Job, voice: Logged, before: Entry | None) -> Entry:
    """The scan's record, whatever happens to it."""
    start_of_work()
    kept = before.outputs if before is not None else {}
    try:
        entry = _done(job, voice, kept)
    except Exception as error:
        why = _why(error)
        if not isinstance(error, InputError):  # a fault of ours, or of a library
            voice.say("".join(traceback.format_exception(error)).replace("\n", " | "))
        voice.say(f"failed: {why}")
        if any((Path(job.out) / name).exists() for name in kept):
            why += "; the result of an earlier run is still there"
        return job.entry(FAILED, printable(why), outputs=kept, remarks=voice.warnings)
    voice.say("done")
    return entry


def _why(error: Exception) -> str:
    """In a sentence."""
    if isinstance(error, InputError):
        return str(error)
    words = str(error)
    if isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words:
        return OUT_OF_MEMORY
    return f"quell failed unexpectedly ({type(error).__name__}: {words[:200]}); see its log"


def _done(job: Job, voice: Logged, before: dict[str, int]) -> Entry:
    """Denoise, judge, put into place; InputError in one sentence for what can't be done."""
    refuse(job)
    read: dict[str, Any] = {"inputs": inputs_of(job.files), "stamps": stamps_of(job.files)}
    with _folder(Path(job.work)) as work:
        files, options = _files(job, work), Options(**job.options)
        result = denoise_file(files, options, True, job.command, voice)
        like = like_of(job, result)
        said = judged(result, like)
        if job.recorrupt:
            said["scores"]["gain"] = referee(result, job, files, options, voice)
        outputs = place(job, files, result, like, before)
    return job.entry(
        DONE,
        outputs=outputs,
        seconds=round(sum(result.seconds.values()), 2),
        memory=float(peak_of_work()),
        remarks=voice.warnings,
        report=job.targets.get("report", ""),
        **read,
        **said,
    )


def refuse(job: Job) -> None:
    """Raise InputError for a scan that is not there, or whose derivative would not be BIDS."""
    if job.version != version("quell"):
        raise InputError(
            f"this worker has quell {version('quell')} and the run is by {job.version}; install "
            "the same on both"
        )
    for path in job.files:
        if path.is_symlink() and not path.exists():
            raise InputError(f"{path} is a link to a file that is not there; fetch the file")
    if job.datatype == "dwi" and not (job.bval and job.bvec):
        lacks = " and ".join(k for k in ("bval", "bvec") if not getattr(job, k))
        raise InputError(
            f"{job.scan} has no {lacks}, beside it or above; BIDS needs both for a dwi: add it"
        )


@contextmanager
def _folder(work: Path) -> Iterator[Path]:
    """The scan's work folder; only a checkpoint is left in it, and nothing where all went well."""
    if work.is_symlink():
        raise InputError(f"{work} is a link; nothing is written there: remove it")
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield work
    finally:
        for path in work.iterdir():
            if not path.is_dir():
                path.unlink(missing_ok=True)
        with suppress(OSError):  # a checkpoint is in it
            work.rmdir()


def _files(job: Job, work: Path) -> Files:
    """What `quell denoise` is to read and write; all that it writes goes into the work folder."""
    sidecar = work / "inherited.json"
    with replacing(sidecar) as file:
        file.write(as_json(job.sidecar).encode("utf-8", "backslashreplace"))
    for old in work.glob(f"{RESULT}.*"):
        if old.is_dir():
            shutil.rmtree(old)
    ways: Any = {f"{what}_out": work / f"{what}.nii.gz" for what in MAPS if what in job.targets}
    return Files(
        scan=Path(job.scan),
        out=work / f"{RESULT}.nii.gz",
        bval=Path(job.bval) if job.bval else None,
        bvec=Path(job.bvec) if job.bvec else None,
        phase=Path(job.phase) if job.phase else None,
        sidecar=sidecar,
        model_in=Path(job.model) if job.model else None,
        report=work / "report.html" if "report" in job.targets else None,
        **ways,
    )
