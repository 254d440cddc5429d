"""Items of a queue and their allocation: no two people get the same one unasked."""

from __future__ import annotations

import asyncio

import pytest

from oversight.store import Store
from oversight.store.claims import ClaimResult, ItemState
from oversight.types import Act, Feedback, PairAnswer, QuestionsAnswered, Task
from oversight.types.ratings import item_id


def test_one_pair_of_each_turn_is_asked_about_or_all(records):
    turns = records.best_of("one", "two", "three")
    (item,) = records.desk(Task.PAIRS).queue()
    assert set(item.turn_ids) < {turn.id for turn in turns}
    every = records.desk(Task.PAIRS, pairs="all").queue()
    assert len({each.key for each in every}) == 3
    assert item.key in {each.key for each in every}


def test_two_texts_that_several_pairs_have_are_asked_about_once(records):
    records.best_of("one", "two", "two", "one", "three")
    pairs = records.desk(Task.PAIRS, pairs="all").queue()
    assert len({each.key for each in pairs}) == len(pairs) == 3


def test_judges_of_one_study_are_asked_about_the_same_pair(records):
    for _ in range(5):
        records.best_of("one", "two", "three", "four")
    keys = [
        [each.key for each in records.desk(Task.PAIRS, judge, overlap=2).queue()]
        for judge in ("anna", "bob")
    ]
    assert keys[0] == keys[1]
    other = [each.key for each in records.desk(Task.PAIRS, seed=1).queue()]
    assert other != keys[0]


def test_equal_words_and_empty_ones_are_no_pair(records):
    records.best_of("the same", "the same", " ")
    assert records.desk(Task.PAIRS, pairs="all").queue() == []


def test_every_speech_can_be_rated_by_principles(records):
    said = (*records.best_of(), *records.debate(), *records.critique())
    items = records.desk(Task.PRINCIPLES).queue()
    assert {each.turn_ids for each in items} == {(turn.id,) for turn in said}


def test_a_revision_comes_with_its_speech_and_its_criticism(records):
    records.debate()
    turns = records.critique()
    (item,) = records.desk(Task.REVISIONS).queue()
    assert item.turn_ids == tuple(turn.id for turn in turns)
    assert [turn.act for turn in turns] == [Act.SPEAK, Act.CRITIQUE, Act.REVISE]


def test_items_of_another_constitution_are_others(records, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('description = "Ours."\n[[principles]]\nid = "kind"\ntext = "Be kind."\n')
    records.debate("Only one speech.")
    keys = {
        each.key
        for name in ("honest_debate", str(own))
        for each in records.desk(Task.PRINCIPLES, constitution=name).queue()
    }
    assert len(keys) == 2


def test_only_what_is_asked_for_is_listed(records):
    records.critique()
    records.debate()
    task = Task.PRINCIPLES
    assert {i.protocol for i in records.desk(task, protocol="critique").queue()} == {"critique"}
    assert len(records.desk(task, dataset="house").queue()) == 5
    assert records.desk(task, dataset="other").queue() == []


async def rate(desk, item, **answers):
    desk.open(item)
    item.acts.add(QuestionsAnswered(answers=answers))
    rating = await desk.send(item)
    await desk.close(item)
    return rating


async def test_a_second_judge_gets_another_item_unless_overlap_is_asked_for(records):
    for _ in range(2):
        records.best_of()
    anna, bob = records.desk(Task.PAIRS), records.desk(Task.PAIRS, "bob")
    mine, theirs = anna.take_next(), bob.take_next()
    assert mine.item.key != theirs.item.key
    assert records.desk(Task.PAIRS, "cy").take_next() is None
    assert bob.take(mine.item) == (None, ClaimResult.ENOUGH)
    with Store.open(records.store.url) as elsewhere:
        again = records.desk(Task.PAIRS, store=elsewhere).take(mine.item)
    assert again == (None, ClaimResult.ELSEWHERE)
    shared = records.desk(Task.PAIRS, "cy", overlap=2).take_next()
    assert shared.item.key == mine.item.key


async def test_what_was_rated_is_done_for_its_judge_and_gone_for_others(records):
    records.best_of()
    anna = records.desk(Task.PAIRS)
    await rate(anna, anna.take_next(), preferred="tie")
    (item,) = anna.queue()
    assert (item.state, item.num_judges) == (ItemState.DONE, 1)
    assert records.desk(Task.PAIRS, "bob").queue() == []
    (again,) = records.desk(Task.PAIRS, "bob", overlap=2).queue()
    assert again.state is ItemState.WAITING


async def test_what_was_put_off_is_not_the_next_one_and_can_be_had_back(records):
    records.best_of()
    records.best_of()
    desk = records.desk(Task.PAIRS)
    first, second = desk.queue()
    await desk.skip(first)
    assert desk.queue()[0].state is ItemState.SKIPPED
    taken = desk.take_next()
    assert taken.item.key == second.key
    await desk.close(taken)
    await desk.skip(first, on=False)
    assert desk.queue()[0].state is ItemState.WAITING


async def test_what_was_begun_comes_first(records):
    for _ in range(3):
        records.best_of()
    desk = records.desk(Task.PAIRS)
    item, _ = desk.take(desk.queue()[2])
    desk.open(item)
    await desk.close(item)
    assert desk.queue()[2].state is ItemState.BEGUN
    assert desk.take_next().item.key == item.item.key


def test_which_one_stands_left_is_drawn_for_each_judge_and_pair(records):
    for _ in range(12):
        records.best_of("one", "two")

    async def draw(judge, **changes):
        desk = records.desk(Task.PAIRS, judge, overlap=9, **changes)
        drawn = []
        for each in desk.queue():
            item, _ = desk.take(each)
            desk.open(item)
            drawn.append(item.turns()[0].candidate)
            await desk.close(item)
        return drawn

    anna = asyncio.run(draw("anna"))
    assert set(anna) == {0, 1}
    assert anna == asyncio.run(draw("anna")), "drawn once for good"
    assert anna != asyncio.run(draw("bob"))
    assert set(asyncio.run(draw("cy", shuffle_sides=False))) == {0}


def test_a_store_with_ratings_passes_its_check(records):
    async def go():
        records.best_of()
        desk = records.desk(Task.PAIRS)
        await rate(desk, desk.take_next(), preferred="both-bad")

    asyncio.run(go())
    assert records.store.check() == []
    assert records.store.counts()["ratings"] == 1


@pytest.mark.parametrize(
    ("ids", "of", "reason"),
    [
        (("gone",), ("gone",), "turn gone is not stored"),
        ((), ("gone",), "item is not that of its turns"),
    ],
)
def test_the_check_finds_ratings_of_other_turns(records, ids, of, reason):
    (turn, *_) = records.best_of()
    shown = (turn.id, *ids)
    records.store.add(
        Feedback(
            debate_id=turn.debate_id,
            item=item_id(Task.PAIRS, (turn.id, *of)),
            turn_ids=shown,
            judge="anna",
            answer=PairAnswer(preferred="tie"),
        )
    )
    (problem,) = records.store.check()
    assert (problem.table, problem.reason) == ("ratings", reason)


@pytest.mark.parametrize("judge", ["a%b", "ä\\b", "x" * 300, "an\0na"])
async def test_any_name_of_a_judge_holds_its_own_items(records, judge):
    records.best_of()
    desk = records.desk(Task.PAIRS, judge)
    item = desk.take_next()
    assert records.desk(Task.PAIRS, "bob").take_next() is None
    rating = await rate(desk, item, preferred="left-2")
    assert rating.judge == judge
    assert records.ratings() == [rating]
