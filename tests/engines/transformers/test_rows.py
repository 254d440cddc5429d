"""Rows of a model give the logits of its plain forward pass, however they are worked on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oversight.engines.transformers.loading import load_model
from oversight.engines.transformers.rows import CHUNK_TOKENS, MAX_PADDING, _padding, _width

BRANCHES = (5, 1, 3, 2)


def plain(model, ids):  # type: ignore[no-untyped-def]
    """Logits after each token of `ids`."""
    return model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]


@pytest.fixture
def ids():  # type: ignore[no-untyped-def]
    return np.random.default_rng(0).integers(3, 380, size=(4, 60))


@pytest.mark.parametrize(
    "architecture", ["llama", "gpt2", "mistral", "gemma3_text", "bloom", "mamba"]
)
@torch.inference_mode()
def test_every_branch_is_scored_as_if_it_stood_alone(architecture, model_folder, reference, ids):
    folder = model_folder(architecture)
    rows = load_model(str(folder), None, "cpu", "float32", 4096).rows
    rows.join([80, 80])
    rows.extend(0, [ids[0, :40], ids[1, :9]])
    for row, length in ((1, 9), (0, 40)):
        branches = [ids[2 + i % 2, i : i + size] for i, size in enumerate(BRANCHES)]
        for branch, logits_TV in zip(branches, rows.score(row, branches), strict=True):
            whole = np.concatenate([ids[row, :length], branch])
            expected = plain(reference(folder), whole)[length:]
            torch.testing.assert_close(logits_TV, expected, atol=1e-4, rtol=1e-4)
    # Nothing of the branches stays.
    expected = plain(reference(folder), ids[0, :41])[-1]
    longer = [ids[0, 40:41], ids[1, 9:10]]
    torch.testing.assert_close(rows.extend(0, longer)[0], expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_rows_may_leave_join_grow_and_share_in_any_order(tiny_model, reference, ids):
    rows = load_model(str(tiny_model), None, "cpu", "float32", 4096).rows
    rng, model = np.random.default_rng(1), reference(tiny_model)
    held: list[int] = []
    for _ in range(60):
        if held and rng.random() < 0.3:
            row = int(rng.integers(len(held)))
            rows.remove(row)
            held[row] = held[-1]
            held.pop()
        elif len(held) < 5 and rng.random() < 0.5:
            which, length = int(rng.integers(4)), int(rng.integers(2, 20))
            rows.join([60 + int(rng.integers(60))])
            held.append(which)
            same = [i for i, other in enumerate(held[:-1]) if other == which]
            shared = min(rows.lengths[same[0]], length - 1) if same else 0
            if shared:
                rows.fill(len(held) - 1, (same[0], shared))
            logits = rows.extend(len(held) - 1, [ids[which, shared:length]])
            expected = plain(model, ids[which, :length])[-1]
            torch.testing.assert_close(logits[0], expected, atol=1e-4, rtol=1e-4)
        elif held and max(rows.lengths) < 60:
            new = [ids[which, [rows.lengths[row]]] for row, which in enumerate(held)]
            logits = rows.extend(0, new)
            for row, which in enumerate(held):
                expected = plain(model, ids[which, : rows.lengths[row]])[-1]
                torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "remaining", [[1], [5000], [10, 9, 8], [1000, 1], [700, 650, 640, 5, 5], [3000] * 40, [1] * 9]
)
def test_a_pass_is_neither_too_big_nor_mostly_padding(remaining):
    width = _width(remaining)
    assert 1 <= width <= max(remaining)
    assert width * len(remaining) <= max(CHUNK_TOKENS, len(remaining))
    assert _padding(remaining, width) <= MAX_PADDING
