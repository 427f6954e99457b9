"""Running: one contestant as a process of its own, within its time, and what became of it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self, get_args, get_origin, get_type_hints

from .. import measured
from ..series import read_json, replacing
from ..voice import printable

PATIENCE = 30.0  # seconds from being asked to stop to being ended: a checkpoint is written in them
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MRTRIX_NTHREADS")
KILLED = (137, 247)  # by signal 9: as a shell says it, and as `measured` does
DONE, FAILED, LATE = "done", "failed", "out of time"


@dataclass(frozen=True)
class Outcome:
    """What became of one contestant; kept beside its result, so that it need not run again.

    key      of scan, contestant and version: another one is another run
    status   "done", "failed" or "out of time"
    why      in a sentence, where it is not done
    seconds  of the whole command
    memory   bytes, its peak
    command  as it was run
    scores   by name, of the judge `judged`
    """

    key: str
    status: str
    why: str = ""
    seconds: float = float("nan")
    memory: float = float("nan")
    command: list[str] = field(default_factory=list)
    judged: str = ""
    scores: dict[str, float | None] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What an earlier run left; None where there is none, or none that can be read."""
        try:
            return cls.of(read_json(path))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    @classmethod
    def of(cls, known: dict[str, Any]) -> Self:
        """What JSON keeps of one.

        Raises TypeError or KeyError for fields that are missing, unknown or of another kind.
        """
        numbers = {n: float("nan") if known[n] is None else known[n] for n in NUMBERS}
        made, kinds = cls(**{**known, **numbers}), _kinds(cls)  # type: ignore[arg-type]  # a class is hashable
        for name, value in vars(made).items():
            if not _fits(value, kinds[name]):
                raise TypeError(f"{name} is no {kinds[name]}")
        return made

    def write(self, path: Path) -> None:
        """Keep it, whole or not at all."""
        plain = {n: None if v != v else v for n, v in asdict(self).items()}  # JSON has no NaN
        with replacing(path) as file:
            file.write((json.dumps(plain, indent=2) + "\n").encode("utf-8", "backslashreplace"))


NUMBERS = ("seconds", "memory")


_kinds = cache(get_type_hints)  # thousands of records are read


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of a field's kind, all that is in it included."""
    of, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if of is list:
        return isinstance(value, list) and all(_fits(v, parts[0]) for v in value)
    if of is dict:
        return isinstance(value, dict) and all(
            _fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items()
        )
    if parts:  # one of several
        return any(_fits(value, part) for part in parts)
    return isinstance(value, float | int if kind is float else kind)


def run(command: list[str], folder: Path, seconds: float, threads: int, key: str) -> Outcome:
    """Run a command to its end, or to the end of its time.

    folder   for its log
    seconds  that it has
    threads  told to the libraries that it may use

    When its time is over, or this process is interrupted, all that it started ends, too.
    """
    took, log = folder / "took.json", folder / "log.txt"
    took.unlink(missing_ok=True)
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, measured.__file__, str(took), *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            _stop(process)
            why = f"not done after {seconds / 60:.3g} minutes; give it more"
            return Outcome(key, LATE, why, command=command)
        except BaseException:
            _stop(process)
            raise
    if process.returncode != 0:
        return Outcome(key, FAILED, _last_words(log, process.returncode), command=command)
    cost = json.loads(took.read_text())
    took.unlink()
    return Outcome(
        key, DONE, seconds=cost["wall_seconds"], memory=cost["peak_bytes"], command=command
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the whole group to stop, then end what is left of it."""
    for sent, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
        try:
            os.killpg(process.pid, sent)
            end = time.monotonic() + patience
            while time.monotonic() < end:
                process.poll()
                os.killpg(process.pid, 0)  # raises once nobody is left
                time.sleep(0.05)
        except (ProcessLookupError, PermissionError):  # the latter: only ended ones are left
            break
    process.wait()


def _last_words(log: Path, status: int) -> str:
    """The last line that a failed command wrote, or how it ended."""
    if status in KILLED:
        return "it was ended from outside, most likely for lack of memory; see its log.txt"
    lines = log.read_bytes()[-4000:].decode("utf-8", "replace").splitlines()
    said = [printable(line.strip()) for line in lines if line.strip()]
    last = (said or [f"it ended with status {status}"])[-1]
    return last.removeprefix("quell: ")[:300]
