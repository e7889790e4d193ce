"""Activations of each clip below the first trained layer, computed once and kept on disk.

Everything below the first trainable layer gives the same numbers every epoch and every run. They are kept in bf16
beside the recordings they come from (voices are health data: who deletes the folder deletes these too) and read through
a memory map. A cache is named by a hash of all that its numbers depend on; one that does not match is never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speechft import adapters, memory
from speechft.audio import pad_frames
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.feed import Feed
from speechft.files import NotAFile, read_text, refuse_special, replace_folder, write_text
from speechft.locks import is_locked, locked
from speechft.prefetch import prefetch
from speechft.whisper import core, encode_lower

FOLDER = ".speechft-cache"
KEPT = 4  # caches of one folder; the longest unused goes first
FORMAT = 2
ENCODER_FRAMES = 6_000  # encoded at once


def frozen_layers(model: nn.Module) -> int | None:
    """Encoder layers below the first trainable one; None if even the convolutions are trained.

    With nothing trainable in the encoder, all of them; its last norm is never counted.
    """
    lowest = len(core(model).model.encoder.layers)
    for name, _ in adapters.trainable(model):
        if layer := re.search(r"\bencoder\.layers\.(\d+)\.", name):
            lowest = min(lowest, int(layer[1]))
        elif re.search(r"\bencoder\.(conv|embed)", name):
            return None
    return lowest


def cached_layers(model: nn.Module, recipe: SpeechRecipe) -> int | None:
    """The layers whose activations a run takes from the cache; None where it does without.

    Raises:
        SpeechftError: the recipe insists on a cache where there is nothing to keep.
    """
    layers = frozen_layers(model)
    useful = bool(layers) and recipe.context != "mixed"
    if recipe.cache == "on" and not useful:
        raise SpeechftError(
            "cache=on, but nothing can be cached: the first encoder layer is trained, or the context is mixed",
            where="recipe",
            fix="Set adapter.placement=decoder or adapter.encoder_from, or leave cache out.",
        )
    return layers if useful and recipe.cache != "off" else None


class PrefixCache:
    """Activations of every clip in every view, behind the first `layers` layers of the encoder.

    Attributes:
        layers: as `encode_upper` takes it.
        views: variations of each clip; epoch e trains on view e modulo `views`.
    """

    def __init__(self, rows: np.ndarray, index: list[list[int]], layers: int, views: int) -> None:
        self.layers, self.views = layers, views
        self._rows = rows  # bf16 seen as integers, shape (positions of all clips, d_model)
        self._index = index  # [view * clips + clip] -> first row, rows
        self._clips = len(index) // views

    def states(self, clip: int, epoch: int) -> Tensor | None:
        """Activations of a clip, bf16, shape (positions, d_model); None if it could not be read."""
        start, rows = self._index[(epoch % self.views) * self._clips + clip]
        if not rows:
            return None
        return torch.from_numpy(np.array(self._rows[start : start + rows])).view(torch.bfloat16)

    @property
    def size_mb(self) -> float:
        return round(self._rows.nbytes / 1e6, 1)


def open_or_build(
    feed: Feed,
    model: nn.Module,
    base_folder: Path,
    layers: int,
    steps: int,
    *,
    precision: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    on_event: OnEvent = lambda event: None,
) -> PrefixCache:
    """The cache that belongs to these clips and settings, read if it is there, else made.

    Args:
        feed: gives the clips.
        model: whose encoder it is, adapter attached or not.
        base_folder: of its weights.
        layers: from `cached_layers`.
        steps: of the run; one that passes over the clips once needs one view.
        precision: a context to compute in, such as autocast.
        on_event: called with `{"event": "cached", "clips": n more, "of": all}` as it goes.

    Raises:
        SpeechftError: the disk is full, or the folder cannot be written.
    """
    views = min(feed.recipe.views, -(-steps // feed.per_epoch)) if feed.recipe.augment else 1
    where = feed.train.path.parent if feed.train.path else feed.recipe.output_dir
    where = (where if os.access(where, os.W_OK) else feed.recipe.output_dir) / FOLDER
    folder = where / _key(feed, base_folder, layers)
    opened = partial(_opened, layers=layers, views=views, clips=len(feed.train), width=core(model).config.d_model)
    try:
        if (cache := opened(folder)) is None:
            # in a folder of its own: another run may be building or reading the same cache
            folder.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=where))
            try:
                with locked(work):
                    _build(feed, model, layers, views, work, precision, on_event)
                    if (cache := opened(work)) is None:
                        raise OSError("it changed while it was being written")
                    if opened(folder) is None:
                        with contextlib.suppress(OSError):  # another run puts its own there at this moment
                            replace_folder(work, folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):  # forgotten by another run; what is mapped stays readable
            os.utime(folder)
        _forget_oldest(where)
    except OSError as error:
        raise SpeechftError(
            f"the cache cannot be written ({error.strerror or error})",
            where=where,
            fix="Free some disk space, or train with cache=off.",
        ) from None
    return cache


def _key(feed: Feed, base_folder: Path, layers: int) -> str:
    """A hash of all that the numbers depend on; recordings by path, size and time of change."""
    recipe = feed.recipe
    parts: list[Any] = [FORMAT, adapters.base_hash(base_folder), recipe.adapter.quantize, layers]
    parts += [feed.context.policy, recipe.precision, torch.__version__]
    if recipe.augment:
        parts += [recipe.augment.model_dump(mode="json"), recipe.seed]
    for utterance in feed.train:
        try:
            state = utterance.audio.stat()
            stamp = [state.st_size, state.st_mtime_ns]
        except OSError:
            stamp = []
        parts.append([str(utterance.audio), utterance.start_s, utterance.end_s, *stamp])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _opened(folder: Path, layers: int, views: int, clips: int, width: int) -> PrefixCache | None:
    """A finished cache; None if there is none, if it has too few views, or if states are missing."""
    try:
        # the states first: who replaces or deletes the folder meanwhile leaves an index that does not fit, or none
        rows = np.memmap(refuse_special(folder / "states.bin"), dtype=np.uint16, mode="r").reshape(-1, width)
        index: list[list[int]] = json.loads(read_text(folder / "index.json"))
    except (FileNotFoundError, NotAFile, ValueError):
        return None
    whole = len(index) >= clips * views and len(rows) == sum(length for _, length in index)
    return PrefixCache(rows, index[: clips * views], layers, views) if whole else None


def _build(
    feed: Feed,
    model: nn.Module,
    layers: int,
    views: int,
    folder: Path,
    precision: Callable[[], contextlib.AbstractContextManager],
    on_event: OnEvent,
) -> None:
    """Write states.bin, then index.json: with the index there, all of it is."""
    encoder = core(model).model.encoder
    # with all layers done, only what the decoder is shown is worth keeping
    kept_frames = feed.context.shown if layers == len(encoder.layers) else feed.context.frames
    index = [[0, 0] for _ in range(len(feed.train) * views)]
    rows = 0
    with (folder / "states.bin").open("wb") as file, torch.inference_mode(), precision(), _judging(model):
        in_parts = memory.Parts()
        for group in prefetch(_groups(feed, views), feed.whisper.device):
            length = feed.context.frames(group[0][1].shape[1])
            for part, states in in_parts(group, partial(_encoded, model, length, layers)):
                for (place, frames), own in zip(part, states, strict=True):
                    kept = own[: kept_frames(frames.shape[1]) // 2]
                    file.write(kept.numpy().tobytes())
                    index[place] = [rows, len(kept)]
                    rows += len(kept)
                on_event({"event": "cached", "clips": len(part), "of": len(index)})
        file.flush()
        os.fsync(file.fileno())
    if not rows:
        raise SpeechftError("none of the clips can be read", where=feed.train.path, fix="'speechft check' says why.")
    write_text(folder / "index.json", json.dumps(index))


@contextlib.contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    """In eval mode: a dropout mask would otherwise be cached for the whole run."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _encoded(model: nn.Module, length: int, layers: int, clips: Sequence[tuple[int, Tensor]]) -> Tensor:
    """Activations of clips at one context length, bf16 seen as integers, shape (clips, positions, d_model)."""
    device = core(model).model.encoder.conv1.weight.device
    x = pad_frames([frames for _, frames in clips], length).to(device)
    return encode_lower(model, x, layers).to(torch.bfloat16).cpu().view(torch.uint16)


def _groups(feed: Feed, views: int, window: int = 256) -> Iterator[list[tuple[int, Tensor]]]:
    """(place in the index, frames) of clips with one context length, so that none sees another's padding."""
    clips = len(feed.train)
    for start in range(0, clips * views, window):
        by_length: dict[int, list[tuple[int, Tensor]]] = {}
        for place in range(start, min(start + window, clips * views)):
            view, clip = divmod(place, clips)
            frames = feed.clip(clip, view)
            if frames is not None:
                by_length.setdefault(feed.context.frames(frames.shape[1]), []).append((place, frames))
        for length, members in sorted(by_length.items()):
            size = max(1, ENCODER_FRAMES // length)
            for first in range(0, len(members), size):
                yield members[first : first + size]


def _forget_oldest(where: Path) -> None:
    """Delete the longest unused caches, and what a kill left of one that was being built."""
    free = [folder for folder in where.iterdir() if folder.is_dir() and not is_locked(folder)]
    unfinished = [folder for folder in free if folder.name.startswith(".") and (folder / ".lock").exists()]
    caches = sorted((folder for folder in free if folder not in unfinished), key=_last_used, reverse=True)
    for folder in unfinished + caches[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # by another run, meanwhile
        return 0.0
