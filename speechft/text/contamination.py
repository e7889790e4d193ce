"""Benchmark items in training texts: copies, found by words in a row (Brown et al., 2020, arXiv 2005.14165)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from speechft.errors import SpeechftError
from speechft.text.layouts import Unusable, to_example
from speechft.text.rows import rows_of

NGRAM = 13  # words, the most that the study of GPT-3 asks to be the same; its least is the next
LEAST = 8  # words of a question that is a copy without its answer too


@dataclass(frozen=True)
class Item:
    """A test item of a benchmark.

    Attributes:
        task: its name.
        number: its place in the task, from 0.
        wordings: how it can stand in a text: as the task asks it, and as its fields alone, each with the answer.
    """

    task: str
    number: int
    wordings: tuple[str, ...]


def contaminated(training: Iterable[str], items: Sequence[Item], ngram: int = NGRAM) -> list[dict[str, Any]]:
    """Items of which a wording occurs in the training texts.

    Returns:
        of each: `task`, `item` (its number), and `share` and `found` of the wording that is found most; see
        `contamination`.
    """
    wordings = [(item, wording) for item in items for wording in item.wordings]
    found: dict[Item, dict[str, Any]] = {}
    for hit in contamination(training, [wording for _, wording in wordings], ngram):
        item = wordings[hit["item"]][0]
        if item not in found or hit["share"] > found[item]["share"]:
            found[item] = {"task": item.task, **hit, "item": item.number}
    return list(found.values())


def contamination(training: Iterable[str], items: Sequence[str], ngram: int = NGRAM) -> list[dict[str, Any]]:
    """Texts whose words occur in the training texts.

    Args:
        training: texts.
        items: questions, with or without their answers.
        ngram: words in a row that have to be the same; items with fewer words have to occur whole.

    Returns:
        of each item that is hit: `item` (its place), `share` of its n-grams found, and the first one `found`.
    """
    sizes: dict[int, dict[tuple[str, ...], set[int]]] = {}
    totals: list[int] = []
    for place, item in enumerate(items):
        tokens = words(item)
        size = min(ngram, len(tokens))
        grams = set(_grams(tokens, size))
        totals.append(len(grams))
        for gram in grams:
            sizes.setdefault(size, {}).setdefault(gram, set()).add(place)
    hits: dict[int, dict[tuple[str, ...], None]] = {}
    for text in training:
        tokens = words(text)
        for size, wanted in sizes.items():
            for gram in _grams(tokens, size):
                for place in wanted.get(gram, ()):
                    hits.setdefault(place, {})[gram] = None
    return [
        {"item": place, "share": round(len(grams) / totals[place], 4), "found": " ".join(next(iter(grams)))}
        for place, grams in sorted(hits.items())
    ]


def _grams(tokens: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1) if size)


def words(text: str) -> list[str]:
    """Lower case, letters and digits only.

    >>> words("It's 3 o'clock.")
    ['it', 's', '3', 'o', 'clock']
    """
    return re.findall(r"\w+", text.lower())


def training_texts(source: str, reader: str | None = None) -> list[str]:
    """What a model is trained on with this data: every row that can be used, of whatever split.

    A question stands before each of its answers, the rejected one too.

    Args:
        source, reader: as of `speechft.text.data.read`.

    Raises:
        SpeechftError: no such data, or no text in it.
    """
    texts: list[str] = []
    reason = ""
    for where, row, split in rows_of(source, reader, None):
        try:
            example = to_example(row, where, split)
        except Unusable as problem:
            reason = reason or f"; the first row: {problem}"
            continue
        question = "\n".join(message["content"] for message in example.prompt)
        answers = dict.fromkeys((example.answer, *example.references, example.rejected or ""))
        texts += [example.document] if example.document else [f"{question}\n{answer}" for answer in answers]
    if not any(map(words, texts)):
        raise SpeechftError(f"holds no text{reason}", where=source, fix="See docs/text/data.md.")
    return texts


def items_of(tasks: Mapping[str, Any]) -> list[Item]:
    """The test items of tasks of the harness, by their names."""
    return [
        Item(name, number, wordings(task, doc))
        for name, task in tasks.items()
        for number, doc in enumerate(task.eval_docs)
    ]


def wordings(task: Any, doc: Mapping[str, Any]) -> tuple[str, ...]:
    """How an item of a task can stand in a text; a copy need not have the words that the task puts around it.

    Args:
        task: of the harness.
        doc: the item's fields.
    """
    target = task.doc_to_target(doc)
    prompt = _said(task, doc, task.doc_to_text(doc))
    answers = [_said(task, doc, one) for one in (target if isinstance(target, list) else [target])]
    place = ascii_uppercase.find(target) if isinstance(target, str) and len(target) == 1 else target
    if isinstance(place, int):  # a letter or a number stands for a text in one of the lists
        lists = [value for value in doc.values() if isinstance(value, list) and 0 <= place < len(value)]
        answers += [texts[place] for texts in lists if isinstance(texts[place], str)]
    question = _contents(prompt, [value for value in doc.values() if isinstance(value, str) and value not in answers])
    asked = [prompt, question] if question else [prompt]
    found = [f"{one} {answer}" for one in asked for answer in answers]
    if len(words(question)) >= LEAST:
        found.append(question)
    return tuple(dict.fromkeys(" ".join(words(wording)) for wording in found))


def _said(task: Any, doc: Mapping[str, Any], value: Any) -> str:
    """A question or an answer; some tasks name the place of a choice in its stead."""
    if isinstance(value, int) and getattr(task.config, "doc_to_choice", None) is not None:
        return str(task.doc_to_choice(doc)[value])
    return str(value)


def _contents(prompt: str, fields: Sequence[str]) -> str:
    """The fields that a prompt is made of, in its order, without a task's own words between them.

    >>> _contents("Question: Is a cat red? Topic: cats. Answer:", ["cats", "Is a cat red?", "nothing"])
    'is a cat red cats'
    """
    whole = f" {' '.join(words(prompt))} "
    taken: list[str] = []
    for field in sorted((" ".join(words(field)) for field in fields), key=len, reverse=True):
        if field and f" {field} " in whole and not any(f" {field} " in f" {other} " for other in taken):
            taken.append(field)
    return " ".join(sorted(taken, key=lambda field: whole.index(f" {field} ")))
