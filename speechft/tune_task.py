"""What a study minimises: a recipe's best value on dev, of speech or of text."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.overlap import Overlap, overlap

Event = dict[str, Any]
Follow = Callable[[Event], None]


@dataclass(frozen=True)
class Task:
    """What a study minimises.

    Attributes:
        metric: its name.
        data: hashes of what is trained and judged on.
        run: a recipe's best value on dev; it tells every event of the run, and what that raises ends the run.
        shared: what the splits have in common, of speech.
    """

    metric: str
    data: tuple[str, ...]
    run: Callable[[Any, Follow], float]
    shared: Overlap | None = None


def speech_task(recipe: Any, out: Path, dev_utterances: int) -> Task:
    """WER on a part of dev, drawn by seed."""
    from speechft import memory
    from speechft.pipeline import prepared
    from speechft.train import fit

    manifest, _ = prepared(recipe)
    train, dev, shared = manifest.split("train"), manifest.split("dev"), overlap(manifest)
    if train.path is None or not os.access(train.path.parent, os.W_OK):
        train = Manifest(train, out / "manifest.jsonl")  # cached activations lie beside it, for all trials
    order = sorted(dev, key=lambda u: hashlib.sha256(f"{recipe.seed}\0{u.id}".encode()).digest())
    chosen = {u.id for u in order[:dev_utterances]}
    dev = dev.filter(lambda u: u.id in chosen)
    base: dict[Any, tuple[float, float]] = {}  # of the untrained model: the first trial measures it for all

    def run(recipe: Any, follow: Follow) -> float:
        untrained = (recipe.model, recipe.language, recipe.normalizer, recipe.adapter.quantize, recipe.precision)

        def told(event: Event) -> None:
            if event.get("model") == "base":
                base[untrained] = event["wer"], event["cer"]
            follow(event)

        trained = fit(recipe, train, dev, on_event=told, base=base.get(untrained))
        memory.release()
        assert trained.progress.base is not None
        return (trained.progress.best or trained.progress.base)[0]

    return Task("dev WER", (train.sha256, dev.sha256), run, shared)


def text_task(recipe: Any) -> Task:
    """The task's own score on dev: a loss, or a reward with its sign turned."""
    from speechft.text.pipeline import corpus_of, task_module
    from speechft.text.training import forget_checkpoints

    corpus = corpus_of(recipe)

    def run(recipe: Any, follow: Follow) -> float:
        best = float(task_module(recipe.task).train(recipe, corpus, follow).best)
        forget_checkpoints(recipe.output_dir)
        if not math.isfinite(best):
            raise SpeechftError("its score on dev is not a number", where="trial")
        return best

    return Task("dev loss", (corpus.sha256,), run)
