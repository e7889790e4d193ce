"""A study as a file: Optuna's journal, and what makes a study that was cut off go on as if it had not been.

Every trial is drawn by a seed of its own, from those that came to an end, and compared with those alone.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any, Literal

from speechft.errors import SpeechftError
from speechft.files import refuse_special
from speechft.tune_space import Space, fingerprint
from speechft.tune_task import Task

Pruning = Literal["halving", "median", "none"]
AT_RANDOM = 8  # trials before TPE has enough to learn from
GOES_ON = 4  # one trial of so many goes on past a rung, as in Optuna's own pruner


class Halving:
    """Optuna's pruner by asynchronous successive halving (Li et al., 2018, arXiv 1810.05934): a trial goes on past a
    rung if it is among the best quarter of those that reached it.

    Optuna's own also counts trials that were cut off there, and are there again when they are tried again.
    """

    def prune(self, study: Any, trial: Any) -> bool:
        """Whether a trial, frozen, is to be given up at its last rung."""
        from optuna.trial import TrialState

        rung = trial.last_step
        value = trial.intermediate_values[rung]
        others = study.get_trials(deepcopy=False, states=[TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED])
        reached = [t.intermediate_values[rung] for t in others if rung in t.intermediate_values]
        return math.isnan(value) or value > sorted(reached)[max(0, len(reached) // GOES_ON - 1)]


def open_study(storage: Path, space: Space, task: Task, pruning: Pruning) -> Any:
    """The study in a journal, new or as it was left.

    Raises:
        SpeechftError: the journal cannot be used, or belongs to another recipe, space or data.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    pruners: dict[str, Any] = {
        "halving": Halving(),
        "median": optuna.pruners.MedianPruner(n_startup_trials=4),
        "none": optuna.pruners.NopPruner(),
    }
    refuse_special(storage)
    lock = JournalFileOpenLock(str(storage))
    try:
        storage.parent.mkdir(parents=True, exist_ok=True)
        if storage.is_file() and storage.stat().st_size:
            with storage.open("rb") as file:  # Optuna would write to any file
                first = file.readline()
            if first.endswith(b"\n") or not first.startswith(b'{"op_code":'):
                json.loads(first)["op_code"]
            _cut_half_line(storage, lock)
        backend = JournalFileBackend(str(storage), lock_obj=lock)
        study = optuna.create_study(
            study_name="speechft", storage=JournalStorage(backend), load_if_exists=True, pruner=pruners[pruning]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpeechftError(f"is not a study ({error})", where=storage, fix="Give another file.") from None
    own = fingerprint(space, task.data)
    if study.user_attrs.setdefault("fingerprint", own) != own:
        raise SpeechftError(
            "holds a study of another recipe, search space or data", where=storage, fix="Give another file."
        )
    study.set_user_attr("fingerprint", own)
    return study


def draw_by(seed: int, study: Any, worker: int = 0) -> None:
    """Let TPE draw the next trial by what is known when it is drawn, and not by how often the study was cut off.

    Args:
        seed: of the recipe.
        worker: its number among several, who must not draw each other's trials.
    """
    import optuna

    study.sampler = optuna.samplers.TPESampler(
        seed=seed * 100_003 + came_to_an_end(study) + 1009 * worker,
        n_startup_trials=AT_RANDOM, multivariate=True, constant_liar=worker > 0,
    )  # fmt: skip


def _cut_half_line(storage: Path, lock: Any) -> None:
    """Take off what a full disk or a kill left of a journal's last line: with it the next one could not be read."""
    lock.acquire()  # another worker may be writing one
    try:
        lines = storage.read_bytes().splitlines(keepends=True)
        with contextlib.suppress(ValueError):
            if lines[-1].endswith(b"\n") and json.loads(lines[-1]):
                return
        os.truncate(storage, sum(map(len, lines[:-1])))
    finally:
        lock.release()


def cut_off_again(study: Any, space: Space) -> int:
    """Queue the trials that ended with their process, or for want of space; returns how many came to an end."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    trials = study.trials
    params = [trial.system_attrs.get("fixed_params") or trial.params for trial in trials]
    for trial, own in zip(trials, params, strict=True):
        cut_off = trial.state == TrialState.FAIL and "error" not in trial.user_attrs
        # one that was cut off while it was drawn is drawn again
        if cut_off and own.keys() == space.choices.keys() and own not in params[trial.number + 1 :]:
            study.enqueue_trial(own)
    return came_to_an_end(study)


def came_to_an_end(study: Any) -> int:
    """How many trials did."""
    return sum(map(has_ended, study.get_trials(deepcopy=False)))


def has_ended(trial: Any) -> bool:
    """Whether a trial was completed, given up, or failed for a reason of its own; not with its process."""
    from optuna.trial import TrialState

    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "error" in trial.user_attrs
