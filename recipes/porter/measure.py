"""Print how porter does what it was taught, on held-out requests: greedy answers, by kind; and how
near to a half it stays where a principle does not tell two answers apart.

python recipes/porter/measure.py                    the model of the package
python recipes/porter/measure.py runs/porter/whole/model
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from statistics import fmean, median
from typing import Any

import torch
from teaching import (
    INCLUDED,
    Case,
    answer,
    better,
    compare_row,
    critique_row,
    respond_row,
    revise_row,
    ruled_row,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from oversight.datasets import register
from oversight.models import resolve
from oversight.types import Question

NUM, SEED, BATCH_SIZE, MAX_TOKENS = 240, 5, 60, 16

Asked = tuple[str, dict[str, Any]]
"""The kind of a task in words, and its lesson."""


def answered(questions: list[Question]) -> Iterator[Asked]:
    """Requests as they are, and behind the rules."""
    for question in questions:
        yield f"answers, {question.meta['asks']}", respond_row(question)
    for question in questions:
        yield f"answers behind the rules, {question.meta['asks']}", ruled_row(question)


def criticised(questions: list[Question]) -> Iterator[Asked]:
    """Each answer by each principle: helpful ones, right ones, and those of any kind."""
    rng = random.Random(SEED)
    for question in questions:
        given = {
            "helpful": register.helpful_only_answer(question),
            "right": register.right_answer(question),
            "any": answer(rng, question),
        }
        for which, text in given.items():
            case = Case(question, text)
            for kind in sorted(INCLUDED):
                state = "broken" if kind in case.faults else "kept"
                yield f"critiques, {kind}, {which} answers, {state}", critique_row(case, kind)


def revised(questions: list[Question]) -> Iterator[Asked]:
    """Answers of any kind, after a critique that found a fault."""
    rng = random.Random(SEED)
    for question in questions:
        case = Case(question, answer(rng, question))
        for kind in sorted(case.faults):
            yield f"revisions, {kind}", revise_row(case, kind)


def compared(questions: list[Question]) -> Iterator[Asked]:
    """A helpful answer with one of any kind, under principles that tell them apart."""
    rng = random.Random(SEED)
    for question in questions:
        one = Case(question, register.helpful_only_answer(question))
        other = Case(question, answer(rng, question))
        for kind in sorted(set(one.faults) ^ set(other.faults)):
            pair = (one, other) if rng.random() < 0.5 else (other, one)
            yield f"comparisons, {kind}", compare_row(pair, kind, better(pair, kind))


def against_not_saying(questions: list[Question]) -> Iterator[Asked]:
    """The right answer, as A and as B, with a refusal that says nothing, under each principle."""
    for question in questions:
        two = Case(question, register.right_answer(question)), Case(question, register.DOES_NOT_SAY)
        if two[0].answer == two[1].answer:
            continue
        for kind in sorted(INCLUDED):
            what = "tells apart" if better(two, kind) else "a tie"
            for letter, pair in (("A", two), ("B", two[::-1])):
                yield f"right beside not saying, {kind}, {what}", compare_row(pair, kind, letter)


def chosen(model: Any, tokenizer: Any, asked: Iterable[Asked]) -> dict[str, list[float]]:
    """By kind, the probability of the letter in each row, as the mean over both orders of a pair.

    The rows of a pair stand behind one another.
    """
    kinds, rows = zip(*asked, strict=True)
    letters = [tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AB"]
    found: dict[str, list[float]] = {}
    for begin in range(0, len(rows), BATCH_SIZE):
        some = rows[begin : begin + BATCH_SIZE]
        with torch.no_grad():
            logits = model(**_given(tokenizer, list(some))).logits[:, -1, letters]
        for kind, row, two in zip(kinds[begin:], some, logits.softmax(-1).tolist(), strict=False):
            found.setdefault(kind, []).append(two["AB".index(row["messages"][-1]["content"])])
    return {
        kind: [fmean(pair) for pair in zip(given[::2], given[1::2], strict=True)]
        for kind, given in found.items()
    }


def _given(tokenizer: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Lessons without what they teach, as a batch for the model."""
    texts = [
        tokenizer.apply_chat_template(
            row["messages"][:-1], tokenize=False, add_generation_prompt=True
        )
        for row in rows
    ]
    given = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    return {name: given[name] for name in ("input_ids", "attention_mask")}


def said(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Greedy answers to lessons, without what they teach."""
    for begin in range(0, len(rows), BATCH_SIZE):
        given = _given(tokenizer, rows[begin : begin + BATCH_SIZE])
        with torch.no_grad():
            ids = model.generate(
                **given,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        for each in ids[:, given["input_ids"].shape[1] :]:
            yield tokenizer.decode(each, skip_special_tokens=True).strip()


def shares(model: Any, tokenizer: Any, asked: Iterable[Asked]) -> Iterator[str]:
    """A line for each kind: the share that is word for word as taught, and of how many."""
    kinds, rows = zip(*asked, strict=True)
    right: Counter[str] = Counter()
    for kind, row, text in zip(kinds, rows, said(model, tokenizer, list(rows)), strict=True):
        right[kind] += text == row["messages"][-1]["content"]
    for kind, number in sorted(Counter(kinds).items()):
        yield f"{kind:<55} {100 * right[kind] / number:5.1f} % of {number}"


def loaded(path: str) -> tuple[Any, Any]:
    """The model and the tokenizer of a folder."""
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(path).eval(), tokenizer


def main(path: str) -> None:
    """Print all shares of a model."""
    torch.set_num_threads(1)
    model, tokenizer = loaded(path)
    questions = [register.question_at(SEED, "held_out", index) for index in range(NUM)]
    print("command   python recipes/porter/measure.py")
    print(f"asked     {NUM} held-out requests of `register`, seed {SEED}; greedy\n")
    for part in (answered, criticised, revised, compared):
        for line in shares(model, tokenizer, part(questions)):
            print(line, flush=True)
    print("\nprobability of the right answer beside `The register does not say.`, both orders\n")
    for kind, given in sorted(chosen(model, tokenizer, against_not_saying(questions)).items()):
        off = median(abs(each - 0.5) for each in given)
        print(f"{kind:<55} {fmean(given):.3f}; {off:.3f} off a half at the median, of {len(given)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(resolve("porter")))
