"""Which rows of a manifest are evaluated: of what split, without those that an adapter has learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from speechft.audio import WINDOW_SECONDS
from speechft.evaluate import Evaluation
from speechft.events import OnEvent
from speechft.left_out import listed, tell_errors
from speechft.manifest import Manifest
from speechft.overlap import Overlap, overlap
from speechft.result import shared_parts
from speechft.seen import Seen, caveats_of, learnt_from, unseen
from speechft.split import meant_split, usual_splits, without_unused
from speechft.split_files import about_split, apply_split, usable_rows
from speechft.trained_on import THE_ADAPTER


@dataclass(frozen=True)
class Rows:
    """What is evaluated.

    Attributes:
        chosen: the rows.
        split: their name; None for all rows of a manifest without splits.
        whole: all usable rows.
        left_out: rows that could not be used, with the reason.
        notes: what a reader of their scores must know of how they were chosen.
        seen: what each adapter that hears them has seen, by its name.
        split_file: where the splits come from, unless from the manifest.
    """

    chosen: Manifest
    split: str | None
    whole: Manifest
    left_out: dict[str, str]
    notes: list[str]
    seen: Mapping[str, Seen]
    split_file: str | Path | None = None

    @cached_property
    def learnt(self) -> Overlap:
        """What they have in common with what the adapters learnt from."""
        return learnt_from(self.seen, self.chosen, self.split)

    @property
    def caveats(self) -> list[str]:
        """What a reader of their scores must know, the gravest first: which of them were trained on."""
        return [*caveats_of(self.learnt), *self.notes]

    def heard_by(self, name: str) -> Rows:
        """The same for one of the adapters."""
        return replace(self, seen={THE_ADAPTER: self.seen[name]})

    @cached_property
    def shared(self) -> Overlap:
        """What they have in common with what adapters learnt from, then what the splits of the manifest share."""
        return Overlap((*self.learnt.pairs, *overlap(self.whole).pairs), self.learnt.unknown)

    def in_common(self, shared: Overlap) -> list[str]:
        """What of it a reader of the scores must know."""
        return shared_parts(str(shared), shared.to_dict(), len(self.whole.voices))

    def facts(self, evaluation: Evaluation, notes: Sequence[str]) -> dict[str, Any]:
        """What a result says of the rows, as JSON.

        Args:
            evaluation: of them, which may have met rows that cannot be heard.
            notes: what a reader must know of what heard them.
        """
        return {
            "manifest_sha256": self.chosen.sha256,
            "split_file": about_split(self.split_file) if self.split_file else None,
            "overlap": str(self.shared),
            "leakage": self.shared.to_dict(),
            "left_out": listed((self.left_out | evaluation.unreadable).items()),
            "caveats": [*self.caveats, *notes, *evaluation.caveats, *self.in_common(self.shared)],
        }


def rows_to_evaluate(
    manifest: str | Path | Manifest,
    split: str | None,
    allow_outside: bool,
    on_event: OnEvent,
    split_file: str | Path | None = None,
    seen: Mapping[str, Seen] | None = None,
) -> Rows:
    """The usable rows of a split: the one asked for, else test, else dev, else all that no adapter has seen.

    Args:
        seen: by each adapter that hears them, by its name.
    """
    left_out: dict[str, str] = {}
    if not isinstance(manifest, Manifest):
        manifest, problems = usable_rows(manifest, split_file, allow_outside, pieces=True)
        left_out = tell_errors(on_event, problems)
    elif split_file:
        manifest = apply_split(manifest, split_file)
    split = meant_split(split, manifest.splits) if split else None
    manifest = usual_splits(manifest)
    split = split or next((name for name in ("test", "dev") if name in manifest.splits), None)
    given = manifest.split(split) if split else without_unused(manifest)
    seen = seen or {}
    chosen = given if split else unseen(given, seen.values())
    notes = []
    if missing := len(given) - len(chosen):
        notes.append(
            f"The manifest has no splits: {missing} recordings that the adapter was trained on or chosen by were left "
            f"out; these are the other {len(chosen)}."
        )
    if aside := len(manifest) - len(given) if not split else 0:
        notes.append(f"{aside} recordings are marked 'unused' and were set aside.")
    if long := sum((u.duration_s or 0) > WINDOW_SECONDS for u in chosen):
        notes.append(f"{long} recordings last over 30 s: they were cut at pauses and heard in pieces.")
    return Rows(chosen, split, manifest, left_out, notes, seen, split_file)
