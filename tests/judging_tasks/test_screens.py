"""The real app driven by its keys and the mouse, for each task, and the store afterwards."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from oversight.errors import ConfigError
from oversight.judging.settings import RatingSettings
from oversight.tui.person_app import RateApp
from oversight.tui.widgets.panels import Choices
from oversight.tui.widgets.transcript import TranscriptView
from oversight.types import CriticismIs, Preferred, RatingAct, RevisionIs, Task

SIZES = [(80, 24), (140, 45)]
HOSTILE = json.loads((Path(__file__).parent.parent / "text" / "hostile.json").read_text())
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("size", SIZES)
async def test_a_pair_is_compared_by_two_keys(records, rating, size):
    records.best_of()
    async with rating(Task.PAIRS, size) as screen:
        await screen.see("Enter takes the pair")
        await screen.press("enter")
        await screen.see("Where is the brass lamp", "Left", "Right", "B  the cellar")
        await screen.see("Which of the two would help a judge more")
        await screen.press("right")
        await screen.see("Right is slightly better. Enter sends it.")
        shown = screen.app.screen.item.turns()
        await screen.press("enter")
        await screen.see("That was the last one that waits. 1 sent now.")
    (sent,) = records.ratings()
    assert (sent.answer.preferred, sent.answer.strength) == (Preferred.RIGHT, 1)
    assert sent.turn_ids == tuple(turn.id for turn in shown)


@pytest.mark.parametrize("size", SIZES)
async def test_a_response_is_rated_by_principles_with_a_digit_each(records, rating, size):
    records.debate("It is in the cellar.")
    async with rating(Task.PRINCIPLES, size) as screen:
        await screen.press("enter")
        await screen.see("How well does it keep to each principle?", "8 to go")
        await screen.see("Weigh what a side shows from the source")
        await screen.press(*"4520")
        await screen.see("4 to go", "unanswered-challenges")
        await screen.press("enter")
        await screen.see("Not answered yet: unanswered-challenges")
        await screen.press(*"5555")
        await screen.see("4.4 of 5 over 7 principles. Enter sends it.")
        await screen.press("enter")
        await screen.see("1 sent now")
    (sent,) = records.ratings()
    assert list(sent.answer.scores.values()) == [4, 5, 2, None, 5, 5, 5, 5]


@pytest.mark.parametrize("size", SIZES)
async def test_a_revision_is_reviewed_with_its_criticism(records, rating, size):
    records.critique()
    async with rating(Task.REVISIONS, size) as screen:
        await screen.press("enter")
        await screen.see("First speech", "Criticism", "Revised speech", "It proves nothing.")
        await screen.see("Criticism: 1 right, 2 partly, 3 wrong.")
        await screen.press("2")
        await screen.press("right")
        await screen.see("The criticism is partly right.", "The revision is better")
        await screen.press("enter")
        await screen.see("1 sent now")
    (sent,) = records.ratings()
    assert (sent.answer.criticism, sent.answer.revision) == (
        CriticismIs.PARTLY,
        RevisionIs.BETTER,
    )


@pytest.mark.parametrize(
    ("keys", "preferred", "strength"),
    [
        (["left"], "left", 1),
        (["left", "left"], "left", 2),
        (["left", "3"], "left", 3),
        (["right"] * 9, "right", 3),
        (["right", "left"], "tie", None),
        (["t"], "tie", None),
        (["b"], "both_bad", None),
        (["b", "right"], "right", 1),
        (["left", "2", "u"], "left", 1),
    ],
)
async def test_arrows_and_digits_move_along_the_scale(records, rating, keys, preferred, strength):
    records.best_of()
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("Left")
        for key in keys:
            await screen.press(key)
        await screen.press("enter")
        await screen.see("1 sent now")
    (sent,) = records.ratings()
    assert (sent.answer.preferred.value, sent.answer.strength) == (preferred, strength)


async def test_side_by_side_where_there_is_room_and_below_one_another_else(records, rating):
    records.best_of("The first words.", "The other words.")
    for size, lines in (((110, 30), 1), ((80, 24), 2)):
        async with rating(Task.PAIRS, size, overlap=9) as screen:
            await screen.press("enter")
            await screen.see("first words", "other words")
            found = [line for line in screen.text.split("\n") if " words." in line]
            assert len(found) == lines
            await screen.press("escape")


async def test_who_spoke_stays_hidden(records, rating):
    records.best_of()
    async with rating(Task.PAIRS, (140, 45)) as screen:
        await screen.press("enter")
        await screen.see("Left")
        assert "secret" not in screen.text
        assert "0.9" not in screen.text
        assert "candidate" not in screen.text.lower()


async def test_quotes_are_marked_by_sign(records, rating):
    records.best_of("<quote>At ten Bo carried the brass lamp</quote>", "<quote>He sold it</quote>")
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("✓ “At ten Bo carried the brass lamp”")
        await screen.press("q")
        await screen.see("Quotes, in the order of the source")
        await screen.press("c")
        await screen.see("This protocol shows you no more")


async def test_after_sending_the_next_one_comes_and_one_key_leads_back(records, rating):
    for _ in range(2):
        records.best_of()
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("day 0")
        await screen.press("left", "enter")
        await screen.see("day 1", "✓ 1 sent. p goes back to it.")
        await screen.press("p")
        await screen.see("day 0", "Left is slightly better.")
        await screen.press("b", "enter")
        await screen.see("day 1")
    assert [(r.revision, r.answer.preferred.value) for r in records.ratings()] == [
        (0, "left"),
        (1, "both_bad"),
    ]


async def test_what_is_done_can_be_opened_again_from_the_queue_and_revised(records, rating):
    records.best_of()
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("Left")
        await screen.press("left", "enter")
        await screen.see("1 sent now")
        await screen.press("enter")
        await screen.see("Sent. r revises it")
        await screen.press("t")
        await screen.see("It is sent. r opens it again")
        await screen.press("r")
        await screen.press("t", "enter")
        await screen.see("1 sent now")
    assert [r.revision for r in records.ratings()] == [0, 1]


async def test_a_rationale_is_kept_while_it_is_typed(records, rating):
    records.best_of()
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("Left")
        await screen.press("v")
        await screen.see("Why? What was it that decided?")
        await screen.press(*"quotes")
        await screen.press("escape")
        await screen.press("left", "enter")
        await screen.see("1 sent now")
        assert RatingAct.RATIONALE in [e.kind for e in screen.events()]
    (sent,) = records.ratings()
    assert sent.rationale == "quotes"


async def test_a_study_that_asks_why_is_not_satisfied_without(records, rating):
    records.best_of()
    async with rating(Task.PAIRS, require_rationale=True) as screen:
        await screen.press("enter")
        await screen.see("Left")
        await screen.press("left", "enter")
        await screen.see("Why? What was it that decided?")
        await screen.press(*"so", "ctrl+s")
        await screen.press("enter")
        await screen.see("1 sent now")
    assert records.ratings()[0].rationale == "so"


async def test_skipping_goes_on_and_leaving_keeps_everything(records, rating):
    for _ in range(2):
        records.best_of()
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("day 0")
        await screen.press("s")
        await screen.see("day 1")
        await screen.press("left")
        await screen.press("ctrl+q")
    async with rating(Task.PAIRS) as screen:
        await screen.see("1 begun", "1 skipped")
        await screen.press("enter")
        await screen.see("day 1", "Left is slightly better.")


async def test_what_was_said_before_is_folded_until_asked_for(records, rating):
    records.debate("The opening words.", "The answer to them.")
    async with rating(Task.PRINCIPLES) as screen:
        await screen.press("down", "enter")
        await screen.see("The answer to them.", "before: Debater for B", "3 words folded")
        assert "opening" not in screen.text
        await screen.press("z")
        await screen.see("The opening words.")


async def test_the_mouse_answers_too(records, rating):
    records.best_of()
    async with rating(Task.PAIRS, (100, 30)) as screen:
        await screen.press("enter")
        await screen.see("both bad")
        lines = screen.text.split("\n")
        (row,) = [y for y, line in enumerate(lines) if "○ both bad" in line]
        at = lines[row].index("both bad")
        top = screen.app.screen.query_one(Choices).region
        await screen.pilot.click(Choices, offset=(at - top.x, row - top.y))
        await screen.see("Both are bad: neither is to be learnt from.")
        await screen.press("enter")
        await screen.see("1 sent now")
    assert records.ratings()[0].answer.preferred is Preferred.BOTH_BAD


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Task.PAIRS, "oversight debate --protocol debate_single_turn_best_of_n"),
        (Task.PRINCIPLES, "Run debates first: oversight debate"),
        (Task.REVISIONS, "oversight debate --protocol critique"),
    ],
)
async def test_an_empty_queue_says_what_to_do(rating, task, words):
    async with rating(task, (80, 24)) as screen:
        text = " ".join(screen.text.split())
        assert words in text
        await screen.press("enter", "p", "s")
        assert "Nothing was sent" in screen.text


@pytest.mark.parametrize("task", list(Task))
async def test_the_keys_are_shown_and_fit(records, rating, task):
    records.best_of()
    records.critique()
    async with rating(task, (80, 24)) as screen:
        await screen.press("enter")
        await screen.see("Say why")
        await screen.press("question_mark")
        await screen.see("Say why", "The last one sent", "Ctrl+Q  Leave; everything is kept")


async def test_keys_can_be_others(records, rating):
    records.best_of()
    async with rating(Task.PAIRS, keys={"left": "h", "right": "l"}) as screen:
        await screen.press("enter")
        await screen.see("h l say which is better")
        await screen.press("h", "h")
        await screen.see("Left is clearly better.")
    with pytest.raises(ConfigError, match=r"keys.lefft"):
        RateApp(records.store, RatingSettings.parse({"keys": {"lefft": "h"}}), Task.PAIRS)


async def test_a_terminal_too_small_asks_for_room_and_keeps_the_work(records, rating):
    records.best_of()
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("Left")
        await screen.press("left")
        await screen.pilot.resize_terminal(40, 10)
        await screen.see("Your work is kept.")
        await screen.pilot.resize_terminal(100, 30)
        await screen.see("Left is slightly better.")


async def test_seconds_are_counted_by_panel(records, rating):
    records.best_of()
    async with rating(Task.PAIRS) as screen:
        await screen.press("enter")
        await screen.see("Left")
        await screen.press("left")
        await screen.pilot.pause(0.05)
        await screen.press("enter")
        await screen.see("1 sent now")
        panels = [e.data["panels"] for e in screen.events() if e.kind is RatingAct.ATTENTION]
    assert panels
    assert all(set(each) <= {"responses"} for each in panels)
    assert records.ratings()[0].active_s > 0


async def test_light_is_light(records, rating):
    records.best_of()
    async with rating(Task.PAIRS, theme="light") as screen:
        assert not screen.app.current_theme.dark
        await screen.press("enter")
        await screen.see("Left")
        await screen.press("d")
        assert screen.app.current_theme.dark


async def test_no_foreign_text_reaches_the_screen_as_it_is(records, rating):
    text = "\n".join(case["text"] for case in HOSTILE)
    records.best_of(f"{text} one", f"{text} other")
    async with rating(Task.PAIRS, (140, 45)) as screen:
        await screen.press("enter")
        await screen.see("Left")
        view = screen.app.screen.query_one(TranscriptView)
        bottom = int(view.virtual_size.height)
        assert bottom > len(HOSTILE)
        for top in range(0, bottom, 10):
            view.scroll_to(y=top, animate=False)
            await screen.pilot.pause()
            assert not FORBIDDEN.search(screen.text.replace("\n", ""))


async def test_a_constitution_of_hostile_words_is_shown_as_marks(records, rating, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        'description = "x"\n[[principles]]\nid = "a"\ntext = "be \\u001b[31mred\\u202e [bold]"\n'
        '[[principles]]\nid = "b"\ntext = "Kind."\n'
    )
    records.debate("One speech.")
    async with rating(Task.PRINCIPLES, constitution=str(own)) as screen:
        await screen.press("enter")
        await screen.see("be ␛[31mred⟨U+202E⟩ [bold]")


async def test_long_responses_scroll(records, rating):
    records.best_of("word " * 20_000, "other " * 20_000)
    async with rating(Task.PAIRS, (140, 45)) as screen:
        await screen.press("enter")
        await screen.see("Left")
        view = screen.app.screen.query_one(TranscriptView)
        await screen.press("end")
        assert view.scroll_offset.y > 1000
        await screen.press("right", "enter")
        await screen.see("2 turns were only in part on your screen.")
        await screen.press("y")
        await screen.see("1 sent now")


async def test_the_heading_of_what_is_read_stays_in_sight_and_paging_leaves_no_line_out(
    records, rating
):
    said = {side: [f"{side}{number}" for number in range(60)] for side in ("Left", "Right")}
    records.best_of(*("\n\n".join(words) for words in said.values()))
    async with rating(Task.PAIRS, (80, 24), shuffle_sides=False) as screen:
        await screen.press("enter")
        await screen.see("PgDn reads on")
        view = screen.app.screen.query_one(TranscriptView)
        seen: list[str] = []
        at = -1
        while view.scroll_offset.y > at:
            at = view.scroll_offset.y
            lines = screen.text.split("\n")[view.region.y :][: view.size.height]
            words = [word for line in lines for word in line.split() if word.isalnum()]
            assert words[0] in said, "a heading comes first"
            assert all(b.startswith(a) for a, b in pairwise(words) if a in said)
            seen += words
            await screen.press("pagedown")
    assert {*said["Left"], *said["Right"]} <= {*seen}


async def test_the_quote_gone_to_is_not_behind_the_heading(records, rating):
    quote = "<quote>At ten Bo carried the brass lamp</quote>"
    records.best_of(
        "\n\n".join(["word"] * 40 + [quote] + ["word"] * 40), "\n\n".join(["word"] * 40)
    )
    async with rating(Task.PAIRS, (80, 24), shuffle_sides=False) as screen:
        await screen.press("enter")
        await screen.see("Left")
        await screen.press("end", "right_square_bracket")
        await screen.see("▶ Left", "▌ ✓ “At ten Bo carried the brass lamp”")
