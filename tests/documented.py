"""The blocks of the documentation, for the tests that parse them and for those that run them."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, or a command between single backticks."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    found, open_block, lines = [], None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if fence := re.match(r"\s*```(\w*)", line):
            if open_block is None:
                open_block, lines = (number, fence[1]), []
            else:
                found.append(Block(page, open_block[0], open_block[1], inspect.cleandoc("\n" + "\n".join(lines))))
                open_block = None
        elif open_block is not None:
            lines.append(line)
        else:
            found += [Block(page, number, "inline", code) for code in re.findall(r"`(speechft [^`]+)`", line)]
    assert open_block is None, f"{page}: a block is not closed"
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def shell_lines(page: Path) -> list[str]:
    """The commands of a page's blocks, each as it stands."""
    blocks = [block.text.replace("\\\n", " ") for block in BLOCKS if block.page == page and block.language == "sh"]
    return [line for block in blocks for line in block.splitlines() if line.strip()]
