"""What a speech recipe may say, and the groups that text recipes share; unknown keys are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from speechft.marks import FILE, MODEL, Mark, marked
from speechft.schedule import Schedule

Positive = Annotated[float, Field(gt=0)]
Method = Literal[
    "lora", "adalora", "vera", "ia3", "oft", "boft", "houlsby", "pfeiffer", "bitfit", "norms", "prompt", "prefix",
    "full",
]  # fmt: skip
Placement = Literal["both", "encoder", "decoder"]
Initialisation = Literal["zero", "pissa", "eva", "loftq"]
Quantization = Literal["nf4", "nf4-single", "fp4", "int8"]
Optimizer = Literal["adamw", "adamw-8bit", "adamw-paged", "adamw-paged-8bit"]
Tracker = Literal["tensorboard", "trackio", "wandb"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes
Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[int, Field(ge=1), Mark.NOT_IN_WEIGHTS]  # of checkpoints
NonFinite = Annotated[Literal["skip", "stop"], Mark.NOT_IN_WEIGHTS]
MostSkipped = Annotated[int, Field(ge=0), Mark.NOT_IN_WEIGHTS]


def _in_order(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the lower end comes first")
    return ends


def _not_empty(path: Any) -> Any:
    if path == "":
        raise ValueError("it is empty; '.' is the folder that you are in")
    return path


OutputFolder = Annotated[Path, BeforeValidator(_not_empty), FILE, Mark.NOT_IN_WEIGHTS]
Factor = Annotated[float, Field(ge=0.1, le=10)]
Range = Annotated[tuple[Factor, Factor], AfterValidator(_in_order)]

# a method's learning rate by LoRA's, where a recipe gives none: of factors, biases and few vectors, of whole weights
RATES: dict[Method, float] = {
    "lora": 1, "adalora": 4, "vera": 20, "ia3": 20, "oft": 2, "boft": 2, "houlsby": 2, "pfeiffer": 2, "bitfit": 6,
    "norms": 6, "prompt": 100, "prefix": 50, "full": 0.04,
}  # fmt: skip
PISSA_RATE = 0.2  # it starts at the largest directions of the weights, so each step moves them more


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


WITH_DROPOUT = ("lora", "adalora", "vera", "oft", "boft")


class AdapterSettings(Settings):
    """What is trained; `speechft.adapters.attach` says more of each.

    Attributes:
        method: `lora`, another of docs/methods.md, or `full` for every weight.
        rank, alpha, dropout: of the LoRA matrices; alpha is 2 * rank unless given. Of houlsby and pfeiffer the rank is
            the width of the bottleneck, of oft and boft the largest block.
        placement: `encoder`, `decoder` or `both`.
        encoder_from: encoder layers below this number get no adapter.
        projections: the linear layers that get them.
        quantize: `nf4`, `nf4-single`, `fp4` or `int8` for the frozen weights (QLoRA, see `speechft.quantization`); null
            keeps them whole.
        rslora, dora: variants of LoRA's scale and of its decomposition.
        init: what LoRA starts at: `zero`, `pissa`, `eva` or `loftq`.
        virtual_tokens: of prompt and prefix tuning.
        licence: under what terms the adapter may be used; a note in its card.
    """

    method: Method = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 32
    alpha: Positive | None = None
    dropout: Share = 0.0
    placement: Placement = "both"
    encoder_from: Annotated[int, Field(ge=0)] = 0
    projections: Annotated[list[str], Field(min_length=1)] = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
    quantize: Quantization | None = None
    rslora: bool = False
    dora: bool = False
    init: Initialisation = "zero"
    virtual_tokens: Annotated[int, Field(ge=1, le=1024)] = 16
    licence: str | None = None

    @property
    def saved_as(self) -> str:
        """Name of the folder that a run saves what it trained in: a whole `model`, or an `adapter`."""
        return "model" if self.method == "full" else "adapter"

    @model_validator(mode="after")
    def _fits_together(self) -> AdapterSettings:
        if self.quantize and self.method in ("full", "boft"):
            raise ValueError(f"{self.method} needs whole weights: leave adapter.quantize out")
        if self.dropout and self.method not in WITH_DROPOUT:
            raise ValueError(f"{self.method} has no dropout: leave adapter.dropout out")
        if self.method != "lora" and (self.rslora or self.dora or self.init != "zero"):
            raise ValueError("rslora, dora and init belong to adapter.method=lora")
        if self.init == "loftq" and self.quantize in (None, "int8"):
            raise ValueError("loftq makes up for what 4-bit weights lose: set adapter.quantize=nf4")
        if self.init == "pissa" and self.quantize:
            raise ValueError("pissa changes the frozen weights: leave adapter.quantize out, or use init=loftq")
        if self.init == "pissa" and self.dora:
            raise ValueError("pissa and dora cannot be combined: a change of lengths is no difference of two products")
        return self

    def attach_arguments(self) -> dict[str, Any]:
        """What `speechft.adapters.attach` takes of them."""
        return self.model_dump(exclude={"quantize", "licence"})


def rate_of_method(settings: AdapterSettings) -> float:
    """What suits a method as its learning rate, by LoRA's; rsLoRA divides by the root of the rank, not by the rank."""
    start = PISSA_RATE if settings.init == "pissa" else 1
    return RATES[settings.method] * start / (math.sqrt(settings.rank) if settings.rslora else 1)


def with_rate_of_method(recipe: Any) -> Any:
    """Fit a recipe's learning rate to what is trained, in place, unless it was given one."""
    if "learning_rate" not in recipe.model_fields_set:
        rate = recipe.learning_rate * rate_of_method(recipe.adapter)
        object.__setattr__(recipe, "learning_rate", rate)  # frozen to everybody else
    return recipe


def refuse_whole_decay(recipe: Any) -> Any:
    """AdamW multiplies what it trains by 1 - learning_rate * weight_decay at each step."""
    if recipe.learning_rate * recipe.weight_decay >= 1:
        raise ValueError("weight_decay times learning_rate is 1 or more: the first step would take away all weights")
    return recipe


def given(recipe: BaseModel, *keys: str) -> bool:
    """Whether a recipe was given all of these, with other values than the defaults, which say nothing of what is
    wanted: a recipe that was written out and read again has them too."""
    return all(getattr(recipe, key) != type(recipe).model_fields[key].default for key in keys)


def refuse_overlap(recipe: Any) -> Any:
    """Of a rate that is to fall before it has risen."""
    overlapping = recipe.schedule == "warmup-stable-decay" and recipe.warmup + recipe.decay > 1
    if overlapping and given(recipe, "warmup", "decay"):
        raise ValueError("warmup and decay together are more than the whole run: lower one, so that their sum is 1")
    return recipe


def refuse_idle_search(recipe: Any) -> Any:
    """Of what no trial's weights depend on: a study would try the same run again and again."""
    idle = {key for key in marked(type(recipe), Mark.NOT_IN_WEIGHTS) if key not in ("model", "search")}
    if key := next((key for key in recipe.search if key.partition(".")[0] in idle), None):
        raise ValueError(f"search.{key} is nothing that a study can vary: set {key} itself, and leave it out of search")
    return recipe


class AugmentSettings(Settings):
    """How a clip varies from epoch to epoch; all on log-mel frames, so it costs next to nothing.

    Attributes:
        tempo: factors the speaking rate is drawn from; (1, 1) leaves it.
        vocal_tract: factors the mel axis is stretched by, as a shorter or longer vocal tract would.
        share: of clips that get tempo and vocal_tract; the rest stay as recorded.
        time_masks, time_width: SpecAugment stretches of time and their largest share of the clip.
        mel_masks, mel_width: SpecAugment bands and their largest width in mel bins.
    """

    tempo: Range = (0.9, 1.1)
    vocal_tract: Range = (0.95, 1.05)
    share: Share = 0.5
    time_masks: Annotated[int, Field(ge=0, le=20)] = 0
    time_width: Share = 0.05
    mel_masks: Annotated[int, Field(ge=0, le=20)] = 0
    mel_width: Annotated[int, Field(ge=0, le=80)] = 10


def _switch(value: Any) -> Any:
    """YAML reads a bare on and off as true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class SearchRange(Settings):
    """Numbers that `speechft tune` may try; whole ones where both ends are.

    Attributes:
        low, high: both included.
        log: drawn evenly over orders of magnitude.
    """

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> SearchRange:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is true")
        return self


Names = Annotated[list[str], Field(min_length=1)]
Search = dict[str, SearchRange | Annotated[list[Any], Field(min_length=1)]]


class SpeechRecipe(Settings):
    """Everything a speech training run depends on.

    Attributes:
        model: see `speechft.sources.resolve`.
        manifest: JSONL of utterances; without splits in it, it is split so that nothing leaks.
        speakers: use only these speakers' utterances; null is everybody's.
        split_file: made by `speechft split`; replaces the manifest's own splits, and refuses a changed manifest.
        output_dir: gets adapter/, result.json, report.html, metrics.jsonl, checkpoints/.
        batch_size, accumulate: an optimiser step has `batch_size * accumulate` clips; `feed.PASS_FRAMES` cuts it into
            passes.
        batch_seconds: instead of `batch_size`: about this much sound per batch, as many short clips or few long ones.
        max_steps: optimiser steps at most; null for all epochs.
        epochs: passes over the training clips at most.
        learning_rate: at its highest; unless given, 5e-4 for LoRA, and what suits another `adapter.method` (`RATES`).
        schedule, warmup: its course (`speechft.schedule`), and the share of steps it rises for.
        decay, cycles: the share of steps that `warmup-stable-decay` falls for; the cycles of `cosine-restarts`.
        min_steps: small corpora are passed over more than `epochs` times until this many steps are made.
        optimizer: AdamW with moments in fp32 or 8 bits, paged or not; see `speechft.quantization.optimizer`.
        weight_decay: AdamW's, of everything that is trained.
        seed: of initial weights, order and augmentation.
        language: of the speech, for multilingual models.
        context: see `speechft.context.Context`.
        cache: keep on disk what the encoder makes of each clip below the first trained layer (`speechft.cache`):
            `auto` where a whole layer is frozen there, `on` to insist, `off`.
        views: variations of each clip such a cache holds; later epochs see them again.
        evaluations: on dev at even distances; null is after each epoch, at most 10 times.
        patience: evaluations without a better dev WER before training stops; where few clips are passed over ten times
            or more, it goes to its end.
        dev_clips: dev utterances that choose the best state, at most; of more, some at even distances.
        average: also try the mean of the weights over the second half of the run (Izmailov et al., 2018, arXiv
            1803.05407), and, where few clips were passed over ten times or more, its mean with the base model's.
        precision: `auto` is bf16 where the machine multiplies it natively.
        gradient_clip: largest norm of the gradient.
        gradient_checkpointing: keep only each layer's input and compute the rest again going back: less memory,
            a third more time (Chen et al., 2016, arXiv 1604.06174).
        non_finite: what to do about a step whose loss or gradient is not finite: `skip` it, or `stop` the run.
        most_skipped: such steps in a row, at most; one more stops the run.
        checkpoint_every: optimiser steps between checkpoints that a killed run resumes from.
        test: evaluate base and adapter on the test split at the end.
        normalizer: of both texts before words are counted; `auto` goes by the rows' language.
        tracking: `tensorboard`, `trackio` or `wandb`, through accelerate.
        allow_outside: let the manifest name audio outside its own folder.
        search: what `speechft tune` varies: keys such as `adapter.rank`, each with a list of values or a range.
    """

    task: Literal["speech"] = "speech"
    model: Annotated[str, MODEL, Mark.NOT_IN_WEIGHTS] = "bundled:tiny.en"
    manifest: Annotated[Path, FILE, Mark.NOT_IN_WEIGHTS]
    speakers: Annotated[Names | None, Mark.NOT_IN_WEIGHTS, Mark.PRIVATE] = None
    split_file: Annotated[Path | None, FILE, Mark.NOT_IN_WEIGHTS] = None
    output_dir: OutputFolder
    batch_size: Annotated[int, Field(ge=1)] = 8
    batch_seconds: Annotated[float, Field(ge=1)] | None = None  # less than a clip: batch_size=1 says that
    accumulate: Annotated[int, Field(ge=1)] = 1
    max_steps: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] = 1
    min_steps: Annotated[int, Field(ge=0)] = 150
    learning_rate: Positive = 5e-4
    schedule: Schedule = "linear"
    warmup: Share = 0.1
    decay: Share = 0.2
    cycles: Annotated[int, Field(ge=1)] = 3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    optimizer: Optimizer = "adamw"
    gradient_clip: Positive = 1.0
    gradient_checkpointing: bool = False
    non_finite: NonFinite = "skip"
    most_skipped: MostSkipped = 20
    seed: Seed = 0
    language: str | None = None
    context: str = "clip"
    cache: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)] = "auto"
    views: Annotated[int, Field(ge=1, le=100)] = 4
    adapter: AdapterSettings = AdapterSettings()
    augment: AugmentSettings | None = AugmentSettings()
    evaluations: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1)] = 3
    dev_clips: Annotated[int, Field(ge=1)] = 400
    average: bool = True
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    checkpoint_every: Interval = 100
    test: Annotated[bool, Mark.NOT_IN_WEIGHTS] = True
    normalizer: str = "auto"
    tracking: Annotated[Tracker | None, Mark.NOT_IN_WEIGHTS, Mark.PRIVATE] = None
    allow_outside: bool = False
    search: Annotated[Search, Mark.NOT_IN_WEIGHTS, Mark.PRIVATE] = {}

    _rate = model_validator(mode="after")(with_rate_of_method)
    _decay = model_validator(mode="after")(refuse_whole_decay)
    _overlap = model_validator(mode="after")(refuse_overlap)
    _search = model_validator(mode="after")(refuse_idle_search)

    @model_validator(mode="after")
    def _fits_together(self) -> SpeechRecipe:
        if given(self, "min_steps", "max_steps") and self.min_steps > (self.max_steps or 0):
            raise ValueError("min_steps is more than max_steps: raise max_steps, or leave min_steps out")
        if given(self, "views") and self.cache == "off":
            raise ValueError("views are of the cache, which is off: leave views out, or set cache=on")
        return self
