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
from oversight.train.distributed import World
from oversight.train.runs.final import quiet

if TYPE_CHECKING:
    from oversight.train.model.policy import PolicyModel

ALONE = World(0, 1, torch.device("cpu"))
"""The one process of a run that has no others."""
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
    for name, value, adapted in _parts(policy):
        whole = _whole(value)
        for adapter in adapted.active_adapters if adapted is not None else ():
            whole = whole + _whole(adapted.get_delta_weight(adapter)).to(whole.dtype)
        yield name, whole


def weight_shapes(policy: PolicyModel) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of what `full_weights` gives, in its order, without gathering anything."""
    return [(name, tuple(value.shape)) for name, value, _ in _parts(policy)]


def _parts(policy: PolicyModel) -> Iterator[tuple[str, Any, Any]]:
    """Each weight by its own name, and the layer whose adapter is to be added to it, if any."""
    model = policy.inner
    adapted = {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")
    }
    for name, value in model.state_dict().items():
        if any(part in name for part in UNMERGED):
            raise ConfigError(f"{name}: such an adapter cannot be added to the weights it adapts")
        if ".lora_" not in name:
            plain = name.replace(".base_layer.", ".")
            yield plain, value, adapted.get(plain)


def _whole(value: Any) -> torch.Tensor:
    """The value itself, gathered if it is spread over processes."""
    gathered: torch.Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return gathered.detach()


@torch.no_grad()
def adapter_weights(policy: PolicyModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of each weight of the LoRA adapter; every process must take part."""
    for name, value in policy.model.state_dict().items():
        if "lora_" in name:
            yield name, _whole(value)


def save_weights(policy: PolicyModel, folder: Path, world: World = ALONE) -> Path:
    """Save the model to `folder`, which appears only when it is complete; gives the folder."""
    _save_whole(policy.inner, full_weights(policy), folder, world)
    return folder


def save_adapter(policy: PolicyModel, folder: Path, world: World = ALONE) -> Path:
    """Save the LoRA adapter alone to `folder`, in the same way."""
    _save_whole(policy.model, adapter_weights(policy), folder, world)
    return folder


def _save_whole(
    model: Any, weights: Iterator[tuple[str, torch.Tensor]], folder: Path, world: World
) -> None:
    """The first process keeps each gathered weight and writes; the others take part."""
    state = {name: value for name, value in weights if world.is_first}
    if not world.is_first:
        return
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with quiet():
        model.save_pretrained(partial, state_dict=state)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


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
