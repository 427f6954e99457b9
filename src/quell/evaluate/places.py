"""Where the residual stands out, in plain words: volumes, slices, and places in one volume.

Trap    What the checks of the scan have named already (a drop-out, an empty volume) is not said
        twice: a slice that was lost leaves a residual of its own.
"""

from collections.abc import Collection

import numpy as np

from ..noise import Cluster
from .judgement import Judgement, volume_list
from .residual import ResidualStatistics

VOLUME_RATIO = 1.5  # one volume this far above the noise has motion, drop-out or lost signal
VOLUME_LOW = 0.60  # note: less than 0.6² = 36 % of the noise power was taken out of the volume
VOLUME_FOLLOWS = 0.20  # r x sd / σ beyond that of the others: of a small residual, little can
CLUSTER_PEAK = 8.0  # standard deviations; weaker ones are a remark, as chance and pulsation reach 6
MANY_CLUSTERS = 3  # as many weak ones are no chance: 1 in 100 scans has one
NEAR = 1  # slices; what lies this near to a drop-out belongs to it

Cells = Collection[tuple[int, int]]  # (volume, slice)


def is_large(s: ResidualStatistics) -> np.ndarray:
    """(V,) whether far more than the noise, and than from the others, was removed."""
    return s.ratio_per_volume > VOLUME_RATIO * max(1.0, float(np.median(s.ratio_per_volume)))


def judge_volumes(s: ResidualStatistics) -> Judgement:
    """Volumes that lost more than their noise, whose residual shows them, or that kept it.

    A volume that is alone in its shell is a remark or a note: nothing shows what it should be.
    """
    image = s.correlation_per_volume * s.ratio_per_volume
    large, follows = is_large(s), np.abs(image - np.median(image)) > VOLUME_FOLLOWS
    low = s.ratio_per_volume < VOLUME_LOW
    is_lone = (s.shell_sizes[s.shell_of_volume] == 1) & (s.ratio_per_volume.size > 1)
    off, lone = np.flatnonzero((large | follows) & ~is_lone), np.flatnonzero(is_lone)
    level, sentence, advice, is_remark = "good", "No single volume stands out.", "", False
    if off.size:
        level = "warning"
        sentence = (
            f"More than noise was removed from {volume_list(off)}."
            if large[off].all()
            else f"The residual of {volume_list(off)} follows the image more than the others'."
        )
        advice = f"Look at {'it' if off.size == 1 else 'them'}: motion, a drop-out, or lost signal."
    elif (large | follows)[lone].any():
        level, is_remark = "note", True
        lone = lone[(large | follows)[lone]]
        sentence = f"More than noise was removed from {volume_list(lone)}, which no other is like."
        advice = "Compare it before and after; FA and MD depend on a lone b=0."
    elif low.any() and s.ratio >= VOLUME_LOW:  # if all are low, the first judgement has said so
        level, kept = "note", np.flatnonzero(low)
        sentence = f"Most of the noise is still in {volume_list(kept)}."
        if is_lone[kept].all():
            advice = "No other volume shows the same contrast; acquire more than one b=0."
    counts = (("too large", large), ("following the image", follows), ("too small", low))
    measured = ", ".join(f"{n} {words}" for words, which in counts if (n := int(which.sum())))
    expected = (
        f"none; sd / σ {VOLUME_LOW} to {VOLUME_RATIO}, correlation times sd / σ within "
        f"{VOLUME_FOLLOWS} of the others'"
    )
    return Judgement("single-volumes", "Volumes that stand out", level, measured or "none",
                     expected, sentence, advice, is_remark)  # fmt: skip


def judge_slices(s: ResidualStatistics, named: Cells) -> Judgement:
    """Slices whose residual is unlike that of the same slice in the other volumes.

    named  slices that the checks have found; others of those volumes follow from them
    """
    lost = {v for v, _ in named}
    found = [outlier for outlier in s.outliers if outlier.volume not in lost]
    n = sum(len(outlier.slices) for outlier in found)
    level, sentence, advice = "good", "No slice stands out.", ""
    if n:
        outlier, level = found[0], "note"
        sentence = f"{n} slice{'s' * (n > 1)} stand{'s' * (n == 1)} out, "
        sentence += "first" if n > 1 else "that is"
        sentence = (
            f"{sentence} slice {outlier.slices[0]} of volume {outlier.volume}: {outlier.kind}."
        )
        advice = "Look at the pictures; denoising does not repair motion or drop-outs."
    return Judgement("slices", "Slices that stand out", level, str(n) if n else "none", "none",
                     sentence, advice, is_remark=n > 0)  # fmt: skip


def judge_clusters(s: ResidualStatistics, named: Cells) -> Judgement:
    """Structure that was removed from single volumes.

    named  slices that the checks have found
    """
    standing = {(o.volume, z) for o in s.outliers for z in o.slices} | set(named)
    found = [c for c in s.clusters if not _is_near(c.volume, c.centre[2], standing)]
    title, expected = "Structure in single volumes", "none; by chance in 1 of 100 scans"
    if not found:
        return Judgement("clusters", title, "good", "none", expected,
                         "No volume lost structure that only it shows.")  # fmt: skip
    first, n = found[0], len({c.volume for c in found})
    is_grave = abs(first.peak) > CLUSTER_PEAK or len(found) >= MANY_CLUSTERS
    places = f"{len(found)} place{'s' * (len(found) > 1)}"
    if n > 1:
        places += f" of {n} volumes"
    strongest = f"the strongest in {_place(first)}" if len(found) > 1 else f"in {_place(first)}"
    return Judgement(
        "clusters",
        title,
        "warning" if is_grave else "note",
        places,
        expected,
        f"Structure was removed at {places}, {strongest}.",
        "It is signal that only this volume shows, or an artefact of it: go there and see.",
        is_remark=True,
    )


def _place(cluster: Cluster) -> str:
    x, y, z = cluster.centre
    return (
        f"volume {cluster.volume} at voxel {x}, {y}, {z} ({cluster.n_voxels} voxels, "
        f"{cluster.amplitude:+.1f} σ)"
    )


def _is_near(volume: int, z: int, cells: Cells) -> bool:
    return any((volume, z + step) in cells for step in range(-NEAR, NEAR + 1))
