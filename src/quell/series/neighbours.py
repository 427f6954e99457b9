"""Volumes that resemble a volume: what may predict it, because their noise is independent."""

import numpy as np

from .scan import InputError, Series

SHELL_WIDTH = 100.0  # s/mm²: b-values that differ by less belong to one shell
SAME = 0.9999  # |cos| between two directions that are one: less than a degree
NEIGHBOURS = ("directions", "acquisition", "repeats")  # what makes a volume a neighbour


def shells(series: Series) -> np.ndarray:
    """(V,) number of each volume's shell, by rising b-value; b=0 is shell 0 where there is one.

    A shell ends where the next b-value is more than SHELL_WIDTH away; b=0 is one of its own.

    Without b-values all volumes are one shell. Imaginary parts are shells of their own.
    """
    parts = np.zeros(series.n_volumes, dtype=int) if series.parts is None else series.parts
    if series.bvals is None:
        return parts
    b = np.where(series.is_b0, 0.0, series.bvals)
    order = np.argsort(b, kind="stable")
    starts = np.diff(b[order], prepend=b[order[0]]) > SHELL_WIDTH
    starts |= np.diff(series.is_b0[order].astype(int), prepend=series.is_b0[order[0]]) != 0
    result = np.empty(len(b), dtype=int)
    result[order] = np.cumsum(starts)
    return result + parts * (int(result.max()) + 1)


def prior_volumes(series: Series, n: int, by: str = "directions") -> np.ndarray:
    """Every volume that has others like it, and n of those: (G, 1 + n) int, itself first.

    n   how many others; fewer where the largest shell has fewer; a smaller shell repeats its own
    by  "directions": those of its shell whose directions are nearest (an axis has no sign), in
        file order where directions are not known; "acquisition": half before and half after it
        in the file among all of b > 0, around the ends (Xiang et al. 2023); "repeats": those that
        show the same, nearest in the file first

    A volume that is alone in its shell, or was not repeated, is in no group. Raises InputError
    where none has any.
    """
    ways = {
        "directions": _by_direction, "acquisition": _by_acquisition, "repeats": _by_repeats,
    }  # fmt: skip
    groups = ways[by](series, n)
    if by == "repeats" and not groups:
        raise InputError(
            "no volume was acquired twice (same b-value and direction); use neighbours=directions"
        )
    if not len(groups):
        raise InputError(
            "no volume has another one like it (same b-value): this method needs two or more; "
            "use another method"
        )
    return np.asarray(groups)


def show_the_same(series: Series) -> np.ndarray:
    """(V, V) bool: whether two volumes have one b-value and direction; none with itself.

    All of a shell do where volumes are repetitions; contrasts and echoes never do.
    """
    shell = shells(series)
    alike = (shell[:, None] == shell) & ~np.eye(len(shell), dtype=bool)
    if series.fourth_axis == "repetitions":
        return alike
    if series.fourth_axis in ("contrasts", "echoes") or series.bvals is None:
        return np.zeros_like(alike)
    is_one = np.broadcast_to(series.is_b0, alike.shape)
    if series.bvecs is not None:
        is_one = is_one | (np.abs(series.bvecs @ series.bvecs.T) > SAME)
    return alike & is_one


def _by_direction(series: Series, n: int) -> list[list[int]]:
    shell, groups = shells(series), []
    n = min(n, int(np.bincount(shell).max()) - 1)
    for v in range(series.n_volumes):
        others = np.flatnonzero((shell == shell[v]) & (np.arange(series.n_volumes) != v))
        distance = np.abs(others - v).astype(float)
        if series.bvecs is not None and not series.is_b0[v]:
            # rounded: equal angles are told apart by acquisition, not by the last digit
            closeness = np.round(np.abs(series.bvecs[others] @ series.bvecs[v]), 6)
            distance = (1 - closeness) * 1e6 + distance
        nearest = others[np.argsort(distance, kind="stable")]
        if len(nearest):  # a small shell (a few b0s) shows its volumes more than once
            groups.append([v, *np.resize(nearest, n)])
    return groups


def _by_acquisition(series: Series, n: int) -> list[list[int]]:
    kept = np.flatnonzero(~series.is_b0)
    if len(kept) < 2:
        return []
    n = min(n, len(kept) - 1)  # else a volume would be its own neighbour
    lags = [-1] if n == 1 else [*range(-(n // 2), 0), *range(1, n - n // 2 + 1)]
    return [[int(kept[(i + lag) % len(kept)]) for lag in (0, *lags)] for i in range(len(kept))]


def _by_repeats(series: Series, n: int) -> list[list[int]]:
    same = show_the_same(series)
    n = min(n, int(same.sum(axis=1).max()))
    groups = []
    for v in np.flatnonzero(same.any(axis=1)):
        others = np.flatnonzero(same[v])
        nearest = others[np.argsort(np.abs(others - v), kind="stable")]
        groups.append([int(v), *np.resize(nearest, n).tolist()])
    return groups
