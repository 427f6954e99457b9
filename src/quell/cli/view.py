"""quell view: a noisy and a denoised scan side by side in the browser."""

import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ..view import Server, open_scans
from .options import FILE, INPUTS, RUN, Bval, option


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
    port: Annotated[
        int | None,
        option(RUN, "on this machine; default: a free one", min=1, max=65535, metavar="N"),
    ] = None,
    no_browser: Annotated[bool, option(RUN, "only print the address", "--no-browser")] = False,
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
                # a browser in the terminal would hold up the server that it waits for
                opening = threading.Thread(target=webbrowser.open, args=(server.address,))
                opening.daemon = True
                opening.start()
            server.serve_forever()
        except KeyboardInterrupt:  # the way to end it
            pass
