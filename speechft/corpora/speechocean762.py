"""speechocean762: English read by 250 Mandarin speakers, half of them children (Zhang et al., 2021, arXiv 2104.01378).

    WAVE/SPEAKER0001/000010011.WAV; train/ and test/ as Kaldi data folders with spk2age; resource/scores.json

Open (CC BY 4.0), from openslr.org/101. The scores are means of five experts' ratings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from speechft.corpora.kaldi import GENDERS, found
from speechft.corpora.prepared import Preparation, Prepared, corpus_root, key_and_text

SCORES = ("accuracy", "completeness", "fluency", "prosodic", "total")


def prepare_speechocean762(source: str | Path, out: str | Path, *, copy: bool = True) -> Prepared:
    """A manifest in the corpus's own split of train and test, which share no speaker.

    Args:
        source: the folder that holds WAVE, train and test.
        out: see `Preparation`.
        copy: recordings beside the manifest.
    """
    root = corpus_root(source, "train/wav.scp", "speechocean762")
    work = Preparation(root, out, copy)
    scores = _scores(root / "resource" / "scores.json")
    for split in ("train", "test"):
        folder = root / split
        texts, speakers = key_and_text(folder / "text"), key_and_text(folder / "utt2spk")
        genders, ages = key_and_text(folder / "spk2gender"), key_and_text(folder / "spk2age")
        recordings = key_and_text(folder / "wav.scp")
        for utterance in sorted(recordings.keys() | texts.keys()):
            if utterance not in texts or utterance not in recordings:
                work.leave_out(f"{split}: {utterance}", "it has no text" if utterance in recordings else "no recording")
                continue
            speaker = speakers.get(utterance, "")
            age = int(ages[speaker]) if ages.get(speaker, "").isdigit() else None
            row = {
                "id": utterance, "audio": found(recordings[utterance], folder), "text": texts[utterance],
                "speaker": speaker, "split": split, "age": age, "gender": GENDERS.get(genders.get(speaker, "").lower()),
                "age_group": None if age is None else "child" if age < 18 else "adult", "language": "en",
                **{name: value for name, value in scores.get(utterance, {}).items() if name in SCORES},
            }  # fmt: skip
            work.add(row, f"{split}: {utterance}")
    return work.finish()


def _scores(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
