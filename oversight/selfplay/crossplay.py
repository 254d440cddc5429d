"""Every policy against every other: what each says once, put together in all pairs.

In debate a bout is a debate between two policies on a question. A consultant has no opponent in
the room: two of them meet on a question when each argues for one of its options alone before the
judge, and the one whose own option is then believed more has won.

Shapes: K policies, G games.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oversight.chat.prompt_ids import ChatIds
from oversight.selfplay.beliefs import BeliefReader
from oversight.selfplay.games import Game
from oversight.selfplay.settings import Arena
from oversight.train.model.loading import frozen, load_policy, read_config
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.said import Divider
from oversight.train.rollouts.types import SamplingSettings
from oversight.train.settings import ModelSettings
from oversight.types import Seat

Speeches = list[dict[Seat, str]]
"""For each game what a policy says at each seat."""

BOUTS_AT_ONCE = 256


def speeches(model: str, games: Sequence[Game], max_tokens: int, seed: int) -> Speeches:
    """One speech of a policy at every seat of every game, without its thoughts."""
    settings = ModelSettings(path=model)
    config, vocabulary = read_config(settings, ())
    tokenizer = vocabulary.tokenizer
    policy = frozen(load_policy(settings, config, 0))
    chat = ChatIds(tokenizer)
    places = [(number, seat) for number, game in enumerate(games) for seat in game.seats]
    prompts = [np.asarray(chat.prompt_ids(games[number].prompt(seat))) for number, seat in places]
    how = SamplingSettings(max_new_tokens=max_tokens)
    eos = None if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    sampled = InProcessSampler(policy, how, eos).sample(prompts, 1, seed)
    said: Speeches = [{} for _ in games]
    divider = Divider(tokenizer)
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
