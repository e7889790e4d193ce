"""A fleet: every speaker gets an adapter, whatever happens to the workers, and nobody is trained twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer

from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.fleet import _markdown, _report, finished, fleet, recipe_of, train_speaker
from speechft.manifest import Manifest
from speechft.pipeline import prepared, train

SPEAKERS = ("ann", "b o", "../eve")  # the last two are no safe folders


@pytest.fixture
def cohort(voice: Manifest, tmp_path: Path) -> Path:
    """The simulated voice, its sentences dealt out to three speakers."""
    rows = [replace(u, speaker=SPEAKERS[i % 3], split=None) for i, u in enumerate(voice)]
    Manifest(rows).save(tmp_path / "cohort.jsonl")
    return tmp_path / "cohort.jsonl"


def recipe_for(cohort: Path, **settings) -> SpeechRecipe:
    small = {"batch_size": 4, "max_steps": 2, "min_steps": 0, "average": False, "allow_outside": True}
    small |= {"adapter": {"rank": 2}, "test": False, "checkpoint_every": 2}
    return SpeechRecipe(manifest=cohort, output_dir=cohort.parent / "fleet", **(small | settings))


def test_every_speaker_has_a_folder_inside(cohort: Path) -> None:
    recipe = recipe_for(cohort)
    folders = [Path(recipe_of(recipe, speaker, recipe.output_dir).output_dir) for speaker in (*SPEAKERS, ".", "..")]
    assert folders[0].name == "ann"
    assert len(set(folders)) == 5
    assert all(folder.resolve().parent == recipe.output_dir.resolve() for folder in folders)


def test_splits_are_called_as_the_whole_manifest_calls_them(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ann has no dev, which tells that eval is to be tested."""
    names = {"ann": ("Train", "eval"), "b o": ("Train", "dev"), "../eve": ("dev", "eval")}
    rows = [replace(u, split=names[u.speaker][i // 3 % 2]) for i, u in enumerate(Manifest.load(cohort, True))]
    Manifest(rows).save(cohort)
    assert set(prepared(recipe_for(cohort, speakers=["ann"]))[0].splits) == {"train", "dev", "test"}
    failed = {"folder": "x", "error": "x"}
    monkeypatch.setattr("speechft.fleet._on_ray", lambda recipes, *_: [(r.speakers[0], failed) for r in recipes])
    assert [row["speaker"] for row in fleet(recipe_for(cohort))["speakers"]] == ["ann", "b o"]


def test_a_speaker_s_recipe_means_the_same_on_another_machine(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cohort.parent)
    Path("own").mkdir()
    recipe = recipe_for(Path(cohort.name), split_file="split.json", model="own")
    own = recipe_of(recipe, "ann", cohort.parent / "fleet")
    assert (own.manifest, own.split_file) == (cohort.resolve(), cohort.parent.resolve() / "split.json")
    assert own.model == f"{cohort.parent.resolve()}/own"
    assert own.output_dir == cohort.parent / "fleet" / "ann"


def test_a_run_counts_as_done_only_with_its_recipe_and_recordings(cohort: Path) -> None:
    own = recipe_of(recipe_for(cohort), "ann", cohort.parent / "fleet")
    assert finished(own) is None
    train(own)
    row = finished(own)
    assert row is not None
    assert row["folder"] == "ann"
    assert row["base"]["wer"] >= 0
    assert finished(own.model_copy(update={"learning_rate": 1e-4})) is None
    lines = cohort.read_text().splitlines()
    fewer = [line for line in lines if json.loads(line)["speaker"] != "b o"]
    cohort.write_text("\n".join(fewer) + "\n")
    assert finished(own) is not None  # another speaker's recordings are no matter
    gone = next(line for line in lines if json.loads(line)["speaker"] == "ann")
    cohort.write_text("\n".join(line for line in lines if line != gone) + "\n")
    assert finished(own) is None


def test_a_speaker_with_other_recordings_is_trained_anew(cohort: Path) -> None:
    own = recipe_of(recipe_for(cohort), "ann", cohort.parent / "fleet")
    assert "error" not in train_speaker(own.model_dump(mode="json"))[1]
    lines = cohort.read_text().splitlines()
    anns = [line for line in lines if json.loads(line)["speaker"] == "ann"]
    cohort.write_text("\n".join(line for line in lines if line != anns[0]) + "\n")
    _, row = train_speaker(own.model_dump(mode="json"))
    assert "error" not in row
    assert row["starts"] == 2
    assert finished(own) is not None
    cohort.write_text("\n".join(line for line in lines if line not in anns[1:]) + "\n")
    _, row = train_speaker(own.model_dump(mode="json"))  # one recording is none to learn and none to judge by
    assert "error" in row


def test_a_result_that_is_none_is_no_end_of_a_run(cohort: Path) -> None:
    own = recipe_of(recipe_for(cohort), "ann", cohort.parent / "fleet")
    result = Path(own.output_dir) / "result.json"
    result.parent.mkdir(parents=True)
    whole = {"recipe": own.model_dump(mode="json"), "data": {}, "environment": {"speechft": "0"}}
    for text in ("", "[]", "5", "null", "{}", "[" * 100_000, json.dumps(whole), json.dumps(whole | {"data": []})):
        result.write_text(text)
        assert finished(own) is None
    result.write_text('{"accuracy": 1}')
    speaker, row = train_speaker(own.model_dump(mode="json"))
    assert speaker == "ann"
    assert "result.json: was not made by speechft" in row["error"]
    assert result.read_text() == '{"accuracy": 1}'


def test_a_speaker_may_be_called_as_what_a_fleet_writes(cohort: Path) -> None:
    for name in ("fleet.json", "fleet.md", "FLEET.JSON", ".lock", "con\n"):
        folder = Path(recipe_of(recipe_for(cohort), name, Path("out")).output_dir)
        assert folder.name.startswith("speaker-")


def test_mistakes_are_sentences(cohort: Path) -> None:
    with pytest.raises(SpeechftError, match="no utterance of speaker nobody"):
        fleet(recipe_for(cohort), speakers=["nobody"])
    rows = [json.loads(line) for line in cohort.read_text().splitlines()]
    nameless = cohort.with_name("nameless.jsonl")
    nameless.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "speaker"}) + "\n" for row in rows))
    with pytest.raises(SpeechftError, match="names a speaker"):
        fleet(recipe_for(nameless))


def test_a_folder_that_cannot_be_written_is_a_row_and_no_crash(cohort: Path) -> None:
    blocked = cohort.with_name("file")
    blocked.write_text("in the way")
    recipe = recipe_of(recipe_for(cohort), "ann", blocked)
    speaker, row = train_speaker(recipe.model_dump(mode="json"))
    assert speaker == "ann"
    assert "not a directory. Choose a folder" in row["error"]


def test_what_was_scored_on_dev_is_said_and_counted_apart(cohort: Path) -> None:
    def row(speaker: str, split: str, before: float, after: float) -> dict[str, Any]:
        base, adapted = ({"wer": wer, "cer": wer, "n_utterances": 2, "n_words": 10} for wer in (before, after))
        return {
            "speaker": speaker, "folder": speaker, "adapter": "adapter", "base": base, "adapted": adapted,
            "evaluated_on": split, "train_minutes": 1.0, "seconds": 1.0, "starts": 1, "notice": None,
            "overlap": "train and dev share nothing", "leakage": [],
        }  # fmt: skip

    rows = [row("ann", "dev", 0.5, 0.1), row("ben", "test", 0.5, 0.4), {"speaker": "eve", "error": "no clip"}]
    result = _report(recipe_for(cohort), rows)
    assert list(result["pooled"]["on"]) == ["test", "dev"]
    assert result["pooled"]["on"]["dev"]["adapted_wer"] == pytest.approx(0.1)
    assert result["pooled"]["on"]["test"] == {
        "speakers": 1, "words": 10, "base_wer": 0.5, "adapted_wer": pytest.approx(0.4), "better": 1,
    }  # fmt: skip
    assert (result["pooled"]["speakers"], result["pooled"]["failed"]) == (2, 1)
    text = _markdown(result)
    caveat, table = text.split("| speaker")
    assert "1 of 2 speakers have no test split" in caveat
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in f"| speaker{table}".splitlines() if "|" in line
    ]
    assert [line[1] for line in cells if line[0] in ("speaker", "ann", "ben")] == ["on", "dev", "test"]
    assert [line[:4] for line in cells if line[0] == "all 1"] == [
        ["all 1", "test", "50.0%", "40.0%"], ["all 1", "dev", "50.0%", "10.0%"],
    ]  # fmt: skip
    assert len({len(line) for line in cells}) == 1
    assert "no test split" not in _markdown(_report(recipe_for(cohort), rows[1:]))


def test_silence_has_no_rate_in_the_table_and_characters_are_called_so(cohort: Path) -> None:
    def row(speaker: str, before: float, after: float, words: int, by: str) -> dict[str, Any]:
        base, adapted = ({"wer": wer, "cer": wer, "n_words": words, "normalizer": by} for wer in (before, after))
        told = {"notice": None, "overlap": "", "leakage": [], "starts": 1, "train_minutes": 1, "evaluated_on": "test"}
        return {"speaker": speaker, "adapter": "adapter", "base": base, "adapted": adapted, **told}

    rows = [row("room", 6.0, 3.0, 0, "basic/1"), row("anna", 0.25, 0.0, 12, "characters/1")]
    text = _markdown(_report(recipe_for(cohort), rows))
    assert "| room | test | – | – | 0 |" in text
    assert "| anna | test | 25.0% | 0.0% | 12 characters |" in text
    assert "| all 2 | test | 25.0% | 0.0% | 12 words and characters |" in text
    assert "| all 1 | test | 25.0% | 0.0% | 12 characters |" in _markdown(_report(recipe_for(cohort), rows[1:]))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("rows", "code"),
    [([{"error": "no clip"}], 2), ([{"error": "no clip"}, {"error": "died", "crashed": True}], 1)],
)
def test_the_exit_code_says_whose_fault_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    code: int,
    as_json: bool,
) -> None:
    from speechft.cli.tuning import fleet as command

    result = {"pooled": {"failed": len(rows)}, "speakers": rows}
    monkeypatch.setattr("speechft.fleet.fleet", lambda *_, **__: result)
    (tmp_path / "fleet.md").write_text("a table")
    with pytest.raises(typer.Exit) as ended:
        command(overrides=["manifest=m.jsonl", f"output_dir={tmp_path}"], as_json=as_json)
    assert ended.value.exit_code == code
    assert " ".join(capsys.readouterr().err.split()).endswith("The same command again trains only them.")


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_its_last_steps(cohort: Path) -> None:
    out = cohort.parent / "fleet"
    words = ["allow_outside=true", "batch_size=2", "epochs=4", "min_steps=0", "average=false", "adapter.rank=2"]
    words += ["test=false", "checkpoint_every=2", "learning_rate=2e-3", f"manifest={cohort}", f"output_dir={out}"]
    command = [sys.executable, "-m", "speechft.cli", "fleet", *words, "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed = _kill_one(running.pid, out)
    stdout, stderr = running.communicate(timeout=800)
    assert running.returncode == 0, stderr
    result = json.loads(stdout)
    assert [row["speaker"] for row in result["speakers"]] == list(SPEAKERS)
    assert result["pooled"]["failed"] == 0
    for row in result["speakers"]:
        events = [json.loads(line) for line in (out / row["folder"] / "fleet.jsonl").read_text().splitlines()]
        assert [event["event"] for event in events].count("finished") == 1
        assert row["starts"] == (2 if killed in [event.get("pid") for event in events] else 1)
        steps = [json.loads(line) for line in (out / row["folder"] / "metrics.jsonl").read_text().splitlines()]
        made = [line["step"] for line in steps if "loss" in line]
        assert made == list(range(1, made[-1] + 1))
    assert sorted(row["starts"] for row in result["speakers"]) == [1, 1, 2]
    assert "ann" in (out / "fleet.md").read_text()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "kept" in again.stderr
    assert [row["starts"] for row in json.loads(again.stdout)["speakers"]] == [
        row["starts"] for row in result["speakers"]
    ]


def _kill_one(driver: int, out: Path) -> int:
    """Kill the first worker that has made a few steps; its process id."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        for metrics in out.glob("*/metrics.jsonl"):
            started = json.loads((metrics.parent / "fleet.jsonl").read_text().splitlines()[-1])
            if metrics.read_text().count('"loss"') >= 3 and started["event"] == "started":
                assert started["pid"] in [child.pid for child in psutil.Process(driver).children(recursive=True)]
                os.kill(started["pid"], signal.SIGKILL)
                return started["pid"]
        time.sleep(0.05)
    raise AssertionError("no worker made a step")
