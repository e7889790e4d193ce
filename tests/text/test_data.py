"""Every layout to the same examples; what cannot be used is named; splits share no question."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.text.corpora import READERS, legal_vocabulary, vocabulary_share
from speechft.text.data import Example, Unusable, read, split_examples, to_example
from speechft.text.files import read_file

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
    "content", ["[]", "[[]]", '{"data": [1]}', '{"data": ["x"]}', "[" * 100_000, '"\\ud800"', "a,b"]
)
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
    with pytest.raises(SpeechftError, match="json"):
        read(str(tmp_path), reader="squad")
    (tmp_path / "dev-v2.0.json").write_text('{"data": [')
    with pytest.raises(SpeechftError, match="is not JSON"):
        read(str(tmp_path), reader="squad")


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
        with pytest.raises(SpeechftError, match="knows no rows"):
            read(f"hub:{folder}", reader=reader)


def test_legal_word_vectors_are_no_text(tmp_path: Path) -> None:
    vectors = legal_vocabulary(write(tmp_path / "Law2Vec.2d.txt", "2 2\nplaintiff 0.1 0.2\nthe 0.3 0.4\n"))
    assert vectors == {"plaintiff": [0.1, 0.2], "the": [0.3, 0.4]}
    assert vocabulary_share(["The plaintiff left", "home"], vectors, common=["the"]) == 0.25
    with pytest.raises(SpeechftError, match="word vector"):
        legal_vocabulary(write(tmp_path / "other.txt", "this is a text\n"))
