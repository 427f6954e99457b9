"""What the text around a scan says: gradients, counts, sidecar, size.

A sidecar is untrusted text: values are tested for their type, and quoted shortened and escaped.
"""

import math
import os
import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from ..series import B0_MAX
from .finding import Finding, error, fault, note, warning
from .look import Look

GIB = 2**30
LARGEST_IN_MS = 20.0  # ms/µm²; a largest b-value up to here is hardly one in s/mm²
LEARNED_KEYS = ("DeepLearning", "DeepLearningDetails", "DeepLearningFactor")
LEARNED_WORDS = re.compile(r"DEEP.?(LEARNING|RESOLVE)|AIR.?RECON|\bAICE\b|SMARTSPEED|\bDLR\b")


def gradients(look: Look) -> list[Finding]:
    """b-values and directions: there, as many as volumes, of length one."""
    bvals, bvecs, n = look.series.bvals, look.series.bvecs, look.series.n_volumes
    if bvals is None and n == 1:
        return []
    if bvals is None:
        advice = "give --bval if this is a diffusion scan; the volumes are taken as one group"
        return [note("no-bvals", f"there are no b-values for the {n} volumes", advice)]
    for name, table in (("b-values", bvals), ("directions", bvecs)):
        if table is not None and len(table) != n:
            advice = "give the gradient files of this scan"
            return [error("gradient-count", f"{len(table)} {name} for {n} volumes", advice)]
    found = []
    if 0 < bvals.max() <= LARGEST_IN_MS and np.ptp(bvals) > 0:
        sentence = f"the largest b-value is {bvals.max():g}, so every volume counts as b=0"
        advice = "give b-values in s/mm²: those in ms/µm² times 1000"
        found.append(fault("b-unit", sentence, advice))
    if not look.series.is_b0.any():
        sentence = f"no volume has b ≤ {B0_MAX:g}, the lowest is b = {bvals.min():g}"
        advice = "add a b=0 volume of the same session; attenuation cannot be judged without one"
        found.append(warning("no-b0", sentence, advice))
    return found + _directions(bvecs, bvals > B0_MAX)


def _directions(bvecs: np.ndarray | None, weighted: np.ndarray) -> list[Finding]:
    """Directions of the volumes with diffusion weighting, if there are such volumes."""
    if not weighted.any():
        return []
    if bvecs is None:
        advice = "give --bvec; direction maps cannot be drawn without"
        return [note("no-bvecs", "there are no gradient directions", advice)]
    norms = np.linalg.norm(bvecs, axis=1)
    off = np.flatnonzero(weighted & (np.abs(norms - 1) > 0.05))
    if not len(off):
        return []
    sentence = (
        f"{len(off)} of {np.count_nonzero(weighted)} directions are not of length 1 "
        f"(volume {off[0]}: {norms[off[0]]:.3g})"
    )
    advice = "normalise the bvec file, or give the one of this scan"
    return [error("bvec-norm", sentence, advice)]


def volume_counts(look: Look) -> list[Finding]:
    """Enough volumes for the method, in the whole and in each shell."""
    found, n, best = [], look.series.n_volumes, look.best_volumes
    if n == 1:
        sentence = "this is one image, so its noise is learned from the air around the head"
        return [note("one-image", sentence, "merge repeats of it, if there are any, into one file")]
    if n < best and look.method is not None:
        sentence = f"{n} volumes are few: {look.method.name} is at its best from {best} on"
        advice = "look at what was removed; compare methods on this scan (quell compare)"
        found.append(warning("few-volumes", sentence, advice))
    single = [v for b, v in look.shells if b == 0 and len(v) == 1]
    if single:
        sentence = f"{listed(single[0])} is the only one at b=0"
        advice = "less noise is removed there, as no other volume shows its contrast: acquire more"
        found.append(note("single-b0", sentence, advice))
    thin = [(b, v) for b, v in look.shells if b > 0 and len(v) <= 2]  # nan: not known
    if thin and len(look.shells) > 1:
        named = "; ".join(f"b = {b:g} has only {listed(v)}" for b, v in thin[:4])
        advice = "read no small effects in them: they are learned from other shells"
        found.append(warning("thin-shell", named, advice))
    return found


def processed(look: Look) -> list[Finding]:
    """Interpolated, denoised, resampled or filtered before: names and sidecar.

    What the scanner does to every image is part of the scan's noise: a note, unless the method
    takes the noise to be white. What another program or a network did is a warning.
    """
    scanner, others = _by_the_scanner(look), _by_others(look)
    if not scanner + others:
        return []
    sentence = "the scan was processed before: " + "; ".join(others + scanner)
    if others:
        advice = "denoise the scan as acquired; after resampling neighbouring voxels share noise"
        return [warning("processed", sentence, advice)]
    if look.takes_white:
        advice = f"{look.takes_white} takes the noise to be white; use joint, or the raw scan"
        return [warning("processed", sentence, advice)]
    return [note("processed", sentence, "nothing: the correlation of the noise is measured")]


def _by_others(look: Look) -> list[str]:
    """Signs of another program, or of a network on the scanner."""
    sidecar, signs = look.series.sidecar, []
    name = look.series.path.name if look.series.path else ""
    if label := re.search(r"_desc-([A-Za-z0-9]+)", name):
        signs.append(f"its name says desc-{label.group(1)[:20]}")
    for key in ("GeneratedBy", "Sources"):
        if sidecar.get(key):
            signs.append(f"the sidecar has {key} {_quoted(sidecar[key])}")
    texts = words(sidecar.get("ImageType")) + words(sidecar.get("ImageTypeText"))
    has_key = any(_is_true(v) or (isinstance(v, str) and v) for v in map(sidecar.get, LEARNED_KEYS))
    if has_key or any(LEARNED_WORDS.search(text) for text in texts):
        signs.append("the scanner reconstructed it with deep learning")
    return signs


def _by_the_scanner(look: Look) -> list[str]:
    """Signs of interpolation on the scanner."""
    sidecar, signs = look.series.sidecar, []
    if _is_true(sidecar.get("Interpolation2D")):
        signs.append("the scanner interpolated in plane (Interpolation2D)")
    if (lines := encoded_lines(look)) and lines[0] < 0.95 * lines[1]:
        signs.append(f"{lines[0]:g} lines were acquired and {lines[1]:g} reconstructed")
    if _is_true(sidecar.get("NonlinearGradientCorrection")):
        signs.append("gradient nonlinearity was corrected, which resamples")
    kinds = words(sidecar.get("ImageType"))
    return signs + [f"its image type holds {kind}" for kind in ("DIS2D", "DIS3D") if kind in kinds]


def encoded_lines(look: Look) -> tuple[float, float] | None:
    """Phase encoding lines that were acquired and reconstructed; None where that is not known."""
    keys = ("AcquisitionMatrixPE", "ReconMatrixPE")
    acquired, made = (look.series.sidecar.get(key) for key in keys)
    return (acquired, made) if _is_number(acquired) and _is_number(made) else None


def protocol(look: Look) -> list[Finding]:
    """What the protocol does to the noise: averages, partial Fourier, parallel imaging."""
    sidecar = look.series.sidecar
    rows = (
        ("NumberOfAverages", "averages"),
        ("PartialFourier", "partial Fourier"),
        ("ParallelReductionFactorInPlane", "in-plane acceleration"),
        ("MultibandAccelerationFactor", "multiband"),
    )
    seen = [
        f"{name} {sidecar[key]:g}"
        for key, name in rows
        if _is_number(sidecar.get(key)) and sidecar[key] > 0 and sidecar[key] != 1
    ]
    if not seen:
        return []
    advice = "expect noise that varies over the image and is shared between voxels"
    return [note("protocol", "the protocol has " + ", ".join(seen), advice)]


def memory(look: Look) -> list[Finding]:
    """Six times the scan in float32, and one GiB, against what is free."""
    data = look.series.data
    need, free = 6 * data.nbytes + GIB, available_memory()
    if free is None or need <= free:
        return []
    level = error if need > 2 * free else warning
    sentence = f"about {need / GIB:.1f} GiB of memory are needed, {free / GIB:.1f} GiB are free"
    advice = "close other programs, take a larger machine or cut the scan into slabs"
    return [level("memory", sentence, advice)]


def available_memory() -> int | None:
    """Bytes free for a new program, None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def listed(volumes: Sequence[int] | np.ndarray, what: str = "volume") -> str:
    """Indices in words: "volume 3", "volumes 3, 4, 5, 6, 7 and 2 more"."""
    named = ", ".join(str(int(v)) for v in volumes[:5])
    more = f" and {len(volumes) - 5} more" if len(volumes) > 5 else ""
    return f"{what}{'s' if len(volumes) > 1 else ''} {named}{more}"


def _is_true(value: Any) -> bool:
    """True, or a number that is not 0 (dcm2niix writes 1)."""
    return value is True or (_is_number(value) and value != 0)


def _is_number(value: Any) -> TypeGuard[float]:
    """A finite number, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def words(value: Any) -> list[str]:
    """The strings of a value that should be one or a list of them, in upper case."""
    values = value if isinstance(value, list) else [value]
    return [v.upper() for v in values if isinstance(v, str)]


def _quoted(value: Any) -> str:
    """A value, shortened, with nothing in it that a terminal would act on."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
