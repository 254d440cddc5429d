"""Continuous batching: sequences join and leave the batch between any two decoding steps.

Every step takes in what waits and fits, computes its prompts (only what no
earlier prompt or running sequence has computed), and then samples one token for
every sequence. It runs in one thread, which owns the model.

Shapes: N rows, V vocabulary.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from oversight.chat.prompt_ids import TokenIds
from oversight.engines.transformers.loading import LoadedModel, out_of_memory
from oversight.engines.transformers.prefix_tree import Prefix, PrefixTree, common_prefix
from oversight.engines.transformers.rows import BatchedRows
from oversight.engines.transformers.sequence import BatchLimits, Intake, Job, RunningSequence, Top
from oversight.errors import EngineError, EngineRefusedError, OversightError
from oversight.types import FinishReason


def sample(
    logits_NV: torch.Tensor, temperatures: list[float], top_ps: list[float], uniforms: list[float]
) -> tuple[list[int], list[float]]:
    """One token for each row, with its log-probability in the distribution it was drawn from.

    A temperature of 0 takes the likeliest token, whose log-probability is the
    model's own. Otherwise the distribution is softmax(logits / temperature), cut
    to the smallest set of likeliest tokens with a mass of `top_p` or more and
    renormalised (Holtzman et al., 2020).

    Args:
        logits_NV: Raw logits, float32.
        temperatures: One for each row.
        top_ps: One for each row, in (0, 1].
        uniforms: One number in [0, 1) for each row.
    """
    device = logits_NV.device
    temperature_N1 = torch.tensor(temperatures, dtype=torch.float32, device=device)[:, None]
    greedy_N = temperature_N1[:, 0] == 0
    # Subtracting the maximum first keeps tiny temperatures from giving inf - inf.
    shifted_NV = logits_NV - logits_NV.max(dim=-1, keepdim=True).values
    logps_NV = torch.log_softmax(
        shifted_NV / temperature_N1.masked_fill(temperature_N1 == 0, 1), -1
    )
    tokens_N = logits_NV.argmax(dim=-1)
    if not bool(greedy_N.all()):
        nucleus_NV = _nucleus(logps_NV, top_ps)
        drawn_N = _inverse_cdf(nucleus_NV, uniforms)
        tokens_N = torch.where(greedy_N, tokens_N, drawn_N)
        logps_NV = torch.where(greedy_N[:, None], logps_NV, nucleus_NV)
    chosen_N = logps_NV.gather(-1, tokens_N[:, None])[:, 0]
    return tokens_N.tolist(), chosen_N.tolist()


def _nucleus(logps_NV: torch.Tensor, top_ps: list[float]) -> torch.Tensor:
    """Log-probabilities with the tail beyond `top_p` set to -inf, renormalised."""
    if all(top_p >= 1 for top_p in top_ps):
        return logps_NV
    top_p_N1 = torch.tensor(top_ps, dtype=torch.float32, device=logps_NV.device)[:, None]
    sorted_NV, order_NV = logps_NV.sort(dim=-1, descending=True, stable=True)
    mass_before_NV = sorted_NV.exp().cumsum(-1) - sorted_NV.exp()
    # A row with top_p = 1 is left whole, whatever rounding does to the sum.
    cut_NV = (mass_before_NV >= top_p_N1) & (top_p_N1 < 1)
    cut_NV[:, 0] = False
    kept_NV = logps_NV.masked_fill(
        torch.zeros_like(cut_NV).scatter(-1, order_NV, cut_NV), -torch.inf
    )
    return torch.where(top_p_N1 < 1, torch.log_softmax(kept_NV, dim=-1), logps_NV)


def _inverse_cdf(logps_NV: torch.Tensor, uniforms: list[float]) -> torch.Tensor:
    """The token at which each row's cumulated probability first exceeds its uniform number."""
    # MPS has no float64; the rounding of float32 there is far below the sampler's own noise.
    wide = torch.float32 if logps_NV.device.type == "mps" else torch.float64
    cdf_NV = logps_NV.to(wide).exp().cumsum(-1)
    total_N1 = cdf_NV[:, -1:]
    point_N1 = torch.tensor(uniforms, dtype=wide, device=logps_NV.device)[:, None] * total_N1
    point_N1 = torch.minimum(point_N1, torch.nextafter(total_N1, torch.zeros_like(total_N1)))
    return torch.searchsorted(cdf_NV, point_N1, right=True)[:, 0]


class Likeliest:
    """The likeliest tokens of a distribution, as text."""

    def __init__(self, tokenizer: Any) -> None:
        @lru_cache(maxsize=65_536)
        def text(token_id: int) -> str:
            decoded: str = tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
            return decoded

        self._text = text

    def of(self, logps_V: torch.Tensor, count: int, also: Sequence[int] = ()) -> Top:
        """The `count` likeliest tokens and those of `also`, likeliest first."""
        values, ids = logps_V.topk(min(count, len(logps_V)))
        found = dict(zip(ids.tolist(), values.tolist(), strict=True))
        found |= {i: float(logps_V[i]) for i in also if i not in found}
        ranked = sorted(found.items(), key=lambda entry: -entry[1])
        return tuple((self._text(i), logprob) for i, logprob in ranked)


def choose(sequence: RunningSequence, logps_TV: list[torch.Tensor], likeliest: Likeliest) -> bool:
    """Draw one of a sequence's choices and make it the answer; false if there is no number.

    A choice's weight is the product of its tokens' probabilities, without an
    EOS behind it, raised to 1 / temperature and renormalised over the choices.

    Args:
        sequence: Its `choices` are the token ids of each.
        logps_TV: For each choice, the model's log-probabilities before each of its tokens.
        likeliest: Gives `top`.
    """
    sampling = sequence.job.request.sampling
    token_logps = [
        logps.gather(-1, torch.from_numpy(ids).to(logps.device)[:, None])[:, 0].tolist()
        for logps, ids in zip(logps_TV, sequence.choices, strict=True)
    ]
    scores = torch.tensor([[sum(logps) for logps in token_logps]], dtype=torch.float32)
    if bool(scores.isnan().any()) or bool(scores.isneginf().all()):
        return False
    uniform = sequence.random.random()
    (chosen,), _ = sample(scores, [sampling.temperature], [sampling.top_p], [uniform])
    sequence.token_ids = sequence.choices[chosen].tolist()
    sequence.logprobs = token_logps[chosen]
    if sampling.top_logprobs:
        firsts = sorted({int(ids[0]) for ids in sequence.choices})
        sequence.top = [
            likeliest.of(logps_V, sampling.top_logprobs, () if place else firsts)
            for place, logps_V in enumerate(logps_TV[chosen])
        ]
    sequence.text.text = sampling.choices[chosen]
    sequence.finish_reason = FinishReason.STOP
    return True


logger = logging.getLogger(__name__)

MIN_SHARED_TOKENS = 16
"""A prompt waits for another's beginning if that spares it so many tokens."""


@dataclass(frozen=True)
class Name:
    """Names of the engine and its model in completions."""

    engine: str
    model: str


class SequenceBatch:
    """The sequences that wait and those that run."""

    def __init__(
        self,
        loaded: LoadedModel,
        intake: Intake,
        limits: BatchLimits,
        kv_cache_tokens: int,
        name: Name,
    ) -> None:
        self._rows = loaded.rows
        self._shared = loaded.rows if isinstance(loaded.rows, BatchedRows) else None
        """The same rows, where beginnings can be copied between them."""
        self._eos_ids = loaded.eos_ids
        self._intake = intake
        self._limits = limits
        self._name = name
        self._kept = PrefixTree(kv_cache_tokens)
        self._waiting: deque[RunningSequence] = deque()
        self._running: list[RunningSequence] = []
        """Of the same order as the rows."""
        self._likeliest = Likeliest(loaded.tokenizer)

    @property
    def busy(self) -> bool:
        """True while a step has anything to do."""
        return bool(self._waiting or self._running)

    def work(self) -> dict[str, int]:
        """Counts of what was computed, and the number of tokens kept for later prompts."""
        return {**vars(self._rows.work), "num_kept_tokens": self._kept.num_tokens}

    def add(self, job: Job) -> None:
        """Take a request in; one that cannot be answered is refused at once."""
        try:
            self._waiting.append(self._intake.sequence(job))
        except OversightError as error:
            job.on_done(error)
        except Exception as error:
            job.on_done(
                EngineRefusedError(f"request {job.request.id!r} cannot be encoded: {error}")
            )

    @torch.inference_mode()
    def step(self) -> None:
        """Take in, compute and sample once. A failure ends the sequences that run, no others."""
        try:
            self._drop_cancelled()
            while wave := self._next_wave():
                self._start(wave)
            self._advance()
        except Exception as error:
            logger.exception("a step of the batch failed")
            self._fail_running(error)

    def fail_all(self, error: OversightError) -> None:
        """End everything with `error`."""
        for sequence in [*self._waiting, *self._running]:
            sequence.job.on_done(error)
        self._waiting.clear()
        self._running.clear()
        self._rows.clear()

    # --- joining -------------------------------------------------------------

    def _next_wave(self) -> list[RunningSequence]:
        """Waiting sequences to start together, longest computation first.

        One that shares more with another of the wave than with what is computed already waits
        for the next wave, in which it finds that beginning computed.
        """
        wave: list[tuple[int, RunningSequence]] = []
        passed: list[RunningSequence] = []
        while self._waiting:
            sequence = self._waiting[0]
            if not self._limits.fits([*self._running, *(s for _, s in wave), sequence]):
                break
            self._waiting.popleft()
            known = self._source(sequence.prompt_ids)[0]
            if any(self._worth_waiting(sequence, other, known) for _, other in wave):
                passed.append(sequence)
            else:
                wave.append((len(sequence.prompt_ids) - known, sequence))
        self._waiting.extendleft(reversed(passed))
        wave.sort(key=lambda entry: entry[0], reverse=True)
        return [sequence for _, sequence in wave]

    def _worth_waiting(self, sequence: RunningSequence, other: RunningSequence, known: int) -> bool:
        if self._shared is None:
            return False
        shared = common_prefix(sequence.prompt_ids[:-1], other.prompt_ids)
        return shared - known >= MIN_SHARED_TOKENS

    def _source(self, prompt_ids: TokenIds) -> tuple[int, Prefix | tuple[int, int]]:
        """The longest computed beginning of a prompt: its length, and where it stands.

        The last token is always computed, as its logits are needed.
        """
        if self._shared is None:
            return 0, (0, 0)
        kept = self._kept.match(prompt_ids[:-1])
        best: tuple[int, Prefix | tuple[int, int]] = (kept.length, kept)
        for row, other in enumerate(self._running):
            shared = common_prefix(prompt_ids[:-1], other.prompt_ids)
            if shared > best[0]:
                best = (shared, (row, shared))
        return best

    def _start(self, wave: list[RunningSequence]) -> None:
        """Compute the prompts of a wave, and their first tokens or choices."""
        first_row = len(self._running)
        # All found before any joins: a row that has joined is not computed yet.
        sources = [self._source(sequence.prompt_ids) for sequence in wave]
        self._running += wave
        self._rows.join([sequence.max_length for sequence in wave])
        for row, (length, source) in enumerate(sources, first_row):
            if self._shared is not None and length:
                self._shared.fill(row, source)
            self._running[row].num_cached = length
        missing = [sequence.prompt_ids[sequence.num_cached :] for sequence in wave]
        logits_NV = self._extend(first_row, missing)
        sampled = [i for i, sequence in enumerate(wave) if not sequence.choices]
        if sampled:
            self._take(logits_NV[sampled], [wave[i] for i in sampled])
        for i, sequence in enumerate(wave):
            if sequence.choices:
                self._choose(first_row + i, sequence, logits_NV[i])
        self._drop_finished()

    # --- decoding ------------------------------------------------------------

    def _advance(self) -> None:
        """One more token for every running sequence."""
        if not self._running:
            return
        last = [np.asarray(sequence.token_ids[-1:], np.int64) for sequence in self._running]
        self._take(self._extend(0, last), self._running)
        self._drop_finished()

    def _extend(self, first_row: int, token_ids: list[TokenIds]) -> torch.Tensor:
        """Compute more tokens; if memory runs out, once more without what was kept."""
        lengths = list(self._rows.lengths)
        try:
            return self._rows.extend(first_row, token_ids)
        except Exception as error:
            if not out_of_memory(error) or not self._kept.num_tokens:
                raise
        logger.warning("out of memory: dropped %d kept tokens", self._kept.num_tokens)
        self._kept.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._rows.lengths[:] = lengths
        return self._rows.extend(first_row, token_ids)

    def _take(self, logits_NV: torch.Tensor, sequences: Sequence[RunningSequence]) -> None:
        """Sample a token for each sequence and see whether it ends."""
        samplings = [sequence.job.request.sampling for sequence in sequences]
        tokens, logprobs = sample(
            logits_NV,
            [sampling.temperature for sampling in samplings],
            [sampling.top_p for sampling in samplings],
            [sequence.random.random() for sequence in sequences],
        )
        for i, sequence in enumerate(sequences):
            if not math.isfinite(logprobs[i]):
                sequence.failure = NOT_A_NUMBER
                continue
            if samplings[i].top_logprobs:
                logps_V = torch.log_softmax(logits_NV[i], dim=-1)
                sequence.top.append(self._likeliest.of(logps_V, samplings[i].top_logprobs))
            self._accept(sequence, tokens[i], logprobs[i])

    def _accept(self, sequence: RunningSequence, token_id: int, logprob: float) -> None:
        sequence.token_ids.append(token_id)
        sequence.logprobs.append(logprob)
        # EOS is a token of the answer, but never text of it.
        if token_id in self._eos_ids or sequence.text.add(token_id):
            sequence.finish_reason = FinishReason.STOP
        elif len(sequence.token_ids) >= sequence.max_tokens:
            sequence.finish_reason = FinishReason.LENGTH
        self._emit(sequence)

    def _emit(self, sequence: RunningSequence) -> None:
        if sequence.finish_reason is not None:
            sequence.text.finish()
        if sequence.job.on_text is not None:
            piece = sequence.text.take(final=sequence.finish_reason is not None)
            if piece:
                sequence.job.on_text(piece)

    def _choose(self, row: int, sequence: RunningSequence, logits_V: torch.Tensor) -> None:
        """Draw one of the choices, which ends the sequence."""
        long = [ids[:-1] for ids in sequence.choices if len(ids) > 1]
        later = iter(self._rows.score(row, long) if long else ())
        logps_TV = [
            torch.log_softmax(
                torch.cat([logits_V[None], next(later)]) if len(ids) > 1 else logits_V[None], -1
            )
            for ids in sequence.choices
        ]
        if choose(sequence, logps_TV, self._likeliest):
            self._emit(sequence)
        else:
            sequence.failure = NOT_A_NUMBER

    # --- leaving -------------------------------------------------------------

    def _drop_cancelled(self) -> None:
        for sequence in [*self._waiting, *self._running]:
            if sequence.job.cancelled:
                sequence.finish_reason = FinishReason.CANCELLED
                self._emit(sequence)
        for sequence in [s for s in self._waiting if s.ended]:
            self._waiting.remove(sequence)
            self._deliver(sequence)
        self._drop_finished()

    def _drop_finished(self) -> None:
        """Take finished sequences out of the batch; their keys and values are kept."""
        for row in range(len(self._running) - 1, -1, -1):
            sequence = self._running[row]
            if not sequence.ended:
                continue
            if self._shared is not None and not sequence.failure:
                computed = sequence.all_ids()[: self._rows.lengths[row]]
                self._kept.insert(computed, partial(self._shared.read, row))
            self._rows.remove(row)
            self._running[row] = self._running[-1]
            self._running.pop()
            self._deliver(sequence)

    def _deliver(self, sequence: RunningSequence) -> None:
        job = sequence.job
        if sequence.failure:
            job.on_done(EngineError(f"request {job.request.id!r}: {sequence.failure}"))
        else:
            job.on_done(sequence.completion(self._name.engine, self._name.model))

    def _fail_running(self, error: Exception) -> None:
        reason = str(error)
        if out_of_memory(error):
            longest = max((len(s.prompt_ids) for s in self._running), default=0)
            reason = (
                f"out of memory with {len(self._running)} sequences of up to {longest} prompt "
                "tokens; lower max_batch_size, max_batch_tokens or kv_cache_tokens"
            )
            self._kept.clear()
        for sequence in self._running:
            failure = EngineError(f"request {sequence.job.request.id!r}: {reason}")
            failure.__cause__ = error
            sequence.job.on_done(failure)
        self._running.clear()
        self._rows.clear()


NOT_A_NUMBER = "the model's logits are no numbers; dtype 'float32' or 'bfloat16' may help"
