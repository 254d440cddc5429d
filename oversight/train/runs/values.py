"""Nested values as JSON and named tensors, and back again, without any loss.

What a value may be: None, booleans, integers, floats (NaN and infinities
too), texts, bytes, lists, tuples, dictionaries with any of these as keys,
torch tensors, numpy arrays and numpy numbers. Whatever JSON has no form for
becomes an object with the one key `$kind`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from oversight.errors import CheckpointError

Value = Any
"""A value of the kinds above."""
Tensors = dict[str, torch.Tensor]

_MARK = "$"
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(value: Value, where: str = "state") -> tuple[Any, Tensors]:
    """JSON for `value`, and the tensors that it refers to by name.

    Raises:
        CheckpointError: A value is of another kind; names its dotted place.
    """
    tensors: Tensors = {}
    return _pack(value, where, tensors), tensors


def unpack(plain: Any, tensors: Mapping[str, torch.Tensor]) -> Value:
    """The value that `pack` made `plain` and `tensors` of."""
    if isinstance(plain, list):
        return [unpack(item, tensors) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1 and (key := next(iter(plain))).startswith(_MARK):
        return _unpack_marked(key[1:], plain[key], tensors)
    return {key: unpack(item, tensors) for key, item in plain.items()}


def _pack(value: Value, where: str, tensors: Tensors) -> Any:
    # Exact types: a subclass (numpy's float64 is one of float) would come back as another.
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind in (list, tuple):
        items = [_pack(item, f"{where}.{i}", tensors) for i, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if kind is dict:
        return _pack_dict(value, where, tensors)
    if kind is bytes:
        return {"$bytes": value.hex()}
    return _pack_array(value, where, tensors)


def _pack_dict(value: dict[Any, Any], where: str, tensors: Tensors) -> Any:
    if all(type(key) is str and not key.startswith(_MARK) for key in value):
        return {key: _pack(item, f"{where}.{key}", tensors) for key, item in value.items()}
    return {
        "$items": [
            [_pack(key, where, tensors), _pack(item, f"{where}.{key}", tensors)]
            for key, item in value.items()
        ]
    }


def _pack_array(value: Value, where: str, tensors: Tensors) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[where] = plain_tensor(value, where)
        return {"$tensor": where}
    if isinstance(value, np.ndarray | np.generic):
        kind = "array" if isinstance(value, np.ndarray) else "number"
        try:
            # A copy: from_numpy takes neither read-only nor byte-swapped memory.
            native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
            tensors[where] = plain_tensor(torch.from_numpy(native), where)
        except TypeError:
            raise _refused(value, where) from None
        return {f"${kind}": where}
    raise _refused(value, where)


def plain_tensor(value: torch.Tensor, where: str) -> torch.Tensor:
    """`value` as safetensors takes it: dense, contiguous, on the CPU, with memory of its own.

    Raises:
        CheckpointError: It is sparse, quantised or of a type that safetensors lacks.
    """
    if value.layout is not torch.strided or value.is_quantized or value.dtype not in _KEPT:
        raise _refused(value, where)
    plain = value.detach()
    whole = plain.is_contiguous() and plain.untyped_storage().nbytes() == plain.nbytes
    if plain.device.type != "cpu" or not whole:
        plain = plain.to("cpu", copy=True).contiguous()
    return plain


def _refused(value: Value, where: str) -> CheckpointError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    dtype = f" of {value.dtype}" if hasattr(value, "dtype") else ""
    return CheckpointError(
        f"{where}: a {kind}{dtype} cannot be kept in a checkpoint without pickle; give JSON-plain "
        "values, dense tensors or numeric numpy arrays"
    )


def _unpack_marked(kind: str, content: Any, tensors: Mapping[str, torch.Tensor]) -> Value:
    if kind == "float":
        return _WORDS[content]
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in content)
    if kind == "items":
        return {unpack(key, tensors): unpack(item, tensors) for key, item in content}
    if kind == "bytes":
        return bytes.fromhex(content)
    tensor = tensors[content]
    if kind == "tensor":
        return tensor
    return tensor.numpy() if kind == "array" else tensor.numpy()[()]


_KEPT = frozenset(
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8),
        *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
    ]
)
