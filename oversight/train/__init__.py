"""Trainers of our own: SFT, reward model, DPO, PPO and GRPO, from token-exact rows.

Each trainer is a module with its settings and one loop; called, it trains:

    import oversight as ov

    ov.train.dpo(rows, out="runs/dpo", model="my/model", steps=100)

`session` is what the loops share. `data` makes examples, `model` scores them,
`losses` takes scores, `rollouts` samples and `runs` keeps a run on disk.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """The module of a trainer, imported when it is asked for."""
    from oversight.train.registered import own_names

    if name not in own_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
