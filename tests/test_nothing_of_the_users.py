"""What is not ours is neither replaced nor deleted, whatever name is given for what we write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from speechft import adapters
from speechft.adapter_arithmetic import average
from speechft.augmented import listen
from speechft.cli.common import app
from speechft.cli.evaluation import check_names
from speechft.comparison import evaluate_adapters
from speechft.config import SpeechRecipe
from speechft.corpora import prepare
from speechft.errors import SpeechftError
from speechft.files import write_json, write_text
from speechft.fleet import fleet, refuse_foreign_fleet
from speechft.lr_finder import CURVE, RangeTest, plot
from speechft.manifest import Manifest
from speechft.own_results import refuse_foreign_file, refuse_foreign_results, write_transcript
from speechft.pipeline import evaluate
from speechft.plain_text import escape
from speechft.recipes import load_recipe
from speechft.split_files import write_split
from speechft.train import fit
from speechft.tune import tune
from speechft.tune_report import BEST, markdown, refuse_foreign_study


def test_a_folder_of_others_is_no_place_for_an_average(tmp_path: Path) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "a.wav").write_bytes(b"voice")
    with pytest.raises(SpeechftError, match="exists already"):
        average([tmp_path / "one"], None, tmp_path / "recordings")
    assert (tmp_path / "recordings" / "a.wav").read_bytes() == b"voice"


def test_weights_of_an_average_are_numbers(tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="not a number"):
        average([tmp_path / "one"], [float("nan")], tmp_path / "sum")


def test_a_run_refuses_an_adapter_folder_that_is_not_its_own(voice: Manifest, tmp_path: Path) -> None:
    mine = tmp_path / "adapter" / "letters.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    recipe = SpeechRecipe(manifest=voice.path, output_dir=tmp_path)
    with pytest.raises(SpeechftError, match=r"not made by speechft"):
        fit(recipe, voice[:4], voice[4:6])
    assert mine.read_text() == "mine"
    adapters.refuse_foreign(tmp_path / "nowhere")  # what is not there is free


@pytest.mark.parametrize("name", ["result.json", "report.html", "report.md", "metrics.jsonl"])
def test_results_of_others_are_not_replaced(voice: Manifest, tmp_path: Path, name: str) -> None:
    assert voice.path
    (tmp_path / name).write_text('{"accuracy": 0.9}')
    recipe = SpeechRecipe(manifest=voice.path, output_dir=tmp_path)
    adapter = tmp_path / "nowhere"
    for use in (
        lambda: fit(recipe, voice[:4], voice[4:6]),
        lambda: evaluate(voice, out=tmp_path),
        lambda: evaluate_adapters(voice, [adapter], out=tmp_path),
    ):
        with pytest.raises(SpeechftError, match=f"{name}: was not made by speechft"):
            use()
        with pytest.raises(SpeechftError, match=f"{name}: was not made by speechft"):
            use()  # nor the second time
    assert (tmp_path / name).read_text() == '{"accuracy": 0.9}'
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_one_s_own_results_are_replaced(voice: Manifest, tmp_path: Path) -> None:
    for _ in range(2):
        evaluate(Manifest(voice[:2], voice.path), out=tmp_path)
        (tmp_path / "metrics.jsonl").write_text("{}")
    (tmp_path / "result.json").unlink()
    with pytest.raises(SpeechftError, match=r"report.html: was not made"):
        refuse_foreign_results(tmp_path)
    (tmp_path / ".lock").touch()  # of a run that was cut off before its result
    refuse_foreign_results(tmp_path)
    refuse_foreign_results(tmp_path / "new")


def test_devices_and_folders_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(SpeechftError, match="not a file"):
            write_text(tmp_path / name, "text")
    assert not (tmp_path / "pipe").is_file()


def test_a_manifest_is_not_replaced_by_what_is_made_of_it(voice: Manifest, tmp_path: Path) -> None:
    assert voice.path
    before = voice.path.read_bytes()
    with pytest.raises(SpeechftError, match="the manifest itself"):
        write_split(voice, voice.path, "prompt-disjoint")
    assert voice.path.read_bytes() == before
    table = tmp_path / "t.csv"
    table.write_text("audio,text\nnowhere.wav,hello\n")
    with pytest.raises(SpeechftError, match="the table that is read"):
        prepare("csv", table, table)
    assert "hello" in table.read_text()


def test_a_transcript_replaces_only_what_a_run_wrote_and_nobody_changed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").touch()
    (tmp_path / "a.wav").symlink_to(tmp_path / "elsewhere" / "a.wav")  # what lies beside the link is the user's too
    check_names([tmp_path / "a.wav"], tmp_path, "txt")
    mine = tmp_path / "a.txt"
    for _ in range(2):
        write_transcript(mine, "heard")
        check_names([tmp_path / "a.wav"], tmp_path, "txt")
    write_transcript(mine, "heard better")
    assert mine.read_text() == "heard better"
    mine.write_text("by hand")
    for use in (
        lambda: check_names([tmp_path / "a.wav"], tmp_path, "txt"),
        lambda: write_transcript(mine, "heard"),
    ):
        with pytest.raises(SpeechftError, match="exists already, and was not written by 'speechft transcribe'"):
            use()
    assert mine.read_text() == "by hand"
    check_names([tmp_path / "a.wav"], tmp_path / "heard", "txt")
    with pytest.raises(SpeechftError, match="would replace that of"):
        check_names([tmp_path / "x" / "a.wav", tmp_path / "y" / "a.wav"], tmp_path / "heard", "txt")


def test_data_are_not_replaced_by_what_a_service_takes(tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    before = data.read_text()
    for source in (tmp_path, data):
        done = CliRunner().invoke(app, ["hosted", str(source), str(tmp_path)])
        assert isinstance(done.exception, SpeechftError), done.output
        assert data.read_text() == before


def test_keys_that_stand_twice_are_mistakes(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("manifest: m.jsonl\noutput_dir: out\nepochs: 1\nepochs: 2\n")
    with pytest.raises(SpeechftError, match="'epochs' appears twice"):
        load_recipe(recipe)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "a.wav", "text": "one", "text": "two"}\n')
    with pytest.raises(SpeechftError, match="'text' appears twice"):
        Manifest.load(manifest)


@pytest.mark.parametrize("setting", ["learning_rate=.inf", "weight_decay=.nan", "seed=-1", "seed=4294967296"])
def test_settings_are_numbers_that_can_be_used(setting: str) -> None:
    with pytest.raises(SpeechftError, match=setting.partition("=")[0]):
        load_recipe(None, ["manifest=m", "output_dir=o", setting])


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    assert escape("ann\x1b]0;title\x07[b]") == "ann\ufffd]0;title\ufffd\\[b]"
    rows = [{"audio": "a.wav", "text": "x", "speaker": "\x1b[31mred", "split": "\x9b2J"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = CliRunner().invoke(app, ["check", str(tmp_path / "m.jsonl")])
    assert "\x1b[31mred" not in said.output
    assert "\x9b" not in said.output


def test_a_chart_replaces_only_a_chart(voice: Manifest, tmp_path: Path) -> None:
    drawn, mine = tmp_path / "rate.svg", tmp_path / "mine.svg"
    mine.write_text("<svg/>")
    words = ["train", f"manifest={voice.path}", f"output_dir={tmp_path / 'out'}", "max_steps=5", "--plot-schedule"]
    for _ in range(2):
        assert CliRunner().invoke(app, [*words, str(drawn)]).exit_code == 0
    refused = CliRunner().invoke(app, [*words, str(mine)])
    assert "was not made by this command" in str(refused.exception)
    assert mine.read_text() == "<svg/>"


def test_a_split_replaces_only_a_split(voice: Manifest, tmp_path: Path) -> None:
    made, mine = tmp_path / "a.split.json", tmp_path / "thesis.json"
    for _ in range(2):
        write_split(voice, made, "prompt-disjoint")
    mine.write_text("{}")
    made.write_text(made.read_text().replace('"train"', '"dev"'))  # corrected by hand
    for path in (made, mine):
        before = path.read_text()
        with pytest.raises(SpeechftError, match="exists already, and would be overwritten"):
            write_split(voice, path, "prompt-disjoint")
        assert path.read_text() == before


def test_examples_replace_only_examples(voice: Manifest, tmp_path: Path) -> None:
    for _ in range(2):
        listen(Manifest(voice[:1], voice.path), tmp_path / "l", ("noise",))
    site, sounds = tmp_path / "site" / "index.html", tmp_path / "sounds" / "1-00-as_recorded.wav"
    for mine in (site, sounds):
        mine.parent.mkdir()
        mine.write_text("mine")
        with pytest.raises(SpeechftError, match=r"was not made by this command|holds sounds"):
            listen(Manifest(voice[:1], voice.path), mine.parent, ("noise",))
        assert [path.read_text() for path in mine.parent.iterdir()] == ["mine"]


def test_a_run_deletes_no_adapter_of_another_place(voice: Manifest, tmp_path: Path) -> None:
    """A card of ours is in every adapter that was ever trained: it does not say that this run may have it."""
    card = tmp_path / "adapter" / "speechft.json"
    card.parent.mkdir()
    card.write_text("{}")
    recipe = SpeechRecipe(manifest=voice.path, output_dir=tmp_path)
    for _ in range(2):
        with pytest.raises(SpeechftError, match="is not of a run in this folder"):
            fit(recipe, voice[:4], voice[4:6])
    refuse_foreign_results(tmp_path)  # an evaluation leaves it alone
    (tmp_path / ".lock").touch()
    refuse_foreign_results(tmp_path, "adapter")


MINE = ("trials.md", "trials.json", "best.yaml", "importance.svg", "trials/notes.txt", "report.html")


@pytest.mark.parametrize("name", [*MINE, "fleet.json", "fleet.md"])
def test_a_study_and_a_fleet_replace_only_their_like(voice: Manifest, tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("# Fleet\n\nThree buses, best.yaml in each")
    (tmp_path / "trials").mkdir(exist_ok=True)
    (tmp_path / ".lock").touch()  # of a training run here, say; of a report it says that it is one's own
    if name == "report.html":
        (tmp_path / ".lock").unlink()
    before = sorted(tmp_path.rglob("*"))
    recipe = SpeechRecipe(manifest=voice.path, output_dir=tmp_path, max_steps=1)
    for use in (tune, fleet):
        if name.startswith("fleet") == (use is fleet) or name == "report.html":
            with pytest.raises(SpeechftError, match=r"was not made by"):
                use(recipe)
    assert sorted(tmp_path.rglob("*")) == before
    assert mine.read_text().startswith("# Fleet")


def test_a_study_s_and_a_fleet_s_files_are_known_as_theirs(tmp_path: Path) -> None:
    refuse_foreign_study(tmp_path)
    refuse_foreign_fleet(tmp_path)
    write_text(tmp_path / "best.yaml", f"{BEST}# The best of 3 trials by dev WER.\n")
    (tmp_path / "importance.svg").write_text("<svg><!-- importance --></svg>")
    result = {"metric": "dev WER", "recipe_itself": 0.1, "best": {"number": 0, "value": 0.1, "params": {}}}
    result |= {"trials": [], "importance": {}, "notice": None}
    write_json(tmp_path / "trials.json", result)
    write_text(tmp_path / "trials.md", markdown(result))
    (tmp_path / "trials" / "3").mkdir(parents=True)
    with pytest.raises(SpeechftError, match=r"trials: was not made by a study"):
        refuse_foreign_study(tmp_path)
    (tmp_path / ".lock").touch()  # of a study that was killed
    refuse_foreign_study(tmp_path)
    (tmp_path / "best.yaml").unlink()  # a study writes it before the picture
    with pytest.raises(SpeechftError, match=r"importance.svg: was not made"):
        refuse_foreign_study(tmp_path)


def test_a_curve_of_learning_rates_replaces_only_its_like(voice: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ["tune", "--find-lr", f"manifest={voice.path}", f"output_dir={tmp_path}"]
    picture = tmp_path / "learning_rate.svg"
    plot(RangeTest((1e-4, 1e-3), (2.0, 1.0), 1e-4, False), picture)
    refuse_foreign_file(picture, CURVE)
    picture.write_text("<svg/>")
    assert "was not made by this command" in str(CliRunner().invoke(app, words).exception)
    assert picture.read_text() == "<svg/>"


def test_an_output_folder_has_a_name(voice: Manifest, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("output_dir: ''\n")
    for path, overrides in ((None, ['output_dir=""']), (tmp_path / "r.yaml", [])):
        with pytest.raises(SpeechftError, match=r"output_dir.*it is empty"):
            load_recipe(path, [f"manifest={voice.path}", *overrides])
