"""Preferences among best-of-N candidates of one turn: the same speaker, the same prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise

from oversight.preferences.dropped import Dropped, Reason
from oversight.preferences.responses import Asked, PromptOf, asked, flaw, response, speech
from oversight.preferences.rulings import TIE_TOLERANCE
from oversight.preferences.settings import PreferenceSettings
from oversight.types import Preference, PromptRecord, Provenance, Response, Transcript, Turn

Scored = tuple[Response, float]
"""A candidate with its score."""


def sibling_preferences(
    transcript: Transcript, settings: PreferenceSettings, prompt_of: PromptOf, dropped: Dropped
) -> Iterator[Preference]:
    """Rows from every turn of the debate for which several candidates were sampled.

    Candidates are ranked by `Turn.score`. They are compared only where their
    samples have the same prompt id; equal scores make a tie.
    """
    for candidates in _groups(transcript):
        if settings.label == "truth":
            dropped.add(Reason.NO_TRUTH)
            continue
        by_prompt = _usable(candidates, dropped)
        for prompt, scored in by_prompt.items():
            if len(scored) < 2:
                dropped.add(Reason.NO_COMMON_PROMPT, len(by_prompt) > 1)
                continue
            rows = _rank(scored, settings, dropped)
            yield from _rows(rows, prompt.read(prompt_of), transcript, settings)


def _groups(transcript: Transcript) -> Iterator[list[Turn]]:
    groups: dict[tuple[int, str], list[Turn]] = defaultdict(list)
    for turn in transcript.turns:
        if turn.act.argues:
            groups[turn.step, turn.seat].append(turn)
    yield from (group for group in groups.values() if len(group) > 1)


def _usable(candidates: list[Turn], dropped: Dropped) -> dict[Asked, list[Scored]]:
    """Candidates that can be compared, by prompt, the best first; equal texts kept once."""
    groups: dict[Asked, dict[str, Scored]] = defaultdict(dict)
    for turn in candidates:
        reason = flaw(turn)
        sample = speech(turn)
        if reason is None and sample is None:
            reason = Reason.NO_PROMPT
        elif reason is None and turn.score is None:
            reason = Reason.UNSCORED
        if reason is not None or sample is None or turn.score is None:
            dropped.add(reason or Reason.NO_PROMPT)
        elif sample.text in groups[asked(sample)]:
            dropped.add(Reason.IDENTICAL)
        else:
            groups[asked(sample)][sample.text] = (response(turn), turn.score)
    return {
        prompt: sorted(group.values(), key=lambda scored: -scored[1])
        for prompt, group in groups.items()
    }


def _rank(
    scored: list[Scored], settings: PreferenceSettings, dropped: Dropped
) -> list[tuple[Scored, ...]]:
    """The comparisons asked for, each from best to worst, without those too close to call."""
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
            dropped.add(Reason.TIE)
        elif TIE_TOLERANCE < gap < settings.min_score_gap:
            dropped.add(Reason.BELOW_MARGIN)
        else:
            kept.append(pair)
    return kept


def _rows(
    ranked: list[tuple[Scored, ...]],
    record: PromptRecord,
    transcript: Transcript,
    settings: PreferenceSettings,
) -> Iterator[Preference]:
    chooser = transcript.debate.agents.get(transcript.debate.protocol.choose_by)
    provenance = Provenance(
        question_id=transcript.question.id,
        debate_id=transcript.debate.id,
        protocol=transcript.debate.protocol.name,
        judges=(chooser.agent,) if chooser else (),
    )
    for row in ranked:
        gap = row[0][1] - row[-1][1]
        weights = {"equal": 1.0, "per_prompt": 1.0 / len(ranked), "margin": gap}
        yield Preference(
            kind="siblings",
            prompt=record.prompt,
            prompt_ids=record.token_ids or None,
            responses=tuple(scored for scored, _ in row),
            ranks=_dense_ranks([score for _, score in row]),
            weight=weights[settings.weight],
            provenance=provenance,
        )


def _dense_ranks(scores: list[float]) -> tuple[int, ...]:
    """Ranks of scores that fall from left to right: 0 is best, equal scores share a rank."""
    ranks = [0]
    for before, after in pairwise(scores):
        ranks.append(ranks[-1] + (before - after > TIE_TOLERANCE))
    return tuple(ranks)
