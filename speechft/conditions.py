"""The conditions of an evaluation, the same for all that it compares: which rows, how they are heard, how judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechft.adapters import base_hash
from speechft.context import Context
from speechft.errors import SpeechftError
from speechft.evaluate import Evaluation, refuse_unfit
from speechft.evaluated_rows import Rows, rows_to_evaluate
from speechft.events import OnEvent
from speechft.manifest import Manifest
from speechft.normalize import name_of, normalizer_of
from speechft.recogniser import Recogniser
from speechft.seen import Seen
from speechft.sources import resolve
from speechft.transcript import DecodeOptions


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What models and adapters are evaluated under.

    Attributes:
        split: of the manifest; None means test, else dev, else everything that no adapter was trained on or chosen by.
        split_file: see `speechft.split_files`; replaces the manifest's own splits.
        allow_outside: recordings may lie outside the manifest's folder.
        typical: speech the base model was good at before: what an adapter costs there is its `forgetting`.
        language: see `speechft.load`.
        context: overrides the policy of model or adapter, but not of the base it is compared with; `full` shows what
            other software will get.
        beams: hypotheses of the search.
        normalizer: see `speechft.normalize`.
    """

    split: str | None = None
    split_file: str | Path | None = None
    allow_outside: bool = False
    typical: str | Path | Manifest | None = None
    language: str | None = None
    context: str | None = None
    beams: int = 1
    normalizer: str = "auto"

    def __post_init__(self) -> None:
        if self.context:
            Context(self.context)  # one that there is not is refused now, not after a model is loaded

    def rows(
        self, manifest: str | Path | Manifest, cards: Mapping[str, Mapping[str, Any]], on_event: OnEvent
    ) -> tuple[Rows, Rows | None]:
        """What is heard, and the typical speech that is heard too; of neither what is in no split, but was learnt.

        Args:
            cards: of the adapters that hear it, by their names.

        Raises:
            SpeechftError: a manifest is wrong, has no such split, or no row that the adapters have not learnt.
        """
        seen = {name: Seen.by([card]) for name, card in cards.items()}
        rows = rows_to_evaluate(manifest, self.split, self.allow_outside, on_event, self.split_file, seen)
        if self.typical is None:  # one without rows is refused
            return rows, None
        return rows, rows_to_evaluate(self.typical, None, self.allow_outside, on_event, seen=seen)

    def settled(self, rows: Manifest, told: Iterable[str | None]) -> Conditions:
        """The same for all models that are compared on these rows: by one normaliser, and by it the rows can be scored.

        Args:
            told: the languages that the models write, see `evaluate.told`. One that guesses says nothing of the texts.

        Raises:
            SpeechftError: the models ask for different normalisers, or the rows are unfit (`evaluate.refuse_unfit`).
        """
        by = {one: normalizer_of(rows, one, self.normalizer) for one in told}
        names = set(by.values())
        if len(names) > 1:
            names = {name for one, name in by.items() if one}
        if len(names) > 1:
            known, different = (", ".join(sorted(filter(None, found))) for found in (by, names))
            what = f"the models were told different languages ({known}), whose texts are compared differently"
            fix = "Name the one of the rows with --language, or what to compare by with --normalizer."
            raise SpeechftError(f"{what} ({different})", where=rows.path, fix=fix)
        (name,) = names
        refuse_unfit(rows, name)
        return self if len(set(by.values())) == 1 else replace(self, normalizer=name)

    def after(self, first: Evaluation) -> Conditions:
        """The same for others that hear the rows that one heard: these may be fewer, but are compared as they were."""
        return replace(self, normalizer=name_of(first.scores.normalizer))

    def hear(self, recogniser: Recogniser, rows: Manifest, on_event: OnEvent) -> Evaluation:
        """What a model makes of rows, with the confidence of every word."""
        return recogniser.evaluate(
            rows, self.normalizer, options=DecodeOptions(beams=self.beams), confidences=True, on_event=on_event,
            context=Context(self.context) if self.context else None,
        )  # fmt: skip

    def settings_of(self, recogniser: Recogniser) -> dict[str, Any]:
        """What must be known to hear the same with a model again, as JSON."""
        whisper = recogniser.whisper
        return {
            "model": whisper.name,
            "model_sha256": base_hash(resolve(whisper.name)),
            "adapter_sha256": base_hash(recogniser.adapter) if recogniser.adapter else None,
            "language": whisper.language,
            "context": Context(self.context).policy if self.context else whisper.context.policy,
            "beams": self.beams,
        }
