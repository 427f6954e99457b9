"""Who denoises the scan with the structures and without: a method of quell, or any other program.

Here    A method of quell runs in this process, with one noise model and one mask for all runs. One
        that trains is trained anew on each scan with structures, as on a scan of a patient who has
        them, and the scan without is denoised by that same network: what differs between both
        results is then the structures' own, not that of another training.
        Any other program is a command, and runs on files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..compare.contestants import Contestant, gradients_of
from ..compare.results import read_result
from ..compare.running import DONE, run
from ..methods import Method, trains
from ..noise import NoiseModel
from ..options import Options
from ..pipeline import Result, denoise
from ..probing import Probe
from ..run import State, Voice
from ..series import InputError, Series, write_nifti
from .asked import Probing


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
