"""What each part of DDM2 and Di-Fusion is worth: one JSON, one table.

    python benchmarks/ablations.py                all of it, about half an hour on two cores
    python benchmarks/ablations.py --table        only make the Markdown from the JSON again

Rows are saved as they come; a run that was stopped goes on with what is missing.

Here    Four slices of phantom B, Gaussian noise correlated as a scanner's, SNR 15. Every network
        is trained for the same few steps; rows under one fit share its networks.
        The checks at the end ask whether Di-Fusion's result depends on the volume it denoises, on
        the order of the volumes, and on having been trained on a direction.
"""

import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from quality import processor
from quality_scans import CORRELATION, SEED
from script import main_of

from quell.evaluate import fa_error, psnr, tensor_maps
from quell.methods import make
from quell.noise import NoiseModel, learn
from quell.run import Run, State
from quell.scaling import Scale
from quell.series import Series, mask_of, prior_volumes
from quell.simulate import corrupt, phantom

SLICES, SNR, STEPS = slice(10, 14), 15.0, 150
Settings = dict[str, Any]

DDM2: Settings = {"stage1_steps": STEPS, "steps": STEPS}
DIFUSION: Settings = {"steps": STEPS, "stride": 10, "walk_from": 1}
LATER: Settings = DIFUSION | {"stride": 50}
PUBLISHED_CHAIN: Settings = {"start": "slice", "output": "chain", "rule": "posterior"}
# what is trained: (method, settings of the fit, {row: settings of the denoising})
FITS: list[tuple[str, Settings, dict[str, Settings]]] = [
    ("patch2self", {}, {"Patch2Self, for comparison": {}}),
    ("joint", {"steps": STEPS}, {"joint, for comparison": {}}),
    ("noise2noise", {"steps": STEPS}, {"Noise2Noise across volumes": {}}),
    ("ddm2", DDM2, {
        "DDM2, quell's default": {},
        "stage I alone": {"output": "stage-1"},
        "slice and stage I weighed, no F": {"output": "start"},
        "one step from the slice alone": {"start": "slice"},
        "chain of 4, mean": {"output": "chain"},
        "chain of 4, posterior samples": {"output": "chain", "rule": "posterior"},
        "mean of 4 such chains": {"output": "chain", "rule": "posterior", "samples": 4},
        "chain of 4, DDIM": {"output": "chain", "rule": "ddim"},
        "published chain, 10 steps": PUBLISHED_CHAIN | {"chain": 10},
        "mean over 4 flips": {"flips": 4},
    }),
    ("ddm2", DDM2 | {"noise": "shuffled"}, {
        "shuffled residual": {},
        "shuffled residual, from the slice": {"start": "slice"},
    }),
    ("ddm2", DDM2 | {"noise": "gaussian"}, {
        "no shuffle: Gaussian noise": {},
        "no shuffle, from the slice": {"start": "slice"},
    }),
    ("ddm2", DDM2 | {"target": "stage-1"}, {
        "no J-invariance: target is stage I": {},
        "no J-invariance, from the slice": {"start": "slice"},
    }),
    ("ddm2", DDM2 | {"matching": "half", "levels": 0.0} | PUBLISHED_CHAIN, {
        "no matching: t = T/2, 10 steps": {"chain": 10},
    }),
    ("ddm2", DDM2 | {"matching": "sqrt-beta", "start": "slice"}, {
        "matched on the root of beta, from the slice": {},
    }),
    ("ddm2", DDM2 | {"matching": "noise-model", "start": "slice"}, {
        "matched on the noise model, from the slice": {},
    }),
    ("ddm2", DDM2 | {"priors": 2, "neighbours": "acquisition"}, {
        "published stage I: two neighbours in the file": {"output": "stage-1"},
        "... weighed with the slice, one step": {},
    }),
    ("difusion", DIFUSION, {
        "Di-Fusion, quell's default": {},
        "stop 1.5 sigma": {"stop": 1.5},
        "without the slice at the end": {"own": "none"},
        "without the slice, whole chain": {"own": "none", "stop": 100.0},
        "chain from the slice": {"own": "start"},
        "one pass from the slice": {"own": "start", "stop": 0.0},
    }),
    ("difusion", DIFUSION | {"fusion": "posterior"}, {"fusion as in the paper": {}}),
    ("difusion", DIFUSION | {"fusion": "linear"}, {"linear fusion": {}}),
    ("difusion", LATER | {"latter": 101}, {"T_c = 100": {}}),
    ("difusion", LATER | {"latter": 301}, {
        "T_c = 300, as published": {},
        "T_c = 300, without the slice, whole chain": {"own": "none", "stop": 100.0},
        "T_c = 300, chain from the slice": {"own": "start"},
        "T_c = 300, one-step weights, whole chain": {"rule": "mean-one-step", "stop": 100.0},
        "T_c = 300, released weights, whole chain": {"rule": "mean-mixed", "stop": 100.0},
    }),
    ("difusion", LATER | {"latter": 301, "fusion": "posterior"}, {
        "T_c = 300, fusion as in the paper": {},
    }),
    ("difusion", LATER | {"latter": 301, "fusion": "linear"}, {"T_c = 300, linear fusion": {}}),
    ("difusion", LATER | {"latter": 501}, {"T_c = 500": {}}),
    ("difusion", LATER | {"latter": 1000, "stride": 200}, {"T_c = 1000": {}}),
    ("difusion", DIFUSION | {"partners": 1, "mix": "mean", "neighbours": "acquisition"}, {
        "published pairs: the volume before": {},
        "published pairs, without the slice at the end": {"own": "none"},
    }),
]  # fmt: skip


def scan_and_truth() -> tuple[Series, np.ndarray, float]:
    """The noisy slices, the clean ones, and sigma."""
    whole = phantom("B")
    sigma = whole.white_matter_b0 / SNR
    noisy = corrupt(whole.clean.data, sigma, np.random.default_rng(SEED), correlation=CORRELATION)
    scan = replace(whole.clean, data=noisy[:, :, SLICES], mask=None)
    scan = replace(scan, mask=mask_of(scan))
    return scan, whole.clean.data[:, :, SLICES], sigma


class Bench:
    """The scan in the units of its noise, and what a result on it scores."""

    def __init__(self) -> None:
        self.scan, self.clean, self.sigma = scan_and_truth()
        assert self.scan.mask is not None
        self.noise = learn(self.scan, self.scan.mask)
        self.scale = Scale.of(self.noise.sigma, self.noise.law, self.noise.n_coils)
        self.scaled = replace(self.scan, data=self.scale.apply(self.scan.data))
        self.maps = tensor_maps(self.clean, self.scan.bvals, self.scan.bvecs, self.scan.mask)

    def with_volumes(self, chosen: np.ndarray) -> "Bench":
        """The same scan with some of its volumes, in that order."""
        other, scan = copy.copy(self), self.scaled
        assert scan.bvals is not None
        assert scan.bvecs is not None
        other.scaled = replace(
            scan, data=scan.data[..., chosen], bvals=scan.bvals[chosen], bvecs=scan.bvecs[chosen]
        )
        return other

    def given(self, method: Any) -> tuple[Series, NoiseModel]:
        if method.units == "sigma":
            return self.scaled, self.noise.in_units_of_sigma()
        return self.scan, self.noise

    def fit(self, name: str, settings: Settings) -> tuple[State, float]:
        method, start = make(name, "default", **settings), time.perf_counter()
        scan, noise = self.given(method)
        return method.fit([scan], [noise], Run()), time.perf_counter() - start

    def denoise(self, name: str, settings: Settings, state: State) -> tuple[np.ndarray, float]:
        method, start = make(name, "default", **settings), time.perf_counter()
        scan, noise = self.given(method)
        out = method.denoise(scan, noise, state, Run())
        seconds = time.perf_counter() - start
        return (self.scale.undo(out) if method.units == "sigma" else out), seconds

    def scores(self, out: np.ndarray) -> dict[str, float]:
        mask, dwi = self.scan.mask, ~self.scan.is_b0
        assert mask is not None
        maps = tensor_maps(out, self.scan.bvals, self.scan.bvecs, mask)
        errors = {
            name: psnr(out[..., sel], self.clean[..., sel], mask, float(self.clean[..., sel].max()))
            for name, sel in (("dwi", dwi), ("b0", ~dwi))
        }
        mse = float(np.mean((out - self.clean)[mask][:, dwi] ** 2)) / self.sigma**2
        return errors | {"mse": mse, "fa": fa_error(maps, self.maps, mask)}


def run_all(threads: int, path: Path) -> None:
    """Every row that the JSON does not hold yet, and the checks."""
    bench = Bench()
    results: dict[str, Any] = {
        "machine": f"{processor()}, {threads} threads", "steps": STEPS, "rows": {}, "checks": {}
    }  # fmt: skip
    if path.exists():
        found = json.loads(path.read_text())
        if any(found[name] != results[name] for name in ("machine", "steps")):
            raise SystemExit(f"{path.name} is of another machine or length; remove it first")
        results = found
    rows = results["rows"]
    rows["noisy"] = {"fit": 0.0, "inference": 0.0} | bench.scores(bench.scan.data)
    for name, settings, variants in FITS:
        if variants.keys() <= rows.keys():
            continue
        state, fit_seconds = bench.fit(name, settings)
        for row, changed in variants.items():
            out, seconds = bench.denoise(name, settings | changed, state)
            rows[row] = {"fit": fit_seconds, "inference": seconds} | bench.scores(out)
            print(
                f"{row}: {rows[row]['dwi']:.2f} dB, {fit_seconds:.0f} + {seconds:.0f} s", flush=True
            )
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    if not results["checks"]:
        results["checks"] = checks(bench)
        path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def checks(bench: Bench) -> dict[str, float]:
    """Does the result depend on x, on the order of volumes, on being trained on a direction?"""
    state, _ = bench.fit("difusion", DIFUSION)
    mask, dwi = bench.scan.mask, ~bench.scan.is_b0
    found: dict[str, float] = {}
    j = int(np.flatnonzero(dwi)[5])
    data = bench.scaled.data.copy()
    shuffle = np.random.default_rng(0).permutation(int(mask.sum()))
    data[..., j][mask] = data[..., j][mask][shuffle]
    method = make("difusion", "default", **DIFUSION)
    for own in ("none", "consistency"):
        one = replace(method, own=own)
        before = one.denoise(bench.scaled, bench.noise.in_units_of_sigma(), state, Run())
        after = one.denoise(
            replace(bench.scaled, data=data), bench.noise.in_units_of_sigma(), state, Run()
        )
        change = (after - before)[..., j][mask]
        found[f"change when the slice is replaced, {own}"] = float(
            np.sqrt(np.mean(change**2) / np.mean((data - bench.scaled.data)[..., j][mask] ** 2))
        )
    order = np.random.default_rng(1).permutation(bench.scan.n_volumes)
    turned = bench.with_volumes(order)
    state_turned, _ = turned.fit("difusion", DIFUSION)
    back = np.argsort(order)
    out = method.denoise(turned.scaled, bench.noise.in_units_of_sigma(), state_turned, Run())
    found["DWI PSNR, volumes in another order"] = bench.scores(bench.scale.undo(out)[..., back])[
        "dwi"
    ]
    held = np.flatnonzero(dwi)[2::10]
    kept = np.setdiff1d(np.arange(bench.scan.n_volumes), held)
    part = bench.with_volumes(kept)
    learned, _ = part.fit("difusion", DIFUSION)
    groups = prior_volumes(bench.scaled, method.partners, method.neighbours)
    top = np.full(bench.scan.n_volumes, float(learned["top"][0]), np.float32)
    unseen = learned | {k: type(learned["top"])(v) for k, v in (("top", top),)}
    unseen |= {"volumes": state["volumes"].new_tensor(groups)}
    unseen |= {name: state[name] for name in ("mix", "offset")}  # only F has not seen them
    for name, state_used in (("trained on them", state), ("held out of training", unseen)):
        out = method.denoise(bench.scaled, bench.noise.in_units_of_sigma(), state_used, Run())
        error = (bench.scale.undo(out) - bench.clean)[mask][:, held]
        found[f"MSE/sigma2 of six directions, {name}"] = float(np.mean(error**2) / bench.sigma**2)
    return found


def table(results: dict[str, Any]) -> str:
    lines = [
        "# What each part of DDM2 and Di-Fusion is worth",
        "",
        f"Four slices of phantom B, Gaussian noise with the spatial correlation of a scanner, "
        f"SNR {SNR:g}. Every network was trained for {results['steps']} steps, far fewer than "
        "published: the rows say what a part changes at this length, not what the published "
        "training reaches. One noise draw, one seed: differences of 0.2 dB mean nothing.",
        "",
        f"{results['machine']}. Seconds are for these four slices of 70 volumes, "
        "with other work on the machine: within a factor of two.",
        "",
        "| | DWI PSNR, dB | b0 PSNR, dB | MSE/σ² of DWI | FA error | training, s | inference, s |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {row} | {r['dwi']:.2f} | {r['b0']:.2f} | {r['mse']:.3f} | {r['fa']:.4f} "
        f"| {r['fit']:.0f} | {r['inference']:.0f} |"
        for row, r in results["rows"].items()
    ]
    lines += [
        "",
        "## Di-Fusion: what its result depends on",
        "",
        "| check | value |",
        "| --- | --: |",
    ]
    lines += [f"| {name} | {value:.3f} |" for name, value in results["checks"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "ablations", run_all, table)
