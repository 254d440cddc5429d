"""Results of a tournament: ratings, effects and cross-play, each with the debates it is made of.

Ratings come from all games that were decided or tied, by Davidson's model with the order in which
the sides were shown, the right side and chosen covariates as effects; intervals are a bootstrap
over questions. Where too few questions or games bear a figure, there is none, and a note says why.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import log
from statistics import fmean
from typing import Any

from oversight.aggregation.bradley_terry import PairedGames
from oversight.aggregation.ratings import (
    FittedRatings,
    GameEffect,
    IntervalMethod,
    PlayerRating,
    fit_ratings,
)
from oversight.errors import StoreError
from oversight.store import Store
from oversight.text.numbers import NONE, Table, count, listed, percent
from oversight.tournaments.playing import DebateGame, TournamentWork, after_round, games_of
from oversight.tournaments.schedules import OnlineRating

FEW_QUESTIONS = 10
"""With fewer, a bootstrap over questions is not to be trusted, which is said."""
ID_CHARS = 12
RIGHT, WRONG = "right", "wrong"
EFFECT_WORDS = {
    "first": "shown first",
    "right side": "arguing for the right answer",
    "words": "e times as many words as the other side",
    "verified_quotes": "one verified quote more than the other side",
}


@dataclass(frozen=True, slots=True)
class CrossPlayCell:
    """Games of one player for the right answer against another for a wrong one."""

    right: str
    wrong: str
    num: int
    """Games that were decided or tied."""
    won: float | None
    """Share won by the right side, ties half; None without games."""
    belief: float | None
    """Mean probability of the right answer, where there is one."""
    undecided: int
    debates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TournamentResults:
    """Everything measured of a tournament."""

    players: tuple[str, ...]
    agents: dict[str, str]
    """By player its agent and model."""
    judge: str
    protocol: str
    dataset: str
    num_questions: int
    num_debates: int
    num_rounds: int
    games: tuple[DebateGame, ...]
    overall: FittedRatings | None
    independent: FittedRatings | None
    """From one judgment of each debate, with profile intervals: as if no two games shared a
    question."""
    by_side: FittedRatings | None
    online: dict[str, OnlineRating]
    """After the last round, taken round by round."""
    cells: tuple[CrossPlayCell, ...]
    notes: tuple[str, ...]
    store: str
    run: str
    seed: int

    def rating(self, player: str, side: str = "") -> PlayerRating | None:
        """The rating of a player, over both sides or of one; None where nothing was fitted."""
        fitted, name = (self.by_side, f"{player} {side}") if side else (self.overall, player)
        return next((r for r in fitted.ratings if r.player == name), None) if fitted else None

    def cell(self, right: str, wrong: str) -> CrossPlayCell:
        """The games of one pair, the first for the right answer."""
        return next(c for c in self.cells if (c.right, c.wrong) == (right, wrong))


def measure_tournament(work: TournamentWork, store: Store, run: str = "") -> TournamentResults:
    """Everything measured of the debates that were held.

    Raises:
        StoreError: Nothing was judged.
    """
    games = games_of(store.transcripts(debate_ids=list(work.round_of)))
    played = [game for game in games if game.is_played]
    if not games:
        why = f" ({work.failures[0].error})" if work.failures else ""
        raise StoreError(f"{store.url}: no debate of this tournament was judged{why}")
    notes: list[str] = []
    settings = work.settings
    overall = independent = by_side = None
    if played:
        several = len({game.cluster for game in played}) > 1
        method: IntervalMethod = "bootstrap" if several else "profile"
        arrays = overall_games(work.players, played, settings.covariates)
        overall = _fitted(arrays, method, settings.num_resamples, settings.seed, notes)
        sides = side_games(work.players, played)
        by_side = _fitted(sides, method, settings.num_resamples, settings.seed, [])
        once = list({game.debate: game for game in reversed(played)}.values())
        arrays = overall_games(work.players, once, settings.covariates)
        independent = _fitted(arrays, "profile", 0, 0, [])
    notes += _notes(work, games, overall, by_side)
    online = dict.fromkeys(work.players, OnlineRating())
    for index in range(len(work.rounds)):
        online = after_round(online, (g for g in games if work.round_of[g.debate] == index))
    return TournamentResults(
        players=work.players,
        agents={name: _in_words(work, name) for name in work.players},
        judge=settings.judge.agent,
        protocol=work.protocol.name,
        dataset=settings.dataset.dataset,
        num_questions=len({game.cluster for game in games}),
        num_debates=len({game.debate for game in games}),
        num_rounds=len(work.rounds),
        games=tuple(games),
        overall=overall,
        independent=independent,
        by_side=by_side,
        online=online,
        cells=tuple(_cells(work.players, games)),
        notes=tuple(notes),
        store=store.url,
        run=run,
        seed=settings.seed,
    )


def _in_words(work: TournamentWork, player: str) -> str:
    spec = work.specs[player]
    model = "" if spec.engine is None else str(spec.engine.settings.get("model", ""))
    return f"{spec.agent} {model.rstrip('/').rsplit('/', 1)[-1]}".strip()


def overall_games(
    players: Sequence[str], games: Sequence[DebateGame], covariates: Sequence[str] = ()
) -> PairedGames:
    """Games between players, the one that was shown first as the first; which side was right is a
    covariate, 1 where it was the first and -1 where it was the second."""
    index = {player: place for place, player in enumerate(players)}
    sign = [1.0 if game.right_first else -1.0 for game in games]
    named: dict[str, list[float]] = {"right side": sign}
    if "words" in covariates:
        more = [log((g.words[0] + 1) / (g.words[1] + 1)) for g in games]
        named["words"] = [s * m for s, m in zip(sign, more, strict=True)]
    if "verified_quotes" in covariates:
        quotes = [float(g.verified[0] - g.verified[1]) for g in games]
        named["verified_quotes"] = [s * q for s, q in zip(sign, quotes, strict=True)]
    seats = [(g.right, g.wrong) if g.right_first else (g.wrong, g.right) for g in games]
    return PairedGames.of(
        players,
        [index[first] for first, _ in seats],
        [index[second] for _, second in seats],
        [g.score if g.right_first else 1.0 - g.score for g in games],
        cluster=_clusters(games),
        covariates=named,
    )


def side_games(players: Sequence[str], games: Sequence[DebateGame]) -> PairedGames:
    """Games between players for the right answer and players for a wrong one, as if each player
    were two."""
    names = [f"{player} {side}" for player in players for side in (RIGHT, WRONG)]
    index = {name: place for place, name in enumerate(names)}
    own = [(index[f"{g.right} {RIGHT}"], index[f"{g.wrong} {WRONG}"]) for g in games]
    seats = [pair if g.right_first else pair[::-1] for pair, g in zip(own, games, strict=True)]
    return PairedGames.of(
        names,
        [first for first, _ in seats],
        [second for _, second in seats],
        [g.score if g.right_first else 1.0 - g.score for g in games],
        cluster=_clusters(games),
    )


def _clusters(games: Sequence[DebateGame]) -> list[int]:
    numbers = {cluster: place for place, cluster in enumerate(sorted({g.cluster for g in games}))}
    return [numbers[g.cluster] for g in games]


def _fitted(
    games: PairedGames, method: IntervalMethod, num_resamples: int, seed: int, notes: list[str]
) -> FittedRatings | None:
    """The ratings with all effects, or without those that the games cannot tell."""
    plain = PairedGames.of(
        games.players, games.first_G, games.second_G, games.result_G, cluster=games.cluster_G
    )
    reason = ""
    for given, order in ((games, True), (games, False), (plain, True), (plain, False)):
        try:
            found = fit_ratings(
                given, order=order, intervals=method, num_resamples=num_resamples, seed=seed
            )
        except ValueError as error:
            reason = reason or str(error)
            continue
        left_out = [*["first"] * (not order), *(games.covariates if given is plain else ())]
        if left_out:
            names = listed([EFFECT_WORDS[name] for name in left_out])
            notes.append(f"Ratings are without these effects: {names} ({reason}).")
        return found
    return None


def _notes(
    work: TournamentWork,
    games: Sequence[DebateGame],
    overall: FittedRatings | None,
    by_side: FittedRatings | None,
) -> list[str]:
    notes = []
    if overall is None:
        notes.append("No ratings: nothing was decided that they could be fitted to.")
    for fitted, what in ((overall, "Players"), (by_side, "Players by side")):
        if fitted is not None and not fitted.is_connected:
            parts = "; ".join(f"part {n}: {listed(names)}" for n, names in enumerate(fitted.parts))
            notes.append(
                f"{what} fall into {len(fitted.parts)} parts that no chain of wins and ties joins "
                f"both ways. Ratings hold within a part, and one alone has none ({parts})."
            )
    lacks = [(r.player, r.lack) for r in (overall.ratings if overall else ()) if r.lack]
    if lacks:
        notes.append("Without a rating: " + "; ".join(f"{name} {why}" for name, why in lacks) + ".")
    undecided = Counter(game.verdict.value for game in games if not game.is_played)
    if undecided:
        kinds = listed([f"{number} {kind}" for kind, number in sorted(undecided.items())])
        notes.append(
            f"{count(sum(undecided.values()), 'judgment')} of {len(games):,} decided nothing "
            f"between the two and are in no rating: {kinds}."
        )
    clusters = len({game.cluster for game in games})
    if clusters < 2:
        notes.append("One question alone: intervals are as if its games were independent.")
    elif clusters < FEW_QUESTIONS:
        notes.append(f"Only {clusters} questions: intervals over questions are rough.")
    return notes


def _cells(players: Sequence[str], games: Iterable[DebateGame]) -> Iterable[CrossPlayCell]:
    by_pair: dict[tuple[str, str], list[DebateGame]] = defaultdict(list)
    for game in games:
        by_pair[game.right, game.wrong].append(game)
    for right in players:
        for wrong in players:
            own = by_pair.get((right, wrong), [])
            played = [game for game in own if game.is_played]
            beliefs = [game.p_right for game in own if game.p_right is not None]
            yield CrossPlayCell(
                right=right,
                wrong=wrong,
                num=len(played),
                won=fmean(game.score for game in played) if played else None,
                belief=fmean(beliefs) if beliefs else None,
                undecided=len(own) - len(played),
                debates=tuple(dict.fromkeys(game.debate for game in own)),
            )


# --- as words and tables ---


def elo_words(found: PlayerRating | GameEffect | None) -> str:
    """A rating or an effect with its interval, `+120 [80, 161]`; a dash where there is none."""
    if found is None or found.value is None or found.low is None or found.high is None:
        return NONE
    value, low, high = (f"{each:.0f}" for each in (found.value, found.low, found.high))
    value, low, high = ("0" if each == "-0" else each for each in (value, low, high))
    sign = "+" if float(value) > 0 else ""
    return f"{sign}{value} [{low}, {high}]".replace("-", "−")


def extent(results: TournamentResults) -> str:
    """Size of the tournament, in one line."""
    return (
        f"{count(len(results.players), 'player')}, {count(results.num_rounds, 'round')}, "
        f"{count(results.num_debates, 'debate')} by {results.protocol} on "
        f"{count(results.num_questions, 'question')} of {results.dataset}, "
        f"{count(len(results.games), 'judgment')} by {results.judge}"
    )


def headlines(results: TournamentResults) -> list[str]:
    """Sentences on what was found."""
    said = []
    rows = results.overall.ratings if results.overall else ()
    ranked = sorted(
        (row for row in rows if row.part == 0 and row.value is not None),
        key=lambda row: -(row.value or 0.0),
    )
    if len(ranked) > 1:
        best = ranked[0]
        near = [
            row.player
            for row in ranked[1:]
            if row.high is not None and best.low is not None and row.high >= best.low
        ]
        told = f"; into its interval reach those of {listed(near)}" if near else ""
        said.append(
            f"{best.player} is rated highest: {elo_words(best)} Elo points beside the mean of "
            f"{count(len(ranked), 'player')}{told}."
        )
    played = [game for game in results.games if game.is_played]
    if played:
        won = fmean(game.score for game in played)
        said.append(
            f"The side that argues for the right answer wins {percent(won)} of "
            f"{count(len(played), 'judgment')}, ties counted half."
        )
    for effect in results.overall.effects if results.overall else ():
        if effect.low > 0.0 or effect.high < 0.0:
            said.append(f"Worth {elo_words(effect)} points: {EFFECT_WORDS[effect.name]}.")
    return said


def tournament_tables(results: TournamentResults, *, wide: bool = True) -> tuple[Table, ...]:
    """The tables of figures; `wide` with the debates that each was made of."""
    built = [_ratings_table(results), _effects_table(results), _crossplay_table(results)]
    if wide:
        built.append(_debates_table(results))
    return tuple(table for table in built if table.rows)


def _ratings_table(results: TournamentResults) -> Table:
    rows = []
    order = {row.player: row for row in (results.overall.ratings if results.overall else ())}

    def key(player: str) -> tuple[int, float]:
        row = order.get(player)
        return (0, 0.0) if row is None else (row.part, -(row.value or 0.0))

    alone = {r.player: r for r in (results.independent.ratings if results.independent else ())}
    for player in sorted(results.players, key=key):
        own = [
            game.score if game.right == player else 1.0 - game.score
            for game in results.games
            if game.is_played and player in (game.right, game.wrong)
        ]
        row = order.get(player)
        online = results.online[player]
        rows.append(
            (
                player,
                results.agents[player],
                elo_words(row),
                elo_words(results.rating(player, RIGHT)),
                elo_words(results.rating(player, WRONG)),
                elo_words(alone.get(player)),
                NONE if row is None else str(row.part),
                f"{len(own):,}",
                percent(fmean(own)) if own else NONE,
                f"{online.value:.0f} ± {online.deviation:.0f}",
            )
        )
    return Table(
        title="Ratings",
        note="Elo points beside the mean of the part, with 95 % intervals by a bootstrap over "
        "questions; “right”, “wrong”: arguing for that answer, each player rated as two; “games "
        "independent”: from one judgment of each debate, with the profile likelihood’s intervals; "
        "“part”: only within one can ratings be compared; “won”: ties half; “online”: Glicko’s "
        "after the last round ± its deviation.",
        columns=(
            *("player", "agent", "rating", "right", "wrong", "games independent", "part"),
            *("games", "won", "online"),
        ),
        rows=tuple(rows),
    )


def _effects_table(results: TournamentResults) -> Table:
    fitted = results.overall
    rows = [(EFFECT_WORDS[e.name], elo_words(e)) for e in (fitted.effects if fitted else ())]
    if fitted is not None and fitted.tie is not None:
        rows.append(("tie of two equal players", percent(fitted.tie / (2.0 + fitted.tie))))
    return Table(
        title="Effects beside the players",
        note="Elo points that a side gains, all estimated together with the ratings.",
        columns=("effect", "points"),
        rows=tuple(rows),
    )


def _crossplay_table(results: TournamentResults) -> Table:
    def shown(cell: CrossPlayCell) -> str:
        return NONE if cell.won is None else f"{percent(cell.won)} of {cell.num}"

    return Table(
        title="Cross-play",
        note="Judgments won by the player of the row, who argues for the right answer, against "
        "that of the column, who argues for a wrong one; ties half.",
        columns=("right", *results.players),
        rows=tuple(
            (right, *(shown(results.cell(right, wrong)) for wrong in results.players))
            for right in results.players
        ),
    )


def _debates_table(results: TournamentResults) -> Table:
    return Table(
        title="Debates behind the figures",
        note=f"oversight show ID --store {results.store} shows one; a player’s rating is made of "
        "those that name it. The JSON has the whole ids and every judgment.",
        columns=("right", "wrong", "debates"),
        rows=tuple(
            (cell.right, cell.wrong, " ".join(id_[:ID_CHARS] for id_ in cell.debates))
            for cell in results.cells
            if cell.debates
        ),
    )


def methods(results: TournamentResults) -> tuple[str, ...]:
    """Sentences on how it was measured."""
    return (
        "On each question two players that meet defend the right and the wrong answer once each, "
        "and the judge reads them in both orders: where sides speak at once the same debate is "
        "judged twice, where they speak in turn each begins once.",
        "Ratings: Bradley and Terry’s model with ties (Davidson 1970), an order effect (Davidson "
        "and Beaver 1977) and covariates, by maximum likelihood; 400 points are odds of ten to "
        "one. Intervals are a bootstrap over questions with exponential weights (Rubin 1981); "
        "beside them stand those of the profile likelihood. Online ratings are Glicko’s (1999).",
        f"Records: {results.store}, run {results.run or NONE}, seed {results.seed}.",
    )


def tournament_json(results: TournamentResults) -> dict[str, Any]:
    """Everything as JSON-plain data; each rating and each cell names its debates."""
    by_player: dict[str, set[str]] = defaultdict(set)
    for game in results.games:
        for player, side in ((game.right, RIGHT), (game.wrong, WRONG)):
            by_player[player].add(game.debate)
            by_player[f"{player} {side}"].add(game.debate)

    def fitted(found: FittedRatings | None) -> dict[str, Any] | None:
        if found is None:
            return None
        plain = asdict(found)
        for row in plain["ratings"]:
            row["debates"] = sorted(by_player[row["player"]])
        return plain

    return {
        "extent": extent(results),
        "headlines": headlines(results),
        "notes": list(results.notes),
        "players": results.agents,
        "ratings": fitted(results.overall),
        "ratings_if_independent": fitted(results.independent),
        "ratings_by_side": fitted(results.by_side),
        "online": {player: asdict(rating) for player, rating in results.online.items()},
        "cross_play": [asdict(cell) for cell in results.cells],
        "games": [
            asdict(g) | {"verdict": g.verdict.value, "score": g.score if g.is_played else None}
            for g in results.games
        ],
        "methods": list(methods(results)),
        "store": results.store,
        "run": results.run,
    }
