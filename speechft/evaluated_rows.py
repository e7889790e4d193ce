"""Which rows of a manifest are evaluated: of what split, without those that an adapter has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechft.audio import WINDOW_SECONDS
from speechft.evaluate import Evaluation
from speechft.events import OnEvent
from speechft.left_out import listed, tell_errors
from speechft.manifest import Manifest
from speechft.overlap import overlap
from speechft.result import shared_parts
from speechft.seen import NOTHING, Seen
from speechft.split import usual_name, usual_splits, without_unused
from speechft.split_files import about_split, apply_split, usable_rows


@dataclass(frozen=True)
class Rows:
    """What is evaluated.

    Attributes:
        chosen: the rows.
        split: their name; None for all rows of a manifest without splits.
        whole: all usable rows.
        left_out: rows that could not be used, with the reason.
        caveats: what a reader of their scores must know.
        split_file: where the splits come from, unless from the manifest.
    """

    chosen: Manifest
    split: str | None
    whole: Manifest
    left_out: dict[str, str]
    caveats: list[str]
    split_file: str | Path | None = None

    def facts(self, evaluation: Evaluation, notes: Sequence[str]) -> dict[str, Any]:
        """What a result says of the rows, as JSON.

        Args:
            evaluation: of them, which may have met rows that cannot be heard.
            notes: what a reader must know of what heard them; they come first among the `caveats`.
        """
        shared = overlap(self.whole)
        said, leakage = str(shared), shared.to_dict()
        in_common = shared_parts(said, leakage, len(self.whole.speakers))
        return {
            "manifest_sha256": self.chosen.sha256,
            "split_file": about_split(self.split_file) if self.split_file else None,
            "overlap": said,
            "leakage": leakage,
            "left_out": listed((self.left_out | evaluation.unreadable).items()),
            "caveats": [*notes, *self.caveats, *evaluation.caveats, *in_common],
        }


def rows_to_evaluate(
    manifest: str | Path | Manifest,
    split: str | None,
    allow_outside: bool,
    on_event: OnEvent,
    split_file: str | Path | None = None,
    seen: Seen = NOTHING,
) -> Rows:
    """The usable rows of a split: the one asked for, else test, else dev, else all that no adapter has seen."""
    left_out: dict[str, str] = {}
    if not isinstance(manifest, Manifest):
        manifest, problems = usable_rows(manifest, split_file, allow_outside, pieces=True)
        left_out = tell_errors(on_event, problems)
    elif split_file:
        manifest = apply_split(manifest, split_file)
    manifest = usual_splits(manifest)
    split = usual_name(split) if split else next((name for name in ("test", "dev") if name in manifest.splits), None)
    given = manifest.split(split) if split else without_unused(manifest)
    chosen = given if split else seen.unseen(given)
    caveats = seen.caveats(chosen)
    if missing := len(given) - len(chosen):
        caveats.append(
            f"The manifest has no splits: {missing} recordings that the adapter was trained on or chosen by were left "
            f"out; these are the other {len(chosen)}."
        )
    if aside := len(manifest) - len(given) if not split else 0:
        caveats.append(f"{aside} recordings are marked 'unused' and were set aside.")
    if long := sum((u.duration_s or 0) > WINDOW_SECONDS for u in chosen):
        caveats.append(f"{long} recordings last over 30 s: they were cut at pauses and heard in pieces.")
    return Rows(chosen, split, manifest, left_out, caveats, split_file)
