"""LibriSpeech and corpora laid out like it: read English, one folder a chapter (Panayotov et al., 2015).

    train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac, SPEAKER-CHAPTER.trans.txt; SPEAKERS.TXT

Open (CC BY 4.0), from openslr.org/12. Its own parts are the split: train-*, dev-*, test-*.
"""

from __future__ import annotations

import os
from glob import escape
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared, key_and_text
from speechft.corpora.reading import corpus_root, gender, read_text


def prepare_librispeech(
    source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False
) -> Prepared:
    """A manifest of all parts that are there.

    Args:
        source: the folder of the parts, or the one above it; or one part's, such as test-clean.
        out, copy, allow_outside: see `Preparation`.
    """
    part = Path(source).resolve()
    alone = any(part.glob("*/*/*.trans.txt"))
    root = part.parent if alone else corpus_root(source, "*/*/*/*.trans.txt", "LibriSpeech")
    chapters = f"{escape(part.name) if alone else '*'}/*/*"
    work = Preparation(root, out, copy, allow_outside)
    genders = _genders(root / "SPEAKERS.TXT")
    for folder in sorted({path.parent for end in ("trans.txt", "flac") for path in root.glob(f"{chapters}/*.{end}")}):
        name, speaker, chapter = folder.relative_to(root).parts
        texts = folder / f"{speaker}-{chapter}.trans.txt"
        split = name.partition("-")[0]
        said = key_and_text(work, texts)
        for audio in sorted(folder.glob("*.flac")):
            if audio.stem not in said:
                work.leave_out(audio, f"{texts.name} has no text for it")
                continue
            row = {
                "id": audio.stem, "audio": audio, "text": said.pop(audio.stem), "speaker": speaker, "session": chapter,
                "split": split if split in ("train", "dev", "test") else None, "gender": gender(genders.get(speaker)),
                "language": "en", "part": name,
            }  # fmt: skip
            work.add(row, audio)
        for missing in said:
            work.leave_out(texts, f"there is no recording {missing}.flac")
    return work.finish()


def _genders(path: Path) -> dict[str, str]:
    """From lines of "ID | SEX | SUBSET | MINUTES | NAME"; those with ";" are comments."""
    if not os.path.lexists(path):
        return {}
    lines = [line.split("|") for line in read_text(path, "replace").splitlines() if not line.startswith(";")]
    return {fields[0].strip(): fields[1] for fields in lines if len(fields) > 2}
