"""UA-Speech: single English words by 15 speakers with cerebral palsy and 13 without (Kim et al., 2008).

    audio/[original|normalized|noisereduce/]F02/F02_B1_UW1_M5.wav; mlf/F02/F02_word.mlf

Free for research on request to the University of Illinois. Seven or eight microphones recorded every word at once: one
is taken, since the others are the same utterance. Blocks 1 and 3 are for training, 2 for test.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root, read_text
from speechft.split import UNUSED

NAME = re.compile(r"(C?[FM]\d\d)_(B[123])_([A-Z]+\d*)_(M\d)")
MICROPHONE = "M5"
VERSIONS = ("original", "normalized", "noisereduce", "noisereduced")
# Percent of words that five naive listeners understood (the corpus's speaker table).
INTELLIGIBILITY = {
    "M04": 2, "F03": 6, "M12": 7.4, "M01": 15, "M07": 28, "F02": 29, "M06": 39, "M16": 43, "M05": 58, "M11": 62,
    "F04": 62, "M09": 86, "M14": 90.4, "M08": 93, "M10": 93, "F05": 95,
}  # fmt: skip
SPLITS = {"B1": "train", "B3": "train", "B2": "test"}


def prepare_uaspeech(
    source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False, microphone: str = MICROPHONE
) -> Prepared:
    """A manifest of one microphone's recordings, in the corpus's own split by block; block 2 of the controls is unused.

    The uncommon words of the blocks differ, but digits, letters, commands and common words are in all three: the field
    `prompt_id` shows it, and `speechft.protocols` has the split that shares none.

    Args:
        source: the folder that holds audio and mlf.
        out, copy, allow_outside: see `Preparation`.
        microphone: which of M2 to M8; another is taken for words of which it has no recording that can be read.
    """
    root = corpus_root(source, "mlf/*/*_word.mlf", "UA-Speech")
    work = Preparation(root, out, copy, allow_outside)
    words = _labels(work, sorted(root.glob("mlf/*/*_word.mlf")))
    version = next((name for name in VERSIONS if (root / "audio" / name).is_dir()), None)
    takes: dict[tuple[str, str, str], dict[str, Path]] = {}
    for audio in sorted((root / "audio" / version if version else root / "audio").rglob("*.wav")):
        match = NAME.fullmatch(audio.stem)
        if match is None:
            work.leave_out(audio, "its name is not SPEAKER_BLOCK_WORD_MICROPHONE")
            continue
        known = takes.setdefault((match[1], match[2], match[3]), {}).setdefault(match[4], audio)
        if known is not audio:
            work.leave_out(audio, f"the same word and microphone as {known.relative_to(root).as_posix()}")
    others: Counter[str] = Counter()
    for (speaker, block, word), microphones in takes.items():
        microphones = {name: microphones[name] for name in sorted(microphones, key=lambda n: (n != microphone, n))}
        label = next((words[a.stem] for a in microphones.values() if a.stem in words), None)
        if label is None:
            first, *rest = microphones
            work.leave_out(microphones[first], "the label file has no word for it")
            others.update(rest)
            continue
        control = speaker.startswith("C")
        row = {
            "id": f"{speaker}_{block}_{word}", "text": label, "speaker": speaker, "session": block,
            "prompt_id": f"{block}_{word}" if word.startswith("UW") else word,
            "split": UNUSED if control and SPLITS[block] == "test" else SPLITS[block],
            "gender": "female" if "F" in speaker else "male", "language": "en",
            "aetiology": "none" if control else "cerebral palsy", "severity": "none" if control else severity(speaker),
        }  # fmt: skip
        others.update(work.add_first(row, microphones))
    for name in VERSIONS:
        count = sum(1 for _ in (root / "audio" / name).rglob("*.wav")) if name != version else 0
        if count:
            work.leave_out(root / "audio" / name, f"{count} recordings of another version than {version}")
    for name, count in sorted(others.items()):
        work.leave_out(f"microphone {name}", f"{count} recordings of utterances that are taken from another microphone")
    return work.finish()


def severity(speaker: str) -> str | None:
    """The corpus's classes of intelligibility, in quarters of 100 %."""
    share = INTELLIGIBILITY.get(speaker)
    if share is None:
        return None
    return ("very low", "low", "mid", "high")[min(3, int(share // 25))] + " intelligibility"


def _labels(work: Preparation, paths: list[Path]) -> dict[str, str]:
    """Words by recording, of HTK master label files: a quoted name, a line for the word, a full stop.

    Of two labels of one recording the first counts; another word is left out by file and line.
    """
    found: dict[str, str] = {}
    for path in paths:
        name = ""
        for number, line in enumerate(read_text(path, "replace").splitlines(), 1):
            line = line.strip()
            if line.startswith('"'):
                name = Path(line.strip('"')).stem
            elif name and line and line != ".":
                word = next((field for field in line.split() if not field.lstrip("-").replace(".", "").isdigit()), "")
                if word and word not in ("sil", "sp"):
                    known = found.setdefault(name, word)
                    if known != word:
                        where = f"{work.name_of(path)}:{number}"
                        work.leave_out(where, f"{name} has the label '{known}' already, not '{word}'")
                    name = ""  # its word is the first
    return found
