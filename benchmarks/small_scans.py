"""Scans of few voxels: is a trained network taken that knows the scan's noise by heart?

    python benchmarks/small_scans.py            all of it, about fifteen minutes on two cores
    python benchmarks/small_scans.py --table    only make the Markdown from the JSON again

Series   Crops of phantom B, 1 b=0 and 12 directions: the default against the prior as it is.
Image    One slice of one b=0 image: every method that learns from single images, with its noise
         map given; error over that of the noisy image is what overfitting would raise above 1.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from quality_scans import SEED, put_floor, truth
from script import main_of, save

import quell
from quell.series import Series
from quell.simulate import corrupt

SIGMA, CORRELATION = 50.0, (0.17, 0.34, 0.0)
CROPS = {
    "32 x 32 x 1": np.s_[22:54, 32:64, 10:11],
    "40 x 40 x 1": np.s_[18:58, 28:68, 10:11],
    "64 x 64 x 1": np.s_[6:70, 16:80, 10:11],
    "64 x 64 x 4": np.s_[6:70, 16:80, 8:12],
    "76 x 96 x 10": np.s_[:, :, 5:15],
}
OF_SERIES = {"instant": "instant", "fast": "fast", "default": "default"}
OF_IMAGE = (
    ("nlm", "default"), ("joint", "instant"), ("joint", "default"), ("c2s", "fast"),
    ("c2s", "default"), ("r2r", "fast"), ("noisier2noise", "fast"), ("noise2score", "fast"),
    ("sure", "fast"), ("unsure", "fast"), ("implicit_prior", "fast"), ("noise2void", "fast"),
    ("noise2self", "fast"), ("neighbor2neighbor", "fast"), ("deep_image_prior", "fast"),
)  # fmt: skip


def noisy(volumes: slice) -> tuple[Series, np.ndarray]:
    """Some volumes of phantom B with Rician noise, and their truth with its floor."""
    clean = truth().clean
    data = corrupt(
        clean.data[..., volumes], SIGMA, np.random.default_rng(SEED), "rician",
        correlation=CORRELATION,
    )  # fmt: skip
    sigma = np.full(truth().tissue.shape, SIGMA, np.float32)
    goal = put_floor(clean.data[..., volumes], sigma, "rician")
    bvals, bvecs = clean.bvals, clean.bvecs
    assert bvals is not None
    assert bvecs is not None
    return replace(clean, data=data, bvals=bvals[volumes], bvecs=bvecs[volumes]), goal


def crop(scan: Series, goal: np.ndarray, box: tuple[slice, ...]) -> tuple[Series, np.ndarray]:
    return replace(scan, data=scan.data[box].copy(), mask=scan.where[box]), goal[box]


def error(result: np.ndarray, goal: np.ndarray, where: np.ndarray) -> float:
    """Mean squared error, σ²."""
    return float(((result - goal)[where] ** 2).mean() / SIGMA**2)


def run_all(threads: int, path: Path) -> None:
    """Add every row that the JSON does not hold yet."""
    results = json.loads(path.read_text()) if path.is_file() else {"series": {}, "image": {}}
    whole = noisy(slice(5, 18))  # the last b=0 and twelve directions
    for name, box in CROPS.items():
        scan, goal = crop(*whole, box)
        row = results["series"].setdefault(name, {"voxels": int(scan.where.sum())})
        for preset in OF_SERIES:
            if preset not in row:
                result = quell.denoise(scan, preset=preset, threads=threads)
                row[preset] = error(result.denoised, goal, scan.where)
                save(results, path)
    scan, goal = crop(*noisy(slice(0, 1)), np.s_[:, :, 10:11])
    sigma = np.full(scan.data.shape[:3], SIGMA, np.float32)
    results["image"].setdefault("noisy", error(scan.data, goal, scan.where))
    for method, preset in OF_IMAGE:
        if (name := f"{method} {preset}") not in results["image"]:
            result = quell.denoise(
                scan, method=method, preset=preset, noise_map=sigma, threads=threads
            )
            results["image"][name] = error(result.denoised, goal, scan.where)
            save(results, path)


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Scans of few voxels", "",
        f"Phantom B, Rician noise, SNR 15, correlated, up to {results['date']}. Made by "
        "`benchmarks/small_scans.py` from the JSON beside this page. Mean squared error, σ².", "",
        "Crops with 1 b=0 and 12 directions: `joint` with its prior as it is, and trained on with "
        "the scan.", "",
        "| crop | voxels in the mask | " + " | ".join(OF_SERIES) + " |",
        "| --- | --: |" + " --: |" * len(OF_SERIES),
    ]  # fmt: skip
    for name, row in results["series"].items():
        cells = [f"{row[p]:.3f}" if p in row else "–" for p in OF_SERIES]
        lines.append(f"| {name} | {row['voxels']} | " + " | ".join(cells) + " |")
    lines += ["", "One image, 76 x 96 x 1, its noise map given.", "", "| method | MSE |",
              "| --- | --: |"]  # fmt: skip
    lines += [f"| {name} | {value:.2f} |" for name, value in results["image"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "small_scans", run_all, table)
