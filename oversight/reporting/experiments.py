"""Figures of arms as pages: two runs of a store side by side, and experiments from their folders.

Figures of two runs are those of `oversight report --run A --run B`, paired by question, from the
same functions. An experiment, such as a closed circle, has jobs and the arms that they measured,
with links to the training runs and debates behind them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oversight.errors import StoreError
from oversight.evals.observations import Arm, Observation, observations
from oversight.reporting.rendering import Plot, Series, metric_plot
from oversight.reporting.runs import EXPERIMENTS, METRICS, is_training, json_of
from oversight.store import Store
from oversight.store.runs import StoredRun
from oversight.store.schema import key_text
from oversight.text.numbers import percent, points, share

# --- two runs of a store ---

MAX_RUN_DEBATES = 20_000
"""Debates of a run that a page reads; more take longer than a person waits for a page."""
MAX_LISTED = 100
"""Questions that are listed of each kind."""

Params = tuple[tuple[str, str], ...]
"""Filters of a list, as the query of its address."""


@dataclass(frozen=True, slots=True)
class RunFigure:
    """One figure of two runs."""

    protocol: str
    judges: str
    """Empty where the runs have different judges, and all of them are pooled."""
    left: str
    right: str
    left_params: Params
    right_params: Params
    difference: str
    """First minus second, paired by question, in percentage points with its interval."""
    num_questions: int


@dataclass(frozen=True, slots=True)
class QuestionPair:
    """One question that both runs were asked under one protocol."""

    question: str
    protocol: str
    left: tuple[str, ...]
    """Ids of its debates in the first run."""
    right: tuple[str, ...]
    left_said: str
    right_said: str


@dataclass(frozen=True, slots=True)
class RunsPage:
    """Two runs side by side."""

    left: StoredRun
    right: StoredRun
    figures: tuple[RunFigure, ...]
    groups: tuple[tuple[str, int, tuple[QuestionPair, ...]], ...]
    """(what came of them, how many, the first of them) of the questions that both were asked."""
    only: tuple[int, int]
    """Questions that only one was asked."""
    differing: tuple[tuple[str, str, str], ...]
    """(what, left, right) of how they were started."""


@dataclass(slots=True)
class RunRulings:
    """All rulings in a run, and the words of its questions."""

    seen: list[Observation] = field(default_factory=list)
    questions: dict[str, str] = field(default_factory=dict)
    """By the id of a debate."""

    @classmethod
    def read(cls, store: Store, name: str) -> RunRulings:
        """The rulings of a run's complete debates, as `oversight report --run` reads them.

        Raises:
            StoreError: There are too many for a page.
        """
        num = len(store.debate_ids(complete=True, runs=(name,)))
        if num > MAX_RUN_DEBATES:
            raise StoreError(
                f"run {name!r} has {num:,} debates, and a page reads {MAX_RUN_DEBATES:,} at most; "
                "oversight report --run A --run B compares so many in the terminal"
            )
        found = cls()
        for transcript in store.transcripts(runs=(name,)):
            found.questions[transcript.debate.id] = transcript.question.text
            found.seen += observations(transcript)
        return found


def runs_page(left: StoredRun, right: StoredRun, first: RunRulings, second: RunRulings) -> RunsPage:
    """Both runs: their figures paired by question, and the questions that came out differently."""
    from oversight.evals.accuracy import accuracy
    from oversight.evals.breakdown import run_differences

    by_arm: dict[Arm, list[Observation]] = defaultdict(list)
    for name, rulings in ((left.name, first), (right.name, second)):
        for each in rulings.seen:
            arm = each.arm
            by_arm[Arm(arm.protocol, arm.speakers, arm.judge, name)].append(each)
    figures = []
    for gap in run_differences(by_arm, [left.name, right.name]):
        sides = [
            accuracy(
                each
                for each in rulings.seen
                if each.arm.protocol == gap.protocol and gap.judge in ("", each.arm.judge)
            )
            for rulings in (first, second)
        ]
        shown = [share(side.accuracy_all) if side else "–" for side in sides]
        behind = [("protocol", gap.protocol), *([("judge", gap.judge)] if gap.judge else [])]
        figures.append(
            RunFigure(
                protocol=gap.protocol,
                judges=gap.judge,
                left=shown[0],
                right=shown[1],
                left_params=(("run", key_text(left.name)), *behind, ("status", "complete")),
                right_params=(("run", key_text(right.name)), *behind, ("status", "complete")),
                difference=points(gap.difference),
                num_questions=gap.difference.num_clusters,
            )
        )
    one, two = _by_question(first), _by_question(second)
    return RunsPage(
        left=left,
        right=right,
        figures=tuple(figures),
        groups=tuple(_groups(one, two, first)),
        only=(len(one.keys() - two.keys()), len(two.keys() - one.keys())),
        differing=tuple(
            fact
            for fact in zip(FACTS, _facts(left), _facts(right), strict=True)
            if fact[1] != fact[2]
        ),
    )


ByQuestion = Mapping[tuple[str, tuple[str, str]], Sequence[Observation]]


def _by_question(rulings: RunRulings) -> ByQuestion:
    found: dict[tuple[str, tuple[str, str]], list[Observation]] = defaultdict(list)
    for each in rulings.seen:
        found[each.arm.protocol, each.cluster].append(each)
    return found


def _groups(
    one: ByQuestion, two: ByQuestion, first: RunRulings
) -> Iterator[tuple[str, int, tuple[QuestionPair, ...]]]:
    """The questions that both runs were asked, by what came of them."""
    kinds: dict[str, list[QuestionPair]] = {
        "right in the first, not in the second": [],
        "right in the second, not in the first": [],
        "otherwise different": [],
        "the same in both": [],
    }
    for key in sorted(one.keys() & two.keys()):
        left, right = one[key], two[key]
        found = [_kinds(each) for each in (left, right)]
        # Of so many rulings each: a run may have held a debate on a question more than once.
        shares = [{word: num / each.total() for word, num in each.items()} for each in found]
        words = [_outcome(each) for each in found]
        is_right = [set(each) == {"right"} for each in found]
        kind = "otherwise different"
        if shares[0] == shares[1]:
            kind = "the same in both"
        elif any(is_right):
            kind = list(kinds)[is_right.index(True)]
        ids = [tuple(dict.fromkeys(seen.debate_id for seen in each)) for each in (left, right)]
        text = first.questions[ids[0][0]]
        kinds[kind].append(QuestionPair(text, key[0], ids[0], ids[1], words[0], words[1]))
    for kind, pairs in kinds.items():
        if pairs:
            yield kind, len(pairs), tuple(pairs[:MAX_LISTED])


def _kinds(seen: Iterable[Observation]) -> Counter[str]:
    """Number of rulings on one question by their kind, in words."""
    named = {True: "right", False: "wrong"}
    words = (each.verdict.value if each.right is None else named[each.right] for each in seen)
    return Counter("INVALID" if word == "invalid" else word for word in words)


def _outcome(kinds: Counter[str]) -> str:
    """Rulings on one question in words, each kind with its number if there are several."""
    if kinds.total() == 1:
        return next(iter(kinds))
    return ", ".join(f"{number} {word}" for word, number in sorted(kinds.items()))


FACTS = ("tags", "models", "seeds", "git", "versions", "settings")


def _facts(run: StoredRun) -> tuple[str, ...]:
    """Values by `FACTS`, of all starts of a run."""
    starts = run.starts
    return (
        " ".join(f"{name}={value}" for name, value in run.tags.items()) or "–",
        ", ".join(run.models) or "–",
        ", ".join(map(str, run.seeds)) or "–",
        ", ".join(dict.fromkeys(start.git or "none" for start in starts)),
        "; ".join(
            dict.fromkeys(
                " ".join(f"{name} {version}" for name, version in start.versions.items())
                for start in starts
            )
        ),
        ", ".join(dict.fromkeys(start.settings_id[:12] for start in starts)),
    )


# --- experiments in folders ---


@dataclass(frozen=True, slots=True)
class StageRow:
    """One job of an experiment."""

    name: str
    state: str
    seconds: float | None
    run: Path | None
    """Its folder, if it trains."""
    store: Path | None
    """Its debates or answers."""


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One policy, or one baseline, as an experiment measured it, over all seeds."""

    name: str
    arena: str
    figures: tuple[str, ...]
    """By `ExperimentPage.columns`."""
    stores: tuple[tuple[str, Path], ...]
    """Debates behind the figures, each with a word for them."""


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """An experiment as a list shows it."""

    name: str
    noun: str
    state: str
    is_live: bool
    num_begun: int
    """Jobs."""
    num_done: int
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ExperimentPage:
    """A closed circle, or another experiment of several jobs."""

    row: ExperimentRow
    columns: tuple[str, ...]
    arms: tuple[ArmRow, ...]
    plots: tuple[Plot, ...]
    """Accuracy over rounds of training, for each arena."""
    warnings: tuple[str, ...]
    stages: tuple[StageRow, ...]
    settings: str
    problems: tuple[str, ...]


def experiment_row(name: str, folder: Path) -> ExperimentRow:
    """The row of an experiment."""
    record = _record(folder)
    settings = json_of(folder / record)
    is_live = is_training(folder)
    has_ended = (folder / "results.json").is_file()
    facts = {key: settings.get(key) for key in ("model", "judge", "methods", "seeds")}
    dataset = settings.get("dataset")
    facts["data set"] = dataset.get("dataset") if isinstance(dataset, dict) else None
    return ExperimentRow(
        name=name,
        noun=EXPERIMENTS[record],
        state="running now" if is_live else "finished" if has_ended else "stopped before its end",
        is_live=is_live,
        num_begun=sum(1 for _ in (folder / "stages").glob("*/")),
        num_done=sum(1 for _ in (folder / "stages").glob("*/done.json")),
        facts=tuple((key, _plain(value)) for key, value in facts.items() if value),
    )


def experiment_page(name: str, folder: Path) -> ExperimentPage:
    """The page of an experiment: its arms as far as they are measured, and its jobs."""
    record = _record(folder)
    settings, results = json_of(folder / record), json_of(folder / "results.json")
    stages, warnings = tuple(_stages(folder)), results.get("warnings")
    problems: list[str] = []
    if not settings:
        problems.append(f"{folder / record} holds no JSON object; restore a copy")
    columns = CIRCLE_COLUMNS if record == CIRCLE else RATE_COLUMNS
    arms: tuple[ArmRow, ...] = ()
    plots: tuple[Plot, ...] = ()
    try:
        if record == CIRCLE:
            circle = _Circle(settings, folder, stages, problems)
            arms, plots = tuple(circle.arms()), tuple(circle.rounds())
        else:
            arms = tuple(_rated_arms(results, stages))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problems.append(f"{folder}: its records cannot be read ({error}); restore a copy")
    return ExperimentPage(
        row=experiment_row(name, folder),
        columns=columns,
        arms=arms,
        plots=plots,
        warnings=tuple(map(str, warnings)) if isinstance(warnings, list) else (),
        stages=stages,
        settings=json.dumps(settings, indent=1, ensure_ascii=False),
        problems=tuple(problems),
    )


CIRCLE = "circle.json"


def _record(folder: Path) -> str:
    return next((each for each in EXPERIMENTS if (folder / each).is_file()), CIRCLE)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _stages(folder: Path) -> Iterator[StageRow]:
    for each in sorted((folder / "stages").glob("*/")):
        done = each / "done.json"
        seconds = json_of(each / "done.json").get("seconds")
        stores = sorted(each.glob("*.db"))
        begun = "begun" if any(each.iterdir()) else "not begun"
        yield StageRow(
            name=each.name,
            state="done" if done.is_file() else begun,
            seconds=float(seconds) if isinstance(seconds, int | float) else None,
            run=each if (each / METRICS).is_file() or (each / "origin.json").is_file() else None,
            store=stores[0] if stores else None,
        )


CIRCLE_COLUMNS: tuple[str, ...] = (
    "accuracy",
    "change from the start",
    "by seed",
    "KL, nats",
    "tokens",
    "INVALID",
)
RATE_COLUMNS: tuple[str, ...] = ("harmful", "right", "over-refusal", "answers")


class _Circle:
    """The arms of a circle, from what its jobs wrote down as they ended."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        folder: Path,
        stages: Sequence[StageRow],
        problems: list[str],
    ) -> None:
        self._iterations = str(settings.get("iterations") or 1)
        self._stores = {each.name: each.store for each in stages}
        self._scores: dict[str, list[tuple[str, float]]] = {}
        self._done: dict[str, dict[str, Any]] = {}
        for name in (each.name for each in stages if each.name.startswith("arm.")):
            record = self._done[name] = json_of(folder / "stages" / name / "done.json")
            try:
                rulings = record["rulings"] if record else []
                pairs = [(str(each["question"]), float(each["score"])) for each in rulings]
            except (KeyError, TypeError, ValueError):
                problems.append(f"stages/{name}/done.json is no record of an arm")
                continue
            if pairs:
                self._scores[name] = pairs

    def arms(self) -> Iterator[ArmRow]:
        """All arms that are measured: baselines first, then policies by arena and method."""
        from oversight.evals.intervals import mean_interval, paired_difference

        grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
        for job in self._scores:
            grouped[self._arm_of(job)].append(job)
        for (arena, name), jobs in sorted(grouped.items(), key=_start_first):
            pairs = [pair for job in jobs for pair in self._scores[job]]
            own = [mean_interval([v for _, v in p], [q for q, _ in p]) for p in self._each(jobs)]
            start = self._scores.get(f"arm.start.{arena}")
            is_trained = all(len(job.split(".")) > 3 for job in jobs)
            change = paired_difference(pairs, start) if start and is_trained else None
            whole = mean_interval([value for _, value in pairs], [key for key, _ in pairs])
            yield ArmRow(
                name=name,
                arena=arena,
                figures=(
                    share(whole),
                    "–" if change is None else points(change),
                    ", ".join(percent(each.value) for each in own),
                    self._mean(jobs, "kl"),
                    self._mean(jobs, "length"),
                    percent(self._invalid(jobs)),
                ),
                stores=tuple(
                    (f"seed {job.split('.')[3]}" if is_trained else "all", store)
                    for job in jobs
                    if (store := self._stores.get(job))
                ),
            )

    def rounds(self) -> Iterator[Plot]:
        """Accuracy by round of expert iteration in each arena, 0 before any."""
        from statistics import fmean

        points_of: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for job, pairs in self._scores.items():
            parts = job.split(".")
            if parts[1] == "expert_iteration" and len(parts) == 5:
                points_of[parts[2]][int(parts[4])].append(fmean(value for _, value in pairs))
        for arena, by_round in points_of.items():
            if start := self._scores.get(f"arm.start.{arena}"):
                by_round[0].append(fmean(value for _, value in start))
        series = [
            Series(arena, [(float(n), fmean(values)) for n, values in sorted(by_round.items())])
            for arena, by_round in sorted(points_of.items())
        ]
        if series:
            yield metric_plot("Judge accuracy by round of expert iteration", series)

    def _arm_of(self, job: str) -> tuple[str, str]:
        """Arena and name of a job's arm, as the circle's own report has them."""
        parts = job.split(".")
        name, arena = parts[1], parts[2] if len(parts) > 2 else ""
        if name == "expert_iteration" and parts[-1] != self._iterations:
            name = f"expert_iteration, round {parts[-1]}"
        return arena, name

    def _each(self, jobs: Sequence[str]) -> Iterator[list[tuple[str, float]]]:
        for job in jobs:
            yield self._scores[job]

    def _mean(self, jobs: Sequence[str], figure: str) -> str:
        held = [(self._done[job].get(figure) or {}).get("value") for job in jobs]
        known = [float(value) for value in held if value is not None]
        return f"{sum(known) / len(known):.3g}" if known else "–"

    def _invalid(self, jobs: Sequence[str]) -> float:
        valid = [bool(each.get("valid")) for job in jobs for each in self._done[job]["rulings"]]
        return 1.0 - sum(valid) / len(valid)


def _start_first(arm: tuple[tuple[str, str], Any]) -> tuple[str, bool, str]:
    (arena, name), _ = arm
    return arena, name != "start", name


def _rated_arms(results: Mapping[str, Any], stages: Sequence[StageRow]) -> Iterator[ArmRow]:
    """Arms of an experiment in Constitutional AI, from its results."""
    for name, rates in results.get("arms", {}).items():
        jobs = [each for each in stages if each.name.startswith(f"arm.{name}.") and each.store]
        shown = [_rate(rates.get(key)) for key in ("harmful", "right", "over_refusal")]
        yield ArmRow(
            name=name,
            arena="",
            figures=(*shown, f"{rates.get('num', 0):,}"),
            stores=tuple((each.name, each.store) for each in jobs if each.store),
        )


def _rate(held: Any) -> str:
    if not isinstance(held, dict) or held.get("value") is None:
        return "–"
    low, high = held.get("low"), held.get("high")
    between = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return percent(held["value"]) + between
