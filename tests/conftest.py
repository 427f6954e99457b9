"""What tests share: one small noisy scan, the command line in-process, and images of noise."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from quell.cli import main
from quell.images import Images
from quell.noise import LAGS, NoiseModel, draw, power_spectrum
from quell.series import Series, write_nifti
from quell.simulate import Phantom, PhantomSettings, corrupt, phantom
from quell.simulate.corruption import tap
from quell.slices import Batch

NASTY = "<img src=x onerror=alert(1)>\"'é" + "n" * 270  # 300 characters
QUICK = ("--method", "patch2self", "--no-report", "--threads", "1")  # all but the network


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",  # WebGL without a graphics card
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")  # not longer: while it runs, no other event loop can
def browser() -> Iterator:
    """Headless Chromium; what asks for it is skipped where it or Playwright is not installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def head() -> Phantom:
    """Phantom A, with its truth; not to be changed."""
    return phantom("A")


@pytest.fixture(scope="session")
def brain() -> Phantom:
    """4 b0s and 8 directions, 3 mm, with much air around the head; not to be changed."""
    return phantom(PhantomSettings((64, 72, 10), 3.0, 4, ((1000.0, 8),), seed=5))


@pytest.fixture(scope="session")
def series() -> Series:
    """A piece of the small phantom with Rician noise, 16 x 18 x 3 x 14; signal over noise 20."""
    clean = phantom("small").clean
    piece = clean.data[8:24, 9:27, 4:7]
    noisy = corrupt(piece, 40.0, np.random.default_rng(0), "rician")
    return replace(clean, data=noisy, mask=None, sidecar={"EchoTime": 0.08, "Manufacturer": "none"})


@pytest.fixture
def scan(tmp_path, series) -> Path:
    """That piece as a file, with everything that may stand beside it."""
    return write_scan(tmp_path / "dwi.nii.gz", series)


def write_scan(path: Path, series: Series) -> Path:
    write_nifti(path, series.data, series)
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    np.savetxt(path.with_name(name + ".bval"), series.bvals[None], fmt="%g")
    np.savetxt(path.with_name(name + ".bvec"), series.bvecs.T, fmt="%.6f")
    path.with_name(name + ".json").write_text('{"EchoTime": 0.08, "Manufacturer": "none"}')
    return path


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def facts():
    """A page to write: noise on a known image, hostile text wherever text comes from outside."""
    from quell.evaluate import residual_statistics
    from quell.report import ReportFacts  # brings matplotlib

    shape, bvals = (14, 16, 8), np.array([0.0, 1000, 1000, 1000, 2000, 2000])
    rng = np.random.default_rng(5)
    clean = np.broadcast_to(rng.uniform(100, 300, (*shape, 1)), (*shape, 6)).astype(np.float32)
    noisy = clean + 10 * rng.standard_normal(clean.shape).astype(np.float32)
    sigma, mask = np.full(shape, 10.0, np.float32), np.ones(shape, bool)
    mask[:2] = False
    return ReportFacts(
        title=NASTY,
        noisy=noisy,
        denoised=clean,
        sigma=sigma,
        mask=mask,
        affine=np.diag([2.0, 2, 3, 1]),
        bvals=bvals,
        statistics=residual_statistics(noisy, clean, sigma, mask, bvals, None),
        command=f"quell denoise '{NASTY}' out.nii.gz",
        settings={"method": NASTY, "preset": "fast", "seed": 0, "nothing": None, "rate": 2e-4},
        run={"seconds": {"load": 0.5, "fit": 12.0}, "device": "cpu", NASTY: [1, 2]},
        losses=[3.0, 2.0, 1.5],
        findings=[{"code": "x", "level": "warning", "sentence": NASTY, "advice": NASTY}],
        warnings=[NASTY],
        citations=["A paper, https://doi.org/10.1000/x", NASTY],
        methods_paragraph=f"Images were denoised. {NASTY}",
        eigenvalues=np.array([40.0, 9, 1.2, 1, 0.8]),
        noise_edge=1.5,
    )


@pytest.fixture
def quell(monkeypatch, capsys):
    """The command line: quell("denoise", scan, out) runs it and says how it ended."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["quell", *(os.fsdecode(str(w)) for w in words)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return Outcome(status, *capsys.readouterr())

    return run


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated(x: float = 0.0, y: float = 0.0) -> NoiseModel:
    """Noise of sd 1 with these correlations of neighbours along x and y; white without."""
    parts = [np.eye(1, 2 * LAGS[2] + 1, LAGS[2])[0]]
    for lag, a in zip(LAGS[:2], (tap(x), tap(y)), strict=True):
        part = np.zeros(2 * lag + 1)
        part[lag - 2 : lag + 3] = np.array([a * a, 2 * a, 1 + 2 * a * a, 2 * a, a * a])
        parts.insert(-1, part / part[lag])
    covariance = np.einsum("i,j,k->ijk", *parts)
    return NoiseModel(np.ones((9, 9, 1)), covariance, "gaussian", 1.0, "", 1, np.ones(1))


def few_images(sigma: float) -> Series:
    """32 x 36 x 2 voxels of the small phantom, a b0 and four directions, in units of sigma."""
    whole = phantom("small").clean
    kept = np.array([0, 2, 3, 4, 5])
    data = whole.data[:, :, 4:6, kept] / np.float32(sigma)
    mask = whole.mask[:, :, 4:6].copy()
    return replace(whole, data=data, mask=mask, bvals=whole.bvals[kept], bvecs=whole.bvecs[kept])


# ---- for methods of single images ----------------------------------------------------------------


def field(n: int, seed: int, **correlation: float) -> torch.Tensor:
    """n images of noise of variance 1 with these correlations, (n, 1, 64, 64)."""
    root = correlated(**correlation).in_plane_filter((64, 64))
    return draw(root, (n, 1, 64, 64), generator(seed))


def covariance(**correlation: float) -> np.ndarray:
    """(64, 64) of that noise, lag 0 at [0, 0]."""
    of_lags = correlated(**correlation).covariance[..., LAGS[2]]
    return np.fft.ifft2(power_spectrum(of_lags, [64, 64])).real


def images(n_beside: int = 0) -> Images:
    """One volume of mean 0 and variance 1, with others of that kind beside it."""
    where, group = np.ones((64, 64, 1), bool), np.arange(1 + n_beside)[None]
    ones = torch.ones(1, 1 + n_beside)
    return Images(np.zeros((64, 64, 1, 1)), where, group, 0 * ones, ones)


def pixels(total: float) -> Images:
    """Images of that variance, noise included."""
    where, group = np.ones((64, 64, 1), bool), np.zeros((1, 1), int)
    size = torch.full((1, 1), total**0.5)
    return Images(np.zeros((64, 64, 1, 1)), where, group, torch.zeros(1, 1), size)


def batch_of(y: torch.Tensor) -> Batch:
    """Whole images of the first volume, all of it in the mask."""
    n = torch.zeros(len(y), dtype=torch.long)
    return Batch(y, torch.ones(y[:, 0].shape, dtype=y.dtype), n, n)


class Filter(nn.Module):
    """A linear filter instead of the U-Net."""

    def __init__(self, kernel: torch.Tensor) -> None:
        super().__init__()
        self.kernel = nn.Parameter(kernel)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(image[:, :1], self.kernel, padding=self.kernel.shape[-1] // 2)


# ---- for MRtrix images ---------------------------------------------------------------------------


def write_mif(
    path: Path,
    own: np.ndarray,
    datatype: str = "Float32LE",
    layout: str = "",
    scaling: str = "",
    more: Sequence[str] = (),
    transform: Sequence[str] = ("1,0,0,0", "0,1,0,0", "0,0,1,0"),
) -> Path:
    """A .mif file of voxels of 2 mm, each put to its place by itself.

    own  its values along the header's own axes
    """
    layout = layout or ",".join(f"+{axis}" for axis in range(own.ndim))
    words = layout.split(",")
    order = sorted(range(own.ndim), key=lambda axis: int(words[axis][1:]))
    flat = np.zeros(own.size, own.dtype)
    for index in np.ndindex(own.shape):
        place, step = 0, 1
        for axis in order:  # the nearest neighbours first
            along = index[axis] if words[axis][0] == "+" else own.shape[axis] - 1 - index[axis]
            place, step = place + step * along, step * own.shape[axis]
        flat[place] = own[index]
    lines = ["mrtrix image", f"dim: {','.join(map(str, own.shape))}"]
    lines += [f"vox: {','.join(['2'] * own.ndim)}", f"layout: {layout}", f"datatype: {datatype}"]
    lines += [f"transform: {row}" for row in transform]
    lines += [f"scaling: {scaling}"] if scaling else []
    text = "\n".join([*lines, *more, ""]).encode()
    offset = len(text) + 40
    bits = datatype == "Bit"
    dtype = own.dtype.newbyteorder(">" if datatype.endswith("BE") else "<")
    raw = np.packbits(flat).tobytes() if bits else flat.astype(dtype).tobytes()
    path.write_bytes((text + f"file: . {offset}\nEND\n".encode()).ljust(offset, b"\0") + raw)
    return path
