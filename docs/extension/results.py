"""Figures out of `benchmarks/results`, so that none is typed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from .tables import table_of

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SCANS = ("white", "rician", "trio")  # A, B and C of comparison.md
LETTERS = dict(zip(SCANS, "ABC", strict=True))
NO_SECONDS = "–"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_directive("methods-measured", MethodsMeasured)
    app.add_directive("methods-scans", MethodsScans)
    app.add_directive("method-scores", MethodScores)


@cache
def comparison() -> dict[str, Any]:
    """What `benchmarks/comparison.py` measured."""
    found: dict[str, Any] = json.loads((RESULTS / "comparison.json").read_text("utf-8"))
    return found


def row_of(scan: str, method: str) -> dict[str, Any]:
    """One method on one scan."""
    return next(r for r in comparison()["scans"][scan]["rows"] if r["method"] == method)


def score(scan: str, method: str, name: str) -> float:
    """One score of it; seconds, too."""
    row = row_of(scan, method)
    return float(row[name] if name in row else row["scores"][name])


def measured() -> list[str]:
    """Every method that was measured, best mean gain first."""
    names = [row["method"] for row in comparison()["scans"]["white"]["rows"]]
    return sorted(names, key=lambda n: -sum(score(scan, n, "gain") for scan in SCANS))


def cells(method: str) -> list[str]:
    """A method's figures."""
    found = [f"{score(scan, method, 'gain'):z.1f}" for scan in SCANS]
    noisy = {scan: score(scan, "noisy", "fa_error") for scan in SCANS[:2]}
    found += [f"{score(s, method, 'fa_error') / noisy[s]:.2f}" for s in noisy]
    found += [f"{score('trio', method, 'tensor_gain'):.1f}"]
    seconds = row_of("trio", method)["seconds"]
    return [*found, NO_SECONDS if seconds is None else f"{seconds:.0f}"]


HEAD = ("method", "gain A, dB", "gain B, dB", "gain C, dB", "FA error A", "FA error B",
        "tensor gain C, dB", "seconds C")  # fmt: skip


class MethodsMeasured(SphinxDirective):
    """All methods that were measured beside each other, and what they can do."""

    def run(self) -> list[nodes.Node]:
        from quell.methods import METHODS

        rows = []
        for method in measured():
            name, _, preset = method.partition(":")
            kind: Any = METHODS.get(name)
            link = f"[{name}](/methods/{name}.md)" if kind else name
            can = ["", ""]
            if kind:
                can[0] = "yes" if getattr(kind, "takes_one_image", False) else "no"
                can[1] = "no" if kind().assumes_white else "yes"
            rows.append([f"{link}, {preset}" if preset else link, *cells(method), *can])
        head = [*HEAD, "one image", "correlated noise"]
        return [table_of(self, head, rows, "figures")]


class MethodsScans(SphinxDirective):
    """On what, by whom and when it was measured."""

    def run(self) -> list[nodes.Node]:
        all_ = comparison()
        items = nodes.bullet_list()
        for scan in SCANS:
            text = f"{LETTERS[scan]}: {all_['scans'][scan]['words']}."
            items += nodes.list_item("", nodes.paragraph("", text))
        text = (
            f"Measured on {all_['date']} on {all_['processor']} with {all_['threads']} thread(s), "
            "preset fast where none is named; one draw of the noise and one seed."
        )
        return [items, nodes.paragraph("", text)]


class MethodScores(SphinxDirective):
    """The figures of one method between those of the noisy scan and of the default."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        shown = [m for m in measured() if m.partition(":")[0] in (name, "joint", "noisy")]
        return [table_of(self, HEAD, [[m.replace(":", ", "), *cells(m)] for m in shown], "figures")]
