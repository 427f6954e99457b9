"""The record: what is written about a run, for machines in the sidecar and for readers in words."""

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from .methods import Method
from .options import Options
from .pipeline import Result
from .run import peak_memory_bytes
from .series import Series

STABILISER = (
    "Foi. Noise estimation and removal in MR imaging: the variance-stabilization approach. "
    "ISBI 2011."
)


def sidecar(result: Result, scan: Series, options: Options, command: str) -> dict[str, Any]:
    """What is written beside the result: the input's own sidecar, and all about this run."""
    mask = result.mask
    return {
        **scan.sidecar,
        "SpatialReference": "orig",
        "Sources": [scan.path.name] if scan.path else [],
        "GeneratedBy": [{"Name": "quell", "Version": version("quell")}],
        "Denoising": {
            "Method": result.method.name,
            "Paper": result.method.paper,
            "Preset": options.preset,
            "Settings": settings_of(result.method),
            "Seed": options.seed,
            "Command": command,
            "NoiseFloorRemoved": result.floor_removed,
            "Blend": options.blend,
            **({"Calibration": dict(result.calibration)} if result.calibration else {}),
            **side_products(result),
            **({"Probe": result.probe.as_dict()} if result.probe else {}),
            "Noise": {
                "Law": result.noise.law,
                "Coils": result.noise.n_coils,
                "MedianSigma": float(np.median(result.noise.sigma[mask])),
                **_of_each_volume(result),
                "LagOneCorrelation": result.noise.lag_one(),
                "Components": result.noise.n_noise_components,
                "Source": result.noise.source,
            },
            "Verdict": result.verdict.to_dict(),
            "Checks": [finding.to_dict() for finding in result.findings],
            "Residual": result.statistics.as_dict(),
            "Seconds": {stage: round(s, 2) for stage, s in result.seconds.items()},
            "PeakMemoryBytes": peak_memory_bytes(),
            "Device": result.device,
            "Versions": versions(),
            "Date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    }


def _of_each_volume(result: Result) -> dict[str, list[float]]:
    """The noise of each volume over the noise map's, where volumes differ in it."""
    if result.noise.levels is None:
        return {}
    levels = result.noise.levels[: result.denoised.shape[3]]  # complex: both parts have the same
    return {"LevelOfEachVolume": [round(float(level), 4) for level in levels]}


def side_products(result: Result) -> dict[str, Any]:
    """What a method kept beside its result, short enough to read."""
    kept, said = result.kept, {}
    if "passed through" in kept:
        said["VolumesPassedUnchanged"] = kept["passed through"].tolist()
    if "flagged slices" in kept:
        said["FlaggedSlices"] = kept["flagged slices"].tolist()
    for name, key in (("matched states", "MatchedStates"), ("stopping steps", "StepsTaken")):
        if name in kept:
            low, middle, high = np.percentile(kept[name], [0, 50, 100])
            said[key] = {"Least": int(low), "Median": int(middle), "Most": int(high)}
    if distances := distance_curve(kept):
        said["DistanceFromInput"] = [round(d, 4) for d in distances]
    if len(rows := kept.get("kept clusters", ())):
        said["KeptStructures"] = [kept_structure(row) for row in rows]
    if errors := referee(kept):
        said["Used"] = used(kept)
        said["Referee"] = {name: round(error, 5) for name, error in errors.items()}
    return said


def kept_structure(row: np.ndarray) -> dict[str, Any]:
    """What only one volume shows, and the result has kept; a row of "kept clusters"."""
    v, x, y, z, n, peak, amplitude = row.tolist()
    return {
        "Volume": int(v),
        "Voxel": [int(x), int(y), int(z)],
        "Voxels": int(n),
        "Peak": round(peak, 1),
        "AmplitudeOverSigma": round(amplitude, 2),
    }


def referee(kept: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Error of every candidate that a method chose among, on the scan itself, by what it is."""
    mark = "referee "
    return {name.removeprefix(mark): float(kept[name]) for name in kept if name.startswith(mark)}


def used(kept: Mapping[str, np.ndarray]) -> str:
    """The candidate that was used; "" where there were none."""
    return list(referee(kept))[int(kept["used"])] if "used" in kept else ""


def distance_curve(kept: Mapping[str, np.ndarray]) -> list[float]:
    """Median over slices of the distance from the input, after every step of the chain.

    Slices that ended before a step count with where they ended, those without signal not at all.
    Empty for a method without a chain.
    """
    if "distance from input" not in kept:
        return []
    far = kept["distance from input"].reshape(-1, kept["distance from input"].shape[-1]).copy()
    far = far[np.isfinite(far[:, 0])]
    far = far[:, ~np.isnan(far).all(axis=0)]  # up to the longest chain that was run
    for k in range(1, far.shape[1]):
        far[:, k] = np.where(np.isnan(far[:, k]), far[:, k - 1], far[:, k])
    return [float(d) for d in np.median(far, axis=0)] if len(far) else []


def settings_of(method: Method) -> dict[str, Any]:
    """The method's settings by name."""
    return asdict(method) if is_dataclass(method) else {}


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    packages = ("quell", "torch", "numpy", "scipy", "nibabel", "dipy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def methods_paragraph(result: Result, options: Options) -> str:
    """What was done, to paste into a paper."""
    law = {
        "gaussian": "The noise was taken to be Gaussian",
        "rician": "The magnitude noise was taken to be Rician and stabilised (Foi 2011)",
        "nc-chi": f"The magnitude noise was taken to be noncentral chi with "
        f"N = {result.noise.n_coils:.1f} and stabilised (Foi 2011)",
    }[result.noise.law]
    floor = "; the noise floor was removed" if result.floor_removed else ""
    share = result.calibration.get("ShareOfTheWay", 1.0) * (1 - options.blend)
    mixed = "" if share == 1 else f" Of what the method took away, {share:.2f} was taken away."
    chosen = ""
    if errors := referee(result.kept):
        chosen = f" Of {len(errors)} candidates, {used(result.kept)} was used: "
        chosen += "it had the least error on noise that was added to the scan."
    x, y, z = result.noise.lag_one()
    learned = (
        "The noise level was given as a map; its spatial correlation was learned from the series"
        if result.noise.is_given
        else "Noise level and spatial noise correlation were learned from the series itself "
        f"({result.noise.source})"
    )
    return (
        f"The series was denoised with quell {version('quell')} (method {result.method.name}, "
        f"preset {options.preset}, seed {options.seed}; {result.method.paper}) before any other "
        f"processing. {learned}; neighbouring voxels' noise correlated by {x:.2f}, {y:.2f} and "
        f"{z:.2f} along x, y and z. {law}{floor}.{chosen}{mixed}"
    )


def citations(result: Result) -> list[str]:
    """What to cite: the software, the method's paper, and the stabiliser's of magnitude data."""
    said = [
        f"quell {version('quell')}, self-supervised denoising of MRI scans.",
        result.method.paper,
    ]
    return said if result.noise.law == "gaussian" else [*said, STABILISER]
