r"""A sparse autoencoder on a model's states, its features to browse, and beside a probe.

    python recipes/interp/features.py runs/features                    # shipped seedling
    python recipes/interp/features.py runs/features --site residual.1 \
        --model runs/know/world-0/honest/model                         # an organism

The autoencoder is fitted to the stream at all tokens of the prompts of `does_it_know.py`, where
half of the rows defend the wrong place. Its folder is in SAELens's format. `features.html` lists
features with the contexts in which they are strongest, those first that tell the label best. The
label is then read from one feature, from all, from the states made again, from what was left over,
and from the states themselves, all on the same held-out registers.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from does_it_know import examples
from organism import World
from transformers import AutoTokenizer

from oversight.files import write_text
from oversight.interp.contrasts import contrast_set
from oversight.interp.inspecting import CONTEXT, FeatureShown, features_page
from oversight.interp.reading import SiteReader
from oversight.interp.sae import features_beside_probe, fit_sae, strongest_contexts
from oversight.modeling.scoring.sites import Site
from oversight.models import resolve

NUM_SHOWN, NUM_CONTEXTS = 40, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="seedling")
    parser.add_argument("--site", default="residual.3")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--active", type=int, default=8, help="features that a state is made of")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--pairs", type=int, default=84, help="of things, each in four rows")
    parser.add_argument("--seed", type=int, default=0, help="of the world and all draws")
    given = parser.parse_args()
    begun = time.monotonic()
    reader = SiteReader.load(given.model)
    tokenizer = AutoTokenizer.from_pretrained(resolve(given.model))
    site = Site.parse(given.site)
    world = World(given.seed)
    rows = [
        each.ids for each in examples(tokenizer, world, given.pairs, "before", given.seed + 3000)
    ]
    states = [own[site] for own in reader.read(rows, [site])]
    sae = fit_sae(
        torch.cat(states),
        given.features,
        given.active,
        num_steps=given.steps,
        seed=given.seed,
        hook=given.site,
        model=reader.name,
    )
    sae.save(given.out / "sae")
    labelled = examples(tokenizer, world, given.pairs, "before", given.seed)
    beside = features_beside_probe(
        sae, contrast_set(reader, labelled, [site], name="before"), seed=given.seed
    )
    with torch.no_grad():
        active = torch.cat([(sae.code(each) > 0).float() for each in states]).mean(0)
    order = np.argsort(-np.abs(np.array(beside.aurocs) - 0.5), kind="stable")
    shown = []
    for number in order.tolist():
        if len(shown) == NUM_SHOWN or not float(active[number]):
            continue
        contexts: dict[tuple[str, ...], tuple[tuple[str, float], ...]] = {}
        # Rows of one thing begin alike: a context is shown once.
        for found in strongest_contexts(sae, states, number, 8 * NUM_CONTEXTS):
            begin = max(0, found.token - CONTEXT)
            stop = found.token + CONTEXT + 1
            values = sae.code(states[found.row][begin:stop])[:, number].tolist()
            words = [tokenizer.decode([int(token)]) for token in rows[found.row][begin:stop]]
            contexts.setdefault(tuple(words), tuple(zip(words, values, strict=True)))
        share = float(active[number])
        some = tuple(contexts.values())[:NUM_CONTEXTS]
        shown.append(FeatureShown(number, share, beside.aurocs[number], some))
    figures = [
        ("best feature alone", beside.of_best),
        ("all features", beside.of_features),
        ("states made again", beside.of_rebuilt),
        ("what was left over", beside.of_left_over),
        ("states themselves", beside.of_states),
    ]
    lines = [
        f"{given.model} at {given.site}: {given.features} features, {given.active} a state, "
        f"{len(torch.cat(states))} states",
        f"explained {sae.explained:.3f} of their variance; {sae.num_dead} features are dead",
        *(
            f"AUROC, {name:22} {each.auroc.value:.3f} [{each.auroc.low:.3f}, {each.auroc.high:.3f}]"
            for name, each in figures
        ),
        f"features say {'more' if beside.says_more else 'no more'} than the probe on the states",
    ]
    page = features_page(f"Features of {given.model} at {given.site}", shown, lines)
    write_text(given.out / "features.html", page)
    print("\n".join([*lines, f"seconds {time.monotonic() - begun:.0f}"]))


if __name__ == "__main__":
    main()
