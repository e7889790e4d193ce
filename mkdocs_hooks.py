"""The documentation site has the repository's own layout, so that links work there as they do in a checkout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent
FOLDERS = ("data_cards",)  # that are linked to as a whole
PAGES = ("*.md", "docs/**/*.md", "data_cards/**/*.md")


def on_files(files: Files, config: Any) -> Files:
    """All pages of the repository, and the files of it that they link to."""
    theme = [file for file in files if not file.src_uri.endswith(".md") and file.generated_by]
    cards = [File.generated(config, f"{folder}/index.md", content=listing(ROOT / folder)) for folder in FOLDERS]
    pages = sorted({page for pattern in PAGES for page in ROOT.glob(pattern)})
    linked = {target for page in pages for target in linked_files(page)} - set(pages)
    found = [File.generated(config, p.relative_to(ROOT).as_posix(), abs_src_path=str(p)) for p in (*pages, *linked)]
    return Files([*theme, *found, *cards])


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to a folder lead to the list of what is in it."""
    return re.sub(rf"\]\(({'|'.join(FOLDERS)})/?\)", r"](\1/index.md)", markdown)


def listing(folder: Path) -> str:
    """A page that names every page of a folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))
    return f"# {folder.name.replace('_', ' ').capitalize()}\n\n" + "".join(f"- [{n[:-3]}]({n})\n" for n in names)


def linked_files(page: Path) -> list[Path]:
    """Files of the repository that a page names in links and pictures."""
    targets = re.findall(r"\]\(([^)\s#]+)\)", page.read_text(encoding="utf-8"))
    paths = [(page.parent / target).resolve() for target in targets if ":" not in target]
    return [path for path in paths if path.is_file() and path.is_relative_to(ROOT)]
