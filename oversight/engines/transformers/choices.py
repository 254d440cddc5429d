"""One of several given answers, drawn by the probability that the model gives to each.

Shapes: T tokens of an answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from functools import lru_cache
from typing import Any

import torch

from oversight.engines.transformers.sampling import sample
from oversight.engines.transformers.sequence import Sequence, Top
from oversight.types import FinishReason


class Likeliest:
    """The likeliest tokens of a distribution, as text."""

    def __init__(self, tokenizer: Any) -> None:
        @lru_cache(maxsize=65_536)
        def text(token_id: int) -> str:
            decoded: str = tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
            return decoded

        self._text = text

    def of(self, logps_V: torch.Tensor, count: int, also: Many[int] = ()) -> Top:
        """The `count` likeliest tokens and those of `also`, likeliest first."""
        values, ids = logps_V.topk(min(count, len(logps_V)))
        found = dict(zip(ids.tolist(), values.tolist(), strict=True))
        found |= {i: float(logps_V[i]) for i in also if i not in found}
        ranked = sorted(found.items(), key=lambda entry: -entry[1])
        return tuple((self._text(i), logprob) for i, logprob in ranked)


def choose(sequence: Sequence, logps_TV: list[torch.Tensor], likeliest: Likeliest) -> bool:
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
