"""Search is exact minimax where it can be, and strong where it cannot."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from oversight.experiments.pixels.judge import SparseJudge
from oversight.experiments.pixels.search import Search, margins


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
