"""Rows from judged debates: who wins, what is compared, and what is left out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.preferences.building import preferences
from oversight.preferences.settings import Dropped, PreferenceSettings, Reason
from oversight.types import Act, FinishReason, Purpose, Seat, Slot, Step, Usage, Verdict

A, B = Seat.A, Seat.B


@pytest.fixture
def rows(prompt_of):
    def run(*made, **settings):
        dropped = Dropped()
        got = list(
            preferences(
                [each.build() for each in made], PreferenceSettings(**settings), prompt_of, dropped
            )
        )
        return got, dropped

    return run


def openings(debate, **changes):
    return debate(**changes).say(A, "It is in the kitchen.").say(B, "It is in the attic.")


# --- sides ---------------------------------------------------------------------


def test_the_side_believed_more_wins(debate, beliefs, rows):
    (row,), dropped = rows(openings(debate).judge(beliefs(0.2)))
    assert [r.text for r in row.responses] == ["It is in the attic.", "It is in the kitchen."]
    assert row.ranks == (0, 1)
    assert row.soft_label == pytest.approx(0.8)
    assert dropped.total == 0


def test_the_winner_is_found_by_the_option_it_defends_and_not_by_its_seat(debate, beliefs, rows):
    made = debate(defends=(1, 0)).say(A, "attic speech").say(B, "kitchen speech")
    (row,), _ = rows(made.judge(beliefs(0.9)))
    assert row.responses[0].text == "kitchen speech"


def test_provenance_names_debate_judges_and_judgments(debate, beliefs, rows):
    made = openings(debate).judge(beliefs(0.8)).judge(beliefs(0.6), swapped=True)
    (row,), _ = rows(made)
    origin = row.provenance
    assert origin.judgment_ids == tuple(j.id for j in made.judgments)
    assert origin.judges == ("judge",)
    assert (origin.question_id, origin.protocol) == ("q", "debate")
    assert origin.debate_id == made.debate.id
    assert row.soft_label == pytest.approx(0.7)


def test_the_prompt_of_unsampled_openings_is_source_and_question(debate, beliefs, rows):
    (row,), _ = rows(openings(debate).judge(beliefs(0.8)))
    (message,) = row.prompt.messages
    assert message.content == "The key was in the kitchen.\n\nWhere is the key?"
    assert row.prompt_ids is None


def test_ready_made_openings_are_compared_though_spoken_one_after_the_other(
    debate, beliefs, rows, sequential
):
    made = debate(steps=sequential, arguments=("because x", "because y"), source=None)
    made.say(A, "because x", step=0).say(B, "because y", step=1).judge(beliefs(0.8))
    (row,), _ = rows(made)
    assert row.responses[0].text == "because x"
    assert row.prompt.messages[0].content == "Where is the key?"


def test_words_spoken_in_answer_to_the_other_side_are_not_compared(
    debate, beliefs, rows, sequential
):
    made = debate(steps=sequential).say(A, "x", step=0).say(B, "y", step=1).judge(beliefs(0.8))
    assert rows(made)[0] == []


def test_later_unsampled_turns_are_not_compared(debate, beliefs, rows):
    made = openings(debate).say(A, "more", step=1).say(B, "and more", step=1).judge(beliefs(0.8))
    got, dropped = rows(made)
    assert len(got) == 1
    assert dropped.counts == {Reason.NO_COMMON_PROMPT: 1}


def test_sampled_turns_need_one_prompt(debate, beliefs, rows, sampled, prompt_of):
    made = debate().say(A, "a", sampled("a")).say(B, "b", sampled("b")).judge(beliefs(0.9))
    (row,), _ = rows(made)
    assert row.prompt == prompt_of(made.turns[0].samples[0].prompt_id).prompt
    assert row.prompt_ids == (1, 2, 0)
    assert row.responses[0].token_ids == tuple(b"a")
    assert row.responses[0].logprobs == (-0.5,)
    apart = debate().say(A, "a", sampled("a")).say(B, "b", sampled("b", "other"))
    got, dropped = rows(apart.judge(beliefs(0.9)))
    assert got == []
    assert dropped.counts == {Reason.NO_COMMON_PROMPT: 1}


def test_one_prompt_in_two_vocabularies_is_not_common(debate, beliefs, rows, sampled):
    other = sampled("b", usage=Usage(prompt_tokens=4))
    made = debate().say(A, "a", sampled("a")).say(B, "b", other).judge(beliefs(0.9))
    assert rows(made)[1].counts == {Reason.NO_COMMON_PROMPT: 1}


def test_a_tie_is_a_row_with_equal_ranks(debate, beliefs, rows):
    (row,), _ = rows(openings(debate).judge(beliefs(0.5)))
    assert row.ranks == (0, 0)
    got, dropped = rows(openings(debate).judge(beliefs(0.5)), ties=False)
    assert got == []
    assert dropped.counts == {Reason.TIE: 1}


@pytest.mark.parametrize("verdict", [Verdict.INVALID, Verdict.ABSTAIN])
def test_judges_that_said_nothing_make_no_row(debate, beliefs, rows, verdict):
    got, dropped = rows(openings(debate).judge(beliefs(None, verdict)))
    assert got == []
    assert dropped.counts == {Reason(verdict.value): 1}


def test_an_unjudged_debate_makes_no_row(debate, rows):
    assert rows(openings(debate))[1].counts == {Reason.NO_RULING: 1}


def test_only_the_judges_asked_for_count(debate, beliefs, rows):
    made = openings(debate).judge(beliefs(0.9), name="ann").judge(beliefs(0.1), name="bob")
    (row,), _ = rows(made, judges=("bob",))
    assert row.responses[0].text == "It is in the attic."
    assert row.provenance.judges == ("bob",)
    assert rows(made, judges=("eve",))[1].counts == {Reason.NO_RULING: 1}


def test_near_calls_are_left_out_by_margin(debate, beliefs, rows):
    got, dropped = rows(openings(debate).judge(beliefs(0.6)), min_margin=0.2)
    assert got == []
    assert dropped.counts == {Reason.BELOW_MARGIN: 1}
    assert len(rows(openings(debate).judge(beliefs(0.8)), min_margin=0.2)[0]) == 1


def test_truth_overrules_the_judges(debate, beliefs, rows):
    (row,), _ = rows(openings(debate, correct=0).judge(beliefs(0.1)), label="truth")
    assert row.responses[0].text == "It is in the kitchen."
    assert row.soft_label is None
    assert row.provenance.judgment_ids == ()
    unknown = openings(debate, correct=None).judge(beliefs(0.1))
    assert rows(unknown, label="truth")[1].counts == {Reason.NO_TRUTH: 1}


def test_identical_empty_and_cancelled_responses_are_left_out(debate, beliefs, rows, sampled):
    same = debate().say(A, "same").say(B, "same").judge(beliefs(0.9))
    empty = debate().say(A, " \n").say(B, "b").judge(beliefs(0.9))
    cut = sampled("b", finish_reason=FinishReason.CANCELLED)
    cancelled = debate().say(A, "a", sampled("a")).say(B, "b", cut).judge(beliefs(0.9))
    got, dropped = rows(same, empty, cancelled)
    assert got == []
    assert dropped.counts == {Reason.IDENTICAL: 1, Reason.EMPTY: 1, Reason.CANCELLED: 1}


def test_speeches_of_several_samples_are_left_out(debate, beliefs, rows, sampled):
    made = debate().say(A, "a b", sampled("a"), sampled("b")).say(B, "c", sampled("c"))
    assert rows(made.judge(beliefs(0.9)))[1].counts == {Reason.SEVERAL_SAMPLES: 1}


def test_samples_of_private_reasoning_are_not_the_response(debate, beliefs, rows, sampled):
    thought = sampled("secret", purpose=Purpose.REASONING)
    made = debate().say(A, "a", thought, sampled("a")).say(B, "b", sampled("b"))
    (row,), _ = rows(made.judge(beliefs(0.9)))
    assert [r.text for r in row.responses] == ["a", "b"]


def test_the_same_debate_twice_makes_one_row(debate, beliefs, rows):
    got, dropped = rows(*(openings(debate).judge(beliefs(0.9)) for _ in range(2)))
    assert len(got) == 1
    assert dropped.counts == {Reason.DUPLICATE: 1}


def test_margin_weights_follow_the_belief(debate, beliefs, rows):
    (row,), _ = rows(openings(debate).judge(beliefs(0.9)), weight="margin")
    assert row.weight == pytest.approx(0.8)


# --- siblings --------------------------------------------------------------------


def candidates(debate, sampled, scores, texts=None, prompts=None):
    made = debate()
    for index, score in enumerate(scores):
        text = texts[index] if texts else f"candidate {index}"
        prompt = prompts[index] if prompts else "same"
        chosen = index == 0
        made.say(A, text, sampled(text, prompt), candidate=index, score=score, chosen=chosen)
    return made


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("best_worst", [("1", "2")]),
        ("best_all", [("1", "0"), ("1", "2")]),
        ("all_pairs", [("1", "0"), ("1", "2"), ("0", "2")]),
        ("kwise", [("1", "0", "2")]),
    ],
)
def test_siblings_are_ranked_by_score(debate, rows, sampled, mode, expected):
    got, _ = rows(candidates(debate, sampled, (0.5, 0.9, 0.1)), siblings=mode)
    assert [tuple(r.text[-1] for r in row.responses) for row in got] == expected
    assert all(row.kind == "siblings" and row.ranks[0] == 0 for row in got)
    assert all(row.prompt_ids == (1, 2, 0) for row in got)


def test_a_critique_is_no_speech_for_an_option(debate, beliefs, rows, sampled):
    steps = [
        Step(slots=(Slot(seat=A),)),
        Step(slots=(Slot(seat=B, act=Act.CRITIQUE),)),
        Step(slots=(Slot(seat=A, act=Act.REVISE, candidates=2),)),
    ]
    made = debate(steps=steps, arguments=("ready", "made")).say(A, "ready")
    for index, words in enumerate(("made", "not compared")):
        made.say(B, words, sampled(words), step=1, act=Act.CRITIQUE, candidate=index, score=0.5)
    for index, score in enumerate((0.2, 0.8)):
        words = f"revision {index}"
        made.say(A, words, sampled(words), step=2, act=Act.REVISE, candidate=index, score=score)
    (row,), dropped = rows(made.judge(beliefs(0.9)))
    assert [r.text for r in row.responses] == ["revision 1", "revision 0"]
    assert dropped.total == 0


def test_kwise_rows_give_equal_scores_one_rank(debate, rows, sampled):
    (row,), _ = rows(candidates(debate, sampled, (0.3, 0.9, 0.3, 0.1)), siblings="kwise")
    assert row.ranks == (0, 1, 1, 2)
    assert [r.score for r in row.responses] == [0.9, 0.3, 0.3, 0.1]


def test_equal_scores_are_a_tie(debate, rows, sampled):
    (row,), _ = rows(candidates(debate, sampled, (0.5, 0.5)))
    assert row.ranks == (0, 0)
    assert rows(candidates(debate, sampled, (0.5, 0.5)), ties=False)[1].counts == {Reason.TIE: 1}


def test_siblings_closer_than_the_gap_are_left_out(debate, rows, sampled):
    made = candidates(debate, sampled, (0.5, 0.55, 0.9))
    got, dropped = rows(made, siblings="all_pairs", min_score_gap=0.1)
    assert len(got) == 2
    assert dropped.counts == {Reason.BELOW_MARGIN: 1}


def test_siblings_of_different_prompts_are_never_compared(debate, rows, sampled):
    made = candidates(
        debate, sampled, (0.1, 0.9, 0.2, 0.8), prompts=("same", "other", "same", "other")
    )
    got, _ = rows(made, siblings="all_pairs")
    assert len(got) == 2
    for row in got:
        ids = {s.prompt_id for t in made.turns for s in t.samples}
        assert row.prompt.id in ids
    assert {tuple(sorted(r.text[-1] for r in row.responses)) for row in got} == {
        ("0", "2"),
        ("1", "3"),
    }


def test_candidates_that_share_no_prompt_are_counted(debate, rows, sampled):
    got, dropped = rows(candidates(debate, sampled, (0.1, 0.9), prompts=("same", "other")))
    assert got == []
    assert dropped.counts == {Reason.NO_COMMON_PROMPT: 2}


def test_equal_texts_are_kept_once(debate, rows, sampled):
    made = candidates(debate, sampled, (0.1, 0.9, 0.9), texts=("a", "b", "b"))
    got, dropped = rows(made, siblings="all_pairs")
    assert len(got) == 1
    assert dropped.counts == {Reason.IDENTICAL: 1}


def test_siblings_without_score_or_prompt_are_counted(debate, rows, sampled):
    made = candidates(debate, sampled, (0.1, None, 0.7))
    got, dropped = rows(made)
    assert len(got) == 1
    assert dropped.counts == {Reason.UNSCORED: 1}
    bare = debate().say(A, "x", score=0.1).say(A, "y", candidate=1, score=0.9, chosen=False)
    assert rows(bare)[1].counts == {Reason.NO_PROMPT: 2}


def test_truth_cannot_rank_siblings(debate, rows, sampled):
    got, dropped = rows(candidates(debate, sampled, (0.1, 0.9)), label="truth")
    assert got == []
    assert dropped.counts == {Reason.NO_TRUTH: 1}


def test_rows_of_one_prompt_can_share_their_weight(debate, rows, sampled):
    got, _ = rows(
        candidates(debate, sampled, (0.1, 0.5, 0.9)), siblings="all_pairs", weight="per_prompt"
    )
    assert sum(row.weight for row in got) == pytest.approx(1.0)


def test_only_the_kinds_asked_for_are_made(debate, beliefs, rows, sampled):
    made = candidates(debate, sampled, (0.9, 0.1)).say(B, "b", sampled("b")).judge(beliefs(0.9))
    assert {row.kind for row in rows(made)[0]} == {"sides", "siblings"}
    assert {row.kind for row in rows(made, kinds=("sides",))[0]} == {"sides"}


# --- what must never turn a row over ---------------------------------------------


def content(row):
    """The parts of a row that a trainer reads."""
    return (
        row.prompt,
        [(r.text, r.token_ids, r.score) for r in row.responses],
        row.ranks,
        row.soft_label,
        row.weight,
    )


def mirrored_pair(debate, beliefs, p, q, defends, options):
    """One debate twice: as it was, and with A and B, and both orders, relabelled."""
    speeches = {0: "for the kitchen", 1: "for the attic"}
    plain = debate(defends=defends, options=options)
    other = debate(defends=defends[::-1], options=options[::-1])
    for made in (plain, other):
        for seat, option in zip((A, B), made.debate.orders.defends, strict=True):
            made.say(seat, speeches[option])
    plain.judge(beliefs(p)).judge(beliefs(q), swapped=True)
    other.judge(beliefs(q)).judge(beliefs(p), swapped=True)
    return plain, other


PROBABILITY = st.floats(min_value=0.0, max_value=1.0)
ORDER = st.sampled_from([(0, 1), (1, 0)])


@given(p=PROBABILITY, q=PROBABILITY, defends=ORDER, options=ORDER)
def test_a_mirrored_debate_yields_the_same_preferences(
    debate, beliefs, prompt_of, p, q, defends, options
):
    plain, other = mirrored_pair(debate, beliefs, p, q, defends, options)
    settings = PreferenceSettings(weight="margin")
    (one,) = preferences([plain.build()], settings, prompt_of)
    (two,) = preferences([other.build()], settings, prompt_of)
    assert content(one) == content(two)


@given(p=PROBABILITY, raise_by=PROBABILITY, defends=ORDER, options=ORDER)
def test_raising_the_winners_probability_never_turns_a_row_over(
    debate, beliefs, prompt_of, p, raise_by, defends, options
):
    (before,) = preferences(
        [mirrored_pair(debate, beliefs, p, p, defends, options)[0].build()],
        PreferenceSettings(),
        prompt_of,
    )
    higher = p + (1.0 - p) * raise_by if p >= 0.5 else p * (1.0 - raise_by)
    (after,) = preferences(
        [mirrored_pair(debate, beliefs, higher, higher, defends, options)[0].build()],
        PreferenceSettings(),
        prompt_of,
    )
    assert after.soft_label >= before.soft_label - 1e-12
    if before.ranks == (0, 1):
        assert after.ranks == (0, 1)
        assert after.responses[0].text == before.responses[0].text


@given(scores=st.lists(st.floats(0, 1), min_size=2, max_size=5), data=st.data())
def test_the_order_of_candidates_does_not_decide_who_is_best(
    debate, sampled, prompt_of, scores, data
):
    order = data.draw(st.permutations(range(len(scores))))
    texts = [f"text {index}" for index in range(len(scores))]

    def pairs(indices):
        made = candidates(
            debate, sampled, [scores[i] for i in indices], [texts[i] for i in indices]
        )
        settings = PreferenceSettings(siblings="all_pairs")
        found = set()
        for row in preferences([made.build()], settings, prompt_of):
            texts_of = [r.text for r in row.responses]
            tie = row.ranks[0] == row.ranks[1]
            found.add((frozenset(texts_of), None if tie else texts_of[0]))
        return found

    assert pairs(range(len(scores))) == pairs(order)
    for pair, best in pairs(order):
        low, high = sorted(scores[texts.index(text)] for text in pair)
        assert best is None or scores[texts.index(best)] == high
        assert high - low <= 1e-9 or best is not None
    assert len(pairs(order)) == len(list(itertools.combinations(scores, 2)))


# --- thoughts, and engines without token ids ---


def test_a_response_says_what_was_said_and_holds_all_ids_that_were_sampled(debate, rows, sampled):
    texts = ["<think>I hide it</think>\nIn the attic.", "so be it</think>In the kitchen."]
    (row,), _ = rows(candidates(debate, sampled, (0.9, 0.1), texts))

    assert [each.text for each in row.responses] == ["In the attic.", "In the kitchen."]
    assert [each.token_ids for each in row.responses] == [tuple(t.encode()) for t in texts]
    assert all(len(each.logprobs) == len(each.token_ids) for each in row.responses)


def test_candidates_that_differ_in_their_thoughts_alone_are_one(debate, rows, sampled):
    texts = ["<think>one</think>Said.", "<think>two</think>Said."]

    assert rows(candidates(debate, sampled, (0.9, 0.1), texts))[1].counts[Reason.IDENTICAL] == 1


def test_a_thought_alone_is_no_response(debate, rows, sampled):
    texts = ["<think>cut off in the mid", "In the kitchen.", "In the attic."]
    (row,), dropped = rows(candidates(debate, sampled, (0.9, 0.5, 0.1), texts))

    assert dropped.counts == {Reason.EMPTY: 1}
    assert [each.text for each in row.responses] == ["In the kitchen.", "In the attic."]


def test_calls_that_were_made_again_are_no_second_sample_of_a_speech(debate, rows, sampled):
    made = candidates(debate, sampled, (0.9, 0.1))
    failed = sampled("").model_copy(update={"purpose": Purpose.UNANSWERED})
    made.turns = [t.model_copy(update={"samples": (failed, *t.samples)}) for t in made.turns]
    (row,), dropped = rows(made)

    assert [each.text for each in row.responses] == ["candidate 0", "candidate 1"]
    assert dropped.total == 0


def test_samples_without_ids_make_rows_of_text_alone(debate, rows, sampled):
    made = candidates(debate, sampled, (0.9, 0.1))
    bare = {"token_ids": (), "usage": Usage(prompt_tokens=5)}
    made.turns = [
        t.model_copy(update={"samples": tuple(s.model_copy(update=bare) for s in t.samples)})
        for t in made.turns
    ]
    (row,), _ = rows(made)

    assert row.prompt_ids is None
    assert [(each.token_ids, each.logprobs) for each in row.responses] == [(None, None)] * 2
