"""The same states by nnsight and by transformer-lens, over rows that `oversight` reads.

    pip install "oversight[interp]"
    python recipes/interp/other_tools.py             # seedling, or a folder of another model

Both take the model in its folder and token ids as they are, so whatever these libraries offer works
on our models and on the rows of a store's debates (`oversight.interp.contrasts.rows_of_store`).
Each is asked here for the stream after every layer, and for one change: the stream of a layer with
a direction added. Printed is the largest difference from what `SiteReader` gives.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from oversight.interp.contrasts import world_examples, world_questions
from oversight.interp.reading import SiteReader
from oversight.modeling import Ids
from oversight.modeling.scoring.sites import Site, add
from oversight.models import resolve

LAYER = 2
"""The layer before which a direction is added."""


def ours(name: str, ids: Ids, direction_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Streams [L, n, E] before each layer but the first and at the end; and the last one again,
    with a direction added to the stream before `LAYER`."""
    reader = SiteReader.load(name)
    sites = reader.modules.every(["residual"])
    found = reader.read([ids], sites)[0]
    edit = add(Site("residual", LAYER), direction_E)
    changed = reader.read([ids], sites[-1:], None, [[edit]])[0][sites[-1]]
    return torch.stack([found[site] for site in sites[1:]]), changed


def by_nnsight(name: str, ids: Ids, direction_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from nnsight's trace of the layers of a Llama-like model."""
    import nnsight

    traced: Any = nnsight.NNsight(_model(name))
    rows = torch.from_numpy(ids)[None]
    num = len(traced.model.layers)
    with torch.no_grad(), traced.trace(rows):
        states = nnsight.save([traced.model.layers[k].output for k in range(num)])
    with torch.no_grad(), traced.trace(rows):
        traced.model.layers[LAYER - 1].output = traced.model.layers[LAYER - 1].output + direction_E
        last = nnsight.save(traced.model.layers[num - 1].output)
    return torch.stack([state.reshape(len(ids), -1) for state in states]), last.reshape(
        len(ids), -1
    )


def by_transformer_lens(
    name: str, ids: Ids, direction_E: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from transformer-lens's cache of its bridge to a transformers model."""
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = AutoTokenizer.from_pretrained(resolve(name))
    bridge: Any = TransformerBridge.boot_transformers(
        str(resolve(name)), hf_model=_model(name), tokenizer=tokenizer, device="cpu"
    )
    rows = torch.from_numpy(ids)[None]
    names = [f"blocks.{k}.hook_resid_post" for k in range(bridge.cfg.n_layers)]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(rows)
        states = torch.stack([cache[each][0] for each in names])
        held: list[torch.Tensor] = []

        def push(value: torch.Tensor, hook: Any) -> torch.Tensor:
            return value + direction_E

        def keep(value: torch.Tensor, hook: Any) -> None:
            held.append(value[0])

        hooks = [(names[LAYER - 1], push), (names[-1], keep)]
        bridge.run_with_hooks(rows, fwd_hooks=hooks)
    return states, held[0]


def _model(name: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(resolve(name), attn_implementation="eager")
    return model.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="seedling", help="a folder, or an embedded one")
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(resolve(given.model))
    ids = world_examples(tokenizer, world_questions(1))[0].ids
    width = SiteReader.load(given.model).modules.config.hidden_size
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(width)).float()
    known = ours(given.model, ids, direction)
    for what, read in (("nnsight", by_nnsight), ("transformer-lens", by_transformer_lens)):
        states, changed = read(given.model, ids, direction)
        apart = float((states - known[0]).abs().max() / known[0].abs().max())
        moved = float((changed - known[1]).abs().max() / known[1].abs().max())
        print(f"{what:18} streams of {len(states)} layers differ by {apart:.1e} of the largest")
        print(f"{'':18} with a direction added before layer {LAYER} by {moved:.1e}")


if __name__ == "__main__":
    main()
