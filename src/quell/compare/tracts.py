"""Tractography as a judge: the same seeds and target, and one response, for all results."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..evaluate import Bundle, coherence_scores, fibre_bundle, read_regions, tract_response
from ..series import InputError
from .judging import Judge, Scores, plain


@dataclass(frozen=True, eq=False)
class Tracts:
    """Where streamlines of the results of one scan start, and what they are to reach."""

    judge: Judge
    seeds: np.ndarray  # (X, Y, Z) bool
    target: np.ndarray  # (X, Y, Z) bool
    response: tuple[np.ndarray, float]  # of the noisy scan
    seed: int

    @staticmethod
    def of(judge: Judge, regions: Path, seed: int) -> "Tracts":
        """From a map of labels. Raises InputError where nothing can be tracked."""
        scan = judge.scan
        if scan.bvals is None or scan.bvecs is None or not scan.is_b0.any():
            raise InputError(
                f"{scan.path} lacks b-values, directions or a b=0; leave out --regions"
            )
        seeds, target = read_regions(regions, scan)
        response = tract_response(scan.data, scan.bvals, scan.bvecs, scan.where)
        return Tracts(judge, seeds, target, response, seed)

    def bundle(self, denoised: np.ndarray) -> Bundle:
        """The streamlines of a result (X, Y, Z, V), scanner units."""
        scan = self.judge.scan
        assert scan.bvals is not None
        assert scan.bvecs is not None
        return fibre_bundle(
            denoised, scan.bvals, scan.bvecs, scan.where, scan.affine, self.seeds, self.target,
            self.seed, response=self.response,
        )  # fmt: skip


def of_bundle(bundle: Bundle) -> Scores:
    """Its numbers for the table."""
    return {name: plain(value) for name, value in coherence_scores(bundle).items()}
