"""A transcript's page, from real scripted debates."""

from __future__ import annotations

import re
from dataclasses import replace

from oversight.judging.desk import Desk
from oversight.judging.session import DebateSession, SentJudgment
from oversight.judging.settings import JudgingSettings
from oversight.reporting.pages import call_page, compare_page, compared, samples_of
from oversight.reporting.rendering import belief_plot
from oversight.reporting.transcripts import page_of, transcript_page
from oversight.text.quotes import strip_quotes
from oversight.types import (
    Act,
    AnyRatingAct,
    AttentionPaid,
    Feedback,
    PairAnswer,
    QuestionsAnswered,
    QuoteStatus,
    RatingEvent,
    RatingOpened,
    RatingSent,
    Seat,
)
from oversight.types.ratings import item_id
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


async def judged_by_a_person(store, debate_id: str) -> DebateSession:
    """A person reads a debate, picks a quote, undoes, gives a belief and a reason, and sends."""
    desk = Desk(store, JudgingSettings.parse({"judge": "anna"}, where="test"))
    item, _ = desk.take(debate_id)
    assert item is not None
    desk.open(item)
    session = DebateSession(desk, item, lambda: None)
    session.begin()
    while session.has_more:
        session.reveal()
    turns = [turn for turn in item.transcript.spoken() if turn.quotes]
    session.acts.add(AttentionPaid(panels={"turns": 4.0}, seen={turns[0].id: ((0.0, 1.0),)}))
    session.lean(turns[0], 0)
    session.believe((0.25, 0.75))
    session.waive([turn.id for turn in item.turns()])
    session.say_why("The log says so.")
    sent = await session.send()
    assert isinstance(sent, SentJudgment)
    await desk.close(item)
    return session


async def test_acts_of_people_lead_to_what_they_are_about_and_back(store, get) -> None:
    debate, _ = await one(store)
    await judged_by_a_person(store, debate.id)
    page = transcript_page(store, debate.id)
    about = {act.what: [place.anchor for place in act.about] for act in page.acts}
    judgment = next(each for each in page.judgments if each.judge == "anna")
    leaned = next(turn for turn in page.turns if turn.quotes)
    assert about["opened"] == ["question"]
    assert about["leaned"] == [f"quote-{leaned.quotes[0].number}"]
    assert about["attention"] == [f"turn-{leaned.number}"]
    assert about["rationale"] == about["sent"] == [f"judgment-{judgment.id}"]
    assert {act.what for act in leaned.acts} >= {"leaned", "attention"}
    assert {act.what for act in judgment.acts} >= {"rationale", "sent"}
    told = {act.what: act.detail for act in page.acts}
    assert told["leaned"] == "picked"
    assert told["belief"].startswith("the attic 25%, the cellar 75%, ")
    assert told["belief"].endswith(" not read to the end")
    text = get(store)(f"/t/{debate.id}").text
    targets = set(re.findall(r' id="([^"]+)"', text))
    timeline = text[text.index('class="acts"') :]
    leads = re.findall(r'<li id="act-(\d+)".*?</li>', timeline, re.S)
    assert len(leads) == len(page.acts)
    listed = timeline[timeline.index("<li") : timeline.index("</ol>")]
    shown = re.findall(r'<time datetime="([^"]+)" title="([^"]+)">([^<]+)</time>', listed)
    assert [whole for whole, _, _ in shown] == [act.at for act in page.acts]
    assert all(whole == hover for whole, hover, _ in shown)
    assert all(re.fullmatch(r"\d\d \w{3} \d{4} \d\d:\d\d:\d\d", at) for *_, at in shown)
    assert f"oversight show {debate.id[:8]} --store {store.url}" in text
    for each in re.findall(r'<li id="act-\d+".*?</li>', timeline, re.S):
        assert set(re.findall(r'href="#([^"]+)"', each)) <= targets
        assert 'href="#' in each
    back = re.findall(r'href="#act-(\d+)"', text)
    assert set(back) <= set(leads)
    assert set(back) >= {str(act.number) for act in page.acts if act.about[0].turn}


async def test_acts_of_a_second_revision_lead_to_it(store) -> None:
    debate, _ = await one(store)
    session = await judged_by_a_person(store, debate.id)
    reopened = await judged_again(store, debate.id, session)
    page = transcript_page(store, debate.id)
    sent = [act.about[0].anchor for act in page.acts if act.what == "sent"]
    assert sent == [f"judgment-{each}" for each in reopened]


async def judged_again(store, debate_id: str, session: DebateSession) -> list[str]:
    """The person changes their mind; gives the ids of both judgments."""
    first = store.transcript(debate_id).judgments
    item, _ = session.desk.take(debate_id)
    session.desk.open(item)
    again = DebateSession(session.desk, item, lambda: None)
    assert again.revise() is None
    again.believe((0.9, 0.1))
    assert isinstance(await again.send(), SentJudgment)
    await session.desk.close(item)
    mine = [each for each in store.transcript(debate_id).judgments if each.judge == "anna"]
    assert len(mine) == 2, first
    return [each.id for each in sorted(mine, key=lambda each: each.revision)]


async def test_what_a_rater_did_leads_to_the_turns_and_the_rating(store) -> None:
    debate, _ = await one(store)
    turns = [turn for turn in store.transcript(debate.id).spoken() if turn.argues][:2]
    ids = tuple(turn.id for turn in turns)
    item = item_id("pairs", ids)
    rating = Feedback(
        debate_id=debate.id,
        item=item,
        turn_ids=ids,
        judge="bea",
        answer=PairAnswer(preferred="left", strength=1),
    )
    acts: list[AnyRatingAct] = [
        RatingOpened(shown=ids),
        AttentionPaid(panels={}, seen={ids[1]: ((0.0, 1.0),)}),
        QuestionsAnswered(answers={"preferred": "left"}),
        RatingSent(revision=0),
    ]
    store.add(
        rating,
        *(
            RatingEvent(
                debate_id=debate.id, item=item, judge="bea", session="s", number=n,
                at=f"2026-01-01T00:00:0{n}.000", act=act,
            )
            for n, act in enumerate(acts)
        ),
    )  # fmt: skip
    page = transcript_page(store, debate.id)
    numbers = {turn.id: turn.number for turn in page.turns}
    both = [f"turn-{numbers[each]}" for each in ids]
    assert [[place.anchor for place in act.about] for act in page.acts] == [
        both, both[1:], both, [f"rating-{rating.id}"],
    ]  # fmt: skip
    assert [act.what for act in page.ratings[0].acts] == ["sent"]
