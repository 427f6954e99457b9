"""Options: what a person can choose besides the method's own settings, and what can't be meant."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .methods import DEFAULT, Method, make
from .noise import refuse_law
from .run import choose_device
from .series import FOURTH_AXES, InputError, Series
from .series.scan import first_line


@dataclass(frozen=True)
class Options:
    """What a person can choose besides the method's own settings."""

    method: str = DEFAULT  # see `quell methods`
    preset: str = "default"  # see `quell methods`
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the method, over the preset
    seed: int = 0  # every random number follows from it
    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    threads: int | None = None  # CPU threads; None: all cores
    noise_law: str = "auto"  # auto, gaussian, rician, nc-chi
    coils: float | None = None  # N of nc-chi; None: read from the background
    remove_floor: bool = False  # of magnitude data; a later Rician correction must then be left out
    blend: float = 0.0  # kappa: share of the noisy scan in the result; 0 none, 1 all
    calibrate: bool = False  # go the best share of the way, from repeats or by SURE
    probe: bool = False  # what it would erase: one more run, of methods that do not train
    uncertainty: bool = False  # how far the truth lies from the result, by one more pass
    fourth_axis: str = "directions"  # directions, repetitions, contrasts, echoes
    apply_mask: bool = False  # zero outside the mask
    strict: bool = False  # warnings of the checks are errors


def with_choices(options: Options | None, choices: Mapping[str, Any]) -> Options:
    """Options with choices laid over: its own fields by name, all else settings of the method."""
    options = options or Options()
    known = {name: value for name, value in choices.items() if name in Options.__dataclass_fields__}
    settings = {name: value for name, value in choices.items() if name not in known}
    return replace(options, **{"settings": {**options.settings, **settings}, **known})


def refuse_options(options: Options) -> tuple[Method, torch.device]:
    """The method and the device that are meant; InputError (status 2) for what can't be meant."""
    method = make(options.method, options.preset, **options.settings)
    refuse_law(options.noise_law, options.coils)
    if not 0 <= options.blend <= 1:
        raise InputError(f"a blend of {options.blend:g} can't be; give 0 to 1", 2)
    if options.blend and options.remove_floor:
        raise InputError(
            "a blend would put back the noise floor that is to be removed; leave one of them out", 2
        )
    if options.fourth_axis not in FOURTH_AXES:
        known = ", ".join(FOURTH_AXES)
        raise InputError(f"fourth axis {options.fourth_axis!r} is unknown; choose from {known}", 2)
    if options.calibrate and method.units != "sigma":
        raise InputError(
            f"{method.name} can't be calibrated, as it knows no noise level; leave it out", 2
        )
    if options.uncertainty and not getattr(method, "is_posterior_mean", False):
        raise InputError(
            f"{method.name} does not know how sure it is; use --method joint, c2s or wiener, or "
            "leave --uncertainty-out out", 2
        )  # fmt: skip
    if options.uncertainty and (options.calibrate or options.blend):
        raise InputError(
            "the uncertainty is that of the method's own result; leave out --calibrate and "
            "--blend, or --uncertainty-out", 2
        )  # fmt: skip
    if options.threads is not None and options.threads < 1:
        raise InputError(f"{options.threads} threads can't work; give 1 or more", 2)
    try:
        return method, choose_device(options.device)
    except (ValueError, RuntimeError) as error:
        raise InputError(first_line(error), status=2) from None


def refuse_scan(scan: Series, method: Method) -> None:
    """Raise InputError for a scan that the method can't take."""
    where = scan.path or "the scan"
    if scan.n_volumes == 1 and not getattr(method, "takes_one_image", False):
        raise InputError(
            f"{where} is one image and {method.name} needs several; use --method c2s, or merge "
            "repeats or directions of the same anatomy into one 4-D file"
        )
    if scan.contrasts is not None and not getattr(method, "takes_contrasts", False):
        raise InputError(f"{method.name} takes no other contrasts; use --method c2s", 2)
    if scan.contrasts is not None and scan.contrasts.shape[:3] != scan.data.shape[:3]:
        raise InputError("the contrasts are not on the grid of the scan; resample them onto it")
    if scan.contrasts is not None and not np.isfinite(scan.contrasts).all():
        raise InputError("the contrasts hold NaN or Inf; set these voxels to 0")
    if np.iscomplexobj(scan.data) and getattr(method, "intensities", "") == "volume-maximum":
        raise InputError(f"{method.name} takes no complex data with these settings; give magnitude")
