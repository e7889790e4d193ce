"""Continued pre-training: perplexity falls in the domain, and what it costs elsewhere is measured."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from text.conftest import stop_at_the_end

from speechft.errors import SpeechftError
from speechft.interruption import Interrupted
from speechft.text import data
from speechft.text.chat import tokenize_document
from speechft.text.config import PretrainRecipe
from speechft.text.pipeline import evaluate, train
from speechft.text.rows import rows_of


def sentences(words: str, seed: int) -> list[str]:
    rng = random.Random(seed)
    order = words.split()
    documents = []
    for _ in range(60):
        start = rng.randrange(len(order))
        documents.append(" ".join(order[(start + i) % len(order)] for i in range(rng.randint(20, 60))))
    return documents


def test_a_document_has_the_start_token_that_the_tokenizer_gives_it(tiny_llama: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    plain = tokenize_document(tokenizer, "red cat")
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert (plain.count(start), plain[-1]) == (0, end)
    names = [("<|im_start|>", start), ("<|im_end|>", end)]
    for pattern in ("<|im_start|> $A", "<|im_start|> $A <|im_end|>"):
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=pattern, special_tokens=names)
        assert tokenize_document(tokenizer, "red cat") == [start, *plain]


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("domains")
    paths = folder / "animals.jsonl", folder / "numbers.jsonl"
    for path, words in zip(paths, ("cat dog bird fish", "three one five two seven"), strict=True):
        rows = [{"text": text} for text in sentences(words, 1)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def test_perplexity_falls_in_the_domain_and_is_measured_outside(
    tiny_llama: Path, domains: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = PretrainRecipe(
        model=str(tiny_llama), data=str(domains[0]), other_domain=str(domains[1]), output_dir=tmp_path, max_length=64,
        epochs=4, batch_size=4, learning_rate=1e-2, evaluations=2,
    )  # fmt: skip
    result = train(recipe)
    assert result["kept"] == "adapter"
    assert result["difference"]["perplexity"]["ci95"][1] < 0.5
    own = result["difference"]["perplexity"]["ratio"]
    assert result["difference"]["perplexity_other_domain"]["ratio"] > 2 * own
    again = evaluate(str(domains[0]), adapter=tmp_path / "adapter", settings={"other_domain": str(domains[1])})
    assert again["perplexity"]["value"] == pytest.approx(result["adapted"]["perplexity"]["value"], rel=0.02)


def test_another_domain_is_read_once(
    tiny_llama: Path, domains: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(data, "rows_of", lambda source, *more: read.append(source) or rows_of(source, *more))
    recipe = PretrainRecipe(
        model=str(tiny_llama), data=str(domains[0]), other_domain=str(domains[1]), output_dir=tmp_path, max_length=32,
        max_steps=1, evaluations=1, test_examples=2,
    )  # fmt: skip
    train(recipe)
    evaluate(str(domains[0]), task="pretrain", model=str(tiny_llama), settings={"other_domain": str(domains[1])})
    assert sorted(read) == sorted(map(str, [*domains, *domains]))


def test_another_domain_that_cannot_be_read_is_named_before_training(
    tiny_llama: Path, domains: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = PretrainRecipe(
        model=str(tiny_llama), data=str(domains[0]), other_domain=str(tmp_path / "wrong.jsonl"),
        output_dir=tmp_path / "out", max_length=64, max_steps=1, evaluations=1,
    )  # fmt: skip
    with pytest.raises(SpeechftError, match=r"wrong\.jsonl: does not exist"):
        train(recipe)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_another_domain_may_change_when_a_run_goes_on(
    tiny_llama: Path, domains: tuple[Path, Path], tmp_path: Path
) -> None:
    """And it may be held out as a whole."""
    held_out = tmp_path / "test.jsonl"
    held_out.write_text("".join(domains[1].read_text().splitlines(keepends=True)[:3]))
    recipe = PretrainRecipe(
        model=str(tiny_llama), data=str(domains[0]), output_dir=tmp_path / "out", max_length=64, max_steps=1,
        evaluations=1,
    )  # fmt: skip
    with pytest.raises(Interrupted):
        train(recipe, on_event=stop_at_the_end)
    changed = {"other_domain": str(held_out), "stride": 16, "test_examples": 2}
    result = train(recipe.model_copy(update=changed))
    assert (result["training"]["steps"], result["base"]["perplexity_other_domain"]["n"]) == (1, 2)
