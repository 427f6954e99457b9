"""The table of a comparison: rows sorted by the referee, as CSV, JSON and Markdown."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .running import DONE, Outcome

COLUMNS = {
    "gain": ("gain, dB", "{:.2f}"),
    "gain_error": ("±", "{:.2f}"),
    "gain_off": ("gain without floor, dB", "{:.2f}"),
    "rmse": ("rmse", "{:.4g}"),
    "psnr": ("PSNR, dB", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "nrmse": ("NRMSE", "{:.4f}"),
    "bias": ("bias", "{:+.4f}"),
    "fa_error": ("FA error", "{:.4f}"),
    "fa_psnr": ("FA, dB", "{:.2f}"),
    "fa_ssim": ("FA SSIM", "{:.4f}"),
    "md_psnr": ("MD, dB", "{:.2f}"),
    "md_ssim": ("MD SSIM", "{:.4f}"),
    "rd_psnr": ("RD, dB", "{:.2f}"),
    "rd_ssim": ("RD SSIM", "{:.4f}"),
    "ad_psnr": ("AD, dB", "{:.2f}"),
    "ad_ssim": ("AD SSIM", "{:.4f}"),
    **{
        f"{name}_{score}": (f"{name.upper()}{unit}", shown)
        for name in ("mk", "ak", "rk")
        for score, unit, shown in (("psnr", ", dB", "{:.2f}"), ("ssim", " SSIM", "{:.4f}"))
    },
    "fa6_error": ("FA error, 6 directions", "{:.4f}"),
    "angle": ("angle, °", "{:.2f}"),
    "snr": ("SNR", "{:.2f}"),
    "cnr": ("CNR", "{:.2f}"),
    "air_snr": ("SNR against air", "{:.2f}"),
    "air_snr_change": ("its change", "{:+.2f}"),
    "air_snr_p": ("p of no change", "{:.1g}"),
    "air_cnr": ("CNR against air", "{:.2f}"),
    "air_cnr_change": ("its change", "{:+.2f}"),
    "r2_dti": ("R² of DTI", "{:.4f}"),
    "r2_csd": ("R² of CSD", "{:.4f}"),
    "streamlines": ("streamlines", "{:.0f}"),
    "coherent": ("coherent ones", "{:.0f}"),
    "reached": ("share of the seeds", "{:.3f}"),
    "rfbc": ("RFBC", "{:.3f}"),
    "published_psnr": ("PSNR as published by Di-Fusion, dB", "{:.2f}"),
    "published_ssim": ("SSIM as published by Di-Fusion", "{:.4f}"),
    "c2s_psnr": ("PSNR as published by C2S, dB", "{:.2f}"),
    "c2s_ssim": ("SSIM as published by C2S", "{:.4f}"),
    "published_snr": ("SNR as published", "{:.4g}"),
    "published_snr_change": ("its change", "{:+.4g}"),
    "published_cnr": ("CNR as published", "{:.4g}"),
    "published_cnr_change": ("its change", "{:+.4g}"),
    "published_r2_dti": ("R² of DTI as published", "{:.4f}"),
    "published_r2_csd": ("R² of CSD as published", "{:.4f}"),
    "tensor_gain": ("tensor gain, dB", "{:.2f}"),
    "kept": ("kept, %", "{:.0f}"),
    "kept_error": ("± of it", "{:.0f}"),
    "kept_four": ("kept of 4 volumes, %", "{:.0f}"),
    "kept_all": ("kept of all volumes, %", "{:.0f}"),
    "elsewhere": ("moved elsewhere, %", "{:.0f}"),
    "made": ("made of nothing, σ", "{:.3f}"),
    "structure": ("structure", "{:.3f}"),
    "structure_p": ("structure, p of chance", "{:.2f}"),
    "ratio": ("residual / σ", "{:.2f}"),
    "follows": ("follows image", "{:+.3f}"),
    "information": ("information, bits", "{:.4f}"),
    "mean_change": ("mean signal", "{:.3f}"),
    "contrast": ("contrast", "{:.2f}"),
    "above_b0": ("above b=0", "{:.4f}"),
    "seconds": ("seconds", "{:.0f}"),
    "memory": ("GiB", "{:.2f}"),
}
ORDER_BY = ("gain", "structure")  # the latter where there is no referee
MEANINGS = {
    "gain": "how many times less mean squared error than the noisy scan has",
    "gain_error": "one standard error of the gain, from the scatter over the volumes",
    "gain_off": "the same against the truth without its noise floor: for results that had theirs "
    "taken off",
    "rmse": "root mean square error, in the units of the scan",
    "fa_error": "root mean square difference of fractional anisotropy from the truth's",
    "psnr": "the range of the truth over the root mean square error, b>0, in the mask",
    "ssim": "structural similarity to the truth, b>0, in the mask; 1 at best",
    "nrmse": "root mean square error over the root mean square of the truth",
    "bias": "relative shift of the mean signal, mean over the volumes; 0 at best",
    **{
        f"{name}_{score}": f"{words} of {name.upper()} against the truth's, in the mask"
        for name in ("fa", "md", "rd", "ad", "mk", "ak", "rk")
        for score, words in (("psnr", "peak signal-to-noise ratio"), ("ssim", "similarity"))
    },
    "fa6_error": "the FA error of the first six directions and all b=0, as DDM2 shows FA",
    "angle": "median angle to the true principal direction, where the true FA is above 0.2",
    "snr": "mean signal of the corpus callosum, b>0, over the root mean square error there",
    "cnr": "contrast of the corpus callosum with the rest of the brain over the same",
    "air_snr": "mean signal of the corpus callosum over the noise in air: of the air, not of the "
    "brain; left out where the air was flattened",
    "air_snr_change": "against the noisy scan's, mean over the volumes",
    "air_snr_p": "two-sided t-test over the volumes, pair by pair",
    "air_cnr": "the same, less the mean of air",
    "air_cnr_change": "against the noisy scan's, mean over the volumes",
    "r2_dti": "of the measured scan's held-out volumes, predicted by tensors; median voxel",
    "r2_csd": "the same by CSD, of the highest shell, in the middle slice",
    "streamlines": "that reach the target region; few are no merit by themselves",
    "coherent": "among them, what cleaning by coherence leaves",
    "reached": "streamlines that reach the target over those started",
    "rfbc": "how well the streamlines support each other, mean; 1 where all do alike",
    "published_psnr": "Di-Fusion's: each series stretched to 0..1 by itself, air included; for "
    "comparison only",
    "published_ssim": "the same",
    "c2s_psnr": "each volume stretched to 0..1 by the noisy one's extremes and clipped, air "
    "included; for comparison only",
    "c2s_ssim": "the same",
    "published_snr": "DDM2's: every plane stretched between its own extremes, over the noise in "
    "air; flat air makes it endless; for comparison only",
    "published_snr_change": "against the noisy scan's",
    "published_cnr": "the same, less the mean of air",
    "published_cnr_change": "against the noisy scan's",
    "published_r2_dti": "of the denoised scan's own volumes, which rewards smoothing; for "
    "comparison only",
    "published_r2_csd": "the same",
    "tensor_gain": "the gain of the signal that the fitted tensors predict for the repeat",
    "kept": "of structures of 81 voxels (fewer in a small mask) at 5 sigma that were added to one "
    "volume of the scan; 100 at best",
    "kept_error": "one standard error, from the scatter over the structures",
    "kept_four": "the same of structures in the nearest four volumes",
    "kept_all": "the same of structures in all volumes",
    "elsewhere": "of structures in one volume: what appears at their place in all other volumes",
    "made": "rms change far from all structures; 0 at best",
    "structure": "how unevenly the removed power lies in space, beyond chance; 0 for noise",
    "ratio": "size of what was removed over the noise; 1 at most, above it signal went too",
    "follows": "correlation of what was removed with the result: anatomy that went; a good result "
    "has a little, which the verdict allows for",
    "structure_p": "how often shuffled power has that much structure; small is certain, not large",
    "information": "what the image tells of a voxel's residual in any way, beyond chance; some "
    "hundredths are well",
    "mean_change": "largest relative change of the mean signal of a shell",
    "contrast": "contrast between directions, after over before, of the worst shell; below 0.85 "
    "directions were drawn together",
    "above_b0": "share of signals above their b=0, which diffusion can't make",
    "seconds": "of the whole command",
    "memory": "peak of the whole command",
}


@dataclass(frozen=True)
class Row:
    """One line: a contestant and what became of it.

    result  the file that it wrote; None for the scan as it is
    """

    name: str
    about: str
    outcome: Outcome
    result: Path | None = None

    def value(self, column: str) -> float | None:
        """A number of the row; None where there is none."""
        if column == "seconds":
            number = self.outcome.seconds
        elif column == "memory":
            number = self.outcome.memory / 2**30
        else:
            return self.outcome.scores.get(column)
        return number if number == number else None


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Best first; without a referee the evenest residual first; what is not done last.

    Without a referee the scan as it is stands behind the results: nothing was removed from it. An
    error of 0, or below it by chance, has no gain in dB and is the best there is.
    """
    has_referee = any(row.value("gain") is not None for row in rows)

    def rank(row: Row) -> tuple[bool, bool, float]:
        is_out, gain, structure = (row.outcome.status != DONE, *map(row.value, ORDER_BY))
        if has_referee:
            return is_out, False, float("-inf") if gain is None else -gain
        is_noisy = row.result is None
        return is_out, is_noisy, float("inf") if structure is None else structure

    return sorted(rows, key=rank)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that hold a number."""
    return [name for name in COLUMNS if any(row.value(name) is not None for row in rows)]


def cell(row: Row, column: str) -> str:
    """A number as it is printed."""
    value = row.value(column)
    return "–" if value is None else COLUMNS[column][1].format(value)


def remark_of(row: Row) -> str:
    """Why there is no result, or what to know about it."""
    if row.outcome.status != DONE:
        return f"{row.outcome.status}: {row.outcome.why}"
    return "; ".join(row.outcome.remarks)


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for a page of text."""
    columns = columns_of(rows)
    lines = ["| method | " + " | ".join(COLUMNS[c][0] for c in columns) + " | remarks |"]
    lines.append("| --- | " + "--: | " * len(columns) + "--- |")
    for row in rows:
        cells = [_escaped(row.name), *(cell(row, c) for c in columns), _escaped(remark_of(row))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """A table for a program: every number in full, empty where there is none."""
    file = io.StringIO()
    columns = columns_of(rows)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["method", "status", *columns, "remarks"])
    for row in rows:
        numbers = ["" if (v := row.value(c)) is None else repr(v) for c in columns]
        writer.writerow([row.name, row.outcome.status, *numbers, remark_of(row)])
    return file.getvalue()


def as_json(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Everything, for a program."""
    content = {
        **about,
        "rows": [
            {
                "method": row.name,
                "about": row.about,
                "status": row.outcome.status,
                "scores": row.outcome.scores,
                "seconds": row.value("seconds"),
                "peak_bytes": None if row.value("memory") is None else row.outcome.memory,
                "remarks": remark_of(row),
                "command": row.outcome.command,
            }
            for row in rows
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_text(rows: Sequence[Row], turned: bool = False) -> str:
    """A table for a terminal.

    turned  a line for each score instead of one for each result: many scores of few results
    """
    columns = columns_of(rows)
    table = [["score" if turned else "method", *(COLUMNS[c][0] for c in columns)]]
    table += [[row.name, *(cell(row, c) for c in columns)] for row in rows]
    if turned:
        table = [list(line) for line in zip(*table, strict=True)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))])  # noqa: B905
        for line in table
    ]
    notes = [f"{row.name}: {remark_of(row)}" for row in rows if remark_of(row)]
    return "\n".join([*lines, *notes])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
