"""Models on disk: what was learned, how and from which scans, and which scans it may be used on.

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

from .images import shown_together
from .methods import DEFAULT, Method, find, make
from .noise import NoiseModel, describe_noise
from .pipeline import Options, Result, fingerprint_of_scan, settings_of, versions
from .run import State, Voice
from .series import InputError, Series, mask_of, replacing

VOXEL_TOLERANCE = 1.25  # ratio of two voxel sizes; beyond, anatomy and noise look different
SNR_TOLERANCE = 2.0  # ratio to the lowest and highest of the training, beyond which is said


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
        "contrasts": str(_n_contrasts(scan)),
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


# ---- which scans a model may be used on ----------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Whether a model may be used on a scan; said in words where it may not.

    bundle          the model
    allow_mismatch  say what can work, though it was not learned, instead of refusing it
    voice           who says it
    """

    bundle: Bundle
    allow_mismatch: bool
    voice: Voice

    def refuse_scan(self, scan: Series) -> None:
        """Raise InputError for a scan that the model was not learned for."""
        if not self.bundle.training:
            self._refuse_other(scan)
            return
        self._refuse_channels(scan)
        for learned in self.bundle.training:
            pairs = zip(scan.voxel_mm, learned.voxel_mm, strict=True)
            if all(max(a / b, b / a) <= VOXEL_TOLERANCE for a, b in pairs):
                return
        low, high = (" x ".join(f"{mm:.3g}" for mm in ends) for ends in self.bundle.voxel_mm_range)
        own = " x ".join(f"{mm:.3g}" for mm in scan.voxel_mm)
        self._mismatch(
            f"{scan.path} has voxels of {own} mm and {self.bundle.path} was learned from "
            + (f"{low} mm" if low == high else f"{low} to {high} mm"),
            "train on scans with such voxels",
        )

    def refuse_noise(self, scan: Series, noise: NoiseModel) -> None:
        """Raise InputError for noise of another law; say a signal far from those learned from."""
        if not self.bundle.training:
            return
        if noise.law not in self.bundle.laws:
            known = " or ".join(self.bundle.laws)
            self._mismatch(
                f"the noise of {scan.path} is {noise.law} and {self.bundle.path} was learned "
                f"from {known}",
                "train on scans of that kind"
                if scan.parts is not None
                else f"give --noise-law {self.bundle.laws[0]} if that is what the scan has",
            )
        snr, (low, high) = signal_over_noise(scan, noise), self.bundle.snr_range
        if not low / SNR_TOLERANCE <= snr <= high * SNR_TOLERANCE:
            self.voice.say(
                f"warning: the signal of {scan.path} is {snr:.3g} times its noise and "
                f"{self.bundle.path} was learned from {low:.3g} to {high:.3g}; look at the residual"
            )

    def _refuse_channels(self, scan: Series) -> None:
        method = make(self.bundle.method, **self.bundle.settings)
        channels, learned = shown_together(scan, method), self.bundle.channels
        if channels != learned:
            raise InputError(
                f"{self.bundle.path} was learned from {learned} images at once and {scan.path} "
                f"has {channels} to show; train on scans with as many"
            )

    def _refuse_other(self, scan: Series) -> None:
        """Raise InputError for a model of another scan, unless it is allowed."""
        bundle = self.bundle
        if bundle.contrasts != _n_contrasts(scan):
            raise InputError(
                f"{bundle.path} was learned with {bundle.contrasts} other contrasts and "
                f"{_n_contrasts(scan)} are given; give the same with --contrast"
            )
        if bundle.is_complex != np.iscomplexobj(scan.data):
            kinds = ("magnitude", "complex data")
            raise InputError(
                f"{bundle.path} was learned from {kinds[bundle.is_complex]} and {scan.path} is "
                f"{kinds[not bundle.is_complex]}; train anew"
            )
        if bundle.scan == fingerprint_of_scan(scan):
            return
        if self.allow_mismatch and bundle.shape[2:] != scan.data.shape[2:]:
            raise InputError(
                f"{bundle.path} is of {bundle.shape[3]} volumes of {bundle.shape[2]} slices and "
                f"{scan.path} has {scan.n_volumes} of {scan.data.shape[2]}; train anew"
            )
        if not self.allow_mismatch:
            raise InputError(
                f"{bundle.path} was learned from another scan than {scan.path}; "
                "train anew, or say --allow-mismatch if the scans share protocol and volume order"
            )
        self.voice.say(
            f"warning: {bundle.path} was learned from another scan; look at the residual"
        )

    def _mismatch(self, sentence: str, advice: str) -> None:
        if not self.allow_mismatch:
            raise InputError(f"{sentence}; {advice}, or say --allow-mismatch")
        self.voice.say(f"warning: {sentence}; look at the residual")


def refuse_model_of_one_scan(bundle: Bundle) -> None:
    """Raise InputError for a model that is of one scan only."""
    if not bundle.training:
        raise InputError(
            f"{bundle.path} was learned from one scan, for that scan; use it with "
            "quell denoise --model, or learn a model of many scans with quell train"
        )


def _n_contrasts(scan: Series) -> int:
    return 0 if scan.contrasts is None else int(scan.contrasts.shape[3])
