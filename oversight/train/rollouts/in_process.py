"""Responses sampled from the live policy: its own weights, nothing copied.

Shared beginnings of a batch's prompts are computed once, over their trie; all
responses then grow side by side, one token a step, and attend to the shared
keys and values where they stand (`decoding`). Responses that have ended leave
the batch.

Each response draws from a random stream of its own, made of the seed, its
prompt's ids and its number, so what it says does not depend on its neighbours.

Shapes: N rows (responses), E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from oversight.engines.transformers.batching import sample as draw
from oversight.errors import ConfigError
from oversight.modeling import Ids, contract
from oversight.modeling.scoring.attention import Layout, choose_back_end, trie_arguments
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import TokenTrie
from oversight.modeling.small import NEVER
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.decoding import SharedPrompts
from oversight.train.rollouts.types import SampledResponse, check_prompts, seeds_of

LEAVE_SHARE = 8
"""Ended rows leave when they are this part (one eighth) of the batch: leaving copies the rest."""

Uniforms = npt.NDArray[np.float64]


class DecodeBatch:
    """The responses of one batch while they grow, those of one prompt side by side."""

    def __init__(
        self,
        shared: SharedPrompts,
        ranks_N: Ids,
        lengths_N: torch.Tensor,
        uniforms: Uniforms,
        eos_ids: frozenset[int],
    ) -> None:
        self.ranks_N = ranks_N
        self.lengths_N = lengths_N
        """Tokens of each row's prompt."""
        self._shared = shared
        self._uniforms = uniforms
        self._eos_ids = eos_ids
        self._row_N = np.arange(len(ranks_N))
        """Number of each row that is still in the batch."""
        self._tokens = np.zeros(uniforms.shape, dtype=np.int64)
        self._logprobs = np.zeros(uniforms.shape, dtype=np.float32)
        self._lengths = np.zeros(len(ranks_N), dtype=np.int64)
        """Tokens of each response that has ended; 0 while it grows."""
        self._num_steps, self._max_steps = 0, uniforms.shape[-1]
        shared.aim(ranks_N, lengths_N)

    @property
    def done(self) -> bool:
        """True once no response grows any more."""
        return self._num_steps == self._max_steps or bool(self._lengths.all())

    def take(self, logits_NV: torch.Tensor) -> torch.Tensor:
        """Draw a token for each row and let those go that have ended; the others' tokens [N]."""
        step = min(self._num_steps, self._max_steps - 1)
        num_rows = len(self._row_N)
        ones = [1.0] * num_rows
        tokens, logps = draw(logits_NV, ones, ones, self._uniforms[self._row_N, step].tolist())
        tokens_N = np.array(tokens)
        if not self.done:
            self._write(tokens_N, np.array(logps, dtype=np.float32), step)
            self._num_steps += 1
        ended_N = self._lengths[self._row_N] > 0
        if not self.done and ended_N.sum() * LEAVE_SHARE >= num_rows:
            tokens_N = tokens_N[~ended_N]
            self._leave(~ended_N)
        return torch.from_numpy(tokens_N).to(logits_NV.device)

    def _write(self, tokens_N: Ids, logps_N: npt.NDArray[np.float32], step: int) -> None:
        grows_N = self._lengths[self._row_N] == 0
        rows = self._row_N[grows_N]
        self._tokens[rows, step] = tokens_N[grows_N]
        self._logprobs[rows, step] = logps_N[grows_N]
        self._lengths[rows[np.isin(tokens_N[grows_N], list(self._eos_ids))]] = step + 1

    def _leave(self, stays_N: npt.NDArray[np.bool_]) -> None:
        kept = torch.from_numpy(np.flatnonzero(stays_N)).to(self.lengths_N.device)
        self._row_N, self.ranks_N = self._row_N[stays_N], self.ranks_N[stays_N]
        self.lengths_N = self.lengths_N[kept]
        self._shared.keep_rows(kept)
        self._shared.aim(self.ranks_N, self.lengths_N)

    def responses(self) -> list[SampledResponse]:
        """All of them, in the order of the rows at the beginning."""
        return [
            SampledResponse(
                token_ids=self._tokens[i, : length or self._num_steps].copy(),
                logprobs=self._logprobs[i, : length or self._num_steps].copy(),
                finished=bool(length),
            )
            for i, length in enumerate(self._lengths)
        ]


def _as_it_is(goes_on: bool) -> bool:
    return goes_on


class InProcessSampler:
    """A `Sampler` on a policy in this process, always at its newest weights.

    Args:
        policy: Whose layers run; it is in evaluation mode while it samples.
        settings: How responses are drawn.
        eos_ids: Tokens that end a response; None for those of the model.
        goes_on: Given whether this process has responses that grow, says whether any has.
            Layers that are spread over processes need every process in every step.

    Raises:
        ConfigError: The model does not say what ends a response, or is of a kind that would be
            sampled from another distribution than it scores.
    """

    shares_weights = True

    def __init__(
        self,
        policy: PolicyModel,
        settings: SamplingSettings,
        eos_ids: Collection[int] | None = None,
        goes_on: Callable[[bool], bool] = _as_it_is,
    ) -> None:
        check_sampling_kind(policy.inner.config)
        self.version = 0
        self.policy = policy
        self.settings = settings
        self.eos_ids = frozenset(_eos_ids(policy.inner) if eos_ids is None else eos_ids)
        self._goes_on = goes_on
        if not self.eos_ids:
            raise ConfigError(
                "eos_ids = []: neither the model's generation_config nor its config says what "
                "ends a response; name the tokenizer's eos_token_id"
            )

    def sample(
        self, prompts: Sequence[Ids], num_samples: int, seed: int
    ) -> list[list[SampledResponse]]:
        """`num_samples` responses to each prompt, in the prompts' order.

        Raises:
            DataError: A prompt is empty, too long, or holds ids that the model does not have.
            ConfigError: The model's attention cannot be run over shared prompts.
        """
        config = self.policy.inner.config.get_text_config()
        # Past a change of angles a row is scored by others than it was sampled by.
        context = _shortest(
            getattr(config, "max_position_embeddings", None), self.policy.switch_length
        )
        room = None if context is None else context - self.settings.max_new_tokens
        check_prompts(prompts, config.vocab_size, room)
        if not prompts or not num_samples:
            return [[] for _ in prompts]
        owners = np.repeat(np.arange(len(prompts)), num_samples)
        streams = [
            np.random.Generator(np.random.Philox(key=(int.from_bytes(key, "little") + i) % 2**128))
            for key in seeds_of(prompts, seed)
            for i in range(num_samples)
        ]
        sampled: list[SampledResponse] = []
        at_once = max(num_samples, self.settings.rows_at_once // num_samples * num_samples)
        with evaluating(self.policy), torch.no_grad():
            for start in range(0, len(owners), at_once):
                part = slice(start, start + at_once)
                sampled += self._decode(prompts, owners[part], streams[part])
        return [sampled[i : i + num_samples] for i in range(0, len(sampled), num_samples)]

    def update(self, policy: Any, step: int) -> None:
        """Note the step: the weights are the policy's own already.

        Raises:
            ConfigError: It is another policy.
        """
        if policy is not self.policy:
            raise ConfigError("an in-process sampler samples from the policy it was made with")
        self.version = step

    def close(self) -> None:
        """Nothing is held."""

    def _decode(
        self, prompts: Sequence[Ids], owners: Ids, streams: Sequence[np.random.Generator]
    ) -> list[SampledResponse]:
        """Responses to `prompts[owners[i]]`, all side by side."""
        temperature = self.settings.temperature
        asked, owner_N = np.unique(owners, return_inverse=True)
        trie = TokenTrie.build([prompts[i] for i in asked])
        shared = SharedPrompts(trie, self.policy.device)
        order = np.argsort(shared.ranks[owner_N], kind="stable")
        lengths = np.array([len(prompts[i]) for i in owners])[order]
        rows = DecodeBatch(
            shared,
            ranks_N=shared.ranks[owner_N][order],
            lengths_N=torch.from_numpy(lengths).to(self.policy.device),
            uniforms=np.stack([streams[i].random(self.settings.max_new_tokens) for i in order]),
            eos_ids=self.eos_ids,
        )
        logits_NV = _read(self.policy, trie, shared, rows.ranks_N, temperature)
        while True:
            tokens_N = rows.take(logits_NV)
            if not self._goes_on(not rows.done):
                break
            logits_NV = _step(self.policy, shared, tokens_N, rows.lengths_N, temperature)
        responses = rows.responses()
        return [responses[i] for i in np.argsort(order)]


def _read(
    policy: PolicyModel, trie: TokenTrie, shared: SharedPrompts, ranks_N: Ids, temperature: float
) -> torch.Tensor:
    """Compute the prompts once; the logits [N, V] of each row's first token."""
    back_end = choose_back_end(policy.attention, policy.device)
    hidden_1TE = _layers(
        policy,
        shared,
        torch.from_numpy(trie.ids_T).to(policy.device),
        torch.from_numpy(trie.positions_T).to(policy.device),
        **trie_arguments(Layout(trie, policy.device, back_end)),
    )
    lasts = torch.from_numpy(shared.lasts).to(policy.device)
    logits_PV = policy.head.logits(hidden_1TE[0, lasts], temperature)
    return logits_PV[torch.from_numpy(ranks_N).to(policy.device)]


def _step(
    policy: PolicyModel,
    shared: SharedPrompts,
    tokens_N: torch.Tensor,
    lengths_N: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """The logits [N, V] of each row's next token."""
    mask = lengths_N.new_empty(1, 1, 0, 0)  # four dimensions: handed through unread
    positions_N = lengths_N + shared.step
    hidden_1NE = _layers(policy, shared, tokens_N, positions_N, attention_mask=mask)
    shared.step += 1
    return policy.head.logits(hidden_1NE[0], temperature)


def _layers(
    policy: PolicyModel,
    shared: SharedPrompts,
    ids: torch.Tensor,
    positions: torch.Tensor,
    **arguments: Any,
) -> torch.Tensor:
    shared.begin_pass()
    with torch.autocast(policy.device.type, policy.lowered, enabled=policy.lowered is not None):
        output = policy.inner.base_model(
            input_ids=ids[None],
            position_ids=positions[None],
            use_cache=False,
            decode=shared,
            **arguments,
        )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def check_sampling_kind(config: Any) -> None:
    """Refuse a kind of model that is sampled here from another distribution than it scores.

    Raises:
        ConfigError: It names the type of model, and what differs.
    """
    from transformers import AutoModelForCausalLM

    found = contract.problem(
        "sampler",
        AutoModelForCausalLM,
        config,
        _forced,
        own=contract.token_logprobs,
        switch=NEVER,
        rows=contract.grown_rows,
    )
    if found:
        raise ConfigError(
            f"a model of type {config.model_type!r} cannot be sampled in this process: token by "
            f"token over shared prompts, {found}. Set engine = 'vllm', or take a model of another "
            "type; docs/training.md says which kinds can be"
        )


def _forced(model: Any) -> contract.Score:
    """Return a function that gives the log-probabilities of responses as if they were drawn."""
    policy = PolicyModel(model, precision=model.dtype)

    def score(rows: Sequence[contract.Row]) -> list[torch.Tensor]:
        trie = TokenTrie.build([prompt for prompt, _ in rows])
        shared = SharedPrompts(trie, policy.device)
        order = np.argsort(shared.ranks, kind="stable")
        ranks_N = shared.ranks[order]
        lengths_N = torch.tensor([len(rows[i][0]) for i in order])
        shared.aim(ranks_N, lengths_N)
        longest = max(len(response) for _, response in rows)
        tokens_NS = torch.from_numpy(np.stack([np.resize(rows[i][1], longest) for i in order]))
        logits_NV, logps = _read(policy, trie, shared, ranks_N, 1.0), []
        for step in range(longest):
            drawn_N1 = tokens_NS[:, step, None]
            logps.append(logits_NV.log_softmax(-1).gather(-1, drawn_N1)[:, 0])
            if step + 1 < longest:
                logits_NV = _step(policy, shared, drawn_N1[:, 0], lengths_N, 1.0)
        logps_NS = torch.stack(logps, dim=1)
        found = {int(i): logps_S for i, logps_S in zip(order, logps_NS, strict=True)}
        return [found[i][: len(response)] for i, (_, response) in enumerate(rows)]

    return score


def _shortest(*lengths: int | None) -> int | None:
    return min((length for length in lengths if length is not None), default=None)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, in which no dropout acts; afterwards each module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _eos_ids(model: Any) -> Iterator[int]:
    for config in (getattr(model, "generation_config", None), model.config.get_text_config()):
        found = getattr(config, "eos_token_id", None)
        yield from (
            int(i) for i in (found if isinstance(found, list) else [found]) if i is not None
        )
