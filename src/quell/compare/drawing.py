"""Drawing: a figure for a paper, of denoised files of one scan, whoever made them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..evaluate import shells
from ..files import refuse_ending, refuse_place
from ..options import Options
from ..pipeline import known
from ..run import Run, Voice, set_threads
from ..series import InputError, Series, load, load_map, mask_of, open_scan, stem
from ..voice import printable
from .evaluating import names_of
from .results import read_result

if TYPE_CHECKING:
    from ..report import PaperFacts

ENDINGS = (".pdf", ".svg", ".png")
MOST_RESULTS = 8  # as many as there are colours to tell their curves by


@dataclass(frozen=True)
class Figure:
    """What is asked of a figure.

    out       .png, .svg or .pdf
    panels    of PANELS, in the order of their rows
    index     of the slice, as the file stores it; None for the middle of the mask
    volume    None for the middle one of the highest shell
    sigma     noise map; None to learn the noise
    window    data units shown as black and white
    labels    names of the scan and every result; none for those of the files
    """

    scan: Path
    results: Sequence[Path]
    out: Path
    panels: Sequence[str] = ("images", "residuals")
    plane: str = "axial"
    index: int | None = None
    volume: int | None = None
    sigma: Path | None = None
    mask: Path | None = None
    bval: Path | None = None
    bvec: Path | None = None
    window: tuple[float, float] | None = None
    labels: Sequence[str] = ()
    is_titled: bool = True
    is_cropped: bool = True
    is_lettered: bool = False
    width: float = 180.0  # mm
    dpi: int = 300
    force: bool = False

    def refuse(self) -> None:
        """Raise InputError for what can't be meant."""
        refuse_ending(self.out, ENDINGS)
        self._refuse_words()
        if self.window is not None and not self.window[0] < self.window[1]:  # NaN fails too
            low, high = self.window
            raise InputError(f"a window from {low:g} to {high:g} shows nothing; give LOW,HIGH", 2)
        n_files = 1 + len(self.results)
        if self.labels and len(self.labels) != n_files:
            raise InputError(
                f"{len(self.labels)} labels for {n_files} files; give one for NOISY and each "
                "result, with commas between",
                2,
            )
        if len(self.results) > MOST_RESULTS:
            raise InputError(
                f"{len(self.results)} results are too many to see; give up to {MOST_RESULTS}", 2
            )
        if self.out.exists() and not self.force:
            raise InputError(f"{self.out} exists; give --force to replace it")
        refuse_place(self.out)

    def _refuse_words(self) -> None:
        from ..report import PANELS, PLANES, refuse_size  # bring matplotlib

        refuse_size(self.width, self.dpi)
        if not self.panels:
            raise InputError(f"no panel is named; choose from {', '.join(PANELS)}", 2)
        for panel in self.panels:
            if panel not in PANELS:
                raise InputError(f"{panel!r} is no panel; choose from {', '.join(PANELS)}", 2)
        if self.plane not in PLANES:
            raise InputError(f"{self.plane!r} is no plane; choose from {', '.join(PLANES)}", 2)


def draw_files(asked: Figure, options: Options, voice: Voice) -> None:
    """Draw denoised files of one scan.

    options  noise of the scan, and threads
    voice    told what the noise is, where it is learned

    Raises InputError for a scan, a map or a result that can't be used.
    """
    from ..report import sheet_of, write_sheet

    asked.refuse()
    scan = load(asked.scan, asked.bval, asked.bvec, asked.mask)
    if np.iscomplexobj(scan.data):
        raise InputError(f"{asked.scan} is complex; give magnitudes of the scan and the results")
    set_threads(options.threads)
    facts = facts_of(asked, scan, options, voice)
    look = asked.width, asked.dpi, asked.is_titled, asked.is_lettered
    write_sheet(asked.out, sheet_of(facts, *look))


def facts_of(asked: Figure, scan: Series, options: Options, voice: Voice) -> "PaperFacts":
    """What the figure shows."""
    from ..report import PaperFacts

    named = names_of(asked.results)
    labels = [printable(label) for label in asked.labels or [stem(asked.scan).name, *named]]
    scan = replace(scan, mask=mask_of(scan))
    index, volume = index_of(asked, scan), volume_of(asked, scan)
    sigma, covariance = noise_for(asked, scan, options, voice)
    return PaperFacts(
        name=labels[0],
        noisy=scan.data,
        results=_results(labels[1:], asked.results, scan),
        mask=scan.where,
        affine=scan.affine,
        volume=volume,
        panels=asked.panels,
        sigma=sigma,
        covariance=covariance,
        bvals=scan.bvals,
        bvecs=scan.bvecs,
        plane=asked.plane,
        index=index,
        window=asked.window,
        is_cropped=asked.is_cropped,
    )


def index_of(asked: Figure, scan: Series) -> int | None:
    """The asked slice; None for the middle. Raises InputError (status 2) for one outside."""
    from ..report import axis_through

    n = scan.data.shape[axis_through(asked.plane, scan.affine)]
    if asked.index is not None and not 0 <= asked.index < n:
        raise InputError(
            f"there is no {asked.plane} slice {asked.index}; the scan has 0 to {n - 1}", 2
        )
    return asked.index


def volume_of(asked: Figure, scan: Series) -> int:
    """The asked volume, or the middle one of the highest shell."""
    if asked.volume is None:
        group = shells(scan.bvals, scan.n_volumes)[-1]
        return int(group[len(group) // 2])
    if not 0 <= asked.volume < scan.n_volumes:
        last = scan.n_volumes - 1
        raise InputError(f"there is no volume {asked.volume}; the scan has 0 to {last}", 2)
    return asked.volume


def noise_for(
    asked: Figure, scan: Series, options: Options, voice: Voice
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The noise map, and the noise's covariance: learned where it isn't given but needed."""
    from ..report import NEED_SIGMA

    given = None if asked.sigma is None else read_sigma(asked.sigma, scan)
    is_needed = given is None and not NEED_SIGMA.isdisjoint(asked.panels)
    if not is_needed and "spectrum" not in asked.panels:
        return given, None
    scan, _, _, noise, _ = known(scan, options, Run(voice=voice))
    if given is not None:
        return given, noise.covariance
    if noise.levels is None:
        return noise.sigma, noise.covariance
    return np.asarray(noise.sigma[..., None] * noise.levels, np.float32), noise.covariance


def read_sigma(path: Path, scan: Series) -> np.ndarray:
    """(X, Y, Z), or (X, Y, Z, V) where volumes differ in noise. InputError for another grid."""
    shape = open_scan(path).shape
    if len(shape) == 4 and shape[3] > 1:
        try:
            return read_result(path, scan)
        except InputError:
            raise InputError(
                f"the noise map {path} is {shape} and the scan {scan.data.shape}, or they lie "
                "elsewhere; give one on the scan's grid, of one volume or of as many"
            ) from None
    return load_map(path, scan)


def _results(
    labels: Sequence[str], paths: Sequence[Path], scan: Series
) -> Iterator[tuple[str, np.ndarray]]:
    """Every result by its label, read one after the other."""
    for label, path in zip(labels, paths, strict=True):
        try:
            yield label, read_result(path, scan)
        except InputError as error:
            raise InputError(f"{path} can't be drawn: {error}") from None
