"""What the modules import, inside functions too, forms no cycle: each can be read after those below it."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "speechft"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(path: Path) -> set[str]:
    """The modules of the package that a file names in imports, but for those that only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unread = {node for block in blocks for line in block.body for node in ast.walk(line)}
    found = set()
    for node in ast.walk(tree):
        if node in unread:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{name.name}" for name in node.names}
            found |= (named & MODULES.keys()) or {node.module or ""}
    return found & MODULES.keys()


def test_the_modules_form_no_cycle() -> None:
    graph = {name: imported(path) for name, path in MODULES.items()}
    assert graph["speechft.pipeline"] >= {"speechft.train", "speechft.adapters"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules of one
