"""Preferences among best-of-N candidates of one turn: the same speaker, the same prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

from oversight.aggregation.rulings import TIE_TOLERANCE
from oversight.preferences.settings import (
    Dropped,
    PreferenceSettings,
    PromptOf,
    PromptTokens,
    Reason,
    asked,
    flaw,
    response,
    speech,
)
from oversight.types import Preference, PromptRecord, Provenance, Response, Transcript, Turn
from oversight.types.preferences import PreferenceKind

Scored = tuple[Response, float]
"""A candidate with its score."""


def sibling_preferences(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    """Rows from every turn of the debate for which several candidates were sampled.

    Candidates are ranked by `Turn.score`. They are compared only where their
    samples have the same prompt id; equal scores make a tie.
    """
    chooser = transcript.debate.agents.get(transcript.debate.protocol.choose_by)
    provenance = Provenance(
        question_id=transcript.question.id,
        debate_id=transcript.debate.id,
        protocol=transcript.debate.protocol.name,
        judges=(chooser.agent,) if chooser else (),
    )
    for candidates in _groups(transcript):
        if settings.label == "truth":
            dropped.add(Reason.NO_TRUTH)
            continue
        scores = {turn.id: turn.score for turn in candidates}
        make = RankedRows("siblings", provenance, settings, prompt_of, dropped)
        yield from make.rows(candidates, scores)


def _groups(transcript: Transcript) -> Iterator[list[Turn]]:
    groups: dict[tuple[int, str], list[Turn]] = defaultdict(list)
    for turn in transcript.turns:
        if turn.act.answers:
            groups[turn.step, turn.seat].append(turn)
    yield from (group for group in groups.values() if len(group) > 1)


@dataclass(frozen=True, slots=True)
class RankedRows:
    """Makes rows of candidates for one turn, by whatever scores them."""

    kind: PreferenceKind
    provenance: Provenance
    settings: PreferenceSettings
    prompt_of: PromptOf
    dropped: Dropped

    def rows(
        self, candidates: Iterable[Turn], scores: Mapping[str, float | None]
    ) -> Iterator[Preference]:
        """Rows of `candidates`, of which `scores` has each one's by its turn id."""
        by_prompt = self._usable(candidates, scores)
        for prompt, scored in by_prompt.items():
            if len(scored) < 2:
                self.dropped.add(Reason.NO_COMMON_PROMPT, len(by_prompt) > 1)
                continue
            ranked = self._rank(scored)
            yield from self._rows(ranked, prompt.read(self.prompt_of))

    def _usable(
        self, candidates: Iterable[Turn], scores: Mapping[str, float | None]
    ) -> dict[PromptTokens, list[Scored]]:
        """Candidates that can be compared, by prompt, the best first; equal texts kept once."""
        groups: dict[PromptTokens, dict[str, Scored]] = defaultdict(dict)
        for turn in candidates:
            reason, sample, score = flaw(turn), speech(turn), scores[turn.id]
            if reason is None and sample is None:
                reason = Reason.NO_PROMPT
            elif reason is None and score is None:
                reason = Reason.UNSCORED
            if reason is not None or sample is None or score is None:
                self.dropped.add(reason or Reason.NO_PROMPT)
            elif (made := response(turn)).text in groups[asked(sample)]:
                self.dropped.add(Reason.IDENTICAL)
            else:
                scored = made.model_copy(update={"score": score})
                groups[asked(sample)][made.text] = (scored, score)
        return {
            prompt: sorted(group.values(), key=lambda scored: -scored[1])
            for prompt, group in groups.items()
        }

    def _rank(self, scored: list[Scored]) -> list[tuple[Scored, ...]]:
        """The comparisons asked for, each from best to worst, without those too close to call."""
        settings = self.settings
        if settings.siblings == "kwise":
            pairs: list[tuple[Scored, ...]] = [tuple(scored)]
        elif settings.siblings == "best_worst":
            pairs = [(scored[0], scored[-1])]
        elif settings.siblings == "best_all":
            pairs = [(scored[0], other) for other in scored[1:]]
        else:
            pairs = list(combinations(scored, 2))
        kept = []
        for pair in pairs:
            gap = pair[0][1] - pair[-1][1]
            if gap <= TIE_TOLERANCE and not settings.ties:
                self.dropped.add(Reason.TIE)
            elif TIE_TOLERANCE < gap < settings.min_score_gap:
                self.dropped.add(Reason.BELOW_MARGIN)
            else:
                kept.append(pair)
        return kept

    def _rows(self, ranked: list[tuple[Scored, ...]], record: PromptRecord) -> Iterator[Preference]:
        for row in ranked:
            gap = row[0][1] - row[-1][1]
            weights = {"equal": 1.0, "per_prompt": 1.0 / len(ranked), "margin": gap}
            yield Preference(
                kind=self.kind,
                prompt=record.prompt,
                prompt_ids=record.token_ids or None,
                responses=tuple(scored for scored, _ in row),
                ranks=_dense_ranks([score for _, score in row]),
                weight=weights[self.settings.weight],
                provenance=self.provenance,
            )


def _dense_ranks(scores: list[float]) -> tuple[int, ...]:
    """Ranks of scores that fall from left to right: 0 is best, equal scores share a rank."""
    ranks = [0]
    for before, after in pairwise(scores):
        ranks.append(ranks[-1] + (before - after > TIE_TOLERANCE))
    return tuple(ranks)
