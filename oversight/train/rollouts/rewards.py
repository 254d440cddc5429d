"""Sources of reward for sampled responses: a reward model, a function of the user's, or a rule.

A source gives one number a response. Anything else (NaN, infinities, None, texts)
is refused with the response's id: one of them would spoil every weight.

A function is the user's own code. Its file is named on stderr before it is
imported, and whatever it raises or gives becomes one error that names it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from oversight.chat.prompt_ids import AnswerDecoder
from oversight.errors import ConfigError, DataError
from oversight.registry import load_named, shortened, shown_error
from oversight.train.experience_settings import RewardSettings, SourceSettings
from oversight.train.rollouts.types import RewardSource, SampledResponse, grouped
from oversight.train.runs.metrics import REWARD_PART
from oversight.train.types import PromptExample

ACCEPTED = (
    "one finite number for each response, as a list, a tuple, an array or a tensor of one dimension"
)
CALLS_TO_FIND = 32
"""Single responses that a function which raised is asked again about, to name the row."""
TRIED_ROWS = 3
"""Rows that `--dry-run` calls a reward function on."""
DUMMIES = ("This is a dry run.", "")
"""Responses that it is called with; a policy may well end at once and say nothing."""
RewardFunction = Callable[[list[str], list[dict[str, object]]], Sequence[float]]
"""Takes decoded responses and, for each, its example's fields; gives one number each."""


def open_rewards(settings: RewardSettings, tokenizer: Any, device: str = "cpu") -> RewardSource:
    """The source that the settings name.

    Args:
        settings: Which source.
        tokenizer: The policy's; responses are decoded by it, without special tokens.
        device: Where reward models run.

    Raises:
        ConfigError: A model or function cannot be used.
    """
    if settings.source == "sum":
        return SummedRewards(
            {
                name: (each.weight, _open(each, f"reward.parts.{name}", tokenizer, device))
                for name, each in settings.parts.items()
            }
        )
    return _open(settings, "reward", tokenizer, device)


def _open(settings: SourceSettings, place: str, tokenizer: Any, device: str) -> RewardSource:
    """The source of settings that stand at a dotted place and name one."""
    if settings.source == "model":
        from oversight.train.rollouts.reward_models import RewardModels

        return RewardModels.load(settings, tokenizer, device)
    if settings.source == "function":
        function = load_function(settings.function, f"{place}.function")
        return TextRewards(function, tokenizer, settings.function)
    if settings.source == "matches":
        return TextRewards(_matches(settings, place), tokenizer, "matches")
    return LengthRewards(settings.target_tokens)


def check_rewards(
    settings: RewardSettings, tokenizer: Any, examples: Sequence[PromptExample]
) -> None:
    """Refuse a source that cannot score responses to `examples`; reads no weight.

    Raises:
        ConfigError: A model or function cannot be used.
        DataError: An example lacks what the source needs; with the row's id.
    """
    for place, each in settings.sources():
        if each.source == "model":
            from oversight.train.rollouts.reward_models import read_reward_config

            for folder in each.models:
                read_reward_config(folder, tokenizer)
        elif each.source == "function":
            load_function(each.function, f"{place}.function")
        elif each.source == "matches":
            for example in examples:
                wanted = _field({"id": example.id, **example.fields}, each.field, place)
                if each.how == "regex":
                    _check_regex(example.id, wanted, each, place)


def tried_rewards(
    settings: RewardSettings, tokenizer: Any, examples: Sequence[PromptExample]
) -> Iterator[str]:
    """Call a reward function on dummy responses to real rows; lines that say what it gave.

    Nothing for other sources, which need no trial.

    Raises:
        ConfigError: The function cannot be used.
        DataError: It raises, or gives what is no reward.
    """
    for place, each in settings.sources():
        if each.source != "function":
            continue
        function = load_function(each.function, f"{place}.function")
        source = TextRewards(function, tokenizer, each.function)
        asked = list(examples[:TRIED_ROWS])
        given = source.of_texts(asked, [list(DUMMIES) for _ in asked])
        for example, rewards in zip(asked, given, strict=True):
            found = " and ".join(
                f"{reward:g} for {text!r}" for reward, text in zip(rewards, DUMMIES, strict=True)
            )
            yield f"{each.function} gives row {example.id!r} {found}"


class SummedRewards:
    """The weighted sum of several sources' rewards; `metrics` has the mean of each, unweighted.

    Args:
        sources: By name the weight and the source.
    """

    def __init__(self, sources: Mapping[str, tuple[float, RewardSource]]) -> None:
        self.metrics: dict[str, float] = {}
        self._sources = sources

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response to each example."""
        total = [[0.0] * len(group) for group in sampled]
        self.metrics = {}
        for name, (weight, source) in self._sources.items():
            given = source.score(examples, sampled)
            flat = [reward for group in given for reward in group]
            self.metrics[f"{REWARD_PART}{name}"] = sum(flat) / len(flat) if flat else 0.0
            for metric, value in source.metrics.items():
                # The guard looks for one ensemble's disagreement by its own name.
                key = f"{metric}_{name}" if metric in self.metrics else metric
                self.metrics[key] = value
            total = [
                [before + weight * reward for before, reward in zip(*groups, strict=True)]
                for groups in zip(total, given, strict=True)
            ]
        return total


class TextRewards:
    """Rewards by a function of texts and fields."""

    def __init__(self, function: RewardFunction, tokenizer: Any, name: str) -> None:
        self.metrics: dict[str, float] = {}
        self._function = function
        self._tokenizer = tokenizer
        self._name = name

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response, by one call of the function for all."""
        divider = AnswerDecoder(self._tokenizer)
        said = [
            [divider.said(example.prompt_ids, each.token_ids) for each in group]
            for example, group in zip(examples, sampled, strict=True)
        ]
        texts = [[each.text for each in group] for group in said]
        thoughts = [[each.thoughts for each in group] for group in said]
        return self.of_texts(examples, texts, thoughts)

    def of_texts(
        self,
        examples: Sequence[PromptExample],
        texts: Sequence[Sequence[str]],
        thoughts: Sequence[Sequence[str]] | None = None,
    ) -> list[list[float]]:
        """One reward for each of the texts of each example, by one call of the function.

        The thoughts beside each text are its field `thoughts`.

        Raises:
            DataError: It raised, or gave something else than a finite number for each.
        """
        fields = [self._fields(example) for example in examples]
        asked = [
            (words, {**own, "thoughts": thoughts[e][i] if thoughts else ""}, f"{own['id']}#{i}")
            for e, (own, group) in enumerate(zip(fields, texts, strict=True))
            for i, words in enumerate(group)
        ]
        try:
            given = self._function([a[0] for a in asked], [a[1] for a in asked])
        except (Exception, SystemExit) as error:
            raise DataError(self._raised(error, asked)) from error
        return grouped(self._numbers(given, asked), examples, texts, self._name)

    def _raised(self, error: BaseException, asked: list[tuple[str, Any, str]]) -> str:
        """Return the words of a function's error, its line, and the row where known."""
        for text, own, id in asked[:CALLS_TO_FIND] if len(asked) > 1 else ():
            try:
                self._function([text], [dict(own)])
            except type(error) as again:
                return (
                    f"row {id!r}: reward {self._name!r} raised "
                    f"{shown_error(again, __file__)}, on the response "
                    f"{shortened(repr(text))}; mend the function, or the row"
                )
            except (Exception, SystemExit):  # of one response it says something else
                break
        return (
            f"row {asked[0][2]!r}{' and others' if len(asked) > 1 else ''}: reward {self._name!r} "
            f"raised {shown_error(error, __file__)}, called with {len(asked)} responses; mend the "
            "function, or the rows"
        )

    def _numbers(self, given: Any, asked: list[tuple[str, Any, str]]) -> list[Any]:
        """Return a function's result as a list of that many things.

        Raises:
            DataError: It is nothing that holds a number for each response.
        """
        if inspect.iscoroutine(given):
            given.close()  # or Python warns that nobody awaited it
        try:
            return _as_list(given)
        except TypeError as error:
            hint = "; write it with def, not async def" if inspect.isawaitable(given) else ""
            hint = hint or ("; return list(...) of it" if isinstance(given, Iterator) else "")
            raise DataError(
                f"row {asked[0][2]!r}{' and others' if len(asked) > 1 else ''}: reward "
                f"{self._name!r} gave {error}, called with {len(asked)} responses; it has to give "
                f"{ACCEPTED}{hint}"
            ) from None

    def _fields(self, example: PromptExample) -> dict[str, object]:
        prompt = self._tokenizer.decode(example.prompt_ids.tolist(), skip_special_tokens=True)
        return {"id": example.id, "prompt": prompt, **example.fields}


class LengthRewards:
    """1 - |tokens - target| / target: for trying a trainer out."""

    def __init__(self, target_tokens: int) -> None:
        self.metrics: dict[str, float] = {}
        self._target = target_tokens

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response."""
        scores = [
            1.0 - abs(len(each.token_ids) - self._target) / self._target
            for group in sampled
            for each in group
        ]
        return grouped(scores, examples, sampled, "length")


def _as_list(given: Any) -> list[Any]:
    """The members of a sequence, an array or a tensor of one dimension.

    Raises:
        TypeError: It is something else; says what.
    """
    name = type(given).__name__
    kind = f"{'an' if name.lower().startswith(('a', 'e', 'i', 'o', 'u', 'nd')) else 'a'} {name}"
    if given is None:
        raise TypeError("None (has it a return?)")
    if isinstance(given, str | bytes | Mapping | AbstractSet):
        raise TypeError(f"{kind}, {shortened(repr(given))}")
    if hasattr(given, "ndim") and hasattr(given, "tolist"):
        if given.ndim != 1:
            raise TypeError(f"{kind} of shape {tuple(given.shape)}")
        return list(given.tolist())
    if not (hasattr(given, "__len__") and hasattr(given, "__iter__")):
        raise TypeError(kind)
    return list(given)


def load_function(path: str, setting: str = "reward.function") -> RewardFunction:
    """The function that "package.module:function" or "file.py:function" names.

    Its module is imported, which runs the code in it; its file is said on stderr first.

    Raises:
        ConfigError: There is no such function, or it cannot be called as a reward is.
    """
    function: RewardFunction = load_named(path, setting)
    _check_signature(function, f"{setting} = {path!r}")
    return function


def _check_signature(function: Any, place: str) -> None:
    called = getattr(function, "__call__", function)  # noqa: B004  # async of an object is there
    if any(
        inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (function, called)
    ):
        raise ConfigError(
            f"{place}: it is async, and rewards are not awaited; write it with def, and run what "
            "it awaits by asyncio.run inside"
        )
    try:
        inspect.signature(function).bind([], [])
    except TypeError as error:
        raise ConfigError(
            f"{place}: it is called with two arguments, the responses' texts and their rows' "
            f"fields, and cannot be ({error})"
        ) from None
    except ValueError:
        return  # of what is not written in Python nothing is known


def _check_regex(id: str, pattern: str, settings: SourceSettings, place: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise DataError(
            f"row {id!r}: {place}.field = {settings.field!r} is {shortened(pattern)!r} there, "
            f"which is no regular expression ({error}); mend it, or set {place}.how = 'contains'"
        ) from None


def _matches(settings: SourceSettings, place: str) -> RewardFunction:
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
        wanted = [_field(each, settings.field, place) for each in fields]
        return [float(fits(text, each)) for text, each in zip(texts, wanted, strict=True)]

    return score


def _field(fields: dict[str, object], name: str, place: str) -> str:
    """The field as text; an empty one would fit everything."""
    value = fields.get(name)
    if value is None or not str(value).strip():
        known = ", ".join(sorted(fields))
        raise DataError(
            f"row {fields['id']!r}: {place}.field = {name!r} is missing or empty there; its fields "
            f"are: {known}"
        )
    return str(value)
