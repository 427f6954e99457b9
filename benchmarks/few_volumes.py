"""Scans of 2 to 12 volumes: is the noise known, and does every method gain? One table.

    python benchmarks/few_volumes.py            all of it, about ten minutes on one core
    python benchmarks/few_volumes.py --table    only make the Markdown from the JSON again

Scans   The anatomy of phantom B, 8 slices, one b0 and V - 1 directions at b = 1000 s/mm². Rician
        noise that correlates by .17 / .34 / 0; SNR is that of white matter at b = 0.
Judged  By the truth: gain is how many times less mean squared error than the noisy scan has, in
        dB, over b > 0 in the mask; FA error over that of the noisy scan, where 6 directions or more
        determine a tensor. Settings were chosen on phantom A.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from quality import processor
from script import main_of, save

import quell
from quell.evaluate import fa_error, tensor_maps
from quell.noise import NoiseModel, learn
from quell.series import Series
from quell.simulate import INSTANCES, corrupt, phantom

VOLUMES, SNRS = (7, 2, 3, 4, 5, 9, 12), (15, 30, 60)
CORRELATION, N_SLICES, SEED = (0.17, 0.34, 0.0), 8, 2026
METHODS = {"joint instant": ("joint", "instant"), "mppca": ("mppca", "default"),
           "wiener": ("wiener", "default")}  # fmt: skip


def scan_of(V: int, snr: float) -> tuple[Series, Series, float]:
    """The clean scan, the noisy one and sigma."""
    b = INSTANCES["B"]
    shape = (*b.shape[:2], N_SLICES)
    made = phantom(replace(b, shape=shape, n_b0=1, shells=((1000.0, V - 1),)))
    sigma = made.white_matter_b0 / snr
    rng = np.random.default_rng(SEED + V)
    y = corrupt(made.clean.data, sigma, rng, "rician", 1, CORRELATION)
    return made.clean, replace(made.clean, data=y), sigma


def gain(clean: Series, noisy: Series, denoised: np.ndarray) -> float:
    """dB over b > 0 in the mask."""
    before, after = (
        np.mean((x - clean.data)[noisy.where][:, ~noisy.is_b0] ** 2, dtype=np.float64)
        for x in (noisy.data, denoised)
    )
    return float(10 * np.log10(before / after))


def fa_ratio(clean: Series, noisy: Series, denoised: np.ndarray) -> float | None:
    """FA error over that of the noisy scan; None with fewer than 6 directions."""
    if np.count_nonzero(~clean.is_b0) < 6:
        return None
    truth, before, after = (
        tensor_maps(x, clean.bvals, clean.bvecs, clean.where)
        for x in (clean.data, noisy.data, denoised)
    )
    where = clean.where
    return fa_error(after, truth, where) / fa_error(before, truth, where)


def measured(
    clean: Series, noisy: Series, noise: NoiseModel, method: tuple[str, str], threads: int
) -> dict[str, Any]:
    """Gain and FA error of a method, told the noise that quell learned."""
    name, preset = method
    result = quell.denoise(noisy, noise_model=noise, method=name, preset=preset, threads=threads)
    return {"gain": gain(clean, noisy, result.denoised),
            "fa_ratio": fa_ratio(clean, noisy, result.denoised)}  # fmt: skip


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"scans": {}}
    results |= {"processor": processor(), "threads": threads, "quell": quell.__version__}
    for V in VOLUMES:
        for snr in SNRS:
            row = results["scans"].setdefault(f"{V} volumes, SNR {snr}", {})
            if all(name in row.get("methods", {}) for name in METHODS):
                continue
            clean, noisy, sigma = scan_of(V, snr)
            noise = learn(noisy, noisy.where)
            row |= {
                "volumes": V, "snr": snr, "is_upper_bound": noise.is_upper_bound,
                "sigma_over_true": float(np.median(noise.sigma[noisy.where])) / sigma,
                "lag_one": noise.lag_one(), "source": noise.source,
            }  # fmt: skip
            row.setdefault("methods", {})
            for name, method in METHODS.items():
                if name not in row["methods"]:
                    row["methods"][name] = measured(clean, noisy, noise, method, threads)
                    save(results, path)


def table(results: dict[str, Any]) -> str:
    names = list(METHODS)
    lines = [
        "# Few volumes",
        "",
        "One b0 and V - 1 directions of phantom B's anatomy, 76 x 96 x 8 voxels, Rician noise that "
        "correlates by .17 / .34 / 0 (x / y / z). The noise of each scan was learned by quell from "
        "the scan alone. Gain in dB over b > 0 in the mask; in brackets, where a tensor can be "
        "fitted, the FA error over that of the noisy scan: below 1 is better. The prior of `joint` "
        "has learned from phantoms of this make. "
        f"{results['processor']}, {results['threads']} thread(s), quell {results['quell']}, "
        f"{results['date']}. Made by `benchmarks/few_volumes.py`.",
        "",
        "| V | SNR | sigma / true | lag-1 correlation | " + " | ".join(names) + " |",
        "| --: | --: | --: | :-- | " + " | ".join("--:" for _ in names) + " |",
    ]
    for row in sorted(results["scans"].values(), key=lambda row: (row["volumes"], row["snr"])):
        lag = " / ".join(f"{c:.2f}" for c in row["lag_one"])
        bound = " (bound)" if row["is_upper_bound"] else ""
        cells = [_cell(row["methods"].get(name)) for name in names]
        lines.append(
            f"| {row['volumes']} | {row['snr']} | {row['sigma_over_true']:.2f}{bound} | {lag} | "
            + " | ".join(cells) + " |"
        )  # fmt: skip
    learned = sorted({_kind(row["source"]) for row in results["scans"].values()})
    return "\n".join([*lines, "", "Noise learned from: " + "; ".join(learned) + ".", ""])


def _kind(source: str) -> str:
    """The source without its numbers."""
    return " ".join(word for word in source.split() if not word.isdigit())


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    fa = "" if found["fa_ratio"] is None else f" ({found['fa_ratio']:.2f})"
    return f"{found['gain']:.2f}{fa}"


if __name__ == "__main__":
    main_of(__doc__, "few_volumes", run_all, table)
