"""EasyCall: Italian commands by 31 people with dysarthria and 24 without (Turrisi et al., 2021, arXiv 2104.02542).

    EasyCall/f01/Sessione_01/f01_01_Attiva vivavoce.wav; fc01 and mc01 are controls; f01/f01.txt lists the recordings

On request from the University of Ferrara. The layout is that which public code reads (PathBench and others); the corpus
itself could not be seen. There are no transcripts: a recording's name says which phrase of the list was read.
"""

from __future__ import annotations

import re
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root, gender

NAME = re.compile(r"([fm]c?\d\d) ?_(\d+)_(.+)", re.IGNORECASE)  # some names of m13 have a space before the first "_"
SEVERITY = ("mild", "mild to moderate", "moderate", "moderate to severe", "severe")
# Therapy Outcome Measure, 1 (mild) to 5 (severe), as PathBench lists it; f04 is not in its list.
THERAPY_OUTCOME = {
    "f01": 1, "f02": 3, "f03": 1, "f05": 1, "f06": 1, "f07": 1, "f08": 1, "f09": 1, "f10": 5, "f11": 2, "m01": 3,
    "m02": 1, "m03": 3, "m04": 1, "m05": 4, "m06": 4, "m07": 4, "m08": 3, "m09": 1, "m10": 3, "m11": 5, "m12": 1,
    "m13": 1, "m14": 5, "m15": 1, "m16": 3, "m17": 1, "m18": 1, "m19": 3, "m20": 1,
}  # fmt: skip


def prepare_easycall(
    source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False
) -> Prepared:
    """A manifest of all recordings; the text is taken from the name, which has neither accents nor punctuation.

    Everybody reads the same list, so `prompt_id` is the phrase: a split by speaker shares nearly all of them.

    Args:
        source: the folder of the speakers' folders.
        out, copy, allow_outside: see `Preparation`.
    """
    root = corpus_root(source, "*/Sessione_*/*.wav", "EasyCall")
    work = Preparation(root, out, copy, allow_outside)
    for audio in sorted(root.glob("*/Sessione_*/*.wav")):
        match = NAME.fullmatch(audio.stem)
        if match is None:
            work.leave_out(audio, "its name is not SPEAKER_SESSION_PHRASE")
            continue
        speaker, text = match[1].lower(), " ".join(match[3].replace("_", " ").split())
        control = speaker[1] == "c"
        measure = THERAPY_OUTCOME.get(speaker)
        row = {
            "id": audio.stem.replace(" ", "_"), "audio": audio, "text": text, "speaker": speaker,
            "session": audio.parent.name, "prompt_id": re.sub(r"\W", "", text).lower(), "gender": gender(speaker[0]),
            "language": "it", "aetiology": "none" if control else "dysarthria",
            "severity": "none" if control else None if measure is None else SEVERITY[measure - 1],
        }  # fmt: skip
        work.add(row, audio)
    return work.finish()
