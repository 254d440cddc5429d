"""Sources of reward for sampled responses: a reward model, a function of the user's, or a rule.

A source gives one number a response. Numbers that are none (NaN, infinities)
are refused with the response's id: one of them would spoil every weight.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from oversight.config.settings import Settings
from oversight.errors import ConfigError, DataError
from oversight.train.rollouts.types import Sampled
from oversight.train.types import PromptExample

RewardFunction = Callable[[list[str], list[dict[str, object]]], Sequence[float]]
"""Takes decoded responses and, for each, its example's fields; gives one number each."""


class RewardSettings(Settings):
    """Where rewards come from, and what that source needs to know."""

    source: Literal["model", "function", "matches", "length"] = "model"
    models: tuple[str, ...] = ()
    """`model`: folders of reward models of one label; the mean of several is the reward."""
    disagreement_penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """`model`: times the models' standard deviation, taken off the reward (after Coste et al. 2023,
    arXiv:2310.02743, whose uncertainty-weighted optimisation takes off the variance)."""
    function: str = ""
    """`function`: "package.module:function" or "file.py:function", called with the texts of the
    responses and, for each, a mapping of its row's fields and its prompt's text."""
    field: str = "answer"
    """`matches`: the example's field that a response is held against."""
    how: Literal["contains", "equals", "regex"] = "contains"
    """`matches`: how; a regex is the field itself, searched for in the response."""
    ignore_case: bool = True
    """`matches`: whether case and outer blanks are disregarded."""
    target_tokens: int = Field(default=64, ge=1)
    """`length`: 1 for a response of so many tokens, falling by its relative distance from that."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "model" and not self.models:
            raise ValueError("source = 'model' needs models, folders of reward models")
        if self.source == "function" and not self.function:
            raise ValueError("source = 'function' needs function, such as 'my_module:reward'")
        return self


@typing.runtime_checkable
class RewardSource(typing.Protocol):
    """Something that scores responses."""

    metrics: dict[str, float]
    """What else is known of the last call, such as how far an ensemble disagrees."""

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[Sampled]]
    ) -> list[list[float]]:
        """One reward for each response to each example.

        Raises:
            DataError: One is NaN or infinite, or the example lacks a field; with the row's id.
        """
        ...


def open_rewards(settings: RewardSettings, tokenizer: Any, device: str = "cpu") -> RewardSource:
    """The source that the settings name.

    Args:
        settings: Which source.
        tokenizer: The policy's; responses are decoded by it, without special tokens.
        device: Where reward models run.

    Raises:
        ConfigError: A model or function cannot be used.
    """
    if settings.source == "model":
        from oversight.train.rollouts.reward_models import RewardModels

        return RewardModels.load(settings, tokenizer, device)
    if settings.source == "function":
        return TextRewards(_function(settings.function), tokenizer, settings.function)
    if settings.source == "matches":
        return TextRewards(_matches(settings), tokenizer, "matches")
    return LengthRewards(settings.target_tokens)


def check_rewards(
    settings: RewardSettings, tokenizer: Any, examples: Sequence[PromptExample]
) -> None:
    """Refuse a source that cannot score responses to `examples`; reads no weight.

    Raises:
        ConfigError: A model or function cannot be used.
        DataError: An example lacks what the source needs; with the row's id.
    """
    if settings.source == "model":
        from oversight.train.rollouts.reward_models import read_reward_config

        for folder in settings.models:
            read_reward_config(folder, tokenizer)
    elif settings.source == "function":
        _function(settings.function)
    elif settings.source == "matches":
        for example in examples:
            _field({"id": example.id, **example.fields}, settings.field)


class TextRewards:
    """Rewards by a function of texts and fields."""

    def __init__(self, function: RewardFunction, tokenizer: Any, name: str) -> None:
        self.metrics: dict[str, float] = {}
        self._function = function
        self._tokenizer = tokenizer
        self._name = name

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[Sampled]]
    ) -> list[list[float]]:
        """One reward for each response, by one call of the function for all."""
        texts = [
            self._tokenizer.decode(each.token_ids.tolist(), skip_special_tokens=True)
            for group in sampled
            for each in group
        ]
        fields = [
            each
            for example, group in zip(examples, sampled, strict=True)
            for each in [self._fields(example)] * len(group)
        ]
        return grouped(self._function(texts, fields), examples, sampled, self._name)

    def _fields(self, example: PromptExample) -> dict[str, object]:
        prompt = self._tokenizer.decode(example.prompt_ids.tolist(), skip_special_tokens=True)
        return {"id": example.id, "prompt": prompt, **example.fields}


class LengthRewards:
    """1 - |tokens - target| / target: for trying a trainer out."""

    def __init__(self, target_tokens: int) -> None:
        self.metrics: dict[str, float] = {}
        self._target = target_tokens

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[Sampled]]
    ) -> list[list[float]]:
        """One reward for each response."""
        scores = [
            1.0 - abs(len(each.token_ids) - self._target) / self._target
            for group in sampled
            for each in group
        ]
        return grouped(scores, examples, sampled, "length")


def grouped(
    scores: Sequence[float],
    examples: Sequence[PromptExample],
    sampled: Sequence[Sequence[Sampled]],
    source: str,
) -> list[list[float]]:
    """Scores of all responses as one list a prompt, each checked to be a finite number.

    Raises:
        DataError: There are too few or too many, or one is not a finite number.
    """
    ids = [
        f"{example.id}#{i}"
        for example, group in zip(examples, sampled, strict=True)
        for i in range(len(group))
    ]
    if len(scores) != len(ids):
        raise DataError(
            f"reward {source!r} gave {len(scores)} numbers for {len(ids)} responses; it has to "
            "give one for each"
        )
    for id, score in zip(ids, scores, strict=True):
        if not isinstance(score, (int, float, np.number)) or not np.isfinite(score):
            raise DataError(
                f"row {id!r}: reward {source!r} is {score!r}, and it has to be a finite number"
            )
    numbers = iter(scores)
    return [[float(next(numbers)) for _ in group] for group in sampled]


def _function(path: str) -> RewardFunction:
    """The function that "package.module:function" or "file.py:function" names."""
    module_name, _, name = path.rpartition(":")
    place = f"reward.function = {path!r}"
    if not module_name or not name:
        raise ConfigError(f"{place}: write it as 'package.module:function' or 'file.py:function'")
    try:
        function = getattr(_module(module_name), name, None)
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(f"{place}: {module_name!r} cannot be imported ({error})") from error
    if not callable(function):
        raise ConfigError(f"{place}: {module_name!r} has no function {name!r}")
    found: RewardFunction = function
    return found


def _module(name: str) -> Any:
    """A module by its name, or by its file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(Path(name).stem, Path(name).expanduser())
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _matches(settings: RewardSettings) -> RewardFunction:
    """1 for a response that fits its example's field, 0 for others."""

    def plain(text: str) -> str:
        return text.strip().casefold() if settings.ignore_case else text

    def fits(text: str, wanted: str) -> bool:
        if settings.how == "regex":
            flags = re.IGNORECASE if settings.ignore_case else 0
            return re.search(wanted, text, flags) is not None
        if settings.how == "equals":
            return plain(text) == plain(wanted)
        return plain(wanted) in plain(text)

    def score(texts: list[str], fields: list[dict[str, object]]) -> list[float]:
        wanted = [_field(each, settings.field) for each in fields]
        return [float(fits(text, each)) for text, each in zip(texts, wanted, strict=True)]

    return score


def _field(fields: dict[str, object], name: str) -> str:
    """The field as text; an empty one would fit everything."""
    value = fields.get(name)
    if value is None or not str(value).strip():
        known = ", ".join(sorted(fields))
        raise DataError(
            f"row {fields['id']!r}: reward.field = {name!r} is missing or empty there; its fields "
            f"are: {known}"
        )
    return str(value)


def check_folder(folder: str) -> Path:
    """The folder of a reward model.

    Raises:
        ConfigError: It is not there, or holds no model.
    """
    from oversight.train.model.loading import is_saved_model  # which loads torch

    place = Path(folder).expanduser()
    if not is_saved_model(place):
        inner = place / "model"
        hint = f"; did you mean its folder {str(inner)!r}?" if is_saved_model(inner) else ""
        raise ConfigError(f"reward.models = {folder!r}: no folder of a saved model{hint}")
    return place
