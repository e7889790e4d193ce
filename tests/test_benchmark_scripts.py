"""Every script of benchmarks/ finds what it imports: a helper that one of them drops is missed here, not by a user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from speechft.manifest import Manifest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("folder", ["benchmarks", "benchmarks/faults"])
def test_scripts_can_be_imported(folder: str) -> None:
    names = sorted(path.stem for path in (ROOT / folder).glob("*.py"))
    assert names
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the fault scripts, from which they can be imported; `server` is a folder of the tests, too."""
    folder = ROOT / "benchmarks" / "faults"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(folder.parent)
    names = {path.stem for path in (*folder.glob("*.py"), *folder.parent.glob("*.py"))}
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield folder
    for name in names:
        sys.modules.pop(name, None)


def test_only_a_sentence_with_advice_is_a_good_end(faults: Path) -> None:
    from common import ended_well

    from speechft.errors import SpeechftError

    def refused(error: Exception) -> None:
        raise error

    assert ended_well(lambda: None) is None
    assert ended_well(lambda: refused(SpeechftError("is wrong", fix="Do it again."))) is None
    assert ended_well(lambda: refused(SpeechftError("is wrong"))) == "no advice: is wrong."
    assert ended_well(lambda: refused(SpeechftError("", fix="Do it again."))) is not None
    assert ended_well(lambda: refused(ValueError("x"))) == "ValueError: x"


def test_a_good_request_that_is_refused_is_lost(faults: Path) -> None:
    from soak import counted

    flat = {"flat": True, "memory_mb": [1, 1], "growth_mb": [0, 0, 0], "open_files": [1, 1], "minutes": 1, "clients": 1}
    load = {"answers": 5, "busy": 7, "refused": 2, "server_errors": 1, "hostile": 3}
    tally = counted({"server": flat | load})
    assert (tally.tried, tally.survived, len(tally.lost)) == (12, 9, 3)
    assert len(counted({"server": flat | load | {"flat": False}}).lost) == 4


def test_memory_that_creeps_is_not_flat(faults: Path) -> None:
    from soak import growth

    def grown(per_run: float, runs: int = 50, noise: float = 1.0, more_files: int = 0) -> bool:
        start = 1500.0  # and before that what every process takes for its first runs
        noisy = [start + per_run * i + noise * (i * 7 % 5) for i in range(runs)]
        samples = [(float(i), mb, 9 + (i > 30) * more_files) for i, mb in enumerate(noisy)]
        return bool(growth([(-2.0, 900.0, 9), (-1.0, 1400.0, 9), *samples])["flat"])

    assert grown(0.0)
    assert grown(0.2)
    assert not grown(1.44)  # 36 MB in 25 runs
    assert not grown(0.6)
    assert not grown(0.0, more_files=1)
    assert not grown(0.0, runs=6, noise=20.0)  # nobody can tell


def test_an_environment_of_other_constraints_is_made_anew(faults: Path, tmp_path: Path) -> None:
    from matrix import is_ready, made_of

    (tmp_path / "c.txt").write_text("numpy==1")
    before = made_of(tmp_path / "c.txt")
    assert not is_ready(tmp_path, before)
    (tmp_path / "ready").write_text(before)
    assert is_ready(tmp_path, before)
    (tmp_path / "c.txt").write_text("numpy==2")
    assert not is_ready(tmp_path, made_of(tmp_path / "c.txt"))


def test_a_matrix_of_which_no_python_is_here_has_not_passed(
    faults: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matrix

    monkeypatch.setattr(sys, "argv", ["matrix.py", "9.99:newest", "--absent-ok"])
    with pytest.raises(SystemExit) as stop:
        matrix.main()
    assert stop.value.code
    assert "tried 0" in capsys.readouterr().out


def test_the_matrix_needs_nothing_but_python() -> None:
    """CI runs it before it installs anything."""
    command = [sys.executable, "-S", ROOT / "benchmarks" / "matrix.py", "9.99:newest", "--absent-ok"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert "tried 0" in done.stdout, done.stderr


def started(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def test_a_run_that_is_over_before_the_kill_is_no_case(faults: Path, tmp_path: Path) -> None:
    from common import OVER, counted, until
    from kills import disturbed, kill, kill_worker
    from tally import Tally

    assert kill_worker(started("")) is None
    over = started("")
    os.waitid(os.P_PID, over.pid, os.WEXITED | os.WNOWAIT)
    assert kill(over) is None
    assert kill(started("import time; time.sleep(60)")) is True
    assert disturbed(["--help"], tmp_path / "out", {}, 60, kill) == OVER
    tally = Tally("none")
    until(2, lambda number: counted(tally, f"{number}", OVER if number % 2 else None))
    assert (tally.tried, tally.survived) == (2, 2)
    until(2, lambda number: counted(tally, f"{number}", OVER))
    assert tally.tried == 2


def test_a_worker_that_trains_is_waited_for(faults: Path) -> None:
    from kills import kill_worker

    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', {!r}])"
    late = started(f"import time; time.sleep(0.5); {child.format('train_speaker')}")
    assert kill_worker(late) is False
    assert late.wait(timeout=10) == 0
    assert kill_worker(started(child.format("another").replace("60", "1"))) is None


def test_any_file_that_differs_is_a_loss_and_times_do_not(faults: Path, tmp_path: Path) -> None:
    from outcome import differs, outcome

    (tmp_path / "adapter").mkdir()
    files = {
        "adapter/adapter_model.safetensors": "weights",
        "result.json": '{"training": {"steps": 4, "seconds": 1.5}}',
        "metrics.jsonl": '{"step": 1, "loss": 2.5, "step_seconds": 0.3}\n{"step": 1, "wer": 0.5}\n',
        ".lock": "1",
        "report.html": "<p>1.5 s",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    expected = outcome(tmp_path)
    assert sorted(expected) == ["adapter/adapter_model.safetensors", "metrics.jsonl", "result.json"]
    for name, old, new in (("result.json", "1.5", "9"), ("metrics.jsonl", "0.3", "9"), ("report.html", "1.5", "9")):
        (tmp_path / name).write_text(files[name].replace(old, new))
        assert differs(tmp_path, expected) is None
    changes = (("result.json", "4"), ("metrics.jsonl", "2.5"), ("adapter/adapter_model.safetensors", "weights"))
    for name, old in changes:
        (tmp_path / name).write_text(files[name].replace(old, "3"))
        assert differs(tmp_path, expected) == f"the result differs: {name}"
        (tmp_path / name).write_text(files[name])
    trials = '{"trials": [{"number": 0, "state": "complete", "value": 0.5}]}'
    killed = trials.replace("[{", '[{"number": 0, "state": "fail", "value": null}, {').replace(
        '0, "state": "c', '1, "state": "c'
    )
    (tmp_path / "trials.json").write_text(trials)
    whole = outcome(tmp_path)
    (tmp_path / "trials.json").write_text(killed)
    assert differs(tmp_path, whole) is None
    (tmp_path / "trials.json").write_text(killed.replace("0.5", "0.4"))
    assert differs(tmp_path, whole) == "the result differs: trials.json"
    (tmp_path / "trials.json").unlink()
    (tmp_path / "best.tmp").write_text("left behind")
    assert differs(tmp_path, expected) == "the result differs: best.tmp"
    (tmp_path / "best.tmp").unlink()
    (tmp_path / "result.json").write_text("{")
    assert differs(tmp_path, expected) == "the result differs: result.json"
    (tmp_path / "result.json").unlink()
    assert differs(tmp_path, expected) == "the result differs: result.json"


def test_a_job_that_leaves_nothing_to_compare_is_no_measure(
    faults: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import outcome

    monkeypatch.setattr(outcome, "speechft", lambda *words, env: subprocess.CompletedProcess(words, 0, "", ""))
    with pytest.raises(AssertionError, match="left no adapter/adapter_model"):
        outcome.undisturbed(["train"], tmp_path)


def test_trees_of_corpora_are_prepared_row_by_row(voice: Manifest, tmp_path: Path) -> None:
    """The simulated voice three times, each time by two other speakers: enough for a recording to be missing."""
    rows = [
        replace(
            u,
            id=f"{u.id}-{i}",
            speaker=f"{1 + i % 2 + 2 * (i // len(voice)):04d}",
            split="train" if i < 2 * len(voice) else "dev",
            gender="female",
        )
        for i, u in enumerate([*voice, *voice, *voice][:70])
    ]
    source = voice.path.parent / "trees.jsonl"  # type: ignore[union-attr]
    Manifest(rows, source).save(source)
    script = ROOT / "benchmarks" / "corpus_trees.py"
    done = subprocess.run([sys.executable, script, source, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = [line.split()[:4] for line in done.stdout.splitlines()[2:]]
    # number 50 is missing and 67 has no text; of Common Voice, 23, 46 and 69 were not found right
    left = {"speechocean762": 2, "librispeech": 2, "commonvoice": 5, "kaldi": 2}
    assert counted == [[name, str(70 - lost), str(lost), "0"] for name, lost in left.items()]


def test_a_list_of_packages_is_valid_and_whole(faults: Path) -> None:
    pytest.importorskip("cyclonedx")
    from release import incomplete, locked

    part = {"type": "library", "name": "Some_package", "version": "1.0"}
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [part]}
    sbom["metadata"] = {"component": {"type": "application", "name": "ours", "version": "2"}}
    packages = {"some-package": "1.0", "ours": "2"}
    assert incomplete(json.dumps(sbom), packages) is None
    assert incomplete(json.dumps(sbom), packages | {"other": "3"}) == "lacks other 3"
    assert incomplete(json.dumps(sbom), packages | {"ours": "3"}) == "lacks ours 3"
    part["type"] = "nonsense"
    assert "not valid" in (incomplete(json.dumps(sbom), packages) or "")
    entry = "some-package==1.0 \\\n    --hash=sha256:"
    assert locked(f"# head\n{entry}{'a' * 64}", packages) is None
    assert locked(f"# head\n{entry}{'a' * 63}", packages) == "without a hash: some-package==1.0"
    assert locked("", packages)
