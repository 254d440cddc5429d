"""Judging line by line leaves the same record as any other way, and shows nothing unsanitised."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.errors import StoreError
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.judging.desk import Desk
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.store.claims import ItemState
from oversight.text.terminal import visible
from oversight.tui.linear.queues import run_linear
from oversight.tui.marking import called
from oversight.types import Act, EventKind, Option, Question, Role, Seat, Source, Verdict

HOSTILE = json.loads((Path(__file__).parents[1] / "text" / "hostile.json").read_text())
SOURCE = Source(
    text="At nine Ada carried the brass lamp to the attic. At ten Bo carried it to the cellar."
)
SPEECH = (
    "Look: <quote>At nine Ada carried the brass lamp to the attic.</quote> Then "
    "<quote>At ten Bo carries it to the cellar.</quote> and <quote>it was never seen again by "
    "anyone at all</quote> and <quote>the</quote>."
)
MODEL = "secret-model-9000"
DEBATER = {
    "agent": "debater",
    "settings": {"reasoning": False, "max_tokens": 50_000},
    "engine": "speakers",
}


class Session:
    """A judge who types given lines, and everything that they were shown."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.settings = JudgingSettings.parse(
            {"judge": "anna", "shuffle_sides": False} | settings, where="test"
        )
        self.shown = ""
        """The text written to the judge, without what they typed."""

    async def type(self, *lines: str) -> str:
        """Types the lines, ends the input, and returns all that then stands on the terminal."""
        given = iter(lines)
        written: list[str] = []
        shown: list[str] = []

        def read(prompt: str) -> str | None:
            line = next(given, None)
            written.append(f"{prompt}{line}")
            return line

        def write(text: str) -> None:
            written.append(text)
            shown.append(text)

        await run_linear(Desk(self.store, self.settings), read=read, write=write)
        self.shown = "\n".join(shown)
        return "\n".join(written)

    def events(self) -> list[EventKind]:
        [debate_id] = self.store.debate_ids()
        return [event.kind for event in self.store.events("anna", debate_id)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def question(number: int = 0, **changes: Any) -> Question:
    given: dict[str, Any] = {
        "id": f"q{number}",
        "dataset": "house",
        "text": f"Where is lamp {number}?",
        "options": (Option(text="the attic"), Option(text="the cellar")),
        "correct": 1,
        "source": SOURCE,
    }
    return Question(**(given | changes))


async def add(
    store: Store, protocol: str, *questions: Question, judge: str = "lexical", **script: Any
) -> None:
    """Debates of scripted debaters, run as far as they go without a person."""
    settings = {"fallback": SPEECH, "model": MODEL} | script
    agents = {Role.JUDGE: AgentSettings(agent=judge), Role.DEBATER: AgentSettings(**DEBATER)}
    engines = {"speakers": EngineSettings(engine="scripted", settings=settings)}
    async with cast(agents, engines) as players:
        planned = list(plan(questions, [protocols.load(protocol)], players.specs))
        if judge == "human":
            for debate, asked in planned:
                store.add(asked, debate)
        else:
            await run_debates(planned, Runtime(store, players), concurrency=2)


def own_judgments(store: Store) -> list[Any]:
    return [j for t in store.transcripts(complete=None) for j in t.judgments if j.judge == "anna"]


async def test_a_recorded_debate_is_read_round_by_round_and_judged(store: Store) -> None:
    await add(store, "debate", question())
    session = Session(store, price_per_round=0.1)
    text = await session.type(
        "1", "belief B 60", "next", "b 20", "n", "", "lean 2", "why The second quote.", "send",
        "queue", "quit",
    )  # fmt: skip
    [judgment] = own_judgments(store)
    options = store.transcript(judgment.debate_id).debate.orders.options
    by_letter = {
        letter: judgment.final.probs[index] for letter, index in zip("AB", options, strict=True)
    }
    assert by_letter == {"A": 0.2, "B": 0.8}
    assert [step for step, _ in judgment.trajectory] == [0, 2]
    assert judgment.rationale == "The second quote."
    assert judgment.leaned_on == ((store.transcript(judgment.debate_id).spoken()[0].id, 1),)
    kinds = [kind for kind in session.events() if kind is not EventKind.ATTENTION]
    assert kinds == [
        EventKind.OPENED, EventKind.REVEALED, EventKind.BELIEF, EventKind.REVEALED,
        EventKind.BELIEF, EventKind.REVEALED, EventKind.LEANED,
        EventKind.RATIONALE, EventKind.SENT, EventKind.CLOSED,
    ]  # fmt: skip
    assert EventKind.ATTENTION in session.events()
    assert "Right is: the cellar" in text[text.index("Sent.") :]
    assert "0.30 of it paid" in text
    assert "Right is" not in text[: text.index("Sent.")]
    assert store.check() == []


async def test_turns_come_round_by_round_with_quotes_marked_in_words(store: Store) -> None:
    await add(store, "debate", question())
    text = await Session(store).type("1", "next", "next", "next")
    rounds = [text.index(f"Turn {number}.") for number in range(1, 7)]
    prompts = [place for place in range(len(text)) if text.startswith("> next", place)]
    assert rounds[1] < prompts[0] < rounds[2] < rounds[3] < prompts[1] < rounds[4]
    assert "[verified] “At nine Ada carried the brass lamp to the attic.”" in text
    assert "[near; the source says “At ten Bo carried it to the cellar”] “At ten Bo carries" in text
    assert "[not found] “it was never seen again by anyone at all”" in text
    assert "[too short] “the”" in text
    assert "Quotes of turn 2: 5 verified, 6 near, 7 not found, 8 too short." in text
    assert "All is read" in text


async def test_sides_are_named_and_models_are_not(store: Store) -> None:
    await add(store, "debate", question())
    text = await Session(store).type("1", "next", "next", "status", "verdict 2", "send", "queue")
    assert "Debater for A" in text
    assert "Debater for B" in text
    assert MODEL not in text
    assert "scripted" not in text
    assert "lexical" not in text


async def test_the_end_of_the_input_keeps_all_work_and_the_next_session_goes_on(
    store: Store,
) -> None:
    await add(store, "debate", question())
    await Session(store).type("1", "belief 70", "why Half a thought")
    [item] = store.queue("anna")
    assert item.state is ItemState.BEGUN
    text = await Session(store).type("next", "status", "next", "next", "send")
    assert "Rationale: Half a thought" in text
    assert text.count("Turn 1.") == 1
    [judgment] = own_judgments(store)
    assert max(judgment.final.probs) == 0.7
    assert judgment.rationale == "Half a thought"


async def test_undo_revise_skip_and_verdicts(store: Store) -> None:
    await add(store, "debate_single_turn", question(0), question(1))
    session = Session(store, feedback=False)
    text = await session.type(
        "1", "send", "belief 70", "belief 90", "undo", "verdict cannot tell", "verdict 2", "send",
        "belief 10", "revise", "undo", "belief 80", "send", "next", "skip", "skip 1", "list",
        "unskip 1", "quit",
    )  # fmt: skip
    first, second = own_judgments(store)
    assert (first.final.verdict, first.revision) == (Verdict.TIE, 0)
    assert (second.final.verdict, second.revision) == (Verdict.DECIDED, 1)
    assert max(second.final.probs) == 0.8
    assert "Say first how probable" in text
    assert "It is sent: revise opens it again" in text
    assert "Nothing to take back." in text
    assert "Right is" not in text
    assert "Nothing more waits for you." in text
    assert {item.state for item in store.queue("anna")} == {ItemState.DONE, ItemState.BEGUN}


async def test_a_live_debate_goes_on_as_it_is_judged_and_over_a_break(store: Store) -> None:
    await add(store, "debate_interactive", question(), judge="human")
    script = {"fallback": SPEECH, "model": MODEL, "latency_s": 0.3}
    session = Session(store, engines={"mine": {"engine": "scripted", "settings": script}})
    text = await session.type("1", "next", "belief 60", "next", "ask Debater A: what of ten?")
    assert "Debater for A is writing." in text
    assert "It waits for your belief" in text
    assert text.count("Turn 1.") == 1
    text = await Session(store).type(
        "next", "send", "belief 80", "next", "next", "belief 90", "end", "why So.", "send"
    )
    assert "Judge asks" in text
    assert "Debater A: what of ten?" in text
    assert "the verdict comes at its end" in text
    [judgment] = own_judgments(store)
    transcript = store.transcript(judgment.debate_id)
    assert max(judgment.final.probs) == 0.9
    assert transcript.outcome is not None
    asked = [turn.text for turn in transcript.turns if turn.act is Act.ASK]
    assert asked == ["Debater A: what of ten?", ""]
    assert [t.ends for t in transcript.turns if t.act is Act.BELIEVE] == [False, False, True]
    places = [(turn.step, turn.seat) for turn in transcript.turns]
    assert len(places) == len(set(places))
    assert {turn.seat for turn in transcript.turns} == set(Seat)
    assert session.events().count(EventKind.ACTED) == 5
    assert store.check() == []


async def test_an_engine_that_fails_is_said_in_one_line_and_tried_again(store: Store) -> None:
    await add(store, "debate_single_turn", question(), judge="human")
    script = {"fallback": SPEECH, "model": MODEL, "fail_calls": [1]}
    session = Session(store, engines={"mine": {"engine": "scripted", "settings": script}})
    text = await session.type("1", "send", "next", "belief 70", "send")
    assert "call 1 fails" in text
    assert "Nothing of yours is lost: next tries again." in text
    assert text.index("next tries again") < text.index("Turn 1.")
    assert len(own_judgments(store)) == 1


async def test_the_assistant_is_chosen_by_number_and_its_words_marked(store: Store) -> None:
    await add(store, "debate_single_turn", question())
    session = Session(
        store,
        assistance={"full": {"agent": "assistant", "engine": "helper"}},
        engines={
            "helper": {
                "engine": "scripted",
                "settings": {
                    "fallback": "First. Second\nTurn 9. Third [verified]",
                    "fail_calls": [2],
                },
            }
        },
    )
    text = await session.type(
        "1", "assist", "assist 1", "assist 2", "assist 8", "assist 8 Who lies?", "assist 5",
        "assist 6", "assist 6 1", "assist 99", "belief 70", "assist 5", "send",
    )  # fmt: skip
    assert "1. Summarise each side" in text
    assert "  First.\n  Second\n  Turn 9.\n  Third ⟨[⟩verified]\nThe assistant has ended." in text
    assert "call 2 fails" in text
    assert "You have said no belief yet" in text
    assert "Which turn?" in text
    [judgment] = own_judgments(store)
    assert judgment.assistance == ("full: summary", "full: free", "full: critique", "full: against")
    without = Session(store, judge="bo", overlap=2)
    assert "comes without an assistant" in await without.type("next", "assist")


async def test_the_source_is_shown_only_as_far_as_the_protocol_allows(store: Store) -> None:
    await add(store, "debate_single_turn", question())
    text = await Session(store).type("1", "around 1", "around 77", "source", "quotes", "quit")
    assert "no more of the source than the quotes" in text
    assert "Which quote?" in text
    assert "does not show you the source" in text
    assert "Quote 6, turn 2: [near; the source says" in text


async def test_what_is_not_understood_is_said(store: Store) -> None:
    session = Session(store)
    text = await session.type("juggle \x1b[2J", "77", "skip x", "next", "help", "?")
    assert "Not understood: juggle. Type help." in text
    assert "Which item?" in text
    assert "Nothing to judge in this store" in text
    assert "Nothing more waits for you." in text
    await add(store, "debate_single_turn", question())
    text = await session.type(
        "1", "belief", "belief C 10", "belief 500x", "verdict", "help", "say x"
    )
    assert text.count("Give percents") == 3
    assert "verdict and a number" in text
    assert "It is not your turn to speak." in text


async def test_an_item_that_another_judge_has_is_said_to_be_taken(
    store: Store, tmp_path: Path
) -> None:
    await add(store, "debate_single_turn", question())
    with Store.open(tmp_path / "store.db") as window:
        [item] = store.queue("anna")
        window.take_item(item.debate_id, "bo")
        assert "Others have judged it" in await Session(store).type("1")


async def test_a_turn_that_is_missing_is_said_to_be(store: Store) -> None:
    await add(store, "debate_single_turn", question())
    with store._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM turns WHERE seat = 'b'")
    session = Session(store)
    await session.type("1", "turns")
    [transcript] = store.transcripts()
    first, second = (called(transcript.debate, seat, Role.DEBATER) for seat in (Seat.A, Seat.B))
    assert {first, second} == {"Debater for A", "Debater for B"}
    assert session.shown.count(f"Turn 1. {first}") == 2
    missing = [line for line in session.shown.split("\n") if "missing in the store" in line]
    assert len(missing) == 2
    assert missing[0].startswith(second)


async def test_a_very_long_turn_is_written_whole(store: Store) -> None:
    await add(store, "debate_single_turn", question(), fallback="word " * 20_000 + "end")
    text = await Session(store).type("1", "verdict 2", "send")
    assert text.count("word word") >= 2 * 9_999
    assert "Sent." in text


@pytest.mark.parametrize("case", HOSTILE, ids=[case["name"] for case in HOSTILE])
async def test_hostile_words_reach_the_output_only_sanitised(store: Store, case: Any) -> None:
    hostile = case["text"]
    speech = f"It is so. {hostile} <quote>{hostile}</quote> {hostile}"
    if any(unicodedata.category(char) == "Cs" for char in hostile):
        hostile = "half of a pair"  # which questions and names refuse
    asked = question(
        text=f"Where {hostile}?",
        options=(Option(text=f"attic {hostile}"), Option(text=f"cellar {hostile}")),
        dataset=f"d{hostile}",
        source=Source(text=f"{SOURCE.text} {hostile}"),
    )
    await add(store, "debate_single_turn", asked, fallback=speech or "x")
    session = Session(
        store,
        judge=f"anna {hostile}",
        assistance={"full": {"agent": "assistant", "engine": "helper"}},
        engines={"helper": {"engine": "scripted", "settings": {"fallback": speech or "x"}}},
    )
    await session.type(
        hostile, "1", hostile, "quotes", "around 1", "assist 1", f"assist 7 {hostile}",
        "belief 70", f"why {hostile}", "status", "send", f"filter {hostile}",
    )  # fmt: skip
    assert "Sent." in session.shown
    assert [char for char in session.shown if _is_hidden(char)] == []
    assert visible(session.shown) == session.shown


def _is_hidden(char: str) -> bool:
    return char != "\n" and unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


async def test_a_speech_cannot_forge_a_mark_a_turn_or_a_prompt(store: Store) -> None:
    forged = (
        "[verified] “made up”\nTurn 9. Judge, round 1\nRight is: the attic\n> send\n"
        "[ Near; the source says “x”] <quote>words that are not there” [verified] “at all</quote>"
    )
    await add(store, "debate_single_turn", question(), fallback=forged)
    text = await Session(store).type("1", "quotes")
    assert "[verified]" not in text
    assert "[ Near" not in text
    ours = [line for line in text.split("\n") if not line.startswith("  ")]
    assert not any(line.startswith(("Turn 9", "Right is", "> send")) for line in ours)


async def test_words_that_are_no_marks_keep_their_brackets(store: Store) -> None:
    await add(store, "debate_single_turn", question(), fallback="He said [sic] this [1].")
    assert "He said [sic] this [1]." in await Session(store).type("1")


def test_a_script_judges_through_a_pipe(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    made = [sys.executable, "-m", "oversight.cli.main", "debate", "--dataset", "world", "--limit"]
    path = str(tmp_path / "store.db")
    done = subprocess.run(
        [*made, "1", "--no-live", "-p", "debate_single_turn", "--store", path],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    judged = subprocess.run(
        [sys.executable, "-m", "oversight.cli.main", "judge", "--linear", "--store", path,
         "--judge", "piped"],
        input=b"next\nbelief 70\nwhy \xff bytes\nsend\n",
        capture_output=True,
        check=False,
        env=environment,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    assert b"Sent." in judged.stdout
    assert b"\x1b" not in judged.stdout
    assert judged.stderr == b""
    with Store.open(path, create=False) as store:
        [transcript] = store.transcripts()
        assert [j.judge for j in transcript.judgments if j.kind == "human"] == ["piped"]
        assert store.check() == []


def test_an_interrupt_leaves_with_all_work_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    with Store.open(path) as store:
        asyncio.run(add(store, "debate_single_turn", question()))
    program = [sys.executable, "-m", "oversight.cli.main", "judge", "--linear", "--store", path]
    process = subprocess.Popen(
        [*program, "--judge", "anna"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(b"next\nbelief 70\n")
    process.stdin.flush()
    while not process.stdout.readline().startswith(b"Belief: A 70%"):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    with Store.open(path) as store:
        [item] = store.queue("anna")
        assert item.state is ItemState.BEGUN
        assert store.events("anna", item.debate_id)[-1].kind is EventKind.CLOSED
        assert store.take_item(item.debate_id, "bo") == "ours"


async def test_people_on_both_seats_speak_from_their_own_sessions_and_a_third_judges(
    store: Store,
) -> None:
    human = AgentSettings(agent="human")
    agents = {Role.JUDGE: human, Role.DEBATER: human}
    async with cast(agents, {}) as players:
        [(debate, asked)] = plan(
            [question()], [protocols.load("debate_single_turn")], players.specs
        )
    store.add(asked, debate)
    words = "say <quote>At nine Ada carried the brass lamp to the attic.</quote> Up it is."
    first = await Session(store, overlap=3).type("1", "source", "say", words, "say more", "send")
    assert "You speak for seat A" in first
    assert "At ten Bo carried it to the cellar" in first
    assert "waits for another person" in first
    assert "It is not your turn to speak." in first
    assert "You argued in this debate" in first
    second = await Session(store, judge="bo", overlap=3).type("1", "say Down it is.")
    assert "You speak for seat B" in second
    third = await Session(store, judge="cy", overlap=3).type("1", "next", "belief 70", "send")
    assert "[verified] “At nine Ada" in third
    transcript = store.transcript(debate.id)
    assert [turn.seat for turn in transcript.turns] == [Seat.A, Seat.B]
    assert [judgment.judge for judgment in transcript.judgments] == ["cy"]
    assert transcript.outcome is not None


# --- a store that fails ---


def full(*_: Any, **__: Any) -> None:
    raise StoreError("store x: database or disk is full")


async def test_a_session_in_which_the_store_failed_last_ends_with_its_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, "debate_single_turn", question())
    session = Session(store)
    monkeypatch.setattr(store, "take_item", full)
    with pytest.raises(StoreError, match="disk is full"):
        await session.type("1", "belief 70", "quit")


async def test_a_session_that_went_on_when_the_store_did_ends_well(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, "debate_single_turn", question())
    session = Session(store)
    take, calls = store.take_item, []

    def once_full(*given: Any, **named: Any) -> Any:
        calls.append(given)
        return full() if len(calls) == 1 else take(*given, **named)

    monkeypatch.setattr(store, "take_item", once_full)
    said = await session.type("1", "1", "queue", "quit")
    assert said.count("disk is full") == 1
    assert len(calls) == 2
