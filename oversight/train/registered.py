"""Trainers by name: what one is, the decorator that makes one, and names known from elsewhere.

A file of this package with a function under `@trainer` is a command of `oversight train`, by the
file's name. A trainer of one's own is given there as "file.py:function", or added by another
distribution under the entry-point group `oversight.trainers`. Names are read from the files'
text, so that listing them imports nothing.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from oversight.errors import ConfigError, UnknownNameError
from oversight.registry import check_path, load_named, nearest

if TYPE_CHECKING:
    from oversight.train.plan import Plan
    from oversight.train.settings import TrainSettings

GROUP = "oversight.trainers"
"""Entry points of other distributions, `name = "package.module:function"`."""
Makes = Literal["policy", "reward model"]


@dataclass(frozen=True, slots=True)
class Trainer:
    """A registered trainer."""

    function: Callable[..., Path]
    """`train(config, *, rows=None, resume=False)`, which gives the finished model's folder."""
    settings: type[TrainSettings]
    """Of a run: what its recipe holds."""
    plan: Callable[[Any], Plan]
    """From settings to what a run would be; it refuses all that the run would refuse."""
    makes: Makes = "policy"
    """Kind of the finished model."""

    def __call__(self, *args: Any, **kwargs: Any) -> Path:
        """Train, and give the folder of the finished model."""
        return self.function(*args, **kwargs)


class TrainerModule(ModuleType):
    """A trainer's module, which can be called: `oversight.train.dpo(rows, out="runs/dpo", …)`."""

    def __call__(self, rows: Any = None, *, resume: bool = False, **settings: Any) -> Path:
        """Train, and give the folder of the finished model.

        Args:
            rows: Rows or preference records in memory, or a pandas frame; unset, those of the
                files that `data` names.
            resume: Go on with the run in the folder `out`, if there is one.
            **settings: The run's, as its recipe has them; `model` may be a path or a hub name.

        Raises:
            ConfigError: A setting is wrong.
            DataError: Rows cannot be used.
        """
        [found] = [each for each in vars(self).values() if isinstance(each, Trainer)]
        if isinstance(settings.get("model"), str):
            settings["model"] = {"path": settings["model"]}
        if rows is not None:
            settings.setdefault("data", {})
            rows = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        return found(found.settings.parse(settings), rows=rows, resume=resume)


def trainer(
    settings: type[TrainSettings], *, plan: Callable[[Any], Plan], makes: Makes = "policy"
) -> Callable[[Callable[..., Path]], Trainer]:
    """Register `function(config, *, rows=None, resume=False)` as a trainer.

    Args:
        settings: The class of `config`.
        plan: From settings to what a run would be, for `--dry-run`.
        makes: Kind of the finished model.
    """

    def register(function: Callable[..., Path]) -> Trainer:
        module = sys.modules.get(function.__module__)
        if type(module) is ModuleType:
            module.__class__ = TrainerModule
        return Trainer(function, settings, plan, makes)

    return register


# Searched for, as parsing the files would take as long as all else of `oversight --help`.
_REGISTERED = re.compile(r"^@trainer\([^@]*?\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
_FIRST_LINE = re.compile(r'(?:\s|#.*\n)*r?"""(.*?)(?:"""|\n)')


@functools.cache
def _files() -> dict[str, tuple[str, str]]:
    """Each trainer of this package: its function, and the first line of its file's docstring."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        function = _REGISTERED.search(text)
        if function is not None:
            said = _FIRST_LINE.match(text)
            found[path.stem] = (function[1], said[1].strip() if said else "")
    return found


def _plugins() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}


def own_names() -> list[str]:
    """Trainers of this package."""
    return sorted(_files())


def names() -> list[str]:
    """All trainers, found without importing any."""
    return sorted({*_files(), *_plugins()})


def summary(name: str) -> str:
    """One line on a trainer, without importing it."""
    return _files()[name][1] if name in _files() else f"from {_plugins()[name]}"


def load(name: str) -> Trainer:
    """The trainer of a name, or the user's own: "file.py:function" or "package.module:function".

    Raises:
        UnknownNameError: There is none of that name.
        ConfigError: The user's is no trainer.
    """
    check_path(name, "trainer", "trainer", code="function")
    if name in _files():
        found = getattr(import_module(f"{__package__}.{name}"), _files()[name][0])
    elif ":" in name or name in _plugins():
        found = _own(_plugins().get(name, name), Path.cwd())
    else:
        raise UnknownNameError(f"there is no trainer {name!r}.{nearest(name, names())}")
    if not isinstance(found, Trainer):
        kind = "function" if inspect.isfunction(found) else type(found).__name__
        raise ConfigError(
            f"trainer = {name!r}: this {kind} is not registered as a trainer; put "
            "@trainer(Config, plan=plan) from oversight.train.registered above it"
        )
    return found


@functools.cache
def _own(name: str, folder: Path) -> Any:
    """Return the object of a user's name in a folder, whose file is told and imported once."""
    return load_named(name, "trainer", __file__)


# --- settings by the names that they have in TRL and transformers ---

COMMON = {
    "output_dir": "out",
    "model_name_or_path": "model.path",
    "model_revision": "model.revision",
    "attn_implementation": "model.attention",
    "gradient_checkpointing": "model.gradient_checkpointing",
    **dict.fromkeys(("bf16", "fp16", "dtype", "torch_dtype"), "model.precision"),
    **dict.fromkeys(("use_peft", "peft_config"), "model.lora"),
    **dict.fromkeys(("lora_r", "r"), "model.lora.rank"),
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    **dict.fromkeys(("lora_target_modules", "target_modules"), "model.lora.modules"),
    "router_aux_loss_coef": "model.router_aux_coefficient",
    **dict.fromkeys(("lr", "learning_rate"), "optimizer.lr"),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler"), "optimizer.schedule"),
    **dict.fromkeys(("warmup_steps", "warmup_ratio"), "optimizer.warmup"),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), "optimizer.betas"),
    "adam_epsilon": "optimizer.eps",
    "weight_decay": "optimizer.weight_decay",
    "max_grad_norm": "optimizer.max_grad_norm",
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size"), "batch_size"),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "per_device_eval_batch_size"), "micro_batch_tokens"
    ),
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    **dict.fromkeys(("logging_steps", "logging_strategy"), "log_every"),
    **dict.fromkeys(("eval_steps", "eval_strategy", "evaluation_strategy"), "eval_every"),
    **dict.fromkeys(("save_steps", "save_strategy"), "save_every"),
    "save_total_limit": "keep",
    "early_stopping_patience": "patience",
    "report_to": "tensorboard",
    **dict.fromkeys(("train_dataset", "dataset_name", "dataset", "data_files"), "data.path"),
    "eval_dataset": "data.eval_path",
    "shuffle_dataset": "shuffle",
    "dataset_text_field": "data.columns",
    **dict.fromkeys(("max_length", "max_seq_length"), "data.max_length"),
    "max_prompt_length": "data.max_prompt_length",
    "truncation_mode": "data.truncation",
    "chat_template_kwargs": "data.template_args",
}
SAMPLED = {
    "num_generations": "samples",
    **dict.fromkeys(
        ("max_completion_length", "response_length", "max_new_tokens"), "sampling.max_new_tokens"
    ),
    "temperature": "sampling.temperature",
    **dict.fromkeys(("reward_funcs", "reward_function"), "reward.function"),
    **dict.fromkeys(("reward_model_path", "reward_model"), "reward.models"),
    **dict.fromkeys(("use_vllm", "vllm_mode"), "engine"),
    **dict.fromkeys(("num_iterations", "num_ppo_epochs", "ppo_epochs"), "reuse"),
    **dict.fromkeys(("num_mini_batches", "steps_per_generation"), "mini_batches"),
    "vllm_importance_sampling_cap": "importance.high",
    "mask_truncated_completions": "shaping.mask_unfinished",
    "missing_eos_penalty": "shaping.missing_eos",
    "ref_model": "reference",
}
NAMES_ELSEWHERE = {
    "TrainSettings": COMMON,
    "SFTSettings": {
        **dict.fromkeys(("assistant_only_loss", "completion_only_loss"), "data.train_on"),
    },
    "RewardModelSettings": {"center_rewards_coefficient": "options.centring"},
    "DPOSettings": {
        "loss_type": "loss",
        **{name: f"options.{name}" for name in ("beta", "label_smoothing")},
        **{name: f"options.{name}" for name in ("desirable_weight", "undesirable_weight")},
        "simpo_gamma": "options.gamma",
        "discopop_tau": "options.tau",
        "rpo_alpha": "sft_weight",
        "ld_alpha": "length_alpha",
        "use_weighting": "weighted",
        "precompute_ref_log_probs": "precompute",
        **dict.fromkeys(("ref_model", "reference_model", "reference_free"), "reference"),
    },
    "ExperienceSettings": SAMPLED,
    "GRPOSettings": {
        "loss_type": "loss",
        "beta": "kl_coefficient",
        "epsilon": "options.clip_low",
        "epsilon_high": "options.clip_high",
        "delta": "options.dual_clip",
        "scale_rewards": "scale",
    },
    "PPOSettings": {
        **dict.fromkeys(("beta", "kl_coef", "init_kl_coef"), "kl.coefficient"),
        **dict.fromkeys(("cliprange", "epsilon"), "clip_low"),
        "epsilon_high": "clip_high",
        "cliprange_value": "critic.clip",
        "vf_coef": "critic.coefficient",
        "value_model": "critic.path",
        "kl_estimator": "kl.estimator",
        "whiten_rewards": "shaping.scale",
    },
}
"""By the name of a class of settings: names that users of TRL and transformers type, and the
setting that does here what they mean."""
