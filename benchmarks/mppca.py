"""MP-PCA and Patch2Self against MRtrix3 dwidenoise: error, noise map, time and memory.

    python benchmarks/mppca.py            all of it, about half an hour on two cores
    python benchmarks/mppca.py --table    only make the Markdown from the JSON again

Here    Error and noise map on phantom B and on the scan acquired twice of `quality_scans`; time and
        memory on a scan of 81 x 106 x 76 voxels and 160 volumes, and on a quarter of its slices,
        where every method is a command of its own on the same file.
Needs   dwidenoise (MRtrix3) on PATH.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from quality import DATA, plain, processor, run, version_of_dwidenoise, write_scan
from quality_scans import PhantomScan, TrioScan, brain, put_floor, truth
from script import main_of, save

import quell
from quell.record import versions
from quell.series import Series, write_nifti
from quell.simulate import PhantomSettings, corrupt, phantom

SCANS: list[PhantomScan | TrioScan] = [
    PhantomScan("gaussian", False, 15.0),
    PhantomScan("gaussian", False, 7.5),
    PhantomScan("rician", False, 15.0),
    PhantomScan("gaussian", True, 15.0),
    PhantomScan("rician", True, 15.0),
    PhantomScan("rician", True, 7.5),
    TrioScan(DATA),
]
VARIANTS: dict[str, dict[str, str]] = {
    "mppca": {},
    "mppca, noise=white": {"noise": "white"},
    "mppca, estimator=mp, noise=white": {"estimator": "mp", "noise": "white"},
}
LARGE = PhantomSettings(
    (81, 106, 76), 2.0, 10, ((1000.0, 75), (2000.0, 75)), seed=11, slab_mm=0.0
)  # fmt: skip
LARGE_SNR = 15.0
QUARTER = slice(28, 47)  # slices of it
COSTS = {  # which scan, and who is measured on it
    "a quarter of its slices": ("mppca", "dwidenoise", "patch2self"),
    "the whole scan": ("mppca", "patch2self", "dwidenoise"),
}
QUELL = [sys.executable, "-m", "quell", "denoise", "--no-report", "--quiet"]


# ---- error and noise map -----------------------------------------------------------------------


def by_dwidenoise(noisy: Path, folder: Path, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """The result (X, Y, Z, V) and the noise map (X, Y, Z) of MRtrix3."""
    out, noise = folder / "denoised.nii", folder / "noise.nii"
    command = ["dwidenoise", str(noisy), str(out), "-noise", str(noise), "-quiet"]
    subprocess.run([*command, "-nthreads", str(threads)], check=True)
    return tuple(np.asarray(nib.load(path).dataobj, np.float32) for path in (out, noise))


def scores(scan: PhantomScan | TrioScan, out: np.ndarray, sigma: np.ndarray) -> dict[str, Any]:
    """Squared error in units of the noise, and the noise map over the true noise, medians."""
    if isinstance(scan, TrioScan):
        return plain({
            "mse": scan.scores(out, None)["mse"],
            "sigma": float(np.median((sigma / np.maximum(scan.sigma_map, 1e-6))[scan.mask])),
        })  # fmt: skip
    where, goal = brain(), put_floor(truth().clean.data, scan.sigma, scan.law)
    return plain({
        "mse": float(np.mean(((out - goal)[where] / scan.sigma[where][:, None]) ** 2)),
        "sigma": float(np.median(sigma[where] / scan.sigma[where])),
    })  # fmt: skip


def measure_scan(scan: PhantomScan | TrioScan, threads: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_scan(scan, folder)
        theirs, their_sigma = by_dwidenoise(folder / "noisy.nii", folder, threads)
    rows["dwidenoise"] = scores(scan, theirs, their_sigma)
    where = scan.mask if isinstance(scan, TrioScan) else brain()
    for words, settings in VARIANTS.items():
        result = quell.denoise(
            scan.noisy, method="mppca", threads=threads, noise_law=law(scan), **settings
        )
        sigma = result.kept["noise map"]
        rows[words] = scores(scan, result.denoised, sigma)
        rows[words]["sigma_over_dwidenoise"] = float(
            f"{np.median(sigma[where] / np.maximum(their_sigma[where], 1e-6)):.5g}"
        )
    scan.__dict__.pop("noisy", None)
    return rows


def law(scan: PhantomScan | TrioScan) -> str:
    return "auto" if isinstance(scan, TrioScan) else scan.law


# ---- time and memory ---------------------------------------------------------------------------


class LargeScan:
    """A phantom of the size of a research scan."""

    @cached_property
    def noisy(self) -> Series:
        made = phantom(LARGE)
        sigma = made.white_matter_b0 / LARGE_SNR
        y = corrupt(made.clean.data, sigma, np.random.default_rng(0), "rician")
        return replace(made.clean, data=y, mask=None)


def command(name: str, noisy: Path, out: Path, threads: int) -> list[str]:
    if name == "dwidenoise":
        return ["dwidenoise", str(noisy), str(out), "-quiet", "-nthreads", str(threads)]
    return [*QUELL, str(noisy), str(out), "--method", name, "--threads", str(threads)]


def cost_of(name: str, noisy: Path, threads: int) -> dict[str, Any]:
    """What a command took, and for quell how long each stage of it was."""
    with TemporaryDirectory(dir=noisy.parent) as own:
        out = Path(own) / "denoised.nii"
        cost = run(command(name, noisy, out, threads), Path(own), threads)
        values = int(np.prod(nib.load(noisy).shape))
        cost["peak_over_input"] = cost["peak_bytes"] / (4 * values)
        row: dict[str, Any] = plain(cost)
        if (record := out.with_suffix(".json")).exists():
            row["seconds"] = json.loads(record.read_text())["Denoising"]["Seconds"]
    return row | {"load": os.getloadavg()[0]}


# ---- the whole run -----------------------------------------------------------------------------


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault("run", {
        "processor": processor(), "threads": threads,
        "versions": versions() | {"dwidenoise": version_of_dwidenoise()},
    })  # fmt: skip
    scans, costs = results.setdefault("scans", {}), results.setdefault("costs", {})
    large = LargeScan()
    for size, methods in COSTS.items():
        if set(methods) <= set(costs.get(size, {})):
            continue
        with TemporaryDirectory() as name:
            write_scan(large, Path(name))  # type: ignore[arg-type]
            if size != "the whole scan":
                cut = replace(large.noisy, data=large.noisy.data[:, :, QUARTER])
                write_nifti(Path(name) / "noisy.nii", cut.data, cut)
            for method in methods:
                start = time.perf_counter()
                row = cost_of(method, Path(name) / "noisy.nii", threads)
                costs.setdefault(size, {})[method] = row
                print(f"{size}: {method}, {time.perf_counter() - start:.0f} s", flush=True)
                save(results, path)
    large.__dict__.clear()  # its noisy series takes memory
    for scan in SCANS:
        is_missing = isinstance(scan, TrioScan) and not scan.is_there
        if scan.name in scans or is_missing:
            continue
        scans[scan.name] = {"words": words_of(scan), "methods": measure_scan(scan, threads)}
        save(results, path)


def words_of(scan: PhantomScan | TrioScan) -> str:
    if isinstance(scan, TrioScan):
        return scan.words
    return f"phantom B, {scan.law.capitalize()}, {scan.words}"


def table(results: dict[str, Any]) -> str:
    """The Markdown."""
    about, costs = results["run"], results["costs"]
    lines = [
        "# MP-PCA", "",
        f"Against dwidenoise {about['versions']['dwidenoise']}, both with {about['threads']} "
        f"threads on {about['processor']}, {results['date']}. Made by `benchmarks/mppca.py`.", "",
        "*Error*: mean squared error over the noise variance, in the brain; on the phantom against "
        "the mean magnitude of the truth, on the real scan against its repeat, less 1. *Over "
        "dwidenoise*: of its error. *sigma*: median of the method's own noise map over the true "
        "noise, that of one Gaussian part; dwidenoise gives the spread of the magnitudes. *Of "
        "dwidenoise's*: median ratio of both maps. On the real scan the true noise is that of the "
        "difference of both acquisitions in the voxels around each voxel.", "",
        "| scan | method | error | over dwidenoise | sigma | of dwidenoise's |",
        "| --- | --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for entry in results["scans"].values():
        theirs = entry["methods"]["dwidenoise"]["mse"]
        for name, row in entry["methods"].items():
            ratio = row.get("sigma_over_dwidenoise", 1.0)
            lines.append(
                f"| {entry['words']} | {name} | {row['mse']:.4f} | {row['mse'] / theirs:.2f} "
                f"| {row['sigma']:.3f} | {ratio:.3f} |"
            )
    if not costs:
        return "\n".join(lines) + "\n"
    x, y, z = LARGE.shape
    lines += [
        "", f"A scan of {x} x {y} x {z} and 160 volumes, commands from file to file; *input*: "
        "the series as float32. *Method*: what the method itself took. *Load*: processes that "
        "wanted the processor at the end, these threads counted.", "",
        "| scan | method | wall, s | over dwidenoise | processor, s | method, s "
        "| peak memory, of input | load |",
        "| --- | --- | --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    for size, rows in costs.items():
        theirs = rows.get("dwidenoise", {}).get("wall_seconds")
        for name, row in rows.items():
            own = row.get("seconds", {})
            method = f"{own['training'] + own['inference']:.1f}" if own else "–"
            over = f"{row['wall_seconds'] / theirs:.2f}" if theirs else "–"
            lines.append(
                f"| {size} | {name} | {row['wall_seconds']:.0f} | {over} "
                f"| {row['cpu_seconds']:.0f} | {method} | {row['peak_over_input']:.2f} "
                f"| {row['load']:.1f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "mppca", run_all, table)
