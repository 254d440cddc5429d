"""The placebo speaker: fluent, verified, and beside the point."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from oversight.agents import build_agent
from oversight.errors import ProtocolError
from oversight.text.quotes import find_quotes
from oversight.types import Act, AgentSpec, QuoteStatus, Role, Seat


def say(view):
    agent = build_agent(AgentSpec(agent="placebo", settings={}), None)
    return asyncio.run(agent.act(view)).text


@pytest.fixture
def view(make_view):
    return make_view()


def test_its_quote_stands_in_the_source_and_shares_nothing_with_the_options(view):
    text = say(view)
    [quote] = find_quotes(text, view.source)
    assert quote.status is QuoteStatus.VERIFIED
    assert "lantern" not in quote.text
    assert not any(option.casefold() in quote.text.casefold() for option in view.options)
    assert text.startswith("A: ")


def test_the_same_seed_says_the_same(view):
    assert say(view) == say(view)


def test_without_a_source_it_only_claims(view):
    assert "<quote>" not in say(replace(view, source=None))


def test_it_does_not_judge(view):
    with pytest.raises(ProtocolError):
        say(replace(view, act=Act.BELIEVE, side=None, seat=Seat.JUDGE, role=Role.JUDGE))
