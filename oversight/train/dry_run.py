"""`--dry-run`: everything that a run checks and stands on, without a weight read or a file written.

What is read: the data, configurations and tokenizers of all models, and the
headers of their weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from oversight.train import losses
from oversight.train.data import loading
from oversight.train.data.examples import Order, expand
from oversight.train.data.loading import Loaded
from oversight.train.distributed import World, num_processes
from oversight.train.estimate import Load, Shape, available, estimate, shown
from oversight.train.micro_batches import micro_batches
from oversight.train.model.checks import check_policy_kind, check_scalar_kind
from oversight.train.model.loading import adapted, resolve_device
from oversight.train.model.stored import check_stored, empty_model
from oversight.train.model.trie import TokenTrie
from oversight.train.ppo import read_critic
from oversight.train.reference import INITIAL, NONE, read_other
from oversight.train.rollouts.in_process import check_sampling_kind
from oversight.train.rollouts.reward_models import read_reward_config
from oversight.train.rollouts.rewards import check_rewards, tried_rewards
from oversight.train.runs.checkpoints import check_fingerprint
from oversight.train.runs.folder import MODEL, check_places
from oversight.train.samples import sample_lines
from oversight.train.session import num_steps
from oversight.train.start import Started, about, begin
from oversight.train.types import TokenRow

TRAINED = 4
"""Numbers held for a weight that is trained: itself, its gradient, two of the optimiser."""
STEPS_LOOKED_AT = 50
"""Steps whose micro-batches are cut, to see how large they get."""


@dataclass
class _Plan:
    """What is known of a run."""

    trainer: str
    config: Any
    start: Started
    loaded: Loaded[Any]
    checked: list[str] = field(default_factory=list)
    others: list[tuple[str, int]] = field(default_factory=list)
    """Further models that are held in memory, and their weights."""
    tried: list[str] = field(default_factory=list)
    """What a reward function gave for dummy responses to the first rows."""

    @property
    def samples(self) -> bool:
        """Whether responses are sampled."""
        return self.trainer in ("ppo", "grpo")


def dry_run(trainer: str, config: Any, *, resume: bool = False) -> Iterator[str]:
    """Lines for people: what would be trained on, how long, and what memory that takes.

    Args:
        trainer: sft, reward, dpo, ppo or grpo.
        config: Settings of the run.
        resume: Whether the run would go on.

    Raises:
        ConfigError: Settings, models or folders do not fit.
        DataError: The data cannot be used.
    """
    check_places(config, resume)
    _check_loss(trainer, config)
    plan = _plan(trainer, config, resume)
    _check_kind(trainer, config, plan.start.config)
    notes = _check_examples(plan)
    kind = _kind(trainer)
    model = adapted(empty_model(kind, plan.start.config), config.model, _task(trainer))
    if config.model.path is not None:
        check_stored(config.model.path, model, f"model.path = {config.model.path!r}")
    _check_others(plan)
    shape = Shape.of(plan.start.config, model)
    yield f"{trainer} of {_named(plan, shape)}, into {config.out}"
    yield from _indented(plan.start.notes)
    yield from ("", "data", *_indented([*plan.loaded.lines(), *notes]))
    yield from ("", "steps", *_indented(_steps(plan)))
    yield from ("", "an example", *_indented(sample_lines(plan.loaded, plan.start.tokenizer)))
    if plan.tried:
        yield from ("", "the reward function, called on dummy responses", *_indented(plan.tried))
    yield from ("", "memory at the peak of a step, about", *_indented(_memory(plan, shape)))
    yield from ("", f"Checked, and nothing written: {', '.join(plan.checked)}.")


def _plan(trainer: str, config: Any, resume: bool) -> _Plan:
    begun = begin_alone(config)
    room = config.sampling.max_new_tokens if trainer in ("ppo", "grpo") else 0
    loader = _loader(trainer, config)
    loaded = begun.load(loader, config.data, config.batch_size, room=room)
    described = config.out / "config.json"
    if resume and described.exists() and not (config.out / MODEL).exists():
        saved = json.loads(described.read_text(encoding="utf-8"))["fingerprint"]
        check_fingerprint(config.out, saved, about(trainer, config, loaded).fingerprint())
    return _Plan(trainer, config, begun, loaded, ["settings", "folder", "model", "data"])


def begin_alone(config: Any) -> Started:
    """As a run begins, without the other processes of it."""
    world = World(0, 1, resolve_device(config.model.device))
    begun = begin(config, config.data, world=world)
    return Started(world, begun.config, begun.vocabulary, begun.notes, tells=False)


def _loader(trainer: str, config: Any) -> Callable[..., Loaded[Any]]:
    if trainer == "dpo" and losses.find(("preference", "unpaired"), config.loss).unpaired:
        return loading.load_labelled
    loaders: dict[str, Callable[..., Loaded[Any]]] = {
        "sft": loading.load_demonstrations,
        "reward": loading.load_comparisons,
        "dpo": loading.load_comparisons,
        "ppo": loading.load_prompts,
        "grpo": loading.load_prompts,
    }
    return loaders[trainer]


def _check_loss(trainer: str, config: Any) -> None:
    module: Any = import_module(f"oversight.train.{trainer}")
    if hasattr(module, "check_loss"):
        module.check_loss(config)


def _check_examples(plan: _Plan) -> list[str]:
    """What is to be said of the data, from the trainer that checks it."""
    module: Any = import_module(f"oversight.train.{plan.trainer}")
    if not hasattr(module, "check_examples"):
        return []
    found: list[str] = module.check_examples(plan.config, plan.loaded)
    return found


def _kind(trainer: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    return AutoModelForSequenceClassification if trainer == "reward" else AutoModelForCausalLM


def _check_kind(trainer: str, config: Any, model_config: Any) -> None:
    """What a run tries on a model of this kind before it reads its weights."""
    if trainer == "reward":
        check_scalar_kind(model_config, config.model.attention)
        return
    check_policy_kind(model_config, config.model.attention)
    if trainer in ("ppo", "grpo") and config.engine == "in_process":
        check_sampling_kind(model_config)


def _task(trainer: str) -> str:
    return "SEQ_CLS" if trainer == "reward" else "CAUSAL_LM"


def _check_others(plan: _Plan) -> None:
    """The reference, the sources of reward and the critic, as far as the run has them."""
    config, vocabulary = plan.config, plan.start.vocabulary
    if (name := _reference(plan)) != NONE:
        _add_reference(plan, name)
        plan.checked.append("reference")
    if not plan.samples:
        return
    check_rewards(config.reward, plan.start.tokenizer, plan.loaded.examples)
    plan.tried.extend(tried_rewards(config.reward, plan.start.tokenizer, plan.loaded.examples))
    for folder in config.reward.models if config.reward.source == "model" else ():
        found = read_reward_config(folder, plan.start.tokenizer)
        _add(plan, "reward model", found, folder, f"reward.models = {folder!r}")
    plan.checked.append("reward")
    if plan.trainer == "ppo" and config.critic.kind == "apart":
        settings, found = read_critic(config, vocabulary)
        found.num_labels = 1
        _add(plan, "critic", found, settings.path, f"critic.path = {settings.path!r}", TRAINED)
        plan.checked.append("critic")


def _reference(plan: _Plan) -> str:
    """Which reference is held."""
    config = plan.config
    if plan.trainer == "ppo" and not config.kl.coefficient:
        return NONE
    if plan.trainer == "grpo" and not config.kl_coefficient:
        return NONE
    return str(getattr(config, "reference", NONE))


def _add_reference(plan: _Plan, name: str) -> None:
    """Its own model, unless it is the policy without adapters or is scored once beforehand."""
    config = plan.config
    held = 0 if plan.trainer == "dpo" and config.precompute else 1
    if name != INITIAL:
        settings, found = read_other(name, config.model, plan.start.vocabulary)
        _add(plan, "reference", found, settings.path, f"reference = {name!r}", held)
    elif config.model.lora is None:
        _add(plan, "reference", plan.start.config, None, "", held)


def _add(plan: _Plan, name: str, config: Any, path: str | None, where: str, times: int = 1) -> None:
    """Check a further model's kind and files, and note that `times` its weights are held."""
    if name == "reference":
        check_policy_kind(config, plan.config.model.attention)
    elif name == "critic":
        check_scalar_kind(config, plan.config.model.attention)
    model = empty_model(_kind("dpo" if name == "reference" else "reward"), config)
    if path is not None:
        check_stored(path, model, where)
    if times:
        plan.others.append((name, times * sum(w.numel() for w in model.parameters())))


def _named(plan: _Plan, shape: Shape) -> str:
    settings = plan.config.model
    what = "random weights" if settings.path is None else settings.path
    trained = f", {shape.num_trained:,} of them trained" if settings.lora is not None else ""
    return f"{what} ({plan.start.config.model_type}, {shape.num_weights:,} weights{trained})"


def _steps(plan: _Plan) -> Iterator[str]:
    config, examples = plan.config, plan.loaded.examples
    num_learnt = len(_groups(plan)) if not plan.samples else len(examples)
    total = num_steps(config, num_learnt)
    if not plan.samples:
        passes = total * config.batch_size / num_learnt
        yield f"{total:,} of {config.batch_size} examples, {passes:.3g} passes over the data"
        sizes = [_size(part) for parts in _parts(plan) for part in parts]
        per_step = len(sizes) / max(1, len(list(_parts(plan))))
        parts = "1 micro-batch" if per_step == 1 else f"{per_step:.3g} micro-batches"
        yield (
            f"{parts} a step, the largest of {max(t for t, _ in sizes):,} tokens, shared "
            "beginnings counted once"
        )
        return
    if config.steps is None:
        total *= config.steps_per_collection
    yield (
        f"{total:,}, {config.steps_per_collection} on each collection of {config.batch_size} "
        f"prompts × {config.samples} responses of at most {config.sampling.max_new_tokens} tokens"
    )
    yield f"sampled {config.engine}; rewards: {config.reward.source}"


def _groups(plan: _Plan) -> list[Sequence[TokenRow]]:
    """What is learnt from together, as the trainers have it."""
    config, examples = plan.config, plan.loaded.examples
    if plan.trainer == "sft" or plan.loaded.kind == "labelled":
        return [[example.row] for example in examples]
    if plan.trainer == "reward" and losses.load("reward", config.loss).rankings:
        return [example.rows() for example in examples]
    return [pair.rows() for each in examples for pair in expand(each, config.pairs_of, ties=True)]


def _parts(plan: _Plan) -> Iterator[list[list[TokenRow]]]:
    """The micro-batches of the first steps."""
    config, groups = plan.config, _groups(plan)
    order = Order(len(groups), config.seed, config.shuffle)
    for taken in islice(
        order.batches(config.batch_size), min(STEPS_LOOKED_AT, num_steps(config, len(groups)))
    ):
        batch = [groups[int(i)] for i in taken]
        yield [
            [row for i in part for row in batch[i]]
            for part in micro_batches(batch, config.micro_batch_tokens)
        ]


def _size(rows: Sequence[TokenRow]) -> tuple[int, int]:
    """Tokens of a micro-batch, and those of them that are responses."""
    trie = TokenTrie.build([row.ids() for row in rows])
    places = [at[len(row.prompt_ids) :] for at, row in zip(trie.places, rows, strict=True)]
    return len(trie.ids_T), len(np.unique(np.concatenate(places)))


def _memory(plan: _Plan, shape: Shape) -> Iterator[str]:
    config = plan.config
    processes = num_processes()
    found = estimate(
        shape, _load(plan), config.model, others=tuple(plan.others), num_processes=processes
    )
    width = max(len(name) for name, _ in (*found.parts, ("in all", 0)))
    for name, size in found.parts:
        yield f"{name:<{width}}  {shown(size)}"
    device = plan.start.world.device
    free = available(device)
    has = "what is free cannot be told" if free is None else f"{shown(free)} are free"
    each = "" if processes == 1 else f" a process, of {processes}"
    yield f"{'in all':<{width}}  {shown(found.total)}{each}; on {device}, {has}"
    if free is not None and found.total * processes > free:
        yield (
            "That is more than there is: lower micro_batch_tokens, or set "
            "model.gradient_checkpointing = true or model.lora"
        )


def _load(plan: _Plan) -> Load:
    """What is computed at once at most."""
    config = plan.config
    if not plan.samples:
        tokens, scored = max(_size(part) for parts in _parts(plan) for part in parts)
        return Load(tokens, 0 if plan.trainer == "reward" else scored)
    longest = max(len(example.prompt_ids) for example in plan.loaded.examples)
    answers = config.samples * config.sampling.max_new_tokens
    groups = max(1, config.batch_size // config.mini_batches)
    together = max(1, min(groups, config.micro_batch_tokens // (longest + answers)))
    sampled = 0
    if config.engine == "in_process":
        most = max(config.samples, config.sampling.rows_at_once)
        sampled = min(config.batch_size * config.samples, most)
    return Load(
        together * (longest + answers),
        together * answers,
        sampled,
        config.sampling.max_new_tokens,
        longest * config.batch_size,
    )


def _indented(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
