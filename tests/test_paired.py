"""Systems against one another: by utterance and speaker, corrected for how many, and nothing that cannot be paired."""

from __future__ import annotations

from dataclasses import replace

import pytest
from five_sentences import HEARD, TEXTS, TIMES, TIMES_A, TIMES_B, corpus, one, valid_json

from speechft.errors import SpeechftError
from speechft.paired import compare, compare_all, compare_pairs
from speechft.scoring import Scores, score
from speechft.significance import holm


@pytest.fixture
def scores() -> Scores:
    return score(corpus(), HEARD)


def test_compare(scores: Scores) -> None:
    better = score(corpus(), [TEXTS[0], TEXTS[1], *HEARD[2:4], "tea"])
    found = valid_json(compare(scores, better))
    # errors 1 1 1 0 1 before; 0 0 1 0 3 after
    assert found["wer"] == 0.0
    assert found["relative"] == 0.0
    assert (found["better"], found["worse"], found["same"]) == (2, 1, 2)
    assert found["speakers_better"] == 2  # anna 2 to 1, ben 1 to 0; cleo 1 to 3
    assert found["wer_ci95"][0] <= 0 <= found["wer_ci95"][1]
    perfect = compare(scores, score(corpus(), TEXTS))
    assert perfect["wer"] == -scores.wer
    assert perfect["relative"] == -1.0
    # one error in each of four segments is gone: 2 of 16 flips, and no deviation for a z
    assert (perfect["p_mapsswe"], perfect["p_mapsswe_by"], perfect["segments"]) == (2 / 16, "sign flips", 4)
    assert (perfect["z_mapsswe"], perfect["p_mapsswe_normal"]) == (None, None)
    # segments 1 1 0 -2 better: mean 0, so nothing at all
    assert (found["z_mapsswe"], found["p_mapsswe_normal"], found["p_mapsswe"]) == (0.0, 1.0, 1.0)
    assert perfect["p_speakers"] == 0.125  # four of five recordings better, one the same: 4 of 32 flips
    assert perfect["notes"] == ["3 speakers: interval and p value are over their recordings, not about other people"]
    assert compare(score(corpus(), TEXTS), scores)["relative"] is None


def test_the_published_test_of_segments_is_beside_ours() -> None:
    """NIST's example, of which sc_stats prints z = 0.333 and p = 0.741; see tests/test_matched_pairs.py."""
    said = [one(0, TIMES, "anna")]
    found = valid_json(compare(score(said, [TIMES_A]), score(said, [TIMES_B])))
    assert (found["segments"], found["p_mapsswe"], found["p_mapsswe_by"]) == (4, 1.0, "sign flips")
    assert found["z_mapsswe"] == pytest.approx(1 / 3)
    assert found["p_mapsswe_normal"] == pytest.approx(0.7389, abs=5e-5)


def test_compare_all_corrects_for_how_many(scores: Scores) -> None:
    found = valid_json(compare_all(scores, {"same": scores, "right": score(corpus(), TEXTS)}))
    assert found["right"]["p_speakers"] == 0.125
    assert found["right"]["p_speakers_holm"] == 0.25
    assert found["same"]["p_mapsswe_holm"] == 1.0
    assert found["right"] | {"p_speakers_holm": 0, "p_mapsswe_holm": 0} == {
        **valid_json(compare(scores, score(corpus(), TEXTS))),
        "p_speakers_holm": 0,
        "p_mapsswe_holm": 0,
    }
    assert compare_all(scores, {}) == {}


def test_every_two_are_compared_and_corrected_for_the_number_of_pairs(scores: Scores) -> None:
    right = score(corpus(), TEXTS)
    found = valid_json(compare_pairs({"a": scores, "b": right, "c": right}))
    assert [(pair["first"], pair["second"]) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair["wer"] for pair in found] == [-scores.wer, -scores.wer, 0]
    for key in ("p_speakers", "p_mapsswe"):
        assert [pair[f"{key}_holm"] for pair in found] == holm([pair[key] for pair in found])
    assert compare_pairs({"a": scores}) == []


def test_one_voice_is_noted() -> None:
    before, after = score(corpus(("me",) * 5), HEARD), score(corpus(("me",) * 5), TEXTS)
    assert compare(before, after)["notes"] == ["one speaker: interval and p value are about this voice only"]
    nameless = [score([replace(u, speaker="") for u in corpus()], heard) for heard in (HEARD, TEXTS)]
    assert compare(*nameless)["notes"] == ["speakers are not named: interval and p value are over recordings only"]
    assert compare(before, after)["p_speakers"] == 2 / 2**4  # four of five sentences better


def test_who_has_no_word_is_neither_a_better_nor_a_worse_speaker() -> None:
    rows = [one(0, "tea", "anna"), one(1, "", "room")]
    invented, silent = score(rows, ["see", "thank you"]), score(rows, ["tea", ""])
    found, back = compare(invented, silent), compare(silent, invented)
    assert (found["better"], found["speakers_better"], found["speakers_worse"]) == (2, 1, 0)
    assert (back["worse"], back["speakers_better"], back["speakers_worse"]) == (2, 0, 1)


def test_compare_refuses_what_cannot_be_paired(scores: Scores) -> None:
    others = [replace(u, id=f"v{u.id}") for u in corpus()]
    corrected = [replace(u, text=u.text + " now") for u in corpus()]
    for other in (
        score(others, HEARD),
        score(corrected, HEARD),
        score(corpus()[::-1], HEARD[::-1]),
        score(corpus()[:-1], HEARD[:-1]),
        score(corpus(), HEARD, "basic"),
    ):
        with pytest.raises(SpeechftError, match="cannot be paired"):
            compare(scores, other)
