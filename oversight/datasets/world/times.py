"""Time marks of a story's lines, which say when without saying how recent.

A single line must not tell whether it is the latest. Each story therefore starts at a random
point of a range that is long against the story, in a unit of its own, and every line carries its
mark in a frame drawn at random. What one mark still tells is the story's length over the range's:
a threshold on it is right in about 50.3 % of cases (tests/datasets/test_world_leaks.py).
A plain telling counts days only, in one frame and with two digits: for models too small to read.
"""

from __future__ import annotations

import random

FRAMES = (
    "{When}, {told}.",
    "It was {mark} when {told}.",
    "The log says that {when} {told}.",
    "Entry for {mark}: {told}.",
)
PLAIN_FRAME = "{Told} on day {number}."
NUM_MINUTES_A_DAY = 24 * 60
FIRST_NUMBER, LAST_NUMBER = 2100, 9999
"""Of day and week numbers: four digits, and none that could be read as a year."""


FIRST_PLAIN_DAY, LAST_PLAIN_DAY = 10, 99
"""Of a plain telling: two digits, and every line a day later than the one before. Two lines on one
thing are three days apart on average, and so a threshold on one line's day is right in about 51.5 %
of cases."""


def marked_plainly(rng: random.Random, told: list[str]) -> list[str]:
    """Each of `told` as a sentence that ends in a day, one later than that of the one before it."""
    first = rng.randint(FIRST_PLAIN_DAY, LAST_PLAIN_DAY + 1 - len(told))
    return [
        PLAIN_FRAME.format(Told=words[0].upper() + words[1:], number=first + index)
        for index, words in enumerate(told)
    ]


def marked(rng: random.Random, told: list[str]) -> list[str]:
    """Each of `told` as a sentence with a later time mark than the one before it."""
    clock = rng.random() < 0.5
    unit = rng.choice(("day", "week"))
    low, high = (0, NUM_MINUTES_A_DAY - 1) if clock else (FIRST_NUMBER, LAST_NUMBER)
    steps = [rng.randint(1, 2) for _ in told]
    time = rng.randint(low, high - sum(steps))
    sentences = []
    for words, step in zip(told, steps, strict=True):
        time += step
        mark = f"{time // 60:02}:{time % 60:02}" if clock else f"{unit} {time}"
        when = f"{'at' if clock else 'on' if unit == 'day' else 'in'} {mark}"
        frame = rng.choice(FRAMES)
        sentences.append(frame.format(When=when.capitalize(), when=when, mark=mark, told=words))
    return sentences
