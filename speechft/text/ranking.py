"""Ranking passages by a reward model, counted as MS MARCO's passage task does: MRR@10 (Bajaj et al., 2016, arXiv
1611.09268)."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechft.errors import SpeechftError, readable
from speechft.text.corpora import ranking_prompt
from speechft.text.examples import answered
from speechft.text.files import opened
from speechft.text.measure import Measure
from speechft.text.model import TextModel
from speechft.text.reward import rewards


@dataclass(frozen=True)
class Candidates:
    """A query and what a first search found for it.

    Attributes:
        passages: in the order of that search.
        relevant: whether people marked the passage as answering.
    """

    query: str
    passages: tuple[str, ...]
    relevant: tuple[bool, ...]


def read_candidates(
    top1000: str | Path, qrels: str | Path, queries: int | None = None, seed: int = 0
) -> list[Candidates]:
    """The candidates to rank again, all passages of a query.

    Args:
        top1000: top1000.*.tsv: query id, passage id, query, passage; the authors' is ordered by passage.
        qrels: qrels.*.tsv: query id, 0, passage id, 1.
        queries: of those in `qrels` at most, drawn by the seed; other passages are read past. All queries of `top1000`
            unless given.

    Raises:
        SpeechftError: a line of another form.
    """
    grades = [(query, passage, int(grade)) for query, _, passage, grade in lines_of(qrels, 4)]
    marked = {(query, passage) for query, passage, grade in grades if grade > 0}
    known = sorted({query for query, _, _ in grades})
    wanted = set(random.Random(seed).sample(known, queries)) if queries is not None and queries < len(known) else None
    found: dict[str, tuple[str, list[str], list[bool]]] = {}
    for query_id, passage_id, query, passage in lines_of(top1000, 4):
        if wanted is not None and query_id not in wanted:
            continue
        _, passages, relevant = found.setdefault(query_id, (query, [], []))
        passages.append(passage)
        relevant.append((query_id, passage_id) in marked)
    return [Candidates(query, tuple(passages), tuple(relevant)) for query, passages, relevant in found.values()]


def lines_of(path: str | Path, fields: int) -> Iterator[list[str]]:
    """The lines of a file of tabs, one after the other.

    Raises:
        SpeechftError: the file is missing or cannot be read, or a line has another number of fields.
    """
    if not Path(path).is_file():
        raise SpeechftError("the file does not exist", where=path, fix="Check the path.")
    with readable(path, "Give a table of MS MARCO: text with tabs."), opened(Path(path)) as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
            if len(row) != fields:
                raise SpeechftError(
                    f"has {len(row)} fields, not {fields}",
                    where=f"{path}:{number}",
                    fix="Fields are separated by tabs.",
                )
            yield row


def reciprocal_rank(scores: Sequence[float], relevant: Sequence[bool], at: int = 10) -> float:
    """1 / place of the first relevant passage by score, 0 where none is among the first `at`; ties keep their order.

    >>> reciprocal_rank([0.1, 0.9, 0.5], [False, False, True])
    0.5
    """
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:at]
    return next((1 / place for place, i in enumerate(order, 1) if relevant[i]), 0.0)


def measure(text: TextModel, queries: Sequence[Candidates], at: int = 10, max_length: int = 256) -> dict[str, Measure]:
    """`mrr` by the reward model and `mrr_before`, of the order the candidates came in; over the queries given.

    MS MARCO's own figure divides by all queries of its qrels, those without candidates among them.

    Args:
        text: from `speechft.text.reward.load_reward_model`.
        max_length: tokens of query and passage.
    """
    ranked, before = [], []
    for query in queries:
        asked = {"role": "user", "content": ranking_prompt(query.query)}
        conversations = [answered([asked], passage) for passage in query.passages]
        ranked.append(reciprocal_rank(rewards(text, conversations, max_length), query.relevant, at))
        before.append(reciprocal_rank([0.0] * len(query.passages), query.relevant, at))
    return {"mrr": Measure.mean(ranked), "mrr_before": Measure.mean(before)}
