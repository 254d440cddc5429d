"""Models that score token rows over their trie: log-probabilities, values, hidden states.

Shapes: B rows, T tokens of the line, R response tokens of the longest row,
N distinct response tokens, E hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from oversight.modeling import Ids, TokenRow
from oversight.modeling.contract import own_angles, regime, rows_of, switch_length
from oversight.modeling.scoring.attention import (
    BackEnd,
    Layout,
    choose_back_end,
    cut_last_layer,
    trie_arguments,
    use_trie_attention,
)
from oversight.modeling.scoring.blocks import tails_of
from oversight.modeling.scoring.logprobs import Head, log_sum_sq_probs, token_logprobs
from oversight.modeling.scoring.sites import Site, SiteEdit, SiteModules
from oversight.modeling.scoring.trie import (
    GrowingRow,
    HeldPrefix,
    RowBatch,
    ScoredInParts,
    TokenTrie,
    cut,
)
from oversight.modeling.scoring.watching import Watch, alike, gathered, placed


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
        self._held: HeldPrefix | None = None
        self._held_regime: tuple[int, ...] = ()
        self._most_tokens: int | None = None

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

    @contextmanager
    def holding(self, ids: Ids, num_row_tokens: int, max_tokens: int) -> Iterator[None]:
        """While it lasts, batches whose rows all begin with `ids` take that beginning as computed.

        Gradients of that beginning gather, and go on to the weights at the end.

        Args:
            ids: The beginning; no row may be read there.
            num_row_tokens: Of one of the rows: angles may depend on it.
            max_tokens: Tokens that are computed at once.
        """
        if not len(ids):
            yield
            return
        lengths_P = np.full(len(ids), num_row_tokens)

        def compute(held: HeldPrefix, start: int, stop: int) -> None:
            trie = TokenTrie.build([ids[:stop]])
            back_end = choose_back_end(self.attention, self.device)
            layout = Layout(trie, self.device, back_end, (start,), held, start)
            if self._cuts_last_layer:
                layout.ends = Layout(trie, self.device, back_end, (stop,), held, start)
            self._run(trie, layout, lengths_P[:stop])

        held = HeldPrefix(ids, compute)
        held.begin(max_tokens)
        self._held, self._held_regime = held, regime(self.inner, num_row_tokens)
        try:
            yield
        finally:
            self._held = None
        if torch.is_grad_enabled():
            held.backward()

    @contextmanager
    def scoring_in_parts(self, most_tokens: int) -> Iterator[None]:
        """While it lasts, a batch of more tokens is scored in parts, each twice: without a graph
        first, and with one when the gradient of its scores is known.

        So scores may enter a loss that is no sum over rows (Gao et al. 2021, "Scaling Deep
        Contrastive Learning Batch Size under Memory Limited Setup"). Nothing may be random.
        """
        self._most_tokens = most_tokens
        try:
            yield
        finally:
            self._most_tokens = None

    def _in_parts(
        self, batch: RowBatch, scored: Callable[[RowBatch], torch.Tensor]
    ) -> torch.Tensor:
        """Result of `scored` for each row [B, ...], in parts if the batch asks for them."""
        most = self._most_tokens
        if most is None or batch.trie.num_tokens <= most:
            return scored(batch)
        parts = cut(batch.rows, most, holds=False).parts

        def of_part(numbers: list[int]) -> torch.Tensor:
            self._most_tokens = None
            try:
                return scored(RowBatch.build([batch.rows[i] for i in numbers], self.device))
            finally:
                self._most_tokens = most

        anchor = torch.zeros((), requires_grad=True)
        whole: torch.Tensor = ScoredInParts.apply(  # type: ignore[no-untyped-call]
            anchor, of_part, parts
        )
        return whole

    def _held_for(self, batch: RowBatch, needed: Ids) -> HeldPrefix | None:
        """The held beginning, if each row of the batch begins with it and none is read there."""
        held = self._held
        if held is None:
            return None
        num, first = held.num_tokens, batch.trie.runs[0]
        begins = first.stop_below == batch.trie.num_tokens and first.stop >= num
        if not begins or needed[0] < num or not np.array_equal(batch.trie.ids_T[:num], held.ids):
            return None
        if any(regime(self.inner, row.num_tokens) != self._held_regime for row in batch.rows):
            return None
        return held

    def hidden_at(self, batch: RowBatch, places_N: torch.Tensor) -> torch.Tensor:
        """The last layer's output [N, E] at some places of the line."""
        trie = batch.trie
        needed = np.unique(places_N.cpu().numpy())
        held = self._held_for(batch, needed)
        layout = self._layout(trie, held)
        if self._cuts_last_layer:
            tails = tails_of(trie.runs, needed)
            layout.ends = Layout(trie, self.device, layout.back_end, tails, held, layout.offset)
        output = self._run(trie, layout, self._row_lengths(batch))
        hidden_1QE: torch.Tensor = output.last_hidden_state
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
        output = self._run(
            batch.trie,
            self._layout(batch.trie),
            self._row_lengths(batch),
            output_hidden_states=True,
        )
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

    @cached_property
    def site_modules(self) -> SiteModules:
        """The places inside the model that can be read and changed."""
        return SiteModules(self.inner)

    def read_sites(
        self,
        rows: Sequence[Ids],
        sites: Sequence[Site],
        positions: Sequence[Sequence[int] | Ids] | None = None,
        edits: Sequence[Sequence[SiteEdit]] | None = None,
    ) -> list[dict[Site, torch.Tensor]]:
        """Tensors of chosen sites at chosen tokens, as `hidden_states` gives those of the stream.

        They are those that hooks on the model find for each row alone: [P, E]; of heads
        [P, H, D]; of attention patterns [P, H, n], over the n tokens of the row.

        Args:
            rows: Token ids of each row, shape [n].
            sites: Places inside the model.
            positions: As `hidden_states` takes them.
            edits: Of each row, the changes under which it is run.

        Raises:
            ConfigError: The model has no such site, or an edit does not fit it.
            ValueError: A row is empty, or there is no such token.
        """
        asked = _positions(rows, positions)
        batch = self.edited([TokenRow(ids[:1], ids[1:]) for ids in rows], edits)
        watch = placed(self.site_modules, sites, batch.trie, edits)
        final_TE = self.watched(batch, watch)
        if Site("final") in sites:
            watch.found[Site("final")] = final_TE
        return gathered(watch, batch.trie, asked, sites)

    def edited(
        self, rows: Sequence[TokenRow], edits: Sequence[Sequence[SiteEdit]] | None
    ) -> RowBatch:
        """The batch of rows of which those stand apart that are changed otherwise than others."""
        kinds = alike(edits, rows)
        if kinds is None:
            return self.by_regime(RowBatch.build(rows, self.device))
        if self.switch_length is not None:
            lengths = [regime(self.inner, row.num_tokens) for row in rows]
            kinds = list(zip(kinds, lengths, strict=True))
        return RowBatch.build(rows, self.device, kinds)

    def watched(self, batch: RowBatch, watch: Watch) -> torch.Tensor:
        """The output [T, E] of all layers at every place of the line, under `watch`."""
        layout = self._layout(batch.trie)
        layout.patterns = watch.patterns
        with watch.hooked():
            output = self._run(batch.trie, layout, self._row_lengths(batch))
        final_TE: torch.Tensor = output.last_hidden_state[0]
        return final_TE

    def growing_row(self, edits: Sequence[SiteEdit] = ()) -> GrowingRow:
        """A row that tokens are put to, each computed once, under `edits`."""
        found: list[torch.Tensor] = []

        def compute(held: HeldPrefix, start: int, stop: int) -> None:
            trie = TokenTrie.build([held.ids[:stop]])
            back_end = choose_back_end(self.attention, self.device)
            layout = Layout(trie, self.device, back_end, (start,), held, start)
            watch = Watch(self.site_modules)
            for edit in edits:
                watch.place(edit, np.arange(stop), start, grows=True)
            layout.patterns = watch.patterns
            with watch.hooked():
                found.append(self._run(trie, layout, np.full(stop, stop)).last_hidden_state[0])

        return GrowingRow(HeldPrefix(np.empty(0, dtype=np.int64), compute), found)

    def _layout(self, trie: TokenTrie, held: HeldPrefix | None = None) -> Layout:
        back_end = choose_back_end(self.attention, self.device)
        offset = 0 if held is None else held.num_tokens
        return Layout(trie, self.device, back_end, None, held, offset)

    def _row_lengths(self, batch: RowBatch) -> Ids | None:
        """For each token of the line how long its row is, if angles may depend on that."""
        return None if self.switch_length is None else batch.row_lengths_T().cpu().numpy()

    def _run(self, trie: TokenTrie, layout: Layout, lengths_T: Ids | None, **arguments: Any) -> Any:
        """The output of all layers below the head over the line, from `layout.offset` on."""
        computed = slice(layout.offset, None)
        lengths = None
        if self.switch_length is not None and lengths_T is not None:
            lengths = torch.from_numpy(lengths_T[computed]).to(self.device)
        with (
            torch.autocast(self.device.type, self.lowered, enabled=self.lowered is not None),
            rows_of(self.inner, lengths),
        ):
            return self.inner.base_model(
                input_ids=torch.from_numpy(trie.ids_T[computed]).to(self.device)[None],
                position_ids=layout.positions_T[computed][None],
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
        return Head.of(self.inner, self.lowered)

    def forward(
        self,
        batch: RowBatch,
        temperature: float = 1.0,
        *,
        with_entropy: bool = False,
        with_sum_sq: bool = False,
    ) -> Scores:
        """Scores of the batch's response tokens at `temperature`."""

        def scored(part: RowBatch) -> torch.Tensor:
            found = self._scores(part, temperature, with_entropy, with_sum_sq)
            return torch.stack([each for each in found if each is not None], dim=-1)

        if self._most_tokens is None:
            found = self._scores(batch, temperature, with_entropy, with_sum_sq)
        else:
            each_BR = list(self._in_parts(batch, scored).unbind(-1))
            wanted = (True, with_entropy, self.value_head is not None, with_sum_sq)
            found = tuple(each_BR.pop(0) if each else None for each in wanted)
        logps_BR, entropy_BR, values_BR, sum_sq_BR = found
        assert logps_BR is not None
        return Scores(logps_BR, batch.mask_BR, entropy_BR, values_BR, sum_sq_BR)

    def _scores(
        self, batch: RowBatch, temperature: float, with_entropy: bool, with_sum_sq: bool
    ) -> tuple[torch.Tensor | None, ...]:
        """Log-probabilities, entropies, values and log sums of squares, [B, R] each."""
        batch = self.by_regime(batch)
        hidden_NE = self.hidden_at(batch, batch.before_N)
        logps_N, entropy_N = token_logprobs(
            hidden_NE,
            self.head,
            batch.targets_N,
            temperature=temperature,
            with_entropy=with_entropy,
        )
        values_N = sum_sq_N = None
        if self.value_head is not None:
            values_N = self.value_head(hidden_NE.float())[:, 0]
        if with_sum_sq:
            sum_sq_N = log_sum_sq_probs(hidden_NE, self.head, temperature=temperature)
        found = (logps_N, entropy_N, values_N, sum_sq_N)
        return tuple(None if each is None else batch.spread(each) for each in found)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """The model that training began with, if only adapters are trained: they are off."""
        held, self._held = self._held, None  # it is of the adapters
        try:
            with self.model.disable_adapter():
                yield
        finally:
            self._held = held


class ScalarModel(Backbone):
    """A sequence-classification model of one label: a reward model, or a critic of its own."""

    def forward(self, batch: RowBatch) -> torch.Tensor:
        """One reward a row, [B], read at its last token whatever its id is."""

        def scored(part: RowBatch) -> torch.Tensor:
            part = self.by_regime(part)
            return self._score(self.hidden_at(part, part.last_B))

        return self._in_parts(batch, scored)

    def values(self, batch: RowBatch) -> torch.Tensor:
        """The value of the state before each response token, [B, R]."""
        batch = self.by_regime(batch)
        return batch.spread(self._score(self.hidden_at(batch, batch.before_N)))

    def _score(self, hidden_NE: torch.Tensor) -> torch.Tensor:
        score: torch.Tensor = self.inner.score(hidden_NE)
        return score[:, 0].to(torch.promote_types(score.dtype, torch.float32))
