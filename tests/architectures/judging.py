"""Judges what the project computes with a model by what transformers' own class computes.

Four ways in are judged, each by its public door: the `transformers` engine, a policy that is
trained, responses sampled from that policy in process, and a reward model (to reward with, and to
train). The truth is always a plain forward pass, one row at a time, without a cache. Nothing here
is shared with the checks that the project itself makes of a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import building
import numpy as np
import sizes
import torch
from building import Kind
from sizes import EOS, FIRST_ID
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from oversight.errors import OversightError
from oversight.modeling import TokenRow

TOLERANCE = 1e-4
"""Error of a log-probability or a score, relative to 1 plus the largest of them, in float32."""
NOISE_FACTOR = 8
"""Errors up to so many times the model's own rounding (float32 against float64) are none."""
GRADIENT_TOLERANCE = 2e-3
"""Relative error of the gradient of all weights; rounding adds up in it."""
NEW_TOKENS = 24
EXACT, REFUSED, WRONG, CRASH, NONE = "exact", "refused", "WRONG", "CRASH", "none"
CHOICES = ("yes, it was", "no, it was not")
WAYS = ("engine", "train", "sample", "reward", "train reward")
WORDS = ["key", "stone", "river", "lamp", "winter", "table", "garden", "paper", "window", "letter"]


@dataclass(frozen=True)
class Outcome:
    """The result of trying a model in one of the `WAYS`."""

    outcome: str
    about: str = ""
    """The reason of a refusal, or what is wrong; of what is exact its largest error."""


class Wrong(Exception):
    """A value that is not the model's own."""


class NoTruthError(Exception):
    """transformers' own forward pass fails."""


class Truth:
    """A model as transformers runs it: one row a pass, without a cache."""

    def __init__(self, model: Any, noise: float) -> None:
        self.model = model.eval()
        self.noise = noise

    def logps(self, ids: Any) -> torch.Tensor:
        """Log-probabilities [T, V] after each token of a row."""
        row = torch.as_tensor(np.asarray(ids))[None]
        return self._logits(row, use_cache=False)[0].float().log_softmax(-1)

    def of_response(self, row: TokenRow) -> torch.Tensor:
        """Log-probability of each response token."""
        ids = torch.from_numpy(row.ids())
        picked = self.logps(ids)[:-1].gather(-1, ids[1:, None])[:, 0]
        return picked[len(row.prompt_ids) - 1 :]

    def score(self, row: TokenRow) -> float:
        """The one label's logit of a sequence classifier."""
        return float(self._logits(torch.from_numpy(row.ids())[None])[0, 0])

    def _logits(self, ids: torch.Tensor, **how: Any) -> torch.Tensor:
        try:
            logits: torch.Tensor = self.model(input_ids=ids, **how).logits
        except Exception as error:
            raise NoTruthError(f"{type(error).__name__}: {_line(error)}") from error
        return logits

    def compare(self, what: str, ours: Any, theirs: Any) -> float:
        """The relative error.

        Raises:
            Wrong: It is more than rounding.
        """
        ours = torch.as_tensor(ours, dtype=torch.float64)
        theirs = torch.as_tensor(theirs, dtype=torch.float64)
        if ours.shape != theirs.shape:
            raise Wrong(f"{what}: shapes {tuple(ours.shape)} and {tuple(theirs.shape)}")
        scale = 1 + theirs.abs().max().item()
        error = (ours - theirs).abs().max().item()
        if not error <= max(TOLERANCE * scale, NOISE_FACTOR * self.noise):
            raise Wrong(f"{what}: relative error {error / scale:.2g}")
        return error / scale


def make_rows(vocab: int, ended: bool = False, seed: int = 0) -> list[TokenRow]:
    """Rows on both sides of every window and switch, some of which begin alike.

    Args:
        vocab: Ids are below.
        ended: Every row ends with EOS; some encoder-decoders read nothing else.
    """
    rng = np.random.default_rng(seed)

    def ids(size: int) -> Any:
        return rng.integers(FIRST_ID, vocab, size)

    long, short, other = ids(40), ids(4), ids(21)
    first = ids(30)
    parts = [
        (long, first),
        (long, np.concatenate([first[:7], ids(12)])),
        (long, ids(3)),
        (short, ids(5)),
        (other, ids(6)),
        (short, ids(90)),
    ]
    ends = [ended or i % 2 == 0 for i in range(len(parts))]
    return [
        TokenRow(p, np.concatenate([r, [EOS]]) if end else r, id=f"row {i}")
        for i, ((p, r), end) in enumerate(zip(parts, ends, strict=True))
    ]


def judged(way: Callable[[], float]) -> Outcome:
    """The outcome of a way in, whatever it raises."""
    try:
        return Outcome(EXACT, f"{way():.1g}")
    except Wrong as error:
        return Outcome(WRONG, str(error))
    except OversightError as error:
        return Outcome(REFUSED, first_sentence(str(error)))
    except NoTruthError as error:
        return Outcome(NONE, f"its own forward pass fails: {error}")
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"
        return Outcome(CRASH, f"{type(error).__name__} at {place}: {_line(error)}")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def first_sentence(text: str) -> str:
    """A message up to its first full stop, on one line, without the folder that it was in."""
    text = re.sub(r"/\S*/sweep-\w+/", "", " ".join(text.split()))
    return text.split(". ")[0][:300]


# --- the engine -----------------------------------------------------------------------------------


@torch.no_grad()
def judge_engine(folder: Path, truth: Truth) -> float:
    """Greedy answers and scored choices of requests in company, and of others after them."""
    return asyncio.run(_judge_engine(folder, truth))


async def _judge_engine(folder: Path, truth: Truth) -> float:
    from oversight.engines.transformers import Config, build
    from oversight.types import Message, Prompt, Request, Sampling

    def request(words: int, start: int = 0, **how: Any) -> Request:
        text = " ".join((WORDS * 6)[start : start + words])
        prompt = Prompt(messages=(Message(role="user", parts=(text,)),))
        sampling = {"max_tokens": NEW_TOKENS, "temperature": 0.0, "logprobs": True} | how
        return Request(prompt, Sampling(**sampling), id=f"{words} words from {start}")

    first = [request(1), request(9), request(10), request(3, 4), request(2, 5, max_tokens=40)]
    # Again, with beginnings that are kept by now, a short one after long ones, and choices.
    second = [request(11), request(1, 2)]
    second += [request(words, choices=CHOICES) for words in (8, 1)]
    engine = build(Config(model=str(folder), device="cpu", dtype="float32", chat="plain"))
    done: list[Any] = []
    refused: list[OversightError] = []
    try:
        for wave in (first, second):
            try:
                done += await engine.generate(wave)
            except OversightError as error:
                refused.append(error)
                for each in wave:  # what is not refused has to be right nevertheless
                    with contextlib.suppress(OversightError):
                        done += await engine.generate([each])
    finally:
        await engine.aclose()
    errors = [_judge_completion(each, truth) for each in done]
    if refused:
        raise refused[0]
    return max(errors)


def _judge_completion(done: Any, truth: Truth) -> float:
    row = TokenRow(np.array(done.prompt_ids), np.array(done.token_ids))
    what = f"request of {done.request_id}, answer of {len(done.token_ids)} tokens"
    start = len(row.prompt_ids)
    logps = truth.logps(row.ids())[start - 1 : -1]
    try:
        return _judge_tokens(what, done, logps, truth)
    except Wrong:
        # A model whose angles depend on the length so far: each token from what stood before it.
        steps = [truth.logps(row.ids()[: start + i])[-1] for i in range(len(row.response_ids))]
        return _judge_tokens(what, done, torch.stack(steps), truth)


def _judge_tokens(what: str, done: Any, logps_TV: torch.Tensor, truth: Truth) -> float:
    ids = torch.tensor(done.token_ids)
    theirs = logps_TV.gather(-1, ids[:, None])[:, 0]
    error = truth.compare(what, done.logprobs, theirs)
    if done.text not in CHOICES:
        truth.compare(f"{what}, likeliest", logps_TV.max(-1).values, theirs)
    return error


# --- the policy -----------------------------------------------------------------------------------


def load_policy(folder: Path) -> Any:
    """The policy, as a trainer loads it."""
    from oversight.train.loading import load_policy, read_config
    from oversight.train.settings import ModelSettings

    settings = ModelSettings(path=str(folder), device="cpu")
    config, _ = read_config(settings, ())
    return load_policy(settings, config, 0)


def judge_policy(policy: Any, truth: Truth) -> float:
    """Scores in company and alone, in both modes, and the gradient of their sum."""
    rows = make_rows(sizes.VOCAB)
    with torch.no_grad():
        theirs = [truth.of_response(row) for row in rows]
        policy.eval()
        each = list(zip(rows, theirs, strict=True))
        errors = [_judge_rows("alone", policy, [row], [logps], truth) for row, logps in each]
        errors.append(_judge_rows("in company", policy, rows, theirs, truth))
        errors.append(_judge_rows("alone, again", policy, rows[3:4], theirs[3:4], truth))
        policy.train()
        errors.append(_judge_rows("in train mode", policy, rows, theirs, truth))
        errors.append(_judge_rows("in train mode, again", policy, rows, theirs, truth))
    judge_gradient(policy, rows, truth)
    return max(errors)


def _scores(policy: Any, rows: Sequence[TokenRow]) -> torch.Tensor:
    from oversight.modeling.scoring.trie import RowBatch

    logps: torch.Tensor = policy(RowBatch.build(rows)).logps_BR
    return logps


def _judge_rows(
    what: str, policy: Any, rows: Sequence[TokenRow], theirs: Sequence[torch.Tensor], truth: Truth
) -> float:
    ours = _scores(policy, rows)
    return max(
        truth.compare(
            f"row of {row.num_tokens} tokens {what}", ours[i, : len(row.response_ids)], theirs[i]
        )
        for i, row in enumerate(rows)
    )


def judge_gradient(policy: Any, rows: Sequence[TokenRow], truth: Truth) -> None:
    """The gradient of all log-probabilities' sum, by every weight.

    Raises:
        Wrong: It is not the plain model's.
    """
    policy.zero_grad()
    _scores(policy, rows).sum().backward()
    truth.model.zero_grad()
    for row in rows:
        truth.of_response(row).sum().backward()
    own = dict(policy.inner.named_parameters())
    difference = total = 0.0
    for name, weight in truth.model.named_parameters():
        theirs = torch.zeros_like(weight) if weight.grad is None else weight.grad
        given = own[name].grad
        ours = torch.zeros_like(weight) if given is None else given
        difference += (ours - theirs).double().square().sum().item()
        total += theirs.double().square().sum().item()
    policy.zero_grad()
    truth.model.zero_grad()
    error = (difference / total) ** 0.5 if total else float("nan")
    if not error <= max(GRADIENT_TOLERANCE, 100 * truth.noise):
        raise Wrong(f"gradient of {len(rows)} rows: relative error {error:.2g}")


@torch.no_grad()
def judge_sampler(policy: Any, truth: Truth) -> float:
    """Log-probabilities of sampled tokens: those of the plain model."""
    from oversight.train.experience_settings import SamplingSettings
    from oversight.train.rollouts.in_process import InProcessSampler

    rng = np.random.default_rng(1)
    prompts = [rng.integers(FIRST_ID, sizes.VOCAB, size) for size in (45, 4, 20)]
    prompts.append(np.concatenate([prompts[0][:25], prompts[2][:9]]))
    sampler = InProcessSampler(policy, SamplingSettings(max_new_tokens=NEW_TOKENS), (EOS,))
    try:
        return _judge_samples(sampler, prompts, truth)
    except OversightError:
        for prompt in prompts:  # what is not refused has to be right nevertheless
            with contextlib.suppress(OversightError):
                _judge_samples(sampler, [prompt], truth)
        raise


def _judge_samples(sampler: Any, prompts: Sequence[Any], truth: Truth) -> float:
    errors = []
    for prompt, group in zip(prompts, sampler.sample(prompts, 2, seed=0), strict=True):
        for response in group:
            row = response.row(prompt)
            what = f"sampled {len(row.response_ids)} tokens after {len(prompt)}"
            errors.append(truth.compare(what, response.logprobs, truth.of_response(row)))
    return max(errors)


# --- reward models --------------------------------------------------------------------------------


@torch.no_grad()
def judge_reward(folder: Path, truth: Truth, ended: bool) -> float:
    """Scores that a reward model gives to rows in company and alone."""
    from oversight.train.experience_settings import RewardSettings
    from oversight.train.rollouts.reward_models import RewardModels

    tokenizer = AutoTokenizer.from_pretrained(folder)  # which may be of another class by now
    settings = RewardSettings(source="model", models=(str(folder),))
    models = RewardModels.load(settings, tokenizer, "cpu")
    rows = make_rows(sizes.VOCAB, ended)
    theirs = [truth.score(row) for row in rows]
    alone = [models.score_rows([row])[0] for row in rows]
    errors = [truth.compare("alone", alone, theirs)]
    return max([*errors, truth.compare("in company", models.score_rows(rows), theirs)])


def judge_reward_training(base: Path, out: Path, noise: float, ended: bool) -> float:
    """The relative error of a trained reward model that transformers reads back."""
    from oversight.modeling.scoring.policy import ScalarModel
    from oversight.modeling.scoring.trie import RowBatch
    from oversight.train import reward

    rows = [
        {
            "prompt": " ".join(WORDS[i : i + 4]),
            "chosen": " ".join((WORDS * 2)[i : i + 9]),
            "rejected": " ".join((WORDS * 2)[i + 3 : i + 5]),
        }
        for i in range(8)
    ]
    trained: list[Any] = []
    given = ScalarModel.forward

    def noted(self: Any, batch: Any) -> Any:
        if torch.is_grad_enabled():  # others are checks
            trained.append(self)
        return given(self, batch)

    config = reward.Config.parse(
        {
            "out": str(out),
            "steps": 2,
            "batch_size": 4,
            "model": {"path": str(base), "device": "cpu"},
            "data": {},
            "optimizer": {"lr": 1e-3},
        }
    )
    ScalarModel.forward = noted  # type: ignore[method-assign]
    try:
        folder = reward.train(config, rows=rows)
    finally:
        ScalarModel.forward = given  # type: ignore[method-assign]
    model = trained[-1].eval()
    own = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    truth = Truth(own, noise)
    with torch.no_grad():
        tested = make_rows(sizes.VOCAB, ended)
        ours = model(RowBatch.build(tested))
        return truth.compare("read back", ours, [truth.score(row) for row in tested])


# --- one kind -------------------------------------------------------------------------------------


def judge(kind: Kind, folder: Path) -> dict[str, Any]:
    """The outcome of each of the `WAYS`; `none` with a reason where there is no such model."""
    logging.disable(logging.CRITICAL)
    found: dict[str, Outcome] = {}
    tokenizer = building.tokenizer(kind)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for types, part in (
            (building.CAUSAL, _judge_causal),
            (building.CLASSIFIERS, _judge_classifier),
        ):
            if kind.model_type not in types:
                continue
            try:
                found |= part(kind, folder / part.__name__, tokenizer)
            except building.NotBuiltError as error:
                way = "engine" if types is building.CAUSAL else "reward"
                found[way] = Outcome(NONE, sizes.WHY_NOT.get(kind.name, str(error)))
            gc.collect()
    return {way: asdict(found[way]) for way in WAYS if way in found}


def _judge_causal(kind: Kind, folder: Path, tokenizer: Any) -> dict[str, Outcome]:
    noise = building.save(kind, AutoModelForCausalLM, folder, tokenizer)
    truth = Truth(building.read(AutoModelForCausalLM, folder), noise)
    found = {"engine": judged(lambda: judge_engine(folder, truth))}
    policies: list[Any] = []

    def policy() -> Any:
        if not policies:
            policies.append(load_policy(folder))
        return policies[0]

    found["train"] = judged(lambda: judge_policy(policy(), truth))
    found["sample"] = judged(lambda: judge_sampler(policy(), truth))
    out = folder.parent / "run"
    found["train reward"] = judged(lambda: judge_reward_training(folder, out, noise, False))
    return found


def _judge_classifier(kind: Kind, folder: Path, tokenizer: Any) -> dict[str, Outcome]:
    noise = building.save(kind, AutoModelForSequenceClassification, folder, tokenizer)
    truth = Truth(building.read(AutoModelForSequenceClassification, folder), noise)
    ended = _reads_at_eos(truth)
    found = {"reward": judged(lambda: judge_reward(folder, truth, ended))}
    if kind.model_type not in building.CAUSAL:
        out = folder.parent / "run-of-classifier"
        found["train reward"] = judged(lambda: judge_reward_training(folder, out, noise, ended))
    return found


@torch.no_grad()
def _reads_at_eos(truth: Truth) -> bool:
    """True if a model takes only rows that end with EOS."""
    row = TokenRow(make_rows(sizes.VOCAB)[0].ids()[:20], np.array([8, 7]))
    try:
        truth.score(row)
    except NoTruthError as error:
        return "eos" in str(error)
    return False
