"""Showing: the tables and the page of a comparison, in its folder."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..noise import describe_noise
from ..options import Options
from ..record import versions
from ..series import replacing
from .asked import Comparison
from .judging import Judge
from .results import read_result
from .running import DONE
from .table import (
    COLUMNS,
    MEANINGS,
    Row,
    as_csv,
    as_json,
    as_markdown,
    cell,
    columns_of,
    ranked,
    remark_of,
)

if TYPE_CHECKING:
    from ..report import ComparisonFacts, Section, Tile


def write_tables(asked: Comparison, judge: Judge, rows: Sequence[Row], options: Options) -> None:
    """The tables of the rows so far: .csv, .json and .md."""
    best = ranked(rows)
    about = {
        "scan": asked.title,
        "judged_by": judge.words,
        "noise": describe_noise(judge.noise, judge.scan.where).removeprefix("noise: "),
        "lag_one": judge.noise.lag_one(),
        "seed": options.seed,
        "versions": versions(),
    }
    if asked.kind == "comparison":  # an evaluation runs no method
        about |= {"preset": asked.preset, "minutes_per_method": asked.minutes}
    for ending, text in (
        ("csv", as_csv(best)),
        ("json", as_json(best, about)),
        ("md", as_markdown(best)),
    ):
        with replacing(asked.out / f"{asked.kind}.{ending}") as file:
            file.write(text.encode("utf-8", "backslashreplace"))


def write_page(
    asked: Comparison,
    judge: Judge,
    rows: Sequence[Row],
    command: str,
    sections: "Sequence[Section]" = (),
) -> None:
    """The page of the rows, best first, and what else is to be shown."""
    from ..report import write_comparison  # brings matplotlib, which other commands do without

    write_comparison(
        asked.out / f"{asked.kind}.html", facts_of(asked, judge, rows, command, sections)
    )


def facts_of(
    asked: Comparison,
    judge: Judge,
    rows: Sequence[Row],
    command: str,
    sections: "Sequence[Section]" = (),
) -> "ComparisonFacts":
    """What the page shows."""
    from ..report import ComparisonFacts

    columns = columns_of(rows)
    return ComparisonFacts(
        kind=asked.kind,
        title=asked.title,
        judged_by=judge.words,
        order="best" if judge.has_referee else "evenest residual",
        noise=describe_noise(judge.noise, judge.scan.where).removeprefix("noise: "),
        columns=[(COLUMNS[c][0], MEANINGS[c]) for c in columns],
        rows=[(r.name, r.about, [cell(r, c) for c in columns], remark_of(r)) for r in rows],
        tiles=_tiles(judge, rows),
        sigma=judge.noise.sigma,
        mask=judge.scan.where,
        affine=judge.scan.affine,
        volume=judge.shown,
        command=command,
        versions=versions(),
        sections=sections,
    )


def _tiles(judge: Judge, rows: Sequence[Row]) -> Iterator["Tile"]:
    """One volume of the reference, of the scan and of every result, read one after the other."""
    from ..report import Tile

    v, noisy = judge.shown, judge.scan.data
    level = judge.level_of(v)
    if judge.reference is not None:
        yield Tile(judge.words, judge.reference.data[..., v], None)
    for row in rows:
        if row.outcome.status != DONE:
            continue
        said = cell(row, "gain") + " dB" if row.value("gain") is not None else ""
        if row.result is None:
            yield Tile(row.name, noisy[..., v], None, said)
            continue
        denoised = read_result(row.result, judge.scan)[..., v]
        yield Tile(row.name, denoised, (noisy[..., v] - denoised) / level, said)
