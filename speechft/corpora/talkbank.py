"""AphasiaBank, FluencyBank and other TalkBank corpora: conversations and stories, transcribed in CHAT.

    .../FILE.cha and its recording FILE.wav, .mp3 or .mp4, beside it or in another folder

One name may stand in several folders (FluencyBank's Voices-AWS has interview/24fa and reading/24fa): a transcript gets
the recording whose folders are most like its own, and none where that is not clear.
Access for members of a bank (free for researchers and clinicians, on request to TalkBank). Recordings are downloaded
apart from the transcripts; put both under one folder. AphasiaBank names its files after participant and visit
(holland01a, holland01b), and gives type of aphasia and the Aphasia Quotient in the @ID header (its symbol summary).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechft.corpora.chat import Line, Transcript, read_chat
from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import AUDIO_ENDINGS, corpus_root, gender, nearest
from speechft.errors import SpeechftError
from speechft.normalize import language_code

PARTICIPANT = "PAR"
ROLES = {"Participant", "Target_Child", "Target_Adult"}  # of @ID: whose speech a corpus is about
VISIT = re.compile(r"([A-Za-z]+\d+)([a-z])")  # participant and visit in an AphasiaBank name; others are one name
# Types of aphasia by the Western Aphasia Battery: with one of these the last field of @ID is the quotient.
TYPES = {"anomic", "broca", "conduction", "global", "notaphasicbywab", "transmotor", "transsensory", "wernicke"}
# Aphasia Quotient of the Western Aphasia Battery: the highest of each class (Kertesz, 2007).
QUOTIENTS = ((25, "very severe"), (50, "severe"), (75, "moderate"), (100, "mild"))


def prepare_talkbank(
    source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False
) -> Prepared:
    """A manifest of the participants' utterances: `text` is what was meant, `text_verbatim` what was said.

    An utterance with a word in phonetic signs ("dɑk@u [: dog]") has no `text_verbatim`. Left out: other speakers (they
    are not counted one by one), utterances without a time mark, with unintelligible stretches (xxx, yyy, www), with a
    word whose target is unknown ("[: x@n]", or phonetic signs alone) or without words, transcripts without a recording,
    and recordings without a transcript.

    Args:
        source: the folder with transcripts and recordings, however deep.
        out, copy, allow_outside: see `Preparation`.
    """
    root = corpus_root(source, "**/*.cha", "a TalkBank corpus")
    work = Preparation(root, out, copy, allow_outside)
    transcripts, recordings = _by_stem(root.rglob("*.cha")), _by_stem(root.rglob("*"), AUDIO_ENDINGS)
    used: set[Path] = set()
    for path in sorted(root.rglob("*.cha")):
        try:
            chat = read_chat(path)
        except SpeechftError as error:
            work.leave_out(path, error.what)
            continue
        same = transcripts[path.stem.lower()]
        there = recordings.get(chat.media.lower()) or recordings.get(path.stem.lower(), [])
        own = nearest(path, there)
        if not own:
            work.leave_out(path, f"there is no recording '{chat.media or path.stem}'")
            continue
        if len({audio.parent for audio in own}) > 1 or nearest(own[0], same) != [path]:
            work.leave_out(path, f"several transcripts or recordings are called '{path.stem}', and none is nearest")
            continue
        used.update(own)
        audio = min(own, key=lambda audio: AUDIO_ENDINGS.index(audio.suffix.lower()))
        mine = {code for code, person in chat.people.items() if person.get("role") in ROLES} or {PARTICIPANT}
        others = sum(line.speaker not in mine for line in chat.lines)
        if others:
            work.leave_out(path, f"{others} utterances of other speakers than {', '.join(sorted(mine))}")
        for line in chat.lines:
            if line.speaker in mine:
                _add(work, path, chat, line, audio, len(mine) > 1, len(same) > 1)
    for audio in sorted({audio for group in recordings.values() for audio in group} - used):
        work.leave_out(audio, "there is no transcript for it")
    return work.finish()


def _by_stem(paths: Iterable[Path], endings: Sequence[str] = (".cha",)) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        if path.suffix.lower() in endings:
            found.setdefault(path.stem.lower(), []).append(path)
    return found


def _add(
    work: Preparation, path: Path, chat: Transcript, line: Line, audio: Path, several: bool, repeated: bool
) -> None:
    """Take a line; of `several` speakers, or of a transcript whose name is `repeated` in another folder."""
    where = f"{path.relative_to(work.source).as_posix()}:{line.number}"
    if line.start_s is None or line.end_s is None:
        work.leave_out(where, "it has no time mark")
    elif line.unclear:
        work.leave_out(where, "a part of it is unintelligible, not transcribed, or of unknown meaning")
    elif not line.meant:
        work.leave_out(where, "there are no words in it")
    else:
        person = chat.people.get(line.speaker, {})
        visit = VISIT.fullmatch(path.stem)
        tested = person.get("group", "").lower() in TYPES
        quotient = _number(person.get("custom", "")) if tested else None
        # Of one name in two folders one person is made: a split must not train on somebody whom it tests.
        name = visit[1] if visit else path.stem
        unique = "-".join(path.relative_to(work.source).with_suffix("").parts) if repeated else path.stem
        row = {
            "id": f"{unique}-{line.number}", "audio": audio, "text": line.meant,
            "text_verbatim": line.said if line.said != line.meant else None, "start_s": line.start_s,
            "end_s": line.end_s, "speaker": f"{name}-{line.speaker}" if several else name,
            "session": visit[2] if visit else path.parent.name if repeated else None,
            "age": _years(person.get("age", "")), "gender": gender(person.get("sex")), "aetiology": person.get("group"),
            "severity": severity(quotient), "quotient": quotient,
            "language": language_code(chat.language) or None,
        }  # fmt: skip
        work.add(row, where)


def severity(quotient: float | None) -> str | None:
    """Class of an Aphasia Quotient, 0 to 100; None for anything else."""
    return next((name for most, name in QUOTIENTS if quotient is not None and 0 <= quotient <= most), None)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,3}(\.\d+)?", text.strip()) else None


def _years(age: str) -> int | None:
    """Of CHAT's years;months.days."""
    years = age.partition(";")[0]
    return int(years) if re.fullmatch(r"\d{1,3}", years) else None
