"""The index: filters that agree with the report, paging by key, search, later writing."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.evals.report import build_report
from oversight.reporting.entries import ListQuery, match_of
from oversight.reporting.index import Index
from oversight.store import Store
from oversight.types import Belief, BeliefMethod, JudgeKind, Judgment, Verdict
from tests.reporting.conftest import begin, make_question, run_scripted


def ask(index: Index, *filters: tuple[str, str], words: str = "") -> list[str]:
    return index.ids(ListQuery(tuple(filters), words))


def judged(debate, judge: str, p: float | None) -> Judgment:
    final = (
        Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw="hm")
        if p is None
        else Belief(verdict=Verdict.DECIDED, method=BeliefMethod.PARSED, probs=(p, 1 - p))
    )
    return Judgment(
        debate_id=debate.id, judge=judge, kind=JudgeKind.MODEL, orders=debate.orders, final=final
    )


def test_filters_find_what_the_report_counts(debated, index) -> None:
    made, report = index(debated), build_report(debated.transcripts())
    for arm in report.arms:
        base = [("protocol", arm.arm.protocol), ("judge", arm.arm.judge)]
        assert len(ask(made, *base)) == arm.accuracy.num
        by_verdict = {
            verdict: len(ask(made, *base, ("verdict", verdict)))
            for verdict in ("decided", "tie", "abstain", "invalid")
        }
        assert sum(by_verdict.values()) == arm.accuracy.num
        right = len(ask(made, *base, ("result", "right")))
        wrong = len(ask(made, *base, ("result", "wrong")))
        assert right + wrong == by_verdict["decided"]
        if arm.accuracy.accuracy is not None:
            assert right / (right + wrong) == pytest.approx(arm.accuracy.accuracy.value)


async def test_a_verdict_and_a_judge_are_of_one_ruling(store, index) -> None:
    debates, _ = await run_scripted(store, [make_question(n) for n in range(2)], ["naive"])
    store.add(judged(debates[0], "one", 0.9), judged(debates[0], "two", None))
    store.add(judged(debates[1], "one", None), judged(debates[1], "two", 0.2))
    made = index(store)
    assert ask(made, ("judge", "one"), ("verdict", "invalid")) == [debates[1].id]
    assert ask(made, ("judge", "two"), ("verdict", "invalid")) == [debates[0].id]
    assert set(ask(made, ("verdict", "invalid"))) == {each.id for each in debates}


async def test_judges_that_decide_differently_disagree(store, index) -> None:
    debates, _ = await run_scripted(store, [make_question(n) for n in range(2)], ["naive"])
    for debate, other in zip(debates, (0.9, 0.1), strict=True):
        store.add(judged(debate, "one", 0.9), judged(debate, "two", other))
    made = index(store)
    disagreeing = set(ask(made, ("judges", "disagree")))
    assert debates[1].id in disagreeing


def test_pages_by_key_hold_each_debate_once_in_both_directions(debated, index) -> None:
    made = index(debated)
    for filters in ((), (("protocol", "debate"),), (("protocol", "debate"), ("protocol", "naive"))):
        whole = made.listing(ListQuery(filters), limit=1000)
        down, before = [], None
        while True:
            page = made.listing(ListQuery(filters, before=before), limit=4)
            down += page.rows
            if page.older is None:
                break
            before = page.older
        assert [row.id for row in down] == [row.id for row in whole.rows]
        up, after = [], down[-1].seq
        while after is not None:
            page = made.listing(ListQuery(filters, after=after), limit=4)
            up[:0] = page.rows
            after = page.newer
        assert [row.id for row in up] == [row.id for row in down[:-1]]
        assert whole.total == len(down) > 4


async def test_debates_are_found_by_run_and_by_tag(store, index) -> None:
    begin(store, "one", size="small", team="x")
    first, _ = await run_scripted(store, [make_question(n) for n in range(2)], ["naive"])
    begin(store, "two", size="large", team="x")
    second, _ = await run_scripted(store, [make_question(2)], ["naive"])
    store.include({first[0].id: first[0].id})
    made = index(store)
    assert set(ask(made, ("run", "one"))) == {each.id for each in first}
    assert set(ask(made, ("run", "two"))) == {second[0].id, first[0].id}
    assert ask(made, ("run", "one"), ("tag", "size=large")) == [first[0].id]
    assert len(ask(made, ("tag", "team=x"))) == 3
    assert len(ask(made, ("tag", "size=small"), ("tag", "size=large"))) == 3
    assert ask(made, ("tag", "size=none")) == ask(made, ("run", "on")) == []
    assert dict(made.values()["tag"])["team=x"] == 3
    assert set(ask(made, ("run", "two"), words="lamp")) == {second[0].id, first[0].id}


async def test_a_tag_that_a_run_gets_later_is_of_all_its_debates(store, index) -> None:
    begin(store, "one")
    debates, _ = await run_scripted(store, [make_question(n) for n in range(2)], ["naive"])
    made = index(store)
    assert "tag" not in made.values()
    begin(store, "one", size="small")
    store.include({debates[0].id: debates[0].id})  # as a command does that finds it complete
    made.update()
    assert set(ask(made, ("tag", "size=small"))) == {each.id for each in debates}


def test_a_page_out_of_a_set_is_what_a_query_would_find(debated, index) -> None:
    made = index(debated)
    whole = made.listing(ListQuery((("protocol", "naive"),)), limit=100).rows
    for place in range(len(whole) - 1):
        below = ListQuery((("protocol", "naive"),), before=whole[place].seq)
        assert made.listing(below, limit=2).rows == whole[place + 1 : place + 3]
        above = ListQuery((("protocol", "naive"),), after=whole[place + 1].seq)
        assert made.listing(above, limit=1).rows == whole[place : place + 1]
    far = ListQuery((("protocol", "naive"),), before=10**18)
    assert made.listing(far, limit=100).rows == whole
    assert made.listing(ListQuery((("protocol", "naive"),), after=10**18)).rows == ()


def test_words_are_found_where_they_stand(debated, index) -> None:
    made = index(debated)
    everything = set(ask(made))
    assert set(ask(made, words="brass lamp")) == everything
    spoken = set(ask(made, words='"nobody has ever seen"'))
    assert spoken == set(ask(made, ("protocol", "debate"))) | set(
        ask(made, ("protocol", "consultancy"))
    )
    assert set(ask(made, ("protocol", "debate"), words="nobod* seen")) == set(
        ask(made, ("protocol", "debate"))
    )
    assert ask(made, words="nobody elephant") == []
    hit = made.listing(ListQuery(words="nobody")).rows[0]
    assert hit.found_in.startswith("turn-")
    assert hit.found_in.removeprefix("turn-") in {
        turn.id for turn in debated.transcript(hit.id).turns
    }


@given(st.text(max_size=40))
def test_no_words_are_an_error(shared_index, words) -> None:
    shared_index.listing(ListQuery(words=words))


@pytest.fixture(scope="module")
def shared_index(debated, tmp_path_factory):
    made = Index(debated, tmp_path_factory.mktemp("index") / "index.db")
    made.update()
    yield made
    made.close()


def test_operators_are_words() -> None:
    assert match_of('a OR "b c" NEAR(d) e*') == '"a" AND "OR" AND "b c" AND "NEAR(d)" AND "e"*'
    assert match_of('" " - * ""') == ""


async def test_what_is_written_meanwhile_comes_in(store, index) -> None:
    [first], _ = await run_scripted(store, [make_question(0)], ["naive"])
    made = index(store)
    [second], _ = await run_scripted(store, [make_question(1)], ["debate"])
    store.add(judged(first, "late", None))
    made.update()
    assert ask(made) == [second.id, first.id]
    assert ask(made, ("judge", "late")) == [first.id]
    assert ask(made, words="nobody ever") == [second.id]
    assert made.progress.whole
    assert made.progress.done == 2


async def test_a_debate_that_is_not_finished_says_so(store, index) -> None:
    debates, _ = await run_scripted(store, [make_question(0)], ["naive"])
    half = debates[0].model_copy(update={"seed": 99})
    store.add(half)
    made = index(store)
    assert ask(made, ("status", "unfinished")) == [half.id]


def test_an_index_of_another_store_is_made_anew(debated, tmp_path) -> None:
    path = tmp_path / "index.db"
    made = Index(debated, path)
    made.update()
    made.close()
    with Store.open(tmp_path / "other.db") as other:
        again = Index(other, path)
        again.update()
        assert again.listing(ListQuery()).rows == ()
        assert again.listing(ListQuery(words="lamp")).rows == ()
        again.close()


def test_a_damaged_index_is_made_anew(debated, tmp_path) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(b"SQLite format 3\0" + b"nonsense" * 1000)
    made = Index(debated, path)
    made.update()
    assert len(made.listing(ListQuery()).rows) == 18
    made.close()


def test_a_second_viewer_reads_what_the_first_one_makes(debated, tmp_path) -> None:
    path = tmp_path / "index.db"
    first, second = Index(debated, path), Index(debated, path)
    first.update()
    second.update()
    assert ask(first) == ask(second) != []
    first.close()
    second.update()
    assert second.progress.whole
    second.close()


def test_nothing_is_written_to_the_store(debated, tmp_path) -> None:
    file = Path(debated.url)
    before = debated.seal().digest, debated.counts(), sorted(p.name for p in file.parent.iterdir())
    made = Index(debated, tmp_path / "index.db")
    made.update()
    for words, filters in itertools.product(("", "lamp"), ((), (("protocol", "debate"),))):
        made.listing(ListQuery(filters, words))
    made.close()
    after = debated.seal().digest, debated.counts(), sorted(p.name for p in file.parent.iterdir())
    assert after == before
