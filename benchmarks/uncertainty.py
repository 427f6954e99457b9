"""Is the uncertainty right? What is said against what is found, from the surest voxels on.

    python benchmarks/uncertainty.py            all of it, about half an hour on one core
    python benchmarks/uncertainty.py --table    only make the Markdown from the JSON again

Phantom  B, where the error itself is known; once more with structures of 81 voxels in single
         volumes, which are told apart.
Repeats  12 to 16 volumes of a series are denoised and held against a fit to all others: a mean, a
         slow drift, and the label or the phase where these alternate; with the movement and gain
         of each volume. The noise of that fit is known from the scatter of the others around it,
         and is taken off what is found. Where they scatter more than the noise model says, either
         it says too little, or volumes differ in more than noise: what is found is an upper bound.
Power    A test that any uncertainty passes says nothing. So the share of errors within one standard
         deviation stands beside what 0 and twice the uncertainty would have given.
Trio     Acquired twice, with a head that moved and a scanner that drifted in between: how much of
         the difference that is. The noise of the second acquisition hides whatever is said, so
         there is no share here.
Needs    QUELL_DATA for the real scans.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from quality import DATA, processor
from quality_scans import CORRELATION, ERODED, SEED, PhantomScan, TrioScan, put_floor, truth
from scipy import ndimage
from script import main_of, save

import quell
from quell.series import Series, brain_mask
from quell.simulate import corrupt

PRESET = "instant"
N_GROUPS = 10  # of equally many voxels, by rising uncertainty
SIZE, STRENGTHS, N_EACH = 81, (1.5, 3.0, 5.0), 6  # voxels, σ; volumes of each strength
DRIFT = 3  # degree of the polynomial over time
FACTORS = {"as said": 1.0, "0": 0.0, "twice": 2.0}  # of the uncertainty: the power of the test
TRIO = "Siemens Trio, against its second acquisition"


@dataclass(frozen=True)
class Case:
    """What is denoised, and what it is held against.

    goal         (X, Y, Z, V)
    noise        (X, Y, Z, V)  variance of the goal's own noise, scanner units; 0 for a truth
    judged       (V,) bool     volumes
    strength     (X, Y, Z, V)  σ, of structures that are told apart
    scatter      (X, Y, Z)     variance of the other repeats around their fit, scanner units
    """

    noisy: Series
    goal: np.ndarray
    noise: np.ndarray
    judged: np.ndarray
    strength: np.ndarray
    scatter: np.ndarray | None = None


@dataclass(frozen=True)
class Repeats:
    """A series of repeats, of which some are denoised and the others judge."""

    path: str
    denoised: range
    cycle: int = 1  # volumes after which label or phase come again; 1: all are alike

    @property
    def is_there(self) -> bool:
        return (DATA / self.path).is_file()

    def case(self) -> Case:
        whole = quell.load(DATA / self.path)
        n, chosen = whole.n_volumes, np.array(self.denoised)
        others = np.setdiff1d(np.arange(n), chosen)
        time, phase = np.linspace(-1, 1, n), np.arange(n) % self.cycle
        drift = [time**p for p in range(1, DRIFT + 1)]
        A = np.stack([*drift, *(phase == k for k in range(self.cycle))], axis=1)
        inverse = np.linalg.pinv(A[others])  # (columns, others)
        inside = ndimage.binary_erosion(brain_mask(whole.data, None), iterations=ERODED)
        typical = whole.data @ (A @ np.linalg.pinv(A)).T
        own = moved(typical, whole.data, inside) - typical
        still = whole.data - own
        fit = still[..., others] @ inverse.T
        around = still[..., others] - fit @ A[others].T
        variance = (around**2).sum(axis=3) / (len(others) - A.shape[1])
        leverage = ((A[chosen] @ inverse) ** 2).sum(axis=1)
        return Case(
            replace(
                whole, data=np.ascontiguousarray(whole.data[..., chosen]), bvals=None, bvecs=None,
                fourth_axis="repetitions",
            ),
            goal=fit @ A[chosen].T + own[..., chosen],
            noise=variance[..., None] * leverage,
            scatter=variance,
            judged=np.ones(len(chosen), dtype=bool),
            strength=np.zeros((*variance.shape, len(chosen))),
        )  # fmt: skip


PHANTOMS = {
    f"Phantom B, {scan.law}, {scan.words}": scan
    for scan in (
        PhantomScan("gaussian", False, 15.0),
        PhantomScan("rician", True, 15.0),
        PhantomScan("rician", True, 7.5),
    )
}
STATIC = "phantom-philips-asl-static"
REPEATS = {
    "Static phantom, Philips, label and control": Repeats(
        f"{STATIC}/pcasl.nii.gz", range(2, 60, 5), cycle=2
    ),
    "Static phantom, Philips, 8 phases": Repeats(
        f"{STATIC}/multiphase.nii.gz", range(40, 56), cycle=8
    ),
    "Head, Philips, BOLD": Repeats("philips-elition-bold/bold.nii.gz", range(2, 60, 5)),
    "Head, Siemens, label and control": Repeats(
        "siemens-asl-session1/pcasl2d.nii.gz", range(3, 80, 7), cycle=2
    ),
}


def of_phantom(scan: PhantomScan, with_structures: bool) -> Case:
    clean, judged = truth().clean.data, ~truth().clean.is_b0
    strength = np.zeros(clean.shape, dtype=np.float32)
    if with_structures:
        add_structures(strength, judged)
    signal = clean + strength * scan.sigma[..., None]
    correlation = CORRELATION if scan.is_correlated else None
    rng = np.random.default_rng(SEED)
    data = corrupt(signal, scan.sigma, rng, scan.law, correlation=correlation)
    goal = put_floor(signal, scan.sigma, scan.law)
    return Case(replace(scan.noisy, data=data), goal, np.zeros_like(goal), judged, strength)


def add_structures(strength: np.ndarray, judged: np.ndarray) -> None:
    """Put balls into single volumes, somewhere in the brain, one in a volume.

    strength  (X, Y, Z, V)  σ, changed in place
    judged    (V,) bool     volumes to choose from
    """
    mask = truth().clean.mask
    assert mask is not None
    rng, axes = np.random.default_rng(SEED), np.indices(mask.shape)
    places = rng.permutation(np.argwhere(ndimage.binary_erosion(mask, iterations=4)))
    volumes = rng.permutation(np.flatnonzero(judged))
    for i, amplitude in enumerate(np.repeat(STRENGTHS, N_EACH)):
        distance = ((axes - places[i][:, None, None, None]) ** 2).sum(axis=0)
        nearest = np.argsort(distance, axis=None, kind="stable")[:SIZE]
        strength[(*np.unravel_index(nearest, mask.shape), volumes[i])] = amplitude


def row_of(case: Case, threads: int) -> dict[str, Any]:
    """Denoise, and compare what is said with what is found; units of the noise model's σ."""
    noisy = case.noisy
    result = quell.denoise(
        noisy, preset=PRESET, uncertainty=True, threads=threads, fourth_axis=noisy.fourth_axis
    )
    assert result.uncertainty is not None
    inside = ndimage.binary_erosion(result.mask, iterations=ERODED)

    def judged(data: np.ndarray) -> np.ndarray:
        return np.asarray(data[inside][:, case.judged], dtype=np.float64)

    sigma2 = result.noise.sigma[inside][:, None].astype(np.float64) ** 2
    said = judged(result.uncertainty) ** 2 / sigma2
    error = (judged(result.denoised) - judged(case.goal)) ** 2 / sigma2
    noise, strength = judged(case.noise) / sigma2, judged(case.strength)
    there = {f"{s:g}": strength == s for s in STRENGTHS if (strength == s).any()}
    row = reliability(said, error, noise)
    row["scatter"] = None
    if case.scatter is not None:
        row["scatter"] = float(np.mean(case.scatter[inside] / sigma2[:, 0]))
    row["structures"] = {
        name: {"said": root(said[at]), "found": root(error[at])} for name, at in there.items()
    }
    return row


def reliability(said: np.ndarray, error: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
    """Uncertainty and error over all and in groups, and the shares within one standard deviation.

    said, error, noise  squares of the uncertainty and of the difference, variance of the noise of
                        what the result is held against; σ²
    """
    group = np.digitize(said, np.quantile(said, np.linspace(0, 1, N_GROUPS + 1))[1:-1])
    parts = [group == g for g in range(N_GROUPS)]
    groups = [
        {"said": root(said[at]), "found": root((error - noise)[at])} for at in parts if at.any()
    ]
    points = np.array([[one["said"], one["found"]] for one in groups])
    return {
        "said": root(said),
        "found": root(error - noise),
        "other noise": root(noise),
        "slope": float(np.polyfit(*points.T, 1)[0]),
        "within": {
            name: float(np.mean(error <= factor**2 * said + noise))
            for name, factor in FACTORS.items()
        },
        "groups": groups,
    }


def root(squares: np.ndarray) -> float:
    """Root of a mean of squares; 0 where more noise was taken off than there was."""
    return float(np.sqrt(max(squares.mean(), 0)))


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


def of_trio(scan: TrioScan, threads: int) -> dict[str, float]:
    """Mean squares, σ², of what is said, of the difference less σ², and so without movement."""
    first, second = scan.repeats
    result = quell.denoise(first, preset=PRESET, uncertainty=True, threads=threads)
    assert result.uncertainty is not None
    inside = ndimage.binary_erosion(result.mask, iterations=ERODED)
    denoised, goal = (data[..., ~first.is_b0] for data in (result.denoised, second.data))
    sigma = result.noise.sigma[inside][:, None]

    def found(out: np.ndarray) -> float:
        return float(np.mean(((goal - out)[inside] / sigma) ** 2) - 1)

    return {
        "said": float(np.mean((result.uncertainty[inside][:, ~first.is_b0] / sigma) ** 2)),
        "found": found(denoised),
        "found, movement and drift taken off": found(moved(denoised, goal, inside)),
    }


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    if results.get("run", {}).get("preset") != PRESET:  # other rows than these
        results = {"rows": {}}
    results["run"] = {"processor": processor(), "threads": threads, "preset": PRESET}
    rows = results["rows"]
    for name, scan in PHANTOMS.items():
        for ending, has in (("", False), (", structures in single volumes", True)):
            if name + ending not in rows:
                rows[name + ending] = row_of(of_phantom(scan, has), threads)
                save(results, path)
    for name, repeats in REPEATS.items():
        if name not in rows and repeats.is_there:
            rows[name] = row_of(repeats.case(), threads)
            save(results, path)
    trio = TrioScan(DATA)
    if "trio" not in results and trio.is_there:
        results["trio"] = of_trio(trio, threads)
        save(results, path)


def table(results: dict[str, Any]) -> str:
    rows = results["rows"]
    lines = [
        "# Is the uncertainty right?", "",
        f"`quell denoise --uncertainty-out` with the preset `{PRESET}`, diffusion-weighted volumes "
        f"or repeats, {ERODED} voxels off the rim of the mask, {results['date']}. Made by "
        "`benchmarks/uncertainty.py`. *Said*, *found*: root mean square of the uncertainty and of "
        "the error, in σ of the scan's noise model.",
        "",
        "Phantoms: the error itself. Series of repeats: 12 to 16 volumes are denoised and held "
        "against a fit to all others (a mean, a drift of third degree over time, the label or the "
        "phase, an affine movement and a gain for each volume). That fit has noise of its own, "
        "*other noise*, known from the scatter of the others around it; for the share within one "
        "standard deviation its variance is added to what is said, and it is taken off what is "
        "found. *Scatter*: mean square of the others around the fit, σ²: 1 where they differ by "
        "the noise that the model knows. Where it is more, the model says too little, or volumes "
        "differ in more than noise (breath, pulse, activation, an unsteady scanner), which counts "
        "as error here: what is found is an upper bound.",
        "",
        "*Slope*: of found on said over the tenths below; 1 is right. *Within 1 sd*: share of the "
        "errors, 68 % if they are Gaussian; then what the share would be had 0 or twice as much "
        "been said, which is the power of the test: where the three are alike, it says nothing.",
        "",
        "| scan | said | found | other noise | scatter | slope | within 1 sd | had 0 been said "
        "| had twice |",
        "| --- |" + " --: |" * 8,
    ]  # fmt: skip
    for name, one in rows.items():
        figures = [f"{one[key]:.3f}" for key in ("said", "found", "other noise")]
        within = [f"{100 * one['within'][key]:.0f} %" for key in FACTORS]
        scatter = "–" if one["scatter"] is None else f"{one['scatter']:.2f}"
        lines.append(_line(name, *figures, scatter, f"{one['slope']:.2f}", *within))
    lines += [
        "", "## From the surest tenth of the voxels to the least sure", "", "Said / found, σ.", "",
        _line("scan", *(str(n + 1) for n in range(N_GROUPS))), "| --- |" + " --: |" * N_GROUPS,
    ]  # fmt: skip
    for name, one in rows.items():
        lines.append(_line(name, *(f"{g['said']:.3f} / {g['found']:.3f}" for g in one["groups"])))
    lines += [
        "", "## In structures that one volume alone shows", "",
        f"Balls of {SIZE} voxels, {N_EACH} of each strength, one in a volume. Said / found, σ.",
        "", _line("scan", *(f"{s:g} σ" for s in STRENGTHS)),
        "| --- |" + " --: |" * len(STRENGTHS),
    ]  # fmt: skip
    for name, one in rows.items():
        if there := one["structures"]:
            cells = (f"{s['said']:.2f} / {s['found']:.2f}" for s in there.values())
            lines.append(_line(name.removesuffix(", structures in single volumes"), *cells))
    if trio := results.get("trio"):
        lines += [
            "", "## A head that moved", "",
            f"{TRIO}, mean squares, σ²: {trio['said']:.3f} said; {trio['found']:.3f} found, σ² of "
            "that acquisition's own noise taken off; "
            f"{trio['found, movement and drift taken off']:.3f} once an affine movement and a "
            "linear drift of each volume between the two are taken off, too.",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main_of(__doc__, "uncertainty", run_all, table)
