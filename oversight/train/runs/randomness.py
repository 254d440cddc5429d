"""The state of every random stream that the libraries draw from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from oversight.ids import seed_from

Generator = torch.Generator | np.random.Generator | random.Random
"""A random stream of one's own."""


def streams() -> dict[str, Any]:
    """The state of the global streams of Python, numpy, torch and the accelerator, if any."""
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True),
        "torch": torch.get_rng_state(),
    }
    if device := _accelerator():
        found[device.type] = torch.get_device_module(device).get_rng_state()
    return found


def restore(found: dict[str, Any]) -> tuple[str, ...]:
    """Put the global streams back; gives notes on what could not be."""
    random.setstate(found["python"])
    np.random.set_state(found["numpy"])
    torch.set_rng_state(found["torch"])
    device = _accelerator()
    kinds = set(found) - {"python", "numpy", "torch"}
    if device is not None and device.type in kinds:
        torch.get_device_module(device).set_rng_state(found[device.type])
        kinds.discard(device.type)
    return tuple(
        f"the checkpoint holds the random state of a {kind} device and there is none here: "
        "what is drawn from now on differs from the uninterrupted run"
        for kind in sorted(kinds)
    )


def seed_all(*parts: object) -> None:
    """Seed the global streams from the text of `parts`."""
    seed = seed_from(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def state_of(generator: Generator) -> Any:
    """The state of a stream of one's own."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def set_state(generator: Generator, state: Any) -> None:
    """Put a stream of one's own back to a state that `state_of` gave."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
