"""The prior: what joint learns from other scans, how good it is as it is, and as a start.

    python benchmarks/prior.py --train --device cuda       the prior that comes with quell
    python benchmarks/prior.py --train siemens-decubitus   ... without this scanner's scans
    python benchmarks/prior.py                             judge every prior that is there
    python benchmarks/prior.py --table                     only make the Markdown from the JSON

Left out    The Trio scan and phantom B are in no prior. Of the other families of scans, those are
            judged for which a prior that has not seen them lies in `benchmarks/priors`.
Judges      Trio: its repeat. Phantom B: its truth. The others have neither: noise like their own is
            added, and what is left of the scan judges (`quell.evaluate.Recorruption`).
Ways        Each scan is denoised by the prior as it is (`--preset instant`), by the prior and a
            training on the scan (the default), and by as long a training from scratch.
Needs       QUELL_DATA; dwidenoise for the row of the peer; a GPU for the training, or hours.
"""

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from prior_scans import FAMILIES, N_PHANTOMS, REAL, SEED, training_scans
from quality import DATA, processor
from quality_scans import PhantomScan, TrioScan
from safetensors.torch import save_file
from script import RESULTS

import quell
from quell import prior
from quell.evaluate import Recorruption
from quell.methods.joint import SHAPE, Joint
from quell.noise import learn
from quell.record import as_json
from quell.run import Run, choose_device, set_threads
from quell.series import Series, mask_of, write_nifti
from quell.voice import speaking

SHIPPED = Path(quell.__file__).parent / "priors"
JUDGING = Path(__file__).parent / "priors"  # each without a family of scans
STEPS, PATCHES, COMPONENTS, PATCH = 3347, 16, 8, 48  # eight minutes of a GPU that six shared
A = 0.5  # noise added for the recorruption referee, in units of the scan's
WAYS: dict[str, dict[str, Any]] = {
    "prior as it is": {"preset": "instant"},
    "prior, then the scan": {},
    "the scan, from scratch": {"start": "scratch"},
}


# ---- training ----------------------------------------------------------------------------------


def train(left_out: str | None, folder: Path, work: Path, device: str) -> None:
    """Train a prior and write it with its card.

    left_out  a family of scans it is not to see
    folder    where it is written
    work      where an interrupted training goes on
    """
    joint = Joint(start="scratch", steps=STEPS, patches=PATCHES, components=COMPONENTS, patch=PATCH)
    scans, noises = zip(*training_scans(left_out), strict=True)
    with speaking(quiet=False) as voice:
        run = Run(SEED, choose_device(device), work / f"training-{left_out}", voice)
        start = time.perf_counter()
        state = joint.fit(list(scans), list(noises), run)
    weights = {n.removeprefix("network."): w.half().contiguous() for n, w in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "joint.safetensors")
    (folder / "joint.safetensors").chmod(0o644)  # it is made readable to its owner only
    seen = [scan for scan in REAL if scan.family != left_out]
    card = {
        "about": "What quell's joint method learned from other scans. Not a medical device.",
        "shape": {name: getattr(joint, name) for name in SHAPE},
        "learned_from": [{"scan": scan.path, "by": scan.source} for scan in seen],
        "phantoms": N_PHANTOMS,
        "never_seen": ["siemens-trio-dti20x2-dev", "phantom B"] + ([left_out] if left_out else []),
        "script": "benchmarks/prior.py",
        "steps": STEPS,
        "images_a_step": 2 * PATCHES * COMPONENTS,  # with z and with -z
        "patch": joint.patch,
        "tau": [joint.tau_min, joint.tau_max],
        "device": device,
        "seed": SEED,
        "seconds": round(time.perf_counter() - start),
        "weights": sum(w.numel() for w in weights.values()),
    }
    (folder / "joint.json").write_text(json.dumps(card, indent=2) + "\n")


# ---- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A scan, what is to be denoised of it, and the gain of a result in dB."""

    name: str
    words: str
    left_out: str | None  # the prior that has not seen it; None: the one that comes with quell

    def given(self) -> Series: ...

    def gain(self, denoised: np.ndarray) -> float: ...


class Trio(Judged):
    def given(self) -> Series:
        return TrioScan(DATA).noisy

    def gain(self, denoised: np.ndarray) -> float:
        return TrioScan(DATA).scores(denoised, None)["gain"]


@dataclass(frozen=True)
class PhantomB(Judged):
    scan: PhantomScan

    def given(self) -> Series:
        return self.scan.noisy

    def gain(self, denoised: np.ndarray) -> float:
        """Of the diffusion-weighted volumes, over the noisy ones."""
        scores = (self.scan.scores(data, None) for data in (denoised, self.scan.noisy.data))
        after, before = (score["psnr_dwi"] for score in scores)
        return after - before


@dataclass(frozen=True)
class LeftOut(Judged):
    """The first scan of a family, with noise added."""

    def recorruption(self) -> tuple[Series, Recorruption]:
        scan = next(real for real in REAL if real.family == self.left_out).load()
        scan = replace(scan, mask=mask_of(scan))
        rng = np.random.default_rng(SEED)
        return scan, Recorruption.of(scan.data, scan.where, learn(scan, scan.where), rng, A)

    def given(self) -> Series:
        scan, made = self.recorruption()
        return replace(scan, data=made.given, mask=None)

    def gain(self, denoised: np.ndarray) -> float:
        scan, made = self.recorruption()
        return made.score(denoised, np.flatnonzero(~scan.is_b0)).gain_db


def judged_scans() -> Iterator[Judged]:
    yield Trio("trio", "Siemens Trio, 21 volumes", None)
    for law, is_correlated, snr in (
        ("gaussian", False, 15.0), ("rician", True, 15.0), ("rician", True, 7.5),
    ):  # fmt: skip
        scan = PhantomScan(law, is_correlated, snr)
        yield PhantomB(f"phantom-{scan.name}", f"Phantom B, {law}, {scan.words}", None, scan)
    for family in FAMILIES:
        yield LeftOut(family, family, family)


def judge_all(path: Path, threads: int) -> None:
    """Add every figure that the JSON does not hold yet."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    card = json.loads((SHIPPED / "joint.json").read_text())
    facts = {name: card[name] for name in ("steps", "images_a_step", "patch")}
    found |= {"processor": processor(), "threads": threads, **facts}
    todo = [(name, judged) for name in [*WAYS, "dwidenoise"] for judged in judged_scans()]
    for name, judged in todo:
        folder = SHIPPED if judged.left_out is None else JUDGING / judged.left_out
        if not (folder / "joint.safetensors").exists():
            print(f"{judged.name}: no prior in {folder}; train it first")
            continue
        rows = found["rows"].setdefault(judged.name, {"words": judged.words, "ways": {}})["ways"]
        if name in rows or (name == "dwidenoise" and not shutil.which(name)):
            continue
        prior.PRIORS = folder
        prior.card_of.cache_clear()
        scan = judged.given()
        start = time.perf_counter()
        out = dwidenoised(scan, threads) if name == "dwidenoise" else denoised(scan, name, threads)
        rows[name] = {"seconds": time.perf_counter() - start, "gain": judged.gain(out)}
        print(judged.name, name, rows[name], flush=True)
        path.write_text(as_json(found))


def denoised(scan: Series, way: str, threads: int) -> np.ndarray:
    return quell.denoise(scan, threads=threads, **WAYS[way]).denoised


def dwidenoised(scan: Series, threads: int) -> np.ndarray:
    with TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("in.nii", "out.nii")]
        write_nifti(Path(files[0]), scan.data, scan)
        subprocess.run(["dwidenoise", *files, "-quiet", "-nthreads", str(threads)], check=True)
        return quell.load(files[1]).data


def table(found: dict[str, Any]) -> str:
    """The Markdown of what the JSON holds."""
    names = [*WAYS, "dwidenoise"]
    lines = [
        "# The prior that comes with quell",
        "",
        "Gain in dB over the noisy scan, diffusion-weighted volumes, in the mask. "
        f"{found['steps']} training steps of {found['images_a_step']} images of "
        f"{found['patch']} x {found['patch']} for the prior. "
        f"{found['processor']}, "
        f"{found['threads']} threads. Every scan "
        "was judged with a prior that had not seen it, nor any other scan of its data set. Seconds "
        "are of the denoising alone, from memory to memory, other work on the machine included.",
        "",
        "| scan | " + " | ".join(f"{name}, dB | s" for name in names) + " |",
        "| --- |" + " --: |" * (2 * len(names)),
    ]
    for row in found["rows"].values():
        ways = (row["ways"].get(name) for name in names)
        cells = ("– | –" if w is None else f"{w['gain']:.2f} | {w['seconds']:.0f}" for w in ways)
        lines.append(f"| {row['words']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", choices=["all", *FAMILIES], nargs="?", const="all")
    parser.add_argument(
        "--work", type=Path, default=Path("build/priors"), help="where a training is kept to go on"
    )
    parser.add_argument("--table", action="store_true", help="only make the Markdown again")
    parser.add_argument("--device", default="cpu", help="that trains")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    threads, path = set_threads(options.threads), RESULTS / "prior.json"
    if options.train == "all":
        train(None, SHIPPED, options.work, options.device)
    elif options.train:
        train(options.train, JUDGING / options.train, options.work, options.device)
    else:
        if not options.table:
            judge_all(path, threads)
        path.with_suffix(".md").write_text(table(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
