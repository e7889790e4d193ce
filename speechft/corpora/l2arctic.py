"""L2-ARCTIC: the CMU ARCTIC sentences by 24 speakers of English as a second language (Zhao et al., 2018).

    ABA/wav/arctic_a0001.wav, ABA/transcript/arctic_a0001.txt; suitcase_corpus/wav/aba.wav, a file for each speaker

Each speaker comes as an archive of its own, so that some unpack it into a folder more (ABA/ABA/wav): any depth will do.

CC BY-NC 4.0, on request to Texas A&M University. All speakers read the same sentences, so a split by speaker shares
them all; there is no official one for recognition.
"""

from __future__ import annotations

from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root

LANGUAGES = {
    "Arabic": ("ABA", "SKA", "YBAA", "ZHAA"), "Mandarin": ("BWC", "LXC", "NCC", "TXHC"),
    "Hindi": ("ASI", "RRBI", "SVBI", "TNI"), "Korean": ("HJK", "HKK", "YDCK", "YKWK"),
    "Spanish": ("EBVS", "ERMS", "MBMPS", "NJS"), "Vietnamese": ("HQTV", "PNV", "THV", "TLV"),
}  # fmt: skip
WOMEN = {"SKA", "ZHAA", "LXC", "NCC", "SVBI", "TNI", "HJK", "YDCK", "MBMPS", "NJS", "PNV", "THV"}
FIRST_LANGUAGE = {speaker: language for language, speakers in LANGUAGES.items() for speaker in speakers}


def prepare_l2arctic(
    source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False
) -> Prepared:
    """A manifest of all speakers, with their first language as a group.

    Args:
        source: the folder of the speakers' folders.
        out, copy, allow_outside: see `Preparation`.
    """
    root = corpus_root(source, "**/transcript", "L2-ARCTIC")
    work = Preparation(root, out, copy, allow_outside)
    for folder in sorted({path.parent for name in ("transcript", "wav") for path in root.rglob(name)}):
        suitcase = folder.name == "suitcase_corpus"
        texts = {path.stem: path for path in (folder / "transcript").glob("*.txt")}
        for audio in sorted((folder / "wav").glob("*.wav")):
            text = texts.pop(audio.stem, None)
            if text is None:
                work.leave_out(audio, "there is no transcript for it")
                continue
            speaker = audio.stem.upper() if suitcase else folder.name
            row = {
                "id": f"{folder.name}-{audio.stem}", "audio": audio, "text": work.text_of(text),
                "speaker": speaker, "prompt_id": audio.stem, "language": "en",
                "first_language": FIRST_LANGUAGE.get(speaker),
                "gender": None if speaker not in FIRST_LANGUAGE else "female" if speaker in WOMEN else "male",
                "session": "spontaneous" if suitcase else "read",
            }  # fmt: skip
            work.add(row, audio)
        for text in texts.values():
            work.leave_out(text, "there is no recording for it")
    return work.finish()
