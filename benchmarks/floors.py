"""Where the time of `quell denoise` goes, stage by stage, and the least that each stage could take.

    python benchmarks/floors.py            all of it, about ten minutes on two cores
    python benchmarks/floors.py --table    only make the Markdown from the JSON again

Scans   The sample that comes with quell, the Siemens Trio scan, and a phantom of 81 x 106 x 76
        voxels and 160 volumes, by joint with the presets instant and default.
Floor   What must be read and written at least, over the bandwidth of a copy of memory; plus the
        multiply-adds of the networks over the rate of a large matrix product in the precision
        that they run in. Both rates are measured here, in the same run.
Needs   QUELL_DATA for the real scan.
"""

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from gpu import Passes, bandwidths, peaks
from quality import DATA, processor, write_scan
from script import main_of, save
from speed import LargeScan, Trio

import quell
from quell.noise.learning import REFINEMENTS
from quell.options import Options
from quell.pipeline import denoise
from quell.report import write_report
from quell.reported import report_facts
from quell.series import load, write_image

PRESETS = ("instant", "default")
SCANS = ("sample", "trio", "large")
NAMES = {"sample": "The sample", "trio": "Siemens Trio", "large": "Phantom, 160 volumes"}
STAGES = ("read", "check", "noise model", "training", "inference", "measure", "report", "write")
CPU = torch.device("cpu")


def path_of(name: str, folder: Path) -> Path | None:
    """The scan as a file; None where it is not there."""
    if name == "sample":
        return Path(quell.__file__).parent / "demo_scan" / "dwi.nii.gz"
    scan: Any = Trio(DATA) if name == "trio" else LargeScan()
    if name == "trio" and not scan.is_there:
        return None
    write_scan(scan, folder)
    return folder / "noisy.nii"


def stages_of(path: Path, preset: str, folder: Path, threads: int) -> dict[str, Any]:
    """Seconds, bytes and multiply-adds of every stage."""
    seconds, options = {}, Options(preset=preset, threads=threads)
    start = time.perf_counter()
    scan = load(path)
    seconds["read"] = time.perf_counter() - start
    passes = Passes(CPU)
    with passes.noted():
        result = denoise(scan, options, voice=passes)
    seconds |= result.seconds
    start = time.perf_counter()
    write_report(folder / "report.html", report_facts(result, scan, options, "quell denoise"))
    seconds["report"] = time.perf_counter() - start
    start = time.perf_counter()
    write_image(folder / "denoised.nii", result.denoised, scan, "quell denoise")
    seconds["write"] = time.perf_counter() - start
    return {
        "shape": scan.data.shape, "voxels": int(result.mask.sum()),
        "file": path.stat().st_size, "seconds": seconds, "networks": passes.cost(),
        "load": os.getloadavg()[0],
    }  # fmt: skip


def floors(row: dict[str, Any], rates: dict[str, Any]) -> dict[str, float]:
    """The least seconds of every stage."""
    series, volumes = 4 * int(np.prod(row["shape"])), row["shape"][3]
    inside = 4 * row["voxels"] * volumes
    covariance = row["voxels"] * volumes**2  # flop: two for each multiply-add, half by symmetry
    moved = {  # bytes
        "read": row["file"] + series,
        "check": series,
        "noise model": (REFINEMENTS + 1) * inside,
        "inference": 4 * series,  # scaled, taken apart, put together, scaled back
        "measure": 2 * inside,
        "report": 2 * inside,
        "write": 2 * series,
    }
    products = {
        "noise model": (REFINEMENTS + 1) * covariance / rates["peaks"]["float32"],
        **{
            stage: sum(of.get(p, 0.0) / peak for p, peak in rates["peaks"].items())
            for stage, of in row["networks"].items()
        },
    }
    return {
        stage: moved.get(stage, 0) / rates["bandwidths"]["copy"] / 1e9
        + products.get(stage, 0.0) / 1e12
        for stage in STAGES
    }


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault("run", {"processor": processor(), "threads": threads})
    if "rates" not in results:
        results["rates"] = {"bandwidths": bandwidths(CPU), "peaks": peaks(CPU)}
    rows = results.setdefault("rows", {})
    for name in SCANS:
        missing = [p for p in PRESETS if f"{name}, {p}" not in rows]
        with TemporaryDirectory() as own:
            where = path_of(name, Path(own)) if missing else None
            for preset in missing if where else ():
                row = stages_of(where, preset, Path(own), threads)
                rows[f"{name}, {preset}"] = row
                print(name, preset, row["seconds"], flush=True)
                save(results, path)


def table(results: dict[str, Any]) -> str:
    rates, about = results["rates"], results["run"]
    lines = [
        "# Where the time goes", "",
        f"`joint`, {about['threads']} threads on {about['processor']}, {results['date']}. Made by "
        "`benchmarks/floors.py`. Seconds of each stage, and in brackets how often the least that "
        "it could take: bytes over the bandwidth of a copy of memory "
        f"({rates['bandwidths']['copy']:.1f} GB/s) plus multiply-adds over the rate of a large "
        f"matrix product (bfloat16 {rates['peaks']['bfloat16']:.2f}, float32 "
        f"{rates['peaks']['float32']:.2f} TFLOP/s), all measured in this run. Without starting "
        "Python, which takes two to three seconds. A convolution of few channels cannot reach the "
        "rate of a large product; disks are slower than memory.", "",
        "| | " + " | ".join(STAGES) + " | all | load |",
        "| --- |" + " --: |" * (len(STAGES) + 2),
    ]  # fmt: skip
    for name, row in results["rows"].items():
        least, took, cells = floors(row, rates), row["seconds"], []
        for stage in STAGES:
            over = f" ({took[stage] / least[stage]:.0f})" if least[stage] > 1e-3 else ""
            cells.append(f"{took[stage]:.1f}{over}")
        scan, preset = name.split(", ")
        total = sum(took[stage] for stage in STAGES)
        cells += [f"{total:.1f} ({total / sum(least.values()):.1f})", f"{row['load']:.1f}"]
        lines.append(f"| {NAMES[scan]}, {preset} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "floors", run_all, table)
