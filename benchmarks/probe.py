"""What each method would erase: structures of known size and strength, and the share that is kept.

    python benchmarks/probe.py            all of it, about an hour on two cores
    python benchmarks/probe.py --table    only make the Markdown from the JSON again
    python benchmarks/probe.py --only mppca   one method

Here    Phantom B (Rician, correlated noise, SNR 15) and the demo scan, by `quell probe`: the same
        structures for all methods, as they follow from the scan, its noise and the seed.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quality import processor
from quality_scans import PhantomScan
from script import RESULTS, save

import quell
from quell.options import Options
from quell.probed import SHARES, Found, probe_scan
from quell.probing import plain
from quell.record import versions
from quell.run import set_threads
from quell.series import Series

DEMO = Path(quell.__file__).parent / "demo_scan"
SCANS: dict[str, Callable[[], Series]] = {
    "phantom B": lambda: PhantomScan("rician", True, 15.0).noisy,
    "demo scan": lambda: quell.load(DEMO / "dwi.nii.gz"),
}
METHODS = {
    "joint instant": ("joint", "instant"),
    "joint": ("joint", "default"),
    "mppca": ("mppca", "default"),
    "wiener": ("wiener", "default"),
    "patch2self": ("patch2self", "default"),
    "nlm": ("nlm", "default"),
}


def row_of(found: Found) -> dict[str, Any]:
    added = found.measured.added
    return {
        "n_volumes": found.n_volumes,
        "scans_with_structures": found.n_scans,
        "variance_of_others": [plain(value) for value in found.beside],
        "kinds": [row.as_dict() for row in found.rows],
        "added_where_nothing_was": {"rms": plain(added.rms), "largest": plain(added.largest)},
        "seconds": round(found.seconds, 1),
    }


def run_all(threads: int, path: Path, only: str) -> None:
    """Add every row that the JSON does not hold yet."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results["run"] = {"processor": processor(), "threads": threads, "versions": versions()}
    for scan_name, made in SCANS.items():
        rows = results.setdefault("scans", {}).setdefault(scan_name, {})
        for name, (method, preset) in METHODS.items():
            if name in rows or only not in ("", name):
                continue
            start = time.perf_counter()
            rows[name] = row_of(probe_scan(made(), Options(method, preset, threads=threads)))
            print(f"{scan_name}: {name}, {time.perf_counter() - start:.0f} s", flush=True)
            save(results, path)


def table(results: dict[str, Any]) -> str:
    """The Markdown."""
    about = results["run"]
    lines = [
        "# What would be erased", "",
        f"By `quell probe`, on {about['processor']}, {results['date']}. Made by "
        "`benchmarks/probe.py`. One draw of the noise, one seed.", "",
        "Per cent of what was added that is kept, and one standard error over the structures of a "
        "kind. *Strength* is in units of the noise. *Elsewhere*: what appears at the same place in "
        "the volumes that do not show the structure.", "",
    ]  # fmt: skip
    for scan_name, rows in results["scans"].items():
        kinds = {key_of(kind): None for row in rows.values() for kind in row["kinds"]}
        lines += [f"## {scan_name}", "", f"| volumes | voxels | strength | {' | '.join(rows)} |"]
        lines.append("| --: | --: | --: |" + " --: |" * len(rows))
        for key in kinds:
            cells = [cell(row, key, "kept") for row in rows.values()]
            lines.append(f"| {' | '.join([*(f'{k:g}' for k in key), *cells])} |")
        lines.append("")
        for heading, name in (("Elsewhere", "elsewhere"), ("At edges", "edges")):
            lines += [f"{heading}, 81 voxels at 5 sigma in one volume: " + "; ".join(
                f"{method} {cell(row, (1, 81, 5), name)}" for method, row in rows.items()
            ) + ".", ""]  # fmt: skip
        lines += ["Made where nothing was, rms in sigma: " + "; ".join(
            f"{method} {row['added_where_nothing_was']['rms']:.3f}" for method, row in rows.items()
        ) + ".", ""]  # fmt: skip
    return "\n".join(lines)


def key_of(kind: dict[str, Any]) -> tuple[float, float, float]:
    return kind["volumes"], kind["n_voxels"], kind["strength"]


def cell(row: dict[str, Any], key: tuple[float, float, float], name: str) -> str:
    assert name in SHARES
    share = next((kind[name] for kind in row["kinds"] if key_of(kind) == key), None)
    if share is None or share["mean"] is None:
        return "–"
    error = "" if share["error"] is None else f" ± {100 * share['error']:.0f}"
    return f"{100 * share['mean']:.0f}{error}"


def main() -> None:
    """Measure what is missing in results/probe.json, then write results/probe.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only make the Markdown again")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", default="", choices=["", *METHODS], help="one method")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder; default: results")
    options = parser.parse_args()
    path = options.results / "probe.json"
    if not options.table:
        run_all(set_threads(options.threads), path, options.only)
    (options.results / "probe.md").write_text(table(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
