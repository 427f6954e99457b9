"""Which volumes of a scan have more noise than others, and how much.

Idea    `specific` finds the noise of each volume. What a single volume shows looks like noise of
        its own to any covariance, so a level counts only where a witness says so, too.
Here    The witness is the air around the head. Where it was zeroed, or stored too coarsely, it is
        the power of the finest detail: within shells it has to grow as that of the noise does.
        Where it does not, a shell may still be quieter than the largest one, if its detail, or the
        differences of its b0s, show it; not noisier, for a b0 has more detail with the same noise.
Trap    Volumes alike but for chance must stay exactly as they are: all levels are left out unless
        the noisiest and the quietest volume that a witness confirms are well apart.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..background import air_of, robust_sd
from ..scaling import Scale
from ..series import Series, shells
from .specific import Blocks

ALIKE = 1.1  # levels closer than this need no witness: they make no difference
UNEQUAL = 1.2  # noisiest over quietest volume, from which levels are used
CERTAIN = 4.0  # standard errors on top of that
AGREES = 0.5  # of a level's logarithm, that the witness has to show
GROWS_AS = 0.4, 1.7  # slope of the power of the detail over that of the noise
SURE = 5.0  # standard errors of the slope above 0
STEPS_OF_AIR = 4.0  # median of the air over the step between stored values, from which it is used


@dataclass(frozen=True)
class Levels:
    """The noise of each volume over that of a typical one.

    values       (V,)       median 1
    is_measured  (V,) bool  from the components, so that it can be refined
    """

    values: np.ndarray
    is_measured: np.ndarray


def noise_levels(
    series: Series, mask: np.ndarray, scale: Scale, n_independent: float
) -> Levels | None:
    """The levels of a series of eight volumes or more; None where its volumes are alike.

    scale          of the noise learned as if they were
    n_independent  voxels of independent noise in the mask
    """
    blocks = Blocks.of(series, mask, scale, n_independent)
    found, is_known = blocks.levels()
    apart = UNEQUAL * float(np.exp(CERTAIN / np.sqrt(blocks.n_independent)))
    if is_known.all() and found.max() <= apart * found.min():
        return None
    if not is_known.any():
        return None
    air = _seen_in_air(series, mask, is_known)
    if air is None:
        values, is_certain = _by_detail(blocks, found, is_known, series)
    else:
        values, is_certain = _by_air(found, is_known, air / np.median(air[is_known]))
    certain = np.append(values[is_certain], 1.0)
    if certain.max() <= apart * certain.min():
        return None
    return Levels(values / np.median(values), is_known & (values != 1))


def refined(
    levels: Levels, series: Series, mask: np.ndarray, scale: Scale, n_independent: float
) -> Levels:
    """The levels measured once more.

    series  the volumes over their levels
    scale   of the noise learned from these
    """
    blocks = Blocks.of(series, mask, scale, n_independent)
    more, is_known = blocks.levels(start=np.ones(series.n_volumes))
    values = levels.values * np.where(levels.is_measured & is_known, more, 1.0)
    return replace(levels, values=values / np.median(values))


def over_levels(series: Series, levels: np.ndarray) -> Series:
    """The series with the same noise in all volumes."""
    return replace(series, data=series.data / levels.astype(np.float32))


def _by_air(
    found: np.ndarray, is_known: np.ndarray, air: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Levels (V,) that the air confirms, and (V,) bool which of them matter.

    Where the components show none, as of a lone b0, that of the air is taken. Ghosts only add to
    it, so there it matters only where it is low.
    """
    is_confirmed = _confirms(air, found)
    values = np.where(is_confirmed | _is_alike(found), found, 1.0)
    return np.where(is_known, values, air), np.where(is_known, is_confirmed, air < 1)


def _by_detail(
    blocks: Blocks, found: np.ndarray, is_known: np.ndarray, series: Series
) -> tuple[np.ndarray, np.ndarray]:
    """Levels (V,) that the finest detail confirms, and (V,) bool which of them matter."""
    shell = shells(series)
    names, sizes = np.unique(shell[is_known], return_counts=True)
    members = [np.flatnonzero(is_known & (shell == name)) for name in names]
    seen, noise = blocks.detail(found)
    if _grows_with_the_noise(seen, noise, members):
        return found, is_known
    typical = np.median(found[members[sizes.argmax()]])
    values, is_certain = np.ones(len(found)), np.zeros(len(found), dtype=bool)
    for here in members:
        middle = np.median(found[here])
        level, most = middle / typical, np.sqrt(np.median(seen[here] / noise[here])) * middle
        if len(here) > 1 and series.is_b0[here].all():
            most = min(most, blocks.repeats(found, here))
        is_certain[here] = level < 1 and bool(_confirms(most / typical, level))
        values[here] = level if is_certain[here[0]] or _is_alike(level) else 1.0
    return values, is_certain


def _grows_with_the_noise(seen: np.ndarray, noise: np.ndarray, shells: list[np.ndarray]) -> bool:
    """Whether detail is stronger, within its shell, by as much as the noise is.

    seen, noise  (V,) power of the detail, and that of the noise in it
    shells       volumes of each
    """
    x, y = (
        np.concatenate([power[here] - power[here].mean() for here in shells])
        for power in (noise, seen)
    )
    slope = float((x @ y) / max(x @ x, 1e-30))
    error = np.sqrt(np.sum((y - slope * x) ** 2) / max(1, len(x) - len(shells) - 1) / (x @ x))
    return GROWS_AS[0] < slope < GROWS_AS[1] and slope > SURE * error


def _confirms(seen: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Whether a witness shows enough of the levels found, to the same side."""
    wanted, there = np.log(found), np.log(seen)
    return np.asarray((np.sign(wanted) * there >= AGREES * np.abs(wanted)) & ~_is_alike(found))


def _is_alike(levels: np.ndarray) -> np.ndarray:
    """Whether levels are too close to 1 to make a difference."""
    return np.asarray(np.abs(np.log(levels)) < np.log(ALIKE))


def _seen_in_air(series: Series, mask: np.ndarray, is_known: np.ndarray) -> np.ndarray | None:
    """(V,) noise of each volume in the air, up to a factor; None where it can't be read there.

    is_known  (V,) bool, the volumes that matter; one of the others may be empty
    """
    air = air_of(series.data, mask)
    if air is None:
        return None
    values = series.data[air]
    if values.min() < 0:
        noise = robust_sd(values)
    else:
        steps = np.diff(np.unique(values))
        noise = np.median(values, axis=0)
        if not len(steps) or not noise[is_known].min() >= STEPS_OF_AIR * steps.min():
            return None
    if series.parts is not None:
        noise = np.tile(np.sqrt((noise.reshape(2, -1) ** 2).mean(axis=0)), 2)
    typical = float(np.median(noise[is_known]))
    return np.where(noise > 0, noise, typical) if noise[is_known].min() > 0 else None
