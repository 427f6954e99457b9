"""Low field: single complex images at 0.055 T against tuned classical filters, one table.

    python benchmarks/low_field.py            all of it, about half an hour on two cores
    python benchmarks/low_field.py --table    only make the Markdown from the JSON again

Repeats     A FLAIR acquired twice. The first one is denoised, the second one judges it; both are
            complex, so nothing has a noise floor. Non-local means and wavelet shrinkage are given
            real and imaginary part after demodulation, and tuned for every slice and part by
            scikit-image's `calibrate_denoiser`; and once more with the single setting that scores
            best on the referee itself, which nobody has who has one scan.
Contrasts   FLAIR, FSE and GRE of one head, with and without the other two shown. No repeats here:
            the scan x is given with noise a z on top, and judged by x - z / a, whose noise is
            independent of it. z has the correlation that the noise model found.
Needs       QUELL_DATA, scikit-image and PyWavelets.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from quality import processor
from script import main_of

import quell
from quell.demodulation import demodulate, remodulate
from quell.evaluate import mse_over_variance, sigma_of_repeats
from quell.kspace import load_kspace, to_images
from quell.noise import learn
from quell.series import Series, mask_of

DATA = Path(os.environ.get("QUELL_DATA", Path(__file__).parents[2] / "shared" / "data"))
ULF = DATA / "ulf-0p055T-dev"
TWICE = ULF / "Supplementary_Figure_3B" / "0.055T_FLAIR_RF_cage_installed_2D_kspace.mat"
HEAD = ULF / "Figure_7A" / "0.055T"
CONTRASTS = ("FLAIR", "FSE", "GRE")
SHARE = 0.7  # a: the noise added is so much of the scan's own
SEED = 2026
Denoise = Callable[[Series], np.ndarray]


def complex_series(images: np.ndarray) -> Series:
    """A series of complex images (X, Y, Z, V), its mask computed from their mean magnitude."""
    scan = Series(images.astype(np.complex64), np.diag([1.0, 1, 5, 1]), nib.Nifti1Header())
    return replace(scan, mask=mask_of(scan))


def images_of(path: Path, axes: str) -> np.ndarray:
    """(X, Y, Z, V) complex images of a single-coil k-space."""
    return to_images(load_kspace(path, axes).data)[:, :, :, 0]


def parts(images: np.ndarray) -> np.ndarray:
    """Real and imaginary parts as volumes."""
    return np.concatenate([images.real, images.imag], axis=3)


# ---- the peers ---------------------------------------------------------------------------------


def filters(kind: str, sigma: float) -> tuple[Callable[..., np.ndarray], dict[str, list[Any]]]:
    """scikit-image's "nlm" or "wavelet", and the settings to choose from."""
    from skimage.restoration import denoise_nl_means, denoise_wavelet

    if kind == "nlm":
        function = partial(denoise_nl_means, patch_size=5, patch_distance=7, fast_mode=True)
        return function, {
            "h": [f * sigma for f in (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)],
            "sigma": [sigma],
        }
    function = partial(denoise_wavelet, wavelet="db2", mode="soft", rescale_sigma=False)
    shares = [f * sigma for f in (0.2, 0.3, 0.5, 0.7, 1.0, 1.4)]
    return function, {"sigma": shares, "method": ["BayesShrink", "VisuShrink"]}


def by_slice(scan: Series, denoise: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Every slice of real and imaginary part, after demodulation."""
    real, phase = demodulate(scan)
    out = np.empty_like(real.data)
    for v in range(out.shape[3]):
        for z in range(out.shape[2]):
            out[:, :, z, v] = denoise(real.data[:, :, z, v].astype(float))
    return remodulate(out, phase)


def calibrated(kind: str) -> Denoise:
    """A filter tuned for every slice and part by `calibrate_denoiser`, without a truth.

    Its settings with the plain filter: the J-invariant version of it, which it returns, is worse.
    """
    from skimage.restoration import calibrate_denoiser, estimate_sigma

    def one(image: np.ndarray) -> np.ndarray:
        function, grid = filters(kind, float(estimate_sigma(image)))
        _, (tested, losses) = calibrate_denoiser(
            image, function, denoise_parameters=grid, extra_output=True
        )
        return np.asarray(function(image, **tested[int(np.argmin(losses))]))

    return lambda scan: by_slice(scan, one)


def tuned_on_the_referee(kind: str) -> Denoise:
    """A filter with the one setting that scores best: more than anybody can know."""

    def denoise(scan: Series) -> np.ndarray:
        both = images_of(TWICE, "x,y,z,repetition")
        sigma = sigma_of_repeats(parts(both[..., :1]), parts(both[..., 1:]), scan.where)
        function, grid = filters(kind, sigma)
        settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        outs = [by_slice(scan, partial(function, **one)) for one in settings]
        return min(
            outs, key=lambda out: float(np.mean(np.abs(out - both[..., 1:])[scan.where] ** 2))
        )

    return denoise


def by_quell(method: str, **choices: Any) -> Denoise:
    return lambda scan: quell.denoise(scan, method=method, **choices).denoised


METHODS: dict[str, Denoise] = {
    "noisy": lambda scan: scan.data,
    "non-local means, calibrated": calibrated("nlm"),
    "wavelet shrinkage, calibrated": calibrated("wavelet"),
    "non-local means, tuned on the referee": tuned_on_the_referee("nlm"),
    "wavelet shrinkage, tuned on the referee": tuned_on_the_referee("wavelet"),
    "c2s": by_quell("c2s"),
    "c2s, preset fast": by_quell("c2s", preset="fast"),
    "c2s, tau uniform to 5 sigma, weight s_t^0: as published": by_quell(
        "c2s", tau="uniform", tau_max=5.0, weight="power"
    ),
    "c2s, tau uniform to 5 sigma, weight 1/γ": by_quell("c2s", tau="uniform", tau_max=5.0),
    "c2s, tau log-normal, weight s_t^0": by_quell("c2s", weight="power"),
    "r2r, the same network": by_quell("r2r"),
    "noise2void, the same network": by_quell("noise2void"),
    "c2s, target sigma_g = 0.4": by_quell("c2s", target=0.4),
    "c2s, mean of 8 recorruptions": by_quell("c2s", recorruptions=8),
    "c2s, noise attention": by_quell("c2s", attention=True),
    "c2s, calibrated": by_quell("c2s", calibrate=True),
    "joint": by_quell("joint"),
}


# ---- the two referees --------------------------------------------------------------------------


def score_repeat(denoise: Denoise) -> dict[str, float]:
    """Gain of the first FLAIR against the second one."""
    both = images_of(TWICE, "x,y,z,repetition")
    scan, second = complex_series(both[..., :1]), both[..., 1:]
    start = time.perf_counter()
    out = denoise(scan)
    seconds = time.perf_counter() - start
    mask = scan.where
    sigma = sigma_of_repeats(parts(both[..., :1]), parts(second), mask)
    score = mse_over_variance(parts(out), parts(second), sigma, mask)
    return {"gain": score.gain_db, "mse": score.mse_over_variance, "seconds": seconds}


def heads() -> dict[str, np.ndarray]:
    """The three contrasts on one grid; GRE has more lines of the same field of view."""
    found = {}
    for name in CONTRASTS:
        kspace = load_kspace(HEAD / f"0.055T_{name}_kspace_postEMI.mat", "x,y,z").data
        lines = 126
        first = (kspace.shape[1] - lines) // 2
        found[name] = to_images(kspace[:, first : first + lines])[:, :, :, 0]
    return found


def score_contrast(name: str, how: str) -> dict[str, float]:
    """Gain of one contrast by recorruption; how: "alone", "shown others" or "joint"."""
    images = heads()
    scan = complex_series(images[name])
    real, phase = demodulate(scan)
    noise = learn(real, scan.where)
    sigma = float(np.median(noise.sigma))
    rng = np.random.default_rng(SEED)
    z = np.stack([noise.draw_volume(rng) for _ in range(2)], axis=3)
    given = replace(scan, data=remodulate(real.data + SHARE * z, phase))
    judge = real.data - z / SHARE
    others = [images[other] for other in CONTRASTS if other != name]
    start = time.perf_counter()
    if how == "joint":
        stack = replace(given, data=np.concatenate([given.data, *others], axis=3))
        out = quell.denoise(stack, method="joint", fourth_axis="contrasts").denoised[..., :1]
    else:
        shown = np.abs(np.concatenate(others, axis=3)) if how == "shown others" else None
        out = quell.denoise(replace(given, contrasts=shown), method="c2s").denoised
    seconds = time.perf_counter() - start
    added = sigma**2 * (1 + 1 / SHARE**2)  # noise of the judge
    inside = scan.where
    out = parts(out * phase.conj())
    before = sigma**2 * (1 + SHARE**2)  # noise of what was given
    mse = float(np.mean((out - judge)[inside] ** 2)) - added
    return {
        "gain": -10 * np.log10(max(mse, 1e-9) / before), "mse": mse / before, "seconds": seconds,
    }  # fmt: skip


def run_all(threads: int, path: Path) -> None:
    """Every row that the JSON does not hold yet."""
    machine = f"{processor()}, {threads} threads"
    results: dict[str, Any] = {"machine": machine, "repeats": {}, "contrasts": {}}
    if path.exists():
        results = json.loads(path.read_text())
    for name, denoise in METHODS.items():
        if name not in results["repeats"]:
            results["repeats"][name] = row = score_repeat(denoise)
            print(f"{name}: {row['gain']:.2f} dB, {row['seconds']:.0f} s", flush=True)
            path.write_text(json.dumps(results, indent=2) + "\n")
    for name in CONTRASTS:
        for how in ("alone", "shown others", "joint"):
            if f"{name}, {how}" not in results["contrasts"]:
                results["contrasts"][f"{name}, {how}"] = row = score_contrast(name, how)
                print(f"{name}, {how}: {row['gain']:.2f} dB, {row['seconds']:.0f} s", flush=True)
                path.write_text(json.dumps(results, indent=2) + "\n")


def table(results: dict[str, Any]) -> str:
    lines = [
        "# One complex image at 0.055 T",
        "",
        "A FLAIR in two repetitions: the first is denoised, the second judges it (complex, in the "
        "head). Gain: how many times less mean squared error than the noisy image, in dB. Part of "
        "the difference between the repetitions is drift, which counts as error for all alike. "
        f"One scan, one seed. {results['machine']}.",
        "",
        "| | gain, dB | MSE/σ² | seconds |",
        "| --- | --: | --: | --: |",
    ]
    lines += [
        f"| {name} | {max(r['gain'], 0.0):.2f} | {r['mse']:.3f} | {r['seconds']:.0f} |"
        for name, r in results["repeats"].items()
    ]
    lines += [
        "",
        "## Three contrasts of one head",
        "",
        f"Each was given with {SHARE:g} sigma of noise on top and judged by a copy with "
        "independent noise, so the gain is over that noisier image. *alone*: `c2s`; *shown "
        "others*: `c2s` with `--contrast`; *joint*: `joint` over the three as the fourth axis.",
        "",
        "| | gain, dB | MSE/σ² | seconds |",
        "| --- | --: | --: | --: |",
    ]
    lines += [
        f"| {name} | {r['gain']:.2f} | {r['mse']:.3f} | {r['seconds']:.0f} |"
        for name, r in results["contrasts"].items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "low_field", run_all, table)
