"""How long the default takes, against dwidenoise, and where the time goes.

    python benchmarks/speed.py            all of it, about half an hour on two cores
    python benchmarks/speed.py --table    only make the Markdown from the JSON again

Whole   A scan of 81 x 106 x 76 voxels and 160 volumes with correlated Rician noise. Every method is
        a command of its own on the same file; of quell with everything: mask, noise model,
        training, report. PSNR of the diffusion-weighted volumes against the mean magnitude of the
        truth, in the brain.
Trio    The same on the real scan that was acquired twice; gain by its repeat.
Curves  A slab of the phantom with more and more volumes, then slices, by the prior as it is.
Needs   dwidenoise (MRtrix3) on PATH; QUELL_DATA for the real scan.
"""

import json
import os
import sys
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import torch
from mppca import LARGE, LARGE_SNR
from quality import DATA, plain, processor, run, version_of_dwidenoise, write_scan
from quality_scans import CORRELATION, TrioScan, put_floor
from script import main_of, save

from quell.evaluate import psnr
from quell.record import versions
from quell.run import has_fast_bfloat16
from quell.series import Series, load
from quell.simulate import Phantom, corrupt, phantom

VOLUMES, SLICES_OF_VOLUMES = (7, 20, 40, 80, 160, 320), 16
SLICES, VOLUMES_OF_SLICES = (8, 16, 32, 64), 40
METHODS: dict[str, list[str]] = {
    "instant": ["--preset", "instant"],
    "default": [],
    "dwidenoise": [],
}
STAGES = ("check", "noise model", "training", "inference", "measure")


class LargeScan:
    """A phantom of the size of a research scan."""

    settings = LARGE

    @cached_property
    def head(self) -> Phantom:
        return phantom(self.settings)

    @property
    def sigma(self) -> np.ndarray:
        level = self.head.white_matter_b0 / LARGE_SNR
        return np.full(self.head.tissue.shape, level, dtype=np.float32)

    @property
    def noisy(self) -> Series:
        clean, rng = self.head.clean, np.random.default_rng(0)
        y = corrupt(clean.data, self.sigma, rng, "rician", correlation=CORRELATION)
        return replace(clean, data=y, mask=None)

    def score(self, written: np.ndarray) -> float:
        """PSNR of the diffusion-weighted volumes, dB."""
        clean, mask = self.head.clean, self.head.clean.mask
        assert mask is not None
        dwi = ~clean.is_b0
        goal = put_floor(clean.data, self.sigma, "rician")[..., dwi]
        return psnr(written[..., dwi], goal, mask, self.head.white_matter_b0)


class Trio(TrioScan):
    def score(self, written: np.ndarray) -> float:
        """Gain, dB."""
        return self.scores(written, None)["gain"]


class Slab(LargeScan):
    """So many volumes and slices."""

    def __init__(self, n_volumes: int, n_slices: int) -> None:
        n_b0 = max(1, n_volumes // 16)
        shape = (*LARGE.shape[:2], n_slices)
        shells = ((1000.0, n_volumes - n_b0),)
        self.settings = replace(LARGE, shape=shape, n_b0=n_b0, shells=shells)


def cost_of(scan: Any, name: str, threads: int, with_score: bool = True) -> dict[str, Any]:
    """What a command took, its score, and for quell how long each stage of it was."""
    with TemporaryDirectory() as own:
        folder = Path(own)
        write_scan(scan, folder)
        noisy, out = folder / "noisy.nii", folder / "denoised.nii"
        command = ["dwidenoise", str(noisy), str(out), "-quiet", "-nthreads", str(threads)]
        if name != "dwidenoise":
            command = [sys.executable, "-m", "quell", "denoise", str(noisy), str(out), "--quiet"]
            command += ["--threads", str(threads), *METHODS[name]]
        cost = run(command, folder, threads)
        cost["peak_over_input"] = cost["peak_bytes"] / (4 * int(np.prod(nib.load(noisy).shape)))
        row: dict[str, Any] = plain(cost) | {"load": os.getloadavg()[0]}
        if (record := out.with_suffix(".json")).exists():
            said = json.loads(record.read_text())["Denoising"]
            row |= {"seconds": said["Seconds"], "used": said.get("Used", "")}
        if with_score:
            row["score"] = scan.score(load(out).data)
    return row


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault("run", {
        "processor": processor(), "threads": threads,
        "has_fast_bfloat16": has_fast_bfloat16(torch.device("cpu")),
        "versions": versions() | {"dwidenoise": version_of_dwidenoise()},
    })  # fmt: skip
    scans = {"whole": LargeScan(), "trio": Trio(DATA)}
    for scan_name, scan in scans.items():
        rows = results.setdefault(scan_name, {})
        if scan_name == "trio" and not scan.is_there:
            continue
        for name in METHODS:
            if name not in rows:
                rows[name] = cost_of(scan, name, threads)
                print(scan_name, name, round(rows[name]["wall_seconds"]), flush=True)
                save(results, path)
        scan.__dict__.clear()  # what it holds takes memory
    curves = {
        "volumes": {n: (n, SLICES_OF_VOLUMES) for n in VOLUMES},
        "slices": {n: (VOLUMES_OF_SLICES, n) for n in SLICES},
    }
    for curve, sizes in curves.items():
        rows = results.setdefault(curve, {})
        for n, size in sizes.items():
            if str(n) not in rows:
                rows[str(n)] = cost_of(Slab(*size), "instant", threads, with_score=False)
                print(n, curve, round(rows[str(n)]["wall_seconds"]), flush=True)
                save(results, path)


def table(results: dict[str, Any]) -> str:
    """The Markdown."""
    about = results["run"]
    kind = "which multiplies bfloat16 in hardware"
    if not about["has_fast_bfloat16"]:
        kind = "which does not multiply bfloat16 in hardware: quell's networks take longer there"
    lines = [
        "# Speed", "",
        f"Commands from file to file, everything included, {about['threads']} threads on "
        f"{about['processor']}, {kind}; {results['date']}. Made by `benchmarks/speed.py`. "
        "*Stages*: of quell's own record; what is left is starting Python, reading, writing and "
        "the report. *Memory*: the largest resident size over the scan as float32. *Load*: "
        "processes that wanted the processor at the end, these threads counted: above the number "
        "of threads, other work slowed this one.",
    ]  # fmt: skip
    x, y, z = LARGE.shape
    titles = {
        "whole": (f"{x} x {y} x {z} voxels, 160 volumes", "DWI PSNR, dB"),
        "trio": ("Siemens Trio, 21 volumes", "gain, dB"),
    }
    for scan_name, (title, score) in titles.items():
        if not (rows := results.get(scan_name)):
            continue
        theirs = rows.get("dwidenoise", {}).get("wall_seconds")
        lines += [
            "", f"## {title}", "",
            f"| | wall, s | of dwidenoise's | {score} | processor, s | memory | load | "
            + ", s | ".join(STAGES) + ", s |",
            "| --- |" + " --: |" * (6 + len(STAGES)),
        ]  # fmt: skip
        for name, row in rows.items():
            over = f"{row['wall_seconds'] / theirs:.2f}" if theirs else "–"
            own = row.get("seconds", {})
            stages = " | ".join(f"{own[s]:.1f}" if s in own else "–" for s in STAGES)
            lines.append(
                f"| {name} | {row['wall_seconds']:.0f} | {over} | {row['score']:.2f} "
                f"| {row['cpu_seconds']:.0f} | {row['peak_over_input']:.2f} | {row['load']:.1f} "
                f"| {stages} |"
            )
    for curve, title in (
        ("volumes", f"{x} x {y} x {SLICES_OF_VOLUMES} voxels, more and more volumes"),
        ("slices", f"{VOLUMES_OF_SLICES} volumes of {x} x {y} voxels, more and more slices"),
    ):
        if not (rows := results.get(curve)):
            continue
        lines += [
            "", f"## {title}, instant", "",
            f"| {curve} | wall, s | of the row above | processor, s | inference, s | memory "
            "| load |", "| --: | --: | --: | --: | --: | --: | --: |",
        ]  # fmt: skip
        before = float("nan")
        for n, row in rows.items():
            wall = row["wall_seconds"]
            over = f"{wall / before:.2f}" if before == before else "–"
            before = wall
            lines.append(
                f"| {n} | {wall:.1f} | {over} | {row['cpu_seconds']:.1f} "
                f"| {row['seconds']['inference']:.1f} | {row['peak_over_input']:.2f} "
                f"| {row['load']:.1f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "speed", run_all, table)
