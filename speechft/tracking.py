"""Where a run's numbers go besides metrics.jsonl: the trackers that accelerate knows, for speech and text alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechft.errors import missing_extra


class Tracking:
    """One tracker, or none.

    Args:
        name: `tensorboard`, `trackio`, `wandb`, or None.
        out: of the run; trackers that write files write them to its folder tracking/.

    Raises:
        SpeechftError: the tracker is not installed.
    """

    def __init__(self, name: str | None, out: Path) -> None:
        self.tracker: Any = None
        if name is None:
            return
        from accelerate.state import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

        if name not in map(str, get_available_trackers()):
            raise missing_extra(name, "tracking" if name == "tensorboard" else None)
        PartialState()  # trackers ask it which process is the first
        kind = LOGGER_TYPE_TO_CLASS[name]
        folder = [str(out / "tracking")] if kind.requires_logging_directory else []
        self.tracker = kind("speechft", *folder)
        self.tracker.start()

    def log(self, line: dict[str, Any]) -> None:
        """The numbers with a fraction of a line of metrics.jsonl."""
        if self.tracker is not None:
            self.tracker.log({k: v for k, v in line.items() if isinstance(v, float)}, step=line["step"])

    def finish(self) -> None:
        if self.tracker is not None:
            self.tracker.finish()
