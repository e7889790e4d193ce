"""TORGO: 8 speakers with cerebral palsy or ALS and 7 without, English (Rudzicz, Namasivayam and Wolff, 2012).

    [F/]F01/Session1/prompts/0001.txt, wav_headMic/0001.wav, wav_arrayMic/0001.wav; FC01, M01, MC01 ...

Free for research from the University of Toronto's site. Prompts repeat between speakers and sessions, so that a split
by speaker alone shares sentences: see `speechft.protocols`.
"""

from __future__ import annotations

import re
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root, gender

SPEAKER = re.compile(r"[FM]C?\d\d")
MICROPHONES = ("wav_headMic", "wav_arrayMic")  # the first that has the utterance is taken
# As papers on the corpus group its Frenchay assessments; the folders Notes/ hold the assessments themselves.
SEVERITY = {
    "F01": "severe", "M01": "severe", "M02": "severe", "M04": "severe", "M05": "moderate to severe",
    "F03": "moderate", "F04": "mild", "M03": "mild",
}  # fmt: skip


def prepare_torgo(source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """A manifest of the head microphone's recordings, the array's where there is no other.

    Left out: prompts that are pictures or instructions, unintelligible ones ("xxx"), a second microphone's recording
    of the same utterance, recordings that cannot be read, recordings without a prompt, and prompts without one.

    Args:
        source: the folder of the speakers' folders, or of F, FC, M, MC as the archives unpack.
        out, copy, allow_outside: see `Preparation`.
    """
    root = corpus_root(source, "**/Session*/prompts", "TORGO")
    work = Preparation(root, out, copy, allow_outside)
    parts = [path for name in ("prompts", *MICROPHONES) for path in root.rglob(f"Session*/{name}")]
    for session in sorted({path.parent for path in parts}):
        speaker = next((part for part in reversed(session.parts) if SPEAKER.fullmatch(part)), None)
        if speaker is None:
            work.leave_out(session, "no folder above it is named like a speaker (F01, MC02)")
            continue
        _add_session(work, session, speaker)
    return work.finish()


def _add_session(work: Preparation, session: Path, speaker: str) -> None:
    recordings: dict[str, dict[str, Path]] = {}
    for microphone in MICROPHONES:
        for audio in sorted((session / microphone).glob("*.wav")):
            recordings.setdefault(audio.stem, {})[microphone] = audio
    prompts = {path.stem: path for path in sorted((session / "prompts").glob("*.txt"))}
    control = "C" in speaker
    for number, takes in sorted(recordings.items()):
        prompt = prompts.pop(number, None)
        text = (work.text_of(prompt) or "") if prompt else ""
        row = {
            "id": f"{speaker}-{session.name}-{number}", "text": " ".join(re.sub(r"\[.*?\]", "", text).split()),
            "speaker": speaker, "session": session.name, "prompt_id": " ".join(text.lower().split()),
            "gender": gender(speaker[0]), "language": "en",
            "severity": "none" if control else SEVERITY.get(speaker),
            "aetiology": "none" if control else "cerebral palsy or ALS",
        }  # fmt: skip
        first, *second = takes
        reason = _no_words(text) if prompt else "there is no prompt for it"
        if reason:
            work.leave_out(takes[first], reason)
        else:
            second = work.add_first(row, takes)
        for microphone in second:
            work.leave_out(takes[microphone], "the second microphone's recording of the same utterance")
    for prompt in prompts.values():
        work.leave_out(prompt, "there is no recording for it")


def _no_words(text: str) -> str:
    """Why a prompt is not what was said; empty if it is."""
    if not text:
        return "the prompt is empty"
    if re.search(r"\.(jpe?g|png|gif)\b", text, re.IGNORECASE):
        return "the prompt is a picture to describe"
    if "xxx" in text.lower():
        return "marked as unintelligible (xxx)"
    if not re.sub(r"\[.*?\]", "", text).strip():
        return f"the prompt is an instruction: {text[:60]}"
    return ""
