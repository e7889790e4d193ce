"""What may not be read is said to be just that, and does not keep the rest from being used."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from speechft.audio import write_audio
from speechft.check import check
from speechft.corpora import prepare
from speechft.errors import SpeechftError, readable
from speechft.manifest import Manifest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes root's privileges away as on Linux")

CAPABILITIES_3 = 0x20080522  # the version of capget(2) and capset(2) with 64 bits
PAST_PERMISSIONS = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A folder in which permissions count, for root too."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0)
    held, fewer = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    fewer[:] = held[:]
    fewer[0] &= ~PAST_PERMISSIONS  # of those in effect; the next are those that may be taken back
    assert libc.capset(header, fewer) == 0
    yield tmp_path
    assert libc.capset(header, held) == 0


def clip(path: Path, text: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, np.random.default_rng(seed).uniform(-0.1, 0.1, 16_000))
    path.with_suffix(".txt").write_text(text)


def test_a_closed_folder_is_left_out_by_name(own: Path) -> None:
    clip(own / "s/anna/a.wav", "hello there", 0)
    clip(own / "s/ben/b.wav", "open the window", 1)
    (own / "s/ben").chmod(0)
    found = prepare("folder", str(own / "s"), own / "out")
    (own / "s/ben").chmod(0o700)
    assert [u.speaker for u in found.manifest] == ["anna"]
    assert found.left_out == (("ben", "the folder cannot be opened (Permission denied)"),)


@pytest.mark.parametrize("corpus", ["folder", "torgo"])
def test_a_closed_source_is_said_to_be_closed(own: Path, corpus: str) -> None:
    (own / "s").mkdir(0)
    with pytest.raises(SpeechftError, match=r"cannot be opened \(Permission denied\)"):
        prepare(corpus, str(own / "s"), own / "out")


def test_a_closed_recording_is_a_problem_of_its_row(own: Path) -> None:
    for number, name in enumerate(("open/a", "closed/b", "open/c")):
        clip(own / f"{name}.wav", "hello there", number)
    (own / "m.jsonl").write_text(
        "".join(f'{{"audio": "{name}.wav", "text": "hello {name[-1]}"}}\n' for name in ("open/a", "closed/b", "open/c"))
    )
    (own / "closed").chmod(0)
    (own / "open/c.wav").chmod(0)
    said = [str(problem) for problem in check(own / "m.jsonl")]
    lengths = []
    for utterance in Manifest.load(own / "m.jsonl")[1:]:
        with pytest.raises(SpeechftError, match="Permission denied") as error:
            Manifest([utterance]).with_durations()
        lengths.append(error.value.what)
    (own / "closed").chmod(0o700)
    denied = [f"audio '{name}.wav' cannot be read (Permission denied)" for name in "bc"]
    assert lengths == denied
    assert len(said) == 2
    assert all(what in problem for what, problem in zip(denied, said, strict=True))


def test_closed_weights_are_not_called_damaged(own: Path) -> None:
    weights = own / "model.safetensors"
    save_file({"a": torch.zeros(1)}, weights)
    weights.chmod(0)
    with (
        pytest.raises(SpeechftError, match=r"safetensors: may not be read by you\. Check its permissions"),
        readable(own, "It is damaged."),
        safe_open(weights, "pt"),
    ):
        pass
