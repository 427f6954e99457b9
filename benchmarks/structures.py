"""What one volume alone shows: how much of it is kept, and what keeping it costs elsewhere.

    python benchmarks/structures.py            all of it, about ten minutes on two cores
    python benchmarks/structures.py --table    only make the Markdown from the JSON again

Kept     Balls are added to single diffusion-weighted volumes of phantom B, before the noise, far
         from each other. The scan is denoised with and without them, of the same noise: the
         difference over the amplitude is what was kept.
Cost     Ten scans without any ball: clusters that were put back, of which the false ones (the truth
         has less than half of what was put back), and the gain with and without putting back.
Outside  The mask is the white matter alone: the gain in the grey matter, in CSF and in the scalp,
         and how far the mean of a volume outside moved.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from quality_scans import SEED, put_floor, truth
from scipy import ndimage
from script import main_of, save

import quell
from quell.noise import clusters
from quell.series import Series
from quell.simulate import corrupt

SNR, CORRELATION = 15.0, (0.17, 0.34, 0.0)
BALLS = ((27, 5.0), (81, 5.0), (179, 3.0), (81, 10.0))  # voxels, amplitude over sigma
PER_SCAN, N_SCANS = 4, 10  # balls of a kind in a scan; scans without any
METHODS = {"joint instant": ("joint", "instant"), "wiener": ("wiener", "default")}
TISSUES = {"grey matter": 2, "CSF": 1, "deep grey": 4, "scalp": 6}


def noisy(clean: np.ndarray, seed: int) -> Series:
    """Phantom B's scan with Rician, correlated noise, on the truth's own mask."""
    sigma = truth().white_matter_b0 / SNR
    data = corrupt(clean, sigma, np.random.default_rng(seed), "rician", correlation=CORRELATION)
    return replace(truth().clean, data=data)


def with_balls(n_voxels: int, amplitude: float) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """The truth with balls of one kind in single volumes, and the volume and place of each."""
    clean, sigma = truth().clean.data.copy(), truth().white_matter_b0 / SNR
    inside = ndimage.binary_erosion(truth().clean.mask, iterations=4)
    inside &= truth().clean.data[..., ~truth().clean.is_b0].min(axis=3) > 2 * sigma
    rng = np.random.default_rng(SEED)
    places = rng.permutation(np.argwhere(inside))
    volumes = rng.permutation(np.flatnonzero(~truth().clean.is_b0))
    axes, found = np.indices(inside.shape), []
    for place, v in zip(places[:PER_SCAN], volumes[:PER_SCAN], strict=True):
        distance = ((axes - place[:, None, None, None]) ** 2).sum(axis=0)
        ball = np.zeros(inside.shape, dtype=bool)
        ball.flat[np.argsort(distance, axis=None, kind="stable")[:n_voxels]] = True
        clean[..., v] += amplitude * sigma * ball
        found.append((int(v), ball))
    return clean, found


def goal() -> np.ndarray:
    """The truth with its noise floor, which results keep."""
    shape = truth().tissue.shape
    sigma = np.full(shape, truth().white_matter_b0 / SNR, dtype=np.float32)
    return put_floor(truth().clean.data, sigma, "rician")


def gain(scan: Series, denoised: np.ndarray, where: np.ndarray) -> float:
    """dB over doing nothing, of the diffusion-weighted volumes."""
    dwi = ~scan.is_b0
    errors = [((data - goal())[where][:, dwi] ** 2).mean() for data in (scan.data, denoised)]
    return float(10 * np.log10(errors[0] / errors[1]))


def kept(method: str, preset: str, threads: int) -> dict[str, Any]:
    """Share of every kind of ball that a method keeps, mean and standard error over the balls."""
    seed, row = SEED, {}
    plain = quell.denoise(noisy(truth().clean.data, seed), method=method, preset=preset,
                          threads=threads)  # fmt: skip
    row["gain"] = gain(noisy(truth().clean.data, seed), plain.denoised, truth().clean.mask)
    for n_voxels, amplitude in BALLS:
        clean, balls = with_balls(n_voxels, amplitude)
        scan = noisy(clean, seed)
        result = quell.denoise(scan, method=method, preset=preset, threads=threads)
        added = scan.data - noisy(truth().clean.data, seed).data
        shares = [
            ((result.denoised - plain.denoised)[..., v][ball].sum() / added[..., v][ball].sum())
            for v, ball in balls
        ]
        row[f"{n_voxels} voxels, {amplitude:g} sigma"] = {
            "kept": float(np.mean(shares)),
            "error": float(np.std(shares, ddof=1) / np.sqrt(len(shares))),
            "named": named(result, balls),
        }
    return row


def named(result: quell.Result, balls: list[tuple[int, np.ndarray]]) -> int:
    """Balls that the report names, as kept or as removed."""
    rows = [(int(r[0]), tuple(r[1:4].astype(int))) for r in result.kept.get("kept clusters", ())]
    rows += [(c.volume, c.centre) for c in result.statistics.clusters]
    return sum(any(v == w and ball[at] for w, at in rows) for v, ball in balls)


def cost(threads: int) -> dict[str, Any]:
    """What putting clusters back does to scans that have none."""
    n_put_back, n_false, gains, gains_without = 0, 0, [], []
    for seed in range(N_SCANS):
        scan = noisy(truth().clean.data, 100 + seed)
        result = quell.denoise(scan, preset="instant", threads=threads)
        without = without_clusters(
            lambda scan=scan: quell.denoise(scan, preset="instant", threads=threads)
        )
        gains.append(gain(scan, result.denoised, scan.where))
        gains_without.append(gain(scan, without.denoised, scan.where))
        voxels = result.kept["kept voxels"]
        change, missing = result.denoised - without.denoised, goal() - without.denoised
        for row in result.kept["kept clusters"]:
            n_put_back += 1
            of_volume = voxels[voxels[:, 3] == row[0]]
            here = tuple(of_volume.T)
            n_false += missing[here].sum() / change[here].sum() < 0.5
    return {
        "scans": N_SCANS, "put_back": n_put_back, "false": int(n_false),
        "gain": float(np.mean(gains)), "gain_without": float(np.mean(gains_without)),
    }  # fmt: skip


def without_clusters(work: Callable[[], quell.Result]) -> quell.Result:
    """The same where no peak is ever high enough."""
    chance = clusters.CHANCE
    clusters.CHANCE = 1e-300
    try:
        return work()
    finally:
        clusters.CHANCE = chance


def outside(method: str, preset: str, threads: int) -> dict[str, Any]:
    """Gains outside a mask of white matter."""
    white = truth().tissue == 3
    scan = replace(noisy(truth().clean.data, SEED), mask=white)
    denoised = quell.denoise(scan, method=method, preset=preset, threads=threads).denoised
    means = [data[~white].mean(axis=0) for data in (scan.data, denoised)]
    return {
        "white matter": gain(scan, denoised, white),
        **{name: gain(scan, denoised, truth().tissue == t) for name, t in TISSUES.items()},
        "moved": float(np.abs(means[1] / means[0] - 1).max()),
    }


def run_all(threads: int, path: Path) -> None:
    """Add every row that the JSON does not hold yet."""
    results = json.loads(path.read_text()) if path.is_file() else {}
    for part, work in (("kept", kept), ("outside", outside)):
        rows = results.setdefault(part, {})
        for name, (method, preset) in METHODS.items():
            if name not in rows:
                rows[name] = work(method, preset, threads)
                save(results, path)
    if "cost" not in results:
        results["cost"] = cost(threads)
        save(results, path)


def table(results: dict[str, Any]) -> str:
    """The page."""
    kinds = [f"{n} voxels, {amplitude:g} sigma" for n, amplitude in BALLS]
    lines = [
        "# What one volume alone shows", "",
        f"Phantom B, 6 b=0 and 64 directions, Rician noise, SNR {SNR:g}, correlated, up to "
        f"{results['date']}.",
        "Made by `benchmarks/structures.py` from the JSON beside this page.", "",
        f"Balls in single diffusion-weighted volumes, {PER_SCAN} of a kind in a scan: share of "
        "their signal that is kept, ± one",
        "standard error over the balls; in brackets how many of them the report names, as kept or "
        "as removed.", "",
        "| method | " + " | ".join(k.replace("sigma", "σ") for k in kinds) + " | gain, dB |",
        "| --- |" + " --: |" * (len(kinds) + 1),
    ]  # fmt: skip
    for name, row in results["kept"].items():
        cells = [
            f"{row[k]['kept']:.0%} ± {row[k]['error']:.0%} ({row[k]['named']} of {PER_SCAN})"
            for k in kinds
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['gain']:.2f} |")
    if cost_row := results.get("cost"):
        lines += [
            "",
            f"Of {cost_row['scans']} scans without any ball `joint` put back "
            f"{cost_row['put_back']} clusters, {cost_row['false']} of them false (the truth has "
            "less than half of what",
            f"was put back). Gain {cost_row['gain']:.3f} dB, without putting back "
            f"{cost_row['gain_without']:.3f} dB.",
        ]
    names = ["white matter", *TISSUES]
    lines += [
        "", "The mask is the white matter alone: gain in dB inside it and outside, and by how much "
        "the mean of the whole outside moved",
        "in the volume where it moved most.", "",
        "| method | " + " | ".join(names) + " | mean outside |",
        "| --- |" + " --: |" * (len(names) + 1),
    ]  # fmt: skip
    for name, row in results.get("outside", {}).items():
        cells = [f"{row[n]:.1f}" for n in names]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['moved']:.1%} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "structures", run_all, table)
