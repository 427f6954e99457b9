"""The automatic mask of fields of view that hold little air, or none, on boxes cut from phantom B.

    python benchmarks/masks.py            what is missing, some ten minutes on two cores
    python benchmarks/masks.py --table    only make the Markdown from the JSON again

Boxes   Inside the brain, over its edge, and of the whole. Rician noise, signal over noise 15 (b=0,
        white matter), correlated by .17 and .34 along x and y; 70 volumes.
Gain    Of joint, preset instant, over the noisy box, b>0, in the object; dB of mean squared error
        to the mean magnitude without noise in it. With the automatic mask, and with the object.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from script import main_of, save

from quell.noise import learn
from quell.options import Options
from quell.pipeline import denoise
from quell.scaling.stabiliser import Stabiliser
from quell.series import Series, mask_of
from quell.simulate import corrupt, phantom

SNR, CORRELATION = 15.0, (0.17, 0.34, 0.0)
BOXES = {
    "inside, 24 x 24": np.s_[26:50, 36:60, 4:12],
    "inside, upper": np.s_[26:50, 36:60, 10:18],
    "inside, 32 x 32": np.s_[22:54, 32:64, 4:14],
    "inside, 40 x 40": np.s_[18:58, 28:68, 4:14],
    "inside, one slice": np.s_[20:56, 30:66, 9:10],
    "front": np.s_[26:50, 56:80, 4:14],
    "back": np.s_[26:50, 14:38, 4:14],
    "left": np.s_[10:34, 34:62, 4:14],
    "over one side": np.s_[4:36, 30:62, 4:14],
    "over a corner": np.s_[8:40, 12:44, 4:14],
    "over the front": np.s_[24:52, 60:92, 4:14],
    "wide": np.s_[6:70, 20:80, 6:14],
    "a quarter": np.s_[0:40, 0:48, 4:14],
    "all": np.s_[:, :, 4:14],
}


def row_of(name: str, threads: int) -> dict[str, Any]:
    """Share of air, overlap of the mask, and the gain with either mask."""
    made, box = phantom("B"), BOXES[name]
    clean, tissue = made.clean.data[box], made.tissue[box] != 0
    sigma = made.white_matter_b0 / SNR
    rng = np.random.default_rng(0)
    noisy = corrupt(clean, sigma, rng, "rician", correlation=CORRELATION)
    scan = replace(made.clean, data=noisy, mask=None)
    automatic = mask_of(scan)
    truth = Stabiliser.of("rician").mean_of(clean / sigma) * sigma
    row: dict[str, Any] = {
        "air": 1 - float(tissue.mean()),
        "mask": float(automatic.mean()),
        "dice": 2 * np.count_nonzero(automatic & tissue) / int(automatic.sum() + tissue.sum()),
    }
    for kind, mask in (("automatic", automatic), ("object", tissue)):
        with_mask = replace(scan, mask=mask)
        found = learn(with_mask, mask).sigma[mask]
        row[f"sigma, {kind}"] = float(np.median(found)) / sigma
        row[f"gain, {kind}"] = gain(with_mask, truth, tissue, threads)
    return row


def gain(scan: Series, truth: np.ndarray, tissue: np.ndarray, threads: int) -> float:
    """dB, of the volumes with diffusion weighting, in the object."""
    result = denoise(scan, Options(preset="instant", threads=threads))
    weighted = ~scan.is_b0
    before, after = (
        float(np.mean((data[tissue][:, weighted] - truth[tissue][:, weighted]) ** 2))
        for data in (scan.data, result.denoised)
    )
    return 10 * float(np.log10(before / after))


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    rows = results.setdefault("rows", {})
    for name in BOXES:
        if name not in rows:
            start = time.perf_counter()
            rows[name] = row_of(name, threads)
            print(f"{name}: {time.perf_counter() - start:.0f} s", rows[name], flush=True)
            save(results, path)


def table(results: dict[str, Any]) -> str:
    lines = [
        "# The automatic mask where there is little air, or none", "",
        f"Boxes cut from phantom B, {results['date']}. Made by `benchmarks/masks.py`. Rician "
        f"noise, signal over noise {SNR:.0f}, correlated by .17 / .34, 70 volumes, one draw. Air "
        "is the share of voxels without tissue, mask that of the automatic mask, overlap its Dice "
        "coefficient with the object (scalp included, which the mask of a whole head leaves out). "
        "sigma is the median of the noise map in the mask over the truth. Gain is that of `joint`, "
        "preset `instant`, over the noisy scan, at b>0 in the object.", "",
        "| box | air | mask | overlap | sigma, automatic | sigma, object | gain, automatic (dB) | "
        "gain, object (dB) |",
        "| --- |" + " --: |" * 7,
    ]  # fmt: skip
    for name, row in results["rows"].items():
        lines.append(
            f"| {name} | {row['air']:.0%} | {row['mask']:.0%} | {row['dice']:.3f} | "
            f"{row['sigma, automatic']:.2f} | {row['sigma, object']:.2f} | "
            f"{row['gain, automatic']:.1f} | {row['gain, object']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "masks", run_all, table)
