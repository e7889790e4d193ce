"""Public benchmarks through lm-evaluation-harness, from local files where there is no network.

The harness (Gao et al., EleutherAI) is the engine: prompts, few-shot examples and metrics are its own, so a number is
comparable with other numbers of the same task version, and with nothing else. Its tasks fetch their data from a hub; a
folder of task files with `dataset_path: json` and local `data_files` needs no network.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from speechft import adapters
from speechft.errors import SpeechftError, missing_extra
from speechft.files import write_json
from speechft.own_results import writes_results
from speechft.result import environment
from speechft.sources import resolve_adapter
from speechft.text.contamination import contaminated, items_of, training_texts
from speechft.text.measure import rounded
from speechft.text.model import TextModel, load_text_model

# What the usual names mean in the harness. HELM has a tool of its own: see docs/text/benchmarks.md.
SUITES = {
    "mmlu": ["mmlu"],
    "glue": ["glue"],
    "superglue": ["super-glue-lm-eval-v1"],
    "bbh": ["bbh"],
    "truthfulqa": ["truthfulqa_mc1", "truthfulqa_mc2"],
    "gsm8k": ["gsm8k"],
    "hellaswag": ["hellaswag"],
    "humaneval": ["humaneval"],
}
RUNS_CODE = {"humaneval", "mbpp"}  # known before anything is loaded; of other tasks their files say it
DEFAULT_MODEL = "bundled:smollm2"
REMARK = (
    "Scores hold for these prompts, this task version and this way of reading answers. They say nothing about "
    "what is not asked: whether a person is helped, whether the model has seen the items, or how it fails."
)
CONNECT = "Connect once, so that datasets caches it, or give local task files with --task-folder."
FIXES = {  # by what errors of datasets say that are no OSError
    "Dataset scripts are no longer supported": "Give local task files by --task-folder.",
    "Couldn't find cache": CONNECT,
}


@writes_results
def run(
    model: str | None,
    tasks: Sequence[str],
    *,
    adapter: str | Path | None = None,
    task_folder: str | Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    chat: bool = False,
    allow_code: bool = False,
    seed: int = 0,
    training: str | None = None,
    reader: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Score a model, with an adapter or without, on tasks of the harness.

    Args:
        model: see `speechft.sources.resolve`; None means the one the adapter was trained on, else SmolLM2.
        tasks: names of `SUITES`, of the harness, or of files in `task_folder`.
        adapter: a folder or a hub's name; its base is quantised as it was when the adapter was trained.
        task_folder: task files of one's own, in the harness's format; with it, nothing is fetched.
        shots: examples in the prompt; as the task says unless told.
        limit: items of each task, for a first look; such a score is not the benchmark's.
        chat: through the chat template, as one turn.
        allow_code: run what the model writes, on this machine, unguarded. Needed by humaneval and mbpp.
        training, reader: data to be searched for the items, see `contamination.training_texts`.
        out: a folder for result.json.

    Returns:
        `tasks`: of each, its `metrics` with `value` and `stderr`, `version`, `shots` and `items`; `limit`; `remark`;
        with `training`, also `contamination`, see `contamination.contaminated`.

    Raises:
        SpeechftError: no such task, its data cannot be had, it would run code, or the model writes no text.
    """
    seen = training_texts(training, reader) if training else None  # before anything is fetched
    _refuse_missing_harness()
    names = _task_names(tasks, allow_code)
    manager = _task_manager(names, Path(task_folder) if task_folder else None, allow_code)
    text = _loaded(model, adapter)
    copies = None
    if seen is not None:  # before the hours that the scores may take
        with _data_of(names):
            copies = contaminated(seen, items_of(manager.load(names)["tasks"]))
    settings = {
        "num_fewshot": shots,
        "limit": limit,
        "apply_chat_template": chat,
        "confirm_run_unsafe_code": allow_code,
    }
    found = _harness_scores(text, names, manager, batch_size, seed, settings)
    result: dict[str, Any] = {
        "model": text.name,
        "adapter": str(adapter) if adapter else None,
        "limit": limit,
        "chat": chat,
        "seed": seed,
        "tasks": {name: _scores(found, name) for name in sorted(found["results"])},
        "remark": REMARK,
    }
    if copies is not None:
        result["contamination"] = copies
    if out:
        result["environment"] = environment()
        write_json(Path(out) / "result.json", result)
    return result


def _refuse_missing_harness() -> None:
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise missing_extra("lm-eval", "text") from None


def _task_names(tasks: Sequence[str], allow_code: bool) -> list[str]:
    """The harness's own names; SpeechftError for one that is known to run code where that is not allowed."""
    names = [name for task in tasks for name in SUITES.get(task, [task])]
    if allow_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    elif unsafe := sorted(name for name in names if name.split("_")[0] in RUNS_CODE):
        raise _runs_code(unsafe[0])
    return names


def _task_manager(names: Sequence[str], folder: Path | None, allow_code: bool) -> Any:
    """What knows the tasks, those of a folder alone where one is given; SpeechftError where it does not know one."""
    from lm_eval.tasks import TaskManager

    if folder and not allow_code:
        refuse_functions(folder)
    manager = TaskManager(include_path=str(folder) if folder else None, include_defaults=folder is None)
    if unknown := [name for name in names if name not in manager.all_tasks]:
        raise SpeechftError(f"unknown task '{unknown[0]}'", fix="Tasks: lm-eval ls tasks, or files in --task-folder.")
    return manager


def _loaded(model: str | None, adapter: str | Path | None) -> TextModel:
    """The model to score: with an adapter, the weights that it was trained on."""
    folder = resolve_adapter(adapter) if adapter else None
    card = adapters.own_card(folder) if folder else {}
    name = model or (adapters.base_of(folder) if folder else DEFAULT_MODEL)
    return load_text_model(name, adapter=folder, quantize=card.get("recipe", {}).get("adapter", {}).get("quantize"))


def _harness_scores(
    text: TextModel, names: Sequence[str], manager: Any, batch_size: int, seed: int, settings: dict[str, Any]
) -> Any:
    """What the harness says of a model, by its own settings."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    wrapped = HFLM(pretrained=text.model, tokenizer=text.tokenizer, batch_size=batch_size)
    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), seed)
    with _data_of(names):
        found = simple_evaluate(
            model=wrapped, tasks=list(names), task_manager=manager, log_samples=False, bootstrap_iters=1000, **settings,
            **seeds,
        )  # fmt: skip
    assert found is not None
    return found


@contextlib.contextmanager
def _data_of(names: Sequence[str]) -> Iterator[None]:
    """Within, tasks are loaded; SpeechftError where the data of one cannot be had, or it would run code."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        said = str(error)
        if unsafe := re.search(r"task: (\S+) which is marked as unsafe", said):
            raise _runs_code(unsafe[1]) from None
        fixes = [fix for sign, fix in FIXES.items() if sign in said]
        if not fixes and not isinstance(error, OSError):
            raise
        reason = (said.splitlines() or [""])[0][:200]
        raise SpeechftError(
            f"the data of a task cannot be fetched ({type(error).__name__}: {reason})", where=", ".join(names),
            fix=(fixes or [CONNECT])[0],
        ) from None  # fmt: skip


def _runs_code(task: str) -> SpeechftError:
    return SpeechftError(
        f"{task} runs code that the model writes, with your rights on this machine",
        fix="Run it in a container without a network, with --allow-code.",
    )


def refuse_functions(folder: Path) -> None:
    """Raises SpeechftError where a task's file names Python code, which the harness would import and run."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".yaml", ".yml", "") and path.is_file() and b"!function" in path.read_bytes():
            raise SpeechftError(
                "names Python code that would run with your rights (!function)", where=path,
                fix="Read that code; then give --allow-code, in a container without a network.",
            )  # fmt: skip


def _scores(found: Any, name: str) -> dict[str, Any]:
    metrics: dict[str, dict[str, float | None]] = {}
    for key, value in found["results"][name].items():
        metric, _, filter_name = key.partition(",")
        if not filter_name or not isinstance(value, int | float):
            continue
        label = metric.removesuffix("_stderr") + ("" if filter_name == "none" else f" ({filter_name})")
        metrics.setdefault(label, {})["stderr" if metric.endswith("_stderr") else "value"] = rounded(value)
    return {
        "metrics": metrics,
        "version": found.get("versions", {}).get(name),
        "shots": found.get("n-shot", {}).get(name),
        "items": (found.get("n-samples") or {}).get(name, {}).get("effective"),
    }
