"""A reward model in the judge's place: it reads one speech as the judge would, quotes looked up.

A reward model that reads what the speaker reads, source and raw speech, has to learn to look
quotes up before it can tell proof from assertion, and of a few hundred questions it does not. The
protocol looks them up for a judge; so it does for this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oversight.chat.prompt_ids import ChatIds, TokenIds
from oversight.engines.transformers.prefix_tree import common_prefix
from oversight.preferences.building import preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.selfplay.games import Game, one_round
from oversight.selfplay.rewards import place
from oversight.store import Store
from oversight.train.rollouts.reward_models import RewardModels
from oversight.train.rollouts.rewards import grouped
from oversight.train.rollouts.said import Divider
from oversight.train.rollouts.types import Sampled
from oversight.train.types import PromptExample, TokenRow
from oversight.types import Response, Seat, Transcript


def comparisons(
    store: Store, protocol: str, played: str, settings: PreferenceSettings, tokenizer: Any
) -> Iterator[dict[str, Any]]:
    """Rows of the `pair` format, with token ids, for the trainer of reward models.

    Args:
        store: Holds debates with candidates.
        protocol: Name of theirs.
        played: Name of the protocol without candidates, in whose words the judge is asked.
        settings: Which candidates are compared.
        tokenizer: Of the model to be trained.
    """
    chat = ChatIds(tokenizer)
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

    def __post_init__(self) -> None:
        self._chat = ChatIds(self.tokenizer)
        self._divider = Divider(self.tokenizer)

    @property
    def metrics(self) -> dict[str, float]:
        """How far the models disagree, where there are several."""
        return self.models.metrics

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[Sampled]]
    ) -> list[list[float]]:
        """One reward for each response."""
        rows = []
        for example, group in zip(examples, sampled, strict=True):
            number, seat = place(example)
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
    """What asks the judge for its decision after that one speech."""
    return chat.prompt_ids(game.judged({seat: text}))


def _row(ids: TokenIds) -> TokenRow:
    # The reward is read at the last token, where a judge would begin to answer.
    return TokenRow(np.asarray(ids[:-1]), np.asarray(ids[-1:]))
