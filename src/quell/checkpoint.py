"""Checkpoint: all that a training needs to go on after it was stopped."""

import os
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from .held_out import Judged
from .muon import Muon
from .run import State
from .series import InputError

CHECKPOINT_SECONDS = 60.0


class Checkpoint:
    """All a training needs to go on, in one file that is whole or not there."""

    def __init__(
        self,
        folder: Path | None,
        task: str,
        net: nn.Module,
        optimisers: list[Muon | torch.optim.Optimizer],
        average: State,
        losses: list[float],
        is_kept: bool = True,
        judged: Judged | None = None,
    ) -> None:
        self.path = None if folder is None else folder / f"{task.replace(' ', '-')}.pt"
        self.net, self.optimisers, self.average, self.losses = net, optimisers, average, losses
        self.judged = judged
        self.is_kept = is_kept  # by this process; the others only read it
        self.saved = time.monotonic()

    def save_if_due(self) -> None:
        if time.monotonic() - self.saved >= CHECKPOINT_SECONDS:
            self.save()

    def save(self) -> None:
        if self.path is None or not self.is_kept:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        content = {
            "net": self.net.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average,
            "losses": self.losses,
        }
        if self.judged is not None:
            content |= {"errors": self.judged.errors, "best": self.judged.best}
        try:
            with open(temporary, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name without content
            os.replace(temporary, self.path)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                temporary.unlink()
            folder = self.path.parent.parent
            raise InputError(f"no checkpoint can be written in {folder}; free space") from error
        self.saved = time.monotonic()

    def load(self) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            content = torch.load(self.path, weights_only=True)
            known = content["net"]
            if self.judged is not None and not content["errors"]:
                return
            fits = {k: v.shape for k, v in known.items()} == {
                k: v.shape for k, v in self.net.state_dict().items()
            }
        except Exception:  # damaged, in any of many ways: learn anew
            return
        if not fits:
            return
        self.net.load_state_dict(content["net"])
        for optimiser, state in zip(self.optimisers, content["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        for name, value in content["average"].items():
            self.average[name].copy_(value)
        self.losses.extend(content["losses"])
        if self.judged is not None:
            self.judged.errors.extend(content["errors"])
            self.judged.best = content["best"]
