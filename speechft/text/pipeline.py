"""From a text recipe to its result: read, train, measure before and after on examples never trained on."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from speechft import adapters, distributed, memory, quantization
from speechft.errors import SpeechftError
from speechft.events import Event, OnEvent
from speechft.files import write_json
from speechft.left_out import listed, tell
from speechft.locks import locked
from speechft.own_results import results_folder, writes_results
from speechft.result import environment
from speechft.result_schema import FORMAT
from speechft.sources import resolve_adapter
from speechft.text.config import TEXT_RECIPES, RewardRecipe, TextRecipe
from speechft.text.data import Corpus, drawn, held_out, part_of, read
from speechft.text.examples import Example, blocks_of
from speechft.text.measure import Measure
from speechft.text.metrics import METRICS
from speechft.text.model import TextModel, load_text_model
from speechft.text.pretrain import elsewhere, others
from speechft.text.reward import load_reward_model
from speechft.text.training import Fitted, forget_checkpoints
from speechft.validation import validated

NEEDS = {"pretrain": "document", "sft": "answer", "preference": "preference", "reward": "preference",
         "policy": "prompt", "feedback": "prompt"}  # fmt: skip
# What an adapter's card may say of how it is measured: numbers and choices. Whoever made the adapter does not say which
# files are read, or who is shown the texts; metrics of the package and nothing else are no places.
FROM_CARD = ("adapter", "batch_size", "beta", "loss", "max_length", "max_new_tokens", "metrics", "samples", "seed",
             "stride", "temperature", "test_examples")  # fmt: skip


def train(recipe: TextRecipe, *, on_event: OnEvent = lambda event: None) -> dict[str, Any]:
    """Run a text recipe.

    Args:
        recipe: one of `speechft.text.config.TEXT_RECIPES`.
        on_event: called with every line of metrics.jsonl, and with `{"event": name, ...}` for other news.

    Returns:
        what OUT/result.json holds: `base` and `adapted`, each metric with `value` and `ci95`; `difference` of the same
        examples; `adapter` (null where nothing trained did better on dev); `judge`, of learning from one, see
        `speechft.text.audit.audit`; `data`, `training`, `recipe`, ...

    Raises:
        SpeechftError: the data, the recipe or the model is wrong.
    """
    if distributed.world() > 1:
        raise SpeechftError("text recipes train in one process", fix="Run it without torchrun or accelerate launch.")
    out = Path(recipe.output_dir)
    adapters.refuse_foreign(out / recipe.adapter.saved_as)
    with results_folder(out, recipe.adapter.saved_as), locked(out):
        left_out: list[dict[str, str]] = []
        judge: dict[str, Any] = {}

        def told(event: Event) -> None:
            if event.get("event") == "left out":
                row = {"where": event["where"], "reason": event["reason"]}
                if row in left_out:
                    return  # what cannot be measured at the end was said before training
                left_out.append(row)
            elif event.get("event") == "judge":
                judge.update(event["measures"])
            on_event(event)

        corpus = corpus_of(recipe)
        for where, reason in corpus.left_out:
            tell(told, where, reason)
        on_event({"event": "examples", "train": len(corpus.train), "dev": len(corpus.dev), "test": len(corpus.test)})
        module = task_module(recipe.task)
        fitted = module.train(recipe, corpus, told)  # which may leave out more
        data = about(corpus, {row["where"] for row in left_out})
        kept = _save(fitted, recipe, data)
        split, examples = held_out(corpus, recipe)
        on_event({"event": "final evaluation", "split": split})
        examples = module.usable(fitted.text, examples, recipe, told)
        base, adapted = before_and_after(fitted, module, examples, recipe, corpus.other)
        result = {
            "format": FORMAT,
            "task": recipe.task,
            "notice": None,
            "model": recipe.model,
            "adapter": kept if kept != "base" else None,
            "kept": kept,
            "evaluated_on": {"split": split, "chosen_on": "dev", "examples": len(examples)},
            "base": {name: measure.summary() for name, measure in base.items()},
            "adapted": {name: measure.summary() for name, measure in adapted.items()},
            "difference": {name: measure.against(base[name]) for name, measure in adapted.items() if name in base},
            **({"judge": judge} if judge else {}),
            "overlap": f"{corpus.overlap} held-out questions are also training questions",
            "left_out": left_out,
            "data": data,
            "training": _training(fitted),
            "recipe": recipe.model_dump(mode="json"),
            "environment": environment(),
        }
        write_json(out / "result.json", result)
        forget_checkpoints(out)  # not before: a run that is stopped while it is measured goes on from them
    return result


@writes_results
def evaluate(
    data: str,
    *,
    task: str | None = None,
    split: str | None = None,
    model: str | None = None,
    adapter: str | Path | None = None,
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The scores of a task for a model or an adapter, and against the adapter's own base.

    Args:
        data: see `speechft.text.data.read`.
        task: of `TEXT_RECIPES`; an adapter knows its own.
        split: test where there is one, else dev, else train, unless told.
        model: the bundled one or the adapter's own, unless told.
        out: a folder for result.json.
        settings: of the recipe, such as `metrics`; unless told, of those the adapter was trained with `FROM_CARD` and a
            reward that is a metric.

    Raises:
        SpeechftError: no such task or split, a judge or a reward model that only the adapter names, or the data, the
            adapter or the model is wrong.
    """
    adapter = resolve_adapter(adapter) if adapter else None
    card = adapters.read_card(adapter) if adapter else {}
    task = task or card.get("task")
    if task not in TEXT_RECIPES:
        raise SpeechftError(f"unknown text task '{task}'", fix=f"Use one of {', '.join(TEXT_RECIPES)}.")
    values = {**_from_card(card), **(settings or {}), "task": task, "data": data, "output_dir": str(out or ".")}
    values["model"] = model or card.get("model") or values.get("model", "bundled:smollm2")
    if adapter:
        _refuse_card_alone(card, values, adapter)
    recipe = validated(TEXT_RECIPES[task], values)
    try:
        corpus = corpus_of(recipe, training=False)
    except SpeechftError as error:
        reader = card.get("recipe", {}).get("reader")
        if not reader or recipe.reader:
            raise
        fix = f"If these are the corpus's own files, give --set reader={reader}. {error.fix}"
        raise SpeechftError(error.what, where=error.where, fix=fix) from None
    split, part = part_of(corpus, split, data)
    if isinstance(recipe, RewardRecipe) and (recipe.reward_label or not adapter):
        text = load_reward_model(adapter or recipe.model, recipe.reward_label)  # which refuses a label of an adapter
    else:
        text = load_text_model(
            recipe.model, adapter=adapter, quantize=recipe.adapter.quantize, scalar=task == "reward", inference=True
        )
    module = task_module(task)
    left_out = list(corpus.left_out)
    examples = module.usable(
        text, drawn(part, recipe.test_examples, recipe.seed), recipe,
        lambda event: left_out.append((event["where"], event["reason"])),
    )  # fmt: skip
    with adapters.disabled(text.model):
        base = measures(module, text, examples, recipe, corpus.other)
    found = measures(module, text, examples, recipe, corpus.other) if adapter else base
    result = {
        "format": FORMAT,
        "task": task,
        "model": recipe.model,
        "adapter": str(adapter) if adapter else None,
        "split": split,
        "examples": len(examples),
        **{name: measure.summary() for name, measure in found.items()},
        "base": {name: measure.summary() for name, measure in base.items()} if adapter else None,
        "difference": {n: m.against(base[n]) for n, m in found.items() if n in base} if adapter else None,
        "left_out": listed(left_out),
        "environment": environment(),
    }
    if out:
        write_json(Path(out) / "result.json", result)
    return result


def _from_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """What an adapter's card says of how it is measured, as far as it is heeded."""
    said = card.get("recipe", {})
    found = {key: said[key] for key in FROM_CARD if key in said}
    return found | ({"reward": said["reward"]} if said.get("reward") in list(METRICS) else {})


def _refuse_card_alone(card: Mapping[str, Any], values: Mapping[str, Any], adapter: Path) -> None:
    """Raises SpeechftError where only the adapter names whom the texts would be shown to."""
    said = card.get("recipe", {})
    for key in ("judge", "reward"):
        if key in TEXT_RECIPES[values["task"]].model_fields and key in said and key not in values:
            named = [name for name in (key, "reward_label", "rubric") if said.get(name)]
            wanted = [f"--set {shlex.quote(f'{name}={said[name]}')}" for name in named]
            raise SpeechftError(
                f"names its {key}, which is not asked because the adapter says so", where=adapter,
                fix=f"If you trust it, give {' '.join(wanted)}.",
            )  # fmt: skip


def task_module(task: str) -> ModuleType:
    """The module of a task, with three functions.

    `train(recipe, corpus, log)`, `usable(text, examples, recipe, log)`, the examples that can be measured,
    and `measure(text, examples, recipe)` of them.
    """
    import importlib

    names = {"preference": "preferences", "policy": "policy", "feedback": "feedback"}
    return importlib.import_module(f"speechft.text.{names.get(task, task)}")


def before_and_after(
    fitted: Fitted, module: ModuleType, examples: Sequence[Example], recipe: TextRecipe, other: Sequence[Example] = ()
) -> tuple[dict[str, Measure], dict[str, Measure]]:
    """Measures of the model before training and of what was kept, on the same examples."""
    if recipe.adapter.method == "full":
        text = load_text_model(recipe.model, scalar=recipe.task == "reward")
        base = measures(module, text, examples, recipe, other)
    else:
        with adapters.disabled(fitted.text.model):
            base = measures(module, fitted.text, examples, recipe, other)
    return base, measures(module, fitted.text, examples, recipe, other) if fitted.better else base


def measures(
    module: ModuleType, text: TextModel, examples: Sequence[Example], recipe: TextRecipe, other: Sequence[Example] = ()
) -> dict[str, Any]:
    """What a task measures, and what became of another domain where there are documents of one.

    Examples that are alike are drawn together for intervals; a measure of some of them says itself which are.
    """
    blocks = blocks_of(examples)
    found = module.measure(text, examples, recipe).items()
    own = {name: replace(one, blocks=blocks) if one.n == len(examples) else one for name, one in found}
    return {**own, **elsewhere(text, other, recipe)}


def about(corpus: Corpus, left_out: Collection[str]) -> dict[str, Any]:
    """What a result and a card say of the data; examples are counted without those that training `left_out`."""
    used = {
        name: sum(example.where not in left_out for example in getattr(corpus, name))
        for name in ("train", "dev", "test")
    }
    return {"sha256": corpus.sha256, **{f"{name}_examples": count for name, count in used.items()}}


def corpus_of(recipe: TextRecipe, training: bool = True) -> Corpus:
    """The examples of a recipe, split, and another domain's; where not for `training`, any split may be empty."""
    other = others(recipe)  # what is wrong with them is said before hours of training, not after
    needs, rows, seed = _needs(recipe), recipe.rows, recipe.seed
    corpus = read(recipe.data, reader=recipe.reader, needs=needs, rows=rows, seed=seed, training=training)
    return replace(corpus, other=other)


def _needs(recipe: TextRecipe) -> str:
    return "judgement" if getattr(recipe, "loss", "") == "kto" and recipe.task == "preference" else NEEDS[recipe.task]


def _save(fitted: Fitted, recipe: TextRecipe, data: dict[str, Any]) -> str:
    """Save what is kept; returns `adapter`, `model` or `base`."""
    kind = recipe.adapter.saved_as
    if not fitted.better:
        shutil.rmtree(Path(recipe.output_dir) / kind, ignore_errors=True)  # of an earlier run here
        return "base"
    text: TextModel = fitted.text
    card = {
        "format": 1,
        "task": recipe.task,
        "model": recipe.model,
        "base_sha256": adapters.base_hash(text.folder),
        "licence": recipe.adapter.licence or "not stated",
        "dev": {"base": fitted.base, "adapted": fitted.best},
        "recipe": recipe.model_dump(mode="json", exclude={"data", "output_dir", "other_domain"}),
        "data": data,
    }
    adapters.save(text.model, Path(recipe.output_dir) / kind, card, recipe.model, text.folder)
    if kind == "model":
        text.tokenizer.save_pretrained(Path(recipe.output_dir) / kind)
    return kind


def _training(fitted: Fitted) -> dict[str, Any]:
    size = quantization.size(fitted.text.model)
    return {
        "steps": fitted.steps,
        "best_step": fitted.best_step,
        "skipped_steps": fitted.skipped,
        "dev_base": fitted.base if math.isfinite(fitted.base) else None,
        "dev_best": fitted.best if math.isfinite(fitted.best) else None,
        "seconds": fitted.seconds,
        "trainable": size.trainable,
        "parameters": size.parameters,
        "weights_mb": size.weights_mb,
        "peak_memory_mb": memory.peak_mb(),
    }
