"""All that changes while a run trains: what a checkpoint holds, and what an interrupted run resumes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from speechft import adapters, distributed
from speechft.averaging import RunningMean
from speechft.checkpoint import (
    DAMAGED,
    LATEST,
    Progress,
    fingerprint_of,
    load_checkpoint,
    save_checkpoint,
    with_prefix,
    without_prefixes,
)
from speechft.config import SpeechRecipe
from speechft.errors import readable
from speechft.manifest import Manifest
from speechft.marks import Mark, without
from speechft.peft_methods import RankSchedule

MEAN, RANKS = "mean/", "ranks/"  # prefixes of checkpoint entries that are not trained weights


@dataclass
class RunState:
    """What a run changes.

    Attributes:
        model: with what is trained.
        optimizer: its moments are part of the state.
        mean: of the late weights.
        ranks: of AdaLoRA, and what they follow from; None for other methods.
        scaler: of the loss in fp16, whose size is found by trying; None in other precisions.
        progress: counters.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    mean: RunningMean
    ranks: RankSchedule | None
    scaler: torch.amp.GradScaler | None
    progress: Progress

    def save(self, folder: Path, fingerprint: str) -> None:
        """Replace the checkpoint; where weights are spread over processes, all of them call this."""
        weights = adapters.trainable_state(self.model)
        weights |= {f"{MEAN}{name}": distributed.whole(value) for name, value in self.mean.values.items()}
        if self.ranks:
            weights |= {f"{RANKS}{name}": value for name, value in self.ranks.state().items()}
        self.progress.averaged = self.mean.count
        state: dict[str, Any] = {"fingerprint": fingerprint, "progress": asdict(self.progress)}
        if self.scaler:
            state["scaler"] = self.scaler.state_dict()
        save_checkpoint(folder, weights, self.optimizer, state)

    def restore(self, folder: Path, fingerprint: str) -> bool:
        """Become what the checkpoint holds; whether there is one.

        Raises:
            SpeechftError: it is damaged, or of a run with another fingerprint.
        """
        found = load_checkpoint(folder, self.optimizer, fingerprint)
        if found is None:
            return False
        weights, state = found
        with readable(folder / LATEST, DAMAGED):
            self.progress.restore(state["progress"])
        adapters.load_trainable_state(self.model, without_prefixes(weights, MEAN, RANKS))
        if self.scaler and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
        self.mean.restore(with_prefix(weights, MEAN), self.progress.averaged)
        if self.ranks:
            self.ranks.load_state(with_prefix(weights, RANKS))
        return True


def fingerprint(recipe: SpeechRecipe, train: Manifest, dev: Manifest, *others: Any) -> str:
    """A hash of everything a run's weights depend on; a checkpoint with another hash is not resumed.

    Args:
        others: what they depend on besides, such as the hash of the base model; JSON.
    """
    return fingerprint_of([without(recipe, Mark.NOT_IN_WEIGHTS), train.sha256, dev.sha256, *others])
