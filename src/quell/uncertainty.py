"""Uncertainty: how far the truth lies from a result, as the denoiser's own derivative tells.

Source  Efron, "Tweedie's formula and selection bias", JASA 106:1602, 2011, second order; the random
        probe: Ramani, Blu, Unser, "Monte-Carlo SURE", IEEE TIP 17:1540, 2008.
Idea    Of y = x + n with Gaussian noise of covariance Σ, let h(y) = E[x | y] and J its derivative.
        Then Cov[x | y] = J Σ: where a little more noise moves the result, the scan left open what
        is there. With b drawn like the noise, the diagonal is the mean of b (J b), and J b the
        difference of two passes.
Here    sigma = 1 units. Two probes, averaged over the voxels around and over the volumes of a
        shell, which lose their signal alike. Where the mean of some repeats is all that is left,
        their volumes are no more than one look, and a map of such a probe shows its own noise; so
        it varies over the image only as far as the two probes agree.
        Of what the denoiser left out, the derivative says nothing: its result does not change with
        it. So what stands in the residual of one volume is added, and where a structure was put
        back as it was in the scan, the noise came back, too.
Limits  As good as the denoiser is a posterior mean. Where it is wrong in the same way whatever the
        noise, and by less than the noise of a small region (a detail that it always blurs), it is
        sure and mistaken.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from .noise import NoiseModel, filtered_sd
from .series import Series, shells

PROBE = 0.1  # ε, units of sigma
N_PROBES = 2  # what they do not agree on is no uncertainty but their own noise
SMOOTHING_MM = 4.0  # standard deviation of the window; one probe of one voxel says next to nothing

WIDTH = 1.5  # voxels, of the filter that looks for structure in the residual
CHANCE = 3.0  # of its standard deviations; noise alone passes them in 3 voxels of 1000


def posterior_sd(
    restore: Callable[[np.ndarray], np.ndarray],
    X: Series,
    h: np.ndarray,
    noise: NoiseModel,
    mask: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(X, Y, Z, V) standard deviation of the truth around the result; sigma = 1 units.

    restore  (X, Y, Z, V) -> (X, Y, Z, V), the denoiser
    X        the scan
    h        (X, Y, Z, V)  restore(X.data)
    noise    of X
    mask     (X, Y, Z) bool, where it is meant; outside, from the nearest voxels inside
    """
    shell = shells(X)
    members = [np.flatnonzero(shell == one) for one in np.unique(shell)]
    probes = np.empty((N_PROBES, len(members), *mask.shape), np.float32)
    b = np.empty(h.shape, np.float32)
    for probe in probes:
        for v in range(h.shape[3]):
            b[..., v] = noise.draw_volume(rng)
        b *= (restore(X.data + np.float32(PROBE) * b) - h) / np.float32(PROBE)  # b (J b)
        for i, alike in enumerate(members):
            probe[i] = sum(b[..., v] for v in alike) / np.float32(len(alike))
    width = [float(np.clip(SMOOTHING_MM / mm, 0.7, 4.0)) for mm in X.voxel_mm]
    weight = np.maximum(ndimage.gaussian_filter(mask.astype(np.float32), width), 1e-6)
    for i, alike in enumerate(members):
        variances = [ndimage.gaussian_filter(probe[i] * mask, width) / weight for probe in probes]
        b[..., alike] = np.sqrt(np.maximum(agreed(variances, mask), 0))[..., None]
    return b


def agreed(maps: list[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """The mean of two maps of the same thing, as far from its own mean as they agree.

    maps  two (X, Y, Z), each with errors of its own
    mask  (X, Y, Z) bool  where they are compared

    With covariance c and mean variance v of the two, the share 2c/(v + c) of what their mean varies
    is no error (Spearman-Brown).
    """
    first, second = (one[mask].astype(np.float64) for one in maps)
    (v1, c), (_, v2) = np.cov(first, second)
    share = float(np.clip(2 * c / max((v1 + v2) / 2 + c, 1e-12), 0, 1))
    mean = (first.mean() + second.mean()) / 2
    return np.asarray(mean + share * ((maps[0] + maps[1]) / 2 - mean), dtype=np.float32)


def add_left_out(
    sd: np.ndarray, residual: np.ndarray, mask: np.ndarray, noise: NoiseModel, kept: np.ndarray
) -> None:
    """Let the standard deviation grow where a volume holds what the denoiser left out, in place.

    sd        (X, Y, Z, V)     from `posterior_sd`; sigma = 1 units
    residual  (X, Y, Z, V)     scan less result
    mask      (X, Y, Z) bool   where it is meant
    noise     of the scan
    kept      (n, 4) int       voxels and volumes that the result shows as the scan does, noise too

    Where the residual's local mean stands out of filtered noise (`CHANCE`), the residual's local
    mean square less the noise's own 1 is what was left out there, squared.
    """
    v0 = filtered_sd(noise.covariance, WIDTH) ** 2
    share = ndimage.gaussian_filter(mask.astype(np.float32), WIDTH, mode="constant")
    # squared, the filter is narrower by a root of two: the part of v0 that the mask lets in
    part = ndimage.gaussian_filter(mask.astype(np.float32), WIDTH / np.sqrt(2), mode="constant")
    limit = CHANCE**2 * v0 * part
    for v in range(sd.shape[3]):
        inside = np.where(mask, residual[..., v], 0)
        mean = ndimage.gaussian_filter(inside, WIDTH, mode="constant")
        far = mask & (mean**2 > limit)
        power = ndimage.gaussian_filter(inside**2, WIDTH, mode="constant")[far] / share[far]
        sd[..., v][far] = np.sqrt(sd[..., v][far] ** 2 + np.maximum(power - 1, 0))
    places = tuple(kept.T)
    sd[places] = np.maximum(sd[places], 1)
