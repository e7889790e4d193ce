"""Which results in a folder are ours to replace: what somebody else wrote there is not."""

from __future__ import annotations

import json
from pathlib import Path

from speechft.errors import SpeechftError

WITH_A_RESULT = ("report.html", "report.md", "metrics.jsonl")


def refuse_foreign_results(out: str | Path) -> None:
    """Raise, before any work, where a folder holds results that speechft did not write.

    Ours is a result.json that says of which speechft it is, what lies beside such a one, and what lies beside the lock
    that every run leaves.

    Raises:
        SpeechftError: a file would be replaced that is not.
    """
    out = Path(out)
    result = out / "result.json"
    mine = result.is_file() and _is_ours(result)
    foreign = [result] if result.exists() and not mine else []
    if not mine and not (out / ".lock").is_file():
        foreign += [out / name for name in WITH_A_RESULT if (out / name).exists()]
    if foreign:
        raise SpeechftError(
            "was not made by speechft, which would overwrite it", where=foreign[0],
            fix="Choose another folder, or move it away.",
        )  # fmt: skip


def _is_ours(result: Path) -> bool:
    try:
        return "speechft" in json.loads(result.read_text(encoding="utf-8"))["environment"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
