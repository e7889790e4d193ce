"""Folders and tables become manifests, and whatever is not taken is listed with its reason."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechft.corpora import prepare
from speechft.corpora.folder import prepare_csv, prepare_folder
from speechft.corpora.prepared import Prepared
from speechft.errors import SpeechftError
from speechft.manifest import Manifest


def clip(path: Path, text: str | None = None, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(int(8000 * seconds)), 8000)
    if text is not None:
        path.with_suffix(".txt").write_text(text, "utf-8")
    return path


def texts(prepared: Prepared) -> dict[str, str]:
    return {u.id: u.text for u in prepared.manifest}


def listed(folder: Path, name: str = "left_out.csv") -> list[tuple[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return [(row["where"], row["reason"]) for row in csv.DictReader(file)]


def test_transcripts_beside_clips(tmp_path: Path) -> None:
    source = tmp_path / "source"
    clip(source / "anna/hello.wav", "Hello\nthere \n")
    clip(source / "anna/monday/tea.FLAC", "Tea, please")
    clip(source / "ben/wav/go.ogg")
    (source / "ben/wav/go.lab").write_bytes("Äpfel".encode("utf-16"))
    prepared = prepare_folder(source, tmp_path / "out")
    assert prepared.left_out == ()
    found = {(u.id, u.text, u.speaker, u.session) for u in prepared.manifest}
    assert found == {
        ("hello", "Hello there", "anna", None),
        ("tea", "Tea, please", "anna", "monday"),
        ("go", "Äpfel", "ben", None),
    }
    assert all(u.duration_s == pytest.approx(0.5, abs=0.02) for u in prepared.manifest)
    assert Manifest.load(tmp_path / "out") == prepared.manifest
    assert prepared.manifest.path == tmp_path / "out/manifest.jsonl"
    assert all(u.load().size for u in prepared.manifest)


def test_upper_case_endings_of_transcripts(tmp_path: Path) -> None:
    for name, text in (("REC01", "one"), ("REC02", "two")):
        clip(tmp_path / f"s/{name}.WAV", text).with_suffix(".txt").rename(tmp_path / f"s/{name}.TXT")
    (tmp_path / "s/REC03.TXT").write_text("three")
    prepared = prepare_folder(tmp_path / "s", tmp_path / "o")
    assert texts(prepared) == {"REC01": "one", "REC02": "two"}
    assert prepared.left_out == (("REC03.TXT", "a transcript without a recording of the same name"),)


def test_flat_folder_names_no_speaker_and_split_folders_name_splits(tmp_path: Path) -> None:
    clip(tmp_path / "flat/a.wav", "a")
    assert prepare_folder(tmp_path / "flat", tmp_path / "o1").manifest.speakers == ()
    clip(tmp_path / "parts/train/anna/a.wav", "a")
    clip(tmp_path / "parts/validation/anna/b.wav", "b")
    manifest = prepare_folder(tmp_path / "parts", tmp_path / "o2").manifest
    assert (manifest.splits, manifest.speakers) == (("train", "dev"), ("anna",))


def test_everything_left_out_is_listed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    clip(source / "good.wav", "good")
    clip(source / "good.mp3")
    clip(source / "wordless.wav")
    clip(source / "blank.wav", "  \n")
    (source / "broken.wav").write_bytes(b"RIFFjunk")
    (source / "broken.txt").write_text("broken")
    soundfile.write(source / "none.wav", np.zeros((0, 1)), 8000)
    (source / "none.txt").write_text("none")
    (clip(source / "latin.wav").with_suffix(".txt")).write_bytes(b"caf\xe9")
    (source / "alone.txt").write_text("no sound")
    (source / "README.txt").write_text("about these recordings")
    clip(source / "._good.wav", "what macOS leaves behind")
    prepared = prepare_folder(source, tmp_path / "out")
    assert texts(prepared) == {"good": "good"}
    assert sorted(prepared.left_out) == sorted(listed(tmp_path / "out"))
    reasons = dict(prepared.left_out)
    expected = {
        "good.mp3": "the same clip as good.wav",
        "wordless.wav": "no transcript beside it",
        "blank.wav": "no text",
        "broken.wav": "cannot be read as sound",
        "none.wav": "no samples",
        "latin.txt": "not UTF-8",
        "alone.txt": "without a recording",
    }
    assert reasons.keys() == expected.keys()
    assert all(words in reasons[name] for name, words in expected.items())


def test_librispeech_lines(tmp_path: Path) -> None:
    for name in ("1-0001", "1-0002"):
        clip(tmp_path / f"s/19/{name}.flac")
    (tmp_path / "s/19/1.trans.txt").write_text("1-0001 HELLO THERE\n\n1-0003 GONE\n1-0001 BYE\n")
    prepared = prepare_folder(tmp_path / "s", tmp_path / "o")
    assert texts(prepared) == {"1-0001": "HELLO THERE"}
    assert prepared.left_out == (
        ("19/1.trans.txt:4", "an earlier line has another text for '1-0001'"),
        ("19/1-0002.flac", "no transcript beside it"),
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("clips/a.wav", r"clips\a.wav"),  # as pandas joins paths on Windows
        ("a\u0303o.wav", "\u00e3o.wav"),  # as a Mac names a file, and as a spreadsheet does
        ("\u00e3o.wav", "a\u0303o.wav"),
    ],
)
def test_tables_spell_paths_in_other_ways(tmp_path: Path, file: str, said: str) -> None:
    clip(tmp_path / file)
    (tmp_path / "t.csv").write_text(f"path,text,participant_id\n{said},one,P1\n", "utf-8")
    (row,) = prepare_csv(tmp_path / "t.csv", tmp_path / "o").manifest
    assert (row.text, row.speaker, row.audio.is_file()) == ("one", "P1", True)


@pytest.mark.parametrize(
    ("texts", "prompts", "fields"),
    [
        (("one", "two", "one", "two"), ["1", "2", "1", "2"], [""] * 4),  # the number of a sentence
        (("one", "two", "three", "four"), [None] * 4, ["1", "2", "1", "2"]),  # of a recording of each speaker
    ],
)
def test_ids_that_repeat_lose_no_recording(
    tmp_path: Path, texts: tuple[str, ...], prompts: list[str | None], fields: list[str]
) -> None:
    rows = [f"{n % 2 + 1},{speaker}{n}.wav,{speaker},{texts[n]}" for n, speaker in enumerate("AABB")]
    for row in rows:
        clip(tmp_path / row.split(",")[1])
    (tmp_path / "t.csv").write_text("\n".join(["id,path,speaker,text", *rows]) + "\n")
    prepared = prepare_csv(tmp_path / "t.csv", tmp_path / "o")
    assert prepared.left_out == ()
    assert [u.prompt_id for u in prepared.manifest] == prompts
    assert [u.group("dataset_id") for u in prepared.manifest] == fields
    assert len({u.id for u in prepared.manifest}) == 4
    cut = [f"u{n},A0.wav,{0.1 * n},{0.1 * (n + 1)},{texts[n]}" for n in range(2)]  # parts of one recording
    (tmp_path / "c.csv").write_text("\n".join(["id,path,start,end,text", *cut]) + "\n")
    assert [u.id for u in prepare_csv(tmp_path / "c.csv", tmp_path / "c").manifest] == ["u0", "u1"]


def test_audiofolder_metadata(tmp_path: Path) -> None:
    for name in ("train/a.wav", "train/b.wav", "test/c.wav", "test/d.wav"):
        clip(tmp_path / "s" / name)
    (tmp_path / "s/train/metadata.csv").write_text("file_name,transcription,mood\na.wav,one,calm\nb.wav,two,\n")
    (tmp_path / "s/test/metadata.jsonl").write_text('{"file_name": "c.wav", "text": "three"}\n{oops\n')
    prepared = prepare_folder(tmp_path / "s", tmp_path / "o")
    assert {(u.text, u.split, u.group("mood")) for u in prepared.manifest} == {
        ("one", "train", "calm"),
        ("two", "train", ""),
        ("three", "test", ""),
    }
    assert {where for where, _ in prepared.left_out} == {"metadata.jsonl:2", "test/d.wav"}


def test_recordings_stay_where_they_are_under_the_manifest(tmp_path: Path) -> None:
    audio = clip(tmp_path / "s/anna/a.wav", "a")
    manifest = prepare_folder(tmp_path / "s", tmp_path / "s").manifest
    assert manifest[0].audio == audio.resolve()
    assert json.loads((tmp_path / "s/manifest.jsonl").read_text())["audio"] == "anna/a.wav"
    assert not (tmp_path / "s/audio").exists()


def test_copies_and_their_own_output_are_not_taken_again(tmp_path: Path) -> None:
    clip(tmp_path / "s/anna/a.wav", "a")
    for _ in range(2):
        prepared = prepare_folder(tmp_path / "s", tmp_path / "s/out")
        assert [u.id for u in prepared.manifest] == ["a"]
    assert prepared.manifest[0].audio == (tmp_path / "s/out/audio/anna/a.wav").resolve()
    assert [path.name for path in (tmp_path / "s/out/audio/anna").iterdir()] == ["a.wav"]


def test_recordings_that_would_get_one_name_both_keep_their_sound(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "outer", seconds=0.5)
    clip(tmp_path / "s/audio/a.wav", "inner", seconds=1.0)
    for _ in range(2):
        prepare_folder(tmp_path / "s", tmp_path / "out")
        found = {u.text: len(u.load()) for u in Manifest.load(tmp_path / "out")}
        assert found == {"outer": 8000, "inner": 16_000}
    assert len(list((tmp_path / "out/audio").iterdir())) == 2


def test_a_manifest_corrected_by_hand_is_not_replaced(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "one")
    out = tmp_path / "out/manifest.jsonl"
    for text in ("one", "two", "two"):  # prepared again as often as wanted, also of other texts
        (tmp_path / "s/a.txt").write_text(text)
        assert prepare_folder(tmp_path / "s", out).manifest[0].text == text
    made = out.read_text()
    out.write_text(made.replace("two", "three"))
    with pytest.raises(SpeechftError, match="changed by hand") as refused:
        prepare_folder(tmp_path / "s", out)
    assert "another folder" in refused.value.fix
    assert "three" in out.read_text()
    out.write_text(made)
    prepare_folder(tmp_path / "s", out)
    (out.parent / ".manifest.jsonl.made").unlink()
    with pytest.raises(SpeechftError, match="not made by"):
        prepare_folder(tmp_path / "s", out)


@pytest.mark.parametrize("when", ["before the manifest", "after it"])
def test_prepared_again_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    clip(tmp_path / "s/a.wav", "one")
    prepare_folder(tmp_path / "s", tmp_path / "out")
    (tmp_path / "s/a.txt").write_text("two")
    save = Manifest.save

    def crash(manifest: Manifest, path: Path) -> Manifest:
        if when == "after it":
            save(manifest, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            prepare_folder(tmp_path / "s", tmp_path / "out")
    assert prepare_folder(tmp_path / "s", tmp_path / "out").manifest[0].text == "two"


def test_a_table_is_not_replaced_by_its_manifest(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav")
    table = tmp_path / "manifest.jsonl"
    table.write_text('{"audio": "a.wav", "text": "one", "note": "kept"}\n')
    before = table.read_text()
    with pytest.raises(SpeechftError, match="the table that is read"):
        prepare("csv", table, tmp_path)
    with pytest.raises(SpeechftError, match="changed by hand"):
        prepare_csv(table, tmp_path)
    assert table.read_text() == before


def test_without_copies_the_manifest_needs_leave_to_look_outside(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "a")
    prepare_folder(tmp_path / "s", tmp_path / "m/mine.jsonl", copy=False)
    assert (tmp_path / "m/mine.left_out.csv").is_file()
    assert Manifest.read(tmp_path / "m/mine.jsonl")[1][0].kind == "outside"
    assert Manifest.load(tmp_path / "m/mine.jsonl", allow_outside=True)[0].text == "a"


def test_links_out_of_the_folder_are_left_out(tmp_path: Path) -> None:
    elsewhere = clip(tmp_path / "private.wav")
    clip(tmp_path / "s/a.wav", "a")
    (tmp_path / "s/b.wav").symlink_to(elsewhere)
    (tmp_path / "s/b.txt").write_text("b")
    prepared = prepare_folder(tmp_path / "s", tmp_path / "o")
    assert texts(prepared) == {"a": "a"}
    assert "outside" in prepared.left_out[0][1]
    assert len(prepare_folder(tmp_path / "s", tmp_path / "o2", allow_outside=True).manifest) == 2


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("audio,text,speaker", '{a},"Tea, please",anna'),
        ("Path;Sentence;Speaker ID", '{a};"Tea, please";anna'),
        ("client_id\tpath\tsentence", "anna\t{a}\tTea, please"),
        ("wav|transcript|spk", "{a}|Tea, please|anna"),
        ("filename, transcription, speaker", '{a}, "Tea, please", anna'),
    ],
)
def test_tables_of_any_dialect(tmp_path: Path, head: str, row: str, end: str, mark: bytes) -> None:
    clip(tmp_path / "s/clips/a.wav")
    (tmp_path / "s/t.csv").write_bytes(mark + end.join([head, row.format(a="a.wav"), ""]).encode())
    prepared = prepare_csv(tmp_path / "s/t.csv", tmp_path / "o")
    (u,) = prepared.manifest
    assert (u.text, u.speaker, u.extra) == ("Tea, please", "anna", {})


def test_table_times(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav", seconds=3)
    rows = [
        "0.5,1.25,,x",
        '"0,5","1,0",,x',
        "0:01,0:02.5,,x",
        "1,,0.5,x",
        ",,,x",
        "later,,,x",
        "2,1,,x",
        "5,6,,x",
    ]
    table = tmp_path / "t.csv"
    table.write_text("audio,start,end,duration,text\n" + "\n".join(f"a.wav,{row}" for row in rows))
    prepared = prepare_csv(table, tmp_path)
    assert [(u.start_s, u.end_s, u.duration_s) for u in prepared.manifest] == [
        (0.5, 1.25, 0.75),
        (0.5, 1.0, 0.5),
        (1.0, 2.5, 1.5),
        (1.0, 1.5, 0.5),
        (None, None, 3.0),
    ]
    assert [where for where, _ in prepared.left_out] == ["t.csv:7", "t.csv:8", "t.csv:9"]
    assert len({u.id for u in prepared.manifest}) == 5


def test_milliseconds_and_nemo(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav", seconds=2)
    (tmp_path / "t.csv").write_text("file,start_ms,end_ms,text\na.wav,500,1500,x\n")
    (u,) = prepare_csv(tmp_path / "t.csv", tmp_path / "m1.jsonl").manifest
    assert (u.start_s, u.end_s) == (0.5, 1.5)
    row = {"audio_filepath": "a.wav", "offset": 0.25, "duration": 1.0, "text": "x"}
    (tmp_path / "nemo.jsonl").write_text(json.dumps(row))
    (u,) = prepare_csv(tmp_path / "nemo.jsonl", tmp_path / "m2.jsonl").manifest
    assert (u.start_s, u.end_s) == (0.25, 1.25)


@pytest.mark.parametrize(
    ("head", "times"),
    [
        ("begin_time,end_time", "0.5,1.5"),
        ("begin_s,stop_s", "0.5,1.5"),
        ("onset_s,stop_time", "0.5,1.5"),
        ("onset,offset", "0.5,1.5"),
        ("offset,onset", "1.5,0.5"),
        ("onset_ms,offset_ms", "500,1500"),
        ("Begin Time,End Time", "0:00.5,0:01.5"),
        ("Begin Time - msec,End Time - msec", "500,1500"),
        ("Begin Time - ss.msec,End Time - ss.msec", "0.5,1.5"),
        ("Begin Time - hh:mm:ss.ms,End Time - hh:mm:ss.ms", "00:00:00.500,00:00:01.500"),
        ("Start (ms),duration_ms", "500,1000"),
    ],
)
def test_columns_of_times(tmp_path: Path, head: str, times: str) -> None:
    clip(tmp_path / "a.wav", seconds=2)
    (tmp_path / "t.csv").write_text(f"audio,{head},text\na.wav,{times},x\n")
    (u,) = prepare_csv(tmp_path / "t.csv", tmp_path).manifest
    assert (u.start_s, u.end_s, u.extra) == (0.5, 1.5, {})


def test_ends_without_starts_are_refused(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav", seconds=2)
    (tmp_path / "t.csv").write_text("audio,from,Stop Time,text\na.wav,0.5,1.5,x\n")
    with pytest.raises(SpeechftError, match=r"ends in column 'Stop Time'.*start_s.*audio, from, Stop Time, text"):
        prepare_csv(tmp_path / "t.csv", tmp_path)


def test_ends_beyond_the_recording(tmp_path: Path) -> None:
    """Rounded ones are clipped, so that lengths are right; words far beyond it are in no sound."""
    clip(tmp_path / "a.wav", seconds=2)
    (tmp_path / "t.csv").write_text("audio,start,end,text\na.wav,1,2.3,x\na.wav,1,9,y\n")
    prepared = prepare_csv(tmp_path / "t.csv", tmp_path)
    (u,) = prepared.manifest
    assert (u.end_s, u.seconds, u.duration_s) == (2.0, 1.0, 1.0)
    assert prepared.left_out == (("t.csv:3", "audio 'a.wav' ends 7.00 s before end_s (9)"),)


def test_a_split_is_chosen_of_hub_datasets_only(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "a")
    with pytest.raises(SpeechftError, match="hub datasets only, not of 'folder'"):
        prepare("folder", tmp_path / "s", tmp_path / "o", split="test")


@pytest.mark.parametrize(("sign", "fix"), [(",", "quotes"), ("\t", "tab")])
def test_a_row_of_more_fields_than_the_first_line_is_left_out(tmp_path: Path, sign: str, fix: str) -> None:
    for name in "ab":
        clip(tmp_path / f"{name}.wav")
    rows = [["audio", "text"], ["a.wav", "No", " thank you"], ["b.wav", "Tea", ""]]
    (tmp_path / "t.csv").write_text("\n".join(map(sign.join, rows)))
    prepared = prepare_csv(tmp_path / "t.csv", tmp_path)
    assert texts(prepared) == {"b": "Tea"}
    ((where, reason),) = prepared.left_out
    assert where == "t.csv:2"
    assert reason.startswith("it has more fields than the first line; ")
    assert fix in reason


def test_table_rows_left_out(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav")
    outside = clip(tmp_path / "private.wav")
    rows = [
        "a.wav,x,1",
        "gone.wav,x,2",
        "a.wav,,3",
        ",x,4",
        f"{outside},v,5",
        "../private.wav,w,6",
        "a.wav,y,1",
    ]
    (tmp_path / "s/t.csv").write_text("\n".join(["path,sentence,id", *rows]))
    prepared = prepare_csv(tmp_path / "s/t.csv", tmp_path / "o")
    assert texts(prepared) == {"1": "x"}
    assert [where for where, _ in prepared.left_out] == [f"t.csv:{row}" for row in range(3, 9)]
    more = prepare_csv(tmp_path / "s/t.csv", tmp_path / "o2", allow_outside=True)
    assert set(texts(more)) == {"1", "5", "6"}
    assert all(u.audio.is_relative_to((tmp_path / "o2").resolve()) for u in more.manifest)


def test_common_voice_quotes(tmp_path: Path) -> None:
    clip(tmp_path / "clips/a.mp3")
    clip(tmp_path / "clips/b.mp3")
    head = "client_id\tpath\tsentence_id\tsentence\tup_votes\tlocale"
    (tmp_path / "v.tsv").write_text(f'{head}\nx\ta.mp3\t9\t"So he said\t2\ten\nx\tb.mp3\t8\t"Yes" it is\t\ten\n')
    first, second = prepare_csv(tmp_path / "v.tsv", tmp_path).manifest
    assert (first.text, second.text) == ('"So he said', '"Yes" it is')
    assert (first.prompt_id, first.language, first.extra) == ("9", "en", {"up_votes": "2"})


def test_columns_can_be_named(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav")
    (tmp_path / "t.csv").write_text("path,text,heard\na.wav,prompt,said\n")
    columns = {"text": "heard", "prompt_id": "text"}
    (u,) = prepare_csv(tmp_path / "t.csv", tmp_path, columns=columns).manifest
    assert (u.text, u.prompt_id) == ("said", "prompt")
    with pytest.raises(SpeechftError, match=r"no column 'nope'.*path, text, heard"):
        prepare_csv(tmp_path / "t.csv", tmp_path, columns={"text": "nope"})


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="is not a folder"):
        prepare_folder(tmp_path / "none", tmp_path / "o")
    with pytest.raises(SpeechftError, match="does not exist"):
        prepare_csv(tmp_path / "none.csv", tmp_path / "o")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SpeechftError, match=r"no column holds the audio.*a, b"):
        prepare_csv(tmp_path / "t.csv", tmp_path / "o")
    (tmp_path / "t.csv").write_bytes(b"path,text\na.wav,caf\xe9\n")
    with pytest.raises(SpeechftError, match="UTF-8"):
        prepare_csv(tmp_path / "t.csv", tmp_path / "o")
    (tmp_path / "t.csv").write_text('path,text\na.wav,"open\n')
    with pytest.raises(SpeechftError, match="quotation mark"):
        prepare_csv(tmp_path / "t.csv", tmp_path / "o")
    clip(tmp_path / "s/a.wav")
    with pytest.raises(SpeechftError, match=r"nothing could be used; 1 .*a.wav: no transcript"):
        prepare_folder(tmp_path / "s", tmp_path / "o")
    assert listed(tmp_path / "o") == [("a.wav", "no transcript beside it")]


def test_a_table_has_true_and_false_in_words_and_entities_with_semicolons(tmp_path: Path) -> None:
    for name in "abcd":
        clip(tmp_path / f"{name}.wav")
    rows = ['a.wav,"Anna, at ten",False,,Anna; ten', "b.wav,,no,TRUE,", "c.wav,x,1,0,", "d.wav,x,maybe,,"]
    (tmp_path / "t.csv").write_text("audio,text,Synthetic,no_speech,entities\n" + "\n".join(rows))
    prepared = prepare_csv(tmp_path / "t.csv", tmp_path)
    assert [u.extra for u in prepared.manifest] == [
        {"synthetic": False, "entities": ["Anna", "ten"]},
        {"synthetic": False, "no_speech": True},
        {"synthetic": True, "no_speech": False},
    ]
    assert prepared.left_out == (("t.csv:5", "'synthetic' is 'maybe', neither true nor false"),)
