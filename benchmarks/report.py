"""What the report costs: seconds, memory and bytes, for a scan of 128 x 128 x 78 and 65 volumes.

    python benchmarks/report.py

Here    Phantom with correlated Rician noise, denoised by Patch2Self, whose page then has all but
        the parts of a trained method. The spread of a sampling method is added, made up.
        *Extra* memory is the largest resident size while the page is made, less that before.
Needs   Linux, which can say how large a process was since it was last asked.
"""

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from quality import processor
from script import main_of

import quell
from quell.options import Options
from quell.reported import report_facts
from quell.run import Silent
from quell.series import Series
from quell.simulate import PhantomSettings, corrupt, phantom

LARGE = PhantomSettings((128, 128, 78), 1.7, 5, ((1000.0, 30), (2000.0, 30)), seed=11)
SIGMA = 40.0  # data units; SNR 25 in white matter at b=0
CORRELATION = (0.2, 0.3, 0.0)
GOAL = {"seconds": 15.0, "extra_mib": 1024.0, "bytes": 8e6}


def run_all(threads: int, path: Path) -> None:
    scan = noisy_scan()
    options = Options(method="patch2self", threads=threads)
    result = quell.denoise(scan, options, voice=Silent())
    result.kept["spread"] = 0.2 * result.noise_map[..., None] * np.ones(65, np.float32)
    result.kept["matched states"] = np.random.default_rng(0).integers(20, 60, 65 * 78)
    found: dict[str, Any] = {"processor": processor(), "threads": threads}
    with TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        facts = report_facts(result, scan, options, "quell denoise scan.nii.gz out.nii.gz")
        before = forget_peak()
        start = time.perf_counter()
        from quell.report import write_report  # its imports are part of the price

        write_report(page, facts)
        found["seconds"] = round(time.perf_counter() - start, 1)
        found["extra_mib"] = round((peak() - before) / 2**20)
        found["bytes"] = page.stat().st_size
    found["load"] = round(os.getloadavg()[0], 1)
    found["shape"] = list(scan.data.shape)
    path.write_text(json.dumps(found, indent=2) + "\n")


def noisy_scan() -> Series:
    clean = phantom(LARGE).clean
    rng = np.random.default_rng(0)
    data = corrupt(clean.data, SIGMA, rng, "rician", correlation=CORRELATION)
    return Series(data, clean.affine, clean.header, clean.bvals, clean.bvecs)


def forget_peak() -> int:
    """Start a new peak of the resident size; returns the size now, bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Largest resident size since it was forgotten, bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def table(found: dict[str, Any]) -> str:
    shape = " x ".join(map(str, found["shape"]))
    lines = [
        "# What the report costs", "",
        f"A phantom of {shape}, {found['threads']} thread(s), {found['processor']}; "
        f"load {found['load']}, this process counted.", "",
        "| | measured | at most |",
        "| --- | --: | --: |",
        f"| seconds | {found['seconds']:.1f} | {GOAL['seconds']:.0f} |",
        f"| extra memory, MiB | {found['extra_mib']:.0f} | {GOAL['extra_mib']:.0f} |",
        f"| file, MB | {found['bytes'] / 1e6:.2f} | {GOAL['bytes'] / 1e6:.0f} |",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main_of(__doc__, "report", run_all, table)
