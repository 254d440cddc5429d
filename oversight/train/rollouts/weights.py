"""A policy's weights as a checkpoint holds them: gathered, adapters added, saved whole.

Safetensors only. What else a model's folder holds (tokenizer, templates) is
copied from the folder that training began with.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from oversight.errors import ConfigError
from oversight.train.runs.reload import quiet

if TYPE_CHECKING:
    from oversight.train.model.policy import PolicyModel

UNMERGED = ("modules_to_save", "lora_magnitude_vector", "lora_embedding")
"""Parts of an adapter that are more than a sum of two weights."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".msgpack", ".h5", ".index.json")


@torch.no_grad()
def full_weights(policy: PolicyModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of each weight of the model, LoRA adapters added to what they adapt.

    One at a time: of weights that are spread over processes every process must
    take part, and holds one whole weight at once.

    Raises:
        ConfigError: An adapter cannot be added.
    """
    model = policy.inner
    adapted = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")
    }
    for name, value in model.state_dict().items():
        if any(part in name for part in UNMERGED):
            raise ConfigError(f"{name}: such an adapter cannot be added to the weights it adapts")
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        whole = _whole(value)
        if plain in adapted:
            for adapter in adapted[plain].active_adapters:
                whole = whole + _whole(adapted[plain].get_delta_weight(adapter)).to(whole.dtype)
        yield plain, whole


def _whole(value: Any) -> torch.Tensor:
    """The value itself, gathered if it is spread over processes."""
    gathered: torch.Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return gathered.detach()


def save_weights(policy: PolicyModel, folder: Path) -> Path:
    """Save the model to `folder`, which appears only when it is complete; gives the folder."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet():
        policy.inner.save_pretrained(partial, state_dict=dict(full_weights(policy)))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return folder


def save_beside(policy: PolicyModel, model: str, folder: Path, step: int) -> Path:
    """Save the weights of `step` below `folder` with all else that the folder `model` holds.

    Earlier steps are removed.

    Raises:
        ConfigError: `model` is no folder.
    """
    source = Path(model).expanduser()
    if not source.is_dir():
        raise ConfigError(
            f"model = {model!r}: give the folder of the model that training begins with; its "
            "tokenizer is handed over with the weights"
        )
    folder.mkdir(parents=True, exist_ok=True)
    place = save_weights(policy, folder / f"step-{step}")
    for file in source.iterdir():
        if file.is_file() and not file.name.endswith(WEIGHTS) and file.name != "config.json":
            shutil.copy2(file, place / file.name)
    for old in folder.glob("step-*"):
        if old != place:
            shutil.rmtree(old)
    return place
