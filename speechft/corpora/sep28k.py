"""SEP-28k: labels of stuttering events in 28,177 clips of podcasts (Lea et al., 2021, arXiv 2102.12394)."""

from __future__ import annotations

from pathlib import Path

from speechft.corpora.prepared import Prepared
from speechft.errors import SpeechftError


def prepare_sep28k(source: str | Path, out: str | Path, *, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """Refuses: the corpus says where somebody stutters, not what they say, so nothing can be trained to write it down.

    Raises:
        SpeechftError: always.
    """
    raise SpeechftError(
        "SEP-28k has labels of stuttering (blocks, prolongations, repetitions, interjections) for clips of 3 s, and no "
        "transcripts: it cannot train or test speech recognition",
        where=source,
        fix="It serves to detect stuttering. For transcribed stutter use FluencyBank (prepare talkbank).",
    )
