"""Our encoder and decoder against transformers', clip by clip, on real recordings or on the simulated voice.

    python benchmarks/faults/parity.py [--manifest MANIFEST] [--model bundled:tiny.en] [--count 100] [--out DIR]

At 30 s and in fp32 each of the encoder's states has to be that of transformers' own encoder to 1e-5, plus 1e-5 of its
size, and the greedy decoder's tokens those of `generate()`, each one. The cap on tokens is ours: a clip that has just
so many tokens must be the same up to there. Nothing else may end one early.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from common import run
from tally import Tally

from speechft.audio import FRAMES_PER_SECOND, HOP_LENGTH, MAX_FRAMES, log_mel, pad_frames
from speechft.context import Context
from speechft.corpora.simulated import prepare_simulated
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.manifest import Manifest
from speechft.transcript import DecodeOptions
from speechft.whisper import encode, load_whisper

CLOSE = 1e-5
PLAIN = DecodeOptions(temperatures=())  # what a guard objects to stays as it is
AT_ONCE = 8  # clips


def main(a: argparse.Namespace) -> Tally:
    worst = 0.0
    with tempfile.TemporaryDirectory() as work:
        path = a.manifest or prepare_simulated(Path(work) / "voice", n_sentences=a.count)
        rows = Manifest.load(path)
        step = max(1, len(rows) // a.count)  # spread over the speakers
        rows = rows[::step][: a.count]
        kind = f"clips of {len(rows.speakers)} speakers" if a.manifest else "clips of the simulated voice"
        tally = Tally("encoder and decoder against transformers'")
        whisper = load_whisper(a.model, device="cpu")
        ours = inference_copy(whisper, torch.float32)
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            clips = [u.load() for u in part]
            mels = [log_mel(clip[: MAX_FRAMES * HOP_LENGTH], whisper.n_mels) for clip in clips]
            frames = pad_frames(mels, MAX_FRAMES)
            with torch.inference_mode():
                theirs = whisper.model.model.encoder(frames).last_hidden_state
                # how many times as far apart as they may be, at worst
                apart = ((encode(whisper.model, frames) - theirs).abs() / (CLOSE + CLOSE * theirs.abs())).amax((1, 2))
                written = whisper.model.generate(frames, do_sample=False, num_beams=1).tolist()
            found = decode(ours, clips, PLAIN, context=Context("full"), ready=True)
            for utterance, mel, far, transcript, ids in zip(part, mels, apart.tolist(), found, written, strict=True):
                wanted = [i for i in ids if i < whisper.generation.eos_token_id]
                cap = PLAIN.most_tokens(mel.shape[1], FRAMES_PER_SECOND, transcript.language)
                same = list(transcript.tokens) == wanted[:cap]
                wrong = None if same else f"'{transcript.text}', not '{whisper.text(wanted)}'"
                worst = max(worst, far)
                tally.count(utterance.id, f"encoder {far:.1f} times too far apart" if far > 1 else wrong)
    tally.notes = f"{a.model}, {kind}; encoder to 1e-5 (at worst {worst:.1g} of that), and every token"
    return tally


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, help="real recordings; the simulated voice unless given")
    parser.add_argument("--model", default="bundled:tiny.en")


if __name__ == "__main__":
    run(main, __doc__, 100, options)
