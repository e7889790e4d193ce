"""The table of several adapters against one base: the same cells for a terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechft.report_tables import interval, percent, points

HEADINGS = (
    "Model", "WER", "95% interval", "CER", "Difference", "its interval", "p, speakers", "p, segments", "Typical speech",
)  # fmt: skip


def comparison_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Base first, then the adapters as given; p values are Holm-corrected for the number of adapters."""
    entries = {"base": result["base"], **result["adapters"]}
    return [(name, *_cells(entry, result)) for name, entry in entries.items()]


def _cells(entry: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    difference = entry.get("difference") or {}
    low, high = difference.get("wer_ci95") or (None, None)
    kept = entry.get("forgetting") or next(
        ({"adapted": e["forgetting"]["base"]} for e in result["adapters"].values() if e["forgetting"]), None
    )
    return [
        percent(entry["wer"]),
        interval(entry["wer_ci95"]),
        percent(entry["cer"]),
        points(difference.get("wer")),
        f"{points(low)} to {points(high)}" if low is not None and high is not None else "–",
        _p(difference.get("p_speakers_holm")),
        _p(difference.get("p_mapsswe_holm")),
        percent(kept["adapted"]["wer"]) if kept else "–",
    ]


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
