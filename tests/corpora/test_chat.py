"""CHAT's codes, one by one: what was said, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechft.corpora.chat import both_texts, read_chat
from speechft.errors import SpeechftError


@pytest.mark.parametrize(
    ("line", "said", "meant"),
    [
        ("I want cake .", "I want cake", "I want cake"),
        ("&-uh I &+wa want (.) cake !", "uh I wa want cake", "I want cake"),
        ("<I want> [/] I want cake .", "I want I want cake", "I want cake"),
        ("a dog [//] cat .", "a dog cat", "a cat"),
        ("<the <big big> [/] dog> [//] a cat .", "the big big dog a cat", "a cat"),
        ("dawg [: dog] [* p:n] runs .", "dawg runs", "dog runs"),
        ("go [x 3] .", "go go go", "go"),
        ("(be)cause he's gon(na) .", "cause he's gon", "because he's gonna"),
        ("&=laughs &=points:up hm +...", "hm", "hm"),
        ("0is there +//.", "there", "there"),
        ("ice+cream in New_York .", "ice cream in New York", "ice cream in New York"),
        ("gato@s:spa no [=! shouting] .", "gato no", "gato no"),
        ("↫s-s↫some wa:ter .", "s-s-some water", "some water"),
        ("(1.5) yes [+ gram] ?", "yes", "yes"),
        ("+< <it is> [/] it is &~gaga here .", "it is it is gaga here", "it is here"),
        ("I (.) [/] I went &=laughs [//] ran .", "I I went ran", "I ran"),
        ("(.) [/] <I (1.2) want> [/] I want cake .", "I want I want cake", "I want cake"),
        ("a tɛf@u [: x@n] [* n:uk] .", "a tɛf@u", "a xxx"),
        ("a tɛf@u .", "a tɛf@u", "a xxx"),
        ("a dɑk@u [: dog] [* p:n] &+tɛ@u runs .", "a dɑk@u tɛ@u runs", "a dog runs"),
        ("to Jork [: New_York] .", "to Jork", "to New York"),
        ("", "", ""),
    ],
)
def test_both_texts(line: str, said: str, meant: str) -> None:
    assert both_texts(line) == (said, meant)


@given(st.text(alphabet=st.sampled_from(list("ab <>[]/&-+.:(x)0↫@")), max_size=60))
def test_no_line_breaks_it(line: str) -> None:
    said, meant = both_texts(line)
    assert "[" not in said + meant
    assert "<" not in said + meant


def test_headers_times_and_lines_that_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.cha"
    path.write_text(
        "@UTF8\n@Begin\n@Languages:\tspa, eng\n@ID:\tspa|x|PAR|50;|male|Wernicke||Participant|||\n@Media:\ta, video\n"
        "*PAR:\tuno dos\n\ttres . \x15100_2300\x15\n%mor:\tnothing\n*PAR:\tno . \x152300_2500-\x15\n@End\n",
        "utf-8",
    )
    found = read_chat(path)
    assert (found.media, found.language) == ("a", "spa")
    assert found.people["PAR"] == {"age": "50;", "sex": "male", "group": "Wernicke", "role": "Participant"}
    line, skipped = found.lines
    assert (line.said, line.start_s, line.end_s, line.number) == ("uno dos tres", 0.1, 2.3, 6)
    assert (skipped.said, skipped.start_s, skipped.end_s) == ("no", 2.3, 2.5)


@pytest.mark.parametrize(
    ("line", "said", "unclear"),
    [
        ("a tɛf@u [: x@n] [* n:uk]", "", True),
        ("a teffle [: x@n] [* n:uk]", "a teffle", True),
        ("a tɛf@u", "", True),
        ("a dɑk@u [: dog]", "", False),
        ("xxx [/] a dog", "xxx a dog", True),
        ("a dog", "a dog", False),
    ],
)
def test_what_nobody_knows_is_unclear_and_sounds_are_no_text(
    tmp_path: Path, line: str, said: str, unclear: bool
) -> None:
    (tmp_path / "a.cha").write_text(f"@Begin\n*PAR:\t{line} . \x150_900\x15\n@End\n", "utf-8")
    (found,) = read_chat(tmp_path / "a.cha").lines
    assert (found.said, found.unclear) == (said, unclear)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.cha").write_text("hello")
    with pytest.raises(SpeechftError, match="not a CHAT transcript"):
        read_chat(tmp_path / "a.cha")
    (tmp_path / "b.cha").write_bytes(b"\xff@Begin")
    with pytest.raises(SpeechftError, match="UTF-8"):
        read_chat(tmp_path / "b.cha")
