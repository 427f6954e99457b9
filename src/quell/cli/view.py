"""quell view: a noisy and a denoised scan side by side in the browser."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..loopback import open_browser
from ..view import Server, open_scans
from .options import FILE, INPUTS, Bval, NoBrowser, Port, option


def view(
    noisy: Annotated[Path, typer.Argument(help="the noisy scan, NIfTI", metavar="NOISY")],
    denoised: Annotated[
        list[Path],
        typer.Argument(
            help="what was made of it; more results or maps may follow", metavar="DENOISED..."
        ),
    ],
    sigma: Annotated[
        Path | None, option(INPUTS, "noise map, to see the difference in units of it", **FILE)
    ] = None,
    bval: Bval = None,
    port: Port = None,
    no_browser: NoBrowser = False,
) -> None:
    """Look at a scan before and after denoising, side by side or by turns, in the browser.

    The page comes from this machine and can be reached from this machine only, under the address
    that is printed. Ctrl-C ends it.
    """
    with Server(open_scans(noisy, denoised, sigma, bval), port or 0) as server:
        try:
            print(server.address, flush=True)
            if not no_browser:
                print("quell: Ctrl-C ends it", file=sys.stderr)
                open_browser(server.address)
            server.serve_forever()
        except KeyboardInterrupt:  # the way to end it
            pass
