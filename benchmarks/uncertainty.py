"""Is the uncertainty right? What is said against what is found, from the surest voxels on.

    python benchmarks/uncertainty.py            all of it, about ten minutes on two cores
    python benchmarks/uncertainty.py --table    only make the Markdown from the JSON again

Phantom  B, where the error itself is known; once with structures of 81 voxels in single volumes.
Repeats  A series of repeats: 12 of them are denoised, the mean of the others is held against them.
Trio     The real scan that was acquired twice. The head moved between the two and the scanner
         drifted, so all is told once more with that taken off.
Power    The noise of what a result is held against is taken off what is found, never added to what
         is said: where it is as large as the uncertainty, shares within one standard deviation
         would say little, so those are given of phantoms alone.
Needs    QUELL_DATA for the real scans.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from quality import DATA, processor
from quality_scans import ERODED, SEED, PhantomScan, TrioScan, put_floor, truth
from scipy import ndimage
from script import main_of, save

import quell
from quell.series import Series

N_GROUPS = 10  # of equally many voxels, by rising uncertainty
N_DENOISED = 12  # of the repeats
STRUCTURE = (81, 4.0, 6)  # voxels, amplitude over sigma, volumes that have one
REPEATS = {
    "Philips ASL, static phantom": ("phantom-philips-asl-static", 40),
    "Philips BOLD, head": ("philips-elition-bold", 60),
}  # folder, repeats that are taken
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


def with_structures(scan: PhantomScan) -> tuple[Series, np.ndarray, np.ndarray]:
    """The scan with a structure in some single volumes, its goal, and where they are."""
    (n_voxels, amplitude, n), noisy = STRUCTURE, scan.noisy
    sigma, data = float(np.median(scan.sigma)), noisy.data.copy()
    goal = put_floor(truth().clean.data, scan.sigma, scan.law)
    inside = ndimage.binary_erosion(truth().clean.mask, iterations=4)
    rng, axes = np.random.default_rng(SEED), np.indices(inside.shape)
    where = np.zeros(data.shape, dtype=bool)
    places = rng.permutation(np.argwhere(inside))[:n]
    for place, v in zip(places, rng.permutation(np.flatnonzero(~noisy.is_b0)), strict=False):
        distance = ((axes - place[:, None, None, None]) ** 2).sum(axis=0)
        where[..., v].flat[np.argsort(distance, axis=None, kind="stable")[:n_voxels]] = True
    data[where] += amplitude * sigma
    goal[where] += amplitude * sigma
    return replace(noisy, data=data), goal, where


def rows(name: str, scan: TrioScan | PhantomScan, threads: int) -> dict[str, Any]:
    """A row of the table; more for the scan that was acquired twice, and with structures."""
    noisy, goal, n_noise = given(scan)
    found = of_scan(name, noisy, goal, n_noise, threads)
    if isinstance(scan, PhantomScan) and scan.law == "rician":
        noisy, goal, where = with_structures(scan)
        found |= of_scan(
            f"{name}, with structures of single volumes", noisy, goal, 0.0, threads, where
        )
    return found


def of_scan(
    name: str, noisy: Series, goal: np.ndarray, n_noise: float, threads: int,
    where: np.ndarray | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The rows of one scan.

    where  (X, Y, Z, V)  structures that have a row of their own
    """
    result = quell.denoise(
        noisy, preset="instant", uncertainty=True, threads=threads, fourth_axis=noisy.fourth_axis
    )
    assert result.uncertainty is not None
    inside = ndimage.binary_erosion(result.mask, iterations=ERODED)
    kept = ~noisy.is_b0
    denoised, goal = result.denoised[..., kept], goal[..., kept]
    sigma = result.noise.sigma[inside][:, None]
    said = (result.uncertainty[inside][:, kept] / sigma) ** 2
    results = {name: denoised}
    if isinstance(SCANS.get(name), TrioScan):
        results[f"{name}, movement and drift taken off"] = moved(denoised, goal, inside)
    found = {
        words: row(((goal - out)[inside] / sigma) ** 2, said, n_noise)
        for words, out in results.items()
    }
    if where is not None:
        there = where[inside][:, kept]
        error = ((goal - denoised)[inside] / sigma) ** 2
        found[f"{name}: in these"] = row(error[there], said[there], n_noise)
    return found


def of_repeats(name: str, threads: int) -> dict[str, Any]:
    """The row of a series of repeats, the mean of those that are not denoised as the truth."""
    folder, n = REPEATS[name]
    whole = quell.load(sorted((DATA / folder).glob("*.nii*"))[0])
    rest = whole.data[..., N_DENOISED:n]
    data = np.ascontiguousarray(whole.data[..., :N_DENOISED])
    noisy = replace(whole, data=data, bvals=None, bvecs=None, fourth_axis="repetitions")
    goal = np.repeat(rest.mean(axis=3, keepdims=True), N_DENOISED, axis=3)
    return of_scan(name, noisy, goal, 1.0 / rest.shape[3], threads)


def row(error: np.ndarray, said: np.ndarray, n_noise: float) -> dict[str, Any]:
    """Error and uncertainty, over all and in groups; the share within one sd without other noise.

    error, said  squares of the difference and of the uncertainty, σ²
    n_noise      how often σ² is in the difference
    """
    edges = np.quantile(said, np.linspace(0, 1, N_GROUPS + 1))[1:-1]
    group = np.digitize(said, edges)
    groups = [
        {"said": float(said[group == g].mean()), "found": float(error[group == g].mean() - n_noise)}
        for g in range(N_GROUPS)
        if (group == g).any()
    ]
    points = np.array([[one["said"], one["found"]] for one in groups])
    slope = np.polyfit(*points.T, 1)[0] if len(points) > 2 else float("nan")
    return {
        "within 1 sd": None if n_noise else float(np.mean(error <= said)),
        "said": float(said.mean()),
        "found": float(error.mean() - n_noise),
        "slope": None if np.isnan(slope) else float(slope),
        "groups": groups,
    }


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    results["run"] = {"processor": processor(), "threads": threads}
    for name, scan in SCANS.items():
        if name in results["rows"] or (isinstance(scan, TrioScan) and not scan.is_there):
            continue
        results["rows"] |= rows(name, scan, threads)
        save(results, path)
    for name, (folder, _) in REPEATS.items():
        if name not in results["rows"] and (DATA / folder).is_dir():
            results["rows"] |= of_repeats(name, threads)
            save(results, path)


def table(results: dict[str, Any]) -> str:
    lines = [
        "# Is the uncertainty right?", "",
        "`quell denoise --uncertainty-out` with the preset `instant`, diffusion-weighted volumes "
        f"or repeats, {ERODED} voxels off the rim of the mask, {results['date']}. Made by "
        "`benchmarks/uncertainty.py`. *Said*, *found*: mean square of the uncertainty and of the "
        "error, σ². *Slope*: of found on said over the tenths below; 1 is right. Phantom: the "
        "error itself. Repeats: against the mean of those that were not denoised; Trio: against "
        "the second acquisition. Their own noise is taken off what is found; what moved, pulsed or "
        "drifted between counts as error, but for the row where an affine movement and a linear "
        "drift of each volume are taken off. *Within 1 sd*: of a Gaussian error 68 %; only where "
        "there is no "
        "other noise, which would hide the answer.",
        "",
        "| scan | said | found | slope | within 1 sd |", "| --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for name, one in results["rows"].items():
        slope = "–" if one["slope"] is None else f"{one['slope']:.2f}"
        within = "–" if one["within 1 sd"] is None else f"{100 * one['within 1 sd']:.0f} %"
        lines.append(f"| {name} | {one['said']:.3f} | {one['found']:.3f} | {slope} | {within} |")
    lines += [
        "", "## From the surest tenth of the voxels to the least sure", "",
        "Said / found, σ².", "",
        "| scan |" + "".join(f" {n} |" for n in range(1, N_GROUPS + 1)),
        "| --- |" + " --: |" * N_GROUPS,
    ]  # fmt: skip
    for name, one in results["rows"].items():
        cells = [f"{g['said']:.3f} / {g['found']:.3f}" for g in one["groups"]]
        cells += ["–"] * (N_GROUPS - len(cells))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "uncertainty", run_all, table)
