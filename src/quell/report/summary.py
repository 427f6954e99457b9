"""What the report says before anybody reads on: the scan in a line, the verdict in four."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluate import Judgement, headline, shells
from ..evaluate.outliers import Outlier, SliceResiduals, share_of
from ..evaluate.verdict import LEVELS, shell_name
from .facts import ReportFacts
from .pictures import number

STRUCTURE = {
    "residual-follows-image": "it follows the image",
    "residual-structure": "neighbours are more alike than the noise's",
    "residual-strength": "it is not equally strong in bright and dark tissue",
}
MOST_LISTED = 12  # slices or volumes; more are counted


@dataclass(frozen=True)
class Answer:
    """One question that everybody asks, and its answer."""

    level: str
    title: str
    said: str
    where: str  # the section that shows it


def answers(
    facts: ReportFacts,
    judgements: Sequence[Judgement],
    found: Sequence[Outlier],
    residuals: SliceResiduals,
) -> list[Answer]:
    """How much was removed, whether it has structure, what stands out, and what the checks said."""
    by_code = {j.code: j for j in judgements}
    size = by_code["residual-size"]
    tissue = [by_code[code] for code in STRUCTURE if by_code[code].level in LEVELS[2:]]
    volumes = by_code["single-volumes"]
    slices = "No slice stands out"
    if found:
        n, share = sum(len(o.slices) for o in found), 100 * share_of(found, residuals)
        slices = f"{n} slice{'s' * (n > 1)} ({share:.2g} %) stand{'s' * (n == 1)} out"
    if volumes.level == "warning":
        slices = f"{slices}, and whole volumes" if found else "Whole volumes stand out"
    serious = [f for f in facts.findings if f["level"] in LEVELS[2:]]
    n = len(serious) + len(facts.warnings)
    return [
        Answer(size.level, "Removed", f"{size.measured} times the noise", "averages"),
        Answer(_worst(j.level for j in tissue), "Structure in what was removed",
               _capital(", ".join(STRUCTURE[j.code] for j in tissue)) or "None found", "noise"),
        Answer("warning" if found else _worst([volumes.level]), "Slices and volumes",
               slices, "outliers"),
        Answer(_worst(["warning" for _ in facts.warnings] + [f["level"] for f in serious]),
               "Checks of the scan", f"{n} remark{'s' * (n > 1)}" if n else "Nothing found",
               "findings"),
    ]  # fmt: skip


def verdict_of(judgements: list[Judgement], said: Sequence[Answer]) -> tuple[str, str]:
    """The level of the page, and the sentence at its top."""
    level, sentence = headline(judgements)
    if level == "good" and any(answer.level in LEVELS[2:] for answer in said):
        return "note", "What was removed looks like noise, but something in the scan needs a look."
    return level, sentence


def listed(found: Sequence[Outlier]) -> list[tuple[str, str, str, str]]:
    """Volume, slices, what, and size of those that stand out, cut short."""
    rows = []
    for outlier in found[:MOST_LISTED]:
        slices = ", ".join(str(z) for z in outlier.slices[:MOST_LISTED])
        if more := len(outlier.slices) - MOST_LISTED:
            slices += f" and {more} more" if more > 0 else ""
        if outlier.is_whole:
            slices = f"most of it ({len(outlier.slices)} of {outlier.n_slices} slices)"
        rows.append((str(outlier.volume), slices, outlier.kind, f"{outlier.size:.2f}"))
    return rows


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
