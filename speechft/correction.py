"""Correcting transcripts of one voice after recognition, with a language model that may only touch what was uncertain.

The model sees the recogniser's hypotheses, best first, and writes what was said. Three rules keep it honest: it is
trained on transcripts by recognisers that never heard the clip (`cross_validated`), words the recogniser was sure of
cannot change (`constrained`), and how sure that is gets chosen on dev (`best_level`), where "never" is a choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechft.config import SpeechRecipe
from speechft.error_rate import ErrorRate, align, word_errors
from speechft.errors import SpeechftError
from speechft.evaluate import normalizer_for
from speechft.manifest import Manifest, Utterance, languages
from speechft.normalize import normalizer, resolve_normalizer
from speechft.recogniser import Recogniser, load
from speechft.scoring import finite
from speechft.significance import bootstrap_ci, paired_bootstrap
from speechft.text.examples import Message
from speechft.text.generation import answers
from speechft.text.model import TextModel
from speechft.train import fit
from speechft.transcript import DecodeOptions

TASK = "A recogniser wrote what a person said, best guess first. Write what was said."
LEVELS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.1)  # words as sure as this stay; at 0 nothing may change, above 1 everything
UNSURE = 0.5  # words below it are shown to the model in brackets
MAX_NEW_TOKENS = 96
BEAMS = 4  # hypotheses of a clip


@dataclass(frozen=True)
class NBest:
    """What a recogniser made of one clip.

    Attributes:
        id, speaker: of the utterance, empty where there is none.
        words: of the best hypothesis, normalised.
        confidences: of those words, 0 to 1.
        hypotheses: all, best first, normalised.
        reference: what was said, normalised; empty where that is not known.
    """

    id: str
    speaker: str
    words: tuple[str, ...]
    confidences: tuple[float, ...]
    hypotheses: tuple[str, ...]
    reference: str


def n_best_lists(
    recogniser: Recogniser, manifest: Manifest, beams: int = BEAMS, normalise: str = "auto"
) -> list[NBest]:
    """N-best lists of a manifest's clips.

    Args:
        recogniser: from `speechft.load`.
        normalise: each word, of hypotheses and references; correction works on normalised words.
    """
    normalise = normalizer_for(recogniser.whisper, manifest, normalise)
    found = recogniser.evaluate(manifest, normalise, confidences=True, options=DecodeOptions(beams=beams))
    return [
        n_best(written, transcript.alternatives, normalise, utterance)
        for utterance, transcript, written in zip(found.heard, found.transcripts, found.written, strict=True)
    ]


def n_best(
    written: Sequence[tuple[str, float]],
    alternatives: Sequence[str],
    normalise: str,
    utterance: Utterance | None = None,
) -> NBest:
    """What a recogniser made of one clip, word by word normalised.

    Args:
        written: the words of its best hypothesis with their confidences, see `speechft.evaluate.written_words`.
        alternatives: the other hypotheses, best first.
        utterance: the clip, where it is known what was said.
    """
    clean = normalizer(normalise)
    parts = [(part, sure) for word, sure in written for part in clean(word).split()]
    words, confidences = tuple(part for part, _ in parts), tuple(sure for _, sure in parts)
    hypotheses = tuple(dict.fromkeys([" ".join(words), *(_each_word(clean, text) for text in alternatives)]))
    if utterance is None:
        return NBest("", "", words, confidences, hypotheses, "")
    reference = _each_word(clean, utterance.text)
    return NBest(utterance.id, utterance.speaker or "", words, confidences, hypotheses, reference)


def _each_word(clean: Callable[[str], str], text: str) -> str:
    return " ".join(" ".join(clean(word) for word in text.split()).split())


def cross_validated(
    recipe: SpeechRecipe, train: Manifest, dev: Manifest, out: str | Path, folds: int = 4, beams: int = BEAMS
) -> list[NBest]:
    """N-best lists of the training clips, each by an adapter that was trained without it and its sentence.

    A recogniser makes few errors on what it was trained on; a corrector that learns from those learns to do nothing.

    Args:
        recipe: of the speech adapter.
        out: gets a folder for each fold's adapter.
        folds: adapters to train.

    Raises:
        SpeechftError: fewer sentences than folds.
    """
    named = resolve_normalizer(recipe.normalizer, languages(train), recipe.language or "en")
    clean = normalizer(named)  # "Stop!" and "stop" are the same sentence
    fold_of = {u.id: int(hashlib.sha256(clean(u.text).encode()).hexdigest()[:8], 16) % folds for u in train}
    if len(set(fold_of.values())) < folds:
        raise SpeechftError(f"too few different sentences for {folds} folds", where=train.path, fix="Use fewer folds.")
    heard = []
    for fold in range(folds):
        names = {name for name, number in fold_of.items() if number == fold}
        rest = train.filter(lambda u, names=names: u.id not in names)  # type: ignore[misc]
        own = train.filter(lambda u, names=names: u.id in names)  # type: ignore[misc]
        folder = Path(out) / f"fold-{fold}"
        trained = fit(recipe.model_copy(update={"output_dir": folder}), rest, dev)
        heard += n_best_lists(load(recipe.model, trained.adapter), own, beams, recipe.normalizer)
    return heard


def question(heard: NBest) -> list[Message]:
    """What the language model is asked: the hypotheses, unsure words of the best in brackets."""
    marked = [f"[{word}]" if sure < UNSURE else word for word, sure in zip(heard.words, heard.confidences, strict=True)]
    lines = [f"{number}. {text}" for number, text in enumerate([" ".join(marked), *heard.hypotheses[1:]], 1)]
    return [{"role": "user", "content": TASK + "\n\n" + "\n".join(lines)}]


def answer_rows(heard: Sequence[NBest], split: str) -> list[dict[str, Any]]:
    """Rows for `task: sft`: hypotheses to what was said."""
    return [{"prompt": question(one), "completion": one.reference, "split": split} for one in heard if one.reference]


def preference_rows(heard: Sequence[NBest], split: str) -> list[dict[str, Any]]:
    """Rows for `task: preference`: what was said over what was heard, where they differ."""
    return [
        {"prompt": question(one), "chosen": one.reference, "rejected": " ".join(one.words), "split": split}
        for one in heard
        if one.words and one.reference and " ".join(one.words) != one.reference
    ]


def propose(text: TextModel, heard: Sequence[NBest], normalise: str) -> list[str]:
    """What the model would write for each clip, before any rule.

    Args:
        normalise: each word, as `n_best_lists` did: a capital letter is no word error.
    """
    found = answers(text, [question(one) for one in heard], max_new_tokens=MAX_NEW_TOKENS)
    return [_each_word(normalizer(normalise), answer) for answer in found]


def constrained(heard: NBest, proposal: str, level: float) -> str:
    """The part of a proposal that is allowed.

    Args:
        proposal: of the language model.
        level: words with a confidence of this or more stay. A word is added only next to one that may change, or
            where there was none.

    >>> heard = NBest("1", "", ("please", "tern", "it"), (0.9, 0.2, 0.9), ("please tern it",), "")
    >>> constrained(heard, "kindly turn it off", 0.5)
    'please turn it'
    """
    if level <= 0:
        return " ".join(heard.words)
    free = [sure < level for sure in heard.confidences]
    kept: list[str] = []
    place = 0
    for kind, ours, theirs in align(heard.words, proposal.split()):
        if kind == "insert":
            near = free[max(0, place - 1) : place + 1]
            if any(near) or not free or level > 1:
                kept.append(theirs)
            continue
        if kind == "equal" or not free[place]:
            kept.append(ours)
        elif kind == "substitute":
            kept.append(theirs)
        place += 1
    return " ".join(kept)


def errors(heard: Sequence[NBest], proposals: Sequence[str], level: float) -> list[ErrorRate]:
    """Word errors of each clip after correction at a level."""
    return [
        word_errors(one.reference, constrained(one, proposal, level))
        for one, proposal in zip(heard, proposals, strict=True)
    ]


def best_level(heard: Sequence[NBest], proposals: Sequence[str]) -> tuple[float, dict[float, float]]:
    """The level with the fewest word errors on dev clips; 0, no correction, unless another is better.

    Returns:
        the level, and the word error rate at each of `LEVELS`.
    """
    rates = {level: sum(errors(heard, proposals, level), ErrorRate()).rate for level in LEVELS}
    return min(LEVELS, key=lambda level: (rates[level], level)), rates


def report(heard: Sequence[NBest], proposals: Sequence[str], level: float) -> dict[str, Any]:
    """Word error rates before and after, with intervals by drawing speakers again, and what the constraint did.

    Returns:
        `before`, `after`, `unconstrained` and `oracle` (the best hypothesis of each list): `wer` and `ci95`;
        `difference` after - before with `ci95`; `level`; `changed`, `better` and `worse` clips.
    """
    speakers = [one.speaker for one in heard]
    before = errors(heard, proposals, 0.0)
    after = errors(heard, proposals, level)
    oracle = [min((word_errors(one.reference, text) for text in one.hypotheses), key=_errors) for one in heard]
    difference, interval = paired_bootstrap(before, after, speakers)

    def rate(found: Sequence[ErrorRate]) -> dict[str, Any]:
        return {"wer": sum(found, ErrorRate()).rate, "ci95": [finite(bound) for bound in bootstrap_ci(found, speakers)]}

    pairs = list(zip(before, after, strict=True))
    return {
        "level": level,
        "before": rate(before),
        "after": rate(after),
        "unconstrained": rate(errors(heard, proposals, max(LEVELS))),
        "oracle": rate(oracle),
        "difference": {"wer": difference, "ci95": [finite(bound) for bound in interval]},
        "changed": sum(
            constrained(one, said, level) != " ".join(one.words) for one, said in zip(heard, proposals, strict=True)
        ),
        "better": sum(new.errors < old.errors for old, new in pairs),
        "worse": sum(new.errors > old.errors for old, new in pairs),
    }


def _errors(rate: ErrorRate) -> int:
    return rate.errors
