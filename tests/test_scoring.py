"""Scores of a corpus: sums and not means, and everything in JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import jiwer
import pytest
from five_sentences import HEARD, TEXTS, corpus, one, valid_json
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.error_rate import ErrorRate
from speechft.errors import SpeechftError
from speechft.hallucination import repeats
from speechft.paired import compare
from speechft.report import summary_rows
from speechft.report_answer import answer
from speechft.report_comparison import speaker_rates
from speechft.report_data import confusions
from speechft.report_limits import limits
from speechft.scoring import Scores, score, total
from speechft.sounds import confused_sounds


@pytest.fixture
def scores() -> Scores:
    return score(corpus(), HEARD)


def test_corpus_rate_is_no_average(scores: Scores) -> None:
    # errors 1 + 1 + 1 + 0 + 1 of words 1 + 4 + 6 + 2 + 4
    assert scores.words == ErrorRate(substitutions=2, deletions=1, insertions=1, length=17)
    assert scores.wer == 4 / 17
    mean = sum(row.words.rate for row in scores.rows) / len(scores.rows)
    assert scores.wer != pytest.approx(mean, abs=0.05)
    # anna 2 of 7, ben 1 of 6, cleo 1 of 4
    assert scores.to_dict()["wer_speaker_mean"] == pytest.approx((2 / 7 + 1 / 6 + 1 / 4) / 3)


def test_rates_equal_jiwers(scores: Scores) -> None:
    theirs = jiwer.process_words(list(TEXTS), list(HEARD))
    found = scores.to_dict()
    assert (found["wer"], found["mer"], found["wil"]) == pytest.approx((theirs.wer, theirs.mer, theirs.wil))
    assert found["cer"] == pytest.approx(jiwer.cer(list(TEXTS), list(HEARD)))


def test_characters_as_sclite_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of `sclite_errors`: 9 errors where the fewest edits are 8, and spaces are no characters."""
    rows, heard = [one(0, "amthe maodontdl"), one(1, "yes")], ["amdsis terdontd", "yes"]
    found = score(rows, heard, "none").to_dict()
    assert found["cer_sclite"] == 9 / 17
    assert found["cer"] == jiwer.cer([row.text for row in rows], heard)
    monkeypatch.setattr("speechft.scoring.SCLITE_LONGEST", 14)
    assert valid_json(score(rows, heard, "none").to_dict())["cer_sclite"] is None
    assert score([one(0, "")], ["thank you"]).to_dict()["cer_sclite"] == 8


def test_speakers_sum_to_the_corpus(scores: Scores) -> None:
    assert list(scores.per_speaker) == ["anna", "ben", "cleo"]
    parts = [total(row.words for row in rows) for rows in scores.by(scores.speakers).values()]
    assert total(parts) == scores.words
    assert sum(entry["n_utterances"] for entry in scores.per_speaker.values()) == len(scores.rows)
    assert sum(entry["n_words"] for entry in scores.per_speaker.values()) == scores.words.length
    assert scores.per_speaker["anna"]["wer"] == 2 / 7
    assert scores.to_dict()["worst_speaker"] == "anna"


sentences = st.lists(st.sampled_from(["tea", "hmm", "please", "twenty", "o", "[noise]"]), max_size=5).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sentences, sentences, st.sampled_from("abc")), min_size=1, max_size=12))
def test_anything_gives_valid_json_that_sums_up(rows: list[tuple[str, str, str]]) -> None:
    utterances = [one(i, text, speaker) for i, (text, _, speaker) in enumerate(rows)]
    found = score(utterances, [heard for _, heard, _ in rows])
    written = found.to_dict()
    assert valid_json(written) == json.loads(json.dumps(written))
    assert sum(entry["n_words"] for entry in written["per_speaker"].values()) == written["n_words"]
    lengths = sum(entry["n_utterances"] for entry in written["by_length"].values())
    assert lengths + written["empty_references"] == len(rows)
    assert valid_json(compare(found, found))["same"] == len(rows)


def test_groups(scores: Scores) -> None:
    assert scores.per_group == {}
    severities = ("mild", "severe", "mild", "severe", None)
    rooms: tuple[dict[str, object], ...] = ({"room": 1}, {"room": 2}, {"room": 1}, {}, {"room": 2})
    rows = [replace(u, severity=s, extra=room) for u, s, room in zip(corpus(), severities, rooms, strict=True)]
    found = score(rows, HEARD)
    groups = found.per_group
    assert list(groups) == ["room", "severity"]
    assert list(groups["severity"]) == ["mild", "severe", "unknown"]
    assert list(groups["room"]) == ["1", "2", "unknown"]
    assert groups["severity"]["mild"]["wer"] == 2 / 7
    assert groups["severity"]["mild"]["n_speakers"] == 1
    assert groups["room"]["2"] | {"cer": None} == {
        "wer": 2 / 8,
        "wer_ci95": [None, None],  # two speakers of the same rate: how others vary cannot be told
        "cer": None,
        "n_utterances": 2,
        "n_words": 8,
        "n_speakers": 2,
    }
    for values in groups.values():
        assert sum(entry["n_words"] for entry in values.values()) == 17
    assert found.gaps_p == {"room": pytest.approx(0.5, abs=0.5), "severity": 1.0}
    assert found.gaps == {"room": pytest.approx(2 / 7 - 2 / 8), "severity": pytest.approx(2 / 7 - 1 / 6)}
    said = score([replace(u, severity=u.severity or "unknown", extra={"room": 1, **u.extra}) for u in rows], HEARD)
    assert (said.gaps["severity"], said.gaps_p["severity"]) == (found.gaps["severity"], found.gaps_p["severity"])


def test_a_group_of_few_speakers_has_no_interval_where_others_are_over_speakers() -> None:
    rows = [
        replace(u, id=f"{u.id}-{name}", speaker=name, severity="mild" if name > "b" else "severe")
        for name in "abcdefg"
        for u in corpus()
    ]
    groups = score(rows, [heard for name in "abcdefg" for heard in (HEARD if name > "c" else [""] * 5)]).per_group
    assert groups["severity"]["severe"]["wer_ci95"] == [None, None]
    assert None not in groups["severity"]["mild"]["wer_ci95"]
    rows = [replace(u, severity="severe" if u.speaker == "anna" else "mild") for u in corpus()]
    alone = score([replace(u, speaker="anna") for u in rows], HEARD).per_group["severity"]
    assert None not in alone["mild"]["wer_ci95"]  # of one voice all are over its sentences


def test_speakers_without_a_name_are_no_single_voice() -> None:
    found = score([replace(u, speaker="") for u in corpus()], HEARD).to_dict()
    assert found["notes"][0] == (
        "speakers are not named: the interval is over recordings only; if they are several people it is too narrow"
    )
    assert found["worst_speaker"] is None
    mixed = score([replace(u, speaker="" if i == 0 else u.speaker) for i, u in enumerate(corpus())], HEARD).to_dict()
    assert "1 of 5 recordings name no speaker: they count as one speaker" in mixed["notes"]


def test_raw_and_normalised() -> None:
    found = score([one(0, "Twenty-one teas, please."), one(1, "Hmm.")], ["21 teas please", ""]).to_dict()
    assert found["wer"] == 0.0
    assert found["wer_raw"] == 3 / 4 + 1 / 4  # Twenty-one, teas and please. differ; Hmm. is missing
    assert found["empty_references"] == 1
    assert found["n_words"] == 3
    plain = score([one(0, "Twenty-one teas, please.")], ["21 teas please"], "none").to_dict()
    assert plain["wer"] == plain["wer_raw"] == 1.0
    assert plain["normalizer"].startswith("none/")


CHINESE, MISHEARD = ("你好吗", "今天天气很好"), ("你好啊", "今天天汽很好")


@pytest.mark.parametrize("languages", [("zh", "zh"), ("zh", "ja")])
def test_characters_of_texts_without_spaces_are_those_of_jiwer(languages: tuple[str, str]) -> None:
    """The spaces that make every character a word are no characters: 2 of 9 are wrong, not 2 of 16."""
    rows = [
        replace(one(i, text), language=language)
        for i, (text, language) in enumerate(zip(CHINESE, languages, strict=True))
    ]
    found = score(rows, MISHEARD)
    assert found.normalizer.startswith("characters/")
    assert found.cer == jiwer.cer(list(CHINESE), list(MISHEARD)) == 2 / 9
    assert found.wer == 2 / 9
    assert found.to_dict()["notes"][-1] == "in languages written without spaces each character counts as a word"


def test_rows_without_spaces_among_others_are_compared_by_characters() -> None:
    rows = [replace(one(0, "今天天气很好"), language="zh"), replace(one(1, "open the door"), language="en")]
    found = score(rows, ["今天天汽很好", "open the door"])
    assert found.normalizer.startswith("mixed/")
    assert [row.words for row in found.rows] == [ErrorRate(1, 0, 0, 6), ErrorRate(0, 0, 0, 3)]
    assert found.rows[0].characters == ErrorRate(1, 0, 0, 6)


def test_rows_that_name_no_language_are_not_compared_as_chinese() -> None:
    chinese, english = replace(one(0, "今天天气很好"), language="zh"), one(1, "open the door")
    found = score([chinese, english], ["今天天汽很好", "open the door"])
    assert [row.words.length for row in found.rows] == [6, 3]
    silence = one(2, "...", extra={"no_speech": True})  # is in no language
    assert score([chinese, silence], ["", ""]).normalizer.startswith("characters/")


@pytest.mark.parametrize(("languages", "length"), [(("zh", "zh"), 4 + 6), (("zh", "en"), 4 + 3)])
def test_texts_as_written_are_counted_in_the_same_units(languages: tuple[str, str], length: int) -> None:
    """The full stop is a character too: of "你好吗。" one is missing."""
    texts = ["你好吗。", "我要 tea。" if languages[1] == "zh" else "I want tea."]
    rows = [replace(one(i, texts[i]), language=languages[i]) for i in range(2)]
    assert score(rows, ["你好吗", texts[1]]).to_dict()["wer_raw"] == 1 / length


def test_recordings_of_one_voice_are_said_to_be_few() -> None:
    few = "5 recordings: an interval over so few is far too narrow"
    assert few in score(corpus(("me",) * 5), HEARD).to_dict()["notes"]
    assert few in score(corpus(("",) * 5), HEARD).to_dict()["notes"]
    assert few in score(corpus(), HEARD).to_dict()["notes"]  # over recordings of three people
    assert few not in score(corpus(tuple("abcde")), HEARD).to_dict()["notes"]


def test_who_said_no_word_has_no_rate_and_is_no_speaker_to_count() -> None:
    silent = one(9, "", "dora")
    found = score([*corpus(tuple("abcdd")), replace(silent, severity="mild")], [*HEARD, ""]).to_dict()
    alone = score(corpus(tuple("abcdd")), HEARD).to_dict()
    assert found["per_speaker"]["dora"]["wer"] is None
    assert found["per_speaker"]["dora"]["cer"] is None
    assert found["wer_speaker_mean"] == alone["wer_speaker_mean"]
    assert found["per_group"]["severity"]["mild"]["wer"] is None
    assert "4 speakers: the interval is over recordings, not about other people" in found["notes"]


def test_without_a_reference_word_as_jiwer() -> None:
    found = score([one(0, "hmm", "a"), one(1, "", "a")], ["thank you", "so much"])
    assert found.wer == jiwer.wer(["", ""], ["thank you", "so much"]) == 4
    assert found.cer == jiwer.cer(["", ""], ["thank you", "so much"]) == 16
    written = valid_json(found.to_dict())
    assert written["wer"] == 4
    assert written["wer_ci95"] == [None, None]
    assert written["per_speaker"]["a"]["wer"] is None
    assert written["worst_speaker"] is None
    assert written["wer_speaker_mean"] is None
    assert written["empty_references"] == 2
    silent = score([one(0, "")], [""]).to_dict()
    assert silent["wer"] == silent["cer"] == silent["mer"] == silent["wil"] == 0.0


def test_insertions_into_silence_count_in_the_corpus() -> None:
    found = score([one(0, "tea please"), one(1, "")], ["tea please", "thank you"])
    assert found.wer == 2 / 2
    assert found.to_dict()["clips_above_one"] == found.hallucination["above_one"]["clips"] == 1


def test_without_the_worst() -> None:
    looping = [*HEARD[:-1], "the tea " * 40]
    found = score(corpus(), looping)
    assert found.wer > 4
    assert found.without_worst() == 3 / 13  # the other four
    assert found.without_worst(0.4) == 2 / 7  # and without the longest of the three with one error
    assert found.to_dict()["clips_above_one"] == 1


def test_without_the_worst_of_one_clip_there_is_nothing() -> None:
    assert score([one(0, "tea")], ["see"]).to_dict()["wer_without_worst"] is None
    silent = score([one(0, "tea please"), one(1, "")], ["see please", ""]).to_dict()
    assert (silent["wer"], silent["wer_without_worst"]) == (0.5, None)  # 0 of 0 words are left


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("", 0),
        ("tea", 1),
        ("tea with milk", 1),
        ("b b bread", 2),
        ("thank you thank you thank you", 3),
        ("so a b c a b c a b c a b d", 3),
        ("a b b a b b", 2),
        ("one two three four five six seven eight nine " * 4, 4),
    ],
)
def test_repeats(text: str, times: int) -> None:
    assert repeats(text.split()) == times


def test_loops_are_counted_but_not_what_was_said() -> None:
    rows = [one(0, "thank you"), one(1, "no no no no"), one(2, "tea please")]
    found = score(rows, ["thank you " * 9, "no no no no", "b b b bread"])
    assert [row.loops for row in found.rows] == [True, False, False]
    assert found.to_dict()["loops"] == 1


def test_clipped_and_wholly_right() -> None:
    found = score([one(0, "thank you"), one(1, "tea please")], ["thank you " * 9, "tea please"])
    assert found.wer == 16 / 4
    assert found.clipped() == 2 / 4
    assert found.to_dict()["all_right"] == 0.5


def test_closer_of_text_and_verbatim() -> None:
    rows = [one(0, "open the door", text_verbatim="b b open um the door"), one(1, "yes please")]
    as_meant, as_said = score(rows, ["open the door", "yes"]), score(rows, ["b b open the door", "yes"])
    assert as_meant.to_dict()["wer_closer_text"] == 1 / 5
    # two words too many against the text of three; none against the verbatim text of five
    assert as_said.wer == 3 / 5
    assert as_said.to_dict()["wer_closer_text"] == 1 / 7
    assert score(rows[1:], ["yes"]).to_dict()["wer_closer_text"] is None


def test_lengths() -> None:
    assert {name: entry["n_words"] for name, entry in score(corpus(), HEARD).to_dict()["by_length"].items()} == {
        "1": 1,
        "2-4": 10,
        "5-9": 6,
    }
    long = score([one(0, "tea " * 12)], ["tea " * 12]).to_dict()["by_length"]
    assert list(long) == ["10+"]


def test_few_speakers_are_noted() -> None:
    few = "the interval is over recordings, not about other people"
    assert score(corpus(), HEARD).to_dict()["notes"][0] == f"3 speakers: {few}"
    assert score(corpus(("me",) * 5), HEARD).to_dict()["notes"][0] == f"1 speaker: {few}"
    assert score(corpus(tuple("abcde")), HEARD).to_dict()["notes"] == []


def test_interval_over_enough_speakers_differs_from_that_of_one(scores: Scores) -> None:
    low, high = scores.wer_ci95
    assert low <= scores.wer <= high
    assert score(corpus(("me",) * 5), HEARD).wer_ci95 == scores.wer_ci95  # of three it is over recordings too
    assert score(corpus(("a", "a", "b", "c", "d")), HEARD).wer_ci95 == scores.wer_ci95
    six = [replace(u, id=f"{u.id}{i}", speaker=str(i)) for i in range(6) for u in corpus()]
    heard = [h if i % 2 else u.text for i in range(6) for h, u in zip(HEARD, corpus(), strict=True)]
    apart, one_voice = (score(rows, heard).wer_ci95 for rows in (six, [replace(u, speaker="me") for u in six]))
    assert apart[1] - apart[0] > one_voice[1] - one_voice[0]


def test_each_utterance_needs_a_hypothesis() -> None:
    with pytest.raises(ValueError, match="zip"):
        score(corpus(), HEARD[:-1])


def test_unknown_normaliser() -> None:
    with pytest.raises(SpeechftError, match="whisper-english"):
        score(corpus(), HEARD, "whisper-englisch")


def test_empty_corpus_is_valid_json() -> None:
    found = valid_json(score([], []).to_dict())
    assert found["n_utterances"] == 0
    assert found["wer_ci95"] == [None, None]


def test_where_nobody_speaks_nothing_is_said_of_an_interval() -> None:
    silent = score([one(0, "")], ["thank you"])
    assert silent.to_dict()["notes"] == [
        "no text has a word after normalisation, so there is no error rate: 'wer' and 'cer' of result.json are the "
        "numbers of inserted words and characters"
    ]
    assert score([], []).to_dict()["notes"] == []


def test_digits_that_are_only_written_apart_are_told() -> None:
    """Whisper's normaliser makes one word of "zero three five", and three of "0, 3, 5."."""
    texts = ["zero three five", "six one six zero", "five four five one", "turn it on", "five five five five"]
    heard = ["0, 3, 5.", "616-0", "5, 4, 5, 1", "turn it off", "5. 5. 5. 5."]
    rows = [replace(one(i, text), duration_s=1.0) for i, text in enumerate(texts)]
    found = score(rows, heard, "whisper-english")
    result = valid_json(found.to_dict())
    assert found.words.errors == 3 + 2 + 4 + 1 + 4
    assert found.words.length == 1 + 1 + 1 + 3 + 1
    assert result["wer_digits"] == 1 / (3 + 4 + 4 + 3 + 4)
    # 1 error of 7 words is left
    said = "only how numbers are written makes 13 of the 14 errors, in 4 recordings: WER 14.3% without these errors"
    assert said in result["notes"]
    assert list(result["by_length"]) == ["2-4"]
    invented = result["hallucination"]
    assert (invented["loops"]["clips"], invented["too_fast"]["clips"]) == (0, 0)
    # of the published words, as each recording's line in the report: 3, 2, 4 and 4 errors in a word
    assert invented["above_one"]["clips"] == result["clips_above_one"] == 4
    assert invented["short"] == {"clips": 5, "insertions": 0, "rate": 0.0}
    assert confusions(found) == {("on", "off"): 1}
    assert confused_sounds(found).pairs.total() <= 2


def test_digits_are_words_for_the_english_normaliser_only() -> None:
    assert score([one(0, "zero three five")], ["0 3 5"], "basic").to_dict()["wer_digits"] is None
    same = score([one(0, "call room 12")], ["call room twelve"], "whisper-english").to_dict()
    assert same["wer_digits"] == 0
    assert not any("numbers" in note for note in same["notes"])
    wrong = score([one(0, "take 250 now")], ["take 260 now"], "whisper-english").to_dict()
    assert (wrong["wer"], wrong["wer_digits"]) == (1 / 3, 1 / 5)
    assert not any("numbers" in note for note in wrong["notes"])  # the error is none of writing


def test_the_rate_without_errors_of_writing_is_below_the_wer() -> None:
    """That of digits need not be: a wrong year is one word, and four digits."""
    rows = [one(0, "zero three five"), *(one(i, "call me in nineteen eighty four please") for i in range(1, 9))]
    result = score(rows, ["0, 3, 5.", *["call me in 2055 please"] * 8], "whisper-english").to_dict()
    assert result["wer"] == 11 / 41 < result["wer_digits"]
    assert result["notes"][-1].endswith("3 of the 11 errors, in 1 recording: WER 19.5% without these errors")


def test_ones_are_no_digit_and_an_s() -> None:
    scores = score([one(0, "take the red ones")], ["take the blue ones"], "whisper-english")
    assert scores.wer_digits == scores.wer == 1 / 4
    assert "WER, numbers digit by digit" not in [label for label, *_ in summary_rows(scores)]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("3.5", "1"),
        ("it's ten o'clock", "2-4"),
        ("hmm, zero three five - please", "2-4"),
        ("five five two one nine", "5-9"),
    ],
)
def test_length_is_that_of_the_text_as_written(text: str, length: str) -> None:
    assert list(score([one(0, text)], [text], "whisper-english").to_dict()["by_length"]) == [length]


def test_a_difference_that_is_only_how_numbers_are_written_is_told() -> None:
    rows = [one(i, "four three five") for i in range(6)]
    apart, joined = (score(rows, [heard] * 6, "whisper-english") for heard in ("4, 3, 5", "435"))
    difference = compare(apart, joined)
    assert (difference["wer"], difference["wer_digits"]) == (-3.0, 0.0)
    told = "With numbers compared digit by digit, the difference is +0.0 points of WER."
    assert told in limits(joined.to_dict(), difference)
    assert told not in limits(joined.to_dict(), compare(joined, joined))
    labels = [label for label, *_ in summary_rows(apart, joined)]
    assert "WER, numbers digit by digit" in labels
    assert "WER, numbers digit by digit" not in [label for label, *_ in summary_rows(joined)]


def test_who_has_no_word_is_no_speaker_to_count() -> None:
    """A group of four and a recording of the room they were in is no group of five."""
    people = [replace(one(i, "turn the lamp on"), speaker=f"s{i % 9}", severity=f"{i % 9 < 5}") for i in range(27)]
    heard = ["turn the lamb on" if i % 4 else "turn on" for i in range(27)]
    room = replace(one(99, ""), speaker="room", severity="False")
    without = score(people, heard).to_dict()
    found = score([*people, room], [*heard, "you"]).to_dict()
    assert (without["n_speakers"], found["n_speakers"]) == (9, 9)
    group = found["per_group"]["severity"]["False"]
    assert (group["n_speakers"], group["wer_ci95"]) == (4, [None, None])
    four = [score([*people[:4], *rows], [*heard[:4], *["you"] * len(rows)]) for rows in ([], [room])]
    said = [answer([scores.to_dict()], None, {}) for scores in four]
    assert "on 4 recordings by 4 speakers" in said[0]
    assert "on 5 recordings by 4 speakers" in said[1]
    assert compare(*[four[1]] * 2)["notes"] == compare(*[four[0]] * 2)["notes"]
    rates = [speaker for speaker, *_ in speaker_rates({"WER": four[1].to_dict()}, "WER")]
    assert sorted(rates[1:]) == ["s0", "s1", "s2", "s3"]


def test_a_room_without_a_name_leaves_the_speaker_named() -> None:
    rows = [replace(one(0, "turn it on"), speaker="anna"), replace(one(1, ""), speaker="")]
    scores = score(rows, ["turn it on", "you"])
    assert not any("name" in note for note in scores.to_dict()["notes"])
    assert "by 1 speaker" in answer([scores.to_dict()], None, {})
    assert "by " not in answer([score(rows[1:], ["you"]).to_dict()], None, {})
    swapped = [replace(rows[0], speaker=""), replace(rows[1], speaker="room")]
    assert "whose speakers are not named" in answer([score(swapped, ["turn it", ""]).to_dict()], None, {})


def test_a_group_of_all_rows_has_the_interval_of_all() -> None:
    rows = [replace(u, id=f"{u.id}{i}", speaker=str(i), severity="mild") for i in range(9) for u in corpus()]
    found = score(rows, [" ".join(u.text.split()[i % 7 :]) for i, u in enumerate(rows)])
    assert found.per_group["severity"]["mild"]["wer_ci95"] == list(found.wer_ci95)
