"""Showing: the tables and pages of a study, from the records of all its scans."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..compare.running import DONE
from ..evaluate.judgement import LEVELS
from ..methods import find
from ..record import versions
from ..run import Voice
from ..series import InputError, replacing
from .bids import Dataset
from .group import ENDINGS, FAR, Row, as_table, as_whole, columns_of, rows_of
from .judging import FIGURES
from .manifest import Entry, read_all
from .names import inside
from .work import log_of

if TYPE_CHECKING:
    from ..report import CohortFacts, CohortRow

GROUP = "group"


def write_group(out: Path, command: str, voice: Voice) -> list[Entry]:
    """The table (tsv, csv, json) and the page over all scans, and a page for each participant.

    Raises InputError where no scan was ever worked on.
    """
    entries = read_all(out)
    if not entries:
        raise InputError(f"{out} holds no scan that quell denoised; run the participants first")
    rows = rows_of(entries)
    texts = {ending: as_table(rows, ending) for ending in ENDINGS} | {"json": as_whole(rows)}
    for ending, text in texts.items():
        with replacing(inside(out, Path(f"{GROUP}.{ending}"))) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    from ..report import write_cohort  # brings matplotlib, which other commands do without

    title = str(Dataset(out).description.get("Name") or out.resolve().name)
    write_cohort(inside(out, Path(f"{GROUP}.html")), facts_of(title, rows, command))
    for participant in sorted({entry.participant for entry in entries}):
        own = [row for row in rows if row.entry.participant == participant]
        name = f"sub-{participant}"
        write_cohort(inside(out, Path(f"{name}.html")), facts_of(name, own, command))
    with replacing(inside(out, log_of("CITATION").with_suffix(".md"))) as file:
        file.write(citation_of(rows).encode("utf-8", "backslashreplace"))
    n = sum(bool(row.far) for row in rows)
    stand = f"; {n} scan{'s' * (n > 1)} stand{'s' * (n == 1)} out from the others" if n else ""
    voice.say(f"page {out / f'{GROUP}.html'}{stand}")
    return entries


def facts_of(title: str, rows: Sequence[Row], command: str) -> "CohortFacts":
    """What a page shows; first what needs a look."""
    from ..report import CohortFacts

    columns = columns_of(rows)
    return CohortFacts(
        title=title,
        n_done=sum(row.is_done for row in rows),
        n_failed=sum(not row.is_done for row in rows),
        n_far=sum(bool(row.far) for row in rows),
        columns=[(FIGURES[c][0], FIGURES[c][2]) for c in columns],
        rows=[_shown(row, columns) for row in sorted(rows, key=_urgency)],
        far=FAR,
        command=command,
        versions=versions(),
        papers=sorted({row.entry.method for row in rows if row.is_done}),
    )


def citation_of(rows: Sequence[Row]) -> str:
    """What to cite for the scans that were denoised."""
    used = sorted({(row.entry.method, row.entry.version) for row in rows if row.is_done})
    lines = [f"quell {v}, self-supervised denoising of MRI scans." for v in {v for _, v in used}]
    for name, _ in used:
        with suppress(InputError):  # of a package that is not here
            lines.append(f"{name}: {find(name).paper}")
    return "".join(f"- {line}\n" for line in dict.fromkeys(lines))


def _urgency(row: Row) -> tuple[bool, bool, int, str]:
    level = LEVELS.index(row.entry.level) if row.entry.level in LEVELS else 0
    return row.is_done, not row.far, -level, row.entry.name


def _shown(row: Row, columns: Sequence[str]) -> "CohortRow":
    from ..report import CohortRow

    entry = row.entry
    cells = []
    for name in columns:
        value, digits = entry.scores.get(name), FIGURES[name][1]
        words = "–" if value is None else f"{value:.{digits}f}" if digits < 4 else f"{value:.4g}"
        cells.append((words, f"{row.far[name]:+.1f}" if name in row.far else ""))
    return CohortRow(
        name=entry.name,
        report=entry.report if entry.status == DONE else "",
        log=log_of(entry.name).as_posix(),
        level=entry.level if row.is_done else "failed",
        said=entry.headline if row.is_done else entry.why,
        method=f"{entry.method}, {entry.preset}",
        cells=cells,
        remarks=list(entry.remarks),
    )
