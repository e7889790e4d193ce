"""A recording of which only the beginning is there is used, and everybody who uses it is told."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from test_audio import tone, write_av
from typer.testing import CliRunner

from speechft.audio import load_audio
from speechft.check import check
from speechft.cli.common import app
from speechft.cut_off import cut_off
from speechft.errors import SpeechftError

READ = ("wav", "mp3", "ogg", "opus", "webm")  # of what is there
REFUSED = ("flac", "m4a")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of noise in each format."""
    folder = tmp_path_factory.mktemp("whole")
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * 4).astype(np.float32)
    for ending in ("wav", "mp3", "ogg", "flac"):
        soundfile.write(folder / f"a.{ending}", samples, 16_000)
    soundfile.write(folder / "a.opus", samples, 16_000, format="OGG", subtype="OPUS")
    write_av(folder / "a.m4a", tone(16_000, seconds=4), 16_000, "aac")
    write_av(folder / "a.webm", tone(48_000, seconds=4), 48_000, "libopus")
    return folder


def part(whole: Path, ending: str, folder: Path, share: float = 0.5) -> Path:
    data = (whole / f"a.{ending}").read_bytes()
    path = folder / f"part.{ending}"
    path.write_bytes(data[: int(share * len(data))])
    return path


@pytest.mark.parametrize("ending", [*READ, *REFUSED])
def test_the_beginning_of_a_recording_is_told_from_a_whole_one(whole: Path, ending: str, tmp_path: Path) -> None:
    assert not cut_off(whole / f"a.{ending}")
    for share in (0.1, 0.5, 0.9):
        path = part(whole, ending, tmp_path, share)
        assert "is cut off" in cut_off(path)
    if ending in READ:
        assert load_audio(path).size > 16_000
    else:
        with pytest.raises(SpeechftError, match="cannot be decoded: it is cut off"):
            load_audio(path)


def test_an_mp3_without_a_count_of_its_bytes_is_judged_by_its_last_frame(whole: Path, tmp_path: Path) -> None:
    data = (whole / "a.mp3").read_bytes()
    frames = data[288:]  # the first, of 64 kbit/s at 16 kHz, has the count
    path = tmp_path / "a.mp3"
    for content, cut in ((frames, False), (frames + b"TAG".ljust(128), False), (frames[:-100], True)):
        path.write_bytes(content)
        assert bool(cut_off(path)) == cut
        path.write_bytes(b"ID3\x04\0\0\0\0\x01\0" + bytes(128) + content)
        assert bool(cut_off(path)) == cut


def test_an_mp3_that_ends_in_its_first_frame_is_judged_all_the_same(whole: Path, tmp_path: Path) -> None:
    data, path = (whole / "a.mp3").read_bytes(), tmp_path / "a.mp3"
    for length in range(1, 60):
        path.write_bytes(data[:length])
        cut_off(path)
        with pytest.raises(SpeechftError):
            load_audio(path)


def test_what_is_open_ended_or_no_sound_is_left_in_peace(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    stream = bytearray((whole / "a.wav").read_bytes())
    stream[4:8] = b"\xff" * 4  # as a program writes that does not know yet how much will come
    webm = io.BytesIO()
    with av.open(webm, "w", format="webm", options={"live": "1"}) as out:  # as browsers record
        track = out.add_stream("libopus", rate=48_000)
        frame = av.AudioFrame.from_ndarray(tone(48_000, seconds=1).T.copy(), format="fltp", layout="mono")
        frame.rate = 48_000
        out.mux([*track.encode(frame), *track.encode(None)])
    for content in (bytes(stream), webm.getvalue(), b"", b"hello", b"\xff" * 5000, b"fLaC", b"OggS"[:3], b"ID3"):
        path.write_bytes(content)
        assert not cut_off(path)


@pytest.mark.parametrize("damaged", [b"OggS", b"OggS" + bytes(22) + b"\xff", b"RIFF\xff\xff\0\0WAVE"])
def test_nothing_but_a_beginning(damaged: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(damaged)
    assert cut_off(path)


def test_everybody_who_uses_it_is_told(voice, tmp_path: Path) -> None:
    rows = []
    for number, u in enumerate(voice[:8]):
        name = f"{number}.mp3"
        soundfile.write(tmp_path / name, u.load(), 16_000)
        rows.append({"audio": name, "text": u.text, "split": ("train", "dev", "test")[min(2, number // 3)]})
    for number in (1, 7):
        path = tmp_path / f"{number}.mp3"
        path.write_bytes(path.read_bytes()[:-4000])
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cut = [p.where for p in check(manifest) if p.kind == "truncated"]
    assert cut == ["m.jsonl:2", "m.jsonl:8"]
    cli, advice = CliRunner(), "is cut off: .*Copy the file again"
    small = ["max_steps=1", "evaluations=1", "test=false", "adapter.rank=1"]
    for words, where in (
        (["transcribe", str(tmp_path / "1.mp3")], "1.mp3"),
        (["evaluate", "--manifest", str(manifest)], "m.jsonl:8"),
        (["train", f"manifest={manifest}", f"output_dir={tmp_path / 'out'}", *small], "m.jsonl:2"),
    ):
        done = cli.invoke(app, words)
        told = " ".join((done.output + done.stderr).split())
        assert done.exit_code == 0, told
        assert where in told
        assert "is cut off: " in told
        assert advice.rpartition("*")[2] in told


def test_the_reader_of_mp3_does_not_write_to_the_terminal(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = part(whole, "mp3", tmp_path)
    shutil.copy(path, odd := tmp_path / "é.mp3")
    assert np.array_equal(load_audio(path), load_audio(odd))
    assert capfd.readouterr() == ("", "")
