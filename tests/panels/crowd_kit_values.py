"""Writes crowd_kit.json: Dawid and Skene's fit by crowd-kit, which the tests hold ours against.

crowd-kit brings nltk and transformers along, so it is no dependency of the tests. To make the file
anew, with crowd-kit and this package installed:

    python -m tests.panels.crowd_kit_values
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tests.panels.test_labels import MISSING, votes_of

ROUNDS = 30


def main() -> None:
    """Fit votes of known raters, with and without missing ones, and write what came of it."""
    import pandas
    from crowdkit.aggregation.classification import DawidSkene

    cases: list[dict[str, Any]] = []
    for labels in (2, 4):
        for missing in (0.0, 0.4):
            _, votes = votes_of([0.9, 0.8, 0.7, 0.6, 0.75], 60, labels, seed=3, missing=missing)
            raters, items = np.nonzero(votes != MISSING)
            told = {"task": items, "worker": raters, "label": votes[raters, items]}
            fit = DawidSkene(n_iter=ROUNDS, tol=-np.inf).fit(pandas.DataFrame(told))
            columns = list(range(labels))
            posterior = fit.probas_.reindex(columns=columns).fillna(0.0).sort_index()
            errors = fit.errors_.reindex(columns=columns).fillna(0.0)
            cases.append(
                {
                    "name": f"{labels} labels, {missing:.0%} missing",
                    "labels": labels,
                    "rounds": ROUNDS,
                    "votes": votes.tolist(),
                    "posterior": posterior.to_numpy().tolist(),
                    # crowd-kit has the vote first and the true label last; ours is the other way.
                    "errors": [
                        [
                            [float(errors.loc[(rater, vote)][true]) for vote in columns]
                            for true in columns
                        ]
                        for rater in range(len(votes))
                    ],
                }
            )
    made = {"made with": f"crowd-kit {version('crowd-kit')}", "cases": cases}
    place = Path(__file__).with_name("crowd_kit.json")
    place.write_text(json.dumps(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
