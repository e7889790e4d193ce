"""A split as a file of its own: which row is in which part, by which protocol, and what the parts share.

Plain JSON that can be read, compared and published beside a paper: it holds ids and hashes, no texts and no sound. It
belongs to one manifest and refuses any other, so "the same split" means the same rows.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechft.check import usable
from speechft.errors import SpeechftError
from speechft.files import read_text, write_text
from speechft.locks import locked_beside
from speechft.manifest import Manifest, Problem, Utterance
from speechft.overlap import overlap
from speechft.protocols import PROTOCOLS, protocol

SPLIT_FORMAT = 1
PARTS = ("train", "dev", "test")  # in this order, then others by name
NAMED_IDS = 5  # how many ids of each kind an error names
HASHED = ("text", "speaker", "session", "prompt_id", "start_s", "end_s")  # what a split rests on, beside the recording


def write_split(
    manifest: Manifest, out: str | Path, name: str, base: str | Path | None = None, **options: Any
) -> dict[str, Any]:
    """Split a manifest by a protocol and write the result.

    Args:
        manifest: every row right; durations are read from file headers where it does not state them.
        out: the file, by custom ending in .split.json.
        name, options: see `speechft.protocols.protocol`.
        base: another split file of this manifest to start from; only `low-resource` and `official` build on splits.

    Returns:
        what the file holds: `format`, `speechft` (version), `protocol`, `options` (defaults included), `base` (hash of
        that file), `manifest_sha256`, `parts` (rows and minutes of each), `overlap` (a sentence), `leakage` (see
        `speechft.overlap.Overlap.to_dict`), `splits` (id to part), `rows` (id to a hash of what the split rests on),
        and `sha256`, of all this but the version.

    Raises:
        SpeechftError: the manifest does not fit the protocol, or not the base; or `out` is another file than a split's.
    """
    if manifest.path and Path(out).resolve() == manifest.path.resolve():
        raise SpeechftError("is the manifest itself", where=out, fix="Name another file for the split.")
    with locked_beside(Path(out)):
        return _written(manifest, Path(out), name, base, options)


def _written(
    manifest: Manifest, out: Path, name: str, base: str | Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    """What `write_split` does once nobody else writes the file; arguments and result as there."""
    if out.is_file():
        _refuse_foreign(out)
    start = apply_split(manifest, base) if base else manifest
    done = protocol(start, name, **options)
    shared = overlap(done)
    bound = inspect.signature(PROTOCOLS[name]).bind(done, **options)
    bound.apply_defaults()
    content: dict[str, Any] = {
        "format": SPLIT_FORMAT,
        "speechft": importlib.metadata.version("speechft"),
        "protocol": name,
        "options": {key: value for key, value in bound.arguments.items() if key != "manifest"},
        "base": read_split(base)["sha256"] if base else None,
        "manifest_sha256": manifest.sha256,
        "parts": {
            part: {"rows": len(done.split(part)), "minutes": round(done.split(part).seconds / 60, 2)}
            for part in sorted(done.splits, key=lambda name: (PARTS.index(name) if name in PARTS else 9, name))
        },
        "overlap": str(shared),
        "leakage": shared.to_dict(),
        "splits": {u.id: u.split for u in done},
        "rows": {u.id: _row_hash(u, manifest.path) for u in manifest},
    }
    content["sha256"] = _content_hash(content)
    write_text(out, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return content


def _refuse_foreign(out: Path) -> None:
    """Raises SpeechftError for a file that is no split file as `write_split` left it."""
    try:
        read_split(out)
    except SpeechftError as error:
        raise SpeechftError(
            f"exists already, and would be overwritten: {error.what}", where=out,
            fix="Name another file for the split, or move it away.",
        ) from None  # fmt: skip


def read_split(path: str | Path) -> dict[str, Any]:
    """What a split file holds; see `write_split`.

    Raises:
        SpeechftError: no such file, not a split file, one of a newer format, or one that was changed by hand.
    """
    fix = "Make it with 'speechft split MANIFEST PROTOCOL OUT'."
    try:
        content = json.loads(read_text(Path(path)))
    except FileNotFoundError:
        raise SpeechftError("the split file does not exist", where=path, fix=fix) from None
    except (OSError, ValueError, RecursionError):
        raise SpeechftError("the split file is not readable as JSON", where=path, fix=fix) from None
    if not isinstance(content, dict) or not {"format", "sha256", "protocol", "splits", "rows"} <= content.keys():
        raise SpeechftError("is not a split file", where=path, fix=fix)
    if content["format"] != SPLIT_FORMAT:
        what = f"is a split file of format {content['format']}, and this version reads format {SPLIT_FORMAT}"
        raise SpeechftError(what, where=path, fix="Use the version of speechft that it names.")
    if content["sha256"] != _content_hash(content):
        what = "the split file does not match its own hash: it was edited, or damaged on the way"
        raise SpeechftError(what, where=path, fix="Fetch it again, or make a new one; edit the manifest instead.")
    return content


def apply_split(manifest: Manifest, path: str | Path) -> Manifest:
    """Give every row of a manifest the part that a split file puts it in; its own splits are replaced.

    Args:
        manifest: the rows that the split was made of, in any order; fields that a split does not rest on (severity,
            duration, ...) may have changed.

    Raises:
        SpeechftError: rows are missing, new, or changed in recording, text, speaker, session, prompt or times; the ids
            are named.
    """
    content = read_split(path)
    rows: Mapping[str, str] = content["rows"]
    here = {u.id: _row_hash(u, manifest.path) for u in manifest}
    found = {
        "missing": [id_ for id_ in rows if id_ not in here],
        "new": [id_ for id_ in here if id_ not in rows],
        "changed": [id_ for id_ in here if id_ in rows and rows[id_] != here[id_]],
    }
    if any(found.values()):
        said = "; ".join(f"{len(ids)} {kind} ({_named(ids)})" for kind, ids in found.items() if ids)
        fix = "Use the manifest that it was made of, or make a new split file and say that it is another split."
        raise SpeechftError(f"the manifest is not the one this split was made of: {said}", where=path, fix=fix)
    return Manifest((replace(u, split=content["splits"][u.id]) for u in manifest), manifest.path)


def usable_rows(
    source: str | Path | Manifest, split_file: str | Path | None, allow_outside: bool, pieces: bool = False
) -> tuple[Manifest, list[Problem]]:
    """`speechft.check.usable`, after a split file has given every row its part."""
    if not split_file:
        return usable(source, allow_outside, pieces=pieces)
    manifest, problems = (source, []) if isinstance(source, Manifest) else Manifest.read(source, allow_outside)
    manifest, more = usable(apply_split(manifest, split_file), pieces=pieces)
    return manifest, problems + more


def about_split(path: str | Path) -> dict[str, Any]:
    """What a result says of the split file that it rests on."""
    content = read_split(path)
    return {key: content[key] for key in ("protocol", "options", "base", "sha256")}


def _row_hash(u: Utterance, manifest: Path | None) -> str:
    """The same wherever the corpus lies: a recording outside the manifest's folder counts by its name."""
    row = u.to_row(manifest.parent.resolve() if manifest else None)
    audio = u.audio.name if u.audio.is_absolute() and row["audio"] == u.audio.as_posix() else row["audio"]
    values = [audio, *(row.get(field) for field in HASHED)]
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).hexdigest()[:16]


def _content_hash(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key not in ("sha256", "speechft")}
    return hashlib.sha256(json.dumps(rest, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - NAMED_IDS} more" if len(ids) > NAMED_IDS else ""
    return ", ".join(ids[:NAMED_IDS]) + more
