"""Adapters that are damaged, hostile, or another model's: each must be refused with a sentence, and run nothing.

python benchmarks/faults/bad_adapters.py [--count 100]
"""

from __future__ import annotations

import argparse
import http.server
import io
import json
import os
import pickle
import random
import resource
import shutil
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch
from common import HOSTILE_PATHS, in_process, run, timely
from tally import Tally

from speechft import adapters
from speechft.sources import resolve
from speechft.text.model import load_text_model
from speechft.whisper import load_whisper

BASE, TEXT_BASE = "bundled:tiny.en", "bundled:smollm2"
HANGS = "(.*)*(.*)*(.*)*(.*)*X"  # an expression that no module's name is ever done with
MOST_MB = 1000  # that loading what was tampered with may take beyond the model
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Bomb:
    """What a pickle in disguise would do."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path(tempfile.gettempdir()) / "speechft-was-here",)  # type: ignore[return-value]


def main(a: argparse.Namespace) -> Tally:
    tally = Tally(
        "damaged and hostile adapters",
        notes="truncated, other shapes, pickles, code, paths, addresses, sizes, other bases",
    )
    touched = Path(tempfile.gettempdir()) / "speechft-was-here"
    touched.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        good = make(folder / "good")
        sound = folder / "a.wav"
        soundfile.write(sound, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
        tally.count("the good one", in_process(["transcribe", str(sound), "--adapter", str(good)], (0,)))
        for name, change in changes(a.count):
            bad = folder / "bad"
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            change(bad)
            tally.count(name, timely(["transcribe", str(sound), "--adapter", str(bad)]))
        greedy(good, folder, sound, tally)
        talkative(folder, tally)
        with_code(folder, sound, touched, tally)
        tally.count("nothing was run", "foreign code was run" if touched.exists() else None)
    return tally


def greedy(good: Path, work: Path, sound: Path, tally: Tally) -> None:
    """Configurations that ask for more memory or time than there is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cases: dict[str, tuple[dict[str, object], Iterable[int]]] = {
        "a rank of a million": ({"r": 10**6}, (2,)),
        "a rank of thousands": ({"r": 8000}, (2,)),
        "a layer's rank of a million": ({"rank_pattern": {"q_proj": 10**6}}, (2,)),
        "a layer's rank by an expression without end": ({"rank_pattern": {HANGS: 2}}, (2,)),
        "layers by an expression without end": ({"target_modules": HANGS}, (0, 2)),  # the tensors say which are meant
        "layers but for an expression without end": ({"exclude_modules": HANGS}, (0, 2)),
    }
    for name, (values, codes) in cases.items():
        bad = work / "greedy"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        config = json.loads((bad / CONFIG).read_text())
        (bad / CONFIG).write_text(json.dumps(config | values))
        tally.count(name, timely(["transcribe", str(sound), "--adapter", str(bad)], codes))
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    tally.count("no memory for what is not in the files", f"took {taken} MB" if taken > MOST_MB else None)


def talkative(work: Path, tally: Tally) -> None:
    """Cards that name who judges, what rewards, and what else is read."""
    text = load_text_model(TEXT_BASE, device="cpu")
    model = adapters.attach(text.model, rank=1)
    for _, parameter in adapters.trainable(model):
        parameter.data.normal_(0, 1)  # equal answers would be shown to no judge
    rows = work / "private.jsonl"
    rows.write_text(json.dumps({"prompt": "What is private?", "answer": "This.", "completion": "This."}) + "\n")
    with listener() as (address, asked), mock.patch.dict(os.environ, OPENAI_API_KEY="secret"):
        cases: dict[str, tuple[dict[str, object], Iterable[int]]] = {
            "a judge elsewhere": ({"task": "feedback", "judge": f"url:{address} m", "max_new_tokens": 2}, (2,)),
            "a judge that is a path": ({"task": "feedback", "judge": "reward:/etc", "max_new_tokens": 2}, (2,)),
            "a reward that is a path": ({"task": "policy", "reward": "/etc", "max_new_tokens": 2}, (2,)),
            "another domain": ({"task": "sft", "other_domain": "/etc/passwd", "max_new_tokens": 2}, (0,)),
        }
        for name, (recipe, codes) in cases.items():
            card = {"task": recipe["task"], "model": TEXT_BASE, "recipe": recipe}
            bad = adapters.save(model, work / "talkative", card, TEXT_BASE, text.folder)
            words = ["evaluate", "--manifest", str(rows), "--adapter", str(bad), "--out", str(work / "scores")]
            tally.count(name, timely(words, codes))
        scores = (work / "scores" / "result.json").read_text()
        tally.count("no other file was read", "it was measured" if "other_domain" in scores else None)
        tally.count("nobody was asked", f"asked {len(asked)} times" if asked else None)


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and who asked there."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
        server.shutdown()


def with_code(work: Path, sound: Path, touched: Path, tally: Tally) -> None:
    """Models that bring Python code, and somebody who answers y to all that is asked."""
    model = work / "with code"
    model.mkdir()
    (model / "evil.py").write_text(f"open({str(touched)!r}, 'w')\nclass Evil: pass\n")
    (model / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}))
    shutil.copy(resolve(BASE) / "model.safetensors", model)
    rows = str(work / "private.jsonl")
    for name, words in {
        "a speech model with code": ["transcribe", str(sound), "--model", str(model)],
        "a text model with code": ["evaluate", "--manifest", rows, "--task", "sft", "--model", str(model)],
    }.items():
        with mock.patch.object(sys, "stdin", io.StringIO("y\n" * 10)):
            tally.count(name, timely(words))


def make(folder: Path) -> Path:
    whisper = load_whisper(BASE, device="cpu")
    model = adapters.attach(whisper.model, rank=2, placement="decoder")
    base = resolve(BASE)
    card = {"model": BASE, "context": "clip", "base_sha256": adapters.base_hash(base)}
    return adapters.save(model, folder, card, BASE, base)


def changes(count: int) -> list[tuple[str, Callable[[Path], object]]]:
    rng = random.Random(0)

    def weights(data: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        return lambda folder: (folder / WEIGHTS).write_bytes(data((folder / WEIGHTS).read_bytes()))

    def config(**values: object) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            old = json.loads((folder / CONFIG).read_text())
            (folder / CONFIG).write_text(json.dumps(old | values))

        return change

    def foreign(**values: object) -> Callable[[Path], object]:
        """As others make them, without our card: what peft's file says counts."""

        def change(folder: Path) -> None:
            (folder / adapters.CARD).unlink()
            config(**values)(folder)

        return change

    def card(text: str) -> Callable[[Path], object]:
        return lambda folder: (folder / adapters.CARD).write_text(text)

    def tensors(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
        from safetensors.torch import load_file, save_file

        def apply(folder: Path) -> None:
            state = {name: change(t).contiguous() for name, t in load_file(folder / WEIGHTS).items()}
            save_file(state, folder / WEIGHTS)

        return apply

    def pickled(name: str) -> Callable[[Path], object]:
        def apply(folder: Path) -> None:
            (folder / WEIGHTS).unlink()
            (folder / name).write_bytes(pickle.dumps(Bomb()))

        return apply

    cut = [(f"cut at {share:.0%}", weights(lambda d, s=share: d[: int(len(d) * s)])) for share in (0, 0.001, 0.3, 0.99)]
    places = [rng.random() for _ in range(count)]
    cut += [(f"cut at {share:.3%}", weights(lambda d, s=share: d[: int(len(d) * s)])) for share in places]
    return [
        *cut,
        ("a huge header", weights(lambda d: struct.pack("<Q", 1 << 60) + d[8:])),
        ("a header of another length", weights(lambda d: struct.pack("<Q", 5) + d[8:])),
        ("a header that is no JSON", weights(lambda d: d[:8] + b"x" * 200 + d[208:])),
        ("no weights", lambda folder: (folder / WEIGHTS).unlink()),
        ("a pickle instead", pickled("adapter_model.bin")),
        ("a pickle called safetensors", pickled(WEIGHTS)),
        ("other shapes", tensors(lambda t: t[:, : t.shape[1] // 2])),
        ("other rank", config(r=3)),
        ("a scale that is beyond numbers", config(lora_alpha=1e308)),
        ("weights whose product is beyond numbers", tensors(lambda t: torch.full_like(t, 1e38))),
        ("weights that make of sound what is beyond numbers", tensors(lambda t: torch.full_like(t, 1e15))),
        ("not numbers", tensors(lambda t: torch.full_like(t, float("nan")))),
        ("no config", lambda folder: (folder / CONFIG).unlink()),
        ("a config that is no JSON", lambda folder: (folder / CONFIG).write_text("{")),
        ("a config that is a list", lambda folder: (folder / CONFIG).write_text("[]")),
        ("a kind that is none", config(peft_type="MAGIC")),
        ("remote code", config(auto_mapping={"base_model_class": "os", "parent_library": "os"}, peft_type=None)),
        ("a damaged card", card("{")),
        ("a card that is a list", card("[]")),
        ("a card with another context", card(json.dumps({"model": BASE, "context": "always"}))),
        ("another base", card(json.dumps({"model": "bundled:base", "context": "clip", "base_sha256": "0"}))),
        ("a base that is a path", card(json.dumps({"model": "../../etc/passwd", "context": "clip"}))),
        ("a base that is a number", card(json.dumps({"model": 3, "context": "clip"}))),
        *((f"peft's base {p[:30]!r}", foreign(base_model_name_or_path=p)) for p in HOSTILE_PATHS),
    ]


if __name__ == "__main__":
    run(main, __doc__, 30)
