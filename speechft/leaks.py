"""What rows of one split know of another: sentences, prompts, speakers and sessions that are in two, row by row.

`speechft.overlap` counts the same for a result; this names the rows, for the person who can mend them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from speechft.manifest import Manifest, Problem, Utterance
from speechft.split import PARTS, UNUSED, name_key, sentence_keys, usual_names, usual_splits


def leaks(manifest: Manifest) -> list[Problem]:
    """Rows whose sentence or prompt an earlier split has, and speakers and sessions that are in two splits.

    Earlier than test is dev, which chooses the state that is tested, and earlier than both is train.
    """
    manifest = usual_splits(manifest)
    texts: dict[str, dict[str, Utterance]] = {"train": {}, "dev": {}}
    prompts: dict[str, dict[str, Utterance]] = {"train": {}, "dev": {}}
    for u in manifest:
        if (home := u.split) in texts:
            for key in sentence_keys(u):
                texts[home].setdefault(key, u)
            prompts[home].setdefault(u.prompt_id or "", u)
    found = []
    for u in manifest:
        if (home := u.split) in (None, "train", UNUSED):
            continue
        keys, prompt = sorted(sentence_keys(u)), u.prompt_id or ""
        for earlier, said in (("train", "trained on"), ("dev", "in dev")):
            by_text = next((texts[earlier][key] for key in keys if key in texts[earlier]), None)
            same = by_text or (prompts[earlier].get(prompt) if prompt else None)
            if same and home != earlier:
                kind, thing = ("text-leak", "text") if by_text else ("prompt-leak", f"prompt '{prompt}'")
                fix = "Split by sentence, or read results on it as those of a known phrase."
                found.append(Problem("warning", kind, u.where, f"the {thing} is {said} too ({same.where})", fix))
                break
    if len(manifest.voices) > 1:  # with a single speaker there is nothing to keep apart
        fix = "Split by speaker, or say with the results that the speakers were known."
        found += _in_two_splits(manifest, "speaker", {u.id: u.speaker for u in manifest}, fix)
    fix = "Split by session, or say that room, microphone and day were known."
    found += _in_two_splits(manifest, "session", _sessions(manifest), fix)
    found += _nearly_one_name("speaker", [(u.speaker, u) for u in manifest])
    return found + _nearly_one_name("prompt", [(u.prompt_id or "", u) for u in manifest])


def _nearly_one_name(thing: str, named: Sequence[tuple[str, Utterance]]) -> list[Problem]:
    """Names that differ only in case or spaces, each at its first row: they may be one, and are taken for two."""
    first: dict[str, tuple[str, Utterance]] = {}
    seen: set[str] = set()
    found = []
    for name, u in named:
        one, row = first.setdefault(name_key(name), (name, u))
        if name != one and name not in seen:
            what = f"{thing} '{name}' may be the '{one}' of {row.where}: they differ only in case or spaces"
            fix = f"If they are one {thing}, write the name one way; they are taken for two."
            found.append(Problem("warning", f"{thing}-name", u.where, what, fix))
        seen.add(name)
    return found


def _sessions(manifest: Manifest) -> dict[str, str]:
    """By id of a row its session; "" where the speaker was recorded once, and there is nothing to keep apart."""
    of_speaker: dict[str, set[str | None]] = defaultdict(set)
    for u in manifest:
        of_speaker[u.speaker].add(u.session)
    return {u.id: f"{u.speaker}/{u.session}" if u.session and len(of_speaker[u.speaker]) > 1 else "" for u in manifest}


def _in_two_splits(manifest: Manifest, thing: str, names: Mapping[str, str], fix: str) -> list[Problem]:
    """One problem for each speaker or session in two splits, at the row where its second split begins."""
    homes: dict[str, dict[str, Utterance]] = defaultdict(dict)
    for u in manifest:
        if names[u.id] and u.split and u.split != UNUSED:
            homes[names[u.id]].setdefault(u.split, u)
    found = []
    for name, rows in homes.items():
        if len(rows) > 1:
            first, second, *_ = rows.values()
            where = " and ".join([", ".join(list(rows)[:-1]), list(rows)[-1]])
            what = f"{thing} '{name}' is in {where} (first in {first.where})"
            found.append(Problem("warning", f"{thing}-leak", second.where, what, fix))
    return found


def split_names(manifest: Manifest) -> list[Problem]:
    """Split names that nothing will look for, at the first row of each."""
    found = []
    for name, usual in usual_names(manifest.splits).items():
        if name in (*PARTS, UNUSED):
            continue
        first = next(u for u in manifest if u.split == name)
        meant = f"It is read as '{usual}'." if usual != name else "Only train, dev and test are used by themselves."
        found.append(Problem("note", "split-name", first.where, f"the split is called '{name}'", meant))
    return found
