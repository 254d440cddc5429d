"""What sampling gives and takes: settings, samples, and the Sampler protocol.

There is no top-p, top-k or penalty: the loss needs the log-probability of each
token in the very distribution it was drawn from, and the trainer computes that
of softmax(logits / temperature) and of nothing else.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from oversight.config.settings import Settings
from oversight.errors import DataError
from oversight.train.types import Floats, Ids, TokenRow


class SamplingSettings(Settings):
    """How responses are drawn."""

    max_new_tokens: int = Field(default=256, ge=1)
    """A response that has not ended by then is cut off, and says so."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Of softmax(logits / temperature), which is also what the trainer scores."""
    rows_at_once: int = Field(default=256, ge=1)
    """Responses that are decoded side by side; changes memory and speed, and no token."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """One response, token for token."""

    token_ids: Ids
    """EOS included where it ended by itself."""
    logprobs: Floats
    """Natural log-probability of each token in the tempered distribution it was drawn from."""
    finished: bool
    """Ended by EOS, which is then the last id; False where it was cut off."""

    def row(self, prompt_ids: Ids, id: str = "") -> TokenRow:
        """The response as a row to be scored."""
        return TokenRow(prompt_ids, self.token_ids, logprobs=self.logprobs, id=id)


@typing.runtime_checkable
class Sampler(typing.Protocol):
    """Something that answers prompts with a policy's current weights."""

    version: int
    """The step of the weights that it samples with."""
    shares_weights: bool
    """Whether these are the trainer's own, which change while it learns."""

    def sample(self, prompts: Sequence[Ids], num_samples: int, seed: int) -> list[list[Sampled]]:
        """`num_samples` responses to each prompt, in the prompts' order.

        The same seed gives the same responses to a prompt whatever else is asked
        at the same time, up to the rounding of the model's own arithmetic.

        Raises:
            DataError: A prompt is empty, or holds ids that the model does not have.
            EngineError: The model could not answer.
        """
        ...

    def update(self, policy: Any, step: int) -> None:
        """Take over the policy's weights, which are those of `step`.

        Raises:
            EngineError: They did not arrive.
        """
        ...

    def close(self) -> None:
        """Give back what the sampler holds; it cannot be used afterwards."""
        ...


def check_prompts(prompts: Sequence[Ids], vocab_size: int | None, room: int | None) -> None:
    """Refuse prompts that cannot be sampled from, before anything is computed.

    Args:
        prompts: Token ids of each.
        vocab_size: Ids must be below it; None where it is not known.
        room: Most tokens that a prompt may have; None where that is not known.

    Raises:
        DataError: With the number of the prompt and the reason.
    """
    for i, ids in enumerate(prompts):
        if not len(ids):
            raise DataError(f"prompts[{i}] is empty: give at least one token, such as BOS")
        if room is not None and len(ids) > room:
            raise DataError(
                f"prompts[{i}] has {len(ids)} tokens, and {room} leave room for max_new_tokens in "
                "the model's context: shorten it, or ask for fewer tokens"
            )
        if vocab_size is not None and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            wrong = next(int(each) for each in ids if not 0 <= each < vocab_size)
            raise DataError(f"prompts[{i}] holds id {wrong}, and the model has {vocab_size}")


def seeds_of(prompts: Sequence[Ids], seed: int) -> Iterator[bytes]:
    """Sixteen bytes for each prompt, from its ids and the seed, not from its neighbours.

    The same prompt asked twice at the same time gets two different ones.
    """
    seen: dict[bytes, int] = {}
    for ids in prompts:
        content = ids.astype("<i8").tobytes()
        occurrence = seen[content] = seen.get(content, -1) + 1
        key = hashlib.blake2b(content, digest_size=16, salt=f"{occurrence}".encode()[:16])
        key.update(f"|{seed}".encode())
        yield key.digest()
