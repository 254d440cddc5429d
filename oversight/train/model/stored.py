"""Weights on disk, looked at without being read: whole, and of the sizes that a model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from oversight.errors import ConfigError


def empty_model(kind: Any, config: Any) -> Any:
    """A model of class `kind` whose weights have sizes and no content.

    Raises:
        ConfigError: transformers has no such model for this configuration.
    """
    try:
        with torch.device("meta"):
            return kind.from_config(config)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"a model of type {config.model_type!r} cannot be made as {kind.__name__}: {reason}"
        ) from error


def check_stored(path: str, model: Any, where: str) -> None:
    """Refuse weights that are cut short, or that are of another model's sizes.

    A name on the hub that is not in a folder is not looked at.

    Args:
        path: A folder, or a name on the hub.
        model: The model that they are for; it may stand on the meta device.
        where: The setting that names it, for messages.

    Raises:
        ConfigError: A file is cut short or missing, or a weight has another shape.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{where}: no *.safetensors there; other kinds of weights are not read")
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    for file in files:
        for name, shape in _stored(file, where).items():
            if name in shapes and shapes[name] != shape:
                raise ConfigError(
                    f"{where}: in {file.name} the weight {name!r} has the shape {shape}, and "
                    f"config.json makes it {shapes[name]}; they are of different models"
                )


def _stored(file: Path, where: str) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, "pt") as stored:
            names = stored.keys()
            return {name: tuple(stored.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{where}: {file.name} is cut short or damaged ({error}); copy it anew"
        ) from error
