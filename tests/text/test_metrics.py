"""Every metric equals its reference library; perplexity equals its definition."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.text import metrics, replies
from speechft.text.chat import IGNORED
from speechft.text.config import SftRecipe
from speechft.text.likelihood import answer_logprobs, document_nll, logprobs, sequence_logprobs
from speechft.text.measure import Measure
from speechft.text.metrics import METRICS, cohen_kappa, score_answers
from speechft.text.model import load_text_model, prompt_tokens
from speechft.text.pipeline import evaluate

WORDS = st.lists(st.sampled_from(["the", "a", "cat", "dog", "sat", "mat"]), min_size=1, max_size=9).map(" ".join)


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(metrics).failed == 0
    assert doctest.testmod(replies).failed == 0


@settings(deadline=None)
@given(WORDS, WORDS)
def test_rouge_and_chrf_equal_their_libraries(found: str, reference: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, score in scorer.score(reference, found).items():
        assert METRICS[name](found, reference) == score.fmeasure
    assert METRICS["chrf"](found, reference) == pytest.approx(sacrebleu.sentence_chrf(found, [reference]).score / 100)


@settings(deadline=None, max_examples=5)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=3, max_size=10))
def test_bleu_equals_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    found, references = zip(*pairs, strict=True)
    ours = score_answers(found, [[r] for r in references], ["bleu"])["bleu"]
    assert ours.value == pytest.approx(sacrebleu.corpus_bleu(list(found), [list(references)]).score)
    summary = ours.summary()
    assert "version" in summary["signature"]
    assert summary["ci95"][0] <= summary["value"] <= summary["ci95"][1] or summary["value"] == 0
    assert ours.against(ours) == {"difference": 0, "ci95": [0, 0]}


def test_bleu_with_several_references_equals_sacrebleu() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    found = ["the cat sat on the mat", "a dog barked at the cat today"]
    references = [["the cat is on the mat", "a cat sat on the mat"], ["the dog barked at the cat"]]
    expected = sacrebleu.corpus_bleu(found, [[references[0][0], references[1][0]], [references[0][1], None]]).score
    assert score_answers(found, references, ["bleu"])["bleu"].value == pytest.approx(expected)
    assert score_answers(found, references, ["bleu"])["bleu"].value > 0


def test_exact_match_and_f1_as_squad_counts() -> None:
    scores = score_answers(
        ["the Cat!", "black dog", ""], [["a cat"], ["red", "black cat"], [""]], ["exact_match", "f1"]
    )
    assert [part.errors for part in scores["exact_match"].parts] == [1, 0, 1]
    assert [part.errors for part in scores["f1"].parts] == [1, 0.5, 1]
    with pytest.raises(SpeechftError, match="rougeL"):
        score_answers([""], [[""]], ["rouge"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=30))
def test_kappa_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    reference = pytest.importorskip("sklearn.metrics").cohen_kappa_score
    ours, theirs = zip(*pairs, strict=True)
    if len({*ours, *theirs}) > 1:
        assert cohen_kappa(ours, theirs) == pytest.approx(reference(ours, theirs))


@pytest.mark.slow
def test_bert_score_equals_its_library() -> None:
    bert = pytest.importorskip("bert_score")
    found, references = ["the cat sat", "rain tomorrow"], ["a cat was sitting", "it will rain"]
    folder = str(metrics.minilm_folder())
    _, _, expected = bert.score(found, references, model_type=folder, num_layers=6, device="cpu")
    ours = score_answers(found, [[one] for one in references], ["bert_score"])["bert_score"]
    assert [part.errors for part in ours.parts] == pytest.approx(expected.tolist(), abs=1e-6)
    several = score_answers(["the cat sat"], [["rain", "a cat was sitting"]], ["bert_score"])["bert_score"]
    assert several.value == pytest.approx(expected[0].item(), abs=1e-6)


def test_an_empty_answer_scores_nothing_by_bert_score() -> None:
    pytest.importorskip("bert_score")
    references = [["a cat was sitting"], ["x"], [""], ["", "a cat was sitting"]]
    scores = score_answers(["the cat sat", " ", "said", "the cat sat"], references, ["bert_score"])["bert_score"]
    found = [part.errors for part in scores.parts]
    assert found[1:3] == [0, 0]
    assert found[0] == pytest.approx(found[3], abs=1e-6)
    assert found[0] > 0.5
    assert score_answers([""], [[""]], ["bert_score"])["bert_score"].value == 0


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A BERT of three layers of random weights that reads with MiniLM's tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(metrics.minilm_folder())
    config = BertConfig(
        max_position_embeddings=32,
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.model_max_length = int(1e30)  # as of those that do not know it
    tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_the_encoder_of_bert_score_is_the_recipes_and_is_named(encoder: Path, tmp_path: Path, tiny_llama: Path) -> None:
    bert = pytest.importorskip("bert_score")
    found, references = ["the cat sat", "rain tomorrow"], ["a cat was sitting", "it will rain"]
    scorer = bert.BERTScorer(model_type=str(encoder), num_layers=3, device="cpu")
    scorer._tokenizer.model_max_length = 32  # or it fails
    _, _, expected = scorer.score(found, references)
    own = score_answers(found, [[one] for one in references], ["bert_score"], str(encoder))["bert_score"].summary()
    assert own["value"] == pytest.approx(expected.mean().item(), abs=1e-5)
    assert (own["encoder"], own["layer"]) == (str(encoder), 3)
    long = score_answers(["cat " * 90], [["cat " * 90]], ["bert_score"], str(encoder))["bert_score"]
    assert long.value == pytest.approx(1, abs=1e-5)
    usual = score_answers(["a"], [["a"]], ["bert_score"])["bert_score"].summary()
    assert (usual["encoder"], usual["layer"]) == ("sentence-transformers/all-MiniLM-L6-v2", 6)
    data = tmp_path / "test.jsonl"
    data.write_text('{"prompt": "say cat", "completion": "the cat"}\n' * 2)
    settings = {"metrics": ["bert_score"], "encoder": str(encoder), "max_new_tokens": 4}
    result = evaluate(str(data), task="sft", model=str(tiny_llama), settings=settings)
    assert result["bert_score"]["encoder"] == str(encoder)


def test_the_layer_is_the_one_that_bert_score_recommends(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("bert_score.utils")
    monkeypatch.setattr(metrics, "resolve", lambda name: encoder)
    monkeypatch.setitem(utils.model2layers, "small-bert", 2)
    for name in ("small-bert", "someone/small-bert", "someone/small-bert@v1"):
        assert metrics.bert_score(["a"], [["b"]], name).layer == 2
    assert metrics.bert_score(["a"], [["b"]], "someone/other").layer == 3


def test_an_encoder_that_nothing_asks_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="encoder is of bert_score"):
        SftRecipe(data="d", output_dir=tmp_path, encoder="roberta-large")
    with pytest.raises(SpeechftError, match="is not a model folder"):
        metrics.bert_score(["a"], [["b"]], str(tmp_path / "none"))


def test_intervals_hold_the_value_and_a_real_difference_is_seen() -> None:
    base, better = Measure.mean([0.1, 0.3, 0.2, 0.4] * 10), Measure.mean([0.6, 0.7, 0.5, 0.9] * 10)
    low, high = base.summary()["ci95"]
    assert low < base.value < high
    assert better.against(base)["ci95"][0] > 0
    nll = Measure.perplexity([(2.0, 1.0), (6.0, 3.0)])
    assert nll.value == pytest.approx(math.exp(2))
    assert nll.against(nll)["ratio"] == 1


def test_all_right_is_not_certainty() -> None:
    """Of a model that is right in 94 of 100, 60 of 60 are seen once in 40 times."""
    bound = 0.025 ** (1 / 60)
    assert 0.93 < bound < 0.95
    assert Measure.share([1.0] * 60).summary()["ci95"] == [pytest.approx(bound, abs=1e-6), 1]
    assert Measure.share([0.0] * 60).summary()["ci95"] == [0, pytest.approx(1 - bound, abs=1e-6)]
    mixed = [1.0] * 50 + [0.0] * 10
    assert Measure.share(mixed).summary() == Measure.mean(mixed).summary()
    assert Measure.mean([0.0] * 60).summary()["ci95"] == [0, 0]


def test_examples_that_are_alike_are_drawn_together() -> None:
    """Ten articles with six questions each, all answered alike: ten pieces of evidence, not sixty."""
    blocks = tuple(str(i // 6) for i in range(60))
    values = [float(i // 6 % 3) for i in range(60)]
    alone, alike = Measure.mean(values), replace(Measure.mean(values), blocks=blocks)
    articles = Measure.mean(values[::6])
    assert alike.value == alone.value
    assert alike.summary()["ci95"] == articles.summary()["ci95"]
    assert alike.summary()["n"] == 60
    worse, worse_articles = Measure.mean([0.5] * 60), Measure.mean([0.5] * 10)
    assert alike.against(worse) == articles.against(worse_articles)
    each = replace(alone, blocks=tuple(map(str, range(60))))
    assert (each.summary(), each.against(worse)) == (alone.summary(), alone.against(worse))

    right = replace(Measure.share([1.0] * 60), blocks=blocks)
    assert right.summary()["ci95"] == Measure.share([1.0] * 10).summary()["ci95"]
    wrong = Measure.share([0.0] * 60)
    assert right.against(wrong) == Measure.share([1.0] * 10).against(Measure.share([0.0] * 10))


def test_bleu_of_examples_that_are_alike() -> None:
    pytest.importorskip("sacrebleu")
    said = ["the cat sat on the mat", "a dog barked at the cat", "it will rain all day long", "a bird sang in a tree"]
    said += ["the tea is far too hot"]
    right = ["the cat sat on a mat", "a dog barked at a cat", "it will rain all day today", "a bird sang in the tree"]
    right += ["the tea was far too hot"]
    few = score_answers(said, [[one] for one in right], ["bleu"])["bleu"]
    many = score_answers([one for one in said for _ in range(5)], [[one] for one in right for _ in range(5)], ["bleu"])
    alike = replace(many["bleu"], blocks=tuple(str(i // 5) for i in range(25)))
    assert alike.summary()["ci95"] == few.summary()["ci95"]
    assert alike.against(alike) == {"difference": 0, "ci95": [0, 0]}


@pytest.mark.parametrize("n", [2, 5, 6, 60])
def test_differences_that_are_all_the_same_are_no_certainty(n: int) -> None:
    """By the exact sign test n wins of n are significant from 6 on; of n draws without a difference one says little."""
    right, wrong = Measure.share([1.0] * n), Measure.share([0.0] * n)
    found = right.against(wrong)
    low, high = found["ci95"]
    assert (found["difference"], high) == (1, 1)
    assert low == pytest.approx(2 * 0.025 ** (1 / n) - 1, abs=1e-6)
    assert (low > 0) == (2 * 0.5**n < 0.05)
    assert wrong.against(right)["ci95"] == [-1, pytest.approx(-low, abs=1e-6)]
    assert right.against(right)["ci95"] == [0, 0]  # the base was kept
    low, high = right.against(Measure.share([1.0] * n))["ci95"]
    assert -low == high == pytest.approx(1 - 0.025 ** (1 / n), abs=1e-6)
    mixed = Measure.share([1.0, 0.0] * n)
    assert mixed.against(Measure.share([0.0] * 2 * n)) == Measure.mean([1.0, 0.0] * n).against(
        Measure.mean([0.0] * 2 * n)
    )


def test_log_probabilities_as_exact_as_float32_holds() -> None:
    """Over a vocabulary as large as models have, against float64."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 9, 49_152, generator=generator) * 3
    labels = torch.randint(0, 49_152, (2, 9), generator=generator)
    labels[1, 6:] = IGNORED
    exact = torch.log_softmax(logits[:, :-1].double(), -1)
    known = labels[:, 1:] != IGNORED
    wanted = exact.gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0][known]
    found = logprobs(logits[:, :-1][known], labels[:, 1:][known])
    assert found.shape == (13,)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.double().sum(), wanted.sum(), rtol=1e-6, atol=0)


def test_perplexity_by_definition_and_windows_count_each_token_once(tiny_llama: Path) -> None:
    text = load_text_model(tiny_llama)
    documents = ["what is the colour of a number " * 6, "say red", "x"]
    ids = [text.tokenizer(d)["input_ids"] for d in documents]
    whole = document_nll(text, documents, window=512)
    for tokens, (total, count) in zip(ids, whole, strict=True):
        with torch.inference_mode():
            logits = text.model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        expected = -sum(float(logits[i, token]) for i, token in enumerate(tokens[1:]))
        assert count == len(tokens) - 1
        assert total == pytest.approx(expected, rel=2e-2)
    for window, stride in ((8, 3), (8, 8), (7, 1), (16, None)):
        counts = [count for _, count in document_nll(text, documents, window=window, stride=stride)]
        assert counts == [len(tokens) - 1 for tokens in ids]
    assert document_nll(text, documents, 16, 1)[1] == pytest.approx(whole[1])
    assert (len(ids[2]), whole[2]) == (1, (0, 0))
    nothing = Measure.perplexity(document_nll(text, ["x", "x"]))
    assert nothing.summary() == {"value": None, "ci95": [None, None], "n": 2}
    assert nothing.against(nothing) == {"ratio": None, "ci95": [None, None]}


def test_log_probabilities_do_not_depend_on_the_batch(tiny_llama: Path) -> None:
    text = load_text_model(tiny_llama)
    rows = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15], [20, 21]]
    alone = [sequence_logprobs(text, [row], [row])[0] for row in rows]
    for ours, theirs in zip(sequence_logprobs(text, rows, rows), alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2)


def test_of_several_turns_the_last_answer_counts(tiny_llama: Path) -> None:
    text = load_text_model(tiny_llama)
    turns = [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "red green"},
        {"role": "user", "content": "two"}, {"role": "assistant", "content": "blue"},
    ]  # fmt: skip
    blue = len(text.tokenizer("blue")["input_ids"])
    assert answer_logprobs(text, [turns])[0][1] == blue + 1  # and the end token
    before = len(prompt_tokens(text, turns[:3]))
    assert answer_logprobs(text, [turns], max_length=before)[0] == (0, 0)
    assert answer_logprobs(text, [turns], max_length=before + 1)[0][1] == 1
