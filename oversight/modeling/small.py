"""A small model of the same class and kind as a large one, on which its contract is tried.

Same code, same kinds of layers, fewer and narrower ones; windows, chunks and the length at which
angles change are cut to a few tokens, so that a row of forty tokens is past all of them. Weights
are random and large, in float64: what is computed otherwise shows, and rounding does not. So a
model of any size is tried in the same second, and without its weights.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from oversight.modeling.shrinking import LAYERS, keep_layers, made, plain, shrunk

WINDOW, CHUNK, SWITCH, POSITIONS = 6, 8, 16, 128
"""Tokens that a row looks back, of a chunk, before angles change, and that there are in all."""
NEVER = 1 << 20
"""Angles that no row of a probe is long enough to change."""
MAX_WEIGHTS = 80_000_000
"""Of a model that is tried whole, where it cannot be made smaller."""
MAX_LAYERS = 12
VOCABULARY = 512
PAD = 2
SPREAD, NOISE = 0.08, 0.05
"""Standard deviation that matrices have at least, four times the usual one; and of what is added
to norms and biases, which begin all alike."""

READING = threading.Lock()
"""While it makes or reads a model, transformers sets torch's default type, and how loud it is, for
all threads: of two threads that do so at once, one would get weights of the other's type."""

_WINDOWS = re.compile(r"(?<!max_)window(?!_layers|_pattern)|^local_attention$|index_topk$")
_CHUNKS = re.compile(r"(chunk_size|index_block_size)$")
_NO_CHUNKS = re.compile(r"feed_forward|lm_head|inference")
_PERIODS = re.compile(r"period|interval|pattern|offset|first_k_dense")
_EXPERTS = re.compile(r"^(num_(local_)?experts|n_routed_experts|moe_num_experts)$")
_WIDE = re.compile(r"intermediate_size|ffn_dim|ffn_hidden_size|n_inner|^d_ff$")
_HEADS_APART = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
"""Heads of recurrent layers, which have sizes of their own."""
_TIME_STEP = re.compile(r"dt_bias$|dt_proj\.bias$")
TIME_STEPS = (-12.0, -7.0)
"""Time steps of a state, before softplus: below the least one that layers clamp them to (1e-3),
which some forget where they go on from a cached state."""


def small_models(kind: Any, config: Any, *, switch: int = SWITCH) -> Iterator[Any]:
    """Models to try in place of one of class `kind` with `config`, smallest first.

    Not every configuration can be cut down, and which cuts it takes is seen by making the model:
    the next is for where one cannot be made or run. The last is whole, but for its windows, and
    left out where it would be large.

    Args:
        kind: A class of transformers with `from_config`, such as AutoModelForCausalLM.
        config: Of the model; it is not changed.
        switch: Tokens before rotary angles change, where they depend on a row's length.
    """
    ways: tuple[Callable[[], Any], ...] = (
        lambda: _configured(config, _depth_and_width, switch),
        lambda: _by_trying(kind, config, switch),
        lambda: _configured(config, _depth, switch),
        lambda: _configured(config, _nothing, switch),
    )
    for make in ways:
        try:
            smaller = make()
            fits = smaller is not None and _num_weights(kind, smaller) <= MAX_WEIGHTS
        except Exception:  # configurations refuse values that they cannot take in many ways
            continue
        for dtype in (torch.float64, torch.float32) if fits else ():
            try:
                model = _random(kind, copy.deepcopy(smaller), dtype)
            except Exception:  # as above
                break
            yield model


_tried: dict[tuple[str, ...], Any] = {}


def _by_trying(kind: Any, config: Any, switch: int) -> Any:
    """As `shrunk`, once for a configuration: policy, sampler and engine ask for the same."""
    key = (kind.__name__, type(config).__qualname__, json.dumps(plain(config)), str(switch))
    if key not in _tried:
        _tried[key] = shrunk(kind, config, lambda part: cut_lengths(part, switch), _cut_vocabulary)
    return copy.deepcopy(_tried[key])


def uncut_lengths(small: Any, config: Any, longest: int) -> list[str]:
    """Windows, chunks and changes of angles of a configuration that no row of a small model's
    reaches, with their values; for `small` = None, all of them."""
    own = {} if small is None else plain(small)
    found = []
    for path, value in _lengths(plain(config)):
        now = own
        for key in path:
            now = now.get(key) if isinstance(now, dict) else None  # type: ignore[assignment]
        reached = [size for size in _sizes(now) if size < longest]
        if not reached and max(_sizes(value), default=0) >= longest:
            found.append(f"{path[-1]} = {value}")
    return sorted(set(found))


def _sizes(value: Any) -> list[int]:
    each = value if isinstance(value, list) else [value]
    return [size for size in each if type(size) is int and size > 0]


def _lengths(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Places and values of a configuration's windows, chunks and changes of angles."""
    positions = values.get("max_position_embeddings")
    whole = positions if type(positions) is int and positions > 0 else None
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _lengths(value, (*path, key))
        elif (
            _WINDOWS.search(key)
            or (_CHUNKS.search(key) and not _NO_CHUNKS.search(key))
            or key == "original_max_position_embeddings"
        ) and any(whole is None or size < whole for size in _sizes(value)):
            yield (*path, key), value


def _num_weights(kind: Any, config: Any) -> int:
    with torch.device("meta"):
        return sum(
            weight.numel() for weight in kind.from_config(copy.deepcopy(config)).parameters()
        )


def _configured(config: Any, cut: Any, switch: int) -> Any:
    """A configuration like `config`, with everything cut that a row or a test could not reach."""
    text = config.get_text_config()
    values = json.loads(json.dumps(text.to_dict()))
    cut(values, text)
    cut_lengths(values, switch, getattr(text, "max_position_embeddings", None))
    _cut_vocabulary(values)
    own = made(text, values)
    if text is config:
        return own
    whole = copy.deepcopy(config)
    whole.text_config = own
    for name in ("vision_config", "audio_config"):
        if isinstance(getattr(getattr(whole, name, None), "num_hidden_layers", None), int):
            getattr(whole, name).num_hidden_layers = 1
    return whole


def _nothing(values: dict[str, Any], config: Any) -> None:
    """All layers, as wide as they are."""


def _depth(values: dict[str, Any], config: Any) -> None:
    """As few layers as have all their kinds; lists with an entry a layer are cut alike."""
    for name in LAYERS:
        total = values.get(name)
        if isinstance(total, int) and total > 2:
            break
    else:
        return
    lists = {
        key: value
        for key, value in values.items()
        if isinstance(value, list) and len(value) == total
    }
    kept = 2
    for value in lists.values():
        if all(isinstance(each, str | int | bool) for each in value) and len(set(value)) <= 6:
            kept = max(kept, *(value.index(each) + 1 for each in set(value)))
    for key, value in values.items():
        if _PERIODS.search(key) and isinstance(value, int) and not isinstance(value, bool):
            kept = max(kept, min(value, MAX_LAYERS) + 1)
    keep_layers(values, total, min(kept, total))


def _depth_and_width(values: dict[str, Any], config: Any) -> None:
    """Fewer layers, heads, features and experts as well."""
    _depth(values, config)
    hidden, heads = getattr(config, "hidden_size", 0), getattr(config, "num_attention_heads", 0)
    if isinstance(heads, int) and isinstance(hidden, int) and heads > 4 and heads % 4 == 0:
        names = dict(getattr(config, "attribute_map", {}))
        few = 2 if hidden // heads >= 64 else 4
        factor = heads // few
        shared = values.get("num_key_value_heads")
        values[names.get("num_attention_heads", "num_attention_heads")] = few
        values[names.get("hidden_size", "hidden_size")] = hidden // factor
        if isinstance(shared, int):
            values["num_key_value_heads"] = few if shared == heads else 1
        for other in ("word_embed_proj_dim", "embedding_size", "input_hidden_size"):
            if values.get(other) == hidden:
                values[other] = hidden // factor
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if _WIDE.search(key):
            values[key] = min(value, 256)
        elif _EXPERTS.search(key):
            values[key] = min(value, max(8, 2 * (values.get("n_group") or 1)))
    for key, most in _HEADS_APART.items():
        if isinstance(values.get(key), int):
            values[key] = min(values[key], most)
    for key in ("num_experts_per_tok", "moe_topk", "num_experts_per_token"):
        if isinstance(values.get(key), int):
            values[key] = min(values[key], 4)


def cut_lengths(values: dict[str, Any], switch: int, positions: Any = None) -> None:
    """Windows, chunks, positions and the length at which angles change, in every part.

    Windows of several sizes stay of several: a layer that took another's would not show.
    """
    positions = positions or values.get("max_position_embeddings")
    known = positions if type(positions) is int and positions > 0 else None
    windows = sorted(
        {
            size
            for key, value in values.items()
            if _WINDOWS.search(key)
            for size in _sizes(value)
            if size > WINDOW and (known is None or size < known)
        }
    )

    def cut(size: Any) -> Any:
        if type(size) is not int or size <= WINDOW:
            return size
        # As wide as the context or wider it limits nothing.
        return WINDOW + 3 * min(windows.index(size), 4) if size in windows else 2 * POSITIONS

    for key, value in values.items():
        if not _sizes(value):
            continue
        if _WINDOWS.search(key):
            values[key] = [cut(size) for size in value] if isinstance(value, list) else cut(value)
        elif isinstance(value, list):
            continue
        elif _CHUNKS.search(key) and not _NO_CHUNKS.search(key) and value > CHUNK:
            values[key] = CHUNK
        elif key in ("index_topk_blocks", "index_local_blocks"):
            values[key] = min(value, 2)
    for layer in (values.get("per_layer_config") or {}).values():
        cut_lengths(layer, switch, positions)
    kinds = _rope_kinds(values.get("rope_parameters"))
    if type(values.get("max_position_embeddings")) is int and known is not None:
        values["max_position_embeddings"] = min(known, POSITIONS)
    if values.get("original_max_position_embeddings"):
        values["original_max_position_embeddings"] = switch
    for part in kinds:
        if part.get("original_max_position_embeddings"):
            part["original_max_position_embeddings"] = switch
        if "dynamic" in str(part.get("rope_type")) and known is not None:
            values["max_position_embeddings"] = min(switch, POSITIONS)


def _rope_kinds(rope: Any) -> list[dict[str, Any]]:
    if not isinstance(rope, dict):
        return []
    return [rope, *(part for part in rope.values() if isinstance(part, dict))]


def _cut_vocabulary(values: dict[str, Any]) -> None:
    for key in ("vocab_size", "vocab_size_per_layer_input"):
        if isinstance(values.get(key), int):
            values[key] = VOCABULARY
    for key, value in values.items():
        if key.endswith("token_id") and isinstance(value, int) and value >= VOCABULARY:
            values[key] = 1
        if key.endswith("token_id") and isinstance(value, list):
            values[key] = 1
    # Its own embedding, so that no token of a row is taken for padding.
    values["pad_token_id"] = PAD


def _random(kind: Any, config: Any, dtype: torch.dtype) -> Any:
    # Grouped products of experts take no float64.
    how = {"dtype": torch.float32, "experts_implementation": "eager"}
    with READING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind.from_config(config, **how).to(dtype).eval()
        with torch.no_grad():
            zeros = 0
            for name, weight in model.named_parameters():
                spread = float(weight.std()) if weight.ndim > 1 else 0.0
                if spread > 0.0:
                    weight.mul_(max(1.0, SPREAD / spread))
                    continue
                # Every second of what begins at 0 stays there: a layer that ranks tokens by it
                # shows in ties whom it looks at.
                zeros += not (weight.any() or name.endswith("bias"))
                if zeros % 2 == 0 or weight.any() or name.endswith("bias"):
                    weight.add_(torch.randn_like(weight), alpha=NOISE)
                if _TIME_STEP.search(name):
                    weight.copy_(torch.linspace(*TIME_STEPS, len(weight)))
                elif name.endswith(".D"):  # what goes past the state would hide what it holds
                    weight.zero_()
    return model.requires_grad_(False)
