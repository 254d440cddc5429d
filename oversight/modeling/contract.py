"""The contract of a model that is trained, sampled from or asked for rewards, tried beforehand.

However rows are computed here, for all rows together or token by token, each must get what the
model's own forward pass gives for that row alone: also a row that is longer than every window,
chunk and change of angles that the configuration names; also in company, and again afterwards; also
in training mode. That is tried on a small model of the same class (`small`), in float64 and with
large weights, where what is computed otherwise stands far above rounding; so it takes no weights,
and a dry run tries the same. Each kind of model is tried once a process.

transformers itself breaks it by rotary angles that depend on how long a row is. With `longrope` a
model turns positions by other angles once a row is longer than what it was first
trained on, and with `dynamic` ones by angles of each length. transformers looks at the longest row
of a call, and at calls before: a row's logits then depend on its company. Here a call begins from
nothing, and a line of several rows may say how long each token's row is.

Sources: Ding et al., "LongRoPE", 2024; the dynamic scaling of NTK-aware angles.

Shapes: T tokens of a line.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.modules.dropout import _DropoutNd

from oversight.modeling.small import SWITCH, VOCABULARY, WINDOW, small_models, uncut_lengths

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


logger = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]
Row = tuple[Ids, Ids]
"""A prompt and a response."""
Score = Callable[[Sequence[Row]], Sequence[torch.Tensor]]
"""Gives each row's numbers: a log-probability for each token of its response, or one reward."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Relative difference allowed of small models; rounding gives 1e-12 and 1e-5."""
LIVE_TOLERANCE, COARSE_TOLERANCE = 1e-3, 5e-2
"""The same of a model's own weights, in float32 and in less."""
CAUGHT = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)
"""Errors that a model may raise when it is called in a way that it was not made for."""

LIMIT = re.compile("window|chunk_size|topk|local_attention|original_max")


class UnsuitedError(ValueError):
    """Raised by scoring code, with the reason in words why it does not suit a kind of model."""


class LooksAheadError(Exception):
    """Raised where a model's own forward pass is none that a row can be sampled by."""


_found: dict[tuple[str, ...], str | None] = {}
_told: set[tuple[str, ...]] = set()


def problem(
    what: str,
    kind: Any,
    config: Any,
    score_with: Callable[[Any], Score],
    *,
    own: Callable[[Any, Row], torch.Tensor],
    trains: bool = False,
    switch: int = SWITCH,
    rows: Callable[[], Sequence[Row]] | None = None,
) -> str | None:
    """The reason why rows of a kind of model do not get what it gives for each alone; empty if they
    do, and None where no model of that kind is small enough to be tried.

    Args:
        what: Names the way of computing, so that it is tried once for each kind of model.
        kind: A class of transformers that makes a model of a configuration.
        config: The model's.
        score_with: Makes of a model what scores rows with it; it may change the model, which is
            a torch module or has one as its `model`.
        own: Gives the result of the model's own forward pass for a row.
        trains: Whether it is scored in training mode as well.
        switch: Tokens before angles change.
        rows: The rows that are scored; by default rows of all lengths that share beginnings.
    """
    key = (what, kind.__name__, type(config).__qualname__, _described(config))
    if key not in _found:
        _found[key] = _tried(kind, config, score_with, own, trains, switch, (rows or probe_rows)())
    return _found[key]


def _tell_untried(config: Any, small: Any, longest: int) -> None:
    """Say in one line, once for each type of model, what of its contract could not be tried."""
    lengths = ", ".join(uncut_lengths(small, config, longest))
    said = f" ({lengths})" if lengths else ""
    if small is None:
        text = (
            "a model of type %r could not be made small, so it is tried by its own weights on "
            "short rows alone: long rows and windows%s of this model were not tried"
        )
    elif lengths:
        text = "a model of type %r was tried on short rows alone: long windows%s were not tried"
    else:
        return
    line = (text, config.model_type, said)
    if line not in _told:
        _told.add(line)
        logger.warning(*line)


def _described(config: Any) -> str:
    values = config.to_dict()
    for name in ("_name_or_path", "architectures", "transformers_version", "dtype"):
        values.pop(name, None)
    return json.dumps(values, sort_keys=True, default=str)


def _tried(
    kind: Any,
    config: Any,
    score_with: Callable[[Any], Score],
    own: Callable[[Any, Row], torch.Tensor],
    trains: bool,
    switch: int,
    rows: Sequence[Row],
) -> str | None:
    found, small = _outcome(kind, config, score_with, own, trains, switch, rows)
    if not found:
        _tell_untried(config, small, max(map(_length, rows)))
    return found


def _outcome(
    kind: Any,
    config: Any,
    score_with: Callable[[Any], Score],
    own: Callable[[Any, Row], torch.Tensor],
    trains: bool,
    switch: int,
    rows: Sequence[Row],
) -> tuple[str | None, Any]:
    """The problem, as `problem` gives it, and the configuration that it was tried with."""
    for model in small_models(kind, config, switch=switch):
        own_angles(model)
        try:
            with torch.no_grad():
                wanted = [own(model, row) for row in rows]
        except LooksAheadError as error:
            return str(error), model.config
        except CAUGHT:
            continue
        if not all(bool(each.isfinite().all()) for each in wanted):
            continue
        names = _limits(model.config.get_text_config(), config.get_text_config())
        try:
            return next(_problems(model, score_with, rows, wanted, names, trains), ""), model.config
        except UnsuitedError as error:
            return str(error), model.config
        except CAUGHT as error:
            return _not_run(error), model.config
    return None, None


def _not_run(error: Exception) -> str:
    """Return the refusal of a way of computing that the model's layers do not take."""
    return (
        "its layers stop with an error where several rows stand in one line or a cache "
        f"({type(error).__name__}: {_line(error)}), though its own forward pass takes each row"
    )


@torch.no_grad()
def _problems(
    model: Any,
    score_with: Callable[[Any], Score],
    rows: Sequence[Row],
    wanted: Sequence[torch.Tensor],
    names: str,
    trains: bool,
) -> Iterator[str]:
    score = score_with(model)
    short = min(range(len(rows)), key=lambda i: _length(rows[i]))
    if error := difference(score([rows[short]]), [wanted[short]]):
        yield f"a row alone differs from its own forward pass by {error:.2g}"
    together = score(rows)
    for row, ours, plain in zip(rows, together, wanted, strict=True):
        if error := difference([ours], [plain]):
            alone = difference(score([row]), [plain])
            if not alone:
                yield f"a row differs by {error:.2g} with the rows that it is computed with"
            past = f", which is past its {names}," if names and _length(row) > WINDOW else ""
            yield (
                f"a row of {_length(row)} tokens{past} differs from its own forward pass by "
                f"{error:.2g}"
            )
    if error := difference(score([rows[short]]), [wanted[short]]):
        yield f"a short row differs by {error:.2g} after longer ones were computed"
    if trains:
        model.train()
        first, second = score(rows), score(rows)
        if error := difference(first, second):
            yield (
                f"in training mode its scores differ by {error:.2g} from one pass to the next, "
                "although every rate of dropout is 0"
            )
        if error := difference(first, wanted):
            yield f"in training mode its scores are others than in evaluation, by {error:.2g}"
        model.eval()


def difference(ours: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """The largest difference, relative to the largest number; 0 where it is rounding."""
    worst = 0.0
    for one, other in zip(ours, wanted, strict=True):
        tolerance = TOLERANCE[torch.promote_types(other.dtype, torch.float32)]
        if one.dtype != other.dtype:
            tolerance = TOLERANCE[torch.float32]
        error = (one.to(other.dtype) - other).abs().max().item() if other.numel() else 0.0
        # Written so that NaN is a difference.
        if not error <= tolerance * (1.0 + other.abs().max().item()):
            worst = max(worst, error) if error == error else float("nan")
    return worst


def token_logprobs(model: Any, row: Row) -> torch.Tensor:
    """Log-probability of each token of a response, by the model's own forward pass."""
    prompt, response = row
    ids = torch.from_numpy(np.concatenate([prompt, response])).to(model.device)
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    logps = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    picked: torch.Tensor = logps[:-1].gather(-1, ids[1:, None])[len(prompt) - 1 :, 0]
    return picked


def reward(model: Any, row: Row) -> torch.Tensor:
    """The one label of a row, by the model's own forward pass."""
    ids = torch.from_numpy(np.concatenate(row)).to(model.device)
    label: torch.Tensor = model(input_ids=ids[None]).logits[0, :1]
    return label.to(torch.promote_types(label.dtype, torch.float32))


def probe_rows(vocabulary: int = VOCABULARY, unused: Sequence[int] = ()) -> list[Row]:
    """Rows within and past every window, some with a common beginning, in no order of length."""
    allowed = np.setdiff1d(np.arange(min(3, vocabulary - 1), vocabulary), unused)
    ids = np.random.default_rng(0).choice(allowed, size=120)
    prompt, long = ids[:4], ids[4:40]
    forked = np.concatenate([long[:22], ids[40:52]])
    other = ids[60:85]
    return [
        (prompt, long),
        (prompt[:2], prompt[2:4]),
        (prompt, np.concatenate([long[:2], ids[52:56]])),
        (prompt, forked),
        (other, ids[85:100]),
        (np.concatenate([prompt, long[:8]]), ids[100:103]),
    ]


def grown_rows() -> list[Row]:
    """Rows whose responses are few tokens, for what is computed token by token: past windows and
    chunks, and on both sides of a change of angles."""
    ids = np.random.default_rng(1).integers(3, VOCABULARY, size=80)
    prompt = ids[:12]
    return [
        (prompt, ids[12:26]),
        (ids[30:32], ids[32:34]),
        (np.concatenate([prompt[:8], ids[40:44]]), ids[44:52]),
        (ids[50:75], ids[75:80]),
        (prompt, np.concatenate([ids[12:14], ids[60:63]])),
    ]


def _limits(small: Any, config: Any) -> str:
    """The lengths of a configuration that a probe was cut to, with the values that they have."""
    found = [
        f"{key} = {before}"
        for key, value in vars(small).items()
        if LIMIT.search(key)
        and type(value) is int
        and type(before := getattr(config, key, None)) is int
        and 0 < value < before
    ]
    return ", ".join(found)


def _length(row: Row) -> int:
    return len(row[0]) + len(row[1])


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


LENGTHS = "oversight_row_lengths_T"
"""Attribute of a rotary module while it computes rows of several lengths."""


def own_angles(model: Any) -> None:
    """Let each call of a model begin with the angles that its own rows have."""
    for module in _changing(model):
        module.forward = MethodType(_forward, module)


def switch_length(model: Any) -> int | None:
    """The longest row for which angles do not depend on its length; None if they never do."""
    return min(
        (_switch(module, kind) for module in _changing(model) for kind in _kinds(module)),
        default=None,
    )


def switch_of(config: Any) -> int | None:
    """The same, as a configuration says it, without a model."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    found = [
        part.get("original_max_position_embeddings") or text.max_position_embeddings
        for part in kinds
        if part.get("rope_type") == "longrope"
    ]
    found += [
        text.max_position_embeddings for part in kinds if "dynamic" in str(part.get("rope_type"))
    ]
    return min(found, default=None)


def regime(model: Any, length: int) -> tuple[int, ...]:
    """Return what the angles of a row of `length` tokens depend on; those of one regime agree."""
    return tuple(
        _regime(module, kind, length) for module in _changing(model) for kind in _kinds(module)
    )


@contextmanager
def rows_of(model: Any, lengths_T: torch.Tensor | None) -> Iterator[None]:
    """While it lasts, tokens of the model's line belong to rows of these lengths."""
    modules = [] if lengths_T is None else list(_changing(model))
    for module in modules:
        setattr(module, LENGTHS, lengths_T)
    try:
        yield
    finally:
        for module in modules:
            delattr(module, LENGTHS)


def _changing(model: Any) -> Iterator[Any]:
    for module in model.modules():
        if _kinds(module):
            yield module


def _kinds(module: Any) -> list[str]:
    """Prefixes of the angles that change: one a kind of layer, or the empty one."""
    found = getattr(module, "rope_type", None)
    named = found.items() if isinstance(found, dict) else [(None, found)]
    return [
        "" if name is None else f"{name}_"
        for name, kind in named
        if isinstance(kind, str) and ("dynamic" in kind or kind == "longrope")
    ]


def _kind_of(module: Any, prefix: str) -> str:
    return str(module.rope_type[prefix[:-1]] if prefix else module.rope_type)


def _switch(module: Any, prefix: str) -> int:
    if _kind_of(module, prefix) != "longrope":
        return int(module.original_max_seq_len)
    rope = module.config.rope_parameters
    return int((rope[prefix[:-1]] if prefix else rope)["original_max_position_embeddings"])


def _regime(module: Any, prefix: str, length: int) -> int:
    if length <= _switch(module, prefix):
        return 0
    return 1 if _kind_of(module, prefix) == "longrope" else length


def _forward(
    self: Any, x: torch.Tensor, position_ids: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    """The module's cosines and sines; for a line of rows, those that each row has alone."""
    lengths_T: torch.Tensor | None = getattr(self, LENGTHS, None)
    if lengths_T is None:
        _begin_anew(self)
        return type(self).forward(self, x, position_ids, *args, **kwargs)
    found: list[torch.Tensor] = []
    for length in sorted(set(lengths_T.tolist())):
        places = torch.nonzero(lengths_T == length)[:, 0]
        _begin_anew(self)
        # One more place, the last of the row: the module looks at the largest position.
        last = position_ids.new_full((1, 1), length - 1)
        asked = torch.cat([position_ids[:, places], last], dim=1)
        parts = type(self).forward(self, x, asked, *args, **kwargs)
        if not found:
            found = [part.new_empty(1, len(lengths_T), *part.shape[2:]) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[:, places] = part[:, :-1]
    return tuple(found)


def _begin_anew(module: Any) -> None:
    """As a module is that has computed nothing yet."""
    for prefix in _kinds(module):
        original = getattr(module, f"{prefix}original_inv_freq")
        now = getattr(module, f"{prefix}inv_freq")
        module.register_buffer(f"{prefix}inv_freq", original.to(now.device), persistent=False)
        if hasattr(module, f"{prefix}max_seq_len_cached"):
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
        # Where it is there, transformers takes it for known and then does not find it.
        if prefix:
            module.__dict__.pop(f"{prefix}long_inv_freq", None)
