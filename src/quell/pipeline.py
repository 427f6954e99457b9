"""The way of a scan. Start here.

load -> check (refuse early, in words) -> noise model -> scale to sigma = 1 -> method.fit (resumes)
-> method.denoise -> scale back -> write -> measure -> report.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .calibration import calibrate
from .checks import Finding, check, refuse
from .demodulation import along, demodulate, remodulate
from .evaluate import (
    Judgement,
    ResidualStatistics,
    Verdict,
    headline,
    residual_statistics,
    verdict,
)
from .fingerprints import fingerprint
from .glimpse import Glimpse
from .methods import Method, make, trains
from .noise import NoiseModel, describe_noise, learn, remarks
from .options import Options, refuse_options, refuse_scan, with_choices
from .probing import ProbeRow, short_probe
from .run import Run, Silent, State, Voice, set_threads
from .scaling import Scale
from .series import InputError, Series, mask_of
from .uncertainty import add_left_out, posterior_sd


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
    probe: ProbeRow | None = None  # what it would erase; None: not asked for, or no room

    @property
    def noise_map(self) -> np.ndarray:
        """(X, Y, Z) standard deviation of the noise; (X, Y, Z, V) where volumes differ in it."""
        if self.noise.levels is None:
            return self.noise.sigma
        levels = self.noise.levels[: self.denoised.shape[3]]  # complex: of the real parts
        return np.asarray(self.noise.sigma[..., None] * levels, dtype=np.float32)

    @property
    def judgements(self) -> list[Judgement]:
        """Every residual statistic, judged."""
        return verdict(self.statistics, self.floor_removed, self.findings)

    @property
    def verdict(self) -> Verdict:
        """What to do with the result, and why: from its residual and what the checks found."""
        return headline(self.judgements, self.findings)

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
    options = with_choices(options, choices)
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
    was_given = bool(state)
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
    with run.timed("measure"):
        is_floorless = noise.law != "gaussian" and options.remove_floor
        floor = scale.with_floor if is_floorless else None
        statistics = _measured(even, denoised, phase, noise, given.bvals, floor)
    del even
    if noise.levels is not None:
        denoised = denoised * levels
    if phase is not None:
        denoised = remodulate(denoised, phase)
        _join_parts(run.kept, given.n_volumes)
    result = Result(
        denoised=denoised,
        noisy=given.data,
        mask=scan.where,
        noise=noise,
        findings=findings + _of_slices(run.kept),
        statistics=statistics,
        method=method,
        state=state,
        losses=_losses(run),
        kept=run.kept,
        seconds=run.seconds,
        device=_device_in_words(device),
        floor_removed=is_floorless,
        calibration=calibration,
    )
    if options.probe and (was_given or not trains(method)):
        with run.timed("probe"):
            probe = _probed(result, given, phase, options, state if was_given else None)
            if probe is not None:
                run.voice.say(f"probe: {probe.sentence(given.n_volumes)}")
        result = replace(result, probe=probe)
    return result


def _probed(
    result: Result,
    given: Series,
    phase: np.ndarray | None,
    options: Options,
    state: State | None,
) -> ProbeRow | None:
    """What the method keeps of one kind of structure, by one more run; None without room for it.

    given  the scan with its mask
    phase  (X, Y, Z, V)  of a complex scan
    """
    try:
        rng = np.random.default_rng(options.seed)
        probe = short_probe(given, result.noise, rng, phase)
        alike = replace(options, probe=False, uncertainty=False, strict=False)
        again = denoise(probe.probed, alike, noise_model=result.noise, state=state)
    except (InputError, MemoryError, torch.OutOfMemoryError):  # the result itself is there
        return None
    (row,) = probe.measure(result.denoised, again.denoised).rows(result.noise.covariance)
    return row if np.isfinite(row.kept.mean) else None


def _measured(
    scan: Series,
    denoised: np.ndarray,
    phase: np.ndarray | None,
    noise: NoiseModel,
    bvals: np.ndarray | None,
    floor: Callable[[np.ndarray], np.ndarray] | None,
) -> ResidualStatistics:
    """What was removed from a scan whose volumes are in units of their `noise.levels`.

    denoised  (X, Y, Z, V)  in the same units
    phase     (X, Y, Z, V / 2)  that was taken out of a complex scan
    bvals     of the volumes as they were given
    floor     puts the noise floor back where it was removed
    """
    before, after = scan.data, denoised
    if phase is not None:  # real and imaginary parts mean little by themselves
        before, after = along(*(remodulate(parts, phase) for parts in (denoised, scan.data)))
    found = residual_statistics(
        before, after, noise.sigma, scan.where, bvals, noise.covariance, floor
    )
    if noise.levels is None:
        return found
    own = noise.levels[: before.shape[3]]  # complex: imaginary parts have the same as real ones
    signal = found.signal_before * own, found.signal_after * own
    return replace(found, signal_before=signal[0], signal_after=signal[1])


def _join_parts(kept: dict[str, np.ndarray], V: int) -> None:
    """What was kept of 2 V real and imaginary parts, as of V complex volumes."""
    if "spread" in kept:
        kept["spread"] = np.hypot(kept["spread"][..., :V], kept["spread"][..., V:])
    if "uncertainty" in kept:
        kept["uncertainty"] = np.hypot(kept["uncertainty"][..., :V], kept["uncertainty"][..., V:])
    if "passed through" in kept:
        kept["passed through"] = kept["passed through"][kept["passed through"] < V]
    if "kept clusters" in kept:
        kept["kept clusters"][:, 0] %= V
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
        X, h, noise, X.where, np.random.default_rng(run.seed),
    )  # fmt: skip
    kept = run.kept.get("kept voxels", np.zeros((0, 4), dtype=int))
    add_left_out(sd, X.data - h, X.where, noise, kept)
    typical = float(np.sqrt(np.mean(sd[X.where] ** 2, dtype=np.float64)))
    run.voice.say(f"uncertainty: the truth lies {typical:.2f} sigma from the result, typically")
    return sd


def _calibration(
    method: Method, X: Series, h: np.ndarray, noise: NoiseModel, state: State, run: Run
) -> dict[str, float]:
    """The best share of the way from the scan to the result, and what it was found from."""
    quiet = replace(run, voice=Silent(), kept={}, seconds={})
    share, off, n_pairs = calibrate(
        lambda data: method.denoise(replace(X, data=data), noise, state, quiet),
        X, h, noise, X.where, np.random.default_rng(run.seed),
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
        method = make(options.method, options.preset, **options.settings)
        given, findings = _checked(scan, method, options, run)
    plain, phase = as_real(given)
    with run.timed("noise model"):
        noise = noise_model or noise_of(given, plain, options, noise_map)
        run.voice.say(describe_noise(noise, plain.where))
        takes_white = method.name if method.assumes_white else ""
        said = remarks(noise, takes_white, plain, plain.where)
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
    return learn(plain, plain.where, options.noise_law, options.coils, noise_map, raw)


def _device_in_words(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _checked(
    scan: Series, method: Method, options: Options, run: Run
) -> tuple[Series, list[Finding]]:
    """The scan with a mask, and what the checks found; refuses what can't be denoised."""
    if options.fourth_axis != "directions":
        scan = replace(scan, fourth_axis=options.fourth_axis)
    mask = mask_of(scan)
    findings = check(
        scan, mask, method=method
    )  # which judges a computed mask, not one that was given
    scan = replace(scan, mask=mask)
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


def _of_slices(kept: Mapping[str, np.ndarray]) -> list[Finding]:
    """Slices whose result a chain has moved further, or less far, than the other volumes'."""
    slices = kept.get("flagged slices", ())
    if not len(slices):
        return []
    first = ", ".join(f"slice {z} of volume {v}" for v, z in slices[:12])
    more = f" and {len(slices) - 12} more" if len(slices) > 12 else ""
    plural = len(slices) > 1
    sentence = (
        f"{len(slices)} slice{'s' * plural} moved further from, or stayed closer to, the input "
        f"than the same slice{'s' * plural} of other volumes: {first}{more}"
    )
    return [Finding("flagged-slices", "warning", sentence, "look for motion, spikes or drop-outs")]


def _restore_untouched(denoised: np.ndarray, scan: Series, apply_mask: bool) -> None:
    """Put back in place what holds no signal: voxels the scanner zeroed, NaN/Inf voxels as 0."""
    empty = np.ones(scan.data.shape[:3], dtype=bool)
    for v in range(scan.n_volumes):
        empty &= scan.data[..., v] == 0
    if scan.nonfinite is not None:
        empty |= scan.nonfinite
    if apply_mask:
        empty |= ~scan.where
    denoised[empty] = 0


def _losses(run: Run) -> np.ndarray:
    """Of the last network that was trained."""
    names = [name for name in run.kept if name.startswith("losses")]
    return run.kept[names[-1]] if names else np.zeros(0, dtype=np.float32)
