"""What every trainer of TRL's gets from us, and speech has as well: checkpoints that nothing is unpickled from, no
update where loss or gradient is not finite, and smaller passes where memory runs out."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from speechft import adapters, memory
from speechft.checkpoint import (
    DAMAGED,
    LATEST,
    WEIGHTS,
    place_moments,
    read_checkpoint,
    save_checkpoint,
    with_prefix,
    without_prefixes,
)
from speechft.errors import SpeechftError, readable
from speechft.non_finite import NAMED, broken_weights, drawing
from speechft.peft_methods import RankSchedule
from speechft.precision import all_finite

if TYPE_CHECKING:
    from speechft.text.training import Best

WHERE = "where"  # the column that names a row
MADE_OF = "rows a batch was made of"  # its key in the batch
RANDOM, RANKS = "random/", "ranks/"  # prefixes of checkpoint entries that are not trained weights
PICKLES = (".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Rows:
    """The rows that a batch was made of, as something that no library looks into on its way to a trainer."""

    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds; `tensors` and `state` as `save_checkpoint` was given them."""

    folder: Path
    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])


def last_saved(folder: Path, fingerprint: str) -> Saved | None:
    """The checkpoint in a folder, if there is one.

    Raises:
        SpeechftError: it is damaged, of a run with another fingerprint, or pickled, as they once were.
    """
    found = read_checkpoint(folder, fingerprint)
    if found is None:
        old = [file for file in folder.glob("checkpoint-*/*") if file.suffix in PICKLES]
        if old:
            raise SpeechftError(
                "is a checkpoint of an older version, with pickled files, which are not read",
                where=old[0].parent,
                fix="Finish that run with the version that began it, or delete the folder to start again.",
            )
        return None
    tensors, state = found
    with readable(folder / LATEST, DAMAGED):
        TrainerState.load_from_json(str(folder / LATEST / TRAINER_STATE_NAME))
        return Saved(folder / LATEST, tensors, state)


class Ours(Trainer):
    """Before a trainer of TRL's in the order of methods; see `ours`.

    Attributes:
        best: of the run; what is counted and told goes by it.
        ranks: of AdaLoRA.
        saved: what the run goes on from.
        mean_of_rows: whether the loss of a batch is the mean of its rows' own, so that parts of it add up.
        share: of a batch, that the part is which a loss is being computed of.
        most: rows in a pass; None while memory never ran out.
    """

    best: Best
    ranks: RankSchedule | None = None
    saved: Saved | None = None
    mean_of_rows = False
    share = 1.0
    most: int | None = None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.given = settings["train_dataset"]  # what is packed has no names any more
        super().__init__(*arguments, **settings)

    def equip(self: Any, best: Best, ranks: RankSchedule | None, saved: Saved | None) -> None:
        self.best, self.ranks, self.saved = best, ranks, saved
        self.begun, self.norm = -1, 0.0
        self.add_callback(_Guard(self))

    # Rows keep their names

    def _set_signature_columns_if_needed(self: Any) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [*{*self._signature_columns, WHERE}]

    def get_train_dataloader(self: Any) -> Any:
        collate = self.data_collator
        self.data_collator = lambda rows: self._collated(rows, collate)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collate

    def _collated(self: Any, rows: Sequence[Mapping[str, Any]], collate: Callable[[Any], Any]) -> Any:
        batch = collate([{key: value for key, value in row.items() if key != WHERE} for row in rows])
        if not isinstance(batch, Mapping):  # RLOO and GRPO take rows, and make batches of the answers to them
            return rows
        return {**batch, MADE_OF: Rows(rows)}

    def _names(self: Any, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Of the examples in some rows, each once."""
        if all(WHERE in row for row in rows):
            return list(dict.fromkeys(row[WHERE] for row in rows))
        parts = {tuple(part) for row in rows for part in _unpacked(row)}
        longest = self.args.max_length
        return [
            given[WHERE]
            for given in self.given
            if any(
                tuple(given["input_ids"][at : at + longest]) in parts
                for at in range(0, len(given["input_ids"]), longest)
            )
        ]

    # No update that is not finite

    def training_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        if self.begun != self.state.global_step:
            self.begun, self.loss, self.passes, self.suspects = self.state.global_step, 0.0, [], []
        made_of = inputs.pop(MADE_OF).rows if isinstance(inputs, dict) else inputs
        with drawing():
            loss = self._in_memory(model, inputs, made_of, num_items_in_batch)
        self.passes.append((inputs, made_of))
        value = float(loss)
        self.loss += value
        if math.isfinite(value):
            return loss
        self.suspects += made_of
        return torch.zeros_like(loss)  # the trainer adds losses up, and would never get rid of this one

    def _get_grad_norm(self: Any, *arguments: Any, **settings: Any) -> Any:
        found = super()._get_grad_norm(*arguments, **settings)
        self.norm = float(found)
        return found

    def log(self: Any, logs: dict[str, Any], *more: Any) -> None:
        if "loss" in logs and not math.isfinite(self.loss):
            logs["loss"] = self.loss
        super().log(logs, *more)

    def judge(self: Any) -> bool:
        """Whether the step that is about to be made may change the weights; the run may end here, see `Skips`."""
        rows = self._names(self.suspects or [row for _, made_of in self.passes for row in made_of])
        step, best = self.state.global_step + 1, self.best
        return bool(best.skips.judge(step, self.loss, self.norm, rows, best.recipe, best.log))

    # Smaller passes

    def compute_loss(self: Any, model: Any, inputs: Any, *arguments: Any, **settings: Any) -> Any:
        inputs = {key: value for key, value in inputs.items() if key != MADE_OF}
        found = super().compute_loss(model, inputs, *arguments, **settings)
        return found if self.share == 1 else found * self.share

    def _in_memory(self: Any, model: Any, inputs: Any, made_of: Sequence[Any], items: Any) -> torch.Tensor:
        """One pass of a step, in parts that fit; where memory runs out, the step begins again with smaller ones.

        For a backward pass that was broken off has left a part of its gradient among those of the passes before.
        """
        again: list[tuple[Any, Sequence[Any]]] = []
        while True:
            try:
                for earlier in again:
                    self._in_parts(model, *earlier, items)
                return self._in_parts(model, inputs, made_of, items)
            except (MemoryError, RuntimeError) as error:
                if not memory.ran_out(error):
                    raise
                failure = error.with_traceback(None)
            model.zero_grad()
            if not memory.recover(failure) or not isinstance(inputs, Mapping):
                self._take_less(made_of, items)
            again = self.passes

    def _in_parts(self: Any, model: Any, inputs: Any, made_of: Sequence[Any], items: Any) -> torch.Tensor:
        step = super().training_step
        if self.most is None or len(made_of) <= self.most:
            return step(model, inputs, items)
        total = torch.zeros((), device=self.args.device)
        try:
            for first in range(0, len(made_of), self.most):
                part = made_of[first : first + self.most]
                self.share = 1.0 if items is not None else len(part) / len(made_of)
                batch = self._collated(part, self.data_collator)
                batch.pop(MADE_OF)
                total += step(model, batch, items)
        finally:
            self.share = 1.0
        return total

    def _take_less(self: Any, made_of: Sequence[Any], items: Any) -> None:
        """Halve the passes, and tell; where the loss of a batch is the sum of its parts', the gradient is the same."""
        rows = min(len(made_of), self.most or len(made_of))
        exact = items is not None or self.mean_of_rows
        if rows == 1 or not exact:
            smaller = "" if rows == 1 else ", or a smaller batch_size with a larger accumulate"
            raise SpeechftError(
                f"there is not enough memory to learn from {'this row' if rows == 1 else 'these rows'}",
                where=", ".join(self._names(made_of)[:NAMED]),
                fix="Free some: the same command then resumes from the last checkpoint. Or use, in another output_dir, "
                f"a smaller model or max_length, adapter.quantize=nf4{smaller}.",
            )
        self.most = rows // 2
        step = self.state.global_step + 1
        self.best.log({"event": "less memory", "step": step, "rows": self.most, "of": rows})

    # Checkpoints: whole or absent, as those of speech

    def _save_checkpoint(self: Any, model: Any, trial: Any = None) -> None:
        tensors, states = _random_states(self.args.device)
        weights = adapters.trainable_state(self.model) | {f"{RANDOM}{name}": value for name, value in tensors.items()}
        if self.ranks:
            weights |= {f"{RANKS}{name}": value for name, value in self.ranks.state().items()}
        scaler = getattr(self.accelerator, "scaler", None)
        state = {
            **self.best.state(self.state.global_step),
            "schedule": self.lr_scheduler.state_dict(),
            "random": states,
            "tokens": getattr(self, "_total_train_tokens", 0),
            "scaler": scaler.state_dict() if scaler else None,
        }
        own = json.dumps(asdict(replace(self.state, log_history=[])))  # metrics.jsonl has it
        save_checkpoint(self.best.folder, weights, self.optimizer, state, {TRAINER_STATE_NAME: own})

    def _load_from_checkpoint(self: Any, resume_from_checkpoint: str, model: Any = None) -> None:
        weights = with_prefix(self.saved.tensors, WEIGHTS)
        adapters.load_trainable_state(self.model, without_prefixes(weights, RANDOM, RANKS))
        if self.ranks:
            self.ranks.load_state(with_prefix(weights, RANKS))
        self._total_train_tokens = self.saved.state.get("tokens", 0)  # TRL begins to count anew

    def _load_optimizer_and_scheduler(self: Any, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        place_moments(self.saved.tensors, self.optimizer)
        self.lr_scheduler.load_state_dict(dict(self.saved.state["schedule"]))
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def _load_scaler(self: Any, checkpoint: str | None) -> None:
        if checkpoint is not None and self.saved.state["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(self.saved.state["scaler"])

    def _load_rng_state(self: Any, checkpoint: str | None) -> None:
        if checkpoint is not None:
            tensors = with_prefix(self.saved.tensors, f"{WEIGHTS}{RANDOM}")
            _set_random_states(tensors, self.saved.state["random"], self.args.device)


def ours(kind: Any, mean_of_rows: bool = False) -> Any:
    """A kind of trainer with what all of ours have.

    Args:
        mean_of_rows: whether the loss of a batch is the mean of its rows' own.
    """
    return type(kind.__name__, (Ours, kind), {"mean_of_rows": mean_of_rows})


class _Guard(TrainerCallback):
    """Leaves a step out whose loss or gradient is not finite: neither weights nor moments nor ranks change."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.fine = True

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.fine = self.trainer.judge()
        accelerator = self.trainer.accelerator
        if not self.fine and not getattr(accelerator, "scaler", None):  # fp16's skips such a step, and learns from it
            accelerator.gradient_state._set_sync_gradients(False)  # then accelerate's optimiser makes none

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        trainer = self.trainer
        trainer.accelerator.gradient_state._set_sync_gradients(True)
        groups = trainer.optimizer.param_groups
        if self.fine and not all_finite(p for group in groups for p in group["params"]):
            raise broken_weights(state.global_step + 1, groups[0]["lr"], trainer.best.recipe.output_dir)


def _unpacked(row: Mapping[str, Any]) -> list[Sequence[int]]:
    """The texts, or parts of texts, in a packed row."""
    ids, parts = row["input_ids"], []
    for length in row.get("seq_lengths", [len(ids)]):
        parts.append(ids[:length])
        ids = ids[length:]
    return parts


def _random_states(device: torch.device) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that draws while a run trains: torch's generators as tensors, Python's and NumPy's as JSON."""
    tensors = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        tensors["device"] = torch.get_device_module(device).get_rng_state()
    name, keys, *rest = np.random.get_state()
    return tensors, {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}


def _set_random_states(tensors: Mapping[str, torch.Tensor], states: Mapping[str, Any], device: torch.device) -> None:
    torch.set_rng_state(tensors["cpu"])
    if "device" in tensors and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(tensors["device"])
    version, inner, gauss = states["python"]
    random.setstate((version, tuple(inner), gauss))
    np.random.set_state(tuple(states["numpy"]))
