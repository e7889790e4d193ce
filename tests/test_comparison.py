"""Several adapters against one base: names, the table, and the whole way with real adapters."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from speechft.adapters import attach, read_card, save, trainable
from speechft.comparison import adapter_names, different_bases, evaluate_adapters
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.pipeline import evaluate
from speechft.report_comparison import comparison, pairs
from speechft.result_schema import ComparisonResult, schema
from speechft.seen import Seen
from speechft.significance import holm
from speechft.sources import resolve
from speechft.whisper import load_whisper


def test_names_are_short_and_unlike() -> None:
    folders = [Path(name) for name in ("runs/a/adapter", "runs/b/adapter", "c", "x/d", "y/d", "z/base", "/deep/x/e/d")]
    assert list(adapter_names(folders)) == ["a", "b", "c", "x/d", "y/d", "z/base", "e/d"]
    same = [Path("runs/a"), Path("runs/a/adapter")]
    assert len(adapter_names(same)) == 2
    with pytest.raises(SpeechftError, match="given twice"):
        adapter_names([Path("a"), Path("b/../a")])


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that change the model at random, one a little and one more."""
    folders = []
    for name, size in (("little", 0.001), ("more", 0.01)):
        torch.manual_seed(0)
        whisper = load_whisper("bundled:tiny.en", device="cpu", dtype=torch.float32)
        model = attach(whisper.model, rank=4)
        for _, parameter in trainable(model):
            torch.nn.init.normal_(parameter, std=size)
        out = tmp_path_factory.mktemp("runs") / name / "adapter"
        card = {"model": "bundled:tiny.en", "context": "clip+10s"}
        folders.append(save(model, out, card, "bundled:tiny.en", resolve("bundled:tiny.en")))
    return folders


def test_one_table_of_several_adapters(adapters: list[Path], voice: Manifest, tmp_path: Path) -> None:
    result = evaluate_adapters(voice.split("test")[:4], adapters, out=tmp_path, typical=voice.split("dev")[:2])
    assert list(result["adapters"]) == [folder.parent.name for folder in adapters]
    entries = list(result["adapters"].values())
    for key in ("p_speakers", "p_mapsswe"):
        raw = [entry["difference"][key] for entry in entries]
        assert [entry["difference"][f"{key}_holm"] for entry in entries] == pytest.approx(holm(raw))
    for entry in entries:
        assert entry["difference"]["wer"] == pytest.approx(entry["wer"] - result["base"]["wer"])
        assert entry["n_words"] == result["base"]["n_words"]
        assert entry["forgetting"]["clips"] == 2
    rates = {"base": result["base"]["wer"], **{name: entry["wer"] for name, entry in result["adapters"].items()}}
    assert rates[result["best"]] == min(rates.values())
    head, *rows = comparison(result)
    assert [row[0] for row in rows] == ["base", *result["adapters"]]
    assert {len(row) for row in rows} == {len(head)}
    assert head[-1] == "Typical speech"
    assert rows[0][4:8] == ("–",) * 4
    little, more = result["adapters"]
    (pair,) = result["pairs"]
    assert (pair["first"], pair["second"]) == (little, more)
    assert pair["wer"] == pytest.approx(rates[more] - rates[little])
    assert pairs(result)[1][0] == f"{more} against {little}"
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["best"] == result["best"]
    assert {"$ref": "#/$defs/ComparisonResult"} in schema()["anyOf"]
    ComparisonResult.model_validate(written)
    ComparisonResult.model_validate(json.loads(json.dumps(result)))  # what --json prints
    for key in (key for key, field in ComparisonResult.model_fields.items() if field.is_required()):
        with pytest.raises(ValidationError, match=key):
            ComparisonResult.model_validate({k: v for k, v in written.items() if k != key})
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "simulated voice" in text
        assert all(entry in text for entry in ("All compared", *(name for name in result["adapters"])))


def test_each_says_what_it_takes_to_hear_the_same_again(adapters: list[Path], voice: Manifest, tmp_path: Path) -> None:
    result = evaluate_adapters(voice[:2], adapters, out=tmp_path / "out", beams=2, normalizer="basic")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for entry in result["adapters"].values():
        assert len(entry["adapter_sha256"]) == len(entry["model_sha256"]) == 64
        assert (entry["beams"], entry["model_sha256"]) == (2, result["base"]["model_sha256"])
        assert entry["context"]
        assert entry["adapter_sha256"] in page
    assert "real-time factor" in page
    assert result["base"]["adapter_sha256"] is None


def test_a_row_that_cannot_be_heard_does_not_change_what_all_are_compared_by(
    adapters: list[Path], voice: Manifest, tmp_path: Path
) -> None:
    """It is the only one in its language: without it the others are all in English."""
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nothing")
    gone = replace(voice[0], id="gone", audio=broken, language="de", duration_s=2.0)
    rows = Manifest([*(replace(u, language="en", split="test") for u in voice[:2]), replace(gone, split="test")])
    several = evaluate_adapters(rows, adapters)
    found = [several["base"], *several["adapters"].values()]
    one = evaluate(rows, adapter=adapters[0])
    assert {entry["normalizer"].partition("/")[0] for entry in [*found, one, one["base"]]} == {"basic"}


def test_adapters_of_different_models_are_called_so() -> None:
    assert different_bases(["bundled:tiny.en", "openai/whisper-tiny.en", "bundled:tiny.en"]) == []
    (caveat,) = different_bases(["bundled:tiny.en", "bundled:base", "bundled:tiny.en"])
    assert "'base' is bundled:tiny.en" in caveat
    assert "those on bundled:base" in caveat
    base = {
        "wer": 0.5,
        "cer": 0.4,
        "n_words": 10,
        "n_utterances": 2,
        "wer_ci95": [0.4, 0.6],
        "model": "bundled:tiny.en",
    }
    same = {"base": base, "adapters": {"a": base | {"model": "openai/whisper-tiny.en"}, "b": base}}
    assert "Base model" not in comparison(same)[0]
    head, *rows = comparison({"base": base, "adapters": {"a": base | {"model": "bundled:base"}, "b": base}})
    assert head[:3] == ("Model", "Base model", "WER")
    assert [row[:3] for row in rows] == [
        ("base", "bundled:tiny.en", "50.0%"), ("a", "bundled:base", "50.0%"), ("b", "bundled:tiny.en", "50.0%"),
    ]  # fmt: skip
    older = {"base": {k: v for k, v in base.items() if k != "model"}, "adapters": same["adapters"]}
    assert {len(row) for row in comparison(older)} == {len(comparison(same)[0]) + 1}


def test_what_is_no_adapter_is_refused_before_the_work(voice: Manifest, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError):
        evaluate_adapters(voice, [tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("number", [1, 2])
def test_typical_speech_with_wrong_words_is_refused_before_anything_is_heard(
    adapters: list[Path], voice: Manifest, number: int
) -> None:
    wrong = Manifest([replace(voice[0], extra={"entities": ["zebra"]})], voice.path)
    events: list[str] = []

    def hear(typical: Manifest) -> None:
        tell = {"on_event": lambda event: events.append(event["event"])}
        if number == 1:
            evaluate(voice[:1], adapter=adapters[0], typical=typical, **tell)
        else:
            evaluate_adapters(voice[:1], adapters, typical=typical, **tell)

    with pytest.raises(SpeechftError, match="'zebra' is not in the text"):
        hear(wrong)
    with pytest.raises(SpeechftError, match="0 recordings"):
        hear(wrong[:0])
    assert "decoded" not in events


def test_typical_speech_that_an_adapter_learnt_is_no_typical_speech(
    adapters: list[Path], voice: Manifest, tmp_path: Path
) -> None:
    bare = Manifest((replace(u, split=None) for u in voice[:4]), voice.path)
    taught = tmp_path / "adapter"
    shutil.copytree(adapters[0], taught)
    card = read_card(taught) | {"seen": Seen.of(bare[:2], bare[:0]).to_dict()}
    (taught / "speechft.json").write_text(json.dumps(card))
    rows = [u.to_row() for u in bare] + [{"audio": "gone.wav", "text": "gone"}]
    typical = tmp_path / "typical.jsonl"
    typical.write_text("\n".join(map(json.dumps, rows)))
    found = evaluate(
        voice.split("test")[:1], adapter=taught, typical=typical, against_base=False, allow_outside=True, out=tmp_path
    )["forgetting"]
    assert found["clips"] == 2
    assert "2 recordings that the adapter was trained on" in found["caveats"][0]
    assert [row["where"] for row in found["left_out"]] == ["typical.jsonl:5"]
    assert f"1 rows could not be used. {found['caveats'][0]}" in (tmp_path / "report.md").read_text()


def test_speakers_are_those_of_the_scores(adapters: list[Path], voice: Manifest) -> None:
    """Who only hums has a text, but no word in it."""
    rows = [
        Manifest([*part[:1], replace(part[1], speaker="hums", text="Hmm.", extra={})], voice.path)
        for part in (voice.split("test"), voice.split("dev"))
    ]
    result = evaluate_adapters(rows[0], adapters[:1], typical=rows[1])
    (entry,) = result["adapters"].values()
    assert result["speakers"] == entry["n_speakers"] == entry["forgetting"]["speakers"] == 1


def test_what_one_adapter_forgets(adapters: list[Path], voice: Manifest, tmp_path: Path) -> None:
    """Also of typical speech that it was trained on, under other ids."""
    learnt = voice.split("dev")[:2]
    typical = Manifest((replace(u, id=f"again-{u.id}") for u in learnt), voice.path)
    taught = tmp_path / "adapter"
    shutil.copytree(adapters[1], taught)
    (taught / "speechft.json").write_text(
        json.dumps(read_card(taught) | {"seen": Seen.of(learnt, voice[:0]).to_dict()})
    )
    result = evaluate(voice.split("test")[:1], adapter=taught, typical=typical, out=tmp_path, embed_audio_mb=1)
    found = result["forgetting"]
    assert found["clips"] == 2
    trained_on = "2 of these 2 recordings were trained on: the numbers say little about new ones."
    assert found["caveats"][0] == trained_on
    assert found["leakage"][0]["first"] == "training of the adapter"
    assert not any("trained on:" in caveat for caveat in result["caveats"])
    forgot = (tmp_path / "report.md").read_text().partition("What it forgot")[2]
    assert forgot.index(trained_on) < forgot.index("| Before |")
    assert found["difference"]["wer"] == pytest.approx(found["adapted"]["wer"] - found["base"]["wer"])
    page = (tmp_path / "report.html").read_text()
    assert " (adapter of bundled:tiny.en) on test</title>" in page
    assert "What it forgot" in page
    assert "What it forgot" in (tmp_path / "report.md").read_text()
    assert "data:audio/" in page
