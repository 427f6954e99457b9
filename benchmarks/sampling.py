"""What sampling costs: slices per second in batches against one at a time, and a whole scan.

    python benchmarks/sampling.py                      CPU, minutes
    python benchmarks/sampling.py --device cuda

Here    One network pass of a batch of slices of 81 x 106, the size of the papers' own scan, timed
        several times; the published network and quell's lean one. A whole scan is 76 slices of
        150 volumes, extrapolated from the measured pass and the passes that a method takes.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from quality import processor

from quell.predictor import Predictor, network
from quell.run import Run, choose_device, set_threads
from quell.sampling import run_walk

RESULTS = Path(__file__).parent / "results"
SIZE, N_SLICES = (81, 106), 76 * 150
BATCHES = (1, 8, 32)
MATCHED = 150  # a state that DDM2's authors call typical ("5 to 10 times fewer steps")
# passes of the network for one slice
PASSES = {
    "lean": {"ddm2, one step": 2, "ddm2, chain of 4": 5, "difusion, one step": 1},
    "published": {
        f"ddm2, preset paper, state {MATCHED}, 4 flips": 1 + 4 * MATCHED,
        "difusion, preset paper, whole path, 4 flips": 4 * len(run_walk(301, 10, 51)),
    },
}


def seconds_per_slice(F: Any, n: int, device: torch.device) -> float:
    """The shortest of a few passes of n slices, per slice."""
    x, s = torch.randn(n, 1, *SIZE, device=device), torch.full((n,), 0.995, device=device)
    times = []
    with torch.no_grad():
        for _ in range(6):
            start = time.perf_counter()
            F(x, s)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return min(times[1:]) / n


def measure(device: torch.device, threads: int) -> dict[str, Any]:
    name = processor() + f", {threads} threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    found: dict[str, Any] = {"device": name, "seconds": {}}
    for kind in PASSES:
        net = network(kind, 32, 1, 1, 2, Run(), "F")
        F = Predictor(net, 0.0, 0.5, kind == "lean").to(device)
        found["seconds"][kind] = {n: seconds_per_slice(F, n, device) for n in BATCHES}
        found["seconds"][kind]["difference"] = difference(F, device)
    return found


def difference(F: Predictor, device: torch.device) -> float:
    """Largest difference between 8 slices at once and one by one, over the output's spread."""
    x = torch.randn(8, 1, *SIZE, device=device, generator=torch.Generator(device).manual_seed(0))
    s = torch.full((8,), 0.995, device=device)
    with torch.no_grad():
        at_once, alone = F(x, s), torch.cat([F(one, s[:1]) for one in x.split(1)])
    return float((at_once - alone).abs().max() / at_once.std())


def table(results: list[dict[str, Any]]) -> str:
    lines = ["# What sampling costs", ""]
    for result in results:
        lines += [f"## {result['device']}", "",
                  "| network | batch | slices per second | over batch 1 | largest difference |",
                  "| --- | --: | --: | --: | --: |"]  # fmt: skip
        for kind, seconds in result["seconds"].items():
            for n in map(str, BATCHES):
                gain = seconds["1"] / seconds[n]
                far = f"{seconds['difference']:.1e}" if n == "8" else ""
                lines.append(f"| {kind} | {n} | {1 / seconds[n]:.2f} | {gain:.2f} | {far} |")
        lines += ["", "| method | passes per slice | 76 slices x 150 volumes, s (extrapolated) |",
                  "| --- | --: | --: |"]  # fmt: skip
        for kind, methods in PASSES.items():
            best = min(result["seconds"][kind][str(n)] for n in BATCHES)
            lines += [f"| {m} | {n} | {n * best * N_SLICES:,.0f} |" for m, n in methods.items()]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    found = measure(choose_device(options.device), set_threads(options.threads))
    found = json.loads(json.dumps(found))
    path = RESULTS / "sampling.json"
    results = json.loads(path.read_text()) if path.exists() else []
    results = [old for old in results if old["device"] != found["device"]] + [found]
    path.write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "sampling.md").write_text(table(results))


if __name__ == "__main__":
    main()
