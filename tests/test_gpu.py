"""What is the same on a GPU: results, gradients, resumption, few bits, and what happens when its memory is full.

python -m pytest -m gpu
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from speechft import adapters, memory
from speechft.batching import Batch
from speechft.config import SpeechRecipe
from speechft.decode import decode
from speechft.fast_lora import fuse
from speechft.feed import Feed
from speechft.manifest import Manifest
from speechft.objective import TokenLoss, recompute_layers
from speechft.recogniser import load
from speechft.train import fit
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper, load_whisper

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
GPU = torch.device("cuda")


def recipe(out: Path, **settings: Any) -> SpeechRecipe:
    defaults = {"epochs": 3, "min_steps": 0, "batch_size": 4, "checkpoint_every": 2, "adapter": {"rank": 8}}
    return SpeechRecipe(manifest=Path("-"), output_dir=out, **(defaults | settings))


def losses(out: Path) -> list[float]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def one_batch(whisper: Whisper, voice: Manifest, clips: int = 4) -> Batch:
    labels = [whisper.label_ids(u.text) for u in voice]
    made = Feed(whisper, voice, labels, recipe(Path("unused"), augment=None), lambda *_: None)
    batch = made.batch(range(clips), epoch=0)
    assert batch is not None
    return batch


def gradient(device: str, voice: Manifest, dtype: torch.dtype = torch.float32, recompute: bool = False) -> torch.Tensor:
    whisper = load_whisper("bundled:tiny.en", device=device)
    torch.manual_seed(0)
    model = adapters.attach(whisper.model, rank=4)
    for _, parameter in adapters.trainable(model):
        parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    fuse(model)
    if recompute:
        recompute_layers(model)
        model.train()
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        loss = TokenLoss(model)(*one_batch(whisper, voice).tensors(whisper.device))
    loss.backward()
    return torch.cat([p.grad.flatten().cpu() for _, p in adapters.trainable(model)])


@pytest.mark.parametrize(
    ("dtype", "recompute", "nearness"),
    [(torch.float32, False, 0.9999), (torch.bfloat16, False, 0.99), (torch.bfloat16, True, 0.99)],
)
def test_the_gradient_is_the_cpus(dtype: torch.dtype, recompute: bool, nearness: float, voice: Manifest) -> None:
    ours, theirs = gradient("cuda", voice, dtype, recompute), gradient("cpu", voice)
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > nearness
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1, abs=0.02)


def test_a_gpu_hears_what_a_cpu_hears(voice: Manifest) -> None:
    clips, plain = [u.load() for u in voice[:12]], DecodeOptions(temperatures=())
    found = [
        [t.text for t in decode(load_whisper("bundled:tiny.en", device=device), clips, plain)]
        for device in ("cuda", "cpu")
    ]
    same = sum(a == b for a, b in zip(*found, strict=True))
    assert same >= 11, found  # in bf16 both, whose roundings can decide a near tie


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "fp32"},
        {"precision": "fp16"},
        {"gradient_checkpointing": True},
        {"optimizer": "adamw-8bit"},
        {"optimizer": "adamw-paged"},
        {"optimizer": "adamw-paged-8bit"},
        {"adapter": {"rank": 8, "quantize": "nf4"}},
        {"adapter": {"rank": 8, "quantize": "int8"}},
        {"adapter": {"rank": 8, "dora": True}},
        {"adapter": {"rank": 8, "placement": "decoder"}, "context": "clip+10s:2s", "cache": "on"},
        {"adapter": {"rank": 8, "encoder_from": 2}, "context": "clip+10s:2s", "cache": "on"},
        {"adapter": {"method": "full"}, "learning_rate": 1e-4},
    ],
    ids=lambda s: ",".join(f"{k}={v}" for k, v in (s | s.get("adapter", {})).items() if k != "adapter") or "default",
)
def test_a_run_learns_and_its_adapter_works_on_both(settings: dict, voice: Manifest, tmp_path: Path) -> None:
    train = dev = voice[:24]  # by heart: too few for more
    found = fit(recipe(tmp_path / "run", epochs=6, patience=9, **({"learning_rate": 2e-3} | settings)), train, dev)
    fell = losses(tmp_path / "run")
    assert len(fell) == 36
    assert sum(fell[-6:]) < 0.7 * sum(fell[:6])
    assert found.adapter is not None
    assert found.progress.best[0] < found.progress.base[0]
    rates = [load(adapter=found.adapter, device=device).evaluate(dev).scores.wer for device in ("cuda", "cpu")]
    assert max(rates) < found.progress.base[0]


def test_an_interrupted_run_goes_on(voice: Manifest, tmp_path: Path) -> None:
    """Not to the last bit: a GPU adds up in another order each time."""
    train, dev = voice[:12], voice[12:14]

    class Stopped(Exception):
        pass

    def stop(event: dict) -> None:
        if event.get("step") == 5 and "loss" in event:
            raise Stopped

    fit(recipe(tmp_path / "whole"), train, dev)
    with pytest.raises(Stopped):
        fit(recipe(tmp_path / "cut"), train, dev, on_event=stop)
    resumed: list[dict] = []
    fit(recipe(tmp_path / "cut"), train, dev, on_event=resumed.append)
    assert any(event.get("event") == "resumed" and event["step"] == 4 for event in resumed)
    whole, cut = (load_file(tmp_path / run / "checkpoints/latest/state.safetensors") for run in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=0.02)


def test_a_full_gpu_makes_passes_smaller(voice: Manifest, tmp_path: Path) -> None:
    train, dev = voice[:24], voice[24:26]
    total = torch.cuda.get_device_properties(GPU).total_memory
    news: list[dict] = []
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    fit(recipe(tmp_path / "free", batch_size=24, max_steps=2, context="clip+20s"), train, dev)
    needed = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * needed / total)
    try:
        short = recipe(tmp_path / "short", batch_size=24, max_steps=2, context="clip+20s")
        fit(short, train, dev, on_event=news.append)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        memory.release()
    assert any(event.get("event") == "less memory" for event in news)
    assert losses(tmp_path / "short") == pytest.approx(losses(tmp_path / "free"), rel=0.02)
