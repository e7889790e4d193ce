"""A corrector on new recordings: what a language model would have written, always beside what was heard.

A corrector is a folder with corrector.json, which recipes/text_correct.py writes beside the adapter that it trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from speechft import adapters
from speechft.adapter_files import read_object
from speechft.correction import LEVELS, constrained, n_best, propose
from speechft.errors import SpeechftError
from speechft.evaluate import written_words
from speechft.files import write_json
from speechft.formats import as_dict
from speechft.normalize import join_texts, normalizer
from speechft.recogniser import Recogniser
from speechft.recording import Recording
from speechft.sources import resolve
from speechft.text.model import TextModel, load_text_model
from speechft.validation import validated

CARD = "corrector.json"
FORMATS = ("txt", "json")  # a corrected word was not heard, so it has no time for subtitles


class Card(BaseModel):
    """What corrector.json says.

    Attributes:
        model: the language model, see `speechft.sources.resolve`.
        adapter: its adapter's folder, relative to the card's; null where the model was no worse without one.
        level: words as sure as this stay; chosen on dev, and 0 is off.
        normalizer: of the words that are compared, and of what is written in place of others.
        beams: hypotheses that the recogniser keeps.
        recogniser: base model of the recogniser whose errors were learnt.
        recogniser_adapted: whether it had an adapter.
        dev: word error rate on dev at each level.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    model: str
    adapter: str | None = None
    level: Annotated[float, Field(ge=0, le=max(LEVELS))]
    normalizer: str
    beams: Annotated[int, Field(ge=1, le=20)]
    recogniser: str
    recogniser_adapted: bool = False
    dev: dict[str, float] = {}

    @field_validator("adapter")
    @classmethod
    def _inside(cls, adapter: str | None) -> str | None:
        if adapter and (Path(adapter).is_absolute() or ".." in Path(adapter).parts):
            raise ValueError("should be a folder inside the corrector's")
        return adapter

    @field_validator("normalizer")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            normalizer(name)
        except SpeechftError as error:
            raise ValueError(str(error)) from None
        return name


@dataclass(frozen=True)
class Corrector:
    """A corrector, loaded.

    Attributes:
        card: what it was made for.
        text: the language model; None where correction is off.
    """

    card: Card
    text: TextModel | None

    def correct(self, recogniser: Recogniser, recording: Recording) -> tuple[str, ...]:
        """What would have been written for each segment; where no word changes, what was heard, as it was.

        Nothing is written for a segment without words: nobody may have spoken there.

        Args:
            recogniser: that made the transcripts.
            recording: transcribed with the card's beams.
        """
        heard = tuple(segment.text for segment in recording.segments)
        if self.text is None:
            return heard
        lists = [
            n_best(written_words(recogniser.whisper, s.transcript), s.transcript.alternatives, self.card.normalizer)
            for s in recording.segments
        ]
        spoken = [one for one in lists if one.words]
        proposals = iter(propose(self.text, spoken, self.card.normalizer))
        found = []
        for text, one in zip(heard, lists, strict=True):
            corrected = constrained(one, next(proposals), self.card.level) if one.words else text
            found.append(text if corrected == " ".join(one.words) else corrected)
        return tuple(found)

    def beside(self, recogniser: Recogniser, recording: Recording, kind: str) -> str:
        """What was heard and what the corrector writes, in one of `FORMATS`, ending in a newline."""
        corrected = self.correct(recogniser, recording)
        whole = join_texts(corrected, recording.language)
        if kind == "txt":
            return f"heard\t{recording.text}\ncorrected\t{whole}\n"
        found: dict[str, Any] = as_dict(recording)
        for segment, text in zip(found["segments"], corrected, strict=True):
            segment["corrected"] = text
        found |= {"corrected": whole, "correction": {"level": self.card.level, "normalizer": self.card.normalizer}}
        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"

    def refuse_other(self, recogniser: Recogniser) -> None:
        """Raises SpeechftError for a recogniser on another base model, whose confidences mean another thing."""
        own, other = resolve(self.card.recogniser), resolve(recogniser.whisper.name)
        if adapters.base_hash(own) != adapters.base_hash(other):
            raise SpeechftError(
                f"the corrector was made for transcripts of {self.card.recogniser}, not of {recogniser.whisper.name}",
                fix="Use that model, or train a corrector for this one.",
            )


def save_card(folder: str | Path, card: Card) -> Path:
    """Write corrector.json."""
    return write_json(Path(folder) / CARD, card.model_dump(mode="json"))


def load_corrector(folder: str | Path) -> Corrector:
    """A corrector from its folder; where it is off, no language model is loaded.

    Raises:
        SpeechftError: no corrector, a damaged one, or a model or an adapter that is not there.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise SpeechftError(
            f"holds no {CARD}", where=folder, fix="Give OUT/corrector-sft of `python recipes/text_correct.py DATA OUT`."
        )
    card: Card = validated(Card, read_object(path), path)
    if card.level == 0:
        return Corrector(card, None)
    adapter = Path(folder) / card.adapter if card.adapter else None
    return Corrector(card, load_text_model(card.model, adapter=adapter, inference=True))
