"""The building blocks of the report's page: sections, tables, and which mark stands for which system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from speechft.report_charts import shape
from speechft.report_data import Systems

STACKED = "stacked"
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


class First(Number):
    """One that begins a line of its row where a phone stacks them."""

    style = "n first"


class Long(Number):
    """One of a column whose heading may be broken anywhere."""

    style = "n long"


class Axis(str):
    """The heading of a column of charts."""

    style = "plot"


def table(
    caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "", *, tall: bool = False
) -> str:
    """A table of cells that are HTML already.

    Args:
        kind: `measures`, `facts`, or `stacked`: on a phone each row is a block of values under their headings.
        tall: it scrolls in a box of its own, and is whole on paper.
    """
    stacked = kind == STACKED

    def role(name: str) -> str:
        """What a browser forgets of an element of a table that is not laid out as one."""
        return f' role="{name}"' if stacked else ""

    def cell(text: str, tag: str, more: str) -> str:
        style = f' class="{text.style}"' if isinstance(text, Number | Axis) else ""
        return f"<{tag}{more}{style}>{text}</{tag}>"

    def line(row: Sequence[str]) -> str:
        labels = [f' data-label="{heading}"' if stacked else "" for heading in headings[1:]] or [""] * len(row)
        values = (cell(text, "td", role("cell") + label) for text, label in zip(row[1:], labels, strict=False))
        return cell(row[0], "th", f' scope="row"{role("rowheader")}') + "".join(values)

    head = "".join(cell(heading, "th", f' scope="col"{role("columnheader")}') for heading in headings)
    body = "".join(f"<tr{role('row')}>{line(row)}</tr>" for row in rows)
    style = f' class="{kind}"' if kind else ""
    thead = f"<thead{role('rowgroup')}><tr{role('row')}>{head}</tr></thead>" if headings else ""
    box = f'wide tall" tabindex="0" role="group" aria-label="{caption}' if tall else "wide"
    return (
        f'<div class="{box}"><table{style}{role("table")}><caption>{caption}</caption>{thead}'
        f"<tbody{role('rowgroup')}>{body}</tbody></table></div>"
    )


def kinds(systems: Systems) -> list[str]:
    return ["before", "after"] if len(systems) == 2 else ["after"]


def columns(systems: Systems, alone: str) -> list[Number]:
    """Headings of one column of numbers a system; a single one is headed by what it counts."""
    return [Number(esc(name)) for name, _ in systems] if len(systems) > 1 else [Number(alone)]


def legend(systems: Systems) -> str:
    """What the marks of the charts mean, where there are two kinds."""
    if len(systems) < 2:
        return ""
    return keys(zip(kinds(systems), (name for name, _ in systems), strict=True))


def keys(marks: Iterable[tuple[str, str]]) -> str:
    """Kinds of mark, each with what it stands for."""
    shown = (
        f'<span class="key"><svg height="16" aria-hidden="true">{shape(kind, "50%", 8)}</svg></span>{esc(name)}'
        for kind, name in marks
    )
    return f'<p class="quiet">{"&ensp;".join(shown)}</p>'
