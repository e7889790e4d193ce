"""L2-ARCTIC: the CMU ARCTIC sentences by 24 speakers of English as a second language (Zhao et al., 2018).

    ABA/wav/arctic_a0001.wav, ABA/transcript/arctic_a0001.txt; suitcase_corpus/ in the same form

CC BY-NC 4.0, on request to Texas A&M University. All speakers read the same sentences, so a split by speaker shares
them all; there is no official one for recognition.
"""

from __future__ import annotations

from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared, corpus_root

LANGUAGES = {
    "Arabic": ("ABA", "SKA", "YBAA", "ZHAA"), "Mandarin": ("BWC", "LXC", "NCC", "TXHC"),
    "Hindi": ("ASI", "RRBI", "SVBI", "TNI"), "Korean": ("HJK", "HKK", "YDCK", "YKWK"),
    "Spanish": ("EBVS", "ERMS", "MBMPS", "NJS"), "Vietnamese": ("HQTV", "PNV", "THV", "TLV"),
}  # fmt: skip
WOMEN = {"SKA", "ZHAA", "LXC", "NCC", "SVBI", "TNI", "HJK", "YDCK", "MBMPS", "NJS", "PNV", "THV"}
FIRST_LANGUAGE = {speaker: language for language, speakers in LANGUAGES.items() for speaker in speakers}


def prepare_l2arctic(source: str | Path, out: str | Path, *, copy: bool = True) -> Prepared:
    """A manifest of all speakers, with their first language as a group.

    Args:
        source: the folder of the speakers' folders.
        out: see `Preparation`.
        copy: recordings beside the manifest.
    """
    root = corpus_root(source, "*/transcript", "L2-ARCTIC")
    work = Preparation(root, out, copy)
    for folder in sorted(path.parent for path in root.glob("*/transcript")):
        known = folder.name in FIRST_LANGUAGE
        texts = {path.stem: path for path in (folder / "transcript").glob("*.txt")}
        for audio in sorted((folder / "wav").glob("*.wav")):
            text = texts.pop(audio.stem, None)
            if text is None:
                work.leave_out(audio, "there is no transcript for it")
                continue
            speaker = folder.name if known else audio.stem.upper()  # suitcase_corpus: a file for each speaker
            row = {
                "id": f"{folder.name}-{audio.stem}", "audio": audio, "text": text.read_text(encoding="utf-8").strip(),
                "speaker": speaker, "prompt_id": audio.stem, "language": "en",
                "first_language": FIRST_LANGUAGE.get(speaker),
                "gender": None if speaker not in FIRST_LANGUAGE else "female" if speaker in WOMEN else "male",
                "session": "spontaneous" if folder.name == "suitcase_corpus" else "read",
            }  # fmt: skip
            work.add(row, audio)
        for text in texts.values():
            work.leave_out(text, "there is no recording for it")
    return work.finish()
