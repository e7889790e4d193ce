"""What a text recipe may say. Names that mean the same as in a speech recipe are the same."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from speechft.config import (
    AdapterSettings,
    Interval,
    MostSkipped,
    NonFinite,
    Optimizer,
    OutputFolder,
    Positive,
    Search,
    Seed,
    Settings,
    Share,
    Tracker,
    refuse_idle_search,
    refuse_overlap,
    refuse_whole_decay,
    with_rate_of_method,
)
from speechft.files import expanded
from speechft.marks import FILE, MODEL, Mark, Move, Place
from speechft.schedule import Schedule
from speechft.sources import local_adapter
from speechft.text.metrics import ANSWER_METRICS, METRICS

Count = Annotated[int, Field(ge=1)]
RewardLabel = Annotated[str | None, Field(min_length=1)]


def _moved_reward(name: str, move: Move) -> str:
    folder = None if name in METRICS else local_adapter(name, move(expanded(name)))
    return str(folder) if folder and ("/" in name or folder.is_dir()) else name


def _moved_judge(judge: str, move: Move) -> str:
    kind, _, name = judge.partition(":")
    if kind == "model":
        return f"model:{MODEL.moved(name, move)}"
    folder = local_adapter(name, move(expanded(name))) if kind == "reward" else None
    return f"reward:{folder}" if folder else judge


DATA = Place(lambda name, move: name if name.startswith("hub:") else FILE.moved(name, move))
REWARD, JUDGE = Place(_moved_reward), Place(_moved_judge)


class TextAdapterSettings(AdapterSettings):
    """As for speech; unless `projections` names some, every linear layer of the model's blocks gets an adapter."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    projections: Annotated[list[str], Field(min_length=1)] | None = None  # type: ignore[assignment]


class TextRecipe(Settings):
    """What every text run depends on.

    Attributes:
        task: one of `TEXT_RECIPES`.
        model: see `speechft.sources.resolve`.
        data: a JSONL, JSON, CSV or text file, a folder with train/dev/test files, or `hub:NAME`; see
            `speechft.text.data.read`. Rows may say their `split`; without dev rows, some are put aside.
        reader: the layout of the rows where it cannot be told from them: see `speechft.text.corpora.READERS`.
        rows: of each file or split at most, from its start, where there are more than a run needs.
        output_dir: gets adapter/, result.json, metrics.jsonl, checkpoints/.
        batch_size: sequences a forward pass; `accumulate` of them make an optimiser step.
        max_steps: optimiser steps of the run, however often they pass over the data; null for `epochs` passes.
        learning_rate: at its highest; unless given, one that suits `adapter.method`, as in a speech recipe.
        max_length: tokens of a sequence; longer ones are cut.
        other_domain: documents of another kind, as `data`; their perplexity shows what was forgotten.
        stride: tokens between the windows that documents' perplexity is measured in; null is half of `max_length`.
        evaluations: on dev during the run; the state that does best there is kept.
        dev_examples, test_examples: at most, drawn by the seed where there are more.
        non_finite, most_skipped, tracking, search: as in a speech recipe.
    """

    task: str
    model: Annotated[str, MODEL] = "bundled:smollm2"
    data: Annotated[str, DATA, Mark.NOT_IN_WEIGHTS]
    reader: str | None = None
    rows: Count | None = None
    output_dir: OutputFolder
    batch_size: Count = 4
    accumulate: Count = 1
    max_steps: Count | None = None
    epochs: Count = 1
    learning_rate: Positive = 2e-4
    schedule: Schedule = "linear"
    warmup: Share = 0.1
    decay: Share = 0.2
    cycles: Count = 3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    optimizer: Optimizer = "adamw"
    gradient_clip: Positive = 1.0
    seed: Seed = 0
    adapter: TextAdapterSettings = TextAdapterSettings()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    max_length: Annotated[int, Field(ge=8)] = 512
    other_domain: Annotated[str | None, DATA, Mark.NOT_IN_WEIGHTS] = None
    stride: Annotated[Count | None, Mark.NOT_IN_WEIGHTS] = None
    evaluations: Count = 4
    dev_examples: Count = 200
    test_examples: Annotated[Count, Mark.NOT_IN_WEIGHTS] = 200
    test: Annotated[bool, Mark.NOT_IN_WEIGHTS] = True
    non_finite: NonFinite = "skip"
    most_skipped: MostSkipped = 20
    checkpoint_every: Interval = 200
    tracking: Annotated[Tracker | None, Mark.NOT_IN_WEIGHTS, Mark.PRIVATE] = None
    search: Annotated[Search, Mark.NOT_IN_WEIGHTS, Mark.PRIVATE] = Field(default={})

    _rate = model_validator(mode="after")(with_rate_of_method)
    _decay = model_validator(mode="after")(refuse_whole_decay)
    _overlap = model_validator(mode="after")(refuse_overlap)
    _search = model_validator(mode="after")(refuse_idle_search)


class PretrainRecipe(TextRecipe):
    """Continued pre-training on plain documents.

    Attributes:
        packing: several documents in one sequence, none seeing another; without it, or with a model that cannot keep
            them apart, each has sequences of its own.
    """

    task: Literal["pretrain"] = "pretrain"
    packing: bool = True


class SftRecipe(TextRecipe):
    """Supervised fine-tuning on conversations; the loss is on the assistant's tokens.

    Attributes:
        packing: several conversations in one sequence, none seeing another, where the model can keep them apart.
        metrics: of generated answers against the references; see `speechft.text.metrics.ANSWER_METRICS`.
        encoder: of `bert_score`: a folder or a hub id; see `speechft.text.metrics.bert_score`.
        max_new_tokens: of a generated answer.
    """

    task: Literal["sft"] = "sft"
    packing: bool = False
    metrics: list[str] = Field(default=["exact_match", "f1", "rougeL"])
    encoder: Annotated[str | None, MODEL, Mark.NOT_IN_WEIGHTS] = None
    max_new_tokens: Count = 64

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: list[str]) -> list[str]:
        if unknown := [name for name in metrics if name not in ANSWER_METRICS]:
            raise ValueError(f"unknown metric '{unknown[0]}'; known are {', '.join(ANSWER_METRICS)}")
        return metrics

    @model_validator(mode="after")
    def _encoder_is_used(self) -> SftRecipe:
        if self.encoder and "bert_score" not in self.metrics:
            raise ValueError("encoder is of bert_score: add that to metrics, or leave encoder out")
        return self


class PairRecipe(TextRecipe):
    """What recipes share that learn from a better and a worse answer.

    Attributes:
        loss: `dpo` (Rafailov et al., 2023, arXiv 2305.18290), `ipo` (Azar et al., 2023, arXiv 2310.12036), `kto`
            (Ethayarajh et al., 2024, arXiv 2402.01306) or `orpo` (Hong et al., 2024, arXiv 2403.07691).
        beta: how strongly the policy is held to the reference; of ORPO the weight of its odds ratio.
    """

    loss: Literal["dpo", "ipo", "kto", "orpo"] = "dpo"
    beta: Positive = 0.1
    learning_rate: Positive = 5e-5

    @model_validator(mode="after")
    def _neighbours(self) -> PairRecipe:
        if self.loss == "kto" and self.batch_size < 2:
            raise ValueError("kto compares the answers within a batch: batch_size must be 2 or more")
        return self


class PreferenceRecipe(PairRecipe):
    """Preference learning on pairs of a chosen and a rejected answer."""

    task: Literal["preference"] = "preference"


class RewardRecipe(TextRecipe):
    """A reward model: a scalar for a conversation, from pairs (Bradley and Terry, 1952).

    Attributes:
        reward_label: for `speechft evaluate` of a public classifier, as in a policy's recipe.
    """

    task: Literal["reward"] = "reward"
    reward_label: Annotated[RewardLabel, Mark.NOT_IN_WEIGHTS] = None
    learning_rate: Positive = 1e-4

    @model_validator(mode="after")
    def _writes_nothing(self) -> RewardRecipe:
        if self.other_domain:
            raise ValueError("a reward model assigns no probabilities to documents: leave other_domain out")
        return self


class PolicyRecipe(TextRecipe):
    """Reinforcement learning from a reward on sampled answers.

    Attributes:
        algorithm: `ppo` (Schulman et al., 2017, arXiv 1707.06347), `rloo` (Ahmadian et al., 2024, arXiv 2402.14740)
            or `grpo` (Shao et al., 2024, arXiv 2402.03300).
        reward: a reward model, trained here or public, or a public classifier, by its folder or hub id; or
            `exact_match`, `f1`, `rouge1`, `rouge2`, `rougeL` or `chrf` against the reference answer.
        reward_label: of a classifier, the label whose log-odds are the reward; with a minus before it (`-toxic`),
            answers get more the less likely they have the label.
        kl: weight of the divergence from the model before training.
        samples: answers to a prompt in an RLOO or GRPO group.
        rollouts: prompts answered before PPO changes the policy; `ppo_epochs` passes are made over them.
        clip, value_clip: largest change of the ratio, and of the value, in one round of PPO.
        gamma, lam: discount and the lambda of generalised advantages (Schulman et al., 2015, arXiv 1506.02438).
        temperature: of sampling.
    """

    task: Literal["policy"] = "policy"
    algorithm: Literal["ppo", "rloo", "grpo"] = "ppo"
    reward: Annotated[str, REWARD]
    reward_label: RewardLabel = None
    kl: Annotated[float, Field(ge=0)] = 0.05
    samples: Annotated[int, Field(ge=2)] = 4
    rollouts: Count = 16
    ppo_epochs: Count = 2
    clip: Positive = 0.2
    value_clip: Positive = 0.2
    value_weight: Positive = 0.1
    gamma: Share = 1.0
    lam: Share = 0.95
    temperature: Positive = 1.0
    max_new_tokens: Count = 32
    learning_rate: Positive = 5e-5
    max_steps: Count = 30
    checkpoint_every: Interval = 5  # of rounds, each of which takes long

    @model_validator(mode="after")
    def _batches_are_groups(self) -> PolicyRecipe:
        if self.algorithm != "ppo" and self.batch_size % self.samples:
            raise ValueError("batch_size must be a multiple of samples: a batch holds whole groups")
        if self.algorithm == "ppo" and self.accumulate > 1:
            raise ValueError("ppo updates after every batch: give a larger batch_size instead of accumulate")
        return self

    @model_validator(mode="after")
    def _labels_are_of_classifiers(self) -> PolicyRecipe:
        if self.reward_label and self.reward in METRICS:
            raise ValueError(f"reward {self.reward} has no labels: leave reward_label out")
        return self


class FeedbackRecipe(PairRecipe):
    """RLAIF: answers are sampled, a judge compares them, and preferences train the model.

    Attributes:
        judge: `model:NAME` for a local model, `url:ADDRESS MODEL` for an OpenAI-compatible endpoint, or
            `reward:NAME` for a reward model or a classifier, see `PolicyRecipe`.
        reward_label: of a classifier, as in a policy's recipe.
        rubric: what the judge is told to look for.
        samples: answers to a prompt; the best and the worst by the judge become a pair.
    """

    task: Literal["feedback"] = "feedback"
    judge: Annotated[str, JUDGE]
    reward_label: RewardLabel = None
    rubric: str = "Which answer is more helpful, correct and to the point?"
    samples: Annotated[int, Field(ge=2)] = 4
    temperature: Positive = 1.0
    max_new_tokens: Count = 48


TEXT_RECIPES: dict[str, type[TextRecipe]] = {
    "pretrain": PretrainRecipe,
    "sft": SftRecipe,
    "preference": PreferenceRecipe,
    "reward": RewardRecipe,
    "policy": PolicyRecipe,
    "feedback": FeedbackRecipe,
}
