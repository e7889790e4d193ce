"""Which clips go together: batches of similar length in an order that seed and epoch decide.

The order is a pure function, so a run resumed at any step sees the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from speechft.audio import FRAMES_PER_SECOND, MAX_FRAMES, WINDOW_SECONDS, log_mel, pad_frames
from speechft.augment import augment
from speechft.config import AugmentSettings
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.whisper import CONTEXT_STEP, Context, Whisper

POOL = 16  # batches shuffled together before sorting by length: enough for little padding, little enough for chance
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


@dataclass(frozen=True)
class Batch:
    """Clips ready for the model.

    Attributes:
        frames: shape (clips, n_mels, frames).
        inputs: token ids the decoder reads, shape (clips, tokens).
        targets: ids it is to predict, IGNORED where there is none, same shape.
        indices: of the clips in the training list.
    """

    frames: Tensor
    inputs: Tensor
    targets: Tensor
    indices: tuple[int, ...]

    @property
    def n_targets(self) -> int:
        return int((self.targets != IGNORED).sum())

    def parts(self, most_frames: int) -> list[Batch]:
        """The batch cut into equal passes of about `most_frames` frames, so that memory stays flat."""
        clips, _, length = self.frames.shape
        rows = -(-clips // max(1, round(clips * length / most_frames)))
        tensors = zip(self.frames.split(rows), self.inputs.split(rows), self.targets.split(rows), strict=True)
        return [Batch(*part, self.indices[i * rows : (i + 1) * rows]) for i, part in enumerate(tensors)]


def teachable(
    whisper: Whisper, train: Manifest, leave_out: Callable[[Utterance, str], None]
) -> tuple[Manifest, list[list[int]]]:
    """The utterances the decoder can be taught, and their token ids.

    Args:
        leave_out: called with every other one and the reason.

    Raises:
        SpeechftError: none is left.
    """
    kept, labels = [], []
    for utterance in train:
        ids = whisper.label_ids(utterance.text, utterance.language if whisper.is_multilingual else None)
        if not utterance.text.strip():
            leave_out(utterance, "its text is empty")
        elif len(ids) > whisper.max_tokens:
            leave_out(utterance, f"its text has {len(ids)} tokens, the decoder takes {whisper.max_tokens}")
        elif (utterance.seconds or 0.0) > WINDOW_SECONDS:
            leave_out(utterance, f"it lasts {utterance.seconds:.1f} s, the encoder takes 30")
        else:
            kept.append(utterance)
            labels.append(ids)
    if not kept:
        raise SpeechftError(
            "no utterance to train on", where=train.path, fix="'speechft check' on the manifest says why."
        )
    return Manifest(kept, train.path), labels


def collate(
    whisper: Whisper,
    utterances: Sequence[Utterance],
    labels: Sequence[list[int]],
    indices: Sequence[int],
    context: Context,
    settings: AugmentSettings | None,
    seed: Sequence[int],
    leave_out: Callable[[Utterance, str], None],
) -> Batch | None:
    """Load, vary, pad and stack clips; one that cannot be loaded goes to `leave_out` with the reason.

    Args:
        seed: of this batch's chance; each clip adds its own index, so its variation does not depend on the batch.

    Returns:
        None if no clip was left.
    """
    frames, kept = [], []
    for index in indices:
        try:
            clip = log_mel(utterances[index].load(), whisper.n_mels)
        except SpeechftError as error:
            leave_out(utterances[index], error.what)
            continue
        if settings:
            clip = augment(clip, settings, np.random.default_rng([*seed, index]))
        frames.append(clip[:, :MAX_FRAMES])
        kept.append(index)
    if not kept:
        return None
    length = training_frames(max(f.shape[1] for f in frames), context, np.random.default_rng([*seed]))
    chosen = [labels[index] for index in kept]
    longest = max(map(len, chosen)) - 1
    inputs = torch.zeros(len(kept), longest, dtype=torch.long)
    targets = torch.full((len(kept), longest), IGNORED)
    prompt = len(whisper.prompt())
    for row, ids in enumerate(chosen):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])  # the prompt is given, never predicted
    return Batch(pad_frames(frames, length), inputs, targets, tuple(kept))


def training_frames(longest: int, context: Context, rng: np.random.Generator) -> int:
    """Frames a training batch is padded to.

    Under `mixed`, four batches in five are at clip length, and one in five gets more silence, mostly a few seconds and
    rarely the whole window, so that the adapter stays good at both ends (benchmarks/context.py).
    """
    length = context.frames(longest)
    if context.policy == "mixed" and rng.random() < 0.2:
        length += int(rng.exponential(5.0) * FRAMES_PER_SECOND)
    return min(MAX_FRAMES, -(-length // CONTEXT_STEP) * CONTEXT_STEP)
