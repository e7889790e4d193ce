"""speechocean762: English read by 250 Mandarin speakers, half of them children (Zhang et al., 2021, arXiv 2104.01378).

    WAVE/SPEAKER0001/000010011.WAV; train/ and test/ as Kaldi data folders with spk2age; resource/scores.json

Open, from openslr.org/101 (its card says what is known of the licence). The scores are means of five experts' ratings.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from speechft.corpora.kaldi import add_data_folder
from speechft.corpora.prepared import Preparation, Prepared, key_and_text
from speechft.corpora.reading import corpus_root, read_json
from speechft.errors import SpeechftError

SCORES = ("accuracy", "completeness", "fluency", "prosodic", "total")


def prepare_speechocean762(
    source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False
) -> Prepared:
    """A manifest in the corpus's own split of train and test, which share no speaker.

    Args:
        source: the folder that holds WAVE, train and test.
        out, copy, allow_outside: see `Preparation`.

    Raises:
        SpeechftError: the scores are no JSON, or no scores.
    """
    root = corpus_root(source, "train/wav.scp", "speechocean762")
    work = Preparation(root, out, copy, allow_outside)
    path = root / "resource" / "scores.json"
    scores = read_json(path) if os.path.lexists(path) else {}
    if not isinstance(scores, dict) or not all(isinstance(rated, dict) for rated in scores.values()):
        fix = "Unpack it again; without it no row is rated."
        raise SpeechftError("does not hold an object of scores for each utterance", where=path, fix=fix)
    for split in ("train", "test"):
        ages = key_and_text(work, root / split / "spk2age")
        add_data_folder(work, root / split, split, partial(_more, scores, ages))
    return work.finish()


def _more(scores: dict[str, Any], ages: dict[str, str], utterance: str, speaker: str) -> dict[str, Any]:
    age = int(ages[speaker]) if re.fullmatch(r"\d{1,3}", ages.get(speaker, "")) else None
    rated = {name: value for name, value in scores.get(utterance, {}).items() if name in SCORES}
    group = None if age is None else "child" if age < 18 else "adult"
    return {"age": age, "age_group": group, "language": "en", **rated}
