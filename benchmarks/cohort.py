"""What a study costs: seconds and memory of a scan, and 10 000 scans on paper.

    python benchmarks/cohort.py            the demo scan by both presets, then the simulation
    python benchmarks/cohort.py --table    only make the Markdown from the JSON again

Scans   Measured: the demo scan here, the others by `speed.py`, read from its JSON. The memory that
        `quell cohort` sets aside stands beside the peak that was measured.
Model   Seconds, processor seconds and peak of a scan as a + b x its size in float32, fitted to
        these scans by least squares of the relative error. Seconds that were taken while other work
        kept the processor busy are shown and not fitted; memory does not mind.
Study   10 000 scans of a made-up mix of sizes, sent by quell's own `Admission` to workers that only
        pretend: their time comes from the model, their clock runs as fast as it can. Some scans
        can't be read, some workers are killed and their scans are done again.
GPUs    The study on GPUs is on paper: the seconds of a scan are assumed. What one scan took on one
        GPU was measured by `gpu.py` and is named beside them.
"""

import heapq
import json
import math
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from quality import plain, processor, run
from script import RESULTS, main_of, save

from quell.cohort import admission
from quell.cohort.admission import Admission, Waiting
from quell.cohort.cluster import Worker
from quell.cohort.job import Job
from quell.cohort.manifest import Entry
from quell.cohort.memory import SHARE, need_of
from quell.compare.running import DONE, FAILED
from quell.record import versions
from quell.series import open_scan

DEMO = Path(__file__).parents[1] / "src" / "quell" / "demo_scan" / "dwi.nii.gz"
PRESETS: dict[str, list[str]] = {"instant": ["--preset", "instant"], "default": []}
NAMES = {"demo": "demo scan", "trio": "Siemens Trio", "whole": "large scan"}

# The made-up study: grid and volumes -> scans.
MIX = {
    (96, 96, 60, 33): 2000,
    (102, 102, 28, 42): 2500,
    (104, 104, 72, 105): 3500,
    (140, 140, 81, 103): 1800,
    (145, 174, 145, 288): 200,
}
FAILING = 0.02  # of scans that can't be read; found out at once
SECONDS_TO_FAIL = 10.0
KILLED = 0.01  # of scans whose worker is killed at some time while it works on them
SECONDS_TO_RETURN = 60.0  # until another worker stands in
THREADS = 2  # of a worker, as measured
SEED = 0
BUSY = 1.0  # processes beyond a command's own threads: its seconds say little then
TICK = 1.0  # seconds: what ends within one is taken back together

RATES_MB = (200.0, 2000.0)  # of the storage, MB/s read and written together
GPU_SECONDS = (1.0, 5.0, 20.0)
GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Machines:
    """Nodes alike.

    jobs_gb  memory of each batch job, in turn, GB; (): one machine whose workers share it
    """

    words: str
    n: int
    cores: int
    memory_gb: float
    jobs_gb: tuple[float, ...] = ()


MACHINES = (
    Machines("1 workstation", 1, 16, 64),
    Machines("10 nodes, jobs of 8 GB, then of 24", 10, 64, 256, (8, 24)),
    Machines("10 nodes, jobs of 24 GB", 10, 64, 256, (24,)),
    Machines("50 nodes, jobs of 8 GB, then of 24", 50, 64, 256, (8, 24)),
    Machines("50 nodes, jobs of 24 GB", 50, 64, 256, (24,)),
)


# ---- what is measured ----------------------------------------------------------------------------


def demo(preset: str, threads: int) -> dict[str, Any]:
    """What `quell denoise` took for the demo scan, report and all."""
    with TemporaryDirectory() as own:
        out = Path(own) / "denoised.nii.gz"
        command = [sys.executable, "-m", "quell", "denoise", str(DEMO), str(out), "--quiet"]
        cost = run([*command, "--threads", str(threads), *PRESETS[preset]], Path(own), threads)
        said = json.loads(out.with_suffix("").with_suffix(".json").read_text())["Denoising"]
        names = ("denoised.nii.gz", "denoised.json", "denoised_report.html")
        return plain(cost) | {
            "load": os.getloadavg()[0],
            "seconds": said["Seconds"],
            "written_bytes": sum((Path(own) / name).stat().st_size for name in names),
        }


def scans(own: dict[str, Any], preset: str) -> list[dict[str, Any]]:
    """Every scan that was measured, the smallest first.

    own  rows of the demo scan, by preset
    """
    theirs = json.loads((RESULTS / "speed.json").read_text())
    rows = []
    for name in NAMES:
        row = own[preset] if name == "demo" else theirs[name][preset]
        size = 4 * math.prod(open_scan(DEMO).shape)
        if name != "demo":
            size = row["peak_bytes"] / row["peak_over_input"]
        network = row["seconds"]["training"] + row["seconds"]["inference"]
        rows.append({
            "scan": name,
            "bytes": size,
            "wall": row["wall_seconds"],
            "processor": row["cpu_seconds"],
            "peak": row["peak_bytes"],
            "need": need_of(job_of(preset), int(size)),
            "around": row["wall_seconds"] - network,
            "load": row["load"],
        })  # fmt: skip
    return sorted(rows, key=lambda r: r["bytes"])


def is_busy(row: dict[str, Any]) -> bool:
    """Whether other work slowed a measurement."""
    return bool(row["load"] > THREADS + BUSY)


def job_of(preset: str) -> Job:
    """A job of quell's default method, about no file."""
    empty = dict.fromkeys(("datatype", "scan", "relative", "phase", "bval", "bvec"), "")
    options = {"method": "joint", "preset": preset, "threads": None}
    return Job(
        **empty, name="", sidecar={}, sources=[], targets={}, out="", work="", options=options,
        command="", how="",
    )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """a + b x GB of float32, and the largest relative error over the n scans it was fitted to."""

    a: float
    b: float
    error: float
    n: int

    @classmethod
    def through(cls, rows: Sequence[dict[str, Any]], name: str) -> "Line":
        """Through a figure of the rows; seconds only of those that had the processor."""
        rows = rows if name == "peak" else [row for row in rows if not is_busy(row)]
        x = np.array([row["bytes"] / 1e9 for row in rows])
        y = np.array([row[name] for row in rows])
        A = np.stack([1 / y, x / y], axis=1)  # relative errors: (a + b x) / y - 1
        (a, b), *_ = np.linalg.lstsq(A, np.ones(len(y)), rcond=None)
        return cls(float(a), float(b), float(np.abs(A @ [a, b] - 1).max()), len(y))

    def at(self, size: float) -> float:
        """For a scan of so many bytes."""
        return self.a + self.b * size / 1e9


# ---- workers that pretend ------------------------------------------------------------------------


@dataclass(eq=False)
class Promise:
    """Of an answer, as dask gives it."""

    text: str
    calls: list[Any] = field(default_factory=list)
    is_done: bool = False

    def done(self) -> bool:
        return self.is_done

    def cancel(self) -> None: ...

    def add_done_callback(self, call: Any) -> None:
        self.calls.append(call)

    def result(self) -> str:
        return self.text

    def end(self) -> None:
        self.is_done = True
        for call in self.calls:
            call(self)


@dataclass(frozen=True)
class Fate:
    """What will become of a scan.

    seconds  of work
    need     bytes that are set aside for it
    peak     bytes that it takes, by the model
    fails    whether it can't be read
    dies_at  share of its work after which its worker is killed, once; None: it is not
    """

    seconds: float
    need: int
    peak: float
    fails: bool
    dies_at: float | None


@dataclass
class Pretended:
    """Workers, and a clock that jumps to the next thing that happens."""

    there: dict[str, Worker]
    node_of: dict[str, int]
    fates: dict[str, Fate]
    now: float = 0.0
    core_seconds: float = 0.0
    died: set[str] = field(default_factory=set)
    events: list[tuple[float, int, str, Any]] = field(default_factory=list)
    taken: Counter[int] = field(default_factory=Counter)  # bytes set aside now, by node
    most: Counter[int] = field(default_factory=Counter)
    peak: Counter[int] = field(default_factory=Counter)  # the same, of what the model says
    most_peak: Counter[int] = field(default_factory=Counter)
    n_events: int = 0

    def workers(self) -> list[Worker]:
        return list(self.there.values())

    def submit(self, text: str, worker: Worker) -> Promise:
        job = Job.of_text(text)
        fate, node = self.fates[job.name], self.node_of[worker.address]
        dies = fate.dies_at is not None and job.name not in self.died
        took = SECONDS_TO_FAIL if fate.fails else fate.seconds * (fate.dies_at or 1 if dies else 1)
        promise = Promise(job.entry(FAILED if fate.fails else DONE).text)
        self.core_seconds += THREADS * took
        for now, most, own in (
            (self.taken, self.most, fate.need),
            (self.peak, self.most_peak, int(fate.peak)),
        ):
            now[node] += own
            most[node] = max(most[node], now[node])
        self._at(took, "dies" if dies else "ends", (promise, job.name, worker))
        return promise

    def advance(self, _: int) -> None:
        """To the next tick at which something happens; everything of that tick happens."""
        if not self.events:
            return
        self.now = max(self.now, math.ceil(self.events[0][0] / TICK) * TICK)
        while self.events and self.events[0][0] <= self.now:
            _, _, what, about = heapq.heappop(self.events)
            if what == "returns":
                self.there[about.address] = about
                continue
            promise, name, worker = about
            node, fate = self.node_of[worker.address], self.fates[name]
            self.taken[node] -= fate.need
            self.peak[node] -= int(fate.peak)
            if what == "ends":
                promise.end()
                continue
            self.died.add(name)
            del self.there[worker.address]
            again = replace(worker, address=worker.address + "'")
            self.node_of[again.address] = node
            self._at(SECONDS_TO_RETURN, "returns", again)

    def _at(self, seconds: float, what: str, about: Any) -> None:
        self.n_events += 1  # so that no two events compare what they are about
        heapq.heappush(self.events, (self.now + seconds, self.n_events, what, about))


def study(machines: Machines, preset: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All scans of the made-up study on these machines."""
    admission.POLL = 0.0  # the clock is pretended, so there is nothing to wait for
    fates = fates_of(preset, rows)
    left, wall, cores, done = set(fates), 0.0, 0.0, 0
    most, most_peak, n_workers, n_died = 0, 0, 0, 0
    entries: dict[str, Entry] = {}
    for gb in machines.jobs_gb or (0.0,):
        farm = Pretended(*workers_of(machines, gb), fates)
        n_workers = max(n_workers, len(farm.there))
        job = job_of(preset)
        waiting = [Waiting(replace(job, name=name), fates[name].need) for name in sorted(left)]
        told: list[Entry] = []
        Admission(farm, waiting, THREADS, told.append, farm.advance).run()
        entries |= {entry.name: entry for entry in told}
        left = {e.name for e in told if "GiB of memory and a worker" in e.why}
        wall, cores = wall + farm.now, cores + farm.core_seconds
        most = max(most, *farm.most.values())
        most_peak = max(most_peak, *farm.most_peak.values())
        n_died += len(farm.died)
    done = sum(entry.status == DONE for entry in entries.values())
    return {
        "machines": machines.words,
        "preset": preset,
        "cores": machines.n * machines.cores,
        "workers": n_workers,
        "done": done,
        "unreadable": sum(fates[e.name].fails for e in entries.values()),
        "refused": len(left),
        "killed": n_died,
        "hours": wall / 3600,
        "core_hours": cores / 3600,
        "utilisation": cores / (machines.n * machines.cores * wall),
        "set_aside_gb": most / 1e9,
        "peak_gb": most_peak / 1e9,
        "memory_gb": machines.memory_gb,
    }


def fates_of(preset: str, rows: Sequence[dict[str, Any]]) -> dict[str, Fate]:
    """What will become of every scan, by name; the same for every cluster."""
    rng = random.Random(SEED)
    seconds, peak, job = Line.through(rows, "wall"), Line.through(rows, "peak"), job_of(preset)
    sizes = [4 * math.prod(shape) for shape, n in MIX.items() for _ in range(n)]
    found = {}
    for i, size in enumerate(sizes):
        fails, dies, when = rng.random() < FAILING, rng.random() < KILLED, rng.random()
        found[f"sub-{i:05}_dwi"] = Fate(
            seconds=seconds.at(size),
            need=need_of(job, size),
            peak=peak.at(size),
            fails=fails,
            dies_at=when if dies and not fails else None,
        )
    return found


def workers_of(machines: Machines, job_gb: float) -> tuple[dict[str, Worker], dict[str, int]]:
    """As many workers as cores and memory allow, and the node of each."""
    n = machines.cores // THREADS
    if job_gb:
        n = min(n, int(machines.memory_gb // job_gb))
    there, node_of = {}, {}
    for node in range(machines.n):
        for i in range(n):
            address = f"{node}-{i}"
            pool, memory = address, job_gb * 1e9
            if not job_gb:
                pool, memory = "here", SHARE * machines.memory_gb * 1e9
            there[address], node_of[address] = Worker(address, pool, memory, THREADS), node
    return there, node_of


# ---- what the JSON and the page hold -------------------------------------------------------------


def run_all(threads: int, path: Path) -> None:
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault(
        "run", {"processor": processor(), "threads": threads, "versions": versions()}
    )
    own = results.setdefault("demo", {})
    for preset in PRESETS:
        if preset not in own:
            own[preset] = demo(preset, threads)
            print("demo", preset, round(own[preset]["wall_seconds"]), flush=True)
            save(results, path)
    results["scans"] = {preset: scans(own, preset) for preset in PRESETS}
    results["studies"] = []
    for machines in MACHINES:
        for preset in PRESETS:
            found = study(machines, preset, results["scans"][preset])
            results["studies"].append(found)
            print(machines.words, preset, round(found["hours"], 1), flush=True)
    save(results, path)


def table(results: dict[str, Any]) -> str:
    """The Markdown."""
    speed = json.loads((RESULTS / "speed.json").read_text())
    lines = [
        "# What a study costs", "",
        "Made by `benchmarks/cohort.py`. **Seconds of single scans were measured; the study is a "
        "simulation, and no cluster was measured.**",
        "", *_measured(results, speed), *_model(results), *_studies(results), *_gpus(results),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _measured(results: dict[str, Any], speed: dict[str, Any]) -> list[str]:
    about = results["run"]
    slowed = ""
    if any(is_busy(r) for rows in results["scans"].values() for r in rows):
        slowed = (
            f" † Other work took the processor (load above {THREADS + BUSY:.0f}), so these seconds "
            "are too long; they are not used below."
        )
    lines = [
        "## One scan", "",
        f"`quell denoise` from file to file, report included, {about['threads']} threads: the demo "
        f"scan on {about['processor']}, {results['date']}; the others on "
        f"{speed['run']['processor']}, {speed['run']['threads']} threads, {speed['date']}, from "
        "`benchmarks/results/speed.json`. *Set aside*: what `quell cohort` "
        "reckons with. *Read* and *written*: the scan and its result as float32, not packed, "
        "computed from the size; packed files are smaller. *Load*: processes that wanted the "
        "processor at the end, these threads counted." + slowed, "",
        "| scan | float32, GB | preset | wall, s | core-seconds | peak, GB | set aside, GB "
        "| set aside / peak | read, GB | written, GB | load |",
        "| --- | --: | --- |" + " --: |" * 8,
    ]  # fmt: skip
    for preset, rows in results["scans"].items():
        for r in rows:
            gb, busy = r["bytes"] / 1e9, "†" * is_busy(r)
            lines.append(
                f"| {NAMES[r['scan']]} | {gb:.3f} | {preset} | {r['wall']:.0f}{busy} "
                f"| {r['processor']:.0f}{busy} | {r['peak'] / 1e9:.2f} | {r['need'] / 1e9:.2f} "
                f"| {r['need'] / r['peak']:.2f} | {gb:.3f} | {gb:.3f} | {r['load']:.1f} |"
            )
    own = results["demo"]["default"]
    lines += [
        "",
        f"The demo scan is {DEMO.stat().st_size / 1e6:.1f} MB on disk (packed uint16), and what "
        f"`default` writes of it {own['written_bytes'] / 1e6:.1f} MB (packed float32, record and "
        "report).", "",
    ]  # fmt: skip
    return lines


def _model(results: dict[str, Any]) -> list[str]:
    lines = [
        "## The model", "",
        "a + b x (size as float32, GB), by least squares of the relative error over the scans "
        "above. Two numbers from so few scans are a rough rule: the error says how well the line "
        "meets those scans, not others, and scans larger than the large scan are extrapolated.", "",
        "| preset | what | scans | a | b, for each GB | largest error |",
        "| --- | --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for preset, rows in results["scans"].items():
        for name, words, scale in (
            ("wall", "wall, s", 1.0), ("processor", "core-seconds", 1.0), ("peak", "peak, GB", 1e9),
        ):  # fmt: skip
            line = Line.through(rows, name)
            lines.append(
                f"| {preset} | {words} | {line.n} | {line.a / scale:.3g} "
                f"| {line.b / scale:.3g} | {f'{line.error:.0%}' if line.n > 2 else '–'} |"
            )
    return [*lines, ""]


def _studies(results: dict[str, Any]) -> list[str]:
    total = sum(MIX.values())
    mix = "; ".join(f"{n / total:.0%} of {' x '.join(map(str, shape))}" for shape, n in MIX.items())
    lines = [
        f"## {f'{total:,}'.replace(',', ' ')} scans, simulated", "",
        f"The mix is made up: {mix}. Workers of {THREADS} threads, one scan at a time; scans are "
        "sent by quell's own `Admission`, with the memory that quell itself reckons with. "
        f"{FAILING:.0%} of the scans can't be read (found out after {SECONDS_TO_FAIL:.0f} s); "
        f"{KILLED:.0%} have their worker killed once at a random time, another one stands in "
        f"{SECONDS_TO_RETURN:.0f} s later, and the scan starts anew. Seed {SEED}.", "",
        "On the workstation (16 cores, 64 GB; `--workers 8 --threads 2`) the workers share the "
        "memory, as `--dask local` has it. A node has 64 cores and 256 GB; a batch job is one "
        "worker with memory of its own. *Then of 24*: a second run for the scans that were refused "
        "because they do not fit the first jobs. *Reserved*: threads x seconds of all workers "
        "while they had a scan, lost work included; all cores of a node are used only where "
        "memory allows as many jobs.", "",
        "| machines | preset | workers | done | unreadable | killed, redone | wall, h "
        "| reserved core-hours | of all cores | set aside a node, at most, GB | peak a node, GB |",
        "| --- | --- |" + " --: |" * 9,
    ]  # fmt: skip
    for s in results["studies"]:
        lines.append(
            f"| {s['machines']} | {s['preset']} | {s['workers']} | {s['done']} "
            f"| {s['unreadable']} | {s['killed']} | {s['hours']:.1f} | {s['core_hours']:.0f} "
            f"| {s['utilisation']:.0%} | {s['set_aside_gb']:.0f} of {s['memory_gb']:.0f} "
            f"| {s['peak_gb']:.0f} |"
        )
    lines += [
        "",
        "What this leaves out, all of which makes a real study slower: a node whose cores are all "
        "busy shares memory bandwidth (the seconds above come from two threads); waiting in the "
        "queue of a batch system and its time limits; storage that many nodes read at once "
        "(below). Scans smaller than the smallest and larger than the largest that was measured "
        "follow the line, not a measurement.", "",
        "Money: hours x cores that are paid for x the price of a core-hour. No price is assumed "
        "here. Whole nodes cost the core-hours of *all cores*, which are the reserved ones divided "
        "by the share in the column *of all cores*.", "",
    ]  # fmt: skip
    return lines


def _gpus(results: dict[str, Any]) -> list[str]:
    total = sum(MIX.values())
    each = sum(n * 4 * math.prod(shape) for shape, n in MIX.items()) / total
    around = {p: Line.through(rows, "around") for p, rows in results["scans"].items()}["instant"]
    beside = sum(n * around.at(4 * math.prod(shape)) for shape, n in MIX.items()) / total
    lines = [
        "## GPUs, on paper", "",
        f"**The seconds of this table are assumptions, not results.** {_one_scan_on_a_gpu()} A "
        "worker has one GPU and works on one scan at a time, so the study lasts",
        "",
        "    hours = scans x max(seconds a scan / GPUs, GB a scan / GB a second of the storage) "
        "/ 3600",
        "",
        f"The mean scan of the mix is {each / 1e9:.2f} GB as float32, read once and written once, "
        f"so {2 * each / 1e9:.2f} GB pass the storage.", "",
        "| assumed seconds a scan | GPUs | " + " | ".join(
            f"wall, h, storage of {rate:.0f} MB/s | bound by" for rate in RATES_MB
        ) + " | GPU-hours |",
        "| --: | --: |" + " --: | --- |" * len(RATES_MB) + " --: |",
    ]  # fmt: skip
    for seconds in GPU_SECONDS:
        for n in GPUS:
            cells = []
            for rate in RATES_MB:
                by_gpu, by_disk = seconds / n, 2 * each / (rate * 1e6)
                hours = total * max(by_gpu, by_disk) / 3600
                cells.append(f"{hours:.1f} | {'GPUs' if by_gpu >= by_disk else 'storage'}")
            hours = total * seconds / 3600
            lines.append(f"| {seconds:.0f} | {n} | {' | '.join(cells)} | {hours:.1f} |")
    lines += [
        "",
        "A GPU shortens training and inference only. What stands around them (start, checks, noise "
        "model, reading and writing, report) took "
        + ", ".join(
            f"{r['around']:.0f} s ({NAMES[r['scan']]})"
            for r in results["scans"]["instant"]
            if not is_busy(r)
        )
        + f" on two threads, {beside:.0f} s for the mean scan of the mix by a line through these. "
        "A worker keeps its GPU until its scan is written. So a row of fewer seconds than these is "
        "out of reach as things are; it would need that work done faster, by more cores a worker.",
    ]  # fmt: skip
    return lines


def _one_scan_on_a_gpu() -> str:
    """What `gpu.py` measured, in a sentence."""
    found = json.loads((RESULTS / "gpu.json").read_text())
    took = {r["preset"]: r["seconds"] for r in found["scans"] if r["method"] == "joint"}
    said = ", ".join(f"{preset} {took[preset]:.0f} s" for preset in PRESETS)
    x, y, z, V = found["scan"]
    return (
        f"Measured on one {found['run']['device']}: {said} for a scan of {x} x {y} x {z} x {V} "
        "from memory to memory, so reading, report and writing come on top."
    )


if __name__ == "__main__":
    main_of(__doc__, "cohort", run_all, table)
