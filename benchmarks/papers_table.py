"""The page of papers.py: quell's figures on scans with a truth, the published ones beside them."""

from typing import Any

import papers_published as published

MAPS = ("fa", "md", "rd", "ad")


def page(results: dict[str, Any], m4raw: dict[str, Any]) -> str:
    """docs/papers.md, from papers.json and m4raw.json."""
    parts = results["parts"]
    software = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines = [
        "# The papers' tables, on scans with a known truth",
        "",
        f"Made by `benchmarks/papers.py`, {results['date']}, on {results['processor']}, one thread "
        f"for each method, other work beside it; {software}. Methods are those of `quell compare`, "
        "preset `fast` but where another is named; scores are those of `quell evaluate`. One draw "
        "of the noise, one seed. Published figures stand in italics, and are not comparable: what "
        "differs is said above each table.",
        "",
    ]
    if "maps" in parts:
        rows = parts["maps"]["rows"]
        lines += [*table_of_maps(rows), *table_of_snr(rows), *table_of_priors(rows)]
    levels = [parts.get(f"level {n}") for n in range(1, 6)]
    if any(levels):
        lines += table_of_levels(levels)
    lines += table_of_m4raw(m4raw)
    if "invivo" in parts:
        lines += table_of_invivo(parts["invivo"])
    return "\n".join(lines).rstrip() + "\n"


def table_of_maps(rows: dict[str, Any]) -> list[str]:
    """Di-Fusion's table 1."""
    lines = [
        "## Di-Fusion, table 1: maps of the diffusion tensor",
        "",
        "Phantom B, 6 b=0 and 64 directions of b = 1000 s/mm², Rician noise that correlates by .17 "
        "and .34 along x and y, SNR 15 of white matter; PSNR in dB and SSIM in percent against the "
        "maps of the truth, in the brain. *Published*: reference, data set, mask, noise and fit "
        "are "
        "not stated. FA, 6 dir.: error of FA from the first six directions, as DDM2 shows FA.",
        "",
        *header("method", [f"{m.upper()} {s}" for s in ("dB", "%") for m in MAPS]
                + ["angle, °", "FA, 6 dir.", "seconds"]),
    ]  # fmt: skip
    order = sorted(rows, key=lambda name: -(score(rows[name], "fa_psnr") or -99))
    for name in order:
        if name.startswith("ddm2_n"):
            continue
        row = rows[name]
        psnrs = [number(score(row, f"{m}_psnr"), "{:.2f}") for m in MAPS]
        ssims = [number(score(row, f"{m}_ssim"), "{:.2f}", 100) for m in MAPS]
        others = [number(score(row, "angle"), "{:.2f}"), number(score(row, "fa6_error"), "{:.3f}")]
        lines.append(line(name, [*psnrs, *ssims, *others, number(row["seconds"], "{:.0f}")]))
        if name in published.MAPS:
            cells = [f"*{v:.2f}*" for part in published.MAPS[name] for v in part]
            lines.append(line("*published*", [*cells, "", "", ""]))
    return [*lines, ""]


def table_of_snr(rows: dict[str, Any]) -> list[str]:
    """DDM2's SNR and CNR."""
    lines = [
        "## DDM2: SNR and CNR of the corpus callosum",
        "",
        "The same scans. *SNR*, *CNR*: mean signal of the corpus callosum, and its contrast with "
        "the "
        "rest of the brain, over the root mean square error there. *Against air*: over the noise "
        "in air, change from the noisy scan, mean over the volumes; p of a two-sided t-test over "
        "pairs. *As published*: the same of planes that were stretched between their own extremes. "
        "*Published*: Stanford HARDI, b = 2000 s/mm². The noise in air says nothing of the brain: "
        "the two orders differ, and a method that zeroes the air would win.",
        "",
        *header("method", ["SNR", "CNR", "against air: SNR", "p", "CNR", "as published: SNR", "CNR",
                           "published: SNR", "CNR"]),
    ]  # fmt: skip
    order = sorted(rows, key=lambda name: -(score(rows[name], "snr") or -99))
    for name in order:
        if name.startswith("ddm2_n"):
            continue
        row, theirs = rows[name], published.SNR.get(name)
        is_noisy = name == "noisy"
        ending, shown = ("", "{:.2f}") if is_noisy else ("_change", "{:+.2f}")
        cells = [number(score(row, s), "{:.2f}") for s in ("snr", "cnr")]
        cells.append(number(score(row, f"air_snr{ending}"), shown))
        cells.append(number(score(row, "air_snr_p"), "{:.0e}"))
        cells.append(number(score(row, f"air_cnr{ending}"), shown))
        cells += [number(score(row, f"published_{s}{ending}"), shown) for s in ("snr", "cnr")]
        cells += [f"*{shown.format(v)}*" for v in theirs] if theirs else ["", ""]
        lines.append(line(name, cells))
    return [*lines, "", "The noisy scan's row holds values, not changes.", ""]


def table_of_priors(rows: dict[str, Any]) -> list[str]:
    """DDM2's ablation on n."""
    lines = [
        "## DDM2: the number n of volumes that stage I sees",
        "",
        "The same scan, nearest directions first, preset `fast`. The paper shows pictures only and "
        "calls n = 1, 2 and 5 all good; volumes before in file order, as it takes them, are in "
        "`benchmarks/results/ablations.md`.",
        "",
        *header("n", ["gain, dB", "FA error", "structure", "seconds"]),
    ]
    for name in sorted((n for n in rows if n.startswith("ddm2_n")), key=lambda n: int(n[6:])):
        row = rows[name]
        cells = [number(score(row, s), f) for s, f in
                 (("gain", "{:.2f}"), ("fa_error", "{:.4f}"), ("structure", "{:.3f}"))]  # fmt: skip
        lines.append(line(name[6:], [*cells, number(row["seconds"], "{:.0f}")]))
    return [*lines, ""]


def table_of_levels(levels: list[dict[str, Any] | None]) -> list[str]:
    """Di-Fusion's table 2."""
    there = [level["rows"] if level else {} for level in levels]
    lines = [
        "## Di-Fusion, table 2: five levels of noise",
        "",
        "32 repetitions of the b=0 volume of phantom B (8 slices) through k-space: four coils, "
        "complex Gaussian noise in each, root of the sum of squares; at each level as noisy as the "
        "poster's noisy scan, by its own score. Cells: PSNR in dB / SSIM in percent by the "
        "poster's "
        "score, air included (each series between its own extremes), then in brackets the PSNR in "
        "the brain against the mean magnitude of endless repetitions, which no extremes move. "
        "*Published*: M4Raw, 64 repetitions, 72 slices (the released program reads one file three "
        "times). All volumes are repetitions of one image, so the mean of all is hard to beat.",
        "",
        *header("method", [f"level {n}" for n in range(1, 6)] + ["seconds"]),
    ]
    names = {name for rows in there for name in rows}

    def mean_psnr(name: str) -> float:
        found = [score(rows[name], "psnr") for rows in there if name in rows]
        return sum(v for v in found if v is not None) / max(1, len(found))

    for name in sorted(names, key=lambda n: -mean_psnr(n)):
        cells, seconds = [], []
        for rows in there:
            row = rows.get(name)
            cells.append(_level_cell(row))
            seconds += [row["seconds"]] if row and row["seconds"] else []
        mean = sum(seconds) / len(seconds) if seconds else None
        lines.append(line(name, [*cells, number(mean, "{:.0f}")]))
        if name in published.LEVELS:
            theirs = [f"*{psnr:.2f} / {ssim:.2f}*" for psnr, ssim in published.LEVELS[name]]
            lines.append(line("*published*", [*theirs, ""]))
    return [*lines, "", *_no_help(there), ""]


def _no_help(levels: list[dict[str, Any]]) -> list[str]:
    """Who lies below the noisy scan in the brain."""
    found = []
    for n, rows in enumerate(levels, start=1):
        least = score(rows["noisy"], "psnr") if "noisy" in rows else None
        worse = [name for name, row in rows.items()
                 if least is not None and (score(row, "psnr") or least) < least]  # fmt: skip
        found += [f"level {n}: {', '.join(sorted(worse))}"] if worse else []
    if not found:
        return ["In the brain every method lies above the noisy scan at every level."]
    return [
        f"Below the noisy scan in the brain at {'; '.join(found)}. They guess a voxel from its "
        "neighbours, without the voxel itself, and so lose detail that weak noise leaves to see."
    ]


def _level_cell(row: dict[str, Any] | None) -> str:
    if row is None or score(row, "published_psnr") is None:
        return "–"
    psnr, ssim = (score(row, s) for s in ("published_psnr", "published_ssim"))
    return f"{psnr:.2f} / {100 * (ssim or 0):.2f} ({number(score(row, 'psnr'), '{:.2f}')})"


def table_of_m4raw(results: dict[str, Any]) -> list[str]:
    """C2S's table of M4Raw."""
    lines = [
        "## Corruption2Self: M4Raw",
        "",
        "Synthetic files of that kind, T1, from `benchmarks/m4raw.py`, which says how; in the "
        "head, "
        "data range 1. *Truth*: against endless repetitions. *Others*: against the mean of three "
        "repetitions that no method has seen. *Published*: real scans of 0.3 T against the mean of "
        "six repetitions, the denoised one among them, which rewards leaving its noise in.",
        "",
        *header("method", ["others: PSNR", "SSIM", "truth: PSNR", "SSIM", "seconds"]),
    ]
    for name, row in results["rows"]["T1"].items():
        shown = (("psnr others", "{:.2f}"), ("ssim others", "{:.3f}"), ("psnr truth", "{:.2f}"),
                 ("ssim truth", "{:.3f}"), ("seconds", "{:.0f}"))  # fmt: skip
        lines.append(line(name, [number(row.get(key), text) for key, text in shown]))
    for name, (psnr, ssim) in published.M4RAW_T1.items():
        lines.append(
            line(f"*published: {name}*", [f"*{psnr:.2f}*", f"*{ssim or '–'}*", "", "", ""])
        )
    return [*lines, ""]


def table_of_invivo(part: dict[str, Any]) -> list[str]:
    """A real scan."""
    theirs = ", ".join(f"{name} {n}" for name, n in published.STREAMLINES.items())
    lines = [
        "## A real scan: predictions and streamlines",
        "",
        "Brain at 1.2 mm, 40 directions of b = 1000 s/mm², SNR 3 in the directions, air zeroed by "
        "the scanner (St-Jean, Coupe, Descoteaux 2016, CC BY 4.0). *R²*: of held-out measured "
        "volumes, tensors, 3 folds, median voxel; whoever mixes volumes has a little of their "
        "noise in the fit. *As published*: of the denoised scan's own volumes. *Streamlines*: from "
        "the seeds that reach the target, *coherent* ones among them, mean RFBC. Few are no merit "
        "by themselves, and none means that GFA at the seeds fell below .25: directions were drawn "
        "together, of which R² says nothing. *SNR as published*: most of the air is 0, so the "
        "figure means nothing, and quell gives none without being asked. "
        f"Published counts (optic radiation, HARDI): {theirs}."
        f" Evaluation took {part['minutes_to_evaluate']:.0f} minutes in all.",
        "",
        *header("method", ["R² of DTI", "as published", "streamlines", "coherent", "of the seeds",
                           "RFBC", "SNR as published", "structure", "seconds"]),
    ]  # fmt: skip
    for name, row in part["rows"].items():
        shown = (("r2_dti", "{:.4f}"), ("published_r2_dti", "{:.4f}"), ("streamlines", "{:.0f}"),
                 ("coherent", "{:.0f}"), ("reached", "{:.3f}"), ("rfbc", "{:.3f}"),
                 ("published_snr", "{:.3g}"),
                 ("structure", "{:.3f}"))  # fmt: skip
        cells = [number(score(row, key), text) for key, text in shown]
        lines.append(line(name, [*cells, number(row["seconds"], "{:.0f}")]))
    return [*lines, ""]


def score(row: dict[str, Any], name: str) -> float | None:
    value = row["scores"].get(name)
    return None if value is None else float(value)


def number(value: float | None, shown: str, times: float = 1) -> str:
    return "–" if value is None else shown.format(times * value)


def header(first: str, columns: list[str]) -> list[str]:
    return [f"| {first} | " + " | ".join(columns) + " |", "| --- | " + "--: | " * len(columns)]


def line(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"
