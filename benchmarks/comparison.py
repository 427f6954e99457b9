"""Every method side by side, on phantom B under two kinds of noise and on a scan with a repeat.

    python benchmarks/comparison.py            some three hours on one core
    python benchmarks/comparison.py --only trio    one scan; two such may run at once
    python benchmarks/comparison.py --table    only the Markdown, from the JSON that is there

The runs are those of `quell compare`, preset "fast", each a command of its own; MRtrix3's
dwidenoise takes part where it is on PATH. Results stay in the folder --work, so a run that was
stopped goes on. The real scan is that of quality.py.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from quality import processor
from quality_scans import PhantomScan, TrioScan, brain_tissue, truth
from script import RESULTS

from quell.compare import Comparison, compare_file
from quell.methods import METHODS, make
from quell.options import Options
from quell.record import as_json, versions
from quell.series import Series, write_nifti
from quell.voice import Lines

DATA = Path(os.environ.get("QUELL_DATA", Path(__file__).parents[2] / "shared" / "data"))
DWIDENOISE = "dwidenoise=dwidenoise {in} {out} -nthreads {threads} -quiet -force"
PHANTOMS = {
    "white": (
        "phantom B, white Gaussian noise, SNR 15",
        PhantomScan("gaussian", False, 15.0),
    ),
    "rician": (
        "phantom B, Rician noise that correlates by .17 / .34 (x / y), SNR 15",
        PhantomScan("rician", True, 15.0),
    ),
}
ALL = [*METHODS, "joint:default"]  # quell's default is slower than its preset "fast", and better
TRIO = "Siemens Trio, 21 volumes, judged by a second acquisition; its noise correlates, too"
# Why a method that lies below the noisy scan, or hardly above it, does: what it assumes.
ASSUMES = {
    "noise2noise": "that two volumes show the same: directions do not",
    "deep_image_prior": "that a network learns anatomy before noise; correlated noise is learned "
    "nearly as early",
}


def main() -> None:
    """Run what is missing, then write results/comparison.json and .md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--table", action="store_true", help="only make the Markdown again")
    add("--threads", type=int, default=1, help="of each method; several scans may run at once")
    add("--minutes", type=float, default=15.0, help="per method")
    add("--only", nargs="+", default=[*PHANTOMS, "trio"], choices=[*PHANTOMS, "trio"])
    add("--methods", default="all")
    add("--work", type=Path, default=Path(tempfile.gettempdir()) / "quell-comparison")
    options = parser.parse_args()
    path = RESULTS / "comparison.json"
    if not options.table:
        options.work.mkdir(exist_ok=True)
        for name in options.only:
            found = measure(name, options)
            # read late: several of these may run at once, each for its own scan
            results = json.loads(path.read_text()) if path.exists() else {"scans": {}}
            here = {"processor": processor(), "date": time.strftime("%Y-%m-%d")}
            for row in found["rows"]:
                row |= here
            if options.methods != "all" and name in results["scans"]:
                replace_rows(results["scans"][name]["rows"], found["rows"])
            else:
                results["scans"][name] = found
                results |= here | {"processor": results.get("processor", processor())}
                results |= {"threads": options.threads, "versions": versions()}
            path.write_text(as_json(results))
    (RESULTS / "comparison.md").write_text(table(json.loads(path.read_text())))


def replace_rows(rows: list[dict[str, Any]], measured: list[dict[str, Any]]) -> None:
    """Put the rows of some methods in the places of their older ones; the others stay as they are.

    Each tells the version of quell that made it, since the document tells that of the others.
    """
    new = {row["method"]: row | {"quell": versions()["quell"]} for row in measured}
    del new["noisy"]
    rows[:] = [new.pop(row["method"], row) for row in rows] + [*new.values()]


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All methods on one scan: what comparison.json says of them."""
    folder = options.work / name
    folder.mkdir(exist_ok=True)
    reference = write_scan(name, folder)
    is_phantom = name in PHANTOMS
    asked = Comparison(
        scan=folder / "noisy.nii.gz",
        out=folder / "out",
        methods=",".join(ALL) if options.methods == "all" else options.methods,
        externals=(DWIDENOISE,) if options.methods == "all" and shutil.which("dwidenoise") else (),
        truth=reference if is_phantom else None,
        repeat=None if is_phantom else reference,
        mask=folder / "mask.nii.gz" if is_phantom else None,
        minutes=options.minutes,
    )
    compare_file(asked, Options(threads=options.threads), "", Lines())
    found = json.loads((folder / "out" / "comparison.json").read_text())
    for row in found["rows"]:
        del row["command"]  # holds the paths of one machine
    return {"words": PHANTOMS[name][0] if is_phantom else TRIO, **found}


def write_scan(name: str, folder: Path) -> Path:
    """The noisy scan, what judges it and, of a phantom, the mask of its tissue; the judge's path.

    Files that are there stay: the results were made from them.
    """
    reference = folder / "reference.nii.gz"
    if reference.exists():
        return reference
    if name in PHANTOMS:
        noisy, other = PHANTOMS[name][1].noisy, truth().clean
        mask = nib.Nifti1Image(brain_tissue().astype(np.uint8), noisy.affine)
        nib.save(mask, folder / "mask.nii.gz")
    else:
        noisy, other = TrioScan(DATA).repeats
    write_with_gradients(folder / "noisy.nii.gz", noisy)
    write_with_gradients(reference, other)
    return reference


def write_with_gradients(path: Path, series: Series) -> None:
    assert series.bvals is not None
    assert series.bvecs is not None
    name = path.name.partition(".")[0]
    np.savetxt(path.with_name(f"{name}.bval"), series.bvals[None], fmt="%g")
    np.savetxt(path.with_name(f"{name}.bvec"), series.bvecs.T, fmt="%.8f")
    write_nifti(path, series.data, series)


# ---- the table -----------------------------------------------------------------------------------

NUMBERS = {
    "gain": ("gain, dB", "{:.2f}"),
    "fa_error": ("FA error", "{:.4f}"),
    "tensor_gain": ("tensor gain, dB", "{:.2f}"),
    "structure": ("structure", "{:.3f}"),
    "seconds": ("seconds", "{:.0f}"),
}


def table(results: dict[str, Any]) -> str:
    """The Markdown of what the JSON holds."""
    scans = {name: results["scans"][name] for name in (*PHANTOMS, "trio") if name in
             results["scans"]}  # fmt: skip
    rows = {name: {r["method"]: r for r in scan["rows"]} for name, scan in scans.items()}
    columns = [(scan, n) for scan in scans for n in NUMBERS if _has(rows[scan].values(), n)]
    order = sorted(
        {m for found in rows.values() for m in found}, key=lambda m: -_mean_gain(m, rows)
    )
    letters = {name: "ABC"[i] for i, name in enumerate(scans)}
    software = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines = [
        "# Every method side by side",
        "",
        "`quell compare`, preset `fast` but where another is named, every method a command of "
        f"its own with {results['threads']} thread(s), other work on the machine beside it, on "
        f"{results['processor']}, {results['date']}; versions: {software}; †: measured anew on "
        f"another processor. {_newer(rows)}"
        "Made by `benchmarks/comparison.py`; nothing here is typed by hand. Best mean gain "
        "first. One draw of the noise, one seed: gaps of a tenth of a dB mean nothing.",
        "",
        *(f"- **{letters[name]}**: {scan['words']}. {scan['noise']}."
          for name, scan in scans.items()),
        "- gain: how many times less mean squared error than the noisy scan has, over b>0, in the "
        "mask. On B and C all results keep the noise floor, and are compared with what has it.",
        "- FA error: root mean square difference from the true FA. On C no FA is true, and that of "
        "a noisy repeat is too high: there the tensors are judged by the signal that they predict "
        "for the repeat (tensor gain).",
        "- structure: how unevenly the removed power lies in space, beyond chance; 0 for noise.",
        "",
        "| method | " + " | ".join(f"{letters[s]}: {NUMBERS[n][0]}" for s, n in columns) + " |",
        "| --- | " + "--: | " * len(columns),
    ]  # fmt: skip
    for method in order:
        cells = [_cell(rows[scan].get(method), name, results) for scan, name in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_assumptions(rows, letters)]) + "\n"


def _newer(rows: dict[str, dict[str, Any]]) -> str:
    """Which rows another version of quell made than the one that the page names."""
    newer = {(m, row["quell"]) for found in rows.values() for m, row in found.items()
             if "quell" in row}  # fmt: skip
    told = ", ".join(f"`{method}` {version}" for method, version in sorted(newer))
    return f"Measured later, with a newer quell: {told}. " if told else ""


def _mean_gain(method: str, rows: dict[str, dict[str, Any]]) -> float:
    """Of the scans that it came to a result on."""
    gains = [_number(found.get(method), "gain") for found in rows.values()]
    return float(np.mean([gain for gain in gains if gain == gain] or [-99.0]))


def _fa_lost(found: dict[str, Any]) -> str:
    """The methods after which FA is further from the truth than that of the noisy scan."""
    noisy = _number(found["noisy"], "fa_error")
    worse = [m for m, row in found.items() if _number(row, "fa_error") > noisy]
    return ", ".join(sorted(worse)) or "none"


def _assumptions(rows: dict[str, dict[str, Any]], letters: dict[str, str]) -> list[str]:
    """Who is no better than the noisy scan or did not come to a result, and why."""
    lines = ["## Which assumption fails where", ""]
    fast = {n: "fast" if "fast" in kind.presets else "default" for n, kind in METHODS.items()}
    white = [n for n, preset in fast.items() if make(n, preset).assumes_white]
    lines.append(
        f"- Take the noise to be white, which it is on A only: {', '.join(sorted(white))}. On B "
        "and C they leave part of it, or take signal with it; quell warns before they start."
    )
    for name, found in rows.items():
        if _has(found.values(), "fa_error"):
            lines.append(
                f"- {letters[name]}: FA is further from the truth than the noisy scan's after "
                f"{_fa_lost(found)}: what is alike in neighbouring voxels or volumes is no longer "
                "told apart, though the error of each volume is smaller."
            )
        for method, row in found.items():
            gain = row["scores"].get("gain")
            if method == "noisy" or (gain is not None and gain > 0):
                continue
            why = row["remarks"] or "nothing is said"
            said = "" if gain is None else f"{gain:.2f} dB: "  # a remark says how it ended
            if method in ASSUMES:
                why = f"it assumes {ASSUMES[method]}"
            lines.append(f"- {letters[name]}: {method}, {said}{why}.")
    return lines


def _has(rows: Any, name: str) -> bool:
    return any(_number(row, name) == _number(row, name) for row in rows)


def _number(row: dict[str, Any] | None, name: str, missing: float = float("nan")) -> float:
    if row is None:
        return missing
    value = row["seconds"] if name == "seconds" else row["scores"].get(name)
    return missing if value is None else float(value)


def _cell(row: dict[str, Any] | None, name: str, results: dict[str, Any]) -> str:
    value = _number(row, name)
    if row is None or value != value:
        return "–"
    elsewhere = row.get("processor", results["processor"]) != results["processor"]
    return NUMBERS[name][1].format(value) + ("†" if name == "seconds" and elsewhere else "")


if __name__ == "__main__":
    main()
