"""The one training loop of quell: optimiser, average of the weights, checkpoint, resume.

Here    Convolution kernels are trained by Muon (see `muon`), everything else by AdamW. Learning
        rates rise linearly, then fall along a cosine.
Many    A step is the mean over its parts. One process takes them in turn, several share them, and
        all then take the same step: the curve depends on the parts, not on who worked at them.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .held_out import Judged
from .muon import Muon
from .processes import ProcessLostError
from .run import Run, State, has_fast_bfloat16
from .series import InputError
from .slices import Batch

N = TypeVar("N", bound=nn.Module)
Network = Callable[..., Tensor]  # a module, or its forward pass in bfloat16

STEPS_UNREAD = {"cuda": 10}  # who reads a loss waits for the device, and it then for the next step
WARM_UP = 0.05  # of all steps


@dataclass(frozen=True)
class Training:
    """How long and how fast a network learns."""

    steps: int
    learning_rate: float = 2e-3  # of AdamW
    muon_rate: float = 0.02  # of Muon: the spectral norm of a step
    weight_decay: float = 0.01
    average: float = 0.99  # decay of the running average of the weights (EMA)
    parts: int = 1  # batches of one step, each from its own generator; processes share them
    judge_every: int = 25  # steps, where held-out voxels judge
    is_plain: bool = False  # Adam at a constant rate, no average: as the diffusion papers train

    @staticmethod
    def of(network: str, steps: int) -> "Training":
        """Adam at 1e-4 for the "published" network, quell's own way for a "lean" one."""
        return Training(steps, 1e-4, is_plain=True) if network == "published" else Training(steps)


def train(
    net: nn.Module,
    draw: Callable[[torch.Generator], Batch],
    loss: Callable[[Network, Batch, torch.Generator], Tensor],
    training: Training,
    run: Run,
    stage: str = "",
    as_state: Callable[[State], State] | None = None,
    judge: Callable[[Network], float] | None = None,
) -> State:
    """Train a network; return the running average of its weights, where judged the best of them.

    net       trained in place, on the run's device
    draw      a batch from a generator
    loss      scalar of network, batch and generator
    stage     its name, where a method trains more than one network
    as_state  all that the method learned, of these weights; None where more is to be learned first
    judge     the loss of a network on held-out voxels, the same whenever it is asked; training
              ends where that gets no better

    Resumes from the run's folder where an interrupted run left a checkpoint; a step depends on
    the seed and its number alone, so the result is the same to the byte on the same device. Only
    the main process writes there, and all of them end with the same weights.
    """
    refuse_parts(training.parts, run.processes.count)
    net.to(run.device)
    task = f"training {stage}".strip()
    kernels = [p for p in net.parameters() if p.ndim > 2 and not training.is_plain]
    others = [p for p in net.parameters() if p.ndim <= 2 or training.is_plain]
    muon = Muon(kernels, weight_decay=training.weight_decay)
    decay, memory = (0.0, 0.999) if training.is_plain else (training.weight_decay, 0.99)
    adam = torch.optim.AdamW(others, weight_decay=decay, betas=(0.9, memory))
    average = {name: p.detach().clone() for name, p in net.state_dict().items()}
    losses: list[float] = []
    unread: list[Tensor] = []  # of the last steps, still on the device
    forward = net if training.is_plain else fastest(net, run.device)  # published: float32
    judged = (
        None
        if judge is None
        else Judged(partial(_judged, net, forward, average, judge, run), training.judge_every)
    )
    checkpoint = Checkpoint(
        run.folder, task, net, [muon, adam], average, losses, run.processes.rank == 0, judged
    )
    checkpoint.load()
    if judged is not None and not judged.errors:
        judged.look(judged.judge(), average)
    start, first, is_whole = time.monotonic(), len(losses), True
    try:
        for step in range(first, training.steps):
            if judged is not None and judged.is_over:
                break
            value = _mean_over_parts(net, forward, draw, loss, training, run, stage, step)
            pace = 1.0 if training.is_plain else _pace(step, training.steps)
            is_whole = False  # half a step must not be kept: resumed, it would be taken twice
            muon.step_at(training.muon_rate * pace)
            for group in adam.param_groups:
                group["lr"] = training.learning_rate * pace
            adam.step()
            keep = 0.0 if training.is_plain else min(training.average, (1 + step) / (10 + step))
            _move_average(average, net, keep)
            unread.append(value)
            is_last = step + 1 == training.steps
            if judged is not None and ((step + 1) % judged.every == 0 or is_last):
                judged.look(judged.judge(), average)
            if len(unread) < STEPS_UNREAD.get(run.device.type, 1) and not is_last:
                is_whole = True
                continue
            _read(unread, losses)
            is_whole = True
            checkpoint.save_if_due()
            left = (time.monotonic() - start) / (step + 1 - first) * (training.steps - step - 1)
            note = f"loss {sum(losses[-20:]) / len(losses[-20:]):.4f}, {left:.0f} s left"
            run.voice.progress(task, step + 1, training.steps, note)
            now = None if as_state is None else partial(_state, average, as_state)
            run.voice.learned(task, losses, now)
    except (KeyboardInterrupt, ProcessLostError):
        if is_whole:
            _read(unread, losses)  # a checkpoint goes on after the last loss that it holds
            checkpoint.save()
        raise
    _read(unread, losses)
    checkpoint.save()  # what follows may be interrupted, too
    run.keep(f"losses {stage}".strip(), torch.tensor(losses).numpy())
    if judged is not None:
        run.keep(f"held-out losses {stage}".strip(), np.array(judged.errors))
        return _on_cpu(judged.best)
    return _on_cpu(average)


@torch.no_grad()
def _judged(
    net: nn.Module, forward: Network, average: State, judge: Callable[[Network], float], run: Run
) -> float:
    """What a network of averaged weights is judged to be; the main process says it for all."""
    as_it_was = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(average)
    error = judge(forward) if run.processes.rank == 0 else 0.0
    net.load_state_dict(as_it_was)
    if run.processes.count == 1:
        return error
    return float(run.processes.sum(torch.tensor([error]))[0])


def _read(unread: list[Tensor], losses: list[float]) -> None:
    """Move losses from the device to the list of those that are known."""
    losses.extend([value.item() for value in unread])
    unread.clear()


def refuse_parts(parts: int, n_processes: int) -> None:
    """Raise InputError (status 2) for parts of a step that processes can't share evenly."""
    if parts < 1 or parts % n_processes:
        raise InputError(
            f"{parts} parts can't be shared evenly by {n_processes} processes; "
            f"give --parts a multiple of {n_processes}",
            2,
        )


def _mean_over_parts(
    net: nn.Module,
    forward: Network,
    draw: Callable[[torch.Generator], Batch],
    loss: Callable[[Network, Batch, torch.Generator], Tensor],
    training: Training,
    run: Run,
    stage: str,
    step: int,
) -> Tensor:
    """The loss of one step; its gradient is left in the network of every process."""
    net.zero_grad(set_to_none=True)
    value = torch.zeros((), device=run.device)
    for part in range(run.processes.rank, training.parts, run.processes.count):
        rng = run.rng(f"train{stage}", step, part)
        batch = replace(draw(rng).to(run.device), progress=step / training.steps)
        share = loss(forward, batch, rng) / training.parts
        share.backward()
        value = value + share.detach()
    if run.processes.count == 1:
        return value
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([value.reshape(1), *(g.reshape(-1) for g in gradients)])  # one message
    value, *sums = run.processes.sum(flat).split([1, *(g.numel() for g in gradients)])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view(gradient.shape))
    return value


def named(network: str, weights: State) -> State:
    """The weights of a network by "NETWORK.NAME"."""
    return {f"{network}.{name}": value for name, value in weights.items()}


def load_weights(net: N, state: State, prefix: str) -> N:
    """The network with its weights of a state; InputError where they are not all there."""
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    try:
        net.load_state_dict(weights)
    except RuntimeError:  # torch names every weight that is missing or has another shape
        raise InputError(
            "the weights do not fit this method, its settings or this scan; train anew"
        ) from None
    return net


def fastest(net: nn.Module, device: torch.device) -> Network:
    """The forward pass of a network, in bfloat16 where the device is fast with it.

    Trap: on CPUs the gradients of a 3-D convolution of bfloat16 over images two deep hold memory
    that nobody wrote (torch 2.13), so in 3-D a CPU computes in float32.
    """
    is_3d = any(isinstance(module, nn.Conv3d) for module in net.modules())
    if not has_fast_bfloat16(device) or (is_3d and device.type == "cpu"):
        return net
    return in_bfloat16(net)


def as_used(net: nn.Module, network: str, device: torch.device) -> Network:
    """The forward pass of a network that has learned: on a GPU the fastest, else in float32.

    So a model gives the same on every CPU. A "published" network stays in float32 everywhere.
    """
    return net if network == "published" or device.type == "cpu" else fastest(net, device)


def in_bfloat16(net: nn.Module) -> Network:
    """The forward pass of a network with its convolutions in bfloat16, float32 in and out.

    Nothing else may be: eight bits of a signal of 1000 sigma are wrong by several sigma.
    """

    def forward(*inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            result: Tensor = net(*inputs)
        return result.float()

    return forward


def _on_cpu(average: State) -> State:
    return {name: value.cpu().contiguous() for name, value in average.items()}


def _state(average: State, as_state: Callable[[State], State]) -> State:
    return as_state(_on_cpu(average))


def _pace(step: int, steps: int) -> float:
    """Share of the full learning rate: linear warm-up, then a cosine down to zero."""
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def _move_average(average: State, net: nn.Module, keep: float) -> None:
    for name, value in net.state_dict().items():
        average[name].lerp_(value, 1 - keep)
