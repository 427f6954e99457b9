"""The way of a scan. Start here.

load -> check (refuse early, in words) -> noise model -> scale to sigma = 1 -> method.fit (resumes)
-> method.denoise -> scale back -> write -> measure -> report.
"""

import json
import platform
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .calibration import calibrate
from .checks import Finding, check, refuse
from .demodulation import along, demodulate, remodulate
from .evaluate import ResidualStatistics, residual_statistics
from .glimpse import Glimpse
from .methods import DEFAULT, Method, make
from .noise import NoiseModel, describe_noise, learn, refuse_law, remarks
from .run import Run, Silent, State, Voice, choose_device, peak_memory_bytes, set_threads
from .scaling import Scale
from .series import FOURTH_AXES, InputError, Series, mask_of
from .series.scan import first_line
from .uncertainty import posterior_sd


@dataclass(frozen=True)
class Options:
    """What a person can choose besides the method's own settings."""

    method: str = DEFAULT  # see `quell methods`
    preset: str = "default"  # see `quell methods`
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the method, over the preset
    seed: int = 0  # every random number follows from it
    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    threads: int | None = None  # CPU threads; None: all cores
    noise_law: str = "auto"  # auto, gaussian, rician, nc-chi
    coils: float | None = None  # N of nc-chi; None: read from the background
    remove_floor: bool = False  # of magnitude data; a later Rician correction must then be left out
    blend: float = 0.0  # kappa: share of the noisy scan in the result; 0 none, 1 all
    calibrate: bool = False  # go the best share of the way, from repeats or by SURE
    uncertainty: bool = False  # how far the truth lies from the result, by one more pass
    fourth_axis: str = "directions"  # directions, repetitions, contrasts, echoes
    apply_mask: bool = False  # zero outside the mask
    strict: bool = False  # warnings of the checks are errors


@dataclass(frozen=True)
class Result:
    """What comes out of a scan, in its own units and on its own grid."""

    denoised: np.ndarray  # (X, Y, Z, V) float32, complex64 where the scan is
    noisy: np.ndarray  # (X, Y, Z, V), the input's data, not a copy
    mask: np.ndarray  # (X, Y, Z) bool, where noise was learned and the result is measured
    noise: NoiseModel
    findings: list[Finding]
    statistics: ResidualStatistics
    method: Method
    state: State
    losses: np.ndarray
    kept: dict[str, np.ndarray]  # side products of the method: matched states, spread, ...
    seconds: dict[str, float]
    device: str
    floor_removed: bool
    calibration: Mapping[str, float] = field(default_factory=dict)  # empty: not asked for

    @property
    def noise_map(self) -> np.ndarray:
        """(X, Y, Z) standard deviation of the noise; (X, Y, Z, V) where volumes differ in it."""
        if self.noise.levels is None:
            return self.noise.sigma
        levels = self.noise.levels[: self.denoised.shape[3]]  # complex: of the real parts
        return np.asarray(self.noise.sigma[..., None] * levels, dtype=np.float32)

    @property
    def residual(self) -> np.ndarray:
        """(X, Y, Z, V) what was taken away."""
        return self.noisy - self.denoised

    @property
    def spread(self) -> np.ndarray | None:
        """(X, Y, Z, V) standard deviation of the result over samples; None where none were drawn.

        0 in volumes that passed unchanged. In magnitude data the stabiliser's slope is taken as 1.
        """
        return self.kept.get("spread")

    @property
    def uncertainty(self) -> np.ndarray | None:
        """(X, Y, Z, V) standard deviation of the truth around the result; None if not asked for."""
        return self.kept.get("uncertainty")


def denoise(
    scan: Series,
    options: Options | None = None,
    *,
    noise_model: NoiseModel | None = None,
    noise_map: np.ndarray | None = None,
    state: State | None = None,
    approve: Callable[[Series, NoiseModel], None] | None = None,
    work: Path | None = None,
    voice: Voice | None = None,
    **choices: Any,
) -> Result:
    """Denoise one scan.

    scan         from `quell.load`; not changed
    options      what to do; `choices` are fields of Options, or settings of the method by name
    noise_model  obeyed instead of learning one
    noise_map    (X, Y, Z)  obeyed, scanner units; only the correlation is learned
    state        what this method learned before, from `Result.state`; nothing is trained then
    approve      called once the noise is known; its InputError ends the run
    work         folder for checkpoints; an interrupted run with the same choices goes on there
    voice        told how far it is

    Raises InputError in one sentence for a scan or a choice that cannot be used.
    """
    options = _options(options, choices)
    method, device = refuse_options(options)
    set_threads(options.threads)
    run = Run(seed=options.seed, device=device, voice=voice or Silent())

    refuse_scan(scan, method)
    given, scan, phase, noise, findings = known(scan, options, run, noise_model, noise_map)
    if approve is not None:
        approve(scan, noise)
    scale = Scale.of(noise.sigma, noise.law, noise.n_coils)
    is_scaled = method.units == "sigma"
    levels = np.float32(1) if noise.levels is None else noise.levels.astype(np.float32)
    even = scan if noise.levels is None else replace(scan, data=scan.data / levels)
    scaled = replace(even, data=scale.apply(even.data)) if is_scaled else even
    own_noise = noise.in_units_of_sigma() if is_scaled else noise
    if work is not None:
        run.folder = work / fingerprint(scaled, method, own_noise, run)
    run.voice.look_at(partial(Glimpse.of, method, scaled, own_noise, run))
    if state is None:
        with run.timed("training"):
            state = method.fit([scaled], [own_noise], run)
    with run.timed("inference"):
        denoised = method.denoise(scaled, own_noise, state, run)
    run.voice.show(denoised)
    if options.uncertainty:
        with run.timed("uncertainty"):
            run.keep("uncertainty", _uncertainty(method, scaled, denoised, own_noise, state, run))
    share, calibration = 1.0, {}
    if options.calibrate:
        with run.timed("calibration"):
            calibration = _calibration(method, scaled, denoised, own_noise, state, run)
        share = calibration["ShareOfTheWay"]
    if share != 1:
        denoised = scaled.data + np.float32(share) * (denoised - scaled.data)
    del scaled
    if is_scaled:
        undo = scale.undo if options.remove_floor else scale.undo_keeping_floor
        if (sd := run.kept.get("uncertainty")) is not None:  # the way back bends: half a step each
            run.kept["uncertainty"] = (undo(denoised + sd) - undo(denoised - sd)) / 2 * levels
        denoised = undo(denoised)
    elif options.remove_floor:
        denoised = scale.without_floor(denoised)
    if options.blend:  # in the scan's own units: the way back from those of the noise bends
        denoised += np.float32(options.blend) * (even.data - denoised)
        share *= 1 - options.blend
    if (spread := run.kept.get("spread")) is not None:
        units = noise.sigma[..., None] if is_scaled else 1.0
        run.kept["spread"] = np.float32(share) * spread * units * levels
    passed = run.kept.get("passed through", np.zeros(0, dtype=int))
    denoised[..., passed] = even.data[..., passed]  # there and back is not quite where it was
    _restore_untouched(denoised, even, options.apply_mask)
    before, after = even.data, denoised
    if phase is not None:  # real and imaginary parts mean little by themselves
        before, after = along(*(remodulate(parts, phase) for parts in (denoised, even.data)))
    with run.timed("measure"):
        statistics = residual_statistics(
            before, after, noise.sigma, _mask(scan), given.bvals, noise.covariance
        )
    del even, before, after
    if noise.levels is not None:
        denoised = denoised * levels
        own = noise.levels[: given.n_volumes]  # complex: imaginary parts have the same as real ones
        signal = statistics.signal_before * own, statistics.signal_after * own
        statistics = replace(statistics, signal_before=signal[0], signal_after=signal[1])
    if phase is not None:
        denoised = remodulate(denoised, phase)
        _join_parts(run.kept, given.n_volumes)
    return Result(
        denoised=denoised,
        noisy=given.data,
        mask=_mask(scan),
        noise=noise,
        findings=findings,
        statistics=statistics,
        method=method,
        state=state,
        losses=_losses(run),
        kept=run.kept,
        seconds=run.seconds,
        device=_device_in_words(device),
        floor_removed=noise.law != "gaussian" and options.remove_floor,
        calibration=calibration,
    )


def _join_parts(kept: dict[str, np.ndarray], V: int) -> None:
    """What was kept of 2 V real and imaginary parts, as of V complex volumes."""
    if "spread" in kept:
        kept["spread"] = np.hypot(kept["spread"][..., :V], kept["spread"][..., V:])
    if "uncertainty" in kept:
        kept["uncertainty"] = np.hypot(kept["uncertainty"][..., :V], kept["uncertainty"][..., V:])
    if "passed through" in kept:
        kept["passed through"] = kept["passed through"][kept["passed through"] < V]
    if "flagged slices" in kept:
        volumes, slices = kept["flagged slices"].reshape(-1, 2).T
        kept["flagged slices"] = np.unique(np.stack([volumes % V, slices], axis=1), axis=0)


def _uncertainty(
    method: Method, X: Series, h: np.ndarray, noise: NoiseModel, state: State, run: Run
) -> np.ndarray:
    """(X, Y, Z, V) standard deviation of the truth around the result, units of sigma."""
    quiet = replace(run, voice=Silent(), kept={}, seconds={})
    sd = posterior_sd(
        lambda data: method.denoise(replace(X, data=data), noise, state, quiet),
        X, h, noise, _mask(X), np.random.default_rng(run.seed),
    )  # fmt: skip
    typical = float(np.sqrt(np.mean(sd[_mask(X)] ** 2, dtype=np.float64)))
    run.voice.say(f"uncertainty: the truth lies {typical:.2f} sigma from the result, typically")
    return sd


def _calibration(
    method: Method, X: Series, h: np.ndarray, noise: NoiseModel, state: State, run: Run
) -> dict[str, float]:
    """The best share of the way from the scan to the result, and what it was found from."""
    quiet = replace(run, voice=Silent(), kept={}, seconds={})
    share, off, n_pairs = calibrate(
        lambda data: method.denoise(replace(X, data=data), noise, state, quiet),
        X, h, noise, _mask(X), np.random.default_rng(run.seed),
    )  # fmt: skip
    source = f"{n_pairs} pairs of repeated volumes" if n_pairs else "the noise model"
    run.voice.say(
        f"calibration: noise {off:.2f} times the model's, from {source}; "
        f"{share:.2f} of the way to the denoised scan is taken"
    )
    return {"ShareOfTheWay": share, "NoiseOverModel": off, "RepeatedPairs": n_pairs}


def known(
    scan: Series,
    options: Options,
    run: Run,
    noise_model: NoiseModel | None = None,
    noise_map: np.ndarray | None = None,
) -> tuple[Series, Series, np.ndarray | None, NoiseModel, list[Finding]]:
    """The scan with a mask, as real volumes, the phase taken out, its noise, and what both say.

    Refuses what can't be denoised.
    """
    with run.timed("check"):
        given, findings = _checked(scan, options, run)
    plain, phase = as_real(given)
    with run.timed("noise model"):
        noise = noise_model or noise_of(given, plain, options, noise_map)
        run.voice.say(describe_noise(noise, _mask(plain)))
        method = make(options.method, options.preset, **options.settings)
        said = remarks(noise, method.name if method.assumes_white else "")
        _warn(said, options, run)
    return given, plain, phase, noise, findings + said


def as_real(scan: Series) -> tuple[Series, np.ndarray | None]:
    """The scan as real volumes, and the phase (X, Y, Z, V) taken out of complex ones."""
    return demodulate(scan) if np.iscomplexobj(scan.data) else (scan, None)


def noise_of(
    given: Series, plain: Series, options: Options, noise_map: np.ndarray | None
) -> NoiseModel:
    """The noise of a scan with a mask.

    plain  the same scan as real volumes
    """
    raw = given.data if np.iscomplexobj(given.data) else None
    return learn(plain, _mask(plain), options.noise_law, options.coils, noise_map, raw)


def _options(options: Options | None, choices: Mapping[str, Any]) -> Options:
    """Options with choices laid over: its own fields by name, all else settings of the method."""
    options = options or Options()
    known = {name: value for name, value in choices.items() if name in Options.__dataclass_fields__}
    settings = {name: value for name, value in choices.items() if name not in known}
    return replace(options, **{"settings": {**options.settings, **settings}, **known})


def refuse_options(options: Options) -> tuple[Method, torch.device]:
    """The method and the device that are meant; InputError (status 2) for what can't be meant."""
    method = make(options.method, options.preset, **options.settings)
    refuse_law(options.noise_law, options.coils)
    if not 0 <= options.blend <= 1:
        raise InputError(f"a blend of {options.blend:g} can't be; give 0 to 1", 2)
    if options.blend and options.remove_floor:
        raise InputError(
            "a blend would put back the noise floor that is to be removed; leave one of them out", 2
        )
    if options.fourth_axis not in FOURTH_AXES:
        known = ", ".join(FOURTH_AXES)
        raise InputError(f"fourth axis {options.fourth_axis!r} is unknown; choose from {known}", 2)
    if options.calibrate and method.units != "sigma":
        raise InputError(
            f"{method.name} can't be calibrated, as it knows no noise level; leave it out", 2
        )
    if options.uncertainty and not getattr(method, "is_posterior_mean", False):
        raise InputError(
            f"{method.name} does not know how sure it is; use --method joint, c2s or wiener, or "
            "leave --uncertainty-out out", 2
        )  # fmt: skip
    if options.uncertainty and (options.calibrate or options.blend):
        raise InputError(
            "the uncertainty is that of the method's own result; leave out --calibrate and "
            "--blend, or --uncertainty-out", 2
        )  # fmt: skip
    if options.threads is not None and options.threads < 1:
        raise InputError(f"{options.threads} threads can't work; give 1 or more", 2)
    try:
        return method, choose_device(options.device)
    except (ValueError, RuntimeError) as error:
        raise InputError(first_line(error), status=2) from None


def refuse_scan(scan: Series, method: Method) -> None:
    """Raise InputError for a scan that the method can't take."""
    where = scan.path or "the scan"
    if scan.n_volumes == 1 and not getattr(method, "takes_one_image", False):
        raise InputError(
            f"{where} is one image and {method.name} needs several; use --method c2s, or merge "
            "repeats or directions of the same anatomy into one 4-D file"
        )
    if scan.contrasts is not None and not getattr(method, "takes_contrasts", False):
        raise InputError(f"{method.name} takes no other contrasts; use --method c2s", 2)
    if scan.contrasts is not None and scan.contrasts.shape[:3] != scan.data.shape[:3]:
        raise InputError("the contrasts are not on the grid of the scan; resample them onto it")
    if scan.contrasts is not None and not np.isfinite(scan.contrasts).all():
        raise InputError("the contrasts hold NaN or Inf; set these voxels to 0")
    if np.iscomplexobj(scan.data) and getattr(method, "intensities", "") == "volume-maximum":
        raise InputError(f"{method.name} takes no complex data with these settings; give magnitude")


def _device_in_words(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _checked(scan: Series, options: Options, run: Run) -> tuple[Series, list[Finding]]:
    """The scan with a mask, and what the checks found; refuses what can't be denoised."""
    if options.fourth_axis != "directions":
        scan = replace(scan, fourth_axis=options.fourth_axis)
    scan = replace(scan, mask=mask_of(scan))
    findings = check(scan, _mask(scan))
    refuse(findings)
    _warn(findings, options, run)
    return scan, findings


def _warn(findings: list[Finding], options: Options, run: Run) -> None:
    """Say the warnings, and that voxels were not numbers; InputError for a warning if strict."""
    for finding in findings:
        if finding.level == "warning" or finding.code == "nonfinite":
            run.voice.say(f"{finding.level}: {finding.sentence}; {finding.advice}")
    warnings = [finding for finding in findings if finding.level == "warning"]
    if options.strict and warnings:
        raise InputError(f"{warnings[0].sentence}; {warnings[0].advice} (refused by --strict)")


def _mask(scan: Series) -> np.ndarray:
    assert scan.mask is not None  # set by _checked
    return scan.mask


def _restore_untouched(denoised: np.ndarray, scan: Series, apply_mask: bool) -> None:
    """Put back in place what holds no signal: voxels the scanner zeroed, NaN/Inf voxels as 0."""
    empty = np.ones(scan.data.shape[:3], dtype=bool)
    for v in range(scan.n_volumes):
        empty &= scan.data[..., v] == 0
    if scan.nonfinite is not None:
        empty |= scan.nonfinite
    if apply_mask:
        empty |= ~_mask(scan)
    denoised[empty] = 0


def _losses(run: Run) -> np.ndarray:
    """Of the last network that was trained."""
    names = [name for name in run.kept if name.startswith("losses")]
    return run.kept[names[-1]] if names else np.zeros(0, dtype=np.float32)


def fingerprint_of_scan(scan: Series) -> str:
    """Twelve letters that change with the scan's values or its b-values."""
    crc = 0
    for array in (*scan.data, *(() if scan.bvals is None else (scan.bvals,))):
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return sha256(f"{crc}/{scan.data.shape}".encode()).hexdigest()[:12]


def fingerprint(scan: Series, method: Method, noise: NoiseModel, run: Run) -> str:
    """Twelve letters that change with the scan, the noise, the method's settings or the seed."""
    crc = 0
    beside = (scan.contrasts, scan.bvals, scan.bvecs, scan.parts)
    known = [array for array in beside if array is not None]
    for array in (*scan.data, noise.covariance, _mask(scan), *known):
        crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    words = f"{crc}/{scan.fourth_axis}/{method!r}/{run.seed}/{run.device.type}/{version('quell')}"
    return sha256(words.encode()).hexdigest()[:12]


def settings_of(method: Method) -> dict[str, Any]:
    """The method's settings by name."""
    return asdict(method) if is_dataclass(method) else {}


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
            "Noise": {
                "Law": result.noise.law,
                "Coils": result.noise.n_coils,
                "MedianSigma": float(np.median(result.noise.sigma[mask])),
                "LagOneCorrelation": result.noise.lag_one(),
                "Components": result.noise.n_noise_components,
                "Source": result.noise.source,
            },
            "Checks": [finding.to_dict() for finding in result.findings],
            "Residual": result.statistics.as_dict(),
            "Seconds": {stage: round(s, 2) for stage, s in result.seconds.items()},
            "PeakMemoryBytes": peak_memory_bytes(),
            "Device": result.device,
            "Versions": versions(),
            "Date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        },
    }


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
    if errors := referee(kept):
        said["Used"] = used(kept)
        said["Referee"] = {name: round(error, 5) for name, error in errors.items()}
    return said


def referee(kept: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Error of every candidate that a method chose among, on the scan itself, by what it is."""
    mark = "referee "
    return {name.removeprefix(mark): float(kept[name]) for name in kept if name.startswith(mark)}


def used(kept: Mapping[str, np.ndarray]) -> str:
    """The candidate with the least error, which is the one that was used; "" where none was."""
    errors = referee(kept)
    return min(errors, key=errors.__getitem__, default="")


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
        if "map given" in result.noise.source
        else "Noise level and spatial noise correlation were learned from the series itself "
        f"({result.noise.source})"
    )
    return (
        f"The series was denoised with quell {version('quell')} (method {result.method.name}, "
        f"preset {options.preset}, seed {options.seed}; {result.method.paper}) before any other "
        f"processing. {learned}; neighbouring voxels' noise correlated by {x:.2f}, {y:.2f} and "
        f"{z:.2f} along x, y and z. {law}{floor}.{chosen}{mixed}"
    )
