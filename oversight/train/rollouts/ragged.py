"""Arrays of different lengths as one array and their lengths: what a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pack(arrays: Sequence[Array | None], dtype: npt.DTypeLike) -> dict[str, Array]:
    """All values one after another, and the length of each array; -1 for None."""
    lengths = np.array([-1 if each is None else len(each) for each in arrays], dtype=np.int64)
    there = [each for each in arrays if each is not None]
    values = np.concatenate([np.empty(0, dtype=dtype), *there])
    if values.dtype != np.dtype(dtype):
        raise TypeError(f"arrays of {values.dtype} cannot be kept as {np.dtype(dtype)}")
    return {"values": values, "lengths": lengths}


def unpack(packed: dict[str, Array]) -> list[Array | None]:
    """The arrays that `pack` was given."""
    lengths, values = packed["lengths"], packed["values"]
    stops = np.cumsum(np.maximum(lengths, 0))
    return [
        None if length < 0 else values[stop - length : stop].copy()
        for length, stop in zip(lengths.tolist(), stops.tolist(), strict=True)
    ]


def unpack_all(packed: dict[str, Array]) -> list[Array]:
    """The same where none of them is None."""
    return [each for each in unpack(packed) if each is not None]
