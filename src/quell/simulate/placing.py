"""Where structures are put into a scan: many at once, and yet as if each were alone.

Idea    One run of a denoiser answers for many blobs if none helps or hinders another. In space they
        keep apart, farther where they share a volume. In one volume several weak ones may lie.
Trap    A method that looks at the whole scan sees the variance that a blob adds to its volume over
        the mask, A² n / N_mask: with many in a volume each would be kept for the others' sake. So
        what others add to a blob's volumes stays below `MOST_BESIDE` of the noise variance, and a
        blob that can't be put is left out. What blobs in all volumes add lies along the mean of the
        volumes, where the anatomy is, and is counted by itself, up to `MOST_BESIDE_ALL`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ..noise import NoiseModel
from ..series import Series
from ..series.neighbours import shells
from .blobs import Blob, Kind, ball

AROUND = 3  # voxels around a blob in which what it spreads is measured
GAP, GAP_TOGETHER = AROUND, 2 * AROUND  # between blobs of different volumes, of one volume
MOST_BESIDE = 0.02  # of the noise variance, that other blobs add to a blob's volumes
MOST_BESIDE_ALL = 0.1  # the same of blobs in all volumes
MOST_PLACES = 4000  # of a size and an anatomy that are considered
SHARE = 3  # edges are the steepest third of the places, flat tissue the flattest


@dataclass(eq=False)
class Room:
    """What is left of a scan for blobs.

    shape     (X, Y, Z) of the grid
    places    radius, is_edge: (3, P) middles that a ball of that size fits around
    groups    volumes: (G, volumes) those that one blob may be seen in
    n_voxels  of the mask
    added     (2, V)  variance that blobs add to each volume, over the noise's: those in some
              volumes, and those in all
    least     (2, V)  of the weakest of them
    taken     blobs that were put
    """

    shape: tuple[int, int, int]
    places: dict[tuple[float, bool], np.ndarray]
    groups: dict[int, np.ndarray]
    n_voxels: int
    added: np.ndarray
    least: np.ndarray
    taken: list[Blob] = field(default_factory=list)

    def put(
        self, kind: Kind, is_edge: bool, rng: np.random.Generator, gaps: float = 1.0
    ) -> Blob | None:
        """One more blob where it disturbs no other; None where there is no such place.

        gaps  share of the usual ones that is left between blobs
        """
        places = self.places.get((kind.radius, is_edge))
        if places is None or not places.shape[1]:
            return None
        offsets = ball(kind.radius, self.shape[2])
        groups = self.groups[kind.volumes]
        own = int(kind.volumes == self.added.shape[1])  # of all volumes
        more = kind.strength**2 * offsets.shape[1] / self.n_voxels
        for g in np.lexsort((rng.random(len(groups)), self.added[own][groups].max(axis=1))):
            volumes = groups[g]
            if not self._is_free(own, volumes, more):
                continue
            left = np.flatnonzero(self._is_apart(places, kind.radius, volumes, gaps))
            if left.size:
                centre = places[:, left[rng.integers(left.size)]]
                blob = Blob(kind, centre[:, None] + offsets, volumes, is_edge)
                self.taken.append(blob)
                self.added[own, volumes] += more
                self.least[own, volumes] = np.minimum(self.least[own, volumes], more)
                return blob
        return None

    def beside(self) -> tuple[float, float]:
        """The most variance that others add to a blob's volumes, over the noise's.

        Of blobs in some volumes, and of those in all.
        """
        others = np.where(self.least < np.inf, self.added - self.least, 0.0).max(axis=1)
        return float(others[0]), float(others[1])

    def _is_free(self, own: int, volumes: np.ndarray, more: float) -> bool:
        if self.added.shape[1] == 1:  # one image: there is nothing to be shared between volumes
            return True
        least = np.minimum(self.least[own, volumes], more)
        beside = self.added[own, volumes] + more - least
        return bool((beside <= (MOST_BESIDE, MOST_BESIDE_ALL)[own]).all())

    def _is_apart(
        self, places: np.ndarray, radius: float, volumes: np.ndarray, gaps: float
    ) -> np.ndarray:
        """(P,) bool, whether a ball there keeps its distance from all others."""
        apart = np.ones(places.shape[1], dtype=bool)
        for other in self.taken:
            together = np.isin(volumes, other.volumes).any()
            least = radius + other.kind.radius + gaps * (GAP_TOGETHER if together else GAP)
            away = ((places - other.centre[:, None]) ** 2).sum(axis=0)
            apart &= away > least**2
        return apart


def room_in(
    scan: Series, noise: NoiseModel, radii: Sequence[float], rng: np.random.Generator
) -> Room:
    """All of a scan's mask, as room for balls of some radii.

    scan  with its mask
    """
    where = scan.where & (noise.sigma > 0) & _holds_signal(scan)
    if scan.nonfinite is not None:
        where &= ~scan.nonfinite
    steep = _steepness(scan, noise)
    x, y, z = where.shape
    places = {}
    for radius in radii:
        offsets = ball(radius, z)
        solid = np.zeros(np.ptp(offsets, axis=1) + 1, dtype=bool)
        solid[tuple(offsets - offsets.min(axis=1)[:, None])] = True
        middles = np.argwhere(ndimage.binary_erosion(where, solid, border_value=0)).T
        of_ball = ndimage.uniform_filter(steep, solid.shape)[tuple(middles)]
        order = np.argsort(of_ball, kind="stable")
        third = -(-len(order) // SHARE)
        for is_edge, chosen in ((True, order[len(order) - third :]), (False, order[:third])):
            few = rng.permutation(chosen)[:MOST_PLACES]
            places[radius, is_edge] = middles[:, few]
    return Room((x, y, z), places, groups_of(scan), int(where.sum()),
                np.zeros((2, scan.n_volumes)), np.full((2, scan.n_volumes), np.inf))  # fmt: skip


def groups_of(scan: Series) -> dict[int, np.ndarray]:
    """In which volumes a blob may be seen, by how many: one, the nearest four, all.

    Volumes of b > 0 where there are any, with the others of their shell whose directions are
    nearest; without directions with the next in the file. Four are left out where there are no
    more than that.
    """
    V = scan.n_volumes
    own = np.flatnonzero(~scan.is_b0)
    own = own if len(own) else np.arange(V)
    found = {V: np.arange(V)[None], 1: own[:, None]}
    shell = shells(scan)
    nearest = [_nearest(scan, int(v), own[shell[own] == shell[v]], 4) for v in own]
    four = [group for group in nearest if len(group) == 4]
    if four and V > 4:
        found[4] = np.array(four)
    return found


def _nearest(scan: Series, v: int, others: np.ndarray, n: int) -> np.ndarray:
    """The n of some volumes that are most like a volume, itself among them."""
    away = np.abs(others - v).astype(float)
    if scan.bvecs is not None and scan.fourth_axis == "directions":
        closeness = np.round(np.abs(scan.bvecs[others] @ scan.bvecs[v]), 6)
        away += 1e6 * (1 - closeness)
    away[others == v] = -1
    return np.asarray(np.sort(others[np.argsort(away, kind="stable")][:n]))


def _holds_signal(scan: Series) -> np.ndarray:
    """(X, Y, Z) bool: not zero in all volumes, which a run leaves as it is."""
    found = np.zeros(scan.data.shape[:3], dtype=bool)
    for v in range(scan.n_volumes):
        found |= scan.data[..., v] != 0
    return found


def _steepness(scan: Series, noise: NoiseModel) -> np.ndarray:
    """(X, Y, Z) gradient of the mean volume at a scale of one voxel, over the noise."""
    mean = np.zeros(scan.data.shape[:3])
    for v in range(scan.n_volumes):
        mean += np.abs(scan.data[..., v]) / scan.n_volumes
    steep = ndimage.gaussian_gradient_magnitude(mean, 1.0)
    return np.where(noise.sigma > 0, steep / np.where(noise.sigma > 0, noise.sigma, 1), 0.0)
