"""The Markdown of the quality benchmark, made from its JSON and from nothing else."""

from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # {"scores": ..., "cost": ...} of one method on one scan
Column = tuple[str, Callable[[Row], str]]  # heading, cell

BEGIN, END = "<!-- quality:begin -->", "<!-- quality:end -->"
METHODS_BEGIN, METHODS_END = "<!-- methods:begin -->", "<!-- methods:end -->"
NAMES = {"joint": "**joint**"}  # quell's default stands out


def score(name: str, digits: int, factor: float = 1.0, sign: str = "") -> Callable[[Row], str]:
    """A cell with one score; a dash where there is none."""

    def cell(row: Row) -> str:
        value = row["scores"].get(name)
        return "–" if value is None else f"{factor * value:{sign}z.{digits}f}"

    return cell


def with_error(name: str, digits: int) -> Callable[[Row], str]:
    """A cell with one score and its standard error."""
    value, error = score(name, digits), score(f"{name}_error", digits)
    return lambda row: "–" if name not in row["scores"] else f"{value(row)} ± {error(row)}"


def cost(name: str, digits: int, factor: float = 1.0) -> Callable[[Row], str]:
    """A cell with one figure of cost; a dash where there is none, † for another processor."""

    def cell(row: Row) -> str:
        value, mark = row["cost"].get(name), "†" if "processor" in row else ""
        return "–" if value is None else f"{factor * value:.{digits}f}{mark}"

    return cell


TRIO: list[Column] = [
    ("MSE/σ²", with_error("mse", 3)),
    ("gain, dB", with_error("gain", 2)),
    ("gain, dB, floor off", with_error("gain_off", 2)),
]


def against_truth(ending: str = "") -> list[Column]:
    """The columns of the phantom; the ending "_off" is for results whose floor was taken off."""
    return [
        ("PSNR b>0, dB", score(f"psnr_dwi{ending}", 2)),
        ("PSNR b=0, dB", score(f"psnr_b0{ending}", 2)),
        ("FA error", score(f"fa_error{ending}", 4)),
        ("MD error", score(f"md_error{ending}", 4, factor=1e3)),
        ("mean, %", score(f"bias{ending}", 2, factor=100, sign="+")),
        ("lesion b=0", score(f"lesion_b0{ending}", 3)),
        ("lesion b>0", score(f"lesion_dwi{ending}", 3)),
    ]


AS_WRITTEN = [*against_truth(), ("residual r", score("residual", 4))]
FLOOR_OFF = against_truth("_off")
COST: list[Column] = [
    ("wall, s", cost("wall_seconds", 1)),
    ("processor, s", cost("cpu_seconds", 1)),
    ("memory, GiB", cost("peak_bytes", 2, factor=2**-30)),
    ("training, s", cost("training", 1)),
    ("inference, s", cost("inference", 1)),
]

INTRODUCTION = """\
# Quality

Every method ran as a command of its own on the same files, with {threads} threads on {processor}
({cores} cores), quell on {device} with the preset `{preset}`{settings}, up to {date}. Versions:
{versions}.
Made by `benchmarks/quality.py` from the JSON beside this page; nothing here is typed by hand.

- `noisy`: the scan as it is.
- `dwidenoise`: MRtrix3, its own defaults{without}.
- `patch2self`: quell's, ordinary least squares, one voxel at a time.
- `joint`: quell's default. `joint-white`: joint told that the noise is white; of the quell that
  is named above, which had no prior and is no match for the `joint` of later rows.
- `ddm2`, `difusion`, `noise2noise`: quell's, preset `fast`; on the real scan alone, the
  phantom is in [ablations.md](ablations.md). `ddm2-chain`: a chain of four steps instead of one;
  `ddm2-from-slice`: one step from the slice alone, where the published chain starts.
"""

ABOUT_TRIO = """\
## {words}

Repeat 1 (1 b=0 and 20 directions, b = 1000 s/mm²) is denoised alone and compared with the raw
repeat 2: MSE/σ² = mean (result − repeat 2)²/σ² − 1 over the b>0 volumes, in quell's own brain
mask of repeat 1 eroded by 2 voxels ({voxels:.0f} voxels); σ = sd(repeat 1 − repeat 2)/√2 =
{sigma:.1f}. Doing nothing scores 1, the truth 0; gain = −10 log₁₀ of it. ± is one standard error,
from the scatter over the volumes. Repeat 2 is magnitude data with its noise floor, and all
results keep theirs. *Floor off*: after quell took it off (`--remove-noise-floor`), which this
score counts as an error.
"""

ABOUT_PHANTOM = """\
## Phantom, {law} noise

Phantom B of `quell.simulate` (76 × 96 × 20 voxels, 6 b=0 and 64 directions, b = 1000 s/mm²).
SNR = b=0 of white matter / σ, σ the same everywhere unless said; *correlated*: 0.17 / 0.34 / 0
to the next voxel along x / y / z.

- PSNR: in the brain mask, range = b=0 of white matter (750).
- FA error, MD error (10⁻³ mm²/s): root mean square over white and grey matter against the
  tensors of the truth; DIPY, weighted least squares.
- mean: relative error of a volume's mean signal in the mask, of the volume where it is worst.
- lesion: its contrast to the white matter around it, over that of the truth; 1 is right.
- residual r: |correlation| of what was removed with the true image in the mask, mean over the
  volumes; 0 is right, and chance alone gives about 0.003.
"""

ABOUT_FLOOR = """\
Magnitude data has a noise floor, and all results here keep it. *PSNR*, *mean* and *lesion* compare
with the mean magnitude of the truth, E[m | truth], which averaging many noisy scans would give.
"""

ABOUT_FLOOR_OFF = """\
The same results after the floor was taken off, against the truth itself: for `joint` and
`joint-white` as `--remove-noise-floor` does it, with the noise map that quell learned; for
`patch2self` by the same formula and map; for `noisy` and `dwidenoise` with the true noise map.
"""

ABOUT_COST = """\
## What it took

Of the whole command, reading and writing included: wall time, processor time (user and system),
the largest resident memory. Training and inference: quell's own count; what is left of its wall
time is starting Python, reading, the checks, the noise model and writing.
"""


def write_table(results: dict[str, Any], path: Path) -> None:
    """The whole Markdown page."""
    scans, parts = results["scans"], [introduction(results)]
    if trio := scans.get("trio"):
        parts += [ABOUT_TRIO.format(words=trio["words"], **trio["facts"])]
        parts += [table("method", ((name, row) for name, row in trio["methods"].items()), TRIO)]
    for law in ("Gaussian", "Rician"):
        chosen = {name: scan for name, scan in scans.items() if name.startswith(law.lower())}
        if not chosen:
            continue
        parts += [ABOUT_PHANTOM.format(law=law)] + ([ABOUT_FLOOR] if law == "Rician" else [])
        parts += [table("noise: method", rows_of(chosen), AS_WRITTEN)]
        if law == "Rician":
            parts += [ABOUT_FLOOR_OFF, table("noise: method", rows_of(chosen), FLOOR_OFF)]
    if ran := [(name, row) for name, row in rows_of(scans, in_full=True) if row["cost"]]:
        parts += [ABOUT_COST, table("scan: method", ran, COST)]
    path.write_text("\n".join(parts) + elsewhere(results), encoding="utf-8")


def elsewhere(results: dict[str, Any], shown: Container[str] | None = None) -> str:
    """What † means, and which rows are of a newer quell.

    shown  the methods of the table; None: all
    """
    every = (pair for scan in results["scans"].values() for pair in scan["methods"].items())
    named = [(name, row) for name, row in every if shown is None or name in shown]
    there: dict[str, set[str]] = {}
    for name, row in named:
        if "processor" in row and row["cost"]:
            there.setdefault(row["processor"], set()).add(f"`{name}`")
    found = "; ".join(f"{', '.join(sorted(there[where]))} on {where}" for where in sorted(there))
    said = f"\n† other processors: {found}.\n" if found else ""
    newer = sorted({(name, row["quell"]) for name, row in named if "quell" in row})
    told = ", ".join(f"`{name}` {version}" for name, version in newer)
    return f"{said}\nMeasured later, with a newer quell: {told}.\n" if newer else said


def introduction(results: dict[str, Any]) -> str:
    run = results["run"]
    versions = {name: number for name, number in run["versions"].items() if number}
    return INTRODUCTION.format(
        **{name: run[name] for name in ("threads", "processor", "cores", "device", "preset")},
        settings=f" and {', '.join(run['set'])}" if run["set"] else "",
        date=results["date"],
        versions=", ".join(f"{name} {number}" for name, number in versions.items()),
        without="" if "dwidenoise" in versions else " (not installed where this was run)",
    )


def rows_of(scans: dict[str, Any], in_full: bool = False) -> Iterable[tuple[str, Row]]:
    """Every method on every scan, by name; in_full: the law, too."""
    for scan_name, scan in scans.items():
        law = scan_name.partition("-")[0].capitalize()
        words = f"{law}, {scan['words']}" if in_full and scan_name != "trio" else scan["words"]
        for name, row in scan["methods"].items():
            yield f"{words}: {NAMES.get(name, name)}", row


def table(corner: str, rows: Iterable[tuple[str, Row]], columns: list[Column]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [[corner, *(heading for heading, _ in columns)], ["---", *["--:"] * len(columns)]]
    lines += [[NAMES.get(name, name), *(cell(row) for _, cell in columns)] for name, row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ---- the short one -----------------------------------------------------------------------------

README_METHODS = ("noisy", "dwidenoise", "patch2self", "joint")
README_NOTE = """\

Trio: a real scan acquired twice; the first acquisition is denoised and the second one judges it.
Gain: how many times less mean squared error than the noisy scan has, in dB. Phantom: PSNR of the
b>0 volumes (of 70 in all) and error of FA, at two signal-to-noise ratios of white matter at b=0;
correlated noise is what scanners make. `joint` is quell's default, here with the preset
`{preset}`{settings}; {threads} threads of {processor}. All columns, and what they mean:
[benchmarks/results/quality.md](benchmarks/results/quality.md).
"""


STANDS = {
    "joint": "the default: all volumes at once, with the scan's own noise",
    "patch2self": "exact, a second or two of work; blurs nothing in space",
    "ddm2": "weighs the slice with its estimate from other volumes; that helps, not the chain",
    "ddm2-chain": "`--set output=chain`: a chain of four steps instead of one; slower, not better",
    "ddm2-from-slice": "`--set start=slice`, where the published chain starts: one image at a "
    "time, so far less",
    "difusion": "the same weighing at its end; without it, close to a regression",
    "c2s": "every volume by itself: for single images; a series shows more to `joint`",
    "noise2noise": "takes what differs between directions for noise; for repeats, not directions",
}


def fill_readme(results: dict[str, Any], path: Path) -> None:
    """Replace what stands between the marks of README.md."""
    text = path.read_text(encoding="utf-8")
    for begin, end, content in (
        (BEGIN, END, summary(results)),
        (METHODS_BEGIN, METHODS_END, standing(results)),
    ):
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"{path.name} must hold {begin} and {end} once each")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{content}{end}{rest.partition(end)[2]}"
    path.write_text(text, encoding="utf-8")


def standing(results: dict[str, Any]) -> str:
    """A line a method: what it reaches on the real scan, and what to think of it."""
    rows = results["scans"]["trio"]["methods"]
    lines = [["method", "gain, dB", "seconds", "what to think of it"], ["---", "--:", "--:", "---"]]
    for name, words in STANDS.items():
        if name in rows:
            cells_ = score("gain", 1)(rows[name]), cost("wall_seconds", 0)(rows[name])
            lines.append([f"`{name}`", *cells_, words])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + elsewhere(results, STANDS)


def summary(results: dict[str, Any]) -> str:
    """A line a scan, a column a method."""
    lines = [["", *README_METHODS], ["---", *["--:"] * len(README_METHODS)]]
    for name, scan in results["scans"].items():
        if name.endswith("-gfactor"):  # an extra, not part of the full run
            continue
        law = name.partition("-")[0].capitalize()
        rows = [scan["methods"].get(method) for method in README_METHODS]
        if name == "trio":
            lines.append([f"{scan['words']}: gain, dB", *cells(rows, score("gain", 1))])
            lines.append([f"{scan['words']}: seconds", *cells(rows, cost("wall_seconds", 0))])
        else:
            words = f"phantom, {law}, {scan['words']}: PSNR, dB"
            lines.append([words, *cells(rows, score("psnr_dwi", 1))])
            lines.append(["FA error", *cells(rows, score("fa_error", 3))])
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    run = results["run"]
    settings = f" and {', '.join(run['set'])}" if run["set"] else ""
    facts = {name: run[name] for name in ("preset", "threads", "processor")}
    note = README_NOTE.format(settings=settings, **facts)
    return body + note + elsewhere(results, README_METHODS)


def cells(rows: list[Row | None], cell: Callable[[Row], str]) -> list[str]:
    return ["–" if row is None else cell(row) for row in rows]
