"""Whether a noise map shows anatomy.

Idea    Coils and parallel imaging shape the noise smoothly. A map that is high in the ventricles
        or low in white matter has taken signal for noise: fluid that pulsates, contrast that a
        few volumes cannot part from noise, motion. There more is removed than noise.
Here    Logarithms of map and image, each less its best smooth profile (a polynomial), are
        compared: their correlation r, and the slope, by how many per cent the map rises where the
        image rises by one.
Trap    Correlation alone says little: a learned map is smooth, so chance correlates it with any
        other smooth image. A slope as steep as that of fluid does not come by chance.
"""

import numpy as np
from numpy.polynomial import legendre
from scipy import ndimage

DEGREE, DEGREE_Z = 6, 2  # of the profile that coils may have; few slices bend little
WIDTH = 2.0  # voxels; the image is made about as smooth as a learned map is
MOST_VOXELS = 20_000  # looked at
VOXELS_PER_TERM = 10  # fewer could be fitted by any profile
DARKEST, BRIGHTEST = 0.02, 0.98  # shares of the mask beyond which values are cut


def anatomy_of(sigma: np.ndarray, image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Correlation and slope of a noise map against an image, beyond smooth profiles; 0, 0 if none.

    sigma  (X, Y, Z)  noise map
    image  (X, Y, Z)  what the scan shows, any unit
    mask   (X, Y, Z)  bool
    """
    where = mask & (sigma > 0) & (image > 0)
    places = np.argwhere(where)
    places = places[:: max(1, len(places) // MOST_VOXELS)]
    terms = _profiles(places) if len(places) else np.zeros((0, 1))
    if len(places) < VOXELS_PER_TERM * terms.shape[1]:
        return 0.0, 0.0
    here = tuple(places.T)
    both = np.stack([_smoothed_log(image, where)[here], np.log(sigma[here])], axis=1)
    both = both - terms @ np.linalg.lstsq(terms, both, rcond=None)[0]
    x, y = both.T
    powers = float(x @ x), float(y @ y)
    if min(powers) <= 1e-9 * len(x):  # no contrast, or a map that is one profile
        return 0.0, 0.0
    return float(x @ y / np.sqrt(powers[0] * powers[1])), float(x @ y / powers[0])


def _smoothed_log(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Logarithm of the image, its extremes cut, averaged over neighbours in the mask."""
    values = np.log(image[where].astype(np.float64))
    flat = np.zeros(where.shape)
    flat[where] = values.clip(*np.quantile(values, (DARKEST, BRIGHTEST)))
    share = ndimage.gaussian_filter(where.astype(np.float64), WIDTH, mode="constant")
    return np.asarray(ndimage.gaussian_filter(flat, WIDTH, mode="constant") / share.clip(1e-6))


def _profiles(places: np.ndarray) -> np.ndarray:
    """(n, terms) products of Legendre polynomials at some voxels (n, 3) of a grid."""
    low, high = places.min(axis=0), places.max(axis=0)
    scaled = 2 * (places - low) / np.maximum(high - low, 1) - 1
    x, y, z = (legendre.legvander(scaled[:, axis], DEGREE) for axis in range(3))
    top_z = min(DEGREE_Z, int(high[2] - low[2]))
    degrees = [
        (i, j, k)
        for i in range(DEGREE + 1)
        for j in range(DEGREE + 1 - i)
        for k in range(min(top_z, DEGREE - i - j) + 1)
    ]
    return np.stack([x[:, i] * y[:, j] * z[:, k] for i, j, k in degrees], axis=1)
