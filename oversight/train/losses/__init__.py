"""Losses as pure functions of small padded tensors, one a file, registered by the file's name.

    from oversight.train import losses

    losses.names("preference")                 # lists files, imports nothing
    losses.load("preference", "ipo").loss      # the function
    losses.bind("preference", "ipo", {"beta": 0.1})   # with its options, checked

A loss returns `(loss, metrics)`. `loss` is a sum over what it is given, divided by
`normalizer`: the number of pairs, sequences or tokens of the *whole* optimizer step, over
all micro-batches and ranks, or the sum of their weights. So splitting a batch changes no gradient.
`metrics` are totals with their counts (`metrics.Mean`), which add up the same way.

To add one, add one file to the folder of its family:

| family | the function `loss` takes | a pair, row or token is |
|---|---|---|
| `reward` | `(chosen_B, rejected_B, *, normalizer, ...)` | scalar rewards |
| `reward`, K-wise | `(rewards_BK, *, ranks_BK, normalizer, ...)` | scalar rewards |
| `preference` | `(pairs: PairLogps, *, normalizer, ...)` | two responses' log-probabilities |
| `unpaired` | `(rows: UnpairedLogps, *, normalizer, ...)` | one response called good or bad |
| `policy` | `(batch: PolicyBatch, *, normalizer, ...)` | sampled tokens with advantages |

All its other arguments are keywords with a default: these are its options, and `bind`
refuses any other. What an option may be stands in its annotation (`ranges`): `bind` checks that
before a run begins, and the decorator `ranged` at each call. A preference or unpaired loss also
has `start_value(**options)`, the closed form that tests hold it against (a run evaluates the
loss itself on its first batch): the loss of one plain row while the policy equals its
reference, None where that is not known. The contract tests
(`tests/train/losses/test_contract.py`) run over every file of a family. The files of `advantages`
have a function `advantages`, whose arguments are its own.

The docstring of a loss says shapes, masking, reduction, sign, the paper and its equation,
and where it departs from it. A paper has its arXiv number where it has one. An equation's
number stands only where it was looked up (versions of a paper may differ); elsewhere the formula
stands alone.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from oversight.errors import ConfigError
from oversight.registry import nearest
from oversight.train.losses.ranges import check

FAMILIES: dict[str, frozenset[str]] = {
    "reward": frozenset({"ensemble", "ties"}),
    "preference": frozenset({"pairs", "sft_term"}),
    "unpaired": frozenset({"rows"}),
    "policy": frozenset({"batch", "surrogate"}),
    "advantages": frozenset({"grouping"}),
}
"""Each family with those of its files that help the others and are no losses."""


def names(family: str) -> list[str]:
    """All names of a family, found without importing any.

    Raises:
        ConfigError: There is no such family.
    """
    if family not in FAMILIES:
        raise ConfigError(f"there is no family of losses {family!r}.{nearest(family, FAMILIES)}")
    stems = {path.stem for path in (Path(__file__).parent / family).glob("*.py")}
    return sorted(n for n in stems - FAMILIES[family] if not n.startswith("_"))


def load(family: str, name: str, *, where: str = "loss") -> ModuleType:
    """Import the one module that `name` stands for; `where` is the setting it came from.

    Raises:
        ConfigError: There is no such family, or no loss of that name in it.
    """
    known = names(family)
    if name not in known:
        raise ConfigError(
            f"{where} = {name!r}: there is no {family} loss of that name.{nearest(name, known)}"
        )
    return importlib.import_module(f"{__name__}.{family}.{name}")


def options(family: str, name: str) -> dict[str, Any]:
    """The options of a loss with their defaults."""
    parameters = inspect.signature(load(family, name).loss).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def bind(
    family: str, name: str, given: Mapping[str, Any], *, where: str = "loss"
) -> Callable[..., Any]:
    """The function of a loss with its options filled in.

    Raises:
        ConfigError: There is no such loss, it has no such option, or not with such a value.
    """
    module = load(family, name, where=where)
    known = options(family, name)
    for key in given:
        if key not in known:
            raise ConfigError(
                f"unknown setting '{where}.{key}' of the {family} loss {name!r}."
                f"{nearest(key, known)}"
            )
    check(module.loss, given, where)
    return partial(module.loss, **given)


def require(condition: bool, option: str, value: object, accepted: str) -> None:
    """Refuse an option out of its range.

    Raises:
        ConfigError: The condition does not hold.
    """
    if not condition:
        raise ConfigError(f"loss option {option!r} = {value!r}: give {accepted}")
