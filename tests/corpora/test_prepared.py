"""One row or file that cannot be used is named and left out, whatever is wrong with it; the others go on."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechft import corpora
from speechft.audio import holds_nothing
from speechft.corpora.prepared import Prepared
from speechft.corpora.reading import read_text
from speechft.errors import SpeechftError
from speechft.manifest import Utterance
from speechft.row_problems import sample_problems


def clip(path: Path, text: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(4000), 8000, format="WAV")
    if text is not None:
        path.with_suffix(".txt").write_text(text, "utf-8")
    return path


def loop(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)


def prepare(name: str, source: Path, out: Path) -> dict[str, str]:
    """What was left out and why; the one good row was taken, and what was written can be read."""
    prepared: Prepared = corpora.prepare(name, source, out)
    assert [u.text for u in prepared.manifest] == ["one"]
    with (out / "left_out.csv").open(encoding="utf-8", newline="") as file:
        assert [tuple(row) for row in csv.reader(file)][1:] == list(prepared.left_out)
    return dict(prepared.left_out)


def test_a_recording_that_is_there_twice_is_taken_once(tmp_path: Path) -> None:
    one = clip(tmp_path / "source" / "a.wav", "one")
    for name, text in (("again.wav", "one"), ("other.wav", "another text")):
        (tmp_path / "source" / name).write_bytes(one.read_bytes())
        (tmp_path / "source" / name).with_suffix(".txt").write_text(text)
    prepared = corpora.prepare("folder", tmp_path / "source", tmp_path / "out")
    assert [(u.audio.name, u.text) for u in prepared.manifest] == [("a.wav", "one"), ("other.wav", "another text")]
    assert prepared.left_out == (("again.wav", "the same recording and text as a.wav"),)
    assert not list((tmp_path / "out").rglob("again.wav"))


def test_a_recording_of_nothing_is_left_out(tmp_path: Path) -> None:
    """Each is one that `speechft check` calls silent; one that says so itself is taken, and so is a stretch."""
    source, noise = tmp_path / "source", np.random.default_rng(0).standard_normal(9_000)
    sounds = {"zeros": 0 * noise, "offset": 0 * noise + 0.1, "dither": 1e-5 * noise, "faint": 1e-3 * noise}
    sounds["late"] = np.concatenate([0 * noise, noise / 10])
    source.mkdir()
    rows = ["audio,text,no_speech,start_s,end_s"]
    for name, samples in sounds.items():
        u = Utterance(source / name, "one", name)
        silent = any(p.kind == "silent" for p in sample_problems(u, samples.astype(np.float32)))
        for ending in ("wav", "flac"):
            soundfile.write(source / f"{name}.{ending}", samples, 16_000)
            rows.append(f"{name}.{ending},one,,,")
            assert holds_nothing(source / f"{name}.{ending}") == silent == (name not in ("faint", "late"))
    rows += ["zeros.wav,,true,,", "late.wav,one,,0.0,0.3"]
    (source / "t.csv").write_text("\n".join(rows))
    prepared = corpora.prepare("csv", source / "t.csv", tmp_path / "out")
    taken = ["faint.wav", "faint.flac", "late.wav", "late.flac", "zeros.wav", "late.wav"]
    assert [u.audio.name for u in prepared.manifest] == taken
    for odd in (np.nan, np.inf, -np.inf):
        soundfile.write(tmp_path / "odd.wav", np.array([0, odd, -odd] * 9), 16_000, subtype="FLOAT")
        assert not holds_nothing(tmp_path / "odd.wav")
    names = [f"{name}.{ending}" for name in ("zeros", "offset", "dither") for ending in ("wav", "flac")]
    assert [reason for _, reason in prepared.left_out] == [f"audio '{name}' is silent" for name in names]


ODD_NAMES = ("a\0b.wav", "n" * 300 + ".wav", "d/" * 3000 + "a.wav", "\ud800.wav", "loop.wav", "loop/a.wav")


@pytest.mark.parametrize("odd", ODD_NAMES)
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "scp"])
def test_a_row_whose_recording_no_file_can_be_is_left_out(tmp_path: Path, odd: str, ending: str) -> None:
    clip(tmp_path / "a.wav")
    loop(tmp_path / "loop.wav")
    loop(tmp_path / "loop")
    if ending == "jsonl":
        rows = [json.dumps({"audio": name, "text": text}) for name, text in (("a.wav", "one"), (odd, "two"))]
        table = tmp_path / "t.jsonl"
        table.write_text("\n".join(rows))
    elif odd.isprintable() or "\0" in odd:
        mark = "," if ending == "csv" else "\t"
        table = tmp_path / f"t.{ending}"
        table.write_text("\n".join(mark.join(row) for row in (("audio", "text"), ("a.wav", "one"), (odd, "two"))))
    else:
        pytest.skip("a UTF-8 table holds no half character")
    if ending == "scp":
        table.unlink()
        (tmp_path / "wav.scp").write_text(f"u1 a.wav\nu2 {odd}\n")
        (tmp_path / "text").write_text("u1 one\nu2 two\n")
        table = tmp_path
    ((where, reason),) = prepare("kaldi" if ending == "scp" else "csv", table, tmp_path / "out").items()
    assert reason
    assert "2" in where or "3" in where


def test_a_field_longer_than_the_csv_module_takes_by_itself(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav")
    (tmp_path / "t.csv").write_text(f"audio,text,note\na.wav,one,{'x' * 200_000}\n")
    script = (
        "import sys; from speechft import corpora; "  # in a process in which nobody has raised the limit
        "print(len(corpora.prepare('csv', *sys.argv[1:]).manifest[0].extra['note']))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "t.csv"), str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "200000\n"


def test_loops_and_odd_names_in_a_folder(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "one")
    loop(tmp_path / "s/b.wav")
    (tmp_path / "s/b.txt").write_text("two")
    clip(tmp_path / "s/c.wav")
    loop(tmp_path / "s/c.txt")
    (tmp_path / "s/up").symlink_to("..")
    for ending in (b".wav", b".txt"):
        os.link(tmp_path / f"s/a{ending.decode()}", os.fsencode(tmp_path) + b"/s/caf\xe9" + ending)
    left_out = prepare("folder", tmp_path / "s", tmp_path / "out")
    assert left_out.keys() == {"b.wav", "c.txt", "caf\\udce9.wav"}
    assert all(left_out.values())


def test_a_link_to_a_name_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "one")
    odd = os.fsencode(tmp_path) + b"/s/.caf\xe9.wav"
    clip(tmp_path / "s/b.wav", "two").rename(odd.decode("utf-8", "surrogateescape"))
    (tmp_path / "s/b.wav").symlink_to(os.fsdecode(odd))
    assert "not UTF-8" in prepare("folder", tmp_path / "s", tmp_path / "out")["b.wav"]


def test_the_longest_name_of_a_recording_is_copied(tmp_path: Path) -> None:
    clip(tmp_path / "s" / ("n" * 251 + ".wav"), None)
    (tmp_path / "s" / ("n" * 251 + ".txt")).write_text("one")
    assert prepare("folder", tmp_path / "s", tmp_path / "out") == {}


def test_what_was_left_out_is_printed_and_written_whatever_its_name(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "one")
    os.link(tmp_path / "s/a.wav", os.fsencode(tmp_path) + b"/s/caf\xe9\x1b]0;t\x07.wav")
    out = os.fsencode(tmp_path) + b"/out\xff"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    for words in ([], ["--json"]):
        command = [sys.executable, "-m", "speechft.cli", "prepare", "folder", str(tmp_path / "s"), out, *words]
        done = subprocess.run(command, capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert b"\x1b]" not in done.stderr
    told = json.loads(done.stdout.decode())
    assert [row["where"] for row in told["left_out"]] == ["caf\\udce9\x1b]0;t\x07.wav"]
    assert os.fsencode(told["manifest"]) == out + b"/manifest.jsonl"


TREES = {
    "torgo": ("F01/Session1/prompts/{}.txt", "F01/Session1/wav_headMic/{}.wav"),
    "l2arctic": ("ABA/transcript/{}.txt", "ABA/wav/{}.wav"),
    "nemours": ("S/BB/{}.TXT", "S/BB/WAV/{}.WAV"),
}


@pytest.mark.parametrize("name", TREES)
def test_a_transcript_that_is_no_file_leaves_its_recording_out(tmp_path: Path, name: str) -> None:
    text, sound = TREES[name]
    for stem in "abc":
        clip(tmp_path / "s" / sound.format(stem))
    (tmp_path / "s" / text.format("a")).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "s" / text.format("a")).write_text("one")
    loop(tmp_path / "s" / text.format("b"))
    (tmp_path / "s" / text.format("c")).mkdir()
    left_out = prepare(name, tmp_path / "s", tmp_path / "out")
    assert left_out.keys() >= {sound.format("b"), sound.format("c")}


def test_reading_a_text_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbfone")
    assert read_text(tmp_path / "t") == "one"
    loop(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    for name, what in (("loop", "not a file"), ("pipe", "not a file"), (".", "not a file"), ("latin", "not UTF-8")):
        with pytest.raises(SpeechftError, match=f"is {what}"):
            read_text(tmp_path / name)
