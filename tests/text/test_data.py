"""Every layout to the same examples; what cannot be used is named; splits share no question."""

from __future__ import annotations

import doctest
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.text import files
from speechft.text.corpora import READERS, legal_vocabulary, vocabulary_share
from speechft.text.data import drawn, read, split_examples
from speechft.text.examples import Example, blocks_of
from speechft.text.files import split_of
from speechft.text.layouts import Unusable, to_example
from speechft.text.rows import read_file

USER = ({"role": "user", "content": "Name a fruit."},)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "Apple"}]},
        {"conversations": [{"from": "human", "value": "Name a fruit."}, {"from": "gpt", "value": "Apple"}]},
        {"prompt": "Name a fruit.", "completion": "Apple"},
        {"instruction": "Name a fruit.", "input": "", "output": "Apple"},
        {"prompt": [{"role": "user", "content": "Name a fruit."}], "answers": ["Apple"]},
        {"messages": [*USER, {"role": "assistant", "content": "Apple"}, {"role": "user", "content": "Thanks"}]},
        {"messages": [*USER, {"role": "assistant", "content": [{"type": "text", "text": "Apple"}]}]},
    ],
)
def test_layouts_of_an_answer(row: dict) -> None:
    example = to_example(row)
    assert (example.prompt, example.answer, example.references) == (USER, "Apple", ("Apple",))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Name a fruit.", "chosen": "Apple", "rejected": "Stone"},
        {
            "chosen": [*USER, {"role": "assistant", "content": "Apple"}],
            "rejected": [*USER, {"role": "assistant", "content": "Stone"}],
        },
    ],
)
def test_layouts_of_a_preference(row: dict) -> None:
    example = to_example(row)
    assert (example.prompt, example.answer, example.rejected) == (USER, "Apple", "Stone")


HUMAN = "\n\nHuman: Name a fruit.\n\nAssistant: Which?\n\nHuman: Any.\n\n"


def test_a_preference_with_the_prompt_inside_its_texts() -> None:
    """A row as Anthropic's HH-RLHF has it: transcripts that differ in the last turn."""
    example = to_example({"chosen": HUMAN + "Assistant: Apple\n\nor pear", "rejected": HUMAN + "Assistant: Stone"})
    assert [(m["role"], m["content"]) for m in example.prompt] == [
        ("user", "Name a fruit."), ("assistant", "Which?"), ("user", "Any.")
    ]  # fmt: skip
    assert (example.answer, example.rejected) == ("Apple\n\nor pear", "Stone")
    said = {"prompt": "How do they speak?", "chosen": "Human: hi\n\nAssistant: hi", "rejected": "hi"}
    assert to_example(said).answer == said["chosen"]


@pytest.mark.parametrize(
    "rejected",
    [
        "\n\nHuman: Name a tree.\n\nAssistant: Oak",
        "Stone",
        "\n\nHuman: Name a fruit.\n\nAssistant: Stone\n\nHuman: No!",
    ],
)
def test_a_preference_between_answers_to_different_prompts(rejected: str) -> None:
    with pytest.raises(Unusable, match="different prompts"):
        to_example({"chosen": "\n\nHuman: Name a fruit.\n\nAssistant: Apple", "rejected": rejected})


def test_several_right_answers_and_labels() -> None:
    assert to_example({"prompt": "p", "answers": ["a", "b"]}).references == ("a", "b")
    assert to_example({"prompt": "p", "completion": "a", "label": False}).label is False
    assert to_example({"text": " a document "}).document == "a document"


@pytest.mark.parametrize(
    "row",
    [{}, {"other": 1}, {"messages": []}, {"messages": [{"role": "bot", "content": "x"}]}, {"text": None},
     {"messages": [{"role": "user", "content": "x"}]}],
)  # fmt: skip
def test_what_is_no_layout(row: dict) -> None:
    with pytest.raises(Unusable):
        to_example(row)


def test_values_of_another_kind_are_taken_or_named() -> None:
    assert to_example({"prompt": "2 + 1", "answer": 3}).references == ("3",)
    assert to_example({"prompt": "p", "answer": "a", "extra": None}).extra == {}
    with pytest.raises(Unusable, match="missing"):
        to_example({"prompt": "p", "answers": [None]})


def test_alpaca_rows_with_numbers_and_nothing() -> None:
    assert to_example({"instruction": "Double it.", "input": 5, "output": 10}).key == "double it. 5"
    assert to_example({"instruction": "Double it.", "input": None, "output": 10}).key == "double it."
    for row in ({"instruction": ["a"], "output": "x"}, {"instruction": "a", "input": {}, "output": None}):
        with pytest.raises(Unusable, match="missing"):
            to_example(row)


@pytest.mark.parametrize(
    ("label", "good"),
    [("False", False), ("true", True), ("0", False), (1, True), (0.0, False), ("", None), ("World", None), ([], None)],
)
def test_labels_as_tables_write_them(label: object, good: bool | None) -> None:
    assert to_example({"prompt": "p", "completion": "a", "label": label}).label is good


def test_labels_in_a_table_without_one_are_left_out_by_name(tmp_path: Path) -> None:
    labels = ["True", "False", "yes", "no", "1", "0"] * 6 + ["perhaps"]
    table = "".join(f"question {i},answer,{label}\n" for i, label in enumerate(labels))
    corpus = read(str(write(tmp_path / "judged.csv", "prompt,completion,label\n" + table)), needs="judgement")
    found = [example.label for part in (corpus.train, corpus.dev, corpus.test) for example in part]
    assert (found.count(True), found.count(False)) == (18, 18)
    assert corpus.left_out == (("judged.csv:37", "no label"),)


def test_rows_that_json_allows_and_nobody_can_write_are_named(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"question {i}", "completion": "yes"}) for i in range(40)]
    odd = [
        '{"prompt": "\\ud800", "completion": "x"}',
        '{"prompt": "p", "completion": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"prompt": "p", "completion": ' + "9" * 5000 + "}",
        '{"\\ud800": 1}',
        '{"messages": [{"role": "\\ud800", "content": "x"}]}',
        '{"prompt": "p", "completion": "x", "group": "\\ud800"}',
        '{"prompt": "p", "completion": "x", "extra": {"\\ud800": 1}}',
    ]
    path = tmp_path / "rows\udcff.jsonl"
    path.write_text("\n".join(odd + rows))
    corpus = read(str(path))
    assert [where for where, _ in corpus.left_out] == [f"rows\\udcff.jsonl:{n}" for n in range(1, len(odd) + 1)]
    json.dumps(corpus.left_out, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop", "/dev/zero", "~nobody-of-that-name/x"])
def test_names_of_no_data(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpeechftError, match=r"file|exist|no home"):
        read(name)


@pytest.mark.parametrize("reader", sorted(READERS))
@pytest.mark.parametrize(
    "content",
    [
        '{"data": [{"paragraphs": [{"context": "c", "qas": ["who"]}]}]}', "[]", "[[]]", '{"data": [1]}',
        '{"data": ["x"]}', "[" * 100_000, '"\\ud800"', "a,b",
    ],
)  # fmt: skip
def test_what_is_no_file_of_a_corpus(tmp_path: Path, reader: str, content: str) -> None:
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(SpeechftError):
        read(str(tmp_path / "f.json"), reader=reader)


def test_bad_rows_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"question {i}", "completion": "yes"}) for i in range(40)]
    rows[3:3] = ["{broken", json.dumps({"prompt": "", "completion": "x"}), json.dumps({"prompt": "p"})]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    corpus = read(str(tmp_path / "rows.jsonl"))
    assert [where for where, _ in corpus.left_out] == ["rows.jsonl:4", "rows.jsonl:5", "rows.jsonl:6"]
    assert len(corpus.train) + len(corpus.dev) + len(corpus.test) == 40


def test_a_folder_of_splits_and_other_endings(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("instruction,output\n" + "".join(f"q{i},a\n" for i in range(5)))
    with gzip.open(tmp_path / "validation.jsonl.gz", "wt") as file:
        file.write(json.dumps({"prompt": "q", "completion": "a"}) + "\n")
    (tmp_path / "test-00000.json").write_text(json.dumps([{"prompt": "q9", "completion": "a"}]))
    corpus = read(str(tmp_path))
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (5, 1, 1)


@pytest.mark.parametrize(
    ("name", "split"),
    [("train_sft", "train"), ("test_sft", "test"), ("testing", "test"), ("Evaluation", "test"), ("valid", "dev"),
     ("c4-validation.00000-of-00008.json.gz", "dev"), ("my test-set2.jsonl", "test"), ("contest", None), ("", None)],
)  # fmt: skip
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_what_is_held_out_under_another_name_is_not_trained_on(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {i}", "completion": "a", "split": name}
            for i, name in enumerate(["train"] * 5 + ["dev"] * 3 + ["testing", "evaluation", "held-out"])]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = read(str(tmp_path / "rows.jsonl"))
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (5, 3, 2)
    assert corpus.left_out == (("rows.jsonl:11", "its split 'held-out' names neither train, dev nor test"),)

    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("train", "dev", "heldout"):
        write(folder / f"{name}.csv", "prompt,completion\n" + "".join(f"{name} {i},a\n" for i in range(5)))
    with pytest.raises(SpeechftError, match="names no split"):
        read(str(folder))
    with pytest.raises(SpeechftError, match="all 5 usable rows are named dev or test"):
        read(str(folder / "dev.csv"))


def test_splits_of_a_hub_as_ultrachat_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset, DatasetDict

    splits = {
        name: Dataset.from_list([{"prompt": f"{name} {i}", "completion": "a"} for i in range(40)])
        for name in ("train_sft", "test_sft", "unsupervised")
    }
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **kwargs: DatasetDict(splits))
    corpus = read("hub:chats")
    assert {e.key.split()[0] for e in (*corpus.train, *corpus.dev)} == {"train_sft"}
    assert len(corpus.test) == 40
    assert [where for where, _ in corpus.left_out] == ["chats/unsupervised"]


def test_a_hub_that_fails_between_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Iterator[dict]:
        yield {"prompt": "q", "completion": "a"}
        raise ConnectionError("reset by peer\nmore")

    monkeypatch.setattr("datasets.load_dataset", lambda *args, **kwargs: {"train": rows()})
    with pytest.raises(SpeechftError, match=r"hub:chats: cannot be loaded \(ConnectionError: reset by peer\)"):
        read("hub:chats", rows=20)


def test_a_hubs_folder_holds_a_readme_and_pictures_too(tmp_path: Path) -> None:
    for name in ("README.md", ".gitattributes", "LICENSE", "license.txt", "logo.png", "dataset_infos.json"):
        (tmp_path / name).write_bytes(b"\x89 not data")
    with pytest.raises(SpeechftError, match="not a known kind of data"):
        read(str(tmp_path))
    for name in ("train", "validation"):
        write(tmp_path / f"{name}.csv", "prompt,completion\n" + "".join(f"{name} {i},a\n" for i in range(5)))
    corpus = read(str(tmp_path))
    assert (len(corpus.train), len(corpus.dev), corpus.left_out) == (5, 5, ())
    write(tmp_path / "test.xlsx", "")
    with pytest.raises(SpeechftError, match=r"\.xlsx"):
        read(str(tmp_path))


def test_questions_in_two_splits_are_counted() -> None:
    rows = [{"prompt": "Same  question", "completion": "a", "split": split} for split in ("train", "dev", "test")]
    rows.append({"prompt": "other", "completion": "a", "split": "test"})
    assert split_examples([to_example(row) for row in rows]).overlap == 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=200, max_size=300), st.integers(0, 5))
def test_equal_questions_stay_together(numbers: list[int], seed: int) -> None:
    examples = [Example(prompt=({"role": "user", "content": f"Q {n}"},), answer="a") for n in numbers]
    try:
        corpus = split_examples(examples, seed=seed)
    except SpeechftError:
        return  # by chance nobody went to dev
    assert corpus.overlap == 0
    assert len(corpus.train) + len(corpus.dev) + len(corpus.test) == len(examples)


def test_few_of_many_examples_come_from_all_of_them() -> None:
    examples = [Example(document=f"{i}") for i in range(100)]
    found = drawn(examples, 20, seed=0)
    places = [examples.index(example) for example in found]
    assert len(set(places)) == 20
    assert places == sorted(places)
    assert places[0] < 20 < 80 < places[-1]
    assert drawn(examples, 20, seed=0) == found != drawn(examples, 20, seed=1)
    assert drawn(examples, 100, seed=0) == tuple(examples)


def test_examples_that_are_alike() -> None:
    def asked(prompt: str, group: str = "") -> Example:
        return Example(prompt=({"role": "user", "content": prompt},), answer="a", group=group)

    several = [asked("p", "one"), asked("q", "two"), asked("r", "one"), asked("Q"), asked("q ")]
    assert blocks_of(several) == ("0", "1", "0", "3", "3")
    assert blocks_of([asked("p"), asked("q")]) == ()
    nothing = Example(prompt=({"role": "system", "content": "s"},), answer="a")
    assert blocks_of([nothing, nothing]) == ()


def test_text_files_are_cut_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("\n\n".join(f"Paragraph {i} " + "word " * 100 for i in range(30)))
    made = [row["text"] for row in read_file(tmp_path / "book.txt")]
    assert len(made) > 3
    assert all(text.startswith("Paragraph") for text in made)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_corpora_as_their_authors_distribute_them(tmp_path: Path) -> None:
    news = write(tmp_path / "news.csv", '"3","Oil up","Prices rose\\again"\n"9","bad","row"\n')
    rows = list(read_file(news, "ag_news"))
    assert rows[0]["completion"] == "Business"
    assert "Prices rose again" in rows[0]["prompt"]
    assert rows[1] == {}

    question = {"question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann"}, {"text": "Ann B"}]}
    unanswerable = {"question": "Where?", "answers": [], "is_impossible": True}
    article = {"paragraphs": [{"context": "Ann B sang.", "qas": [question, unanswerable]}]}
    squad = write(tmp_path / "squad.json", json.dumps({"data": [article]}))
    rows = list(read_file(squad, "squad"))
    assert [row["answers"] for row in rows] == [["Ann", "Ann B"], ["unanswerable"]]

    triples = write(tmp_path / "triples.tsv", 'query\tan "odd passage\tanother\nbad line\n')
    rows = list(read_file(triples, "ms_marco"))
    assert (rows[0]["chosen"], rows[0]["rejected"], rows[1]) == ('an "odd passage', "another", {})

    chat = write(tmp_path / "chat.json", json.dumps([{"id": "1", "dialogue": "A: hi\r\nB: bye", "summary": "Short."}]))
    assert next(iter(read_file(chat, "samsum")))["prompt"].endswith("A: hi\nB: bye")

    notes = write(tmp_path / "notes.csv", 'ROW_ID,CATEGORY,ISERROR,TEXT\n1,Nursing,,"two\nlines"\n2,ECG,1,wrong\n')
    rows = list(read_file(notes, "mimic"))
    assert rows[0]["text"] == "two\nlines"
    assert rows[1] == {}
    assert to_example(rows[0]).extra["access"] == "credentialed"

    toxic = {"prompt": {"text": "So he", "toxicity": 0.2}, "continuation": {"text": "x"}, "challenging": True}
    rows = list(read_file(write(tmp_path / "p.jsonl", json.dumps(toxic)), "real_toxicity_prompts"))
    assert rows[0]["extra"] == {"challenging": True, "toxicity": 0.2}

    assert list(read_file(write(tmp_path / "c4.jsonl", '{"text": "a", "url": "u"}'), "c4")) == [{"text": "a"}]
    assert {"ag_news", "squad", "ms_marco", "samsum", "mimic", "c4", "real_toxicity_prompts"} == set(READERS)


def test_a_corpus_folder_holds_other_files_too(tmp_path: Path) -> None:
    """As the archives of AG News and SQuAD do: a list of classes, a readme, the official script."""
    write(tmp_path / "train.csv", "".join(f'"{i % 4 + 1}","Title {i}","Text {i}"\n' for i in range(30)))
    write(tmp_path / "test.csv", '"1","Another title","Another text"\n')
    write(tmp_path / "classes.txt", "World\nSports\n")
    write(tmp_path / "evaluate.py", "print()\n")
    corpus = read(str(tmp_path), reader="ag_news")
    assert (len(corpus.train) + len(corpus.dev), len(corpus.test)) == (30, 1)
    assert corpus.left_out == ()
    with pytest.raises(SpeechftError, match=r"holds no \.json"):
        read(str(tmp_path), reader="squad")
    (tmp_path / "dev-v2.0.json").write_text('{"data": [')
    with pytest.raises(SpeechftError, match="is not JSON"):
        read(str(tmp_path), reader="squad")


def test_ids_are_no_texts_to_rank(tmp_path: Path) -> None:
    """The folder of MS MARCO's passage ranking: triples of texts beside triples of ids, queries and passages."""
    triples = "".join(f"what is {i}\tit is {i}\tanother {i}\n" for i in range(40))
    write(tmp_path / "triples.train.small.tsv", triples)
    ids = write(tmp_path / "qidpidtriples.train.full.2.tsv", "1185869\t0\t2942565\n")
    write(tmp_path / "queries.train.tsv", "121352\tdefine extreme\n")
    corpus = read(str(tmp_path), reader="ms_marco", needs="preference")
    assert (len(corpus.train) + len(corpus.dev) + len(corpus.test), corpus.left_out) == (40, ())
    with pytest.raises(SpeechftError, match="ids instead of texts"):
        read(str(ids), reader="ms_marco", needs="preference")


def test_notes_that_are_errors_are_left_out_as_such(tmp_path: Path) -> None:
    notes = "".join(f"{i},{i},,Note {i}\n" for i in range(40))
    path = write(tmp_path / "NOTEEVENTS.csv", f"ROW_ID,SUBJECT_ID,ISERROR,TEXT\n41,41,1,Wrong patient\n{notes}")
    corpus = read(str(path), reader="mimic", needs="document")
    assert corpus.left_out == (("NOTEEVENTS.csv:1", "marked as an error by the hospital (ISERROR)"),)


def test_a_patients_notes_stay_in_one_split(tmp_path: Path) -> None:
    lines = ["ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CATEGORY,ISERROR,TEXT"]
    lines += [f'{i},{i % 40},7,2101-01-01,Nursing,,"Note {i}\nsecond line"' for i in range(200)]
    with gzip.open(tmp_path / "NOTEEVENTS.csv.gz", "wt") as file:
        file.write("\n".join(lines))
    corpus = read(str(tmp_path / "NOTEEVENTS.csv.gz"), reader="mimic", needs="document")
    of = [{example.group for example in part} for part in (corpus.train, corpus.dev, corpus.test)]
    assert sum(map(len, of)) == 40
    assert corpus.overlap == 0
    assert sum(map(len, (corpus.train, corpus.dev, corpus.test))) == 200


def test_the_first_rows_of_what_is_too_large(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c4-train.00000-of-01024.json", "".join(f'{{"text": "t {i}", "url": "u"}}\n' for i in range(90))
    )
    corpus = read(str(path), reader="c4", needs="document", rows=50)
    assert sum(map(len, (corpus.train, corpus.dev, corpus.test))) == 50


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "notes.jsonl", '{"text": "a note"}\n')
    with pytest.raises(SpeechftError, match=r"holds no answer; the first row: no prompt"):
        read(str(path))


def test_a_row_a_line_in_a_file_called_json(tmp_path: Path) -> None:
    """As the files of C4 are, here without their reader."""
    lines = [json.dumps({"text": f"t {i}", "url": "u"}) for i in range(40)]
    path = tmp_path / "c4-validation.00000-of-00008.json.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n" + "\n".join([*lines, "{broken"]))
    corpus = read(str(path), needs="document", training=False)
    assert (len(corpus.dev), [where for where, _ in corpus.left_out]) == (40, [f"{path.name}:41"])
    rows = [{"text": "a"}, {"text": "b"}]
    for text in (
        json.dumps(rows),
        json.dumps(rows, indent=1),
        json.dumps({"data": rows}),
        json.dumps({"data": rows}, indent=1),
    ):
        assert list(read_file(write(tmp_path / "rows.json", text))) == rows
    assert list(read_file(write(tmp_path / "one.json", '{"text": "a"}\n'))) == rows[:1]


def test_a_dataset_by_name_as_the_hub_lays_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` takes a local folder for a name; fields and splits are those of fancyzhx/ag_news."""
    from datasets import ClassLabel, Dataset, Features, Value

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = ["World", "Sports", "Business", "Sci/Tech"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    folder = tmp_path / "ag_news" / "data"
    folder.mkdir(parents=True)
    for split, size in (("train", 40), ("test", 5)):
        rows = {"text": [f"{split} text {i}" for i in range(size)], "label": [i % 4 for i in range(size)]}
        Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    corpus = read(f"hub:{folder.parent}", reader="ag_news")
    assert len(corpus.test) == 5
    assert [example.answer for example in corpus.test] == ["World", "Sports", "Business", "Sci/Tech", "World"]
    few = read(f"hub:{folder.parent}", reader="ag_news", rows=20)
    assert (len(few.train) + len(few.dev), len(few.test)) == (20, 5)
    with pytest.raises(SpeechftError, match="cannot be loaded"):
        read("hub:" + str(tmp_path / "nothing"))


def test_a_row_that_its_reader_cannot_take_takes_no_others_with_it(tmp_path: Path) -> None:
    chats = [{"id": str(i), "dialogue": f"A: hi {i}", "summary": "s"} for i in range(40)]
    chats[3]["dialogue"] = None  # type: ignore[assignment]
    corpus = read(str(write(tmp_path / "chats.json", json.dumps(chats))), reader="samsum")
    assert [where for where, _ in corpus.left_out] == ["chats.json:4"]
    pages = [json.dumps({"text": f"t {i}"}) for i in range(40)]
    corpus = read(str(write(tmp_path / "c4.json", "\n".join(["[1]", "{}", *pages]))), reader="c4", needs="document")
    assert [where for where, _ in corpus.left_out] == ["c4.json:1", "c4.json:2"]
    for name, text in (("number.json", "3"), ("broken.parquet", "3")):
        with pytest.raises(SpeechftError):
            read(str(write(tmp_path / name, text)))


def test_rows_of_a_hub_that_are_not_the_readers_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "chats"
    folder.mkdir()
    rows = {"dialogue": [None, *(f"A: hi {i}" for i in range(40))], "summary": ["s"] * 41}
    Dataset.from_dict(rows).to_parquet(folder / "train-00000-of-00001.parquet")
    assert len(read(f"hub:{folder}", reader="samsum").left_out) == 1
    with pytest.raises(SpeechftError, match="its reader"):
        read(f"hub:{folder}", reader="squad")
    for reader in ("samsumm", "mimic"):  # notes of a hub would come without the mark that keeps them here
        with pytest.raises(SpeechftError, match="cannot read rows"):
            read(f"hub:{folder}", reader=reader)


def test_examples_in_the_docstrings_of_files() -> None:
    assert doctest.testmod(files).failed == 0


def test_legal_word_vectors_are_no_text(tmp_path: Path) -> None:
    vectors = legal_vocabulary(write(tmp_path / "Law2Vec.2d.txt", "2 2\nplaintiff 0.1 0.2\nthe 0.3 0.4\n"))
    assert vectors == {"plaintiff": [0.1, 0.2], "the": [0.3, 0.4]}
    assert vocabulary_share(["The plaintiff left", "home"], vectors, common=["the"]) == 0.25
    with pytest.raises(SpeechftError, match="word vector"):
        legal_vocabulary(write(tmp_path / "other.txt", "this is a text\n"))


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"instruction": "a", "input": "", "output": "b"},
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ],
)
def test_a_system_prompt_beside_a_conversation_comes_before_it(row: dict) -> None:
    for name in ("system", "system_prompt"):
        prompt = to_example(row | {name: "be brief"}).prompt
        assert prompt == ({"role": "system", "content": "be brief"}, {"role": "user", "content": "a"})
    assert len(to_example(row | {"system": None, "system_prompt": ""}).prompt) == 1
    with pytest.raises(Unusable, match="a text is missing"):
        to_example(row | {"system": ["be brief"]})


def test_turns_without_weight_are_read_and_not_learnt(tiny_llama: Path) -> None:
    from speechft.text.chat import IGNORED, tokenize_chat
    from speechft.text.model import load_text_model

    turns = [("user", "one"), ("assistant", "red"), ("user", "two"), ("assistant", "blue"), ("assistant", "green")]
    messages = [
        {"role": role, "content": content} | ({"weight": 0} if content in ("red", "green") else {"weight": None})
        for role, content in turns
    ]
    example = to_example({"messages": messages, "system": "be brief"})
    assert (example.answer, [m["content"] for m in example.prompt]) == ("blue", ["be brief", "one", "red", "two"])
    tokenizer = load_text_model(tiny_llama).tokenizer
    labels = tokenize_chat(tokenizer, example.messages, unlearnt=example.unlearnt)["labels"]
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == "blue<|im_end|>"
    with pytest.raises(Unusable, match="no answer"):
        to_example({"messages": messages[:2]})
