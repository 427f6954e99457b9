"""The study at a glance: every scan a row, and which stand out from the others like it.

Source  Iglewicz, Hoaglin. How to Detect and Handle Outliers. ASQC 1993: 0.6745 (x - median) / MAD
        beyond 3.5. Where the MAD is 0, their mean deviation stands in for it.
Here    A scan is compared with those of its kind (data, method, preset), if there are five or more.
        A difference too small to matter is none, however alike the others are.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from ..compare.running import DONE
from ..record import as_json, versions
from .judging import FIGURES
from .manifest import Entry
from .work import log_of

FAR = 3.5
FEWEST = 5
LEAST = {  # differences below these are no reason to look
    "gain": 0.5, "removed": 0.1, "follows": 0.05, "structure": 0.05, "contrast": 0.05,
    "mean": 0.5, "stands_out": 1.0, "correlated": 0.1,
}  # fmt: skip
LEAST_SHARE = 0.1  # of the median, of the others
ENDINGS = {"tsv": "\t", "csv": ","}


@dataclass(frozen=True)
class Row:
    """One scan, and the figures in which it stands out: name -> distance in robust deviations."""

    entry: Entry
    far: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.entry.status == DONE


def rows_of(entries: Sequence[Entry]) -> list[Row]:
    """Every scan, by name, with what stands out."""
    kinds: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        if entry.status == DONE:
            suffix = entry.name.rpartition("_")[2]
            kinds.setdefault((suffix, entry.method, entry.preset), []).append(entry)
    far: dict[str, dict[str, float]] = {}
    for alike in kinds.values():
        for figure in FIGURES:
            for name, distance in outliers(figure, alike).items():
                far.setdefault(name, {})[figure] = distance
    return [Row(e, far.get(e.name, {})) for e in sorted(entries, key=lambda e: e.name)]


def outliers(figure: str, entries: Sequence[Entry]) -> dict[str, float]:
    """Scans whose figure lies far from the others', and how far, with its sign."""
    known = {e.name: x for e in entries if (x := e.scores.get(figure)) is not None}
    if len(known) < FEWEST:
        return {}
    middle = median(known.values())
    offs = {name: value - middle for name, value in known.items()}
    spread = median(map(abs, offs.values())) / 0.6745 or fmean(map(abs, offs.values())) * 1.2533
    if spread == 0:
        return {}
    least = LEAST.get(figure, LEAST_SHARE * abs(middle))
    found = {name: off / spread for name, off in offs.items() if abs(off) >= least}
    return {name: round(far, 1) for name, far in found.items() if abs(far) > FAR}


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Figures that any scan has."""
    return [f for f in FIGURES if any(r.entry.scores.get(f) is not None for r in rows)]


def record_of(row: Row) -> dict[str, Any]:
    """A row of the table, its columns by name."""
    e = row.entry
    return {
        "scan": e.name,
        "participant": e.participant,
        "session": e.session or None,
        "status": e.status,
        "verdict": e.level or None,
        "headline": e.headline or None,
        "reasons": "; ".join(e.reasons) or None,
        "method": e.method,
        "preset": e.preset,
        **{figure: e.scores.get(figure) for figure in FIGURES},
        "outlier": ", ".join(f"{FIGURES[f][0]} {z:+.1f}" for f, z in row.far.items()) or None,
        "seconds": None if math.isnan(e.seconds) else e.seconds,
        "memory_gib": None if math.isnan(e.memory) else round(e.memory / 2**30, 2),
        "why": e.why or None,
        "remarks": "; ".join(e.remarks) or None,
        "report": e.report or None,
        "log": log_of(e.name).as_posix(),
        "version": e.version,
    }


def as_table(rows: Sequence[Row], ending: str) -> str:
    """The rows as tsv (n/a where nothing is known, as BIDS has it) or csv."""
    records = [record_of(row) for row in rows]
    text, lacking = io.StringIO(), "n/a" if ending == "tsv" else ""
    writer = csv.writer(text, delimiter=ENDINGS[ending], lineterminator="\n")
    writer.writerow(records[0] if records else record_of(Row(Entry("", ""))))
    for record in records:
        writer.writerow([_cell(value, lacking) for value in record.values()])
    return text.getvalue()


def as_whole(rows: Sequence[Row]) -> str:
    """The rows as JSON, with what each figure means."""
    meanings = {name: meaning for name, (_, _, meaning) in FIGURES.items()}
    records = [{**record_of(row), "far": dict(row.far)} for row in rows]
    return as_json({"scans": records, "meanings": meanings, "versions": versions()})


def _cell(value: Any, lacking: str) -> str:
    if value is None:
        return lacking
    words = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(words.split()) if words[:1] not in "=+@" or not words else f"'{words}"
