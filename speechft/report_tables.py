"""The building blocks of the report's page: sections, tables, and which mark stands for which system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from speechft.report_data import Systems

UNNAMED = "not named"  # what stands for a speaker whose rows state none


def esc(value: object) -> str:
    return escape(str(value), quote=True)


def section(heading: str, *parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{esc(heading)}</h2>\n{body}\n</section>" if body else ""


def quiet(text: str) -> str:
    return f'<p class="quiet">{esc(text)}</p>'


def notices(texts: Iterable[str]) -> str:
    """What nobody may overlook, a box each."""
    return "".join(f'<p class="notice" role="note">{esc(text)}</p>' for text in texts)


class Number(str):
    """A cell of a table that is aligned as a number."""

    style = "n"


class Spare(Number):
    """One that a narrow screen leaves out."""

    style = "n spare"


class Axis(str):
    """The heading of a column of charts."""

    style = "plot"


def table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already."""

    def cell(text: str, tag: str, scope: str = "") -> str:
        style = f' class="{text.style}"' if isinstance(text, Number | Axis) else ""
        return f"<{tag}{scope}{style}>{text}</{tag}>"

    head = "".join(cell(heading, "th", ' scope="col"') for heading in headings)

    def line(row: Sequence[str]) -> str:
        return cell(row[0], "th", ' scope="row"') + "".join(cell(text, "td") for text in row[1:])

    body = "".join(f"<tr>{line(row)}</tr>" for row in rows)
    style = f' class="{kind}"' if kind else ""
    thead = f"<thead><tr>{head}</tr></thead>" if headings else ""
    return f'<div class="wide"><table{style}><caption>{caption}</caption>{thead}<tbody>{body}</tbody></table></div>'


def kinds(systems: Systems) -> list[str]:
    return ["before", "after"] if len(systems) == 2 else ["after"]


def columns(systems: Systems, alone: str) -> list[Number]:
    """Headings of one column of numbers a system; a single one is headed by what it counts."""
    return [Number(esc(name)) for name, _ in systems] if len(systems) > 1 else [Number(alone)]


def legend(systems: Systems) -> str:
    """What the marks of the charts mean, where there are two kinds."""
    if len(systems) < 2:
        return ""
    shown = []
    for kind, (name, _) in zip(kinds(systems), systems, strict=True):
        circle = f'<circle class="dot {kind}" cx="50%" cy="8" r="4.5"/>'
        shown.append(f'<span class="key"><svg height="16" aria-hidden="true">{circle}</svg></span>{esc(name)}')
    return f'<p class="quiet">{"&ensp;".join(shown)}</p>'
