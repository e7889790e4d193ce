"""Each corpus as a tiny tree in its own layout: what is taken, with which fields, and what is left out and why."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechft import corpora
from speechft.corpora import CORPORA, talkbank
from speechft.corpora.prepared import Prepared
from speechft.corpora.sap import both_references
from speechft.corpora.uaspeech import severity
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance

SPOKEN: list[np.ndarray] = []  # sentences of the simulated voice, made once for all trees


@pytest.fixture(autouse=True, scope="module")
def _speech(voice: Manifest) -> None:
    SPOKEN[:] = [u.load() for u in voice]


def sound(path: Path, seconds: float = 0.5) -> Path:
    """The first part of a sentence; another file, another sentence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = SPOKEN[len(str(path)) % len(SPOKEN)]
    soundfile.write(path, np.resize(samples, int(16_000 * seconds)), 16_000)
    return path


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def prepare(name: str, source: Path, out: Path) -> Prepared:
    """Of the folder by its whole path; by a relative path and through a link it gives the same rows."""
    aside = out.parent.parent / f"{out.parent.name}-{out.name}"  # outside the corpus, which may hold `out`
    aside.mkdir(exist_ok=True)
    link = aside / "link"
    if source.exists():
        link.symlink_to(source)
    ways = (Path(os.path.relpath(source)), link)
    others = [corpora.prepare(name, way, aside / f"out{number}") for number, way in enumerate(ways)]
    prepared = corpora.prepare(name, source, out)
    for other in others:
        assert plain_rows(other) == plain_rows(prepared)
        assert other.left_out == prepared.left_out
    return prepared


def plain_rows(prepared: Prepared) -> list[dict[str, object]]:
    assert prepared.manifest.path is not None
    return [u.to_row(prepared.manifest.path.parent.resolve()) for u in prepared.manifest]


def by_id(prepared: Prepared) -> dict[str, Utterance]:
    return {u.id: u for u in prepared.manifest}


def reasons(prepared: Prepared) -> Counter[str]:
    return Counter(reason for _, reason in prepared.left_out)


def test_librispeech(tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    written(root / "SPEAKERS.TXT", ";ID |SEX| SUBSET |MINUTES| NAME\n61 | M | test-clean | 8.08 | A Name\n")
    written(root / "test-clean/61/70968/61-70968.trans.txt", "61-70968-0000 HE BEGAN\n61-70968-0002 NO SOUND\n")
    for number in (0, 1):
        sound(root / f"test-clean/61/70968/61-70968-000{number}.flac")
    written(root / "train-clean-100/19/198/19-198.trans.txt", "19-198-0000 NORTHANGER ABBEY\n")
    sound(root / "train-clean-100/19/198/19-198-0000.flac")
    sound(root / "train-clean-100/26/495/26-495-0000.flac")  # its texts were not unpacked
    prepared = prepare("librispeech", tmp_path, tmp_path / "out")
    rows = by_id(prepared)
    assert {u.id: (u.text, u.speaker, u.session, u.split, u.gender) for u in rows.values()} == {
        "61-70968-0000": ("HE BEGAN", "61", "70968", "test", "male"),
        "19-198-0000": ("NORTHANGER ABBEY", "19", "198", "train", None),
    }
    assert sorted(reason for _, reason in prepared.left_out) == [
        "26-495.trans.txt has no text for it",
        "61-70968.trans.txt has no text for it",
        "there is no recording 61-70968-0002.flac",
    ]


def test_one_part_of_librispeech_is_enough(tmp_path: Path) -> None:
    written(tmp_path / "test-clean/61/70968/61-70968.trans.txt", "61-70968-0000 HE BEGAN\n")
    sound(tmp_path / "test-clean/61/70968/61-70968-0000.flac")
    sound(tmp_path / "dev-clean/7/8/7-8-0000.flac")
    prepared = prepare("librispeech", tmp_path / "test-clean", tmp_path / "out")
    assert [(u.split, u.extra["part"]) for u in prepared.manifest] == [("test", "test-clean")]
    assert not prepared.left_out


@pytest.mark.parametrize(
    ("name", "files", "bad", "message"),
    [
        ("commonvoice", ("clips/a.txt",), "train.tsv", "train.tsv: is not UTF-8"),
        ("speechocean762", ("train/wav.scp", "train/text"), "resource/scores.json", "scores.json: is not UTF-8"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, name: str, files: tuple[str, ...], bad: str, message: str) -> None:
    for file in files:
        written(tmp_path / file, "")
    written(tmp_path / bad, "").write_bytes(b"client_id\tpath\n\xfc\ta.mp3\n")
    with pytest.raises(SpeechftError, match=message):
        prepare(name, tmp_path, tmp_path / "out")


def test_common_voice(tmp_path: Path) -> None:
    root = tmp_path / "cv-corpus-17.0/de"  # gone.mp3 is in dev and in validated, and is not there
    head = "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tgender\taccents\tlocale\n"
    lines = {
        "train": 'a\tone.mp3\ts1\t"Guten" Tag\t2\ttwenties\tmale_masculine\t\tde\n',
        "dev": "b\ttwo.mp3\ts2\tBis bald\t2\t\tfemale_feminine\tBavarian\tde\nb\tgone.mp3\ts9\tWeg\t2\t\t\t\tde\n",
        "invalidated": "c\tbad.mp3\ts3\tFalsch\t0\t\t\t\tde\n",
        "validated": "a\tone.mp3\ts1\tGuten Tag\t2\t\t\t\tde\nb\tgone.mp3\ts9\tWeg\t2\t\t\t\tde\n",
    }
    for name, text in lines.items():
        written(root / f"{name}.tsv", head + text)
    for name in ("one", "two", "bad"):
        sound(root / f"clips/{name}.mp3")
    rows = by_id(prepared := prepare("commonvoice", root, tmp_path / "out"))
    assert {u.id: (u.text, u.speaker, u.split, u.prompt_id, u.gender, u.language) for u in rows.values()} == {
        "one": ('"Guten" Tag', "a", "train", "s1", "male", "de"),
        "two": ("Bis bald", "b", "dev", "s2", "female", "de"),
    }
    assert rows["two"].extra["accent"] == "Bavarian"
    where = dict(prepared.left_out)
    assert where["invalidated.tsv: bad.mp3"] == "volunteers found the text wrong"
    assert "dev.tsv:3" in where
    assert len(where) == 2


def test_common_voice_without_its_three_parts(tmp_path: Path) -> None:
    """As the archives of what is new in a version are."""
    head = "client_id\tpath\tsentence\tlocale\n"
    written(tmp_path / "cv-corpus-18.0-delta/pt/train.tsv", head)
    for name in ("validated", "other"):
        written(tmp_path / f"cv-corpus-18.0-delta/pt/{name}.tsv", f"{head}a\t{name}.mp3\tBom dia\tpt\n")
        sound(tmp_path / f"cv-corpus-18.0-delta/pt/clips/{name}.mp3")
    prepared = prepare("commonvoice", tmp_path / "cv-corpus-18.0-delta", tmp_path / "out")
    assert [(u.id, u.text, u.split) for u in prepared.manifest] == [("validated", "Bom dia", None)]
    assert prepared.left_out == (("other.tsv: other.mp3", "nobody has checked it yet"),)


def test_kaldi(tmp_path: Path) -> None:
    data = tmp_path / "data" / "train"
    sound(tmp_path / "audio/long.wav", 3.0)
    scp = f"long {tmp_path}/audio/long.wav\nrel audio/long.wav\npiped sox x.wav -t wav - |\nidle audio/rel.wav\n"
    written(data / "wav.scp", scp)
    written(data / "segments", "u1 long 0.5 1.25\nu2 long 1.5 -1\nu4 nowhere 0 1\nu5 long 2.5 3\n")
    written(data / "text", "u1 first words\nu2 second\npiped third\nu4 fourth\nrel fifth\n")
    written(data / "utt2spk", "u1 anna\nu2 anna\nrel ben\nu9 ben\n")
    written(data / "spk2gender", "anna f\nben m\n")
    rows = by_id(prepared := prepare("kaldi", data, tmp_path / "out"))
    assert {u.id: (u.text, u.speaker, u.gender, u.start_s, u.end_s) for u in rows.values()} == {
        "u1": ("first words", "anna", "female", 0.5, 1.25),
        "u2": ("second", "anna", "female", 1.5, None),
        "rel": ("fifth", "ben", "male", None, None),
    }
    left_out = dict(prepared.left_out)
    assert len(left_out) == 5
    assert (left_out["train: u5"], left_out["train: u9"]) == ("it has no text", "it has no text")
    assert left_out["train/wav.scp: idle"] == "no line of segments is of it"
    assert any("commands are not run" in reason for reason in left_out.values())
    with pytest.raises(SpeechftError, match="Kaldi data folder"):
        prepare("kaldi", tmp_path / "audio", tmp_path / "o2")
    assert prepare("kaldi", tmp_path / "data", tmp_path / "o3").manifest.splits == ("train",)


def test_kaldi_tests_on_eval(tmp_path: Path) -> None:
    for name in ("train", "dev", "eval"):
        sound(tmp_path / f"data/{name}/a.wav")
        written(tmp_path / f"data/{name}/wav.scp", f"{name} a.wav\n")
        written(tmp_path / f"data/{name}/text", f"{name} words of {name}\n")
    rows = prepare("kaldi", tmp_path / "data", tmp_path / "out").manifest
    assert {(u.id, u.split) for u in rows} == {("train", "train"), ("dev", "dev"), ("eval", "test")}


@pytest.mark.parametrize("line", ["u1", "u1 long", "u1 long 0.5", "u1 long zero one"])
def test_kaldi_segments_that_cannot_be_read_are_left_out(tmp_path: Path, line: str) -> None:
    sound(tmp_path / "long.wav", 3.0)
    written(tmp_path / "wav.scp", "long long.wav\n")
    written(tmp_path / "segments", f"{line}\nu2 long 1.5 2 A\n")
    written(tmp_path / "text", "u1 first words\nu2 second\n")
    prepared = prepare("kaldi", tmp_path, tmp_path / "out")
    assert [(u.id, u.start_s, u.end_s) for u in prepared.manifest] == [("u2", 1.5, 2.0)]
    assert [reason for _, reason in prepared.left_out] == ["its line of segments is not 'u1 RECORDING START END'"]


def test_kaldi_channels_of_one_recording_are_not_mixed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", np.zeros((24_000, 2)) + 0.1, 8000)
    sound(tmp_path / "mono.wav", 3.0)
    written(tmp_path / "wav.scp", "call call.wav\nmono mono.wav\n")
    written(tmp_path / "segments", "u1 call 0.5 1 1\nu2 call 0.5 1\nu3 mono 0.5 1 0\n")
    written(tmp_path / "text", "u1 first\nu2 second\nu3 third\n")
    prepared = prepare("kaldi", tmp_path, tmp_path / "out")
    assert [u.id for u in prepared.manifest] == ["u2", "u3"]
    assert [reason for _, reason in prepared.left_out] == [
        "segments names channel 1 of 'call', and channels are not kept apart"
    ]


def test_what_stands_twice_in_a_table_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("one", "two"):
        sound(data / f"{name}.wav")
    written(data / "wav.scp", "u1 one.wav\nu1 two.wav\n")
    written(data / "text", "u1 first words\n\nu1 other words\n")
    written(data / "utt2spk", "u1 anna\nu1 ben\n")
    written(data / "spk2gender", "anna f\n")
    (row,) = (prepared := prepare("kaldi", data, tmp_path / "out")).manifest
    assert (row.text, row.speaker, row.audio.name) == ("first words", "anna", "one.wav")
    already = "line 1 is about 'u1' already"
    assert dict(prepared.left_out) == {"wav.scp:2": already, "text:3": already, "utt2spk:2": already}

    sound(tmp_path / "cdsd/01/wav/train/a.wav")
    written(tmp_path / "cdsd/01/transcript/text.txt", "a 你好\na.wav 再见\n")
    written(tmp_path / "cdsd/01/transcript/train.txt", "a 你好\na 你好\n")
    (row,) = (prepared := prepare("cdsd", tmp_path / "cdsd", tmp_path / "out2")).manifest
    assert row.text == "你好"
    assert dict(prepared.left_out) == {
        "01/transcript/text.txt: a.wav": "an earlier line has another text for the recording",
        "01/transcript/train.txt:2": "line 1 is about 'a' already",
    }


def test_speechocean762(tmp_path: Path) -> None:
    root = tmp_path / "speechocean762"
    for split, speaker, number in (("train", "0001", "000010011"), ("test", "0003", "000030012")):
        sound(root / f"WAVE/SPEAKER{speaker}/{number}.WAV")
        written(root / split / "wav.scp", f"{number}\tWAVE/SPEAKER{speaker}/{number}.WAV\n")
        written(root / split / "text", f"{number}\tWE CALL IT BEAR\n0000\tNOT THERE\n")
        written(root / split / "utt2spk", f"{number}\t{speaker}\n")
        written(root / split / "spk2age", f"{speaker}\t{6 if split == 'train' else 30}\n")
        written(root / split / "spk2gender", f"{speaker}\tm\n")
    scores = {"000010011": {"text": "WE CALL IT BEAR", "accuracy": 8, "total": 7, "words": []}}
    written(root / "resource/scores.json", json.dumps(scores))
    rows = by_id(prepared := prepare("speechocean762", root, tmp_path / "out"))
    child, adult = rows["000010011"], rows["000030012"]
    assert (child.split, child.speaker, child.age, child.gender) == ("train", "0001", 6, "male")
    assert child.extra == {"age_group": "child", "accuracy": 8, "total": 7}
    assert (adult.split, adult.extra["age_group"]) == ("test", "adult")
    assert len(prepared.left_out) == 2


def test_torgo(tmp_path: Path) -> None:
    session = tmp_path / "F/F01/Session1"
    prompts = {
        "0001": "stick", "0002": "input/images/cat.jpg", "0003": "[say Ah-P-Eee repeatedly]", "0004": "xxx", "0005": "",
        "0006": "The quick [loudly] fox",
    }  # fmt: skip
    for number, text in prompts.items():
        written(session / f"prompts/{number}.txt", text + "\n")
        sound(session / f"wav_headMic/{number}.wav")
    for number in ("0001", "0008"):
        sound(session / f"wav_arrayMic/{number}.wav")
    written(session / "prompts/0008.txt", "yes")
    sound(session / "wav_headMic/0009.wav")
    sound(tmp_path / "MC/MC02/Session2/wav_arrayMic/0001.wav")
    written(tmp_path / "MC/MC02/Session2/prompts/0001.txt", "stick")
    rows = by_id(prepared := prepare("torgo", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.extra["microphone"], u.severity, u.gender) for u in rows.values()} == {
        "F01-Session1-0001": ("stick", "wav_headMic", "severe", "female"),
        "F01-Session1-0006": ("The quick fox", "wav_headMic", "severe", "female"),
        "F01-Session1-0008": ("yes", "wav_arrayMic", "severe", "female"),
        "MC02-Session2-0001": ("stick", "wav_arrayMic", "none", "male"),
    }
    assert rows["F01-Session1-0001"].prompt_id == rows["MC02-Session2-0001"].prompt_id
    assert reasons(prepared) == Counter(
        {
            "the prompt is a picture to describe": 1,
            "the prompt is an instruction: [say Ah-P-Eee repeatedly]": 1,
            "marked as unintelligible (xxx)": 1,
            "the prompt is empty": 1,
            "the second microphone's recording of the same utterance": 1,
            "there is no prompt for it": 1,
        }
    )


def test_torgo_takes_the_other_microphone_where_the_first_is_broken_and_names_what_is_missing(tmp_path: Path) -> None:
    session = tmp_path / "F01/Session1"
    written(session / "prompts/0001.txt", "stick")
    written(session / "prompts/0002.txt", "nobody said it")
    sound(session / "wav_arrayMic/0001.wav")
    written(session / "wav_headMic/0001.wav", "")
    sound(tmp_path / "F01/Session2_3/wav_headMic/0001.wav")
    rows = by_id(prepared := prepare("torgo", tmp_path, tmp_path / "out"))
    assert {u.id: u.extra["microphone"] for u in rows.values()} == {"F01-Session1-0001": "wav_arrayMic"}
    where = dict(prepared.left_out)
    assert where["F01/Session1/prompts/0002.txt"] == "there is no recording for it"
    assert where["F01/Session2_3/wav_headMic/0001.wav"] == "there is no prompt for it"
    assert "F01/Session1/wav_headMic/0001.wav" in where
    assert len(where) == 3


def test_uaspeech(tmp_path: Path) -> None:
    for name in ("F02_B1_UW1_M5", "F02_B1_UW1_M2", "F02_B2_C1_M3", "F02_B3_D1_M5", "odd"):
        sound(tmp_path / f"audio/original/F02/{name}.wav")
    sound(tmp_path / "audio/original/CM01/CM01_B1_C1_M5.wav")
    words = {"F02_B1_UW1_M2": "NATURALIZATION", "F02_B2_C1_M3": "COMMAND"}
    written(
        tmp_path / "mlf/F02/F02_word.mlf",
        "#!MLF!#\n" + "".join(f'"*/{name}.lab"\n{word}\n.\n' for name, word in words.items()),
    )
    written(tmp_path / "mlf/CM01/CM01_word.mlf", '#!MLF!#\n"*/CM01_B1_C1_M5.lab"\n0 500 sil\n500 900 COMMAND\n.\n')
    rows = by_id(prepared := prepare("uaspeech", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.split, u.session, u.prompt_id, u.severity) for u in rows.values()} == {
        "F02_B1_UW1": ("NATURALIZATION", "train", "B1", "B1_UW1", "low intelligibility"),
        "F02_B2_C1": ("COMMAND", "test", "B2", "C1", "low intelligibility"),
        "CM01_B1_C1": ("COMMAND", "train", "B1", "C1", "none"),
    }
    assert rows["F02_B1_UW1"].extra["microphone"] == "M5"
    where = dict(prepared.left_out)
    assert where["microphone M2"].startswith("1 recordings")
    assert len(where) == 3
    assert [severity(s) for s in ("M04", "M05", "F05", "X")] == [
        "very low intelligibility", "mid intelligibility", "high intelligibility", None,
    ]  # fmt: skip


def test_uaspeech_names_a_recording_with_two_labels(tmp_path: Path) -> None:
    for name in ("F02_B1_UW1_M5", "F02_B1_UW2_M5"):
        sound(tmp_path / f"audio/original/F02/{name}.wav")
    words = [("UW1", "MOUSE"), ("UW2", "CAT"), ("UW1", "HOUSE"), ("UW2", "CAT")]
    lines = "".join(f'"*/F02_B1_{name}_M5.lab"\n0 5 sil\n5 9 {word}\n9 12 AGAIN\n.\n' for name, word in words)
    written(tmp_path / "mlf/F02/F02_word.mlf", f"#!MLF!#\n{lines}")
    written(tmp_path / "mlf/F03/F03_word.mlf", '#!MLF!#\n"*/F02_B1_UW2_M5.lab"\nDOG\n.\n')
    prepared = prepare("uaspeech", tmp_path, tmp_path / "out")
    assert {u.id: u.text for u in prepared.manifest} == {"F02_B1_UW1": "MOUSE", "F02_B1_UW2": "CAT"}
    assert dict(prepared.left_out) == {
        "mlf/F02/F02_word.mlf:14": "F02_B1_UW1_M5 has the label 'MOUSE' already, not 'HOUSE'",
        "mlf/F03/F03_word.mlf:3": "F02_B1_UW2_M5 has the label 'CAT' already, not 'DOG'",
    }


def test_uaspeech_controls_other_versions_and_broken_microphones(tmp_path: Path) -> None:
    audio = tmp_path / "UASpeech/audio"
    for name in ("F02/F02_B2_C1_M3", "control/CF02/CF02_B2_C1_M5", "control/CF02/CF02_B1_C1_M5", "again/F02_B2_C1_M3"):
        sound(audio / f"original/{name}.wav")
    written(audio / "original/F02/F02_B2_C1_M5.wav", "")
    sound(audio / "noisereduce/F02/F02_B2_C1_M5.wav")
    for speaker in ("F02", "CF02"):
        lines = [f'"*/{speaker}_{block}_C1_M5.lab"\nCOMMAND\n.\n' for block in ("B1", "B2")]
        written(tmp_path / f"UASpeech/mlf/{speaker}/{speaker}_word.mlf", "#!MLF!#\n" + "".join(lines))
    rows = by_id(prepared := prepare("uaspeech", tmp_path, tmp_path / "out"))
    assert {id_: (u.split, u.extra["microphone"]) for id_, u in rows.items()} == {
        "F02_B2_C1": ("test", "M3"), "CF02_B1_C1": ("train", "M5"), "CF02_B2_C1": ("unused", "M5"),
    }  # fmt: skip
    where = dict(prepared.left_out)
    assert where["audio/original/again/F02_B2_C1_M3.wav"].startswith("the same word and microphone as")
    assert where["audio/noisereduce"] == "1 recordings of another version than original"
    assert len(where) == 3


def test_speech_accessibility_project(tmp_path: Path) -> None:
    folder = tmp_path / "SAP/TRAIN/0a-1"
    texts = {
        "0a-1_1.wav": "Set a (um) (ti-) timer [breath] please.\n",
        "0a-1_2.wav": "Call [unintelligible] now",
        "0a-1_3.wav": "#ts\n0.05 0.2 hello (uh)\n0.25 0.45 there\nnonsense\n",
        "0a-1_4.wav": "No recording",
    }
    files = [
        {"Filename": n, "Prompt": {"Prompt Text": "Set a timer.", "Transcript": t, "Category Description": "Commands"}}
        for n, t in texts.items()
    ]
    files.append({"Filename": "0a-1_6.wav", "Prompt": {"Transcript": "#dis\nYes"}})
    written(folder / "0a-1.json", json.dumps({"Contributor ID": "0a-1", "Etiology": "ALS", "Files": files}))
    written(folder / "other.json", "[]")
    for number in (1, 2, 3, 5, 6):
        sound(folder / f"0A-1_{number}.wav")
    rows = by_id(prepared := prepare("sap", tmp_path / "SAP", tmp_path / "out"))
    row = rows.pop("0A-1_1")
    assert (row.text, row.text_verbatim) == ("Set a timer please.", "Set a um ti- timer please.")
    assert (row.speaker, row.split, row.aetiology, row.prompt_id) == ("0a-1", "train", "ALS", "set a timer.")
    assert {u.id: (u.text, u.text_verbatim, u.start_s, u.end_s) for u in rows.values()} == {
        "0A-1_3-1": ("hello", "hello uh", 0.05, 0.2),
        "0A-1_3-2": ("there", None, 0.25, 0.45),
        "0A-1_6": ("Yes", None, None, None),
    }
    assert len(prepared.left_out) == 5


@pytest.mark.parametrize(
    ("transcript", "verbatim", "intended"),
    [
        ("I {g: want} {it} (cs: por favor) (um) now", "I want it por favor um now", "I want it por favor now"),
        ("~C ~B *yes", "C B yes", "C B yes"),
        ("a (u-) an [laughs] end (", "a u- an end", "a an end ("),
    ],
)
def test_marks_of_the_speech_accessibility_project(transcript: str, verbatim: str, intended: str) -> None:
    assert both_references(transcript) == (verbatim, intended)


def test_the_speech_accessibility_project_leaves_out_what_nobody_understood_or_is_there_twice(tmp_path: Path) -> None:
    texts = ("call {w:2} now", "call {u:} now", "call { } now", "fine")
    files: list[object] = [{"Filename": f"TRAIN/{n}.wav", "Prompt": {"Transcript": t}} for n, t in enumerate(texts)]
    files += ["odd", {"Filename": "4.wav", "Prompt": "odd"}]
    for name in ("a", "copy"):
        written(tmp_path / f"TRAIN/{name}.json", json.dumps({"Contributor ID": 7, "Files": files}))
    written(tmp_path / "TRAIN/none.json", json.dumps({"Contributor ID": 8, "Files": None}))
    for number in range(5):
        sound(tmp_path / f"TRAIN/{number}.wav")
    rows = by_id(prepared := prepare("sap", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.speaker) for u in rows.values()} == {"3": ("fine", "7")}
    assert reasons(prepared)["a part of it is unintelligible"] == 3
    assert dict(prepared.left_out)["copy.json:4"] == "an earlier entry has the recording '3.wav'"
    assert dict(prepared.left_out)["TRAIN/none.json"].startswith("is not a contributor's file")


def test_ratings_of_the_speech_accessibility_project_are_a_persons_severity(tmp_path: Path) -> None:
    def ratings(*levels: object) -> list[object]:
        of_intelligibility = [{"Dimension Description": "Intelligibility", "Level": level} for level in levels]
        return [{"Dimension Description": "Harsh voice", "Level": "7"}, *of_intelligibility]

    said = {"Prompt": {"Transcript": "Yes"}}
    people = {
        "rated": [
            {"Filename": "a.wav", **said, "Ratings": ratings("3")},
            {"Filename": "bb.wav", **said, "Ratings": ratings(2)},
        ],
        "not": [{"Filename": "c.wav", **said, "Ratings": ratings("", None, "nan")}, "odd"],
        "odd": [{"Filename": "d.wav", **said, "Ratings": "odd"}],
        "abroad": [{"Filename": "e.wav", "Prompt": {"Transcript": "Yes {f:}"}}],
    }
    for person, files in people.items():
        written(tmp_path / f"DEV/{person}.json", json.dumps({"Contributor ID": person, "Files": files}))
    for name in ("a", "bb", "c", "d", "e"):
        sound(tmp_path / f"DEV/{name}.wav")
    rows = by_id(prepared := prepare("sap", tmp_path, tmp_path / "out"))
    rated = "intelligibility rated 3"  # 2.5 and up
    assert {u.id: u.severity for u in rows.values()} == {"a": rated, "bb": rated, "c": None, "d": None}
    assert dict(prepared.left_out)["abroad.json:1"] == "a part of it is in another language, and not written down"


def test_the_split_of_the_speech_accessibility_project_is_a_whole_word_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "latest/Dev/0a-1"
    files = [{"Filename": "a.wav", "Prompt": {"Transcript": "Yes"}}]
    written(folder / "0a-1.json", json.dumps({"Contributor ID": "0a-1", "Files": files}))
    sound(folder / "a.wav")
    (row,) = prepare("sap", tmp_path / "latest", tmp_path / "out").manifest
    assert (row.split, row.aetiology) == ("dev", None)


def test_l2_arctic(tmp_path: Path) -> None:
    for speaker in ("ABA", "suitcase_corpus"):
        name = "aba" if speaker == "suitcase_corpus" else "arctic_a0001"
        sound(tmp_path / f"{speaker}/wav/{name}.wav")
        written(tmp_path / f"{speaker}/transcript/{name}.txt", "Author of the danger trail")
    written(tmp_path / "ABA/transcript/arctic_a0002.txt", "Nobody read it")
    rows = by_id(prepared := prepare("l2arctic", tmp_path, tmp_path / "out"))
    assert {(u.speaker, u.session, u.gender, u.extra["first_language"]) for u in rows.values()} == {
        ("ABA", "read", "male", "Arabic"),
        ("ABA", "spontaneous", "male", "Arabic"),
    }
    assert len(prepared.left_out) == 1


def test_l2_arctic_as_each_archive_unpacks_into_a_folder_of_its_own(tmp_path: Path) -> None:
    for speaker in ("ABA/ABA", "bdl"):
        sound(tmp_path / f"l2/{speaker}/wav/arctic_a0001.wav")
        written(tmp_path / f"l2/{speaker}/transcript/arctic_a0001.txt", "Author of the danger trail")
    (tmp_path / "l2/ABA/ABA/transcript/arctic_a0001.txt").write_bytes(b"Caf\xe9 of the danger trail")
    sound(tmp_path / "l2/SKA/wav/arctic_a0001.wav")
    rows = list((prepared := prepare("l2arctic", tmp_path, tmp_path / "out")).manifest)
    assert [u.speaker for u in rows] == ["ABA", "bdl"]  # of another corpus, and no speaker of this one
    assert prepared.left_out == (("l2/SKA/wav/arctic_a0001.wav", "there is no transcript for it"),)


def test_cdsd(tmp_path: Path) -> None:
    sound(tmp_path / "01/wav/train/a.wav")
    sound(tmp_path / "01/wav/test/b.wav")
    sound(tmp_path / "01/wav/dev/c.wav")
    written(tmp_path / "01/transcript/text.txt", "a 你好\nb.wav 再见\n")
    rows = by_id(prepared := prepare("cdsd", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.split, u.speaker) for u in rows.values()} == {
        "01-a": ("你好", "train", "01"),
        "01-b": ("再见", "test", "01"),
    }
    assert len(prepared.left_out) == 1
    sound(tmp_path / "02/wav/test/d.wav")  # a speaker without a training part
    written(tmp_path / "02/transcript/text.txt", "d 你好\n")
    assert "02-d" in by_id(prepare("cdsd", tmp_path, tmp_path / "out2"))


def test_cdsd_full_release(tmp_path: Path) -> None:
    for part in ("1h", "10h"):
        sound(tmp_path / f"{part}/Audio/19/S019T024E000N00022.wav")
        written(tmp_path / f"{part}/Text/19_label.txt", f"S019T024E000N00022 {part} 你 好\n")
    sound(tmp_path / "1h/Audio/20/S020T001E000N00001.wav")
    rows = by_id(prepared := prepare("cdsd", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.split, u.speaker, u.extra["part"]) for u in rows.values()} == {
        "1h-19-S019T024E000N00022": ("1h 你 好", None, "19", "1h"),
        "10h-19-S019T024E000N00022": ("10h 你 好", None, "19", "10h"),
    }
    assert len(prepared.left_out) == 1
    assert len(prepare("cdsd", tmp_path / "10h", tmp_path / "out2").manifest) == 1


def test_easycall(tmp_path: Path) -> None:
    names = {
        "f01/Sessione_01": ("f01_01_Attiva vivavoce", "f01_01_Sei", "odd"),
        "m13/Sessione_02": ("m13 _02_Scorri_verso_l’alto",),
        "fc02/Sessione_01": ("fc02_01_Sei",),
        "f04/Sessione_01": ("f04_01_Sei",),
    }
    for folder, stems in names.items():
        for stem in stems:
            sound(tmp_path / "EasyCall" / folder / f"{stem}.wav")
    written(tmp_path / "EasyCall/f01/f01.txt", "f01/Sessione_01/f01_01_Sei.wav\n")
    rows = by_id(prepared := prepare("easycall", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.speaker, u.session, u.severity, u.gender) for u in rows.values()} == {
        "f01_01_Attiva_vivavoce": ("Attiva vivavoce", "f01", "Sessione_01", "mild", "female"),
        "f01_01_Sei": ("Sei", "f01", "Sessione_01", "mild", "female"),
        "m13__02_Scorri_verso_l’alto": ("Scorri verso l’alto", "m13", "Sessione_02", "mild", "male"),
        "fc02_01_Sei": ("Sei", "fc02", "Sessione_01", "none", "female"),
        "f04_01_Sei": ("Sei", "f04", "Sessione_01", None, "female"),
    }
    assert rows["f01_01_Sei"].prompt_id == rows["fc02_01_Sei"].prompt_id == "sei"
    assert (rows["f01_01_Sei"].aetiology, rows["fc02_01_Sei"].aetiology) == ("dysarthria", "none")
    assert reasons(prepared) == Counter({"its name is not SPEAKER_SESSION_PHRASE": 1})


def test_ssnce(tmp_path: Path) -> None:
    written(tmp_path / "TDSC/documents/complete_text", "அவன் வந்தான்\n\nமழை\n")
    for name in ("control/FC01/audio/FC01_1", "severe/MER/audio/MER3", "severe/MER/audio/MER2", "mild/FSI/audio/FSI9"):
        sound(tmp_path / f"TDSC/data/{name}.flac")
    written(tmp_path / "TDSC/data/severe/MER/label/MER3.lab", "0 1 m\n")
    sound(tmp_path / "TDSC/data/spare/MX/audio/MX1.flac")
    rows = by_id(prepared := prepare("ssnce", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.speaker, u.severity, u.gender, u.prompt_id, u.aetiology) for u in rows.values()} == {
        "FC01_1": ("அவன் வந்தான்", "FC01", "none", "female", "1", "none"),
        "MER_3": ("மழை", "MER", "severe", "male", "3", "cerebral palsy"),
    }
    assert reasons(prepared) == Counter(
        {
            "there is no text": 1,
            "complete_text has no line for it": 1,
            "its class is none of control, mild, moderate, severe": 1,
        }
    )
    (tmp_path / "TDSC/documents/complete_text").unlink()
    with pytest.raises(SpeechftError, match="complete_text"):
        prepare("ssnce", tmp_path, tmp_path / "out2")


def test_nemours(tmp_path: Path) -> None:
    for name in ("SENT/BB/WAV/BB1", "SENT/BB/WAV/JPBB1", "SENT/KS/WAV/KS2", "SENT/KS/WAV/KS3", "PARA/BB/WAV/BBPARA1"):
        sound(tmp_path / f"SPEECH/{name}.wav").rename(tmp_path / f"SPEECH/{name}.WAV")
    written(tmp_path / "SPEECH/SENT/BB/TXT/BB1.TXT", "The bash is pairing the\nbath.\n")
    written(tmp_path / "SPEECH/SENT/BB/TXT/JPBB1.TXT", "The bash is pairing the bath.")
    written(tmp_path / "SPEECH/SENT/KS/WRD/KS2.WRD", "0 10 sil\n10 20 the\n20 30 dive\n")
    written(tmp_path / "SPEECH/PARA/BB/TXT/BBPARA1.TXT", "You wished to know all about my grandfather.")
    rows = by_id(prepared := prepare("nemours", tmp_path, tmp_path / "out"))
    assert {u.id: (u.text, u.speaker, u.session, u.aetiology, u.extra["kind"]) for u in rows.values()} == {
        "BB-BB1": ("The bash is pairing the bath.", "BB", "BB", "dysarthria", "sentence"),
        "BB-JPBB1": ("The bash is pairing the bath.", "JP", "BB", "none", "sentence"),
        "KS-KS2": ("the dive", "KS", "KS", "dysarthria", "sentence"),
        "BB-BBPARA1": ("You wished to know all about my grandfather.", "BB", "BB", "dysarthria", "paragraph"),
    }
    assert rows["BB-BB1"].prompt_id == rows["BB-JPBB1"].prompt_id
    assert reasons(prepared) == Counter({"there is no KS3.TXT or KS3.WRD of its own with words in it": 1})


def test_nemours_takes_the_nearest_text_of_one_name(tmp_path: Path) -> None:
    for speaker in ("BB", "KS"):
        sound(tmp_path / f"SPEECH/SENT/{speaker}/WAV/S1.wav").rename(tmp_path / f"SPEECH/SENT/{speaker}/WAV/S1.WAV")
        written(tmp_path / f"SPEECH/SENT/{speaker}/TXT/S1.TXT", f"The {speaker} is pairing the bath.")
    rows = by_id(prepare("nemours", tmp_path, tmp_path / "out"))
    assert {u.speaker: u.text for u in rows.values()} == {s: f"The {s} is pairing the bath." for s in ("BB", "KS")}


CHA = """@UTF8
@Begin
@Languages:\teng
@Participants:\tPAR Participant, INV Investigator
@ID:\teng|Bank|PAR|62;03.|female|Broca||Participant|||
@Media:\tstory1, audio
*INV:\twhat happened ? \x150_900\x15
*PAR:\twell &-um I <I want> [/] I wanted to go
\tto the shop [: store] [* s:r] . \x151000_2000\x15
*PAR:\txxx the boy . \x152000_2500\x15
*PAR:\tyes .
*PAR:\t&=laughs . \x152500_2900\x15
@End
"""
ID = "|PAR|71;02.|male|Anomic||Participant||86.8|"


def test_talkbank(tmp_path: Path) -> None:
    written(tmp_path / "Aphasia/story1.cha", CHA)
    sound(tmp_path / "media/story1.wav", 3.0)
    written(tmp_path / "Aphasia/story2.cha", CHA.replace("story1", "story2"))
    written(tmp_path / "Aphasia/bad.cha", "nothing")
    rows = by_id(prepared := prepare("talkbank", tmp_path, tmp_path / "out"))
    (row,) = rows.values()
    assert row.text == "well I I wanted to go to the store"
    assert row.text_verbatim == "well um I I want I wanted to go to the shop"
    assert (row.start_s, row.end_s, row.speaker, row.age, row.gender) == (1.0, 2.0, "story1", 62, "female")
    assert (row.aetiology, row.language) == ("Broca", "en")
    assert len(prepared.left_out) == 6


def test_talkbank_in_another_language(tmp_path: Path) -> None:
    """Its codes have three letters, and a model leaves out rows in a language that it has no token for."""
    written(tmp_path / "Aphasia/story1.cha", CHA.replace("eng", "por"))
    sound(tmp_path / "Aphasia/story1.wav", 3.0)
    assert {u.language for u in prepare("talkbank", tmp_path, tmp_path / "out").manifest} == {"pt"}


def test_talkbank_names_one_person_over_visits_and_knows_children(tmp_path: Path) -> None:
    for visit in "ab":
        text = CHA.replace("story1", f"holland01{visit}").replace("|PAR|62;03.|female|Broca||Participant|||", ID)
        written(tmp_path / f"Aphasia/holland01{visit}.cha", text)
        sound(tmp_path / f"Aphasia/holland01{visit}.wav", 3.0)
    child = CHA.replace("story1", "24fa").replace("PAR", "CHI").replace("Broca", "stutter")
    child = child.replace("||Participant|||", "||Target_Child||12|")  # a number that is no Aphasia Quotient
    written(tmp_path / "Fluency/24fa.cha", child)
    sound(tmp_path / "Fluency/24fa.wav", 3.0)
    rows = list(prepare("talkbank", tmp_path, tmp_path / "out").manifest)
    assert {(u.speaker, u.session, u.severity, u.extra.get("quotient")) for u in rows} == {
        ("holland01", "a", "mild", 86.8),
        ("holland01", "b", "mild", 86.8),
        ("24fa", None, None, None),
    }


def test_talkbank_gives_every_transcript_of_one_name_its_own_recording(tmp_path: Path) -> None:
    """As FluencyBank's Voices-AWS is: the same people's interview and reading, by the same names of files."""
    for task in ("interview", "reading", "retell"):
        written(tmp_path / f"cha/Voices/{task}/24fa.cha", CHA.replace("story1", "24fa").replace("shop", task))
    for task, seconds in (("interview", 2.5), ("reading", 3.0)):
        sound(tmp_path / f"media/Voices/{task}/24fa.wav", seconds)
    sound(tmp_path / "media/Voices/reading/24fa.mp3", 3.0)
    sound(tmp_path / "media/Voices/reading/25fa.wav")
    rows = by_id(prepared := prepare("talkbank", tmp_path, tmp_path / "out"))
    assert {id_: (u.audio.parent.name, u.audio.suffix, u.speaker, u.session) for id_, u in rows.items()} == {
        "cha-Voices-interview-24fa-8": ("interview", ".wav", "24fa", "interview"),
        "cha-Voices-reading-24fa-8": ("reading", ".wav", "24fa", "reading"),
    }
    where = dict(prepared.left_out)
    assert "none is nearest" in where["cha/Voices/retell/24fa.cha"]
    assert where["media/Voices/reading/25fa.wav"] == "there is no transcript for it"
    assert "media/Voices/reading/24fa.mp3" not in where


@pytest.mark.parametrize(
    ("quotient", "name"),
    [(25, "very severe"), (25.1, "severe"), (75, "moderate"), (100, "mild"), (None, None), (400, None)],
)
def test_aphasia_quotient(quotient: float | None, name: str | None) -> None:
    assert talkbank.severity(quotient) == name


def test_sep28k_says_why_it_cannot_train(tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="no transcripts"):
        prepare("sep28k", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", sorted(set(CORPORA) - {"folder", "csv", "hub", "simulated", "sep28k", "kaldi"}))
def test_another_tree_is_refused(tmp_path: Path, name: str) -> None:
    sound(tmp_path / "source/a.wav")
    with pytest.raises(SpeechftError, match="does not look like"):
        prepare(name, tmp_path / "source", tmp_path / "out")
    with pytest.raises(SpeechftError, match="not a folder"):
        prepare(name, tmp_path / "nowhere", tmp_path / "out")


def test_linked_recordings_are_taken_when_they_may_lie_outside(tmp_path: Path) -> None:
    """As git-annex keeps them: every recording a link into a store."""
    sound(tmp_path / "store/object.wav")
    written(tmp_path / "torgo/F01/Session1/prompts/0001.txt", "stick")
    (tmp_path / "torgo/F01/Session1/wav_headMic").mkdir()
    (tmp_path / "torgo/F01/Session1/wav_headMic/0001.wav").symlink_to(tmp_path / "store/object.wav")
    with pytest.raises(SpeechftError, match="allow_outside takes it"):
        corpora.prepare("torgo", tmp_path / "torgo", tmp_path / "out")
    prepared = corpora.prepare("torgo", tmp_path / "torgo", tmp_path / "out", allow_outside=True)
    assert [u.id for u in prepared.manifest] == ["F01-Session1-0001"]
    assert prepared.manifest[0].audio.is_relative_to(tmp_path / "out/audio")
