"""Server: the page of `quell view` and its voxels, for whoever may ask (`loopback`)."""

import re
from functools import partial
from importlib.resources import files

from .. import loopback
from ..loopback import CSS, HTML, JS, JSON, NOT_HERE, Answer
from .scans import Scans

NIFTI = "application/octet-stream"
PAGE = {  # what follows the token in the address -> kind and file
    "": (HTML, "page/view.html"),
    "view.css": (CSS, "page/view.css"),
    "view.js": (JS, "page/view.js"),
    "chart.js": (JS, "page/chart.js"),
    "niivue.umd.js": (JS, "niivue/niivue.umd.js"),
}
PICTURE = re.compile(r"(volume|difference|ratio)/([0-9]{1,6})/([0-9]{1,6})")
SIGNAL = re.compile(r"signal\?x=([0-9]{1,6})&y=([0-9]{1,6})&z=([0-9]{1,6})")


def answer(scans: Scans, what: str) -> Answer:
    """The answer to what follows the token in the address, taken as it is: nothing is decoded."""
    if what in PAGE:
        kind, name = PAGE[what]
        return Answer(kind, files(__package__).joinpath(name).read_bytes())
    if what == "scans":
        return Answer(JSON, scans.description())
    if match := PICTURE.fullmatch(what):
        i, v = int(match[2]), int(match[3])
        if i >= len(scans.files) or v >= scans.n_volumes:
            return NOT_HERE
        picture = {"volume": scans.volume, "difference": scans.difference, "ratio": scans.ratio}
        return Answer(NIFTI, picture[match[1]](i, v))
    if match := SIGNAL.fullmatch(what):
        x, y, z = (int(n) for n in match.groups())
        if any(n >= size for n, size in zip((x, y, z), scans.files[0].image.shape, strict=False)):
            return NOT_HERE
        return Answer(JSON, scans.signal(x, y, z))
    return NOT_HERE


class Server(loopback.Server):
    """Serves some scans until it is closed. Raises InputError if the port cannot be had."""

    def __init__(self, scans: Scans, port: int = 0) -> None:
        super().__init__(partial(answer, scans), port)
