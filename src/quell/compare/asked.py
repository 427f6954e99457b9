"""What is asked of a comparison."""

from dataclasses import dataclass
from pathlib import Path

from ..files import refuse_place
from ..series import InputError


@dataclass(frozen=True)
class Comparison:
    """What one comparison reads, runs and writes.

    scan      the noisy scan
    out       folder
    methods   "all", or names with commas, each with :preset where wanted
    externals NAME=COMMAND each
    truth     of the scan, where it is known
    repeat    a second acquisition of the same volumes
    recorrupt add noise to the scan, have that denoised, and judge by the rest
    probe     have each denoise the scan with known structures in it, too
    minutes   that each contestant has
    preset    of methods that name none
    again     run what is done already
    """

    scan: Path
    out: Path
    methods: str = "all"
    externals: tuple[str, ...] = ()
    truth: Path | None = None
    repeat: Path | None = None
    recorrupt: bool = False
    probe: bool = False
    mask: Path | None = None
    bval: Path | None = None
    bvec: Path | None = None
    noise_in: Path | None = None
    minutes: float = 10.0
    preset: str = "fast"
    again: bool = False
    named: str = ""  # the scan's name, where `scan` is a copy with more noise
    kind: str = "comparison"  # or "evaluation", of results that are there: the name of its tables

    @property
    def title(self) -> str:
        """The name of the scan that was given."""
        return self.named or self.scan.name

    def refuse(self) -> None:
        """Raise InputError for what can't be meant."""
        self.refuse_referees()
        if not self.minutes > 0:  # NaN fails too
            raise InputError(f"{self.minutes:g} minutes are none; give more than 0", 2)
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out} is a file; give a folder", 2)
        given = (self.scan, self.truth, self.repeat, self.mask, self.bval, self.bvec, self.noise_in)
        for path in filter(None, given):
            if self.out.resolve() in path.resolve().parents:
                raise InputError(f"{path} lies in {self.out}; give another folder, or move it", 2)
        is_new = not self.out.exists() or not any(self.out.iterdir())
        if not is_new and not (self.out / f"{self.kind}.json").exists():
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise InputError(
                f"{self.out} holds something else than {article} {self.kind}; give an empty or a "
                "new folder"
            )
        refuse_place(self.out)

    def refuse_referees(self) -> None:
        """Raise InputError where more than one thing is to judge."""
        if bool(self.truth) + bool(self.repeat) + self.recorrupt > 1:
            which = "--truth and --repeat" if self.kind == "evaluation" else (
                "--truth, --repeat and --recorrupt")  # fmt: skip
            raise InputError(f"{which} exclude each other; give one of them", 2)
