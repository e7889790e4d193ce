"""From clips to text: batches of similar length, greedy or beam search, and another try where a guard objects.

Short atypical clips make Whisper loop. The guards are in `speechft.transcript`; the first retry is with more context
rather than with noise.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from speechft import memory
from speechft.audio import FRAMES_PER_SECOND, HOP_LENGTH, MAX_FRAMES, SILENT_PEAK, Seconds, log_mel, pad_frames
from speechft.context import Context
from speechft.decoder import DecoderCache, inference_copy, is_quantized
from speechft.normalize import language_code
from speechft.precision import NoNumbers, all_finite, inference_dtype
from speechft.prefetch import prefetch
from speechft.search import beam_search, greedy_search
from speechft.transcript import DecodeOptions, Transcript, better, guarded
from speechft.whisper import Whisper, encode

BATCH_FRAMES = {"cpu": 14_000, "cuda": 56_000}  # log-mel frames decoded together: 28 clips of 5 s on a CPU
ENCODER_FRAMES = {"cpu": 6_000, "cuda": 24_000}  # of them, encoded at once
MOST_CLIPS = {"cpu": 64, "cuda": 256}
RETRY_SILENCE: Seconds = 10.0  # more after a clip, where the first result repeats itself


def decode(
    whisper: Whisper,
    clips: Sequence[np.ndarray | Callable[[], np.ndarray]],
    options: DecodeOptions | None = None,
    *,
    context: Context | None = None,
    language: str | None = None,
    languages: Sequence[str | None] = (),
    progress: Callable[[int], None] | None = None,
    ready: bool = False,
) -> list[Transcript]:
    """Transcribe clips of at most 30 s; the result for a clip does not depend on the others.

    Args:
        whisper: the model, adapted or not.
        clips: mono 16 kHz samples, or functions that load them when their turn comes.
        options: defaults to greedy with guards.
        context: overrides the model's own policy.
        language: of all clips; None means the model's, or that of each clip.
        languages: of each clip, where neither `language` nor the model says; None there is detected.
        progress: called with the number of clips just finished.
        ready: `whisper` is an inference copy already.

    With the model of an `AdapterBank`, clips are decoded as the voices of its `using`, each with its own context.

    Returns:
        one transcript a clip, in order.
    """
    options = options or DecodeOptions()
    voices = whisper.bank.voices(len(clips)) if whisper.bank else [whisper] * len(clips)
    contexts = [(context or voice.context).for_decoding() for voice in voices]
    told = [language or voice.language for voice in voices]
    named = [one or other for one, other in zip(told, languages or told, strict=True)]
    languages = [code and language_code(code) for code in named]
    model = whisper if ready else inference_copy(whisper)
    out: dict[int, Transcript] = {}
    doubtful: dict[int, Tensor] = {}  # tried again together: one alone takes as many steps as all of them

    def finished(n: int) -> None:
        memory.release()
        if progress and n:
            progress(n)

    in_parts = memory.Parts()

    def again(some: dict[int, Tensor]) -> None:
        for part, _ in in_parts([*some.items()], lambda p: _retry(model, dict(p), contexts, options, languages, out)):
            finished(len(part))

    with torch.inference_mode(), precision(model):
        for batch in prefetch(_batches(clips, model.n_mels, contexts, model.device), model.device):
            for part, found in in_parts(batch, lambda p: _first_pass(model, dict(p), contexts, options, languages)):
                objected = {i: mel for i, mel in part if found[i].problem and options.temperatures}
                out |= found
                doubtful |= objected
                finished(len(part) - len(objected))
            while len(some := _together(doubtful, contexts, model.device)) < len(doubtful):
                doubtful = {i: mel for i, mel in doubtful.items() if i not in some}
                again(some)
        again(doubtful)
        finished(len(clips) - len(out))  # without sound
    return [out.get(index) or Transcript("") for index in range(len(clips))]


def precision(whisper: Whisper) -> contextlib.AbstractContextManager:
    """Quantised models keep fp32 layers between their bf16 products: autocast fits them together."""
    dtype = inference_dtype(whisper.device)
    if is_quantized(whisper.model) and dtype != torch.float32:
        return torch.autocast(whisper.device.type, dtype)
    return contextlib.nullcontext()


def _batches(
    clips: Sequence[np.ndarray | Callable[[], np.ndarray]],
    n_mels: int,
    contexts: Sequence[Context],
    device: torch.device,
    window: int = 256,
) -> Iterator[list[tuple[int, Tensor]]]:
    """Batches of clips of similar length, read `window` clips at a time so that memory stays flat."""
    for start in range(0, len(clips), window):
        loaded = []
        for index in range(start, min(start + window, len(clips))):
            clip = clips[index]
            samples = clip() if callable(clip) else clip
            if samples.size and float(np.abs(samples).max()) > SILENT_PEAK:
                loaded.append((index, log_mel(samples[: MAX_FRAMES * HOP_LENGTH], n_mels)))
            # a clip without sound stays None: its transcript is empty
        lengths = {index: contexts[index].frames(mel.shape[1]) for index, mel in loaded}
        # the longest first, so that the rest fits beside it
        loaded.sort(key=lambda item: -lengths[item[0]])
        while loaded:
            fitting = memory.on_device(BATCH_FRAMES, device) // lengths[loaded[0][0]]
            size = max(1, min(memory.on_device(MOST_CLIPS, device), fitting))
            yield loaded[:size]
            del loaded[:size]


def _together(doubtful: dict[int, Tensor], contexts: Sequence[Context], device: torch.device) -> dict[int, Tensor]:
    """The first clips of them that fit into one batch when they are tried again."""
    lengths = [contexts[i].longer(RETRY_SILENCE).frames(mel.shape[1]) for i, mel in doubtful.items()]
    fitting = sum(total <= memory.on_device(BATCH_FRAMES, device) for total in accumulate(lengths))
    return dict(list(doubtful.items())[: max(1, fitting)])


def _first_pass(
    model: Whisper,
    frames: dict[int, Tensor],
    contexts: Sequence[Context],
    options: DecodeOptions,
    languages: Sequence[str | None],
) -> dict[int, Transcript]:
    """One batch, searched greedily or by beams."""
    found = _search(model, frames, encode_each(model, frames, contexts), options, 0.0, languages)
    return dict(zip(frames, found, strict=True))


def _retry(
    model: Whisper,
    frames: dict[int, Tensor],
    contexts: Sequence[Context],
    options: DecodeOptions,
    languages: Sequence[str | None],
    out: dict[int, Transcript],
) -> None:
    """Decode again what a guard objected to: with more context, then at rising temperatures; keep the best."""
    if not frames:
        return
    longer = [context.longer(RETRY_SILENCE) for context in contexts]
    rows = {index: row for row, index in enumerate(frames)}
    states, positions = encode_each(model, frames, longer)
    for temperature in (0.0, *options.temperatures):
        # without a temperature, only those that can be given more context
        trying = {i: mel for i, mel in frames.items() if temperature > 0.0 or longer[i] != contexts[i]}
        if not trying:
            continue
        trial = options if temperature == 0.0 else replace(options, beams=1)
        left = [rows[index] for index in trying]
        found = _search(model, trying, (states[left], positions[left]), trial, temperature, languages)
        for index, transcript in zip(trying, found, strict=True):
            out[index] = better(out[index], transcript)
            if not transcript.problem:
                del frames[index]


def _search(
    whisper: Whisper,
    clips: dict[int, Tensor],
    encoded: tuple[Tensor, Tensor],
    options: DecodeOptions,
    temperature: float,
    languages: Sequence[str | None],
) -> list[Transcript]:
    """One pass over a batch that `encode_each` has encoded: prompt, search, judge."""
    states, positions = encoded
    frames = list(clips.values())
    if whisper.bank:
        whisper.bank.select(list(clips))
    codes = [languages[index] for index in clips]
    if whisper.is_multilingual and None in codes:
        heard = detect_language(whisper, states, positions)
        codes = [code or other for code, other in zip(codes, heard, strict=True)]
    prompt = torch.tensor([whisper.prompt(code) for code in codes], device=states.device)
    most = whisper.max_tokens - prompt.shape[1]
    caps = [
        min(most, options.most_tokens(f.shape[1], FRAMES_PER_SECOND, code))
        for f, code in zip(frames, codes, strict=True)
    ]
    longest = prompt.shape[1] + max(caps)
    cache = DecoderCache(whisper.model, states, longest, options.beams, positions, whisper.bank)
    rows = prompt.repeat_interleave(options.beams, 0)
    start_logits = cache.step(rows[:, :1])  # silence shows in the distribution after the start token alone
    logits = _feed(cache, rows[:, 1:])
    no_speech_id = whisper.generation.no_timestamps_token_id - 1  # <|nospeech|>, called <|nocaptions|> in old files
    no_speech = start_logits.softmax(-1)[:: options.beams, no_speech_id].tolist()
    if not all_finite([logits]):  # before the search, which would go on to its end
        _refuse_no_numbers(whisper, list(clips), logits[:: options.beams].isfinite().all(-1).tolist())
    if options.beams == 1:
        results = greedy_search(whisper, cache, logits, caps, temperature, options.seed)
    else:
        results = beam_search(whisper, cache, logits, caps, options.length_penalty)
    finite = [math.isfinite(sum(logprobs) + end) for ((_, logprobs, end), *_) in results]
    _refuse_no_numbers(whisper, list(clips), finite)  # of later steps
    return [
        guarded(
            Transcript(
                text=whisper.text(hypotheses[0][0]).strip(),
                tokens=tuple(hypotheses[0][0]),
                logprobs=tuple(hypotheses[0][1]),
                end_logprob=hypotheses[0][2],
                no_speech=silence,
                temperature=temperature,
                language=code or "en",
                alternatives=tuple(whisper.text(ids).strip() for ids, _, _ in hypotheses[1:]),
                alternatives_end=tuple(end for _, _, end in hypotheses[1:]),
            ),
            capped=len(hypotheses[0][0]) >= cap,
            options=options,
        )
        for hypotheses, silence, code, cap in zip(results, no_speech, codes, caps, strict=True)
    ]


def _refuse_no_numbers(whisper: Whisper, clips: Sequence[int], finite: Sequence[bool]) -> None:
    """Raises NoNumbers that names the adapter of the first clip whose logits were not finite."""
    if not all(finite):
        bad = clips[finite.index(False)]
        raise NoNumbers(whisper.bank.called(bad) if whisper.bank else whisper.called)


def _feed(cache: DecoderCache, tokens: Tensor) -> Tensor:
    """Consume prompt tokens one by one; after the first there is no causal mask to get wrong."""
    for position in range(tokens.shape[1]):
        logits = cache.step(tokens[:, position : position + 1])
    return logits


def encode_each(whisper: Whisper, clips: dict[int, Tensor], contexts: Sequence[Context]) -> tuple[Tensor, Tensor]:
    """Encoder states of clips, each at its own length: none sees another's padding.

    Args:
        clips: log-mel by the clip's number, each of shape (n_mels, frames).
        contexts: of all clips, by number.

    Returns:
        states of shape (clips, most positions, d_model), zero after a clip's own, and the positions of each.
    """
    numbers, frames = list(clips), list(clips.values())
    lengths = [contexts[n].frames(f.shape[1]) for n, f in clips.items()]
    positions = [contexts[n].shown(f.shape[1]) // 2 for n, f in clips.items()]
    states = torch.zeros(0)
    for length in sorted(set(lengths)):
        members = [index for index, other in enumerate(lengths) if other == length]
        size = max(1, memory.on_device(ENCODER_FRAMES, whisper.device) // length)
        for part in (members[start : start + size] for start in range(0, len(members), size)):
            if whisper.bank:
                whisper.bank.select([numbers[i] for i in part])
            found = encode(whisper.model, pad_frames([frames[i] for i in part], length).to(whisper.device))
            if not states.numel():
                states = found.new_zeros(len(frames), max(positions), found.shape[2])
            for index, own in zip(part, found, strict=True):
                states[index, : positions[index]] = own[: positions[index]]
    return states, torch.tensor(positions, device=whisper.device)


def detect_language(whisper: Whisper, states: Tensor, positions: Tensor | None = None) -> list[str]:
    """The most probable language code of each clip, from its encoder states (multilingual models)."""
    codes, logits = language_logits(whisper, states, positions)
    return [codes[best] for best in logits.argmax(-1).tolist()]


def language_logits(whisper: Whisper, states: Tensor, positions: Tensor | None = None) -> tuple[list[str], Tensor]:
    """Codes of the languages a multilingual model knows, and their logits for each clip, shape (clips, codes)."""
    start = torch.full((states.shape[0], 1), whisper.generation.decoder_start_token_id, device=states.device)
    logits = DecoderCache(whisper.model, states, 1, lengths=positions).step(start)
    codes = list(whisper.generation.lang_to_id)
    ids = torch.tensor([whisper.generation.lang_to_id[code] for code in codes], device=states.device)
    return [code.strip("<|>") for code in codes], logits[:, ids]
