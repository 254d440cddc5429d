"""Runs of a report: what they are made of, runs against each other, prompts, tokens and money."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from oversight.config import PriceTable
from oversight.evals.accuracy import Accuracy, accuracy, difference, scores
from oversight.evals.comparisons import (
    ComparisonFamily,
    PValue,
    corrected,
    correction_note,
    p_cells,
    paired_p,
)
from oversight.evals.intervals import Estimate
from oversight.evals.observations import UNKNOWN, Arm, Observation
from oversight.registry import shortened
from oversight.text.numbers import NONE, Table, duration, points, share
from oversight.text.terminal import visible
from oversight.types import Role, Sample, Transcript


@dataclass(frozen=True, slots=True)
class RunMembership:
    """Runs of one store, and which debates belong to them."""

    runs_of: Callable[[str], Sequence[str]]
    """From a debate's id to the names of its runs."""
    tags: Mapping[str, Mapping[str, str]]
    """Tags by name, of each run."""


NO_RUNS = RunMembership(lambda debate_id: (), {})


@dataclass(frozen=True, slots=True)
class RunDifference:
    """The paired difference in `accuracy_all` between two runs or stores, first minus second."""

    first: str
    second: str
    protocol: str
    judge: str
    """Empty where the two have different judges, and all of them are pooled."""
    difference: Estimate
    test: PValue | None = None
    """Corrected over all differences between runs; None where fewer than two questions are
    shared."""


@dataclass(frozen=True, slots=True)
class OwnPrompt:
    """A prompt template that stood in the place of an agent's own."""

    group: str
    """Run or store; empty where there is one."""
    role: str
    agent: str
    template: str
    text: str
    num_debates: int


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Tokens and time that the calls of one model took."""

    group: str
    """Run or store; empty where there is one."""
    model: str
    num_calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Of the prompt tokens, those that an engine said to have served from a cache."""
    seconds: float
    """Sum over the calls, which may have run at the same time."""
    cost: float | None = None
    """By a table of prices; None where it has none for the model."""
    currency: str = ""


@dataclass(frozen=True, slots=True)
class ReportOrigin:
    """Circumstances that a report was made in."""

    made_at: str
    """UTC, ISO 8601."""
    version: str
    """Of oversight."""
    command: str
    """The report's own command line, secrets taken out."""
    stores: tuple[str, ...]
    runs: tuple[str, ...] = ()
    """Names of the runs that were chosen, or that the store has."""
    run_commands: tuple[str, ...] = ()
    """Command lines of the starts of these runs."""
    models: tuple[str, ...] = ()
    """Models, or agents without one, that spoke, judged or rated."""
    seeds: tuple[int, ...] = ()
    """Of the debates."""

    def lines(self) -> tuple[str, ...]:
        """The same in a few lines for people."""
        at = self.made_at.replace("T", " ").replace("+00:00", " UTC")
        of = f" · run {', '.join(self.runs)}" if 0 < len(self.runs) <= MAX_LISTED else ""
        made = [f"made by: {command}" for command in self.run_commands[:MAX_LISTED]]
        if more := len(self.run_commands) - MAX_LISTED:
            made += [f"and by {more} more commands: oversight runs"] if more > 0 else []
        seeds = ", ".join(map(str, self.seeds[:MAX_LISTED]))
        seeds += f" and {len(self.seeds) - MAX_LISTED} more" if len(self.seeds) > MAX_LISTED else ""
        return (
            f"{at} · oversight {self.version} · {', '.join(self.stores)}{of}",
            f"by {', '.join(self.models)} · seed {seeds}",
            *made,
        )


MAX_LISTED = 4


@dataclass(frozen=True, slots=True)
class Slice:
    """Accuracy of one arm on one part of the questions."""

    dataset: str
    family: str
    label: str
    accuracy: Accuracy


def slices_of(
    observed: Mapping[Arm, Sequence[Observation]], named: Mapping[Arm, str]
) -> tuple[Slice, ...]:
    """Accuracy by data set, family and arm; nothing where there is one data set and family."""
    groups: dict[tuple[str, str, str], list[Observation]] = defaultdict(list)
    for arm, group in observed.items():
        for each in group:
            groups[each.dataset, each.family, named[arm]].append(each)
    if len({(dataset, family) for dataset, family, _ in groups}) < 2:
        return ()
    measured = ((key, accuracy(group)) for key, group in sorted(groups.items()))
    return tuple(Slice(*key, found) for key, found in measured if found is not None)


# --- runs against each other -----------------------------------------------------


def run_differences(
    observed: Mapping[Arm, Sequence[Observation]], groups: Sequence[str]
) -> tuple[RunDifference, ...]:
    """Every two of `groups`, protocol by protocol, on the questions that both were asked.

    Judge by judge where both have the same judges, else with all judges of each pooled.
    """
    pooled: dict[tuple[str, str], dict[str, list[Observation]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for arm, group in observed.items():
        pooled[arm.group, arm.protocol][arm.judge] += group
    protocols = sorted({arm.protocol for arm in observed})
    found = [
        (RunDifference(first, second, protocol, judge, gap), paired_p(scores(one), scores(two)))
        for first, second in combinations(groups, 2)
        for protocol in protocols
        for judge, one, two in _alike(pooled[first, protocol], pooled[second, protocol])
        if (gap := difference(one, two)) is not None
    ]
    tests = corrected([p for _, p in found])
    return tuple(replace(gap, test=test) for (gap, _), test in zip(found, tests, strict=True))


def _alike(
    first: Mapping[str, list[Observation]], second: Mapping[str, list[Observation]]
) -> Iterator[tuple[str, list[Observation], list[Observation]]]:
    """Rulings of two runs by judge where the judges are the same, else all of them together."""
    if first.keys() == second.keys():
        yield from ((judge, first[judge], second[judge]) for judge in sorted(first))
    else:
        one = [each for some in first.values() for each in some]
        two = [each for some in second.values() for each in some]
        yield "", one, two


# --- prompts ---------------------------------------------------------------------


class PromptCounter:
    """Counter of debates by each prompt template of the user's, over transcripts as they pass."""

    def __init__(self) -> None:
        self._debates: Counter[tuple[str, str, str, str, str]] = Counter()

    def add(self, transcript: Transcript, group: str = "") -> None:
        """Count the templates of a debate's agents, of further judges and of raters."""
        asked = [*transcript.debate.agents.items()]
        asked += [(Role.JUDGE, each.agent) for each in transcript.judgments if each.agent]
        asked += [(Role.RATER, each.agent) for each in transcript.ratings if each.agent]
        found: set[tuple[str, str, str, str, str]] = set()
        for role, spec in asked:
            prompts = spec.settings.get("prompts")
            for template, text in prompts.items() if isinstance(prompts, dict) else ():
                found.add((group, role.value, spec.agent, template, str(text)))
        self._debates.update(found)

    def update(self, other: PromptCounter) -> None:
        """Add what another one counted."""
        self._debates.update(other._debates)

    def counted(self) -> tuple[OwnPrompt, ...]:
        """Every template with its number of debates."""
        return tuple(OwnPrompt(*key, number) for key, number in sorted(self._debates.items()))


PROMPT_CHARS = 300
"""Characters of a template that the table shows."""


def prompt_table(found: Sequence[OwnPrompt]) -> Table:
    """Templates that stood in the place of agents' own."""
    grouped = len({each.group for each in found}) > 1
    return Table(
        title="Prompts of your own",
        note="Templates in place of the agents' own, which `oversight prompts` shows. "
        + f"Cut at {PROMPT_CHARS} characters: whole in --json."
        * any(len(each.text) > PROMPT_CHARS for each in found),
        columns=("template", *(("run",) if grouped else ()), "debates", "words"),
        rows=tuple(
            (
                visible(_named(each)),
                *((each.group or UNKNOWN,) if grouped else ()),
                f"{each.num_debates:,}",
                visible(shortened(" ".join(each.text.split()), PROMPT_CHARS)),
            )
            for each in found
        ),
    )


def _named(each: OwnPrompt) -> str:
    """The template by its agent, and by the role where that has another name."""
    agent = each.agent if each.agent == each.role else f"{each.role}: {each.agent}"
    return f"{agent}.{each.template}"


# --- usage -----------------------------------------------------------------------


class UsageCounter:
    """Counter of tokens and seconds by group and model, over transcripts as they pass by."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], list[float]] = {}

    def add(self, transcript: Transcript, group: str = "") -> None:
        """Count the calls of a debate: those for candidates and for answers in vain too."""
        for samples in (
            *(turn.samples for turn in transcript.turns),
            *(judgment.samples for judgment in transcript.judgments),
            *(rating.samples for rating in transcript.ratings),
        ):
            for sample in samples:
                self._count(sample, group)

    def _count(self, sample: Sample, group: str) -> None:
        usage = sample.usage
        sums = self._calls.setdefault((group, sample.model), [0.0] * 5)
        for place, number in enumerate(
            (
                1,
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens or 0,
                sample.seconds,
            )
        ):
            sums[place] += number

    def update(self, other: UsageCounter) -> None:
        """Add what another one counted."""
        for key, numbers in other._calls.items():
            sums = self._calls.setdefault(key, [0.0] * 5)
            self._calls[key] = [one + two for one, two in zip(sums, numbers, strict=True)]

    def counted(self, prices: PriceTable | None = None) -> tuple[ModelUsage, ...]:
        """Usage of each model, by group."""
        return tuple(
            ModelUsage(
                group,
                model,
                int(calls),
                int(prompt),
                int(completion),
                int(cached),
                seconds,
                None
                if prices is None
                else prices.cost(model, int(prompt), int(completion), int(cached)),
                prices.currency if prices else "",
            )
            for (group, model), (calls, prompt, completion, cached, seconds) in sorted(
                self._calls.items()
            )
        )


# --- tables ----------------------------------------------------------------------


def difference_table(
    found: Sequence[RunDifference], family: ComparisonFamily | None = None
) -> Table:
    """Differences between runs or stores."""
    return Table(
        title="Differences between runs",
        note="In percentage points of “all”, on the questions that both were asked, each counted "
        f"once; 95 % intervals clustered by question. {correction_note(family)}".rstrip(),
        columns=(
            *("first − second", "protocol", "judges", "difference"),
            *("p", "Holm", "BH", "questions"),
        ),
        rows=tuple(
            (
                f"{each.first} − {each.second}",
                each.protocol,
                each.judge or "all of each",
                points(each.difference),
                *p_cells(each.test),
                f"{each.difference.num_clusters:,}",
            )
            for each in found
        ),
    )


def usage_table(found: Sequence[ModelUsage]) -> Table:
    """Tokens, seconds and money by model."""
    grouped = len({each.group for each in found}) > 1
    priced = any(each.cost is not None for each in found)
    currency = next((each.currency for each in found if each.currency), "")
    return Table(
        title="Tokens and time",
        note="Of every call that is recorded, for candidates and answers in vain too. Seconds are "
        "summed over calls, which ran side by side."
        + (" Money by your table of prices; a dash: it has none for the model." * priced),
        columns=(
            "model",
            *(("run",) if grouped else ()),
            "calls",
            "prompt",
            "cached",
            "written",
            "time",
            *((currency,) if priced else ()),
        ),
        rows=tuple(
            (
                each.model,
                *((each.group or UNKNOWN,) if grouped else ()),
                f"{each.num_calls:,}",
                f"{each.prompt_tokens:,}",
                f"{each.cached_tokens:,}",
                f"{each.completion_tokens:,}",
                duration(each.seconds),
                *((money(each.cost),) if priced else ()),
            )
            for each in found
            if each.prompt_tokens or each.completion_tokens
        ),
    )


def money(amount: float | None) -> str:
    """An amount with as many decimals as show it, two at least; a dash for none."""
    if amount is None:
        return NONE
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.2g}"


def slice_table(found: Sequence[Slice]) -> Table:
    """Accuracy by data set and family."""
    return Table(
        title="By data set and family",
        note="Judge accuracy on each part of the questions.",
        columns=("data set", "family", "protocol", "accuracy", "debates", "questions"),
        rows=tuple(
            (
                each.dataset,
                each.family or NONE,
                each.label,
                share(each.accuracy.accuracy),
                f"{each.accuracy.num_debates:,}",
                f"{each.accuracy.num_questions:,}",
            )
            for each in found
        ),
    )
