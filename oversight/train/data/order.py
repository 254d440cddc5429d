"""The order in which examples are visited: seeded, resumable, the same on every machine.

The permutation of an epoch depends on the seed and the epoch's number only, so
a place in the data is two numbers, and a run goes on from there without
replaying anything. It is made from the bit generator's raw output, which NumPy
promises to keep between versions; what `Generator.permutation` gives it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from oversight.errors import ConfigError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the data: so many examples of this epoch were visited."""

    epoch: int = 0
    index: int = 0

    def to_json(self) -> dict[str, int]:
        """The cursor for a checkpoint."""
        return {"epoch": self.epoch, "index": self.index}


@dataclass(frozen=True, slots=True)
class Order:
    """The order of `num` examples, epoch after epoch.

    Raises:
        ConfigError: There are no examples.
    """

    num: int
    seed: int
    shuffle: bool = True
    drop_last: bool = False
    """Leave out an epoch's last examples where they fill no batch; else that batch is short."""

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ConfigError(f"order.num = {self.num!r}: there must be at least one example")

    def permutation(self, epoch: int) -> Indices:
        """The examples of an epoch in the order of their visit."""
        if not self.shuffle:
            return np.arange(self.num, dtype=np.int64)
        return _permutation(self.num, self.seed, epoch)

    def take(self, cursor: Cursor, batch_size: int) -> tuple[Indices, Cursor]:
        """The next examples, and the place behind them. No batch spans two epochs.

        Raises:
            ConfigError: An epoch does not fill one batch, and short ones are left out.
        """
        if self.drop_last and batch_size > self.num:
            raise ConfigError(
                f"batch_size = {batch_size}: {self.num} examples do not fill one batch; "
                "take a smaller one or drop_last = false"
            )
        needed = batch_size if self.drop_last else 1
        if self.num - cursor.index < needed:
            cursor = Cursor(cursor.epoch + 1)
        taken = self.permutation(cursor.epoch)[cursor.index : cursor.index + batch_size]
        return taken, Cursor(cursor.epoch, cursor.index + len(taken))

    def batches(self, batch_size: int, start: Cursor | None = None) -> Iterator[Indices]:
        """Batches without end, from `start` on."""
        cursor = start or Cursor()
        while True:
            taken, cursor = self.take(cursor, batch_size)
            yield taken

    def num_batches(self, batch_size: int) -> int:
        """How many batches an epoch has."""
        return self.num // batch_size if self.drop_last else -(-self.num // batch_size)


@lru_cache(maxsize=4)
def _permutation(num: int, seed: int, epoch: int) -> Indices:
    keys = np.random.PCG64(np.random.SeedSequence((seed, epoch))).random_raw(num)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order
