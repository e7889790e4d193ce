"""An exported adapter says the same in the software it was exported for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from speechft import adapters, load
from speechft.errors import SpeechftError
from speechft.export import export
from speechft.export_check import check_export
from speechft.manifest import Manifest
from speechft.seen import hashes
from speechft.sources import resolve
from speechft.whisper import Context, load_whisper

MODEL = "bundled:tiny.en"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, voice: Manifest) -> Path:
    """An adapter that changes every logit a little, as one after a few steps would."""
    torch.manual_seed(0)
    model = adapters.attach(load_whisper(MODEL, device="cpu").model, rank=4)
    for _, parameter in adapters.trainable(model):
        torch.nn.init.normal_(parameter, 0, 0.02)
    card = {"model": MODEL, "base_sha256": adapters.base_hash(resolve(MODEL)), "context": "clip+10s"}
    card["seen"] = {"train": hashes(voice[:1]), "dev": []}
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


PACKAGES = {"ctranslate2": "faster_whisper", "ggml": "pywhispercpp.model", "onnx": "onnxscript"}


@pytest.mark.parametrize(
    ("to", "precision", "most"),
    [
        ("huggingface", None, 0.0),
        ("ctranslate2", "float32", 0.15),  # it pads features with zeros, which are not silence
        pytest.param("ctranslate2", "int8", 0.15, marks=pytest.mark.slow),
        ("ggml", None, 0.1),  # one clip of six: a near tie, which bf16 may decide otherwise
        pytest.param("ggml", "int8", 0.1, marks=pytest.mark.slow),
        pytest.param("onnx", None, 0.0, marks=pytest.mark.slow),
        pytest.param("onnx", "int8", 0.25, marks=pytest.mark.slow),
    ],
)
def test_its_own_software_says_the_same(
    to: str, precision: str | None, most: float, adapter: Path, tmp_path: Path, voice: Manifest
) -> None:
    if to in PACKAGES:
        pytest.importorskip(PACKAGES[to], reason="the extra 'export' is not installed")
    out = export(adapter, tmp_path / "out", to=to, precision=precision)
    assert json.loads((out / "speechft.json").read_text())["merged"]
    found = check_export(out, to, adapter, voice[:6], whole=voice)
    assert found["words_that_differ"] <= most
    assert found["context"] == ("clip+10s" if to == "onnx" else "full")
    assert abs(found["theirs"]["wer"] - found["ours"]["wer"] - found["difference"]["wer"]) < 1e-9
    assert found["ours_at_its_context"]["context"] == "clip+10s"
    assert found["theirs"]["n_words"] > 20
    assert found["notice"], "a simulated voice"
    assert found["caveats"] == ["1 of these 6 recordings were trained on: the numbers say little about new ones."]
    assert {pair["first"] for pair in found["leakage"]} >= {"train"}
    assert "train and" in found["overlap"]
    assert json.loads((out / "export_check.json").read_text()) == found


def test_mistakes_are_sentences(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="unknown format"):
        export(adapter, tmp_path / "out", to="tflite")
    with pytest.raises(SpeechftError, match="onnx does not come in float16"):
        export(adapter, tmp_path / "out", to="onnx", precision="float16")
    with pytest.raises(SpeechftError, match="exists already"):
        export(adapter, adapter)
    with pytest.raises(SpeechftError, match="not an adapter"):
        export(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
