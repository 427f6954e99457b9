"""quell train: many scans into one model, by one process or several."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..options import Options, refuse_options
from ..processes import connected, device_of_this, is_main
from ..series import InputError
from ..train_many import TrainingFiles, refuse_method, train_files
from ..voice import speaking
from .live import refuse_page, shown
from .options import (
    FILE,
    INPUTS,
    METHOD,
    OUTPUTS,
    RUN,
    Coils,
    Device,
    FourthAxis,
    IsQuiet,
    IsStrict,
    Law,
    Live,
    NoBrowser,
    Port,
    Preset,
    Seed,
    Settings,
    Threads,
    option,
    read_settings,
)

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def train(
    scans: Annotated[
        list[Path],
        typer.Argument(help="noisy scans, and folders of them", metavar="SCAN_OR_FOLDER..."),
    ],
    model_out: Annotated[Path, option(OUTPUTS, "write the model here, .safetensors", **FILE)],
    mask: Annotated[
        Path | None,
        option(INPUTS, "of all scans, if they share one grid; default: computed for each", **FILE),
    ] = None,
    fourth_axis: FourthAxis = "directions",
    skip_bad: Annotated[
        bool, option(INPUTS, "leave out scans that can't be used", "--skip-bad")
    ] = False,
    force: Annotated[bool, option(OUTPUTS, "replace a model that exists", "--force")] = False,
    work: Annotated[
        Path | None,
        option(
            OUTPUTS,
            "folder for the prepared scans and checkpoints while it runs; default: the model's",
            metavar="FOLDER",
        ),
    ] = None,
    method: Annotated[
        str, option(METHOD, "one that learns from many scans", metavar="NAME")
    ] = "c2s",
    preset: Preset = "default",
    setting: Settings = None,
    noise_law: Law = "auto",
    coils: Coils = None,
    parts: Annotated[
        int | None,
        option(
            RUN,
            "batches of one step, shared by the processes; default: one for each",
            min=1,
            metavar="N",
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    live: Live = False,
    port: Port = None,
    no_browser: NoBrowser = False,
    strict: IsStrict = False,
    quiet: IsQuiet = False,
) -> None:
    """Learn one model from many noisy scans, to be used on new ones by `quell apply`.

    Scans are prepared once and read from disk, so they need not fit into memory together. An
    interrupted training goes on when the same command is run again. Several processes, one for
    each GPU: torchrun --nproc-per-node 2 -m quell train ...
    """
    with one_speaker():
        refuse_page(live, port, no_browser)
        options = Options(
            method=method,
            preset=preset,
            settings=read_settings(setting or []),
            seed=seed,
            device=device_of_this(device),
            threads=threads,
            noise_law=noise_law,
            coils=coils,
            fourth_axis=fourth_axis,
            strict=strict,
        )
        refuse_method(options)
        _, where = refuse_options(options)
        files = TrainingFiles(tuple(scans), model_out, mask, work, skip_bad, force)
        is_shown, results = live and is_main(), {"model": model_out}
        with (
            speaking(quiet or not is_main()) as plain,
            connected(where) as processes,
            shown(plain, is_shown, port, no_browser, model_out.name, results) as voice,
        ):
            train_files(files, options, parts, processes, voice)


@contextmanager
def one_speaker() -> Iterator[None]:
    """Of several processes that end for one reason, only the main one says it."""
    try:
        yield
    except (InputError, KeyboardInterrupt) as error:
        if is_main():
            raise
        raise typer.Exit(getattr(error, "status", INTERRUPTED)) from None
