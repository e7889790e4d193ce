"""SSNCE: Tamil by 20 people with cerebral palsy and 10 without, 365 utterances each (LDC2021S04).

    data/{control,mild,moderate,severe}/SPEAKER/audio/SPEAKER12.flac (controls: FC01_12.flac), label/*.lab
    documents/complete_text: line 12 is what everybody reads as utterance 12

From the Linguistic Data Consortium. The layout is that which the public Kaldi scripts of its makers' college read (the
folder is called SSN_TDSC there); the corpus itself could not be seen. Whether the texts are in Tamil script could not
be verified: Whisper writes Tamil script, and against texts in Latin letters every word would be wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root, gender, read_text
from speechft.errors import SpeechftError

NUMBER = re.compile(r"_?(\d+)")  # what follows the speaker in the name of a recording
CLASSES = ("control", "mild", "moderate", "severe")


def prepare_ssnce(source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """A manifest of all speakers; `severity` is the folder that the makers put a speaker in.

    Everybody reads the same 365 texts, so `prompt_id` is their number.

    Args:
        source: the folder that holds data and documents.
        out, copy, allow_outside: see `Preparation`.

    Raises:
        SpeechftError: documents/complete_text is missing or not UTF-8.
    """
    root = corpus_root(source, "data/*/*/audio", "SSNCE")
    texts = _texts(root / "documents")
    work = Preparation(root, out, copy, allow_outside)
    for folder in sorted(path.parent for path in root.glob("data/*/*/audio")):
        speaker, severity = folder.name, folder.parent.name
        if severity not in CLASSES:
            work.leave_out(folder, f"its class is none of {', '.join(CLASSES)}")
            continue
        for audio in sorted(path for path in (folder / "audio").glob("*") if path.suffix in (".flac", ".wav")):
            match = NUMBER.fullmatch(audio.stem.removeprefix(speaker))
            number = int(match[1]) if match else 0
            if not 1 <= number <= len(texts):
                work.leave_out(audio, "complete_text has no line for it")
                continue
            control = severity == "control"
            row = {
                "id": f"{speaker}_{number}", "audio": audio, "text": texts[number - 1], "speaker": speaker,
                "prompt_id": str(number), "gender": gender(speaker[0]), "language": "ta",
                "severity": "none" if control else severity, "aetiology": "none" if control else "cerebral palsy",
            }  # fmt: skip
            work.add(row, audio)
    return work.finish()


def _texts(folder: Path) -> list[str]:
    """One text a line, in the order of the utterances' numbers; an empty line is an empty text."""
    path = next((folder / name for name in ("complete_text", "complete_text.txt") if (folder / name).is_file()), None)
    if path is None:
        raise SpeechftError("there is no file 'complete_text'", where=folder, fix="Unpack the documents folder too.")
    return [line.strip() for line in read_text(path).splitlines()]
