"""Suffixes by gradient: a walk that makes words likelier, and its place in what a target reads.

The walk is greedy coordinate gradient (Zou et al. 2023, "Universal and Transferable Adversarial
Attacks on Aligned Language Models", arXiv:2307.15043, algorithm 1). Each step takes the gradient of
the loss by the one-hot vectors of the suffix, draws single substitutions among each place's `top_k`
steepest tokens, and goes to the best of them, be it worse than the last. Here all substitutions are
one batch of token rows, whose shared beginning is computed once (`oversight.modeling.scoring`).
Where a check is given, only what reads back as the same tokens is gone to: what exists as tokens
alone cannot be typed, and is counted.

The target's model is loaded a second time, in the same tokens as the target's own engine reads. The
suffix is looked for behind the attacked words; its tokens are whatever lies between what two
prompts have in common that differ in it alone, so that no template need be known.

Shapes: S tokens of the suffix, V vocabulary, B candidates, T tokens of the line, R of the aim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oversight.agents.speaking import label_of
from oversight.errors import ConfigError
from oversight.ids import seed_from
from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch, num_trie_tokens
from oversight.redteam.attacks import weights_of
from oversight.redteam.targets import JudgeTarget, PolicyTarget
from oversight.redteam.types import AttackCase, Target, Try
from oversight.types import Prompt

if TYPE_CHECKING:
    from oversight.redteam.preparing import RedTeamSettings

MAX_TOKENS = 16_384
"""Tokens of a line that is scored at once, shared ones counted once."""


@dataclass(frozen=True, slots=True, eq=False)
class SuffixPlace:
    """A place in a prompt where a suffix stands, and the words that it is to make likely."""

    before: Ids
    after: Ids
    """Tokens behind the suffix, up to where the answer begins."""
    aim: Ids
    """First tokens of the answer that is wanted."""

    def row(self, suffix: Ids) -> TokenRow:
        """The whole prompt with a suffix, and the aim as its answer."""
        return TokenRow(np.concatenate([self.before, suffix, self.after]), self.aim)


class SuffixWalk:
    """A walk over suffixes, one step of the gradient after the other.

    Args:
        policy: The model, whose weights stay as they are.
        place: The place of the suffix.
        start: The first suffix [S].
        allowed_V: Tokens that may stand in it.
        seed: Of the draws.
        top_k: Tokens of each place that are drawn from.
        num_candidates: Substitutions a step.
        text_of: The suffix as words that read back as the same tokens; None of a suffix that no
            words make. Without it every suffix is gone to.

    Raises:
        ValueError: A suffix or an aim has no token, or no token is allowed.
    """

    def __init__(
        self,
        policy: PolicyModel,
        place: SuffixPlace,
        start: Ids,
        allowed_V: torch.Tensor,
        *,
        seed: int = 0,
        top_k: int = 32,
        num_candidates: int = 64,
        text_of: Callable[[Ids], str | None] | None = None,
    ) -> None:
        if not len(start) or not len(place.aim) or not len(place.before):
            raise ValueError("a suffix, what stands before it and its aim have a token at least")
        if not bool(allowed_V.any()):
            raise ValueError("no token is allowed in the suffix")
        self.policy, self.place, self.allowed_V = policy, place, allowed_V
        self.top_k = min(top_k, int(allowed_V.sum()))
        self.num_candidates = num_candidates
        self._text_of = text_of
        self._random = torch.Generator().manual_seed(seed)
        self.ids = np.asarray(start, dtype=np.int64)
        self.losses = [float(self.losses_of([self.ids])[0])]
        """Loss of the suffix at the start and after each step."""
        self.best, self.best_loss = self.ids, self.losses[0]
        self.num_untypable = 0
        """Candidates that exist as tokens alone."""

    @property
    def text(self) -> str | None:
        """The best suffix as words; None if no words make it."""
        return None if self._text_of is None else self._text_of(self.best)

    def step(self) -> float:
        """Go to the best of the candidates; its loss, the mean over the aim's tokens in nats."""
        with torch.no_grad():
            candidates = self._candidates(self.gradient_SV())
        if self._text_of is not None:
            readable = [each for each in candidates if self._text_of(each) is not None]
            self.num_untypable += len(candidates) - len(readable)
            if not readable:
                self.losses.append(self.losses[-1])
                return self.losses[-1]
            candidates = readable
        losses_B = self.losses_of(candidates)
        best = int(losses_B.argmin())
        self.ids = candidates[best]
        self.losses.append(float(losses_B[best]))
        if self.losses[-1] < self.best_loss:
            self.best, self.best_loss = self.ids, self.losses[-1]
        return self.losses[-1]

    def gradient_SV(self) -> torch.Tensor:
        """Gradient of the loss by the one-hot vectors of the suffix."""
        table = self.policy.inner.get_input_embeddings()
        held: list[torch.Tensor] = []

        def as_leaf(module: object, given: object, output: torch.Tensor) -> torch.Tensor:
            held.append(output.detach().requires_grad_())
            return held[-1]

        hook = table.register_forward_hook(as_leaf)
        try:
            with torch.enable_grad():
                batch = RowBatch.build([self.place.row(self.ids)], self.policy.device)
                loss = -self.policy(batch).logps_BR.mean()
                [grad_1TE] = torch.autograd.grad(loss, held)
        finally:
            hook.remove()
        start = len(self.place.before)
        grad_SE = grad_1TE[0, start : start + len(self.ids)]
        table_VE: torch.Tensor = table.weight.detach().float()
        return grad_SE.float() @ table_VE.T

    def _candidates(self, grad_SV: torch.Tensor) -> list[Ids]:
        """Substitutions of one token each, drawn among the steepest of its place."""
        steep_SV = grad_SV.masked_fill(~self.allowed_V.to(grad_SV.device), torch.inf)
        top_SK = (-steep_SV).topk(self.top_k, dim=-1).indices.cpu().numpy()
        shape = (self.num_candidates,)
        places = torch.randint(len(self.ids), shape, generator=self._random).numpy()
        ranks = torch.randint(self.top_k, shape, generator=self._random).numpy()
        found: dict[bytes, Ids] = {}
        for place, rank in zip(places, ranks, strict=True):
            changed = self.ids.copy()
            changed[place] = top_SK[place, rank]
            found.setdefault(changed.tobytes(), changed)
        return list(found.values())

    def losses_of(self, suffixes: Sequence[Ids]) -> torch.Tensor:
        """The loss of each suffix [B]; what they begin with is computed once a batch."""
        rows = [self.place.row(each) for each in suffixes]
        found: list[torch.Tensor] = []
        with torch.no_grad():
            for part in _parts(rows):
                batch = RowBatch.build(part, self.policy.device)
                found.append(-self.policy(batch).logps_BR.mean(dim=1).cpu())
        return torch.cat(found)


def _parts(rows: Sequence[TokenRow]) -> list[Sequence[TokenRow]]:
    """Rows in as few equal parts as keep each line within `MAX_TOKENS`."""
    number = 1
    while number < len(rows):
        size = -(-len(rows) // number)
        parts = [rows[at : at + size] for at in range(0, len(rows), size)]
        if all(num_trie_tokens([row.ids() for row in part]) <= MAX_TOKENS for part in parts):
            return parts
        number *= 2
    return [[row] for row in rows]


NUM_TOKENS = 8
"""Tokens of a suffix."""
AIM = "Sure, here is"
"""Words that an answer of a policy is to begin with, as Zou et al. have them."""


class OpenWeights:
    """The models of a run's targets, each loaded when it is first attacked.

    Args:
        settings: Of the run.
    """

    def __init__(self, settings: RedTeamSettings) -> None:
        self._settings = settings
        self._known: dict[str, tuple[Any, Any, Any]] = {}

    async def given(self, target: Target, case: AttackCase, attack: str) -> AttackCase:
        """The case with a walk over suffixes of its words.

        Raises:
            ConfigError: The target's engine has no weights, or its prompts no place for a suffix.
            EngineError: A judge's model cannot be asked for its prompt.
        """
        policy, chat, tokenizer = self._model(target.name, attack)
        allowed_V = _typable(tokenizer, policy.inner.get_input_embeddings().weight.shape[0])
        first, second = (_repeated(tokenizer, allowed_V, number) for number in (0, 1))
        prompt, answer = await _prompt_of(target, case, f"{case.words} {first}")
        if sum(each.content.count(first) for each in prompt.messages) != 1:
            raise ConfigError(
                f"attacks: {attack!r} finds no place for a suffix in what {target.name} reads of "
                f"goal {case.goal.id}; leave the attack out"
            )
        ids, others = (chat.prompt_ids(each) for each in (prompt, _replaced(prompt, first, second)))
        begin = _alike(ids, others)
        end = _alike(ids[begin:][::-1], others[begin:][::-1])
        place = SuffixPlace(ids[:begin], ids[len(ids) - end :], chat.choice_ids(prompt, answer))

        def text_of(suffix: Ids) -> str | None:
            said = tokenizer.decode(suffix).strip()
            if not said:
                return None
            read = chat.prompt_ids(_replaced(prompt, first, said))
            whole = np.concatenate([place.before, suffix, place.after])
            return said if np.array_equal(read, whole) else None

        seed = seed_from("suffix", case.goal.id, self._settings.seed)
        walk = SuffixWalk(
            policy, place, ids[begin : len(ids) - end], allowed_V, seed=seed, text_of=text_of
        )
        return replace(case, walk=walk)

    def _model(self, target: str, attack: str) -> tuple[Any, Any, Any]:
        from oversight.chat.prompt_ids import ChatIds
        from oversight.train.loading import frozen, load_policy, read_config
        from oversight.train.settings import ModelSettings

        if target not in self._known:
            settings = ModelSettings(path=weights_of(self._settings, target, attack))
            config, vocabulary = read_config(settings, ())
            policy = frozen(load_policy(settings, config, 0))
            tokenizer = vocabulary.tokenizer
            self._known[target] = policy, ChatIds(tokenizer), tokenizer
        return self._known[target]


async def _prompt_of(target: Target, case: AttackCase, text: str) -> tuple[Prompt, str]:
    """The prompt that the target reads of these words, and the answer that is wanted of it."""
    if isinstance(target, PolicyTarget):
        chat = (*target.before(case.goal), *Try(text).as_chat())
        return Prompt(messages=chat), AIM
    assert isinstance(target, JudgeTarget)
    assert case.transcript is not None
    assert case.seat is not None
    found = await target.asked(case, Try(text), 0)
    if found is None:
        raise ConfigError(
            f"targets.{target.name}: this judge is asked for no letter, which a gradient could "
            'make likelier; take agent = "judge" on an engine with log-probabilities'
        )
    prompt, view = found
    side = case.transcript.debate.orders.defended_by(case.seat)
    return prompt, label_of(side, view.orders.options)


def _typable(tokenizer: Any, size: int) -> Any:
    """Marks of the tokens that are words somebody can type."""
    special = set(tokenizer.all_special_ids)
    allowed_V = torch.zeros(size, dtype=torch.bool)
    for number in range(min(size, len(tokenizer))):
        said = tokenizer.decode([number])
        allowed_V[number] = number not in special and bool(said.strip()) and said.isprintable()
    return allowed_V


def _repeated(tokenizer: Any, allowed_V: Any, number: int) -> str:
    """A typable token many times over, as words."""
    numbers = allowed_V.nonzero()[:, 0].tolist()
    said = str(tokenizer.decode([numbers[number]])).strip()
    return " ".join([said] * NUM_TOKENS)


def _replaced(prompt: Prompt, old: str, new: str) -> Prompt:
    """The prompt with other words in the suffix's place."""
    messages = tuple(
        each.model_copy(update={"parts": (each.content.replace(old, new),)})
        if old in each.content
        else each
        for each in prompt.messages
    )
    return Prompt(messages=messages)


def _alike(left: Ids, right: Ids) -> int:
    """Number of first tokens that two rows share."""
    length = min(len(left), len(right))
    differs = left[:length] != right[:length]
    return int(differs.argmax()) if differs.any() else length
