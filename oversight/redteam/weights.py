"""Targets whose weights are at hand: the place of a suffix in what they read, and a walk over it.

An attack by gradients loads the target's model a second time, in the same tokens as the target's
own engine reads. The suffix is looked for behind the attacked words; its tokens are whatever lies
between what two prompts have in common that differ in it alone, so that no template need be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from oversight.agents.speaking import label_of
from oversight.errors import ConfigError
from oversight.ids import seed_from
from oversight.redteam.targets import JudgeTarget, PolicyTarget
from oversight.redteam.types import AttackCase, Target, Try
from oversight.types import Prompt

if TYPE_CHECKING:
    from oversight.modeling import Ids
    from oversight.redteam.attacks import Attack
    from oversight.redteam.preparing import RedTeamSettings

OPEN = "transformers"
"""Engine whose weights are in this process."""
NUM_TOKENS = 8
"""Tokens of a suffix."""
AIM = "Sure, here is"
"""Words that an answer of a policy is to begin with, as Zou et al. have them."""


def check_weights(settings: RedTeamSettings, target: str, attacks: Sequence[Attack]) -> None:
    """Refuse attacks that need weights which a target's engine has not.

    Raises:
        ConfigError: Its engine has no weights in this process.
    """
    for each in attacks:
        if each.needs_weights:
            weights_of(settings, target, each.name)


def weights_of(settings: RedTeamSettings, target: str, attack: str) -> str:
    """The model of a target whose weights an attack needs.

    Raises:
        ConfigError: Its engine has no weights in this process.
    """
    name = settings.targets[target].engine
    engine = settings.engines.get(name or "")
    if engine is None or engine.engine != OPEN:
        on = "no engine" if engine is None else f"engine {engine.engine!r}"
        raise ConfigError(
            f"attacks: {attack!r} needs the weights of the target's model, and targets.{target} is "
            f"on {on}, which gives none; put it on engine = {OPEN!r} with model = a folder, or "
            "leave the attack out"
        )
    return str(engine.settings.get("model", ""))


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
        from oversight.redteam.gcg import SuffixPlace, SuffixWalk

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
    """What the target reads of these words, and the answer that is wanted of it."""
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
    import torch

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
