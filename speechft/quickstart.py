"""The main job on what comes with the package: a simulated voice, adapted to in minutes, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechft.config import SpeechRecipe
from speechft.events import OnEvent
from speechft.locks import DATA, locked
from speechft.pipeline import train


def run(out: Path, on_event: OnEvent = lambda event: None) -> dict[str, Any]:
    """Make the simulated voice, adapt the bundled model to it, and report; see `pipeline.train` for the result.

    Args:
        out: gets voice/ (recordings and manifest) and all that training writes.
    """
    from speechft.corpora.simulated import prepare_simulated

    voice = out / "voice"
    with locked(out, ".quickstart.lock", keep=False):  # now: the second one would learn it after minutes of speaking
        with locked(voice, DATA, keep=False):
            manifest = prepare_simulated(
                voice, progress=lambda done, total: on_event({"event": "spoken", "clips": 1, "of": total})
            )
        recipe = SpeechRecipe(manifest=manifest, output_dir=out)
        return train(recipe, on_event=on_event, title="Quickstart: a simulated voice")
