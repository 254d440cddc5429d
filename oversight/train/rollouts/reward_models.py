"""Rewards by models: one, or several whose disagreement is told.

Responses are scored as the ids that were sampled; so a reward model has to have
the policy's vocabulary. A reward is what transformers' own class gives for the
row alone. Models that can be scored over the trie of a batch's rows are; those
that cannot (encoders, layers that carry a state, heads of another kind) are run
row by row by their own forward pass.

Shapes: M models, B rows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from oversight.chat.prompt_ids import AnswerDecoder
from oversight.errors import ConfigError
from oversight.modeling import Ids, TokenRow, contract
from oversight.modeling.contract import own_angles
from oversight.modeling.scoring.checks import check_scalar, has_labels, scalar_problem, tolerance_of
from oversight.modeling.scoring.policy import ScalarModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.experience_settings import SourceSettings
from oversight.train.rollouts.in_process import evaluating
from oversight.train.rollouts.types import SampledResponse, check_folder, grouped
from oversight.train.runs.final import quiet
from oversight.train.types import PromptExample

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 64


class RewardModels:
    """The mean of models' rewards, less a penalty for their disagreement."""

    def __init__(
        self,
        models: Sequence[Scorer],
        disagreement_penalty: float = 0.0,
        divider: AnswerDecoder | None = None,
    ) -> None:
        self.metrics: dict[str, float] = {}
        self._divider = divider
        self._models = models
        self._penalty = disagreement_penalty

    @classmethod
    def load(cls, settings: SourceSettings, tokenizer: Any, device: str) -> Self:
        """The models of the settings' folders.

        Raises:
            ConfigError: A folder holds no reward model of one label, or of another vocabulary,
                or one that does not run on rows of tokens.
        """
        for folder in settings.models:
            check_folder(folder)
        models = [
            scorer_of(_named(each), _read(each, tokenizer).to(device)) for each in settings.models
        ]
        return cls(models, settings.disagreement_penalty, AnswerDecoder(tokenizer))

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[SampledResponse]]
    ) -> list[list[float]]:
        """One reward for each response; `metrics` say how far the models disagree.

        A response that holds thoughts is scored as what it says: a model is shown what a judge is.
        """
        rows = [
            self._public(example.prompt_ids, each)
            for example, group in zip(examples, sampled, strict=True)
            for each in group
        ]
        return grouped(self.score_rows(rows), examples, sampled, "model")

    def _public(self, prompt_ids: Ids, response: SampledResponse) -> TokenRow:
        row = response.row(prompt_ids)
        if self._divider is None:
            return row
        ids = self._divider.public_ids(prompt_ids, response.token_ids, response.finished)
        return row if ids is response.token_ids else TokenRow(prompt_ids, ids, id=row.id)

    def score_rows(self, rows: Sequence[TokenRow]) -> list[float]:
        """One reward for each row; `metrics` as for `score`.

        `reward/disagreement` is the mean over rows of the models' standard deviation.
        """
        scores_MB = np.stack([model.score(rows) for model in self._models])
        spread_B = scores_MB.std(axis=0)
        self.metrics = {"reward/disagreement": float(spread_B.mean())} if len(scores_MB) > 1 else {}
        return [float(r) for r in scores_MB.mean(axis=0) - self._penalty * spread_B]


class Scorer(Protocol):
    """A reward model, however it is run."""

    def score(self, rows: Sequence[TokenRow]) -> npt.NDArray[np.float64]:
        """One reward a row, [B]."""
        ...


def scorer_of(name: str, model: Any) -> Scorer:
    """Return a scorer by a sequence-classification model: each row as transformers scores it alone.

    Args:
        name: The setting that names the model, for messages.
        model: In evaluation mode, on its device.

    Raises:
        ConfigError: Its own forward pass does not give one finite number for a row.
    """
    own_angles(model)
    plain = PlainScorer(name, model)
    size = getattr(model.config.get_text_config(), "vocab_size", 1 << 8)
    ids = np.random.default_rng(0).integers(3, size, 16)
    ends = getattr(model.config, "eos_token_id", None)
    tail = [ends if isinstance(ends, int) else ids[0]]
    rows = [TokenRow(ids[:4], np.append(ids[4:stop], tail)) for stop in (16, 9)]
    wanted = plain.score(rows)
    if not np.isfinite(wanted).all():
        raise ConfigError(f"{name}: its reward for a row of random tokens is {wanted[0]}")
    if scalar_problem(model.config) == "":
        try:
            trie = TrieScorer(model)
            check_scalar(trie.model)
            tolerance = tolerance_of(trie.model) * (1.0 + np.abs(wanted).max())
            if np.abs(trie.score(rows) - wanted).max() <= tolerance:
                return trie
        except ConfigError:
            pass
    logger.warning(
        "%s (%s) cannot be scored over shared beginnings: its rows run one at a time",
        name,
        model.config.model_type,
    )
    return plain


class TrieScorer:
    """A causal reward model, rows scored together over their trie."""

    def __init__(self, model: Any) -> None:
        self.model = ScalarModel(model)
        self._pad = getattr(model.config.get_text_config(), "pad_token_id", None)

    @torch.no_grad()
    def score(self, rows: Sequence[TokenRow]) -> npt.NDArray[np.float64]:
        """One reward a row, read where transformers reads it."""
        read = [_to_last_token(row, self._pad) for row in rows]
        with evaluating(self.model):
            parts = [
                self.model(RowBatch.build(read[start : start + ROWS_AT_ONCE], self.model.device))
                for start in range(0, len(read), ROWS_AT_ONCE)
            ]
        scores: npt.NDArray[np.float64] = torch.cat(parts).double().cpu().numpy()
        return scores


class PlainScorer:
    """Any reward model, each row by the model's own forward pass."""

    def __init__(self, name: str, model: Any) -> None:
        self._name = name
        self._model = model

    @torch.no_grad()
    def score(self, rows: Sequence[TokenRow]) -> npt.NDArray[np.float64]:
        """One reward a row."""
        with evaluating(self._model):
            return np.array([self._one(row) for row in rows], dtype=np.float64)

    def _one(self, row: TokenRow) -> float:
        config = self._model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None)
        turns = getattr(config, "rope_parameters", None) is not None
        if longest is not None and not turns and row.num_tokens > longest:
            raise ConfigError(
                f"{self._name}: row {row.id!r} has {row.num_tokens} tokens, and the model has "
                f"{longest} positions; shorten prompts or sampling.max_new_tokens"
            )
        try:
            return float(contract.reward(self._model, (row.prompt_ids, row.response_ids)))
        except contract.CAUGHT as error:
            raise ConfigError(
                f"{self._name}: a model of type {config.model_type!r} gives no reward for row "
                f"{row.id!r} ({str(error).splitlines()[0]}); take a reward model whose own forward "
                "pass takes input_ids alone"
            ) from error


def _to_last_token(row: TokenRow, pad: int | None) -> TokenRow:
    """The row up to its last token that is no padding: there transformers reads the label."""
    if pad is None or row.ids()[-1] != pad:
        return row
    ids = row.ids()
    stop = max(1, int((np.flatnonzero(ids != pad) + 1).max(initial=0)))
    start = min(len(row.prompt_ids), stop)
    return TokenRow(ids[:start], ids[start:stop], id=row.id)


def _read(folder: str, tokenizer: Any) -> Any:
    """The model of a folder, checked to be a reward model for the policy's ids."""
    from transformers import AutoModelForSequenceClassification

    config = read_reward_config(folder, tokenizer)
    place, name = check_folder(folder), _named(folder)
    try:
        read: Any = AutoModelForSequenceClassification.from_pretrained
        with quiet():
            model, report = read(
                place, config=config, dtype="auto", local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # what readers raise for a truncated file is of no one kind
        raise ConfigError(f"{name} cannot be read: {str(error).splitlines()[0]}") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])[0]
        raise ConfigError(f"{name}: the weight {missing!r} is missing, so it is no reward model")
    return model.eval().requires_grad_(False)


def read_reward_config(folder: str, tokenizer: Any) -> Any:
    """The configuration of a reward model, checked to score the policy's ids; reads no weight.

    Raises:
        ConfigError: It holds no reward model of one label, or of another vocabulary.
    """
    from transformers import AutoConfig

    place, name = check_folder(folder), _named(folder)
    try:
        config = AutoConfig.from_pretrained(place, local_files_only=True)
        if not has_labels(config):
            raise ConfigError(
                f"{name}: a model of type {config.model_type!r} has no sequence-classification "
                "class in transformers, so it is no reward model"
            )
        if config.num_labels == 1:
            _check_vocabulary(name, place, tokenizer)
            return config
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{name} cannot be read: {str(error).splitlines()[0]}") from error
    raise ConfigError(f"{name}: it gives {config.num_labels} labels; a reward is one")


def _named(folder: str) -> str:
    return f"reward.models = {folder!r}"


def _check_vocabulary(name: str, place: Any, tokenizer: Any) -> None:
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(place, local_files_only=True)
    if own.get_vocab() != tokenizer.get_vocab():
        raise ConfigError(
            f"{name}: its tokenizer has another vocabulary than the policy's, and responses are "
            "scored as the ids that were sampled; train it from the same model family"
        )
