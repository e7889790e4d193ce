"""How often a 95% interval holds the truth: simulated corpora of speakers whose true rates are known.

    python benchmarks/coverage.py

Speakers' rates are drawn from Beta(0.6, 1.8), mean 25% and very different, or Beta(2, 6), mean 25% and less so; each
speaker has 8 clips of 10 words. Given are intervals over speakers, as in a result, and over utterances, which are too
narrow.
"""

from __future__ import annotations

import argparse

import numpy as np

from speechft import exits
from speechft.error_rate import ErrorRate
from speechft.significance import bootstrap_ci

CLIPS, WORDS, TRUTH = 8, 10, 0.25
SPREADS = {"very different": (0.6, 1.8), "different": (2.0, 6.0)}
SPEAKERS = (2, 3, 5, 10, 20, 40)


def main(corpora: int) -> None:
    print("speakers  spread           over speakers  over utterances")
    for spread, (a, b) in SPREADS.items():
        for n in SPEAKERS:
            names = [str(i // CLIPS) for i in range(n * CLIPS)]
            held = np.zeros(2)
            for seed in range(corpora):
                rng = np.random.default_rng([seed, n])
                rates = rng.beta(a, b, n).repeat(CLIPS)
                errors = [ErrorRate(substitutions=int(e), length=WORDS) for e in rng.binomial(WORDS, rates)]
                for way, blocks in enumerate((names, None)):
                    low, high = bootstrap_ci(errors, blocks, draws=1000, seed=seed)
                    held[way] += low <= TRUTH <= high
            print(f"{n:8}  {spread:15}  {held[0] / corpora:13.1%}  {held[1] / corpora:15.1%}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=int, default=1000)
    exits.run(lambda: main(parser.parse_args().corpora))
