"""Varied copies of a manifest's recordings: written beside it and marked synthetic, or as a page to listen to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from speechft.audio import SAMPLE_RATE, encoded, write_audio
from speechft.augment_audio import EFFECTS, NONE_GIVEN, unclipped, vary
from speechft.check import usable
from speechft.corpora.copies import Copies
from speechft.corpora.prepared import refuse_changed, save_prepared
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.files import safe_name, write_text
from speechft.left_out import tell_errors
from speechft.locks import DATA, locked
from speechft.manifest import Manifest, Utterance
from speechft.own_results import refuse_foreign_file
from speechft.split import auto_split, meant_split, usual_names

LISTEN_CLIPS = 3
TITLE = "Variations to listen to"  # by which the page is known as ours
EXAMPLES = "[0-9]-[0-9][0-9]-*.wav"  # what `_examples` calls them
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 0 auto; padding: 1rem; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: left; padding: .3rem .5rem .3rem 0; }}
audio {{ width: 100%; min-width: 9rem; }} th {{ font-weight: 400; }} .n {{ white-space: nowrap; }}
</style></head><body><main><h1>{title}</h1>
<p>Each recording as it is, then each effect at the two ends of its range, or as asked for.
What is made here is synthetic.</p>
{body}</main></body></html>
"""


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The effects' names. Raises SpeechftError for an unknown one."""
    unknown = [kind for kind in kinds if kind not in EFFECTS]
    if unknown:
        raise SpeechftError(f"unknown effect '{unknown[0]}'", fix=f"There are {', '.join(EFFECTS)}.")
    return tuple(kinds)


def check_amounts(amounts: Mapping[str, float], kinds: Sequence[str]) -> None:
    """Raises SpeechftError for an amount that its effect cannot have, or of an effect that is not asked for."""
    for kind, amount in amounts.items():
        if kind not in kinds:
            raise SpeechftError(f"an amount for '{kind}', which is not asked for", fix=f"Add --kind {kind}.")
        low, high = EFFECTS[kind].possible
        if not low <= amount <= high:
            unit = EFFECTS[kind].unit
            raise SpeechftError(f"{kind}={amount:g} is not possible", fix=f"Give {low:g} to {high:g} ({unit}).")


def augment_manifest(
    manifest: str | Path | Manifest,
    out: str | Path,
    kinds: Sequence[str],
    *,
    copies: int = 1,
    together: bool = False,
    split: str = "train",
    seed: int = 0,
    amounts: Mapping[str, float] = NONE_GIVEN,
    allow_outside: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
    on_event: OnEvent = lambda event: None,
) -> Manifest:
    """Write varied copies of a split, and a manifest of the originals and the copies.

    Args:
        manifest: what to vary. Without splits it is split first, so that no copy of a training clip is tested on.
        out: a manifest to write; the copies go into a folder of its name, in `synthetic` beside it. Where it lies
            outside the folder of the originals, these are named by their absolute paths, which needs `--allow-outside`
            when it is read.
        kinds: names of effects, see `speechft.augment_audio.EFFECTS`.
        copies: of each clip and effect.
        together: one copy with all effects in their order, instead of one for each.
        split: whose clips are varied.
        seed: of the amounts and of what is random in an effect.
        amounts: for all clips alike, by kind, instead of ones that are drawn: `{"noise": 10.0}` is 10 dB.
        on_event: called with the rows that cannot be used, and why (`left out`); those that can be read at all stay
            in the manifest and are not varied.

    Returns:
        the manifest; copies have `"synthetic": true`, `synthetic_from` (an id), `augmentation` and its `amounts`.

    Raises:
        SpeechftError: an unknown effect or impossible amount, no clip in the split, or a recording that cannot be read;
            `out` is the manifest that is varied, or was changed by hand, or another run is writing beside it.
    """
    kinds = check_kinds(kinds)
    check_amounts(amounts, kinds)
    out = Path(out)
    source = manifest.path if isinstance(manifest, Manifest) else Path(manifest)
    if source and out.resolve() in (source.resolve(), (source / "manifest.jsonl").resolve()):
        raise SpeechftError("is the manifest that is varied", where=out, fix="Name another file with --out.")
    with locked(out.parent, DATA, keep=False):
        refuse_changed(out)
        varied_ids = None
        if not isinstance(manifest, Manifest):
            manifest, varied_ids = _originals(manifest, allow_outside, on_event)
        if not manifest.splits:
            manifest = auto_split(manifest, seed=seed)
        names = usual_names(manifest.splits)
        wanted = meant_split(split, manifest.splits)
        mine = [u for u in manifest if u.split and names[u.split] == wanted and not u.is_synthetic]
        chosen = [u for u in mine if varied_ids is None or u.id in varied_ids]
        if not chosen or not kinds or copies < 1:
            what = f"no recording in the split '{split}'" if not chosen else "no effect and no copy was asked for"
            raise SpeechftError(what, where=manifest.path, fix=f"Splits here: {', '.join(manifest.splits) or 'none'}.")
        written = Copies(out, f"synthetic/{out.stem}")  # another manifest here has copies with the same names
        sets = [kinds] if together else [(kind,) for kind in kinds]
        rows: list[Utterance] = []
        for done, utterance in enumerate(chosen, 1):
            samples = utterance.load()
            for effects in sets:
                for copy in range(copies):
                    varied, had = vary(samples, effects, seed, utterance.id, copy, amounts)
                    rows.append(_written(utterance, varied, had, written, copy))
            progress(done, len(chosen))
        written.save()
        return save_prepared(Manifest([*manifest, *rows], out))


def _originals(path: str | Path, allow_outside: bool, on_event: OnEvent) -> tuple[Manifest, set[str]]:
    """All rows that can be read, with their lengths where those are known, and the ids of the usable ones."""
    read, problems = Manifest.read(path, allow_outside)
    good, more = usable(read)
    tell_errors(on_event, (*problems, *more))
    lengths = {u.id: u for u in good}
    return Manifest((lengths.get(u.id, u) for u in read), read.path), set(lengths)


def _written(
    utterance: Utterance, samples: np.ndarray, amounts: dict[str, float], written: Copies, copy: int
) -> Utterance:
    """The row of one copy, whose recording is written first."""
    effects = "+".join(amounts)
    name = f"{utterance.id}~{effects}{f'-{copy + 1}' if copy else ''}"
    path = written.put(Path(f"{safe_name(name)}.flac"), encoded(samples, container="flac"))
    said = ", ".join(f"{kind} {amount:g}" for kind, amount in amounts.items())
    if "impairment" in amounts:  # what its speaker is rated as is not what is heard
        utterance = replace(utterance, severity=None, aetiology=None)
    return replace(
        utterance,
        id=name,
        audio=path,
        start_s=None,
        end_s=None,
        duration_s=len(samples) / SAMPLE_RATE,
        extra={
            **utterance.extra,
            "synthetic": True,
            "synthetic_from": utterance.id,
            "augmentation": effects,
            "amounts": said,
        },
    )


def listen(
    manifest: str | Path | Manifest,
    out: str | Path,
    kinds: Sequence[str] = (),
    *,
    clips: int = LISTEN_CLIPS,
    seed: int = 0,
    amounts: Mapping[str, float] = NONE_GIVEN,
    allow_outside: bool = False,
) -> Path:
    """Examples of every effect on a few recordings, with a page to play them.

    Args:
        manifest: the recordings.
        out: folder for index.html and the examples.
        kinds: effects; all unless given.
        clips: recordings, spread over the manifest.
        amounts: by kind, instead of both ends of its range.

    Returns:
        the path of index.html.
    """
    kinds = check_kinds(kinds or tuple(EFFECTS))
    check_amounts(amounts, kinds)
    if not isinstance(manifest, Manifest):
        manifest, _ = usable(manifest, allow_outside)
    if not len(manifest):
        raise SpeechftError("no recording to vary", where=manifest.path, fix="Name a manifest that holds some.")
    page = Path(out) / "index.html"
    with locked(page.parent, DATA, keep=False):
        refuse_foreign_file(page, TITLE)
        if not page.exists() and any(page.parent.glob(EXAMPLES)):
            raise SpeechftError("holds sounds like those to be written", where=out, fix="Name a new folder.")
        step = max(1, len(manifest) // clips)
        sections = ""
        for number, utterance in enumerate(manifest[::step][:clips], 1):
            write_text(page, PAGE.format(title=TITLE, body=sections))  # first: it says whose the sounds beside it are
            sections += _examples(utterance, number, page.parent, kinds, seed, amounts) + "\n"
        return write_text(page, PAGE.format(title=TITLE, body=sections.rstrip("\n")))


def _examples(
    utterance: Utterance, number: int, out: Path, kinds: Sequence[str], seed: int, amounts: Mapping[str, float]
) -> str:
    """One recording and its variations, written, as a section of the page."""
    samples = utterance.load()
    made = [("as recorded", "", samples)]
    for kind in kinds:
        effect = EFFECTS[kind]
        for amount in [amounts[kind]] if kind in amounts else effect.amounts:
            varied = effect.make(samples, amount, np.random.default_rng([seed, number]))
            made.append((kind.replace("_", " "), f"{amount:g} {effect.unit}", varied))
    rows = []
    for place, (name, size, varied) in enumerate(made):
        file = f"{number}-{place:02d}-{name.replace(' ', '_')}.wav"
        write_audio(out / file, unclipped(varied))
        label = escape(f"{name} {size}".strip(), quote=True)
        player = f'<audio controls preload="none" src="{file}" aria-label="{label}"></audio>'
        seconds = f"{len(varied) / SAMPLE_RATE:.1f} s"
        rows.append(f'<tr><th scope="row">{label}</th><td class="n">{seconds}</td><td>{player}</td></tr>')
    return f"<section><h2>{escape(utterance.text)}</h2><table>{''.join(rows)}</table></section>"
