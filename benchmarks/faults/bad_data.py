"""Broken text data, through the reader of the text recipes: each layout and kind of file, one thing wrong at a time.

    python benchmarks/faults/bad_data.py

Each must be read as what it means, with what cannot be used named by file and row, or end in a sentence.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bad_corpora import damaged
from common import ended_well, run
from tally import Tally

USER, SAID, BAD = (
    {"role": role, "content": content}
    for role, content in (("user", "Name a fruit."), ("assistant", "Apple"), ("assistant", "Stone"))
)
PARTS = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in (USER, SAID)]
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {  # what is needed, and a row
    "messages": ("answer", {"messages": [{"role": "system", "content": "Be brief."}, USER, SAID]}),
    "parts": ("answer", {"messages": PARTS}),
    "sharegpt": ("answer", {"conversations": [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "Fig"}]}),
    "prompt": ("answer", {"prompt": "Name a fruit.", "completion": "Apple", "split": "train", "group": "g"}),
    "answers": ("answer", {"prompt": [USER], "answers": ["Apple", "Fig"], "extra": {"a": 1}}),
    "alpaca": ("answer", {"instruction": "Name a fruit.", "input": "A red one.", "output": "Apple"}),
    "preference": ("preference", {"chosen": [USER, SAID], "rejected": [USER, BAD]}),
    "judged": ("judgement", {"prompt": "Name a fruit.", "completion": "Apple", "label": True}),
    "document": ("document", {"text": "A document of a few words."}),
}  # fmt: skip
CORPORA: dict[str, str] = {
    "ag_news": '"3","Title","Words of it"\n' * 2,
    "c4": json.dumps({"text": "A page.", "timestamp": "2019", "url": "u"}),
    "mimic": "SUBJECT_ID,TEXT,CATEGORY,ISERROR\n7,A note,Nursing,\n8,Another,Nursing,1\n",
    "ms_marco": "query\trelevant\tother\n" * 2,
    "real_toxicity_prompts": json.dumps({"prompt": {"text": "So", "toxicity": 0.1}, "challenging": False}),
    "samsum": json.dumps([{"id": "1", "dialogue": "A: Hi", "summary": "A says hi."}]),
    "squad": json.dumps({"data": [{"title": "t", "paragraphs": [
        {"context": "It is red.", "qas": [{"question": "What colour?", "answers": [{"text": "red"}]}]},
    ]}]}),
}  # fmt: skip


def main(a: argparse.Namespace) -> Tally:
    tally = Tally(
        "broken text data", notes="9 layouts as JSONL, JSON, CSV, gz, parquet, and 7 corpora; cut, odd values"
    )
    with tempfile.TemporaryDirectory() as work:
        for name, (needs, row) in LAYOUTS.items():
            good = [json.dumps({**row, "number": n}) for n in range(30)]  # enough of them to hold some out
            for what, content in damaged("rows.jsonl", json.dumps(row)):
                path = Path(work) / "rows.jsonl"
                path.write_bytes(content + b"\n" + "\n".join(good).encode())
                tally.count(f"{name}: {what}", read(path, needs))
            for file, content in kinds(row).items():
                for what, broken in cut(content):
                    path = Path(work) / file
                    path.write_bytes(broken)
                    tally.count(f"{name}: {file} {what}", read(path, needs))
        for reader, text in CORPORA.items():
            ending = ".json" if text[0] in "[{" else ".csv"
            for what, content in damaged(f"f{ending}", text):
                path = Path(work) / f"f{ending}"
                path.write_bytes(content)
                needs = {"c4": "document", "mimic": "document", "ms_marco": "preference"}.get(reader, "prompt")
                tally.count(f"{reader}: {what}", read(path, needs, reader))
    return tally


def read(path: Path, needs: str, reader: str | None = None) -> str | None:
    """What is wrong with how a file was read, or with what was made of it."""
    from speechft.text import data

    def use() -> None:
        corpus = data.read(str(path), needs=needs, reader=reader)
        assert len(corpus.sha256) == 64
        assert corpus.overlap >= 0
        for example in (*corpus.train, *corpus.dev, *corpus.test):
            texts = [example.document, example.rejected or "", *(m["content"] for m in example.messages)]
            "".join(texts).encode()  # as a tokenizer does
        for where, reason in corpus.left_out:
            assert where.startswith(f"{path.name}:"), where
            assert reason.encode()

    return ended_well(use)


def kinds(row: dict[str, Any]) -> dict[str, bytes]:
    """Thirty rows as each kind of file."""
    import pyarrow
    import pyarrow.parquet

    rows = [{**row, "number": n} for n in range(30)]
    lines = "\n".join(map(json.dumps, rows)).encode()
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    return {
        "rows.jsonl": lines, "rows.jsonl.gz": gzip.compress(lines), "rows.json": json.dumps(rows).encode(),
        "rows.csv": table.getvalue().encode(), "rows.txt": lines, "rows.parquet": parquet.getvalue(),
    }  # fmt: skip


def cut(content: bytes) -> Iterator[tuple[str, bytes]]:
    """(what, content) of a file that is whole, truncated or overwritten in places."""
    yield "whole", content
    yield "empty", b""
    yield "in UTF-16", content.decode("latin-1").encode("utf-16")
    for at in range(1, len(content), max(1, len(content) // 12)):
        yield f"cut at {at}", content[:at]
        yield f"overwritten at {at}", content[:at] + b"\xff\0\xfe" + content[at + 3 :]


if __name__ == "__main__":
    run(main, __doc__, 0)
