"""Series: one 4-D scan with its grid, gradients and sidecar, as read and as written.

Idea    Everything the rest of quell needs from disk is read here once, and whatever is wrong
        with a file is said here in one sentence, before any work is done.
Here    `scan` is what a scan is, `reading` and `writing` its two ends, `brain` its mask,
        `air` what it may leave out.
Differs Output is always float32 with slope 1, whatever the input's type: an int16 output
        would truncate the denoised values.
"""

from .air import is_open
from .beside import read_json
from .brain import brain_mask, mask_of, outside_mask
from .neighbours import NEIGHBOURS, prior_volumes, shells, show_the_same
from .reading import GRID_TOLERANCE, LARGEST, bvals_of, load, load_map, open_scan, sources_of
from .scan import B0_MAX, FOURTH_AXES, IMAGE_ENDINGS, InputError, Series, stem
from .writing import copy_gradients, parts_of, replacing, write_image, write_mask, write_nifti

__all__ = [
    "B0_MAX",
    "FOURTH_AXES",
    "GRID_TOLERANCE",
    "IMAGE_ENDINGS",
    "InputError",
    "LARGEST",
    "Series",
    "NEIGHBOURS",
    "is_open",
    "load",
    "read_json",
    "load_map",
    "open_scan",
    "sources_of",
    "bvals_of",
    "mask_of",
    "outside_mask",
    "prior_volumes",
    "shells",
    "show_the_same",
    "brain_mask",
    "write_image",
    "write_mask",
    "write_nifti",
    "parts_of",
    "copy_gradients",
    "stem",
    "replacing",
]
