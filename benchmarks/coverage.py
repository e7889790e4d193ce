"""How often a 95% interval holds the truth, and how often a report claims a change where there is none.

    python benchmarks/coverage.py

First simulated corpora of speakers whose true rates are known: drawn from Beta(0.6, 1.8), mean 25% and very different,
or Beta(2, 6), mean 25% and less so; each speaker has 8 clips of 10 words. Given is how often intervals over speakers
and over utterances hold the rate of everybody, and those over utterances that of these very speakers. A result has the
first from five speakers on, and the last below.

Then one voice with few recordings of 4 to 8 words, of which as many are wrong before and after: how often the interval
of the rate holds it, how often that of the difference leaves out 0, and how often the first sentence of a report says
that words wrong fell or rose. Intervals are counted where there is one.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from speechft import exits
from speechft.error_rate import ErrorRate
from speechft.report_answer import answer
from speechft.significance import bootstrap_ci, paired_bootstrap, sign_flip

CLIPS, WORDS, TRUTH = 8, 10, 0.25
SPREADS = {"very different": (0.6, 1.8), "different": (2.0, 6.0)}
SPEAKERS = (2, 3, 4, 5, 10, 20, 40)
RECORDINGS = (2, 3, 4, 5, 6, 8, 12, 20)
WRONG = (0.02, 0.1, 0.35)


def main(corpora: int) -> None:
    print("speakers  spread           over speakers  over utterances  of these speakers")
    for spread, (a, b) in SPREADS.items():
        for n in SPEAKERS:
            held = np.zeros(3)
            for seed in range(corpora):
                rng = np.random.default_rng([seed, n])
                rates = rng.beta(a, b, n)
                errors = [ErrorRate(int(e), 0, 0, WORDS) for e in rng.binomial(WORDS, rates.repeat(CLIPS))]
                speakers = [sum(errors[i : i + CLIPS], ErrorRate()) for i in range(0, n * CLIPS, CLIPS)]
                (one, two), (low, high) = (bootstrap_ci(drawn, draws=1000, seed=seed) for drawn in (speakers, errors))
                held += (one <= TRUTH <= two, low <= TRUTH <= high, low <= rates.mean() <= high)
            shown = [f"{share / corpora:{width}.1%}" for share, width in zip(held, (13, 15, 17), strict=True)]
            print(f"{n:8}  {spread:15}  {'  '.join(shown)}", flush=True)
    print("\nrecordings  wrong  holds the rate  leaves out 0  claimed")
    for wrong in WRONG:
        for n in RECORDINGS:
            print(f"{n:10}  {wrong:5.0%}  {_one_voice(n, wrong, corpora)}", flush=True)


def _one_voice(n: int, wrong: float, corpora: int) -> str:
    given = held = leaves_out = claimed = 0
    for seed in range(corpora):
        rng = np.random.default_rng([seed, n])
        lengths = rng.integers(4, 9, n)
        before, after = (
            [ErrorRate(int(e), 0, 0, int(k)) for e, k in zip(rng.binomial(lengths, wrong), lengths, strict=True)]
            for _ in "ab"
        )
        low, high = bootstrap_ci(after, draws=1000, seed=seed)
        given += not math.isnan(low)
        held += low <= wrong <= high
        wer, bounds = paired_bootstrap(before, after, draws=1000, seed=seed)
        leaves_out += bounds[0] > 0 or bounds[1] < 0
        ends = [None if math.isnan(bound) else bound for bound in bounds]
        difference = {"wer": wer, "wer_ci95": ends, "p_speakers": sign_flip(before, after)}
        said = answer([_scores(before), _scores(after)], difference, {})
        claimed += " wrong fell " in said or " wrong rose " in said
    return f"{held / max(1, given):14.1%}  {leaves_out / corpora:12.1%}  {claimed / corpora:7.1%}"


def _scores(errors: list[ErrorRate]) -> dict[str, object]:
    """As much of `Scores.to_dict` as the first sentence of a report needs."""
    whole = sum(errors, ErrorRate())
    counts = {
        "n_utterances": len(errors),
        "empty_references": 0,
        "n_words": whole.length,
        "n_speakers": 1,
        "per_speaker": {"me": {"n_words": whole.length}},
    }
    return {**counts, "normalizer": "none/1", "wer": whole.rate}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=int, default=1000)
    exits.run(lambda: main(parser.parse_args().corpora))
