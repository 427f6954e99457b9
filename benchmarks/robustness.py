"""The promise as a table: every method at the edges, and what its verdict says there.

    python benchmarks/robustness.py                     all of it, about an hour on two cores
    python benchmarks/robustness.py --method joint      some methods only; may be given again
    python benchmarks/robustness.py --condition cord    some conditions only
    python benchmarks/robustness.py --table             only make the Markdown from the JSON again

Gain     Error of the scan over that of the result, dB, of the object's voxels, b>0 volumes where
         there are b-values; against the truth with its noise floor. 0: nothing gained.
FA       Root mean square error of fractional anisotropy over that of the noisy scan.
Verdict  Of the result: use it (green), use it but know something (note), look first (look); or the
         scan was refused.
Trained  Methods that train on the scan do so for few steps, with small networks; joint from
         its prior. The question is whether a bad result is said to be one, not how good a method
         can be.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from robustness_scans import CONDITIONS, EdgeScan
from script import RESULTS, save

import quell
from quell.evaluate import fa_error, tensor_maps
from quell.methods import METHODS
from quell.run import set_threads
from quell.series import InputError

LEVELS = {"good": "green", "note": "note", "warning": "look", "error": "look"}
SHORT = {"steps": 30, "channels": 16, "patch": 32, "patches": 4}  # of methods that train
JOINT = {"steps": 25, "patches": 4, "flips": 1}  # a short training from the prior
NO_TRAINING = ("joint", "mppca", "patch2self", "wiener", "nlm", "ascm")
TOLERANCE = 0.05  # dB; below it a result is no worse than the scan


def settings_of(method: str, preset: str) -> dict[str, Any]:
    """Few steps and a small network, where the method has such settings."""
    if method == "joint" and preset != "instant":
        return JOINT
    if method in NO_TRAINING:
        return {}
    known = METHODS[method].__dataclass_fields__
    return {name: value for name, value in SHORT.items() if name in known}


def cell(scan: EdgeScan, method: str, preset: str, threads: int) -> dict[str, Any]:
    """What one method makes of one scan."""
    start = time.monotonic()
    try:
        result = quell.denoise(
            scan.noisy, method=method, preset=preset, threads=threads,
            fourth_axis=scan.noisy.fourth_axis, **settings_of(method, preset),
        )  # fmt: skip
    except InputError as error:
        return {"refused": str(error)}
    verdict = result.verdict
    row = {
        "gain": gain(scan, result.denoised),
        "verdict": LEVELS[verdict.level],
        "sentence": verdict.sentence,
        "seconds": round(time.monotonic() - start, 1),
    }
    return row | (fa(scan, result.denoised) if scan.fa else {})


def gain(scan: EdgeScan, denoised: np.ndarray) -> float:
    """dB over doing nothing."""
    bvals = scan.noisy.bvals
    V = scan.goal.shape[3]
    volumes = np.arange(V) if bvals is None or V == 1 else np.flatnonzero(bvals > 50)
    errors = [
        float((np.abs(data - scan.goal)[scan.where][:, volumes] ** 2).mean())
        for data in (scan.noisy.data, denoised)
    ]
    return float(10 * np.log10(errors[0] / errors[1]))


def fa(scan: EdgeScan, denoised: np.ndarray) -> dict[str, float]:
    """Error of FA over that of the noisy scan."""
    bvals, bvecs = scan.noisy.bvals, scan.noisy.bvecs
    truth, noisy, result = (
        tensor_maps(np.maximum(data, 1), bvals, bvecs, scan.where)
        for data in (scan.goal, scan.noisy.data, denoised)
    )
    errors = [fa_error(maps, truth, scan.where) for maps in (noisy, result)]
    return {"fa_noisy": float(errors[0]), "fa": float(errors[1])}


def table(results: dict[str, Any]) -> str:
    """The page: a row for each condition, a column for each method."""
    cells = results["cells"]
    methods = [m for m in ("joint instant", *METHODS) if any(m in row for row in cells.values())]
    lines = [
        "# At the edges", "",
        f"Scans of {len(cells)} kinds, made from formulas, and what methods make of them, up "
        f"to {results['date']}. One draw of the noise each.",
        "Made by `benchmarks/robustness.py` from the JSON beside this page; the scans are those of "
        "`benchmarks/robustness_scans.py`.", "",
        "Gain over doing nothing in dB, against the truth, in the object. *note*: the verdict says "
        "*Use it, but know this*; *look*: it says",
        "*Look first*; without either it says *Use it*. *refused*: the scan is refused, in one",
        "sentence. –: not measured.", "",
    ]  # fmt: skip
    if set(methods) - {"joint instant", *NO_TRAINING[1:]}:
        lines += [
            f"Methods that train did so for {SHORT['steps']} steps with small networks, `joint` "
            f"for {JOINT['steps']} from its prior: what is asked here is whether a bad result is "
            "said to be one.", "",
        ]  # fmt: skip
    lines += ["| condition | " + " | ".join(methods) + " |", "| --- |" + " --: |" * len(methods)]
    for condition, row in cells.items():
        lines.append(f"| {condition} | " + " | ".join(_text(row.get(m)) for m in methods) + " |")
    fas = {c: row for c, row in cells.items() if any("fa" in one for one in row.values())}
    lines += ["", "Error of FA over that of the noisy scan; below 1 is better.", "",
              "| condition | " + " | ".join(methods) + " |",
              "| --- |" + " --: |" * len(methods)]  # fmt: skip
    for condition, row in fas.items():
        values = [
            f"{row[m]['fa'] / row[m]['fa_noisy']:.2f}" if "fa" in row.get(m, {}) else "–"
            for m in methods
        ]
        lines.append(f"| {condition} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def _text(one: dict[str, Any] | None) -> str:
    if one is None:
        return "–"
    if "refused" in one:
        return "refused"
    mark = "" if one["verdict"] == "green" else f" {one['verdict']}"
    return f"{one['gain']:.1f}{mark}"


def run_all(path: Path, methods: list[str], conditions: list[str], threads: int) -> None:
    """Add every cell that the JSON does not hold yet."""
    results = json.loads(path.read_text()) if path.is_file() else {"cells": {}}
    for condition in conditions or CONDITIONS:
        scan = None
        row = results["cells"].setdefault(condition, {})
        for method in methods or ("joint instant", *METHODS):
            if method in row:
                continue
            scan = scan or CONDITIONS[condition]()
            name, preset = [*method.split(), _preset(method)][:2]
            row[method] = cell(scan, name, preset, threads)
            print(condition, method, row[method], flush=True)
            save(results, path)


def _preset(method: str) -> str:
    return "fast" if "fast" in METHODS[method.split()[0]].presets else "default"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", action="append", default=[])
    parser.add_argument("--condition", action="append", default=[], choices=list(CONDITIONS))
    parser.add_argument("--table", action="store_true", help="only make the Markdown again")
    parser.add_argument("--out", type=Path, default=RESULTS / "robustness.json")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    if not options.table:
        threads = set_threads(options.threads)
        run_all(options.out, options.method, options.condition, threads)
    options.out.with_suffix(".md").write_text(table(json.loads(options.out.read_text())))


if __name__ == "__main__":
    main()
