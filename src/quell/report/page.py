"""The report: one HTML file that opens anywhere and asks nothing from the network.

Every text that comes from outside (file names, sidecars, settings) passes through the template's
autoescape; the page also carries a content policy that allows no script and no address at all.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ..evaluate import ResidualStatistics, headline, shells, verdict
from ..evaluate.reference import finite
from ..evaluate.verdict import VOLUME_RATIO, shell_name
from ..series import replacing
from . import figures

RESIDUAL_WINDOW = 3.0  # ± σ; noise leaves it in 0.3 % of the voxels, so anatomy shows
MEAN_WINDOW = 4.0  # ± standard errors of an averaged residual
LIMITS = (
    "This is research software, not a medical device: do not base a diagnosis on its output.",
    "No denoiser can restore detail that lies below the noise; it can only avoid removing what "
    "stands above it. A small lesion in a single volume is what is most easily lost.",
    "A clean residual is necessary, not sufficient: a method that changes nothing has one too, "
    "and detail that was added out of nothing is small in it.",
    "Motion, eddy-current distortion, Gibbs ringing and bias fields are not corrected here. "
    "Denoise first, before any step that interpolates.",
)


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """Everything that the page shows, as plain data."""

    title: str  # the name of the input file
    noisy: np.ndarray  # (X, Y, Z, V) data units
    denoised: np.ndarray  # (X, Y, Z, V) data units
    sigma: np.ndarray  # (X, Y, Z) noise map, data units; (X, Y, Z, V) where volumes differ in it
    mask: np.ndarray  # (X, Y, Z) bool
    affine: np.ndarray  # (4, 4) mm
    bvals: np.ndarray | None  # (V,) s/mm²
    statistics: ResidualStatistics
    command: str  # reproduces the result
    settings: Mapping[str, Any]  # method, preset, seed, and every field of the method
    run: Mapping[str, Any]  # seconds per stage, peak memory, device, versions; may be nested
    losses: Sequence[float] = ()
    distances: Sequence[float] = ()  # from the input, after every step of a chain
    findings: Sequence[Mapping[str, str]] = ()  # of the checks: code, level, sentence, advice
    warnings: Sequence[str] = ()  # said during the run
    citations: Sequence[str] = ()  # the method's paper, the noise model's
    methods_paragraph: str = ""  # ready to paste
    limits: Sequence[str] = ()  # of this method, in front of the general ones
    eigenvalues: np.ndarray | None = None  # (K,) component variances, in units of σ²
    noise_edge: float | None = None  # largest eigenvalue that noise reaches, same unit
    floor_corrected: bool = False  # the method took the Rician floor off
    facts_of_scan: Mapping[str, str] = field(default_factory=dict)  # grid, voxel size, shells …

    def noise_of(self, v: int) -> np.ndarray:
        """(X, Y, Z) noise map of a volume."""
        return self.sigma if self.sigma.ndim == 3 else self.sigma[..., v]


def write_report(path: Path, facts: ReportFacts) -> None:
    """Write the page, whole or not at all.

    path   where to; an existing file is replaced only by a complete one
    facts  what to show
    """
    page = page_of(facts).encode("utf-8", "backslashreplace")  # file names may hold bare bytes
    with replacing(path) as file:
        file.write(page)


def page_of(facts: ReportFacts) -> str:
    """The whole page as text."""
    judgements = verdict(facts.statistics, facts.floor_corrected)
    level, sentence = headline(judgements)
    return template("report.html.j2").render(
        facts=facts,
        judgements=judgements,
        level=level,
        sentence=sentence,
        scan=facts.facts_of_scan or _facts_of_scan(facts),
        pictures=_pictures(facts),
        averages=_averages(facts),
        charts=_charts(facts),
        settings=_rows(facts.settings),
        run=_rows(facts.run),
        limits=[*facts.limits, *LIMITS],
    )


def template(name: str) -> Template:
    """A page's template; whatever is put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def volumes_to_show(facts: ReportFacts) -> dict[str, int]:
    """A typical volume of the highest shell, and the first b=0, by what to call them.

    Typical is the volume whose residual is the median of its shell, so that the picture neither
    flatters nor slanders; the volumes that stand out are shown apart.
    """
    groups = shells(facts.bvals, facts.noisy.shape[3])
    ratio = facts.statistics.ratio_per_volume
    chosen: dict[str, int] = {}
    for group in (groups[-1], groups[0]):
        typical = int(group[np.argsort(ratio[group])[len(group) // 2]])
        name = f"volume {typical}"
        if facts.bvals is not None:
            name = f"{shell_name(float(facts.bvals[typical]))}, {name}"
        chosen[name] = typical
    return chosen


def _pictures(facts: ReportFacts) -> list[dict[str, Any]]:
    """Before, after and residual of each shown volume, in three planes and one large one."""
    view = figures.view_of(facts.mask, facts.affine)
    pictures: list[dict[str, Any]] = []
    for name, v in volumes_to_show(facts).items():
        noisy, denoised = facts.noisy[..., v], facts.denoised[..., v]
        window = figures.window_of(denoised, facts.mask)
        limits = (-RESIDUAL_WINDOW, RESIDUAL_WINDOW)
        residual = over_sigma(noisy - denoised, facts.noise_of(v))
        entry: dict[str, Any] = {
            "name": name,
            "window": f"{_number(window[0])} to {_number(window[1])}",
        }
        for key, volume, shown in (
            ("before", noisy, window),
            ("after", denoised, window),
            ("residual", residual, limits),
        ):
            entry[key] = image_of(figures.planes(volume, view, shown))
            if not pictures:  # the first volume opens the page
                large = figures.planes(volume, view, shown, width=600, names=("axial",))
                entry[f"large_{key}"] = image_of(large)
        pictures.append(entry)
    return pictures


def _averages(facts: ReportFacts) -> list[dict[str, str]]:
    """Maps over many volumes, in which removed anatomy stands out of the noise."""
    view = figures.view_of(facts.mask, facts.affine)
    group = shells(facts.bvals, facts.noisy.shape[3])[-1]
    rms, mean = _residual_maps(facts, group)
    worst = int(np.argmax(facts.statistics.ratio_per_volume))
    odd = over_sigma(facts.noisy[..., worst] - facts.denoised[..., worst], facts.noise_of(worst))
    sigma, of = facts.noise_of(0), "" if facts.sigma.ndim == 3 else " of volume 0"
    window = figures.window_of(sigma, facts.mask)
    m, r = MEAN_WINDOW, RESIDUAL_WINDOW
    tiles = (
        ("Size of the residual", "rms over all volumes, in σ: black is 1, as it should be; red is "
         "more than the noise, blue is noise left behind.", rms, (0.0, 2.0), "berlin"),
        ("Averaged residual", f"mean of {len(group)} volumes × √{len(group)}, in σ: noise stays "
         f"as it is, what was always removed adds up. ±{m:.0f} σ.", mean, (-m, m), "gray"),
        ("Largest residual", f"volume {worst}, the one furthest from the noise. ±{r:.0f} σ.",
         odd, (-r, r), "gray"),
        (f"Noise map{of}", f"σ, {_number(window[0])} to {_number(window[1])} in the units of the "
         "scan.", sigma, window, "viridis"),
    )  # fmt: skip
    return [
        {
            "title": title,
            "text": text,
            "image": image_of(figures.planes(volume, view, win, colours)),
        }
        for title, text, volume, win, colours in tiles
    ]


def _residual_maps(facts: ReportFacts, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rms of residual/σ over all volumes, and mean over a group times √n; (X, Y, Z) each."""
    n_volumes = facts.noisy.shape[3]
    squares = np.zeros(facts.mask.shape, dtype=np.float32)
    total = np.zeros(facts.mask.shape, dtype=np.float32)
    members = set(group.tolist())
    for v in range(n_volumes):
        z = over_sigma(facts.noisy[..., v] - facts.denoised[..., v], facts.noise_of(v))
        squares += z**2
        if v in members:
            total += z
    rms = np.sqrt(squares / n_volumes)
    rms = np.where(facts.noise_of(0) > 0, rms, 1.0)  # 1 is drawn black
    return rms, total / np.sqrt(len(group))


def _charts(facts: ReportFacts) -> dict[str, dict[str, str]]:
    """Charts in both themes; a key is missing when there is nothing to draw."""
    s = facts.statistics
    drawings: dict[str, Callable[[figures.Theme], bytes]] = {
        "volumes": lambda theme: figures.volume_chart(
            s.signal_before, s.signal_after, s.ratio_per_volume, VOLUME_RATIO, theme
        ),
        "autocorrelation": lambda theme: figures.autocorrelation_chart(
            s.autocorrelation, s.autocorrelation_expected, theme
        ),
    }
    losses = np.asarray(facts.losses, dtype=float)
    if np.isfinite(losses).any():
        drawings["loss"] = lambda theme: figures.loss_chart(facts.losses, theme)
    if len(facts.distances) > 1:
        drawings["distance"] = lambda theme: figures.distance_chart(facts.distances, theme)
    if facts.eigenvalues is not None and len(facts.eigenvalues):
        values = facts.eigenvalues
        drawings["spectrum"] = lambda t: figures.spectrum_chart(values, facts.noise_edge, t)
    return {
        key: {"light": image_of(draw(figures.LIGHT)), "dark": image_of(draw(figures.DARK))}
        for key, draw in drawings.items()
    }


def _facts_of_scan(facts: ReportFacts) -> dict[str, str]:
    """What kind of scan it is, in a line."""
    s, shape = facts.statistics, facts.noisy.shape
    voxel = " × ".join(f"{mm:.3g}" for mm in np.linalg.norm(facts.affine[:3, :3], axis=0))
    groups = list(zip(map(float, s.shell_bvals), shells(facts.bvals, shape[3]), strict=True))
    maps = [facts.noise_of(v) for v in range(shape[3])]
    level = np.array([np.median(sigma[facts.mask & (sigma > 0)]) for sigma in maps])
    snr = ", ".join(
        f"{(s.signal_before[group] / level[group]).mean():.0f} ({shell_name(b)})"
        for b, group in groups
    )
    noise = _number(level.min())
    if facts.sigma.ndim == 4:
        noise += f" to {_number(level.max())}"
    return {
        "grid": " × ".join(str(n) for n in shape[:3]),
        "voxel": f"{voxel} mm",
        "volumes": ", ".join(f"{len(group)} of {shell_name(b)}" for b, group in groups),
        "noise": f"σ = {noise}",
        "mean SNR before": snr,
    }


def over_sigma(residual: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Residual in units of σ, 0 where no noise is known."""
    known = sigma > 0
    return np.where(known, finite(residual) / np.where(known, sigma, 1), 0.0)


def _rows(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as lines of a table: ("seconds / train", "12.3")."""
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += _rows(value, f"{name} / ")
        else:
            rows.append((name, _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _number(value: float) -> str:
    """Three digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def image_of(png: bytes) -> str:
    """A picture as an address that holds it."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")
