"""CDSD: Mandarin by people with dysarthria, most with cerebral palsy (Wan et al., 2024, arXiv 2310.15930).

    SPEAKER/wav/{train,dev,test}/*.wav, SPEAKER/transcript/SPEAKER_label.txt: as the CDSD challenge hands it out
    1h/Audio/SPEAKER/S019T024E000N00022.wav, 1h/Text/SPEAKER_label.txt, 10h/...: the full release

Access by agreement with the Institute of Psychology, Chinese Academy of Sciences. The first layout is that of the
challenge's baseline, the second that of a public ESPnet recipe; the corpus itself could not be seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared, key_and_text
from speechft.corpora.reading import corpus_root

SPLITS = ("train", "dev", "test")


def prepare_cdsd(source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """A manifest in the challenge's split, which is within each speaker; the full release comes without one.

    Args:
        source: the folder of the speakers' folders; for the full release that of 1h and 10h, or one of these.
        out, copy, allow_outside: see `Preparation`.
    """
    full = any(any(Path(source).glob(pattern)) for pattern in ("Audio/*", "*/Audio/*", "*/*/Audio/*"))
    root = corpus_root(source, "**/Audio/*/*.wav" if full else "*/wav/train", "CDSD")
    work = Preparation(root, out, copy, allow_outside)
    if full:
        for folder in sorted(root.glob("**/Audio/*/")):
            part = folder.parent.parent
            texts = _texts(work, [part / "Text" / f"{folder.name}_label.txt"])
            for audio in sorted(folder.glob("*.wav")):
                _add(work, audio, texts, folder.name, None, {"part": part.name} if part != root else {})
        return work.finish()
    for folder in sorted(path.parent for path in root.glob("*/wav")):
        texts = _texts(
            work, sorted(path for pattern in ("transcript*", "transcript/**/*") for path in folder.glob(pattern))
        )
        for split in SPLITS:
            for audio in sorted((folder / "wav" / split).rglob("*.wav")):
                _add(work, audio, texts, folder.name, split, {})
    return work.finish()


def _texts(work: Preparation, paths: Iterable[Path]) -> dict[str, str]:
    """By recording's name without its ending. Where two say different things the first counts."""
    found: dict[str, str] = {}
    for path in paths:
        if path.is_dir():
            continue
        for key, text in key_and_text(work, path).items():
            if found.setdefault(Path(key).stem, text) != text:
                work.leave_out(f"{work.name_of(path)}: {key}", "an earlier line has another text for the recording")
    return found


def _add(
    work: Preparation, audio: Path, texts: dict[str, str], speaker: str, split: str | None, more: dict[str, str]
) -> None:
    if audio.stem not in texts:
        work.leave_out(audio, "the transcript has no line for it")
        return
    row = {
        "id": "-".join([*more.values(), speaker, audio.stem]), "audio": audio, "text": texts[audio.stem],
        "speaker": speaker, "split": split, "language": "zh", "aetiology": "dysarthria", **more,
    }  # fmt: skip
    work.add(row, audio)
