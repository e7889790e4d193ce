"""Of two runs that write to one place the second is told so; a lock that is left behind hinders nobody."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from speechft import adapters
from speechft.augmented import augment_manifest, listen
from speechft.card import card
from speechft.cli.common import app
from speechft.comparison import evaluate_adapters
from speechft.config import SpeechRecipe
from speechft.corpora import prepare
from speechft.errors import SpeechftError
from speechft.export import export
from speechft.files import refuse_existing
from speechft.fleet import fleet
from speechft.locks import DATA, RESULTS, AnotherRun, is_locked, locked, locked_beside, new_place
from speechft.manifest import Manifest
from speechft.own_results import refuse_foreign_results
from speechft.pipeline import evaluate, train
from speechft.quickstart import run as quickstart
from speechft.split_files import write_split


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_that_nobody_needs_afterwards_goes_with_what_it_made(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "a" / "b", DATA, keep=False):
            assert is_locked(tmp_path / "a" / "b", DATA)
            with pytest.raises(AnotherRun, match="another run"), locked(tmp_path / "a" / "b", DATA, keep=False):
                pass
        assert names(tmp_path) == []
    with locked_beside(tmp_path / "m" / ("n" * 250)) as file:
        (tmp_path / "m" / "made").touch()
        assert not file.closed
        with pytest.raises(AnotherRun, match=r"n{250}: another run"), locked_beside(tmp_path / "m" / ("n" * 250)):
            pass
        with locked_beside(tmp_path / "m" / "other"):
            pass
    assert names(tmp_path / "m") == ["made"]


def test_a_lock_that_was_deleted_while_it_was_taken_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    flock, first = fcntl.flock, []

    def late(file: object, operation: int) -> None:
        flock(file, operation)
        if not first:
            first.append(True)
            (tmp_path / "a" / DATA).unlink()  # by the run before, at its end
            (tmp_path / "a").rmdir()

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path / "a", DATA):
        with pytest.raises(AnotherRun), locked(tmp_path / "a", DATA):
            pass
        assert names(tmp_path / "a") == [DATA]


def test_who_only_looks_hinders_nobody(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with locked(tmp_path, DATA):
        pass
    looking = (tmp_path / DATA).open()
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.1, looking.close).start()  # a look that takes as long as on a machine with much to do
    with locked(tmp_path, DATA):
        assert is_locked(tmp_path, DATA)


def test_where_a_file_system_has_no_locks_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(file: object, operation: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(fcntl, "flock", refuse)
    number = errno.ENOLCK
    with locked(tmp_path, DATA, keep=False):
        pass
    number = errno.EIO
    with pytest.raises(OSError, match="no"), locked(tmp_path, DATA, keep=False):
        pass


def test_a_killed_run_s_lock_blocks_nobody_and_says_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import sys, time; from pathlib import Path; from speechft.locks import *\n"
        "with locked(Path(sys.argv[1]), RESULTS, keep=False), locked(Path(sys.argv[1]), DATA, keep=False):\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AnotherRun), locked(out, RESULTS):
            pass
        holder.kill()
    assert names(out) == sorted([RESULTS, DATA])
    refuse_existing(out)  # holds nothing of anybody's
    adapters.refuse_foreign(out)
    (out / "report.md").write_text("mine")
    with pytest.raises(SpeechftError, match=r"report.md: was not made by speechft"):
        refuse_foreign_results(out)  # nor is it a mark of ours
    with pytest.raises(SpeechftError, match="exists already"):
        refuse_existing(out)
    for name in (RESULTS, DATA):
        with locked(out, name, keep=False):
            pass
    assert names(out) == ["report.md"]


def test_a_second_run_is_refused_and_changes_nothing(voice: Manifest, tmp_path: Path) -> None:
    assert voice.path
    out, page, rows = tmp_path / "out", tmp_path / "out" / "card.md", Manifest(voice[:1], voice.path)
    recipe = SpeechRecipe(manifest=voice.path, output_dir=out)
    results = (
        lambda: evaluate(voice, out=out),
        lambda: evaluate_adapters(voice, ["a", "b"], out=out),
        lambda: train(recipe),
    )
    data = (
        lambda: prepare("folder", tmp_path, out),
        lambda: prepare("csv", tmp_path / "t.csv", out / "other.jsonl"),
        lambda: prepare("simulated", "", out),
        lambda: augment_manifest(rows, out / "m.jsonl", ["noise"]),
        lambda: listen(rows, out, ["noise"]),
    )
    for name, uses in ((RESULTS, results), (DATA, data), (".lock", [lambda: fleet(recipe)])):
        with locked(out, name, keep=False):
            for use in uses:
                with pytest.raises(AnotherRun, match="another run is writing here"):
                    use()
                assert names(out) == [name]
    with locked_beside(page):
        for use in (lambda: write_split(voice, page, "prompt-disjoint"), lambda: card(voice, page)):
            with pytest.raises(AnotherRun):
                use()
    with locked_beside(out), pytest.raises(AnotherRun):
        export("nowhere", out)
    out.mkdir()
    with new_place(out):  # though it is there, empty
        assert [name for name in names(tmp_path) if name.endswith("lock")] == [".out.lock"]
        with pytest.raises(AnotherRun), new_place(out):
            pass
    with locked(out / "voice", DATA), pytest.raises(AnotherRun):
        quickstart(out)
    with locked(out, ".quickstart.lock"), pytest.raises(AnotherRun):
        quickstart(out)


def test_a_second_run_ends_with_2(voice: Manifest, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    command = [sys.executable, "-m", "speechft.cli", "prepare", "folder", str(tmp_path / "s"), str(tmp_path / "c")]
    with locked(tmp_path / "c", DATA):
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "another run is writing here. Wait for it, or choose another folder." in " ".join(done.stderr.split())


def test_what_holds_a_folder_is_gone_afterwards(voice: Manifest, tmp_path: Path) -> None:
    assert voice.path
    rows = Manifest(voice[:1], voice.path)
    evaluate(rows, out=tmp_path / "ev")
    assert names(tmp_path / "ev") == ["report.html", "report.md", "result.json"]
    for words in (
        ["evaluate", "--manifest", str(tmp_path / "none"), "--out", str(tmp_path / "a" / "b")],
        ["prepare", "folder", str(tmp_path / "none"), str(tmp_path / "a")],
        ["export", str(tmp_path / "ev"), str(tmp_path / "a")],
    ):
        assert isinstance(CliRunner().invoke(app, words).exception, SpeechftError)
        assert not (tmp_path / "a").exists()
    with contextlib.suppress(SpeechftError):
        listen(rows, tmp_path / "l", ["noise"])
    assert DATA not in names(tmp_path / "l")
    write_split(voice, tmp_path / "x.split.json", "prompt-disjoint")
    card(voice, tmp_path / "card.md")
    assert not [name for name in names(tmp_path) if name.endswith(".lock")]
