"""What was said in one clip as far as a model can tell, and the guards against invented text.

The guards are those of the Whisper paper (section 4.5: compression ratio, mean log-probability, retries), and a cap on
tokens by the clip's duration. There is no ban on repeated n-grams: it would delete real stutter.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from speechft.normalize import join_texts

# Languages of whose script Whisper's vocabulary has few whole letters: each letter takes two or three tokens
SPELT = {
    "am", "as", "bn", "bo", "gu", "hi", "hy", "ka", "km", "kn", "lo", "ml", "mn", "mr", "my", "ne", "pa", "ps", "sa",
    "sd", "si", "ta", "te", "tt", "yi",
}  # fmt: skip
SPELT_TOKENS = 3.0  # times as many tokens in a second
PROBLEMS = NONE, GUESSES, LOOPS = "", "uncertain", "repeats itself"  # that a guard finds, the worst last


@dataclass(frozen=True)
class DecodeOptions:
    """How to decode.

    Attributes:
        beams: hypotheses kept; 1 is greedy, and what evaluation in training uses.
        length_penalty: beams are ranked by log-probability / tokens ** length_penalty.
        temperatures: tried in order after a failed guard; () accepts the first result, whatever it is.
        compression_ratio: text that zlib shrinks by more than this repeats itself.
        mean_logprob: below it the model was guessing.
        no_speech: above this probability of no speech, a guess counts as silence.
        tokens_per_second: cap on tokens, beside 16 for a start; fast English needs 6 to 8. Three times
            as many where the vocabulary spells (`SPELT`).
        seed: of the retries that sample.
    """

    beams: int = 1
    length_penalty: float = 1.0
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio: float = 2.4
    mean_logprob: float = -1.0
    no_speech: float = 0.6
    tokens_per_second: float = 12.0
    seed: int = 0

    def most_tokens(self, length: int, per_second: int, language: str | None = None) -> int:
        """The cap for a clip of so many samples or frames, in a language given as a code."""
        rate = self.tokens_per_second * (SPELT_TOKENS if language in SPELT else 1.0)
        return 16 + math.ceil(rate * length / per_second)


@dataclass(frozen=True)
class Transcript:
    """What was said in one clip, as far as the model can tell.

    Attributes:
        text: the words; empty for silence.
        tokens: its token ids, without prompt and end.
        logprobs: log-probability of each token.
        end_logprob: log-probability of the end of text; 0.0 where the cap cut it off.
        no_speech: probability that nobody speaks.
        temperature: it was found at; 0.0 is the plain search.
        language: code the model decoded in.
        alternatives: the other beams' texts, best first.
        alternatives_end: of each of them, as `end_logprob`.
        problem: why a guard still objects, else empty.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    end_logprob: float = 0.0
    no_speech: float = 0.0
    temperature: float = 0.0
    language: str = ""
    alternatives: tuple[str, ...] = field(default=())
    alternatives_end: tuple[float, ...] = ()
    problem: str = ""

    @property
    def mean_logprob(self) -> float:
        """Mean over tokens and the end of text, as Whisper counts it."""
        return (sum(self.logprobs) + self.end_logprob) / (len(self.logprobs) + 1)

    @property
    def confidence(self) -> float:
        """Geometric mean of the tokens' probabilities, 0 to 1; 1 - no_speech says nothing about words."""
        return math.exp(self.mean_logprob)


def joined(parts: Sequence[Transcript]) -> Transcript:
    """One transcript of the pieces of a clip; its problem is the worst of theirs."""
    if not parts:
        return Transcript("")
    return replace(
        parts[0],
        text=join_texts((part.text for part in parts), parts[0].language),
        tokens=tuple(token for part in parts for token in part.tokens),
        logprobs=tuple(logprob for part in parts for logprob in part.logprobs),
        end_logprob=sum(part.end_logprob for part in parts),
        no_speech=min(part.no_speech for part in parts),
        temperature=max(part.temperature for part in parts),
        alternatives=(),
        alternatives_end=(),
        problem=max((part.problem for part in parts), key=PROBLEMS.index),
    )


def compression_ratio(text: str) -> float:
    """Bytes of the text by bytes after zlib; above 2.4 it repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def guarded(transcript: Transcript, capped: bool, options: DecodeOptions) -> Transcript:
    """Apply the guards: silence becomes an empty text, a bad result gets its problem named."""
    guessing = transcript.mean_logprob < options.mean_logprob
    if transcript.no_speech > options.no_speech and guessing:
        return replace(transcript, text="", tokens=(), logprobs=())
    problem = NONE
    if capped or compression_ratio(transcript.text) > options.compression_ratio:
        problem = LOOPS
    elif guessing:
        problem = GUESSES
    return replace(transcript, problem=problem)


def better(one: Transcript, two: Transcript) -> Transcript:
    """Which of two transcripts of a clip to keep: none with a problem, then one that guesses, last one that loops.

    Loops are sure of themselves (each round makes the next more probable), so their probability says nothing: of two,
    the shorter invents less.
    """

    def rank(found: Transcript) -> tuple[int, float]:
        loops = found.problem == LOOPS
        return PROBLEMS.index(found.problem), len(found.tokens) if loops else -found.mean_logprob

    return min(one, two, key=rank)
