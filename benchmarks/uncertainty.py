"""Is the uncertainty right? Against a second acquisition, and against known truths.

    python benchmarks/uncertainty.py            all of it, about ten minutes on two cores
    python benchmarks/uncertainty.py --table    only make the Markdown from the JSON again

Trio     The real scan that was acquired twice: the difference between the second acquisition and
         the result has the variance of the noise and that of the result's error, so 68 % of the
         differences should lie within the root of their sum. The head moved between the two and the
         scanner drifted, so all is told once more with that taken off.
Phantom  B, where the error itself is known: 68 % of the errors should lie within the uncertainty.
Needs    QUELL_DATA for the real scan.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from quality import DATA, processor
from quality_scans import ERODED, PhantomScan, TrioScan, put_floor, truth
from scipy import ndimage
from script import main_of, save

import quell
from quell.series import Series

N_GROUPS = 5  # of equally many voxels, by rising uncertainty
SCANS: dict[str, TrioScan | PhantomScan] = {
    "Siemens Trio, 21 volumes": TrioScan(DATA),
    **{
        f"Phantom B, {scan.law}, {scan.words}": scan
        for scan in (
            PhantomScan("gaussian", False, 15.0),
            PhantomScan("rician", True, 15.0),
            PhantomScan("rician", True, 7.5),
        )
    },
}


def given(scan: TrioScan | PhantomScan) -> tuple[Series, np.ndarray, float]:
    """The scan, what its result is held against, and how often σ² is in the difference."""
    if isinstance(scan, TrioScan):
        first, second = scan.repeats
        return first, second.data, 1.0
    return scan.noisy, put_floor(truth().clean.data, scan.sigma, scan.law), 0.0


def moved(result: np.ndarray, second: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What movement and drift make of a result, fitted to a second acquisition to first order.

    For each volume an affine movement, and a gain and an offset that are linear in space: 20
    numbers for many thousand voxels.

    result, second  (X, Y, Z, V)
    inside          (X, Y, Z) boolean, where it is fitted and added
    """
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in inside.shape), indexing="ij")
    linear = np.stack([np.ones(inside.sum()), *(axis[inside] for axis in axes)])
    out = result.copy()
    for v in range(result.shape[3]):
        image = result[..., v]
        shifts = [slope[inside] for slope in np.gradient(image)]
        changes = np.concatenate([c * linear for c in (*shifts, image[inside], linear[0])])
        difference = (second[..., v] - image)[inside]
        found = np.linalg.lstsq(changes.T, difference, rcond=None)[0]
        out[..., v][inside] += found @ changes
    return out


def rows(name: str, scan: TrioScan | PhantomScan, threads: int) -> dict[str, Any]:
    """A row of the table, two for the scan that was acquired twice."""
    noisy, goal, n_noise = given(scan)
    result = quell.denoise(noisy, uncertainty=True, threads=threads)
    assert result.uncertainty is not None
    inside = ndimage.binary_erosion(result.mask, iterations=ERODED)
    dwi = ~noisy.is_b0
    denoised, goal = result.denoised[..., dwi], goal[..., dwi]
    results = {name: denoised}
    if n_noise:
        results[f"{name}, movement and drift taken off"] = moved(denoised, goal, inside)
    sigma = result.noise.sigma[inside][:, None]
    said = (result.uncertainty[inside][:, dwi] / sigma) ** 2
    return {
        words: row(((goal - out)[inside] / sigma) ** 2, said, n_noise)
        for words, out in results.items()
    }


def row(error: np.ndarray, said: np.ndarray, n_noise: float) -> dict[str, Any]:
    """Shares within one and two sd, and error and uncertainty in groups.

    error, said  (voxels, V) squares of the difference and of the uncertainty, σ²
    n_noise      how often σ² is in the difference
    """
    total = said + n_noise
    edges = np.quantile(said, np.linspace(0, 1, N_GROUPS + 1))[1:-1]
    group = np.digitize(said, edges)
    return {
        "within 1 sd": float(np.mean(error <= total)),
        "within 2 sd": float(np.mean(error <= 4 * total)),
        "said": float(said.mean()),
        "found": float(error.mean() - n_noise),
        "groups": [
            {
                "said": float(said[group == g].mean()),
                "found": float(error[group == g].mean() - n_noise),
                "within 1 sd": float(np.mean((error <= total)[group == g])),
            }
            for g in range(N_GROUPS)
        ],
    }


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    results["run"] = {"processor": processor(), "threads": threads}
    for name, scan in SCANS.items():
        if name in results["rows"] or (isinstance(scan, TrioScan) and not scan.is_there):
            continue
        results["rows"] |= rows(name, scan, threads)
        print(name, results["rows"][name]["within 1 sd"], flush=True)
        save(results, path)


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Is the uncertainty right?", "",
        "`quell denoise --uncertainty-out` with the default method, diffusion-weighted volumes, "
        f"{ERODED} voxels off the rim of the mask, {results['date']}. Made by "
        "`benchmarks/uncertainty.py`. A Gaussian has 68.3 % within one standard deviation and "
        "95.4 % within two. Trio: of the difference to the second acquisition, whose own noise "
        "takes the larger part; what moved or pulsed between the two counts as error, but for the "
        "row where an affine movement and a linear drift of each volume are taken off. Phantom: of "
        "the error itself. *Said*, *found*: mean square of the uncertainty and of the error, σ².",
        "",
        "| scan | within 1 sd | within 2 sd | said | found |", "| --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for name, one in results["rows"].items():
        lines.append(
            f"| {name} | {100 * one['within 1 sd']:.1f} % | {100 * one['within 2 sd']:.1f} % "
            f"| {one['said']:.3f} | {one['found']:.3f} |"
        )
    lines += [
        "", "## From the surest fifth of the voxels to the least sure", "",
        "Said / found, and the share within one sd.", "",
        "| scan |" + "".join(f" {n} |" for n in range(1, N_GROUPS + 1)),
        "| --- |" + " --: |" * N_GROUPS,
    ]  # fmt: skip
    for name, one in results["rows"].items():
        cells = [
            f"{g['said']:.3f} / {g['found']:.3f}, {100 * g['within 1 sd']:.0f} %"
            for g in one["groups"]
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "uncertainty", run_all, table)
