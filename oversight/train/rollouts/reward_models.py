"""Rewards by models: one, or several whose disagreement is told.

Responses are scored as the ids that were sampled, over the trie of a batch's
rows; so a reward model has to have the policy's vocabulary.

Shapes: M models, B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from oversight.errors import ConfigError
from oversight.train.model.batch import RowBatch
from oversight.train.model.policy import ScalarModel
from oversight.train.rollouts.in_process import evaluating
from oversight.train.rollouts.rewards import RewardSettings, check_folder, grouped
from oversight.train.rollouts.types import Sampled
from oversight.train.runs.reload import quiet
from oversight.train.types import PromptExample, TokenRow

ROWS_AT_ONCE = 64


class RewardModels:
    """The mean of models' rewards, less a penalty for their disagreement."""

    def __init__(self, models: Sequence[ScalarModel], disagreement_penalty: float = 0.0) -> None:
        self.metrics: dict[str, float] = {}
        self._models = models
        self._penalty = disagreement_penalty

    @classmethod
    def load(cls, settings: RewardSettings, tokenizer: Any, device: str) -> Self:
        """The models of the settings' folders.

        Raises:
            ConfigError: A folder holds no reward model of one label, or of another vocabulary.
        """
        for folder in settings.models:
            check_folder(folder)
        models = [ScalarModel(_read(each, tokenizer).to(device)) for each in settings.models]
        return cls(models, settings.disagreement_penalty)

    def score(
        self, examples: Sequence[PromptExample], sampled: Sequence[Sequence[Sampled]]
    ) -> list[list[float]]:
        """One reward for each response; `metrics` say how far the models disagree."""
        rows = [
            each.row(example.prompt_ids)
            for example, group in zip(examples, sampled, strict=True)
            for each in group
        ]
        return grouped(self.score_rows(rows), examples, sampled, "model")

    def score_rows(self, rows: Sequence[TokenRow]) -> list[float]:
        """One reward for each row; `metrics` as for `score`.

        `reward/disagreement` is the mean over rows of the models' standard deviation.
        """
        scores_MB = np.stack([_scores(model, rows) for model in self._models])
        spread_B = scores_MB.std(axis=0)
        self.metrics = {"reward/disagreement": float(spread_B.mean())} if len(scores_MB) > 1 else {}
        return [float(r) for r in scores_MB.mean(axis=0) - self._penalty * spread_B]


@torch.no_grad()
def _scores(model: ScalarModel, rows: Sequence[TokenRow]) -> npt.NDArray[np.float64]:
    with evaluating(model):
        parts = [
            model(RowBatch.build(rows[start : start + ROWS_AT_ONCE], model.device)).cpu().double()
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
    scores: npt.NDArray[np.float64] = torch.cat(parts).numpy()
    return scores


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
