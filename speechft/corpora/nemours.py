"""Nemours: sentences without sense by 11 men with dysarthria (Menendez-Pidal et al., 10.21437/ICSLP.1996-503).

    SPEECH/SENT/BB/WAV/*.WAV, a folder a speaker; SPEECH/PARA the same for two paragraphs of connected speech

Published on CD-ROM; ask its makers. Folders and speakers are as public code reads them. How texts and word marks are
filed could not be verified: for a recording BB1.WAV, this reader takes the text file BB1.TXT, or the words of the mark
file BB1.WRD, the nearest of that name. "JP" is the experimenter, who reads every sentence too (unverified).
"""

from __future__ import annotations

import re
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root, nearest

PAUSES = {"", "sil", "pau", "sp", "h#", "#", "."}
EXPERIMENTER = "JP"


def prepare_nemours(source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """A manifest of the recordings that have a text; `kind` tells sentences from paragraphs.

    The second 37 sentences are the first with their nouns swapped: sentences differ and words do not.

    Args:
        source: the folder that holds SPEECH, or one below it.
        out, copy, allow_outside: see `Preparation`.
    """
    root = corpus_root(source, "**/[Ww][Aa][Vv]/*.[Ww][Aa][Vv]", "Nemours")
    work = Preparation(root, out, copy, allow_outside)
    texts: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        texts.setdefault(path.name.lower(), []).append(path)
    for audio in sorted(root.glob("**/[Ww][Aa][Vv]/*.[Ww][Aa][Vv]")):
        speaker = audio.parent.parent.name.upper()
        stem = audio.stem.lower()
        for ending in (".txt", ".wrd"):
            # The nearest of that name: nobody of us knows whether names of files tell speakers apart.
            own = nearest(audio, texts.get(stem + ending, []))
            said = (work.text_of(own[0]) or "") if len(own) == 1 else ""
            text = " ".join(said.split()) if ending == ".txt" else _marked_words(said)
            if text:
                break
        else:
            work.leave_out(audio, f"there is no {audio.stem}.TXT or {audio.stem}.WRD of its own with words in it")
            continue
        experimenter = stem.startswith(EXPERIMENTER.lower())
        row = {
            "id": f"{speaker}-{audio.stem}", "audio": audio, "text": text, "gender": None if experimenter else "male",
            "speaker": EXPERIMENTER if experimenter else speaker, "session": speaker, "language": "en",
            "prompt_id": " ".join(re.findall(r"\w+", text.lower())),
            "aetiology": "none" if experimenter else "dysarthria",
            "kind": "paragraph" if any(part.upper() == "PARA" for part in audio.parts) else "sentence",
        }  # fmt: skip
        work.add(row, audio)
    return work.finish()


def _marked_words(marks: str) -> str:
    """The last field of every line of a mark file, which begins with times; pauses are no words."""
    lines = [line.split() for line in marks.splitlines()]
    words = [fields[-1] for fields in lines if len(fields) > 1 and fields[0].replace(".", "").isdigit()]
    return " ".join(word for word in words if word.lower() not in PAUSES)
