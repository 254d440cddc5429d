"""The images, and the judge: a classifier that sees a few of their pixels, and where they are.

Images are scikit-learn's digits, which come with it, or MNIST from a folder.

As in the paper the judge is trained beforehand, by supervised learning, on random pixels that are
not zero, as many as it will see in the games; it stays as it is while others play against it. The
paper's is a convolutional net, ours a perceptron of two hidden layers: what its first layer
makes of a set of pixels is a sum over them, which the search adds up pixel by pixel.

Letters of dimensions: B images, S sets of pixels, P pixels of an image, H hidden units, L labels.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oversight.errors import CheckpointError, DataError, FileError
from oversight.experiments.pixels import JudgeSettings
from oversight.files import whole_file
from oversight.ids import content_id

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
        raise DataError(
            f"{folder}: neither {name} nor {name}.gz is there; name the folder "
            "that holds MNIST's four IDX files"
        )
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


WEIGHT_DECAY = 1e-4

Progress = Callable[[int, int], None]
"""Takes the steps done and their number."""


class SparseJudge(nn.Module):
    """From some pixels of an image to logits over the labels."""

    def __init__(self, num_pixels: int, hidden: int) -> None:
        super().__init__()
        self.num_pixels = num_pixels
        self.first = nn.Linear(2 * num_pixels, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, NUM_LABELS)

    def forward(self, values_BP: Tensor, shown_BP: Tensor) -> Tensor:
        """Logits [B, L] from values in [0, 1] and a mask; values that are not shown count for
        nothing, whatever they are."""
        seen_BP = torch.where(shown_BP > 0, values_BP, 0.0)
        return self.read(self.first(torch.cat((seen_BP, shown_BP), dim=1)))

    def read(self, sums_SH: Tensor) -> Tensor:
        """Logits [S, L] from the sums of the first layer."""
        logits_SL: Tensor = self.last(torch.relu(self.second(torch.relu(sums_SH))))
        return logits_SL

    def parts(self, values_P: Tensor) -> Tensor:
        """Share of each pixel of an image, if shown, in the sums of the first layer: [P, H]."""
        value_HP, mask_HP = self.first.weight.chunk(2, dim=1)
        parts_PH: Tensor = (value_HP * values_P + mask_HP).T
        return parts_PH

    def fingerprint(self) -> str:
        """A short hash of all weights."""
        digest = hashlib.blake2b(digest_size=8)
        for weights in self.state_dict().values():
            digest.update(weights.numpy().tobytes())
        return digest.hexdigest()


def draw_masks(values_BP: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """A mask [B, P] of `pixels` random pixels of each image that are not zero."""
    keys_BP = torch.rand(values_BP.shape, generator=generator) + 1e-6
    chosen = torch.where(values_BP > 0, keys_BP, 0.0).topk(pixels, dim=1).indices
    return torch.zeros_like(values_BP).scatter_(1, chosen, 1.0)


def train_judge(
    images: Images,
    pixels: int,
    settings: JudgeSettings,
    seed: int,
    on_step: Progress | None = None,
) -> SparseJudge:
    """A judge trained on `pixels` random pixels of each of `images`.

    The random state of the caller is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = SparseJudge(images.values.shape[1], settings.hidden)
    generator = torch.Generator().manual_seed(seed)
    usable = images.with_pixels(pixels)
    values, labels = as_tensor(usable), torch.from_numpy(usable.labels)
    optimizer = torch.optim.AdamW(judge.parameters(), settings.rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for step in range(settings.steps):
        rows = torch.randint(len(usable), (settings.batch,), generator=generator)
        mask_BP = draw_masks(values[rows], pixels, generator)
        loss = nn.functional.cross_entropy(judge(values[rows], mask_BP), labels[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(step + 1, settings.steps)
    return judge.eval().requires_grad_(False)


def as_tensor(images: Images) -> Tensor:
    """Values [B, P] in [0, 1]."""
    return torch.from_numpy(images.values).float() / images.top


def obtain_judge(
    images: Images,
    pixels: int,
    settings: JudgeSettings,
    seed: int,
    folder: Path,
    on_step: Progress | None = None,
) -> SparseJudge:
    """The judge of these settings: read from `folder` if it is there, else trained and put there.

    Raises:
        CheckpointError: The file cannot be read or written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    about = [images.fingerprint(), pixels, settings.model_dump(mode="json"), seed]
    path = folder / f"judge{pixels}-{content_id('pixel judge', about)[:8]}.safetensors"
    try:
        if path.exists():
            judge = SparseJudge(images.values.shape[1], settings.hidden)
            judge.load_state_dict(load_file(path))
            return judge.eval().requires_grad_(False)
        judge = train_judge(images, pixels, settings, seed, on_step)
        with whole_file(path, "judge") as part:
            save_file(judge.state_dict(), part, {"about": json.dumps(about)})
    except (OSError, FileError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"judge {path}: {error}; delete it to train it anew") from error
    return judge
