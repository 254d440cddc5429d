"""Weights on disk are looked at without being read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from oversight.errors import ConfigError
from oversight.modeling.scoring.checks import check_stored


def test_weights_that_are_cut_short_or_of_other_sizes_are_refused(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2, device="meta")
    with pytest.raises(ConfigError, match=r"m: no \*\.safetensors there"):
        check_stored(str(tmp_path), model, "m")
    save_file({"weight": torch.zeros(2, 3), "more": torch.zeros(9)}, tmp_path / "a.safetensors")
    check_stored(str(tmp_path), model, "m")
    save_file({"bias": torch.zeros(3)}, tmp_path / "b.safetensors")
    with pytest.raises(ConfigError, match=r"'bias' has the shape \(3,\), and config\.json makes"):
        check_stored(str(tmp_path), model, "m")
    (tmp_path / "b.safetensors").write_bytes(bytes(4))
    with pytest.raises(ConfigError, match=r"b\.safetensors is cut short or damaged"):
        check_stored(str(tmp_path), model, "m")
    check_stored("organisation/model", model, "m")
