"""Text data as people have it to examples in splits; what cannot be used is named.

What a row may look like is in `speechft.text.layouts`.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechft.errors import SpeechftError
from speechft.plain_text import encodable
from speechft.text.examples import Example
from speechft.text.files import SPLITS
from speechft.text.layouts import Unusable, refuse_without, to_example
from speechft.text.rows import rows_of

HELD_OUT = 10  # one in so many goes to dev, and one to test, where the data has no splits


@dataclass(frozen=True)
class Corpus:
    """Examples in their splits.

    Attributes:
        train, dev, test: never share a question unless the data's own splits do; see `overlap`.
        left_out: (where, reason) of every row that could not be used.
        other: documents of another domain that a recipe names, to measure what was forgotten.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    other: tuple[Example, ...] = ()

    @property
    def overlap(self) -> int:
        """Held-out examples whose question, or group, is in the training examples too."""
        seen = {key for example in self.train for key in (example.key, example.together)}
        return sum(bool({e.key, e.together} & seen) for e in (*self.dev, *self.test))

    @property
    def sha256(self) -> str:
        """Of all examples of the splits in order."""
        digest = hashlib.sha256()
        for name in ("train", "dev", "test"):
            for example in getattr(self, name):
                parts = [name, example.messages, example.rejected, example.label, example.document]
                parts += [example.unlearnt] if example.unlearnt else []
                digest.update(json.dumps(parts, sort_keys=True).encode())
        return digest.hexdigest()


def read(
    source: str, *, reader: str | None = None, needs: str = "answer", rows: int | None = None, seed: int = 0,
    training: bool = True,
) -> Corpus:  # fmt: skip
    """Read and split data.

    Args:
        source: a file (.jsonl, .json, .csv, .tsv, .txt, .parquet, each also .gz but the last), a folder of files named
            train, dev and test (see `files.split_of`) or of documents, or `hub:NAME` / `hub:NAME:CONFIG` of a hub.
        reader: a name from `speechft.text.corpora.READERS` for layouts that have one.
        needs: what each example must have: `answer`, `prompt`, `document`, `preference` or `judgement`.
        rows: of each file or split at most, from its start; of a hub no more is fetched.
        seed: of who goes where, if the data does not say.
        training: whether there must be examples to train on, and others to choose by.

    Raises:
        SpeechftError: no such data, or nothing in it that can be used, or too little for `training`.
    """
    left_out: list[tuple[str, str]] = []
    found: list[Example] = []
    for where, row, split in rows_of(source, reader, rows):
        try:
            example = to_example(row, where, split)
            refuse_without(example, needs)
        except Unusable as problem:
            left_out.append((where, encodable(str(problem))))
        else:
            found.append(example)
    if not found:
        reason = f"; the first row: {left_out[0][1]}" if left_out else ""
        raise SpeechftError(f"holds no {needs}{reason}", where=source, fix="See docs/text/data.md.")
    return split_examples(found, tuple(left_out), seed, training)


def split_examples(
    examples: Sequence[Example], left_out: tuple[tuple[str, str], ...] = (), seed: int = 0, training: bool = True
) -> Corpus:
    """Put examples in splits: as they say, else by a hash of the question, so that equal ones stay together.

    Raises:
        SpeechftError: none are left for training, or none for dev; where it is not for `training`, they may be empty.
    """
    parts: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    named = {example.split for example in examples}
    for example in examples:
        split = example.split or ("train" if named & {"dev", "test"} else "")
        draw = int(hashlib.sha256(f"{seed}:{example.together}".encode()).hexdigest()[:8], 16)
        if not split:
            split = {0: "dev", 1: "test"}.get(draw % HELD_OUT, "train")
        elif split == "train" and "dev" not in named:
            split = "dev" if draw % HELD_OUT == 0 else "train"
        parts[split].append(example)
    if training and not parts["train"] and named <= {"dev", "test"}:
        raise SpeechftError(
            f"all {len(examples)} usable rows are named dev or test; none is for training",
            fix="Name the file, or the rows' split, train.",
        )
    if training and not (parts["train"] and parts["dev"]):
        raise SpeechftError(
            f"{len(examples)} usable rows are too few to hold some out", fix="Give more rows, or rows with a split."
        )
    return Corpus(tuple(parts["train"]), tuple(parts["dev"]), tuple(parts["test"]), left_out)


def drawn(examples: Sequence[Example], most: int, seed: int) -> tuple[Example, ...]:
    """All examples, or `most` of them by chance, in their order: files are sorted by article, kind or date."""
    if len(examples) <= most:
        return tuple(examples)
    return tuple(examples[i] for i in sorted(random.Random(seed).sample(range(len(examples)), most)))


def part_of(corpus: Corpus, split: str | None, where: str) -> tuple[str, tuple[Example, ...]]:
    """The name and the examples of a split; test where there is one, else dev, else train, unless told."""
    parts = {name: part for name in ("train", "dev", "test") if (part := getattr(corpus, name))}
    name = SPLITS.get(split.lower(), split) if split else list(parts)[-1]
    if name not in parts:
        raise SpeechftError(f"has no split '{split}'", where=where, fix=f"It has {', '.join(parts)}.")
    return name, parts[name]


def held_out(corpus: Corpus, recipe: Any) -> tuple[str, tuple[Example, ...]]:
    """What a run is measured on at its end, and the name of that split: test where there is one, else dev."""
    if recipe.test and corpus.test:
        return "test", drawn(corpus.test, recipe.test_examples, recipe.seed)
    return "dev", drawn(corpus.dev, recipe.dev_examples, recipe.seed)
