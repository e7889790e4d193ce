"""Broken corpora, through what `speechft prepare` runs: each as a tiny tree, with one thing wrong in it at a time.

    python benchmarks/faults/bad_corpora.py

Each must end with a sentence, or with a manifest that can be read and a list of what was left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from common import ended_well, run
from tally import Tally

CHA = """@UTF8
@Begin
@Languages:\teng
@Participants:\tPAR Participant, INV Investigator
@ID:\teng|Bank|PAR|62;03.|female|Broca||Participant||71.5|
@Media:\tstory, audio
*INV:\twhat happened ? \x150_90\x15
*PAR:\twell &-um I <I want> [/] I wanted to go
\tto the shop [: store] [* s:r] . \x15100_400\x15
@End
"""
SAP = {
    "Contributor ID": "c1", "Etiology": "ALS",
    "Files": [
        {"Filename": "a.wav", "Prompt": {"Transcript": "I (um)", "Prompt Text": "I", "Category Description": "x"}},
        {"Filename": "b.wav", "Prompt": {"Transcript": "#ts\n0.1 0.4 two words"}},
    ],
}  # fmt: skip
CV = "client_id\tpath\tsentence_id\tsentence\tage\tgender\taccents\tlocale\na\ta.mp3\ts\tGuten Tag\tten\tmale\t\tde\n"
KALDI = {
    "wav.scp": "u1 a.wav\nu2 b.wav\n", "text": "u1 one\nu2 two\n", "utt2spk": "u1 x\nu2 y\n", "spk2gender": "x f\n",
}  # fmt: skip
SCORED = {f"{part}/{name}": text for part in ("train", "test") for name, text in KALDI.items()}
ROWS = '{"audio": "a.wav", "text": "one", "speaker": "x", "start_s": 0.1}\n{"audio": "b.wav", "text": "two"}\n'
TABLE = "path,sentence,speaker,start\na.wav,one,x,0.1\nb.wav,two,y,\n"

# Texts by their names; a name that ends like sound is a recording.
TREES: dict[str, dict[str, str]] = {
    "folder": {
        "s/a.wav": "", "s/a.txt": "one", "s/b.wav": "", "s/1.trans.txt": "b two\n", "m/metadata.csv": TABLE,
        "m/a.wav": "",
    },
    "csv": {"table.csv": TABLE, "a.wav": "", "b.wav": ""},
    "csv tsv": {"table.tsv": TABLE.replace(",", "\t"), "a.wav": "", "b.wav": ""},
    "csv jsonl": {"table.jsonl": ROWS, "a.wav": "", "b.wav": ""},
    "cdsd": {"19/wav/train/a.wav": "", "19/wav/test/b.wav": "", "19/transcript/19_label.txt": "a 你好\nb 再见\n"},
    "commonvoice": {"de/clips/a.mp3": "", "de/train.tsv": CV, "de/dev.tsv": CV, "de/validated.tsv": CV},
    "easycall": {"f01/Sessione_01/f01_01_Sei.wav": "", "f01/Sessione_01/f01_02_Sei.wav": ""},
    "kaldi": {**KALDI, "a.wav": "", "b.wav": ""},
    "kaldi segments": {**KALDI, "segments": "u1 u1 0.1 0.3\nu2 u1 0.2 -1\n", "a.wav": "", "b.wav": ""},
    "l2arctic": {
        "A/wav/a.wav": "", "A/transcript/a.txt": "one", "A/wav/b.wav": "", "A/transcript/b.txt": "two",
    },
    "librispeech": {
        "test-clean/6/7/6-7.trans.txt": "6-7-0 ONE\n6-7-1 TWO\n", "test-clean/6/7/6-7-0.flac": "",
        "test-clean/6/7/6-7-1.flac": "", "SPEAKERS.TXT": "6 | M | test-clean | 8.08 | A Name\n",
    },
    "nemours": {"S/BB/WAV/a.WAV": "", "S/BB/a.TXT": "one", "S/BB/WAV/b.WAV": "", "S/BB/b.WRD": "0 9 sil\n9 20 two\n"},
    "sap": {"TRAIN/c1/c1.json": json.dumps(SAP), "TRAIN/c1/a.wav": "", "TRAIN/c1/b.wav": ""},
    "speechocean762": {
        **SCORED, **dict.fromkeys(("train/spk2age", "test/spk2age"), "x 6\ny 30\n"), "a.wav": "", "b.wav": "",
        "resource/scores.json": json.dumps({"u1": {"text": "one", "accuracy": 8, "total": 7.5, "words": []}}),
    },
    "ssnce": {
        "documents/complete_text": "அவன்\nமழை\n", "data/mild/FSI/audio/FSI1.wav": "",
        "data/mild/FSI/audio/FSI2.wav": "",
    },
    "talkbank": {"A/one.cha": CHA.replace("story", "one"), "A/one.wav": "", "B/story.cha": CHA, "B/story.wav": ""},
    "torgo": {
        "F01/Session1/prompts/1.txt": "stick", "F01/Session1/wav_headMic/1.wav": "",
        "F01/Session1/wav_arrayMic/1.wav": "",
    },
    "uaspeech": {
        "mlf/F02/F02_word.mlf": '#!MLF!#\n"*/F02_B1_C1_M5.lab"\nCOMMAND\n.\n',
        "audio/original/F02/F02_B1_C1_M5.wav": "",
    },
}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, 5, "x", "", [], {}, [None], {"a": []}, float("nan"), -1, True, 10**400, "\ud800", "a\0b", "x" * 300, "../x",
    "a/" * 3000, "x" * 200_000,
)  # fmt: skip
CELLS = (
    "", "5", "a\0b", "x" * 300, "\u00b2", "9" * 5000, "a/" * 3000, "x" * 200_000, "../../etc/passwd", "|", '"', "nan",
)  # fmt: skip
SOUNDS = (".wav", ".WAV", ".mp3", ".flac")


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("broken corpora", notes=f"{len(TREES)} layouts: damaged texts, odd values, names and links")
    with tempfile.TemporaryDirectory() as work:
        for name, files in TREES.items():
            if a.only and name not in a.only:
                continue
            for fault, spoil in faults(files):
                root, out = Path(work) / "in", Path(work) / "out"
                build(root, files)
                spoil(root)
                tally.count(f"{name}: {fault}", prepared(name, root, out))
                shutil.rmtree(root)
                shutil.rmtree(out, ignore_errors=True)
    return tally


def build(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in SOUNDS:
            samples = 0.1 * np.random.default_rng(0).standard_normal(8000)
            soundfile.write(path, samples, 16_000, format={".mp3": "MP3", ".flac": "FLAC"}.get(path.suffix, "WAV"))
        else:
            path.write_text(text, encoding="utf-8")


def prepared(name: str, root: Path, out: Path) -> str | None:
    """What is wrong with how a corpus was prepared."""
    from speechft.cli.data import prepare
    from speechft.errors import SpeechftError
    from speechft.manifest import Manifest

    corpus = name.split()[0]
    source = root / next(iter(TREES[name])) if corpus == "csv" else root
    wrong = ended_well(lambda: prepare(corpus, str(source), out))
    if wrong or not (out / "left_out.csv").exists():
        return wrong
    try:
        with (out / "left_out.csv").open(encoding="utf-8", newline="") as file:
            if any(len(row) != 2 or not row[1] for row in csv.reader(file)):
                return "a row of left_out.csv is not a place and a reason"
        if (out / "manifest.jsonl").exists():
            for utterance in Manifest.load(out / "manifest.jsonl"):
                utterance.load()
    except (OSError, ValueError, csv.Error, SpeechftError) as error:
        return f"what was written cannot be read: {error}"
    return None


Fault = tuple[str, Callable[[Path], object]]


def faults(files: dict[str, str]) -> Iterator[Fault]:
    yield "nothing", lambda root: None
    for name, text in files.items():
        for what, spoil in in_its_place():
            yield f"{what} for {name}", lambda root, name=name, spoil=spoil: spoil(root / name)
        if Path(name).suffix in SOUNDS:
            continue
        for what, data in damaged(name, text):
            yield f"{name} {what}", lambda root, name=name, data=data: (root / name).write_bytes(data)
    for folder in sorted({str(Path(name).parent) for name in files}):
        for what, spoil in beside(files):
            yield f"{what} in {folder}", lambda root, folder=folder, spoil=spoil: spoil(root / folder)


def in_its_place() -> list[Fault]:
    """What may stand where a file should."""

    def link(path: Path, target: object) -> None:
        path.unlink()
        path.symlink_to(str(target))

    def folder(path: Path) -> None:
        path.unlink()
        path.mkdir()

    def pipe(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    return [
        ("a loop of links", lambda path: link(path, path.name)),
        ("a dangling link", lambda path: link(path, "gone")),
        ("a link outside", lambda path: link(path, "/etc/hostname")),
        ("a link to a device", lambda path: link(path, "/dev/zero")),
        ("a folder", folder),
        ("a pipe", pipe),
        ("nothing", lambda path: path.unlink()),
        ("no content", lambda path: path.write_bytes(b"")),
        ("noise", lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000))),
    ]


def beside(files: dict[str, str]) -> Iterator[Fault]:
    """What may stand beside the files of a corpus: all of them again under an odd name, and loops."""

    def again(folder: Path, odd: bytes) -> None:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            ending = os.fsencode(path.suffix)
            shutil.copyfile(path, os.path.join(os.fsencode(folder), odd[: 255 - len(ending)] + ending))

    def loop(folder: Path) -> None:
        (folder / "loop").symlink_to("loop")
        (folder / "up").symlink_to("..")
        for ending in (".wav", ".txt", ".json", ".cha", ".mlf", ".lab"):
            (folder / f"loop{ending}").symlink_to(f"loop{ending}")

    yield "names that are not UTF-8", lambda folder: again(folder, b"caf\xe9\xff")
    yield "names of 255 bytes", lambda folder: again(folder, b"n" * 255)
    yield "names with escape sequences", lambda folder: again(folder, b"\x1b]0;t\x07\n[red]")
    yield "loops", loop


def damaged(name: str, text: str) -> Iterator[tuple[str, bytes]]:
    """(what, content) of a text file with something wrong."""
    data = text.encode()
    for at in range(1, len(data), max(1, len(data) // 8)):
        yield f"cut at {at}", data[:at]
        yield f"with another byte at {at}", data[:at] + b"\xff" + data[at + 1 :]
        yield f"with a zero byte at {at}", data[:at] + b"\0" + data[at:]
    yield "in UTF-16", text.encode("utf-16")
    yield "with a mark", b"\xef\xbb\xbf" + data
    yield "twice", data + data
    yield "with a long line", data + b"x " * 200_000
    if name.endswith((".json", ".jsonl")):
        yield from odd_json(text)
    else:
        yield from odd_cells(text)


def odd_json(text: str) -> Iterator[tuple[str, bytes]]:
    """A JSON file with each value replaced by each odd one in turn, and nested deeply."""
    lines = [json.loads(line) for line in text.splitlines()]
    for row, value in enumerate(lines):
        for where in places(value):
            for odd in ODD:
                changed = [replaced(v, where, odd) if n == row else v for n, v in enumerate(lines)]
                said = "\n".join(json.dumps(v) for v in changed)
                yield f"{'.'.join(map(str, where))} is {str(odd)[:12]!a}", said.encode()
            for depth in (500, 5000, 200_000):
                deep = json.dumps(replaced(value, where, "@")).replace('"@"', "[" * depth + "]" * depth)
                yield f"{'.'.join(map(str, where))} is {depth} deep", deep.encode()
            digits = json.dumps(replaced(value, where, "@")).replace('"@"', "9" * 5000)
            yield f"{'.'.join(map(str, where))} has 5000 digits", digits.encode()


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from places(part, (*at, key))


def replaced(value: Any, at: tuple[Any, ...], odd: Any) -> Any:
    if not at:
        return odd
    copy = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], odd)
    return copy


def odd_cells(text: str) -> Iterator[tuple[str, bytes]]:
    """A table or transcript with each of its cells replaced by each odd one in turn, or gone; each column gone."""
    mark = next((mark for mark in ("\t", ",", "|") if mark in text), " ")
    lines = [line.split(mark) for line in text.splitlines()]
    for row, cells in enumerate(lines):
        for column in range(len(cells)):
            for odd in (*CELLS, None):
                changed = [*cells[:column], *([] if odd is None else [odd]), *cells[column + 1 :]]
                said = [changed if n == row else line for n, line in enumerate(lines)]
                yield f"{row}.{column} is {str(odd)[:12]!a}", "\n".join(map(mark.join, said)).encode()
    for column in range(max(map(len, lines), default=0)):
        said = [[*cells[:column], *cells[column + 1 :]] for cells in lines]
        yield f"without column {column}", "\n".join(map(mark.join, said)).encode()


if __name__ == "__main__":
    run(main, __doc__, 0, lambda parser: parser.add_argument("--only", nargs="+", help="these layouts"))
