"""Processes: several that train one network together, started by torchrun or accelerate launch.

Idea    Every process holds the whole network and takes the same steps; what they exchange is one
        sum a step. Whoever starts them says so in the environment, as WORLD_SIZE and RANK.
Here    accelerate opens the connection (gloo between CPUs, nccl between GPUs). The main process
        reads, writes and speaks, the others wait for it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

from .run import Alone, Processes
from .series import InputError

PATIENCE = timedelta(days=7)  # others wait while the main process prepares; a death is seen at once


class ProcessLostError(InputError):
    """Another process of this run has ended, so this one can't go on."""


@dataclass(frozen=True)
class Together:
    """One of several processes that are connected.

    rank   0 is the main one
    count  how many there are
    device  where sums are made: this process' GPU, or the CPU
    """

    rank: int
    count: int
    device: torch.device

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of every process' values, the same bytes in all of them."""
        total = values.to(self.device, copy=True)
        try:
            torch.distributed.all_reduce(total)
        except RuntimeError as error:  # gloo and nccl have no exception of their own
            raise ProcessLostError(
                "another process of this training ended; run the same command again to go on"
            ) from error
        return total.to(values.device)


def is_one_of_several() -> bool:
    """Whether this process was started as one of several."""
    return _number("WORLD_SIZE", 1) > 1


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return not is_one_of_several() or _number("RANK", 0) == 0


def n_on_this_machine() -> int:
    """How many of the processes share this machine's cores and GPUs."""
    return _number("LOCAL_WORLD_SIZE", _number("WORLD_SIZE", 1)) if is_one_of_several() else 1


def threads_of_each(cores: int) -> int:
    """How many threads each process takes of this machine's cores."""
    return max(1, cores // n_on_this_machine())


def device_of_this(name: str) -> str:
    """The device of this process, by the name of a device that is meant for all of them.

    Raises InputError (status 2) for one that several processes can't have each for itself.
    """
    if not is_one_of_several():
        return name
    n, n_gpus = n_on_this_machine(), torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    if name == "cpu":
        return name
    if name != "cuda":
        raise InputError(f"{n} processes can't share {name}; give --device cuda or cpu", 2)
    if n > n_gpus:
        raise InputError(
            f"{n} processes need a GPU each and there are {n_gpus}; start fewer, or give "
            "--device cpu",
            2,
        )
    return f"cuda:{_number('LOCAL_RANK', 0)}"


@contextmanager
def connected(device: torch.device) -> Iterator[Processes]:
    """This process connected to the others of its run, if it was started as one of several.

    device  where this process works

    Raises InputError where accelerate is missing, or the others can't be reached.
    """
    if not is_one_of_several():
        yield Alone()
        return
    _connect(device)
    try:
        yield Together(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)
    finally:
        torch.distributed.destroy_process_group()


def _connect(device: torch.device) -> None:
    # Its functions bind the connection as a default when they are first imported: imported later,
    # they would keep it, and its threads, beyond `connected`, and Python aborts at its end.
    import torch.distributed.nn.functional

    try:
        from accelerate import PartialState
    except ImportError:
        raise InputError(
            "several processes need the package accelerate; install quell[multi-gpu], or start one"
        ) from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes can't reach each other ({str(error).splitlines()[0][:120]}); "
            "start them with torchrun or accelerate launch"
        ) from error


def main_first(processes: Processes, work: Callable[[], None]) -> None:
    """The main process does the work while the others wait; where it fails, all of them end."""
    failed = torch.zeros(1)
    try:
        if processes.rank == 0:
            work()
    except BaseException:
        failed += 1
        raise
    finally:
        failed = processes.sum(failed)
    if failed:
        raise ProcessLostError("the main process failed")


def _number(name: str, default: int) -> int:
    """A whole number from the environment, where launchers write it."""
    word = os.environ.get(name, "")
    return int(word) if word.isdecimal() else default
