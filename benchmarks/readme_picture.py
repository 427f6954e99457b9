"""The picture of README.md: one volume of the demo scan before, after, and what was removed.

python benchmarks/readme_picture.py                      denoises the demo scan first
python benchmarks/readme_picture.py denoised.nii.gz      a result that is there already
"""

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

import quell
from quell.report import comparison_figure, view_of
from quell.voice import Lines

PICTURE = Path(__file__).parents[1] / "docs" / "picture.png"
VOLUME = 12  # one of the 40 directions
WIDTH = 400  # px of each of the three
BRIGHTEST = 98.5  # percentile of the denoised volume in the mask that is drawn white
RESIDUAL_RANGE = 3  # sigma at which the residual is drawn black or white


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("denoised", type=Path, nargs="?", help="a result; default: made now")
    parser.add_argument("--preset", default="default", help="for a result that is made now")
    parser.add_argument("--out", type=Path, default=PICTURE)
    options = parser.parse_args()
    with as_file(files("quell") / "demo_scan") as demo:
        scan = quell.load(demo / "dwi.nii.gz", mask=demo / "mask.nii.gz")
    if options.denoised:
        denoised = quell.load(options.denoised).data
        if denoised.shape != scan.data.shape:
            raise SystemExit(f"{options.denoised} is not a result of the demo scan")
    else:
        denoised = quell.denoise(scan, preset=options.preset, voice=Lines()).denoised
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(draw(scan, denoised))
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


def draw(scan: quell.Series, denoised: np.ndarray) -> bytes:
    """Before, after, residual of one volume in one axial slice, side by side as PNG.

    denoised  (X, Y, Z, V)  scanner units
    """
    before, after = scan.data[..., VOLUME], denoised[..., VOLUME]
    mask = np.ones(before.shape, dtype=bool) if scan.mask is None else scan.mask
    removed = before - after
    brightest = float(np.percentile(after[mask], BRIGHTEST))
    sigma = float(np.std(removed[mask]))
    grey, around_0 = (0.0, brightest), (-RESIDUAL_RANGE * sigma, RESIDUAL_RANGE * sigma)
    return comparison_figure(
        [before, after, removed],
        view_of(mask, scan.affine),
        [grey, grey, around_0],
        ["before", "after", "removed"],
        ["gray"] * 3,
        width=WIDTH,
        names=("axial",),
    )


if __name__ == "__main__":
    main()
