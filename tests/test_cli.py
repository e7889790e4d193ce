"""The command line as a person meets it: exit codes, JSON, files, and sentences instead of tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechft.audio import write_audio
from speechft.manifest import Manifest


def speechft(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "speechft.cli", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def trained(voice: Manifest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A short run through the whole command, on the small simulated voice."""
    out = tmp_path_factory.mktemp("run")
    done = speechft(
        *("train", f"manifest={voice.path}", f"output_dir={out}", "batch_size=4", "max_steps=20", "epochs=4"),
        *("min_steps=0", "--json"),
    )
    return out, json.loads(done.stdout)


def test_train_reports_before_and_after(trained: tuple[Path, dict]) -> None:
    out, result = trained
    assert json.loads((out / "result.json").read_text()) == result
    assert result["base"]["n_words"] == result["adapted"]["n_words"] > 0
    assert result["notice"] == "simulated voice, not evidence about real speech"
    assert "share nothing" in result["overlap"] or "sentence" not in result["overlap"]
    assert result["evaluated_on"]["split"] == "test"
    assert {"manifest_sha256", "train_minutes"} <= result["data"].keys()
    assert (out / "report.html").stat().st_size > 10_000
    assert "simulated voice" in (out / "report.md").read_text()
    assert (result["adapter"] is None) == (not (out / "adapter").exists())


def test_evaluate_prints_the_contract(trained: tuple[Path, dict], voice: Manifest) -> None:
    out, result = trained
    adapter = ["--adapter", out / "adapter"] if result["adapter"] else []
    scores = json.loads(speechft("evaluate", "--manifest", voice.path, "--split", "test", *adapter, "--json").stdout)
    names = "wer cer mer wil n_utterances n_words wer_ci95 normalizer model adapter per_speaker per_group"
    assert {*names.split(), "real_time_factor"} <= scores.keys()
    assert scores["wer"] == pytest.approx(result["adapted"]["wer"])
    low, high = scores["wer_ci95"]
    assert 0 <= low <= scores["wer"] <= high


def test_transcribe_writes_each_format(trained: tuple[Path, dict], voice: Manifest, tmp_path: Path) -> None:
    audio = voice[0].audio
    text = speechft("transcribe", audio).stdout
    assert text.strip()
    assert json.loads(speechft("transcribe", audio, "--format", "json").stdout)["segments"][0]["words"]
    speechft("transcribe", audio, voice[1].audio, "--format", "srt", "--out", tmp_path)
    assert "-->" in (tmp_path / f"{audio.stem}.srt").read_text()
    assert len(list(tmp_path.glob("*.srt"))) == 2


def test_one_bad_file_does_not_take_the_others_with_it(voice: Manifest, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"not sound")
    done = speechft("transcribe", bad, voice[0].audio, code=2)
    assert "bad.wav" in done.stderr
    assert voice[0].audio.name in done.stdout


def test_prepare_and_check(voice: Manifest, tmp_path: Path) -> None:
    source = tmp_path / "recordings"
    source.mkdir()
    for number, utterance in enumerate(voice[:3]):
        (source / f"{number}.flac").write_bytes(utterance.audio.read_bytes())
        (source / f"{number}.txt").write_text(utterance.text)
    (source / "3.flac").write_bytes(b"")
    (source / "3.txt").write_text("an empty file")
    done = speechft("prepare", "folder", source, tmp_path / "corpus", "--json")
    prepared = json.loads(done.stdout)
    assert prepared["utterances"] == 3
    assert any("3.flac" in item["where"] + item["reason"] for item in prepared["left_out"])
    speechft("check", tmp_path / "corpus" / "manifest.jsonl")
    rows = (tmp_path / "corpus" / "manifest.jsonl").read_text().splitlines()
    rows[1] = rows[1].replace('"text"', '"txt"')
    (tmp_path / "corpus" / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    assert "manifest.jsonl:2" in speechft("check", tmp_path / "corpus" / "manifest.jsonl", code=2).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "manifest=nowhere.jsonl", "output_dir=x"], "nowhere.jsonl"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "lerning_rate=1"], "did you mean 'learning_rate'"),
        (["evaluate", "--manifest", "nowhere.jsonl"], "nowhere.jsonl"),
        (["transcribe", "nowhere.wav"], "nowhere.wav"),
        (["transcribe", "a.wav", "--adapter", "nowhere"], "not an adapter"),
        (["transcribe", "a.wav", "--model", "bundled:huge"], "bundled"),
        (["transcribe", "a.wav", "--format", "docx"], "docx"),
        (["prepare", "tapes", "x", "y"], "unknown corpus"),
        (["augment", "m.jsonl", "--listen", "x", "--seed", "-1"], "--seed"),
        (["prepare", "folder", "circle", "x"], "circle: "),
        (["dance"], "dance"),
    ],
)
def test_mistakes_exit_with_2_and_a_sentence(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    done = subprocess.run([sys.executable, "-m", "speechft.cli", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_help_shows_an_example_for_every_verb() -> None:
    verbs = ("quickstart", "prepare", "check", "train", "evaluate", "transcribe")
    overview = speechft("--help").stdout
    assert all(verb in overview for verb in verbs)
    for verb in verbs:
        assert f"speechft {verb}" in " ".join(speechft(verb, "--help").stdout.replace("│", " ").split())


def test_import_is_light() -> None:
    code = "import sys, speechft; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("words", [["--help"], ["check", "m.jsonl"], ["check", "m.jsonl", "--json"]])
def test_a_reader_who_has_gone_is_no_error(tmp_path: Path, words: list[str]) -> None:
    """As of `| head -1`: the exit code is that of programs which SIGPIPE ends, and nothing is said."""
    write_audio(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16_000))
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "text": "hello there"}')
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "speechft.cli", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(writer)
    assert done.returncode == 141
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    "words", [["transcribe", "x.wav", "--corrector", "a\0b"], ["prepare", "folder", "a\0b", "out"]]
)
def test_a_null_byte_is_named_with_what_to_do(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from speechft.cli import main

    monkeypatch.setattr(sys, "argv", ["speechft", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "the file name 'a" in said
    assert "contains a null byte. Check how the name was made." in said
