"""The quality of every method, on the same scans in the same run: one JSON, one table.

    python benchmarks/quality.py                     all of it, less than an hour on two cores
    python benchmarks/quality.py --only trio --methods noisy joint
    python benchmarks/quality.py --table             only make the Markdown from the JSON again
    python benchmarks/quality.py --readme            ... and fill in the figures of README.md

Every method runs as a command of its own on the same NIfTI file with the same number of threads.
Each result is saved at once, so a run that was stopped goes on where it was.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from quality_scans import SEED, PhantomScan, Scores, TrioScan, take_floor_off
from quality_table import fill_readme, write_table

from quell import measured
from quell.record import as_json, versions
from quell.series import Series, load, load_map, replacing, write_nifti

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("QUELL_DATA", ROOT.parent / "shared" / "data"))

Scan = PhantomScan | TrioScan
PHANTOMS = [
    PhantomScan(law, is_correlated, snr)
    for law in ("gaussian", "rician")
    for is_correlated in (False, True)
    for snr in (15.0, 7.5)
]
EXTRA = [PhantomScan("rician", True, 15.0, has_g_factor=True)]  # run when named by --only
ALL: list[Scan] = [TrioScan(DATA), *PHANTOMS, *EXTRA]
SCANS = {scan.name: scan for scan in ALL}
DEFAULT_SCANS = [name for name in SCANS if name not in {scan.name for scan in EXTRA}]


# ---- the methods: a command each ---------------------------------------------------------------


def dwidenoise(noisy: Path, out: Path, options: argparse.Namespace) -> list[str]:
    return ["dwidenoise", str(noisy), str(out), "-quiet", "-nthreads", str(options.threads)]


def quell(*arguments: str) -> Callable[[Path, Path, argparse.Namespace], list[str]]:
    """A command of quell; the method's own arguments."""

    def command(noisy: Path, out: Path, options: argparse.Namespace) -> list[str]:
        words = [sys.executable, "-m", "quell", "denoise", str(noisy), str(out), *arguments]
        words += ["--noise-out", str(out.with_name("noise.nii")), "--no-report", "--quiet"]
        words += ["--threads", str(options.threads), "--device", options.device]
        if "joint" in arguments:
            words += ["--preset", options.preset]
            words += [word for setting in options.set for word in ("--set", setting)]
        return words

    return command


METHODS: dict[str, Callable[[Path, Path, argparse.Namespace], list[str]] | None] = {
    "noisy": None,
    "dwidenoise": dwidenoise,
    "patch2self": quell("--method", "patch2self"),
    "joint": quell("--method", "joint"),
    "joint-white": quell("--method", "joint", "--set", "noise=white"),
    "ddm2": quell("--method", "ddm2", "--preset", "fast"),
    "ddm2-chain": quell("--method", "ddm2", "--preset", "fast", "--set", "output=chain"),
    "ddm2-from-slice": quell("--method", "ddm2", "--preset", "fast", "--set", "start=slice"),
    "difusion": quell("--method", "difusion", "--preset", "fast"),
    "c2s": quell("--method", "c2s", "--preset", "fast"),
    "noise2noise": quell("--method", "noise2noise", "--preset", "fast"),
}
# on the Trio scan only; ablations.py has more
ON_TRIO = {"ddm2", "ddm2-chain", "ddm2-from-slice", "difusion", "noise2noise", "c2s"}


def methods_for(scan: Scan, options: argparse.Namespace) -> list[str]:
    """The chosen methods that make sense on a scan."""
    is_correlated = isinstance(scan, TrioScan) or (scan.is_correlated and options.white)
    left_out = set() if is_correlated else {"joint-white"}
    if not isinstance(scan, TrioScan):
        left_out |= ON_TRIO
    if shutil.which("dwidenoise") is None:
        left_out.add("dwidenoise")
    return [name for name in options.methods if name not in left_out]


# ---- one result --------------------------------------------------------------------------------


def measure(method: str, scan: Scan, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one method on one scan and score what it wrote.

    folder  holds noisy.nii; everything else that is written there is removed again
    """
    command = METHODS[method]
    if command is None:
        return {"scores": plain(scan.scores(scan.noisy.data, None)), "cost": {}}
    with TemporaryDirectory(dir=folder) as own:
        out = Path(own) / "denoised.nii"
        cost = run(command(folder / "noisy.nii", out, options), Path(own), options.threads)
        written, without_floor, facts = read_result(out, scan.noisy)
    seconds = facts.get("Seconds", {})
    cost |= {name: seconds[name] for name in ("training", "inference") if name in seconds}
    row = {"scores": plain(scan.scores(written, without_floor)), "cost": plain(cost)}
    kept = ("Preset", "Settings", "Noise", "Device")
    return row | ({"facts": {name: facts[name] for name in kept}} if facts else {})


def run(command: list[str], folder: Path, threads: int) -> Scores:
    """What a command took; SystemExit with its last words if it fails."""
    took = folder / "took.json"
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    answer = subprocess.run(
        [sys.executable, measured.__file__, str(took), *command],
        env=os.environ | dict.fromkeys(names, str(threads)),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{answer.stderr.strip()}")
    cost: Scores = json.loads(took.read_text())
    return cost


def read_result(out: Path, noisy: Series) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """The result as written, its floor taken off by quell's noise model, quell's own record."""
    image = nib.Nifti1Image.from_filename(out)
    if image.shape != noisy.data.shape or not np.allclose(image.affine, noisy.affine, atol=1e-3):
        raise SystemExit(f"{out.name} came back on another grid; its scores would be wrong")
    written = np.asarray(image.dataobj, dtype=np.float32)
    record = out.with_suffix(".json")
    facts = json.loads(record.read_text())["Denoising"] if record.exists() else {}
    if facts.get("NoiseFloorRemoved"):
        raise SystemExit(
            "quell took the noise floor off; these scores are for results that keep it"
        )
    if not facts or facts["Noise"]["Law"] == "gaussian":
        return written, None, facts
    sigma, noise = load_map(out.with_name("noise.nii"), noisy), facts["Noise"]
    return written, take_floor_off(written, sigma, noise["Law"], noise["Coils"]), facts


def plain(numbers: Scores) -> dict[str, float | None]:
    """Five digits are enough, and JSON has no NaN."""
    return {k: float(f"{x:.5g}") if np.isfinite(x) else None for k, x in numbers.items()}


def write_scan(scan: Scan, folder: Path) -> None:
    """noisy.nii with its gradients, what every method is given."""
    noisy = scan.noisy
    assert noisy.bvals is not None
    assert noisy.bvecs is not None
    write_nifti(folder / "noisy.nii", noisy.data, noisy)
    np.savetxt(folder / "noisy.bval", noisy.bvals[None], fmt="%g")
    np.savetxt(folder / "noisy.bvec", noisy.bvecs.T, fmt="%.8f")
    load(folder / "noisy.nii")  # refuses here, in words, what no method could read


# ---- the whole run -----------------------------------------------------------------------------


def about_the_run(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on; never the name of a machine or a path."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "cores": cores,
        "threads": options.threads,
        "system": platform.system(),
        "device": options.device,
        "preset": options.preset,
        "set": options.set,
        "seed_of_the_phantom_noise": SEED,
        "versions": versions() | {"dwidenoise": version_of_dwidenoise()},
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def version_of_dwidenoise() -> str | None:
    if shutil.which("dwidenoise") is None:
        return None
    text = subprocess.run(["dwidenoise", "--version"], capture_output=True, text=True).stdout
    return text.splitlines()[0].strip("= ").removeprefix("dwidenoise ")


def open_results(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The results so far, or a new document; SystemExit where they were made in another way."""
    here = about_the_run(options)
    if not path.exists():
        return {"run": here, "date": "", "scans": {}}
    results: dict[str, Any] = json.loads(path.read_text())
    # another processor changes seconds only, and rows say so
    same = here.keys() - {"processor", "cores", "system"}
    if options.newer:
        here["versions"] = here["versions"] | {"quell": results["run"]["versions"]["quell"]}
    if other := [name for name in sorted(same) if results["run"].get(name) != here[name]]:
        raise SystemExit(
            f"{path.name} was made with another {', '.join(other)}: its figures would not compare "
            "with new ones; give another --out, or remove it to start anew"
        )
    return results


def measure_all(results: dict[str, Any], path: Path, options: argparse.Namespace) -> None:
    """Every chosen method on every chosen scan, each result saved at once."""
    for name in options.only:
        scan = SCANS[name]
        if isinstance(scan, TrioScan) and not scan.is_there:
            print(f"{name}: the scan is not there; set QUELL_DATA to the folder of data sets")
            continue
        entry = results["scans"].get(name, {"words": scan.words, "methods": {}})
        done = set() if options.again else set(entry["methods"])
        missing = [method for method in methods_for(scan, options) if method not in done]
        if not missing:
            continue
        entry["facts"] = plain(scan.facts)
        with TemporaryDirectory() as folder:
            write_scan(scan, Path(folder))
            for method in missing:
                start = time.perf_counter()
                row = measure(method, scan, Path(folder), options)
                if processor() != results["run"]["processor"]:
                    row["processor"] = processor()
                if versions()["quell"] != results["run"]["versions"]["quell"]:
                    row["quell"] = versions()["quell"]
                entry["methods"][method] = row
                print(f"{name}: {method}, {time.perf_counter() - start:.0f} s", flush=True)
                results["scans"][name] = entry
                results["date"] = time.strftime("%Y-%m-%d")
                save(results, path)
        scan.__dict__.pop("noisy", None)  # cached; a series a scan would add up


def save(results: dict[str, Any], path: Path) -> None:
    results["scans"] = {name: results["scans"][name] for name in SCANS if name in results["scans"]}
    for entry in results["scans"].values():
        entry["methods"] = {m: entry["methods"][m] for m in METHODS if m in entry["methods"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(as_json(results).encode())


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=SCANS, default=DEFAULT_SCANS, metavar="SCAN",
        help=f"of: {', '.join(SCANS)}; default: all but {EXTRA[0].name}")  # fmt: skip
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD",
        help=f"of: {', '.join(METHODS)}; default: all")  # fmt: skip
    add("--white", action="store_true", help="joint-white on the phantom's correlated noise, too")
    add("--threads", type=int, default=2, help="of every method; default: 2")
    add("--device", default="cpu", help="of quell; default: cpu, as for the others")
    add("--preset", default="default", help="of joint")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of joint")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "quality",
        help="where to write, without .json and .md")  # fmt: skip
    add("--again", action="store_true", help="measure anew what is in the results already")
    add(
        "--newer",
        action="store_true",
        help="let rows of this version of quell stand beside those of an older one; they say so",
    )
    add("--table", action="store_true", help="measure nothing, only make the Markdown again")
    add("--readme", action="store_true", help="measure nothing, make the Markdown and README.md")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    path = options.out.with_name(options.out.name + ".json")
    if options.table or options.readme:
        if not path.exists():
            raise SystemExit(f"{path.name} is not there yet; run without --table and --readme")
        results = json.loads(path.read_text())
    else:
        if shutil.which("dwidenoise") is None:
            print("dwidenoise (MRtrix3) is not on PATH: it is left out")
        results = open_results(path, options)
        measure_all(results, path, options)
        if not results["scans"]:
            raise SystemExit("nothing was measured")
    write_table(results, options.out.with_name(options.out.name + ".md"))
    if options.readme:
        fill_readme(results, ROOT / "README.md")


if __name__ == "__main__":
    main()
