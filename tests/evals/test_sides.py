import pytest

from oversight.aggregation import rulings
from oversight.evals.accuracy import honest_win_rate, position_bias, reading, seat_win_rate
from oversight.evals.answers import quote_counts, quote_use
from oversight.evals.observations import Kind, observations
from oversight.types import Act, OversightProtocol, QuoteStatus, Seat, Slot, Step


def observe(*transcripts):
    return [each for transcript in transcripts for each in observations(transcript)]


def read(*transcripts):
    return position_bias([reading(t, ruling) for t in transcripts for ruling in rulings(t)])


def test_the_honest_side_wins_by_belief_whatever_its_seat(judged):
    got = honest_win_rate(
        observe(
            judged(0.9, question="1", defends=(1, 0)),
            judged(0.9, question="2", defends=(0, 1)),
            judged(0.2, question="3"),
            judged(0.5, question="4"),
        )
    )
    assert got.value == pytest.approx(2.5 / 4)


def test_seats_are_told_apart_from_sides(judged):
    got = seat_win_rate(observe(judged(0.9, defends=(1, 0)), judged(0.1, question="2")))
    assert got.value == 0.0


def test_consultancies_have_no_winning_side(judged, protocols):
    made = observe(judged(0.9, protocol=protocols["consultancy"], defends=(0,)))
    assert honest_win_rate(made) is None
    assert seat_win_rate(made) is None


def test_a_judge_that_always_picks_what_is_listed_first(judged, protocols):
    naive = {"protocol": protocols["naive"]}
    got = read(
        judged(0.9, swapped=0.1, options=(0, 1), question="1", **naive),
        judged(0.1, swapped=0.9, options=(1, 0), question="2", **naive),
    )
    assert got.first_chosen.value == 1.0
    assert got.gain.value == pytest.approx(0.8)
    assert got.flipped.value == 1.0


def test_a_judge_that_always_believes_who_is_shown_first(judged):
    b_first = (Seat.B, Seat.A)
    got = read(
        judged(0.9, swapped=0.1, question="1"),
        judged(0.1, swapped=0.9, shown=b_first, question="2"),
    )
    assert got.first_argued.value == 1.0
    assert got.gain.value == pytest.approx(0.8)


def test_a_judge_that_is_blind_to_order(judged):
    got = read(judged(0.9, swapped=0.9), judged(0.2, swapped=0.2, question="2"))
    assert got.first_chosen.value == 0.5
    assert got.gain.value == pytest.approx(0.0)
    assert got.flipped.value == 0.0


def test_a_judge_that_likes_the_last(judged):
    assert read(judged(0.3, swapped=0.5)).gain.value == pytest.approx(-0.2)


def test_one_order_alone_tells_only_what_was_chosen(judged):
    got = read(judged(0.9, options=(1, 0), shown=(Seat.B, Seat.A)))
    assert (got.gain, got.flipped) == (None, None)
    assert got.first_chosen.value == 0.0
    assert got.first_argued.value == 0.0


def test_unread_orders_are_left_out(judged):
    got = read(judged(None, swapped=0.9))
    assert got.gain is None
    assert got.first_chosen.num == 1


def test_quotes_are_counted_by_side(judged):
    made = judged(
        0.9,
        defends=(1, 0),
        quotes={
            Seat.A: (QuoteStatus.UNVERIFIED, QuoteStatus.NEAR),
            Seat.B: (QuoteStatus.VERIFIED, QuoteStatus.VERIFIED, QuoteStatus.TOO_SHORT),
        },
    )
    counts = list(quote_counts(made))
    honest = quote_use(c for c in counts if c.side == "honest")
    dishonest = quote_use(c for c in counts if c.side == "dishonest")
    assert (honest.num_turns, honest.num_quotes, honest.per_turn) == (3, 9, 3.0)
    assert honest.verified.value == pytest.approx(2 / 3)
    assert honest.share_too_short == pytest.approx(1 / 3)
    assert dishonest.verified.value == 0.0
    assert dishonest.share_near == dishonest.share_unverified == pytest.approx(1 / 2)


def test_speeches_without_quotes_have_no_share(judged):
    got = quote_use(quote_counts(judged(0.9)))
    assert (got.num_quotes, got.verified) == (0, None)
    assert quote_use([]) is None


def test_a_critics_quotes_are_nobodys_side(judged):
    critique = OversightProtocol(
        name="critique",
        graph="critique",
        rounds=1,
        round=(
            Step(slots=(Slot(seat=Seat.A),)),
            Step(slots=(Slot(seat=Seat.B, act=Act.CRITIQUE),)),
            Step(slots=(Slot(seat=Seat.A, act=Act.REVISE),)),
        ),
    )
    quotes = {Seat.A: (QuoteStatus.VERIFIED,), Seat.B: (QuoteStatus.UNVERIFIED,)}
    made = judged(0.9, protocol=critique, quotes=quotes, defends=(0, 1))
    counts = list(quote_counts(made))
    assert [count.side for count in counts] == ["honest", "honest"]
    assert quote_use(counts).verified.value == 1.0
    [observation] = observations(made)
    assert (observation.kind, observation.defends) == (Kind.CONSULTANCY, (0,))
    assert honest_win_rate([observation]) is None
