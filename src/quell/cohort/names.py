"""Names of what is written, and what stands beside it: BIDS derivatives.

Source  BIDS specification, "Derivatives": <source entities>[_desc-<label>]_<suffix>; a sidecar
        without `space-` in the name needs SpatialReference; metadata of the source is kept.
Here    The labels are quell's own; descriptions.tsv says what each means. `dwimap` is not in the
        specification yet (BEP016); a noise map bears that suffix as QSIPrep's does.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..record import as_json
from ..series import InputError, replacing
from .bids import Dataset, Scan

BIDS_VERSION = "1.10.0"
RAW = "raw"  # name of the source dataset in BIDS URIs
HIDDEN = ".quell"  # folder of checkpoints and of files that are not whole yet
LOGS = "logs"
DESCRIPTIONS = {
    "denoised": "The scan after denoising, on its own grid and in its own units.",
    "noise": "Standard deviation of the noise, in the units of the scan.",
    "residual": "What was removed: the scan as it was, minus the denoised one.",
    "brain": "Where the noise was learned and the result was measured.",
}
# What the validator's schema has no rule for: pages, logs, tables; noise maps; gradients of what
# was derived.
IGNORED = (
    "*.html", "figures", "**/figures", "**/figures/**", "logs", "models", "group.*", HIDDEN,
    "*_dwimap.*", "*.bval", "*.bvec",
)  # fmt: skip
README = """Scans denoised by quell.

Every scan keeps its grid, units and order of volumes. `descriptions.tsv` explains the labels,
`group.html` shows all scans at a glance, `logs/` holds what was said and what became of each.
quell is research software, not a medical device.
"""


def derivative(
    scan: Scan, desc: str, ending: str, suffix: str | None = None, part: str = ""
) -> Path:
    """Where a derivative of a scan lies, relative to the root of the output.

    desc    its label
    ending  with its dot
    suffix  None: the scan's own
    part    for a pair: which of the two
    """
    entities = scan.file.entities if part else scan.entities
    chosen = [(k, part if k == "part" else v) for k, v in entities if k != "desc"]
    name = "_".join([*(f"{k}-{v}" for k, v in chosen), f"desc-{desc}", suffix or scan.file.suffix])
    return folder_of(scan, scan.datatype) / f"{name}{ending}"


def folder_of(scan: Scan, last: str) -> Path:
    """The folder of a scan's derivatives of one kind, relative to the root of the output."""
    levels = [f"{key}-{scan.file.get(key)}" for key in ("sub", "ses") if scan.file.get(key)]
    return Path(*levels, last)


def report_of(scan: Scan) -> Path:
    """Where its report lies, relative to the root of the output."""
    subject = f"sub-{scan.file.get('sub')}"
    return Path(subject, "figures", derivative(scan, "denoised", ".html").name)


def uri(root: Path, path: Path) -> str:
    """The BIDS URI of a file of the source dataset."""
    return f"bids:{RAW}:{quote(path.relative_to(root).as_posix())}"


def sidecar_of(said: Mapping[str, Any], sources: Sequence[str], **more: Any) -> dict[str, Any]:
    """A derivative's sidecar.

    said     the source's metadata and the record of the run, as `quell denoise` writes them
    sources  BIDS URIs
    more     what belongs to this derivative alone
    """
    return {
        **said,
        "SpatialReference": "orig",
        "Sources": list(sources),
        "GeneratedBy": [generator()],
        **more,
    }


def generator() -> dict[str, str]:
    """quell, as GeneratedBy says it."""
    return {"Name": "quell", "Version": version("quell")}


def write_dataset(out: Path, dataset: Dataset) -> None:
    """What makes a folder a BIDS dataset: its description, its labels, what is not BIDS' own."""
    said, link = dataset.description, link_of(dataset, out)
    source = {"URL": link}
    if isinstance(doi := said.get("DatasetDOI"), str) and doi:
        source["DOI"] = doi
    about = {
        "Name": f"{said.get('Name') or 'A study'}, denoised by quell",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generator()],
        "SourceDatasets": [source],
        "DatasetLinks": {RAW: link},
    }
    lines = [("desc_id", "description"), *((f"desc-{k}", v) for k, v in DESCRIPTIONS.items())]
    texts = {
        "dataset_description.json": as_json(about),
        "descriptions.tsv": "".join(f"{a}\t{b}\n" for a, b in lines),
        ".bidsignore": "".join(f"{name}\n" for name in IGNORED),
        "README.md": README,
    }
    for name, text in texts.items():
        if not (out / name).is_file() or (out / name).read_bytes() != text.encode():
            with replacing(out / name) as file:
                file.write(text.encode("utf-8", "backslashreplace"))


def link_of(dataset: Dataset, out: Path) -> str:
    """Where the source dataset lies, seen from the output."""
    return quote(os.path.relpath(real(dataset.root), real(out)), safe="/.")


def real(path: Path) -> Path:
    """Where a path leads. `resolve` would raise what is no OSError for a link to itself."""
    return Path(os.path.realpath(path))


def inside(out: Path, path: Path) -> Path:
    """A path below the output folder, its folder made.

    Raises InputError where a link in it leads elsewhere, so that nothing is written there.
    """
    whole = out / path
    if not real(whole.parent).is_relative_to(real(out)):
        raise InputError(
            f"{whole.parent} is a link that leads out of {out}; nothing is written there: remove it"
        )
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{whole.parent} can't be made ({error.strerror}); look there") from error
    return whole
