"""quell probe: what a method would erase on a scan."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from ..methods import DEFAULT
from ..options import Options
from ..probed import Probing, as_text, probe_file
from ..series import InputError
from ..voice import printable, speaking
from .options import (
    METHOD,
    OUTPUTS,
    RUN,
    Bval,
    Bvec,
    Coils,
    Device,
    FourthAxis,
    IsQuiet,
    Law,
    Mask,
    NoiseIn,
    Phase,
    Scan,
    Seed,
    Settings,
    Threads,
    option,
    read_settings,
)


def probe(
    scan: Scan,
    out: Annotated[Path, option(OUTPUTS, "folder for table, page and figure", metavar="FOLDER")],
    mask: Mask = None,
    bval: Bval = None,
    bvec: Bvec = None,
    phase: Phase = None,
    fourth_axis: FourthAxis = "directions",
    force: Annotated[
        bool, option(OUTPUTS, "write into a folder that is not empty", "--force")
    ] = False,
    method: Annotated[
        str | None, option(METHOD, f"see `quell methods`; default: {DEFAULT}", metavar="NAME")
    ] = None,
    preset: Annotated[
        str | None, option(METHOD, "fast, default, ...: see `quell methods`", metavar="NAME")
    ] = None,
    setting: Settings = None,
    external: Annotated[
        str | None,
        option(
            METHOD,
            "any other program instead, 'name=command {in} {out}'; also {bval} {bvec} {mask} "
            "{threads}",
            metavar="NAME=COMMAND",
        ),
    ] = None,
    noise_in: NoiseIn = None,
    noise_law: Law = "auto",
    coils: Coils = None,
    scans: Annotated[
        int | None,
        option(
            RUN,
            "with structures, 1 or 2, each one run more; default: 2, of methods that train 1",
            metavar="N",
        ),
    ] = None,
    minutes_per_run: Annotated[
        float, option(RUN, "a program that takes longer is stopped", metavar="MINUTES")
    ] = 60.0,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    quiet: IsQuiet = False,
) -> None:
    """Say what a method would erase on a scan.

    Structures of known size and strength are added to the scan, in one volume, in the nearest
    four and in all, at edges and in flat tissue. It is denoised with and without them, and the
    share of each that is kept is tabled with its standard error.
    """
    if external is not None and (method is not None or preset is not None or setting):
        raise InputError(
            "--external is instead of a method of quell; leave out --method, --preset and --set", 2
        )
    options = Options(
        method=method or DEFAULT,
        preset=preset or "default",
        settings=read_settings(setting or []),
        seed=seed,
        device=device,
        threads=threads,
        noise_law=noise_law,
        coils=coils,
        fourth_axis=fourth_axis,
    )
    asked = Probing(
        scan=scan,
        out=out,
        program=external or "",
        mask=mask,
        bval=bval,
        bvec=bvec,
        phase=phase,
        noise_in=noise_in,
        scans=scans,
        minutes=minutes_per_run,
        force=force,
    )
    with speaking(quiet) as voice:
        found = probe_file(asked, options, shlex.join(["quell", *sys.argv[1:]]), voice)
    if not quiet:
        for line in as_text(found).splitlines():
            print(printable(line))
        print(printable(f"page: {out / 'probe.html'}"))
