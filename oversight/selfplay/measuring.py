"""What is measured of the debates of one arm: rulings one by one, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from oversight.evals.accuracy import score
from oversight.evals.intervals import mean_interval
from oversight.evals.observations import observations
from oversight.evals.report import build_report
from oversight.store import Store
from oversight.train.distributed import World
from oversight.train.model.loading import frozen, load_policy, read_config
from oversight.train.scoring import row_logprobs
from oversight.train.settings import ModelSettings
from oversight.train.types import TokenRow
from oversight.types import Purpose, Sample, Verdict

VOTES = 11
"""Of a majority vote of the judge: about as many calls as a debate with best of four takes."""
MAX_TOKENS = 16_384


def measure(store: Path, reference: str | None) -> dict[str, Any]:
    """Everything the report needs of an arm, JSON-plain.

    Args:
        store: Its debates.
        reference: The model that its speakers were before they were trained; None if they were
            not trained.
    """
    with Store.open(str(store), create=False) as opened:
        transcripts = list(opened.transcripts())
        [arm] = build_report(transcripts).arms
        rulings = [
            {
                "question": observed.cluster[1],
                "score": score(observed),
                "p_right": observed.p_correct,
                "honest": observed.honest,
                "valid": observed.verdict is not Verdict.INVALID,
                "majority": _majority(observed.p_correct),
            }
            for each in transcripts
            for observed in observations(each)
        ]
        samples = [
            (each.question.id, sample)
            for each in transcripts
            for turn in each.turns
            if turn.chosen
            for sample in turn.samples
            if sample.purpose is Purpose.SPEECH
        ]
        rows = [_row(opened, sample) for _, sample in samples] if reference else []
    spoken = [turn for each in transcripts for turn in each.spoken()]
    found: dict[str, Any] = {
        "rulings": rulings,
        "position": _plain(asdict(arm.position)),
        "honest_win_rate": _plain(arm.honest_win_rate and asdict(arm.honest_win_rate)),
        "quotes": _plain(arm.quotes and asdict(arm.quotes)),
        "empty": sum(not turn.text.strip() for turn in spoken) / len(spoken) if spoken else 0.0,
        "num_turns": len(spoken),
    }
    if samples:
        lengths = [float(len(sample.token_ids or ())) for _, sample in samples]
        clusters = [question for question, _ in samples]
        found["length"] = _plain(asdict(mean_interval(lengths, clusters, bounds=None)))
        if reference is not None:
            gaps = list(_divergences(reference, rows))
            found["kl"] = _plain(asdict(mean_interval(gaps, clusters, bounds=None)))
    return found


def _majority(p_right: float | None) -> float:
    """Probability that most of `VOTES` answers, each drawn from the belief, are right."""
    if p_right is None:
        return 0.0
    return math.fsum(
        math.comb(VOTES, k) * p_right**k * (1 - p_right) ** (VOTES - k)
        for k in range(VOTES // 2 + 1, VOTES + 1)
    )


def _row(store: Store, sample: Sample) -> TokenRow:
    prompt = store.prompt(sample.prompt_id, num_tokens=sample.usage.prompt_tokens or None)
    return TokenRow(
        np.array(prompt.token_ids, dtype=np.int64),
        np.array(sample.token_ids, dtype=np.int64),
        logprobs=np.array(sample.logprobs, dtype=np.float32),
    )


def _divergences(reference: str, rows: Iterable[TokenRow]) -> Iterator[float]:
    """Of each response the log of its probability now over that under the reference, in nats: its
    mean estimates KL(policy || reference) a response without bias."""
    settings = ModelSettings(path=reference)
    config, _ = read_config(settings, ())
    policy = frozen(load_policy(settings, config, 0))
    kept = list(rows)
    world = World(0, 1, policy.device)
    for row, logps_R in zip(kept, row_logprobs(policy, kept, world, MAX_TOKENS), strict=True):
        assert row.logprobs is not None
        yield float(row.logprobs.sum()) - float(logps_R.sum())


def _plain(value: Any) -> Any:
    """`value` with numbers that JSON has: nothing in the place of those it has not."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
