"""Several processes on one run, started by torchrun or `accelerate launch`.

Each takes its rows of every batch. Losses are sums over target tokens, so summed gradients divided by the target tokens
of all processes are the gradient of one process. Where a few matrices are trained there is nothing to overlap or to
shard: one all-reduce a step. For models that a device cannot hold, `shard` spreads weights, gradients and moments over
the processes (FSDP2). The first process alone writes files, decodes dev and prints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from speechft.errors import SpeechftError
from speechft.files import read_text

T = TypeVar("T")
SHARDED = "SPEECHFT_SHARDED"  # an environment variable, so that it is asked for once: what is spread, one of
MOMENTS, WEIGHTS = "moments and gradients", "weights too"
STAGES = {0: "", 1: MOMENTS, 2: MOMENTS, 3: WEIGHTS}  # of DeepSpeed's ZeRO (Rajbhandari et al., 2019, arXiv 1910.02054)
PATIENCE = timedelta(hours=6)  # that the others wait while the first decodes dev or fills the cache


def rank() -> int:
    """Of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Processes of the run; 1 where nothing launched several."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first() -> bool:
    return rank() == 0


def is_sharded() -> bool:
    """Whether `accelerate launch` asked for FSDP2, or for a stage of DeepSpeed's that spreads anything."""
    return world() > 1 and bool(os.environ.get(SHARDED))


def start() -> None:
    """Meet the other processes, and take this one's device; before anything is put on a device.

    Raises:
        SpeechftError: launched for a way of sharing that this loop does not do.
    """
    if world() == 1:
        return
    if _asked_for("ACCELERATE_USE_DEEPSPEED"):  # its engine would own steps and checkpoints; its stages are FSDP2's
        os.environ |= {"ACCELERATE_USE_DEEPSPEED": "false", SHARDED: _of_deepspeed()}
    if _asked_for("ACCELERATE_USE_FSDP"):
        if os.environ.get("FSDP_VERSION", "1") != "2":
            raise SpeechftError("FSDP 1 is not supported", where="accelerate", fix="Set fsdp_version: 2.")
        # accelerate knows FSDP2 on GPUs alone, and only for models that are called as a whole; `shard` does both
        os.environ |= {"ACCELERATE_USE_FSDP": "false", SHARDED: WEIGHTS}
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _asked_for(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("true", "1")


def _of_deepspeed() -> str:
    """What the configuration that `accelerate launch` was given for DeepSpeed spreads over the processes.

    Raises:
        SpeechftError: it cannot be read, or wants weights or moments kept on a CPU or disk.
    """
    path = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    try:
        if path == "none":
            stage = int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", 2))
            names = (f"ACCELERATE_DEEPSPEED_OFFLOAD_{part}_DEVICE" for part in ("OPTIMIZER", "PARAM"))
            devices = {os.environ.get(name, "none") for name in names}
        else:
            zero = json.loads(read_text(Path(path))).get("zero_optimization", {})
            stage = zero.get("stage", 0)
            devices = {(zero.get(part) or {}).get("device", "none") for part in ("offload_optimizer", "offload_param")}
        spread = STAGES[stage]
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise SpeechftError(
            f"DeepSpeed's stage cannot be read ({error})", where=path, fix="Set zero_stage to 0, 1, 2 or 3."
        ) from None
    if devices != {"none"}:
        raise SpeechftError("DeepSpeed's offloading is not supported", where="accelerate", fix="Set it to none.")
    return spread


def shard(root: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Spread a model over the processes in place (FSDP2): of each layer, every process keeps its part.

    A layer is put together for its forward pass and again for its backward pass, or, where gradients and moments alone
    are to be spread, once a step. Gradients come out as the mean over the processes.

    Args:
        root: what is called.
        layers: parts of it that are called as a whole.
    """
    from torch.distributed.fsdp import fully_shard

    again = os.environ[SHARDED] == WEIGHTS
    for layer in layers:
        fully_shard(layer, reshard_after_forward=again)
    fully_shard(root, reshard_after_forward=again)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be spread over the processes; every process has to ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def placed_like(value: Tensor, other: Tensor) -> Tensor:
    """A tensor that all processes have, spread as another one of its shape is; as it is where that is whole."""
    if not hasattr(other, "full_tensor") or value.shape != other.shape or hasattr(value, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(other.device)
    return distribute_tensor(value, other.device_mesh, other.placements, src_data_rank=None)  # type: ignore[attr-defined]


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


def largest(value: int, like: Tensor) -> int:
    """The largest of all processes' values; `like` as in `summed`."""
    if world() == 1:
        return value
    import torch.distributed

    number = like.new_tensor([value], dtype=torch.int64)
    torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
    return int(number)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Put the sum over all processes into every gradient; a parameter without one counts as zeros."""
    if world() == 1 or is_sharded():  # FSDP2 has done it
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
