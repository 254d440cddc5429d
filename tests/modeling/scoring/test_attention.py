"""All back ends attend alike; models of many kinds score a trie as they score plain rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError
from oversight.modeling import TokenRow
from oversight.modeling.scoring import blocks
from oversight.modeling.scoring.attention import Layout, choose_back_end, trie_attention
from oversight.modeling.scoring.blocks import (
    BlockAttention,
    dense_attention,
    flex_attention_over,
    tails_of,
)
from oversight.modeling.scoring.trie import TokenTrie

HEADS, SIZE = 4, 16


def layout_of(rows: list[TokenRow], back_end: str = "dense") -> Layout:
    return Layout(TokenTrie.build([row.ids() for row in rows]), torch.device("cpu"), back_end)


def random_inputs(num_tokens: int, num_key_heads: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    # Heads side by side in memory, as models lay them out.
    shapes = [(1, num_tokens, heads, SIZE) for heads in (HEADS, num_key_heads, num_key_heads)]
    return [torch.randn(shape, dtype=dtype).transpose(1, 2).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("num_key_heads", [4, 2, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
def test_blocks_give_the_output_and_gradients_of_the_dense_mask(
    rows: list[TokenRow], num_key_heads: int, dtype: torch.dtype, tolerance: float
) -> None:
    layout = layout_of(rows)
    inputs = random_inputs(len(layout.ends_T), num_key_heads, dtype)
    outputs = [
        BlockAttention.apply(*inputs, layout.blocks, 0.3),
        dense_attention(*inputs, layout, 0.3, None),
    ]
    weights = torch.randn_like(outputs[0])
    grads = [torch.autograd.grad(output, inputs, weights) for output in outputs]
    assert (outputs[0] - outputs[1]).abs().max() < tolerance
    for ours, plain in zip(*grads, strict=True):
        assert (ours - plain).abs().max() < tolerance


def long_rows() -> list[TokenRow]:
    """Rows that share a long prompt, and others as long that share nothing."""
    draw = np.random.default_rng(0).integers
    prompt = draw(0, 90, 600)
    shared = [TokenRow(prompt, draw(0, 90, 40)) for _ in range(3)]
    return [*shared, *(TokenRow(draw(0, 90, 400), draw(0, 90, 37)) for _ in range(3))]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)])
def test_long_runs_in_pieces_give_the_output_and_gradients_of_the_dense_mask(
    dtype: torch.dtype, tolerance: float
) -> None:
    layout = layout_of(long_rows())
    assert len(layout.blocks_in_pieces) > len(layout.blocks) + 4
    inputs = random_inputs(len(layout.ends_T), 2, dtype)
    outputs = [
        BlockAttention.apply(*inputs, layout.blocks_in_pieces, 0.3),
        dense_attention(*inputs, layout, 0.3, None),
    ]
    weights = torch.randn_like(outputs[0])
    grads = [torch.autograd.grad(output, inputs, weights) for output in outputs]
    assert (outputs[0] - outputs[1]).abs().max() < tolerance
    for ours, plain in zip(*grads, strict=True):
        assert (ours - plain).abs().max() < tolerance


def num_seen(layout: Layout) -> torch.Tensor:
    """Number of times that each asking place meets each place of the line in pieces, [Q, T]."""
    seen = torch.zeros(len(layout.asking_Q), len(layout.ends_T), dtype=torch.int64)
    for block in layout.blocks_in_pieces:
        queries = torch.arange(block.queries.start, block.queries.stop).chunk(block.num)
        keys = torch.arange(block.keys.start, block.keys.stop).chunk(block.num)
        for query_Q, key_T in zip(queries, keys, strict=True):
            part = torch.ones(len(query_Q), len(key_T), dtype=torch.int64)
            seen[query_Q[:, None], key_T] += part.tril() if block.causal else part
            if block.first:
                assert not seen[query_Q].sum(1).gt(len(key_T)).any()
    return seen


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("piece", [2, 3, 5])
def test_blocks_in_pieces_hold_each_visible_pair_once(
    rows: list[TokenRow], monkeypatch: pytest.MonkeyPatch, piece: int, cut: bool
) -> None:
    monkeypatch.setattr(blocks, "PIECE", piece)
    layout = layout_of(rows)
    if cut:
        needed = np.arange(0, len(layout.ends_T), 3)
        tails = tails_of(layout.runs, needed)
        trie = TokenTrie.build([row.ids() for row in rows])
        layout = Layout(trie, torch.device("cpu"), "blocks", tails)
    assert len(layout.blocks_in_pieces) > len(layout.blocks)
    assert torch.equal(num_seen(layout), layout.visible(None).long())


def test_block_gradients_are_those_of_finite_differences(rows: list[TokenRow]) -> None:
    layout = layout_of(rows[:4])
    inputs = random_inputs(len(layout.ends_T), 2, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *args: BlockAttention.apply(*args, layout.blocks, 0.3), inputs, fast_mode=True
    )


def test_very_large_scores_stay_finite_in_blocks(rows: list[TokenRow]) -> None:
    layout = layout_of(rows)
    inputs = [1000 * tensor for tensor in random_inputs(len(layout.ends_T), 4, torch.float32)]
    output = BlockAttention.apply(*inputs, layout.blocks, 1.0)
    assert torch.isfinite(output).all()
    assert torch.allclose(output, dense_attention(*inputs, layout, 1.0, None), rtol=1e-3, atol=1e-2)


@pytest.mark.slow  # compiles a kernel
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch warns of itself when compiling
def test_flex_gives_the_output_of_the_dense_mask(rows: list[TokenRow]) -> None:
    layout = layout_of(rows, "flex")
    inputs = [tensor.detach() for tensor in random_inputs(len(layout.ends_T), 2, torch.float32)]
    with torch.no_grad():
        flex = flex_attention_over(*inputs, layout, 0.3, None)
        dense = dense_attention(*inputs, layout_of(rows), 0.3, None)
    assert (flex - dense).abs().max() < 1e-5


@pytest.mark.parametrize("back_end", ["blocks", "dense"])
@pytest.mark.parametrize("needed", [[0], [3, 4], [11, 12, 30], [0, 1, 2, 20, 35, 36]])
def test_where_only_some_places_ask_they_get_what_they_would_get_among_all(
    rows: list[TokenRow], back_end: str, needed: list[int]
) -> None:
    whole = layout_of(rows)
    trie = TokenTrie.build([row.ids() for row in rows])
    tails = tails_of(trie.runs, np.array(needed))
    cut = Layout(trie, torch.device("cpu"), back_end, tails)
    asking = cut.asking_Q
    assert set(needed) <= set(asking.tolist())
    query, key, value = random_inputs(len(whole.ends_T), 2, torch.float64)
    expected = dense_attention(query, key, value, whole, 0.3, None)[:, :, asking]
    inputs = (query[:, :, asking], key, value)
    if back_end == "blocks":
        output = BlockAttention.apply(*inputs, cut.blocks, 0.3)
    else:
        output = dense_attention(*inputs, cut, 0.3, None)
    weights = torch.randn_like(output)
    assert (output - expected).abs().max() < 1e-13
    for ours, plain in zip(
        torch.autograd.grad(output, (query, key, value), weights),
        torch.autograd.grad(expected, (query, key, value), weights),
        strict=True,
    ):
        assert (ours - plain).abs().max() < 1e-12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention's backward needs a GPU")
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("num_key_heads", [4, 2])
def test_flex_gives_the_gradients_of_the_dense_mask(
    rows: list[TokenRow], num_key_heads: int, window: int | None
) -> None:
    trie = TokenTrie.build([row.ids() for row in rows])
    device = torch.device("cuda")
    inputs = [
        tensor.detach().to(device).requires_grad_()
        for tensor in random_inputs(trie.num_tokens, num_key_heads, torch.float32)
    ]
    flex = flex_attention_over(*inputs, Layout(trie, device, "flex"), 0.3, window)
    dense = dense_attention(*inputs, Layout(trie, device, "dense"), 0.3, window)
    weights = torch.randn_like(flex)
    for ours, plain in zip(
        torch.autograd.grad(flex, inputs, weights),
        torch.autograd.grad(dense, inputs, weights),
        strict=True,
    ):
        assert (ours - plain).abs().max() < 1e-2


@pytest.mark.parametrize(("back_end", "device"), [("blocks", "cuda"), ("flex", "cpu")])
def test_a_back_end_is_refused_where_it_does_not_run(back_end: Any, device: str) -> None:
    with pytest.raises(ConfigError, match=f"attention = '{back_end}'"):
        choose_back_end(back_end, torch.device(device))


@pytest.mark.parametrize("arguments", [{"softcap": 30.0}, {"dropout": 0.1}])
def test_layers_that_would_be_scored_wrongly_are_refused(
    rows: list[TokenRow], arguments: dict[str, Any]
) -> None:
    layout = layout_of(rows, "blocks")
    inputs = random_inputs(len(layout.ends_T), 4, torch.float32)
    with pytest.raises(ConfigError, match="cannot attend over a token trie"):
        trie_attention(torch.nn.Linear(1, 1), *inputs, None, trie=layout, **arguments)
