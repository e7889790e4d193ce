"""What states of a run are compared by."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechft.checkpoint import Progress
from speechft.config import SpeechRecipe
from speechft.evaluate import Evaluation
from speechft.manifest import Manifest, Utterance
from speechft.scoring import score
from speechft.selection import Selection
from speechft.transcript import DecodeOptions


@pytest.mark.parametrize(
    ("decoding", "wer"), [(None, 7.5), (DecodeOptions(), 7.5), (DecodeOptions(temperatures=()), 0.75)]
)
def test_a_loop_outweighs_no_other_error_unless_it_would_be_tried_again(
    decoding: DecodeOptions | None, wer: float, tmp_path: Path
) -> None:
    rows = [Utterance(id=str(i), audio=Path("a.wav"), text=text) for i, text in enumerate(("turn it", "off now"))]
    scores = score(rows, ["no " * 29, "of now"])
    evaluation = Evaluation(Manifest(rows), scores, [], {}, 0.0, 0.0)
    recipe = SpeechRecipe(manifest=tmp_path / "m.jsonl", output_dir=tmp_path)
    selection = Selection(recipe, evaluation.heard, Progress(), tmp_path / "best", lambda: None, print, print, decoding)
    assert selection.rates(evaluation) == (wer, scores.cer)
