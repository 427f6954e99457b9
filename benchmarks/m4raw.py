"""The M4Raw protocol on synthetic M4Raw files: one table.

    python benchmarks/m4raw.py            all of it, about an hour on two cores
    python benchmarks/m4raw.py --table    only make the Markdown from the JSON again

Source      Lyu et al., "M4Raw", Scientific Data 10:264 (2023): 0.3 T, four coils, 256 x 256 x 18,
            repetitions in files of their own, root of the sum of squares.
Here        A head from the anatomy of phantom B, T1- and T2-weighted, seen by four coils with
            smooth sensitivities, and six repetitions with independent noise that is correlated
            between coils; written as M4Raw writes them and read back as `quell reconstruct
            --combine rss` does. No motion and no drift between repetitions; the real data have.
Referees    The mean of repetitions 4 to 6, which no method has seen: in the data's own protocol the
            reference often holds the input itself, which rewards leaving its noise in. And, since
            this is a phantom, the mean magnitude that endless repetitions would give.
Needs       scikit-image and PyWavelets.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from quality import processor
from script import main_of

import quell
from quell.evaluate import psnr
from quell.kspace import join, load_kspace, reconstruct, to_kspace
from quell.run import State
from quell.scaling import Scale, Stabiliser
from quell.series import Series, mask_of
from quell.simulate import sensitivities
from quell.simulate.anatomy import CSF, DEEP, GREY, LESION, SCALP, WHITE, tissue_fractions
from quell.simulate.phantom import INSTANCES, texture

SHAPE, VOXEL_MM = (256, 256, 18), 240 / 256
SNR = 8.0  # of white matter in one repetition: its signal over the noise of one coil's part
N_COILS, N_REPETITIONS, SEED = 4, 6, 2026
INPUTS, JUDGES = slice(0, 3), slice(3, 6)
SIGNAL = {
    "T1": {CSF: 0.30, GREY: 0.70, WHITE: 1.0, DEEP: 0.82, LESION: 0.55, SCALP: 1.25},
    "T2": {CSF: 2.2, GREY: 1.27, WHITE: 1.0, DEEP: 1.15, LESION: 1.8, SCALP: 0.4},
}
HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>256</x><y>256</y><z>1</z></matrixSize>
<fieldOfView_mm><x>240</x><y>240</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>256</x><y>256</y><z>1</z></matrixSize>
<fieldOfView_mm><x>240</x><y>240</y><z>5</z></fieldOfView_mm></reconSpace>
</encoding></ismrmrdHeader>"""
Denoise = Callable[[Series], np.ndarray]


# ---- the data ----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def anatomy(contrast: str) -> np.ndarray:
    """(X, Y, Z) the clean image, white matter 1."""
    settings = replace(INSTANCES["B"], shape=SHAPE, voxel_mm=VOXEL_MM)
    tissues = tissue_fractions(settings)
    variation = 1 + 0.04 * texture(settings, np.random.default_rng(settings.seed))[0]
    return np.asarray(variation * sum(tissues[t] * value for t, value in SIGNAL[contrast].items()))


def write_scan(folder: Path, contrast: str) -> list[Path]:
    """Six files as M4Raw has them."""
    coils = sensitivities(SHAPE[:2], N_COILS)[:, :, None]
    seen = anatomy(contrast)[..., None] * coils  # (X, Y, Z, N)
    rng = np.random.default_rng(SEED)
    mixing = np.linalg.cholesky(0.9 * np.eye(N_COILS) + 0.1)
    paths = []
    for k in range(N_REPETITIONS):
        noise = rng.standard_normal((2, *seen.shape), dtype=np.float32) @ mixing.T.astype(
            np.float32
        )
        image = seen + (noise[0] + 1j * noise[1]) / SNR
        kspace = to_kspace(image[..., None])[..., 0]  # (X, Y, Z, N)
        paths.append(folder / f"2022_{contrast}0{k + 1}.h5")
        with h5py.File(paths[-1], "w") as file:
            file["kspace"] = np.transpose(kspace, (2, 3, 0, 1)).astype(np.complex64)
            file["ismrmrd_header"] = HEADER
    return paths


def read_scan(contrast: str) -> tuple[Series, np.ndarray]:
    """The repetitions as quell reads them, and the mean magnitude of endless ones, sigma = 1."""
    with TemporaryDirectory() as folder:
        paths = write_scan(Path(folder), contrast)
        scan = reconstruct(join([load_kspace(path) for path in paths]), "rss")
    scan = replace(scan, mask=mask_of(scan), fourth_axis="repetitions")
    theta = whitened_signal(anatomy(contrast))
    mean = Stabiliser.of("nc-chi", float(N_COILS)).mean_of(theta)
    return scan, mean.astype(np.float32)


def whitened_signal(clean: np.ndarray) -> np.ndarray:
    """(X, Y, Z) root of the sum of squares of the coils after whitening, sigma = 1."""
    inverse = np.linalg.inv(np.linalg.cholesky(0.9 * np.eye(N_COILS) + 0.1))
    gain = np.sqrt((np.abs(sensitivities(SHAPE[:2], N_COILS) @ inverse.T) ** 2).sum(axis=-1))
    return np.asarray(clean * SNR * gain[:, :, None])


# ---- the methods -------------------------------------------------------------------------------


def one(scan: Series) -> Series:
    """The first repetition alone."""
    return replace(scan, data=scan.data[..., :1], fourth_axis="directions")


def filtered(kind: str, scan: Series) -> np.ndarray:
    """scikit-image's filter on the stabilised first repetition, slice by slice, and back."""
    from low_field import filters
    from skimage.restoration import calibrate_denoiser

    scale = Scale.of(np.ones(SHAPE, np.float32), "nc-chi", float(N_COILS))
    stable = scale.apply(scan.data[..., 0]).astype(float)
    out = np.empty(SHAPE, np.float32)
    function, grid = filters(kind, 1.0)
    _, (tested, losses) = calibrate_denoiser(
        stable[:, :, SHAPE[2] // 2], function, denoise_parameters=grid, extra_output=True
    )
    best = tested[int(np.argmin(losses))]
    for z in range(SHAPE[2]):
        out[:, :, z] = function(stable[:, :, z], **best)
    return scale.undo_keeping_floor(out)[..., None]


LEARNED: dict[str, State] = {}  # what a method learned, for the rows that only use it otherwise


def by_quell(method: str, scan: Series, **choices: Any) -> np.ndarray:
    """quell on what is told to be four-coil magnitude."""
    coils = float(N_COILS)
    result = quell.denoise(scan, method=method, noise_law="nc-chi", coils=coils, **choices)
    LEARNED[method] = result.state
    return result.denoised[..., :1]


METHODS: dict[str, Denoise] = {
    "noisy": lambda scan: scan.data[..., :1],
    "non-local means, calibrated": partial(filtered, "nlm"),
    "wavelet shrinkage, calibrated": partial(filtered, "wavelet"),
    "noise2void": lambda scan: by_quell("noise2void", one(scan)),
    "r2r": lambda scan: by_quell("r2r", one(scan)),
    "c2s": lambda scan: by_quell("c2s", one(scan)),
    "c2s, blend 0.17": lambda scan: by_quell(
        "c2s", one(scan), blend=0.17, state=LEARNED.get("c2s")
    ),
    "c2s, the other two repetitions shown": lambda scan: by_quell(
        "c2s", replace(scan, data=scan.data[..., INPUTS]), others=2
    ),
    "joint over three repetitions": lambda scan: by_quell(
        "joint", replace(scan, data=scan.data[..., INPUTS])
    ),
    "mean of the three repetitions": lambda scan: scan.data[..., INPUTS].mean(
        axis=3, keepdims=True
    ),
    **{
        f"{name}, fast": partial(lambda name, scan: by_quell(name, one(scan), preset="fast"), name)
        for name in (
            "noise2self",
            "neighbor2neighbor",
            "noisier2noise",
            "noise2score",
            "sure",
            "unsure",
            "deep_image_prior",
            "implicit_prior",
            "noise2score_ip",
            "sure_ip",
        )
    },
    "nlm": lambda scan: by_quell("nlm", one(scan)),
    "ascm": lambda scan: by_quell("ascm", one(scan)),
    "noise2noise over three repetitions, fast": lambda scan: by_quell(
        "noise2noise",
        replace(scan, data=scan.data[..., INPUTS], fourth_axis="repetitions"),
        preset="fast",
    ),
}


# ---- scores ------------------------------------------------------------------------------------


def scores(out: np.ndarray, scan: Series, truth: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM against both referees, in the head, range 1 at the reference's brightest."""
    from skimage.metrics import structural_similarity

    found, inside = {}, scan.where
    for name, reference in (("others", scan.data[..., JUDGES].mean(axis=3)), ("truth", truth)):
        top = float(np.percentile(reference[inside], 99.9))
        a, b = (np.clip(image / top, 0, 1) for image in (out[..., 0], reference))
        found[f"psnr {name}"] = psnr(a[..., None], b[..., None], inside, 1.0)
        maps = [
            structural_similarity(a[:, :, z], b[:, :, z], data_range=1.0, full=True)[1]
            for z in range(a.shape[2])
        ]
        found[f"ssim {name}"] = float(np.stack(maps, axis=2)[inside].mean())
    inputs = scan.data[..., 0][inside]
    away = (out[..., 0] - scan.data[..., 0])[inside]
    if away.any():  # what share of the noisy image would score best, by either reference
        for name, which in (("all six", slice(None)), ("others", JUDGES)):
            reference = scan.data[..., which].mean(axis=3)[inside]
            share = float(((reference - inputs) @ away) / (away @ away))
            found[f"best kappa, {name}"] = 1 - share
    return found


def run_all(threads: int, path: Path) -> None:
    """Every row that the JSON does not hold yet."""
    results: dict[str, Any] = {"machine": f"{processor()}, {threads} threads", "rows": {}}
    if path.exists():
        results = json.loads(path.read_text())
    for contrast in SIGNAL:
        rows = results["rows"].setdefault(contrast, {})
        if METHODS.keys() <= rows.keys():
            continue
        scan, truth = read_scan(contrast)
        LEARNED.clear()
        for name, denoise in METHODS.items():
            if name in rows:
                continue
            start = time.perf_counter()
            out = denoise(scan)
            seconds = time.perf_counter() - start
            rows[name] = {"seconds": seconds} | scores(out, scan, truth)
            print(f"{contrast} {name}: {rows[name]}", flush=True)
            # in the order of the methods, whenever each was run
            results["rows"][contrast] = {n: rows[n] for n in METHODS if n in rows}
            path.write_text(json.dumps(results, indent=2) + "\n")


def table(results: dict[str, Any]) -> str:
    lines = [
        "# M4Raw's protocol on synthetic files",
        "",
        f"{SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}, {N_COILS} coils, root of the sum of squares, SNR "
        f"{SNR:g} of white matter. The first repetition is denoised. *others*: against the mean of "
        "repetitions 4 to 6, which no method has seen and which is itself noisy: nothing scores "
        "above a bound. *truth*: against the mean magnitude of endless repetitions. In the head; "
        f"data range 1. One noise draw, one seed. {results['machine']}; rows with *fast* by one "
        "thread, with other work on the machine.",
        "",
        "| | PSNR others, dB | SSIM others | PSNR truth, dB | SSIM truth | seconds |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for contrast, rows in results["rows"].items():
        lines.append(f"| **{contrast}** | | | | | |")
        lines += [
            f"| {name} | {r['psnr others']:.2f} | {r['ssim others']:.3f} | {r['psnr truth']:.2f} "
            f"| {r['ssim truth']:.3f} | {r['seconds']:.0f} |"
            for name, r in rows.items()
        ]
    lines += [
        "",
        "## What a reference that holds the input rewards",
        "",
        "The share of the noisy image that would score best in the result of `c2s`:",
        "",
        "| | reference: all six repetitions | reference: repetitions 4 to 6 |",
        "| --- | --: | --: |",
    ]
    lines += [
        f"| {contrast} | {rows['c2s']['best kappa, all six']:.3f} "
        f"| {rows['c2s']['best kappa, others']:.3f} |"
        for contrast, rows in results["rows"].items()
        if "c2s" in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "m4raw", run_all, table)
