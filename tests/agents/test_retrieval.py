from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from oversight import registry
from oversight.agents import build_agent
from oversight.text.quotes import find_quotes
from oversight.types import AgentSpec, Question, QuoteStatus, Role, Seat, Source


def speak(view, **settings):
    agent = build_agent(AgentSpec(agent="retrieval", settings=settings))
    return asyncio.run(agent.act(view)).text


def quotes_in(text, source):
    return [quote.text for quote in find_quotes(text, source)]


def test_either_side_quotes_a_line_that_states_its_option(make_view, story) -> None:
    attic = speak(make_view(), num_quotes=1)
    cellar = speak(make_view(seat=Seat.B), num_quotes=1)

    assert quotes_in(attic, story) == ["At 09:40 Ada carried the lantern to the attic."]
    assert quotes_in(cellar, story) == ["At 10:30 Bea moved the lantern down to the cellar."]


def test_among_equals_the_later_passage_is_quoted(make_view) -> None:
    source = Source(
        text="At 09:00 Ada had the lantern.\nAt 10:00 Bea had it.\nAt 11:00 Ada had the lantern."
    )
    view = make_view(source=source, question="Who had the lantern?", options=("Ada", "Bea"))

    assert quotes_in(speak(view, num_quotes=1), source) == ["At 11:00 Ada had the lantern."]


def test_what_was_quoted_is_not_quoted_again(make_view, make_turn, story) -> None:
    seen: list[str] = []
    turns = ()
    for number in (1, 2, 3):
        text = speak(make_view(turns=turns, round=number), num_quotes=1, min_share=0.0)
        seen += quotes_in(text, story)
        turns = (*turns, make_turn(text, round=number))

    assert len(seen) == len(set(seen)) == 2, "two lines name the attic"
    assert "no further passage" in text


def test_a_passage_that_stands_twice_is_not_quoted_twice(make_view, make_turn) -> None:
    line = "The lantern hung in the attic all day."
    source = Source(text=f"{line}\nThe map lay in the cellar.\n{line}")
    first = speak(make_view(source=source), num_quotes=1)
    turn = make_turn(first, quotes=find_quotes(first, source))

    assert quotes_in(first, source) == [line]
    assert quotes_in(speak(make_view(source=source, turns=(turn,), round=2)), source) == []


def test_candidates_are_next_best_selections(make_view, story) -> None:
    first = quotes_in(speak(make_view(), num_quotes=1), story)
    second = quotes_in(speak(make_view(candidate=1), num_quotes=1, min_share=0.0), story)

    assert second == ["At 10:05 Bea carried the map to the attic."]
    assert first != second
    assert speak(make_view(candidate=50)) == speak(make_view(candidate=51))


def test_an_answer_prefers_passages_about_what_the_other_side_quoted(make_view, make_turn) -> None:
    answering = "The lantern hung in the attic while the seal stayed whole."
    plain = "The lantern hung in the attic among dust and old boxes."
    theirs = "The seal on the cellar door was red."
    source = Source(text=f"{answering}\n{plain}\n{theirs}")
    said = f"<quote>{theirs}</quote>"
    turn = make_turn(said, Seat.B, quotes=find_quotes(said, source))

    def quoted(**changes) -> list[str]:
        return quotes_in(speak(make_view(source=source, **changes), num_quotes=1), source)

    assert quoted() == [plain]
    assert quoted(turns=(turn,), round=2) == [answering]


def test_the_judges_question_is_looked_up(make_view, make_turn) -> None:
    source = Source(
        text="The attic had a rusty window.\nThe attic was dusty and dark.\nThe cellar was so wet."
    )
    asked = make_turn("Was there a window?", Seat.JUDGE)
    view = make_view(source=source, turns=(asked,), round=2)

    assert quotes_in(speak(view, num_quotes=1), source) == ["The attic had a rusty window."]


def test_speeches_keep_to_the_word_limit_with_one_quote_at_least(make_view, story) -> None:
    assert len(quotes_in(speak(make_view(), min_share=0.0), story)) == 2
    assert len(quotes_in(speak(make_view(max_words=10), min_share=0.0), story)) == 1
    assert len(quotes_in(speak(make_view(max_words=1), min_share=0.0), story)) == 1


def test_without_a_source_it_says_so_or_leans_on_its_argument(make_view, make_turn) -> None:
    assert "no source to quote from" in speak(make_view(source=None))
    argument = "She eats three eggs each day.\nShe sells the other nine for two dollars.\nA: 18"
    first = speak(make_view(source=None, argument=argument))
    later = speak(make_view(source=None, argument=argument, turns=(make_turn(first),), round=2))

    assert first == argument
    assert later.startswith("I stand by my argument")
    assert "<quote>" not in later


def test_a_source_without_the_option_or_without_words_breaks_nothing(make_view) -> None:
    for text in (
        "!!! ???",
        "Nothing of that kind stands here at all.",
        "灯在地窖里",
        "<quote>a b c d e</quote>",
    ):
        assert speak(make_view(source=Source(text=text)))


def test_a_live_speech_is_emitted(make_view) -> None:
    heard: list[str] = []

    assert speak(make_view(emit=heard.append)) == "".join(heard)


def test_a_consultant_speaks_likewise(make_view) -> None:
    assert "<quote>" in speak(make_view(role=Role.CONSULTANT))


def real_questions(shared_data, num: int) -> list[Question]:
    module = registry.load("datasets", "nyu")
    config = module.Config.parse({"path": str(shared_data / "nyu-debates")})
    rows = (getattr(row, "question", row) for row in module.rows(config))
    return [row for row in islice(rows, 0, None, 5) if isinstance(row, Question)][:num]


def test_every_quote_from_real_stories_verifies(shared_data, make_view, make_turn) -> None:
    statuses = []
    for question in real_questions(shared_data, 30):
        turns = ()
        for number in (1, 2, 3):
            said = []
            for seat in (Seat.A, Seat.B):
                view = make_view(
                    question=question.text,
                    options=tuple(option.text for option in question.options),
                    source=question.source,
                    seat=seat,
                    turns=turns,
                    round=number,
                )
                text = speak(view)
                said.append(
                    make_turn(text, seat, number, quotes=find_quotes(text, question.source))
                )
            turns = (*turns, *said)
        statuses += [quote.status for turn in turns for quote in turn.quotes]

    assert len(statuses) > 200
    assert set(statuses) == {QuoteStatus.VERIFIED}


@pytest.mark.parametrize("difficulty", [1, 2, 4])
def test_in_the_world_either_side_quotes_a_true_line_that_names_its_option(
    make_view, difficulty: int
) -> None:
    world = registry.load("datasets", "world")
    config = world.Config(difficulty=difficulty, num=40, split="held_out")
    for question in world.rows(config):
        for seat in (Seat.A, Seat.B):
            options = tuple(option.text for option in question.options)
            view = make_view(
                question=question.text, options=options, source=question.source, seat=seat
            )
            found = find_quotes(speak(view), question.source)

            assert found
            assert all(quote.status is QuoteStatus.VERIFIED for quote in found)
            assert options[view.side].lower() in found[0].text.lower()
            lines = question.source.text.splitlines()
            assert found[0].text in lines


def test_it_takes_no_part_in_judging() -> None:
    speaks = {Role.DEBATER, Role.CONSULTANT, Role.CRITIC, Role.RESPONDER}
    assert speaks == registry.load("agents", "retrieval").ROLES
