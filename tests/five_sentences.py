"""Five sentences and a longer one, and what was heard instead, for the tests of scores and of their comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from speechft.manifest import Utterance

TEXTS = ("no", "put the kettle on", "please call my sister tomorrow morning", "yes please", "the tea is cold")
HEARD = ("yes", "put a kettle on", "please call sister tomorrow morning", "yes please", "the tea is very cold")

# NIST's example of MAPSSWE, as Jurafsky and Martin print it (Speech and Language Processing, 3rd edition draft, the
# chapter on speech recognition, "Statistical Significance for ASR: MAPSSWE or MacNemar", from NIST, 2007) with the
# differences 2, -1, -1, 1 of its four segments.
TIMES = "it was the best of times it was the worst of times it was"
TIMES_A = "its the best of times it is the worst of times or it was"
TIMES_B = "it was the best times it won the test of times it was"


def one(i: int, text: str, speaker: str = "", **more: Any) -> Utterance:
    return Utterance(Path(f"/c/{i}.wav"), text, f"u{i}", speaker, **more)


def corpus(speakers: tuple[str, ...] = ("anna", "ben", "anna", "ben", "cleo")) -> list[Utterance]:
    return [one(i, text, speaker) for i, (text, speaker) in enumerate(zip(TEXTS, speakers, strict=True))]


def valid_json(value: object) -> Any:
    """Through JSON and back, with NaN and infinity refused as strict readers do."""
    return json.loads(json.dumps(value, allow_nan=False))
