"""Sites of packed rows are what hooks find for each row alone, and edits do what hooks would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError
from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import Site, ablate, add, replace

MakeLm = Callable[..., Any]
PARTS = {
    "gpt2": ("transformer.h", "attn", "attn.c_proj", "mlp"),
    "llama": ("model.layers", "self_attn", "self_attn.o_proj", "mlp"),
}
ARCHITECTURES = ["llama", "qwen2", "qwen3", "mistral", "gemma3_text", "cohere", "granite", "gpt2"]


def part(model: Any, architecture: str, layer: int, which: int) -> Any:
    names = PARTS.get(architecture, PARTS["llama"])
    return model.get_submodule(f"{names[0]}.{layer}.{names[which]}")


def by_hooks(model: Any, architecture: str, ids: Ids) -> dict[str, torch.Tensor]:
    """All sites of one row by hooks of this test's own on the model's own eager pass."""
    model.set_attn_implementation("eager")
    found: dict[str, torch.Tensor] = {}
    handles = []

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            found[name] = (output[0] if isinstance(output, tuple) else output)[0]

        return hook

    def keep_input(name: str) -> Any:
        def hook(module: Any, args: Any) -> None:
            found[name] = args[0][0].unflatten(-1, (model.config.num_attention_heads, -1))

        return hook

    num = model.config.num_hidden_layers
    for layer in range(num):
        handles += [
            part(model, architecture, layer, 1).register_forward_hook(keep(f"attention.{layer}")),
            part(model, architecture, layer, 3).register_forward_hook(keep(f"mlp.{layer}")),
            part(model, architecture, layer, 2).register_forward_pre_hook(
                keep_input(f"heads.{layer}")
            ),
        ]
    last = model.get_submodule(PARTS.get(architecture, PARTS["llama"])[0])[-1]
    handles.append(last.register_forward_hook(keep(f"residual.{num}")))
    output = model(torch.from_numpy(ids)[None], output_hidden_states=True, output_attentions=True)
    for handle in handles:
        handle.remove()
    for layer in range(num):
        found[f"residual.{layer}"] = output.hidden_states[layer][0]
        found[f"pattern.{layer}"] = output.attentions[layer][0].transpose(0, 1)
    found["final"] = output.hidden_states[-1][0]
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_every_site_of_packed_rows_is_what_hooks_find_for_each_row_alone(
    random_lm: MakeLm, rows: list[TokenRow], architecture: str
) -> None:
    policy = PolicyModel(random_lm(architecture).eval())
    sites = policy.site_modules.every(("residual", "final", "attention", "mlp", "heads", "pattern"))
    ids = [row.ids() for row in rows]
    for found, own in zip(policy.read_sites(ids, sites), ids, strict=True):
        wanted = by_hooks(random_lm(architecture).eval(), architecture, own)
        assert {str(site) for site in found} == set(wanted)
        for site, tensor in found.items():
            torch.testing.assert_close(tensor, wanted[str(site)], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_chosen_tokens_come_in_the_order_asked_for(random_lm: MakeLm, rows: list[TokenRow]) -> None:
    policy = PolicyModel(random_lm())
    ids = [row.ids() for row in rows]
    sites = [Site("heads", 1), Site("pattern", 0)]
    whole = policy.read_sites(ids, sites)
    chosen = policy.read_sites(ids, sites, [[-1, 0]] * len(ids))
    for few, every in zip(chosen, whole, strict=True):
        for site in sites:
            assert few[site].equal(every[site][[-1, 0]])


def edited_alone(
    model: Any, architecture: str, ids: Ids, kind: str, change: Callable[[torch.Tensor], None]
) -> torch.Tensor:
    """Logits of one row, its site changed in place by a hook of this test's own in layer 1."""

    def before(module: Any, args: Any) -> Any:
        tensor = args[0].clone()
        change(tensor[0])
        return (tensor, *args[1:])

    def after(module: Any, args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        tensor = first.clone()
        change(tensor[0])
        return (tensor, *output[1:]) if isinstance(output, tuple) else tensor

    if kind == "residual":
        layers = model.get_submodule(PARTS.get(architecture, PARTS["llama"])[0])
        handle = layers[0].register_forward_hook(after)
    elif kind == "heads":
        handle = part(model, architecture, 1, 2).register_forward_pre_hook(before)
    else:
        which = 1 if kind == "attention" else 3
        handle = part(model, architecture, 1, which).register_forward_hook(after)
    logits: torch.Tensor = model(torch.from_numpy(ids)[None]).logits[0]
    handle.remove()
    return logits


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "gpt2"])
@pytest.mark.parametrize("kind", ["residual", "attention", "mlp"])
@torch.no_grad()
def test_an_edit_of_one_row_is_that_of_a_hook_and_no_other_row_sees_it(
    random_lm: MakeLm, rows: list[TokenRow], architecture: str, kind: str
) -> None:
    policy, plain = PolicyModel(random_lm(architecture).eval()), random_lm(architecture).eval()
    torch.manual_seed(1)
    vector, directions = torch.randn(32), torch.linalg.qr(torch.randn(32, 2))[0].T
    ids = [row.ids() for row in rows]
    site = Site(kind, 1)  # type: ignore[arg-type]
    edits = [
        [add(site, 3 * vector, [4, -1])],
        [],
        [ablate(site, directions)],
        [replace(site, vector, [2])],
        [ablate(site)],
        [],
        [add(site, vector)],
        [],
        [ablate(site, directions, [0, 1])],
    ]

    def change(number: int) -> Callable[[torch.Tensor], None]:
        def of(state: torch.Tensor) -> None:
            if number == 0:
                state[[4, -1]] += 3 * vector
            elif number in (2, 8):
                at = slice(0, 2) if number == 8 else slice(None)
                state[at] -= (state[at] @ directions.T) @ directions
            elif number == 3:
                state[2] = vector
            elif number == 4:
                state.zero_()
            elif number == 6:
                state += vector

        return of

    found = policy.read_sites(ids, [Site("final")], edits=edits)
    for number, (own, states) in enumerate(zip(ids, found, strict=True)):
        logits = policy.head.logits(states[Site("final")], 1.0)
        wanted = edited_alone(plain, architecture, own, kind, change(number))
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_one_head_is_ablated_and_the_others_stay(random_lm: MakeLm, rows: list[TokenRow]) -> None:
    policy, plain = PolicyModel(random_lm()), random_lm()
    ids = [row.ids() for row in rows]

    def change(state: torch.Tensor) -> None:
        state.unflatten(-1, (4, -1))[:, 2] = 0.0

    edits = [[ablate(Site("heads", 1), heads=[2])] for _ in ids]
    found = policy.read_sites(ids, [Site("final")], edits=edits)
    for own, states in zip(ids, found, strict=True):
        logits = policy.head.logits(states[Site("final")], 1.0)
        wanted = edited_alone(plain, "llama", own, "heads", change)
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_pattern_put_in_place_of_a_heads_own_is_what_it_attends_by(
    random_lm: MakeLm, rows: list[TokenRow]
) -> None:
    policy = PolicyModel(random_lm())
    ids = rows[1].ids()
    pattern, heads = Site("pattern", 1), Site("heads", 1)
    first = torch.zeros(1, 1, len(ids))
    first[..., 0] = 1.0
    edit = replace(pattern, first, [-1], heads=[3])
    plain, changed = (
        policy.read_sites([ids, rows[3].ids()], [heads, pattern], edits=each)[0]
        for each in (None, [[edit], []])
    )
    assert changed[pattern][-1, 3].equal(first[0, 0])
    assert changed[pattern][-1, :3].allclose(plain[pattern][-1, :3])
    # All weight on the first token gives what the first token, which sees itself alone, gives.
    torch.testing.assert_close(changed[heads][-1, 3], plain[heads][0, 3])
    torch.testing.assert_close(changed[heads][-1, :3], plain[heads][-1, :3])


@torch.no_grad()
def test_states_patched_into_another_run_make_it_that_run(
    random_lm: MakeLm, rows: list[TokenRow]
) -> None:
    policy = PolicyModel(random_lm())
    one, other = rows[0].ids(), np.roll(rows[0].ids(), 3)
    site, final = Site("residual", 1), Site("final")
    clean = policy.read_sites([one], [site, final])[0]
    patched = policy.read_sites([other], [final], edits=[[replace(site, clean[site])]])[0]
    torch.testing.assert_close(patched[final], clean[final])


def test_what_is_not_there_is_refused_by_name(random_lm: MakeLm, rows: list[TokenRow]) -> None:
    policy = PolicyModel(random_lm())
    ids = [rows[0].ids()]
    with pytest.raises(ConfigError, match=r"site 'mlp.2': the model has mlp.0 to mlp.1"):
        policy.read_sites(ids, [Site("mlp", 2)])
    with pytest.raises(ConfigError, match=r"the model has residual.0 to residual.2"):
        policy.read_sites(ids, [Site("residual", 3)])
    with pytest.raises(ConfigError, match=r"values of shape \[7\] do not fit"):
        policy.read_sites(ids, [], edits=[[add(Site("mlp", 0), torch.ones(7))]])
    with pytest.raises(ConfigError, match=r"positions \[99\] are not all among"):
        policy.read_sites(ids, [], edits=[[add(Site("mlp", 0), torch.ones(32), [99])]])
    with pytest.raises(ConfigError, match=r"heads \[4\] are not all among 4"):
        policy.read_sites(ids, [], edits=[[ablate(Site("heads", 0), heads=[4])]])
    for nothing in (torch.zeros(32), torch.full((32,), float("nan"))):
        with pytest.raises(ConfigError, match="numbers that are not all 0"):
            ablate(Site("residual", 1), nothing)
    for text in ("residual", "final.1", "stream.2", "mlp.x"):
        with pytest.raises(ConfigError, match=r"write KIND\.LAYER"):
            Site.parse(text)
    assert [str(Site.parse(each)) for each in ("mlp.3", "final")] == ["mlp.3", "final"]
