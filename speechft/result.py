"""What a result says beside its scores: how training went, what a reader must know, and where it ran."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechft import memory
from speechft.left_out import listed
from speechft.manifest import Manifest
from speechft.paired import compare
from speechft.report_data import for_display
from speechft.scoring_notes import speaking
from speechft.utterance import SIMULATED_NOTICE

if TYPE_CHECKING:
    from speechft.evaluate import Evaluation
    from speechft.evaluated_rows import Rows
    from speechft.train import Trained

CORE_PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "jiwer", "whisper-normalizer")


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Scores and speed of an evaluation, as JSON."""
    return {
        **evaluation.scores.to_dict(),
        "calibration": evaluation.calibration,
        "real_time_factor": round(evaluation.real_time_factor, 4),
        "problems": sum(bool(t.problem) for t in evaluation.transcripts),
    }


def training_summary(trained: Trained) -> dict[str, Any]:
    """How training went, as JSON."""
    progress = trained.progress
    return {
        "steps": progress.step,
        "steps_planned": trained.steps,
        "best_step": progress.best_step,
        "stopped": progress.stopped or None,
        "skipped_steps": progress.skipped,
        "dev_base": list(progress.base) if progress.base else None,
        "dev_best": list(progress.best) if progress.best else None,
        "seconds": round(progress.seconds, 1),
        "trainable": trained.trainable,
        "parameters": trained.parameters,
        "padding": round(trained.padding, 4),
        "peak_memory_mb": memory.peak_mb(),
    }


def training_caveats(result: Mapping[str, Any]) -> list[str]:
    """What a reader must know before quoting the numbers of a training run; none of another result."""
    if "evaluated_on" not in result:
        return []
    notes = []
    if result["adapter"] is None:
        notes.append(
            "No trained state was better than the base model on the dev clips, so the base model was kept and there is "
            "no adapter. More recordings help most."
        )
    if result["evaluated_on"]["split"] == "dev":
        notes.append(
            "There is no test split: these clips also chose the best state, which makes the result look slightly "
            "better than it is. Keep some recordings aside as test."
        )
    return notes


def shared_parts(overlap: str, leakage: Sequence[Mapping[str, Any]], speakers: int) -> list[str]:
    """What splits have in common that a reader must know: of one voice, not that its speaker is the same.

    Args:
        overlap, leakage: `str` and `to_dict` of `speechft.overlap.Overlap`.
        speakers: in the whole manifest.
    """
    kinds = ("sessions", "prompts", "texts", "audio", "alike") + (("speakers",) if speakers != 1 else ())
    return [f"Overlap between splits: {overlap}."] if any(pair.get(k) for pair in leakage for k in kinds) else []


def forgetting(base: Evaluation, adapted: Evaluation, rows: Rows) -> dict[str, Any]:
    """What an adapter costs on speech that the base was good at, as JSON."""
    manifest, (before, after) = base.heard, (for_display(one.scores) for one in (base, adapted))
    return {
        "notice": notice(manifest),
        "left_out": listed((rows.left_out | base.unreadable).items()),
        "caveats": [*rows.caveats, *rows.in_common(rows.learnt)],
        "overlap": str(rows.learnt),
        "leakage": rows.learnt.to_dict(),
        "manifest_sha256": rows.chosen.sha256,
        "clips": len(manifest),
        "speakers": speaking(base.scores.per_speaker),
        "base": {key: before[key] for key in ("wer", "wer_ci95", "cer")},
        "adapted": {key: after[key] for key in ("wer", "wer_ci95", "cer")},
        "difference": compare(base.scores, adapted.scores),
    }


def simulated(manifest: Manifest) -> bool:
    """Whether any utterance is marked as simulated speech."""
    return any(u.is_simulated for u in manifest)


def notice(tested: Manifest, whole: Manifest | None = None) -> str | None:
    """The sentence that must stand before every number from speech that nobody said.

    Args:
        tested: what the numbers are of; a single synthetic recording in it is named.
        whole: the manifest it is a part of; a simulated voice anywhere in it counts.
    """
    if simulated(whole or tested):
        return SIMULATED_NOTICE
    made = sum(u.is_synthetic for u in tested)
    if not made:
        return None
    are = "is" if made == 1 else "are"
    return (
        f"{made} of the {len(tested)} test recordings {are} synthetic: these numbers are no evidence about real speech."
    )


def environment() -> dict[str, Any]:
    """Versions and machine, as far as a result depends on them; nothing that names the user."""
    import torch

    return {
        "speechft": importlib.metadata.version("speechft"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        **{name: version for name in CORE_PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    """Of an installed package; bitsandbytes has no wheel for some machines, such as Apple's."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; none if there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
