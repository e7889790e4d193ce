"""Varied copies: true lengths, marked synthetic, never in a test set unsaid; examples to listen to."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from speechft.augment_audio import EFFECTS
from speechft.augmented import augment_manifest, listen
from speechft.check import check
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.overlap import overlap
from speechft.result import notice


@pytest.fixture(scope="module")
def corpus(voice: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Six recordings without the mark that the simulated voice has."""
    out = tmp_path_factory.mktemp("corpus")
    rows = []
    for number, u in enumerate([*voice.split("train")[:3], *voice.split("dev")[:1], *voice.split("test")[:2]]):
        (out / f"{number}.flac").write_bytes(u.audio.read_bytes())
        rows.append({"audio": f"{number}.flac", "text": u.text, "speaker": "s", "split": u.split})
    (out / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Manifest.load(out / "manifest.jsonl")


def test_copies_are_marked_and_as_long_as_they_say(corpus: Manifest) -> None:
    folder = corpus.path.parent  # type: ignore[union-attr]
    out = augment_manifest(corpus.path, folder / "more.jsonl", ["tempo", "noise"], copies=2)  # type: ignore[arg-type]
    made = [u for u in Manifest.load(folder / "more.jsonl") if u.extra.get("synthetic")]
    assert len(out) == 6 + 3 * 2 * 2
    assert len(made) == 12
    originals = {u.id: u for u in corpus}
    for u in made:
        source = originals[str(u.extra["synthetic_from"])]
        assert (u.text, u.speaker, u.split) == (source.text, source.speaker, "train")
        assert soundfile.info(u.audio).duration == pytest.approx(u.duration_s)
        if u.extra["augmentation"] == "tempo":
            amount = float(str(u.extra["amounts"]).split()[1])
            assert u.duration_s == pytest.approx(soundfile.info(source.audio).duration / amount, abs=1e-4)
    assert not [p for p in check(folder / "more.jsonl") if p.severity == "error"]
    assert "recording" not in str(overlap(Manifest.load(folder / "more.jsonl")))


def test_copies_replace_copies_alone(corpus: Manifest, tmp_path: Path) -> None:
    rows = Manifest([replace(u, split="train") for u in corpus][:1])
    name = f"{rows[0].id}~noise.flac"
    mine = tmp_path / "synthetic" / "m" / name
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    for seed in (0, 1):
        made = augment_manifest(rows, tmp_path / "m.jsonl", ["noise"], seed=seed)[-1]
        assert made.audio == mine.parent / "m" / name
        assert len(made.load()) == len(rows[0].load())
    assert mine.read_bytes() == b"mine"


def test_ids_that_no_file_can_have(corpus: Manifest, tmp_path: Path) -> None:
    ids = ["a/b", "a_b", "ü" * 200, ".."]
    odd = Manifest([replace(u, id=name, split="train") for u, name in zip(corpus, ids, strict=False)])
    made = [u for u in augment_manifest(odd, tmp_path / "m.jsonl", ["noise"]) if u.extra.get("synthetic")]
    assert [u.extra["synthetic_from"] for u in made] == ids
    assert len({u.audio for u in made}) == 4
    assert {u.audio.parent for u in made} == {tmp_path / "synthetic" / "m"}


def test_the_same_seed_the_same_bytes(corpus: Manifest, tmp_path: Path) -> None:
    for name in ("a", "b"):
        augment_manifest(corpus, tmp_path / name / "m.jsonl", ["pitch", "impairment"], together=True, seed=3)
    one, two = ([p.read_bytes() for p in sorted((tmp_path / name / "synthetic" / "m").iterdir())] for name in "ab")
    assert one == two
    assert len(one) == 3


def test_a_second_manifest_leaves_the_copies_of_the_first_alone(corpus: Manifest, tmp_path: Path) -> None:
    first = augment_manifest(corpus, tmp_path / "one.jsonl", ["tempo"], seed=1)
    augment_manifest(corpus, tmp_path / "two.jsonl", ["tempo"], seed=2)
    made = [u for u in first if u.extra.get("synthetic")]
    assert [soundfile.info(u.audio).duration for u in made] == pytest.approx([u.duration_s for u in made])


def test_a_synthetic_test_clip_is_said_before_any_number(corpus: Manifest, tmp_path: Path) -> None:
    assert notice(corpus.split("test")) is None
    train = augment_manifest(corpus, tmp_path / "train.jsonl", ["noise"])
    assert notice(train.split("test"), train) is None  # trained on, not tested on
    tested = augment_manifest(corpus, tmp_path / "test.jsonl", ["noise"], split="test").split("test")
    said = "2 of the 4 test recordings are synthetic: these numbers are no evidence about real speech."
    assert notice(tested) == said
    assert notice(tested.filter(lambda u: u.id != tested[-1].id)) == (
        "1 of the 3 test recordings is synthetic: these numbers are no evidence about real speech."
    )
    out = tmp_path / "out"
    given = ("--manifest", tmp_path / "test.jsonl", "--out", out, "--allow-outside", "--json")
    command = [sys.executable, "-m", "speechft.cli", "evaluate", *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert next(iter(json.loads(done.stdout).items())) == ("notice", said)
    assert (out / "report.md").read_text().splitlines()[2] == f"> **{said}**"
    page = (out / "report.html").read_text()
    assert page.index(said) < page.index('class="answer">')


def test_without_splits_they_are_made_first(corpus: Manifest, tmp_path: Path) -> None:
    from dataclasses import replace

    bare = Manifest((replace(u, split=None) for u in corpus), corpus.path)
    made = augment_manifest(bare, tmp_path / "m.jsonl", ["speed"])
    assert {u.split for u in made if u.extra.get("synthetic")} == {"train"}
    assert {"dev", "test"} <= set(made.splits)


def test_examples_to_listen_to(corpus: Manifest, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "speechft.cli", "augment", str(corpus.path), "--listen", str(tmp_path), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    page = Path(json.loads(done.stdout)["listen"]).read_text()
    assert page.count("<audio") == 3 * (1 + 2 * len(EFFECTS)) == len(list(tmp_path.glob("*.wav")))
    assert all(f'src="{path.name}"' in page for path in tmp_path.glob("*.wav"))
    assert corpus[0].text in page


def test_mistakes_are_named(corpus: Manifest, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="unknown effect 'echo'"):
        listen(corpus, tmp_path, ["echo"])
    with pytest.raises(SpeechftError, match="no recording in the split 'devel'"):
        augment_manifest(corpus, tmp_path / "m.jsonl", ["noise"], split="devel")
    with pytest.raises(SpeechftError, match="no effect"):
        augment_manifest(corpus, tmp_path / "m.jsonl", [])


def test_rows_that_cannot_be_used_are_told_and_kept(corpus: Manifest, tmp_path: Path) -> None:
    rows = [{**u.to_row(), "split": "Train"} for u in corpus[:2]]
    rows += [{"audio": str(tmp_path / "gone.wav"), "text": "gone", "split": "Train"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{\n")
    told: list[dict] = []
    made = augment_manifest(
        tmp_path / "m.jsonl", tmp_path / "more.jsonl", ["noise"], allow_outside=True, on_event=told.append
    )
    assert [u.text for u in made] == [corpus[0].text, corpus[1].text, "gone", corpus[0].text, corpus[1].text]
    assert [event["where"] for event in told] == ["m.jsonl:4", "m.jsonl:3"]


def test_no_manifest_of_the_users_is_replaced(corpus: Manifest, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="is the manifest that is varied"):
        augment_manifest(corpus.path, corpus.path, ["noise"])  # type: ignore[arg-type]
    out = tmp_path / "more.jsonl"
    for _ in range(2):
        augment_manifest(corpus, out, ["noise"])
    out.write_text(out.read_text().replace("noise", "much noise"))
    with pytest.raises(SpeechftError, match="changed by hand"):
        augment_manifest(corpus, out, ["noise"])


def test_amounts_can_be_given(corpus: Manifest) -> None:
    folder = corpus.path.parent  # type: ignore[union-attr]
    out = augment_manifest(corpus, folder / "loud.jsonl", ["noise"], amounts={"noise": 3.0})
    assert {u.extra["amounts"] for u in out if u.extra.get("synthetic")} == {"noise 3"}
    for amounts, said in (({"noise": 300.0}, "not possible"), ({"pitch": 1.0}, "not asked for")):
        with pytest.raises(SpeechftError, match=said):
            augment_manifest(corpus, folder / "not.jsonl", ["noise"], amounts=amounts)
