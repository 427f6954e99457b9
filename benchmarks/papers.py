"""The tables of the papers, made anew on scans with a known truth: one page, docs/papers.md.

    python benchmarks/papers.py                 all of it, some hours on one core
    python benchmarks/papers.py --only maps     Di-Fusion's table 1, DDM2's SNR and CNR and its n
    python benchmarks/papers.py --only levels   Di-Fusion's table 2
    python benchmarks/papers.py --only invivo   predictions, SNR and tractography, a real scan
    python benchmarks/papers.py --table         only the page, from the JSON that is there

The runs are those of `quell compare`, preset "fast", and the scores those of `quell evaluate`.
Results stay in the folder --work, so a run that was stopped goes on. The real scan is
nlsam-invivo-1p2mm in QUELL_DATA (St-Jean, Coupe, Descoteaux 2016). C2S's table is that of m4raw.py.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from comparison import ALL, DATA, DWIDENOISE, write_scan
from papers_table import page
from quality import processor
from script import RESULTS

from quell.compare import Comparison, Evaluation, Row, compare_file, evaluate_files
from quell.options import Options
from quell.record import as_json, versions
from quell.series import load, write_nifti
from quell.simulate import Acquisition, phantom
from quell.studies import Amount, Study, simulate
from quell.voice import Lines

DOCS = Path(__file__).parents[1] / "docs"
PRIORS = (1, 2, 5, 10)  # n of DDM2's ablation
N_REPETITIONS, N_COILS, PLANES = 32, 4, slice(6, 14)
NLSAM = Path("nlsam-invivo-1p2mm")
INVIVO = "mppca,patch2self,joint"
PARTS = ("maps", "levels", "invivo")


def main() -> None:
    """Run what is missing, then write results/papers.json and docs/papers.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--table", action="store_true", help="only make the page again")
    add("--threads", type=int, default=1, help="of each method; several parts may run at once")
    add("--minutes", type=float, default=15.0, help="per method")
    add("--only", nargs="+", default=PARTS, choices=PARTS)
    add("--levels", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="of Di-Fusion's table 2")
    add("--methods", default="all", help="of the levels")
    add("--work", type=Path, default=Path(tempfile.gettempdir()) / "quell-comparison")
    options = parser.parse_args()
    path = RESULTS / "papers.json"
    if not options.table:
        options.work.mkdir(exist_ok=True)
        if "maps" in options.only:
            keep(path, "maps", of_maps(options))
        for level in options.levels if "levels" in options.only else ():
            keep(path, f"level {level}", of_level(level, options))
        if "invivo" in options.only:
            keep(path, "invivo", of_invivo(options))
    m4raw = json.loads((RESULTS / "m4raw.json").read_text())
    (DOCS / "papers.md").write_text(page(json.loads(path.read_text()), m4raw))


def keep(path: Path, name: str, found: dict[str, Any]) -> None:
    """One part of the JSON; read late, because several of these may run at once."""
    results = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    results["parts"][name] = found
    results |= {"processor": processor(), "date": time.strftime("%Y-%m-%d")}
    path.write_text(as_json(results | {"versions": versions()}))


# ---- the parts -----------------------------------------------------------------------------------


def of_maps(options: argparse.Namespace) -> dict[str, Any]:
    """Every method on phantom B with correlated Rician noise, and DDM2 with n priors."""
    folder = options.work / "rician"
    folder.mkdir(exist_ok=True)
    truth = write_scan("rician", folder)
    ddm2 = "-m quell denoise {in} {out} --method ddm2 --preset fast --no-report --force"
    externals = [
        f"ddm2_n{n}={sys.executable} {ddm2} --set priors={n} --bval {{bval}} --bvec {{bvec}} "
        "--threads {threads}"
        for n in PRIORS
    ]
    asked = Comparison(
        scan=folder / "noisy.nii.gz",
        out=folder / "out",
        methods=",".join(ALL),
        externals=(*([DWIDENOISE] if shutil.which("dwidenoise") else []), *externals),
        truth=truth,
        mask=folder / "mask.nii.gz",
        minutes=options.minutes,
    )
    return measured(asked, Options(threads=options.threads), "")


def of_level(level: int, options: argparse.Namespace) -> dict[str, Any]:
    """Repetitions of one image by four coils, as noisy as one of Di-Fusion's simulations."""
    folder = options.work / f"level{level}"
    folder.mkdir(exist_ok=True)
    acquired = Acquisition(n_coils=N_COILS)
    if not (folder / "truth.nii.gz").exists():
        anatomy = phantom("B").clean
        one = replace(
            anatomy, data=anatomy.data[:, :, PLANES, :1], mask=None, bvals=None, bvecs=None
        )
        write_nifti(folder / "clean.nii.gz", one.data, one)
        mask = anatomy.mask[:, :, PLANES].astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, one.affine), folder / "brain.nii.gz")
        study = Study(
            Amount(level=level), phantom="", scan=folder / "clean.nii.gz",
            mask=folder / "brain.nii.gz", acquisition=acquired, repetitions=N_REPETITIONS,
            seed=level,
        )  # fmt: skip
        made = simulate(study)
        write_nifti(folder / "noisy.nii.gz", made.noisy, one)
        mean = made.noisy.mean(axis=-1, keepdims=True) + np.zeros_like(made.noisy)
        write_nifti(folder / "mean.nii.gz", mean, one)
        write_nifti(folder / "truth.nii.gz", made.truth, one)
    asked = Comparison(
        scan=folder / "noisy.nii.gz",
        out=folder / "out",
        methods=options.methods,
        truth=folder / "truth.nii.gz",
        mask=folder / "brain.nii.gz",
        minutes=options.minutes,
    )
    noise = Options(
        threads=options.threads, noise_law="nc-chi", coils=N_COILS, fourth_axis="repetitions"
    )
    return measured(asked, noise, "", {"mean of all": folder / "mean.nii.gz"})


def of_invivo(options: argparse.Namespace) -> dict[str, Any]:
    """A real scan without truth: predictions, SNR, streamlines."""
    folder, source = options.work / "invivo", DATA / NLSAM
    folder.mkdir(exist_ok=True)
    scan = load(source / "dwi.nii.gz", mask=source / "mask.nii.gz")
    if not (folder / "regions.nii.gz").exists():
        regions = regions_of(scan.data.shape[:3])
        nib.save(nib.Nifti1Image(regions, scan.affine), folder / "regions.nii.gz")
    asked = Comparison(
        scan=source / "dwi.nii.gz",
        out=folder / "out",
        methods=INVIVO,
        mask=source / "mask.nii.gz",
        minutes=options.minutes,
    )
    return measured(
        asked, Options(threads=options.threads), "dti", regions=folder / "regions.nii.gz"
    )


def regions_of(shape: tuple[int, ...]) -> np.ndarray:
    """Labels of that scan: 1 in the corticospinal tract of one side, 2 in what it rises to."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[110:120, 88:98, 39:42] = 1
    labels[103:130, 72:98, 66:69] = 2
    return labels


def measured(
    asked: Comparison,
    options: Options,
    models: str,
    beside: dict[str, Path] | None = None,
    regions: Path | None = None,
) -> dict[str, Any]:
    """Run the methods, then evaluate what they wrote.

    beside  results that are there already
    """
    ran = {row.name: row.outcome for row in compare_file(asked, options, "", Lines())}
    results = {
        name: asked.out / name.replace(":", "-") / "denoised.nii.gz"
        for name, outcome in ran.items()
        if name != "noisy" and outcome.status == "done"
    }
    results |= beside or {}
    what = Evaluation(
        [*results.values()], models=tuple(filter(None, [models])), as_published=True,
        regions=regions, tables=False,
    )  # fmt: skip
    start = time.perf_counter()
    rows = evaluate_files(what, replace(asked, out=Path()), options, "", Lines())
    names = {str(path): name for name, path in results.items()}
    return {
        "minutes_to_evaluate": (time.perf_counter() - start) / 60,
        "rows": {names.get(row.about, row.name): entry_of(row, ran, names) for row in rows},
    }


def entry_of(row: Row, ran: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """What the JSON keeps of a result."""
    seconds = ran[name].seconds if (name := names.get(row.about, "")) in ran else float("nan")
    return {
        "scores": row.outcome.scores,
        "seconds": None if seconds != seconds else seconds,
        "remarks": row.outcome.remarks,
    }


if __name__ == "__main__":
    main()
