"""Which heads follow the speech, where a configuration says it of another model."""

from __future__ import annotations

import copy

from speechft.whisper import Whisper
from speechft.word_times import alignment_heads


def test_heads_of_layers_that_are_not_there_are_left_out(tiny: Whisper) -> None:
    whisper = tiny.with_(model=copy.copy(tiny.model))
    whisper.model.generation_config = copy.deepcopy(tiny.model.generation_config)
    whisper.generation.alignment_heads = [[2, 0], [25, 3], [1, 99]]
    assert alignment_heads(whisper) == [(2, 0)]
    whisper.generation.alignment_heads = [[25, 3]]
    assert alignment_heads(whisper) == [(layer, head) for layer in (2, 3) for head in range(6)]
    assert alignment_heads(tiny) != alignment_heads(whisper)
