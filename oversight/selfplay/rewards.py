"""The judge's belief as reward: responses of both sides of one game are put before it together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from oversight.errors import DataError
from oversight.selfplay.beliefs import BeliefReader
from oversight.selfplay.games import Game
from oversight.train.rollouts.rewards import grouped
from oversight.train.rollouts.said import Divider
from oversight.train.rollouts.types import Sampled
from oversight.train.types import PromptExample
from oversight.types import Seat

Bout = tuple[int, Mapping[Seat, int]]
"""The number of a game, and which of each seat's responses meet in it."""


def rows(games: Sequence[Game]) -> list[dict[str, Any]]:
    """One prompt for each seat of each game, the seats of a game side by side."""
    return [
        {
            "id": f"{number}-{seat.value}",
            "prompt": game.prompt(seat).chat(),
            "game": number,
            "seat": seat.value,
        }
        for number, game in enumerate(games)
        for seat in game.seats
    ]


@dataclass
class JudgedGames:
    """A `RewardSource`: a response is worth the judge's belief in its side, from 0 to 1.

    In a debate each response meets `opponents` of the other side's, in turn: more of them cost
    more of the judge's time and take the luck of the draw out of the reward. A collection has to
    hold all seats of its games, so its prompts stay in the order of `rows`.
    """

    games: Sequence[Game]
    reader: BeliefReader
    tokenizer: Any
    opponents: int = 1
    metrics: dict[str, float] = field(default_factory=dict)

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[Sampled]]
    ) -> list[list[float]]:
        """One reward for each response, the mean over its bouts.

        Raises:
            DataError: A seat of a game is missing among the examples.
        """
        texts = self._texts(examples, sampled)
        bouts = [bout for number in texts for bout in self._bouts(number, texts[number])]
        prompts = [
            self.games[number].judged({s: texts[number][s][i] for s, i in responses.items()})
            for number, responses in bouts
        ]
        listings = [self.games[number].debate.orders.options for number, _ in bouts]
        beliefs = self.reader.beliefs(prompts, listings)
        found: dict[tuple[int, Seat, int], list[float]] = defaultdict(list)
        right = []
        for (number, responses), belief in zip(bouts, beliefs, strict=True):
            game = self.games[number]
            for seat, response in responses.items():
                found[number, seat, response].append((belief.probs or ())[game.side(seat)])
            if game.question.correct is not None:
                right.append(float(belief.choice == game.question.correct))
        if right:
            self.metrics = {"reward/judge_right": sum(right) / len(right)}
        scores = [
            sum(values) / len(values)
            for example, group in zip(examples, sampled, strict=True)
            for response in range(len(group))
            for values in [found[(*place(example), response)]]
        ]
        return grouped(scores, examples, sampled, "judge's belief")

    def _texts(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[Sampled]]
    ) -> dict[int, dict[Seat, list[str]]]:
        """Of each game what each seat said, without its thoughts."""
        divider = Divider(self.tokenizer)
        texts: dict[int, dict[Seat, list[str]]] = defaultdict(dict)
        for example, group in zip(examples, sampled, strict=True):
            number, seat = place(example)
            texts[number][seat] = [
                divider.said(example.prompt_ids, each.token_ids).text for each in group
            ]
        for number, said in texts.items():
            missing = [seat for seat in self.games[number].seats if seat not in said]
            if missing:
                raise DataError(
                    f"game {number}: a collection holds no response of seat {missing[0].value!r}; "
                    "batch_size has to be a multiple of the seats, and shuffle = false"
                )
        return texts

    def _bouts(self, number: int, said: Mapping[Seat, Sequence[str]]) -> list[Bout]:
        first, *others = self.games[number].seats
        count = len(said[first])
        if not others:
            return [(number, {first: i}) for i in range(count)]
        [second] = others
        shifts = range(min(self.opponents, count))
        return list(
            chain.from_iterable(
                [(number, {first: i, second: (i + shift) % count}) for i in range(count)]
                for shift in shifts
            )
        )


def place(example: PromptExample) -> tuple[int, Seat]:
    """Number of the game, and seat, of a row of `rows`."""
    return int(str(example.fields["game"])), Seat(str(example.fields["seat"]))
