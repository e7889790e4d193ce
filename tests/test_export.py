"""An exported adapter says the same in the software it was exported for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechft import adapters, load
from speechft.audio import load_audio
from speechft.decode import DecodeOptions
from speechft.error_rate import word_errors
from speechft.errors import SpeechftError
from speechft.export import export
from speechft.manifest import Manifest
from speechft.normalize import normalizer
from speechft.sources import resolve
from speechft.whisper import Context, load_whisper

MODEL = "bundled:tiny.en"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes every logit a little, as one after a few steps would."""
    torch.manual_seed(0)
    model = adapters.attach(load_whisper(MODEL, device="cpu").model, rank=4)
    for _, parameter in adapters.trainable(model):
        torch.nn.init.normal_(parameter, 0, 0.02)
    card = {"model": MODEL, "base_sha256": adapters.base_hash(resolve(MODEL)), "context": "clip+10s"}
    return adapters.save(model, tmp_path_factory.mktemp("run") / "adapter", card, MODEL, resolve(MODEL))


def test_a_merged_folder_is_complete_and_equal(adapter: Path, tmp_path: Path) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    out = export(adapter, tmp_path / "merged")
    names = {path.name for path in out.iterdir()}
    wanted = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"}
    assert names >= wanted | {"preprocessor_config.json", "vocab.json", "added_tokens.json", "speechft.json"}
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    theirs = WhisperForConditionalGeneration.from_pretrained(out, dtype=torch.float32).eval()
    WhisperProcessor.from_pretrained(out)
    ours = load(adapter=adapter)
    frames, ids = torch.randn(1, 80, 3000), torch.tensor([[50257, 50362, 262]])
    with torch.inference_mode():
        a = theirs(input_features=frames, decoder_input_ids=ids).logits
        b = adapters.merge(ours.whisper.model)(input_features=frames, decoder_input_ids=ids).logits
    torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
    assert load(out).whisper.context == Context("clip+10s")  # our own software still knows how it was trained


def test_faster_whisper_says_the_same(adapter: Path, tmp_path: Path, voice: Manifest) -> None:
    faster_whisper = pytest.importorskip("faster_whisper", reason="the extra 'export' is not installed")
    out = export(adapter, tmp_path / "ct2", to="ctranslate2", precision="float32")
    assert json.loads((out / "speechft.json").read_text())["merged"]
    theirs = faster_whisper.WhisperModel(str(out), device="cpu", compute_type="float32", cpu_threads=1)

    def say(audio: Path) -> str:
        segments, _ = theirs.transcribe(str(audio), beam_size=1, temperature=0.0, without_timestamps=True)
        return " ".join(segment.text for segment in segments)

    assert differing(adapter, voice, say) <= 0.1  # bf16 here, fp32 there


def test_whisper_cpp_says_the_same(adapter: Path, tmp_path: Path, voice: Manifest) -> None:
    model = pytest.importorskip("pywhispercpp.model", reason="the extra 'export' is not installed")
    out = export(adapter, tmp_path / "cpp", to="ggml")
    theirs = model.Model(
        str(out / "ggml-model.bin"), n_threads=2, print_progress=False, print_realtime=False, language="en",
        no_timestamps=True, temperature_inc=0.0, suppress_blank=True,
    )  # fmt: skip

    def say(audio: Path) -> str:
        return " ".join(segment.text for segment in theirs.transcribe(load_audio(audio)))

    assert differing(adapter, voice, say) <= 0.1


def differing(adapter: Path, voice: Manifest, say: Callable[[Path], str]) -> float:
    """Share of words that other software hears otherwise than we do, both at 30 s and without retries."""
    ours, same = load(adapter=adapter), normalizer("whisper-english")
    errors = words = 0
    for clip in voice[:6]:
        mine = ours.transcribe(clip.audio, options=DecodeOptions(temperatures=()), context="full").text
        found = word_errors(same(mine), same(say(clip.audio)))
        errors, words = errors + found.errors, words + found.length
    return errors / words


def test_mistakes_are_sentences(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="unknown format"):
        export(adapter, tmp_path / "out", to="tflite")
    with pytest.raises(SpeechftError, match="exists already"):
        export(adapter, adapter)
    with pytest.raises(SpeechftError, match="not an adapter"):
        export(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
