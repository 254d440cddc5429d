"""Images (the digits' split, and MNIST's files, sound and damaged), and their sparse classifier."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from oversight.errors import CheckpointError, DataError
from oversight.experiments.pixels import JudgeSettings
from oversight.experiments.pixels.judge import (
    SparseJudge,
    as_tensor,
    draw_masks,
    load_images,
    obtain_judge,
    read_idx,
    train_judge,
)

IMAGES = "t10k-images-idx3-ubyte"
LABELS = "t10k-labels-idx1-ubyte.gz"


def test_the_digits_are_split_by_the_seed_and_no_image_is_in_both_parts() -> None:
    one, same, other = load_images(None, 0), load_images(None, 0), load_images(None, 1)
    assert set(one.train.ids) & set(one.held_out.ids) == set()
    assert len(one.train) + len(one.held_out) == 1797
    assert one.train.fingerprint() == same.train.fingerprint() != other.train.fingerprint()


def test_mnist_is_read_plain_and_gzipped(mnist: Path) -> None:
    split = load_images(mnist, 0)
    assert (split.name, len(split.train), len(split.held_out)) == ("mnist", 300, 40)
    assert (split.train.side, split.train.top) == (16, 255)
    again = load_images(mnist, 1)
    assert sorted(again.held_out.ids) == sorted(split.held_out.ids)
    assert list(again.held_out.ids) != list(split.held_out.ids)


def test_values_are_those_of_the_file(mnist: Path) -> None:
    read = read_idx(mnist, IMAGES, 3)
    data = (mnist / IMAGES).read_bytes()
    assert read.shape == (40, 16, 16)
    assert read.tobytes() == data[16:]


Damage = Callable[[bytes], bytes]

DAMAGES: list[tuple[str, Damage, str]] = [
    (
        IMAGES,
        lambda data: data[:-5],
        "truncated: 10235 values, .*; restore a copy, or fetch it again",
    ),
    (IMAGES, lambda data: data + b"x", "too long"),
    (IMAGES, lambda data: data[:9], r"truncated within its header \(9 of 16 bytes\)"),
    (IMAGES, lambda data: b"", "begins with nothing, expected 00000803"),
    (IMAGES, lambda data: b"\0\0\x0d\x03" + data[4:], "begins with 00000d03"),
    (IMAGES, lambda data: b"PNG!" + data[4:], "begins with 504e4721"),
    (LABELS, lambda data: data[:-12], "truncated or damaged gzip"),
    (LABELS, lambda data: b"no gzip at all", "truncated or damaged gzip"),
    (LABELS, lambda data: data[:12] + b"\xff" * 20 + data[32:], "truncated or damaged gzip"),
    (LABELS, lambda data: gzip.compress(b"\0\0\x08\x01\0\0\0\x02\1\2"), "40 images and 2 labels"),
    (
        LABELS,
        lambda data: gzip.compress(gzip.decompress(data)[:-1] + b"\x0b"),
        "image 39 of t10k has the label 11; labels are 0 to 9; restore a copy",
    ),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
def test_a_damaged_file_is_named_with_its_fault(
    mnist: Path, name: str, damage: Damage, message: str
) -> None:
    path = mnist / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load_images(mnist, 0)
    assert str(mnist) in str(caught.value)


def test_an_absent_file_is_named(mnist: Path) -> None:
    (mnist / IMAGES).unlink()
    with pytest.raises(DataError, match=f"neither {IMAGES} nor {IMAGES}.gz"):
        load_images(mnist, 0)


def test_images_that_are_not_square_are_refused(mnist: Path) -> None:
    data = (mnist / IMAGES).read_bytes()
    size = np.array([40, 8, 32], dtype=">u4").tobytes()
    (mnist / IMAGES).write_bytes(data[:4] + size + data[16:])
    with pytest.raises(DataError, match="not square"):
        load_images(mnist, 0)


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
