"""MNIST's own file format: IDX, plain or gzipped, checked byte for byte.

A big-endian header (two zero bytes, the type's code, the number of dimensions, then their sizes
as 32-bit numbers) is followed by the values. MNIST's are unsigned bytes.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oversight.errors import DataError

UNSIGNED_BYTE = 0x08

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
            f"(unsigned bytes in {dimensions} dimensions)"
        )
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise DataError(f"{path}: truncated within its header ({len(data)} of {start} bytes)")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != prod(shape):
        state = "truncated" if len(data) - start < prod(shape) else "too long"
        size = " × ".join(map(str, shape))
        raise DataError(f"{path}: {state}: {len(data) - start} values, its header says {size}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or damaged gzip file ({error})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
