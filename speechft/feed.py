"""What each optimiser step is fed: its clips, loaded, varied, padded and stacked, made ahead of the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from speechft.audio import MAX_FRAMES, log_mel, pad_frames
from speechft.augment import augment
from speechft.batching import Batch, plan_epoch, plan_epoch_by_seconds, token_tensors, training_frames
from speechft.config import SpeechRecipe
from speechft.context import Context
from speechft.distributed import rank, world
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.memory import on_device
from speechft.schedule import steps_per_epoch
from speechft.whisper import Whisper

if TYPE_CHECKING:
    from speechft.cache import PrefixCache

# Log-mel frames in one forward and backward pass, about: 8 clips of 5 s on a CPU, where more are no faster; 8 of 30 s
# on a GPU, which few do not fill.
PASS_FRAMES = {"cpu": 3_600, "cuda": 24_000}
LOADERS = 8  # threads that make clips for a GPU, at most
CACHED_PASSES = 4  # times as many where the encoder's part is done already


class Feed:
    """The batches of a run, as a pure function of recipe, data and step.

    Attributes:
        per_epoch: optimiser steps in one pass over the clips.
        padding: share of the frames fed so far that were padding.
        pass_frames: log-mel frames in one pass.
        pin: put batches into page-locked memory.
    """

    def __init__(
        self,
        whisper: Whisper,
        train: Manifest,
        labels: Sequence[list[int]],
        recipe: SpeechRecipe,
        leave_out: Callable[[Utterance, str], None],
    ) -> None:
        """
        Args:
            labels: token ids of each utterance of `train`.
            leave_out: called with a clip that cannot be loaded, and the reason.
        """
        self.whisper, self.train, self.labels, self.recipe, self.leave_out = whisper, train, labels, recipe, leave_out
        self.context = Context(recipe.context)
        self.cache: PrefixCache | None = None
        self.seconds = lengths(train)
        self.per_epoch = steps_per_epoch(recipe, len(train), sum(self.seconds))
        self.pin, self.pass_frames = whisper.device.type == "cuda", on_device(PASS_FRAMES, whisper.device)
        # beside a model on the CPU threads only take its cores
        self.loaders = ThreadPoolExecutor(min(LOADERS, os.cpu_count() or 1), "speechft-clip") if self.pin else None
        self._frames = self._own = 0

    @property
    def padding(self) -> float:
        return 1 - self._own / self._frames if self._frames else 0.0

    def steps(self, first: int, last: int, shared: bool = True) -> Iterator[tuple[int, list[Batch]]]:
        """(step, this process's share of its batches, or not `shared`, all; none if no clip of it can be read).

        A clip is padded as in the whole batch, or the share would not have the same gradient.
        """
        plan: list[list[int]] = []
        for step in range(first, last):
            epoch, place = divmod(step, self.per_epoch)
            if not plan or place == 0:
                plan = self._plan(epoch)
            members = plan[place]
            size = len(members) if self.recipe.batch_seconds else self.recipe.batch_size
            parts = [members[start : start + size] for start in range(0, len(members), size)]
            made = [self.batch(part, epoch, (step, number)) for number, part in enumerate(parts)]
            most = self.pass_frames * (CACHED_PASSES if self.cache else 1)
            own = slice(rank(), None, world()) if shared else slice(None)
            shares = [batch.rows(own) for batch in made if batch is not None]
            passes = [part for share in shares if share.indices for part in share.parts(most)]
            yield step, [part.pinned() for part in passes] if self.pin else passes

    def _plan(self, epoch: int) -> list[list[int]]:
        """Clips of each step of an epoch."""
        recipe = self.recipe
        if recipe.batch_seconds:
            return plan_epoch_by_seconds(self.seconds, self.per_epoch, recipe.seed, epoch)
        return plan_epoch(self.seconds, recipe.batch_size * recipe.accumulate, recipe.seed, epoch)

    def clip(self, index: int, view: int) -> Tensor | None:
        """Log-mel frames of a clip in one of its variations, shape (n_mels, frames); None if it cannot be loaded.

        The variation is a function of seed, clip and view: neither batch nor step matters.
        """
        try:
            frames = log_mel(self.train[index].load(), self.whisper.n_mels)
        except SpeechftError as error:
            self.leave_out(self.train[index], error.what)
            return None
        if self.recipe.augment:
            frames = augment(frames, self.recipe.augment, np.random.default_rng([self.recipe.seed, view, index]))
        return frames[:, :MAX_FRAMES]

    def batch(self, indices: Sequence[int], epoch: int, place: tuple[int, int] = (0, 0)) -> Batch | None:
        """These clips in their variation of an epoch; `place` decides the length where chance does (`mixed`)."""
        if self.cache:
            found = {i: self.cache.states(i, epoch) for i in indices}
        else:
            each = self.loaders.map if self.loaders else map
            found = dict(zip(indices, each(self.clip, indices, [epoch] * len(indices)), strict=True))
        clips = {i: clip for i, clip in found.items() if clip is not None}
        if not clips:
            return None
        inputs, targets = token_tensors([self.labels[i] for i in clips], len(self.whisper.prompt()))
        if self.cache:
            states, positions = stack(list(clips.values()))
            self._count(states.shape[1] * len(clips), int(positions.sum()))
            return Batch(states, inputs, targets, tuple(clips), positions)
        own = [frames.shape[1] for frames in clips.values()]
        length = training_frames(max(own), self.context, np.random.default_rng([self.recipe.seed, *place]))
        self._count(length * len(clips), sum(own))
        return Batch(pad_frames(list(clips.values()), length), inputs, targets, tuple(clips))

    def _count(self, frames: int, own: int) -> None:
        self._frames += frames
        self._own += own


def lengths(train: Manifest) -> list[float]:
    """Seconds of each clip; five where nobody knows."""
    return [utterance.seconds or 5.0 for utterance in train]


def stack(states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Activations of clips, each of shape (positions, d_model), padded with zeros; and the positions of each."""
    positions = torch.tensor([len(own) for own in states])
    out = states[0].new_zeros(len(states), int(positions.max()), states[0].shape[1])
    for row, own in zip(out, states, strict=True):
        row[: len(own)] = own
    return out, positions
