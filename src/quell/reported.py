"""What the report shows of a result."""

import shlex
from typing import TYPE_CHECKING

import numpy as np

from .demodulation import along
from .noise import describe_noise
from .options import Options
from .pipeline import Result
from .record import citations, distance_curve, methods_paragraph, settings_of, used, versions
from .run import peak_memory_bytes
from .series import Series

if TYPE_CHECKING:
    from .report import ReportFacts

MOST_KEPT = 5  # structures that are named
STEPS = ("matched states", "stopping steps")  # what a method may keep, one for each image


def report_facts(result: Result, scan: Series, options: Options, command: str) -> "ReportFacts":
    """What the report shows, from a result."""
    from .report import ReportFacts

    n_signal = len(result.noise.eigenvalues) - result.noise.n_noise_components
    noisy, denoised = pictured(result)
    return ReportFacts(
        title=scan.path.name if scan.path else "scan",
        noisy=noisy,
        denoised=denoised,
        sigma=result.noise_map,
        mask=result.mask,
        affine=scan.affine,
        bvals=scan.bvals,
        statistics=result.statistics,
        command=command,
        settings={
            "method": result.method.name,
            "preset": options.preset,
            "seed": options.seed,
            "b=0 and lone volumes": _passed(result),
            "noise floor": "removed" if result.floor_removed else "kept",
            **settings_of(result.method),
            **({"used": name} if (name := used(result.kept)) else {}),
        },
        run={
            "noise": describe_noise(result.noise, result.mask).removeprefix("noise: "),
            **_kept_structures(result),
            **{f"seconds, {stage}": round(s, 1) for stage, s in result.seconds.items()},
            "peak memory": f"{peak_memory_bytes() / 2**30:.2f} GiB",
            "device": result.device,
        },
        versions=versions(),
        bvecs=scan.bvecs,
        covariance=result.noise.covariance,
        losses=[float(value) for value in result.losses],
        distances=distance_curve(result.kept),
        steps={name: result.kept[name] for name in STEPS if name in result.kept},
        spread=result.spread,
        uncertainty=result.uncertainty,
        probe=_probe_of(result, scan, options),
        maps={name: result.kept[f"{name} map"] for name in getattr(result.method, "maps", ())},
        findings=[finding.to_dict() for finding in result.findings],
        citations=citations(result),
        methods_paragraph=methods_paragraph(result, options),
        limits=(f"{result.method.name} needs {result.method.needs}.",),
        eigenvalues=result.noise.eigenvalues,
        noise_edge=float(result.noise.eigenvalues[n_signal])
        if 0 < n_signal < len(result.noise.eigenvalues)
        else None,
        floor_corrected=result.floor_removed,
    )


def pictured(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Scan and result as real images."""
    if np.iscomplexobj(result.denoised):
        return along(result.denoised, result.noisy)
    return result.noisy, result.denoised


def _probe_of(result: Result, scan: Series, options: Options) -> str:
    """What the method would erase, in a sentence, or the command that says it."""
    if result.probe is not None:
        return result.probe.sentence(result.denoised.shape[3])
    name = shlex.quote(scan.path.name) if scan.path else "SCAN"
    given = f"--method {result.method.name} --preset {options.preset}"
    return f"Not measured here: quell probe {name} {given} --out FOLDER says it."


def _passed(result: Result) -> str:
    volumes = result.kept.get("passed through")
    if volumes is None or not len(volumes):
        return "denoised"
    return "passed unchanged: " + ", ".join(str(v) for v in volumes)


def _kept_structures(result: Result) -> dict[str, str]:
    """In words, what only one volume shows and the result has kept; the strongest first."""
    rows = result.kept.get("kept clusters", ())
    if not len(rows):
        return {}
    said = [
        f"volume {v:.0f} at voxel {x:.0f}, {y:.0f}, {z:.0f} ({n:.0f} voxels)"
        for v, x, y, z, n, *_ in rows[:MOST_KEPT]
    ]
    more = f" and {len(rows) - MOST_KEPT} more" if len(rows) > MOST_KEPT else ""
    return {"kept though one volume alone shows it": "; ".join(said) + more}
