"""Which rows are trained on and which are tested: the protocols that papers use, and the honest ones beside them.

A protocol gives every row of a manifest a split. Rows that it leaves aside become `unused`, which nothing trains or
tests on, so that no row is lost without a word. What the parts then share is told by `speechft.overlap.overlap`: the
protocols of the corpora leak by design (TORGO's speakers read the same prompts, UA-Speech repeats its common words in
every block), so numbers under them are comparable with the literature and flatter what a new speaker would see.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance, probe_duration
from speechft.split import (
    UNUSED,
    name_key,
    refuse_nameless,
    sentence_keys,
    split_by_prompt,
    split_by_session,
    split_by_speaker,
    usual_splits,
)

ROUNDING = 1e-3  # seconds: a sum of lengths may miss the minutes it was asked for by as little
TORGO_SPEAKER = re.compile(r"[FM]C?\d\d")  # F01 has dysarthria, FC01 is a control
UASPEECH_SPEAKER = re.compile(r"(C?)[FM]\d\d")  # M04 has dysarthria, CM04 is a control
UASPEECH_BLOCKS = ("B1", "B2", "B3")


def protocol(manifest: Manifest, name: str, **options: Any) -> Manifest:
    """Give every row the split that a named protocol puts it in.

    Args:
        manifest: its own splits are replaced, except by `official` and `low-resource`, which build upon them.
        name: one of `PROTOCOLS`.
        options: those of the protocol's function; see each.

    Raises:
        SpeechftError: no such protocol or option, or the manifest does not fit the protocol.
    """
    function = PROTOCOLS.get(name)
    if function is None:
        raise SpeechftError(f"unknown protocol '{name}'", fix=f"Use one of {', '.join(PROTOCOLS)}.")
    known = list(inspect.signature(function).parameters)[1:]
    for option in options:
        if option not in known:
            raise SpeechftError(f"the protocol {name} has no option '{option}'", fix=f"It has {', '.join(known)}.")
    if not len(manifest):
        raise SpeechftError(
            "holds no utterances to split", where=manifest.path, fix="Name a manifest that holds utterances."
        )
    return function(manifest, **options)


def leave_one_speaker_out(
    manifest: Manifest, speaker: str = "", unseen_prompts: bool = False, dev: float = 0.1, seed: int = 0
) -> Manifest:
    """Test on one speaker, train on all others; run it once for each speaker.

    Args:
        speaker: who is tested.
        unseen_prompts: also keep sentences apart. A fifth of them is tested, in this speaker's rows only; the others
            are trained on, in the other speakers' rows only; what falls between is unused.
        dev: share of the training rows, by sentence, that chooses the best state; every other speaker is in it.
        seed: chooses the sentences.

    Raises:
        SpeechftError: no such speaker, nobody else to train on, or a row that has no speaker and may be this one's.
    """
    who = ", ".join(manifest.speakers[:20]) or "nobody: its rows have no 'speaker'"
    if not speaker:
        raise SpeechftError("leave-one-speaker-out needs the speaker to test on", fix=f"Give one of {who}.")
    if speaker not in manifest.speakers:
        raise SpeechftError(f"no speaker '{speaker}'", where=manifest.path, fix=f"The manifest has {who}.")
    if len(manifest.speakers) < 2:
        fix = "Use prompt-disjoint, which splits one voice by sentence."
        raise SpeechftError(
            f"nobody but '{speaker}' speaks, so nobody is left to train on", where=manifest.path, fix=fix
        )
    refuse_nameless(manifest)
    tested = {u.id for u in split_by_prompt(manifest, 0.0, 0.2, seed).split("test")} if unseen_prompts else set()

    def part(u: Utterance) -> str:
        mine = u.speaker == speaker
        if unseen_prompts and mine != (u.id in tested):
            return UNUSED
        return "test" if mine else "train"

    return _carve_dev(_relabelled(manifest, part), dev, seed)


def torgo(
    manifest: Manifest, speaker: str = "", unseen_prompts: bool = False, dev: float = 0.1, seed: int = 0
) -> Manifest:
    """`leave_one_speaker_out` on TORGO, the protocol of most papers on it (Espana-Bonet and Fonollosa, 2016).

    Its speakers read the same prompts, so without `unseen_prompts` nearly every test sentence is trained on.
    """
    _needs_speakers(manifest, TORGO_SPEAKER, "TORGO", "F01 or MC02")
    return leave_one_speaker_out(manifest, speaker, unseen_prompts, dev, seed)


def uaspeech(
    manifest: Manifest, speaker: str = "", unseen_prompts: bool = False, dev: float = 0.0, seed: int = 0
) -> Manifest:
    """UA-Speech: blocks B1 and B3 are trained on, and B2 of the speakers with dysarthria is tested.

    B2 of the controls is unused. The 155 common words are in all blocks, only the uncommon words differ (Kim et al.,
    2008), so most of the test words are trained on.

    Args:
        speaker: train and test on this one alone; all speakers unless given.
        unseen_prompts: test only words that B1 and B3 do not have.
        dev: share of B1 and B3, by word, that chooses the best state. It takes words out of training; 0, as in the
            papers, leaves that choice to `speechft train`, which carves its own.
        seed: chooses the words of dev.
    """
    _needs_speakers(manifest, UASPEECH_SPEAKER, "UA-Speech", "M04 or CF02")
    for u in manifest:
        if u.session not in UASPEECH_BLOCKS:
            what = f"session {u.session!r} is not a block of UA-Speech"
            raise SpeechftError(what, where=u.where, fix="Its sessions are B1, B2 and B3; prepare it with uaspeech.")
    if speaker and speaker not in manifest.speakers:
        who = ", ".join(manifest.speakers[:30])
        raise SpeechftError(f"no speaker '{speaker}'", where=manifest.path, fix=f"The manifest has {who}.")
    trained = {mark for u in manifest if u.session != "B2" and speaker in ("", u.speaker) for mark in _marks(u)}

    def part(u: Utterance) -> str:
        if speaker not in ("", u.speaker):
            return UNUSED
        if u.session != "B2":
            return "train"
        control = u.speaker.startswith("C") and speaker != u.speaker
        return UNUSED if control or (unseen_prompts and not trained.isdisjoint(_marks(u))) else "test"

    return _carve_dev(_relabelled(manifest, part), dev, seed)


def official(manifest: Manifest) -> Manifest:
    """The split the corpus came with, unchanged, as speechocean762, LibriSpeech and Common Voice have one.

    Names are those of `split.usual_name`: `validation` and the like are called `dev`.

    Raises:
        SpeechftError: rows without a split, nothing to train on, or nothing held out.
    """
    bare = [u for u in manifest if not u.split]
    if bare:
        what = f"{len(bare)} of {len(manifest)} rows have no split, so the corpus did not come with one"
        fix = "Use speaker-disjoint or prompt-disjoint, which make one."
        raise SpeechftError(what, where=bare[0].where, fix=fix)
    return _with_train_and_held_out(usual_splits(manifest))


def speaker_and_prompt_disjoint(manifest: Manifest, dev: float = 0.2, test: float = 0.3, seed: int = 0) -> Manifest:
    """No speaker and no sentence in two parts: what a new person saying something new would see.

    Speakers are split by these shares, and so are sentences; a row whose two parts differ is unused, so the parts hold
    about the squares of the shares.
    """
    speakers = split_by_speaker(manifest, dev, test, seed)
    sentences = {u.id: u.split for u in split_by_prompt(manifest, dev, test, seed)}
    done = _relabelled(speakers, lambda u: str(u.split) if u.split == sentences[u.id] else UNUSED)
    empty = {name for name, share in (("train", 1.0), ("dev", dev), ("test", test)) if share > 0} - set(done.splits)
    if empty:
        what = f"no row is left for {' and '.join(sorted(empty))}: speakers and sentences cannot both be separated"
        raise SpeechftError(
            what, where=manifest.path, fix="Try larger shares or another seed, or use speaker-disjoint."
        )
    return done


def low_resource(manifest: Manifest, minutes: float = 0.0) -> Manifest:
    """The first minutes of train; dev and test stay as they are, the rest of train is unused.

    Of several speakers, each in turn gives the next row, in the order of the manifest, so that all are heard early.

    Args:
        manifest: with splits.
        minutes: to be trained on at most; a row that would pass them is left, and so is all after it.

    Raises:
        SpeechftError: no splits yet, or train holds less than that.
    """
    if not minutes > 0:  # also true for NaN
        raise SpeechftError("low-resource needs the minutes to train on", fix="Give minutes above 0, such as 10.")
    manifest = _with_train_and_held_out(usual_splits(manifest))
    train = manifest.split("train")
    turns: dict[str, int] = defaultdict(int)
    order: list[tuple[int, Utterance]] = []
    for u in train:
        order.append((turns[u.speaker], u))
        turns[u.speaker] += 1
    order.sort(key=lambda turn: turn[0])  # stable: within a turn, as in the manifest
    kept: set[str] = set()
    seconds, most = 0.0, minutes * 60
    for _, u in order:
        seconds += u.seconds if u.seconds is not None else probe_duration(u)
        if seconds > most + ROUNDING:
            break
        kept.add(u.id)
    else:
        if seconds < most - ROUNDING:
            what = f"train holds {seconds / 60:.1f} minutes, fewer than the {minutes:g} asked for"
            raise SpeechftError(what, where=manifest.path, fix="Ask for fewer minutes.")
    if not kept:
        what = f"not one row of train fits into {minutes:g} minutes"
        raise SpeechftError(what, where=manifest.path, fix="Ask for more minutes.")
    return _relabelled(manifest, lambda u: UNUSED if u.split == "train" and u.id not in kept else u.split)


PROTOCOLS: dict[str, Callable[..., Manifest]] = {
    "torgo": torgo,
    "uaspeech": uaspeech,
    "official": official,
    "leave-one-speaker-out": leave_one_speaker_out,
    "speaker-disjoint": split_by_speaker,
    "prompt-disjoint": split_by_prompt,
    "session-disjoint": split_by_session,
    "speaker-and-prompt-disjoint": speaker_and_prompt_disjoint,
    "low-resource": low_resource,
}


def _relabelled(manifest: Manifest, part: Callable[[Utterance], str | None]) -> Manifest:
    return Manifest((replace(u, split=part(u)) for u in manifest), manifest.path)


def _carve_dev(manifest: Manifest, dev: float, seed: int) -> Manifest:
    """Part of train, by sentence, made dev; train and test must have rows."""
    manifest = _with_train_and_held_out(manifest)
    if dev <= 0:
        return manifest
    chosen = {u.id for u in split_by_prompt(manifest.split("train"), dev, 0.0, seed).split("dev")}
    return _relabelled(manifest, lambda u: "dev" if u.id in chosen else u.split)


def _with_train_and_held_out(manifest: Manifest) -> Manifest:
    """The same, if there is something to train on and something to test on."""
    if "train" not in manifest.splits:
        raise SpeechftError("no row is left to train on", where=manifest.path, fix="Split the manifest first.")
    if not {"dev", "test"} & set(manifest.splits):
        raise SpeechftError("no row is held out as dev or test", where=manifest.path, fix="Is a part missing?")
    return manifest


def _needs_speakers(manifest: Manifest, pattern: re.Pattern[str], corpus: str, such_as: str) -> None:
    for u in manifest:
        if not pattern.fullmatch(u.speaker):
            what = f"speaker '{u.speaker}' is none of {corpus}'s, which have names such as {such_as}"
            fix = "This protocol is for that corpus only; leave-one-speaker-out and the -disjoint protocols fit any."
            raise SpeechftError(what, where=u.where, fix=fix)


def _marks(u: Utterance) -> set[str]:
    """What tells a word: its text, as `split.sentence_keys` compares it, and its prompt's name where it has one."""
    return {f"text {key}" for key in sentence_keys(u)} | ({f"prompt {name_key(u.prompt_id)}"} if u.prompt_id else set())
