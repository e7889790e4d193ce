"""Recordings laid out as corpora are handed out, prepared with `speechft prepare`, and compared row by row.

    python benchmarks/corpus_trees.py MANIFEST OUT [--clips N]

MANIFEST is any corpus with speakers and splits, such as a part of speechocean762; OUT is a scratch folder of about four
times its size. Every tree has faults planted as the real ones have them: recordings and texts that are missing, clips
that volunteers found wrong. The table says what was expected and what came out; the exit code is 1 if they differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechft import exits
from speechft.audio import SAMPLE_RATE
from speechft.corpora.reading import gender
from speechft.manifest import Manifest, Utterance

LOST, WORDLESS, UNCHECKED = 50, 67, 23  # every so manieth recording is missing, has no text, is not found right
MP3_SECONDS = 0.06  # that a recording may be longer after coding


@dataclass
class Tree:
    """A corpus as it would be handed out, and what preparing it must give.

    Attributes:
        corpus: name for `speechft prepare`.
        root: its folder.
        rows: fields of the manifest by id, None where there must be none.
        sounds: the recording behind each id.
        left_out: how many entries must be left out.
        lossy: the sound was coded, so that only its length can be compared.
    """

    corpus: str
    root: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    sounds: dict[str, Utterance] = field(default_factory=dict)
    left_out: int = 0
    lossy: bool = False

    def expect(self, name: str, u: Utterance, **fields: Any) -> None:
        self.rows[name], self.sounds[name] = fields, u


def speechocean762(source: list[Utterance], root: Path) -> Tree:
    """WAVE/SPEAKER0001/*.WAV, train and test as Kaldi folders, resource/scores.json (with scores made up here)."""
    tree = Tree("speechocean762", root)
    files: dict[str, list[str]] = defaultdict(list)
    scores = {}
    for number, u, fault in numbered(source):
        split = "train" if u.split == "train" else "test"
        name = f"{u.speaker.zfill(4)}{number:05d}"
        wav = f"WAVE/SPEAKER{u.speaker.zfill(4)}/{name}.WAV"
        files[f"{split}/wav.scp"].append(f"{name}\t{wav}")
        files[f"{split}/utt2spk"].append(f"{name}\t{u.speaker}")
        if fault != "lost":
            store(u, root / wav, format="WAV", subtype="PCM_16")
        if fault != "wordless":
            files[f"{split}/text"].append(f"{name}\t{u.text.upper()}")
        scores[name] = {"text": u.text.upper(), "accuracy": number % 11, "total": number % 9, "words": []}
        if fault:
            tree.left_out += 1
            continue
        tree.expect(
            name, u, text=u.text.upper(), speaker=u.speaker, split=split, age=u.age, gender=gender(u.gender),
            accuracy=number % 11, total=number % 9,
        )  # fmt: skip
    for split in ("train", "test"):
        people = {u.speaker: u for u in source if (u.split == "train") == (split == "train")}
        files[f"{split}/spk2gender"] = [f"{speaker}\t{u.gender or ''}" for speaker, u in people.items()]
        files[f"{split}/spk2age"] = [f"{speaker}\t{u.age or ''}" for speaker, u in people.items()]
        lines = defaultdict(list)
        for line in files[f"{split}/utt2spk"]:
            utterance, speaker = line.split("\t")
            lines[speaker].append(utterance)
        files[f"{split}/spk2utt"] = [f"{speaker}\t{' '.join(names)}" for speaker, names in lines.items()]
    files["resource/scores.json"] = [json.dumps(scores)]
    write(root, files)
    return tree


def librispeech(source: list[Utterance], root: Path) -> Tree:
    """train-clean-100/SPEAKER/CHAPTER/*.flac and *.trans.txt, SPEAKERS.TXT; ten clips a chapter."""
    tree = Tree("librispeech", root)
    files: dict[str, list[str]] = defaultdict(list)
    said: dict[str, int] = defaultdict(int)
    about = {}
    for _, u, fault in numbered(source):
        part = "train-clean-100" if u.split == "train" else "dev-clean"
        speaker = str(int(hashlib.sha256(u.speaker.encode()).hexdigest()[:6], 16))
        about[speaker] = f"{speaker} | {(u.gender or ' ')[0].upper()} | {part} | 25.00 | A Name"
        chapter, line = divmod(said[speaker], 10)
        said[speaker] += 1
        name = f"{speaker}-{chapter + 100}-{line:04d}"
        folder = f"{part}/{speaker}/{chapter + 100}"
        if fault != "lost":
            store(u, root / folder / f"{name}.flac", format="FLAC", subtype="PCM_16")
        if fault != "wordless":
            files[f"{folder}/{speaker}-{chapter + 100}.trans.txt"].append(f"{name} {u.text.upper()}")
        if fault:
            tree.left_out += 1
            continue
        tree.expect(
            name, u, text=u.text.upper(), speaker=speaker, session=str(chapter + 100), split=part.partition("-")[0],
            gender=gender(u.gender),
        )  # fmt: skip
    files["SPEAKERS.TXT"] = [";ID  |SEX| SUBSET           |MINUTES| NAME", *about.values()]
    write(root, files)
    return tree


def commonvoice(source: list[Utterance], root: Path) -> Tree:
    """clips/*.mp3 and a table for each part, as since version 17."""
    tree = Tree("commonvoice", root / "en", lossy=True)
    head = ("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age",
            "gender", "accents", "variant", "locale", "segment")  # fmt: skip
    tables = {name: ["\t".join(head)] for name in ("train", "dev", "validated", "invalidated", "other")}
    names = {"male": "male_masculine", "female": "female_feminine"}
    for number, u, fault in numbered(source):
        name, client = f"common_voice_en_{number:08d}", hashlib.sha512(u.speaker.encode()).hexdigest()
        sentence = "" if fault == "wordless" else f'"{u.text.capitalize()}."'  # quotes are part of the text
        row = [client, f"{name}.mp3", f"s{number}", sentence, "", "2", "0", "", names.get(gender(u.gender) or "", ""),
               "", "", "en", ""]  # fmt: skip
        unchecked = ("invalidated", "other", "validated")[number % 3] if number % UNCHECKED == 0 else None
        tables[unchecked or ("train" if u.split == "train" else "dev")].append("\t".join(row))
        if unchecked is None:
            tables["validated"].append("\t".join(row))
        if fault != "lost":
            store(u, tree.root / "clips" / f"{name}.mp3", format="MP3")
        if fault or unchecked:
            tree.left_out += 1
            continue
        tree.expect(
            name, u, text=sentence, speaker=client, split="train" if u.split == "train" else "dev", language="en",
            prompt_id=f"s{number}", gender=gender(u.gender),
        )  # fmt: skip
    write(tree.root, {f"{name}.tsv": lines for name, lines in tables.items()})
    return tree


def kaldi(source: list[Utterance], root: Path) -> Tree:
    """One long recording a speaker, cut by a segments file."""
    tree = Tree("kaldi", root)
    files: dict[str, list[str]] = defaultdict(list)
    by_speaker: dict[str, list[tuple[int, Utterance, str]]] = defaultdict(list)
    for number, u, fault in numbered(source):
        by_speaker[u.speaker].append((number, u, fault))
    for speaker, rows in by_speaker.items():
        split, at, sounds = ("train" if rows[0][1].split == "train" else "dev"), 0, []
        for number, u, fault in rows:
            samples = u.load()
            sounds.append(samples)
            name, recording = f"{speaker}-{number:05d}", speaker if fault != "lost" else f"{speaker}-gone"
            start, at = at, at + samples.size
            files[f"{split}/segments"].append(f"{name} {recording} {start / SAMPLE_RATE:.6f} {at / SAMPLE_RATE:.6f}")
            files[f"{split}/utt2spk"].append(f"{name} {speaker}")
            if fault != "wordless":
                files[f"{split}/text"].append(f"{name} {u.text}")
            if fault:
                tree.left_out += 1
                continue
            tree.expect(name, u, text=u.text, speaker=speaker, split=split, gender=gender(u.gender))
        files[f"{split}/wav.scp"].append(f"{speaker} wav/{speaker}.wav")
        files[f"{split}/spk2gender"].append(f"{speaker} {rows[0][1].gender or ''}")
        write_sound(root / split / "wav" / f"{speaker}.wav", np.concatenate(sounds), format="WAV", subtype="PCM_16")
    write(root, files)
    return tree


def numbered(source: Iterable[Utterance]) -> Iterator[tuple[int, Utterance, str]]:
    """(number, utterance, the fault planted in it or "")."""
    for number, u in enumerate(source, 1):
        yield number, u, "lost" if number % LOST == 0 else "wordless" if number % WORDLESS == 0 else ""


def store(u: Utterance, path: Path, **how: str) -> None:
    write_sound(path, u.load(), **how)


def write_sound(path: Path, samples: np.ndarray, **how: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, SAMPLE_RATE, **how)


def write(root: Path, files: dict[str, list[str]]) -> None:
    for name, lines in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare(tree: Tree, out: Path) -> list[str]:
    """Prepare a tree with the command and say how the manifest differs from what was laid out."""
    command = ["-m", "speechft.cli", "prepare", tree.corpus, str(tree.root), str(out), "--json"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        return [f"the command failed: {done.stderr.strip()[-300:]}"]
    said = json.loads(done.stdout)
    manifest = Manifest.load(out)
    found = {u.id: u for u in manifest}
    wrong = []
    if (said["utterances"], len(said["left_out"])) != (len(tree.rows), tree.left_out):
        wrong.append(f"{said['utterances']} rows and {len(said['left_out'])} left out")
    wrong += [f"{name} is missing" for name in tree.rows.keys() - found.keys()]
    wrong += [f"{name} was made up" for name in found.keys() - tree.rows.keys()]
    for name in tree.rows.keys() & found.keys():
        u = found[name]
        row = {**u.to_row(), **u.extra}
        wrong += [f"{name}: {key} is {row.get(key)!r}, not {value!r}" for key, value in tree.rows[name].items()
                  if row.get(key) != value]  # fmt: skip
        wrong += sound_differs(name, tree.sounds[name].load(), u.load(), tree.lossy)
    return wrong


def sound_differs(name: str, before: np.ndarray, after: np.ndarray, lossy: bool) -> list[str]:
    if abs(before.size - after.size) > (MP3_SECONDS * SAMPLE_RATE if lossy else 0):
        return [f"{name}: {after.size} samples, not {before.size}"]
    if not lossy and np.abs(before - after).max() > 0.6 / 2**15:  # less than one step of 16 bits
        return [f"{name}: other samples"]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="scratch folder; its parts are deleted when they have been compared")
    parser.add_argument("--clips", type=int, help="take so many rows only")
    a = parser.parse_args()
    source = list(Manifest.load(a.manifest))[: a.clips]
    trees: tuple[Callable[[list[Utterance], Path], Tree], ...] = (speechocean762, librispeech, commonvoice, kaldi)
    failed = False
    print(f"{len(source)} recordings of {len({u.speaker for u in source})} speakers")
    print(f"{'tree':16}{'rows':>7}{'left out':>10}{'differences':>13}{'seconds':>9}")
    for lay_out in trees:
        folder, start = a.out / lay_out.__name__, time.perf_counter()
        shutil.rmtree(folder, ignore_errors=True)
        tree = lay_out(source, folder / "corpus")
        wrong = compare(tree, folder / "prepared")
        seconds = time.perf_counter() - start
        print(f"{tree.corpus:16}{len(tree.rows):7}{tree.left_out:10}{len(wrong):13}{seconds:9.0f}", flush=True)
        for line in wrong[:5]:
            print(f"    {line}")
        failed |= bool(wrong)
        shutil.rmtree(folder)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    exits.run(main)
