"""Which layers of a model a saved adapter belongs to, without running a stranger's regular expression.

peft's `adapter_config.json` may hold expressions that it tries on every layer's name, and some take longer than the age
of the universe. Those that `peft_methods.target_pattern` writes are harmless; of any other adapter the layers are read
from the names of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

from speechft.errors import SpeechftError

ALL_LINEAR = "all-linear"  # peft's own word
_NAMES = r"\((?:[\w\\-]+\|)*[\w\\-]+\)"
_OURS = re.compile(
    r"(?:\(\?!\.\*encoder\\\.layers\\\.\(\?:(?:\d+\|)*\d+\)\\\.\))?\.\*(?:(?:encoder|decoder)\\\.)?\.\*\\\." + _NAMES
)


def is_harmless(pattern: str) -> bool:
    """Whether an expression is one of `peft_methods.target_pattern`, which take no time to speak of.

    >>> is_harmless(r".*decoder\\..*\\.(q_proj|v_proj)"), is_harmless("(.*)*X")
    (True, False)
    """
    return _OURS.fullmatch(pattern) is not None


def placed_config(folder: Path, model: nn.Module, saved: Collection[str]) -> Any:
    """peft's configuration of a saved adapter, with no expression left in it that could take long.

    Args:
        folder: of the adapter; its `adapter_config.json` has been checked by `adapter_files.read_config`.
        model: that it is for, without adapters.
        saved: names of the adapter's tensors.

    Raises:
        SpeechftError: it has such an expression, and its tensors do not say what is meant either.
    """
    from peft import PeftConfig

    config: Any = PeftConfig.from_pretrained(str(folder))
    foreign = {key for key in ("target_modules", "exclude_modules", "feedforward_modules") if _is_foreign(config, key)}
    if not foreign:
        return config
    names = layers_of(saved, model)
    if not names or "feedforward_modules" in foreign:
        raise SpeechftError(
            f"says by an expression of its own where it belongs ({min(foreign)}), and its tensors do not", where=folder,
            fix="Ask its maker for one that lists the layers by name, or that belongs to this model.",
        )  # fmt: skip
    config.target_modules, config.exclude_modules = names, None
    for key in ("layers_to_transform", "layers_pattern"):
        if hasattr(config, key):
            setattr(config, key, None)
    return config


def _is_foreign(config: Any, key: str) -> bool:
    said = getattr(config, key, None)
    return isinstance(said, str) and said != ALL_LINEAR and not is_harmless(said)


def layers_of(saved: Collection[str], model: nn.Module) -> set[str]:
    """The layers of a model that an adapter's tensors are named after; weights of the model itself name none."""
    layers = {name for name, _ in model.named_modules() if name}
    own = model.state_dict().keys()
    found = set()
    for tensor in saved:
        name = tensor.removeprefix("base_model.model.")
        while name and name not in layers and name not in own:
            name = name.rpartition(".")[0]
        found.add(name)
    return found & layers
