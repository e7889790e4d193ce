"""An export on trial: the software it was made for transcribes real clips, and is compared with ours on the same ones.

All decode greedily, without retries and without timestamps, so that only the model and its arithmetic differ.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechft.audio import HOP_LENGTH, MAX_FRAMES, SAMPLE_RATE, log_mel, pad_frames
from speechft.context import Context
from speechft.decode import decode
from speechft.error_rate import word_errors
from speechft.errors import SpeechftError, missing_extra
from speechft.evaluate import normalizer_for
from speechft.events import Event, OnEvent
from speechft.files import write_json
from speechft.manifest import Manifest
from speechft.overlap import Overlap, overlap
from speechft.paired import compare
from speechft.recogniser import cards_of, load
from speechft.result import notice
from speechft.scoring import Scores, score, total
from speechft.search import greedy_search
from speechft.seen import Seen, caveats_of, learnt_from
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper

REPORT = "export_check.json"
CLIPS = 100
LOUD_PADDING = "ctranslate2"  # faster-whisper pads log-mel features with 0.0, which is louder than silence
PLAIN = DecodeOptions(temperatures=())
Clips = Sequence[np.ndarray]  # mono, 16 kHz
Languages = Sequence[str]  # of each clip, as a code
Caps = Sequence[int]  # tokens that may be written of each clip, as our own decoding has it: a loop costs all as much


def check_export(
    exported: str | Path,
    to: str,
    adapter: str | Path,
    rows: Manifest,
    *,
    model: str | None = None,
    language: str | None = None,
    whole: Manifest | None = None,
    normalizer: str = "auto",
    on_event: OnEvent = lambda event: None,
) -> Event:
    """Score an export in its own software, and against ours.

    Both hear each clip in one language: the adapter's, else that of its row, else the one that ours detects.

    Args:
        exported, to, adapter, model: as given to `export.export`.
        rows: clips with texts; of longer ones only the first 30 s are heard, by all.
        language: of all clips, whatever the adapter's and the rows' are.
        whole: the manifest that the clips are a split of, for what its splits share.
        on_event: called with `{"event": "decoded", "clips": n, "of": all}` as it goes.

    Returns:
        what is written to export_check.json beside the export: `theirs`, `ours` (at 30 s, as they decode) and
        `ours_at_its_context`, each with `wer` and `wer_ci95`; `difference`, theirs against ours; `words_that_differ`,
        as a share; of faster-whisper `theirs_after_silence`, with silence put after each clip up to 30 s, and its
        `difference`; `software` and its version; `context`, that theirs heard; `overlap` and `leakage`, what
        the clips have in common with what the adapter learnt from, and what the splits of the data share; `caveats`,
        such as that the adapter was trained on these clips.

    Raises:
        SpeechftError: no clips, a language that the model does not know, or the software is not installed.
    """
    if not len(rows):
        raise SpeechftError(
            "there is no utterance to compare on", where=rows.path, fix="Name a split that has utterances."
        )
    recogniser = load(model, adapter, language=language)
    whisper = recogniser.whisper
    named = [whisper.language_of(u.language) for u in rows]
    normalizer = normalizer_for(whisper, rows, normalizer)
    package, run = RUNTIMES[to]
    clips = [u.load()[: MAX_FRAMES * HOP_LENGTH] for u in rows]
    own = whisper.context
    heard = own if to == "onnx" else Context("full")
    transcripts = {own: decode(whisper, clips, PLAIN, context=own, languages=named)}
    languages = [transcript.language for transcript in transcripts[own]]

    most = whisper.max_tokens - 8
    caps = [
        min(most, PLAIN.most_tokens(len(clip), SAMPLE_RATE, code)) for clip, code in zip(clips, languages, strict=True)
    ]

    def theirs(clips: Clips) -> Scores:
        said: list[str] = []
        for text in run(Path(exported), whisper, clips, languages, caps):
            said.append(text)
            on_event({"event": "decoded", "clips": 1, "of": len(rows)})
        return score(list(rows), said, normalizer)

    found = theirs(clips)
    if heard != own:
        transcripts[heard] = decode(whisper, clips, PLAIN, context=heard, languages=languages)
    ours = {context: score(list(rows), [t.text for t in made], normalizer) for context, made in transcripts.items()}
    seen = {name: Seen.by([card]) for name, card in cards_of(model, adapter).items()}
    learnt = learnt_from(seen, rows, rows.splits[0] if len(rows.splits) == 1 else None)
    shared = Overlap((*learnt.pairs, *overlap(whole or rows).pairs), learnt.unknown)
    result = {
        "notice": notice(rows),
        "format": to,
        "software": f"{package} {importlib.metadata.version(package)}",
        "context": heard.policy,
        "manifest_sha256": rows.sha256,
        "overlap": str(shared),
        "leakage": shared.to_dict(),
        "caveats": [*caveats_of(learnt), *recogniser.notes],
        **_compared(found, ours[heard]),
        "ours_at_its_context": {**_summary(ours[own]), "context": own.policy},
    }
    if to == LOUD_PADDING:
        after_silence = theirs([np.pad(clip, (0, MAX_FRAMES * HOP_LENGTH - len(clip))) for clip in clips])
        difference = compare(ours[heard], after_silence)
        result["theirs_after_silence"] = {**_summary(after_silence), "difference": difference}
    write_json(Path(exported) / REPORT, result)
    return result


def _compared(theirs: Scores, ours: Scores) -> Event:
    """Both at one context: rates, the difference, and how many words differ, whether right or wrong."""
    differ = total(
        word_errors(mine.normalized[1], other.normalized[1]) for mine, other in zip(ours.rows, theirs.rows, strict=True)
    )
    return {
        "theirs": _summary(theirs),
        "ours": _summary(ours),
        "difference": compare(ours, theirs),
        "words_that_differ": round(differ.rate, 4),
    }


def _summary(scores: Scores) -> Event:
    found = scores.to_dict()
    return {key: found[key] for key in ("wer", "wer_ci95", "cer", "n_utterances", "n_words", "normalizer")}


def _transformers(folder: Path, whisper: Whisper, clips: Clips, languages: Languages, caps: Caps) -> Iterator[str]:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    processor: Any = WhisperProcessor.from_pretrained(folder, trust_remote_code=False)
    model: Any = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False
    ).eval()
    for clip, code, cap in zip(clips, languages, caps, strict=True):
        language = {"language": code, "task": "transcribe"} if whisper.is_multilingual else {}
        frames = processor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            ids = model.generate(frames, max_new_tokens=cap, do_sample=False, num_beams=1, **language)
        yield processor.batch_decode(ids, skip_special_tokens=True)[0]


def _faster_whisper(folder: Path, whisper: Whisper, clips: Clips, languages: Languages, caps: Caps) -> Iterator[str]:
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise missing_extra("faster-whisper", "export") from None
    model = WhisperModel(str(folder), device="cpu", compute_type="default", cpu_threads=torch.get_num_threads())
    for clip, code, cap in zip(clips, languages, caps, strict=True):
        found, _ = model.transcribe(
            clip, language=code, beam_size=1, temperature=0.0, without_timestamps=True,
            condition_on_previous_text=False, no_speech_threshold=None, max_new_tokens=cap,
        )  # fmt: skip
        yield " ".join(segment.text for segment in found)


def _whisper_cpp(folder: Path, whisper: Whisper, clips: Clips, languages: Languages, caps: Caps) -> Iterator[str]:
    try:
        from pywhispercpp.model import Model
    except ImportError:
        raise missing_extra("pywhispercpp", "export") from None
    model = Model(
        str(folder / "ggml-model.bin"), n_threads=torch.get_num_threads(), print_progress=False, print_realtime=False,
        no_timestamps=True, temperature_inc=0.0, suppress_blank=True, no_context=True,
        single_segment=True,
    )  # fmt: skip
    for clip, code, cap in zip(clips, languages, caps, strict=True):
        found = model.transcribe(clip, language=code, max_tokens=cap)
        yield " ".join(segment.text for segment in found)


def _onnxruntime(folder: Path, whisper: Whisper, clips: Clips, languages: Languages, caps: Caps) -> Iterator[str]:
    """At the adapter's own context, which these graphs can keep."""
    from speechft.onnx_export import OnnxCache, OnnxModel

    model = OnnxModel(folder)
    for clip, code, cap in zip(clips, languages, caps, strict=True):
        mel = log_mel(clip, whisper.n_mels)
        states = model.encode(pad_frames([mel], whisper.context.frames(mel.shape[1])).numpy())
        states = states[:, : whisper.context.shown(mel.shape[1]) // 2]
        cache = OnnxCache(model, states, np.array([whisper.prompt(code)]))
        ((ids, _, _),) = greedy_search(whisper, cache, cache.logits, [cap])[0]
        yield whisper.text(ids)


Runtime = Callable[[Path, Whisper, Clips, Languages, Caps], Iterator[str]]
RUNTIMES: dict[str, tuple[str, Runtime]] = {
    "huggingface": ("transformers", _transformers),
    "ctranslate2": ("faster-whisper", _faster_whisper),
    "ggml": ("pywhispercpp", _whisper_cpp),
    "onnx": ("onnxruntime", _onnxruntime),
}
