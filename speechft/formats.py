"""A transcribed recording as text, JSON, SubRip or WebVTT."""

from __future__ import annotations

import json
from collections.abc import Iterator

from speechft.audio import Seconds
from speechft.normalize import SPACELESS
from speechft.recording import SUBTITLE, Recording
from speechft.word_times import Word

FORMATS = ("txt", "json", "srt", "vtt")


def render(recording: Recording, kind: str) -> str:
    """The recording in one of FORMATS, ending in a newline."""
    if kind == "txt":
        return recording.text + "\n"
    if kind == "json":
        return json.dumps(as_dict(recording), ensure_ascii=False, indent=2) + "\n"
    if kind == "srt":
        return _srt(recording)
    if kind == "vtt":
        return _vtt(recording)
    raise ValueError(f"unknown format {kind!r}")


def as_dict(recording: Recording) -> dict:
    """What the JSON format holds; times in seconds, confidences from 0 to 1."""
    return {
        "audio": recording.audio,
        "duration_s": recording.duration_s,
        "language": recording.language,
        "text": recording.text,
        "segments": [
            {
                "start_s": segment.start_s,
                "end_s": segment.end_s,
                "text": segment.text,
                "confidence": round(segment.transcript.confidence, 4) if segment.text else None,
                "no_speech": round(segment.transcript.no_speech, 4),
                "problem": segment.transcript.problem or None,
                "words": [
                    {"text": w.text, "start_s": w.start_s, "end_s": w.end_s, "confidence": w.confidence}
                    for w in segment.words
                ],
            }
            for segment in recording.segments
        ],
    }


def captions(recording: Recording) -> Iterator[tuple[Seconds, Seconds, str]]:
    """(start, end, text) of subtitles: a few words each, cut at pauses and sentence ends."""
    for segment in recording.segments:
        if segment.text and not segment.words:
            yield segment.start_s, segment.end_s, segment.text
        space = "" if segment.transcript.language in SPACELESS else " "
        group: list[Word] = []
        for word in segment.words:
            if group and (
                word.end_s - group[0].start_s > SUBTITLE
                or word.start_s - group[-1].end_s > 1.0
                or (group[-1].text[-1] in ".?!" and len(group) > 2)
            ):
                yield group[0].start_s, group[-1].end_s, space.join(w.text for w in group)
                group = []
            group.append(word)
        if group:
            yield group[0].start_s, group[-1].end_s, space.join(w.text for w in group)


def _srt(recording: Recording) -> str:
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(captions(recording), start=1)
    ]
    return "\n".join(blocks)


def _vtt(recording: Recording) -> str:
    blocks = [
        # the format's own markup characters
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n"
        + text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        + "\n"
        for start, end, text in captions(recording)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _clock(seconds: Seconds, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"
