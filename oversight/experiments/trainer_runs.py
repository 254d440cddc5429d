"""Training runs that an experiment starts: their shared settings, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from oversight.config import describe
from oversight.errors import ConfigError
from oversight.train import losses
from oversight.train.experience_settings import SETTINGS_OF
from oversight.train.settings import ModelSettings

OWN = {
    "out": "each run has its folder in that of the experiment",
    "seed": "runs have the experiment's `seeds`",
}
"""Settings of a trainer that the experiment sets itself."""
LATER = Path("later")
"""Stands for a folder that an earlier job will have made."""
SETTINGS = {**SETTINGS_OF, "sft_judge": SETTINGS_OF["sft"]}
"""Those of the trainer that a table of a recipe is about."""
FAMILIES = {"dpo": ("preference", "unpaired"), "reward": ("reward",), "grpo": ("policy",)}
"""Families of losses that these trainers take."""


def common(
    policy: str, out: Path, seed: int, template_args: dict[str, JsonValue]
) -> dict[str, Any]:
    """Settings that all runs of an experiment share."""
    told = {"data": {"template_args": template_args}} if template_args else {}
    return {
        **told,
        "out": str(out),
        "model": {"path": policy},
        "seed": seed,
        "log_every": 5,
        "save_every": 20,
        "keep": 1,
    }


def merged(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts laid over one another, tables merged value by value."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            known = whole.get(name)
            if isinstance(known, dict) and isinstance(value, Mapping):
                whole[name] = merged(known, value)
            else:
                whole[name] = value
    return whole


def tokenizer_of(policy: str) -> Any:
    """A policy's tokenizer."""
    from oversight.train.loading import read_config

    _, vocabulary = read_config(ModelSettings(path=policy), ())
    return vocabulary.tokenizer


def train_or_find(trainer: Any, config: Mapping[str, Any], **given: Any) -> Path:
    """Train, go on with a run that was killed, or find it finished; the model's folder."""
    from oversight.train.runs.folder import MODEL, is_finished

    settings = trainer.Config.parse(config, trainer.__name__.rsplit(".", 1)[-1])
    if is_finished(settings):
        return Path(settings.out, MODEL)
    found: Path = trainer.train(settings, resume=True, **given)
    return found


def check_given(name: str, given: Mapping[str, JsonValue]) -> None:
    """Refuse names and kinds of values that the trainer of a table does not know.

    What only shows beside the experiment's own settings is left to `check_run`; this needs no
    torch, so that a slip is told at once.

    Args:
        name: The table in the recipe, such as `ppo`.
        given: Its settings, in place of single ones of the experiment.

    Raises:
        ConfigError: Names the setting, as `ppo.steps`.
    """
    _refuse_own(name, given)
    kind = SETTINGS[name]
    needed: dict[str, Any] = {"out": LATER, "model": {"path": "later"}, "data": {}}
    if "reward" in kind.model_fields:
        needed["reward"] = {"source": "length"}
    try:
        kind.model_validate(merged(needed, given))
    except ValidationError as error:
        if error.errors()[0]["type"] != "value_error":  # it may hold of this part alone
            raise ConfigError(describe(error, kind, name)) from None
    loss = given.get("loss")
    families = FAMILIES.get(name, ())
    if isinstance(loss, str) and ":" not in loss:
        known = {each for family in families for each in losses.names(family)}
        if known and loss not in known:
            losses.find(families, loss, where=f"{name}.loss")


def _refuse_own(name: str, given: Mapping[str, JsonValue]) -> None:
    for own, why in OWN.items():
        if own in given:
            raise ConfigError(f"{name}.{own} = {given[own]!r}: leave it out, {why}")


def check_run(
    name: str, trainer: Any, config: Mapping[str, Any], given: Mapping[str, JsonValue]
) -> None:
    """Refuse settings that the trainer would refuse, by their place in the recipe.

    Args:
        name: The run's table in the recipe.
        trainer: Its trainer.
        config: All settings of the run.
        given: Those that the recipe's table gives.

    Raises:
        ConfigError: One cannot be used, or is the experiment's own; names it, as `ppo.steps`.
    """
    _refuse_own(name, given)
    try:
        settings = trainer.Config.model_validate(config)
    except ValidationError as error:
        if not error.errors()[0]["loc"]:  # it speaks of several settings, and names them
            raise ConfigError(f"{name}: {describe(error, trainer.Config)}") from None
        raise ConfigError(describe(error, trainer.Config, name)) from None
    if hasattr(trainer, "check_loss"):
        try:
            trainer.check_loss(settings)
        except ConfigError as error:
            raise ConfigError(f"{name}.{error}") from None


def check_model(name: str, path: str, template_args: dict[str, JsonValue]) -> None:
    """Refuse a model that is not there, is no causal language model, or lacks weights.

    Raises:
        ConfigError: It cannot be used, or its chat template reads no such value; `name` is the
            setting that gives it.
    """
    from transformers import AutoModelForCausalLM

    from oversight.chat.prompt_ids import ChatIds
    from oversight.modeling.scoring.checks import check_stored, empty_model
    from oversight.train.loading import read_config

    try:
        config, vocabulary = read_config(ModelSettings(path=path), ())
        ChatIds(vocabulary.tokenizer, template_args=template_args)
        check_stored(path, empty_model(AutoModelForCausalLM, config), f"{name} = {path!r}")
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.path = ", f"{name} = ", 1)) from None
