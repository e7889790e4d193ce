"""The cache of the frozen prefix: the same gradients as without it, and never a wrong number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from speechft import adapters
from speechft.batching import IGNORED
from speechft.cache import FOLDER, cached_layers, frozen_layers, open_or_build
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.feed import Feed
from speechft.locks import locked
from speechft.manifest import Manifest
from speechft.objective import TokenLoss
from speechft.sources import resolve
from speechft.train import fit
from speechft.whisper import Whisper, core, decoder_states, encode, load_whisper

MODEL = "bundled:tiny.en"


@pytest.fixture
def clips(voice: Manifest, tmp_path: Path) -> Manifest:
    return Manifest(list(voice)[:6], tmp_path / "manifest.jsonl")


def recipe_for(clips: Manifest, out: Path, **settings) -> SpeechRecipe:
    defaults = {"batch_size": 3, "min_steps": 0, "adapter": {"rank": 4, "placement": "decoder"}}
    return SpeechRecipe(manifest=clips.path, output_dir=out / "run", **(defaults | settings))


def feed_for(whisper: Whisper, clips: Manifest, recipe: SpeechRecipe) -> Feed:
    return Feed(whisper, clips, [whisper.label_ids(u.text) for u in clips], recipe, lambda *_: None)


def adapted(recipe: SpeechRecipe) -> Whisper:
    whisper = load_whisper(MODEL, device="cpu")
    settings = recipe.adapter
    torch.manual_seed(0)
    model = adapters.attach(whisper.model, rank=4, placement=settings.placement, encoder_from=settings.encoder_from)
    for _, parameter in adapters.trainable(model):
        torch.nn.init.normal_(parameter, 0, 0.05)
    return whisper.with_(model=model)


def gradient(whisper: Whisper, batches: list, layers: int) -> torch.Tensor:
    loss_of = TokenLoss(whisper.model, layers)
    whisper.model.zero_grad()
    for batch in batches:
        loss_of(batch.x, batch.inputs, batch.targets, batch.positions).backward()
    return torch.cat([p.grad.flatten() for _, p in adapters.trainable(whisper.model)])


def gradient_of_shown(whisper: Whisper, batches: list, shown: list[int]) -> torch.Tensor:
    """Of the whole model, whose decoder is shown only so many of a clip's encoder states: written out, uncached."""
    whisper.model.zero_grad()
    for batch, n in zip(batches, shown, strict=True):
        hidden = decoder_states(whisper.model, batch.inputs, encode(whisper.model, batch.x)[:, :n], None)
        logits = core(whisper.model).proj_out(hidden).flatten(0, 1)
        nn.functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="sum").backward()
    return torch.cat([p.grad.flatten() for _, p in adapters.trainable(whisper.model)])


@pytest.mark.parametrize(
    ("placement", "encoder_from", "context"),
    [("decoder", 0, "clip+1s"), ("decoder", 0, "clip+2s:1s"), ("both", 2, "clip")],
)
def test_gradients_equal_the_uncached_ones(
    clips: Manifest, tmp_path: Path, placement: str, encoder_from: int, context: str
) -> None:
    """One batch of all lengths from the cache against clip after clip through the whole model."""
    recipe = recipe_for(
        clips, tmp_path, context=context, adapter={"rank": 4, "placement": placement, "encoder_from": encoder_from}
    )
    whisper = adapted(recipe)
    layers = cached_layers(whisper.model, recipe)
    assert layers == (encoder_from or 4)
    feed = feed_for(whisper, clips, recipe)
    indices = list(range(len(clips)))
    feed.cache = open_or_build(feed, whisper.model, resolve(MODEL), layers, steps=2)
    cached = feed.batch(indices, epoch=0)
    assert cached is not None
    assert len(set(cached.positions.tolist())) > 1
    from_cache = gradient(whisper, [cached], layers)

    feed.cache = None
    alone = [feed.batch([i], epoch=0) for i in indices]
    own = [feed.context.shown(feed.clip(i, 0).shape[1]) // 2 for i in indices]  # of each clip's states, those shown
    plain = gradient(whisper, alone, 0) if ":" not in context else gradient_of_shown(whisper, alone, own)
    assert (from_cache - plain).norm() / plain.norm() < 0.02  # bf16 states against fp32
    assert layers < 4 or own == cached.positions.tolist()


def test_dropout_is_not_kept(clips: Manifest, tmp_path: Path) -> None:
    found = []
    for training in (False, True):
        recipe = recipe_for(clips, tmp_path / str(training), cache="on", augment=None)
        whisper = adapted(recipe)
        for layer in core(whisper.model).model.encoder.layers:
            layer.dropout = 0.3
        whisper.model.train(training)
        own = Manifest(list(clips), tmp_path / str(training) / "manifest.jsonl")
        own.path.parent.mkdir(exist_ok=True)
        feed = feed_for(whisper, own, recipe)
        found.append(open_or_build(feed, whisper.model, resolve(MODEL), 4, 2).states(0, 0))
        assert core(whisper.model).model.encoder.layers[0].training is training, "as it was"
    assert torch.equal(*found)


def test_a_second_run_starts_from_the_cache(clips: Manifest, tmp_path: Path) -> None:
    events: list[dict] = []
    recipe = recipe_for(clips, tmp_path, epochs=2)
    fit(recipe, clips, clips[:2], on_event=events.append)
    assert sum(e.get("event") == "cached" for e in events) > 0
    (cache,) = (tmp_path / FOLDER).iterdir()
    assert cache.stat().st_mode & 0o077 == 0
    events.clear()
    other = recipe_for(clips, tmp_path, epochs=2, learning_rate=3e-4, batch_size=2)
    fit(other.model_copy(update={"output_dir": tmp_path / "again"}), clips, clips[:2], on_event=events.append)
    assert not [e for e in events if e.get("event") == "cached"]


def test_what_does_not_match_is_built_again(clips: Manifest, tmp_path: Path) -> None:
    recipe = recipe_for(clips, tmp_path)
    whisper = adapted(recipe)
    built: list[dict] = []

    def cache(recipe: SpeechRecipe):
        built.clear()
        feed = feed_for(whisper, clips, recipe)
        return open_or_build(feed, whisper.model, resolve(MODEL), 4, 2, on_event=built.append)

    first = cache(recipe).states(0, 0)
    assert built
    cache(recipe)
    assert not built
    for other in ({"seed": 1}, {"context": "clip+1s"}, {"augment": None}):
        cache(recipe_for(clips, tmp_path, **other))
        assert built
    states = next((tmp_path / FOLDER).glob("*/states.bin"))
    for path in (tmp_path / FOLDER).glob("*/states.bin"):
        with path.open("r+b") as file:
            file.truncate(states.stat().st_size // 2)
    assert torch.equal(cache(recipe).states(0, 0), first)
    assert built


def test_two_runs_that_build_one_cache_at_once_read_the_same(clips: Manifest, tmp_path: Path) -> None:
    """Each is in the middle of its own as the other goes on, and the one that ends first leaves the other's alone."""
    both_write = threading.Barrier(2, timeout=60)
    recipe = recipe_for(clips, tmp_path)

    def build(whisper: Whisper) -> list[torch.Tensor]:
        met: list[dict] = []

        def on_event(event: dict) -> None:
            met.append(event)
            if len(met) == 1:
                both_write.wait()

        cache = open_or_build(feed_for(whisper, clips, recipe), whisper.model, resolve(MODEL), 4, 2, on_event=on_event)
        assert met
        return [states for clip in range(len(clips)) if (states := cache.states(clip, 0)) is not None]

    models = [adapted(recipe), adapted(recipe)]  # not in the threads: transformers loads one at a time
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build, models)
    assert len(first) == len(clips)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    (left,) = (tmp_path / FOLDER).iterdir()
    assert not left.name.startswith(".")


def test_what_others_build_or_a_kill_left(clips: Manifest, tmp_path: Path) -> None:
    recipe = recipe_for(clips, tmp_path)
    whisper = adapted(recipe)
    building, left = tmp_path / FOLDER / ".another-1", tmp_path / FOLDER / ".killed-2"
    with locked(left):
        pass
    with locked(building):
        os.utime(building, (0, 0))
        open_or_build(feed_for(whisper, clips, recipe), whisper.model, resolve(MODEL), 4, 2)
    assert building.exists()
    assert not left.exists()


def test_full_disk_is_a_sentence(clips: Manifest, tmp_path: Path) -> None:
    """A limit on file size stops the write as a full disk does."""
    lines = [{"audio": str(u.audio), "text": u.text, "split": "dev" if i < 2 else "train"} for i, u in enumerate(clips)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "import sys; from speechft.cli import main; main()"
    )
    words = ["train", f"manifest={tmp_path}/m.jsonl", f"output_dir={tmp_path}/run", "allow_outside=true"]
    words += [
        "adapter.placement=decoder",
        "adapter.rank=1",
        "adapter.projections=[q_proj]",
        "max_steps=1",
        "test=false",
        "checkpoint_every=100",
    ]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cache cannot be written" in " ".join(done.stderr.split())
    assert not list((tmp_path / FOLDER).glob("*"))


def test_nothing_to_cache_is_said(clips: Manifest, tmp_path: Path) -> None:
    whisper = load_whisper(MODEL, device="cpu")
    both = adapters.attach(whisper.model, rank=2)
    assert frozen_layers(both) == 0
    assert cached_layers(both, recipe_for(clips, tmp_path)) is None
    with pytest.raises(SpeechftError, match="nothing can be cached"):
        cached_layers(both, recipe_for(clips, tmp_path, cache="on"))
    full = load_whisper(MODEL, device="cpu").model.requires_grad_(True)
    assert frozen_layers(full) is None
