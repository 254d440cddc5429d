"""A causal language model from a folder or a hub name, checked before its weights are read."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from oversight.engines.transformers.prefix_tree import common_prefix
from oversight.engines.transformers.rows import BatchedRows, Rows, SingleRows, mask_styles
from oversight.errors import ConfigError, EngineError, EngineUnavailableError
from oversight.modeling import contract
from oversight.modeling.contract import own_angles, switch_length
from oversight.modeling.small import READING

SHARED_HEADS = "oversight_shared_heads"


def shared_heads_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention output [N, Q, H, D] of queries [N, H, Q, D] over keys and values [N, K, L, D].

    The signature is the one that transformers' models call. All but masked decoding and
    masked work on a CPU goes to transformers' own function.
    """
    num_groups = query.shape[1] // key.shape[1]
    on_cpu = query.device.type == "cpu"
    ours = attention_mask is not None and num_groups > 1 and kwargs.get("position_bias") is None
    if not ours or not (on_cpu or query.shape[2] == 1):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    if on_cpu:
        output = scaled_dot_product_attention(
            query, key, value, attention_mask, scale=scaling, enable_gqa=True
        )
    else:
        output = _one_query(query, key, value, attention_mask, scaling)
    return output.transpose(1, 2).contiguous(), None


def _one_query(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of one query token [N, H, 1, D]: the heads of a group as G queries of one head.

    On a GPU no kernel takes both a mask and shared heads.
    """
    num_rows, num_heads, _, head_dim = query.shape
    queries_NKGD = query.reshape(num_rows, key.shape[1], -1, head_dim)
    output = scaled_dot_product_attention(queries_NKGD, key, value, attention_mask, scale=scaling)
    return output.reshape(num_rows, num_heads, 1, -1)


def share_heads(model: Any) -> bool:
    """Let a model attend so if its heads share keys and values; true if it does now."""
    config = model.config.get_text_config()
    num_heads = getattr(config, "num_attention_heads", 0)
    num_key_heads = getattr(config, "num_key_value_heads", None) or num_heads
    if config._attn_implementation != "sdpa" or num_key_heads == num_heads:
        return False
    AttentionInterface.register(SHARED_HEADS, shared_heads_attention)
    AttentionMaskInterface.register(SHARED_HEADS, sdpa_mask)
    model.set_attn_implementation(SHARED_HEADS)
    return bool(config._attn_implementation == SHARED_HEADS)


logger = logging.getLogger(__name__)

PROBE_LENGTHS = ((7, 4), (3, 2), (1, 1))
"""Tokens that two rows are extended by, pass after pass, when a new model is tried."""
PROBE_LENGTHS_SINGLE = ((7, 4), (1, 1), (1, 1))
"""The same for a model run row by row: prompts are given whole, and then single tokens. Many
recurrent models are wrong when several tokens follow a state."""


PREFIX_STEP = 2
"""Every so many tokens a model is asked whether those that follow change what it gives."""


@dataclass(frozen=True)
class LoadedModel:
    """A model, ready to run."""

    rows: Rows
    tokenizer: Any
    eos_ids: frozenset[int]
    max_len: int | None
    """Tokens that the model was made for; None if it does not say."""


def load_model(
    name: str, revision: str | None, device: str, dtype: str, max_batch_tokens: int
) -> LoadedModel:
    """Read a model and its tokenizer, and find out how its rows can be run.

    A folder is read without any use of the network.

    Raises:
        ConfigError: The device, the model or its tokenizer cannot be used; most of this shows
            before a weight is read.
        EngineUnavailableError: The hub cannot be reached, or does not give the model.
        EngineError: The weights do not fit into memory.
    """
    target = _device(device)
    if dtype == "float64" and target.type == "mps":
        raise ConfigError(
            "engine.transformers.dtype = 'float64': device 'mps' has none; take device = 'cpu'"
        )
    source = {"revision": revision, "local_files_only": Path(name).expanduser().is_dir()}
    place = str(Path(name).expanduser()) if source["local_files_only"] else name
    with READING, _quiet():
        config = _read_config(place, source)
        tokenizer = _read_tokenizer(place, source)
        _check_vocabulary(name, config, tokenizer)
        model = _read_weights(place, source, config, target, dtype)
    text_config = model.config.get_text_config()
    return LoadedModel(
        rows=_rows(name, model, text_config, max_batch_tokens),
        tokenizer=tokenizer,
        eos_ids=_eos_ids(model, tokenizer),
        max_len=getattr(text_config, "max_position_embeddings", None),
    )


def _device(device: str) -> torch.device:
    if device == "auto":
        kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(kind or "cpu")
    try:
        target = torch.device(device)
        torch.empty(1, device=target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"engine.transformers.device = {device!r}: this device cannot be used ({reason}); "
            "take 'auto', 'cpu' or one that torch sees, such as 'cuda:0'"
        ) from None
    if target.type == "meta":
        raise ConfigError(f"engine.transformers.device = {device!r}: holds no weights; take 'auto'")
    return target


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of the library: the terminal belongs to the caller."""
    library: Any = importlib.import_module("transformers.utils.logging")
    shown, level = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if shown:
            library.enable_progress_bar()


def _read_config(name: str, source: dict[str, Any]) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **source)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(name, "configuration", error, source) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f"engine.transformers.model = {name!r}: a model of type {config.model_type!r} is no "
            "causal language model; name one that AutoModelForCausalLM takes"
        )
    return config


def _read_tokenizer(name: str, source: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False, **source)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise _unreadable(name, "tokenizer", error, source) from error


def _unreadable(
    name: str, part: str, error: Exception, source: dict[str, Any]
) -> ConfigError | EngineUnavailableError:
    reason = str(error).strip().splitlines()[0]
    message = f"engine.transformers.model = {name!r}: its {part} cannot be read ({reason})"
    if isinstance(error, OSError) and not source["local_files_only"]:
        return EngineUnavailableError(f"{message}; check the name, the revision and the network")
    return ConfigError(message)


def _check_vocabulary(name: str, config: Any, tokenizer: Any) -> None:
    """Every id that the tokenizer may give needs an embedding."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if size is not None and largest >= size:
        raise ConfigError(
            f"engine.transformers.model = {name!r}: its tokenizer gives ids up to {largest}, but "
            f"the model has {size} embeddings; they do not belong together"
        )


def _read_weights(
    name: str, source: dict[str, Any], config: Any, device: torch.device, dtype: str
) -> Any:
    from transformers import AutoModelForCausalLM

    # Its annotation does not know that a report comes with the model.
    read: Any = AutoModelForCausalLM.from_pretrained
    try:
        model, report = read(
            name,
            config=config,
            # Wider than any checkpoint: its own type is read, and widened after.
            dtype="auto" if dtype in ("auto", "float64") else getattr(torch, dtype),
            trust_remote_code=False,
            output_loading_info=True,
            **source,
        )
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ConfigError(
                f"engine.transformers.model = {name!r}: {len(missing)} weights are missing, such "
                f"as {missing[0]!r}; the checkpoint belongs to another kind of model"
            )
        if dtype == "float64":
            model = model.to(torch.float64)
        return model.to(device).eval().requires_grad_(False)
    except Exception as error:
        if isinstance(error, ConfigError):
            raise
        if out_of_memory(error):
            raise EngineError(
                f"engine.transformers.model = {name!r}: its weights do not fit into the memory "
                f"of {str(device)!r}; take a smaller model or a smaller dtype than {dtype!r}"
            ) from error
        raise _unreadable(name, "weights", error, source) from error


def out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: the model's own and the tokenizer's."""
    own = getattr(model.generation_config, "eos_token_id", None)
    found = own if isinstance(own, list) else [own]
    return frozenset(int(i) for i in [*found, tokenizer.eos_token_id] if i is not None)


def _rows(name: str, model: Any, text_config: Any, max_batch_tokens: int) -> Rows:
    """The fastest way of running this model that gives what its plain forward pass gives."""
    own_angles(model)
    for way in _ways(model, text_config):
        problem = _kind_problem(model.config, way)
        if not problem:
            rows = way.rows(model, max_batch_tokens)
            problem = _problem(model, rows, way.probe_lengths)
            if not problem:
                break
        logger.debug("%s as %s: %s", text_config.model_type, way, problem)
    else:
        raise ConfigError(
            f"engine.transformers.model = {name!r}: a model of type {text_config.model_type!r} "
            f"cannot generate here: {problem}. Serve it by vLLM (engine = 'vllm'), or take a model "
            "of another type"
        )
    if way.style is None:
        logger.warning(
            "%r (%s) takes no batched masks: its requests run one at a time, without reuse",
            name,
            text_config.model_type,
        )
    return rows


@dataclass(frozen=True)
class _Way:
    """A way of running rows: with masks of a style, or (None) each by itself."""

    style: int | None
    shares_heads: bool = False

    @property
    def probe_lengths(self) -> Sequence[tuple[int, int]]:
        return PROBE_LENGTHS_SINGLE if self.style is None else PROBE_LENGTHS

    def rows(self, model: Any, max_tokens: int) -> Rows:
        """The rows of a model, which attends so from now on."""
        if self.style is None:
            return SingleRows(model)
        styles = mask_styles(model.config.get_text_config())
        if model.config.get_text_config()._attn_implementation == SHARED_HEADS:
            model.set_attn_implementation("sdpa")
            styles = mask_styles(model.config.get_text_config())
        if self.shares_heads:
            share_heads(model)
        return BatchedRows(model, styles[self.style], max_tokens)


def _ways(model: Any, text_config: Any) -> Iterator[_Way]:
    """The ways of running a model's rows, fastest first."""
    if model._supports_attention_backend:
        styles = range(len(mask_styles(text_config)))
        for shares_heads in (True, False):
            yield from (_Way(i, shares_heads) for i in styles)
        if text_config._attn_implementation == SHARED_HEADS:
            model.set_attn_implementation("sdpa")
    yield _Way(None)


def _kind_problem(config: Any, way: _Way) -> str | None:
    """The reason why a kind of model cannot be run so; a small one is tried past its windows."""
    from transformers import AutoModelForCausalLM

    def score_with(model: Any) -> contract.Score:
        rows = way.rows(model, 1 << 16)
        return partial(_scored, rows)

    return contract.problem(
        f"engine, {way}",
        AutoModelForCausalLM,
        config,
        score_with,
        own=_as_it_grows,
        rows=contract.grown_rows,
    )


def _as_it_grows(model: Any, row: contract.Row) -> torch.Tensor:
    """Log-probability of each token of a response, given what stands before it and no more.

    Of most models the forward pass of the whole row gives that. Where angles change with a row's
    length it does not; and a few choose what to attend to with a look at what comes later, with
    which nothing that computes token by token can agree.

    Raises:
        contract.LooksAheadError: It is one of those.
    """
    ids = torch.from_numpy(np.concatenate(row)).to(model.device)[None]
    logps_TV = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    changes = switch_length(model) is not None
    for stop in range(ids.shape[1] - 1, 0, -1 if changes else -PREFIX_STEP):
        alone_V = model(input_ids=ids[:, :stop], use_cache=False).logits[0, -1].log_softmax(-1)
        error = contract.difference([logps_TV[stop - 1]], [alone_V])
        if error and not changes:
            raise contract.LooksAheadError(
                f"tokens that follow change what its own forward pass gives, by {error:.2g}"
            )
        logps_TV[stop - 1] = alone_V
    chosen_T: torch.Tensor = logps_TV[:-1].gather(-1, ids[0, 1:, None])[:, 0]
    return chosen_T[len(row[0]) - 1 :]


def _scored(rows: Rows, asked: Sequence[contract.Row]) -> list[torch.Tensor]:
    """Log-probabilities of responses, as they are sampled: token by token behind their prompts,
    whose beginnings are copied where that can be.

    Raises:
        ValueError: As choices they would be scored otherwise.
    """
    order = sorted(range(len(asked)), key=lambda i: -len(asked[i][0]))
    prompts = [asked[i][0] for i in order]
    rows.join([sum(map(len, asked[i])) for i in order])
    try:
        logits = [rows.extend(0, prompts[:1])]
        known = [0] * len(prompts)
        if isinstance(rows, BatchedRows):
            for row, prompt in enumerate(prompts[1:], 1):
                known[row] = common_prefix(prompts[0], prompt[:-1])
                if known[row]:
                    rows.fill(row, (0, known[row]))
        for row, prompt in enumerate(prompts[1:], 1):
            logits.append(rows.extend(row, [prompt[known[row] :]]))
        behind_NV = torch.cat(logits)
        branches = [rows.score(row, [asked[i][1]])[0] for row, i in enumerate(order)]
        longest = max(len(response) for _, response in asked)
        tokens_NS = np.stack([np.resize(asked[i][1], longest) for i in order])
        steps = [behind_NV]
        for step in range(longest - 1):
            steps.append(rows.extend(0, list(tokens_NS[:, step, None])))
    finally:
        rows.clear()
    found: dict[int, torch.Tensor] = {}
    for row, i in enumerate(order):
        ids_R = torch.from_numpy(asked[i][1])
        sampled_RV = torch.stack([step[row] for step in steps[: len(ids_R)]]).log_softmax(-1)
        chosen_RV = torch.cat([behind_NV[row, None], branches[row][:-1]]).log_softmax(-1)
        if contract.difference([chosen_RV], [sampled_RV]):
            raise ValueError("choices are scored otherwise than they are sampled")
        found[i] = sampled_RV.gather(-1, ids_R[:, None])[:, 0]
    return [found[i] for i in range(len(asked))]


@torch.inference_mode()
def _problem(model: Any, rows: Rows, probe: Sequence[tuple[int, int]]) -> str:
    """The reason why two rows of different lengths, extended step by step, do not give the model's
    own logits; empty if they do."""
    total = sum(lengths[0] for lengths in probe)
    vocab_size = model.get_input_embeddings().weight.shape[0]
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    ids = np.random.default_rng(0).integers(0, vocab_size, size=(2, total))
    try:
        rows.join([total, total])
        for lengths in probe:
            logits_NV = rows.extend(0, [ids[i, rows.lengths[i] :][: lengths[i]] for i in range(2)])
            for i in range(2):
                seen = torch.from_numpy(ids[i : i + 1, : rows.lengths[i]]).to(model.device)
                plain_V = model(input_ids=seen, use_cache=False).logits[0, -1].float()
                # Written so that NaN does not agree.
                if not (logits_NV[i] - plain_V).abs().max() <= tolerance * (
                    1 + plain_V.abs().max()
                ):
                    return "it gives other logits with a cache than without one"
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        if out_of_memory(error):
            raise
        return str(error)
    finally:
        rows.clear()
        rows.work.reset()
    return ""
