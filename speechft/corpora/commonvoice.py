"""Common Voice: short sentences read into a browser by volunteers (Ardila et al., 2020, arXiv 1912.06670).

    cv-corpus-VERSION/LANGUAGE/{train,dev,test,other,validated,invalidated}.tsv, clips/*.mp3

CC0, from the Common Voice site after giving an address. The three parts of its own split share neither speakers nor
sentences. Trying to find out who a speaker is, is against its terms.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import corpus_root, read_text
from speechft.files import LONGEST_FIELD

SPLITS = ("train", "dev", "test")
GENDERS = {"male_masculine": "male", "female_feminine": "female"}  # the values since version 17


def prepare_commonvoice(
    source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False
) -> Prepared:
    """A manifest of the clips that volunteers found right, in the corpus's own split; in none where it has no split.

    Args:
        source: the folder of one language, or one above it if that holds one language.
        out, copy, allow_outside: see `Preparation`.
    """
    root = corpus_root(source, "clips", "Common Voice")
    work = Preparation(root, out, copy, allow_outside)
    listed = set()  # in one of the three parts, taken or not
    # What is new since the last version comes as an archive of its own ("delta"), without the three parts.
    parts = {part: _rows(root / f"{part}.tsv") for part in SPLITS}
    if not any(parts.values()):
        parts = {"validated": _rows(root / "validated.tsv")}
    for part, rows in parts.items():
        for number, row in rows:
            values = {
                "id": Path(row.get("path", "")).stem, "audio": root / "clips" / row.get("path", ""),
                "text": row.get("sentence", ""), "speaker": row.get("client_id"),
                "split": part if part in SPLITS else None,
                "prompt_id": row.get("sentence_id"), "age": row.get("age"),
                "gender": GENDERS.get(row.get("gender", ""), row.get("gender")),
                "language": row.get("locale") or root.name, "accent": row.get("accents") or row.get("accent"),
            }  # fmt: skip
            work.add(values, f"{part}.tsv:{number}")
            listed.add(row.get("path", ""))
    for name, reason in (
        ("invalidated", "volunteers found the text wrong"),
        ("other", "nobody has checked it yet"),
        ("validated", "right, but in none of the three parts: its sentence is in one already"),
    ):
        for _, row in _rows(root / f"{name}.tsv"):
            if row.get("path", "") not in listed:
                work.leave_out(f"{name}.tsv: {row.get('path', '')}", reason)
    return work.finish()


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, values) of a table; none if there is no such file."""
    if not os.path.lexists(path):
        return []
    csv.field_size_limit(LONGEST_FIELD)
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [(number, {k: v or "" for k, v in row.items() if k}) for number, row in enumerate(rows, 2)]
