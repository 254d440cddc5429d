"""Tokens drawn from logits, and one of several given answers drawn by its probability.

Each row has its own temperature, nucleus and random number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from oversight.engines.transformers.sequence import RunningSequence, Top
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
