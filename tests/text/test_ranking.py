"""MRR@10 as MS MARCO counts it, from its own files, by a reward model."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch

from speechft.errors import SpeechftError
from speechft.text import ranking
from speechft.text.model import load_text_model
from speechft.text.ranking import measure, read_candidates, reciprocal_rank
from speechft.text.reward import rewards


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
