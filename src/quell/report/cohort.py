"""The page of a study: every scan a line with the way to its report, what needs a look first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..series import replacing
from .page import LIMITS, template


@dataclass(frozen=True)
class CohortRow:
    """One scan.

    name, method   of it
    report, log    addresses relative to the page; "" for none
    level, said    the verdict, or why there is none
    cells          figures in words, each with its distance from the others' where it is far
    remarks        what was said of the scan
    """

    name: str
    report: str
    log: str
    level: str
    said: str
    method: str
    cells: Sequence[tuple[str, str]]
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class CohortFacts:
    """Everything that the page shows, as plain data."""

    title: str
    n_done: int
    n_failed: int
    n_far: int
    columns: Sequence[tuple[str, str]]  # heading and meaning
    rows: Sequence[CohortRow]
    far: float  # robust deviations from which a scan stands out
    command: str
    versions: Mapping[str, str]
    papers: Sequence[str] = ()


def write_cohort(path: Path, facts: CohortFacts) -> None:
    """Write the page, whole or not at all."""
    page = template("cohort.html.j2").render(facts=facts, limits=LIMITS)
    with replacing(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))  # names may hold bare bytes
