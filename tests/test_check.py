"""Every planted fault is named with its file and row, and a sound manifest is left in peace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from speechft.check import check, examine, usable
from speechft.cli.common import app
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Problem
from speechft.overlap import overlap
from speechft.split_files import write_split

Found = set[tuple[str, str, str]]


class Folder:
    """Builds a manifest row by row and remembers which fault belongs to which row."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines, self.expected = folder, [], set()  # type: ignore[var-annotated]
        self.random = np.random.default_rng(0)

    def sound(self, name: str, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
        samples = (level * self.random.standard_normal(int(16_000 * seconds))).clip(-0.9, 0.9)
        soundfile.write(self.folder / name, samples, 16_000)
        return samples

    def row(self, kind: str | None, severity: str = "error", audio: str | None = None, **values: Any) -> str:
        """Add a row with its own recording unless one is named; `kind` is what check must call it."""
        name = audio or f"{len(self.lines) + 1}.wav"
        if audio is None:
            self.sound(name)
        row = {"audio": name, "text": f"row number {len(self.lines) + 1}", "split": "train", **values}
        return self.line(json.dumps(row), kind, severity) or name

    def line(self, text: str, kind: str | None, severity: str = "error") -> None:
        self.lines.append(text)
        if kind:
            self.expected.add((kind, severity, f"m.jsonl:{len(self.lines)}"))

    def write(self) -> Path:
        (self.folder / "m.jsonl").write_text("\n".join(self.lines), "utf-8")
        return self.folder / "m.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def found(problems: list[Problem]) -> Found:
    return {(p.kind, p.severity, p.where) for p in problems}


def plant(folder: Folder) -> None:
    """One row for each fault, good rows between them."""
    write = soundfile.write
    here = folder.folder
    folder.row(None, speaker="anna")
    folder.row("missing", audio="gone.wav")
    (here / "text.wav").write_text("not sound at all")
    folder.row("unreadable", audio="text.wav")
    (here / "zero.wav").write_bytes(b"")
    folder.row("empty", audio="zero.wav")
    write(here / "none.wav", np.zeros((0, 1)), 16_000)
    folder.row("empty", audio="none.wav")
    write(here / "silent.wav", np.full(16_000, 0.25), 16_000)
    folder.row("silent", audio="silent.wav")
    write(here / "loud.wav", (5 * folder.sound("loud.wav", level=0.5)).clip(-1, 1), 16_000)
    folder.row("clipped", "warning", audio="loud.wav")
    folder.sound("quiet.wav", level=0.001)
    folder.row("quiet", "note", audio="quiet.wav")
    folder.sound("room.wav", level=0.001)
    folder.row(None, audio="room.wav", text="", no_speech=True)  # a room where nobody speaks is quiet
    write(here / "nan.wav", np.full(16_000, np.inf), 16_000, subtype="FLOAT")
    folder.row("not-finite", audio="nan.wav")
    folder.row(None)
    folder.row("empty-text", text=" ")
    folder.row("empty-text", text="...")
    folder.row(None, text="", no_speech=True)
    folder.row("type", text=7)
    folder.sound("long.wav", 31)
    folder.row("too-long", audio="long.wav")
    folder.sound("long test.wav", 31)
    folder.row("too-long", "warning", audio="long test.wav", split="test")
    folder.sound("30.wav", 29.9)
    folder.row("too-many-tokens", "warning", audio="30.wav", text="antidisestablishmentarian " * 80)
    folder.expected.add(("too-fast", "warning", f"m.jsonl:{len(folder.lines)}"))
    folder.row("too-fast", "warning", text="one two three four five six seven eight nine ten eleven")
    folder.sound("blip.wav", 0.05)
    folder.row("too-fast", "warning", audio="blip.wav", text="hi")
    (here / "copy.wav").write_bytes((here / "1.wav").read_bytes())
    folder.row("duplicate-audio", "warning", audio="copy.wav")
    write(here / "copy.flac", soundfile.read(here / "1.wav")[0], 16_000)
    folder.row("duplicate-audio", "error", audio="copy.flac", split="test", text="quite another")
    folder.row("text-leak", "warning", text="ROW number, 1!", split="dev")
    folder.row("speaker-leak", "warning", split="test", speaker="anna")
    folder.row(None, split="test", speaker="anna")
    folder.row(None, split="test", speaker="ben")
    folder.row("outside", audio="../up.wav")
    folder.row(None, id="twice")
    folder.row("duplicate-id", id="twice")
    folder.line('{"audio": "x.wav", ', "json")
    folder.row("times", start_s=0.5, end_s=0.25)
    folder.row("times", "warning", start_s=0.5, end_s=1.3)
    folder.row("times", start_s=0.5, end_s=2.0)
    folder.row("empty", start_s=5.0, end_s=6.0)
    folder.row("duration", "warning", duration_s=4.0)
    data = (here / folder.row("truncated", "warning")).read_bytes()
    (here / f"{len(folder.lines)}.wav").write_bytes(data[:-8000])
    folder.row("language", "warning", language="klingon")
    folder.row(None, language="de-CH")
    folder.row(None, language="German")
    folder.row("split-name", "note", split="holdout")
    folder.row(None)


def test_every_planted_fault_is_named(folder: Folder) -> None:
    plant(folder)
    problems = check(folder.write())
    assert found(problems) == folder.expected
    assert [int(p.where.split(":")[1]) for p in problems] == sorted(int(p.where[8:]) for p in problems)
    assert all(p.fix for p in problems if p.kind != "json")
    by_kind = {p.kind: str(p) for p in problems}
    assert by_kind["duplicate-audio"].count("m.jsonl:1")
    assert "anna" in by_kind["speaker-leak"]


def test_words_that_a_row_is_scored_by_are_in_its_text(folder: Folder) -> None:
    folder.row("named-words", text="turn it on", command="off")
    folder.row("named-words", text="call anna", entities=["anna", "ben"])
    folder.row(None, text="it costs twenty dollars", entities=["twenty"], command=True)
    assert found(check(folder.write())) == folder.expected


def test_words_that_a_row_is_scored_by_go_by_the_language_heard(folder: Folder) -> None:
    folder.row(None, text="um", command="um")
    folder.row(None, text="hmm um", entities=["hmm"], language="de")
    folder.row("named-words", text="hmm call anna", entities=["hmm"], language="en", split="test")
    folder.row("named-words", text="\u8bf7\u6253\u5f00\u706f", command="\u6253\u5f00", language="de", split="dev")
    path = folder.write()
    assert found(check(path)) == folder.expected
    assert found(examine(path, language="pt").problems) == folder.expected  # nobody tells a row that names its own


def test_what_may_be_right_in_some_language_is_no_error(folder: Folder) -> None:
    folder.row(None, text="um", command="um")
    folder.row(None, text="\u8bf7\u6253\u5f00\u706f", command="\u6253\u5f00")
    path = folder.write()
    assert not examine(path).problems
    first, second = ({p.where for p in examine(path, language=code).problems} for code in ("pt", "en"))
    assert (first, second) == ({"m.jsonl:2"}, {"m.jsonl:1", "m.jsonl:2"})
    told = [CliRunner().invoke(app, ["check", str(path), "--language", code]) for code in ("zh", "pt")]
    assert [done.exit_code for done in told] == [0, 2]
    done = CliRunner().invoke(app, ["check", str(path), "--model", "bundled:tiny.en", "--json"])
    assert [p["where"] for p in json.loads(done.stdout)["problems"] if p["kind"] == "named-words"] == [
        "m.jsonl:1",
        "m.jsonl:2",
    ]


def test_every_planted_leak_is_found(folder: Folder, voice: Manifest) -> None:
    """One row for each way of having the same in two parts, and the same in the report, the split file and JSON."""
    clips = iter([u.load() for u in voice])

    def speech(name: str, samples: np.ndarray | None = None) -> str:
        soundfile.write(folder.folder / name, next(clips) if samples is None else samples, 16_000)
        return name

    own = {"speaker": "ann", "session": "1", "prompt_id": "p1"}
    first = speech("a.wav")
    samples = soundfile.read(folder.folder / first, dtype="float32")[0]
    folder.row(None, audio=first, text="The kettle is on.", **own)
    folder.row(None, audio=speech("b.wav"), text="Nobody else says this", speaker="ben", session="1")
    folder.row(None, audio=speech("c.wav"), text="Nor this", speaker="ann", session="2")
    speakers = iter("cdefghijklmnop")
    plant: dict[str, dict[str, Any]] = {
        "speaker-leak": {"speaker": "ben", "session": "7"},
        "session-leak": {"speaker": "ann", "session": "2"},
        "text-leak": {"text": "the KETTLE is on", "prompt_id": "p8"},
        "prompt-leak": {"text": "The teapot is on.", "prompt_id": "p1"},
    }
    for number, (kind, values) in enumerate(plant.items()):
        row = {"speaker": next(speakers), "text": f"sentence {number}", "split": "test", **values}
        folder.row(kind, "warning", audio=speech(f"{kind}.wav"), **row)
        if kind == "session-leak":
            folder.expected.add(("speaker-leak", "warning", f"m.jsonl:{len(folder.lines)}"))
    same = {"renamed.wav": samples, "other.flac": samples, "coded.mp3": samples, "cut.ogg": 0.4 * samples[3000:-2000]}
    for number, (name, sound) in enumerate(same.items()):
        folder.row("duplicate-audio", "error", audio=speech(name, sound), text=f"another {number}", split="test",
                   speaker=next(speakers))  # fmt: skip
    long = speech("long.wav", np.concatenate([next(clips), next(clips)]))
    folder.row(None, audio=long, text="the first half", start_s=0.0, end_s=1.5, speaker=next(speakers))
    folder.row("duplicate-audio", "error", audio=long, text="partly the same", start_s=1.2, end_s=2.5, split="test",
               speaker=next(speakers))  # fmt: skip
    folder.row(None, audio=long, text="with nothing of it", start_s=2.5, end_s=3.0, split="test",
               speaker=next(speakers))  # fmt: skip
    folder.row(None, audio=speech("clean.wav"), text="a clean row", split="test", speaker=next(speakers))

    checked = examine(folder.write())
    assert found(checked.problems) == folder.expected
    pair = checked.shared.between("train", "test")
    ids = [u.id for u in checked.manifest if u.audio.name in same or u.text == "partly the same"]
    assert (pair.speakers, pair.sessions) == (("ann", "ben"), ("ann/2",))
    assert (pair.texts, pair.prompts, list(pair.audio)) == (("the kettle is on",), ("p1",), ids)

    plain = overlap(checked.manifest).to_dict()  # without decoding only the same bytes are the same
    assert [{**p, "audio": []} for p in plain] == [{**p, "audio": []} for p in checked.shared.to_dict()]
    assert plain[0]["audio"] == [
        u.id for u in checked.manifest if u.audio.name == "renamed.wav" or u.text == "partly the same"
    ]
    split = write_split(checked.manifest, folder.folder / "s.split.json", "official")
    assert split["leakage"] == plain


def test_what_is_in_dev_is_no_news_in_test_either(folder: Folder) -> None:
    for number, split in enumerate(("train", "validation", "test")):
        folder.row("split-name" if split == "validation" else None, "note", split=split, text=f"one {number}",
                   prompt_id=f"p{number}")  # fmt: skip
    folder.row("text-leak", "warning", split="test", text="ONE 1!", prompt_id="p8")
    folder.row("prompt-leak", "warning", split="test", text="two", prompt_id="p1")
    folder.row(None, split="dev", text="one 1", prompt_id="p1")  # dev twice, under two names of it
    problems = check(folder.write())
    assert found(problems) == folder.expected
    assert "the text is in dev too (m.jsonl:2)" in " ".join(p.what for p in problems)


def test_variations_of_a_recording_are_copies_only_in_another_split(folder: Folder, voice: Manifest) -> None:
    samples = voice[0].load()
    for kind, split, name, more in (
        (None, "train", "a.wav", {}),
        (None, "train", "quiet.wav", {"synthetic": True}),
        ("duplicate-audio", "test", "loud.wav", {"synthetic": True}),
    ):
        soundfile.write(folder.folder / name, samples * (0.5 + len(name) / 20), 16_000)
        folder.row(kind, audio=name, text=f"{name} only", split=split, **more)
    assert found(check(folder.write())) == folder.expected


def test_a_copy_in_test_is_found_beside_copies_in_its_own_part(folder: Folder, voice: Manifest) -> None:
    """Not only the first of several earlier copies counts, nor only the first of later ones."""
    samples = voice[0].load()
    for kind, severity, split, name in (
        (None, "", "test", "a.wav"),
        ("duplicate-audio", "warning", "test", "b.wav"),
        ("duplicate-audio", "error", "train", "c.wav"),
        ("duplicate-audio", "error", "test", "d.wav"),
        ("duplicate-audio", "error", "test", "e.flac"),
    ):
        soundfile.write(folder.folder / name, samples, 16_000, subtype="PCM_16")
        folder.row(kind, severity, audio=name, text=f"{name} only", split=split, speaker="ann", id=name)
    examined = examine(folder.write())
    assert {one for one in found(examined.problems) if one[0] == "duplicate-audio"} == folder.expected
    assert examined.shared.between("train", "test").audio == ("a.wav", "b.wav", "d.wav", "e.flac")


def test_sessions_of_people_recorded_once_are_no_leak(folder: Folder) -> None:
    for split in ("train", "test"):
        folder.row(None, split=split, speaker="ann", session="1")
        folder.row("session-leak" if split == "test" else None, "warning", split=split, speaker="", session="3")
    folder.row(None, speaker="", session="4")
    assert found(check(folder.write())) == folder.expected


def test_leaks_are_found_whatever_the_splits_are_called(folder: Folder) -> None:
    folder.row(None, text="The kettle is on.", split="Training", prompt_id="p1")
    folder.expected.add(("split-name", "note", "m.jsonl:1"))
    folder.row("text-leak", "warning", text="the kettle is on", split="Test")
    folder.expected.add(("split-name", "note", "m.jsonl:2"))
    folder.row("prompt-leak", "warning", text="It is warm.", split="Test", prompt_id="p1")
    examined = examine(folder.write())
    assert found(examined.problems) == folder.expected
    assert examined.shared.between("train", "test").text_rows == 1
    assert "read as 'test'" in next(p.fix for p in examined.problems if p.where == "m.jsonl:2" and p.kind[0] == "s")


def test_usable_keeps_what_has_no_error_and_drops_nothing_in_silence(folder: Folder) -> None:
    plant(folder)
    path = folder.write()
    across_rows = {"duplicate-audio", "text-leak", "speaker-leak", "split-name"}
    bad = {where for kind, severity, where in folder.expected if severity == "error" and kind not in across_rows}
    for decode in (True, False):
        manifest, problems = usable(path, decode=decode)
        kept = {u.where for u in manifest}
        named = {p.where for p in problems if p.severity == "error"}
        assert not kept & named
        assert len(kept | named) == len(folder.lines)
        assert all(u.duration_s for u in manifest)
        assert [(u.end_s, u.seconds) for u in manifest if u.end_s] == [(1.0, 0.5)]
        if decode:
            assert named == bad
    only_by_decoding = bad - named
    assert {kind for kind, _, where in folder.expected if where in only_by_decoding} == {
        "silent",
        "not-finite",
    }


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("请把卧室的灯打开然后关上窗户我要睡觉了晚安", "21 characters"),
        ("请 打开 卧室 的 灯 然后 关上 窗户 我 要 睡觉 用 WiFi okay yes", "3 words and 18 characters"),
        ("请打开 WiFi", None),
    ],
)
def test_characters_of_scripts_without_spaces_take_their_time(folder: Folder, text: str, count: str | None) -> None:
    folder.row(None, text=text)
    found = [problem.what for problem in check(folder.write()) if problem.kind == "too-fast"]
    assert len(found) == (count is not None)
    assert not count or count in found[0]


def test_nothing_usable(folder: Folder) -> None:
    folder.row("missing", audio="gone.wav")
    folder.row("empty-text", text="")
    with pytest.raises(
        SpeechftError, match=r"be used\. The first problem is m.jsonl:1: audio 'gone.wav' does not exist"
    ):
        usable(folder.write())


def test_what_keeps_all_rows_from_use_is_named_before_what_does_not(folder: Folder) -> None:
    folder.row("too-fast", "warning", text="one two three four five six seven eight nine ten eleven", end_s=9.0)
    with pytest.raises(SpeechftError, match=r"The first problem is .* before end_s \(9 s\)") as caught:
        usable(folder.write())
    assert "  " not in str(caught.value)


def test_usable_takes_a_manifest(folder: Folder) -> None:
    folder.row(None)
    manifest, problems = usable(Manifest.load(folder.write()))
    assert (len(manifest), problems) == (1, [])


def test_sound_manifest_has_no_problems(folder: Folder) -> None:
    for split in ("train", "train", "dev", "test"):
        folder.row(None, split=split, speaker=split)
    assert check(folder.write()) == []


def test_one_voice_is_not_told_to_split_by_speaker(folder: Folder) -> None:
    for split in ("train", "dev", "test"):
        folder.row(None, split=split, speaker="anna")
    assert check(folder.write()) == []


def test_tokenizer_counts_for_real(folder: Folder) -> None:
    folder.sound("a.wav", 25)
    folder.row("too-many-tokens", audio="a.wav", text="a b c")
    problems = check(folder.write(), tokenizer=lambda text: [0] * (449 if text == "a b c" else 448))
    assert found(problems) == folder.expected
    assert "449 tokens" in problems[0].what
    assert check(folder.write(), tokenizer=lambda text: [0] * 448) == []


def test_progress_and_empty_manifest(folder: Folder) -> None:
    for _ in range(3):
        folder.row(None)
    seen: list[tuple[int, int]] = []
    check(folder.write(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    folder.lines.clear()
    assert [p.kind for p in check(folder.write())] == ["no-rows"]


def test_outside_when_allowed(folder: Folder, tmp_path: Path) -> None:
    inner = Folder(tmp_path / "inner")
    inner.folder.mkdir()
    folder.sound("up.wav")
    inner.row("outside", audio="../up.wav")
    assert found(check(inner.write())) == inner.expected
    assert check(inner.write(), allow_outside=True) == []


def test_a_long_test_clip_is_said_to_be_heard_in_pieces(folder: Folder) -> None:
    for split in ("train", "test"):
        folder.sound(f"{split}.wav", 31)
        folder.row("too-long", audio=f"{split}.wav", split=split)
    train, test = (p.what for p in check(folder.write()) if p.kind == "too-long")
    assert train.endswith("Whisper hears 30 s at once")
    assert test.endswith("Whisper hears 30 s at once, so it is cut at pauses and heard in pieces")


def test_names_that_may_be_one_are_named(folder: Folder) -> None:
    folder.row(None, speaker="A", prompt_id="p0", text="one thing")
    folder.row(None, speaker="b", prompt_id="p1", text="another thing")
    folder.row("speaker-name", "warning", speaker=" a", prompt_id="p2", text="a third", split="test")
    folder.row("prompt-name", "warning", speaker="c", prompt_id="P1", text="a fourth", split="test")
    folder.row(None, speaker=" a", prompt_id="P1", text="a fifth", split="test")
    problems = check(folder.write())
    assert found(problems) == folder.expected
    assert "speaker ' a' may be the 'A' of m.jsonl:1: they differ only in case or spaces" in {p.what for p in problems}


def test_a_sentence_is_known_as_the_error_rate_reads_it(folder: Folder) -> None:
    folder.row(None, text="Come at ten o'clock.")
    folder.row("text-leak", "warning", text="come at 10 oclock", split="test")
    assert found(check(folder.write())) == folder.expected


def test_typographic_apostrophes_are_told_where_texts_may_be_english(folder: Folder) -> None:
    """They make a right transcript wrong: the published normaliser knows straight ones only."""
    folder.row(None, text="I don\u2019t know")
    folder.row(None, text="the \u2018lamp\u2019 isn't on")  # these are quotation marks
    path = folder.write()
    (found,) = check(path)
    assert (found.severity, found.kind) == ("warning", "apostrophe")
    assert found.what.startswith("1 of 2 texts have typographic apostrophes")
    assert examine(path, language="fr").problems == []


def test_french_apostrophes_are_right(folder: Folder) -> None:
    folder.row(None, text="aujourd\u2019hui", language="fr")
    assert check(folder.write()) == []


def test_texts_that_a_model_of_english_cannot_write_are_told(folder: Folder) -> None:
    folder.row(None, text="\u4f60\u597d \u043c\u0438\u0440")
    folder.row(None, text="na\u00efve \u00fcber 42")
    path = folder.write()
    assert examine(path).problems == []
    (found,) = examine(path, english="bundled:tiny.en").problems
    assert (found.severity, found.kind) == ("warning", "script")
    assert found.what.startswith("1 of 2 texts are mostly in other letters than English, all that bundled:tiny.en")
    done = CliRunner().invoke(app, ["check", str(path), "--json"])
    assert [problem["kind"] for problem in json.loads(done.stdout)["problems"]] == ["script"]
