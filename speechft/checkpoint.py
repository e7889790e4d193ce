"""Checkpoints an interrupted run resumes from: weights, optimiser moments and counters, each file whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from speechft.distributed import is_first, placed_like, whole
from speechft.errors import SpeechftError, readable
from speechft.files import new_folder, null_for_nan, read_text, refuse_special, write_text

LATEST = "latest"
WEIGHTS, MOMENTS = "weights/", "optimizer/"  # prefixes of the tensors' names
DAMAGED = "Delete that folder to start again, or choose another output_dir."


@dataclass
class Progress:
    """Where a run is; saved with every checkpoint.

    Attributes:
        step: optimiser steps done.
        best_step: the step of the best state; None while the base model is best.
        best, base: (WER, CER) on dev; None before the first evaluation.
        stale: evaluations since the best.
        averaged: steps in the running mean of the weights.
        left_out: clips that could not be used, by row, with the reason.
        seconds: of the whole run so far, evaluations and start-up included, over all resumptions.
        stopped: why it ended before its last step, if it did.
        skipped, skipped_in_a_row: steps whose loss or gradient was not finite.
    """

    step: int = 0
    best_step: int | None = None
    best: tuple[float, float] | None = None
    base: tuple[float, float] | None = None
    stale: int = 0
    averaged: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    stopped: str = ""
    skipped: int = 0
    skipped_in_a_row: int = 0

    def restore(self, saved: dict[str, Any]) -> None:
        """Load saved JSON in place, as other objects share this one; its lists become tuples again."""
        pairs = {key: tuple(saved[key]) if saved[key] else None for key in ("best", "base")}
        vars(self).update(vars(Progress(**saved | pairs)))


def fingerprint_of(parts: list[Any]) -> str:
    """A hash of everything that a run's weights depend on, as JSON; a run with another one is not resumed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def refuse_other_run(out: Path, saved: str, own: str) -> None:
    """Raises SpeechftError where the run that a folder holds has another fingerprint than this one."""
    if saved != own:
        raise SpeechftError(
            "holds a run with other settings or data",
            where=out,
            fix="Choose another output_dir, or delete its checkpoints folder.",
        )


def with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def without_prefixes(tensors: Mapping[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with none of them."""
    return {name: value for name, value in tensors.items() if not name.startswith(prefixes)}


def save_checkpoint(
    folder: Path,
    weights: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    beside: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Replace `folder/latest` by this state.

    Args:
        folder: OUT/checkpoints.
        weights: by name, all on the CPU.
        optimizer: its moments are saved as tensors; nothing is pickled.
        state: counters and whatever else is JSON.
        beside: texts of further files, by name, that a library wants to find there.

    Where moments are spread over processes, all of them call this; the first one writes.
    """
    tensors = {f"{WEIGHTS}{name}": tensor.contiguous() for name, tensor in weights.items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= _flat(entries, f"{MOMENTS}{index}")
    if not is_first():
        return
    with new_folder(folder / LATEST) as work:
        save_file(tensors, work / "state.safetensors")
        for name, text in {"state.json": json.dumps(state), **beside}.items():
            (work / name).write_text(text, encoding="utf-8")


def _flat(entries: dict[str, Any], path: str) -> dict[str, torch.Tensor]:
    """Tensors by path; bitsandbytes keeps those of 8-bit moments in a dictionary of their own."""
    out: dict[str, torch.Tensor] = {}
    for key, value in entries.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{path}/{key}")
        else:
            value = whole(torch.as_tensor(value))
            out[f"{path}/{key}"] = value.detach().to("cpu", copy=True).contiguous()  # some are shared
    return out


def load_checkpoint(
    folder: Path, optimizer: torch.optim.Optimizer, fingerprint: str | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Read `folder/latest` back into the optimiser; None if there is none. Arguments and errors as of the two parts.

    Returns:
        the weights by name, and the state.
    """
    found = read_checkpoint(folder, fingerprint)
    if found is None:
        return None
    tensors, state = found
    place_moments(tensors, optimizer)
    return with_prefix(tensors, WEIGHTS), state


def read_checkpoint(
    folder: Path, fingerprint: str | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """What `folder/latest` holds; None if there is none.

    Args:
        folder: OUT/checkpoints.
        fingerprint: that the state must have; None where the caller's states have none.

    Returns:
        weights and moments by name, and the state.

    Raises:
        SpeechftError: it is damaged, or of another run.
    """
    _finish_replacement(folder)
    latest = folder / LATEST
    if not latest.is_dir():
        return None
    with readable(latest, DAMAGED):
        state = json.loads(read_text(latest / "state.json"))
        if fingerprint:  # before the moments are placed: they may not fit
            refuse_other_run(folder.parent, state["fingerprint"], fingerprint)
        return load_file(refuse_special(latest / "state.safetensors")), state


def place_moments(tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Give an optimiser the moments that a checkpoint holds."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in with_prefix(tensors, MOMENTS).items():
        index, *inner, key = name.split("/")
        entries: dict[str, Any] = moments.setdefault(int(index), {})
        for group in inner:
            entries = entries.setdefault(group, {})
        counts = tensor.dtype == torch.int64 and not tensor.ndim  # bitsandbytes counts steps in plain integers
        entries[key] = int(tensor) if counts else placed_like(tensor, parameters[int(index)])
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _finish_replacement(folder: Path) -> None:
    """A kill between the two renames of `replace_folder` leaves the older checkpoint aside: put it back."""
    for aside in folder.glob(f".old-{LATEST}-*"):
        if not (folder / LATEST).exists() and (aside / LATEST).exists():
            os.replace(aside / LATEST, folder / LATEST)
        shutil.rmtree(aside, ignore_errors=True)
    for partial in folder.glob(f".{LATEST}-*"):
        shutil.rmtree(partial, ignore_errors=True)


def append_metrics(path: Path, line: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl; a number that is none, such as the loss of a skipped step, is null there."""
    with refuse_special(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(null_for_nan(line), allow_nan=False) + "\n")


def trim_metrics(path: Path, step: int) -> None:
    """Drop the lines after a step: a resumed run writes them again. A line cut short by a kill goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, KeyError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    write_text(path, "".join(kept))
