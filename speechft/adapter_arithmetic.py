"""Sums of adapters: averages of several, and one weighed more or less (task arithmetic, Ilharco et al., 2023, arXiv
2212.04089). `lora_sums` says why they are exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from speechft import adapters
from speechft.adapter_files import CONFIG, WEIGHTS
from speechft.errors import SpeechftError
from speechft.files import new_folder, refuse_existing, save_tensors
from speechft.locks import new_place
from speechft.lora_sums import MATRICES, lora_scale, lora_tensors, side_by_side
from speechft.seen import Seen
from speechft.sources import common_name, resolve
from speechft.version import __version__


def average(folders: Sequence[str | Path], weights: Sequence[float] | None, out: str | Path) -> Path:
    """One adapter that adds the weighted sum of what several add.

    Args:
        folders: LoRA adapters of one base model, on the same layers.
        weights: of each; None weighs them equally, to a sum of 1. Weights may be negative or sum to anything: [0.5]
            halves one adapter, [1, 1, -1] adds and takes away.
        out: a new folder; its rank is the sum of theirs.

    Returns:
        the folder.

    Raises:
        SpeechftError: no adapter, adapters for different bases or layers or of a kind that does not add up, weights
            that are no numbers, or a folder that exists.
    """
    out = Path(out)
    refuse_existing(out)
    parts = [Path(folder) for folder in folders]
    if not parts:
        raise SpeechftError("no adapter to average", fix="Name the folders of some.")
    shares = [1 / len(parts)] * len(parts) if weights is None else list(weights)
    if not all(map(math.isfinite, shares)):
        raise SpeechftError("a weight is not a number", fix="Give finite numbers, such as 0.5.")
    if len(shares) != len(parts):
        raise SpeechftError(f"{len(parts)} adapters, but {len(shares)} weights", fix="Give one weight an adapter.")
    cards = [adapters.read_card(folder) for folder in parts]
    configs = [adapters.read_config(folder) for folder in parts]
    states = [lora_tensors(folder) for folder in parts]
    for folder, card, config, state in zip(parts, cards, configs, states, strict=True):
        _must_match(folder, (cards[0], configs[0], states[0]), (card, config, state))
        if not _same_base(parts[0], folder):
            raise SpeechftError(
                "has another base model than the first adapter", where=folder, fix="Only adapters of one base add up."
            )
    rank = sum(config["r"] for config in configs)
    summed = side_by_side(states, [share * lora_scale(config) for share, config in zip(shares, configs, strict=True)])
    origin = [{"adapter": str(f.name), "weight": share} for f, share in zip(parts, shares, strict=True)]
    with new_place(out), new_folder(out) as work:
        save_tensors(work / WEIGHTS, summed)
        config = configs[0] | {"r": rank, "lora_alpha": rank, "use_rslora": False}  # a scale of 1
        (work / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        card = {key: cards[0][key] for key in _KEPT if key in cards[0]}
        card |= {"speechft": __version__, "format": 1, "sum_of": origin}
        card["seen"] = Seen.by(cards).to_dict()
        if len({one.get("licence") for one in cards}) > 1:
            card["licence"] = adapters.VOICE_LICENCE  # nobody gave one for all of them
        (work / adapters.CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return out


_KEPT = ("task", "model", "base_sha256", "context", "trained_context", "language", "normalizer", "licence")


def _must_match(folder: Path, first: tuple[dict, dict, dict], other: tuple[dict, dict, dict]) -> None:
    adapters.refuse_loftq(other[0], folder)
    if not adapters.is_plain_lora(other[1]) or other[1].get("rank_pattern"):
        raise SpeechftError("cannot be summed", where=folder, fix="Only plain LoRA adapters add up.")
    if other[2].keys() != first[2].keys() or not all(name.endswith(MATRICES) for name in other[2]):
        raise SpeechftError(
            "adapts other layers than the first adapter", where=folder, fix="Only adapters of the same layers add up."
        )
    if other[0].get("context") != first[0].get("context"):
        raise SpeechftError(
            "has another context policy than the first adapter",
            where=folder,
            fix="Only adapters of the same context policy add up.",
        )


def _same_base(one: Path, other: Path) -> bool:
    """By the weights' hash, which may have two forms; by name where an adapter has none, as those made by others."""
    names = [adapters.base_of(folder) for folder in (one, other)]
    hashes = {adapters.read_card(folder).get("base_sha256") for folder in (one, other)}
    same_name = len(set(map(common_name, names))) == 1
    if None in hashes or len(hashes) == 1:
        return same_name or None not in hashes
    return same_name and hashes <= adapters.hashes_of(resolve(names[0]))
