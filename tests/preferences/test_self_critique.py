"""Rows of chains of critique and revision that nobody has rated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.errors import DataError
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.preferences.building import preferences
from oversight.preferences.ratings import answers_given
from oversight.preferences.settings import Dropped, PreferenceSettings
from oversight.store import Store
from oversight.train.data.loading import _of_record
from oversight.types import Message, Preference, Question, Role

CLEAN = "NOTHING TO CHANGE"
ASKED = Question(
    id="jar",
    dataset="test",
    text="How do I open a jar?",
    history=(Message(role="system", parts=("Be brief.",)),),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "chains.db")) as opened:
        yield opened


def rows(store: Store, *answers: str, **settings: Any) -> tuple[list[Preference], dict[str, int]]:
    """The rows of one chain whose answers these are, and what was left out."""
    agents = {
        Role.RESPONDER: AgentSettings(agent="responder", engine="script"),
        Role.CRITIC: AgentSettings(
            agent="critic",
            engine="script",
            settings={"reasoning": False, "constitution": "honesty", "by": "in_turn"},
        ),
    }
    engines = {
        "script": EngineSettings(engine="scripted", settings={"answers": list(answers)}),
    }

    async def play() -> None:
        async with cast(agents, engines) as actors:
            planned = plan([ASKED], [protocols.load("constitutional")], actors.specs)
            done = await run_debates(planned, Runtime(store, actors), concurrency=1)
        assert done.failures == []

    asyncio.run(play())
    dropped = Dropped()
    chosen = PreferenceSettings(kinds=("self_critique",), **settings)
    found = list(preferences(store.transcripts(), chosen, store.prompt, dropped))
    return found, dropped.to_json()


ENDED = (CLEAN, CLEAN)  # of four rounds, those behind the second


def test_the_last_revision_stands_before_the_first_response(store: Store) -> None:
    [row], _ = rows(store, "Hit it.", "Unsafe.", "Warm it.", "Long.", "Turn it.", *ENDED)

    assert [each.text for each in row.responses] == ["Turn it.", "Hit it."]
    assert row.ranks == (0, 1)
    assert [m.content for m in row.prompt.messages] == ["Be brief.", "How do I open a jar?"]
    assert row.provenance.constitution == "honesty"
    assert row.provenance.principle_ids == ("nothing-invented", "says-when-it-does-not-know")


def test_the_sampled_ids_are_of_the_response_alone(store: Store) -> None:
    [row], _ = rows(store, "Hit it.", "Unsafe.", "Warm it.", CLEAN, *ENDED)

    revised, first = row.responses
    # The revision answered another prompt: its log-probabilities are not of this one.
    assert revised.logprobs is None
    assert first.token_ids is not None


def test_a_chain_that_changes_nothing_makes_no_row(store: Store) -> None:
    found, dropped = rows(store, "Fine.", CLEAN, CLEAN, *ENDED)

    assert (found, dropped) == ([], {"unchanged": 1})


@pytest.mark.parametrize(
    "answers",
    [
        ("Hit it.", "Unsafe.", "Sure, here is the revised answer: Warm it.", CLEAN),
        ("Hit it.", "I'm sorry, but I cannot critique this.", "Warm it.", CLEAN),
        ("Hit it.", "Unsafe.", "As you pointed out, it breaks.", CLEAN),
        ("Hit it.", "Unsafe.", "Warm it.\n\nHuman: And then?", CLEAN),
    ],
)
def test_defects_are_left_out_and_counted_unless_they_are_asked_for(
    store: Store, answers: tuple[str, ...]
) -> None:
    found, dropped = rows(store, *answers, *ENDED)

    assert (found, dropped) == ([], {"defective": 1})
    chosen = PreferenceSettings(kinds=("self_critique",), defects=True)
    assert len(list(preferences(store.transcripts(), chosen, store.prompt))) == 1


def test_such_rows_are_made_only_where_they_are_named(store: Store) -> None:
    rows(store, "Hit it.", "Unsafe.", "Warm it.", CLEAN, *ENDED)

    assert list(preferences(store.transcripts(), PreferenceSettings(), store.prompt)) == []


def given(store: Store, *, last: bool, **settings: Any) -> tuple[list[str], dict[str, int]]:
    dropped = Dropped()
    chosen = PreferenceSettings(**settings)
    found = list(answers_given(store.transcripts(), chosen, store.prompt, dropped, last=last))
    for row in found:
        assert [m.content for m in row.prompt.messages] == ["Be brief.", "How do I open a jar?"]
    return [row.response.text for row in found], dropped.to_json()


def test_the_answer_that_is_left_is_learnt_or_the_first_one(store: Store) -> None:
    rows(store, "Hit it.", "Unsafe.", "Warm it.", "Long.", "Turn it.", *ENDED)

    assert given(store, last=True) == (["Turn it."], {})
    assert given(store, last=False) == (["Hit it."], {})


def test_an_answer_in_which_nothing_was_to_change_is_learnt_as_well(store: Store) -> None:
    rows(store, "Fine.", CLEAN, CLEAN, *ENDED)

    assert given(store, last=True) == (["Fine."], {})


def test_an_answer_with_a_defect_is_left_out_and_counted(store: Store) -> None:
    rows(store, "Hit it.", "Unsafe.", "As you pointed out, it breaks.", CLEAN, *ENDED)

    assert given(store, last=True) == ([], {"defective": 1})
    assert given(store, last=True, defects=True)[0] == ["As you pointed out, it breaks."]


@pytest.mark.parametrize("kind", ["comparisons", "labelled", "prompts"])
def test_answers_that_nobody_compared_are_for_sft_alone(store: Store, kind: str) -> None:
    rows(store, "Fine.", CLEAN, CLEAN, *ENDED)
    dropped = Dropped()
    [row] = answers_given(
        store.transcripts(), PreferenceSettings(), store.prompt, dropped, last=True
    )

    with pytest.raises(DataError, match=f"gives no {kind}; leave data.answers out"):
        _of_record(kind, row, {})
    assert _of_record("demonstrations", row, {})[0].answers[0].text == "Fine."
