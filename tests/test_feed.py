"""What steps are fed: passes of a size the device likes, padding that is counted, memory a GPU copies from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from speechft import adapters
from speechft.batching import plan_epoch_by_seconds, with_labels
from speechft.config import SpeechRecipe
from speechft.feed import PASS_FRAMES, Feed
from speechft.manifest import Manifest
from speechft.objective import TokenLoss, recompute_layers
from speechft.whisper import Whisper, load_whisper


def fed(whisper: Whisper, clips: Manifest, **changes) -> Feed:
    recipe = SpeechRecipe(manifest=clips.path, output_dir=Path("unused"), augment=None, **changes)
    return Feed(whisper, clips, [whisper.label_ids(u.text) for u in clips], recipe, lambda *_: None)


def test_padding_is_counted(tiny: Whisper, voice: Manifest) -> None:
    feed = fed(tiny, voice[:8], batch_size=4)
    assert feed.padding == 0.0
    batches = [batch for _, batches in feed.steps(0, 2) for batch in batches]
    frames = sum(batch.frames for batch in batches)
    own = sum(int(100 * (u.seconds or 0)) for u in voice[:8])
    assert feed.padding == pytest.approx(1 - own / frames, abs=0.02)


def test_a_process_gets_its_share_or_all(tiny: Whisper, voice: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    feed = fed(tiny, voice[:3], batch_size=3)
    ((_, mine),) = feed.steps(0, 1)
    ((_, everything),) = feed.steps(0, 1, shared=False)
    assert mine[0].indices == everything[0].indices[1::2]
    assert len(everything[0].indices) == 3


def test_silence_is_not_taught(tiny: Whisper, voice: Manifest) -> None:
    texts = ("", "...", "hmm")
    rows = [replace(u, text=text, extra={"no_speech": True}) for u, text in zip(voice[:3], texts, strict=True)]
    left_out: list[str] = []
    kept, labels = with_labels(tiny, Manifest(rows), lambda utterance, reason: left_out.append(reason))
    assert ([u.text for u in kept], len(labels)) == (["hmm"], 1)
    assert left_out == ["its text holds no words"] * 2


@settings(max_examples=100, deadline=None)
@given(
    seconds=st.lists(st.floats(0.1, 30.0), min_size=1, max_size=60), share=st.floats(0.01, 1.0), epoch=st.integers(0, 9)
)
def test_batches_of_about_as_much_sound(seconds: list[float], share: float, epoch: int) -> None:
    count = max(1, round(share * len(seconds)))
    plan = plan_epoch_by_seconds(seconds, count, seed=1, epoch=epoch)
    assert sorted(i for members in plan for i in members) == list(range(len(seconds)))
    assert len(plan) == count
    assert all(plan)
    assert plan == plan_epoch_by_seconds(seconds, count, seed=1, epoch=epoch)
    even, longest = sum(seconds) / count, max(seconds)
    assert all(sum(seconds[i] for i in members) <= even + 2 * longest for members in plan)


def test_a_recipe_may_count_by_seconds(tiny: Whisper, voice: Manifest) -> None:
    feed = fed(tiny, voice[:16], batch_seconds=10.0)
    whole = [[b.indices for b in batches] for _, batches in feed.steps(0, 2 * feed.per_epoch)]
    assert feed.per_epoch == -(-sum(u.seconds or 0 for u in voice[:16]) // 10.0)
    seen = sorted(i for batches in whole[: feed.per_epoch] for indices in batches for i in indices)
    assert seen == list(range(16))
    assert whole[: feed.per_epoch] != whole[feed.per_epoch :]
    later = fed(tiny, voice[:16], batch_seconds=10.0).steps(feed.per_epoch + 1, 2 * feed.per_epoch)
    assert [[b.indices for b in batches] for _, batches in later] == whole[feed.per_epoch + 1 :]
    assert feed.padding < 0.25


def test_passes_are_as_large_as_the_device_likes(tiny: Whisper, voice: Manifest) -> None:
    feed = fed(tiny, voice[:16], batch_size=16, context="clip+5s")
    assert feed.pass_frames == PASS_FRAMES["cpu"]
    ((_, small),) = feed.steps(0, 1)
    feed.pass_frames = PASS_FRAMES["cuda"]
    ((_, large),) = feed.steps(0, 1)
    assert len(large) == 1 < len(small)
    assert sorted(i for b in small for i in b.indices) == sorted(large[0].indices)


def test_batches_for_a_gpu_lie_in_page_locked_memory(
    tiny: Whisper, voice: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: locked.append(tensor) or tensor)
    feed = fed(tiny, voice[:4], batch_size=4)
    assert not feed.pin
    list(feed.steps(0, 1))
    assert not locked
    feed.pin = True
    ((_, batches),) = feed.steps(0, 1)
    assert len(locked) == 3 * len(batches)
    assert all(t is None or any(t is own for own in locked) for b in batches for t in b.tensors(torch.device("cpu")))


def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradient(voice: Manifest) -> None:
    whisper = load_whisper("bundled:tiny.en", device="cpu")
    torch.manual_seed(0)
    model = adapters.attach(whisper.model, rank=4)
    for _, parameter in adapters.trainable(model):
        torch.nn.init.normal_(parameter, 0, 0.02)
    ((_, batches),) = fed(whisper, voice[:2], batch_size=2).steps(0, 1)

    def once() -> tuple[Tensor, int]:
        kept = 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        model.zero_grad()
        model.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = TokenLoss(model)(*batches[0].tensors(torch.device("cpu")))
        loss.backward()
        return torch.cat([p.grad.flatten() for _, p in adapters.trainable(model)]), kept

    plain, much = once()
    recompute_layers(model)
    again, little = once()
    assert torch.allclose(plain, again, atol=1e-5)
    assert little < 0.5 * much
