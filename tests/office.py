"""A folder in which the lines of the documentation can be typed, and the tools of others that they call."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from documented import ROOT

from speechft import adapters
from speechft.manifest import Manifest
from speechft.recipes import load_recipe
from speechft.sources import resolve

TOOLS = {
    "speechft": "speechft.cli", "hf": "huggingface_hub.cli.hf", "torchrun": "torch.distributed.run",
    "accelerate": "accelerate.commands.accelerate_cli", "pip": "pip",
}  # fmt: skip


def furnish(folder: Path) -> None:
    """Put there what the pages name: a voice, stand-ins for corpora, an adapter, texts, the commands."""
    from speechft.corpora.simulated import prepare_simulated
    from speechft.whisper import load_whisper

    voice = Manifest.load(prepare_simulated(folder / "me", n_sentences=12, severity=0.5))
    (folder / "m.jsonl").write_text((folder / "me/manifest.jsonl").read_text().replace("clips/", "me/clips/"))
    shutil.copy(voice[0].audio, folder / "new.wav")
    for corpus in ("torgo", "librispeech", "cohort", "quickstart/voice"):
        shutil.copytree(folder / "me", folder / corpus)
    speakers = ("F01", "M01", "MC01")
    many = Manifest.load(prepare_simulated(folder / "corpus", n_sentences=36, severity=0.5))
    parts = dict(zip(speakers, ("train", "dev", "test"), strict=True))
    rows = [replace(u, speaker=speakers[i % 3], split=parts[speakers[i % 3]]) for i, u in enumerate(many)]
    Manifest(rows).save(folder / "corpus/manifest.jsonl")
    rows = [replace(u, speaker=speakers[i % 3], split=None) for i, u in enumerate(Manifest.load(folder / "torgo"))]
    Manifest(rows).save(folder / "torgo/manifest.jsonl")
    rows = [replace(u, speaker=speakers[i % 2], split=None) for i, u in enumerate(Manifest.load(folder / "cohort"))]
    Manifest(rows).save(folder / "cohort/manifest.jsonl")
    base = resolve("bundled:tiny.en")
    recipe = load_recipe(None, ["manifest=me/manifest.jsonl", "output_dir=runs/me", "adapter.rank=2"])
    model = adapters.attach(load_whisper("bundled:tiny.en", device="cpu").model, **recipe.adapter.attach_arguments())
    card = {"model": "bundled:tiny.en", "context": "clip", "base_sha256": adapters.base_hash(base)}
    card["recipe"] = recipe.model_dump(mode="json")
    adapters.save(model, folder / "adapter", card, "bundled:tiny.en", base)
    asked = [[{"role": "user", "content": f"Say {u.id}."}, {"role": "assistant", "content": u.text}] for u in voice] * 3
    (folder / "mine.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in asked))
    for name in ("recipes", "configs", "data_cards", "benchmarks", "docs/images"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "bin").mkdir()
    for name, words in {"python": "", **{name: f"-m {module}" for name, module in TOOLS.items()}}.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(folder / "bin")
    texts(folder)
    public_sets(folder)


def texts(folder: Path) -> None:
    """What the pages on text begin with: the examples, files of one's own, and an adapter of SmolLM2."""
    from speechft.text.model import load_text_model

    examples = folder / "runs/text"
    runpy.run_path(str(ROOT / "recipes/text_examples.py"))["main"](examples)
    shutil.copy(examples / "preferences.jsonl", folder / "pairs.jsonl")
    shutil.copy(examples / "commands.jsonl", folder / "questions.jsonl")
    shutil.copy(examples / "everyday.jsonl", folder)
    (folder / "notes").mkdir()
    for number, row in enumerate((examples / "documents.jsonl").read_text(encoding="utf-8").splitlines()[:30]):
        (folder / "notes" / f"{number}.txt").write_text(json.loads(row)["text"], encoding="utf-8")
    base = resolve("bundled:smollm2")
    model = adapters.attach(load_text_model("bundled:smollm2", device="cpu").model, rank=2)
    card = {"model": "bundled:smollm2", "task": "sft", "base_sha256": adapters.base_hash(base)}
    adapters.save(model, folder / "text adapter", card, "bundled:smollm2", base)
    raters(folder)


def raters(folder: Path) -> None:
    """What the page on rewards names: public reward models as the hub's cache keeps them, a classifier, MS MARCO."""
    from tiny_bert import labels, make_tiny_bert

    for name, about in (
        ("OpenAssistant/reward-model-deberta-v3-large-v2", {"num_labels": 1}),
        ("s-nlp/roberta_toxicity_classifier", labels(["neutral", "toxic"])),
    ):
        kept = folder / ".cache/huggingface/hub" / f"models--{name.replace('/', '--')}"
        make_tiny_bert(kept / "snapshots" / ("0" * 40), **about)
        (kept / "refs").mkdir()
        (kept / "refs" / "main").write_text("0" * 40)
    make_tiny_bert(folder / "me/sentiment", **labels(["NEGATIVE", "POSITIVE"]))
    make_tiny_bert(folder / "runs/text/ms_marco/adapter", num_labels=1)
    (folder / "top1000.dev.tsv").write_text("1\t7\twho says yes\tyes\n1\t8\twho says yes\tno\n")
    (folder / "qrels.dev.tsv").write_text("1\t0\t7\t1\n")


def public_sets(folder: Path) -> None:
    """A few made-up items where `datasets` finds them under the public sets' names, in the fields that those have."""
    import lm_eval

    question = {"question": "Which of these is a colour?", "choices": ["run", "blue", "ten", "of"], "answer": 1}
    story = {"ctx_a": "A woman fills a kettle.", "ctx_b": "she", "activity_label": "Making tea", "label": "1"}
    story |= {"endings": ["flies.", "puts it on the stove.", "sings a number.", "is a kettle."]}
    sum_of = [{"question": f"What is {n} plus {n}?", "answer": f"It is {2 * n}.\n#### {2 * n}"} for n in range(1, 7)]
    subjects = (Path(lm_eval.__file__).parent / "tasks/mmlu/default").glob("mmlu_*.yaml")
    mmlu = {yaml.safe_load(path.read_text())["dataset_name"]: ("dev", "test") for path in subjects}
    for name, rows, configurations in (
        ("cais/mmlu", [question], mmlu),
        ("Rowan/hellaswag", [story] * 2, {"default": ("train", "validation")}),
        ("openai/gsm8k", sum_of, {"main": ("train", "test")}),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        listed = [
            {"config_name": key, "data_files": [{"split": split, "path": "rows.jsonl"} for split in splits]}
            for key, splits in configurations.items()
        ]
        (folder / name / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': listed})}---\n")
    for split in ("dev", "val", "test"):  # where HELM keeps what it has fetched
        kept = folder / "benchmark_output/scenarios/mmlu/data" / split
        kept.mkdir(parents=True)
        (kept / f"philosophy_{split}.csv").write_text("Which is a colour?,run,blue,ten,of,B\n" * 6)


def helm(folder: Path) -> None:
    """HELM in an environment of its own, as its page says."""
    own = folder / "helm"
    subprocess.run([sys.executable, "-m", "venv", own], check=True)
    install(own / "bin/python", "crfm-helm==0.5.16")
    for name in ("helm-run", "helm-summarize"):
        (folder / "bin" / name).symlink_to(own / "bin" / name)


def deepspeed(folder: Path) -> None:
    """DeepSpeed where `accelerate` looks for it; built without a kernel, for it is only asked what stage is meant."""
    wanted = ("deepspeed==0.19.8", "einops", "hjson", "ninja", "py-cpuinfo")
    install(Path(sys.executable), "--no-deps", "--no-build-isolation", "--target", str(folder / "deepspeed"), *wanted)


def install(python: Path, *wanted: str) -> None:
    """Into an environment. Skips the test where there is no index to ask."""
    settings = os.environ | {"DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"}
    command = [python, "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot be installed here: {' '.join(wanted)}: {done.stderr[-300:]}")
