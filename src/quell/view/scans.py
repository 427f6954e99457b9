"""Scans: what can be asked of the files: a volume, a difference, the signal of a voxel.

Here    A packed file is unpacked into memory once, in its own data type; an unpacked one stays
        on disk. Every value is read by nibabel, slope and intercept included.
"""

import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..series import GRID_TOLERANCE, InputError, bvals_of, open_scan
from ..voice import printable

MAX_FILES = 8  # each is a WebGL context of its own, of which browsers allow 16


@dataclass(frozen=True, eq=False)
class Scan:
    """One file."""

    path: Path
    image: Any  # nibabel's, (X, Y, Z) or (X, Y, Z, V)

    @property
    def n_volumes(self) -> int:
        """V; 1 for a single image."""
        return int(self.image.shape[3]) if len(self.image.shape) == 4 else 1

    def volume(self, v: int) -> np.ndarray:
        """(X, Y, Z) values of a volume; of a single image whichever is asked."""
        proxy = self.image.dataobj
        if len(self.image.shape) == 3:
            return np.asarray(proxy)
        return np.asarray(proxy[..., v if self.n_volumes > 1 else 0])

    def signal(self, x: int, y: int, z: int) -> list[float | None]:
        """The voxel's value in every volume; None where it is no number."""
        values = np.atleast_1d(np.asarray(self.image.dataobj[x, y, z]))
        return [float(a) if np.isfinite(a) else None for a in values]


@dataclass(frozen=True, eq=False)
class Scans:
    """The files of one page: the noisy scan first, then what was made of it."""

    files: tuple[Scan, ...]
    sigma: Scan | None  # the noise map, in the scan's units
    bvals: np.ndarray | None  # (V,) s/mm²

    @property
    def n_volumes(self) -> int:
        """V of the noisy scan; the others have as many, or one."""
        return self.files[0].n_volumes

    def description(self) -> bytes:
        """What the page has to know before it asks for voxels, as JSON."""
        noisy = self.files[0]
        affine = np.asarray(noisy.image.affine, dtype=float)
        facts = {
            "files": [
                {"name": name, "volumes": scan.n_volumes}
                for name, scan in zip(self._names(), self.files, strict=True)
            ],
            "shape": [int(n) for n in noisy.image.shape[:3]],
            "volumes": self.n_volumes,
            "mmOfVoxel": affine.tolist(),
            "voxelOfMm": np.linalg.inv(affine).tolist(),
            "bvals": None if self.bvals is None else self.bvals.tolist(),
            "hasSigma": self.sigma is not None,
        }
        return json.dumps(facts, allow_nan=False).encode()

    def signal(self, x: int, y: int, z: int) -> bytes:
        """The voxel's curve in every file, and its noise level, as JSON."""
        return json.dumps(
            {
                "files": [scan.signal(x, y, z) for scan in self.files],
                "sigma": None if self.sigma is None else self.sigma.signal(x, y, z),
            },
            allow_nan=False,
        ).encode()

    def volume(self, i: int, v: int) -> bytes:
        """Volume v of file i as NIfTI."""
        return self._as_nifti(self.files[i].volume(v))

    def difference(self, i: int, v: int) -> bytes:
        """noisy − file i, in volume v, as NIfTI."""
        return self._as_nifti(self._difference(i, v))

    def ratio(self, i: int, v: int) -> bytes:
        """(noisy − file i) / σ, in volume v, as NIfTI; 0 where σ is not known."""
        if self.sigma is None:
            raise InputError("there is no noise map; give one as --sigma")
        sigma = self.sigma.volume(v)
        is_known = np.isfinite(sigma) & (sigma > 0)
        difference = self._difference(i, v)
        return self._as_nifti(
            np.divide(difference, sigma, out=np.zeros_like(difference), where=is_known)
        )

    def _difference(self, i: int, v: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # Inf − Inf
            return self.files[0].volume(v).astype(float) - self.files[i].volume(v)

    def _as_nifti(self, values: np.ndarray) -> bytes:
        """A float32 NIfTI file on the scans' grid, in the byte order that browsers have.

        A picture only, so NaN and Inf are 0 in it; the values in words come from `signal`.
        """
        with np.errstate(over="ignore"):
            shown = np.nan_to_num(values.astype("<f4"), nan=0.0, posinf=0.0, neginf=0.0)
        header = nib.Nifti1Header(endianness="<")
        return bytes(nib.Nifti1Image(shown, self.files[0].image.affine, header).to_bytes())

    def _names(self) -> list[str]:
        """What to call the files: their names, or their paths where two have the same."""
        names = [scan.path.name for scan in self.files]
        if len({scan.path for scan in self.files}) == len(self.files) != len(set(names)):
            names = [str(scan.path) for scan in self.files]
        return [printable(name) for name in names]


def open_scans(
    noisy: Path, others: Sequence[Path], sigma: Path | None = None, bval: Path | None = None
) -> Scans:
    """Open and check everything that will be shown.

    noisy   NIfTI or MRtrix file, 4-D or 3-D
    others  what was made of it, on the same grid, with as many volumes; after the first of
            them single images may follow, such as maps
    sigma   noise map on the same grid, 3-D or 4-D
    bval    FSL b-values; default: beside the scan

    Raises InputError with one sentence for what cannot be shown.
    """
    if 1 + len(others) > MAX_FILES:
        raise InputError(f"{1 + len(others)} files are too many to see; give up to {MAX_FILES}", 2)
    first = _read(noisy)
    files = [first]
    for path in others:
        scan = _read(path)
        _refuse_other_grid(scan, first)
        may_be_single = len(files) > 1
        if scan.n_volumes != first.n_volumes and not (may_be_single and scan.n_volumes == 1):
            raise InputError(
                f"{path} has {scan.n_volumes} volumes and {noisy} {first.n_volumes}; "
                "give a result of this scan"
            )
        files.append(scan)
    noise = None if sigma is None else _read(sigma)
    if noise is not None:
        _refuse_other_grid(noise, first)
        if noise.n_volumes not in (1, first.n_volumes):
            raise InputError(
                f"{sigma} has {noise.n_volumes} volumes and {noisy} {first.n_volumes}; "
                "give one noise map, or one a volume"
            )
    return Scans(tuple(files), noise, bvals_of(noisy, first.n_volumes, bval))


def _read(path: Path) -> Scan:
    """A file, unpacked if it is a .gz. Raises InputError for what is no scan of real numbers."""
    image = open_scan(path)
    if image.header.get_data_dtype().kind == "c":
        raise InputError(
            f"{path} is complex, and only real values can be shown; write its magnitude, "
            "such as numpy.abs of it, to a file of its own"
        )
    if abs(np.linalg.det(image.affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has an affine that puts all voxels in one plane; correct it")
    is_packed = path.name.lower().endswith(".nii.gz")  # one of MRtrix is in memory already
    return Scan(path, _unpacked(path, image) if is_packed else image)


def _unpacked(path: Path, image: Any) -> Any:
    """The image with its bytes in memory, read to the end so that damage shows now."""
    n_bytes = image.dataobj.offset + math.prod(image.shape) * image.header["bitpix"].item() // 8
    try:
        with gzip.open(path) as file:
            raw = file.read(n_bytes)
            while file.read(2**22):  # the checksum stands at the end
                pass
        if len(raw) < n_bytes:
            raise EOFError("its voxels end early")
        return type(image).from_bytes(raw)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or cut short ({error}); copy or convert it again"
        ) from error


def _refuse_other_grid(scan: Scan, first: Scan) -> None:
    """Raise InputError unless both files have the same voxels in the same place."""
    shapes = [" x ".join(map(str, s.image.shape[:3])) for s in (scan, first)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"{scan.path} is {shapes[0]} and {first.path} {shapes[1]}; "
            "give files on one grid, before any step that interpolates"
        )
    off = float(np.abs(scan.image.affine - first.image.affine).max())
    if not off <= GRID_TOLERANCE:
        raise InputError(
            f"{scan.path} lies elsewhere than {first.path} (affines differ by {off:.3g}); "
            "give files on one grid, before any step that interpolates"
        )
