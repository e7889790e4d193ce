"""Bar charts as SVG files that stand alone, legible on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, FOOT, TOP = 640, 200, 44, 30, 14  # pixels
BINS = 20
STYLE = (
    "text{font:12px sans-serif;fill:#767676}rect{fill:#3b78c3}line{stroke:#8a8a8a}"  # 4.5:1 on white, 4.6:1 on black
)


def histogram(values: Sequence[float], unit: str) -> str:
    """How many values fall into each of `BINS` equal steps from 0; one step a number where all are small and whole."""
    top = max(values) or 1.0
    whole = all(value == int(value) for value in values) and top < BINS
    bins, width = (int(top) + 1, 1.0) if whole else (BINS, top / BINS)
    heights = [0] * bins
    for value in values:
        heights[min(bins - 1, int(value / width))] += 1
    end = top if whole else bins * width
    return _chart(heights, f"{unit}, 0", f"{end:.3g}", f"utterances by {unit}, 0 to {end:.3g}")


def bars(values: Sequence[float], unit: str) -> str:
    """One bar a value, in their order."""
    return _chart(values, "each speaker", "", f"{unit} of each of {len(values)} speakers, up to {max(values):.3g}")


def _chart(heights: Sequence[float], first: str, last: str, said: str) -> str:
    tallest = max(heights) or 1.0
    step = (WIDTH - LEFT) / len(heights)
    wide = f'width="{step * 0.84:.1f}"'
    ground = HEIGHT - FOOT
    shapes = "".join(
        f'<rect x="{LEFT + i * step + step * 0.08:.1f}" y="{ground - h:.1f}" {wide} height="{h:.1f}"/>'
        for i, value in enumerate(heights)
        if (h := (ground - TOP) * value / tallest) > 0
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f"<style>{STYLE}</style><title>{said}</title>{shapes}"
        f'<line x1="{LEFT}" y1="{ground}" x2="{WIDTH}" y2="{ground}"/>'
        f'<text x="0" y="{TOP + 10}">{tallest:.3g}</text><text x="0" y="{ground}">0</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{first}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 8}" text-anchor="end">{last}</text></svg>\n'
    )
