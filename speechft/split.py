"""Train, dev and test parts that share no speaker, or no sentence, and a report of what they do share.

Which speaker or sentence goes where is decided by a hash of its own content and the seed, not by its place in
the file: the same data always splits the same way, and a new row moves others only at the edge of a part.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.normalize import SPACELESS_LETTER, normalizer

LEAST_DEV = 6
LEAST_TEST = 6  # of one voice: with fewer nothing can be told from chance, see `speechft.significance`
FEW = 20  # with fewer recordings so many test clips would cost training more than they tell
ENOUGH_SPEAKERS = 5  # with fewer, whole speakers make parts too uneven: split by sentence
UNUSED = "unused"  # the split of rows that a protocol leaves aside: nothing trains or tests on them
PARTS = ("train", "dev", "test")
LEFT_OUT = "'’`\u02bb\u02bc\N{ARABIC TATWEEL}"  # of a word, without parting it; the last only stretches it
USUAL_NAMES = {  # what others call train, dev and test; the text side's own rule is in `speechft.text.files`
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "validation", "valid", "val", "development", "eval"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
    UNUSED: UNUSED,
}


def sentence_key(text: str) -> str:
    """A sentence without case, punctuation and spacing: the same prompt written twice has one key.

    One space is kept between words, but none beside letters of scripts written without them.

    >>> sentence_key("Well-known, isn't it?") == sentence_key("well known isn't  IT")
    True
    >>> sentence_key("请 打开 灯。"), sentence_key("打开 WiFi")
    ('请打开灯', '打开wifi')
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    key = " ".join("".join(map(_letter, folded)).split())
    return key if key.isascii() else _needless_space().sub("", key)


def sentence_keys(utterance: Utterance) -> frozenset[str]:
    """The names of a row's sentence: two rows say the same if they have one in common; none for no words.

    Beside `sentence_key` it is what the error rate makes of English: "I'm here at ten" and "I am here at 10" are one.
    """
    return _sentence_keys(utterance.text, utterance.language or "")


def name_key(name: str) -> str:
    """A speaker's or prompt's name without case and spaces at its ends: those with one key may be one."""
    return " ".join(name.casefold().split())


@lru_cache(maxsize=2**16)
def _sentence_keys(text: str, language: str) -> frozenset[str]:
    key = sentence_key(text)
    english = language.lower().startswith("en") if language else key.isascii()
    if not key or not english:
        return frozenset({key} - {""})
    # "o'clock" would become the number 0.
    scored = normalizer("whisper-english")(re.sub(r"(?i)\bo['’`]clock\b", "oclock", text))
    return frozenset({key, scored} - {""})


@cache
def _needless_space() -> Any:
    import regex

    return regex.compile(rf"(?<={SPACELESS_LETTER}) | (?={SPACELESS_LETTER})")


def _letter(character: str) -> str:
    if character in LEFT_OUT:
        return ""
    return " " if unicodedata.category(character)[0] in "PZSC" else character


def split_by_speaker(manifest: Manifest, dev: float = 0.1, test: float = 0.2, seed: int = 0) -> Manifest:
    """Give every row a split so that no speaker is in two.

    Args:
        manifest: any split its rows have is replaced.
        dev, test: shares of the speakers, each at least one speaker unless 0.
        seed: another seed, another choice.

    Raises:
        SpeechftError: a row has no speaker, or there are fewer speakers than splits.
    """
    refuse_nameless(manifest)
    keys = {u.id: u.speaker for u in manifest}
    return _split(manifest, keys, dict.fromkeys(keys.values(), 1), {"test": test, "dev": dev}, seed, "speakers")


def refuse_nameless(manifest: Manifest) -> None:
    """Raises SpeechftError where a row has no speaker: it may be of any, and so in two parts at once."""
    bare = [u for u in manifest if not u.speaker]
    if bare:
        count = "no row has" if len(bare) == len(manifest) else f"{len(bare)} of {len(manifest)} rows do not have"
        what = f"{count} a 'speaker', so speakers cannot be separated; this row is the first"
        fix = "Give every row its speaker, or split by sentence (prompt-disjoint)."
        raise SpeechftError(what, where=bare[0].where, fix=fix)


def split_by_prompt(manifest: Manifest, dev: float = 0.1, test: float = 0.2, seed: int = 0) -> Manifest:
    """Give every row a split so that no sentence is in two: the split for one voice.

    Rows are one sentence when their texts are equal (see `sentence_keys`), or their `prompt_id` is.

    Args:
        manifest: any split its rows have is replaced.
        dev, test: shares of the rows, each at least one sentence unless 0.
        seed: another seed, another choice.

    Raises:
        SpeechftError: there are fewer sentences than splits.
    """
    keys = _sentences(manifest)
    return _split(manifest, keys, Counter(keys.values()), {"test": test, "dev": dev}, seed, "sentences")


def split_by_session(manifest: Manifest, dev: float = 0.1, test: float = 0.2, seed: int = 0) -> Manifest:
    """Give every row a split so that no recording session (of one speaker) is in two; shares are of the rows.

    Raises:
        SpeechftError: a row has no session, or there are fewer sessions than splits.
    """
    bare = next((u for u in manifest if not u.session), None)
    if bare:
        raise SpeechftError("the row has no 'session'", where=bare.where, fix="Give every row its session.")
    keys = {u.id: session_of(u) for u in manifest}
    return _split(manifest, keys, Counter(keys.values()), {"test": test, "dev": dev}, seed, "sessions")


def session_of(utterance: Utterance) -> str:
    return f"{utterance.speaker}/{utterance.session}" if utterance.session else ""


def auto_split(manifest: Manifest, dev: float = 0.1, test: float = 0.2, seed: int = 0) -> Manifest:
    """Complete the splits, and leave those that rows already have.

    With no splits at all, by speaker where there are `ENOUGH_SPEAKERS`, else by sentence; dev then has `LEAST_DEV`
    rows, or a fifth of all if that is less, and test `LEAST_TEST` if there are `FEW` or more. Where only dev is
    missing, it is carved out of train by the same rule. A row without a split among rows that have one joins
    the split that its speaker or sentence is in, so that new recordings can be added to a corpus that is
    split already. "validation" and the like are renamed "dev".

    Raises:
        SpeechftError: too few speakers or sentences for the splits that are missing, or rows without a speaker where
            they are split by it; or every row is marked `unused`.
    """
    manifest = usual_splits(manifest)
    used = without_unused(manifest)
    if len(used) < len(manifest):
        return _with_splits(manifest, {u.id: u.split for u in auto_split(used, dev, test, seed)})
    present = set(manifest.splits)
    open_rows = Manifest((u for u in manifest if not u.split), manifest.path)
    if not present and _by_speaker(manifest):
        return split_by_speaker(manifest, dev, test, seed)
    if not present:
        few = min(0.2, LEAST_DEV / max(1, len(manifest)))  # thirty recordings need more than three to choose by
        least = LEAST_TEST / len(manifest) if len(manifest) >= FEW else 0.0
        return split_by_prompt(manifest, max(dev, few) if dev else dev, max(test, least) if test else test, seed)
    if open_rows:
        manifest = _join(manifest, {"test": test if "test" in present else 0.0, "dev": dev}, seed)
    if "dev" in manifest.splits or dev <= 0:
        return manifest
    rest = manifest.split("train")
    if len(rest.speakers) >= ENOUGH_SPEAKERS and _by_speaker(manifest):
        carved = split_by_speaker(rest, dev, 0.0, seed)
    else:
        carved = split_by_prompt(rest, dev, 0.0, seed)
    new = {u.id: u.split for u in carved}
    return _with_splits(manifest, new)


def without_unused(manifest: Manifest) -> Manifest:
    """The rows that no protocol left aside.

    Raises:
        SpeechftError: every row is marked `unused`.
    """
    used = manifest.filter(lambda u: usual_name(u.split or "") != UNUSED)
    if len(manifest) and not len(used):
        fix = "Give some another split, or none, so that they are split by themselves."
        raise SpeechftError("every row is marked 'unused'", where=manifest.path, fix=fix)
    return used


def usual_splits(manifest: Manifest) -> Manifest:
    """Splits by the names used here, see `usual_names`."""
    names = usual_names(manifest.splits)
    if all(name == usual for name, usual in names.items()):
        return manifest
    return Manifest((replace(u, split=names[u.split]) if u.split else u for u in manifest), manifest.path)


def usual_names(splits: Iterable[str]) -> dict[str, str]:
    """What the splits of one manifest are called here: `usual_name`, but for "eval" beside a dev.

    Of train and eval the latter is what the best state is chosen by; beside a dev, as in Kaldi's recipes, it is tested.
    """
    names = {name: usual_name(name) for name in splits}
    evals = {name for name in names if name.strip().casefold() == "eval"}
    others = {usual for name, usual in names.items() if name not in evals}
    return names | dict.fromkeys(evals, "test") if "dev" in others else names


def meant_split(split: str, splits: Sequence[str]) -> str:
    """Which split of a manifest somebody means by a name, as `usual_splits` calls it; the name itself if none.

    Args:
        split: what was asked for.
        splits: the manifest's own names.
    """
    meant = (usual_names([*splits, split])[split], usual_name(split))
    return next((name for name in meant if name in usual_names(splits).values()), split)


def usual_name(split: str) -> str:
    """`train`, `dev`, `test` or `unused` for "Train", "TEST", "validation" and the like; other names as they are."""
    return USUAL_NAMES.get(split.strip().casefold(), split)


def _by_speaker(manifest: Manifest) -> bool:
    """Whether to split by speaker: there are enough, and no speaker has rows in two splits already."""
    homes = {(u.speaker, u.split) for u in manifest if u.split and u.speaker}
    one_home_each = len(homes) == len({speaker for speaker, _ in homes})
    return len(manifest.speakers) >= ENOUGH_SPEAKERS and one_home_each


def _join(manifest: Manifest, shares: Mapping[str, float], seed: int) -> Manifest:
    """Rows without a split join the one their speaker or sentence is in; new groups fill the shares."""
    keys = {u.id: u.speaker for u in manifest} if _by_speaker(manifest) else _sentences(manifest)
    home: dict[str, str] = {}
    for name in ("train", "dev", "test"):  # the last wins: what is in test must not be trained on
        home |= {keys[u.id]: name for u in manifest if u.split == name}
    weights = Counter(keys.values())
    done = Counter(u.split for u in manifest if u.split)
    new = {key: weight for key, weight in weights.items() if key not in home}
    targets = {name: share * len(manifest) - done[name] for name, share in shares.items()}
    home |= _choose(new, targets, seed, at_least_one=False)
    return _with_splits(manifest, {u.id: home.get(keys[u.id], "train") for u in manifest if not u.split})


def _split(
    manifest: Manifest,
    keys: Mapping[str, str],
    weights: Mapping[str, int],
    shares: Mapping[str, float],
    seed: int,
    things: str,
) -> Manifest:
    if not all(0 <= share < 1 for share in shares.values()) or sum(shares.values()) >= 1:  # also for NaN
        fix = "Each is 0 or more, and they add up to under 1."
        raise SpeechftError(f"the shares {dict(shares)} leave nothing to train on, or are not shares", fix=fix)
    shares = {name: share for name, share in shares.items() if share > 0}
    if len(weights) <= len(shares):
        raise SpeechftError(
            f"{len(weights)} different {things} cannot fill the parts {', '.join(['train', *sorted(shares)])}",
            where=manifest.path,
            fix=f"Record more {things}, or give each row its 'split'.",
        )
    total = sum(weights.values())
    chosen = _choose(weights, {name: share * total for name, share in shares.items()}, seed, at_least_one=True)
    return _with_splits(manifest, {u.id: chosen.get(keys[u.id], "train") for u in manifest})


def _choose(weights: Mapping[str, int], targets: Mapping[str, float], seed: int, at_least_one: bool) -> dict[str, str]:
    """The groups of each part, taken in the order of their hashes while they bring it nearer its target.

    One group is left for training whatever the targets; with `at_least_one`, one for each part to come too.
    """
    order = sorted(weights, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    chosen: dict[str, str] = {}
    for part, (name, target) in enumerate(targets.items(), 1):
        most = len(order) - 1 - (len(targets) - part if at_least_one else 0)  # groups chosen by now
        left, taken = target, False
        for key in order:
            if key not in chosen and len(chosen) < most and weights[key] / 2 <= left:
                chosen[key], left, taken = name, left - weights[key], True
        if not taken and at_least_one:
            chosen[min((key for key in order if key not in chosen), key=weights.__getitem__)] = name
    return chosen


def _with_splits(manifest: Manifest, splits: Mapping[str, str | None]) -> Manifest:
    return Manifest((replace(u, split=splits.get(u.id, u.split)) for u in manifest), manifest.path)


def _sentences(manifest: Manifest) -> dict[str, str]:
    """Id of each row to the name of its sentence: the smallest of the texts that its prompt or text link."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    first = {}
    for u in manifest:
        text = sentence_key(u.text)
        marks = [f"text {text}"] if text else []
        marks += [f"prompt {u.prompt_id}"] if u.prompt_id else []
        marks += [f"also {key}" for key in sorted(sentence_keys(u))]  # sorts first, so it links and never names
        marks = marks or [f"row {u.id}"]  # clips in which nobody speaks are not one sentence
        first[u.id] = marks[0]
        for mark in marks:
            one, other = root(marks[0]), root(mark)
            # Text sorts after prompt: the text names the group, as a prompt's number may change.
            parent[min(one, other)] = max(one, other)
    return {id_: root(mark) for id_, mark in first.items()}
