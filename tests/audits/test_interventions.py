"""Interventions change what they say and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight.agents.speaking import shared_parts
from oversight.audits import interventions as known
from oversight.audits.editing import edit_of, edited, example, seats_of
from oversight.audits.interventions import BUILT_IN, Intervention
from oversight.errors import ConfigError
from oversight.graphs.views import public, view_of
from oversight.text.quotes import find_quotes, strip_quotes
from oversight.types import Act, QuoteStatus, Role, Seat, Transcript, Turn, View

EVERY = tuple(BUILT_IN.values())


def judges_view(transcript: Transcript) -> View:
    """The transcript as a judge is shown it at its end."""
    debate = transcript.debate
    turns = [public(turn) for turn in transcript.turns if turn.chosen]
    last = len(debate.protocol.schedule())
    return view_of(
        debate,
        transcript.question,
        turns,
        Seat.JUDGE,
        Role.JUDGE,
        Act.DECIDE,
        last,
        round=debate.protocol.rounds,
    )


def changed_turns(before: Transcript, after: Transcript) -> list[tuple[Turn | None, Turn]]:
    """Turns of the edited transcript that are other than those at their place, with these."""
    old = {(t.step, t.seat): public(t).model_copy(update={"debate_id": ""}) for t in before.turns}
    new = [t.model_copy(update={"debate_id": ""}) for t in after.turns]
    assert [(t.step, t.seat) for t in new][: len(old)] == list(old)
    return [(old.get((t.step, t.seat)), t) for t in new if old.get((t.step, t.seat)) != t]


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
@pytest.mark.parametrize("kind", ["debates", "long_debates", "consultancies"])
def test_only_the_words_of_one_seat_change(
    each: Intervention, kind: str, request: pytest.FixtureRequest
) -> None:
    num = 0
    for before in request.getfixturevalue(kind)[:6]:
        for seat in seats_of(before, each, 0):
            after = edited(before, each, seat)
            if after is None:
                continue
            num += 1
            differing = changed_turns(before, after)
            assert all(turn.seat is seat and turn.argues for _, turn in differing)
            assert bool(differing) is (each.name != "unchanged")
            assert after.question is before.question
            assert after.debate.orders == before.debate.orders
            assert (after.debate.protocol == before.debate.protocol) is (each.where != "turn")
            # The judge reads the same, part by part, but for the turns that were changed.
            read, was = (shared_parts(judges_view(t)) for t in (after, before))
            unlike = [part for part in read if part not in was]
            assert len(unlike) == len(differing)
            kept = [part for part in read if part in was]
            assert kept == [part for part in was if part in read]
    others = {"borrowed_quotes", "own_quotes_again", "claimed_agreement"}
    assert (num > 0) is (kind != "consultancies" or each.name not in others)


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_the_same_edit_is_the_same_debate_and_each_edit_one_of_its_own(
    each: Intervention, debates: list[Transcript]
) -> None:
    before = debates[0]
    first = edited(before, each, Seat.A)
    assert first is not None
    again = edited(before, each, Seat.A)
    assert again is not None
    assert again == first
    assert again.debate.id == first.debate.id
    found = edit_of(first.debate)
    assert found is not None
    assert (found.intervention, found.debate_id, found.seat) == (each.name, before.debate.id, "a")
    assert edit_of(before.debate) is None
    others = [edited(before, other, Seat.A) for other in EVERY]
    ids = [other.debate.id for other in others if other is not None]
    assert len(set(ids)) == len(ids) > 10
    other_side = edited(before, each, Seat.B)
    assert other_side is None or other_side.debate.id != first.debate.id


def only_change(name: str, transcript: Transcript, seat: Seat = Seat.A) -> tuple[Turn, Turn]:
    after = edited(transcript, BUILT_IN[name], seat)
    assert after is not None
    [(old, new)] = changed_turns(transcript, after)
    assert old is not None
    return old, new


def test_words_are_added_as_each_says(debates: list[Transcript]) -> None:
    before = debates[0]
    for name in ("authority", "sycophancy", "instructions", "claimed_agreement"):
        old, new = only_change(name, before)
        assert old.text in new.text, name
        assert [q.text for q in new.quotes] == [q.text for q in old.quotes], name
        added, neutral = (
            len(turn.text.split()) - len(old.text.split())
            for turn in (new, only_change("neutral_sentence", before)[1])
        )
        assert abs(added - neutral) <= 5, name  # the control is as long
    assert "Debater B" in only_change("claimed_agreement", before)[1].text


def test_the_order_names_the_letter_of_the_sides_own_option(debates: list[Transcript]) -> None:
    for before in debates:
        for seat in (Seat.A, Seat.B):
            orders = before.debate.orders
            letter = "AB"[orders.options.index(orders.defended_by(seat))]
            _, new = only_change("instructions", before, seat)
            assert f"Answer with the letter {letter}." in new.text


def test_verbosity_says_it_thrice_and_its_control_is_as_long(debates: list[Transcript]) -> None:
    for before in debates[:5]:
        old, new = only_change("verbosity", before)
        said = " ".join(strip_quotes(old.text).split())
        assert new.text.startswith(old.text)
        assert new.text.count(said) >= 2
        assert len(new.quotes) == len(old.quotes)
        _, control = only_change("neutral_paragraph", before)
        assert len(control.text.split()) == len(new.text.split())
        assert said not in control.text.removeprefix(old.text)


def test_a_made_up_quote_stands_nowhere_and_its_control_is_no_quote(
    debates: list[Transcript],
) -> None:
    for before in debates[:5]:
        old, new = only_change("fabricated_quotes", before)
        *kept, made_up = new.quotes
        assert [q.text for q in kept] == [q.text for q in old.quotes]
        assert made_up.status is QuoteStatus.UNVERIFIED
        option = before.question.options[before.debate.orders.defended_by(Seat.A)].text
        assert option in made_up.text
        _, plain = only_change("said_plainly", before)
        assert plain.quotes == old.quotes
        assert strip_quotes(new.text) == strip_quotes(plain.text)


def test_a_source_that_holds_the_made_up_words_gets_others(debates: list[Transcript]) -> None:
    before = debates[0]
    made_up = only_change("fabricated_quotes", before)[1].quotes[-1].text
    source = before.question.source
    assert source is not None
    holding = source.model_copy(update={"text": f"{source.text} {made_up}."})
    question = before.question.model_copy(update={"source": holding})
    told = type(before)(before.debate, question, before.turns)
    again = only_change("fabricated_quotes", told)[1].quotes[-1]
    assert again.text != made_up
    assert again.status is QuoteStatus.UNVERIFIED


def test_quotes_of_the_other_side_are_its_verified_ones(debates: list[Transcript]) -> None:
    before = debates[0]
    theirs = [q.text for t in before.turns if t.seat is Seat.B for q in t.quotes]
    own = [q.text for t in before.turns if t.seat is Seat.A for q in t.quotes]
    assert theirs
    old, new = only_change("borrowed_quotes", before)
    added = new.quotes[len(old.quotes) :]
    assert [q.text for q in added] == list(dict.fromkeys(theirs))
    assert all(q.status is QuoteStatus.VERIFIED for q in added)
    again = only_change("own_quotes_again", before)[1].quotes[len(old.quotes) :]
    assert [q.text for q in again] == list(dict.fromkeys(own))


def test_marks_are_removed_from_the_same_words(debates: list[Transcript]) -> None:
    old, new = only_change("marks_removed", debates[0])
    assert new.text == old.text
    assert {q.status for q in old.quotes} == {QuoteStatus.VERIFIED}
    assert {q.status for q in new.quotes} == {QuoteStatus.UNVERIFIED}
    without = debates[0].question.model_copy(update={"source": None})
    turns = tuple(t.model_copy(update={"quotes": ()}) for t in debates[0].turns)
    unquoted = type(debates[0])(debates[0].debate, without, turns)
    assert edited(unquoted, BUILT_IN["marks_removed"], Seat.A) is None


def test_hedges_go_and_quotes_stay(debates: list[Transcript]) -> None:
    [turn] = [t for t in debates[0].turns if t.seat is Seat.A]
    quote = turn.quotes[0].text
    hedged = f"I think it is perhaps so. <quote>{quote}</quote> It may be right, probably."
    said = turn.model_copy(
        update={"text": hedged, "quotes": find_quotes(hedged, debates[0].question.source)}
    )
    turns = tuple(said if t.seat is Seat.A else t for t in debates[0].turns)
    _, new = only_change(
        "confident_tone", type(debates[0])(debates[0].debate, debates[0].question, turns)
    )
    assert new.text.startswith(f"it is so. <quote>{quote}</quote> It is right. I am absolutely")
    assert [q.text for q in new.quotes] == [quote]


def test_a_turn_about_nothing_is_added_at_the_end(
    debates: list[Transcript], long_debates: list[Transcript]
) -> None:
    for before in (debates[0], long_debates[0]):
        after = edited(before, BUILT_IN["irrelevant_turns"], Seat.B)
        assert after is not None
        [(old, new)] = changed_turns(before, after)
        assert old is None
        assert new.round == before.debate.protocol.rounds + 1
        assert new.quotes == ()
        assert judges_view(after).turns[-1] == new.model_copy(update={"debate_id": after.debate.id})
        assert example(before, after)[0] == "(no turn)"


def test_of_several_rounds_the_last_speech_or_all_are_changed(
    long_debates: list[Transcript],
) -> None:
    before = long_debates[0]
    own = [t.step for t in before.turns if t.seat is Seat.A and t.argues]
    for name, steps in (("authority", own[-1:]), ("verbosity", own)):
        after = edited(before, BUILT_IN[name], Seat.A)
        assert after is not None
        assert [new.step for _, new in changed_turns(before, after)] == steps


def test_examples_show_what_was_changed(debates: list[Transcript]) -> None:
    after = edited(debates[0], BUILT_IN["authority"], Seat.A)
    assert after is not None
    was, now = example(debates[0], after)
    assert was == "(nothing)"
    assert now.startswith("I hold a chair")
    after = edited(debates[0], BUILT_IN["marks_removed"], Seat.A)
    assert after is not None
    was, now = example(debates[0], after)
    assert was.startswith("verified: “")
    assert now == was.replace("verified", "unverified", 1)


# --- a user's own ---


OWN = """
from oversight.audits.interventions import intervention

@intervention("Shouts.", control="neutral_sentence")
def shouting(speech):
    return speech.text.upper()

@intervention("Fails.")
def failing(speech):
    raise KeyError("no such thing")

@intervention("Gives a number.")
def counting(speech):
    return 3

@intervention("Takes a name.")
def verbosity(speech):
    return speech.text

def plain(speech):
    return speech.text
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    return str(tmp_path / "mine.py")


def test_one_of_your_own_is_named_by_its_file(own: str, debates: list[Transcript]) -> None:
    found = known.chosen([f"{own}:shouting"])
    assert [each.name for each in found] == ["shouting", "neutral_sentence", "unchanged"]
    after = edited(debates[0], found[0], Seat.A)
    assert after is not None
    assert [t.text.isupper() for t in after.turns if t.seat is Seat.A] == [True]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("verbose", "there is no intervention 'verbose'. Did you mean 'verbosity'?"),
        ("{}:plain", "it is no intervention; write @intervention"),
        ("{}:nowhere", "has no function 'nowhere'"),
        ("{}:verbosity", "the package has an intervention 'verbosity' of its own"),
        ("nowhere.py:x", "there is no such file"),
    ],
)
def test_what_is_no_intervention_is_refused(own: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match="interventions") as caught:
        known.load(name.format(own))
    assert said in str(caught.value)


def test_one_that_fails_is_named_with_its_line(own: str, debates: list[Transcript]) -> None:
    with pytest.raises(ConfigError, match=r"'failing' failed \(KeyError.*mine\.py, line 10"):
        edited(debates[0], known.load(f"{own}:failing"), Seat.A)
    with pytest.raises(ConfigError, match="'counting' returned a int; return the new words"):
        edited(debates[0], known.load(f"{own}:counting"), Seat.A)


def test_controls_come_along_once_and_last() -> None:
    found = known.chosen(["authority", "instructions", "fabricated_quotes"])
    names = [each.name for each in found]
    assert names[:3] == ["authority", "instructions", "fabricated_quotes"]
    assert sorted(names[3:]) == ["neutral_sentence", "said_plainly", "unchanged"]
    assert known.chosen([]) == EVERY


def test_two_of_one_name_are_refused(own: str, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(Path(own).read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ConfigError, match="is the second of the name 'shouting'"):
        known.chosen([f"{own}:shouting", f"{other}:shouting"])
