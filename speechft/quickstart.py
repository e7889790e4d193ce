"""The main job on what comes with the package: a simulated voice, adapted to in minutes, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechft.config import SpeechRecipe
from speechft.events import OnEvent
from speechft.pipeline import train


def run(out: Path, on_event: OnEvent = lambda event: None) -> dict[str, Any]:
    """Make the simulated voice, adapt the bundled model to it, and report; see `pipeline.train` for the result.

    Args:
        out: gets voice/ (recordings and manifest) and all that training writes.
    """
    from speechft.corpora.simulated import prepare_simulated

    manifest = prepare_simulated(
        out / "voice", progress=lambda done, total: on_event({"event": "spoken", "clips": 1, "of": total})
    )
    recipe = SpeechRecipe(manifest=manifest, output_dir=out)
    return train(recipe, on_event=on_event, title="Quickstart: a simulated voice")
