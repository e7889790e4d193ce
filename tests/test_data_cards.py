"""Every corpus has a card, every card says the same things in the same fields, and a missing one fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechft.card import HUB_FIELDS, NOT_GIVEN, OUR_FIELDS, card_problems, read_card
from speechft.corpora import CORPORA, NAMED

FOLDER = Path(__file__).parents[1] / "data_cards"
CARDS = sorted(FOLDER.glob("*.md"))
FORMATS = {"kaldi"}  # ways to lay out any corpus, with no card of their own


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_is_complete(path: Path) -> None:
    fields, body = read_card(path)
    assert card_problems(fields, body) == []
    assert fields["corpus"] == path.stem
    name = path.stem if path.stem in CORPORA else "csv"
    assert fields["prepare"].startswith(f"speechft prepare {name} ")
    assert (name == "csv") == ("no reader" in fields["prepare"])
    assert fields["manifest_sha256"] == "filled in by speechft card"
    assert NOT_GIVEN not in path.read_text(encoding="utf-8")  # say "unverified" where nobody could look it up
    assert body.strip().startswith(f"# {fields['pretty_name']}") or path.stem == "simulated"
    assert max(len(line) for line in body.splitlines() if not line.startswith("|")) <= 120


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_licence_that_nobody_has_read_is_not_stated_as_a_fact(path: Path) -> None:
    fields, body = read_card(path)
    doubted = "Two licences are named" in body or "unverified" in str(fields.get("license_name", ""))
    assert fields["license"] == "other" or not doubted


def test_every_corpus_has_a_card() -> None:
    expected = {
        "torgo", "uaspeech", "sap", "nemours", "easycall", "cdsd", "ssnce", "talkbank", "sep28k", "l2arctic",
        "speechocean762", "commonvoice", "librispeech", "simulated",
    }  # fmt: skip
    assert expected | (set(NAMED) - FORMATS) <= {path.stem for path in CARDS}


@pytest.mark.parametrize("name", [*HUB_FIELDS, *OUR_FIELDS])
def test_a_missing_field_fails(name: str) -> None:
    fields, body = read_card(FOLDER / "torgo.md")
    del fields[name]
    assert f"'{name}' is missing" in card_problems(fields, body)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "mit"}, "unknown field 'licence'"),
        ({"language": []}, "'language' is not a list"),
        ({"consent": "  "}, "'consent' is empty"),
        ({"speakers": None}, "'speakers' is not a text"),
        ({"license": "mit"}, "'license_name' must be given with"),
        ({"protocols": ["torgoo"]}, "unknown protocol 'torgoo'"),
        ({"must_not_be_used_for": ["fun"]}, "does not name diagnosis"),
        ({"license_url": "see the page"}, "'license_url' is neither"),
    ],
)
def test_a_wrong_field_fails(change: dict[str, object], message: str) -> None:
    fields, body = read_card(FOLDER / "torgo.md")
    assert any(message in problem for problem in card_problems(fields | change, body))
    assert "there is no section 'Pitfalls'" in card_problems(fields, body.replace("## Pitfalls", "## Traps"))


@pytest.mark.parametrize("path", sorted((FOLDER / "text").glob("*.md")), ids=lambda path: path.stem)
def test_text_cards_have_the_fields_of_the_hub(path: Path) -> None:
    fields, _ = read_card(path)
    assert set(HUB_FIELDS) <= fields.keys()
    assert all(fields[name] for name in HUB_FIELDS)


@pytest.mark.parametrize(
    ("corpus", "protocol", "offered"),
    [
        ("ssnce", "session-disjoint", False),  # its rows have no session, and not all of TalkBank's have one
        ("talkbank", "session-disjoint", False),
        ("cdsd", "official", True),
    ],
)
def test_a_card_offers_the_protocols_that_its_rows_allow(corpus: str, protocol: str, offered: bool) -> None:
    fields, _ = read_card(FOLDER / f"{corpus}.md")
    assert (protocol in fields["protocols"]) is offered
