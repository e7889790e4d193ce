"""A data card of the user's own corpus: what can be counted is counted, and what cannot be known is left open.

A card is Markdown with front matter as the Hugging Face Hub reads it, and fields of ours that say who speaks, how the
severity was rated and what people agreed to. None of that stands in a manifest, so it is never guessed: each such field
says that it is yours to fill in, and stays as you wrote it when the card is made again. Neither names of speakers nor
texts come into it: cards are passed on, and those may not be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from speechft.card_charts import bars, histogram
from speechft.errors import SpeechftError
from speechft.files import read_text, write_text
from speechft.locks import locked_beside
from speechft.manifest import Manifest
from speechft.markdown import markdown_table
from speechft.normalize import normalizer, normalizer_of, splits, unit
from speechft.overlap import overlap
from speechft.protocols import PROTOCOLS
from speechft.split import sentence_key
from speechft.strict_yaml import parsed
from speechft.utterance import SIMULATED_NOTICE

NOT_GIVEN = "not given: to be filled in by you"
HUB_FIELDS = (
    *("pretty_name", "language", "license", "task_categories", "size_categories"),
    *("annotations_creators", "language_creators", "tags"),
)
OUR_FIELDS = (
    *("corpus", "prepare", "speakers", "hours", "disorder", "severity_scale", "severity_rated_by", "consent"),
    *("withdrawal", "license_url", "access", "redistribution", "standard_split", "protocols", "manifest_sha256"),
    "must_not_be_used_for",
)
OPTIONAL_FIELDS = ("license_name", "license_link", "notice", "utterances", "minutes")
LISTS = (
    *("language", "task_categories", "size_categories", "annotations_creators", "language_creators", "tags"),
    *("protocols", "must_not_be_used_for"),
)
SECTIONS = ("What it holds", "Pitfalls")
COUNTED = ("speakers", "utterances", "minutes", "hours", "size_categories", "manifest_sha256")
BEGIN, END = "<!-- counted by speechft card: begin -->", "<!-- counted by speechft card: end -->"
TABLES = ("severity", "aetiology", "gender", "language")  # groups whose names tell nothing about one person
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(
    manifest: Manifest, out: str | Path, facts: str | Path | None = None, groups: Iterable[str] = TABLES
) -> dict[str, Any]:
    """Write a card, with its plots as SVG files beside it.

    Args:
        manifest: recordings are read for their length, where it is not stated, and to find the same one in two splits.
        out: the card, ending in .md. What an earlier card there says beyond the counts is kept.
        facts: another card to take the facts from, such as that of the corpus in data_cards/.
        groups: fields to make a table of. Check that their values name nobody.

    Returns:
        the front matter.

    Raises:
        SpeechftError: the manifest is empty, or `facts` or an earlier `out` is no card.
    """
    out = Path(out)
    if not len(manifest):
        raise SpeechftError(
            "holds no utterances to describe", where=manifest.path, fix="Name a manifest that holds utterances."
        )
    if out.suffix != ".md":
        raise SpeechftError("a card is a Markdown file", where=out, fix="Give it a name that ends in .md.")
    with locked_beside(out):
        return _written(manifest, out, facts, groups)


def _written(manifest: Manifest, out: Path, facts: str | Path | None, groups: Iterable[str]) -> dict[str, Any]:
    """What `card` does once nobody else writes it; arguments and result as there."""
    checksum, manifest = manifest.sha256, manifest.with_durations()
    given, before, after = _open_card(manifest)
    unwritten = dict(given)
    if facts:
        given |= {key: value for key, value in read_card(facts)[0].items() if key not in COUNTED}
        after = f"\n\nFacts from the card of {given['pretty_name']}.{after}"
    if out.is_file():
        earlier, body = read_card(out)
        kept = {key: value for key, value in earlier.items() if key not in COUNTED}
        written = {key for key, value in kept.items() if not _is_open(value) and value != unwritten.get(key)}
        given |= {key: value for key, value in kept.items() if key in written or key not in given}
        if BEGIN not in body or END not in body:
            fix = "Give another file, or put the two comments back in."
            raise SpeechftError(f"is a card without the line {BEGIN}", where=out, fix=fix)
        before, after = body.split(BEGIN)[0].strip("\n"), body.split(END, 1)[1].rstrip()
    front = {key: given[key] for key in (*HUB_FIELDS, *OPTIONAL_FIELDS, *OUR_FIELDS) if key in given} | counts(manifest)
    front["manifest_sha256"] = checksum  # of the rows as they stand in the file
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=110)
    counted = statistics(manifest, out, groups)
    write_text(out, f"---\n{text}---\n\n{before}\n\n{BEGIN}\n\n{counted}\n\n{END}{after}\n")
    return front


def read_card(path: str | Path) -> tuple[dict[str, Any], str]:
    """Front matter and body of a card. Raises SpeechftError where the file is none."""
    try:
        _, front, body = read_text(Path(path)).split("---\n", 2)
        fields = parsed(front)
    except (OSError, ValueError, yaml.YAMLError):
        fields = None
    if not isinstance(fields, dict):
        raise SpeechftError("is not a data card", where=path, fix="A card is Markdown that begins with front matter.")
    return fields, body


def card_problems(fields: Mapping[str, Any], body: str) -> list[str]:
    """What is wrong with a card by our schema; a field that is left open is not wrong."""
    wanted = (*HUB_FIELDS, *OUR_FIELDS)
    found = [f"'{name}' is missing" for name in wanted if name not in fields]
    found += [f"unknown field '{name}'" for name in fields if name not in (*wanted, *OPTIONAL_FIELDS)]
    for name, value in fields.items():
        may_be_empty = name == "protocols"  # labels without recordings have none
        if name in LISTS and not (_is_open(value) or (isinstance(value, list) and (value or may_be_empty))):
            found.append(f"'{name}' is not a list with something in it")
        elif name not in LISTS and not isinstance(value, str | int | float):
            found.append(f"'{name}' is not a text or a number")
        elif isinstance(value, str) and not value.strip():
            found.append(f"'{name}' is empty")
    if (fields.get("license") == "other") != ("license_name" in fields):
        found.append("'license_name' must be given with license: other, and only then")
    protocols, banned = fields.get("protocols"), fields.get("must_not_be_used_for")
    if isinstance(protocols, list):
        found += [f"unknown protocol '{name}'" for name in protocols if name not in PROTOCOLS]
    if isinstance(banned, list) and "diagnos" not in " ".join(map(str, banned)):
        found.append("'must_not_be_used_for' does not name diagnosis")
    url = fields.get("license_url")
    if isinstance(url, str) and not (_is_open(url) or url.startswith(("https://", "http://", "unverified"))):
        found.append("'license_url' is neither an address nor 'unverified'")
    found += [f"there is no section '{name}'" for name in SECTIONS if f"\n## {name}" not in f"\n{body}"]
    return found


def counts(manifest: Manifest) -> dict[str, Any]:
    """The fields of the front matter that are counted."""
    size = next((name for most, name in SIZES if len(manifest) < most), "n>1M")
    minutes = manifest.seconds / 60
    return {
        "speakers": len(manifest.speakers),
        "utterances": len(manifest),
        "minutes": round(minutes, 1),
        "hours": round(minutes / 60, 2),
        "size_categories": [size],
    }


def statistics(manifest: Manifest, out: Path, groups: Iterable[str] = TABLES) -> str:
    """The counted part of a card as Markdown; writes its plots beside `out`."""
    lengths = sorted(u.seconds or 0.0 for u in manifest)
    name = normalizer_of(manifest, None)
    units, parted = unit(name), normalizer(name) if splits(name) else sentence_key
    found = [parted(u.text).split() for u in manifest]
    words, distinct = list(map(len, found)), {word for each in found for word in each}
    facts = [
        ("utterances", len(manifest)),
        ("minutes", f"{manifest.seconds / 60:.1f}"),
        ("speakers named", len(manifest.speakers)),
        ("rows without a speaker", sum(not u.speaker for u in manifest)),
        ("seconds per utterance: shortest, median, longest", _spread(lengths, ".1f")),
        (f"{units}: total, different", f"{sum(words)}, {len(distinct)}"),
        (f"{units} per utterance: fewest, median, most", _spread(sorted(words), "g")),
        ("different sentences", len({sentence_key(u.text) for u in manifest} - {""})),
        ("synthetic or simulated", sum(u.is_synthetic or u.is_simulated for u in manifest)),
    ]
    parts = ["## In numbers", markdown_table(("what", "how many"), facts).rstrip()]
    pictures = [("lengths", "seconds of an utterance", histogram([float(x) for x in lengths], "seconds"))]
    if any(words):
        pictures.append(("words", f"{units} of an utterance", histogram([float(x) for x in words], units)))
    if len(manifest.speakers) > 1:
        each = sorted(sum(u.seconds or 0.0 for u in manifest if u.speaker == s) / 60 for s in manifest.speakers)
        facts.append(("minutes per speaker: least, median, most", _spread(each, ".1f")))
        parts[1] = markdown_table(("what", "how many"), facts).rstrip()
        pictures.append(("speakers", "minutes of each speaker, fewest first", bars(each, "minutes")))
    for name, what, svg in pictures:
        write_text(out.with_name(f"{out.stem}-{name}.svg"), svg)
        parts.append(f"![{what}]({out.stem}-{name}.svg)")
    for group in dict.fromkeys(("split", *groups)):
        values = {u.group(group) for u in manifest}
        if values != {""}:
            parts += [f"### By {group}", _group_table(manifest, group, sorted(values))]
    pairs = overlap(manifest).pairs
    shared = [str(pair) for pair in pairs] or ["only one split" if manifest.splits else "no splits yet"]
    parts += ["### What the splits share", *(f"- {line}" for line in shared)]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").replace("share\n- ", "share\n\n- ")


def _open_card(manifest: Manifest) -> tuple[dict[str, Any], str, str]:
    """Front matter and body in which everything that a manifest cannot tell is left open."""
    given: dict[str, Any] = dict.fromkeys((*HUB_FIELDS, *OUR_FIELDS), NOT_GIVEN)
    languages = sorted({u.language for u in manifest if u.language})
    given |= {"language": languages} if languages else {}
    given |= {"task_categories": ["automatic-speech-recognition"]}
    given |= {"must_not_be_used_for": ["diagnosis, or telling severity or kind of a disorder", NOT_GIVEN]}
    if any(u.is_simulated for u in manifest):
        given["notice"] = SIMULATED_NOTICE
    before = f"# Data card\n\nWho speaks, why it was recorded, and by whom: {NOT_GIVEN}.\n\n## What it holds"
    after = f"\n\n## Pitfalls\n\nWhat misleads whoever does not know this corpus: {NOT_GIVEN}."
    return given, before, after


def _is_open(value: object) -> bool:
    return value == NOT_GIVEN


def _spread(values: Sequence[float], style: str) -> str:
    return ", ".join(format(value, style) for value in (values[0], median(values), values[-1]))


def _group_table(manifest: Manifest, group: str, values: Sequence[str]) -> str:
    rows = []
    for value in values:
        part = manifest.filter(lambda u, value=value: u.group(group) == value)  # type: ignore[misc]
        rows.append((value or "not stated", len(part), f"{part.seconds / 60:.1f}", len(part.speakers)))
    return markdown_table((group, "utterances", "minutes", "speakers"), rows).rstrip()
