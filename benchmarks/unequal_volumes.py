"""Scans whose volumes differ in noise: what it costs a denoiser, and whether quell finds it.

    python benchmarks/unequal_volumes.py            all of it, minutes on one core
    python benchmarks/unequal_volumes.py --table    only make the Markdown from the JSON again

Scans   Phantom B under Rician noise, correlated, SNR 15 in white matter; the noise of each volume
        times a level. As after joining runs, averaging b0s, or scaling volumes one by one.
Scores  The gain over the noisy scan, b>0, in the brain, against the mean magnitude of the truth,
        and the largest error of the noise found in any volume. Once as quell runs, once with a
        noise model that takes all volumes to be alike, as versions before did.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from quality import processor
from quality_scans import CORRELATION, SEED, brain, put_floor, truth
from script import main_of, save

from quell.noise import NoiseModel, learn
from quell.pipeline import denoise
from quell.series import Series
from quell.simulate import corrupt

SNR = 15.0
METHODS = {"joint": "instant", "mppca": "default", "wiener": "default"}
Levels = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of numbers and is_b0 of the volumes
CONDITIONS: dict[str, tuple[str, Levels]] = {
    "equal": ("all alike", lambda v, b0: np.ones(len(v))),
    "alternating": ("every other volume 1.5 x", lambda v, b0: np.where(v % 2, 1.5, 1.0)),
    "one": ("one volume 3 x", lambda v, b0: np.where(v == len(v) // 2, 3.0, 1.0)),
    "runs": ("two runs, the second 2 x", lambda v, b0: np.where(v < len(v) / 2, 1.0, 2.0)),
    "averaged": ("b0s .5 x", lambda v, b0: np.where(b0, 0.5, 1.0)),
}


def scan_of(levels: np.ndarray) -> Series:
    """The phantom, its volumes of so much noise."""
    clean, rng = truth().clean, np.random.default_rng(SEED)
    data = np.empty_like(clean.data)
    for v, level in enumerate(levels):
        sigma = level * truth().white_matter_b0 / SNR
        one = corrupt(clean.data[..., [v]], sigma, rng, "rician", correlation=CORRELATION)
        data[..., v] = one[..., 0]
    return replace(clean, data=data)


def gain(result: np.ndarray, scan: Series, levels: np.ndarray) -> float:
    """dB over the noisy scan, b>0, in the brain."""
    before = after = 0.0
    for v in np.flatnonzero(~scan.is_b0):
        sigma = np.full(brain().shape, levels[v] * truth().white_matter_b0 / SNR, np.float32)
        goal = put_floor(truth().clean.data[..., [v]], sigma, "rician")[brain(), 0]
        before += float(np.mean((scan.data[brain(), v] - goal) ** 2, dtype=np.float64))
        after += float(np.mean((result[brain(), v] - goal) ** 2, dtype=np.float64))
    return 10 * np.log10(before / after)


def error_of(noise: NoiseModel, levels: np.ndarray) -> float:
    """The largest relative error of the noise of any volume."""
    found = np.median(noise.sigma[brain()]) * (1.0 if noise.levels is None else noise.levels)
    return float(np.abs(found / (levels * truth().white_matter_b0 / SNR) - 1).max())


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault("run", {"processor": processor(), "threads": threads})
    rows = results.setdefault("rows", {})
    for name, (_, levels_of) in CONDITIONS.items():
        if name in rows:
            continue
        is_b0 = truth().clean.is_b0
        levels = levels_of(np.arange(len(is_b0)), is_b0)
        scan = scan_of(levels)
        models = {"found": learn(scan, brain()), "alike": learn(scan, brain(), alike=True)}
        row: dict[str, Any] = {"error": {n: error_of(m, levels) for n, m in models.items()}}
        row["levels"] = models["found"].levels
        for method, preset in METHODS.items():
            row[method] = {}
            for known_as, noise in models.items():
                result = denoise(
                    scan, method=method, preset=preset, noise_model=noise, threads=threads
                )
                row[method][known_as] = gain(result.denoised, scan, levels)
            print(name, method, row[method], flush=True)
        row["levels"] = None if row["levels"] is None else [float(x) for x in row["levels"]]
        rows[name] = row
        save(results, path)


def table(results: dict[str, Any]) -> str:
    run = results["run"]
    names = " | ".join(f"{method}, {preset}" for method, preset in METHODS.items())
    lines = [
        "# Volumes of unequal noise", "",
        f"Phantom B, Rician, neighbours correlate by .17 / .34, SNR {SNR:g} on b=0 white matter; "
        f"{results['date']}, {run['processor']}. Made by `benchmarks/unequal_volumes.py`. Gain "
        "over the noisy scan (dB, b>0) with the noise of each volume as found, and in brackets "
        "with all volumes taken to be alike; largest error of the noise in any volume.", "",
        f"| noise | {names} | error of the noise |",
        "| --- |" + " --: |" * (len(METHODS) + 1),
    ]  # fmt: skip
    for name, row in results["rows"].items():
        cells = [f"{row[m]['found']:.2f} ({row[m]['alike']:.2f})" for m in METHODS]
        cells.append(f"{row['error']['found']:.1%} ({row['error']['alike']:.0%})")
        lines.append(f"| {CONDITIONS[name][0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "unequal_volumes", run_all, table)
