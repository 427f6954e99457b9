"""Memory: what a scan will need, known before it is given to anybody, and what it needed.

Source  Measured here: the peak of whole `quell denoise` commands, report included, on magnitude
        scans of 5 and 61 MB in float32 (64 x 64 x 20 x 16 and 96 x 96 x 50 x 33; torch 2.13, CPU).
        Fixed, which is Python, torch and the drawing of the report: 0.40 GiB (patch2self, mppca)
        to 0.53 (c2s); of joint, whose network has grown since, 0.80 (`benchmarks/cohort.py`), and
        0.9 with a torch that is built for GPUs. And times the scan: 3.1 joint, 3.7 patch2self, 3.8
        mppca, 5.4 c2s.
Trap    Too little is worse than too much: a worker that runs out of memory takes its scan along.
        So all is rounded up by a third, and a method that was not measured counts as the worst.
        On a GPU the same is assumed of the CPU's memory; that of the GPU is one scan's alone.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..checks.header import available_memory
from ..run import peak_memory_bytes
from ..series import InputError, open_scan
from .job import Job

GIB = 2**30
FIXED = 1.1 * GIB
NEEDS = {"joint": 4.5, "patch2self": 5.0, "mppca": 5.0, "c2s": 7.5}  # times the scan in float32
WORST = 8.0
JUDGED = 5.0  # more of it, where a second, noisier scan is denoised, too
SHARE = 0.9  # of what is free; the rest is the system's


def size_of(job: Job) -> int:
    """Bytes of a scan as float32, twice that for a pair; 0 for what can't be read."""
    try:
        size = 4 * math.prod(open_scan(job.scan).shape)
    except (InputError, OSError):  # said in words when its turn comes
        return 0
    return 2 * size if job.phase else size


def need_of(job: Job, size: int) -> int:
    """Bytes that denoising a scan of that size will take at its peak."""
    times = NEEDS.get(str(job.options["method"]), WORST) + (JUDGED if job.recorrupt else 0)
    return int(FIXED + times * size)


def budget(asked_gib: float | None) -> int:
    """Bytes that all scans on this machine may take together."""
    if asked_gib is not None:
        if not asked_gib > 0:
            raise InputError(f"{asked_gib:g} GiB of memory are none; give --memory more", 2)
        return int(asked_gib * GIB)
    limits = [limit for limit in (available_memory(), _limit_of_group()) if limit]
    return int(SHARE * min(limits)) if limits else 4 * GIB


def workers_that_fit(needs: Sequence[int], cores: int, memory: int) -> int:
    """How many scans of usual size are worked on at once; no more than scans, or than cores."""
    if not needs:
        return 1
    usual = sorted(needs)[len(needs) // 2]
    return max(1, min(len(needs), cores, memory // usual))


def start_of_work() -> None:
    """From here on the peak of this process counts anew, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_of_work() -> int:
    """Bytes, the largest resident memory since `start_of_work`."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return peak_memory_bytes()


def _limit_of_group() -> int | None:
    """Bytes that a batch job or a container may take; None where nothing says so."""
    try:
        from distributed.system import MEMORY_LIMIT
    except ImportError:
        return None
    return int(MEMORY_LIMIT) or None
