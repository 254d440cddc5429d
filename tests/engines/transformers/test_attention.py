"""Attention with shared key heads equals attention over copies of them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from oversight.engines.transformers.loading import _one_query, shared_heads_attention
from oversight.engines.transformers.rows import CHUNKED, FULL, SLIDING, MaskStyle


def inputs(num_queries: int):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 6, num_queries, 8, generator=generator)
    key, value = (torch.randn(3, 2, 11, 8, generator=generator) for _ in range(2))
    mask = torch.rand(3, 1, num_queries, 11, generator=generator) > 0.4
    mask[..., 0] = True
    return query, key, value, mask


def over_copies(query, key, value, mask, scale):  # type: ignore[no-untyped-def]
    copies = (tensor.repeat_interleave(3, dim=1) for tensor in (key, value))
    return scaled_dot_product_attention(query, *copies, attn_mask=mask, scale=scale)


@pytest.mark.parametrize("num_queries", [1, 4])
def test_the_kernel_shares_heads_as_copies_would(num_queries):
    query, key, value, mask = inputs(num_queries)
    module = torch.nn.Module()
    output, _ = shared_heads_attention(module, query, key, value, mask, scaling=0.3)
    expected = over_copies(query, key, value, mask, 0.3).transpose(1, 2)
    torch.testing.assert_close(output, expected)


def test_heads_as_queries_of_one_head_give_the_same():
    query, key, value, mask = inputs(1)
    expected = over_copies(query, key, value, mask, 0.3)
    torch.testing.assert_close(_one_query(query, key, value, mask, 0.3), expected)


@pytest.mark.parametrize(
    ("kind", "seen"),
    [(FULL, [0, 1, 2, 3, 4, 5]), (SLIDING, [3, 4, 5]), (CHUNKED, [4, 5])],
)
def test_what_a_query_at_position_5_sees(kind, seen):
    style = MaskStyle((kind,), window=3, chunk=4, by_kind=False, additive=False)
    mask = style.build(torch.tensor([[5]]), torch.arange(8), torch.float32)
    assert isinstance(mask, torch.Tensor)
    assert mask[0, 0, 0].nonzero().flatten().tolist() == seen


def test_an_additive_mask_by_kind_says_the_same():
    style = MaskStyle((FULL, SLIDING), window=2, chunk=None, by_kind=True, additive=True)
    masks = style.build(torch.tensor([[2]]), torch.arange(4), torch.float32)
    assert isinstance(masks, dict)
    lowest = torch.finfo(torch.float32).min
    assert masks[FULL][0, 0, 0].tolist() == [0, 0, 0, lowest]
    assert masks[SLIDING][0, 0, 0].tolist() == [lowest, 0, 0, lowest]
