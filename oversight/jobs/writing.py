"""New prompts from seeds by a red team: `oversight propose`.

Calls go in rounds. A call of a round is shown a few examples, drawn from the seeds and from what
was taken in earlier rounds, each with a chance in proportion to its distance to the prompts before
it: so novelty is rewarded, and the next prompts grow from the most novel ones. What is written is
read out of the answers, compared with all prompts so far, and taken or left out with its reason.

Every answer is a line of the file of calls as soon as it is there. All else (what was taken, the
next draws, the report) follows from that file, the recipe and the seeds, and from nothing else: a
run that was killed goes on behind the calls that were answered, and ends as one that was not.
"""

from __future__ import annotations

import fcntl
import json
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TextIO

from pydantic import Field, model_validator

from oversight.config import AgentSettings, CastSettings, DatasetSettings, EngineSettings
from oversight.datasets.base import load_questions
from oversight.engines import open_engine
from oversight.errors import AnswerPending, ConfigError, DataError, FileError
from oversight.files import whole_file
from oversight.graphs.planning import cast, check_engines
from oversight.graphs.running import explain, work_through
from oversight.ids import content_id, seed_from
from oversight.redaction import redacted
from oversight.text.new_prompts import PromptIndex, Unusable, WrittenPrompt, written_prompts
from oversight.types import (
    Act,
    Draft,
    Engine,
    EngineSpec,
    FinishReason,
    Orders,
    Role,
    Seat,
    View,
)

CALLS_SUFFIX = ".calls.jsonl"


class WritingSettings(CastSettings):
    """Settings of a run of a red team."""

    incidental: ClassVar[frozenset[str]] = frozenset({"out", "num", "patience", "concurrency"})

    dataset: DatasetSettings
    """The seeds: open prompts of any data set, of chats the last message."""
    agents: dict[Role, AgentSettings]
    """The agent that writes prompts, under the name `red_team`."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    out: Path = Path("written.jsonl")
    """File of the new prompts, a JSON object a line; calls stand beside it, in `….calls.jsonl`."""
    num: int = Field(default=1000, ge=1)
    """New prompts that are wanted."""
    num_examples: int = Field(default=4, ge=1, le=50)
    """Prompts that are shown in a call."""
    num_seeds: int = Field(default=1, ge=0)
    """So many of these at least are seeds, so that what is written stays of their kind."""
    draw: Literal["novelty", "evenly"] = "novelty"
    """Chance of a prompt to be shown: by its distance to those before it, or the same for all."""
    min_distance: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Least distance of a new prompt to every one before it; 0 leaves out equal ones alone."""
    calls_per_round: int = Field(default=32, ge=1)
    """Calls that are drawn for at once; what they give is shown from the next round on."""
    patience: int = Field(default=5, ge=1)
    """Rounds in a row without a new prompt after which the run ends."""
    seed: int = 0
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Most calls in flight at once."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_seeds > self.num_examples:
            raise ValueError(
                f"num_seeds = {self.num_seeds}: at most num_examples = {self.num_examples} are "
                "shown"
            )
        if set(self.agents) != {Role.RED_TEAM}:
            named = ", ".join(sorted(self.agents)) or "none"
            raise ValueError(f"agents: only a red team writes (agents.red_team); named are {named}")
        return self


@dataclass(frozen=True, slots=True)
class NovelPrompt:
    """A seed, or a new prompt that was taken."""

    id: str
    text: str
    distance: float
    """To the nearest prompt before it."""


Examples = tuple[NovelPrompt, ...]


class _Draw:
    """Draws different prompts, each with a chance in proportion to its distance."""

    LEAST = 0.05
    """Weight of the least novel ones: a few far ones must not be all that is ever shown."""

    def __init__(self, among: Sequence[NovelPrompt], *, evenly: bool) -> None:
        self._among = among
        weights = (1.0 if evenly else max(each.distance, self.LEAST) for each in among)
        self._sums = list(accumulate(weights))

    def add_to(self, chosen: list[NovelPrompt], rng: random.Random, number: int) -> None:
        """Draw until `chosen` holds so many; what it holds already is not drawn again."""
        while len(chosen) < number:
            place = bisect_right(self._sums, rng.random() * self._sums[-1])
            drawn = self._among[min(place, len(self._among) - 1)]
            if drawn not in chosen:
                chosen.append(drawn)


@dataclass
class WritingProgress:
    """Counts of a run so far; what earlier runs of the same file did is in them."""

    num: int = 0
    """New prompts wanted."""
    taken: int = 0
    found: int = 0
    """Of these, what calls of earlier runs gave."""
    calls: int = 0
    """Calls that were answered."""
    asked: int = 0
    """Of these in this run."""
    waiting: int = 0
    """Calls without an answer yet, of a batch folder."""
    tokens: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Prompts that were not taken, by reason."""
    distances: list[float] = field(default_factory=list)
    """Of the prompts that were taken, in their order."""
    failures: dict[str, str] = field(default_factory=dict)
    """Reason of each call that failed in this run, by its name."""
    stopped: str = ""
    """Reason why the run ended before all were written."""


Report = Callable[[WritingProgress], None]


class Writing:
    """A run of a red team: its seeds, the prompts so far, and the two files."""

    def __init__(
        self, settings: WritingSettings, open_: Callable[[EngineSpec], Engine] = open_engine
    ) -> None:
        """Check everything; nothing is asked or written yet.

        `open_` opens engines; a batch job has others stand for them.

        Raises:
            ConfigError: A setting is wrong.
            DataError: A seed cannot be used.
            UnknownNameError: There is no agent, engine or data set of a name.
        """
        self.settings = settings
        self.cast = cast(settings.agents, settings.engines, open_)
        check_engines(settings.agents, settings.engines)
        self.agent = self.cast.agents[Role.RED_TEAM]
        # A red team of one's own may say nothing of how many prompts it is asked for in a call.
        self._per_call = int(getattr(getattr(self.agent, "config", None), "num_prompts", 1))
        self.calls_file = settings.out.with_suffix(CALLS_SUFFIX)
        self.index = PromptIndex()
        self.prompts: list[NovelPrompt] = []
        self.num_seeds = 0
        loaded = load_questions(settings.dataset, seed=settings.seed)
        for question in loaded.questions:
            near = self.index.nearest(question.text)
            if not near.is_same:
                self._add(NovelPrompt(question.id, question.text, near.distance))
                self.num_seeds += 1
        drawn_by = settings.identity()
        for name in ("dataset", "agents", "engines"):
            drawn_by.pop(name)
        self.run_id = content_id(
            "prompts",
            {key: str(value) for key, value in drawn_by.items()},
            self.cast.specs[Role.RED_TEAM].model_dump(mode="json"),
            [[each.id, each.text] for each in self.prompts],
        )
        self.progress = WritingProgress(num=settings.num)
        self.examples_of: dict[tuple[int, int], Examples] = {}

    def _add(self, prompt: NovelPrompt) -> None:
        self.index.add(prompt.text)
        self.prompts.append(prompt)

    # --- the run ---

    async def run(self, on_progress: Report | None = None) -> WritingProgress:
        """Write until there are as many as are wanted, or nothing new comes.

        Raises:
            ConfigError: The files are of another run, or cannot be written.
            DataError: The file of calls is damaged.
            BudgetExceededError: An engine's budget is used up; what was answered stands.
        """
        with ExitStack() as stack:
            stack.enter_context(_only_one(self.calls_file))
            answered = self._answered()
            self._begin_out()
            files = (self.calls_file, self.settings.out)
            calls, out = (
                stack.enter_context(path.open("a", encoding="utf-8", newline="\n"))
                for path in files
            )
            async with self.cast:
                await self._rounds(answered, calls, out, on_progress)
        return self.progress

    async def _rounds(
        self,
        answered: dict[tuple[int, int], dict[str, Any]],
        calls: TextIO,
        out: TextIO,
        on_progress: Report | None,
    ) -> None:
        size = self.settings.calls_per_round
        round_, barren = 0, 0
        while self.progress.taken < self.settings.num:
            before = self.progress.taken
            places = [(round_, call) for call in range(size)]
            self.examples_of = self._draws(places)
            went_on = await self._round(places, answered, calls, out, on_progress)
            if not went_on:
                return
            barren = 0 if self.progress.taken > before else barren + 1
            if barren >= self.settings.patience:
                self.progress.stopped = (
                    f"nothing new was written in {barren} rounds of {size} calls: raise the "
                    "temperature, lower min_distance, or give other seeds"
                )
                return
            round_ += 1

    async def _round(
        self,
        places: Sequence[tuple[int, int]],
        answered: dict[tuple[int, int], dict[str, Any]],
        calls: TextIO,
        out: TextIO,
        on_progress: Report | None,
    ) -> bool:
        """Ask the calls of a round that are needed, and take their prompts in the calls' order.

        Returns False where the run cannot go on: calls wait for answers, or all of them failed.
        """
        failed: dict[tuple[int, int], str] = {}
        taken_up_to = 0

        def take_in_order() -> None:
            nonlocal taken_up_to
            while taken_up_to < len(places):
                place = places[taken_up_to]
                if place not in answered and place not in failed:
                    break
                if place in answered:
                    self._take(answered.pop(place), out)
                taken_up_to += 1
            if on_progress:
                on_progress(self.progress)

        async def ask(place: tuple[int, int]) -> None:
            try:
                draft = await self.agent.act(self._view(place))
            except AnswerPending:
                self.progress.waiting += 1
                return
            except Exception as error:
                message, _ = explain(error, f"call {_name(place)}")
                failed[place] = self.progress.failures[_name(place)] = redacted(message)
            else:
                line = self._line(place, draft)
                _write(calls, line, self.calls_file)
                answered[place] = line
                self.progress.asked += 1
            take_in_order()

        take_in_order()
        while self.progress.taken < self.settings.num and taken_up_to < len(places):
            open_ = [each for each in places[taken_up_to:] if each not in answered | failed]
            wanted = self.settings.num - self.progress.taken
            # No more calls than could be needed, each of which may give as many as it is asked for.
            some = open_[: -(-wanted // max(self._per_call, 1))]
            await work_through((each for each in some), ask, self.settings.concurrency)
            if self.progress.waiting:
                return False
        if failed and len(failed) == len(places):
            self.progress.stopped = f"all {len(places)} calls of a round failed"
            return False
        # Another call has taken a failed one's place: its round is not gone back to.
        for place, message in failed.items():
            _write(calls, {**self._about(place), "error": message}, self.calls_file)
        return True

    def _draws(self, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Examples]:
        """The examples of each call: from the seeds and from what was taken in earlier rounds."""
        evenly = self.settings.draw == "evenly"
        seeds = _Draw(self.prompts[: self.num_seeds], evenly=evenly)
        known = _Draw(self.prompts, evenly=evenly)
        num_seeds = min(self.settings.num_seeds, self.num_seeds)
        number = min(self.settings.num_examples, len(self.prompts))
        found = {}
        for place in places:
            rng = random.Random(seed_from("examples", self.settings.seed, *place))
            chosen: list[NovelPrompt] = []
            seeds.add_to(chosen, rng, num_seeds)
            known.add_to(chosen, rng, number)
            rng.shuffle(chosen)
            found[place] = tuple(chosen)
        return found

    def _view(self, place: tuple[int, int]) -> View:
        return View(
            debate_id=f"{self.run_id[:12]}-{_name(place)}",
            question="",
            options=(),
            orders=Orders(options=(), defends=(), shown=(Seat.A, Seat.B)),
            source=None,
            turns=(),
            seat=Seat.A,
            role=Role.RED_TEAM,
            act=Act.PROPOSE,
            step=0,
            round=0,
            num_rounds=0,
            max_words=0,
            seed=seed_from("prompts", self.settings.seed, *place),
            examples=tuple(each.text for each in self.examples_of[place]),
        )

    # --- what is written down ---

    def _about(self, place: tuple[int, int]) -> dict[str, Any]:
        examples = self.examples_of[place]
        return {
            "id": _name(place),
            "run": self.run_id,
            "round": place[0],
            "call": place[1],
            "seed_ids": [each.id for each in examples],
            "seeds": [each.text for each in examples],
        }

    def _line(self, place: tuple[int, int], draft: Draft) -> dict[str, Any]:
        """The line of an answered call; its `prompt` and `completion` are a row for trainers."""
        asked = draft.prompts[-1].prompt.chat() if draft.prompts else []
        tokens = sum(s.usage.prompt_tokens + s.usage.completion_tokens for s in draft.samples)
        ended = draft.samples[-1].finish_reason if draft.samples else FinishReason.STOP
        return {
            **self._about(place),
            "principles": list(draft.under.principles) if draft.under else [],
            "prompt": asked,
            "completion": draft.text,
            "finish_reason": ended.value,
            "tokens": tokens,
        }

    def _take(self, line: Mapping[str, Any], out: TextIO) -> None:
        """Take the prompts of an answer; what is not taken is counted."""
        progress = self.progress
        if "error" in line:
            progress.left_out["failed calls"] += 1
            return
        progress.calls += 1
        progress.tokens += int(line["tokens"])
        is_cut = line["finish_reason"] == FinishReason.LENGTH.value
        for each in written_prompts(line["completion"], several=self._per_call > 1, is_cut=is_cut):
            if progress.taken >= self.settings.num:
                progress.left_out["beyond the number wanted"] += 1
                continue
            self._judge(line, each, out)

    def _judge(self, line: Mapping[str, Any], written: WrittenPrompt, out: TextIO) -> None:
        """Take one prompt, or count it as left out."""
        progress = self.progress
        if written.fault is not None:
            progress.left_out[written.fault.value] += 1
            return
        near = self.index.nearest(written.text)
        if near.is_same or near.distance < self.settings.min_distance:
            fault = Unusable.DOUBLED if near.is_same else Unusable.NEAR
            progress.left_out[fault.value] += 1
            return
        named = "" if near.index is None else self.prompts[near.index].id
        id_ = f"prompt-{content_id('', written.text)[:12]}"
        self._add(NovelPrompt(id_, written.text, near.distance))
        progress.taken += 1
        progress.found += not progress.asked
        progress.distances.append(near.distance)
        row = {
            "id": id_,
            "prompt": written.text,
            "meta": {
                "distance": round(near.distance, 4),
                "nearest": named,
                "seeds": line["seed_ids"],
                "principles": line["principles"],
                "call": line["id"],
            },
        }
        _write(out, row, self.settings.out)

    def _answered(self) -> dict[tuple[int, int], dict[str, Any]]:
        """The calls that the file of calls holds; a last line that was cut short is taken off.

        Raises:
            ConfigError: They are of another run, or the prompts are there without their calls.
            DataError: A line is none of such a file.
        """
        path = self.calls_file
        found: dict[tuple[int, int], dict[str, Any]] = {}
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FileError.of("out", path, error) from error
        if not data.strip() and self.settings.out.exists() and self.settings.out.stat().st_size:
            raise ConfigError(
                f"out = {str(self.settings.out)!r} is there already, and {str(path)!r}, which "
                "would tell of its calls, is not: name another file, or remove it"
            )
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
        for number, text in enumerate(data[:whole].splitlines(), start=1):
            try:
                line = json.loads(text)
                place = (int(line["round"]), int(line["call"]))
                run = line["run"]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise DataError(
                    f"{path}:{number}: no line of a file of calls; mend it, or name another out"
                ) from None
            if run != self.run_id:
                raise ConfigError(
                    f"{str(path)!r} holds calls of another recipe, other seeds or another model: "
                    f"out = {str(self.settings.out)!r} cannot be gone on with; name another file"
                )
            found.setdefault(place, line)
        return found

    def _begin_out(self) -> None:
        """Empty the file of prompts: what it held follows from the calls, and is written anew."""
        with whole_file(self.settings.out, "out") as part:
            part.touch()


def _name(place: tuple[int, int]) -> str:
    return f"{place[0]}-{place[1]}"


def _only_one(path: Path) -> Any:
    """Hold the file of calls against a second process; makes it if it is not there.

    Raises:
        ConfigError: Another process writes to it.
        FileError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise FileError.of("out", path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(
            f"out: another process writes to {str(path)!r}; wait for it, or name another file"
        ) from None
    return file


def _write(file: TextIO, line: Mapping[str, Any], path: Path) -> None:
    try:
        file.write(redacted(json.dumps(line, ensure_ascii=False)) + "\n")
        file.flush()
    except OSError as error:
        raise FileError.of("out", path, error) from error
