from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.agents._passages import index, passages, query, stem, terms
from oversight.text.quotes import find_quotes
from oversight.types import QuoteStatus, Source


def cut(text: str, max_words: int = 40) -> list[str]:
    return [text[a:b] for a, b in passages(text, max_words)]


def test_sentences_are_cut_at_their_ends_with_closing_marks() -> None:
    sentences = [
        'He said, "The lamp is in the cellar."',
        "Nobody believed him that night!",
        "Was it really there at all?",
    ]

    assert cut(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Brown and Dr. Strange left the old house at dawn.",
        "They met J. R. Hartley in the U.S. embassy on that day.",
        "He paid 3.50 for it at the market before noon.",
        'He asked them all "Where are you going?" and then walked away at once.',
        "Wait... and then the whole thing fell down the stairs.",
    ],
)
def test_abbreviations_and_marks_inside_a_sentence_do_not_end_it(text: str) -> None:
    assert cut(text) == [text]


def test_line_breaks_end_a_sentence_unless_the_text_is_hard_wrapped() -> None:
    lines = "09:40 Ada carried the lantern upstairs\n10:05 Bea carried the map upstairs"
    wrapped = "The old lantern was carried\nup to the attic by Ada\nwho had found it there."

    assert len(cut(lines)) == 2
    assert cut(wrapped) == [wrapped]


def test_short_sentences_are_joined_with_a_neighbour() -> None:
    assert cut("Yes. No. He went up then.") == ["Yes. No. He went up then."]
    assert cut("He went up to the attic. Really.") == ["He went up to the attic. Really."]
    assert len(cut("He went up to the attic. She went down to it.")) == 2


def test_long_sentences_are_cut_into_even_pieces_at_word_borders() -> None:
    text = " ".join(f"word{i}" for i in range(100)) + "."
    pieces = cut(text, 40)

    assert [len(piece.split()) for piece in pieces] == [34, 34, 32]
    assert " ".join(pieces) == text


def test_what_cannot_be_quoted_is_left_out() -> None:
    assert cut("The sign read </quote> in red letters.") == []
    assert cut("* * *") == []
    assert cut("Ah! Oh!") == []
    assert cut("") == []


@settings(max_examples=60)
@given(st.text(alphabet="abAB .!?\n\"'’-é0\t…", max_size=400), st.integers(8, 40))
def test_every_passage_of_any_text_verifies_as_a_quote(text: str, max_words: int) -> None:
    spans = passages(text, max_words)
    source = Source(text=text or "x")

    assert list(spans) == sorted(spans)
    for start, end in spans:
        [quote] = find_quotes(f"<quote>{text[start:end]}</quote>", source)
        assert quote.status is QuoteStatus.VERIFIED


@pytest.mark.parametrize(
    ("forms", "stemmed"),
    [
        ("carry carries carried carrying", "carry"),
        ("move moves moved moving", "mov"),
        ("stop stopped stopping stops", "stop"),
        ("Ada's ada", "ada"),
        ("glass glasses", None),
    ],
)
def test_forms_of_a_word_meet(forms: str, stemmed: str | None) -> None:
    stems = {stem(form.lower()) for form in forms.split()}

    assert stems == {stemmed} or stemmed is None


def test_terms_keep_times_whole_and_drop_stop_words() -> None:
    assert terms("At 09:40 Ada was in the attic") == ["09:40", "ada", "attic"]


def test_coverage_is_the_share_of_the_query_by_weight_and_rarity() -> None:
    known = index(
        "The lantern hung in the attic.\nThe map was in the attic.\nNothing else was ever there.",
        40,
    )
    scores = known.coverage({"lantern": 1.0, "attic": 1.0, "unheard-of": 5.0})

    assert scores[0] == pytest.approx(1.0)
    assert 0 < scores[1] < 0.5
    assert scores[2] == 0


def test_a_source_without_words_scores_nothing() -> None:
    empty = index("!!! ???", 40)

    assert len(empty.coverage({"a": 1.0})) == 0


def test_what_two_options_share_does_not_tell_them_apart() -> None:
    wanted = query(
        terms("Where is the lantern?"), ("in the old attic", "in the old cellar"), 1, 2.0
    )

    assert wanted.distinctive == {"cellar", "old cellar"}
    assert wanted.weights["cellar"] == 2.0
    assert wanted.weights["lantern"] == 1.0
    assert "attic" not in wanted.weights


def test_every_passage_of_the_real_stories_verifies(shared_data) -> None:
    folder = shared_data / "nyu-debates" / "debates"
    seen: set[str] = set()
    for path in sorted(folder.iterdir())[::6]:
        story = json.loads(path.read_text("utf-8"))["setup"]["sourceMaterial"]
        contents = story["QuALITYSourceMaterial"]["contents"]
        source = Source(text=" ".join(contents))
        if source.id in seen:
            continue
        seen.add(source.id)
        spans = passages(source.text, 40)
        text = "".join(f"<quote>{source.text[a:b]}</quote>" for a, b in spans)

        assert len(spans) > 50
        assert {quote.status for quote in find_quotes(text, source)} == {QuoteStatus.VERIFIED}
        assert max(len(source.text[a:b].split()) for a, b in spans) <= 40
