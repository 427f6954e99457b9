"""Probing: what would a method erase on this scan?

Idea    Structures of known size and strength are added to the scan, many at once and far apart, it
        is denoised with them and without, and the share that is left is tabled by size, strength,
        number of volumes, and whether the anatomy is steep or flat there.
Here    The one who asks hands in what denoises: quell's methods and other programs alike. The short
        form is one kind of structure and one more run; it stands in the report.
Trap    It says what this method does to such structures on this scan. It does not say that a
        structure of that kind is there, and a share that is kept of balls of uniform strength is
        not that of every lesion.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from .evaluate.probe import Nothing, Response, Share, respond, where_nothing_was
from .noise import NoiseModel
from .series import InputError, Series
from .simulate.blobs import Blob, Kind, add_blobs, detectability, sigma_of
from .simulate.placing import Room, room_in

RADII = (1.9, 2.5, 3.5)  # voxels: 27, 81 and 179 of them
SMALLEST = 1.0  # 7 voxels, where none of these fits into the mask
STRENGTHS = (3.0, 5.0, 10.0)  # units of the noise
STRENGTHS_OF_ALL = (1.0, 3.0, 5.0)  # of what all volumes show, which is easier to see
ONE = Kind(2.5, 5.0, 1)  # of the short form: 81 voxels at 5 sigma in one volume
EACH, EACH_OF_ONE = 4, 8  # structures of a kind
CLOSE = 0.5  # share of the usual gaps where a kind would have no place else
MOST_SCANS = 2  # with structures
NO_ROOM = "the mask has no room for a structure of 7 voxels; give a larger mask"


@dataclass(frozen=True, eq=False)
class Probe:
    """One scan with structures in it.

    scan   as it was, with its mask
    noise  its noise model
    blobs  what was added
    data   (X, Y, Z, V)  the scan with them
    phase  (X, Y, Z, V)  of the signal, of complex data; else None
    beside the most variance that others add to a blob's volumes, over the noise's: of those in
           some volumes, and of those in all
    """

    scan: Series
    noise: NoiseModel
    blobs: list[Blob]
    data: np.ndarray
    phase: np.ndarray | None
    beside: tuple[float, float]

    @property
    def probed(self) -> Series:
        """The scan with the structures."""
        return replace(self.scan, data=self.data)

    def over_sigma(self, difference: np.ndarray, v: int) -> np.ndarray:
        """(X, Y, Z) difference of a volume, along the phase, in units of the noise."""
        sigma, level = self.noise.sigma, 1.0
        if self.noise.levels is not None:
            level = float(self.noise.levels[v])
        if self.phase is not None:
            difference = (difference * self.phase[..., v].conj()).real
        return np.asarray(difference / (np.where(sigma > 0, sigma, np.inf) * level), np.float32)

    def change(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """(X, Y, Z, V) after less before, in units of the noise."""
        found = np.empty(before.shape, dtype=np.float32)
        for v in range(before.shape[3]):
            found[..., v] = self.over_sigma(after[..., v] - before[..., v], v)
        return found

    def added(self, blob: Blob) -> float:
        """What was added for a blob, in units of the noise, over its voxels and volumes."""
        at = (*blob.voxels[:, :, None], blob.volumes)
        more = self.data[at] - self.scan.data[at]
        if self.phase is not None:
            more = (more * self.phase[at].conj()).real
        return float((more / sigma_of(self.noise, blob)).sum(dtype=np.float64))

    def measure(self, before: np.ndarray, after: np.ndarray) -> "Measured":
        """What became of the structures.

        before, after  (X, Y, Z, V)  the method's result without them, and with them
        """
        change = self.change(before, after)
        responses = [respond(change, self.added(blob), blob) for blob in self.blobs]
        nothing = where_nothing_was(change, self.scan.where, self.blobs)
        return Measured(list(zip(self.blobs, responses, strict=True)), [nothing])


@dataclass(frozen=True)
class Measured:
    """What became of every structure, and of the places where nothing was, of each probed scan."""

    responses: list[tuple[Blob, Response]]
    nothing: list[Nothing]

    def with_more(self, other: "Measured") -> "Measured":
        """Both together."""
        return Measured(self.responses + other.responses, self.nothing + other.nothing)

    @property
    def added(self) -> Nothing:
        """What was added where nothing was, over all probed scans."""
        rms = float(np.sqrt(np.mean([one.rms**2 for one in self.nothing])))
        return Nothing(rms, max(one.largest for one in self.nothing))

    def rows(self, covariance: np.ndarray) -> "list[ProbeRow]":
        """One line for each kind of structure that was placed, by volumes, size and strength.

        covariance  of the noise, see `NoiseModel`
        """
        kinds = sorted({blob.kind for blob, _ in self.responses}, key=_order)
        return [self._row(kind, covariance) for kind in kinds]

    def _row(self, kind: Kind, covariance: np.ndarray) -> "ProbeRow":
        own = [(blob, said) for blob, said in self.responses if blob.kind == kind]
        shares = {
            name: Share.of([getattr(said, name) for _, said in own])
            for name in Response.__dataclass_fields__
        }
        places = {
            name: Share.of([said.kept for blob, said in own if blob.is_edge == is_edge])
            for name, is_edge in (("edges", True), ("flat", False))
        }
        voxels = own[0][0].voxels
        seen = detectability(kind, voxels, covariance)
        return ProbeRow(kind, voxels.shape[1], seen, **shares, **places)


def _order(kind: Kind) -> tuple[int, float, float]:
    return kind.volumes, kind.radius, kind.strength


@dataclass(frozen=True)
class ProbeRow:
    """What becomes of one kind of structure.

    n_voxels       in a volume
    detectability  its mean over what noise alone gives that mean
    kept, ...      shares of what was added, see `quell.evaluate.probe`
    edges, flat    the share kept where the anatomy is steep and where it is flat
    """

    kind: Kind
    n_voxels: int
    detectability: float
    kept: Share
    rim: Share
    around: Share
    elsewhere: Share
    ghost: Share
    edges: Share
    flat: Share

    def as_dict(self) -> dict[str, Any]:
        """For JSON: no NaN."""
        found: dict[str, Any] = {**asdict(self.kind), "n_voxels": self.n_voxels}
        found["detectability"] = plain(self.detectability)
        for name in ("kept", "edges", "flat", "rim", "around", "elsewhere", "ghost"):
            share = getattr(self, name)
            found[name] = {"mean": plain(share.mean), "error": plain(share.error), "n": share.n}
        return found

    def sentence(self, n_volumes: int) -> str:
        """ "A 5 sigma structure of 81 voxels seen in one volume: 78 % would be kept (± 4)." """
        error = f" (± {100 * self.kept.error:.0f})" if np.isfinite(self.kept.error) else ""
        seen = "" if n_volumes == 1 else f" seen in {span_of(self.kind.volumes, n_volumes)}"
        what = f"A {self.kind.strength:g} sigma structure of {self.n_voxels} voxels{seen}"
        return f"{what}: {100 * self.kept.mean:.0f} % would be kept{error}."


def span_of(volumes: int, n_volumes: int) -> str:
    """In how many volumes a structure is seen, in words."""
    if volumes == 1:
        return "one volume"
    return f"all {n_volumes} volumes" if volumes == n_volumes else f"the {volumes} nearest volumes"


def plain(value: float) -> float | None:
    """A number as it is kept: five digits, None for what is none."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def all_kinds(scan: Series) -> list[Kind]:
    """Every size, strength and number of volumes that a scan has room for, one volume first."""
    V = scan.n_volumes
    counts = [1, *([V] if V > 1 else []), *([4] if V > 4 else [])]
    strengths = {k: STRENGTHS_OF_ALL if k == V > 1 else STRENGTHS for k in counts}
    return [Kind(r, A, k) for k in counts for r, A in product(RADII, strengths[k])]


def probes_of(
    scan: Series,
    noise: NoiseModel,
    rng: np.random.Generator,
    phase: np.ndarray | None = None,
    n_scans: int = MOST_SCANS,
    only: Sequence[Kind] = (),
    each: int = EACH,
) -> Iterator[Probe]:
    """The scan with structures in it, n times, each with others.

    scan   with its mask
    phase  (X, Y, Z, V)  of the signal, of complex data
    only   these kinds, smaller where they don't fit into the mask; none: all
    each   structures of a kind, over all scans, half of them at edges; fewer where there is no room

    Raises InputError where there is no room at all.
    """
    room, kinds = _fitting(scan, noise, only or all_kinds(scan), rng)
    kinds.sort(key=lambda kind: (kind.radius, kind.strength) != (ONE.radius, ONE.strength))
    rooms = [
        replace(room, added=room.added.copy(), least=room.least.copy(), taken=[])
        for _ in range(n_scans)
    ]
    for turn in range(each):
        for i, kind in enumerate(kinds):
            _put(rooms, kind, turn, i, rng)
    there = {blob.kind for one in rooms for blob in one.taken}
    for i, kind in enumerate(kinds):  # a small mask: closer rather than not at all
        if kind not in there:
            _put(rooms, kind, 0, i, rng, CLOSE)
    if not any(one.taken for one in rooms):
        raise InputError(NO_ROOM)
    for one in rooms:
        if one.taken:
            data = add_blobs(scan.data, one.taken, noise, rng, phase)
            yield Probe(scan, noise, one.taken, data, phase, one.beside())


def _fitting(
    scan: Series, noise: NoiseModel, kinds: Sequence[Kind], rng: np.random.Generator
) -> tuple[Room, list[Kind]]:
    """The room of a scan, and those of some kinds that fit into it, made smaller if none does."""
    for most in (np.inf, *RADII[1::-1], SMALLEST):
        cut = dict.fromkeys(replace(kind, radius=min(kind.radius, most)) for kind in kinds)
        room = room_in(scan, noise, sorted({kind.radius for kind in cut}), rng)
        found = [kind for kind in cut if room.places[kind.radius, False].shape[1]]
        if found:
            return room, [kind for kind in found if kind.volumes in room.groups]
    raise InputError(NO_ROOM)


def _put(
    rooms: list[Room], kind: Kind, turn: int, i: int, rng: np.random.Generator, gaps: float = 1.0
) -> None:
    """One structure of the i-th kind in the scan whose turn it is, or in another."""
    first = turn % len(rooms)
    is_edge = (turn // len(rooms) + first + i) % 2 == 0
    for room in (*rooms[first:], *rooms[:first]):
        if room.put(kind, is_edge, rng, gaps) is not None:
            return


def short_probe(
    scan: Series, noise: NoiseModel, rng: np.random.Generator, phase: np.ndarray | None = None
) -> Probe:
    """The scan with a few structures of the short form, of the largest size that fits.

    Raises InputError where there is no room for any.
    """
    return next(probes_of(scan, noise, rng, phase, 1, [ONE], EACH_OF_ONE))
