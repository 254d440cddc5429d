"""A small judge with random weights, small images, and MNIST's files in miniature."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from oversight.experiments.pixels.game import Search
from oversight.experiments.pixels.judge import SparseJudge

TINY = (0.0, 0.5, 1.0, 0.2, 0.0, 0.9, 0.7, 0.0, 0.4)
"""A 3 × 3 image, six pixels of which are not zero."""


@pytest.fixture
def judge() -> SparseJudge:
    """A judge of 3 × 3 images with large random weights: pixels matter to it."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = SparseJudge(9, 16)
        for weights in made.parameters():
            weights.data *= 3.0
    return made.eval().requires_grad_(False)


@pytest.fixture
def image() -> Tensor:
    return torch.tensor(TINY)


@pytest.fixture
def search(judge: SparseJudge, image: Tensor) -> Search:
    return Search(judge, image, label=2, pixels=4)


def idx(values: NDArray[np.uint8]) -> bytes:
    """`values` as an IDX file."""
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A folder with MNIST's four files, of scikit-learn's digits drawn twice as large."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = (digits.images * 15).astype(np.uint8)
    images = small.repeat(2, axis=1).repeat(2, axis=2)
    labels = digits.target.astype(np.uint8)
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, some in (("train", slice(0, 300)), ("t10k", slice(300, 340))):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images[some]))
        packed = gzip.compress(idx(labels[some]))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(packed)
    return folder
