"""An exported adapter says the same in the software it was exported for."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechft import adapters, load
from speechft.context import Context
from speechft.errors import SpeechftError
from speechft.export import export
from speechft.export_check import RUNTIMES, check_export
from speechft.ggml import write_ggml
from speechft.manifest import Manifest
from speechft.onnx_export import STEP, in_eight_bits
from speechft.seen import Seen
from speechft.sources import resolve
from speechft.whisper import Whisper, load_whisper

MODEL = "bundled:tiny.en"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, voice: Manifest) -> Path:
    """An adapter that changes every logit a little, as one after a few steps would."""
    torch.manual_seed(0)
    model = adapters.attach(load_whisper(MODEL, device="cpu").model, rank=4)
    for _, parameter in adapters.trainable(model):
        torch.nn.init.normal_(parameter, 0, 0.02)
    card = {"model": MODEL, "base_sha256": adapters.base_hash(resolve(MODEL)), "context": "clip+10s"}
    card["seen"] = Seen.of(voice[:1], voice[:0]).to_dict()
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
    assert ("theirs_after_silence" in found) is (to == "ctranslate2")
    if after := found.get("theirs_after_silence"):
        assert abs(after["wer"] - found["ours"]["wer"] - after["difference"]["wer"]) < 1e-9
        assert abs(after["difference"]["wer"]) <= 0.05
    assert found["notice"], "a simulated voice"
    assert found["caveats"] == ["1 of these 6 recordings was trained on: the numbers say little about new ones."]
    assert [pair["first"] for pair in found["leakage"]][:3] == [
        "training of the adapter",
        "dev of the adapter",
        "train",
    ]
    assert "training of the adapter and" in found["overlap"]
    assert json.loads((out / "export_check.json").read_text()) == found


def test_each_clip_is_heard_in_its_own_language(
    monkeypatch: pytest.MonkeyPatch, voice: Manifest, tiny: Whisper, tmp_path: Path
) -> None:
    """The model's if it has one, else the row's, else what ours detects; in both programs."""
    rows = Manifest([replace(u, language=code) for u, code in zip(voice[:3], ("de", "pt-BR", None), strict=True)])
    ours, theirs = [], []

    def decoded(whisper: Whisper, clips: list, *_, languages: list, **settings) -> list[SimpleNamespace]:
        ours.append(languages)
        return [SimpleNamespace(text="ja", language=whisper.language or code or "cs") for code in languages]

    def run(folder: Path, whisper: Whisper, clips: list, languages: list, caps: list) -> list[str]:
        theirs.append(languages)
        return ["ja"] * len(clips)

    def loaded(model: object, adapter: object, language: str | None = None) -> SimpleNamespace:
        multilingual = copy.deepcopy(tiny.generation)
        multilingual.is_multilingual, multilingual.lang_to_id = True, {"<|de|>": 1, "<|pt|>": 2, "<|cs|>": 3}
        whisper = tiny.with_(model=SimpleNamespace(config=tiny.config, generation_config=multilingual))
        return SimpleNamespace(whisper=whisper.with_(language=language, context=Context("clip")), notes=[])

    for name, value in (("decode", decoded), ("load", loaded), ("cards_of", lambda *_: {})):
        monkeypatch.setattr(f"speechft.export_check.{name}", value)
    monkeypatch.setitem(RUNTIMES, "huggingface", ("transformers", run))
    check_export(tmp_path, "huggingface", "adapter", rows)
    assert theirs == [["de", "pt", "cs"]]
    assert ours == [["de", "pt", None], ["de", "pt", "cs"]]
    check_export(tmp_path, "huggingface", "adapter", rows, language="cs")
    assert theirs[1] == ["cs"] * 3
    with pytest.raises(SpeechftError, match="does not know the language 'xx'"):
        check_export(tmp_path, "huggingface", "adapter", Manifest([replace(rows[0], language="xx")]))


def untied(tiny: Whisper) -> Whisper:
    """Its output layer is its own."""
    model = copy.deepcopy(tiny.model)
    head = model.proj_out.weight.detach()
    model.proj_out.weight = torch.nn.Parameter(head + 0.01 * torch.randn(head.shape, generator=torch.manual_seed(0)))
    return tiny.with_(model=model)


def test_an_output_layer_of_its_own_stays(tiny: Whisper, tmp_path: Path) -> None:
    whisper = untied(tiny)
    folder = adapters.save(whisper.model, tmp_path / "whole", {}, MODEL, resolve(MODEL))
    out = export(folder, tmp_path / "out")
    again = load_whisper(out, device="cpu").model
    torch.testing.assert_close(again.proj_out.weight, whisper.model.proj_out.weight)
    torch.testing.assert_close(again.model.decoder.embed_tokens.weight, tiny.model.proj_out.weight)
    with pytest.raises(SpeechftError, match="output layer of its own"):
        export(folder, tmp_path / "ggml", to="ggml")
    assert not (tmp_path / "ggml").exists()


def test_ggml_has_no_place_for_more_tokens(tiny: Whisper, tmp_path: Path) -> None:
    model = copy.deepcopy(tiny.model)
    model.resize_token_embeddings(51_870, mean_resizing=False)
    with pytest.raises(SpeechftError, match="has 51870 tokens"):
        write_ggml(tiny.with_(model=model), tmp_path / "model.bin")


def test_what_a_base_folder_says_of_itself_is_not_copied(tiny: Whisper, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(resolve(MODEL), base)
    of_the_base = ("model.safetensors.index.json", "adapter_config.json", "export_check.json")
    for name in of_the_base:
        (base / name).write_text("{}")
    out = adapters.save(tiny.model, tmp_path / "out", {}, MODEL, base)
    assert (out / "tokenizer.json").exists()
    assert not [name for name in of_the_base if (out / name).exists()]


def test_eight_bits_leave_no_whole_weights_behind(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
    matrix = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    types = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in ("x", "y")]
    product = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([product], "g", types[:1], types[1:], [matrix])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, tmp_path / STEP, save_as_external_data=True, location=f"{STEP}.data", size_threshold=0)
    assert (tmp_path / f"{STEP}.data").exists()
    in_eight_bits(tmp_path / STEP)
    assert [path.name for path in tmp_path.iterdir()] == [STEP]


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
