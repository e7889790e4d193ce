"""How much of Whisper's 30 s window the encoder sees for a clip: a property of weights, which decoding obeys."""

from __future__ import annotations

import re
from dataclasses import dataclass

from speechft.audio import FRAMES_PER_SECOND, MAX_FRAMES, WINDOW_SECONDS, Seconds
from speechft.errors import SpeechftError

CONTEXT_STEP = 50  # frames: contexts are rounded up to half seconds, so that clips of one length share a batch
CLIP_TAIL: Seconds = 0.1  # silence after a clip under the policy `clip`
OTHERS_CONTEXT = "full"  # adapters made elsewhere were trained on 30 s windows
_POLICY = re.compile(r"clip(?:\+(\d+(?:\.\d+)?)\s*s)?(?::(\d+(?:\.\d+)?)\s*s)?")


@dataclass(frozen=True)
class Context:
    """How much of the 30 s window the encoder sees for a clip.

    Attributes:
        policy: `clip` (the clip and 0.1 s), `clip+Ns` (the clip and N s of silence), `clip+Ns:Ms` (the encoder hears
            N s of silence, the decoder is shown M of them), `full` (30 s), or, for training only, `mixed` (most
            steps at `clip`, some with more silence; it decodes as `clip`).
    """

    policy: str = "clip"

    def __post_init__(self) -> None:
        if self.policy not in ("full", "mixed") and not _POLICY.fullmatch(self.policy):
            raise SpeechftError(
                f"unknown context policy '{self.policy}'",
                fix="Use clip, clip+10s (any number), clip+10s:2s, full or mixed.",
            )
        match = _POLICY.fullmatch(self.policy)
        if match and any(float(seconds) > WINDOW_SECONDS for seconds in match.groups() if seconds):
            raise SpeechftError(
                f"context {self.policy} has more silence than the window's {WINDOW_SECONDS:g} s",
                fix="Use less, or full for the whole window.",
            )

    @property
    def tail(self) -> Seconds:
        """Seconds of silence after a clip; infinite for `full`."""
        if self.policy == "full":
            return float("inf")
        match = _POLICY.fullmatch(self.policy)
        return float(match[1]) if match and match[1] else CLIP_TAIL

    def frames(self, n_frames: int) -> int:
        """Frames the encoder sees for a clip of `n_frames`: a property of the clip, whatever it is batched with."""
        return _rounded_up(n_frames, self.tail)

    def shown(self, n_frames: int) -> int:
        """Of these frames, those whose encoder states the decoder is shown."""
        match = _POLICY.fullmatch(self.policy)
        shown: Seconds = float(match[2]) if match and match[2] else self.tail
        return min(self.frames(n_frames), _rounded_up(n_frames, shown))

    def longer(self, seconds: Seconds) -> Context:
        """The policy with more silence after the clip, heard and shown."""
        match = _POLICY.fullmatch(self.for_decoding().policy)
        if not match:
            return self
        shown = f":{min(float(match[2]) + seconds, WINDOW_SECONDS):g}s" if match[2] else ""
        return Context(f"clip+{min(self.tail + seconds, WINDOW_SECONDS):g}s{shown}")

    def for_decoding(self) -> Context:
        """The policy to decode with after training with this one."""
        return Context("clip") if self.policy == "mixed" else self


UNTRAINED = Context("clip+10s")  # what an unadapted model is good at; benchmarks/context.py has the table


def _rounded_up(n_frames: int, tail: Seconds) -> int:
    wanted = n_frames + min(tail, WINDOW_SECONDS) * FRAMES_PER_SECOND
    return min(MAX_FRAMES, -(-int(wanted) // CONTEXT_STEP) * CONTEXT_STEP)
