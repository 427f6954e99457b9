"""Run: what one run of a method is given besides the data: seed, device, folder, and a voice.

Idea    A method asks its run for random numbers, a device and a place to resume from; it never
        opens a file, picks a device or prints.
Differs nothing
"""

import hashlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from .glimpse import Glimpse

State = dict[str, torch.Tensor]  # what a method learned: tensors only, saved as safetensors


class Voice:
    """How a run speaks, and what it shows of its work; this one keeps all to itself.

    Only the thread that works calls it.
    """

    def say(self, line: str) -> None:
        """A sentence for the person."""

    def stage(self, name: str) -> None:
        """A stage of the run begins."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """So much of a task is done."""

    def look_at(self, choose: Callable[[], "Glimpse"]) -> None:
        """There is a slice that may be looked at while a network learns."""

    def learned(
        self, task: str, losses: Sequence[float], state: Callable[[], State] | None
    ) -> None:
        """A step is done; `state` is what has been learned so far, None where not all of it is."""

    def show(self, denoised: np.ndarray) -> None:
        """The method's result, (X, Y, Z, V) in the units that it got."""

    def judged(self, level: str, sentence: str) -> None:
        """The verdict on the result."""


class Processes(Protocol):
    """The processes that share one run; `rank` of this one, from 0, which is the main one."""

    @property
    def rank(self) -> int: ...

    @property
    def count(self) -> int: ...

    def sum(self, values: torch.Tensor) -> torch.Tensor: ...


class Alone:
    """The only process of a run."""

    rank, count = 0, 1

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Values (any shape) as they are: there is nothing to add."""
        return values


class Silent(Voice):
    """The voice of a run started from Python, of a test, and of --quiet."""


@dataclass
class Run:
    """One run of one method.

    seed       every random number of the run follows from it
    device     where the network works
    folder     where checkpoints are kept; None: the run can't be resumed
    voice      who tells the person how far it is
    parts      batches of one step of a training, of which the mean is taken
    processes  who share the parts
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    folder: Path | None = None
    voice: Voice = field(default_factory=Silent)
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    parts: int = 1
    processes: Processes = field(default_factory=Alone)

    def rng(self, purpose: str, step: int = 0, part: int = 0) -> torch.Generator:
        """The generator for one part of one step of one purpose; the same with the same seed.

        A fresh generator a step, so that a resumed run draws what an uninterrupted one would.
        """
        words = f"{self.seed}/{purpose}/{step}" + (f"/{part}" if part else "")
        number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:7], "big")
        return torch.Generator().manual_seed(number)

    def keep(self, name: str, array: np.ndarray) -> None:
        """Keep a side product (losses, matched states, spread) for the sidecar and the report."""
        self.kept[name] = array

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Say that a stage begins, and add the seconds spent inside to the stage's."""
        self.voice.stage(stage)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" takes CUDA, then MPS, then the CPU.

    Raises ValueError when that device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, is_there in there.items() if is_there), "cpu"))
    kind = name.split(":")[0]
    if kind not in ("cpu", *there):
        raise ValueError(f"device {name!r} is not known; give auto, cpu, cuda, cuda:N or mps")
    if not there.get(kind, True):
        raise ValueError(f"device {name!r} is not on this machine; give --device cpu")
    try:
        device = torch.device(name)
    except RuntimeError:  # "cuda:first"
        raise ValueError(f"device {name!r} is not known; give {kind} or {kind}:N") from None
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not on this machine; give --device cuda")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":  # torch takes it on older ones, too, and makes it of float32
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    capability = torch.backends.cpu.get_cpu_capability()  # only "AVX512" CPUs can have it
    return "AVX512" in capability and _cpu_has("amx_bf16", "avx512_bf16")


def onto(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the device, without waiting for what a GPU is still at.

    Only on the way to a GPU: what comes from one has to be there before it is read.
    """
    return x.to(device, non_blocking=device.type == "cuda")


def generator_on(device: torch.device, rng: torch.Generator) -> torch.Generator:
    """A GPU's own generator, seeded by one of the CPU, so that what it draws need not travel.

    For a CPU the same one. A GPU draws other numbers than a CPU, the same whenever it is asked.
    """
    if device.type != "cuda":
        return rng
    seed = int(torch.randint(2**62, (1,), generator=rng))
    return torch.Generator(device).manual_seed(seed)


def _cpu_has(*flags: str) -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux: unknown, so float32
        return False
    return any(flag in words for flag in flags)


def set_threads(threads: int | None) -> int:
    """Let torch and the linear algebra use that many CPU threads (None: all cores); how many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n_threads = threads or cores or 1
    torch.set_num_threads(n_threads)
    return n_threads


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB
