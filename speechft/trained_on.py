"""What must be read before any number of a result: above all that its recordings were trained on, by its `leakage`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What comes before an adapter's name where its data are one side of a pair in `leakage`.
TRAINING, CHOICE = "training of ", "dev of "
THE_ADAPTER, THE_ADAPTERS, THE_MODEL, THE_BASE = "the adapter", "the adapters", "the model", "the base model"

Pair = Mapping[str, Any]


def read_first(result: Mapping[str, Any]) -> list[str]:
    """What must be read before any number: that nobody said what was heard, and that it was trained on."""
    said = result.get("notice")
    return [*([said] if said else []), *trained_on(training_pairs(result))]


def read_besides(result: Mapping[str, Any]) -> list[str]:
    """The caveats of a result that are not among what is to be read first."""
    first = read_first(result)
    return [caveat for caveat in result.get("caveats", ()) if caveat not in first]


def training_pairs(result: Mapping[str, Any]) -> list[Pair]:
    """What was evaluated beside what was trained on: by adapters, and by the run whose result this is."""
    split = (result.get("evaluated_on") or {}).get("split")
    return [
        pair
        for pair in result.get("leakage") or ()
        if pair["first"].startswith(TRAINING) or (pair["first"], pair["second"]) == ("train", split)
    ]


def trained_on(pairs: Sequence[Pair]) -> list[str]:
    """A sentence for each pair whose rows were trained on, of those of `learnt_from` or `training_pairs`."""
    return [
        f"{_how_many(pair, TRAINING)} {'was' if len(pair['audio']) == 1 else 'were'} trained on: "
        "the numbers say little about new ones."
        for pair in pairs
        if pair["audio"] and not pair["first"].startswith(CHOICE)
    ]


def chosen_by(pairs: Sequence[Pair]) -> list[str]:
    """The same of rows that an adapter was chosen by."""
    return [
        f"{_how_many(pair, CHOICE)} also chose the adapter's best state, which flatters the numbers a little."
        for pair in pairs
        if pair["audio"] and pair["first"].startswith(CHOICE)
    ]


def _how_many(pair: Pair, said: str) -> str:
    who = pair["first"].removeprefix(said)
    known = (THE_ADAPTER, THE_ADAPTERS, THE_MODEL, THE_BASE)
    of = f"{who}: " if pair["first"].startswith(said) and who not in known else ""
    return f"{of}{len(pair['audio'])} of these {pair['rows']} recordings"
