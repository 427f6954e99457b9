"""quell check: what a scan is, what quell would do with it, and what is wrong with it."""

from dataclasses import replace

import numpy as np
import typer

from ..checks import Finding, Look, check
from ..methods import DEFAULT, METHODS, make
from ..noise import describe_noise, remarks
from ..options import Options, refuse_options
from ..pipeline import as_real, noise_of
from ..series import InputError, Series, load, load_map, mask_of
from ..voice import printable
from .options import Bval, Bvec, Coils, FourthAxis, Law, Mask, NoiseIn, Phase, Scan
from .pipes import piped_in
from .usage import hanging


def check_command(
    scan: Scan,
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    phase: Phase = None,
    fourth_axis: FourthAxis = "directions",
    noise_in: NoiseIn = None,
    noise_law: Law = "auto",
    coils: Coils = None,
) -> None:
    """Say what a scan is, what quell would do with it, and what is wrong with it."""
    options = Options(noise_law=noise_law, coils=coils, fourth_axis=fourth_axis)
    refuse_options(options)
    with piped_in(scan) as path:
        series = replace(load(path, bval, bvec, mask, phase), fourth_axis=fourth_axis)
    given = None if noise_in is None else load_map(noise_in, series)
    where = mask_of(series)
    for label, text in _about(series, where):
        _print(label, text)
    findings = check(series, where, method=make(DEFAULT))
    errors = [f"{f.sentence}; {f.advice}" for f in findings if f.level == "error"]
    if not errors:
        try:
            masked = replace(series, mask=where)
            plain = as_real(masked)[0]
            noise = noise_of(masked, plain, options, given)
            findings += remarks(noise, "", plain, where)
            _print("noise", describe_noise(noise, where).removeprefix("noise: "))
            _print("method", f"{DEFAULT}, {METHODS[DEFAULT].summary}")
        except InputError as error:
            errors = [str(error)]
    print()
    for text in errors:
        _print("error", text)
    _print_findings(findings)
    if errors:
        raise typer.Exit(1)


def _about(series: Series, mask: np.ndarray) -> list[tuple[str, str]]:
    """What the scan is, label by label."""
    size = " x ".join(str(n) for n in series.data.shape)
    voxel = " x ".join(f"{mm:.3g}" for mm in series.voxel_mm)
    if series.bvals is None:
        volumes = f"{series.n_volumes}, no b-values"
    else:
        shells = Look(series, mask).shells
        volumes = ", ".join(f"{len(group)} at b={b:.0f}" for b, group in shells)
    made = "given" if series.mask is not None else "computed"
    return [
        ("scan", str(series.path)),
        ("size", f"{size}, voxels of {voxel} mm, {series.stored_dtype}"),
        ("volumes", volumes),
        ("mask", f"{made}, {mask.mean():.0%} of the voxels"),
    ]


def _print_findings(findings: list[Finding]) -> None:
    """Warnings and notes, or that there are none."""
    if not findings:
        print("Nothing speaks against denoising this scan.")
    for finding in findings:
        if finding.level != "error":
            _print(finding.level, f"{finding.sentence}; {finding.advice} [{finding.code}]")


def _print(label: str, text: str) -> None:
    """One labelled line on standard output, wrapped to the terminal."""
    print(hanging(label, printable(text), indent=9))
