"""Five sentences and what was heard instead, for the tests of scores and of their comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from speechft.manifest import Utterance

TEXTS = ("no", "put the kettle on", "please call my sister tomorrow morning", "yes please", "the tea is cold")
HEARD = ("yes", "put a kettle on", "please call sister tomorrow morning", "yes please", "the tea is very cold")


def one(i: int, text: str, speaker: str = "", **more: Any) -> Utterance:
    return Utterance(Path(f"/c/{i}.wav"), text, f"u{i}", speaker, **more)


def corpus(speakers: tuple[str, ...] = ("anna", "ben", "anna", "ben", "cleo")) -> list[Utterance]:
    return [one(i, text, speaker) for i, (text, speaker) in enumerate(zip(TEXTS, speakers, strict=True))]


def valid_json(value: object) -> Any:
    """Through JSON and back, with NaN and infinity refused as strict readers do."""
    return json.loads(json.dumps(value, allow_nan=False))
