"""Models on disk: what was learned, how, and from which scans.

Here    One safetensors file: tensors, and text beside them. A model of one scan is for that scan;
        a model of many (`quell train`) is for new scans like those it was learned from.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .fingerprints import fingerprint_of_scan
from .methods import DEFAULT, Method, find
from .noise import NoiseModel, describe_noise
from .options import Options
from .pipeline import Result
from .record import settings_of, versions
from .run import State
from .series import InputError, Series, mask_of, replacing


@dataclass(frozen=True)
class TrainingScan:
    """What a model remembers of a scan that it was learned from."""

    scan: str  # its fingerprint
    shape: tuple[int, ...]  # (X, Y, Z, V)
    voxel_mm: tuple[float, ...]
    law: str  # of its noise
    n_coils: float
    snr: float  # see `signal_over_noise`

    @classmethod
    def of(cls, scan: Series, noise: NoiseModel) -> "TrainingScan":
        """What is remembered of a scan in its own units."""
        return cls(
            scan=fingerprint_of_scan(scan),
            shape=scan.data.shape,
            voxel_mm=scan.voxel_mm,
            law=noise.law,
            n_coils=noise.n_coils,
            snr=signal_over_noise(scan, noise),
        )

    @classmethod
    def read(cls, said: Any) -> "TrainingScan":
        """What JSON says of a scan; ValueError or TypeError for anything else."""
        scan = cls(**{**said, "shape": tuple(said["shape"]), "voxel_mm": tuple(said["voxel_mm"])})
        numbers = (*scan.shape, *scan.voxel_mm, scan.snr, scan.n_coils)
        if len(scan.shape) != 4 or len(scan.voxel_mm) != 3 or not all(n > 0 for n in numbers):
            raise ValueError
        return scan


@dataclass(frozen=True)
class Bundle:
    """A model as it lies on disk: what was learned, and how."""

    path: Path
    state: State
    method: str
    preset: str
    settings: dict[str, Any]
    scan: str  # fingerprint of the scan it was learned from; "" when there are many
    shape: tuple[int, ...]  # of that scan, or of the first, (X, Y, Z, V)
    training: tuple[TrainingScan, ...] = ()  # the scans of `quell train`; empty: one scan's own
    channels: int = 1  # images of a scan that the network saw at once
    contrasts: int = 0  # of them not to be denoised
    is_complex: bool = False  # the one scan it was learned from
    losses: list[float] = field(default_factory=list)  # of `quell train`, one a step

    @property
    def voxel_mm_range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Smallest and largest voxel edges along x, y and z of the scans it was learned from."""
        sizes = [scan.voxel_mm for scan in self.training]
        return tuple(map(min, *sizes, sizes[0])), tuple(map(max, *sizes, sizes[0]))

    @property
    def snr_range(self) -> tuple[float, float]:
        """Lowest and highest `signal_over_noise` of those scans."""
        snrs = [scan.snr for scan in self.training]
        return min(snrs), max(snrs)

    @property
    def laws(self) -> list[str]:
        """The laws of their noise."""
        return sorted({scan.law for scan in self.training})


def signal_over_noise(scan: Series, noise: NoiseModel) -> float:
    """Median over the mask of the mean magnitude of all volumes over sigma."""
    mask = mask_of(scan)
    total = np.zeros(int(mask.sum()))
    for v in range(scan.n_volumes):
        total += np.abs(scan.data[..., v][mask])
    return float(np.median(total / scan.n_volumes / noise.sigma[mask]))


def write_model(path: Path, result: Result, scan: Series, options: Options) -> None:
    """The learned state as safetensors; how it was made, and from which scan, as its metadata."""
    about = {
        "scan": fingerprint_of_scan(scan),
        "shape": json.dumps(scan.data.shape),
        "contrasts": str(n_contrasts(scan)),
        "complex": str(int(np.iscomplexobj(scan.data))),
        "noise": describe_noise(result.noise, result.mask),
        "licence": "the scan's own",
    }
    _write(path, result.state, result.method, options, about)


def write_model_of_many(
    path: Path,
    state: State,
    method: Method,
    options: Options,
    training: list[TrainingScan],
    channels: int,
    contrasts: int,
    losses: np.ndarray,
) -> None:
    """The state learned from many scans; what they were, and the loss of every step, beside it.

    channels   images of a scan that the network saw at once
    contrasts  how many of them were not to be denoised
    losses     (steps,)
    """
    about = {
        "scan": "",
        "shape": json.dumps(training[0].shape),
        "training": json.dumps([asdict(scan) for scan in training]),
        "channels": str(channels),
        "contrasts": str(contrasts),
        "losses": json.dumps([float(f"{loss:.7g}") for loss in losses]),
        "licence": "the scans' own",
    }
    _write(path, state, method, options, about)


def _write(
    path: Path, state: State, method: Method, options: Options, about: dict[str, str]
) -> None:
    metadata = {
        "method": method.name,
        "settings": json.dumps(settings_of(method)),
        "preset": options.preset,
        "seed": str(options.seed),
        "versions": json.dumps(versions()),
        **about,
    }
    with replacing(path) as file:
        file.write(save({name: value.contiguous() for name, value in state.items()}, metadata))


def read_model(path: Path) -> Bundle:
    """A model that was written here; InputError for anything else."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a model that --model-out wrote")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        settings, shape = (json.loads(metadata[name]) for name in ("settings", "shape"))
        kind = find(metadata["method"])  # its InputError is a ValueError, too
        if not isinstance(settings, dict):
            raise ValueError
        if len(shape) != 4 or not all(isinstance(n, int) and 0 < n < 2**15 for n in shape):
            raise ValueError
        training = tuple(map(TrainingScan.read, json.loads(metadata.get("training", "[]"))))
        if training and not getattr(kind, "learns_many", False):
            raise ValueError
        return Bundle(
            path=path,
            state=state,
            method=metadata["method"],
            preset=metadata["preset"],
            settings=settings,
            scan=metadata["scan"],
            shape=tuple(shape),
            training=training,
            channels=int(metadata.get("channels", 1)),
            contrasts=int(metadata.get("contrasts", 0)),
            is_complex=metadata.get("complex", "0") == "1",
            losses=json.loads(metadata.get("losses", "[]")),
        )
    except (SafetensorError, KeyError, ValueError, TypeError, OSError, RecursionError):
        raise InputError(
            f"{path} is not a model of quell; give one that --model-out wrote"
        ) from None


def options_of(bundle: Bundle, options: Options) -> Options:
    """The bundle's method and settings, with the person's --set on top.

    Raises InputError (status 2) for another method, and for a setting that was learned with.
    """
    if options.method not in (DEFAULT, bundle.method):
        raise InputError(
            f"{bundle.path} is a model of {bundle.method}; leave out --method {options.method}", 2
        )
    may_change = getattr(find(bundle.method), "after_learning", ())
    for name in sorted(set(options.settings) - set(may_change)):
        if name in bundle.settings and options.settings[name] != bundle.settings[name]:
            known = ", ".join(may_change) or "nothing"
            raise InputError(
                f"{name} can't change once a model is learned; what may change is {known}", 2
            )
    settings = {**bundle.settings, **options.settings}
    return replace(options, method=bundle.method, preset=bundle.preset, settings=settings)


def n_contrasts(scan: Series) -> int:
    return 0 if scan.contrasts is None else int(scan.contrasts.shape[3])
