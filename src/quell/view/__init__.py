"""View: a noisy and a denoised scan side by side in the browser.

Idea    What denoising did is best judged by eye: the same slice before and after, by turns, and
        what was taken away. Every number comes from nibabel, the browser only draws.
Here    `scans` is what can be asked of the files, `server` who may ask, `page` what is shown;
        `niivue` is the viewer, as published.
"""

from .scans import Scans, open_scans
from .server import Server

__all__ = ["Scans", "open_scans", "Server"]
