"""Several processes on one run, started by torchrun or `accelerate launch`.

Each takes its rows of every batch. Losses are sums over target tokens, so summed gradients divided by the target tokens
of all processes are the gradient of one process. Trained are a few matrices at most, so there is nothing to overlap or
to shard: one all-reduce a step. Files are written, dev is decoded and people are spoken to by the first process alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from torch import Tensor, nn

from speechft.errors import SpeechftError

T = TypeVar("T")
PATIENCE = timedelta(hours=6)  # that the others wait while the first decodes dev or fills the cache


def rank() -> int:
    """Of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Processes of the run; 1 where nothing launched several."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    return rank() == 0


def start() -> None:
    """Meet the other processes, and take this one's device; before anything is put on a device.

    Raises:
        SpeechftError: launched for a way of sharing that this loop does not do.
    """
    if world() == 1:
        return
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise SpeechftError(
                f"{name} is not supported: every process holds the whole model",
                where="accelerate",
                fix="Launch with --multi_gpu or with torchrun; adapter.quantize=nf4 makes a large model small.",
            )
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def wait() -> None:
    """Until every process is here."""
    if world() > 1:
        import torch.distributed

        torch.distributed.barrier()


def summed(values: Iterable[float], like: Tensor) -> list[float]:
    """Sums over all processes, number by number; `like` is a tensor on this process's device."""
    if world() == 1:
        return list(values)
    import torch.distributed

    numbers = like.new_tensor(list(values), dtype=torch.float64)
    torch.distributed.all_reduce(numbers)
    return [float(number) for number in numbers]


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Put the sum over all processes into every gradient; a parameter without one counts as zeros."""
    if world() == 1:
        return
    import torch.distributed

    trained = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([gradient.flatten().float() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    for parameter, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype)


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes of it, in all; the others wait."""
    if world() == 1:
        return make()
    import torch.distributed

    found = [make() if is_first() else None]
    torch.distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]


def first_before_others(make: Callable[[], T]) -> T:
    """Every process does it, the first one before the others: what writes a file, or reads the one that is there."""
    if not is_first():
        wait()
    found = make()
    if is_first():
        wait()
    return found
