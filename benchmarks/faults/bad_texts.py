"""Broken manifests, recipes and names of files, through the command line.

    python benchmarks/faults/bad_texts.py

Each must end with exit code 2 and a message, or be read as what it means. A recipe without the fault must end with 0:
else it might be anything that was refused.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import yaml
from common import HOSTILE_PATHS, in_process, run, speechft, timely
from kills import trained
from tally import Tally

SENTENCES = (
    "the kettle is boiling", "open the window please", "where are my glasses", "call my sister tomorrow",
    "a cup of tea", "turn the light off", "it rains again today", "the door is locked",
)  # fmt: skip
OTHER_LETTERS = ("rtl", "other language")
SMALL = {"max_steps": 1, "min_steps": 0, "dev_clips": 1, "evaluations": 1, "test": False}


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("manifests, recipes and paths", notes="encodings, types, sizes, hostile names")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "inner"  # so that '..' is a small folder of ours too
        folder.mkdir()
        os.chdir(folder)
        adapter = trained(Path(work))
        rng = np.random.default_rng(0)
        for name in ("a", *range(len(SENTENCES))):
            soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(16_000), 16_000)
        (folder / "link.wav").symlink_to("/etc/passwd")
        (folder / "loop.wav").symlink_to("loop.wav")
        (folder / "clips").mkdir()
        for name, content, codes in manifests():
            path = folder / "m.jsonl"
            path.write_bytes(content)
            tally.count(f"manifest: {name}", in_process(["check", str(path)], codes))
        for name, content, _ in manifests():
            if name in OTHER_LETTERS:
                path.write_bytes(content)
                tally.count(f"manifest: {name} is warned of", warned(path))
        good = folder / "good.jsonl"
        rows = [{"audio": f"{number}.wav", "text": text} for number, text in enumerate(SENTENCES)]
        good.write_text("".join(json.dumps(row) + "\n" for row in rows))
        chat = [{"prompt": f"Say again: {text}.", "completion": text} for text in SENTENCES]
        chat += [{"prompt": f"Repeat it: {text}.", "completion": text} for text in SENTENCES]
        Path("chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chat))
        for name, recipe in recipes().items():
            path = folder / "r.yaml"
            path.write_bytes(recipe if isinstance(recipe, bytes) else recipe.encode())
            tally.count(f"recipe: {name}", in_process(["train", str(path)], (0,) if name == "good" else (2,)))
            shutil.rmtree("out", ignore_errors=True)
        given = [f"manifest={good}", *(f"{key}={str(value).lower()}" for key, value in SMALL.items())]
        for number, override in enumerate(["seed=1", *overrides()]):  # the first is a good one
            words = ["train", *given, f"output_dir={folder / f'override{number}'}", override]
            tally.count(f"override: {override[:60]}", in_process(words, (2,) if number else (0,)))
        for path_text in HOSTILE_PATHS:
            for words in arguments(path_text, str(adapter), given):
                tally.count(f"{words[0]} {path_text[:40]!r}", timely(words))
        for words, codes in in_an_odd_folder():
            tally.count(f"a folder that is not UTF-8: {words[0]}", in_process(words, codes))
        os.chdir("/")  # the folder is removed
    return tally


def warned(manifest: Path) -> str | None:
    """What is wrong with what `check` says of texts that the model, one of English, cannot write."""
    done = speechft("check", manifest)
    said = " ".join((done.stdout + done.stderr).split())
    told = "texts are mostly in other letters than English" in said and "multilingual model" in said
    return None if told and done.returncode == 0 else f"exit code {done.returncode}: {said[-200:]}"


def manifests() -> list[tuple[str, bytes, tuple[int, ...]]]:
    """(name, content, exit codes that are right)."""
    row = '{"audio": "a.wav", "text": "hello"}'
    texts = {"rtl": "שלום עולם", "combining": "e\u0301" * 5, "emoji": "hello 👩‍👩‍👧", "other language": "你好 мир"}
    fine = [(name, f'{{"audio": "a.wav", "text": "{text}"}}\n'.encode(), (0,)) for name, text in texts.items()]
    return [
        *fine,
        ("BOM", b"\xef\xbb\xbf" + row.encode(), (0,)),
        ("CRLF", (row + "\r\n").encode(), (0,)),
        ("UTF-16", row.encode("utf-16"), (2,)),
        ("latin-1", '{"audio": "a.wav", "text": "Äh"}'.encode("latin-1"), (2,)),
        ("empty", b"", (2,)),
        ("only blank lines", b"\n\n \n", (2,)),
        ("no JSON", b"hello", (2,)),
        ("a list", b"[1, 2]", (2,)),
        ("a number", b"3", (2,)),
        ("half a row", row[:20].encode(), (2,)),
        ("binary", bytes(range(256)) * 50, (2,)),
        ("duplicate keys", b'{"audio": "a.wav", "audio": "0.wav", "text": "x"}', (2,)),
        ("text is a number", b'{"audio": "a.wav", "text": 3}', (2,)),
        ("text is null", b'{"audio": "a.wav", "text": null}', (2,)),
        ("audio is a list", b'{"audio": ["a.wav"], "text": "x"}', (2,)),
        ("times are texts", b'{"audio": "a.wav", "text": "x", "start_s": "a"}', (2,)),
        ("times are NaN", b'{"audio": "a.wav", "text": "x", "start_s": NaN}', (2,)),
        ("end before start", b'{"audio": "a.wav", "text": "x", "start_s": 2, "end_s": 1}', (2,)),
        ("a huge number", b'{"audio": "a.wav", "text": "x", "end_s": 1e999}', (2,)),
        ("a surrogate", b'{"audio": "a.wav", "text": "\\ud800"}', (2,)),
        (
            "a line of 10 MB",
            json.dumps({"audio": "a.wav", "text": "word " * 2_000_000}).encode(),
            (0,),
        ),  # of test clips a warning
        ("nested deeply", b'{"audio": "a.wav", "text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (2,)),
        ("the same id twice", (row[:-1] + ', "id": "x"}\n').encode() * 2, (2,)),
        *((f"audio {p[:30]!r}", json.dumps({"audio": p, "text": "x"}).encode(), (2,)) for p in HOSTILE_PATHS),
    ]


def recipes() -> dict[str, str | bytes]:
    base = yaml.safe_dump({"manifest": "good.jsonl", "output_dir": "out", **SMALL})
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
    )
    return {
        "good": base,
        "not YAML": "a: [", "a list": "- a", "a text": "hello", "empty": "", "binary": bytes(range(256)),
        "python tag": "!!python/object/apply:os.system ['true']", "aliases that explode": bomb,
        "unknown key": base + "learning_rat: 1", "unknown group key": base + "adapter:\n  rnak: 3",
        "a word for a number": base + "epochs: many", "negative": base + "batch_size: -1",
        "a list for a number": base + "learning_rate: [1]", "a group for a value": base + "epochs:\n  x: 1",
        "a value for a group": base + "adapter: 3", "unknown task": base + "task: magic",
        "no manifest": "output_dir: out", "manifest is a folder": "manifest: clips\noutput_dir: out",
        "manifest is missing": "manifest: gone.jsonl\noutput_dir: out", "null": "manifest:\noutput_dir:",
        "duplicate keys": base + "epochs: 1\nepochs: x", "NaN": base + "learning_rate: .nan",
        "infinite": base + "learning_rate: .inf", "a date": base + "model: 2020-01-01",
    }  # fmt: skip


def overrides() -> list[str]:
    return [
        "epochs", "=3", "epochs=", "epochs=[", "adapter.rank=0", "adapter=3", "epochs.x=1", "schedule=spiral",
        "context=clip+", "context=-5s", "adapter.placement=left", "adapter.projections=[]",
        "adapter.projections=[nothing]", "model=bundled:none", "model=/etc/passwd", "model=../..", "precision=int1",
        "language=de", "normalizer=none-such", "output_dir=/proc/none", "seed=x", "augment.tempo=[2,1]",
        "adapter.method=magic", "adapter.quantize=int3", "patience=0", "batch_size=1e9999",
    ]  # fmt: skip


def arguments(path: str, adapter: str, given: list[str]) -> list[list[str]]:
    """Commands with a path where it is read. `tune --storage` is written to, so it gets only what cannot be."""
    cases = [
        ["check", path], ["prepare", "folder", path, "o"], ["prepare", "csv", path, "o"], ["transcribe", path],
        ["transcribe", "a.wav", "--adapter", path], ["export", path, "o", "--to", "huggingface"],
        ["evaluate", "--manifest", path], ["evaluate", "--manifest", "good.jsonl", "--adapter", path], ["train", path],
        ["augment", path, "--out", "o.jsonl"], ["card", path, "o.md"], ["split", path, "speaker-disjoint", "o.json"],
        ["average", path, adapter, "--out", "o"], ["scale", path, "good.jsonl", "--out", "o"],
        ["scale", adapter, path, "--out", "o"], ["push", path, "me/voice", "--dry-run", "o"],
    ]  # fmt: skip
    cases += [
        ["card", "good.jsonl", "o.md", "--facts", path], ["split", "good.jsonl", "official", "o.json", "--from", path],
        ["evaluate", "--manifest", "good.jsonl", "--typical", path],
        ["hosted", path, "--check"], ["benchmark", "mmlu", "--task-folder", path],
        ["train", "task=sft", f"data={path}", "output_dir=t"], ["transcribe", "a.wav", "--corrector", path],
        ["evaluate", "--manifest", "good.jsonl", "--split-file", path],
    ]  # fmt: skip
    if path:  # an empty one is none
        cases.append(["check", "good.jsonl", "--model", path])
        for task, setting in (("feedback", "judge=model:"), ("policy", "reward="), ("sft", "other_domain=")):
            cases.append(["train", f"task={task}", "data=chat.jsonl", "output_dir=t", "max_steps=1", setting + path])
        cases.append(["judge", "chat.jsonl", "--judge", f"reward:{path}"])
        cases += [["judge", path, "--judge", "model:bundled:smollm2"], ["benchmark", "mmlu", "--training", path]]
        cases.append(["hosted", path, "ho"])
        if not os.path.isdir(path.partition("\0")[0]):  # else it would listen
            cases.append(["serve", path])
        cases.append(["export", adapter, "e", "--check", path])
        cases.append(["push", adapter, "me/voice", "--result", path, "--dry-run", "o"])
        cases.append(["train", *given, "output_dir=o", f"split_file={path}"])
    if any(trick in path for trick in ("\0", "loop", "xxx", "d/d/")) or path in ("clips", ".", ".."):
        cases.append(["tune", *given, "output_dir=o", "search={seed: [1]}", "--trials", "1", "--storage", path])
    if any(trick in path for trick in ("\0", "loop.wav/", "xxx", "d/d/")):  # of files, only what nobody can write
        cases += [["card", "good.jsonl", path], ["split", "good.jsonl", "prompt-disjoint", path]]
        cases.append(["demo", "--data", path])
    if any(trick in path for trick in ("\0", "loop", "xxx", "d/d/")) or path in ("/etc/passwd", "/dev/zero", "a.wav"):
        cases += [["transcribe", "a.wav", "--out", path], ["hosted", "chat.jsonl", path]]
        cases.append(["evaluate", "--manifest", "good.jsonl", "--out", path])
        cases.append(["augment", "good.jsonl", "--kind", "noise", "--listen", path])
        cases.append(["evaluate", "--manifest", "good.jsonl", "--nli", path, "--bert", path])  # after all is decoded
        if path != "loop.wav":  # a link to nothing is free
            cases.append(["train", *given, "output_dir=o", "--plot-schedule", path])
    return cases


def in_an_odd_folder() -> list[tuple[list[str], tuple[int, ...]]]:
    """Commands on a copy of the good manifest in a folder whose name is no UTF-8, and the exit codes that are right."""
    odd = os.fsdecode(b"d\xe9")
    shutil.copytree(
        ".", odd, symlinks=True, ignore=lambda _, names: {n for n in names if not n[0].isdigit()} - {"good.jsonl"}
    )
    manifest, recording = f"{odd}/good.jsonl", f"{odd}/{os.fsdecode(bytes([0xE9]))}.wav"
    os.rename(f"{odd}/0.wav", recording)
    shutil.copy("0.wav", f"{odd}/0.wav")
    return [
        (["check", manifest], (0,)), (["transcribe", recording], (0,)), (["card", manifest, "odd.md"], (0,)),
        (["augment", manifest, "--kind", "noise", "--listen", f"{odd}/l"], (0,)),
        (["evaluate", "--manifest", manifest], (0,)), (["evaluate", "--manifest", "good.jsonl", "--model", odd], (2,)),
        (["evaluate", "--manifest", "good.jsonl", "--adapter", odd], (2,)),
        (["train", f"manifest={manifest}", "output_dir=odd"], (2,)),
    ]  # fmt: skip


if __name__ == "__main__":
    run(main, __doc__, 0)
