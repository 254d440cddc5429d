"""The judge's belief as reward, of a judge in this process or of a reward model in its place.

Responses of both sides of one game are put before the judge together; a reward model reads one
speech as the judge would, quotes looked up. In cross-play each policy speaks once, and all are put
together in all pairs. A consultant has no opponent in the room: two of them meet on a question when
each argues for one of its options alone, and the one whose own option is believed more has won.

Shapes: K policies, G games.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from oversight.agents.judging import SURFACE_FORMS, decide, in_question_order, labels
from oversight.chat.prompt_ids import AnswerDecoder, ChatIds, TokenIds
from oversight.engines.transformers.prefix_tree import common_prefix
from oversight.errors import ConfigError, DataError
from oversight.experiments.selfplay.games import Game, one_round
from oversight.experiments.selfplay.settings import Arena
from oversight.modeling import TokenRow
from oversight.preferences.building import preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.store import Store
from oversight.train.batches import row_logprobs
from oversight.train.distributed import World
from oversight.train.experience_settings import SamplingSettings
from oversight.train.loading import frozen, load_policy, read_config
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.reward_models import RewardModels
from oversight.train.rollouts.types import SampledResponse, grouped
from oversight.train.settings import ModelSettings
from oversight.train.types import PromptExample
from oversight.types import Belief, BeliefMethod, Prompt, Response, Seat, Transcript

MAX_TOKENS = 16_384
"""Tokens that are computed at once."""
NUM_LETTERS = 8
"""Most options of a question."""


class BeliefReader:
    """Reads beliefs of one model.

    Args:
        model: A folder, a hub name, or an embedded model.
        template_args: Further values for its chat template.

    Raises:
        ConfigError: It cannot be read, or its vocabulary has no single token for a letter.
    """

    def __init__(self, model: str, template_args: dict[str, Any] | None = None) -> None:
        settings = ModelSettings(path=model)
        config, vocabulary = read_config(settings, ())
        self._policy = frozen(load_policy(settings, config, 0))
        self._tokenizer = vocabulary.tokenizer
        self._chat = ChatIds(self._tokenizer, template_args=template_args)
        self._world = World(0, 1, self._policy.device)
        if not all(self._forms[:2]):
            raise ConfigError(f"judge = {model!r}: its vocabulary has no token for the letter 'A'")

    def beliefs(
        self, prompts: Sequence[Prompt], listings: Sequence[tuple[int, ...]]
    ) -> list[Belief]:
        """The belief after each prompt, in the question's own order.

        Args:
            prompts: Each ends with the request for a letter.
            listings: Of each: which option stands at which letter.
        """
        asked = [self._chat.prompt_ids(prompt) for prompt in prompts]
        rows, places = [], []
        for number, (ids, listing) in enumerate(zip(asked, listings, strict=True)):
            for position in range(len(listing)):
                for form in self._forms[position]:
                    rows.append(TokenRow(np.asarray(ids), np.array([form])))
                    places.append((number, position))
        scored = row_logprobs(self._policy, rows, self._world, MAX_TOKENS)
        by_position = [[0.0] * len(listing) for listing in listings]
        for (number, position), logp_R in zip(places, scored, strict=True):
            by_position[number][position] += math.exp(float(logp_R[0]))
        return [
            decide(in_question_order(found, listing), BeliefMethod.LOGPROBS, "", mass)
            for found, listing in zip(by_position, listings, strict=True)
            for mass in [min(math.fsum(found), 1.0)]
        ]

    @cached_property
    def _forms(self) -> list[list[int]]:
        """For each letter the tokens that are one of its forms."""
        texts = {i: self._tokenizer.decode([i]) for i in range(len(self._tokenizer))}
        ids_of: dict[str, list[int]] = {}
        for token, text in texts.items():
            ids_of.setdefault(text, []).append(token)
        return [
            sorted({i for form in SURFACE_FORMS for i in ids_of.get(form.format(label), ())})
            for label in labels(NUM_LETTERS)
        ]


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
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
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
            for values in [found[(*game_and_seat(example), response)]]
        ]
        return grouped(scores, examples, sampled, "judge's belief")

    def _texts(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> dict[int, dict[Seat, list[str]]]:
        """Of each game what each seat said, without its thoughts."""
        divider = AnswerDecoder(self.tokenizer)
        texts: dict[int, dict[Seat, list[str]]] = defaultdict(dict)
        for example, group in zip(examples, sampled, strict=True):
            number, seat = game_and_seat(example)
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


def game_and_seat(example: PromptExample) -> tuple[int, Seat]:
    """Number of the game, and seat, of a row of `rows`."""
    return int(str(example.fields["game"])), Seat(str(example.fields["seat"]))


def comparisons(
    store: Store,
    protocol: str,
    played: str,
    settings: PreferenceSettings,
    tokenizer: Any,
    template_args: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of the `pair` format, with token ids, for the trainer of reward models.

    Args:
        store: Holds debates with candidates.
        protocol: Name of theirs.
        played: Name of the protocol without candidates, in whose words the judge is asked.
        settings: Which candidates are compared.
        tokenizer: Of the model to be trained.
        template_args: Further values for its chat template.
    """
    chat = ChatIds(tokenizer, template_args=template_args)
    for transcript in store.transcripts(protocol=protocol):
        game = _game(transcript, played)
        seats = {turn.id: turn.seat for turn in transcript.turns}
        for row in preferences([transcript], settings, store.prompt):
            better, worse = (_read(chat, game, response, seats) for response in row.responses)
            shared = common_prefix(better, worse)
            yield {
                "id": row.id,
                "question_id": row.provenance.question_id,
                "prompt": tokenizer.decode(better[:shared]),
                "chosen": row.responses[0].text,
                "rejected": row.responses[1].text,
                "prompt_ids": better[:shared].tolist(),
                "chosen_ids": better[shared:].tolist(),
                "rejected_ids": worse[shared:].tolist(),
                "weight": row.weight,
            }


@dataclass
class SpeechesAlone:
    """A `RewardSource`: a response is worth what a reward model gives for it, read as above."""

    games: Sequence[Game]
    models: RewardModels
    tokenizer: Any
    template_args: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._chat = ChatIds(self.tokenizer, template_args=self.template_args)
        self._divider = AnswerDecoder(self.tokenizer)

    @property
    def metrics(self) -> dict[str, float]:
        """The disagreement of the models, where there are several."""
        return self.models.metrics

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response."""
        rows = []
        for example, group in zip(examples, sampled, strict=True):
            number, seat = game_and_seat(example)
            for each in group:
                text = self._divider.said(example.prompt_ids, each.token_ids).text
                rows.append(_row(_ids(self._chat, self.games[number], seat, text)))
        return grouped(self.models.score_rows(rows), examples, sampled, "model")


def _game(transcript: Transcript, played: str) -> Game:
    debate = transcript.debate.model_copy(update={"protocol": one_round(played)})
    return Game(debate, transcript.question)


def _read(chat: ChatIds, game: Game, response: Response, seats: dict[str, Seat]) -> TokenIds:
    assert response.turn_id is not None, "candidates are turns"
    return _ids(chat, game, seats[response.turn_id], response.text)


def _ids(chat: ChatIds, game: Game, seat: Seat, text: str) -> TokenIds:
    """Ids of the prompt that asks the judge for its decision after that one speech."""
    return chat.prompt_ids(game.judged({seat: text}))


def _row(ids: TokenIds) -> TokenRow:
    # The reward is read at the last token, where a judge would begin to answer.
    return TokenRow(np.asarray(ids[:-1]), np.asarray(ids[-1:]))


Speeches = list[dict[Seat, str]]
"""For each game what a policy says at each seat."""

BOUTS_AT_ONCE = 256


def speeches(
    model: str,
    games: Sequence[Game],
    max_tokens: int,
    seed: int,
    template_args: dict[str, Any] | None = None,
) -> Speeches:
    """One speech of a policy at every seat of every game, without its thoughts."""
    settings = ModelSettings(path=model)
    config, vocabulary = read_config(settings, ())
    tokenizer = vocabulary.tokenizer
    policy = frozen(load_policy(settings, config, 0))
    chat = ChatIds(tokenizer, template_args=template_args)
    places = [(number, seat) for number, game in enumerate(games) for seat in game.seats]
    prompts = [np.asarray(chat.prompt_ids(games[number].prompt(seat))) for number, seat in places]
    how = SamplingSettings(max_new_tokens=max_tokens)
    eos = None if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    sampled = InProcessSampler(policy, how, eos).sample(prompts, 1, seed)
    said: Speeches = [{} for _ in games]
    divider = AnswerDecoder(tokenizer)
    for (number, seat), prompt_ids, [one] in zip(places, prompts, sampled, strict=True):
        said[number][seat] = divider.said(prompt_ids, one.token_ids).text
    return said


def beliefs_in_first(
    reader: BeliefReader, games: Sequence[Game], said: Mapping[str, Speeches], arena: Arena
) -> dict[str, Any]:
    """The judge's belief in the option of seat A in every bout, JSON-plain.

    Of a debate `beliefs[i][j][g]`, policy i at seat A and j at B; of a consultancy `beliefs[i][g]`.
    """
    players = list(said)
    pairs = [(i, j) for i in players for j in (players if arena == "debate" else [i])]
    found: dict[tuple[str, str], list[float]] = {}
    for first, second in pairs:
        found[first, second] = []
        for start in range(0, len(games), BOUTS_AT_ONCE):
            part = range(start, min(start + BOUTS_AT_ONCE, len(games)))
            prompts = [
                games[g].judged(
                    {
                        seat: said[first if seat is Seat.A else second][g][seat]
                        for seat in games[g].seats
                    }
                )
                for g in part
            ]
            listings = [games[g].debate.orders.options for g in part]
            for g, belief in zip(part, reader.beliefs(prompts, listings), strict=True):
                found[first, second].append((belief.probs or ())[games[g].side(Seat.A)])
    table: Any = (
        [[found[i, j] for j in players] for i in players]
        if arena == "debate"
        else [found[i, i] for i in players]
    )
    return {
        "players": players,
        "questions": [game.question.id for game in games],
        "first_is_honest": [game.is_honest(Seat.A) for game in games],
        "beliefs": table,
    }
