"""Debates over a real HTTP server whose answers are not answers, and what is learnt from others."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from oversight.cli import running
from oversight.cli.main import run as command
from oversight.cli.running import print_summary
from oversight.config import RunSettings
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.graphs.runtime import Runtime, Words
from oversight.store import Store
from oversight.types import FinishReason, NoAnswer, Purpose, Transcript, Verdict
from tests.engines.answering import BELIEF, SPEECH, Body, answer, asks_judge, debates, settings

SECRET = "my option is the wrong one and nobody may notice"


def asks_notes(asked: Body) -> bool:
    return "private notes" in asked["messages"][-1]["content"]


def well(asked: Body) -> str:
    return BELIEF if asks_judge(asked) else SPEECH


def only(given: RunSettings) -> Transcript:
    with Store.open(given.store, create=False) as store:
        [found] = store.transcripts(complete=None)
    return found


# --- thoughts ---


@pytest.mark.parametrize(
    "write",
    [
        lambda text: {"content": f"<think>\n{SECRET}\n</think>\n\n{text}"},
        lambda text: {"content": f"{SECRET}\n</think>\n\n{text}"},
        lambda text: {"content": f"[THINK]{SECRET}[/THINK]{text}"},
        lambda text: {"content": f"analysis{SECRET}assistantfinal{text}"},
        lambda text: {"content": text, "reasoning_content": SECRET},
        lambda text: {"content": text, "reasoning": SECRET, "reasoning_content": SECRET},
        lambda text: {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": SECRET}]},
                {"type": "text", "text": text},
            ]
        },
        lambda text: {
            "content": [
                {"type": "reasoning", "text": SECRET},
                {"type": "output_text", "text": text},
            ]
        },
    ],
    ids=["tags", "opened", "square", "bare", "apart", "twice", "parts", "typed"],
)
def test_thoughts_are_kept_as_reasoning_and_reach_nobody(
    server: Any, tmp_path: Path, write: Callable[[str], Body]
) -> None:
    server.reply = lambda asked, _: answer(**write(well(asked)))
    given = settings(server, tmp_path)
    run = debates(given)
    found = only(given)

    assert (run.progress.done, run.progress.failures) == (1, [])
    assert [turn.text for turn in found.turns] == [SPEECH, SPEECH]
    assert all(turn.reasoning == f"{SECRET}\n\n{SPEECH}\n\n{SECRET}" for turn in found.turns)
    final = found.judgments[0].final
    assert (final.verdict, final.raw) == (Verdict.DECIDED, BELIEF)
    assert sorted(final.probs or ()) == [pytest.approx(0.2), pytest.approx(0.8)]
    assert SECRET not in json.dumps(server.asked)


def test_no_thought_is_in_the_public_text_of_an_export(server: Any, tmp_path: Path) -> None:
    given = settings(server, tmp_path, protocols=["debate_single_turn_best_of_n"])
    server.reply = lambda asked, n: answer(
        f"<think>{SECRET}</think>"
        + (f"Probability of A: {30 + n}%" if asks_judge(asked) else f"{SPEECH} {n}")
    )
    debates(given)
    with Store.open(given.store, create=False) as store:
        for layout in ("preference", "kwise", "unpaired"):
            out = tmp_path / f"{layout}.jsonl"
            assert command(["export", str(out), "--store", given.store, "--layout", layout]) == 0
            assert SPEECH in out.read_text()
            assert SECRET not in out.read_text()
        public = [turn.text for each in store.transcripts() for turn in each.turns]
    assert public
    assert not any(SECRET in text for text in public)


async def test_a_thought_is_never_on_the_screen_as_speech(server: Any, tmp_path: Path) -> None:
    from oversight.graphs.planning import cast, plan
    from oversight.graphs.running import run_debates
    from oversight.protocols import load

    server.reply = lambda asked, _: answer(f"{SECRET}.\n</think>\n{well(asked)}")
    given = settings(server, tmp_path)
    heard: list[str] = []

    def listen(event: Any) -> None:
        if isinstance(event, Words):
            heard.append(event.text)

    loaded = running.load_questions(given.dataset, seed=0)
    async with cast(given.cast(), given.engines) as actors:
        planned = list(plan(loaded.questions, [load("debate_single_turn")], actors.specs))
        with Store.open(given.store) as store:
            await run_debates(planned, Runtime(store, actors, listen, live=True), concurrency=1)

    assert "".join(heard) == SPEECH * 2


# --- nothing said ---


@pytest.mark.parametrize(
    ("nothing", "cause", "words"),
    [
        (answer(None, "content_filter"), NoAnswer.CONTENT_FILTER, "content filter"),
        (answer(None, refusal="I will not argue."), NoAnswer.REFUSAL, "I will not argue."),
        (answer("I cannot.", "refusal"), NoAnswer.REFUSAL, "I cannot."),
        (answer(None, "tool_calls", tool_calls=[{"id": "1"}]), NoAnswer.TOOL_CALLS, "tool"),
        (answer(None, "stop", tool_calls=[{"id": "1"}]), NoAnswer.TOOL_CALLS, "tool"),
        (answer(f"<think>{SECRET}", "length"), NoAnswer.THOUGHT_CUT, "max_tokens = 400"),
        (answer(None, "length", reasoning=SECRET), NoAnswer.THOUGHT_CUT, "max_tokens = 400"),
        (answer(f"<think>{SECRET}</think>\n"), NoAnswer.THOUGHT_ONLY, "enable_thinking = false"),
        (answer(None, "length"), NoAnswer.LENGTH, "max_tokens = 400"),
        (answer(""), NoAnswer.EMPTY, "empty"),
        (answer(" \n\u200b"), NoAnswer.EMPTY, "empty"),
        (answer("<quote></quote>"), NoAnswer.EMPTY, "empty"),
        (answer("<|im_end|>"), NoAnswer.EMPTY, "empty"),
        (
            answer(f"<think>{SECRET}</think>\n<quote> </quote><|im_end|>"),
            NoAnswer.THOUGHT_ONLY,
            "thought",
        ),
    ],
    ids=lambda value: value.value if isinstance(value, NoAnswer) else "",
)
def test_who_says_nothing_three_times_fails_the_debate_with_the_cause(
    server: Any, tmp_path: Path, nothing: Body, cause: NoAnswer, words: str
) -> None:
    server.reply = lambda asked, _: (
        nothing if not (asks_judge(asked) or asks_notes(asked)) else answer(well(asked))
    )
    given = settings(server, tmp_path)
    run = debates(given)
    [failure] = run.progress.failures

    assert run.progress.done == 0
    assert failure.cause == cause
    assert "asked for a speech and said nothing in 3 attempts" in failure.error
    assert words in failure.error
    outcome = only(given).outcome
    assert outcome is not None
    assert (outcome.status.value, outcome.cause) == ("failed", cause.value)
    assert only(given).judgments == ()


HALF = "The lantern stood in the"


@pytest.mark.parametrize(
    ("half", "cause", "words"),
    [
        (answer(HALF, "content_filter"), NoAnswer.CONTENT_FILTER, "content filter cut the answer"),
        (answer(HALF, "SAFETY"), NoAnswer.CONTENT_FILTER, "content filter cut the answer"),
        (answer(HALF, "tool_calls", tool_calls=[{"id": "1"}]), NoAnswer.TOOL_CALLS, "extra_body"),
    ],
)
def test_half_an_answer_is_no_turn_and_fails_the_debate_with_its_end(
    server: Any, tmp_path: Path, half: Body, cause: NoAnswer, words: str
) -> None:
    server.reply = lambda asked, _: answer(well(asked)) if asks_judge(asked) else half
    given = settings(server, tmp_path, debater={"reasoning": False})
    [failure] = debates(given).progress.failures
    found = only(given)

    assert failure.cause == cause
    assert "asked for a speech and gave no whole answer in 3 attempts" in failure.error
    assert f"behind '{HALF}'" in failure.error
    assert words in failure.error
    assert found.turns == ()


def test_a_judge_whom_a_filter_cuts_off_behind_numbers_is_not_read(
    server: Any, tmp_path: Path
) -> None:
    server.reply = lambda asked, _: answer(
        well(asked), "content_filter" if asks_judge(asked) else "stop"
    )
    given = settings(server, tmp_path)
    [failure] = debates(given).progress.failures
    assert (failure.cause, only(given).judgments) == (NoAnswer.CONTENT_FILTER, ())


def test_half_an_answer_is_asked_for_again_and_counted(server: Any, tmp_path: Path) -> None:
    cut: set[str] = set()

    def reply(asked: Body, _: int) -> Body:
        key = json.dumps(asked["messages"])
        with server.lock:
            first = key not in cut
            cut.add(key)
        return answer(HALF, "content_filter") if first else answer(well(asked))

    server.reply = reply
    given = settings(server, tmp_path, debater={"reasoning": False})
    assert debates(given).progress.done == 1
    assert [turn.text for turn in only(given).turns] == [SPEECH, SPEECH]
    with Store.open(given.store, create=False) as store:
        [ends] = build_report(store.transcripts()).answer_ends
    assert (ends.num, ends.num_unanswered, ends.finish_reasons["content_filter"]) == (6, 3, 3)


def test_a_sampled_answer_is_tried_again_with_another_seed_and_both_calls_are_recorded(
    server: Any, tmp_path: Path
) -> None:
    seen: set[str] = set()

    def reply(asked: Body, _: int) -> Body:
        key = json.dumps(asked["messages"])
        if key in seen or asks_judge(asked):
            return answer(well(asked))
        seen.add(key)
        return answer(None, "content_filter")

    server.reply = reply
    given = settings(server, tmp_path, debater={"reasoning": False})
    run = debates(given)
    first = only(given).turns[0]

    assert run.progress.done == 1
    assert [s.purpose for s in first.samples] == [Purpose.UNANSWERED, Purpose.SPEECH]
    assert [s.finish_reason for s in first.samples] == [
        FinishReason.CONTENT_FILTER,
        FinishReason.STOP,
    ]
    speeches = [asked for asked in server.asked if not asks_judge(asked)]
    assert len({asked["seed"] for asked in speeches}) == len(speeches) == 4
    with Store.open(given.store, create=False) as store:
        report = build_report(store.transcripts())
    [ends] = report.answer_ends
    assert ends.finish_reasons["content_filter"] == ends.num_unanswered == 2
    assert any(table.title == "How answers ended" for table in tables(report))


@pytest.mark.parametrize(
    ("debater", "calls"),
    [({"temperature": 0.0}, 1), ({"attempts": 1}, 1), ({"attempts": 2}, 2)],
)
def test_a_greedy_answer_is_not_tried_again_and_the_number_is_a_setting(
    server: Any, tmp_path: Path, debater: Body, calls: int
) -> None:
    server.reply = lambda asked, _: answer("")
    debates(settings(server, tmp_path, debater={"reasoning": False} | debater))
    lasts = [asked["messages"][-1]["content"] for asked in server.asked]

    assert sum("You are Debater A" in last for last in lasts) == calls
    assert sum("You are Debater B" in last for last in lasts) == calls


def test_a_judge_that_only_thinks_fails_the_debate_and_is_not_read(
    server: Any, tmp_path: Path
) -> None:
    server.reply = lambda asked, _: answer(
        f"<think>{BELIEF}\n{SECRET}" if asks_judge(asked) else SPEECH,
        "length" if asks_judge(asked) else "stop",
    )
    given = settings(server, tmp_path)
    [failure] = debates(given).progress.failures

    assert failure.cause == NoAnswer.THOUGHT_CUT
    assert "judge" in failure.error
    assert "asked for a belief" in failure.error


def test_the_others_go_on_and_failures_are_counted_by_cause(server: Any, tmp_path: Path) -> None:
    bad: list[str] = []

    def reply(asked: Body, number: int) -> Body:
        question = asked["messages"][1]["content"].split("<question>")[1].split("</question>")[0]
        with server.lock:
            if len(bad) < 2 and question not in bad:
                bad.append(question)
        if question in bad and not asks_judge(asked):
            return answer(None, "content_filter")
        return answer(well(asked))

    server.reply = reply
    given = settings(
        server, tmp_path, dataset={"dataset": "world", "split": "held_out", "limit": 5}
    )
    run = debates(given)
    out = StringIO()
    print_summary(run, Console(file=out, width=200), short=True)

    assert (run.progress.done, len(run.progress.failures)) == (3, 2)
    assert "5 debates: 3 run, 0 found complete, 2 failed." in out.getvalue()
    assert "2 × content filter: " in out.getvalue()
    with Store.open(given.store, create=False) as store:
        report = build_report(store.transcripts(), failed=store.transcripts(complete=False))
    assert [(each.cause, each.num) for each in report.failures] == [("content_filter", 2)]
    shown = {table.title: table.rows for table in tables(report)}["Debates that failed"]
    assert [row[:2] for row in shown] == [("content filter", "2")]
    server.reply = lambda asked, _: answer(well(asked))
    assert debates(given).progress.done == 2, "the same command tries them again"


# --- servers ---


def test_a_refused_system_role_is_folded_from_then_on(
    server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def reply(asked: Body, _: int) -> Body | tuple[int, Body]:
        if asked["messages"][0]["role"] == "system":
            return 400, {"message": "this model has no system role", "code": 400}
        return answer(well(asked))

    server.reply = reply
    given = settings(server, tmp_path)

    assert debates(given).progress.done == 1
    roles = [[m["role"] for m in asked["messages"]] for asked in server.asked]
    assert roles.count(["system", "user"]) <= 2, "the two that were first in flight"
    assert all(each[0] == "user" for each in roles[4:])
    folded = next(a for a in server.asked if a["messages"][0]["role"] == "user")
    assert folded["messages"][0]["content"].startswith("Two debaters each defend")
    assert sum("system_role" in record.message for record in caplog.records) == 1


def test_the_system_role_is_folded_at_once_if_so_set(server: Any, tmp_path: Path) -> None:
    server.reply = lambda asked, _: answer(well(asked))
    debates(settings(server, tmp_path, engine={"system_role": "fold"}))

    assert {asked["messages"][0]["role"] for asked in server.asked} == {"user"}


def test_refused_parameters_are_named_with_their_setting_and_left_out_by_it(
    server: Any, tmp_path: Path
) -> None:
    def reply(asked: Body, _: int) -> Body | tuple[int, Body]:
        if "top_p" in asked:
            return 400, {"error": {"message": "unknown argument", "param": "top_p"}}
        return answer(well(asked))

    server.reply = reply
    [failure] = debates(settings(server, tmp_path / "a")).progress.failures
    assert 'leave_out = ["top_p"]' in failure.error
    assert failure.cause == "refused_by_server"

    given = settings(server, tmp_path / "b", engine={"leave_out": ["top_p", "seed"]})
    assert debates(given).progress.done == 1
    assert not any({"top_p", "seed"} & set(asked) for asked in server.asked[-5:])
    assert all("temperature" in asked for asked in server.asked)
