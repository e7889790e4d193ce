"""The sentences to practise: sets that come with the app, own ones, and own names in a few sentences each."""

from __future__ import annotations

import hashlib
from itertools import zip_longest
from pathlib import Path
from typing import Any

from speechft.app.store import Take, VoiceFolder, tidy
from speechft.errors import SpeechftError

SETS = {"Everyday": "everyday.txt", "At home": "home-control.txt", "Care": "care.txt"}
NAMES = "Names"
MOST_NAMES = 100
MOST_PHRASES = 5000


def page_folder() -> Path:
    """Where the page and its sentences are: in an installed package, or in the checkout beside it."""
    installed = Path(__file__).parent / "page"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "demo"


def defaults() -> dict[str, list[str]]:
    """The sets that come with the app."""
    folder = page_folder() / "phrases"
    return {name: (folder / file).read_text(encoding="utf-8").splitlines() for name, file in SETS.items()}


def sentences_with(names: list[str]) -> list[str]:
    """Each name in a few sentences: Whisper knows how to spell a name from its neighbours only."""
    carriers = (page_folder() / "phrases" / "names.txt").read_text(encoding="utf-8").splitlines()
    return [carrier.replace("{name}", name) for name in map(tidy, names[:MOST_NAMES]) if name for carrier in carriers]


def sets_of(voice: VoiceFolder) -> dict[str, list[str]]:
    """A voice's sets: its own version of each where it was edited."""
    return {**defaults(), **voice.phrases()["sets"]}


def prompts(voice: VoiceFolder, recorded: list[Take] | None = None) -> list[dict[str, Any]]:
    """Every sentence to read, in the order to read them: a bit of each set from the start, so that little covers much.

    Args:
        recorded: the voice's recordings, where they were read already.

    Returns:
        `id`, `text`, `set`, `take` (the recording's id or None), `skipped`.
    """
    takes = {take.prompt: take.id for take in (voice.takes() if recorded is None else recorded)}
    skipped = set(voice.phrases()["skipped"])
    columns = [[(name, text) for text in lines] for name, lines in sets_of(voice).items()]
    seen, found = set(), []
    for row in zip_longest(*columns):
        for name, text in filter(None, row):
            identity = prompt_id(text)
            if identity not in seen and text.strip():
                seen.add(identity)
                take = takes.get(identity)
                found.append(
                    {"id": identity, "text": text, "set": name, "take": take, "skipped": text in skipped and not take}
                )
    return found


def prompt_id(text: str) -> str:
    """The same for the same sentence, whatever set it is in."""
    return hashlib.sha256(tidy(text).casefold().encode()).hexdigest()[:16]


def save_sets(voice: VoiceFolder, sets: dict[str, list[str]], skipped: list[str] | None = None) -> None:
    """Keep a voice's edited sets; those that are as they come with the app go on to change with it.

    Args:
        skipped: the sentences that are left out; as they are where it is None.

    Raises:
        SpeechftError: they are too many to be meant.
    """
    if sum(map(len, [*sets.values(), skipped or []])) > MOST_PHRASES or len(sets) > 50:
        raise SpeechftError(f"there are more than {MOST_PHRASES} sentences", fix="Make the sets shorter.")
    originals = defaults()
    edited = {name: lines for name, lines in sets.items() if lines != originals.get(name)}
    voice.save_phrases(edited, voice.phrases()["skipped"] if skipped is None else skipped)


def set_skipped(voice: VoiceFolder, text: str, skipped: bool) -> None:
    """Leave a sentence out, or take it back in."""
    others = [other for other in voice.phrases()["skipped"] if other != text]
    voice.save_phrases(voice.phrases()["sets"], [*others, text] if skipped else others)
