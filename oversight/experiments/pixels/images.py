"""The images: scikit-learn's digits, which come with it, or MNIST from a folder."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oversight.errors import DataError

UNSIGNED_BYTE = 0x08
REMEDY = "; restore a copy, or fetch it again"

Bytes = NDArray[np.uint8]


def read_idx(folder: Path, name: str, dimensions: int) -> Bytes:
    """The array in `folder/name`, or in `name.gz` there.

    Raises:
        DataError: The file is absent, no IDX file of unsigned bytes with so many dimensions, or
            shorter or longer than its header says.
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: neither {name} nor {name}.gz is there; MNIST's IDX files are")
    data = _content(path)
    expected = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if data[:4] != expected:
        raise DataError(
            f"{path}: begins with {data[:4].hex() or 'nothing'}, expected {expected.hex()} "
            f"(unsigned bytes in {dimensions} dimensions){REMEDY}"
        )
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise DataError(
            f"{path}: truncated within its header ({len(data)} of {start} bytes){REMEDY}"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != prod(shape):
        state = "truncated" if len(data) - start < prod(shape) else "too long"
        size = " × ".join(map(str, shape))
        raise DataError(
            f"{path}: {state}: {len(data) - start} values, its header says {size}{REMEDY}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged gzip file ({error}){REMEDY}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


NUM_LABELS = 10

TRAIN_SHARE = 2 / 3
"""Of the digits, which have no split of their own: what the judge learns from."""


@dataclass(frozen=True, slots=True)
class Images:
    """Square images of digits."""

    values: NDArray[np.uint8]
    """[image, pixel], row after row."""
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    """Place of each in its file."""
    side: int
    top: int
    """The brightest value that there can be."""

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, places: NDArray[np.int64]) -> Images:
        """The images at `places`, in that order."""
        return Images(
            self.values[places], self.labels[places], self.ids[places], self.side, self.top
        )

    def with_pixels(self, least: int) -> Images:
        """Those with at least so many pixels that are not zero."""
        return self.pick(np.flatnonzero((self.values > 0).sum(1) >= least))

    def fingerprint(self) -> str:
        """A short hash of all values and labels."""
        digest = hashlib.blake2b(self.values.tobytes(), digest_size=8)
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Split:
    """Images that the judge learns from, and held-out images that are played on."""

    name: str
    """`digits` or `mnist`."""
    train: Images
    held_out: Images


def load_images(mnist: Path | None, seed: int) -> Split:
    """MNIST in its own split, or the digits split by `seed`; held-out images in a seeded order.

    Raises:
        DataError: A file of MNIST is absent or damaged.
    """
    rng = np.random.default_rng(seed)
    if mnist is not None:
        held_out = _mnist(mnist, "t10k")
        return Split("mnist", _mnist(mnist, "train"), held_out.pick(rng.permutation(len(held_out))))
    whole = _digits()
    order = rng.permutation(len(whole))
    cut = round(TRAIN_SHARE * len(whole))
    return Split("digits", whole.pick(order[:cut]), whole.pick(order[cut:]))


def _digits() -> Images:
    from sklearn.datasets import load_digits

    found = load_digits()
    values = found.data.astype(np.uint8)
    labels = found.target.astype(np.int64)
    return Images(values, labels, np.arange(len(labels)), side=8, top=16)


def _mnist(folder: Path, part: str) -> Images:
    values = read_idx(folder, f"{part}-images-idx3-ubyte", 3)
    labels = read_idx(folder, f"{part}-labels-idx1-ubyte", 1)
    if len(values) != len(labels):
        raise DataError(f"{folder}: {part} has {len(values)} images and {len(labels)} labels")
    if not len(labels) or values.shape[1] != values.shape[2] or not values.shape[1]:
        raise DataError(f"{folder}: {part} holds images of shape {values.shape}, not square ones")
    if len(wrong := np.flatnonzero(labels >= NUM_LABELS)):
        first = wrong[0]
        raise DataError(
            f"{folder}: image {first} of {part} has the label {labels[first]}; labels are 0 to 9"
            + REMEDY
        )
    return Images(
        values.reshape(len(values), -1),
        labels.astype(np.int64),
        np.arange(len(labels)),
        side=values.shape[1],
        top=255,
    )
