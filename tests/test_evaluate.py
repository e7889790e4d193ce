"""What an evaluation is over: the recordings that can be heard, the others named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from speechft.errors import SpeechftError
from speechft.evaluate import evaluate_model
from speechft.manifest import Manifest
from speechft.pipeline import evaluate
from speechft.whisper import Whisper


def with_broken(voice: Manifest, folder: Path, *broken: int) -> Manifest:
    """Two clips of the voice, some of which only look as if they could be read."""
    rows = []
    for number, utterance in enumerate(voice[:2]):
        if number in broken:
            path = folder / f"broken{number}.wav"
            path.write_bytes(utterance.audio.read_bytes()[:100] if number else b"RIFF nothing")
            utterance = replace(utterance, audio=path, duration_s=2.0)
        rows.append(replace(utterance, split=None))
    return Manifest(rows, folder / "manifest.jsonl")


def test_what_cannot_be_read_is_named_and_not_counted(tiny: Whisper, voice: Manifest, tmp_path: Path) -> None:
    rows = with_broken(voice, tmp_path, 0)
    found = evaluate_model(tiny, rows)
    assert [u.id for u in found.heard] == [row.id for row in found.scores.rows] == [rows[1].id]
    assert len(found.transcripts) == 1
    assert list(found.unreadable) == [rows[0].where]
    assert found.scores.wer == evaluate_model(tiny, rows[1:]).scores.wer

    result = evaluate(rows, model="bundled:tiny.en")
    assert result["n_utterances"] == 1
    assert [entry["where"] for entry in result["left_out"]] == [rows[0].where]


def test_where_nothing_can_be_read_there_is_no_rate(tiny: Whisper, voice: Manifest, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="none of the other rows can be heard"):
        evaluate_model(tiny, with_broken(voice, tmp_path, 0, 1))
