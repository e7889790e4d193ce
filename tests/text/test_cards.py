"""Cards of text corpora say the same things in the same fields, and every reader has one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from speechft.text.corpora import READERS

CARDS = sorted((Path(__file__).parents[2] / "data_cards" / "text").glob("*.md"))
FIELDS = {
    "pretty_name", "language", "license", "task_categories", "size_categories", "annotations_creators",
    "language_creators", "tags", "corpus", "reader", "rows", "consent", "access", "must_not_be_used_for",
}  # fmt: skip


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_is_complete(path: Path) -> None:
    _, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields.keys() - {"license_name"} == FIELDS
    assert fields["corpus"] == path.stem
    assert (fields["license"] == "other") == ("license_name" in fields)
    assert all(fields[name] for name in FIELDS)
    assert "Pitfalls" in body
    assert max(map(len, body.splitlines())) <= 130


def test_every_reader_has_a_card() -> None:
    assert set(READERS) <= {path.stem for path in CARDS}
