"""CDSD: Mandarin by people with dysarthria, most with cerebral palsy (Wan et al., 2024, arXiv 2310.15930).

    SPEAKER/wav/{train,dev,test}/*.wav and SPEAKER/transcript, as the CDSD challenge hands it out

Access by agreement with the Institute of Psychology, Chinese Academy of Sciences. The layout is that of the challenge's
baseline; the transcript's own form could not be verified: lines of a recording's name and its text, in a file or in
the files of a folder. The full release may be laid out differently, and is then refused.
"""

from __future__ import annotations

from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared, corpus_root, key_and_text

SPLITS = ("train", "dev", "test")


def prepare_cdsd(source: str | Path, out: str | Path, *, copy: bool = True) -> Prepared:
    """A manifest in the challenge's split, which is within each speaker.

    Args:
        source: the folder of the speakers' folders.
        out: see `Preparation`.
        copy: recordings beside the manifest.
    """
    root = corpus_root(source, "*/wav/train", "CDSD")
    work = Preparation(root, out, copy)
    for folder in sorted(path.parent.parent for path in root.glob("*/wav/train")):
        files = sorted(path for path in folder.glob("transcript*") if path.is_file())
        files += sorted(path for path in folder.glob("transcript/**/*") if path.is_file())
        texts = {Path(key).stem: text for path in files for key, text in key_and_text(path).items()}
        for split in SPLITS:
            for audio in sorted((folder / "wav" / split).rglob("*.wav")):
                if audio.stem not in texts:
                    work.leave_out(audio, "the transcript has no line for it")
                    continue
                row = {
                    "id": f"{folder.name}-{audio.stem}", "audio": audio, "text": texts[audio.stem],
                    "speaker": folder.name, "split": split, "language": "zh", "aetiology": "dysarthria",
                }  # fmt: skip
                work.add(row, audio)
    return work.finish()
