"""Charts of the report as inline SVG that stretches with the page while its text keeps its size.

Positions across are percentages and positions down are pixels, so nothing needs a script, and a phone shows the same
chart as a wide screen. Colours come from the page's style sheet; shapes tell the series apart without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

EDGE = 2.0  # per cent kept free at either side, so that marks at the ends are whole
LEVELS = 10.0  # per cent kept free at the left of a curve for the numbers of its levels, on a phone too
WIDEST = 1.5  # a rate above it is drawn at the edge: one looping speaker must not squeeze all others
OFF = "›"  # beside a mark at the edge whose rate lies beyond it
CURVE_HEIGHT = 170  # pixels
LOSS_POINTS = 400  # more steps than this are averaged in groups

Interval = tuple[float | None, float | None] | list[float | None] | None


class Mark(NamedTuple):
    """One rate on a track.

    Attributes:
        kind: which shape it has; see `shape`.
        value: a fraction, or None where it does not exist.
        interval: its ends, or None.
    """

    kind: str
    value: float | None
    interval: Interval = None


def scale_end(values: Sequence[float | None]) -> float:
    """Where an axis from 0 ends: the next tenth, at least 0.1, at most `WIDEST`."""
    top = max((value for value in values if value is not None), default=0.1)
    return min(WIDEST, max(0.1, -(-round(top * 1000) // 100) / 10))


def shape(kind: str, x: str, y: float) -> str:
    """A mark at (x, y): a hollow circle (`before`), a filled one (`after`), a tick (`sure`) or a square (`share`)."""
    if kind == "sure":
        return f'<line class="dot sure" x1="{x}" x2="{x}" y1="{y - 8}" y2="{y + 8}"/>'
    if kind == "share":
        return f'<rect class="dot share" x="{x}" y="{y - 4}" width="8" height="8" transform="translate(-4)"/>'
    return f'<circle class="dot {kind}" cx="{x}" cy="{y}" r="4.5"/>'


def track(marks: Sequence[Mark], end: float) -> str:
    """A row of a table as a line from 0 to `end` with its marks, two of them joined.

    It repeats what the row says in numbers, so it is hidden from screen readers.
    """

    def at(value: float) -> str:
        return f"{EDGE + (100 - 2 * EDGE) * min(value, end) / end:.2f}%"

    # Two intervals on one line would hide each other.
    apart = len(marks) == 2 and any(mark.interval for mark in marks)
    middle = {mark.kind: 11 if not apart else 7 if mark.kind == "before" else 15 for mark in marks}
    parts = [f'<line class="rail" x1="{EDGE}%" x2="{100 - EDGE}%" y1="11" y2="11"/>']
    known = [mark for mark in marks if mark.value is not None]
    if len(known) == 2 and not apart:
        (one, two) = ((at(mark.value), middle[mark.kind]) for mark in known if mark.value is not None)
        parts.append(f'<line class="join" x1="{one[0]}" x2="{two[0]}" y1="{one[1]}" y2="{two[1]}"/>')
    for mark in known:
        y = middle[mark.kind]
        if mark.interval and None not in mark.interval:
            ends = [bound for bound in mark.interval if bound is not None]
            low, high = map(at, ends)
            parts.append(f'<line class="spread {mark.kind}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>')
            for bound in map(at, (bound for bound in ends if bound <= end)):  # no cap on what goes on beyond the edge
                parts.append(f'<line class="cap {mark.kind}" x1="{bound}" x2="{bound}" y1="{y - 4}" y2="{y + 4}"/>')
        parts.append(shape(mark.kind, at(mark.value or 0.0), y))
        if (mark.value or 0.0) > end:
            parts.append(f'<text class="off" x="100%" y="{y + 4}">{OFF}</text>')
    return f'<svg class="track" height="22" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'


def track_axis(end: float) -> str:
    """The heading of a column of tracks: 0, the middle, and the end of the scale."""
    middle = f"{end / 2:.0%}"
    ends = f"<span>0%</span><span>{middle}</span><span>{end:.0%}</span>"
    return f'<span class="vh">Chart</span><span class="axis" aria-hidden="true">{ends}</span>'


def curve(
    points: Sequence[tuple[float, float]],
    *,
    title: str,
    across: str,
    percent: bool,
    dots: bool,
    band: Sequence[tuple[float, float, float]] = (),
    best: tuple[float, float] | None = None,
) -> str:
    """A line over steps or minutes.

    Args:
        points: (x, y), in order of x.
        title, across: what is drawn, and what runs across.
        percent: whether y is a fraction to be written in per cent; the axis then starts at 0.
        dots: mark every point, for few points; else the line alone.
        band: (x, low, high) drawn behind the line.
        best: a point to circle.
    """
    if not points:
        return ""
    points = points if dots else averaged(points, LOSS_POINTS)
    x_end = max(x for x, _ in points) or 1.0
    y_all = [y for _, y in points] + [high for _, _, high in band]
    y_end = scale_end(y_all) if percent else (max(y_all) * 1.05 or 1.0)

    def x(value: float) -> float:
        return LEVELS + (100 - EDGE - LEVELS) * value / x_end

    def y(value: float) -> float:
        return CURVE_HEIGHT - 22 - (CURVE_HEIGHT - 40) * min(value, y_end) / y_end

    grid = "".join(
        f'<line class="rail" x1="0" x2="100%" y1="{y(level):.1f}" y2="{y(level):.1f}"/>'
        f'<text x="0" y="{y(level) - 4:.1f}">{f"{level:.0%}" if percent else f"{level:.2g}"}</text>'
        for level in (0.0, y_end / 2, y_end)
    )
    line = " ".join(f"{x(a):.2f},{y(b):.2f}" for a, b in points)
    around = [(a, low) for a, low, _ in band] + [(a, high) for a, _, high in reversed(band)]
    shapes = f'<polygon class="band" points="{" ".join(f"{x(a):.2f},{y(b):.2f}" for a, b in around)}"/>' if band else ""
    shapes += f'<polyline class="line" points="{line}" vector-effect="non-scaling-stroke"/>'
    marks = "".join(f'<circle class="dot after" cx="{x(a):.2f}%" cy="{y(b):.1f}" r="4"/>' for a, b in points if dots)
    if best:
        marks += f'<circle class="best" cx="{x(best[0]):.2f}%" cy="{y(best[1]):.1f}" r="9"/>'
    foot = CURVE_HEIGHT - 5
    first, last = points[0], points[-1]
    said = f"{title}: from {_number(first[1], percent)} to {_number(last[1], percent)} over {across} 0 to {x_end:g}"
    return (
        f'<svg class="curve" height="{CURVE_HEIGHT}" role="img" aria-label="{escape(said, quote=True)}">{grid}'
        f'<svg x="0" y="0" width="100%" height="{CURVE_HEIGHT}" viewBox="0 0 100 {CURVE_HEIGHT}" '
        f'preserveAspectRatio="none">{shapes}</svg>{marks}'
        f'<text x="{LEVELS}%" y="{foot}">{escape(across)} 0</text>'
        f'<text x="{100 - EDGE}%" y="{foot}" text-anchor="end">{x_end:g}</text></svg>'
    )


def standalone(chart: str, title: str) -> str:
    """A chart of this module as a file of its own: with a size, a title, and the colours the page gives it."""
    style = (
        "svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#595955}.rail{stroke:#c4c4bd}"
        ".line{fill:none;stroke:#1550c0;stroke-width:1.5}.band{fill:#1550c0;opacity:.18}"
        ".dot{stroke:#1550c0;fill:#1550c0}.best{fill:none;stroke:#a84300;stroke-width:2}"
    )
    head = f"<title>{escape(title)}</title><style>{style}</style>"
    start, rest = chart.split(">", 1)
    return f'{start} xmlns="http://www.w3.org/2000/svg" width="720">{head}{rest}\n'


def averaged(points: Sequence[tuple[float, float]], at_most: int) -> list[tuple[float, float]]:
    """The points, or means of equal groups of them where there are more than `at_most`."""
    size = -(-len(points) // at_most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _number(value: float, percent: bool) -> str:
    return f"{value:.1%}" if percent else f"{value:.3g}"
