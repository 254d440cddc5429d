"""A transcript's page, from real scripted debates."""

from __future__ import annotations

from dataclasses import replace

from oversight.reporting.pages import call_page, samples_of
from oversight.reporting.rendering import belief_plot
from oversight.reporting.transcripts import compare_page, compared, page_of, transcript_page
from oversight.text.quotes import strip_quotes
from oversight.types import Act, QuoteStatus, Seat
from tests.reporting.conftest import SOURCE, chat, make_question, run_scripted


async def one(store, protocol="debate", **options):
    [debate], sent = await run_scripted(store, [make_question()], [protocol], **options)
    return debate, sent


async def test_every_word_of_every_turn_is_there_without_the_tags(store) -> None:
    debate, _ = await one(store)
    page = transcript_page(store, debate.id)
    spoken = {turn.id: turn for turn in store.transcript(debate.id).spoken()}
    assert len(page.turns) == len(spoken)
    for turn in page.turns:
        assert "".join(part.text for part in turn.segments) == strip_quotes(spoken[turn.id].text)


async def test_turns_stand_in_the_order_that_the_judge_read_them(store) -> None:
    debate, _ = await one(store)
    transcript = store.transcript(debate.id)
    for shown in ((Seat.A, Seat.B), (Seat.B, Seat.A)):
        orders = debate.orders.model_copy(update={"shown": shown})
        changed = replace(transcript, debate=debate.model_copy(update={"orders": orders}))
        first = [t.seat for t in page_of(changed).turns if t.step == 0]
        assert first == [seat.value for seat in shown]


async def test_a_quote_leads_to_its_place_in_the_source_and_back(store) -> None:
    debate, _ = await one(store)
    page = transcript_page(store, debate.id)
    assert "".join(part.text for part in page.source) == SOURCE.text
    notes = [note for turn in page.turns for note in turn.quotes]
    assert {note.status for note in notes} == {"verified", "near", "unverified"}
    assert len({note.number for note in notes}) == len(notes)
    for note in notes:
        held = "".join(part.text for part in page.source if note.number in part.quotes)
        assert held == note.source_text
        begins = [part for part in page.source if note.number in part.begins]
        assert len(begins) == (note.status != "unverified")


async def test_a_near_miss_is_compared_word_by_word(store) -> None:
    debate, _ = await one(store)
    page = transcript_page(store, debate.id)
    near = next(n for turn in page.turns for n in turn.quotes if n.status == "near")
    changes = [
        (piece.change, piece.text.strip()) for piece in near.pieces if piece.change != "kept"
    ]
    assert changes == [("removed", "brass"), ("added", "red")]


async def test_prompts_are_exactly_those_that_were_sent(store) -> None:
    debate, sent = await one(store)
    transcript = store.transcript(debate.id)
    keys = [key for key, *_ in samples_of(transcript)]
    assert len(keys) >= 6
    pages = [call_page(store, debate.id, key) for key in keys]
    assert not any(page.missing for page in pages)
    assert {page.messages for page in pages} == {chat(prompt) for prompt in sent.prompts}
    for page, (_, _, _, sample) in zip(pages, samples_of(transcript), strict=True):
        assert page.raw == sample.text
        assert [token.id for token in page.tokens] == list(sample.token_ids)
        assert page.note.prompt_tokens == sample.usage.prompt_tokens


async def test_candidates_that_were_not_chosen_stand_with_the_one_that_was(store) -> None:
    debate, _ = await one(store, "debate_single_turn_best_of_n")
    transcript, page = store.transcript(debate.id), transcript_page(store, debate.id)
    left = {turn.id for turn in transcript.turns if not turn.chosen}
    assert left
    assert {each.id for turn in page.turns for each in turn.candidates} == left
    assert not left & {turn.id for turn in page.turns}


async def test_the_chart_ends_at_the_judgment_and_says_so_in_words(store) -> None:
    debate, _ = await one(store)
    page = transcript_page(store, debate.id)
    assert page.chart is not None
    [line] = page.chart.lines
    final = store.transcript(debate.id).judgments[-1].final
    assert final.probs is not None
    assert line.points[-1] == (len(page.turns) + 1, final.probs[0])
    drawn = belief_plot(page.chart)
    assert f"{final.probs[0]:.0%}" in drawn.description
    assert all(0 <= y <= drawn.height for _, y, _ in drawn.lines[0].dots)


async def test_a_judge_that_cannot_be_read_is_invalid_with_what_it_said(store) -> None:
    words = {"verdict": "no letter at all", "speech": "no letter at all"}
    debate, _ = await one(store, "naive", choices=False, **words)
    page = transcript_page(store, debate.id)
    assert page.judgments[0].belief.verdict == "invalid"
    assert "no letter" in page.judgments[0].belief.raw
    assert page.verdicts[0][1:] == ("INVALID", None)


async def test_self_critique_shows_what_changed(store) -> None:
    prompt = make_question(options=(), correct=None, source=None, text="Say something kind.")
    [debate], _ = await run_scripted(store, [prompt], ["self_critique"], speech="Be kind to all.")
    page = transcript_page(store, debate.id)
    acts = [turn.act for turn in store.transcript(debate.id).spoken()]
    assert len(page.changes) == acts.count(Act.CRITIQUE) > 0
    for change in page.changes:
        if change.pieces:
            assert "".join(p.text for p in change.pieces if p.change != "removed") == change.after


def test_texts_that_are_too_long_are_not_compared() -> None:
    long = "word " * 50_000
    assert compared(long, long + "x") == ()
    assert compared("x" * 10**6, "y") == ()
    assert [piece.change for piece in compared("a b", "a c")] == ["kept", "removed", "added"]


async def test_two_transcripts_are_paired_turn_by_turn(store) -> None:
    debates, _ = await run_scripted(store, [make_question()], ["debate", "consultancy"])
    left, right = (transcript_page(store, each.id) for each in debates)
    page = compare_page(left, right)
    assert {what for what, *_ in page.differing} >= {"protocol"}
    assert [a for a, *_ in page.turns if a] == sorted(
        left.turns, key=lambda t: (t.step, ["a", "b", "judge"].index(t.seat), t.act)
    )
    for a, b, words in page.turns:
        if a and b and (a.text.strip() or b.text.strip()):
            told = "".join(p.text for p in words.pieces if p.change != "removed")
            assert words.said.startswith("Word for word") if a.text == b.text else told == b.text
            assert (a.step, a.seat, a.act) == (b.step, b.seat, b.act)


async def test_judgments_are_compared_too_and_long_texts_are_not(store) -> None:
    debate, _ = await one(store)
    page = transcript_page(store, debate.id)
    judgments = tuple(replace(each, rationale="It was so.") for each in page.judgments)
    left, right = (
        replace(
            page,
            turns=tuple(replace(turn, text="word " * 5_000 + end) for turn in page.turns),
            judgments=judgments,
        )
        for end in ("", "more")
    )
    compared_page = compare_page(left, right)
    assert compared_page.turns
    assert all(words.said.startswith("Too long") for *_, words in compared_page.turns)
    assert [words.said for *_, words in compared_page.judgments] == ["Word for word the same."]
    assert compare_page(page, replace(page, judgments=())).judgments[0][1] is None


async def test_quotes_that_do_not_fit_their_text_break_nothing(store) -> None:
    debate, _ = await one(store)
    transcript = store.transcript(debate.id)
    turn = next(turn for turn in transcript.turns if turn.quotes)
    broken = turn.quotes[0].model_copy(
        update={"start": 10**6, "end": 10**7, "source_start": 5, "source_end": 10**9}
    )
    changed = turn.model_copy(update={"quotes": (broken, *turn.quotes[1:])})
    page = page_of(replace(transcript, turns=(changed,)))
    assert "".join(part.text for part in page.source) == SOURCE.text
    assert broken.status is QuoteStatus.VERIFIED
