"""A bank decodes a mixed batch as each voice alone, reads adapters when needed, and refuses what is not its."""

from __future__ import annotations

import copy
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from speechft import adapters
from speechft.bank import AdapterBank, can_serve
from speechft.context import Context
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.server.voices import Voices
from speechft.sources import resolve
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper

VOICES: dict[str, dict[str, Any]] = {
    "anna": {"rank": 4, "context": "clip+2s"},
    "ben": {"rank": 2, "projections": ["fc1", "out_proj"], "rslora": True, "context": "clip+5s"},
    "cleo": {"rank": 3, "placement": "decoder", "context": "clip+2s"},
}


def make(tiny: Whisper, out: Path, seed: int, context: str = "clip+2s", **settings: Any) -> Path:
    """An adapter that changes what tiny.en says, but not into noise."""
    torch.manual_seed(seed)
    model = adapters.attach(copy.deepcopy(tiny.model), **({"rank": 2} | settings))
    for name, p in adapters.trainable(model):
        if "lora_B" in name:
            p.data.normal_(0, 0.03)
    folder = resolve("bundled:tiny.en")
    card = {"model": "bundled:tiny.en", "base_sha256": adapters.base_hash(folder), "context": context}
    return adapters.save(model, out, card, "bundled:tiny.en", folder)


@pytest.fixture(scope="module")
def folder(tiny: Whisper, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("voices")
    for seed, (name, settings) in enumerate(VOICES.items()):
        make(tiny, out / name / ("adapter" if name == "ben" else ""), seed, **settings)
    return out


@pytest.fixture
def bank(tiny: Whisper, folder: Path) -> AdapterBank:
    return AdapterBank(tiny, folder, dtype=torch.float32)


def alone(tiny: Whisper, folder: Path, name: str | None, clip: Any, options: DecodeOptions) -> Any:
    if name is None:
        return decode(inference_copy(tiny, torch.float32), [clip], options, ready=True)[0]
    place = folder / name / ("adapter" if name == "ben" else "")
    adapted = tiny.with_(
        model=adapters.load(copy.deepcopy(tiny.model), place), context=Context(VOICES[name]["context"])
    )
    return decode(inference_copy(adapted, torch.float32), [clip], options, ready=True)[0]


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(temperatures=(0.4,)),
        pytest.param(DecodeOptions(beams=3, temperatures=()), marks=pytest.mark.slow),
    ],
)
def test_a_mixed_batch_equals_each_voice_alone(
    options: DecodeOptions, bank: AdapterBank, tiny: Whisper, folder: Path, voice: Manifest
) -> None:
    clips = [u.load() for u in list(voice)[:6]]
    names = ["anna", None, "ben", "cleo", "anna", "ben"]
    with bank.using(names):
        together = decode(bank.whisper, clips, options, ready=True)
    expected = [alone(tiny, folder, name, clip, options) for name, clip in zip(names, clips, strict=True)]
    assert [t.tokens for t in together] == [t.tokens for t in expected]
    for found, wanted in zip(together, expected, strict=True):
        assert found.logprobs == pytest.approx(wanted.logprobs, abs=2e-3)
        assert found.temperature == wanted.temperature
    texts = {name: decode(bank.whisper, clips[:1], options) for name in (None,)}
    for name in VOICES:
        with bank.using(name):
            texts[name] = decode(bank.whisper, clips[:1], options)
            assert texts[name][0].tokens == alone(tiny, folder, name, clips[0], options).tokens
    assert len({t[0].logprobs for t in texts.values()}) == 4, "voices differ, or nothing is tested"


def test_adapters_are_read_when_needed_and_leave_when_not(tiny: Whisper, folder: Path) -> None:
    bank = AdapterBank(tiny, folder, capacity=2, dtype=torch.float32)
    assert bank.names == ["anna", "ben", "cleo"]
    assert bank.loaded == []
    clip = [torch.randn(16000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1]

    def logprobs(name: str) -> tuple[float, ...]:
        with bank.using([name]):
            return decode(bank.whisper, clip, DecodeOptions(temperatures=()), ready=True)[0].logprobs

    first = logprobs("anna")
    logprobs("ben")
    held = bank.bytes_held
    logprobs("cleo")
    assert bank.loaded == ["ben", "cleo"]
    assert bank.bytes_held == held, "a slot is used again"
    assert logprobs("anna") == first, "what left comes back the same"
    with pytest.raises(SpeechftError, match="capacity"), bank.using(["anna", "ben", "cleo"]):
        decode(bank.whisper, clip * 3, ready=True)


def test_switching_takes_less_than_a_millisecond(bank: AdapterBank) -> None:
    for name in VOICES:
        with bank.using(name):
            pass
    times = []
    for turn in range(60):
        started = time.perf_counter()
        with bank.using(list(VOICES)[turn % 3]):
            times.append(time.perf_counter() - started)
    assert sorted(times)[30] < 1e-3


def test_a_thousand_voices_on_disk(tiny: Whisper, tmp_path: Path) -> None:
    """Names are listed without opening an adapter, and a voice costs the reading of its own file."""
    first = make(tiny, tmp_path / "voices" / "voice-000", 0, rank=1, projections=["q_proj"], placement="decoder")
    for number in range(1, 1000):
        shutil.copytree(first, tmp_path / "voices" / f"voice-{number:03d}", copy_function=os.link)
    bank = AdapterBank(tiny, tmp_path / "voices", capacity=8, dtype=torch.float32)
    started = time.process_time()
    assert len(bank.names) == 1000
    listing = time.process_time() - started
    times = []
    for number in range(0, 1000, 50):
        started = time.process_time()
        with bank.using(f"voice-{number:03d}"):
            times.append(time.process_time() - started)
    assert len(bank.loaded) == 8
    of_one = 8 * (384 + 384) * 4  # eight layers, a row and a column each, in fp32
    assert bank.bytes_held == 9 * of_one, "a slot each, and the base model's"
    together = AdapterBank(tiny, tmp_path / "voices", capacity=64, dtype=torch.float32)
    with together.using([f"voice-{number:03d}" for number in range(20)]):
        together.select(range(20))
    assert together.bytes_held == 21 * of_one
    assert listing < 0.5
    assert sorted(times)[10] < 0.05


def other_base(folder: Path) -> None:
    card = folder / adapters.CARD
    card.write_text(card.read_text().replace('"base_sha256": "', '"base_sha256": "0'))


@pytest.mark.parametrize(
    ("settings", "damage", "message"),
    [
        ({"dora": True}, lambda folder: None, "plain LoRA"),
        ({"method": "houlsby"}, lambda folder: None, "plain LoRA"),
        ({}, other_base, "not on these weights"),
        ({}, lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"{"), "damaged"),
        ({}, lambda folder: (folder / "adapter_model.safetensors").unlink(), "missing"),
    ],
)
def test_what_it_cannot_serve_is_refused(
    settings: dict[str, Any], damage: Callable[[Path], Any], message: str, tiny: Whisper, tmp_path: Path
) -> None:
    damage(make(tiny, tmp_path / "odd", 0, **settings))
    bank = AdapterBank(tiny, {"odd": tmp_path / "odd"})
    with pytest.raises(SpeechftError, match=message), bank.using("odd"):
        pass
    assert bank.loaded == []


def theirs(tiny: Whisper, out: Path, **settings: Any) -> Path:
    """What peft alone makes and saves."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LoraConfig(**({"r": 2, "target_modules": ["q_proj"]} | settings))
        model = get_peft_model(copy.deepcopy(tiny.model), config)
        for name, parameter in model.named_parameters():
            if "lora_" in name and parameter.ndim > 1:
                parameter.data += 0.02 * torch.randn(parameter.shape)
        model.save_pretrained(out)
    return out


@pytest.mark.parametrize(
    ("settings", "served"),
    [
        ({}, True),
        ({"modules_to_save": ["layer_norm"]}, False),
        ({"bias": "all"}, False),
        ({"lora_bias": True}, False),
        ({"target_modules": ["conv1"]}, False),
        ({"target_modules": ["embed_tokens"]}, False),
        ({"init_lora_weights": "pissa", "target_modules": r".*decoder.*\.0\.self_attn\.q_proj"}, False),
        ({"init_lora_weights": "olora"}, False),
    ],
)
def test_what_others_made_is_served_as_peft_loads_it(
    settings: dict[str, Any], served: bool, tiny: Whisper, voice: Manifest, tmp_path: Path
) -> None:
    folder = theirs(tiny, tmp_path / "theirs", **settings)
    assert can_serve(folder) is served
    clip, plain = voice[0].load(), DecodeOptions(temperatures=())
    wanted = PeftModel.from_pretrained(copy.deepcopy(tiny.model), folder).eval()
    merged = inference_copy(tiny.with_(model=wanted, context=Context("full")))
    expected = decode(merged, [clip], plain, ready=True)[0]
    voices = Voices("bundled:tiny.en", lambda: {"theirs": folder})
    with voices.using(["theirs"]) as whisper:
        found = decode(whisper, [clip], plain, ready=True)[0]
    assert found.text == expected.text
    assert found.logprobs == pytest.approx(expected.logprobs, abs=0.3)  # rounded to bf16


def test_loftq_needs_its_quantised_base(tiny: Whisper, tmp_path: Path) -> None:
    folder = make(tiny, tmp_path / "loftq", 0)
    assert can_serve(folder)
    card = adapters.read_card(folder) | {"recipe": {"adapter": {"init": "loftq", "quantize": "nf4"}}}
    (folder / adapters.CARD).write_text(json.dumps(card))
    assert not can_serve(folder)


def test_a_voice_that_cannot_be_loaded_takes_no_others_place(
    tiny: Whisper, folder: Path, voice: Manifest, tmp_path: Path
) -> None:
    shutil.copytree(folder / "anna", tmp_path / "odd")
    path = tmp_path / "odd" / "adapter_model.safetensors"
    save_file({key.replace("layers.3", "layers.9"): value for key, value in load_file(path).items()}, path)
    places = {"anna": folder / "anna", "ben": folder / "ben" / "adapter", "cleo": folder / "cleo"}
    bank = AdapterBank(tiny, places | {"odd": tmp_path / "odd"}, dtype=torch.float32)
    clips = [voice[0].load()]

    def bens() -> tuple[float, ...]:
        with bank.using(["ben"]):
            return decode(bank.whisper, clips, DecodeOptions(temperatures=()), ready=True)[0].logprobs

    with bank.using("anna"):
        before = bens()
    bank.forget("anna")  # leaves a free place, which the damaged voice gets
    with pytest.raises(SpeechftError, match="no layer"), bank.using("odd"):
        pass
    with bank.using("cleo"):
        assert bens() == before
    assert bens() == before


def test_a_language_that_is_forced_wins_over_a_card(tiny: Whisper, tmp_path: Path) -> None:
    folder = make(tiny, tmp_path / "anna", 0)
    (folder / adapters.CARD).write_text(json.dumps(adapters.read_card(folder) | {"language": "de"}))
    assert AdapterBank(tiny, {"anna": folder}).voice("anna").language == "de"
    assert AdapterBank(tiny, {"anna": folder}, language="fr").voice("anna").language == "fr"
    told = Voices("bundled:tiny.en", lambda: {"anna": folder}, language="en")
    with told.using(["anna"]) as whisper:
        assert whisper.language == "en"


def test_mistakes_are_named(bank: AdapterBank, tiny: Whisper, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="Did you mean 'anna'"), bank.using(["ana"]):
        pass
    with pytest.raises(SpeechftError, match="no voice"), bank.using("../voices/anna"):
        pass
    with pytest.raises(SpeechftError, match="2 clips, but 1 voices"), bank.using(["anna"]):
        decode(bank.whisper, [torch.zeros(160).numpy()] * 2)
    with pytest.raises(SpeechftError, match="not a folder"):
        AdapterBank(tiny, tmp_path / "none")
    with pytest.raises(SpeechftError, match="no adapter"):
        AdapterBank(tiny.with_(model=adapters.attach(copy.deepcopy(tiny.model), rank=1)), tmp_path)
