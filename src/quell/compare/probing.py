"""Probing every contestant: what of known structures does each of them keep?

OUT/probed.nii.gz         the scan with structures in it, the same for all
OUT/NAME/probe/           what a contestant made of it, with its log and what became of it

Here    One run more for each that came to a result. Both its results are compared, so a program
        needs to know nothing of it.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..evaluate.probe import Share
from ..options import Options
from ..probing import ONE, Measured, Probe, probes_of
from ..series import write_nifti
from .asked import Comparison
from .contestants import PROBED
from .judging import Judge, Scores, plain

EACH = 8  # structures of a kind


@dataclass(frozen=True, eq=False)
class ProbeOfAll:
    """The scan with structures in it, which every contestant is to denoise."""

    probe: Probe
    asked: Comparison

    @staticmethod
    def of(asked: Comparison, judge: Judge, options: Options) -> "ProbeOfAll":
        """Put structures of 81 voxels at 5 sigma into the scan, and write it into the folder.

        Raises InputError where there is no room for them.
        """
        V = judge.scan.n_volumes
        kinds = [replace(ONE, volumes=n) for n in dict.fromkeys((1, V, 4)) if n <= V]
        rng = np.random.default_rng(options.seed)
        probe = next(probes_of(judge.scan, judge.noise, rng, None, 1, kinds, EACH))
        path = asked.out / PROBED
        write_nifti(path, probe.data, judge.scan)
        return ProbeOfAll(probe, replace(asked, scan=path))

    def scores(self, before: np.ndarray, after: np.ndarray) -> Scores:
        """What a contestant keeps, in per cent, and what it makes out of nothing, in sigma.

        before, after  (X, Y, Z, V)  its results without the structures and with them
        """
        measured, V = self.probe.measure(before, after), self.probe.scan.n_volumes
        one = _share(measured, "kept", 1)
        found = {
            "kept": 100 * one.mean,
            "kept_error": 100 * one.error,
            "kept_four": 100 * _share(measured, "kept", 4).mean if V > 4 else np.nan,
            "kept_all": 100 * _share(measured, "kept", V).mean if V > 1 else np.nan,
            "elsewhere": 100 * _share(measured, "elsewhere", 1).mean,
            "made": measured.added.rms,
        }
        return {name: plain(value) for name, value in found.items()}


def _share(measured: Measured, name: str, volumes: int) -> Share:
    """Of structures that are seen in so many volumes."""
    own = [said for blob, said in measured.responses if blob.kind.volumes == volumes]
    return Share.of([getattr(said, name) for said in own])
