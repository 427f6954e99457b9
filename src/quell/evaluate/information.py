"""What the image tells of the residual, whatever the way: mutual information.

Source  Cover and Thomas, Elements of Information Theory, ch. 2; the bias of counts: Miller 1955.
Idea    Correlation sees that a residual follows the image in a straight line. Mutual information
        sees any dependence: edges of both signs, and noise that was taken from bright tissue only.
Here    Both are cut into bins of equally many voxels, so no unit and no outlier matters. Counts see
        (bins - 1)² / (2 N ln 2) bits where there is nothing, which is taken off.
Trap    Magnitude noise is weaker in the dark, and a method that knows what to leave leaves more
        noise where it is unsure: a good result has some hundredths of a bit.
"""

import numpy as np

BINS = 16
MOST_VOXELS = 50_000  # more would only cost time: chance is .003 bits here
LEAST_VOXELS = 20 * BINS  # of a volume; fewer can't fill the bins


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Bits that either tells of the other, beyond chance; NaN for too few values.

    a, b  (voxels,)  any unit
    """
    if len(a) < LEAST_VOXELS:
        return float("nan")
    step = -(-len(a) // MOST_VOXELS)
    a, b = a[::step], b[::step]
    places = [_bins(values) for values in (a, b)]
    counts = np.bincount(places[0] * BINS + places[1], minlength=BINS**2).reshape(BINS, BINS)
    joint = counts / len(a)
    apart = joint.sum(axis=1)[:, None] * joint.sum(axis=0)
    filled = joint > 0
    bits = float(np.sum(joint[filled] * np.log2(joint[filled] / apart[filled])))
    rows, columns = (int(np.count_nonzero(joint.sum(axis=axis))) for axis in (1, 0))
    return bits - (rows - 1) * (columns - 1) / (2 * len(a) * np.log(2))


def _bins(values: np.ndarray) -> np.ndarray:
    """(voxels,) int: which bin each value is in; equal values share one."""
    edges = np.quantile(values, np.arange(1, BINS) / BINS)
    return np.searchsorted(edges, values, side="right")
