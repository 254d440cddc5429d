"""What draws random numbers while a model trains, switched off: the scores of one and the same
policy would differ from one pass to the next.

Layers, functions that are called with a number of the layer's own, and those that read the
configuration are all switched off by their number. Whether none is left is seen by its effect, when
a model's contract is tried (`contract`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.dropout import _DropoutNd

KEPT = "lora_dropout"
"""That of adapters is asked for by a setting."""
STORED = "oversight_switched_off"

# A router's noise stands by this name where it acts in training alone.
_RANDOM = re.compile(r"drop|^jitter_noise$|jitter_eps$")


def switch_off(model: Any) -> None:
    """Set every rate of dropout and of router noise to 0, but that of adapters."""
    configs: dict[int, Any] = {}
    for name, module in model.named_modules():
        if KEPT in name:
            continue
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for key in _rates(module):
            setattr(module, key, 0.0)
        config = getattr(module, "config", None)
        for each in (config, getattr(config, "text_config", None)):
            if hasattr(each, "to_dict"):
                configs[id(each)] = each
    before = [
        (config, key, getattr(config, key)) for config in configs.values() for key in _rates(config)
    ]
    for config, key, _ in before:
        setattr(config, key, 0.0)
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    setattr(inner, STORED, [*getattr(inner, STORED, ()), *before])


@contextmanager
def as_configured(model: Any) -> Iterator[None]:
    """The rates that the model came with, in its configuration, while it is saved."""
    before = getattr(model, STORED, ())
    for config, key, value in before:
        setattr(config, key, value)
    try:
        yield
    finally:
        for config, key, _ in before:
            setattr(config, key, 0.0)


def _rates(thing: Any) -> list[str]:
    return [
        key
        for key, value in vars(thing).items()
        if _RANDOM.search(key) and isinstance(value, float) and value > 0.0
    ]
