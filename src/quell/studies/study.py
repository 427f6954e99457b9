"""What is asked of a simulation: what is scanned, how, and with how much noise."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..series import InputError
from ..simulate.coils import Acquisition
from ..simulate.corruption import LAG_1_MAX, LAWS
from ..simulate.phantom import INSTANCES
from .levels import LEVELS, PSNR_MAX


@dataclass(frozen=True)
class Amount:
    """How much noise: exactly one of these."""

    snr: float | None = None  # signal of the source over sigma
    sigma: float | None = None  # of one Gaussian part, units of the scan
    level: int | None = None  # of LEVELS
    noisy_psnr: float | None = None  # published PSNR of the noisy scan, dB

    @property
    def psnr(self) -> float | None:
        """The published PSNR that is to be met, dB; None where sigma is known."""
        return self.noisy_psnr if self.level is None else LEVELS[self.level]

    def sigma_of(self, signal: float) -> float:
        """Sigma where no PSNR is to be met; signal is the source's."""
        return float(self.sigma or 0) if self.snr is None else signal / self.snr

    def refuse(self) -> None:
        """Raise InputError (status 2) for what can't be meant."""
        given = {
            f"--{name.replace('_', '-')}": value
            for name, value in vars(self).items()
            if value is not None
        }
        if not given:
            raise InputError(
                "how much noise is not said: give --snr, --sigma, --level or --noisy-psnr", 2
            )
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} exclude each other; give one of them", 2)
        ((option, value),) = given.items()
        if option == "--level" and value not in LEVELS:
            raise InputError(f"--level {value} is none; give 1 to {len(LEVELS)}, 1 the noisiest", 2)
        if not 0 < value < math.inf:
            raise InputError(f"{option} {value:g} is not possible; give a number above 0", 2)
        if option == "--noisy-psnr" and value > PSNR_MAX:
            raise InputError(f"{option} {value:g} is no noise; give {PSNR_MAX:g} or less", 2)


@dataclass(frozen=True)
class Study:
    """What is asked of a simulation.

    amount       how much noise
    phantom      name in INSTANCES, "" where `scan` is given
    scan         a clean scan of one's own, with its bval, bvec and mask if they lie elsewhere
    law          of noise that is put on the image; "" for noise in k-space
    correlation  of noise on the image, lag 1 along x, y, z
    acquisition  how the scan goes through k-space; of noise on the image only its n_coils counts
    repetitions  independent draws of one volume, as the 4th axis; None: all volumes, one draw each
    volume       which one that is, counted from 0
    has_repeat   a second acquisition, too
    """

    amount: Amount
    phantom: str = "B"
    scan: Path | None = None
    bval: Path | None = None
    bvec: Path | None = None
    mask: Path | None = None
    law: str = ""
    correlation: tuple[float, float, float] | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    repetitions: int | None = None
    volume: int | None = None
    has_repeat: bool = False
    seed: int = 0

    @property
    def is_in_kspace(self) -> bool:
        """Whether the noise is; else it is put on the image."""
        return not self.law

    @property
    def noise_law(self) -> str:
        """Of the final image."""
        return self.acquisition.law if self.is_in_kspace else self.law

    @property
    def n_coils(self) -> int:
        """N of the noise's law: 1 but for nc-chi."""
        return self.acquisition.n_coils if self.noise_law == "nc-chi" else 1

    def correlation_on(self, shape: tuple[int, ...]) -> tuple[float, float, float]:
        """Of one Gaussian part at neighbours along x, y, z."""
        if self.is_in_kspace:
            return self.acquisition.correlation(shape)
        return self.correlation or (0.0, 0.0, 0.0)

    def refuse(self) -> None:
        """Raise InputError (status 2) for what can't be meant."""
        self.amount.refuse()
        if bool(self.phantom) == bool(self.scan):
            raise InputError("--phantom or --from says what is scanned; give one of them", 2)
        if self.phantom and self.phantom not in INSTANCES:
            known = ", ".join(INSTANCES)
            raise InputError(f"no phantom is called {self.phantom}; give {known}", 2)
        if self.phantom and (self.bval or self.bvec or self.mask):
            raise InputError("a phantom has its own mask and gradients; leave yours out", 2)
        if self.seed < 0:
            raise InputError(f"--seed {self.seed} is negative; give 0 or more", 2)
        if self.repetitions is not None and self.repetitions < 1:
            raise InputError(f"{self.repetitions} repetitions are none; give 1 or more", 2)
        if self.repetitions is None and self.volume is not None:
            raise InputError("--volume says what --repetitions repeats; give both", 2)
        self._refuse_noise()

    def _refuse_noise(self) -> None:
        self.acquisition.refuse()
        if self.is_in_kspace:
            if self.correlation is not None:
                raise InputError(
                    "--correlation is of noise on the image; give --law, or --partial-fourier or "
                    "--zero-fill, which correlate noise in k-space",
                    2,
                )
            return
        if self.law not in LAWS:
            raise InputError(f"--law {self.law} is unknown; give {', '.join(LAWS)}", 2)
        n_coils = self.acquisition.n_coils
        if replace(self.acquisition, n_coils=1) != Acquisition():
            raise InputError(
                "--law puts noise on the image, which has no k-space to combine or leave out; "
                "leave --law out",
                2,
            )
        if n_coils > 1 and self.law != "nc-chi":
            raise InputError(
                f"{self.law} noise on the image is that of one coil; give --law nc-chi, or leave "
                "--law out for coils in k-space",
                2,
            )
        if not all(abs(r) <= LAG_1_MAX for r in self.correlation or ()):
            raise InputError(f"a --correlation is out of reach; stay within ±{LAG_1_MAX}", 2)
