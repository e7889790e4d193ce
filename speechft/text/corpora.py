"""Known text corpora, each from the files its authors distribute, to the rows that `speechft.text.data` understands.

Nothing is downloaded here. Layouts are those of the corpora's own pages and of their Hugging Face versions; the data
cards say what could not be checked against the real files.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError
from speechft.files import LONGEST_FIELD
from speechft.text.files import NoRow, json_lines, load_json, opened, table

Row = dict[str, Any]
AG_NEWS = ("World", "Sports", "Business", "Sci/Tech")
NO_ANSWER = "unanswerable"
CREDENTIALED = ("mimic",)  # readers of what a data use agreement keeps on this machine


def each(convert: Callable[[Row], Iterable[Row]], rows: Iterable[Any]) -> Iterator[Row]:
    """Rows through a corpus's converter; one that it cannot take becomes an empty row, which is left out by name."""
    for row in rows:
        try:
            made = list(convert(row))
        except (AttributeError, LookupError, TypeError, ValueError):
            made = [{}]
        yield from made


def ag_news(path: Path) -> Iterator[Row]:
    """AG News (Zhang et al., 2015, arXiv 1509.01626): train.csv, test.csv without a head: class 1-4, title, text."""
    csv.field_size_limit(LONGEST_FIELD)
    with opened(path) as file:
        for fields in csv.reader(file):
            if len(fields) != 3 or fields[0] not in {"1", "2", "3", "4"}:
                yield {}
            else:
                yield from ag_news_row({"label": int(fields[0]) - 1, "text": f"{fields[1]} {fields[2]}"})


def ag_news_row(row: Row) -> Iterator[Row]:
    """A row of the hub's version: label 0-3, text."""
    choices = ", ".join(AG_NEWS)
    text = row["text"].replace("\\", " ")
    yield {"prompt": f"Which topic is this news about: {choices}?\n\n{text}", "completion": AG_NEWS[row["label"]]}


def squad(path: Path) -> Iterator[Row]:
    """SQuAD 1.1 and 2.0 (Rajpurkar et al., 2016, arXiv 1606.05250; 2018, arXiv 1806.03822): the official JSON."""
    for article in load_json(path)["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                texts = [answer["text"] for answer in question.get("answers", [])]
                yield {
                    **_question(paragraph["context"], question["question"], texts), "group": article.get("title"),
                }  # fmt: skip


def squad_row(row: Row) -> Iterator[Row]:
    """A row of the hub's version: context, question, answers.text."""
    yield {
        **_question(row["context"], row["question"], list(row["answers"]["text"])), "group": row.get("title"),
    }  # fmt: skip


def _question(context: str, question: str, answers: list[str]) -> Row:
    rule = f"Answer with words from the text, or '{NO_ANSWER}'."
    unique = list(dict.fromkeys(answers)) or [NO_ANSWER]
    return {"prompt": f"{rule}\n\nText: {context}\n\nQuestion: {question}", "answers": unique}


def ms_marco_triples(path: Path) -> Iterator[Row]:
    """MS MARCO passage ranking (Bajaj et al., 2016, arXiv 1611.09268): triples.*.tsv of query, relevant, other.

    Each triple is a preference: ranking by a reward model is ranking by the probability that a passage is relevant.
    """
    with opened(path) as file:
        for fields in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if len(fields) != 3:
                yield {}
            elif all(map(str.isdigit, fields)):
                yield NoRow("holds ids instead of texts, as qidpidtriples do: use triples.train.small.tsv")
            else:
                query, relevant, other = fields
                yield {"prompt": ranking_prompt(query), "chosen": relevant, "rejected": other}


def ms_marco_row(row: Row) -> Iterator[Row]:
    """A row of the hub's version: query, passages.passage_text and passages.is_selected; one pair a wrong passage."""
    passages = list(zip(row["passages"]["passage_text"], row["passages"]["is_selected"], strict=True))
    right = [text for text, selected in passages if selected]
    for text, selected in passages:
        if right and not selected:
            yield {"prompt": ranking_prompt(row["query"]), "chosen": right[0], "rejected": text}


def ranking_prompt(query: str) -> str:
    """What a passage is the answer to."""
    return f"Give a passage that answers the query.\n\nQuery: {query}"


def samsum(path: Path) -> Iterator[Row]:
    """SAMSum (Gliwa et al., 2019, arXiv 1911.12237): train.json, val.json, test.json: id, dialogue, summary."""
    yield from each(samsum_row, load_json(path))


def samsum_row(row: Row) -> Iterator[Row]:
    """A row of the hub's version has the same fields."""
    dialogue = row["dialogue"].replace("\r\n", "\n")
    yield {"prompt": f"Summarise this chat in a sentence or two.\n\n{dialogue}", "completion": row["summary"]}


def mimic_notes(path: Path) -> Iterator[Row]:
    """Clinical notes: NOTEEVENTS.csv of MIMIC-III (TEXT, CATEGORY, ISERROR) or discharge.csv of MIMIC-IV-Note (text).

    Notes marked as erroneous are left out, and a patient's notes stay in one split. The data use agreement forbids
    handing the notes to others, or to a service that keeps them: `speechft.text.hosted` refuses them.
    """
    for row in table(path):
        lower = {key.lower(): value for key, value in row.items() if key}
        if lower.get("iserror") == "1":
            yield NoRow("marked as an error by the hospital (ISERROR)")
        else:
            yield {
                "text": lower.get("text"),
                "group": lower.get("subject_id"),
                "extra": {"access": "credentialed", "category": lower.get("category")},
            }


def c4(path: Path) -> Iterator[Row]:
    """C4 (Raffel et al., 2020, arXiv 1910.10683): c4-train.*.json.gz, one object a line: text, timestamp, url."""
    yield from each(c4_row, json_lines(path))


def c4_row(row: Row) -> Iterator[Row]:
    """A row of the hub's version has the same fields."""
    yield {"text": row["text"]}


def real_toxicity_prompts(path: Path) -> Iterator[Row]:
    """RealToxicityPrompts (Gehman et al., 2020, arXiv 2009.11462): prompts.jsonl with prompt.text and scores.

    Prompts only: they are for measuring what a model adds, not for training on the continuations.
    """
    yield from each(real_toxicity_row, json_lines(path))


def real_toxicity_row(row: Row) -> Iterator[Row]:
    """A row of the hub's version has the same fields."""
    prompt = row["prompt"]
    extra = {"challenging": row.get("challenging"), "toxicity": prompt.get("toxicity")}
    yield {"prompt": f"Continue this text: {prompt['text']}" if prompt["text"] else None, "extra": extra}


def legal_vocabulary(path: Path) -> dict[str, list[float]]:
    """Law2Vec (Chalkidis and Kampas, 2019): word vectors in the text format of word2vec, one word a line.

    Law2Vec is not text, so there is nothing in it to train a language model on; its vocabulary tells how much of a
    corpus is legal language, see `vocabulary_share`.

    Raises:
        SpeechftError: not such a file.
    """
    vectors: dict[str, list[float]] = {}
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            word, *values = line.rstrip().split(" ")
            if number == 1 and len(values) == 1:
                continue  # the head: number of words, width
            try:
                vectors[word] = [float(value) for value in values]
            except ValueError:
                raise SpeechftError(
                    "is not a word vector", where=f"{path}:{number}", fix="Give vectors in word2vec's text form."
                ) from None
    widths = {len(vector) for vector in vectors.values()}
    if len(widths) != 1 or widths == {0}:
        raise SpeechftError("is not a file of word vectors", where=path, fix="Give Law2Vec.100d.txt or the 200d one.")
    return vectors


def vocabulary_share(texts: Iterable[str], vocabulary: Iterable[str], common: Iterable[str] = ()) -> float:
    """Share of the words of texts that are in a vocabulary but not among common words."""
    wanted = set(vocabulary) - set(common)
    words = [word for text in texts for word in text.lower().split()]
    return sum(word in wanted for word in words) / len(words) if words else 0.0


READERS: dict[str, Callable[[Path], Iterable[Row]]] = {
    "ag_news": ag_news,
    "squad": squad,
    "ms_marco": ms_marco_triples,
    "samsum": samsum,
    "mimic": mimic_notes,
    "c4": c4,
    "real_toxicity_prompts": real_toxicity_prompts,
}
FILES: dict[str | None, str] = {  # what the files in a folder are named that are the corpus; also with .gz
    "ag_news": "*.csv",
    "squad": "*.json",
    "ms_marco": "triples*.tsv",  # beside them lie queries, passages and qidpidtriples, which are ids alone
    "samsum": "*.json",
    "mimic": "*.csv",
    "c4": "*.json",
    "real_toxicity_prompts": "*.jsonl",
}
HUB_ROWS: dict[str, Callable[[Row], Iterable[Row]]] = {
    "ag_news": ag_news_row,
    "squad": squad_row,
    "ms_marco": ms_marco_row,
    "samsum": samsum_row,
    "c4": c4_row,
    "real_toxicity_prompts": real_toxicity_row,
}
