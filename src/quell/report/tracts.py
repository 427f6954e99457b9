"""The section of a page on streamlines: the same bundle in every result, and its histograms.

Paper   Di-Fusion, ICLR 2025, figure 4.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from ..evaluate import Bundle
from .bundle import bundle_picture, bundle_view, fbc_histogram, largest_plane
from .comparison import Picture, Section
from .figures import window_of


def bundle_section(
    bundles: Mapping[str, Bundle],
    noisy: str,
    anatomy: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
) -> Section:
    """One picture for each result, cut alike, and one chart of all.

    bundles  of every result, the noisy scan's among them under the name `noisy`
    anatomy  (X, Y, Z)  what they are drawn over, data units
    mask     (X, Y, Z)  of the brain
    affine   (4, 4)     mm
    """
    view, window = bundle_view(bundles[noisy], mask, affine), window_of(anatomy, mask)
    plane = largest_plane(bundles[noisy], affine)
    pictures = []
    for name, bundle in bundles.items():
        said = f"{len(bundle.streamlines)} streamlines, {int(bundle.is_coherent.sum())} coherent"
        drawn = bundle_picture(bundle, anatomy, view, window, names=(plane,))
        pictures.append(Picture.plain(name, said, drawn))
    pictures.append(Picture.themed("All", "in the same colours", partial(fbc_histogram, bundles)))
    return Section(
        "Streamlines from the seeds to the target",
        "Coloured by how well the others support each place, in one scale: bright where they run "
        "together, dark where one strays. Few streamlines are no merit by themselves: fibres that "
        "were lost are missing, too.",
        pictures,
    )
