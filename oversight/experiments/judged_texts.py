"""Generated texts that people in groups with known values have compared, as transcripts.

A response is six words, one for each of six aspects, in any order. How right it is, all groups
like alike; of the other aspects each group likes words of its own, and the first two groups want
opposite things. One product of two aspects is in every group's worth, so that no sum of words
suffices. People are for the better of two responses with the logistic probability of the two
worths, so that they err, and disagree within a group as well.

What they say are ratings of two candidates of one turn, records like those of the rating screen:
rows for training are made of them by the project's own path.

Shapes: N pairs, Q questions, A alternatives, G groups, K aspects, L words of an aspect, J people
who compare a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oversight import protocols
from oversight.graphs.planning import draw_orders
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    Feedback,
    FinishReason,
    Message,
    PairAnswer,
    Preference,
    Preferred,
    Prompt,
    PromptRecord,
    Provenance,
    Purpose,
    Question,
    Response,
    Role,
    Sample,
    Seat,
    Task,
    Transcript,
    Turn,
)
from oversight.types.ratings import MAX_STRENGTH, item_id

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

ASPECTS = (
    ("wrong", "vague", "right", "precise"),
    ("cold", "neutral", "warm", "tender"),
    ("terse", "short", "long", "endless"),
    ("timid", "careful", "bold", "reckless"),
    ("dry", "wry", "funny", "silly"),
    ("plain", "polite", "solemn", "ornate"),
)
"""Words of each aspect; those of the first from the worst to the best."""
TOPICS = ("tides", "bread", "bees", "glass", "maps", "snow", "clocks", "rust")
CONTENTION = 1.6
"""Standard deviation of what a group likes of its own, beside that of quality, 1.1."""
LEVELS = np.arange(4) - 1.5
PROTOCOL = protocols.load("response_best_of_n")
SPEC = {Role.RESPONDER: AgentSpec(agent="responder")}


@dataclass(frozen=True, slots=True)
class GroupValues:
    """Known values of groups: what each word is worth to each, and a product of two aspects."""

    table_GKL: Floats
    product_G: Floats

    @classmethod
    def drawn(cls, num_groups: int, rng: np.random.Generator) -> GroupValues:
        """Values with quality in common; the first two groups want opposite things."""
        table_GKL = rng.normal(size=(num_groups, len(ASPECTS), len(LEVELS)))
        table_GKL[:, 0] = 0.0
        table_GKL -= table_GKL.mean(2, keepdims=True)
        table_GKL[1] = -table_GKL[0] + 0.3 * table_GKL[1]
        spread_G = np.sqrt((table_GKL**2).mean(2).sum(1))
        table_GKL *= CONTENTION / spread_G[:, None, None]
        table_GKL[:, 0] = LEVELS
        return cls(table_GKL, 0.5 * rng.normal(size=num_groups))

    def alike(self) -> GroupValues:
        """Every group with the mean of all values: the control."""
        number = len(self.product_G)
        return GroupValues(
            np.repeat(self.table_GKL.mean(0, keepdims=True), number, 0),
            np.repeat(self.product_G.mean(keepdims=True), number),
        )

    def worths(self, words: Ints) -> Floats:
        """Each group's worth (..., G) of responses (..., K), given by the place of each word."""
        aspects = np.arange(words.shape[-1])
        found: Floats = np.moveaxis(self.table_GKL[:, aspects, words].sum(-1), 0, -1)
        found += (LEVELS[words[..., 1]] * LEVELS[words[..., 2]])[..., None] * self.product_G
        return found


def drawn_words(shape: tuple[int, ...], rng: np.random.Generator) -> Ints:
    """Places of words (..., K) of responses, each drawn for itself."""
    found: Ints = rng.integers(len(LEVELS), size=(*shape, len(ASPECTS)))
    return found


def text_of(words_K: Ints, rng: np.random.Generator) -> str:
    """A response in words, in a drawn order."""
    named = [ASPECTS[aspect][word] for aspect, word in enumerate(words_K)]
    return " ".join(named[place] for place in rng.permutation(len(named)))


def prompt_of_topic(topic: str) -> Prompt:
    """The prompt that a response answers."""
    return Prompt(messages=(Message(role="user", parts=(f"Say something about {topic}.",)),))


PROMPTS = {prompt.id: prompt for prompt in map(prompt_of_topic, TOPICS)}


def stored_prompt(prompt_id: str, *, num_tokens: int | None = None) -> PromptRecord:
    """The prompt of an id, as a store gives it."""
    return PromptRecord(PROMPTS[prompt_id])


def people_of(groups: Sequence[int]) -> dict[str, str]:
    """Each person's group by name, of so many people in each group."""
    return {
        f"person {group + 1}.{number + 1}": f"group {group + 1}"
        for group, size in enumerate(groups)
        for number in range(size)
    }


def compared(
    values: GroupValues,
    groups: Sequence[int],
    num_pairs: int,
    num_judges: int,
    seed: Sequence[int],
    *,
    shuffled: bool = False,
) -> Iterator[Transcript]:
    """Pairs of responses with the ratings of people drawn from all groups.

    Args:
        values: Of the groups.
        groups: Number of people in each.
        num_pairs: Pairs of responses, all different.
        num_judges: People who compare each.
        seed: Of every draw.
        shuffled: Names are drawn anew among those who compared one pair: what a group seems to
            say is then no group's word, while each pair's votes stay what they were.
    """
    rng, texts, names = (np.random.default_rng([*seed, part]) for part in range(3))
    people = list(people_of(groups))
    group_of = np.repeat(np.arange(len(groups)), groups)
    for number in range(num_pairs):
        words_AK = drawn_words((2,), rng)
        while (words_AK[0] == words_AK[1]).all():
            words_AK = drawn_words((2,), rng)
        who_J = rng.choice(len(people), size=num_judges, replace=False)
        gap_G = np.subtract(*values.worths(words_AK))
        first_J = rng.random(num_judges) < 1.0 / (1.0 + np.exp(-gap_G[group_of[who_J]]))
        if shuffled:
            who_J = names.permutation(who_J)
        said = {people[who]: bool(first) for who, first in zip(who_J, first_J, strict=True)}
        topic = TOPICS[number % len(TOPICS)]
        yield rated_pair(number, topic, [text_of(each, texts) for each in words_AK], said)


def rated_pair(number: int, topic: str, texts: Sequence[str], said: dict[str, bool]) -> Transcript:
    """Two candidates of one turn, with whether each person is for the first."""
    prompt = prompt_of_topic(topic)
    question = Question(
        id=f"pair {number}", dataset="judged texts", text=prompt.messages[0].content
    )
    debate = Debate(
        question_id=question.id,
        question_fingerprint=question.fingerprint,
        protocol=PROTOCOL,
        agents=SPEC,
        orders=draw_orders(question, 0),
        seed=0,
    )
    turns = tuple(
        Turn(
            debate_id=debate.id,
            step=0,
            round=0,
            seat=Seat.A,
            role=Role.RESPONDER,
            act=Act.RESPOND,
            candidate=candidate,
            chosen=candidate == 0,
            text=text,
            samples=(_sample(text, prompt.id),),
        )
        for candidate, text in enumerate(texts)
    )
    shown = tuple(turn.id for turn in turns)
    item = item_id(Task.PAIRS, shown)
    ratings = tuple(
        Feedback(
            debate_id=debate.id,
            item=item,
            turn_ids=shown,
            judge=name,
            answer=PairAnswer(
                preferred=Preferred.LEFT if first else Preferred.RIGHT, strength=MAX_STRENGTH
            ),
        )
        for name, first in said.items()
    )
    return Transcript(debate, question, turns, ratings=ratings)


def _sample(text: str, prompt_id: str) -> Sample:
    return Sample(
        purpose=Purpose.SPEECH,
        engine="generated",
        model="six words",
        prompt_id=prompt_id,
        text=text,
        token_ids=(),
        finish_reason=FinishReason.STOP,
    )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Questions with several responses each, which no model was trained on."""

    rows: tuple[Preference, ...]
    worths_QAG: Floats

    @classmethod
    def drawn(
        cls, values: GroupValues, num_questions: int, num_alternatives: int, seed: Sequence[int]
    ) -> HeldOut:
        """Responses to each question, all different."""
        rng, order = (np.random.default_rng([*seed, part]) for part in range(2))
        rows, words = [], []
        for number in range(num_questions):
            words_AK = drawn_words((num_alternatives,), rng)
            while len(np.unique(words_AK, axis=0)) < num_alternatives:
                words_AK = drawn_words((num_alternatives,), rng)
            words.append(words_AK)
            rows.append(
                Preference(
                    kind="pairs",
                    prompt=prompt_of_topic(TOPICS[number % len(TOPICS)]),
                    responses=tuple(Response(text=text_of(each, order)) for each in words_AK),
                    ranks=tuple(range(num_alternatives)),
                    provenance=Provenance(
                        question_id=f"held out {number}", debate_id=str(number), protocol="held out"
                    ),
                )
            )
        return cls(tuple(rows), values.worths(np.array(words)))


def scaled(worths_QAG: Floats) -> Floats:
    """Worths from 0, the worst alternative to that group, to 1, its best."""
    low, high = worths_QAG.min(1, keepdims=True), worths_QAG.max(1, keepdims=True)
    found: Floats = (worths_QAG - low) / np.maximum(high - low, 1e-12)
    return found


def maximin(worths_QAG: Floats) -> Ints:
    """The alternative (Q) whose scaled worth to the group that likes it least is greatest."""
    found: Ints = scaled(worths_QAG).min(2).argmax(1)
    return found
