"""Fit: which scans a model may be used on.

Here    A model of one scan is for that scan; a model of many (`quell train`) is for new scans like
        those it was learned from. Where a person insists, what can work is said instead of refused.
"""

from dataclasses import dataclass

import numpy as np

from .fingerprints import fingerprint_of_scan
from .images import shown_together
from .methods import make
from .models import Bundle, n_contrasts, signal_over_noise
from .noise import NoiseModel
from .run import Voice
from .series import InputError, Series

VOXEL_TOLERANCE = 1.25  # ratio of two voxel sizes; beyond, anatomy and noise look different
SNR_TOLERANCE = 2.0  # ratio to the lowest and highest of the training, beyond which is said


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
        if bundle.contrasts != n_contrasts(scan):
            raise InputError(
                f"{bundle.path} was learned with {bundle.contrasts} other contrasts and "
                f"{n_contrasts(scan)} are given; give the same with --contrast"
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
