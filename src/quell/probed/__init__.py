"""What a method would erase, from a scan's file to a folder: `quell probe`.

OUT/probe.json, .csv    every structure, and the table by kind
OUT/probe.html, .png    the page and its figure

Reading order: asked, runners, showing, folder.
"""

from .asked import Probing
from .folder import probe_file, probe_scan
from .showing import SHARES, Found, as_text

__all__ = ["SHARES", "Found", "Probing", "as_text", "probe_file", "probe_scan"]
