"""The load-balancing loss of models with experts, over a whole optimiser step.

Fedus et al. 2021, "Switch Transformers", arXiv:2101.03961, eqs. 4 to 6, as transformers computes
it (`load_balancing_loss_func`): E sum_e f_e P_e over the tokens of all layers, f_e the number of
times a token was sent to expert e by the number of tokens, P_e the mean of the router's
probabilities. f has no gradient.

It is a product of means, and so no sum over micro-batches. Here f is of all rows of the
step, of all micro-batches and processes, counted beforehand by a pass without gradient where one
part is not the whole; P is a sum over parts. Tokens of prompt and response count alike, as in
transformers, and one that rows share as often as there are rows that have it.

Shapes: T tokens of the line, E experts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.modeling.scoring.checks import empty_model
from oversight.modeling.scoring.policy import Backbone
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.settings import ModelSettings, TrainSettings

COUNTS = frozenset(
    (
        "num_local_experts",
        "num_experts",
        "n_routed_experts",
        "moe_num_experts",
        "num_routed_experts",
    )
)
"""Fields of configurations that say how many experts a layer has."""
SETTING = "model.router_aux_coefficient"


def has_experts(config: Any) -> bool:
    """Return whether a model of that configuration sends tokens to some of several experts."""
    return _most(config.to_dict()) > 1


def _most(found: Any) -> int:
    """The largest number of experts in a configuration and those inside it."""
    if not isinstance(found, dict):
        return 0
    own = [value for name, value in found.items() if name in COUNTS and isinstance(value, int)]
    return max([0, *own, *map(_most, found.values())])


def check_experts(settings: ModelSettings, config: Any) -> list[str]:
    """Lines about the load-balancing loss of a model with experts; none for other models.

    Raises:
        ConfigError: The loss is asked for, and the model has none.
    """
    coefficient = settings.router_aux_coefficient
    if not has_experts(config):
        if coefficient:
            raise ConfigError(
                f"{SETTING} = {coefficient:g}: a model of type {config.model_type} has no experts "
                "whose load could be balanced; leave it at 0"
            )
        return []
    recorder = _recorder(config)
    if coefficient and recorder is None:
        raise ConfigError(
            f"{SETTING} = {coefficient:g}: transformers has no load-balancing loss for "
            f"{config.model_type}; leave it at 0"
        )
    if coefficient:
        return [
            f"this model has experts: their load-balancing loss is added, times {coefficient:g}"
        ]
    offered = f"{SETTING} adds it" if recorder is not None else "it cannot be added"
    return [f"this model has experts: their load-balancing loss is not part of training; {offered}"]


def _recorder(config: Any) -> Any:
    """Return transformers' recorder of the routers' logits; None where it has no loss of them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        return None
    if not hasattr(sys.modules[kind.__module__], "load_balancing_loss_func"):
        return None
    recorder = (getattr(kind, "_can_record_outputs", None) or {}).get("router_logits")
    return recorder if hasattr(recorder, "target_class") else None


def _language_model(config: Any) -> Any:
    """The language model of a configuration, without weights."""
    from transformers import AutoModelForCausalLM

    return empty_model(AutoModelForCausalLM, config)


@dataclass
class RoutedTokens:
    """Routing of the tokens in one part of a step."""

    counts_E: torch.Tensor
    """Number of times that a token was sent to each expert."""
    probabilities_E: torch.Tensor
    """The sum of the router's probabilities, with gradient."""
    num_tokens: float
    """Over all layers."""

    def state(self) -> list[float]:
        """Counts and tokens as numbers to be summed."""
        return [*self.counts_E.tolist(), self.num_tokens]


@dataclass
class RouterBalance:
    """Hears the routers of a model while it is trained.

    Args:
        trained: A policy or reward model whose configuration `check_experts` takes.
        coefficient: Of the loss.
    """

    trained: Backbone
    coefficient: float
    _logits: list[torch.Tensor] = field(default_factory=list)
    _weights: list[torch.Tensor] = field(default_factory=list)
    """Number of rows that have each token of a line."""
    _is_on: bool = False

    def __post_init__(self) -> None:
        inner = self.trained.inner
        # transformers' loss is of language models: a reward model does not say it itself.
        told = inner if hasattr(inner, "num_experts") else _language_model(inner.config)
        self.num_experts, self.top_k = (
            getattr(told, name, None) for name in ("num_experts", "num_experts_per_tok")
        )
        self._recorder = _recorder(inner.config)
        routers = self._routers()
        if not (routers and isinstance(self.num_experts, int) and isinstance(self.top_k, int)):
            raise ConfigError(
                f"{SETTING} = {self.coefficient:g}: the routers of this model "
                f"({inner.config.model_type}) cannot be heard; leave it at 0"
            )
        for router in routers:
            router.register_forward_hook(self._hear)
        self.trained.register_forward_pre_hook(self._note)

    def _routers(self) -> list[torch.nn.Module]:
        if self._recorder is None:
            return []
        part = self._recorder.layer_name
        return [
            module
            for name, module in self.trained.inner.named_modules()
            if isinstance(module, self._recorder.target_class)
            and (part is None or name.endswith(f".{part}"))
        ]

    def _note(self, trained: Any, given: tuple[Any, ...]) -> None:
        if self._is_on:
            batch: RowBatch = given[0]
            self._weights.append(_multiplicity(batch).to(trained.device))

    def _hear(self, router: Any, given: Any, output: Any) -> None:
        if not self._is_on or not self._weights:
            return
        found = output[self._recorder.index] if isinstance(output, tuple | list) else output
        self._logits.append(found.reshape(-1, found.shape[-1]))

    @contextmanager
    def hearing(self) -> Iterator[Callable[[], RoutedTokens]]:
        """While the model computes one part; gives a function that says where tokens went."""
        self._logits, self._weights, self._is_on = [], [], True
        try:
            yield self._routed
        finally:
            self._logits, self._weights, self._is_on = [], [], False

    def _routed(self) -> RoutedTokens:
        self._is_on = False  # the backward pass may compute layers again
        weight_T = torch.cat(self._weights)
        device = weight_T.device
        counts_E = torch.zeros(int(self.num_experts or 0), device=device)
        probabilities_E, num_tokens = counts_E.clone(), 0.0
        # Lines come one behind the other, each through all layers.
        layers = len(self._logits) // len(self._weights)
        for line, weight in enumerate(self._weights):
            for logits_TE in self._logits[line * layers : (line + 1) * layers]:
                each_TE = torch.softmax(logits_TE, dim=-1)
                chosen_TK = torch.topk(each_TE, int(self.top_k or 1), dim=-1).indices
                with torch.no_grad():
                    sent_TK = weight[:, None].expand(chosen_TK.shape)
                    counts_E.scatter_add_(0, chosen_TK.reshape(-1), sent_TK.reshape(-1))
                probabilities_E = probabilities_E + (each_TE.float() * weight[:, None]).sum(0)
                num_tokens += float(weight.sum())
        return RoutedTokens(counts_E, probabilities_E, num_tokens)

    def loss(self, part: RoutedTokens, whole: list[float]) -> torch.Tensor:
        """This part of the loss of a step, without the coefficient.

        Args:
            part: Where the part's tokens went.
            whole: `RoutedTokens.state` summed over all parts of all processes.
        """
        *counts, num_tokens = whole
        share_E = part.probabilities_E.new_tensor(counts) / num_tokens
        balance: torch.Tensor = (share_E * part.probabilities_E).sum() / num_tokens
        return balance * float(self.num_experts or 0)


def balance_of(
    settings: TrainSettings, models: Mapping[str, torch.nn.Module]
) -> RouterBalance | None:
    """The load-balancing loss of the experts of a policy or reward model, if it is asked for."""
    coefficient = settings.model.router_aux_coefficient
    trained = models.get("policy", models.get("model"))
    if not coefficient or not isinstance(trained, Backbone):
        return None
    return RouterBalance(trained, coefficient)


def _multiplicity(batch: RowBatch) -> torch.Tensor:
    """Return the number of rows that have each token of the line, shape [T]."""
    places = np.concatenate(batch.trie.places)
    return torch.from_numpy(np.bincount(places, minlength=batch.trie.num_tokens)).float()
