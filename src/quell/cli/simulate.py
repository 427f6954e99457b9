"""quell simulate: scans with a known truth."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..series import InputError
from ..voice import printable, speaking
from .options import FILE, INPUTS, OUTPUTS, Bval, Bvec, IsQuiet, Mask, Seed, option

if TYPE_CHECKING:
    from ..studies import Simulated

AMOUNT, IMAGE, KSPACE = "How much noise, one of", "Noise on the image", "Noise in k-space"


def simulate(
    out: Annotated[
        Path, typer.Argument(help="folder to write, new or empty", metavar="OUT_FOLDER")
    ],
    phantom: Annotated[
        str | None, option(INPUTS, "A, B or small, to scan a phantom; default: B", metavar="NAME")
    ] = None,
    scan: Annotated[
        Path | None,
        option(INPUTS, "a clean scan of your own instead; its noise is anatomy", "--from", **FILE),
    ] = None,
    bval: Bval = None,
    bvec: Bvec = None,
    mask: Mask = None,
    repetitions: Annotated[
        int | None,
        option(INPUTS, "scan one volume so often; default: all volumes, once", metavar="R"),
    ] = None,
    volume: Annotated[
        int | None, option(INPUTS, "which one that is; default: 0, the first", metavar="V")
    ] = None,
    snr: Annotated[
        float | None,
        option(
            AMOUNT,
            "white matter at b=0 over sigma; of your own scan the mean in the mask",
            metavar="S",
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        option(AMOUNT, "standard deviation of one Gaussian part, units of the scan", metavar="S"),
    ] = None,
    level: Annotated[
        int | None,
        option(
            AMOUNT,
            "1 to 5: as noisy as Di-Fusion's simulations, by their own PSNR (13.72, 16.09, 20.38, "
            "23.76, 26.63 dB)",
            metavar="L",
        ),
    ] = None,
    noisy_psnr: Annotated[
        float | None, option(AMOUNT, "any other PSNR of that kind", metavar="DB")
    ] = None,
    law: Annotated[
        str | None,
        option(IMAGE, "gaussian, rician or nc-chi; default: noise in k-space", metavar="LAW"),
    ] = None,
    correlation: Annotated[
        str | None,
        option(IMAGE, "of neighbours along the axes, such as 0.2,0.3,0", metavar="X,Y,Z"),
    ] = None,
    coils: Annotated[int, option(KSPACE, "receive coils; N of --law nc-chi", metavar="N")] = 1,
    combine: Annotated[
        str,
        option(KSPACE, "rss (root of the sum of squares) or adaptive (magnitude)", metavar="NAME"),
    ] = "rss",
    partial_fourier: Annotated[
        float, option(KSPACE, "share of the lines along y measured, the rest zero", metavar="F")
    ] = 1.0,
    zero_fill: Annotated[
        float,
        option(KSPACE, "measure a matrix so much smaller along x and y", metavar="FACTOR"),
    ] = 1.0,
    coil_correlation: Annotated[
        float, option(KSPACE, "of the noise of any two coils", metavar="R")
    ] = 0.0,
    repeat: Annotated[
        bool, option(OUTPUTS, "a second acquisition, too, to judge by", "--repeat")
    ] = False,
    force: Annotated[
        bool,
        option(OUTPUTS, "replace files of these names in a folder that is not empty", "--force"),
    ] = False,
    seed: Seed = 0,
    quiet: IsQuiet = False,
) -> None:
    """Make a noisy scan whose truth is known, to judge denoisers by.

    OUT_FOLDER gets noisy, truth, mask and sigma (the noise map) as .nii.gz, and simulation.json.
    sigma is the standard deviation of the noise in the real, and in the imaginary, part of one
    coil's image when all of k-space is measured. The truth goes through the same acquisition
    without noise; where the result is a magnitude, it has no noise floor.
    """
    from ..simulate import Acquisition  # only here: `quell --help` does without
    from ..studies import Amount, Study, refuse_folder, write_folder
    from ..studies import simulate as simulated

    study = Study(
        amount=Amount(snr, sigma, level, noisy_psnr),
        phantom=phantom if phantom is not None else "" if scan else "B",
        scan=scan,
        bval=bval,
        bvec=bvec,
        mask=mask,
        law=law or "",
        correlation=None if correlation is None else read_correlation(correlation),
        acquisition=Acquisition(coils, combine, partial_fourier, zero_fill, coil_correlation),
        repetitions=repetitions,
        volume=volume,
        has_repeat=repeat,
        seed=seed,
    )
    study.refuse()
    refuse_folder(out, study, force)
    with speaking(quiet) as voice:
        made = simulated(study, voice)
        written = write_folder(out, made, shlex.join(["quell", *sys.argv[1:]]))
    if not quiet:
        for line in [*summary(made, written), *next_commands(made, out)]:
            print(printable(line))


def read_correlation(text: str) -> tuple[float, float, float]:
    """ "0.2,0.3,0" along x, y and z."""
    try:
        x, y, z = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--correlation {text} is not x,y,z; write it as 0.2,0.3,0", 2) from None
    return x, y, z


def summary(made: "Simulated", written: list[Path]) -> list[str]:
    """What was made, in a few lines."""
    study = made.study
    law = f"nc-chi of {study.n_coils} coils" if study.noise_law == "nc-chi" else study.noise_law
    near = ", ".join(f"{round(r, 2) + 0.0:.2f}" for r in made.correlation)  # no -0.00
    where = made.source.clean.where
    return [
        f"noise        {law}, sigma {made.sigma:.4g}, SNR {made.snr:.3g}",
        f"in the image sigma {made.noise_map[where].mean():.4g}, neighbours correlate by {near}",
        f"published    PSNR {made.psnr:.2f} dB, SSIM {made.ssim:.4f} of noisy against truth, over "
        "all volumes",
        f"wrote        {', '.join(path.name for path in written)} in {written[0].parent}",
    ]


def next_commands(made: "Simulated", out: Path) -> list[str]:
    """What denoises the scan and judges the result, with the noise that it has."""
    clean, study = made.source.clean, made.study
    noisy, denoised = str(out / "noisy.nii.gz"), str(out / "denoised.nii.gz")
    law = ["--noise-law", study.noise_law]
    if study.noise_law == "nc-chi":
        law += ["--coils", str(study.n_coils)]
    axis = ["--fourth-axis", "repetitions"] if clean.fourth_axis == "repetitions" else []
    method = ["--method", "c2s"] if clean.n_volumes == 1 else []
    known = [
        word for name in ("truth", "mask") for word in (f"--{name}", str(out / f"{name}.nii.gz"))
    ]
    known += ["--noise-in", str(out / "sigma.nii.gz")]
    scores = [] if study.amount.psnr is None else ["--as-published"]
    return [
        "next         " + shlex.join(["quell", "denoise", noisy, denoised, *method, *axis, *law]),
        "             "
        + shlex.join(["quell", "evaluate", noisy, denoised, *known, *axis, *law, *scores]),
    ]
