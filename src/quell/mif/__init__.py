"""MRtrix images: .mif, .mih with its .dat, and .mif.gz, read and written.

Idea    A file is kept as it lies: the array has the axes in the order and direction in which the
        voxels are stored, with the affine that belongs to it. That is what `mrconvert` writes as
        NIfTI, so a mask, a gradient table or a result of either format fits the other.
Here    `header` is the text at the start, `layout` the order of the voxels, `gradients` the
        directions (in the axes of the scanner there, of the image in FSL), `image` a file that is
        read, `text` the header of a file that is written.
Differs MRtrix takes a file's data from any path that its header names; here only from a file in
        the same folder, because a header is untrusted text.
"""

from .gradients import gradients_of, scheme_of
from .header import Header, MifError
from .image import MifImage
from .layout import Layout
from .text import header_for, packed

MIF_ENDINGS = (".mif.gz", ".mif", ".mih")

__all__ = [
    "MIF_ENDINGS",
    "Header",
    "Layout",
    "MifError",
    "MifImage",
    "gradients_of",
    "scheme_of",
    "header_for",
    "packed",
]
