"""A saved corrector on new recordings: what was heard stays beside what it writes, and off means off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from speechft import corrector
from speechft.cli import app
from speechft.corrector import CARD, Card, load_corrector, save_card
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.recording import Recording, Segment
from speechft.transcript import Transcript

SETTINGS: dict[str, Any] = {
    "model": "nobody's", "level": 1.1, "normalizer": "whisper-english", "beams": 2, "recogniser": "bundled:tiny.en",
}  # fmt: skip


def transcribe(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["transcribe", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


def saved(folder: Path, **changes: Any) -> Path:
    save_card(folder, Card.model_validate(SETTINGS | changes))
    return folder


def test_a_corrector_reads_what_was_saved(tiny_llama: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "corrector", model=str(tiny_llama), level=0.5, recogniser_adapted=True)
    found = load_corrector(folder)
    assert found.card == Card.model_validate(
        SETTINGS | {"model": str(tiny_llama), "level": 0.5, "recogniser_adapted": True}
    )
    assert found.text is not None
    with pytest.raises(SpeechftError, match=r"corrector.json"):
        load_corrector(tmp_path)
    for key, value in {"adapter": "../other", "level": 2, "normalizer": "klingon", "beams": 0, "lavel": 1}.items():
        (tmp_path / CARD).write_text(json.dumps(SETTINGS | {key: value}))
        with pytest.raises(SpeechftError, match=key):
            load_corrector(tmp_path)


def test_only_what_may_change_does_and_silence_is_not_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    written = {"Turn tha lamp.": [("Turn", 0.95), ("tha", 0.3), ("lamp.", 0.95)], "Yes!": [("Yes!", 0.9)], "": []}
    monkeypatch.setattr(corrector, "written_words", lambda whisper, transcript: written[transcript.text])
    asked = []

    def propose(text: Any, lists: list, normalise: str) -> list[str]:
        asked.extend(lists)
        return ["burn the lamp"] * len(lists)

    monkeypatch.setattr(corrector, "propose", propose)
    segments = tuple(Segment(i, i + 1, Transcript(text, alternatives=("x",))) for i, text in enumerate(written))
    recording = Recording("a.wav", 3.0, segments)
    one = corrector.Corrector(Card.model_validate(SETTINGS | {"level": 0.5}), SimpleNamespace())  # type: ignore[arg-type]
    assert one.correct(SimpleNamespace(whisper=None), recording) == ("turn the lamp", "Yes!", "")  # type: ignore[arg-type]
    assert [" ".join(n_best.words) for n_best in asked] == ["turn tha lamp", "yes"]


def test_transcripts_are_shown_beside_their_correction(
    tiny_llama: Path, voice: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = voice[0].audio
    folder = saved(tmp_path / "corrector", model=str(tiny_llama))
    monkeypatch.setattr(corrector, "propose", lambda text, lists, normalise: ["something else"] * len(lists))
    heard = transcribe(audio, "--beams", 2).stdout.strip()
    assert transcribe(audio, "--corrector", folder).stdout == f"heard\t{heard}\ncorrected\tsomething else\n"
    several = transcribe(audio, voice[1].audio, "--corrector", folder).stdout.splitlines()
    assert several[:2] == [f"{audio}\theard\t{heard}", f"{audio}\tcorrected\tsomething else"]
    found = json.loads(transcribe(audio, "--corrector", folder, "--format", "json").stdout)
    assert (found["text"], found["corrected"]) == (heard, "something else")
    assert [(part["text"], part["corrected"]) for part in found["segments"]] == [(heard, "something else")]
    assert found["correction"] == {"level": 1.1, "normalizer": "whisper-english"}
    transcribe(audio, "--corrector", folder, "--out", tmp_path / "out")
    assert "heard\t" in (tmp_path / "out" / f"{audio.stem}.txt").read_text()
    assert "srt" in transcribe(audio, "--corrector", folder, "--format", "srt", code=1).exception.args[0]  # type: ignore[union-attr]


def test_level_0_is_off_and_says_so(voice: Manifest, tmp_path: Path) -> None:
    """The language model is not even there."""
    done = transcribe(voice[0].audio, "--corrector", saved(tmp_path / "corrector", level=0.0))
    heard, corrected = done.stdout.splitlines()
    assert heard.removeprefix("heard") == corrected.removeprefix("corrected")
    assert "Correction is off" in done.stderr


def test_a_corrector_belongs_to_its_recogniser(tiny_llama: Path, voice: Manifest, tmp_path: Path) -> None:
    adapted = saved(tmp_path / "adapted", model=str(tiny_llama), level=0.0, recogniser_adapted=True)
    assert "with an adapter" in transcribe(voice[0].audio, "--corrector", adapted).stderr
    other = shutil.copytree(tiny_llama, tmp_path / "other")
    foreign = saved(tmp_path / "foreign", recogniser=str(other), level=0.0)
    done = CliRunner().invoke(app, ["transcribe", str(voice[0].audio), "--corrector", str(foreign)])
    assert isinstance(done.exception, SpeechftError)
    assert "transcripts of" in str(done.exception)
