from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from oversight.errors import CheckpointError
from oversight.train.runs.shards import pack, unpack, write_tensors

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=8)
    | st.tuples(st.integers(), st.floats()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        | st.just({"$float": "no mark of ours"})
    ),
    max_leaves=12,
)


def through_json(value: Any) -> Any:
    plain, tensors = pack(value)
    return unpack(json.loads(json.dumps(plain, allow_nan=False)), tensors)


@given(PLAIN)
@example([math.nan, math.inf, -math.inf, -0.0, 0.1 + 0.2, 5e-324, 2**200, True, 1, 1.0])
@example({"a": (1, [2.0, ()]), 3: {"$tensor": "x"}, None: b"\x00"})
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    # repr tells 1 from 1.0 and True, -0.0 from 0.0, and NaN is like NaN.
    assert repr(through_json(value)) == repr(value)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([1.5, math.nan, -0.0, math.inf]).to(torch.bfloat16),
        torch.tensor([2**62 + 1, -1]),
        torch.tensor([[True, False]]),
        torch.tensor(3.0, dtype=torch.float64),
        torch.zeros(0, 3),
        torch.arange(6, dtype=torch.int16).reshape(2, 3).T,
        torch.arange(10.0)[3:5],
        torch.tensor([1 + 2j]),
        torch.tensor([2**63], dtype=torch.uint64),
    ],
    ids=lambda tensor: str(tensor.dtype),
)
def test_tensors_come_back_bit_for_bit(tensor: torch.Tensor, tmp_path: Path) -> None:
    plain, tensors = pack({"a": [tensor]})
    write_tensors(tmp_path / "x.safetensors", tensors)
    back = unpack(plain, load_file(tmp_path / "x.safetensors"))["a"][0]
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert (
        back.numpy(force=True).tobytes() == tensor.contiguous().numpy().tobytes()
        if (tensor.dtype is not torch.bfloat16)
        else torch.equal(back.view(torch.int16), tensor.view(torch.int16))
    )


def test_arrays_and_numpy_numbers_come_back_as_such(tmp_path: Path) -> None:
    value = {
        "array": np.array([[1, 2]], dtype=np.int64),
        "swapped": np.array([1.5, 2.5], dtype=">f4"),
        "number": np.float64(0.1),
        "flag": np.bool_(True),
        "frozen": np.frombuffer(b"\x01\x02", dtype=np.uint8),
    }
    plain, tensors = pack(value)
    write_tensors(tmp_path / "x.safetensors", tensors)
    back = unpack(json.loads(json.dumps(plain)), load_file(tmp_path / "x.safetensors"))
    assert type(back["number"]) is np.float64
    assert type(back["flag"]) is np.bool_
    for name, wanted in value.items():
        assert np.array_equal(back[name], wanted)
    assert back["array"].dtype == np.int64


def test_tensors_that_share_memory_are_kept_each(tmp_path: Path) -> None:
    whole = torch.arange(4.0)
    plain, tensors = pack([whole, whole, whole.view(2, 2)])
    write_tensors(tmp_path / "x.safetensors", tensors)
    first, second, third = unpack(plain, load_file(tmp_path / "x.safetensors"))
    assert torch.equal(first, whole)
    assert torch.equal(second, whole)
    assert torch.equal(third, whole.view(2, 2))


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array(["text"]), torch.zeros(2).to_sparse()],
    ids=["object", "set", "text", "sparse"],
)
def test_what_would_need_pickle_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(CheckpointError, match=r"state\.buffer\.0: .* without pickle"):
        pack({"buffer": [value]})
