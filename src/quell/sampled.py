"""Images from noise alone, by a model on disk, as a file."""

from pathlib import Path

import nibabel as nib
import numpy as np

from .files import Files, files_beside, refuse_paths
from .methods import CanSample
from .models import options_of, read_model
from .options import Options, refuse_options
from .run import Run, Voice
from .series import InputError, Series, write_image


def sample_file(
    model: Path,
    out: Path,
    number: int,
    steps: int,
    seed: int,
    device: str,
    force: bool,
    voice: Voice,
) -> None:
    """Images from noise alone by a model on disk: (X, Y, number, 1), 0 to 1, no place in space.

    Raises InputError for a model that is none, or of a method that can't draw images.
    """
    refuse_paths(Files(model, out), force)
    bundle = read_model(model)
    options = options_of(bundle, Options(seed=seed, device=device))
    method, where = refuse_options(options)
    if not isinstance(method, CanSample):
        raise InputError(f"{method.name} draws no images; give a model of ddm2")
    run = Run(seed, where, voice=voice)
    images = method.sample(bundle.state, bundle.shape[:2], number, steps, run)
    header = nib.Nifti1Header()
    stack = ((images + 1) / 2)[..., None]
    header.set_data_shape(stack.shape)
    write_image(out, stack, Series(stack, np.eye(4), header))
    for path in files_beside(out):  # of what stood here before
        path.unlink(missing_ok=True)
    voice.say(f"wrote {out}: {number} images; none is a measurement")
