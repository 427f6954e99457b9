"""The scans that the prior learns from: real ones of several scanners, and heads from formulas.

Here    A prior is as good as what it saw is varied: number of volumes, b-values, voxel size, noise
        level, noise map, correlation and law of the noise all differ. Real scans are also seen
        with fewer of their volumes, whose components are others, and so is every other phantom.
Never   The Siemens Trio scan, which judges, and phantom B, which does, too.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quell.noise import NoiseModel, learn
from quell.scaling import Scale
from quell.series import Series, load, mask_of
from quell.simulate import corrupt, g_factor, phantom
from quell.simulate.anatomy import PhantomSettings

DATA = Path(os.environ.get("QUELL_DATA", Path(__file__).parents[2] / "shared" / "data"))
SEED = 7
FEWEST = 6  # volumes of a scan that is seen in part
N_PHANTOMS = 24
TIMES = 12  # that a family is there, in all its scans: two of three patches are of a person
SCHEMES = (
    ((1000.0, 30),),
    ((1000.0, 12),),
    ((1000.0, 32), (2500.0, 32)),
    ((700.0, 16), (1200.0, 30), (2800.0, 50)),
    ((1000.0, 20),),
    ((3000.0, 64),),
    ((1500.0, 45), (3000.0, 45)),
    ((800.0, 6), (1600.0, 24)),
)


@dataclass(frozen=True)
class RealScan:
    """A scan of a person, by whom it was published."""

    path: str
    source: str
    slices: tuple[int | None, int | None] = (None, None)  # from, to

    @property
    def family(self) -> str:
        """What is left out together: all scans of one person."""
        return self.path.split("/")[0]

    def load(self) -> Series:
        scan = load(DATA / self.path)
        return replace(scan, data=scan.data[:, :, slice(*self.slices)])


RORDEN = "C. Rorden, BSD 2-Clause"
REAL = (
    *(
        RealScan(f"siemens-decubitus/dwi_{position}.nii.gz", RORDEN)
        for position in ("HFS", "pos2", "pos3", "pos4")
    ),
    RealScan("philips-elition-dti2mm/dwi_b1000_16dir.nii.gz", RORDEN),
    RealScan("siemens-prisma-b2500/dwi_AP.nii.gz", RORDEN),
    RealScan("siemens-prisma-b2500/dwi_PA.nii.gz", RORDEN),
    RealScan("nlsam-invivo-1p2mm/dwi.nii.gz", "S. St-Jean, CC BY 4.0", (30, 66)),
)  # fmt: skip
FAMILIES = tuple(dict.fromkeys(scan.family for scan in REAL))


def in_sigmas(scan: Series) -> tuple[Series, NoiseModel]:
    """A scan in units of its noise, and the noise in these units."""
    scan = replace(scan, mask=mask_of(scan))
    noise = learn(scan, scan.where)
    scale = Scale.of(noise.sigma, noise.law, noise.n_coils)
    data = scale.apply(scan.data).astype(np.float32)
    return replace(scan, data=data, nonfinite=None), noise.in_units_of_sigma()


def phantom_scan(n: int) -> Series:
    """Head n, and its scan."""
    rng = np.random.default_rng((SEED, n))

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    settings = PhantomSettings(
        (int(rng.integers(64, 100)), int(rng.integers(76, 112)), 16),
        float(rng.choice([1.6, 2.0, 2.0, 2.4])),
        int(rng.integers(1, 8)),
        SCHEMES[n % len(SCHEMES)],
        seed=100 + n,
        brain_mm=(between(62, 69), between(78, 88), between(62, 70)),
        slab_mm=between(-14, 24),
        warp_mm=between(1, 4),
        gyrus_mm=between(9, 13),
        sulcus_mm=between(16, 25),
        ribbon_mm=between(2.2, 3.4),
        ventricle=between(0.7, 1.7),
        callosum_mm=(between(34, 42), between(24, 30)),
        lesion_mm=between(2, 6),
    )
    head = phantom(settings)
    snr = float(np.exp(between(np.log(5), np.log(30))))
    sigma = head.white_matter_b0 / snr * g_factor(head.tissue.shape, between(1, 1.8))
    correlation = (between(0, 0.4), between(0, 0.4), float(rng.choice([0, 0, 0.1, 0.25])))
    data = corrupt(
        head.clean.data,
        sigma.astype(np.float32),
        np.random.default_rng((SEED, n, 1)),
        str(rng.choice(["gaussian", "rician"])),
        correlation=None if rng.random() < 0.3 else correlation,
    )
    return replace(head.clean, data=data, mask=None)


def part_of(scan: Series, rng: np.random.Generator) -> Series:
    """A scan with some of its volumes; how many is even on a logarithmic scale."""
    V = scan.n_volumes
    n = round(float(np.exp(rng.uniform(np.log(min(FEWEST, V)), np.log(V)))))
    kept = np.sort(rng.permutation(V)[:n])
    assert scan.bvals is not None
    assert scan.bvecs is not None
    return replace(scan, data=scan.data[..., kept], bvals=scan.bvals[kept], bvecs=scan.bvecs[kept])


def training_scans(left_out: str | None) -> Iterator[tuple[Series, NoiseModel]]:
    """Every scan in units of its noise, whole or in part, every family equally often.

    left_out  a family that is not to be seen
    """
    rng = np.random.default_rng(SEED)
    for real in REAL:
        if real.family == left_out:
            continue
        scan, noise = in_sigmas(real.load())
        n_family = sum(other.family == real.family for other in REAL)
        yield scan, noise
        for _ in range(TIMES // n_family - 1):
            yield part_of(scan, rng), noise
    for n in range(N_PHANTOMS):
        scan, noise = in_sigmas(phantom_scan(n))
        yield scan if n % 2 == 0 else part_of(scan, rng), noise
