"""The Speech Accessibility Project: read and spontaneous English by people with ALS, CP, Down syndrome, Parkinson's,
stroke (Hasegawa-Johnson et al., 2024).

    TRAIN or DEV/CONTRIBUTOR/CONTRIBUTOR.json and its *.wav, each in a folder of its own or all together

Access by agreement with the University of Illinois. The JSON files are as in the project's own repository
SplitTrainTest (keys "Contributor ID", "Files", in them "Filename" and "Prompt"), in its challenge's scripts
("Etiology", which may be missing; transcripts that begin with "#dis" or "#ts"), and in notes of a user of the release
of November 2025 ("Ratings", in them "Dimension Description" and "Level"). What a release has besides is ignored.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root, read_json
from speechft.errors import SpeechftError

SPLIT = re.compile(r"(?i)(?<![a-z])(train|dev|test)(?![a-z])")
# "{w:2}" are two words nobody understood, "{u:...}" or "{ }" one; in the challenge's scripts they become UNK.
UNINTELLIGIBLE = re.compile(r"(?i)\[(unintelligible|inaudible|xxx?)\]|\bxxx\b|\{\s*([wu]\s*:[^}]*)?\}")
FOREIGN = re.compile(r"(?i)\{\s*f\s*:\s*\}")  # a sentence in another language, which is not written down
STRETCH = re.compile(r"(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s+(.+)")  # in "#ts" form: start and end in seconds, words


def prepare_sap(source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """A manifest in the project's own split.

    `text_verbatim` is the transcript with the disfluencies that stand in round brackets, `text` that without them:
    the two references of the project's challenge. Marks in square brackets are nobody's words and go from both; what
    the transcriber guessed ("{...}") and words with a mark before them ("(cs: ...)") are heard, and stay in both.
    A transcript with time stamps ("#ts") becomes one row a stretch. `severity` is the mean of a person's ratings of
    intelligibility, rounded: the higher, the more impaired. Left out: what is unintelligible, empty or in another
    language, and recordings that are not there.

    Args:
        source: the folder with the splits' folders in it.
        out, copy, allow_outside: see `Preparation`.
    """
    root = corpus_root(source, "**/*.json", "Speech Accessibility Project")
    work = Preparation(root, out, copy, allow_outside)
    recordings = {path.name.lower(): path for path in sorted(root.rglob("*.wav"))}
    free = dict(recordings)
    for path in sorted(root.rglob("*.json")):
        try:
            about = read_json(path)
        except SpeechftError as error:
            work.leave_out(path, error.what)
            continue
        about = about if isinstance(about, dict) else {}
        files, speaker = about.get("Files"), about.get("Contributor ID")
        if not isinstance(files, list) or not isinstance(speaker, str | int):
            work.leave_out(path, "is not a contributor's file, with 'Contributor ID' and a list of 'Files'")
            continue
        about["severity"] = severity(files)
        for number, file in enumerate(files, 1):
            where = f"{path.name}:{number}"
            if not isinstance(file, dict) or not isinstance(file.get("Filename"), str):
                work.leave_out(where, "it has no 'Filename'")
                continue
            name = Path(file["Filename"]).name
            if name.lower() in free:
                _add(work, file, free.pop(name.lower()), str(speaker), about, where)
            elif name.lower() in recordings:
                work.leave_out(where, f"an earlier entry has the recording '{name}'")
            else:
                work.leave_out(where, f"there is no recording '{name}'")
    for audio in free.values():
        work.leave_out(audio, "no contributor's file names it")
    return work.finish()


def _add(work: Preparation, file: dict[str, Any], audio: Path, speaker: str, about: dict[str, Any], where: str) -> None:
    prompt = file.get("Prompt")
    prompt = prompt if isinstance(prompt, dict) else {}
    raw, asked = prompt.get("Transcript") or "", prompt.get("Prompt Text") or ""
    if not isinstance(raw, str) or not isinstance(asked, str):
        work.leave_out(where, "its 'Transcript' or 'Prompt Text' is not text")
        return
    raw = raw.strip()
    split = SPLIT.search(audio.relative_to(work.source).as_posix())
    row = {
        "audio": audio, "speaker": speaker, "split": split[1].lower() if split else None,
        "aetiology": about.get("Etiology"), "severity": about["severity"], "language": "en",
        "prompt_id": " ".join(asked.lower().split()) or None,
        "category": prompt.get("Category Description"),
    }  # fmt: skip
    if "#ts" not in raw:
        _add_text(work, raw.removeprefix("#dis"), {"id": audio.stem, **row}, where)
        return
    for number, line in enumerate(raw.partition("#ts")[2].splitlines()[1:], 1):
        if stretch := STRETCH.fullmatch(line.strip()):
            times = {"start_s": float(stretch[1]), "end_s": float(stretch[2])}
            _add_text(work, stretch[3], {"id": f"{audio.stem}-{number}", **row, **times}, f"{where}, stretch {number}")
        elif line.strip():
            work.leave_out(f"{where}, stretch {number}", "its line is not start, end and words")


def _add_text(work: Preparation, raw: str, row: dict[str, Any], where: str) -> None:
    if UNINTELLIGIBLE.search(raw):
        work.leave_out(where, "a part of it is unintelligible")
        return
    if FOREIGN.search(raw):
        work.leave_out(where, "a part of it is in another language, and not written down")
        return
    verbatim, intended = both_references(raw)
    texts = {"text": intended or verbatim, "text_verbatim": verbatim if verbatim != intended else None}
    work.add({**row, **texts}, where)


def severity(files: list[Any]) -> str | None:
    """The class of one person: their mean rating of intelligibility, of the few recordings that have one.

    >>> severity([{"Ratings": [{"Dimension Description": "Intelligibility", "Level": "3"}]}, {"Ratings": []}])
    'intelligibility rated 3'
    """
    ratings = [one for file in files if isinstance(file, dict) for one in _list(file.get("Ratings"))]
    levels = [
        float(one["Level"])
        for one in ratings
        if isinstance(one, dict)
        and str(one.get("Dimension Description")).strip().lower() == "intelligibility"
        and re.fullmatch(r"\d{1,2}(\.\d+)?", str(one.get("Level")).strip())
    ]
    return f"intelligibility rated {math.floor(sum(levels) / len(levels) + 0.5)}" if levels else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def both_references(transcript: str) -> tuple[str, str]:
    """(with disfluencies, without them); they stand in round brackets, marks in square ones.

    >>> both_references("I (um) want {g: two} (cs: tacos) [cough]")
    ('I um want two tacos', 'I want two tacos')
    """
    spoken = re.sub(r"\[[^\]]*\]|[~*]", " ", transcript)  # "~" stands before letters that are spelt out
    spoken = re.sub(r"\{(?:[^{}:]*:)?([^{}]*)\}|\(\s*\w+\s*:([^()]*)\)", r" \1\2 ", spoken)
    verbatim, intended = re.sub(r"[()]", " ", spoken), re.sub(r"\([^)]*\)", " ", spoken)
    return " ".join(verbatim.split()), " ".join(intended.split())
