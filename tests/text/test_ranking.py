"""MRR@10 as MS MARCO counts it, from its own files, by a reward model."""

from __future__ import annotations

import doctest
import json
import runpy
from pathlib import Path

import pytest
import torch

from speechft.errors import SpeechftError
from speechft.recipes import load_recipe
from speechft.text import ranking
from speechft.text.model import load_text_model
from speechft.text.pipeline import train
from speechft.text.ranking import lines_of, measure, read_candidates, reciprocal_rank
from speechft.text.reward import rewards

RECIPES = Path(__file__).parents[2] / "recipes"


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(ranking).failed == 0


def test_only_the_first_ten_count_and_ties_keep_their_order() -> None:
    assert reciprocal_rank([0.0] * 12, [False] * 9 + [True, True, True]) == 0.1
    assert reciprocal_rank([0.0] * 12, [False] * 10 + [True, True]) == 0
    assert reciprocal_rank([], []) == 0


def test_candidates_are_ranked_by_the_reward_model(tiny_llama: Path, tmp_path: Path) -> None:
    words = ["cat", "dog", "bird", "fish", "tree"]
    lines = [f'q{q}\tp{p}\twhat is {q}\ta "{word} {q}\n' for q in range(3) for p, word in enumerate(words)]
    (tmp_path / "top1000.dev.tsv").write_text("".join(lines))
    (tmp_path / "qrels.dev.tsv").write_text("q0\t0\tp3\t1\nq1\t0\tp0\t1\n")
    queries = read_candidates(tmp_path / "top1000.dev.tsv", tmp_path / "qrels.dev.tsv")
    assert [query.relevant.count(True) for query in queries] == [1, 1, 0]
    assert queries[0].passages[3] == 'a "fish 0'
    text = load_text_model(tiny_llama, scalar=True)
    torch.manual_seed(1)
    torch.nn.init.normal_(text.model.score.weight)
    found = measure(text, queries)
    assert found["mrr_before"].value == pytest.approx((1 / 4 + 1) / 3)
    by_hand = []
    for query, right in zip(queries, (3, 0), strict=False):
        asked = {"role": "user", "content": f"Give a passage that answers the query.\n\nQuery: {query.query}"}
        own = rewards(text, [[asked, {"role": "assistant", "content": passage}] for passage in query.passages])
        by_hand.append(1 / (1 + sum(score > own[right] for score in own)))
    assert found["mrr"].value == pytest.approx(sum(by_hand) / 3)
    (tmp_path / "qrels.dev.tsv").write_text("q0 0 p3 1\n")
    with pytest.raises(SpeechftError, match="1 fields, not 4"):
        read_candidates(tmp_path / "top1000.dev.tsv", tmp_path / "qrels.dev.tsv")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Five queries of four passages each; by passage, as the authors' file is, not by query."""
    rows = [f"q{q}\tp{p}\twhat is {q}\tpassage {p} of {q}\n" for p in range(4) for q in range(5)]
    (tmp_path / "top1000.dev.tsv").write_text("".join(rows))
    (tmp_path / "qrels.dev.tsv").write_text("".join(f"q{q}\t0\tp{q % 4}\t1\n" for q in range(5)))
    return tmp_path / "top1000.dev.tsv", tmp_path / "qrels.dev.tsv"


def test_some_queries_are_drawn_whole(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    every = read_candidates(*files)
    some = read_candidates(*files, queries=2)
    assert len(some) == 2
    assert all(query in every for query in some)
    assert some == read_candidates(*files, queries=2) != read_candidates(*files, queries=2, seed=1)
    assert read_candidates(*files, queries=9) == every


def test_the_file_is_read_line_by_line(files: tuple[Path, Path]) -> None:
    """Its millions of passages are never in memory together: of a bad line at the end, what is before is known."""
    with files[0].open("a") as file:
        file.write("broken\n")
    lines = ranking.lines_of(files[0], 4)
    assert next(lines)[0] == "q0"
    with pytest.raises(SpeechftError, match="tsv:21"):
        list(lines)


@pytest.mark.slow
def test_the_recipe_counts_what_an_adapter_changed(
    tiny_llama: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every relevant passage says so, and the triples of training do too."""
    triples = [f"what is {i}\tyes passage {i}\tno passage {i}\n" for i in range(60)]
    (tmp_path / "triples.train.small.tsv").write_text("".join(triples))
    rows = [f"q{q}\tp{p}\twhat is {q}\t{'yes' if p == 3 else 'no'} passage {p}\n" for p in range(4) for q in range(5)]
    files[0].write_text("".join(rows))
    files[1].write_text("".join(f"q{q}\t0\tp3\t1\n" for q in range(5)))
    recipe = load_recipe(RECIPES / "text_ms_marco.yaml", [
        f"model={tiny_llama}", f"data={tmp_path / 'triples.train.small.tsv'}", f"output_dir={tmp_path / 'out'}",
        "max_steps=40", "learning_rate=0.01", "max_length=64", "evaluations=2", "dev_examples=20", "test=false",
    ])  # fmt: skip
    assert train(recipe)["adapted"]["accuracy"]["value"] > 0.9
    main = runpy.run_path(str(RECIPES / "text_ranking.py"))["main"]
    main([str(tmp_path / "out" / "adapter"), *map(str, files), "--queries", "4", "--out", str(tmp_path / "ranked")])
    found = json.loads(capsys.readouterr().out)
    assert (found["mrr_before"]["value"], found["mrr"]["value"], found["mrr"]["n"]) == (0.25, 1.0, 4)
    assert json.loads((tmp_path / "ranked" / "result.json").read_text())["measures"] == found


def test_a_missing_or_packed_table_ends_in_a_sentence(tmp_path: Path) -> None:
    packed = tmp_path / "top1000.tsv"
    packed.write_bytes(b"\x1f\x8b\x08\x00\xff")
    for file, said in [(tmp_path / "none.tsv", "does not exist"), (packed, "cannot be read")]:
        with pytest.raises(SpeechftError, match=said):
            list(lines_of(file, 4))
