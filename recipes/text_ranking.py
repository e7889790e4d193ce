"""Rank MS MARCO's passages again by a reward model, and count MRR@10 before and after.

    python recipes/text_ranking.py runs/text/ms_marco/adapter top1000.dev.tsv qrels.dev.tsv --queries 200

The adapter is one of recipes/text_ms_marco.yaml. All of dev are 6,980 queries with up to 1,000 passages each: a sample
says as much, with an interval. See data_cards/text/ms_marco.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from speechft import exits
from speechft.files import write_json
from speechft.own_results import refuse_foreign_results
from speechft.result import environment
from speechft.text.ranking import measure, read_candidates
from speechft.text.reward import load_reward_model


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", help="folder of a reward model")
    parser.add_argument("top1000", type=Path)
    parser.add_argument("qrels", type=Path)
    parser.add_argument("--queries", type=int, default=200, help="at most, drawn by the seed")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of query and passage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for result.json")
    a = parser.parse_args(words)

    if a.queries < 1:
        parser.error("--queries must be 1 or more")
    if a.out:
        refuse_foreign_results(a.out)
    queries = read_candidates(a.top1000, a.qrels, a.queries, a.seed)
    found = measure(load_reward_model(a.adapter), queries, max_length=a.max_length)
    measures = {name: one.summary() for name, one in found.items()}
    if a.out:
        result = {"adapter": a.adapter, "queries": len(queries), "measures": measures, "environment": environment()}
        write_json(a.out / "result.json", result)
    print(json.dumps(measures, indent=2))


if __name__ == "__main__":
    exits.run(main)
