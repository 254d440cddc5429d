"""Configurations cut down field by field, as far as a model of them can still be made and run.

For those whose fields do not fit together any more once they are cut by the usual names and
proportions (`small`). Each cut is tried on a model without weights (torch's `meta` device), which
finds sizes that do not match in a hundredth of a second; what does not run is taken back.

All parts take part: a text model inside another, lists with an entry a layer, fields of single
layers. Fields of equal values are halved together, then each alone, then several together: of
heads and what they are wide, one cannot be halved without the other.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import combinations
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

TRIALS, SLOW_TRIALS = 200, 40
"""Models made without weights, at most, and those that run ten times as slowly."""
ENOUGH = 4_000_000
"""Weights that are few enough."""
NARROW = 32
"""Sizes are halved only where at least so much is left."""
DEPTHS = (2, 3, 4, 6, 8, 12)
LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "n_layers",
    "decoder_layers",
    "num_blocks",
    "encoder_layers",
)
WAYS = (
    ("meta", "batched_mm"),
    ("meta", "eager"),
    ("fake", "batched_mm"),
    ("fake", "eager"),
    ("made alone", "eager"),
)
"""Ways of trying a model without weights, and its experts; the first that runs is kept to."""
NO_WIDTHS = ("_token_id", "_token_index", "position", "vocab_size", "num_labels", *LAYERS)
TOKENS = 12

Values = dict[str, Any]
Path = tuple[str, ...]
Cut = Callable[[Values], None]


def plain(config: Any) -> Values:
    """A configuration as plain values."""
    found: Values = json.loads(json.dumps(config.to_dict(), default=str))
    return found


def made(config: Any, values: Values) -> Any:
    """A configuration like `config` with other values."""
    try:
        return type(config).from_dict(copy.deepcopy(values))
    except Exception:  # not every configuration reads what it writes
        own = copy.deepcopy(config)
        own.__dict__["allow_global_per_layer_attribute_access"] = True
        for key, value in values.items():
            if isinstance(value, dict):
                inner = getattr(own, key, None)
                if hasattr(inner, "to_dict"):
                    setattr(own, key, made(inner, value))
            elif getattr(own, key, None) != value:
                setattr(own, key, value)
        return own


def shrunk(kind: Any, config: Any, *cuts: Cut) -> Any:
    """A configuration like `config` with few layers and weights; None where none can be run.

    Args:
        kind: A class of transformers with `from_config`.
        config: It is not changed.
        *cuts: Further cuts of each part, made where the model then still runs.
    """
    trial = _Trial(kind, config)
    values = trial.begin(plain(config))
    if values is None:
        return None
    for path in list(_parts(values)):
        for cut in (*_shallow(_part(values, path)), *cuts):
            values = trial.cut(values, path, cut)
    fields = list(_widths(values))
    equal = {size: [path for path, each in fields if each == size] for _, size in fields}
    groups = [paths for _, paths in sorted(equal.items(), reverse=True)]
    groups += [[path] for paths in groups if len(paths) > 1 for path in paths]
    for together in (1, 2, 3):
        for chosen in combinations(groups, together):
            paths = {path for group in chosen for path in group}
            while trial.goes_on and (halved := trial.halved(values, paths)) is not None:
                values = halved
    return made(config, values)


class _Trial:
    """Says of values whether a model of them runs, and how many weights it has."""

    def __init__(self, kind: Any, config: Any) -> None:
        self._kind, self._config = kind, config
        self._used, self._fewest = 0, 0
        self._way = WAYS[0]

    @property
    def goes_on(self) -> bool:
        """Return whether there is more to be cut, and tries are left."""
        most = TRIALS if self._way[0] != "fake" else SLOW_TRIALS
        return self._used < most and self._fewest > ENOUGH

    def begin(self, values: Values) -> Values | None:
        """The values themselves, or with few layers if they are too many to be tried."""
        for which in (-1, 0, None):
            first = copy.deepcopy(values)
            for path in list(_parts(first)) if which is not None else ():
                cuts = list(_shallow(_part(first, path)))
                for cut in cuts[:1] if which == 0 else cuts[-1:]:
                    cut(_part(first, path))
            for self._way in WAYS[:-1] if which is not None else WAYS:
                if which is None and self._way[0] == "fake":
                    continue  # of all layers it would take minutes
                found = self._num_weights(first)
                if found is not None:
                    self._fewest = found
                    return first
        return None

    def cut(self, values: Values, path: Path, cut: Cut) -> Values:
        """The values with a part cut, or as they were if a model of them does not run."""
        after = copy.deepcopy(values)
        cut(_part(after, path))
        found = None if after == values else self._num_weights(after)
        if found is None:
            return values
        self._fewest = found
        return after

    def halved(self, values: Values, paths: set[Path]) -> Values | None:
        """The values with these fields halved; None where that does not run or saves nothing."""
        after = copy.deepcopy(values)
        for path in paths:
            part, key = _part(after, path[:-1]), path[-1]
            sizes = part[key] if isinstance(part[key], list) else [part[key]]
            if any(size % 2 or size < 2 * NARROW for size in sizes):
                return None
            half = [size // 2 for size in sizes]
            part[key] = half if isinstance(part[key], list) else half[0]
        found = self._num_weights(after)
        if found is None or found >= self._fewest:
            return None
        self._fewest = found
        return after

    def _num_weights(self, values: Values) -> int | None:
        self._used += 1
        way, experts = self._way
        how = {"experts_implementation": experts}
        if way == "meta":  # other attention looks into its mask, where there is nothing
            how["attn_implementation"] = "eager"
        try:
            config = made(self._config, values)
            fake = FakeTensorMode(allow_non_fake_inputs=True) if way == "fake" else nullcontext()
            with torch.device("meta"), fake, torch.no_grad():
                model = self._kind.from_config(config, **how).eval()
                ids = torch.zeros(1, TOKENS, dtype=torch.long)
                if way == "meta":
                    model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
                elif way == "fake":
                    model(input_ids=ids, use_cache=False)
                return sum(int(weight.numel()) for weight in model.parameters())
        except Exception:  # models refuse what they cannot be made of in many ways
            return None


def _parts(values: Values, path: Path = ()) -> Iterator[Path]:
    """Return a configuration and those inside it, each with its place."""
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key.endswith("config") and key != "per_layer_config":
            yield from _parts(value, (*path, key))


def _part(values: Values, path: Path) -> Values:
    for key in path:
        values = values[key]
    return values


def _shallow(part: Values) -> Iterator[Cut]:
    """Cuts to more and fewer layers, each of which has all their kinds."""
    total = max((part[key] for key in LAYERS if type(part.get(key)) is int), default=0)
    lists = [value for value in part.values() if isinstance(value, list) and len(value) == total]
    kinds = [[json.dumps(each) for each in value] for value in lists]
    least = max((value.index(each) + 1 for value in kinds for each in set(value)), default=2)
    if len(kinds) and least > max(DEPTHS):
        least = 2
    for kept in sorted((k for k in DEPTHS if least <= k < total), reverse=True):
        yield lambda own, kept=kept: keep_layers(own, total, kept)  # type: ignore[misc]


def keep_layers(values: Values, total: int, kept: int) -> None:
    """Cut `total` layers to `kept`, and whatever there is one of for each."""
    for key, value in values.items():
        if key in LAYERS and value == total:
            values[key] = kept
        elif isinstance(value, list) and len(value) == total:
            values[key] = value[:kept]
        elif key == "per_layer_config" and isinstance(value, dict):
            values[key] = {i: own for i, own in value.items() if int(i) < kept}
    if isinstance(values.get("max_window_layers"), int):
        values["max_window_layers"] = min(values["max_window_layers"], kept // 2)
    shared = values.get("num_kv_shared_layers")
    if type(shared) is int:
        values["num_kv_shared_layers"] = shared * kept // total


def _widths(values: Values, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """Fields that may be halved, with the (largest) value of each."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _widths(value, (*path, key))
            continue
        sizes = value if isinstance(value, list) and value else [value]
        if any(type(size) is not int or size < 2 * NARROW for size in sizes):
            continue
        if not any(part in key for part in NO_WIDTHS):
            yield (*path, key), max(sizes)
