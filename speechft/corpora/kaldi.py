"""A Kaldi data folder: wav.scp, text, utt2spk, and segments where recordings hold several utterances.

The format is Kaldi's "Data preparation" page. An entry of wav.scp that ends in "|" is a shell command; it is never run
here, because a data folder from somebody else would then run whatever they wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared, key_and_text
from speechft.corpora.reading import gender
from speechft.errors import SpeechftError


def prepare_kaldi(source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """A manifest of one data folder, or of several named train, dev, test beside one another.

    Args:
        source: the folder with wav.scp; or one whose folders have one, and whose names are then the split.
        out: see `Preparation`.
        copy: recordings beside the manifest; wav.scp names them by absolute path, or relative to where Kaldi runs
            (tried: the data folder and the folders above it).
        allow_outside: changes nothing, as wav.scp may name any file.
    """
    root = Path(source).resolve()
    parts = {"": root} if (root / "wav.scp").is_file() else {p.parent.name: p.parent for p in root.glob("*/wav.scp")}
    if not parts:
        raise SpeechftError("is not a Kaldi data folder", where=source, fix="Give the folder that holds wav.scp.")
    work = Preparation(root, out, copy, allow_outside=True)
    for name, folder in sorted(parts.items()):
        add_data_folder(work, folder, name or None)
    return work.finish(searched=False)


def add_data_folder(
    work: Preparation,
    folder: Path,
    split: str | None = None,
    more: Callable[[str, str], Mapping[str, object]] = lambda utterance, speaker: {},
) -> None:
    """Add every utterance of a data folder.

    Args:
        split: of them all.
        more: fields besides, by utterance and speaker.
    """
    for needed in ("wav.scp", "text"):
        if not (folder / needed).is_file():
            raise SpeechftError(f"has no file '{needed}'", where=folder, fix="A Kaldi data folder needs one.")
    recordings, texts = key_and_text(work, folder / "wav.scp"), key_and_text(work, folder / "text")
    speakers, genders = key_and_text(work, folder / "utt2spk"), key_and_text(work, folder / "spk2gender")
    segments = {key: value.split() for key, value in key_and_text(work, folder / "segments").items()}
    for utterance, text in texts.items():
        where = f"{folder.name}/text: {utterance}"
        try:
            recording, *span = segments.get(utterance, [utterance])
            start, end = map(float, span[:2]) if utterance in segments else (0.0, -1.0)
        except ValueError:
            work.leave_out(where, f"its line of segments is not '{utterance} RECORDING START END'")
            continue
        entry = recordings.get(recording)
        if entry is None:
            work.leave_out(where, f"wav.scp has no '{recording}'")
        elif entry.endswith("|"):
            work.leave_out(where, f"wav.scp makes '{recording}' with a command, and commands are not run")
        elif len(span) > 2 and _channels(found(entry, folder)) > 1:
            work.leave_out(where, f"segments names channel {span[2]} of '{recording}', and channels are not kept apart")
        else:
            speaker = speakers.get(utterance, "")
            row = {
                "id": utterance, "audio": found(entry, folder), "text": text, "speaker": speaker,
                "gender": gender(genders.get(speaker)), "split": split,
                "start_s": start if span else None, "end_s": end if end >= 0 else None,
                **more(utterance, speaker),
            }  # fmt: skip
            work.add(row, where)
    named = speakers.keys() | (segments or recordings).keys()  # without segments each recording is one
    for utterance in sorted(named - texts.keys()):
        work.leave_out(f"{folder.name}: {utterance}", "it has no text")
    cut = {parts[0] for parts in segments.values() if parts}
    for recording in sorted(recordings.keys() - cut - texts.keys() if segments else ()):
        work.leave_out(f"{folder.name}/wav.scp: {recording}", "no line of segments is of it")


def _channels(recording: Path) -> int:
    """How many a recording has; 1 where nobody can tell, as `add` says why it cannot be read."""
    import soundfile

    try:
        return soundfile.info(os.fsencode(recording)).channels
    except (soundfile.SoundFileError, RuntimeError):
        return 1


def found(entry: str, folder: Path) -> Path:
    """The file that an entry of wav.scp names."""
    path = Path(entry)
    places = [path] if path.is_absolute() else [above / path for above in (folder, *folder.resolve().parents)]
    return next((place for place in places if os.path.isfile(place)), places[0])
