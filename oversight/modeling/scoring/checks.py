"""A model's contract (`oversight.modeling`) where it is scored over token tries, before it is used.

Each kind of model is tried small, without its weights; a model that has been read is then tried as
it is, on a few short rows, on its own device and with its own back end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from oversight.errors import ConfigError
from oversight.modeling import TokenRow, contract
from oversight.modeling.contract import switch_off
from oversight.modeling.scoring.attention import BackEnd
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.modeling.scoring.trie import RowBatch

HINT = "docs/training.md says which kinds of models can be"
HEAD = "score"
"""The layer that a sequence-classification model reads its labels off the last token with."""


def check_policy_kind(config: Any, attention: BackEnd = "auto") -> None:
    """Refuse a kind of language model that trainers would not score as it scores itself.

    Raises:
        ConfigError: It names the type of model, and what differs.
    """
    from transformers import AutoModelForCausalLM

    found = contract.problem(
        f"policy, {attention}",
        AutoModelForCausalLM,
        config,
        lambda model: _policy_scores(model, attention),
        own=contract.token_logprobs,
        trains=True,
    )
    _refuse(config, found)


def check_scalar_kind(config: Any, attention: BackEnd = "auto") -> None:
    """Refuse a kind of reward model, or of critic, that trainers would not score as it does.

    Raises:
        ConfigError: As `check_policy_kind`; also where a kind of model has no such head.
    """
    _refuse(config, scalar_problem(config, attention))


def scalar_problem(config: Any, attention: BackEnd = "auto") -> str | None:
    """The reason why reward models of a kind cannot be scored over a trie; empty if they can."""
    from transformers import AutoModelForSequenceClassification

    return contract.problem(
        f"scalar, {attention}",
        AutoModelForSequenceClassification,
        _one_label(config),
        lambda model: _scalar_scores(model, attention),
        own=contract.reward,
        trains=True,
    )


def takes_beginnings(config: Any, attention: BackEnd, *, scalar: bool) -> bool:
    """Return whether a kind of model gives rows the same whose beginning was computed before."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind: Any = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    found = contract.problem(
        f"{'scalar' if scalar else 'policy'} in parts, {attention}",
        kind,
        config,
        lambda model: _held_scores(model, attention, scalar),
        own=contract.reward if scalar else contract.token_logprobs,
    )
    return found == ""


def _held_scores(model: Any, attention: BackEnd, scalar: bool) -> contract.Score:
    """Each row behind its prompt, which is computed in two segments."""
    switch_off(model)
    kind = ScalarModel if scalar else PolicyModel
    scored = kind(model, _on_cpu(attention), model.dtype)

    def one(row: contract.Row) -> torch.Tensor:
        prompt, response = row
        held = max(0, len(prompt) - 1)
        with scored.holding(prompt[:held], len(prompt) + len(response), -(-held // 2)):
            found = scored(RowBatch.build(_token_rows([row])))
        values: torch.Tensor = found if scalar else found.logps_BR[0]
        return values

    return lambda rows: [one(row) for row in rows]


def has_labels(config: Any) -> bool:
    """Return whether transformers has a sequence-classification class for a configuration."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    return type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def _one_label(config: Any) -> Any:
    if not has_labels(config):
        raise ConfigError(
            f"a model of type {config.model_type!r} cannot become a reward model or critic: "
            "transformers has no sequence-classification class for it. Take a base of another "
            "type, such as Llama's, Qwen's, Mistral's or Gemma's"
        )
    config.num_labels = 1
    return config


def _refuse(config: Any, found: str | None) -> None:
    if found:
        raise ConfigError(
            f"a model of type {config.model_type!r} cannot be trained here: scored over a token "
            f"trie, {found}. Take a model of another type; {HINT}"
        )


def _token_rows(rows: Sequence[contract.Row]) -> list[TokenRow]:
    return [TokenRow(prompt, response) for prompt, response in rows]


def _policy_scores(model: Any, attention: BackEnd) -> contract.Score:
    switch_off(model)
    policy = PolicyModel(model, _on_cpu(attention), model.dtype)

    def score(rows: Sequence[contract.Row]) -> list[torch.Tensor]:
        logps_BR = policy(RowBatch.build(_token_rows(rows))).logps_BR
        return [logps_R[: len(row[1])] for logps_R, row in zip(logps_BR, rows, strict=True)]

    return score


def _scalar_scores(model: Any, attention: BackEnd) -> contract.Score:
    if not isinstance(getattr(model, HEAD, None), torch.nn.Linear):
        raise contract.UnsuitedError(
            f"it has no head called {HEAD!r} that reads the last token alone"
        )
    switch_off(model)
    scalar = ScalarModel(model, _on_cpu(attention), model.dtype)

    def score(rows: Sequence[contract.Row]) -> list[torch.Tensor]:
        return list(scalar(RowBatch.build(_token_rows(rows)))[:, None])

    return score


def _on_cpu(attention: BackEnd) -> BackEnd:
    # The kind is tried on the CPU, where flex does not run; the model itself is tried with it.
    return "auto" if attention == "flex" else attention


@torch.no_grad()
def check_policy(policy: PolicyModel) -> None:
    """Refuse a language model whose own weights, as it stands, give other log-probabilities.

    Raises:
        ConfigError: It names the type of model, and by how much.
    """
    rows = _short_rows(policy)
    with policy.computing_in(torch.float32), refusing(policy.inner.config):
        logps_BR = policy.eval()(RowBatch.build(_token_rows(rows), policy.device)).logps_BR
    ours = [logps_R[: len(row[1])] for logps_R, row in zip(logps_BR, rows, strict=True)]
    _agree(ours, [contract.token_logprobs(policy.inner, row) for row in rows], policy)
    policy.train()


@torch.no_grad()
def check_scalar(scalar: ScalarModel) -> None:
    """The same of a sequence-classification model, and its one label.

    Raises:
        ConfigError: As `check_policy`.
    """
    rows = _short_rows(scalar)
    with scalar.computing_in(torch.float32), refusing(scalar.inner.config):
        ours = scalar.eval()(RowBatch.build(_token_rows(rows), scalar.device))
    _agree(list(ours[:, None]), [contract.reward(scalar.inner, row) for row in rows], scalar)
    scalar.train()


def _short_rows(model: PolicyModel | ScalarModel) -> list[contract.Row]:
    """Three rows with a common beginning, two of which go on alike for a while; none holds the
    token that a reward model takes for padding."""
    config = model.inner.config.get_text_config()
    pad = getattr(config, "pad_token_id", None)
    allowed = np.setdiff1d(np.arange(config.vocab_size), [] if pad is None else [pad])
    ids = np.random.default_rng(0).choice(allowed, size=24)
    tails = (ids[8:14], np.concatenate([ids[8:11], ids[14:17]]), ids[17:24])
    return [(ids[:8], tail) for tail in tails]


@contextmanager
def refusing(config: Any) -> Iterator[None]:
    """Turns whatever a model says to being run over a trie into an error that names the model."""
    try:
        yield
    except contract.CAUGHT as error:
        raise ConfigError(
            f"a model of type {config.model_type!r} cannot be trained here: it does "
            f"not run over a token trie ({str(error).splitlines()[0]}); {HINT}"
        ) from error


def tolerance_of(model: PolicyModel | ScalarModel) -> float:
    """Relative difference that rounding may make in a model's type."""
    exact = model.inner.dtype.itemsize >= torch.float32.itemsize
    return contract.LIVE_TOLERANCE if exact else contract.COARSE_TOLERANCE


def _agree(
    ours: Sequence[torch.Tensor],
    plain: Sequence[torch.Tensor],
    model: PolicyModel | ScalarModel,
) -> None:
    whole, wanted = torch.cat(list(ours)), torch.cat(list(plain))
    error = (whole - wanted).abs().max().item()
    # Written so that NaN does not agree.
    if not error <= tolerance_of(model) * (1.0 + wanted.abs().max().item()):
        raise ConfigError(
            f"a model of type {model.inner.config.model_type!r} cannot be trained here: scored "
            f"over a token trie it differs from its own forward pass by {error:.2g}; {HINT}"
        )


def empty_model(kind: Any, config: Any) -> Any:
    """A model of class `kind` whose weights have sizes and no content.

    Raises:
        ConfigError: transformers has no such model for this configuration.
    """
    try:
        with torch.device("meta"):
            return kind.from_config(config)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"a model of type {config.model_type!r} cannot be made as {kind.__name__}: {reason}"
        ) from error


def check_stored(path: str, model: Any, where: str) -> None:
    """Refuse weights that are cut short, or that are of another model's sizes.

    A name on the hub that is not in a folder is not looked at.

    Args:
        path: A folder, or a name on the hub.
        model: The model that they are for; it may stand on the meta device.
        where: The setting that names it, for messages.

    Raises:
        ConfigError: A file is cut short or missing, or a weight has another shape.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{where}: no *.safetensors there; other kinds of weights are not read")
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    for file in files:
        for name, shape in _stored(file, where).items():
            if name in shapes and shapes[name] != shape:
                raise ConfigError(
                    f"{where}: in {file.name} the weight {name!r} has the shape {shape}, and "
                    f"config.json makes it {shapes[name]}; they are of different models"
                )


def _stored(file: Path, where: str) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, "pt") as stored:
            names = stored.keys()
            return {name: tuple(stored.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{where}: {file.name} is cut short or damaged ({error}); copy it anew"
        ) from error
