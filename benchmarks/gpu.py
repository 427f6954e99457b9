"""What a GPU gives: seconds and memory of whole scans, how much of the device is used, agreement.

    python benchmarks/gpu.py                          a CUDA device, made to fit 10 minutes
    python benchmarks/gpu.py --device cpu --small --out FOLDER    to try the script, minutes

Needs     torch, numpy, scipy and nibabel; quell is taken from this repository, not installed.
Device    Copy bandwidth and the rate of a large matrix product, by precision, both measured here.
Scans     A phantom with correlated Rician noise. Whole: noise model, training, inference, all
          transfers, residual statistics; reading and writing files is not in it. Every pass of a
          U-Net is noted while the scan runs and counted afterwards: multiply-adds by torch's flop
          counter, bytes as what each operation reads and writes. Fourier transforms, the
          optimiser and everything outside the networks are time that is counted as idle.
Papers    The presets "paper" take days: some steps and passes are timed and multiplied up.
Agreement The same weights and noise on a slab, on the device and by the CPU in float32.
Limits    Rows are begun while --minutes last; those that were not reached are named.
"""

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch
from script import RESULTS, save
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from quell.chains import Chain
from quell.methods import make
from quell.noise import NoiseModel, learn
from quell.pipeline import denoise
from quell.predictor import Predictor
from quell.run import Run, Voice, choose_device, set_threads
from quell.sampling import Sampler, even_path, run_walk
from quell.scaling import Scale
from quell.schedule import reverse_warmup
from quell.series import Series
from quell.simulate import PhantomSettings, corrupt, phantom
from quell.unet import UNet

WHOLE = PhantomSettings((96, 96, 60), 2.0, 6, ((1000.0, 64),), seed=28)
SMALL = PhantomSettings((32, 36, 10), 5.0, 2, ((1000.0, 12),), seed=3, supersample=4)
SNR, CORRELATION = 15.0, (0.17, 0.34, 0.0)  # of white matter at b=0; of neighbours
ROWS: tuple[tuple[str, str, dict[str, Any]], ...] = (  # method, preset, settings over it
    ("joint", "instant", {}),
    ("joint", "fast", {}),
    ("joint", "default", {}),
    ("ddm2", "fast", {}),
    ("difusion", "fast", {}),
)
LARGER = tuple((method, "fast", {"images_at_once": 64}) for method in ("ddm2", "difusion"))
STAGES = ("training", "inference")
TRY = {"joint": {"steps": 4}, "ddm2": {"stage1_steps": 4, "steps": 4}, "difusion": {"steps": 4}}
PAPERS = ("ddm2", "difusion")
MATCHED = 150  # the state that the chain of DDM2 starts from: what its authors call typical
SLAB = 4  # slices that the CPU denoises, too
TOLERANCES = {  # largest and rms difference from the CPU's float32, sigma
    "float32": (0.01, 0.001),  # the order of sums
    "tf32": (0.1, 0.01),  # 10 bits of the factors of a product
    "bfloat16": (0.2, 0.01),  # 8 bits; on a CPU a tiny scan differed by up to 0.03, rms 0.004
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


# ---- the device ----------------------------------------------------------------------------------


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device, least: float = 0.3) -> float:
    """Seconds of one call: the best mean of three rounds, each at least so long."""
    work()
    wait_for(device)
    n, best = 1, float("inf")
    for _ in range(3):
        while True:
            start = time.perf_counter()
            for _ in range(n):
                work()
            wait_for(device)
            took = time.perf_counter() - start
            if took >= least / 3:
                break
            n *= 2
        best = min(best, took / n)
    return best


def bandwidths(device: torch.device) -> dict[str, float]:
    """GB/s: of a copy on the device, read and written; to it and back, from pageable memory."""
    n = 2**28 if device.type == "cuda" else 2**24  # of float32
    here, there = torch.ones(n // 4), torch.ones(n, device=device)
    other, part = torch.empty_like(there), torch.ones(n // 4, device=device)
    found = {"copy": 8 * n / seconds_of(lambda: other.copy_(there), device) / 1e9}
    if device.type == "cuda":
        found["to device"] = n / seconds_of(lambda: part.copy_(here), device) / 1e9
        found["from device"] = n / seconds_of(lambda: here.copy_(part), device) / 1e9
    return found


def peaks(device: torch.device) -> dict[str, float]:
    """TFLOP/s of a square matrix product, two for a multiply-add, by precision."""
    n, found = 8192 if device.type == "cuda" else 768, {}
    for name in ("float32", "tf32", "bfloat16", "float16"):
        if name == "tf32" and device.type != "cuda":
            continue
        a, b = (torch.randn(n, n, device=device).to(PRECISIONS.get(name)) for _ in range(2))
        with precision(name):
            found[name] = 2 * n**3 / seconds_of(lambda a=a, b=b: a @ b, device) / 1e12
    return found


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Networks in float32 exactly, with products in tf32, or by autocast in bfloat16."""
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [flag.allow_tf32 for flag in flags]
    with patch("quell.trainer.has_fast_bfloat16", lambda device: name == "bfloat16"):
        try:
            for flag in flags:
                flag.allow_tf32 = name == "tf32"
            yield
        finally:
            for flag, was in zip(flags, before, strict=True):
                flag.allow_tf32 = was


# ---- what the networks do ------------------------------------------------------------------------


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, each for itself; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if not is_view:
            touched = [x for x in tree_leaves((args, result)) if isinstance(x, torch.Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in touched)
        return result


class Passes(Voice):
    """Every pass of a U-Net: in which stage of a run, what went in, whether it was to learn."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.now = device, ""
        self.clock: dict[str, list[tuple[int, float]]] = {}
        self.counts: dict[tuple[Any, ...], int] = {}
        self.nets: dict[tuple[Any, ...], UNet] = {}

    def stage(self, name: str) -> None:
        self.now = name

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        wait_for(self.device)
        self.clock.setdefault(task, []).append((done, time.perf_counter()))

    def seconds_a_step(self, task: str) -> float:
        """Between the first and the last time that a task was heard of."""
        (first, start), *_, (last, end) = self.clock[task]
        return (end - start) / (last - first)

    @contextmanager
    def noted(self) -> Iterator["Passes"]:
        plain = UNet.forward

        def forward(net: UNet, x: torch.Tensor, condition: torch.Tensor | None = None) -> Any:
            shapes = tuple(tuple(a.shape) for a in (x, condition) if a is not None)
            learns = torch.is_grad_enabled() and next(net.parameters()).requires_grad
            is_mixed = torch.is_autocast_enabled(x.device.type)
            size = sum(p.numel() for p in net.parameters())
            key = (self.now, size, shapes, learns, is_mixed)
            self.counts[key] = self.counts.get(key, 0) + 1
            self.nets[key] = net
            return plain(net, x, condition)

        with patch.object(UNet, "forward", forward):
            yield self

    def cost(self, learning_only: bool = False) -> dict[str, dict[str, float]]:
        """Of each stage: passes, flop, bytes, and flop by precision."""
        total: dict[str, dict[str, float]] = {}
        for key, n in self.counts.items():
            stage, _, shapes, learns, is_mixed = key
            if learning_only and not learns:
                continue
            flop, n_bytes = self._once(self.nets[key], shapes, learns, is_mixed)
            name = "bfloat16" if is_mixed else "tf32" if self.device.type == "cuda" else "float32"
            of = total.setdefault(stage, {})
            for what, value in (("passes", 1.0), ("flop", flop), ("bytes", n_bytes), (name, flop)):
                of[what] = of.get(what, 0.0) + n * value
        return total

    def _once(
        self, net: UNet, shapes: tuple[tuple[int, ...], ...], learns: bool, is_mixed: bool
    ) -> tuple[float, float]:
        """Flop and bytes of one pass, with the way back where it learns."""
        inputs = [torch.randn(shape, device=self.device) for shape in shapes]
        net.requires_grad_(learns)
        cast = torch.autocast(self.device.type, torch.bfloat16, enabled=is_mixed)
        with (
            FlopCounterMode(display=False) as flop,
            Traffic() as traffic,
            torch.set_grad_enabled(learns),
        ):
            with cast:
                out = net(*inputs)
            if learns:
                out.float().sum().backward()
        net.zero_grad(set_to_none=True)
        return float(flop.get_total_flops()), float(traffic.bytes)


def used(cost: dict[str, float], seconds: float, device: dict[str, Any]) -> dict[str, float]:
    """How much of the device was used while networks passed so often in so many seconds."""
    at_peak = sum(cost[n] / (1e12 * peak) for n, peak in device["peaks"].items() if n in cost)
    return {
        "seconds": seconds, "passes": cost["passes"],
        "tflops": cost["flop"] / seconds / 1e12, "of_peak": at_peak / seconds,
        "gb_per_s": cost["bytes"] / seconds / 1e9,
        "of_copy": cost["bytes"] / seconds / 1e9 / device["bandwidths"]["copy"],
    }  # fmt: skip


# ---- scans ---------------------------------------------------------------------------------------


class Bench:
    """The scan, its noise, the device, and what was found so far."""

    def __init__(self, options: argparse.Namespace, device: torch.device, threads: int) -> None:
        self.options, self.device, self.threads = options, device, threads
        self.start = time.monotonic()
        self.path = options.out / "gpu.json"
        made = phantom(SMALL if options.small else WHOLE)
        sigma = np.full(made.tissue.shape, made.white_matter_b0 / SNR, dtype=np.float32)
        rng = np.random.default_rng(0)
        y = corrupt(made.clean.data, sigma, rng, "rician", correlation=CORRELATION)
        self.scan = replace(made.clean, data=y)
        start = time.perf_counter()
        assert self.scan.mask is not None
        self.noise = learn(self.scan, self.scan.mask)
        self.states: dict[str, Any] = {}
        self.results: dict[str, Any] = {
            "run": self.about(), "scan": list(y.shape), "small": options.small,
            "noise_model_seconds": time.perf_counter() - start,
            "device": {"bandwidths": bandwidths(device), "peaks": peaks(device)},
            "scans": [], "papers": [], "agreement": [], "left_out": [], "failed": {},
        }  # fmt: skip
        self.keep("the device")

    def about(self) -> dict[str, Any]:
        """Where this ran."""
        is_cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if is_cuda else platform.machine(),
            "type": self.device.type, "threads": self.threads, "cores": os.cpu_count(),
            "capability": list(torch.cuda.get_device_capability(self.device)) if is_cuda else None,
            "versions": {
                "python": platform.python_version(), "torch": torch.__version__,
                "numpy": np.__version__, "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version() if is_cuda else None,
            },
        }  # fmt: skip

    def keep(self, what: str) -> None:
        """Write what is known, so that a run that is cut off leaves it."""
        print(f"{time.monotonic() - self.start:6.0f} s  {what}", flush=True)
        self.results["seconds"] = time.monotonic() - self.start
        save(self.results, self.path)
        self.path.with_suffix(".md").write_text(table(json.loads(self.path.read_text())))

    def whole(self, method: str, preset: str, settings: dict[str, Any]) -> None:
        """One row: a whole scan."""
        if self.options.small and preset != "instant":
            settings = TRY[method] | settings
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        with Passes(self.device).noted() as passes:
            result = denoise(
                self.scan, method=method, preset=preset, device=str(self.device),
                threads=self.threads, settings=settings, noise_model=self.noise, voice=passes,
            )  # fmt: skip
            wait_for(self.device)
        row: dict[str, Any] = {
            "method": method, "preset": preset, "settings": settings, "stages": result.seconds,
            "seconds": time.perf_counter() - start + self.results["noise_model_seconds"],
            "peak_bytes": None,
        }  # fmt: skip
        if self.device.type == "cuda":
            row["peak_bytes"] = torch.cuda.max_memory_allocated(self.device)
        row["used"] = {
            stage: used(cost, result.seconds[stage], self.results["device"])
            for stage, cost in passes.cost().items()
        }
        if preset == "fast":  # what was learned, to be used again
            self.states.setdefault(method, (settings, result.state))
        self.results["scans"].append(row)
        self.keep(f"{method} {preset}{words(settings)}: {row['seconds']:.1f} s")

    def slab(self) -> tuple[Series, NoiseModel]:
        """Slices from the middle and their noise, in units of sigma."""
        scan, noise = self.scan, self.noise
        assert scan.mask is not None
        first = (scan.data.shape[2] - SLAB) // 2
        part = slice(first, first + SLAB)
        scale = Scale.of(noise.sigma, noise.law, noise.n_coils)
        data = np.ascontiguousarray(scale.apply(scan.data)[:, :, part])
        own = replace(noise.in_units_of_sigma(), sigma=np.ones(data.shape[:3], np.float32))
        return replace(scan, data=data, mask=scan.mask[:, :, part]), own

    def paper(self, name: str) -> None:
        """Steps of a training and of chains as published, timed, and a whole scan made of them."""
        method: Any = make(name, "paper")
        n = 3 if self.options.small else 40
        scan, noise = self.slab()
        short = {"steps": n} | ({"stage1_steps": n} if name == "ddm2" else {})
        if self.options.small:
            short |= {"patches": 2}
        with Passes(self.device).noted() as passes:
            run = Run(device=self.device, voice=passes)
            with run.timed("training"):
                state = replace(method, **short).fit([scan], [noise], run)
        tasks = {"training stage I": "stage1_steps", "training stage III": "steps",
                 "training": "steps"}  # fmt: skip
        a_step = {task: passes.seconds_a_step(task) for task in tasks if task in passes.clock}
        training = sum(s * getattr(method, tasks[task]) for task, s in a_step.items())
        cost = passes.cost(learning_only=True)["training"]

        x = torch.randn(method.images_at_once, 1, *scan.data.shape[:2], device=self.device)
        if name == "ddm2":
            chain, path = method.chain_of(state, (-1.0, 1.0), run), even_path(MATCHED, MATCHED)
        else:
            F = Predictor.of(method, run).to(self.device)
            chain = Chain(F, Sampler(reverse_warmup(), method.rule), (-1.0, 1.0), method.flips)
            path = run_walk(method.latter, method.stride, method.walk_from)
        taken = path[: n // 2 + 1]
        rngs = [run.rng("chain", k) for k in range(len(x))]
        with torch.no_grad():
            a_chain = seconds_of(lambda: chain.run(x, [taken] * len(x), rngs), self.device)
        images = int(state["volumes"].shape[0]) * self.scan.data.shape[2]
        inference = a_chain * len(path) / len(taken) * images / len(x)
        self.results["papers"].append({
            "method": name, "steps_timed": n, "patches": short.get("patches", method.patches),
            "seconds_a_step": a_step, "training": training,
            "used": used(cost, n * sum(a_step.values()), self.results["device"]),
            "chain_timed": len(taken), "chain": len(path), "images": images,
            "inference": inference,
        })  # fmt: skip
        self.keep(f"{name} paper: {training + inference:,.0f} s, extrapolated")

    def agreement(self, name: str) -> None:
        """The same weights on the slab: the device against the CPU in float32."""
        scan, noise = self.slab()
        settings, state = self.states[name]
        method = make(name, "fast", **settings)
        with precision("float32"):
            expected = method.denoise(scan, noise, state, Run())
        for kind in TOLERANCES:
            if kind == "tf32" and self.device.type != "cuda":
                continue
            with precision(kind):
                found = method.denoise(scan, noise, state, Run(device=self.device))
            off = np.abs(found - expected)[scan.mask]
            largest, rms = float(off.max()), float(np.sqrt(np.mean(off.astype(np.float64) ** 2)))
            self.results["agreement"].append({
                "method": name, "precision": kind, "largest": largest, "rms": rms,
                "is_within": largest <= TOLERANCES[kind][0] and rms <= TOLERANCES[kind][1],
            })  # fmt: skip
        self.keep(f"agreement of {name}")

    def repeat(self) -> None:
        """Whether a second training with the same seed gives the same bytes."""
        settings, state = self.states["joint"]
        again = denoise(
            self.scan, method="joint", preset="fast", device=str(self.device),
            threads=self.threads, settings=settings, noise_model=self.noise,
        ).state  # fmt: skip
        self.results["repeats"] = all(torch.equal(state[k], again[k]) for k in state)
        self.keep(f"same bytes again: {self.results['repeats']}")

    def run_all(self) -> None:
        """Everything, the most wanted first."""
        jobs: list[tuple[str, Callable[[], None]]] = [
            (f"{m} {p}{words(s)}", partial(self.whole, m, p, s)) for m, p, s in ROWS
        ]
        jobs += [(f"agreement of {name}", partial(self.agreement, name)) for name in TRY]
        jobs += [("joint again", self.repeat)]
        jobs += [(f"{name} paper", partial(self.paper, name)) for name in PAPERS]
        jobs += [(f"{m} {p}{words(s)}", partial(self.whole, m, p, s)) for m, p, s in LARGER]
        for name, job in jobs:
            if time.monotonic() - self.start > 60 * self.options.minutes:
                self.results["left_out"].append(name)
                self.keep(f"{name}: no time left")
                continue
            try:
                job()
            except Exception as error:  # the others are still wanted: minutes on a GPU are few
                traceback.print_exc()
                self.results["failed"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
                self.keep(f"{name} failed")


# ---- the page ------------------------------------------------------------------------------------


def words(settings: dict[str, Any]) -> str:
    return "".join(f", {name}={value}" for name, value in settings.items())


def table(results: dict[str, Any]) -> str:
    """The Markdown."""
    about, device = results["run"], results["device"]
    said = [f"{name} {v}" for name, v in about["versions"].items() if v]
    x, y, z, V = results["scan"]
    lines = [
        "# A GPU", "",
        f"{about['device']} ({about['type']}), {about['threads']} CPU threads, {', '.join(said)}; "
        f"{results['date']}. Made by `benchmarks/gpu.py`, which says how everything was counted. "
        f"The scan: a phantom of {x} x {y} x {z} voxels and {V} volumes, correlated Rician noise.",
    ]  # fmt: skip
    if results["small"]:
        lines += ["", "**A trial of the script: tiny scan, few steps. Nothing here is a result.**"]
    lines += ["", "| measured | |", "| --- | --: |"]
    lines += [f"| {name}, GB/s | {v:,.1f} |" for name, v in device["bandwidths"].items()]
    lines += [f"| matrix product, {name}, TFLOP/s | {v:,.2f} |"
              for name, v in device["peaks"].items()]  # fmt: skip
    lines += [
        "", "## Whole scans", "",
        "Seconds from the scan in memory to the result in memory, the noise model "
        f"({results['noise_model_seconds']:.1f} s, on the CPU, the same for all) included. Shares "
        "are of the rates above while the stage ran; bytes that a cache answers count, too.", "",
        "| method | preset | s | training, s | inference, s | peak memory, GB "
        "| training: TFLOP/s | of peak | of copy | inference: TFLOP/s | of peak | of copy |",
        "| --- | --- |" + " --: |" * 10,
    ]  # fmt: skip
    for row in results["scans"]:
        peak = f"{row['peak_bytes'] / 1e9:.2f}" if row["peak_bytes"] else "–"
        stages = [f"{row['stages'].get(s, 0.0):.1f}" for s in STAGES]
        shares = [part for s in STAGES for part in shares_of(row["used"].get(s))]
        cells = [row["method"], row["preset"] + words(row["settings"]), f"{row['seconds']:.1f}"]
        lines.append("| " + " | ".join([*cells, *stages, peak, *shares]) + " |")
    if results["papers"]:
        lines += [
            "", "## As published", "",
            "Extrapolated: seconds of one step and of one pass of the chain, times their number. "
            f"DDM2's chain is taken to start at state {MATCHED}; Di-Fusion's is walked to its end.",
            "", "| method | steps timed | patches | s a step | training, h | inference, h "
            "| training: TFLOP/s | of peak | of copy |", "| --- |" + " --: |" * 8,
        ]  # fmt: skip
    for row in results["papers"]:
        a_step = ", ".join(f"{v:.3f}" for v in row["seconds_a_step"].values())
        hours = [f"{row[s] / 3600:,.2f}" for s in STAGES]
        cells = [row["method"], str(row["steps_timed"]), str(row["patches"]), a_step]
        lines.append("| " + " | ".join([*cells, *hours, *shares_of(row["used"])]) + " |")
    if results["agreement"]:
        lines += [
            "", "## Agreement with the CPU", "",
            f"The same weights and the same noise on {SLAB} slices, in the mask, against the CPU "
            "in float32; units of sigma.", "",
            "| method | precision | largest | may be | rms | may be | |",
            "| --- | --- |" + " --: |" * 4 + " --- |",
        ]  # fmt: skip
    for row in results["agreement"]:
        most, rms = TOLERANCES[row["precision"]]
        verdict = "within" if row["is_within"] else "**outside**"
        lines.append(f"| {row['method']} | {row['precision']} | {row['largest']:.2g} | {most:g} "
                     f"| {row['rms']:.2g} | {rms:g} | {verdict} |")  # fmt: skip
    if "repeats" in results:
        word = "the same bytes" if results["repeats"] else "**other bytes**"
        lines += ["", f"joint, preset fast, trained twice with one seed: {word}."]
    if results["left_out"]:
        lines += ["", "Not reached in the time given: " + "; ".join(results["left_out"]) + "."]
    lines += ["", *(f"**{name} failed:** {why}" for name, why in results["failed"].items())]
    return "\n".join(lines).rstrip() + "\n"


def shares_of(row: dict[str, float] | None) -> list[str]:
    if row is None:
        return ["–"] * 3
    return [f"{row['tflops']:.2f}", f"{row['of_peak']:.1%}", f"{row['of_copy']:.1%}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=7.0, help="no row is begun after them")
    parser.add_argument("--small", action="store_true", help="a tiny scan and few steps, to try")
    parser.add_argument("--out", type=Path, default=None, help="folder; benchmarks/results")
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    if options.out is None:
        if options.small or device.type != "cuda":
            parser.error("what is no result of a GPU needs --out, a folder of its own")
        options.out = RESULTS
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options, device, set_threads(options.threads))
    bench.run_all()
    sys.exit(1 if bench.results["failed"] else 0)


if __name__ == "__main__":
    main()
