"""Which of a few options a judge's reply names, where it was asked for the option alone and says more."""

from __future__ import annotations

import re
from collections.abc import Sequence

CALLED = r"(?:answer|option|choice|response|reply|verdict|winner|score|rating|grade)"
# What a reply calls its answer: "the better response is B", "score: 7", "I'd give it a 7", "..., so B."
STATED = (
    rf"(?i:\b{CALLED}\b[\W_]*(?:(?:is|of|would be|should be|must be)\b|[:=])[\W_]*(?:{CALLED}\W+)?)OPTION",
    r"(?<!not )(?<!n't )(?i:\b(?:give|rate|score|choose|pick|prefer|select|say|go with)\b"
    rf"(?:\W+(?:it|this|that|an?|the|{CALLED}))*[\W_]+)OPTION",
    rf"(?i:\b(?:so|thus|hence|therefore|overall|finally)\b(?:\W+(?:it is|it's|the|{CALLED}))*[\W_]+)"
    r"OPTION(?=[*\"')\]]*(?:[.!;\n]|$))",
)
COMPARED = (
    r"OPTION\W+(?i:is|was)\W+(?i:(?:an?|the|much|far|clearly|slightly|somewhat)\W+)*"
    r"(?:(?P<better>better|best|stronger|superior|right|correct)|(?:worse|worst|weaker|inferior|wrong|incorrect))\b"
)
FIRST = r"[\W_]*OPTION[*_\"')\]]*(?:\s*[.,:;!\n]|\s+[–—-])"  # "B, because ..."
ALONE = rf"(?i)[\W_]*(?:(?:the\W+)?{CALLED}[\W_]*(?:is\W+)?)?OPTION[\W_]*"  # "b", "Answer: b", "**B**"
# "A better one" begins with an article; "A wins" does not.
ARTICLE = r"A (?!(?:is|was|has|does|did|wins|and|or|over|because|since|as|than|for|by|in|with|seems)\b)[a-z]"
NEGATED = r"(?i:\b(?:not|neither|nor|no)\b|n't\b)"
THOUGHT = r"(?is)^.*</think>|<think>.*$"
ITEM = r"(?m)^\s*\d+[.)]\s"  # of a list
NUMBERS_BESIDE = (
    r"(?i)\b\d+\s*(?:-|–|to|and|or)\s*\d+\b",  # "on a scale of 1 to 10"
    r"(?i)(?<=\d)\s*(?:/|(?:out\s+)?of\b)\s*\d+",  # "7/10"
)


def said_option(said: str, options: Sequence[str]) -> list[float]:
    """All weight on the option that a reply ends up with; even weights where it names none, or several alike.

    What a model thinks before it answers (`<think>`) does not count. What the reply calls its answer comes first, the
    last of these if there are several; then the option it begins with; then what it says is better; then the only
    option that it mentions.

    >>> said_option("B, because it is right.", ["A", "B"])
    [0.0, 1.0]
    >>> said_option("A better answer is B.", ["A", "B"])
    [0.0, 1.0]
    >>> said_option("A or B", ["A", "B"])
    [0.5, 0.5]
    """
    said = re.sub(THOUGHT, "", said).strip()
    if all(option.isdigit() for option in options):
        items = [ITEM] if len(re.findall(ITEM, said)) > 1 else []
        for beside in (*NUMBERS_BESIDE, *items):
            said = re.sub(beside, "", said)
    found = _named(said, options)
    if found is None:
        return [1 / len(options)] * len(options)
    return [float(option.casefold() == found.casefold()) for option in options]


def _named(said: str, options: Sequence[str]) -> str | None:
    ordered = map(re.escape, sorted(options, key=len, reverse=True))  # 10 before 1
    option = rf"(?<![\w.])(?P<option>{'|'.join(ordered)})(?![\w.]*\w)(?!\s(?i:tie|draw)\b)"

    def every(pattern: str) -> list[re.Match[str]]:
        return list(re.finditer(pattern.replace("OPTION", option), said))

    if alone := re.fullmatch(ALONE.replace("OPTION", option), said):
        return alone["option"]
    if stated := [match for pattern in STATED for match in every(pattern)]:
        return max(stated, key=lambda match: match.start("option"))["option"]
    mentioned = {match["option"] for match in every(f"(?!{ARTICLE})OPTION")}
    first = re.match(FIRST.replace("OPTION", option), said)
    if first and not re.fullmatch(rf"(?:{option.replace('?P<option>', '?:')}|\W)*", said):
        return first["option"]
    better: set[str] = set()
    for match in every(COMPARED):
        others = set(options) - {match["option"]}
        better |= {match["option"]} if match["better"] else others if len(others) == 1 else set()
    if len(better) == 1:
        return better.pop()
    return mentioned.pop() if len(mentioned) == 1 and not re.search(NEGATED, said) else None
