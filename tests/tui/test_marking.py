"""A turn as a person reads it."""

from __future__ import annotations

import pytest

from oversight.text.quotes import find_quotes
from oversight.tui.marking import mark, mark_unfinished
from oversight.types import Act, Role, Seat, Source, Turn

SOURCE = Source(text="At nine Ada carried the brass lamp to the attic.")


def turn(text: str) -> Turn:
    return Turn(
        debate_id="d", step=0, round=1, seat=Seat.A, role=Role.DEBATER, act=Act.SPEAK,
        text=text, quotes=find_quotes(text, SOURCE),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "shown", "style"),
    [
        ("Ada carried the brass lamp", "✓ “Ada carried the brass lamp”", "quote-verified"),
        ("Ada  carried the brass lamp", "✓ “Ada carried the brass lamp”", "quote-verified"),
        ("Ada carried the brass lamps", "≈ “Ada carried the brass lamps”", "quote-near"),
        ("Bo threw it into the sea", "✗ “Bo threw it into the sea”", "quote-unverified"),
        ("the lamp", "· “the lamp”", "quote-too-short"),
    ],
)
def test_a_quote_has_a_sign_and_a_style(words, shown, style):
    marked = mark(turn(f"I say <quote>{words}</quote> so."))

    assert marked.text == f"I say {shown} so."
    [span] = marked.spans
    assert span.style == style
    assert marked.text[slice(*marked.quotes[0])] == shown


def test_a_picked_quote_has_a_star():
    marked = mark(turn("<quote>Ada carried the brass lamp</quote>"), picked=[0])

    assert marked.text == "★✓ “Ada carried the brass lamp”"


def test_words_are_made_safe_and_tags_that_quote_nothing_are_left_out():
    marked = mark(turn("a\x1b[31m <quote> b \u202e c"))

    assert "\x1b" not in marked.text
    assert "\u202e" not in marked.text
    assert "<quote>" not in marked.text


@pytest.mark.parametrize("forged", ["✓ “It is so”", "★✓ “It is so”", "≈“It is so”", '✓ "It is so"'])
def test_signs_that_a_speaker_writes_are_shown_as_foreign(forged):
    marked = mark(turn(forged))

    assert marked.spans == ()
    assert "⟨" in marked.text
    assert "✓ “" not in marked.text


def test_other_signs_stay():
    assert mark(turn("done ✓ and 3 · 4")).text == "done ✓ and 3 · 4"


def test_words_that_are_being_written_show_their_quotation_marks():
    assert mark_unfinished("see <quote>Ada carried").text == "see “Ada carried"
    assert mark_unfinished("see <quote>Ada</quote>.").text == "see “Ada”."
