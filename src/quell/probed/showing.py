"""What a probe found, as JSON, CSV, a page, and lines for a terminal."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods import trains
from ..noise import NoiseModel, describe_noise
from ..options import Options
from ..probing import EACH, ONE, Measured, ProbeRow, plain
from ..record import as_json, settings_of, versions
from ..series import Series, replacing
from .asked import Probing
from .runners import OwnMethod, Runner

if TYPE_CHECKING:
    from ..report import ProbeFacts, Shown

SHARES = ("kept", "edges", "flat", "rim", "around", "elsewhere", "ghost")


@dataclass(frozen=True)
class Found:
    """What a probe found.

    seconds  of all runs of the method
    beside   the most variance that others add to a structure's volumes, over the noise's: of
             structures in some volumes, and of those in all
    """

    rows: list[ProbeRow]
    measured: Measured
    n_volumes: int
    n_scans: int
    beside: tuple[float, float]
    seconds: float
    shown: "Shown | None" = None

    def sentences(self) -> list[str]:
        """The first thing to know: what is kept of structures of 81 voxels at 5 sigma, or so."""
        radii = sorted({row.kind.radius for row in self.rows}, key=lambda r: abs(r - ONE.radius))
        return [
            row.sentence(self.n_volumes)
            for row in self.rows
            if (row.kind.radius, row.kind.strength) == (radii[0], ONE.strength)
        ]


def record_of(
    found: Found,
    asked: Probing,
    runner: Runner,
    options: Options,
    scan: Series,
    noise: NoiseModel,
    command: str,
) -> dict[str, Any]:
    """All about a probe, for its json."""
    about: dict[str, Any] = {"program": asked.program}
    if isinstance(runner, OwnMethod):
        about = {"method": options.method, "preset": options.preset}
        about["settings"] = settings_of(runner.method)
        about["trained_anew"] = trains(runner.method)
    added = found.measured.added
    return {
        "scan": asked.scan.name,
        **about,
        "shape": list(scan.data.shape),
        "voxels_in_mask": int(scan.where.sum()),
        "noise": describe_noise(noise, scan.where).removeprefix("noise: "),
        "noise_law": noise.law,
        "lag_one": noise.lag_one(),
        "sentences": found.sentences(),
        "kinds": [row.as_dict() for row in found.rows],
        "added_where_nothing_was": {"rms": plain(added.rms), "largest": plain(added.largest)},
        "structures": [
            {
                "radius": blob.kind.radius,
                "strength": blob.kind.strength,
                "centre": blob.centre.tolist(),
                "volumes": blob.volumes.tolist(),
                "at_edge": blob.is_edge,
                **{name: plain(value) for name, value in vars(said).items()},
            }
            for blob, said in found.measured.responses
        ],
        "scans_with_structures": found.n_scans,
        "variance_of_others": {
            "in_some_volumes": plain(found.beside[0]),
            "in_all": plain(found.beside[1]),
        },
        "seed": options.seed,
        "seconds": round(found.seconds, 1),
        "command": command,
        "versions": versions(),
    }


def facts_of(
    found: Found, runner: Runner, scan: Series, noise: NoiseModel, command: str
) -> "ProbeFacts":
    """What the page shows."""
    from ..report import ProbeFacts

    added, n = found.measured.added, len(found.measured.responses)
    law = "y + A σ" if noise.law == "gaussian" or np.iscomplexobj(scan.data) else (
        "as its law makes it of a stronger signal")  # fmt: skip
    notes = [
        f"{n} structures in {found.n_scans} scan{'s' * (found.n_scans > 1)}, at most {EACH} of a "
        "kind, half of them where the mean volume is steep and half where it is flat; balls of "
        "uniform strength, far apart. A kind for which there was no room is not in the table.",
        f"Noise: {describe_noise(noise, scan.where).removeprefix('noise: ')}. The measured value "
        f"with a structure is {law}; the noise stays the same.",
        f"Other structures add at most {found.beside[0]:.3f} of the noise variance to a "
        f"structure's volumes, those in all volumes {found.beside[1]:.3f}, so that a method that "
        "looks at the whole scan finds each nearly alone.",
    ]
    if isinstance(runner, OwnMethod) and trains(runner.method):
        notes.append(
            "The method was trained anew on each scan with structures, and that network denoised "
            "the scan without them, too."
        )
    return ProbeFacts(
        title=scan.path.name if scan.path else "scan",
        method=runner.name,
        n_volumes=found.n_volumes,
        rows=[row.as_dict() for row in found.rows],
        sentences=found.sentences(),
        nothing=(added.rms, added.largest) if np.isfinite(added.rms) else None,
        notes=notes,
        mask=scan.where,
        affine=scan.affine,
        command=command,
        shown=found.shown,
        versions=versions(),
    )


def write_all(folder: Path, found: Found, record: dict[str, Any], facts: "ProbeFacts") -> None:
    """Every file of a probe, each whole or not at all."""
    from ..report import write_probe  # brings matplotlib

    for name, text in (("probe.json", as_json(record)), ("probe.csv", as_csv(found.rows))):
        with replacing(folder / name) as file:
            file.write(text.encode("utf-8", "backslashreplace"))  # names may hold bare bytes
    write_probe(folder / "probe.html", folder / "probe.png", facts)


def as_csv(rows: list[ProbeRow]) -> str:
    """A line for each kind of structure; empty where there is no number."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    numbers = [f"{name}{end}" for name in SHARES for end in ("", "_error", "_n")]
    writer.writerow(["volumes", "voxels", "radius", "strength", "detectability", *numbers])
    for row in rows:
        line: list[Any] = [row.kind.volumes, row.n_voxels, row.kind.radius, row.kind.strength]
        line.append(plain(row.detectability))
        for share in (getattr(row, name) for name in SHARES):
            line += [plain(share.mean), plain(share.error), share.n]
        writer.writerow(["" if value is None else value for value in line])
    return file.getvalue()


def as_text(found: Found) -> str:
    """The table for a terminal, and what to know first."""
    table = [["volumes", "voxels", "strength", "kept, %", "at edges", "in flat tissue", "around",
              "elsewhere"]]  # fmt: skip
    for row in found.rows:
        cells = [str(row.kind.volumes), str(row.n_voxels), f"{row.kind.strength:g}"]
        error = f" ± {100 * row.kept.error:.0f}" if np.isfinite(row.kept.error) else ""
        cells.append(f"{100 * row.kept.mean:.0f}{error}")
        for name in ("edges", "flat", "around", "elsewhere"):
            mean = getattr(row, name).mean
            cells.append(f"{100 * mean:.0f}" if np.isfinite(mean) else "–")
        table.append(cells)
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in table]
    return "\n".join([*lines, *found.sentences()])
