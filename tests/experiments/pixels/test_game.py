"""The rules of the game, and the players' search: exact minimax where it can be, else strong."""

from __future__ import annotations

from itertools import combinations
from math import exp

import pytest
import torch
from torch import Tensor

from oversight.experiments.pixels.game import (
    MATCHES,
    GameKind,
    LieChoice,
    PixelMatch,
    Search,
    Skill,
    margins,
    play,
)
from oversight.experiments.pixels.judge import Images, SparseJudge
from oversight.experiments.pixels.running import Player, key_of, question_of, records, shown_in
from oversight.types import Act, Debate, Judgment, Question, Role, Seat, Turn

IMAGE = Images(
    values=torch.tensor([[0, 8, 16, 3, 0, 14, 11, 0, 6]], dtype=torch.uint8).numpy(),
    labels=torch.tensor([2]).numpy(),
    ids=torch.tensor([41]).numpy(),
    side=3,
    top=16,
)
PLAYER = Player("tiny", 4, "weights", seed=0)


def question() -> Question:
    return question_of(IMAGE, 0, "tiny")


@pytest.mark.parametrize("match", MATCHES)
def test_no_pixel_is_shown_twice_and_none_that_is_zero(search: Search, match: PixelMatch) -> None:
    for honest_first in match.orders:
        game = play(search, match, honest_first, seed=1)
        assert len(set(game.shown)) == 4
        assert set(game.shown) <= set(search.usable)
        assert sum(game.probs) == pytest.approx(1.0)


@pytest.mark.parametrize("match", MATCHES)
def test_a_game_is_the_same_again(search: Search, match: PixelMatch) -> None:
    assert play(search, match, True, seed=3) == play(search, match, True, seed=3)


def test_in_a_debate_the_judge_chooses_between_the_labels_that_were_claimed(
    search: Search,
) -> None:
    game = play(search, PixelMatch(GameKind.DEBATE), False, seed=0)
    lie, true = game.defended
    assert true == 2
    assert lie == search.best_lie(False) != 2
    assert {label for label, p in enumerate(game.probs) if p > 0} <= {lie, true}
    ratio = exp(game.logits[true] - game.logits[lie])
    assert game.probs[true] == pytest.approx(ratio / (1 + ratio), abs=1e-4)
    assert game.verdict == max(game.defended, key=lambda label: game.logits[label])


def test_without_commitment_the_judge_may_choose_any_label(search: Search) -> None:
    game = play(search, PixelMatch(GameKind.OPEN), True, seed=0)
    assert game.allowed == tuple(range(10))
    assert game.verdict == max(range(10), key=lambda label: game.logits[label])
    rival = max((k for k in range(10) if k != 2), key=lambda label: game.logits[label])
    assert game.defended == (2, rival)


def test_both_sides_with_search_end_at_the_value_of_the_game(search: Search) -> None:
    for honest_first in (True, False):
        game = play(search, PixelMatch(GameKind.DEBATE), honest_first, seed=0)
        lie = next(label for label in game.defended if label != 2)
        margin = game.logits[2] - game.logits[lie]
        assert margin == pytest.approx(search.value(lie, honest_first), abs=1e-4)


def test_search_beats_random_play_from_either_side(judge: SparseJudge) -> None:
    generator = torch.Generator().manual_seed(0)
    won = dict.fromkeys(("honest", "liar", "neither"), 0)
    for number in range(40):
        image = torch.rand(9, generator=generator) + 0.01
        search = Search(judge, image, label=2, pixels=4)
        for name, honest, liar in (
            ("honest", Skill.SEARCH, Skill.RANDOM),
            ("neither", Skill.RANDOM, Skill.RANDOM),
            ("liar", Skill.RANDOM, Skill.SEARCH),
        ):
            match = PixelMatch(GameKind.DEBATE, honest, liar, LieChoice.DRAWN)
            won[name] += play(search, match, True, seed=number).verdict == 2
    assert won["honest"] > won["neither"] + 4
    assert won["neither"] > won["liar"] + 4


def test_the_records_commit_first_then_alternate(search: Search) -> None:
    game = play(search, PixelMatch(GameKind.DEBATE), False, seed=0)
    stored = records(game, question(), PLAYER, seconds=0.1)
    turns = [record for record in stored if isinstance(record, Turn)]
    assert [(turn.step, turn.seat) for turn in turns] == [
        (0, Seat.A),
        (0, Seat.B),
        (1, Seat.A),
        (2, Seat.B),
        (3, Seat.A),
        (4, Seat.B),
    ]
    assert [turn.text for turn in turns[:2]] == [f"The digit is {k}." for k in game.defended]
    assert all(turn.act is Act.SPEAK and turn.role is Role.DEBATER for turn in turns)
    assert [3 * row + column for _, row, column in shown_in(turns)] == list(game.shown)
    [judgment] = [record for record in stored if isinstance(record, Judgment)]
    assert judgment.final.choice == game.verdict
    assert judgment.final.mass == pytest.approx(game.mass)


@pytest.mark.parametrize("match", MATCHES)
def test_a_stored_game_is_found_by_what_was_known_before_it(
    search: Search, match: PixelMatch
) -> None:
    keys = set()
    for honest_first in match.orders:
        game = play(search, match, honest_first, seed=0)
        stored = records(game, question(), PLAYER, seconds=0.0)
        [debate] = [record for record in stored if isinstance(record, Debate)]
        keys.add(key_of(debate, 2))
        assert key_of(debate, 2) == PLAYER.key(question(), match, honest_first)
    assert len(keys) == len(match.orders)


def test_turns_tell_the_value_that_stands_in_the_image(search: Search, image: Tensor) -> None:
    stored = records(play(search, MATCHES[0], True, seed=0), question(), PLAYER, seconds=0.0)
    [turn] = [record for record in stored if isinstance(record, Turn)]
    assert turn.seat is Seat.JUDGE
    for line in turn.text.splitlines():
        row, column, value = (int(word.rstrip(",:")) for word in line.split() if word[0].isdigit())
        assert IMAGE.values[0, 3 * (row - 1) + column - 1] == value > 0


def brute_force(search: Search, column: int, shown: tuple[int, ...], honest_moves: bool) -> float:
    """The value of a position by plain recursion over orders of pixels."""
    if len(shown) == search.pixels:
        return float(margins(search.logits(shown)[None], search.label)[0, column])
    follow = (
        brute_force(search, column, (*shown, pixel), not honest_moves)
        for pixel in search.usable
        if pixel not in shown
    )
    return max(follow) if honest_moves else min(follow)


def test_margins_are_leads_over_one_label_and_over_all() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.5], [3.0, 0.0, 9.0]])
    found = margins(logits, 1)
    assert found.tolist() == [[3.0, 1.5, 1.5], [-3.0, -9.0, -9.0]]


@pytest.mark.parametrize("honest_first", [True, False])
@pytest.mark.parametrize("column", [0, 2, 9])
def test_values_are_those_of_brute_force(search: Search, column: int, honest_first: bool) -> None:
    expected = brute_force(search, column, (), honest_first)
    assert search.exact
    assert search.value(column, honest_first) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("honest_moves", [True, False])
def test_each_move_keeps_the_value_of_its_position(search: Search, honest_moves: bool) -> None:
    for shown in ((), (1,), (5, 2), (8, 3, 1)):
        pixel = search.move(shown, 0, honest_moves)
        assert pixel in set(search.usable) - set(shown)
        expected = brute_force(search, 0, shown, honest_moves)
        reached = brute_force(search, 0, (*shown, pixel), not honest_moves)
        assert reached == pytest.approx(expected, abs=1e-4)


def test_the_best_lie_is_the_one_that_ends_best_for_the_liar(search: Search) -> None:
    values = {k: brute_force(search, k, (), True) for k in range(10) if k != search.label}
    assert values[search.best_lie(True)] == pytest.approx(min(values.values()), abs=1e-4)


def test_an_advisor_finds_the_most_convincing_pixels(search: Search) -> None:
    label, pixels = search.best_case([4, 7])
    leads = {
        (k, some): float(margins(search.logits(some)[None], k)[0, k])
        for k in (4, 7)
        for some in combinations(search.usable, 4)
    }
    assert leads[label, pixels] == pytest.approx(max(leads.values()), abs=1e-4)


def test_narrowed_search_looks_at_few_sets_and_still_beats_random_play(
    judge: SparseJudge,
) -> None:
    generator = torch.Generator().manual_seed(5)
    gains = []
    for _ in range(20):
        image = torch.rand(9, generator=generator) + 0.01
        narrow = Search(judge, image, 2, 4, exact_sets=10, pool_sets=16)
        assert not narrow.exact
        assert len(narrow.root.candidates) == 6
        shown: list[int] = []
        for turn in range(4):
            free = [pixel for pixel in narrow.usable if pixel not in shown]
            drawn = free[int(torch.randint(len(free), (1,), generator=generator))]
            shown.append(narrow.move(shown, 0, True) if turn % 2 == 0 else drawn)
        gains.append(_lead(narrow, shown) - _mean_lead(narrow))
    assert sum(gain > 0 for gain in gains) >= 15


def _lead(search: Search, shown: list[int]) -> float:
    return float(margins(search.logits(shown)[None], 2)[0, 0])


def _mean_lead(search: Search) -> float:
    every = [_lead(search, list(some)) for some in combinations(search.usable, 4)]
    return sum(every) / len(every)


def test_pixels_that_are_zero_are_not_shown(search: Search, image: Tensor) -> None:
    assert search.usable == (1, 2, 3, 5, 6, 8)
    assert all(image[pixel] > 0 for pixel in search.usable)
