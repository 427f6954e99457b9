"""A made-up BIDS dataset for the tests of cohorts: small scans, some of them bad."""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from quell.series import Series, write_nifti
from quell.simulate import Phantom, corrupt, phantom

VOLUMES = 10


@dataclass(frozen=True)
class Study:
    """A dataset, and what is wrong with which scan."""

    root: Path
    good: tuple[str, ...]
    bad: dict[str, str]  # name: words of the finding


@cache
def head() -> Phantom:
    return phantom("small")


def piece(seed: int = 0, n: int = VOLUMES) -> Series:
    """12 x 14 x 3 x n voxels of the small phantom, Rician, never the same twice."""
    clean = head().clean
    at = 8 + seed % 4
    data = corrupt(
        clean.data[at : at + 12, 9:23, 4:7, :n], 40.0, np.random.default_rng(seed), "rician"
    )
    return Series(data, clean.affine, clean.header, clean.bvals[:n], clean.bvecs[:n])


def put(folder: Path, name: str, seed: int = 0, gradients: bool = True, times: int = 1) -> Path:
    """One dwi with its gradients; `times` as long in each direction, to take a while."""
    folder.mkdir(parents=True, exist_ok=True)
    series, path = piece(seed), folder / f"{name}.nii.gz"
    series = replace(series, data=np.tile(series.data, (times, times, times, 1)))
    write_nifti(path, series.data, series)
    if gradients:
        write_gradients(folder / name, series)
    return path


def write_gradients(stem: Path, series: Series) -> None:
    np.savetxt(f"{stem}.bval", series.bvals[None], fmt="%g")
    np.savetxt(f"{stem}.bvec", series.bvecs.T, fmt="%.6f")


def described(root: Path) -> Path:
    """A root with what BIDS wants there; gradients and sidecar of every dwi stand at the top."""
    root.mkdir(parents=True)
    about = {"Name": "A made-up study", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(about))
    (root / "README.md").write_text("Made up for tests.\n" * 5)
    said = {"RepetitionTime": 3.2, "EchoTime": 0.08, "MagneticFieldStrength": 3}
    (root / "dwi.json").write_text(json.dumps(said))
    write_gradients(root / "dwi", piece())
    return root


def small(root: Path, n: int = 2) -> Study:
    """n participants with one dwi each."""
    described(root)
    names = [f"sub-{i:02}_dwi" for i in range(1, n + 1)]
    for i, name in enumerate(names):
        put(root / name.split("_")[0] / "dwi", name, i, gradients=False)
    return Study(root, tuple(names), {})


def large(root: Path) -> Study:
    """24 scans of 5 participants: sessions, directions, runs, and four that can't be used."""
    described(root)
    names = []
    for sub in ("01", "02", "03", "04"):
        for ses in ("a", "b"):
            for rest in ("dir-AP_run-1", "dir-AP_run-2", "dir-PA_run-1")[: 2 + (sub < "03")]:
                names.append(f"sub-{sub}_ses-{ses}_{rest}_dwi")
    names += [f"sub-05_acq-{k}_dwi" for k in ("corrupt", "lonely", "flat", "counts")]
    for i, name in enumerate(names):
        levels = [word for word in name.split("_") if word[:4] in ("sub-", "ses-")]
        put(root.joinpath(*levels, "dwi"), name, i, gradients=False)
    spoil(root)
    bad = {
        "sub-05_acq-corrupt_dwi": "damaged or cut short",
        "sub-05_acq-lonely_dwi": "has no bvec",
        "sub-05_acq-flat_dwi": "is one image",
        "sub-05_acq-counts_dwi": "holds 9 b-values",
    }
    return Study(root, tuple(n for n in names if n not in bad), bad)


def spoil(root: Path) -> None:
    """The four scans of sub-05: cut short, without a bvec, 3-D, and with wrong counts."""
    folder = root / "sub-05" / "dwi"
    corrupt = folder / "sub-05_acq-corrupt_dwi.nii.gz"
    corrupt.write_bytes(corrupt.read_bytes()[:-2000])
    (root / "dwi.bvec").unlink()
    for path in root.glob("sub-*/**/*_dwi.nii.gz"):
        name = path.name.removesuffix(".nii.gz")
        if "lonely" not in name:
            np.savetxt(path.with_name(f"{name}.bvec"), piece().bvecs.T, fmt="%.6f")
    series = piece(n=1)
    write_nifti(folder / "sub-05_acq-flat_dwi.nii.gz", series.data[..., 0], series)
    write_gradients(folder / "sub-05_acq-flat_dwi", series)
    np.savetxt(folder / "sub-05_acq-counts_dwi.bval", piece().bvals[None, :9], fmt="%g")
