"""LoRA adapters as tensors: what they add to a weight, and sums of several.

One adds scale * B A. The sum of several such products is again one: their matrices side by side, with the ranks added
up. That is exact; averages of the A's and of the B's apart are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from speechft.adapter_files import WEIGHTS, is_plain_lora, read_config
from speechft.errors import SpeechftError, readable
from speechft.files import refuse_special

MATRICES = (".lora_A.weight", ".lora_B.weight")  # how the names of what is added end
LARGEST = torch.finfo(torch.float32).max


def lora_tensors(folder: Path) -> dict[str, Tensor]:
    """The matrices of an adapter by name, as they are saved.

    Raises:
        SpeechftError: there are none, or they are damaged.
    """
    with _weights(folder) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file is no mapping)


def is_lora_alone(folder: Path) -> bool:
    """Whether all that an adapter holds is an A and a B of linear layers, by its configuration and its weights.

    Raises:
        SpeechftError: as of `lora_tensors` and `adapter_files.read_config`.
    """
    if not is_plain_lora(read_config(folder)):
        return False
    with _weights(folder) as file:
        names = list(file.keys())
        return all(name.endswith(MATRICES) and len(file.get_slice(name).get_shape()) == 2 for name in names)


def lora_scale(config: Mapping[str, Any]) -> float:
    """What B A is multiplied by, from `adapter_config.json`."""
    return config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])


def lora_parts(model: nn.Module) -> Iterator[tuple[Tensor, Tensor, float]]:
    """The A, the B and the scale of all that LoRA adds to a model that peft has put it on."""
    for module in model.modules():
        for a, b in (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")):
            for name, first in getattr(module, a, {}).items():
                scales: Any = module.scaling
                second = getattr(module, b)[name]
                yield getattr(first, "weight", first), getattr(second, "weight", second), scales[name]


def refuse_overflow(parts: Iterable[tuple[Tensor, Tensor, float]], folder: Path) -> None:
    """Raises SpeechftError where weights or a scale are so large that what they add may not be finite.

    No number of B A is larger than the rank times the largest number of each: so nothing has to be multiplied.

    Args:
        parts: A of shape (rank, ...), B, and what their product is multiplied by.
    """
    parts = list(parts)
    if not parts:
        return
    matrices = [matrix.detach() for a, b, _ in parts for matrix in (a, b)]
    peaks = torch.stack([matrix.abs().amax().double().cpu() for matrix in matrices]).tolist()
    for (a, _, scale), high, low in zip(parts, peaks[::2], peaks[1::2], strict=True):
        if not (abs(scale) <= LARGEST and abs(scale) * len(a) * high * low <= LARGEST and math.isfinite(high + low)):
            raise SpeechftError(
                "adds numbers to the model that are not finite: its weights, or its lora_alpha, are too large",
                where=folder,
                fix="It is damaged, or its training went wrong: copy it again, or train it again.",
            )


def side_by_side(states: Sequence[Mapping[str, Tensor]], scales: Sequence[float]) -> dict[str, Tensor]:
    """One adapter that adds the weighted sum of what several of the same layers add, each before its own scale.

    A's of shape (rank, in) stand below one another, B's of shape (out, rank) beside one another; the scales go into
    the B's.
    """
    out = {}
    for name in states[0]:
        if ".lora_A." in name:
            out[name] = torch.cat([state[name] for state in states])
        else:
            out[name] = torch.cat([state[name] * scale for state, scale in zip(states, scales, strict=True)], dim=1)
    return out


@contextmanager
def _weights(folder: Path) -> Iterator[Any]:
    path = folder / WEIGHTS
    if not refuse_special(path).is_file():
        raise SpeechftError("is missing", where=path, fix="Pickled adapters are not read.")
    with readable(path, "It is damaged: copy it again."), safe_open(path, "pt") as file:
        yield file
