"""A tournament as it is run: settings, the debates of each round, and the games that they were.

All debates are planned from content, so that the same command goes on where it was stopped and a
second run finds everything done. A Swiss round is paired from the results of the rounds before
it, which have to be complete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, field_validator

from oversight.config import (
    AgentSettings,
    DatasetSettings,
    EngineSettings,
    RunLabels,
    SpendingSettings,
    TransactionSettings,
)
from oversight.datasets.base import LoadedQuestions, load_questions
from oversight.engines import metered
from oversight.errors import ConfigError
from oversight.evals.observations import Cluster, cluster_of
from oversight.graphs.planning import (
    Cast,
    cast,
    check_engines,
    check_fit,
    check_question,
    draw_orders,
    plan_one,
)
from oversight.graphs.running import DebateProgress, Failure, run_debates
from oversight.graphs.runtime import Runtime
from oversight.protocols import load as load_protocol
from oversight.store import Store
from oversight.tournaments.schedules import (
    Meeting,
    OnlineRating,
    meetings_of_round_robin,
    meetings_of_swiss_round,
    online_ratings,
)
from oversight.types import (
    Agent,
    AgentSpec,
    Debate,
    Draft,
    Engine,
    EngineSpec,
    JudgeKind,
    Judgment,
    OversightProtocol,
    Question,
    Role,
    Seat,
    Transcript,
    Verdict,
    View,
)

Covariate = Literal["words", "verified_quotes"]
MOST_LETTERS = 40
Tell = Callable[[str, int, int], None]
"""Is told what is done now, how much of it, and of how much."""


class TournamentSettings(RunLabels):
    """A tournament of debaters."""

    players: dict[str, AgentSettings] = Field(min_length=2)
    """Agents that debate, by the name that they have in tables and records."""
    judge: AgentSettings = AgentSettings(agent="lexical")
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    dataset: DatasetSettings
    protocol: str = "debate_single_turn"
    """Name or path of a protocol in which two debaters argue."""
    schedule: Literal["round_robin", "swiss"] = "round_robin"
    rounds: int | None = Field(default=None, ge=1)
    """Of a Swiss tournament; unset, the whole number above the binary logarithm of the players."""
    covariates: tuple[Covariate, ...] = ()
    """Covariates of the ratings: the logarithm of the ratio of both sides' words, the
    difference in verified quotes."""
    store: str = "tournament.db"
    transactions: TransactionSettings = TransactionSettings()
    seed: int = 0
    num_resamples: int = Field(default=300, ge=50)
    """Of the bootstrap over questions."""
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Number of debates in flight at once."""
    spending: SpendingSettings = SpendingSettings()

    @field_validator("players")
    @classmethod
    def _check_names(cls, players: dict[str, AgentSettings]) -> dict[str, AgentSettings]:
        for name in players:
            if not name.strip() or len(name) > MOST_LETTERS or not name.isprintable():
                raise ValueError(f"a player's name has 1 to {MOST_LETTERS} printable characters")
        return players


class Opponents:
    """The debater of a tournament: it lets the player that holds the seat speak."""

    name = "opponents"
    kind = JudgeKind.MODEL

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self.agents = agents
        self.seated: dict[str, Meeting] = {}
        """By debate the players of seats A and B."""

    async def act(self, view: View) -> Draft:
        """The speech of the player whose seat it is."""
        player = self.seated[view.debate_id][0 if view.seat is Seat.A else 1]
        return await self.agents[player].act(view)


@dataclass(slots=True)
class TournamentWork:
    """State of a tournament while it is run."""

    settings: TournamentSettings
    protocol: OversightProtocol
    loaded: LoadedQuestions
    cast: Cast
    opponents: Opponents
    specs: dict[str, AgentSpec]
    """By player, as records identify it."""
    rounds: list[tuple[Meeting, ...]] = field(default_factory=list)
    round_of: dict[str, int] = field(default_factory=dict)
    """By debate the index of its round."""
    failures: list[Failure] = field(default_factory=list)
    num_done: int = 0
    num_found: int = 0
    num_elsewhere: int = 0

    @property
    def players(self) -> tuple[str, ...]:
        """Their names, in the order of the settings."""
        return tuple(self.settings.players)

    def count(self, progress: DebateProgress) -> None:
        """Count what a round came to."""
        self.failures += progress.failures
        self.num_done += progress.done
        self.num_found += progress.found
        self.num_elsewhere += progress.elsewhere


def prepare_tournament(settings: TournamentSettings) -> TournamentWork:
    """Check everything that can be checked before the first call.

    Raises:
        ConfigError: A setting is wrong, or a person is to play or to judge.
        ProtocolError: The protocol does not fit.
        UnknownNameError: There is no agent, engine, data set or protocol of a name.
    """
    for place, given in (("judge", settings.judge), *_places(settings)):
        if given.agent == JudgeKind.HUMAN.value:
            raise ConfigError(
                f"{place}.agent = 'human': a tournament is played by programs; name another agent"
            )
    if settings.rounds is not None and settings.schedule != "swiss":
        raise ConfigError(
            f"rounds = {settings.rounds}: a round robin has as many rounds as it takes; leave it "
            "out, or take schedule = 'swiss'"
        )
    protocol = load_protocol(settings.protocol)
    if len(protocol.speakers) != 2 or protocol.is_open or protocol.speaker_role != Role.DEBATER:
        raise ConfigError(
            f"protocol = {settings.protocol!r}: a tournament needs one in which two debaters "
            "argue, such as 'debate_single_turn', 'debate' or 'debate_sequential'"
        )
    protocol = protocol.model_copy(update={"swap": protocol.has_orders})
    opened: dict[str, Engine] = {}
    opening = metered(settings.spending, settings.engines)

    def open_once(spec: EngineSpec) -> Engine:
        key = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
        if key not in opened:
            opened[key] = opening(spec)
        return opened[key]

    agents: dict[str, Agent] = {}
    specs: dict[str, AgentSpec] = {}
    for name, given in settings.players.items():
        try:
            check_engines({Role.DEBATER: given}, settings.engines)
            own = cast({Role.DEBATER: given}, settings.engines, open_once)
        except ConfigError as error:
            raise ConfigError(str(error).replace("agents.debater", f"players.{name}")) from None
        agents[name], specs[name] = own.agents[Role.DEBATER], own.specs[Role.DEBATER]
    check_engines({Role.JUDGE: settings.judge}, settings.engines)
    judge = cast({Role.JUDGE: settings.judge}, settings.engines, open_once)
    opponents = Opponents(agents)
    actors = Cast(
        {Role.DEBATER: opponents, Role.JUDGE: judge.agents[Role.JUDGE]}, judge.specs, opened
    )
    check_fit(protocol, {Role.DEBATER: next(iter(specs.values())), **judge.specs})
    loaded = load_questions(settings.dataset, seed=settings.seed)
    for question in loaded.questions:
        check_question(protocol, question)
        if question.correct is None:
            raise ConfigError(
                f"dataset {settings.dataset.dataset!r}: question {question.id!r} has no right "
                "answer, and players are rated by the side that they argue for"
            )
    return TournamentWork(settings, protocol, loaded, actors, opponents, specs)


def _places(settings: TournamentSettings) -> Iterator[tuple[str, AgentSettings]]:
    return ((f"players.{name}", given) for name, given in settings.players.items())


# --- running ---


async def run_tournament(work: TournamentWork, store: Store, tell: Tell) -> None:
    """Hold all debates that are not there yet, a round after the other.

    Raises:
        StoreError: Nothing can be recorded.
        BudgetExceededError: The budget is used up; what was said is kept.
    """
    async with work.cast:
        if work.settings.schedule == "round_robin":
            work.rounds += meetings_of_round_robin(work.players)
            planned = [
                (index, each)
                for index, meetings in enumerate(work.rounds)
                for pair in meetings
                for each in _planned(work, pair)
            ]
            await _play(work, store, tell, "debates", planned)
            return
        number = work.settings.rounds or max(1, (len(work.players) - 1).bit_length())
        standing = dict.fromkeys(work.players, OnlineRating())
        met: Counter[Meeting] = Counter()
        rested: Counter[str] = Counter()
        for index in range(number):
            values = {player: rating.value for player, rating in standing.items()}
            meetings = meetings_of_swiss_round(work.players, values, met, rested)
            work.rounds.append(meetings)
            # Who meets again debates anew: another seed makes other debates of the same questions.
            planned = [(index, each) for p in meetings for each in _planned(work, p, met[p])]
            await _play(work, store, tell, f"round {index + 1} of {number}", planned)
            if work.failures or work.num_elsewhere:
                return  # the next round follows from this one's results
            met.update(meetings)
            rested.update(set(work.players) - {player for pair in meetings for player in pair})
            ids = [debate.id for _, (debate, _) in planned]
            standing = after_round(standing, games_of(store.transcripts(debate_ids=ids)))


def after_round(
    standing: Mapping[str, OnlineRating], games: Iterable[DebateGame]
) -> dict[str, OnlineRating]:
    """Online ratings after a round's games, of those that were decided or tied."""
    return online_ratings(standing, ((g.right, g.wrong, g.score) for g in games if g.is_played))


async def _play(
    work: TournamentWork,
    store: Store,
    tell: Tell,
    doing: str,
    planned: Sequence[tuple[int, tuple[Debate, Question]]],
) -> None:
    """Hold debates, each with the index of its round."""
    work.round_of.update((debate.id, index) for index, (debate, _) in planned)
    total = len(planned)
    progress = await run_debates(
        [each for _, each in planned],
        Runtime(store, work.cast),
        concurrency=work.settings.concurrency,
        on_progress=lambda at: tell(doing, at.done + at.found + len(at.failures), total),
        total=total,
    )
    work.count(progress)


def _planned(
    work: TournamentWork, pair: Meeting, again: int = 0
) -> Iterator[tuple[Debate, Question]]:
    """The debates of two players: on each question each of them defends the right answer once;
    where they speak in turn, either begins.

    Args:
        work: The tournament.
        pair: The players.
        again: How often they have met before.
    """
    seed, is_swapped = work.settings.seed + again, work.protocol.swap
    for question in work.loaded.questions:
        drawn = draw_orders(question, seed)
        seatings = (pair,) if is_swapped else (pair, pair[::-1])
        for players in seatings:
            for defends in (drawn.defends, drawn.defends[::-1]):
                orders = drawn.model_copy(update={"defends": defends})
                if not is_swapped:
                    orders = orders.model_copy(update={"shown": (Seat.A, Seat.B)})
                spec = opponents_spec(players, work.specs)
                specs = {Role.JUDGE: work.cast.specs[Role.JUDGE], Role.DEBATER: spec}
                debate = plan_one(question, work.protocol, specs, orders, seed)
                work.opponents.seated[debate.id] = players
                yield debate, question


def opponents_spec(players: Meeting, specs: Mapping[str, AgentSpec]) -> AgentSpec:
    """Two players as the debater of a record: who holds seats A and B, and what they are."""
    settings = {
        seat.value: {"player": player, **specs[player].model_dump(mode="json")}
        for seat, player in zip((Seat.A, Seat.B), players, strict=True)
    }
    return AgentSpec(agent=f"{players[0]} v {players[1]}", settings=settings)


# --- games ---


@dataclass(frozen=True, slots=True)
class DebateGame:
    """One judgment of a debate as a game of the side that is right against the one that is not."""

    debate: str
    swapped: bool
    """Judged in the order that was not drawn."""
    right: str
    wrong: str
    right_first: bool
    """The right side was shown to the judge first."""
    verdict: Verdict
    p_right: float | None
    """The judge's probability of the right answer."""
    score: float
    """1 if the right side won, 0 if the wrong one did, 0.5 of a tie; not a number where nothing
    was decided."""
    cluster: Cluster
    words: tuple[int, int]
    """Of the right side, of the wrong one."""
    verified: tuple[int, int]
    """Verified quotes of each."""

    @property
    def is_played(self) -> bool:
        """True if it was decided or tied."""
        return self.score == self.score


def games_of(transcripts: Iterable[Transcript]) -> list[DebateGame]:
    """The games that debates of a tournament were, one for each order they were judged in; those
    that were not decided among them."""
    return [
        game
        for transcript in transcripts
        for judgment in transcript.judgments
        if judgment.agent is None and (game := _game(transcript, judgment)) is not None
    ]


def _game(transcript: Transcript, judgment: Judgment) -> DebateGame | None:
    debate, question = transcript.debate, transcript.question
    spec = debate.agents.get(Role.DEBATER)
    seats = {seat: spec.settings.get(seat.value) for seat in (Seat.A, Seat.B)} if spec else {}
    if question.correct is None or not all(isinstance(each, dict) for each in seats.values()):
        return None
    names = {s: str(each.get("player", "")) for s, each in seats.items() if isinstance(each, dict)}
    right = Seat.A if debate.orders.defended_by(Seat.A) == question.correct else Seat.B
    wrong = Seat.B if right is Seat.A else Seat.A
    final = judgment.final
    score = float("nan")
    p_right = None if final.probs is None else final.probs[question.correct]
    if final.verdict is Verdict.TIE:
        score = 0.5
    elif final.verdict is Verdict.DECIDED and final.probs is not None:
        chosen = max(range(len(final.probs)), key=final.probs.__getitem__)
        if chosen in debate.orders.defends:
            score = float(chosen == question.correct)
    said = [turn for turn in transcript.spoken() if turn.argues]
    of = {seat: [turn for turn in said if turn.seat is seat] for seat in (right, wrong)}
    words = [sum(len(turn.text.split()) for turn in of[seat]) for seat in (right, wrong)]
    quotes = [
        sum(quote.status == "verified" for turn in of[seat] for quote in turn.quotes)
        for seat in (right, wrong)
    ]
    return DebateGame(
        debate=debate.id,
        swapped=judgment.swapped,
        right=names[right],
        wrong=names[wrong],
        right_first=judgment.orders.shown[0] is right,
        verdict=final.verdict,
        p_right=p_right,
        score=score,
        cluster=cluster_of(question),
        words=(words[0], words[1]),
        verified=(quotes[0], quotes[1]),
    )
