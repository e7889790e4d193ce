"""The documentation: every block is parsed by what it is for, links lead somewhere, examples are ones."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from documented import BLOCKS, PAGES, ROOT, Block

from speechft.cli import app
from speechft.config import SpeechRecipe
from speechft.manifest import Manifest
from speechft.recipes import load_recipe

OTHERS = ("helm-run", "helm-summarize", "hf")  # tools that are no part of our environment
SHOWN = ("text",)  # drawings and listings: nothing a machine reads


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


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {"cff-version", "message", "title", "authors"}  # of the Citation File Format 1.2.0
    assert required <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    assert all(author.keys() <= {"name", "family-names", "given-names", "orcid"} for author in citation["authors"])
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
