"""What a person sees while it runs: progress bars and lines on stderr."""

from __future__ import annotations

from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from speechft import left_out
from speechft.numbers_as_text import percent
from speechft.plain_text import Terminal, escape


class Watcher:
    """Turns the events of a run into progress bars and lines; a context manager and a function of an event."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Terminal(stderr=True, quiet=quiet)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[extra]}"),
            console=self.console,
            transient=True,
        )
        self.training: TaskID | None = None
        self.counting: TaskID | None = None
        self.counted = 0
        self.left_out: set[str] = set()

    def __enter__(self) -> Watcher:
        self.bars.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bars.__exit__(*error)

    def __call__(self, event: dict[str, Any]) -> None:
        name = event.get("event")
        if name is None and ("loss" in event or "reward" in event):
            self._step(event)
        elif name is None:
            self.say(f"step {event['step']}: dev WER [bold]{percent(event['wer'])}[/] ({event['model']})")
        elif name == "left out":
            line = left_out.line(str(event["where"]), event["reason"])
            if line not in self.left_out:  # each evaluation of a run meets it again
                self.left_out.add(line)
                self.say(line)
        elif name == "cut off":
            self.say(f"[yellow]Warning:[/] {escape(event['where'])}: {escape(event['reason'])}")
        elif name in ("decoded", "checked", "spoken", "cached"):
            words = {
                "decoded": "transcribing",
                "checked": "checking",
                "spoken": "recording the simulated voice",
                "cached": "computing the frozen layers once",
            }
            self._count(words[name], event.get("clips", 1), event["of"])
        elif name == "splits":
            parts = ", ".join(f"{k} {v}" for k, v in event.items() if k not in ("event", "overlap"))
            self.say(escape(f"clips: {parts}; {event['overlap']}"))
        elif name == "resumed":
            self.say(f"resuming from step {event['step']} of {event['steps']}")
        elif name == "less memory":
            kind = "clips" if "clips" in event else "rows"
            less = f"{event[kind]} {kind} at once instead of {event['of']}"
            self.say(
                f"[yellow]memory ran out[/] in step {event['step']}: continuing with {less}; the gradient is the same"
            )
        elif name == "language":
            self.say(f"language: [bold]{escape(event['language'])}[/], {escape(event['why'])}")
        elif name == "skipped step":
            rows = escape(", ".join(event["rows"]))
            self.say(f"[yellow]step {event['step']} skipped[/], {escape(event['reason'])}: {rows}")
        elif name == "evaluating":
            self.say(f"evaluating {escape(event['adapter'])}")
        elif name == "final evaluation":
            self._end_training()
            self.say(f"comparing with the base model on the {escape(event['split'])} clips")
        else:
            self.say(escape(", ".join(f"{k}: {v}" for k, v in event.items())))

    def say(self, text: str) -> None:
        self.console.marked(text)

    def _step(self, event: dict[str, Any]) -> None:
        if self.training is None:
            self.training = self.bars.add_task("training", total=event["steps"], extra="")
        measure = "loss" if "loss" in event else "reward"
        self.bars.update(self.training, completed=event["step"], extra=f"{measure} {event[measure]:.2f}")
        if event["step"] == event["steps"]:
            self._end_training()

    def _end_training(self) -> None:
        if self.training is not None:
            self.bars.remove_task(self.training)
            self.training = None

    def _count(self, label: str, more: int, total: int) -> None:
        if self.counting is None:
            self.counting, self.counted = self.bars.add_task(label, total=total, extra=""), 0
        self.counted += more
        self.bars.update(self.counting, completed=self.counted)
        if self.counted >= total:
            self.bars.remove_task(self.counting)
            self.counting = None
