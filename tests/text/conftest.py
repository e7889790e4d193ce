"""A tiny Llama with random weights and a tokenizer of its own, made once a session; no download, no wheel."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from speechft.interruption import Interrupted

WORDS = (
    "what is the colour of a number say repeat answer with yes no red green blue one two three four five six seven "
    "cat dog bird fish good bad summary sentence story tree house water fire"
)
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
    "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: Llama of 2 layers, width 64, byte-level BPE with a few words merged, ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS, WORDS.replace(" ", "\n"), "user assistant system"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


NOUNS = ["cat", "dog", "bird", "fish", "story", "tree", "house", "water", "fire"]


@pytest.fixture(scope="session")
def talker(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after full fine-tuning: it answers with one to four words at random."""
    from speechft.text.config import SftRecipe, TextAdapterSettings
    from speechft.text.pipeline import train

    out = tmp_path_factory.mktemp("talker")
    rows = [
        {"prompt": f"say {a} {b}", "completion": " ".join([a, b, a, b][: 1 + (3 * i + j) % 4]), "split": split}
        for i, a in enumerate(NOUNS)
        for j, b in enumerate(NOUNS)
        for split in ("train", "dev")
    ]
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(out / "rows.jsonl"), output_dir=out, epochs=6,
        adapter=TextAdapterSettings(method="full"), batch_size=9, learning_rate=3e-3, max_length=64, max_new_tokens=8,
        test=False, dev_examples=9,
    )  # fmt: skip
    assert train(recipe)["kept"] == "model"
    return out / "model"


def ignore(event: dict) -> None:
    """What a run says when nobody listens."""


def cut_off(event: dict) -> None:
    """Ends a run in its eleventh step, as ctrl-C would."""
    if event.get("step") == 11 and "loss" in event:
        raise KeyboardInterrupt


def stop_at_the_end(event: dict) -> None:
    """Ends a run while what it made is measured, as a scheduler's SIGTERM would."""
    if event.get("event") == "final evaluation":
        raise Interrupted(signal.SIGTERM)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words each, to be said the other way round."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    words = ["red", "green", "blue", "cat", "dog", "fish"]
    made = [
        {"prompt": f"say {a} {b}", "completion": f"{b} {a}", "split": split}
        for a in words
        for b in words[:4]
        for split in ("train", "dev")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path
