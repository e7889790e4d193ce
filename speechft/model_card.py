"""The page that an adapter has on a hub: what was measured, on what, under which licence, and what it is not for.

It is made of `speechft.json` and `result.json` alone, and names no person, no file and no folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechft.markdown import markdown_table
from speechft.normalize import unit
from speechft.numbers_as_text import NOTHING, interval, percent, points, points_interval
from speechft.report_data import for_display
from speechft.scoring_notes import speakers_said
from speechft.trained_on import read_first, trained_on, training_pairs

PERSONAL = (
    "**These weights were made from people's recordings and are personal data.** Weights can give away how somebody "
    "sounds and what they said, and that they have an impairment of speech. Share them only with the consent of "
    "everybody who was recorded, and delete every copy when one of them takes it back."
)
NOT_FOR = (
    "It transcribes; it does not measure a person. It must not be used for diagnosis, for rating how severe an "
    "impairment is, for identifying speakers or imitating their voices, or where an error could harm somebody and no "
    "one checks the text."
)

PIPELINES = {"speech": "automatic-speech-recognition", "reward": "text-classification"}  # else text-generation


def model_card(
    repo: str,
    base: str,
    card: Mapping[str, Any],
    config: Mapping[str, Any] | None,
    result: Mapping[str, Any] | None,
    licence: str | None,
) -> str:
    """A README.md with the front matter that hubs read.

    Args:
        repo: where it is going, such as `user/name`.
        base: the base model's name on the hub.
        card: `speechft.json`; empty for an adapter made elsewhere.
        config: `adapter_config.json`; None where the whole model was trained.
        result: `result.json` of the run, or of an evaluation with `--out`; None where nothing was measured.
        licence: an identifier such as `cc-by-nc-4.0`, or words; None where it was not stated.
    """
    task, whole = card.get("task", "speech"), config is None
    speech = task == "speech"
    front = _front_matter(repo, base, card, whole, result, licence)
    kind = f"{base}, fully fine-tuned" if config is None else f"An adapter ({_method(card, config)}) for {base}"
    made = f", trained with speechft {card['speechft']}" if card.get("speechft") else ""
    parts = [
        f"---\n{front}\n---\n\n# {repo.split('/')[-1]}\n",
        f"{kind}{made}.\n",
        f"{PERSONAL}\n" if speech else "",
        "## Use\n",
        _use(repo, base, task, whole),
        "## Measured\n",
        _measured(card, result, speech),
        "## Trained on\n",
        _trained_on(card, result),
        "## What it is for, and what not\n",
        _intended(speech),
        "## Licence\n",
        _licence(card, licence),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(
    repo: str, base: str, card: Mapping[str, Any], whole: bool, result: Mapping[str, Any] | None, licence: str | None
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    speech = card.get("task", "speech") == "speech"
    task = PIPELINES.get(card.get("task", "speech"), "text-generation")
    scores = for_display(_adapted(result)) if result and speech else {}
    simulated = bool(result and result.get("notice"))
    results = [
        EvalResult(
            task_type=task,
            dataset_type="private",
            dataset_name="simulated or synthetic speech" if simulated else "not published",
            dataset_split=_split(result),
            metric_type=key,
            metric_value=round(100 * scores[key], 2),
        )
        for key in ("wer", "cer")
        if scores.get(key) is not None and (key == "cer" or unit(scores["normalizer"]) == "words")
    ]
    known = licence is not None and " " not in licence
    data = ModelCardData(
        base_model=base,
        language=card.get("language"),
        library_name="transformers" if whole else "peft",
        license=licence if known else "other",
        license_name=None if known else "see-below",
        pipeline_tag=task,
        tags=["speechft", *(["atypical-speech"] if speech else [])],
        model_name=repo if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _use(repo: str, base: str, task: str, whole: bool) -> str:
    if task != "speech":
        names = f"{repo!r}" if whole else f"{base!r}, adapter={repo!r}"
        lines = ["from speechft.text.model import load_text_model", "", f"text = load_text_model({names})"]
        if task == "reward":
            lines[1:] = [
                "from speechft.text.reward import rewards",
                "",
                f"text = load_text_model({names}, scalar=True)",
                'question = {"role": "user", "content": "What is red?"}',
                'answer = {"role": "assistant", "content": "A colour."}',
                "print(rewards(text, [[question, answer]]))",
            ]
        return "\n".join(["```python", *lines, "```\n"])
    option = "--model" if whole else "--adapter"
    lines = [f"```sh\nspeechft transcribe recording.wav {option} {repo}\n```\n"]
    if not whole:
        lines.append(
            "Or with plain transformers and peft, which pad every clip to 30 s:\n\n"
            "```python\nfrom peft import PeftModel\nfrom transformers import WhisperForConditionalGeneration\n\n"
            f"base = WhisperForConditionalGeneration.from_pretrained({base!r})\n"
            f"model = PeftModel.from_pretrained(base, {repo!r})\n```\n"
        )
    return "\n".join(lines)


def _measured(card: Mapping[str, Any], result: Mapping[str, Any] | None, speech: bool) -> str:
    if not result:
        return "Nothing was measured, or the measurements did not come with the adapter.\n"
    base, adapted = result.get("base") or {}, _adapted(result)
    if not speech:
        rows = [[key, _value(base.get(key)), _value(value)] for key, value in adapted.items() if _is_measure(value)]
        return markdown_table([f"on {_split(result)}", "base model", "with this adapter"], rows)
    base, adapted = (for_display(scores) if scores else {} for scores in (base, adapted))
    counted = unit(adapted["normalizer"])
    rates = ("word error rate", "character error rate")
    if counted == "characters":  # each of which counts as a word
        rates = ("character error rate (WER)", "character error rate (CER)")
    rows = [
        [name, *(percent(scores.get(key)) for scores in (base, adapted))]
        for name, key in zip(rates, ("wer", "cer"), strict=True)
    ]
    rows.insert(1, ["its 95% interval", *(interval(scores.get("wer_ci95")) for scores in (base, adapted))])
    speakers = speakers_said(adapted["per_speaker"])
    where = f"{adapted['n_utterances']} clips, {adapted['n_words']} {counted}, {speakers}, of '{_split(result)}'"
    if _never_trained_on(card, result):
        where += ", never trained on"
    first = read_first(result)
    said = [*(f"**{note}**\n" for note in first), f"On {where}:\n"]
    said.append(markdown_table(["", "base model", "with this adapter"], rows))
    if difference := result.get("difference"):
        said.append(f"{_difference(difference, rates[0])}Texts were normalised by {adapted['normalizer']}.\n")
    caveats = [_nameless(caveat, result) for caveat in result.get("caveats") or () if caveat not in first]
    said += [f"{caveat}\n" for caveat in caveats]
    if _split(result) == "dev":
        said.append("The same clips chose the best state in training, which flatters these numbers a little.\n")
    overlap = _nameless(result.get("overlap") or "", result)
    if overlap and not any(overlap in caveat for caveat in caveats):
        said.append(f"What the parts of the data share: {overlap}.\n")
    return "\n".join(said)


def _difference(found: Mapping[str, Any], rate: str) -> str:
    """A sentence on a paired difference; none where no text has a word."""
    if found["wer"] is None:
        return ""
    bounds, p = points_interval(found["wer_ci95"]), found["p_mapsswe"]
    sure = "" if bounds == NOTHING else f" (95% interval {bounds})"
    told = "" if p is None else f"; matched-pairs p = {p:.2g}"
    return f"Difference {points(found['wer'])} percentage points of {rate}{sure}{told}. "


def _never_trained_on(card: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether it is known that the clips behind the numbers were not trained on: they are a run's own test split, or
    an evaluation compared them with what an adapter with a card of ours learnt from, and found nothing to warn of."""
    if trained_on(training_pairs(result)):
        return False
    if "evaluated_on" in result:
        return _split(result) == "test"
    return bool(card and training_pairs(result)) and _split(result) != "train" and not result.get("caveats")


def _nameless(said: str, result: Mapping[str, Any]) -> str:
    """What parts of the data share, without the names that are nearly alike, which results once held."""
    for pair in result.get("leakage") or ():
        if "'" in (alike := ", ".join(pair.get("alike") or ())):
            said = said.replace(alike, "others")
    return said


def _trained_on(card: Mapping[str, Any], result: Mapping[str, Any] | None) -> str:
    data: Mapping[str, Any] = card.get("data") or (result or {}).get("data") or {}
    known = {
        "recordings": data.get("train_clips"),
        "minutes": data.get("train_minutes"),
        "speakers": data.get("speakers"),
        "synthetic recordings among them": data.get("synthetic_train_clips") or None,
        "examples": data.get("train_examples"),
        "SHA-256 of the training rows": card.get("train_sha256") or data.get("sha256"),
        "base model's hash": card.get("base_sha256"),
        "encoder context": card.get("context"),
        "trained at": card.get("trained_context"),
    }
    rows = [[name, value] for name, value in known.items() if value is not None]
    recipe = card.get("recipe", {})
    settings = ("learning_rate", "batch_size", "epochs", "max_steps", "seed")
    rows += [[key.replace("_", " "), recipe[key]] for key in settings if recipe.get(key) is not None]
    return markdown_table(["", ""], rows) if rows else "Not stated.\n"


def _intended(speech: bool) -> str:
    if not speech:
        return "For the task it was trained for, with a person who checks what it writes.\n"
    return (
        "For transcribing the people it was trained for: dictation, captions, commands. On other people it can be "
        f"worse than the base model.\n\n{NOT_FOR}\n\nThe base model, and so this one, at times writes words that "
        "nobody said, above all in silence and noise.\n"
    )


def _licence(card: Mapping[str, Any], licence: str | None) -> str:
    stated = licence or card.get("licence") or "not stated"
    return f"{stated[0].upper()}{stated[1:]}. The base model has a licence of its own.\n"


def _method(card: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    name = card.get("recipe", {}).get("adapter", {}).get("method") or config["peft_type"]
    return f"{name}, rank {config['r']}" if config.get("r") else name


def _adapted(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a training run, or of an evaluation, whose scores stand at the top."""
    return result.get("adapted") or result


def _split(result: Mapping[str, Any] | None) -> str:
    found = result or {}
    return (found.get("evaluated_on") or found).get("split") or "all"


def _is_measure(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value and "ci95" in value


def _value(value: Any) -> str:
    if not _is_measure(value) or value["value"] is None:
        return "–"
    return f"{value['value']:.3g} ({' to '.join('–' if b is None else f'{b:.3g}' for b in value['ci95'])})"
