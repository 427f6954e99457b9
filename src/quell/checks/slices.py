"""What the slices of each volume say: drop-outs, lost volumes, and a head that moved and stayed.

Idea    A slice is compared with the same slice of the other volumes of its shell. One that is dark
        in a single volume has dropped out: motion during its diffusion weighting, or lost data.
        One that stays dark in the volumes that follow shows another place of the head.
Trap    A magnitude without signal is no zero but the mean of its noise: at b = 2000 that can be
        half of the usual level.
"""

import math

import numpy as np

from .finding import Finding, fault, note
from .header import listed
from .look import Look
from .symptoms import slice_means

DARK = 0.6  # of the slice's level in the other volumes
EMPTY = 0.25  # of it: nothing is left
FLOOR = math.sqrt(math.pi / 2)  # mean of a magnitude without signal, over sigma
NEAR_FLOOR, ABOVE_FLOOR = 1.15, 1.5  # times that mean: no signal; signal
FEWEST = 3  # volumes of a shell that are compared with each other
SCALED = (0.75, 1.33)  # of the shell's level: another scale factor, or another b-value
STAYS = 2  # following volumes in which a slice is still as dark
HALF = 0.5  # of the loss, by which a following volume counts as dark

Cells = list[tuple[int, int]]  # (volume, slice)


def slice_faults(look: Look) -> list[Finding]:
    """Slices and volumes without signal, dark slices, volumes on another scale, a moved head."""
    means = slice_means(look.series.data, look.mask)  # (Z, V)
    if not np.isfinite(means).any():
        return []
    floor = 0.0 if look.is_signed else FLOOR * look.noise_sd
    lost, scaled = _lost_volumes(look, means, floor), []
    empty, dark, moved = Cells(), Cells(), Cells()
    for _, volumes in look.shells:
        present = np.setdiff1d(volumes, lost)
        if len(volumes) < FEWEST:
            empty += [cell for v in present for cell in _empty_beside_all(means, int(v), floor)]
        typical = np.median(means[:, present], axis=1, keepdims=True)  # (Z, 1), nan: no mask
        if len(present) < FEWEST or not np.any(typical > 0):
            continue
        levels = means[:, present] / np.where(typical > 0, typical, np.nan)
        whole = np.nanmedian(levels, axis=0)
        scaled += [int(v) for v in present[(whole < SCALED[0]) | (whole > SCALED[1])]]
        with np.errstate(invalid="ignore", divide="ignore"):
            levels = levels / whole
            is_floor = (means[:, present] < NEAR_FLOOR * floor) & (typical > ABOVE_FLOOR * floor)
        is_empty = (levels < EMPTY) | is_floor
        for z, i in np.argwhere(is_empty | (levels < DARK)):
            cell = int(present[i]), int(z)
            if _stays_dark(levels[z], i) and not (is_empty[z, i] and _is_inside(means, z)):
                moved.append(cell)
            else:
                (empty if is_empty[z, i] else dark).append(cell)
    return _of_volumes(lost, scaled) + _of_slices(empty, dark) + _of_motion(moved)


def _lost_volumes(look: Look, means: np.ndarray, floor: float) -> list[int]:
    """Volumes that hold one value alone in the mask, or nothing but noise, unlike their shell's."""
    values = look.series.data[look.mask]
    lost = set(np.flatnonzero(np.ptp(np.abs(values), axis=0) == 0).tolist())
    whole = np.nanmedian(means, axis=0)
    for _, volumes in look.shells:
        if len(volumes) >= 3 and (typical := float(np.median(whole[volumes]))) > 0:
            is_lost = whole[volumes] < EMPTY * typical
            if typical > ABOVE_FLOOR * floor:
                is_lost |= whole[volumes] < NEAR_FLOOR * floor
            lost |= set(volumes[is_lost].tolist())
    return sorted(lost)


def _empty_beside_all(means: np.ndarray, v: int, floor: float) -> Cells:
    """Slices without signal in a volume that no other is like, as a lone b=0.

    means  (Z, V)  of all volumes; contrasts differ, but no slice is empty in one of them alone
    """
    others = np.delete(means, v, axis=1)
    if others.shape[1] < FEWEST:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        profile = np.median(others / np.nanmedian(others, axis=0), axis=1)  # (Z,)
        usual = profile * np.nanmedian(means[:, v])
        is_empty = means[:, v] < EMPTY * usual
        is_empty |= (means[:, v] < NEAR_FLOOR * floor) & (usual > ABOVE_FLOOR * floor)
    return [(v, int(z)) for z in np.flatnonzero(is_empty)]


def _stays_dark(levels: np.ndarray, i: int) -> bool:
    """Whether a slice is about as dark in volumes beside this one: a head that moved stays there.

    levels  (V,)  of one slice in the volumes of a shell, over the usual one
    i       the volume in which it is dark
    """
    is_dark = levels < 1 - HALF * (1 - levels[i])
    first = last = i
    while last + 1 < len(levels) and is_dark[last + 1]:
        last += 1
    while first > 0 and is_dark[first - 1]:
        first -= 1
    return last - first >= STAYS


def _is_inside(means: np.ndarray, z: int) -> bool:
    """Whether the mask goes on above and below: no motion takes such a slice out of the head."""
    known = np.flatnonzero(np.isfinite(means).any(axis=1))
    return bool(known[0] + 1 < z < known[-1] - 1)


def _of_volumes(lost: list[int], scaled: list[int]) -> list[Finding]:
    found = []
    if lost:
        has = "has" if len(lost) == 1 else "have"
        advice = "drop it, with its b-value and direction; nothing true can be put there"
        found.append(fault("empty-volume", f"{listed(lost)} {has} no signal", advice))
    if scaled:
        sentence = f"the signal of {listed(scaled)} is over a quarter off the rest of the shell"
        advice = "check the b-values and scale factors; volumes of a shell need one scale"
        found.append(fault("volume-scale", sentence, advice))
    return found


def _of_slices(empty: Cells, dark: Cells) -> list[Finding]:
    """One finding for all drop-outs, those without any signal first."""
    cells = tuple(sorted(empty) + sorted(dark))
    if not cells:
        return []
    named = ", ".join(f"slice {z} of volume {v}" for v, z in cells[:3])
    more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
    has = "has" if len(cells) == 1 else "have"
    loss = "lost more than 40 % of the signal" if dark else "no signal"
    verb = loss if dark and len(cells) == 1 else f"{has} {loss}"
    advice = "replace the slices in a later step (eddy --repol), or drop those volumes"
    return [fault("dark-slices", f"{named}{more} {verb}", advice, cells)]


def _of_motion(moved: Cells) -> list[Finding]:
    if not moved:
        return []
    volumes, slices = sorted({v for v, _ in moved}), sorted({z for _, z in moved})
    shows = "shows" if len(slices) == 1 else "show"
    sentence = (
        f"the head moved and stayed: {listed(slices, 'slice')} {shows} another place in "
        f"{listed(volumes)}"
    )
    return [note("moved-slices", sentence, "keep these volumes; correct motion after denoising")]
