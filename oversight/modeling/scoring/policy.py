"""Models that score token rows over their trie: log-probabilities, values, hidden states.

Shapes: B rows, T tokens of the line, R response tokens of the longest row,
N distinct response tokens, E hidden size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch

from oversight.modeling.angles import own_angles, regime, rows_of, switch_length
from oversight.modeling.rows import Ids, TokenRow
from oversight.modeling.scoring.attention import (
    BackEnd,
    Layout,
    choose_back_end,
    trie_arguments,
    trie_attention,
    use_trie_attention,
)
from oversight.modeling.scoring.blocks import tails_of
from oversight.modeling.scoring.logprobs import Head, log_sum_sq_probs, token_logprobs
from oversight.modeling.scoring.trie import RowBatch

WINDOWS: dict[str, Callable[[Any], int | None]] = {
    "LlamaDecoderLayer": lambda attention: None,
    "MistralDecoderLayer": lambda attention: attention.config.sliding_window,
    "Qwen2DecoderLayer": lambda attention: attention.sliding_window,
    "Qwen3DecoderLayer": lambda attention: attention.sliding_window,
}
"""Layers that can be cut, and how many tokens back each looks (None: all)."""


def cut_last_layer(model: Any) -> bool:
    """Let the last layer of a model compute only what `Layout.ends` asks for; true if it can.

    Args:
        model: A transformers model, without peft's wrapping.
    """
    layers = getattr(model.base_model, "layers", None)
    if not layers or _kind(layers[-1]) is None:
        return False
    # The layer's own method is replaced, and not the layer: hooks that gather its weights from
    # other processes, and checkpointing, go on working around it. Bound to the layer, so that a
    # copy of the model has its own.
    layers[-1].forward = MethodType(_cut_or_whole, layers[-1])
    return True


def _kind(layer: Any) -> type | None:
    """The listed class that a layer is of; FSDP derives classes of its own from it."""
    return next((kind for kind in type(layer).__mro__ if kind.__name__ in WINDOWS), None)


def _cut_or_whole(layer: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    layout: Layout | None = kwargs.get("trie")
    if layout is None or layout.ends is None:
        return type(layer).forward(layer, hidden_states, *args, **kwargs)
    return _forward(layer, hidden_states, kwargs["position_embeddings"], layout.ends)


def _forward(
    layer: Any,
    hidden_1TE: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
    layout: Layout,
) -> torch.Tensor:
    """The layer's output [1, Q, E]."""
    places_Q = layout.asking_Q
    kind: Any = _kind(layer)
    rotate = sys.modules[kind.__module__].apply_rotary_pos_emb
    attention = layer.self_attn
    normed_1TE = layer.input_layernorm(hidden_1TE)
    key = _heads(attention.k_proj(normed_1TE), attention, "k_norm")
    value = _heads(attention.v_proj(normed_1TE), attention)
    query = _heads(attention.q_proj(normed_1TE[:, places_Q]), attention, "q_norm")
    cos, sin = angles
    key = rotate(key, key, cos, sin)[1]
    query = rotate(query, query, cos[:, places_Q], sin[:, places_Q])[0]
    attended, _ = trie_attention(
        attention,
        query,
        key,
        value,
        None,
        scaling=attention.scaling,
        trie=layout,
        sliding_window=WINDOWS[kind.__name__](attention),
    )
    output_1QE: torch.Tensor = hidden_1TE[:, places_Q] + attention.o_proj(attended.flatten(2))
    forwarded: torch.Tensor = layer.mlp(layer.post_attention_layernorm(output_1QE))
    return output_1QE + forwarded


def _heads(projected: torch.Tensor, attention: Any, norm: str = "") -> torch.Tensor:
    """Projections [1, n, H * D] as heads [1, H, n, D], normalised where the model does so."""
    heads = projected.view(*projected.shape[:2], -1, attention.head_dim)
    if norm and hasattr(attention, norm):
        heads = getattr(attention, norm)(heads)
    return heads.transpose(1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """A policy's scores of each response token of a batch; 0 where there is padding."""

    logps_BR: torch.Tensor
    """Natural log-probability at the temperature asked for, in at least float32."""
    mask_BR: torch.Tensor
    """Marks of the tokens that are learnt from."""
    entropy_BR: torch.Tensor | None = None
    """Entropy in nats of the distribution that each token was drawn from, if asked for."""
    values_BR: torch.Tensor | None = None
    """A critic's value of the state before each token, if the policy carries one."""
    log_sum_sq_probs_BR: torch.Tensor | None = None
    """log sum_v p(v)^2 of the distribution that each token was drawn from, if asked for."""


class Backbone(torch.nn.Module):
    """The layers of a transformers model below its head, run over a trie.

    Args:
        model: A causal language or sequence-classification model, or a peft model of one.
        attention: Which back end attends.
        precision: Data type in which layers and head multiply; weights stay as they are.
    """

    def __init__(
        self,
        model: Any,
        attention: BackEnd = "auto",
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.model = model
        self.attention = attention
        self.precision = precision
        use_trie_attention(self.inner)
        own_angles(self.inner)
        self.switch_length = switch_length(self.inner)
        """The longest row whose angles do not depend on its length; None if they never do."""
        self._cuts_last_layer = cut_last_layer(self.inner)

    @property
    def inner(self) -> Any:
        """The transformers model itself, without peft's wrapping."""
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def device(self) -> torch.device:
        """Device of the model's weights."""
        device: torch.device = self.inner.device
        return device

    @contextmanager
    def computing_in(self, precision: torch.dtype) -> Iterator[None]:
        """Another precision for a while."""
        before, self.precision = self.precision, precision
        try:
            yield
        finally:
            self.precision = before

    @property
    def lowered(self) -> torch.dtype | None:
        """The precision, if it is less than that of the weights."""
        return self.precision if self.precision.itemsize < self.inner.dtype.itemsize else None

    def by_regime(self, batch: RowBatch) -> RowBatch:
        """The batch, rows apart that get other angles than others because of their lengths."""
        if self.switch_length is None or batch.row_lengths_T().max() <= self.switch_length:
            return batch
        regimes = [regime(self.inner, row.num_tokens) for row in batch.rows]
        return RowBatch.build(batch.rows, batch.ids_T.device, regimes)

    def hidden_at(self, batch: RowBatch, places_N: torch.Tensor) -> torch.Tensor:
        """The last layer's output [N, E] at some places of the line."""
        runs = batch.trie.runs
        needed = np.unique(places_N.cpu().numpy())
        tails = tails_of(runs, needed) if self._cuts_last_layer else None
        layout = self._layout(batch)
        if tails is not None:
            layout.ends = Layout(batch.trie, self.device, layout.back_end, tails)
        hidden_1QE: torch.Tensor = self._run(batch, layout).last_hidden_state
        given_Q = (layout.ends or layout).asking_Q
        return hidden_1QE[0, torch.searchsorted(given_Q, places_N)]

    def hidden_states(
        self,
        rows: Sequence[Ids],
        positions: Sequence[Sequence[int] | Ids] | None = None,
        layers: Sequence[int] | None = None,
    ) -> list[torch.Tensor]:
        """Hidden states of chosen layers at chosen tokens: of each row a tensor [L, P, E].

        They are those of transformers' `output_hidden_states` for the row alone, while rows that
        begin alike share the computation of their beginnings. While it runs, all layers' states of
        the whole line are held, (number of layers + 1) * T * E numbers: give rows in batches.

        Args:
            rows: Token ids of each row, shape [n].
            positions: For each row the P tokens that are read, counted from 0, or from -1 for the
                last one backwards; P may differ from row to row. None for all n.
            layers: The L layers, in the order that is wanted: 0 for the embeddings, k for the
                output of layer k, negative ones from the last, which has gone through the model's
                final norm. None for all of them.

        Raises:
            ValueError: A row is empty, or there is no such token or layer.
        """
        asked = _positions(rows, positions)
        batch = self.by_regime(
            RowBatch.build([TokenRow(ids[:1], ids[1:]) for ids in rows], self.device)
        )
        output = self._run(batch, self._layout(batch), output_hidden_states=True)
        states: tuple[torch.Tensor, ...] = output.hidden_states
        wanted = range(len(states)) if layers is None else layers
        for layer in wanted:
            if not -len(states) <= layer < len(states):
                raise ValueError(
                    f"layers: {layer} is none of 0 to {len(states) - 1}; 0 are the embeddings"
                )
        places = [
            torch.from_numpy(place[at]).to(self.device)
            for place, at in zip(batch.trie.places, asked, strict=True)
        ]
        chosen = [states[layer][0] for layer in wanted]
        return [torch.stack([state_TE[place_P] for state_TE in chosen]) for place_P in places]

    def _layout(self, batch: RowBatch) -> Layout:
        return Layout(batch.trie, self.device, choose_back_end(self.attention, self.device))

    def _run(self, batch: RowBatch, layout: Layout, **arguments: Any) -> Any:
        """The output of all layers below the head over the line."""
        lengths_T = None if self.switch_length is None else batch.row_lengths_T()
        with (
            torch.autocast(self.device.type, self.lowered, enabled=self.lowered is not None),
            rows_of(self.inner, lengths_T),
        ):
            return self.inner.base_model(
                input_ids=batch.ids_T[None],
                position_ids=batch.positions_T[None],
                use_cache=False,
                **trie_arguments(layout),
                **arguments,
            )


def _positions(rows: Sequence[Ids], positions: Sequence[Sequence[int] | Ids] | None) -> list[Ids]:
    """The tokens to read of each row, counted from 0."""
    if positions is not None and len(positions) != len(rows):
        raise ValueError(f"positions are of {len(positions)} rows, and there are {len(rows)}")
    found = []
    for number, ids in enumerate(rows):
        size = len(ids)
        if not size:
            raise ValueError(f"rows[{number}] has no token")
        at = np.arange(size) if positions is None else np.asarray(positions[number], dtype=np.int64)
        if at.size and not (-size <= at.min() and at.max() < size):
            raise ValueError(f"positions[{number}]: {at.tolist()} are not all among {size} tokens")
        found.append(at % size)
    return found


class PolicyModel(Backbone):
    """A causal language model as a policy, with a value head on its trunk if asked for.

    Args:
        model: A causal language model, or a peft model of one.
        attention: Which back end attends.
        precision: Data type in which layers and head multiply.
        value_head: Add a critic that shares the policy's layers.
    """

    def __init__(
        self,
        model: Any,
        attention: BackEnd = "auto",
        precision: torch.dtype = torch.float32,
        *,
        value_head: bool = False,
    ) -> None:
        super().__init__(model, attention, precision)
        self.value_head: torch.nn.Linear | None = None
        if value_head:
            size = self.inner.config.get_text_config().hidden_size
            # From 0: the first advantages are the rewards themselves.
            head = torch.nn.Linear(size, 1, device=self.device, dtype=torch.float32)
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)
            self.value_head = head

    @property
    def head(self) -> Head:
        """The model's head."""
        layer = self.inner.get_output_embeddings()
        config = self.inner.config.get_text_config()
        return Head(
            layer.weight,
            getattr(layer, "bias", None),
            getattr(config, "final_logit_softcapping", None),
            _logit_scale(config),
            self.lowered,
        )

    def forward(
        self,
        batch: RowBatch,
        temperature: float = 1.0,
        *,
        with_entropy: bool = False,
        with_sum_sq: bool = False,
    ) -> Scores:
        """Scores of the batch's response tokens at `temperature`."""
        batch = self.by_regime(batch)
        hidden_NE = self.hidden_at(batch, batch.before_N)
        logps_N, entropy_N = token_logprobs(
            hidden_NE,
            self.head,
            batch.targets_N,
            temperature=temperature,
            with_entropy=with_entropy,
        )
        values = None
        if self.value_head is not None:
            values = batch.spread(self.value_head(hidden_NE.float())[:, 0])
        sum_sq = None
        if with_sum_sq:
            sum_sq = batch.spread(log_sum_sq_probs(hidden_NE, self.head, temperature=temperature))
        entropy = None if entropy_N is None else batch.spread(entropy_N)
        return Scores(batch.spread(logps_N), batch.mask_BR, entropy, values, sum_sq)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """The model that training began with, if only adapters are trained: they are off."""
        with self.model.disable_adapter():
            yield


class ScalarModel(Backbone):
    """A sequence-classification model of one label: a reward model, or a critic of its own."""

    def forward(self, batch: RowBatch) -> torch.Tensor:
        """One reward a row, [B], read at its last token whatever its id is."""
        batch = self.by_regime(batch)
        return self._score(self.hidden_at(batch, batch.last_B))

    def values(self, batch: RowBatch) -> torch.Tensor:
        """The value of the state before each response token, [B, R]."""
        batch = self.by_regime(batch)
        return batch.spread(self._score(self.hidden_at(batch, batch.before_N)))

    def _score(self, hidden_NE: torch.Tensor) -> torch.Tensor:
        score: torch.Tensor = self.inner.score(hidden_NE)
        return score[:, 0].to(torch.promote_types(score.dtype, torch.float32))


def _logit_scale(config: Any) -> float:
    """The constant that the model multiplies its logits by."""
    if (scale := getattr(config, "logit_scale", None)) is not None:
        return float(scale)
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        return 1.0 / float(scaling)
    return 1.0
