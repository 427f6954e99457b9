"""Images of raw scans, as a file with its record."""

import json
from pathlib import Path

from .files import Files, file_beside, refuse_paths
from .kspace import join, load_kspace, reconstruct
from .record import versions
from .run import Voice
from .series import Series, replacing, write_image


def reconstruct_files(
    raw: list[Path],
    out: Path,
    axes: str | None,
    key: str | None,
    combine: str,
    force: bool,
    command: str,
    voice: Voice,
) -> Series:
    """Images of raw scans, as a NIfTI file with its json: one volume for each repetition.

    raw      files of one protocol; the repetitions of each, one file after the other
    axes     what their axes are, None for those of fastMRI and M4Raw
    key      name of the array in each file, None to find it
    combine  how coils become one image
    command  what reproduces this run, for the json

    Raises InputError, with nothing written, for what can't be read, used or written.
    """
    for path in raw:
        refuse_paths(Files(path, out), force)
    kspace = join([load_kspace(path, axes, key) for path in raw])
    series = reconstruct(kspace, combine)
    said = series.sidecar["Reconstruction"]
    for note in said["Notes"]:
        voice.say(f"note: {note}")
    text = json.dumps(
        {
            **series.sidecar,
            "Reconstruction": {
                **said,
                "RawFiles": [path.name for path in raw],
                "Command": command,
                "Versions": versions(),
            },
        },
        indent=2,
    )
    with replacing(file_beside(out, ".json")) as file:  # both are there, or neither is new
        file.write(text.encode())
        write_image(out, series.data, series, command)
    for ending in (".bval", ".bvec"):  # of what stood here before: these have no gradients
        file_beside(out, ending).unlink(missing_ok=True)
    voice.say(f"wrote {out}: {' x '.join(map(str, series.data.shape))}, noise of sigma 1")
    return series
