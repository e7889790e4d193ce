"""What result.json holds, as types: format 1, which only grows.

    python -m speechft.result_schema > docs/result.schema.json

Other software may rely on the keys named here, on their types and on what they mean. More keys may come with any
version; `format` becomes another number when one of these goes or changes its meaning. Those with a default came later,
and are missing in older files.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from speechft.matched_pairs import Distribution

FORMAT = 1
Rate = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Interval = tuple[float | None, float | None]


class Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class Rates(Part):
    """Error rates of some utterances; null where their texts have no word."""

    wer: Rate | None
    cer: Rate | None
    n_utterances: Count
    n_words: Count


class GroupRates(Rates):
    n_speakers: Count
    wer_ci95: Interval


class Scores(Rates):
    """Error rates of a system on a corpus: fractions, counted over all of it.

    `n_speakers`, here and of a group, are those with a word in a text.
    `wer_digits` is the rate of words where each digit is one; null but for a normaliser that joins digits.
    `cer_sclite` is the rate of characters as NIST's `sclite -c` counts them.
    """

    wer_ci95: Interval
    wer_digits: Rate | None = None
    cer_sclite: Rate | None = None
    mer: Rate
    wil: Rate
    n_speakers: Count
    substitutions: Count
    deletions: Count
    insertions: Count
    normalizer: str
    wer_raw: Rate | None
    wer_without_worst: Rate | None
    per_speaker: dict[str, Rates]
    per_group: dict[str, dict[str, GroupRates]]
    real_time_factor: Rate


class Difference(Part):
    """Two systems on the same utterances; `wer` is the second less the first, so below 0 is better.

    `wer_digits` is that of the rates with each digit a word, null where a normaliser joins none.
    `p_mapsswe` is the p to go by of the matched-pair test, for few segments too; `p_mapsswe_by` says what it is from.
    `z_mapsswe` (above 0 is better) and `p_mapsswe_normal` are of the test as published, null where nothing varies.
    """

    wer: float | None
    wer_ci95: Interval
    wer_digits: float | None = None
    relative: float | None
    p_speakers: float | None
    p_mapsswe: float | None
    p_mapsswe_by: Distribution | None = None
    p_mapsswe_normal: float | None = None
    z_mapsswe: float | None = None
    better: Count
    worse: Count
    same: Count
    notes: list[str]


class LeftOut(Part):
    where: str
    reason: str


class Shared(Part):
    """What two splits have in common; of "training of the adapter", what was evaluated and what it was trained on."""

    first: str
    second: str
    rows: Count
    speakers: list[str]
    prompts: Count
    texts: Count
    audio: list[str]
    alike: list[str] = []
    nameless: list[Count] = []


class EvaluatedOn(Part):
    split: str
    chosen_on: str
    clips: Count
    speakers: Count


class Training(Part):
    steps: Count
    steps_planned: Count
    best_step: Count | None
    stopped: str | None
    skipped_steps: Count
    seconds: Rate
    trainable: Count
    parameters: Count
    padding: Rate
    peak_memory_mb: Rate


class TrainingResult(Part):
    """OUT/result.json of `speechft train` with a speech recipe, and what it prints with --json."""

    format: Literal[1]
    task: Literal["speech"]
    notice: str | None
    model: str
    model_sha256: str | None = None
    adapter: str | None
    adapter_sha256: str | None = None
    kept: Literal["adapter", "model", "base"]
    evaluated_on: EvaluatedOn
    base: Scores
    adapted: Scores
    difference: Difference
    overlap: str
    leakage: list[Shared]
    left_out: list[LeftOut]
    data: dict[str, Any]
    training: Training
    recipe: dict[str, Any]
    environment: dict[str, Any]


class EvaluationResult(Scores):
    """What `speechft evaluate --json` prints for one model or adapter, and its result.json."""

    format: Literal[1]
    notice: str | None
    model: str
    adapter: str | None
    model_sha256: str | None = None
    adapter_sha256: str | None = None
    language: str | None = None
    context: str
    beams: Count
    split: str | None
    manifest_sha256: str
    overlap: str
    leakage: list[Shared]
    left_out: list[LeftOut]
    caveats: list[str] = []
    base: Scores | None
    difference: Difference | None
    environment: dict[str, Any]


class CorrectedDifference(Difference):
    """A difference with its p values corrected for how many there are (Holm)."""

    p_speakers_holm: float
    p_mapsswe_holm: float


class Compared(Scores):
    """One of several: the base, whose `adapter` and `difference` are missing, or an adapter."""

    model: str
    adapter: str | None = None
    model_sha256: str | None = None
    adapter_sha256: str | None = None
    language: str | None = None
    context: str
    beams: Count
    difference: CorrectedDifference | None = None


class Pair(CorrectedDifference):
    """`second` less `first`, by their names."""

    first: str
    second: str


class ComparisonResult(Part):
    """What `speechft evaluate --json` prints for several adapters, and its result.json: each by its name.

    `best` is the name with the lowest WER, or `base`. `adapter`, in the file alone, is what the report shows in detail.
    """

    format: Literal[1]
    notice: str | None
    split: str | None
    clips: Count
    speakers: Count
    manifest_sha256: str
    overlap: str
    leakage: list[Shared]
    left_out: list[LeftOut]
    caveats: list[str] = []
    base: Compared
    adapters: dict[str, Compared]
    pairs: list[Pair]
    best: str
    adapter: str | None = None
    environment: dict[str, Any]


class TextResult(Part):
    """As much of OUT/result.json of a text recipe as a model card is written of; not described any further."""

    adapter: str | None = None
    kept: str | None = None
    evaluated_on: dict[str, Any] | None = None
    base: dict[str, Any] | None = None
    adapted: dict[str, Any] | None = None


def schema() -> dict[str, Any]:
    """JSON Schema of those of speech."""
    from pydantic import TypeAdapter

    made = TypeAdapter(TrainingResult | EvaluationResult | ComparisonResult).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"result.json, format {FORMAT}", **made}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
