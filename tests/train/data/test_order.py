"""The order of examples: the same everywhere, and continued from any place."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.errors import ConfigError
from oversight.train.data.examples import Cursor, EpochOrder

sizes = st.integers(1, 40)


@given(
    num=sizes, batch=sizes, seed=st.integers(0, 2**31), drop=st.booleans(), cut=st.integers(0, 30)
)
def test_going_on_from_a_cursor_equals_never_having_stopped(num, batch, seed, drop, cut):
    order = EpochOrder(num, seed, drop_last=drop and batch <= num)
    whole = [b.tolist() for b in islice(order.batches(batch), cut + 5)]
    cursor = Cursor()
    for _ in range(cut):
        _, cursor = order.take(cursor, batch)
    cursor = Cursor(**cursor.to_json())
    rest = [b.tolist() for b in islice(order.batches(batch, cursor), 5)]
    assert rest == whole[cut:]


@given(num=sizes, batch=sizes, seed=st.integers(0, 2**31))
def test_an_epoch_visits_every_example_once(num, batch, seed):
    order = EpochOrder(num, seed)
    epoch = islice(order.batches(batch), order.num_batches(batch))
    assert sorted(i for taken in epoch for i in taken.tolist()) == list(range(num))


def test_batches_that_are_not_full_are_left_out_where_asked():
    order = EpochOrder(10, 0, drop_last=True)
    taken = [b.tolist() for b in islice(order.batches(4), 4)]
    assert [len(t) for t in taken] == [4, 4, 4, 4]
    assert order.num_batches(4) == 2
    assert taken[2] == order.permutation(1)[:4].tolist()


def test_epochs_and_seeds_differ_and_no_shuffling_is_in_order():
    order = EpochOrder(50, 3)
    assert order.permutation(0).tolist() != order.permutation(1).tolist()
    assert order.permutation(0).tolist() != EpochOrder(50, 4).permutation(0).tolist()
    assert EpochOrder(5, 3, shuffle=False).permutation(7).tolist() == [0, 1, 2, 3, 4]


def test_the_order_is_pinned_for_ever():
    """A changed order would break every run that is resumed with a newer version."""
    assert EpochOrder(10, 0).permutation(0).tolist() == PINNED
    code = (
        "from oversight.train.data.examples import EpochOrder; "
        "print(EpochOrder(10, 0).permutation(0).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(PINNED)


PINNED = [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


def test_nothing_to_order_and_batches_that_never_fill_are_errors():
    with pytest.raises(ConfigError, match="at least one example"):
        EpochOrder(0, 0)
    with pytest.raises(ConfigError, match="3 examples do not fill one batch"):
        EpochOrder(3, 0, drop_last=True).take(Cursor(), 4)
