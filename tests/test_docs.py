"""What the documentation tells people to type: every block of it is parsed by what it is for, or run."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from local_hub import serving

from speechft import adapters
from speechft.cli import app
from speechft.config import SpeechRecipe
from speechft.manifest import Manifest
from speechft.recipes import load_recipe
from speechft.sources import resolve

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OTHERS = ("helm-run", "helm-summarize", "hf")  # tools that are no part of our environment
SHOWN = ("text",)  # drawings and listings: nothing a machine reads
# Lines that are only parsed, by how they begin, and why.
NOT_RUN = {
    "make lint": "makes an environment; CI runs it",
    "make test": "makes an environment; CI runs it",
    "make test-all": "is what runs this",
    "make quickstart": "makes an environment; tests/test_security.py runs its command",
    "pip install": "asks a package index",
    "speechft benchmark": "downloads data sets; tests/text/test_benchmarks.py",
    "helm-": "is of another environment",
    "torchrun": "tests/test_distributed.py",
    "accelerate launch": "tests/test_distributed.py",
    "hf auth": "asks the hub",
}
SERVES = (".venv/bin/speechft demo", ".venv/bin/speechft serve", "SPEECHFT_TOKEN=")  # until they are stopped
TEXT = "max_steps=4 max_length=160 batch_size=2 accumulate=1 dev_examples=4 test_examples=4 evaluations=1"
# What is added to lines that would train for an hour, by how they begin; the first that fits.
SHORTER = {
    "python benchmarks/training.py": "--rounds 1 --steps 1 --clips corpus --placements decoder",
    "python benchmarks/decoding.py": "--limit 2 --rounds 1",
    "python benchmarks/time_to_wer.py": "--peer-epochs 1",
    "python benchmarks/few_clips.py": "--speakers 1 --steps 1",
    "python benchmarks/hyperparameters.py --plot": "",
    "python benchmarks/hyperparameters.py --text": "--rows 10 --studies schedule",
    "python benchmarks/hyperparameters.py": "--clips 4 --dev 2 --studies schedule",
    "python benchmarks/methods.py": "--seconds 1 --clips 2 --arms default",
    "python benchmarks/quantization.py": "--models bundled:tiny.en --limit 6 --steps 1",
    "python recipes/dose_curve.py": "--minutes 0.2 --set max_steps=1 min_steps=1",
    "python recipes/augmentation_ablation.py": "--kinds speed --set max_steps=1 min_steps=1",
    "python recipes/cohort_then_speaker.py": "--speakers 1 --personal-steps 1 --set max_steps=1 min_steps=1",
    "speechft train recipes/text_sft": f"{TEXT} max_new_tokens=3",
    "speechft train recipes/text_ppo": f"{TEXT} max_new_tokens=3 rollouts=2",
    "speechft train recipes/text_": TEXT,
    "python recipes/min_wer.py": "--rounds 1 --clips 4 --held-out 2",
    "python recipes/text_correct.py": "--clips 4 --held-out 2 --folds 2 --min-steps 1 --steps 1",
}
TINY = "max_steps=1 min_steps=0 dev_clips=2 evaluations=1"
SHORTER |= {"speechft tune": f"{TINY} --trials 2 --dev-utterances 2", "speechft train": TINY, "speechft fleet": TINY}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, or a command between single backticks."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    found, open_block, lines = [], None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if fence := re.match(r"\s*```(\w*)", line):
            if open_block is None:
                open_block, lines = (number, fence[1]), []
            else:
                found.append(Block(page, open_block[0], open_block[1], inspect.cleandoc("\n" + "\n".join(lines))))
                open_block = None
        elif open_block is not None:
            lines.append(line)
        else:
            found += [Block(page, number, "inline", code) for code in re.findall(r"`(speechft [^`]+)`", line)]
    assert open_block is None, f"{page}: a block is not closed"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of(*languages: str) -> Any:
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in languages], ids=str)


def test_no_block_is_only_indented() -> None:
    found = []
    for page in PAGES:
        outside = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        found += [f"{page}: {line}" for line in re.findall(r"\n\n {4}(\S.*)", outside)]
    assert found == []


def test_every_block_says_what_it_is() -> None:
    known = {"sh", "python", "yaml", "json", "inline", *SHOWN}
    assert [f"{block}: '{block.language}'" for block in BLOCKS if block.language not in known] == []
    assert len(BLOCKS) > 50


@of("sh", "inline")
def test_commands_are_ones_that_exist(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r"\$\([^)]*\)", "x", line), comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            understood(words, whole=block.language == "sh")


def understood(words: list[str], whole: bool) -> None:
    """Fails unless a command and all that follows it are known; one that is only mentioned may leave things out."""
    name, *rest = words
    if "speechft.cli" in rest:  # behind what launches it
        parsed(rest[rest.index("speechft.cli") + 1 :])
    elif name in ("speechft", ".venv/bin/speechft"):
        parsed(rest, whole)
    elif name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert [word for word in rest if "=" not in word and word not in targets] == []
    elif name in ("pip", ".venv/bin/pip"):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.search(r"\[(.+)\]", " ".join(rest))
        assert named is None or set(named[1].split(",")) <= extras.keys()
    elif name in ("python", ".venv/bin/python"):
        assert (ROOT / rest[0]).is_file()
    elif name not in OTHERS:
        pytest.fail(f"no test knows what '{name}' is")


def parsed(words: list[str], whole: bool = True) -> None:
    """Fails unless the command line takes these words; recipes and overrides are read too."""
    command = typer.main.get_command(app)
    verb, *rest = words
    assert verb in command.commands, f"no verb {verb}"
    try:
        context = command.commands[verb].make_context(verb, list(rest))
    except Exception as error:
        left_out = type(error).__name__ in ("MissingParameter", "NoArgsIsHelpError")
        if whole or not (left_out or "requires an argument" in str(error)):
            raise
        return
    if verb in ("train", "tune", "fleet"):
        recipe, overrides = context.params["recipe"], context.params["overrides"] or []
        if recipe is not None and "=" in str(recipe):
            recipe, overrides = None, [str(recipe), *overrides]
        if recipe is not None and not recipe.is_absolute():
            recipe = ROOT / recipe
        if whole or overrides:
            load_recipe(recipe, overrides)


@pytest.mark.parametrize("verb", sorted(typer.main.get_command(app).commands))
def test_the_example_in_each_verbs_help_is_one(verb: str) -> None:
    text = typer.main.get_command(app).commands[verb].help
    example = re.search(r"Example: `(speechft [^`]+)`", " ".join(text.split()))
    assert example, f"speechft {verb} --help shows no example"
    words = shlex.split(example[1])
    assert words[1] == verb
    parsed(words[1:])


@of("python")
def test_python_blocks_call_what_exists(block: Block) -> None:
    source = block.text + (" ..." if block.text.endswith(":") else "")
    tree = ast.parse(source)
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0]: importlib.import_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := resolved(node.func, names)) is not None:
            values = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(called).bind(*node.args, **values)


def resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """What an expression such as `Manifest.load` stands for; None where it is not made of imported names."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := resolved(node.value, names)) is not None:
        return getattr(owner, node.attr)
    return None


@of("yaml")
def test_yaml_blocks_are_parts_of_recipes(block: Block) -> None:
    SpeechRecipe.model_validate({"manifest": "m.jsonl", "output_dir": "out", **yaml.safe_load(block.text)})


@of("json")
def test_json_blocks_are_rows_of_manifests(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(block.text + "\n", encoding="utf-8")
    rows, problems = Manifest.read(path)
    assert problems == []
    assert len(rows) == len(block.text.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in addresses."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_manifest_page_runs(voice: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python, on a manifest that lies where it says."""
    assert voice.path is not None
    shutil.copytree(voice.path.parent, tmp_path / "me")
    monkeypatch.chdir(tmp_path)
    (block,) = [b for b in BLOCKS if b.page.name == "manifest.md" and b.language == "python"]
    done = subprocess.run([sys.executable, "-c", block.text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(")


@pytest.mark.slow
def test_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    """Its commands and its Python, in order, on a simulated voice's recordings."""
    from speechft.corpora.simulated import prepare_simulated

    voice = Manifest.load(prepare_simulated(tmp_path / "voice", n_sentences=60, severity=1.2))
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for utterance in voice:
        shutil.copy(utterance.audio, recordings)
        (recordings / f"{utterance.audio.stem}.txt").write_text(utterance.text)
    as_m4a(voice[0].load(), tmp_path / "new.m4a")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = 0
    for block in (b for b in BLOCKS if b.page.name == "README.md" and b.page.parent == ROOT):
        lines = [["-c", block.text]] if block.language == "python" else []
        if block.language == "sh":
            words = [shlex.split(line) for line in block.text.splitlines()]
            lines = [["-m", "speechft.cli", *rest] for name, *rest in words if name.endswith("speechft")]
        for line in lines:
            expanded = [word.replace("~", str(tmp_path)) for word in line]
            done = subprocess.run(
                [sys.executable, *expanded], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{block}: {line}\n{done.stderr}"
            ran += 1
    assert ran >= 5


def shell_lines(page: Path) -> list[str]:
    """The commands of a page's blocks, each as it stands."""
    blocks = [block.text.replace("\\\n", " ") for block in BLOCKS if block.page == page and block.language == "sh"]
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def left_out(line: str) -> bool:
    return line.startswith(tuple(NOT_RUN))


RUN = [page for page in PAGES if page != ROOT / "README.md" and not all(map(left_out, shell_lines(page)))]


def test_every_line_that_is_not_run_is_there() -> None:
    lines = [line for page in PAGES for line in shell_lines(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the pages' lines can be typed: a voice, stand-ins for corpora, an adapter, texts."""
    from speechft.corpora.simulated import prepare_simulated
    from speechft.whisper import load_whisper

    folder = tmp_path_factory.mktemp("office")
    voice = Manifest.load(prepare_simulated(folder / "me", n_sentences=12, severity=0.5))
    (folder / "m.jsonl").write_text((folder / "me/manifest.jsonl").read_text().replace("clips/", "me/clips/"))
    shutil.copy(voice[0].audio, folder / "new.wav")
    for corpus in ("torgo", "librispeech", "cohort"):
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
    for name in ("recipes", "data_cards", "benchmarks", "docs/images"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "bin").mkdir()
    for name, words in (("speechft", "-m speechft.cli"), ("python", "")):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(folder / "bin")
    texts(folder)
    return folder


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


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_lines_run_as_they_stand(page: Path, office: Path) -> None:
    with serving("me/my-voice") as hub:
        type_lines(page, office, {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"})


def type_lines(page: Path, office: Path, hub: dict[str, str]) -> None:
    """Fails unless each command ends well; `hub` is where they find one that is on this machine."""
    path = f"{office / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"HOME": str(office), "PYTHONPATH": str(ROOT), "PATH": path}
    environment |= {"SPEECHFT_PASSPHRASE": "correct horse battery", **hub}
    typed_here = [line for line in shell_lines(page) if not left_out(line)]
    for line in (made for typed in typed_here for made in made_of(typed)):
        for named in re.findall(r"(?<= )runs/\S*adapter\b", line):  # of another page, or a short training kept none
            if not (office / named).exists():
                kind = "text adapter" if "/text/" in named else "adapter"
                shutil.copytree(office / kind, office / named)
        if line.startswith(SERVES):
            served(line.replace("/srv/", f"{office}/srv/"), office, environment)
            continue
        plain = line.partition(" #")[0].removeprefix(".venv/bin/")
        more = next((more for start, more in SHORTER.items() if plain.startswith(start)), "")
        typed = f"{plain} {more}"
        done = subprocess.run(["sh", "-c", typed], cwd=office, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def made_of(line: str) -> list[str]:
    """A line as it is typed; of `make bench` the lines that it runs, for the environment is there."""
    if not line.startswith("make bench"):
        return [line]
    told = subprocess.run(
        [*shlex.split(line), "-n", "VENV=.venv"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return re.findall(r"^\.venv/bin/python benchmarks/.*", told.stdout, re.M)


def served(line: str, folder: Path, environment: dict[str, str]) -> None:
    """Fails unless a command listens, answers there, and ends when it is interrupted."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec env {line}"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = iter(process.stderr.readline, "")
        found = next((match[1] for text in said if (match := re.search(r"http://[^/;]*:(\d+)", text))), None)
        assert found, f"{line}: ended with {process.wait()}"
        with socket.create_connection(("127.0.0.1", int(found)), timeout=10):
            pass
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(timeout=60) in (0, 130)
    finally:
        process.kill()


def as_m4a(samples: np.ndarray, path: Path) -> None:
    """Mono 16 kHz samples as a phone would record them."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {"cff-version", "message", "title", "authors"}  # of the Citation File Format 1.2.0
    assert required <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    assert all(author.keys() <= {"name", "family-names", "given-names", "orcid"} for author in citation["authors"])
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
