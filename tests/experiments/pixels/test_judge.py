"""The sparse classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from oversight.errors import CheckpointError
from oversight.experiments.pixels.images import load_images
from oversight.experiments.pixels.judge import (
    SparseJudge,
    as_tensor,
    draw_masks,
    obtain_judge,
    train_judge,
)
from oversight.experiments.pixels.settings import JudgeSettings


def test_what_is_hidden_changes_nothing(judge: SparseJudge, image: Tensor) -> None:
    shown = torch.zeros(1, 9)
    shown[0, [1, 5]] = 1.0
    other = torch.where(shown[0] > 0, image, torch.rand(9))
    other[3] = torch.nan
    assert torch.equal(judge(image[None], shown), judge(other[None], shown))


def test_where_a_pixel_stands_is_seen_even_if_it_is_dark(judge: SparseJudge) -> None:
    shown = torch.eye(9)[:2]
    first, second = judge(torch.zeros(2, 9), shown)
    assert not torch.allclose(first, second)


def test_parts_add_up_to_what_the_first_layer_makes_of_a_mask(
    judge: SparseJudge, image: Tensor
) -> None:
    shown = torch.zeros(1, 9)
    shown[0, [2, 3, 8]] = 1.0
    sums = judge.first.bias + judge.parts(image)[[2, 3, 8]].sum(0)
    torch.testing.assert_close(
        judge.read(sums[None]), judge(image[None], shown), atol=1e-4, rtol=1e-4
    )


def test_masks_show_that_many_pixels_and_no_zero() -> None:
    values = as_tensor(load_images(None, 0).train)[:50]
    masks = draw_masks(values, 6, torch.Generator().manual_seed(1))
    assert (masks.sum(1) == 6).all()
    assert (values[masks > 0] > 0).all()


def test_training_learns_and_leaves_the_callers_random_state_alone() -> None:
    split = load_images(None, 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    judge = train_judge(split.train, 6, JudgeSettings(steps=300, hidden=32), seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    values = as_tensor(split.held_out)
    masks = draw_masks(values, 6, torch.Generator().manual_seed(2))
    right = judge(values, masks).argmax(1).numpy() == split.held_out.labels
    assert 0.35 < np.mean(right) < 0.8


def test_a_judge_is_trained_once_for_the_same_settings(tmp_path: Path) -> None:
    images = load_images(None, 0).train
    steps: list[int] = []

    def count(done: int, total: int) -> None:
        steps.append(done)

    quick = JudgeSettings(steps=5, hidden=8)
    first = obtain_judge(images, 4, quick, 0, tmp_path, count)
    again = obtain_judge(images, 4, quick, 0, tmp_path, count)
    other = obtain_judge(images, 4, quick, 1, tmp_path, count)
    assert len(steps) == 10
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_damaged_judge_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    images = load_images(None, 0).train
    quick = JudgeSettings(steps=2, hidden=8)
    obtain_judge(images, 4, quick, 0, tmp_path)
    [path] = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="delete it"):
        obtain_judge(images, 4, quick, 0, tmp_path)
