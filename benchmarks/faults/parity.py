"""Our encoder and decoder against transformers', clip by clip, on real recordings or on the simulated voice.

    python benchmarks/faults/parity.py [--manifest MANIFEST] [--model bundled:tiny.en] [--count 100] [--out DIR]

At 30 s and in fp32 the encoder's states have to be those of transformers' own encoder to 1e-5 of their size, and the
greedy decoder's tokens those of `generate()`, each one. The cap on tokens is ours: a clip that it ends must be the same
up to there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from common import Tally, run

from speechft.audio import log_mel, pad_frames
from speechft.context import Context
from speechft.corpora.simulated import prepare_simulated
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.manifest import Manifest
from speechft.transcript import DecodeOptions
from speechft.whisper import encode, load_whisper

CLOSE = 1e-5
AT_ONCE = 8  # clips


def main(a: argparse.Namespace) -> Tally:
    with tempfile.TemporaryDirectory() as work:
        path = a.manifest or prepare_simulated(Path(work) / "voice", n_sentences=a.count)
        rows = Manifest.load(path)
        step = max(1, len(rows) // a.count)  # spread over the speakers
        rows = rows[::step][: a.count]
        kind = f"clips of {len(rows.speakers)} speakers" if a.manifest else "clips of the simulated voice"
        tally = Tally("encoder and decoder against transformers'", notes=f"{a.model}, {kind}; to 1e-5, and every token")
        whisper = load_whisper(a.model, device="cpu")
        ours = inference_copy(whisper, torch.float32)
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            clips = [u.load() for u in part]
            frames = pad_frames([log_mel(clip, whisper.n_mels) for clip in clips], 3000)
            with torch.inference_mode():
                theirs = whisper.model.model.encoder(frames).last_hidden_state
                apart = (encode(whisper.model, frames) - theirs).abs().amax(dim=(1, 2)) / theirs.abs().amax(dim=(1, 2))
                written = whisper.model.generate(frames, do_sample=False, num_beams=1).tolist()
            found = decode(ours, clips, DecodeOptions(temperatures=()), context=Context("full"), ready=True)
            for utterance, far, transcript, ids in zip(part, apart.tolist(), found, written, strict=True):
                wanted = [i for i in ids if i < whisper.generation.eos_token_id]
                same = list(transcript.tokens) == wanted
                if not same and transcript.problem and transcript.tokens:  # ended by the cap
                    same = list(transcript.tokens) == wanted[: len(transcript.tokens)]
                wrong = None if same else f"'{transcript.text}', not '{whisper.text(wanted)}'"
                tally.count(utterance.id, f"encoder {far:.1e} apart" if far > CLOSE else wrong)
    return tally


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--manifest", type=Path, help="real recordings; the simulated voice unless given")
    parser.add_argument("--model", default="bundled:tiny.en")


if __name__ == "__main__":
    run(main, __doc__, 100, options)
