"""What the report says before anybody reads on: the scan in a line, the verdict in four."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Finding
from ..evaluate import Judgement, ResidualStatistics, shells
from ..evaluate.judgement import LEVELS, shell_name
from ..evaluate.outliers import Outlier, SliceResiduals, share_of
from .facts import ReportFacts
from .pictures import number

STRUCTURE = {
    "residual-follows-image": "it follows the image",
    "residual-structure": "neighbours are more alike than the noise's",
    "residual-strength": "it is not equally strong in bright and dark tissue",
    "clusters": "single volumes lost structure",
    "finest-detail": "something was added",
}
MOST_LISTED = 12  # slices, volumes or places; more are counted


@dataclass(frozen=True)
class Answer:
    """One question that everybody asks, and its answer."""

    level: str
    title: str
    said: str
    where: str  # the section that shows it


def answers(
    judgements: Sequence[Judgement],
    findings: Sequence[Finding],
    found: Sequence[Outlier],
    residuals: SliceResiduals,
) -> list[Answer]:
    """How much was removed, whether it has structure, what stands out, and what the checks said.

    found  slices that stand out, with those that the checks found dark
    """
    by_code = {j.code: j for j in judgements}
    size = by_code["residual-size"]
    tissue = [by_code[code] for code in STRUCTURE if by_code[code].level in LEVELS[2:]
              or by_code[code].is_remark]  # fmt: skip
    volumes = by_code["single-volumes"]
    slices = "No slice stands out"
    if found:
        n, share = sum(len(o.slices) for o in found), 100 * share_of(found, residuals)
        slices = f"{n} slice{'s' * (n > 1)} ({share:.2g} %) stand{'s' * (n == 1)} out"
    if volumes.level == "warning":
        slices = f"{slices}; volumes: {volumes.measured}" if found else _capital(volumes.measured)
    standing = [by_code[code].level for code in ("single-volumes", "slices")]
    faults = [f.level for f in findings if f.is_fault and f.slices]
    serious = [f.level for f in findings if f.level in LEVELS[2:]]
    n = len(serious)
    return [
        Answer(size.level, "Removed", f"{size.measured} times the noise", "averages"),
        Answer(_worst(j.level for j in tissue), "Structure in what was removed",
               _capital(", ".join(STRUCTURE[j.code] for j in tissue)) or "None found", "noise"),
        Answer(_worst(standing + faults), "Slices and volumes", slices, "outliers"),
        Answer(_worst(serious), "Checks of the scan",
               f"{n} remark{'s' * (n > 1)}" if n else "Nothing found", "findings"),
    ]  # fmt: skip


def listed(found: Sequence[Outlier]) -> list[tuple[str, str, str, str]]:
    """Volume, slices, what, and size of those that stand out, cut short."""
    rows = []
    for outlier in found[:MOST_LISTED]:
        slices = ", ".join(str(z) for z in outlier.slices[:MOST_LISTED])
        if more := len(outlier.slices) - MOST_LISTED:
            slices += f" and {more} more" if more > 0 else ""
        if outlier.is_whole:
            slices = f"most of it ({len(outlier.slices)} of {outlier.n_slices} slices)"
        size = f"{outlier.size:.2f}" if np.isfinite(outlier.size) else "–"
        rows.append((str(outlier.volume), slices, outlier.kind, size))
    return rows


def places(statistics: ResidualStatistics) -> list[tuple[str, str, str, str]]:
    """Volume, voxel, extent and mean over σ of structure in single volumes, the strongest."""
    return [
        (str(c.volume), ", ".join(map(str, c.centre)), str(c.n_voxels), f"{c.amplitude:+.1f}")
        for c in statistics.clusters[:MOST_LISTED]
    ]


def facts_of_scan(facts: ReportFacts) -> dict[str, str]:
    """What kind of scan it is, in a line."""
    s, shape = facts.statistics, facts.noisy.shape
    voxel = " × ".join(f"{mm:.3g}" for mm in np.linalg.norm(facts.affine[:3, :3], axis=0))
    groups = list(zip(map(float, s.shell_bvals), shells(facts.bvals, shape[3]), strict=True))
    maps = [facts.noise_of(v) for v in range(shape[3])] if facts.sigma.ndim == 4 else [facts.sigma]
    level = np.array([np.median(sigma[facts.mask & (sigma > 0)]) for sigma in maps])
    level = np.broadcast_to(level, shape[3])
    snr = ", ".join(
        f"{(s.signal_before[group] / level[group]).mean():.0f} ({shell_name(b)})"
        for b, group in groups
    )
    noise = number(level.min())
    if facts.sigma.ndim == 4:
        noise += f" to {number(level.max())}"
    return {
        "grid": " × ".join(str(n) for n in shape[:3]),
        "voxel": f"{voxel} mm",
        "volumes": ", ".join(f"{len(group)} of {shell_name(b)}" for b, group in groups),
        "noise": f"σ = {noise}",
        "mean SNR before": snr,
    }


def rows_of(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as lines of a table: ("seconds / train", "12.3")."""
    rows: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += rows_of(value, f"{name} / ")
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


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _worst(levels: Any) -> str:
    return max(levels, key=LEVELS.index, default=LEVELS[0])
