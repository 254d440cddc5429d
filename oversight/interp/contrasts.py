"""Contrast sets: rows whose labels are known, from the world or from a store's debates, and states.

The world tells what is true: `world_examples` sets the right answer to a question beside one that
was right earlier in the same log, so that neither words nor lengths tell them apart. A store tells
what each seat was made to defend: `store_examples` labels a speaker's rows by that. `contrast_set`
reads the states of a model for them, of one with random weights, and of a base model over the words
alone.

Shapes: N examples, n tokens of a row, P tokens that are read, E hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oversight.datasets import world
from oversight.errors import DataError, StoreError
from oversight.interp.probes import Floats64, ProbeData
from oversight.interp.reading import ReadRow, SiteReader
from oversight.modeling import Ids
from oversight.modeling.scoring.sites import Site
from oversight.store import Store
from oversight.types import Question, Transcript

NUM_FOLDS = 5
BATCH = 64
"""Rows that are read at a time."""
Labels01 = NDArray[np.bool_]

TEMPLATES: dict[str, str] = {
    "plain": "{source}\n{question}\n{option}",
    "asked": "{source}\nQuestion: {question}\nAnswer: {option}",
    "claimed": "{source}\nThe claim on {question} is {option}",
}


@dataclass(frozen=True, slots=True, eq=False)
class ContrastExample:
    """One row with its label, and what is known of it besides."""

    ids: Ids
    label: bool
    question: str
    text: str
    """Words that the label might be read off."""
    template: str = ""
    pair: int = 0
    positions: Ids | None = None
    """Tokens that are read; None for the last one."""
    neutral_ids: Ids | None = None
    """The words alone, without the role that was played."""


@dataclass(frozen=True, slots=True, eq=False)
class ContrastSet:
    """Examples with labels, and their states at one or several sites."""

    states: Mapping[str, Floats64]
    """By site, such as "residual.3": [N, E]."""
    labels_N: Labels01
    questions: Sequence[str]
    """The question of each: those of one question never stand on both sides of a split."""
    texts: Sequence[str]
    """Words that the label might be read off."""
    templates: Sequence[str]
    """The manner in which each was asked or told."""
    lengths_N: Floats64
    entropies_N: Floats64
    """Mean entropy of the model's next token, in nats."""
    pairs_N: NDArray[np.int64] | None = None
    tokens: Mapping[str, Sequence[Floats64]] | None = None
    random_states: Mapping[str, Floats64] | None = None
    """Of a model of the same shape with random weights."""
    neutral_states: Mapping[str, Floats64] | None = None
    """Of the base model over the words alone."""
    model: str = ""
    tokenizer: str = ""
    name: str = ""

    def __len__(self) -> int:
        return len(self.labels_N)

    def data(self, site: str, which: Mapping[str, Floats64] | None = None) -> ProbeData:
        """Rows that a probe is fitted to at a site."""
        states = self.states if which is None else which
        tokens = None if self.tokens is None or which is not None else self.tokens[site]
        return ProbeData(states[site], self.labels_N, self.pairs_N, tokens)

    def check(self, num_folds: int = NUM_FOLDS) -> None:
        """Refuse a set that no honest figure can be had of.

        Raises:
            DataError: One class, too few questions, or one text under two questions.
        """
        for states in self.states.values():
            ProbeData(states, self.labels_N).check()
        num = len(set(self.questions))
        if num < 2 * num_folds:
            raise DataError(
                f"the contrast set has {num} questions, and {num_folds} folds beside held-out ones "
                f"need at least {2 * num_folds}; give more questions or fewer folds"
            )
        seen: dict[tuple[str, bool], str] = {}
        for text, question, label in zip(
            self.texts, self.questions, self.labels_N.tolist(), strict=True
        ):
            if text and (before := seen.setdefault((text, label), question)) != question:
                raise DataError(
                    f"the contrast set has one text under two questions, {before!r} and "
                    f"{question!r}, which could stand on both sides of the split: {text[:60]!r}; "
                    "leave one out"
                )


def contrast_set(
    reader: SiteReader,
    examples: Sequence[ContrastExample],
    sites: Sequence[Site],
    *,
    base: SiteReader | None = None,
    all_tokens: bool = False,
    random_seed: int = 0,
    name: str = "",
) -> ContrastSet:
    """The examples with their states: mean of the read tokens by site.

    Args:
        reader: The model.
        examples: Of both labels.
        sites: Streams, attention or feed-forward outputs.
        base: The untouched model that reads the words alone, where examples have them; None for
            none.
        all_tokens: Keep each read token too, for probes that pool.
        random_seed: Of the weights of the control model.
        name: Of the data set.

    Raises:
        DataError: There is no example.
    """
    if not examples:
        raise DataError("the contrast set has no example")
    tokens, entropies = _states(reader, [(e.ids, e.positions) for e in examples], sites)
    control, _ = _states(
        random_weights(reader, random_seed), [(e.ids, e.positions) for e in examples], sites
    )
    neutral = None
    if base is not None and all(e.neutral_ids is not None for e in examples):
        alone = [(e.neutral_ids, None) for e in examples if e.neutral_ids is not None]
        neutral, _ = _states(base, alone, sites)
    return ContrastSet(
        states=_means(tokens),
        labels_N=np.array([e.label for e in examples]),
        questions=[e.question for e in examples],
        texts=[e.text for e in examples],
        templates=[e.template for e in examples],
        lengths_N=np.array([float(len(e.ids)) for e in examples]),
        entropies_N=entropies,
        pairs_N=np.array([e.pair for e in examples]),
        tokens=tokens if all_tokens else None,
        random_states=_means(control),
        neutral_states=None if neutral is None else _means(neutral),
        model=reader.name,
        tokenizer=reader.tokenizer,
        name=name,
    )


def random_weights(reader: SiteReader, seed: int = 0) -> SiteReader:
    """A model of the same shape that has learnt nothing, as transformers begins it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind: Any = type(reader.model)
        config = copy.deepcopy(reader.model.config)
        config._attn_implementation = "sdpa"
        return SiteReader(kind(config), "random", reader.tokenizer)


def _states(
    reader: SiteReader, rows: Sequence[tuple[Ids, Ids | None]], sites: Sequence[Site]
) -> tuple[dict[str, list[Floats64]], Floats64]:
    """Read tokens [P, E] of each row by site, and the mean entropy of the next token there."""
    found: dict[str, list[Floats64]] = {str(site): [] for site in sites}
    entropies: list[float] = []
    final = Site("final")
    order = sorted(range(len(rows)), key=lambda i: rows[i][0].astype(">i8").tobytes())
    for begin in range(0, len(order), BATCH):
        some = order[begin : begin + BATCH]
        ids = [rows[i][0] for i in some]
        last = [np.array([len(each) - 1]) for each in ids]
        at = [
            end if (own := rows[i][1]) is None else own for i, end in zip(some, last, strict=True)
        ]
        for tensors in reader.read(ids, [*dict.fromkeys([*sites, final])], at):
            for site in sites:
                found[str(site)].append(tensors[site].flatten(1).double().cpu().numpy())
            logps = reader.head_of(tensors[final]).log_softmax(-1)
            entropies.append(float(-(logps.exp() * logps).sum(-1).mean()))
    back = np.argsort(order)
    return {site: [each[i] for i in back] for site, each in found.items()}, np.array(entropies)[
        back
    ]


def _means(tokens: Mapping[str, Sequence[Floats64]]) -> dict[str, Floats64]:
    return {site: np.stack([each.mean(0) for each in own]) for site, own in tokens.items()}


def world_examples(
    tokenizer: Any,
    questions: Iterable[Question],
    templates: Mapping[str, str] = TEMPLATES,
) -> list[ContrastExample]:
    """Both answers to each question of the world, told in templates that take turns.

    Args:
        tokenizer: Of the model.
        questions: With a source and two options, of which one is right.
        templates: By name, with {source}, {question} and {option}.

    Raises:
        DataError: A question has no source or no right option.
    """
    names, found = list(templates), []
    for number, question in enumerate(questions):
        if question.source is None or question.correct is None:
            raise DataError(f"question {question.id!r} has no source, or no option that is right")
        template = names[number % len(names)]
        for k, option in enumerate(question.options):
            text = templates[template].format(
                source=question.source.text, question=question.text, option=option.text
            )
            found.append(
                ContrastExample(
                    np.array(tokenizer.encode(text)),
                    k == question.correct,
                    question.id,
                    text,
                    template,
                    number,
                )
            )
    return found


def world_questions(num: int, split: str = "train", seed: int = 0) -> list[Question]:
    """Plainly told questions of the world, for models too small to read."""
    config = world.Config.model_validate(
        {"num": num, "split": split, "seed": seed, "telling": "plain"}
    )
    return list(world.rows(config))


def store_examples(
    store: Store, tokenizer: Any, *, spoken: bool = False, debate_ids: Iterable[str] | None = None
) -> list[ContrastExample]:
    """Each speech of a store's debates, labelled by whether its seat defends the wrong option.

    Args:
        store: Where the debates are.
        tokenizer: Of the model that spoke.
        spoken: Read the speech's tokens, and not the prompt's last one before it.
        debate_ids: Of those meant; None for all that are complete.

    Raises:
        StoreError: No answer has token ids.
        DataError: No speech defends an option of a question whose answer is known.
    """
    found: list[ContrastExample] = []
    numbers: dict[str, int] = {}
    for row in rows_of_store(store, tokenizer, debate_ids):
        labels = row.labels
        if labels["defends_right"] is None or not labels["last"]:
            continue
        start, stop = labels["span"]
        words = np.array(tokenizer.encode(labels["text"] or " "))
        found.append(
            ContrastExample(
                row.ids if spoken else row.ids[:start],
                not labels["defends_right"],
                labels["question"],
                labels["text"],
                labels["protocol"],
                numbers.setdefault(labels["debate"], len(numbers)),
                np.arange(start, stop) if spoken else None,
                words if len(words) else None,
            )
        )
    if not found:
        raise DataError(
            f"store {store.url}: no speech in it defends an option of a question with a known "
            "answer; run debates on questions with a right option"
        )
    return found


def rows_of_store(
    store: Store, tokenizer: Any, debate_ids: Iterable[str] | None = None
) -> list[ReadRow]:
    """One row for each answer of a model in a store's debates: its prompt and what it sampled.

    Read are the answer's tokens and the prompt's last one, which is before a word is spoken. Labels
    are debate, question, turn, seat, role, act, round, the span of the answer's tokens, those
    of its quotes with their status, the option that it defends and whether that is right; and
    whether it is the turn's last answer, after others that were asked for again.

    Args:
        store: Where the debates are.
        tokenizer: Of the model, with which quotes are found among the tokens.
        debate_ids: Of those meant; None for all that are complete.

    Raises:
        StoreError: No answer has token ids.
    """
    found = [
        row
        for transcript in store.transcripts(debate_ids=debate_ids)
        for row in _rows_of(store, transcript, tokenizer)
    ]
    if not found:
        raise StoreError(
            f"store {store.url}: no answer in it has token ids; run debates with the engine "
            "transformers or vllm"
        )
    return found


def _rows_of(store: Store, transcript: Transcript, tokenizer: Any) -> Iterator[ReadRow]:
    debate, question = transcript.debate, transcript.question
    for turn in transcript.spoken():
        for sample in turn.samples:
            if not sample.token_ids:
                continue
            known = store.prompt(sample.prompt_id, num_tokens=sample.usage.prompt_tokens or None)
            if not known.token_ids:
                continue
            start = len(known.token_ids)
            option = debate.orders.defended_by(turn.seat) if turn.argues else None
            spans = token_spans(
                tokenizer, sample.token_ids, [(q.text, q.status.value) for q in turn.quotes]
            )
            yield ReadRow(
                np.array([*known.token_ids, *sample.token_ids]),
                np.arange(start - 1, start + len(sample.token_ids)),
                {
                    "debate": debate.id,
                    "question": question.id,
                    "turn": turn.id,
                    "seat": str(turn.seat),
                    "role": str(turn.role),
                    "act": str(turn.act),
                    "purpose": str(sample.purpose),
                    "last": sample is turn.samples[-1],
                    "round": turn.round,
                    "span": [start, start + len(sample.token_ids)],
                    "quotes": [[a + start, b + start, status] for a, b, status in spans],
                    "option": option,
                    "defends_right": None
                    if option is None or question.correct is None
                    else option == question.correct,
                    "text": turn.text,
                    "protocol": debate.protocol.name,
                },
            )


def token_spans(
    tokenizer: Any, ids: Sequence[int], quoted: Sequence[tuple[str, str]]
) -> list[tuple[int, int, str]]:
    """The tokens [start, stop) that words stand in, with what is said of them; those that are not
    found in the decoded text are left out."""
    lengths = [len(tokenizer.decode(ids[: k + 1])) for k in range(len(ids))] if quoted else []
    text = tokenizer.decode(ids) if quoted else ""
    found, begin = [], 0
    for words, status in quoted:
        at = text.find(words, begin)
        at = text.find(words) if at < 0 else at
        if at < 0:
            continue
        begin = at + len(words)
        start = next(k for k, size in enumerate(lengths) if size > at)
        stop = next((k + 1 for k, size in enumerate(lengths) if size >= begin), len(ids))
        found.append((start, stop, status))
    return found
