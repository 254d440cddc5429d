"""Planted truth: what methods find on models made by hand, and what they claim of random ones.

    python benchmarks/planted_truth.py              # 100 random models
    python benchmarks/planted_truth.py --seeds 3

A claim is a probe above chance, above shuffled labels and above words, lengths and random weights
(`ProbeReport.claims`). Labels of the random models' rows are coin flips: each claim is false.

Bars: cosine of the known direction at least 0.95; the copying head found by patching for every
place of it; planted features' mean max cosine at least 0.9; false claims at most 5 %.
"""

from __future__ import annotations

import argparse

import numpy as np

from oversight.evals.intervals import mean_interval
from oversight.interp.contrasts import contrast_set
from oversight.interp.evaluation import study
from oversight.interp.patching import activation_patching, every_head
from oversight.interp.planted import (
    copying_model,
    direction_examples,
    direction_model,
    planted_features,
    random_examples,
    random_model,
)
from oversight.interp.probes import fit
from oversight.interp.reading import SiteReader
from oversight.interp.sae import fit_sae, mean_max_cosine
from oversight.modeling.scoring.sites import Site


def direction_cosine(seed: int) -> float:
    model, direction = direction_model(seed)
    states = contrast_set(SiteReader(model), direction_examples(150, seed), [Site("residual", 1)])
    line = fit("mean_difference", states.data("residual.1")).direction_E
    return float(abs(line @ direction) / np.linalg.norm(line))


def head_is_found(layer: int, head: int) -> bool:
    known = copying_model(layer, head, seed=layer * 4 + head)
    clean, corrupted = known.row(3), known.row(7)
    reader = SiteReader(known.model)
    places = every_head(reader, len(clean) - 1)
    place, _ = activation_patching(reader, clean, corrupted, 3, 7, places).strongest()[0]
    return (place.site.layer, place.head) == (layer, head)


def claims_falsely(seed: int, num_questions: int = 40) -> bool:
    reader = SiteReader(random_model(seed))
    sites = reader.modules.every(["residual"])
    states = contrast_set(reader, random_examples(num_questions, seed), sites, random_seed=seed + 1)
    return study(states, "mean_difference", seed=seed).claims


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    cosines = [direction_cosine(seed) for seed in range(3)]
    print(f"cosine of the known direction      {min(cosines):.3f} at least (bar 0.95)")
    heads = [head_is_found(layer, head) for layer in range(2) for head in range(4)]
    print(f"copying heads found by patching    {sum(heads)} of {len(heads)} (bar all)")
    states, features = planted_features(6000)
    sae = fit_sae(states, 64, 3, num_steps=1500)
    found = mean_max_cosine(features, sae.w_dec_FE)
    print(f"planted features, mean max cosine  {found:.3f} (bar 0.9), {sae.num_dead} of 64 dead")
    false = [float(claims_falsely(seed)) for seed in range(seeds)]
    rate = mean_interval(false, list(range(seeds)))
    print(
        f"false claims on random models      {int(sum(false))} of {seeds} "
        f"[{rate.low:.3f}, {rate.high:.3f}] (bar 0.05)"
    )


if __name__ == "__main__":
    main()
