"""Time to score the candidates of a gradient search (GCG): over their trie, and each as a full row.

    python benchmarks/redteam_gcg.py        # a minute on one core

A step of the search scores many suffixes that differ in one token. As token rows they are one line,
in which what they begin with stands once; beside it stands transformers' own pass over the same
rows in full, in batches of the size that is fastest for it. Bar: three times as fast.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from oversight.modeling import Ids
from oversight.modeling.scoring.policy import PolicyModel
from oversight.redteam.suffixes import SuffixPlace, SuffixWalk

VOCABULARY, CANDIDATES, REPEATS = 2000, 64, 5
BATCHES = (1, 8, 64)
BAR = 3.0


def walk_of(model: LlamaForCausalLM, before: int, suffix: int, after: int) -> SuffixWalk:
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, VOCABULARY, n) for n in (before, suffix, after, 2)]
    place = SuffixPlace(parts[0], parts[2], parts[3])
    allowed_V = torch.ones(VOCABULARY, dtype=torch.bool)
    return SuffixWalk(PolicyModel(model), place, parts[1], allowed_V, num_candidates=CANDIDATES)


def full_rows(model: LlamaForCausalLM, walk: SuffixWalk, suffixes: list[Ids], size: int) -> Ids:
    rows = torch.from_numpy(np.stack([walk.place.row(each).ids() for each in suffixes]))
    num = len(walk.place.aim)
    found = []
    with torch.no_grad():
        for part in rows.split(size):
            logps = model(part).logits[:, -num - 1 : -1].log_softmax(-1)
            found.append(-logps.gather(2, part[:, -num:, None])[..., 0].mean(1))
    return torch.cat(found).numpy()


def seconds(act: Callable[[], object]) -> float:
    act()
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        act()
        times.append(time.process_time() - begun)
    return median(times)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4,
    )  # fmt: skip
    plain = LlamaForCausalLM(config).eval().requires_grad_(False)
    print(f"{CANDIDATES} candidates, each one token apart; CPU ms a step, median of {REPEATS}")
    print("before  suffix  after   trie  full rows  ratio")
    ratios = []
    for before, suffix, after in ((100, 8, 20), (200, 16, 20), (400, 16, 20)):
        walk = walk_of(copy.deepcopy(plain), before, suffix, after)
        candidates = walk._candidates(walk.gradient_SV())
        own = walk.losses_of(candidates).numpy()
        assert np.allclose(own, full_rows(plain, walk, candidates, 8), atol=1e-4)
        trie = seconds(lambda w=walk, c=candidates: w.losses_of(c))
        full = min(
            seconds(lambda w=walk, c=candidates, n=n: full_rows(plain, w, c, n)) for n in BATCHES
        )
        ratios.append(full / trie)
        shown = (before, suffix, after, 1e3 * trie, 1e3 * full, ratios[-1])
        print("{:6d}  {:6d}  {:5d}  {:5.0f}  {:9.0f}  {:5.1f}".format(*shown))
    print(f"least ratio {min(ratios):.1f} (bar: {BAR:g})")
    raise SystemExit(0 if min(ratios) >= BAR else 1)


if __name__ == "__main__":
    main()
