"""Which clips go together: batches of similar length in an order that seed and epoch decide.

The order is a pure function, so a run resumed at any step sees the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from speechft.audio import FRAMES_PER_SECOND, MAX_FRAMES, WINDOW_SECONDS
from speechft.context import CONTEXT_STEP, Context
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance, says_something
from speechft.whisper import Whisper

POOL = 16  # batches shuffled together before sorting by length: enough for little padding, little enough for chance
TOKEN_STEP = 8  # lengths of texts are rounded up to this: a CPU compiles each product anew for every shape
IGNORED = -100  # what cross-entropy leaves out; padding is marked by length, since in .en models pad is also the end


def plan_epoch(seconds: Sequence[float], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of the clips in each batch of an epoch; every clip once.

    Args:
        seconds: length of each clip.
        batch_size: clips a batch; the last ones of the epoch may be fewer.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(seconds))
    pool = POOL * batch_size
    batches = []
    for start in range(0, len(order), pool):
        members = sorted(order[start : start + pool].tolist(), key=lambda index: (seconds[index], index))
        batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def plan_epoch_by_seconds(seconds: Sequence[float], batches: int, seed: int, epoch: int) -> list[list[int]]:
    """The same with so many batches of about as much sound each: many short clips, or few long ones.

    Args:
        seconds: length of each clip.
        batches: in the epoch; at most as many as there are clips.
    """
    rng = np.random.default_rng([seed, epoch])
    lengths = np.asarray(seconds)
    # lengths a little off, so that clips of about one length meet others in each epoch
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
    ends, number = np.cumsum(lengths[order]), np.arange(1, batches)
    cuts = np.searchsorted(ends, ends[-1] * number / batches)
    # a clip longer than a batch's share must not leave another batch without any
    cuts = np.maximum.accumulate(np.clip(cuts - number, 0, len(lengths) - batches)) + number
    parts = [part.tolist() for part in np.split(order, cuts)]
    return [parts[i] for i in rng.permutation(batches)]


@dataclass(frozen=True)
class Batch:
    """Clips ready for the model.

    Attributes:
        x: log-mel frames, shape (clips, n_mels, frames); or, with `positions`, activations of the encoder's frozen
            part, shape (clips, positions, d_model).
        inputs: token ids the decoder reads, shape (clips, tokens).
        targets: ids it is to predict, IGNORED where there is none, same shape.
        indices: of the clips in the training list.
        positions: of each clip that are its own, the rest being padding; None for frames.
    """

    x: Tensor
    inputs: Tensor
    targets: Tensor
    indices: tuple[int, ...]
    positions: Tensor | None = None

    @property
    def n_targets(self) -> int:
        return int((self.targets != IGNORED).sum())

    @property
    def frames(self) -> int:
        """Log-mel frames in it, padding included; an activation stands for two."""
        return len(self.indices) * (self.x.shape[2] if self.positions is None else 2 * self.x.shape[1])

    def parts(self, most_frames: float) -> list[Batch]:
        """The batch cut into equal passes of about `most_frames` frames, so that memory stays flat."""
        clips = len(self.indices)
        rows = -(-clips // max(1, round(self.frames / most_frames)))
        return [self.rows(slice(start, start + rows)) for start in range(0, clips, rows)]

    def tensors(self, device: torch.device) -> tuple[Tensor | None, ...]:
        """What `objective.TokenLoss` takes, on a device."""
        own = (self.x, self.inputs, self.targets, self.positions)
        return tuple(None if t is None else t.to(device, non_blocking=True) for t in own)

    def pinned(self) -> Batch:
        """In page-locked memory, from which a GPU copies while it computes."""
        positions = None if self.positions is None else self.positions.pin_memory()
        return replace(
            self, x=self.x.pin_memory(), inputs=self.inputs.pin_memory(), targets=self.targets.pin_memory(),
            positions=positions,
        )  # fmt: skip

    def rows(self, cut: slice) -> Batch:
        """Some of the clips, padded as they are here."""
        return Batch(
            self.x[cut],
            self.inputs[cut],
            self.targets[cut],
            self.indices[cut],
            None if self.positions is None else self.positions[cut],
        )


def empty_batch(n_mels: int) -> Batch:
    """A batch without targets: a process without clips makes as many passes as the others."""
    x, ids = torch.zeros(1, n_mels, FRAMES_PER_SECOND), torch.zeros(1, 1, dtype=torch.long)
    return Batch(x, ids, torch.full_like(ids, IGNORED), ())


def with_labels(
    whisper: Whisper, train: Manifest, leave_out: Callable[[Utterance, str], None]
) -> tuple[Manifest, list[list[int]]]:
    """The utterances the decoder can be taught, and their token ids.

    Args:
        train: in languages that the model knows.
        leave_out: called with every other one and the reason.

    Raises:
        SpeechftError: none is left.
    """
    kept, labels = [], []
    for utterance in train:
        ids = whisper.label_ids(utterance.text, whisper.language_of(utterance.language))
        if not says_something(utterance.text):
            leave_out(utterance, "its text holds no words")
        elif len(ids) > whisper.max_tokens:
            leave_out(utterance, f"its text has {len(ids)} tokens, but the decoder takes {whisper.max_tokens}")
        elif (utterance.seconds or 0.0) > WINDOW_SECONDS:
            leave_out(utterance, f"it lasts {utterance.seconds:.1f} s, but the encoder takes 30")
        else:
            kept.append(utterance)
            labels.append(ids)
    if not kept:
        raise SpeechftError(
            "there is no utterance to train on", where=train.path, fix="'speechft check' on the manifest says why."
        )
    return Manifest(kept, train.path), labels


def token_tensors(labels: Sequence[list[int]], prompt: int) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it is to predict, padded; the first `prompt` tokens are given, not predicted.

    Lengths are multiples of `TOKEN_STEP`.
    """
    longest = -(-(max(map(len, labels)) - 1) // TOKEN_STEP) * TOKEN_STEP
    inputs = torch.zeros(len(labels), longest, dtype=torch.long)
    targets = torch.full((len(labels), longest), IGNORED)
    for row, ids in enumerate(labels):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])
    return inputs, targets


def training_frames(longest: int, context: Context, rng: np.random.Generator) -> int:
    """Frames a training batch is padded to.

    Under `mixed`, four batches in five are at clip length, and one in five gets more silence, mostly a few seconds and
    rarely the whole window, so that the adapter stays good at both ends (benchmarks/context.py).
    """
    length = context.frames(longest)
    if context.policy == "mixed" and rng.random() < 0.2:
        length += int(rng.exponential(5.0) * FRAMES_PER_SECOND)
    return min(MAX_FRAMES, -(-length // CONTEXT_STEP) * CONTEXT_STEP)
