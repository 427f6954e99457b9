"""quell demo: the real scan that comes with quell, denoised."""

import shlex
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from ..files import Files, report_beside
from ..options import Options
from ..outputs import denoise_file
from ..series import InputError
from ..voice import speaking
from .options import IsQuiet, Preset


def demo(
    folder: Annotated[
        Path, typer.Argument(help="where to write", metavar="FOLDER", show_default="quell-demo")
    ] = Path("quell-demo"),
    preset: Preset = "default",
    quiet: IsQuiet = False,
) -> None:
    """Denoise the real scan that comes with quell, and say where the result lies."""
    was_here = _unpack_demo(folder)
    out = folder / "denoised.nii.gz"
    written = Files(
        scan=folder / "dwi.nii.gz",
        out=out,
        noise_out=folder / "noise.nii.gz",
        residual_out=folder / "residual.nii.gz",
        report=report_beside(out),
    )
    command = f"quell demo {shlex.quote(str(folder))} --preset {preset}"
    with speaking(quiet) as voice:
        denoise_file(written, Options(preset=preset, probe=True), was_here, command, voice)
    if not quiet:
        print(f"noisy scan   {written.scan}")
        print(f"result       {written.out}")
        print(f"noise map    {written.noise_out}")
        print(f"residual     {written.residual_out}")
        print(f"report       {written.report}")


def _unpack_demo(folder: Path) -> bool:
    """Put the demo scan into a folder; whether all of it was there, from an earlier demo."""
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("quell") / "demo_scan") as packaged:
        sources = [packaged / name for name in ("dwi.nii.gz", "dwi.bval", "dwi.bvec")]
        there = [source for source in sources if (folder / source.name).exists()]
        for source in there:
            if (folder / source.name).read_bytes() != source.read_bytes():
                raise InputError(f"{folder / source.name} is another scan's; choose a new folder")
        for source in sources:
            shutil.copyfile(source, folder / source.name)
    return there == sources
