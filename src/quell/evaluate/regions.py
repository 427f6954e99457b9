"""Regions: where streamlines start and where they should arrive, from one map of labels."""

from pathlib import Path

import numpy as np

from ..series import InputError, Series, load_map

SEEDS, TARGET = 1, 2  # labels; whatever else the map holds is left alone


def read_regions(path: str | Path, scan: Series) -> tuple[np.ndarray, np.ndarray]:
    """Seed and target region, (X, Y, Z) bool each, of a NIfTI map of labels on the scan's grid.

    Raises InputError for a map on another grid, or without one of both labels.
    """
    labels = load_map(path, scan)
    for label, what in ((SEEDS, "seeds"), (TARGET, "target")):
        if not (labels == label).any():
            raise InputError(
                f"{path} has no voxel of label {label}, the {what}; label the voxels to start from "
                f"{SEEDS} and those to reach {TARGET}"
            )
    return labels == SEEDS, labels == TARGET
