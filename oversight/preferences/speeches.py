"""Speeches called good or bad by who won: rows for KTO and its kin.

The two sides of a debate between prompted models answer different prompts, as each is told what to
defend, so that they make no pair. Each speech by itself can still be learnt from: it was good if
the judges came to believe what it argued for (Ethayarajh et al. 2024 learn from such labels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oversight.preferences.dropped import Dropped, Reason
from oversight.preferences.responses import PromptOf, asked, flaw, response, speech
from oversight.preferences.rulings import TIE_TOLERANCE, consensus, rulings, without_unseen
from oversight.preferences.settings import PreferenceSettings
from oversight.preferences.sides import Win, provenance_of, too_close, win_of
from oversight.types import Labelled, Transcript, Turn


def labelled_speeches(
    transcripts: Iterable[Transcript],
    settings: PreferenceSettings,
    prompt_of: PromptOf,
    dropped: Dropped | None = None,
) -> Iterator[Labelled]:
    """One row for each speech that stands in a judged debate or consultancy, without ties.

    Args:
        transcripts: Judged debates.
        settings: `label`, `judges`, `unseen`, `min_margin` and `weight` count.
        prompt_of: The stored prompt of an id.
        dropped: Counts what did not become a row, if given.
    """
    counts = Dropped() if dropped is None else dropped
    for transcript in transcripts:
        speeches = [turn for turn in transcript.spoken() if turn.argues]
        if not speeches:
            continue
        read = (
            transcript if settings.unseen else without_unseen(transcript, counts, settings.judges)
        )
        win = _win(read, settings)
        reason = win if isinstance(win, Reason) else too_close(win, settings)
        if not isinstance(win, Reason) and win.tied:
            reason = Reason.TIE
        if isinstance(win, Reason) or reason is not None:
            counts.add(reason or Reason.TIE, len(speeches))
            continue
        for turn in speeches:
            row = _row(turn, transcript, win, settings, prompt_of)
            if isinstance(row, Reason):
                counts.add(row)
            else:
                yield row


def _win(transcript: Transcript, settings: PreferenceSettings) -> Win | Reason:
    """The winning option; of a consultancy, whether the consultant's own is believed at all."""
    protocol = transcript.debate.protocol
    if len(protocol.speakers) > 1:
        return win_of(transcript, settings)
    side = transcript.debate.orders.defended_by(protocol.speakers[0])
    if settings.label == "truth":
        correct = transcript.question.correct
        return Reason.NO_TRUTH if correct is None else Win(correct, None, tied=False)
    given = [r for r in rulings(transcript) if not settings.judges or r.judge in settings.judges]
    belief = consensus(given)
    if belief is None or belief.probs is None:
        return Reason.ABSTAIN if given else Reason.NO_RULING
    p = belief.probs[side]
    if p > 0.5:
        return Win(side, p, tied=False, given=tuple(given))
    other = next(index for index in range(len(belief.probs)) if index != side)
    return Win(other, 1.0 - p, tied=0.5 - p <= TIE_TOLERANCE, given=tuple(given))


def _row(
    turn: Turn,
    transcript: Transcript,
    win: Win,
    settings: PreferenceSettings,
    prompt_of: PromptOf,
) -> Labelled | Reason:
    sample, reason = speech(turn), flaw(turn)
    if reason is not None:
        return reason
    if sample is None:
        return Reason.NO_PROMPT
    record = asked(sample).read(prompt_of)
    label = transcript.debate.orders.defended_by(turn.seat) == win.winner
    p = None if win.p is None else (win.p if label else 1.0 - win.p)
    margin = 1.0 if win.p is None else 2.0 * win.p - 1.0
    return Labelled(
        prompt=record.prompt,
        prompt_ids=record.token_ids or None,
        response=response(turn),
        label=label,
        p=p,
        weight=margin if settings.weight == "margin" else 1.0,
        provenance=provenance_of(transcript, win),
    )
