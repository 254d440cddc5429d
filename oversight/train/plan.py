"""The plan of a run, before a weight is read or a file written: `--dry-run` prints it.

Each trainer offers its `Plan`: rows, lengths, steps, and the models that it holds in memory. Read
for it are the data, configurations and tokenizers of all models, and the headers of their weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.checks import check_policy_kind, check_scalar_kind, empty_model
from oversight.modeling.scoring.trie import TokenTrie
from oversight.text.numbers import memory
from oversight.train.batches import Cutting, enough_tokens, micro_batches
from oversight.train.data.examples import EpochOrder
from oversight.train.data.loading import LoadedExamples
from oversight.train.distributed import World, num_processes
from oversight.train.estimate import BatchLoad, ModelShape, available, bfloat16_speed, estimate
from oversight.train.loading import adapted, check_weights, head_alone, named, resolve_device
from oversight.train.reference import read_other
from oversight.train.registered import Trainer
from oversight.train.runs.checkpoints import check_fingerprint
from oversight.train.runs.folder import MODEL, check_places
from oversight.train.session import num_steps
from oversight.train.settings import INITIAL, NONE
from oversight.train.start import TrainingStart, about, begin
from oversight.train.types import Comparison, Demonstration, Example, LabelledExample

SHOWN_TOKENS = 48
"""Of each end of a stretch; what is between is left out."""


def sample_lines(loaded: LoadedExamples[Any], tokenizer: Any) -> Iterator[str]:
    """The first example, each stretch of it under a line that says what it is."""
    example: Example = loaded.examples[0]
    yield f"row {example.id}"
    for name, ids in _stretches(example):
        yield f"{name}, {len(ids):,} tokens:"
        yield from (f"  | {line}" for line in _text(ids, tokenizer).split("\n"))


def _stretches(example: Example) -> Iterator[tuple[str, Ids]]:
    if isinstance(example, Comparison):
        yield "prompt", example.prompt_ids
        for rank, ids in zip(example.ranks, example.responses, strict=True):
            yield ("response, the best" if rank == 0 else f"response, rank {rank}"), ids
        return
    if isinstance(example, Demonstration | LabelledExample):
        yield from _of_row(example.row)
        return
    yield "prompt, to be answered", example.prompt_ids


def _of_row(row: TokenRow) -> Iterator[tuple[str, Ids]]:
    """The prompt, then what is learnt and what is given by turns."""
    yield "prompt", row.prompt_ids
    mask = np.ones(len(row.response_ids), bool) if row.mask is None else row.mask
    edges = np.flatnonzero(np.diff(mask)) + 1
    for ids, learnt in zip(np.split(row.response_ids, edges), np.split(mask, edges), strict=True):
        yield ("response, learnt" if learnt[0] else "given"), ids


def _text(ids: Ids, tokenizer: Any) -> str:
    """The words of `ids` with their control tokens, the middle of a long one left out."""
    if len(ids) <= 2 * SHOWN_TOKENS:
        return str(tokenizer.decode(ids.tolist(), skip_special_tokens=False))
    first, last = ids[:SHOWN_TOKENS].tolist(), ids[-SHOWN_TOKENS:].tolist()
    begin, end = (tokenizer.decode(part, skip_special_tokens=False) for part in (first, last))
    return f"{begin} […] {end}"


TRAINED = 4
"""Numbers held for a weight that is trained: itself, its gradient, two of the optimiser."""
STEPS_LOOKED_AT = 50
"""Steps whose micro-batches are cut, to see how large they get."""

Kind = Literal["policy", "scalar"]
"""A language model, or one that gives a number: a reward model, a critic."""


@dataclass(frozen=True, slots=True)
class AuxiliaryModel:
    """A model that a run holds in memory besides the one that is trained."""

    name: str
    kind: Kind
    config: Any
    path: str | None = None
    """Folder of its weights; None for those of the model that is trained."""
    where: str = ""
    """The setting that the path stands in, for messages."""
    times: int = 1
    """Numbers that are held for each of its weights."""


@dataclass
class Plan:
    """The plan of a run; a trainer fills in what it knows."""

    trainer: str
    config: Any
    start: TrainingStart
    loaded: LoadedExamples[Any]
    groups: Sequence[Sequence[TokenRow]] = ()
    """Groups of rows that are learnt from together; none where responses are sampled to prompts."""
    notes: Sequence[str] = ()
    """Notes about the data, for the person."""
    kind: Kind = "policy"
    """Of the model that is trained."""
    head_alone: bool = False
    """True if only its head is."""
    held: list[AuxiliaryModel] = field(default_factory=list)
    enough: int | None = None
    """Tokens of a micro-batch than which more would be computed no faster."""
    checked: list[str] = field(default_factory=lambda: ["settings", "folder", "model", "data"])
    tried: list[str] = field(default_factory=list)
    """Rewards that a reward function gave for dummy responses to the first rows."""

    def add_reference(self, name: str, times: int = 1) -> None:
        """Note a reference: its own model, unless it is the policy without its adapters.

        Args:
            name: `initial`, `none`, or a model.
            times: 0 where it scores all rows beforehand and is held no longer.
        """
        if name == NONE:
            return
        if name != INITIAL:
            other, config = read_other(name, self.config.model, self.start.vocabulary)
            where = f"reference = {name!r}"
            self.held.append(
                AuxiliaryModel("reference", "policy", config, other.path, where, times)
            )
        elif self.config.model.lora is None:
            self.held.append(AuxiliaryModel("reference", "policy", self.start.config, times=times))
        self.checked.insert(self.checked.index("data") + 1, "reference")


def lines(trainer: Trainer, config: Any, *, resume: bool = False) -> Iterator[str]:
    """Lines for people: what would be trained on, how long, and what memory that takes.

    Args:
        trainer: Name of the trainer.
        config: Settings of the run.
        resume: Whether the run would go on.

    Raises:
        ConfigError: Settings, models or folders do not fit.
        DataError: The data cannot be used.
    """
    check_places(config, resume)
    plan = trainer.plan(config)
    _check_same(plan, resume)
    model, others = _models(plan)
    shape = ModelShape.of(plan.start.config, model)
    plan.enough = enough_tokens(model, config, plan.start.world.device, num_processes())
    yield f"{plan.trainer} of {_named(plan, shape)}, into {config.out}"
    yield from _indented(plan.start.notes)
    yield from ("", "data", *_indented([*plan.loaded.lines(), *plan.notes]))
    yield from ("", "steps", *_indented(_steps(plan)))
    yield from ("", "an example", *_indented(sample_lines(plan.loaded, plan.start.tokenizer)))
    if plan.tried:
        yield from ("", "the reward function, called on dummy responses", *_indented(plan.tried))
    yield from ("", "memory at the peak of a step, about", *_indented(_memory(plan, shape, others)))
    yield from ("", "precision", *_indented(_precision(plan, shape)))
    yield from ("", f"Checked, and nothing written: {', '.join(plan.checked)}.")


def begin_alone(config: Any) -> TrainingStart:
    """As a run begins, without the other processes of it."""
    world = World(0, 1, resolve_device(config.model.device))
    begun = begin(config, config.data, world=world)
    return TrainingStart(world, begun.config, begun.vocabulary, begun.notes, tells=False)


def _check_same(plan: Plan, resume: bool) -> None:
    """Refuse to go on with a run of other settings or data."""
    out = plan.config.out
    described = out / "config.json"
    if resume and described.exists() and not (out / MODEL).exists():
        saved = json.loads(described.read_text(encoding="utf-8"))["fingerprint"]
        check_fingerprint(out, saved, about(plan.trainer, plan.config, plan.loaded).fingerprint())


def _models(plan: Plan) -> tuple[Any, list[tuple[str, int]]]:
    """The model that is trained, without weights, and the others with the numbers held for them;
    all of them checked as a run checks them before it reads their weights."""
    settings = plan.config.model
    trained = AuxiliaryModel(
        "", plan.kind, plan.start.config, settings.path, f"model.path = {settings.path!r}"
    )
    model = adapted(
        _checked(trained, settings.attention),
        settings,
        "SEQ_CLS" if plan.kind == "scalar" else "CAUSAL_LM",
    )
    if plan.head_alone:
        head_alone(model)
    others = []
    for each in plan.held:
        with named(each.path, each.where) if each.where else nullcontext():
            found = _checked(each, settings.attention)
        if each.times:
            count = sum(weight.numel() for weight in found.parameters())
            others.append((each.name, each.times * count))
    return model, others


def _checked(held: AuxiliaryModel, attention: Any) -> Any:
    """A model without weights, whose kind and stored weights fit."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind: Any
    if held.kind == "scalar":
        kind = AutoModelForSequenceClassification
        if held.name != "reward model":  # scored by itself, if not over a trie
            check_scalar_kind(held.config, attention)
    else:
        kind = AutoModelForCausalLM
        check_policy_kind(held.config, attention)
    model = empty_model(kind, held.config)
    if held.path is not None:
        check_weights(held.path, kind, held.config, held.where)
    return model


def _named(plan: Plan, shape: ModelShape) -> str:
    settings = plan.config.model
    what = "random weights" if settings.path is None else settings.path
    is_part = shape.num_trained < shape.num_weights
    trained = f", {shape.num_trained:,} of them trained" if is_part else ""
    return f"{what} ({plan.start.config.model_type}, {shape.num_weights:,} weights{trained})"


def _steps(plan: Plan) -> Iterator[str]:
    config, examples = plan.config, plan.loaded.examples
    num_learnt = len(plan.groups) or len(examples)
    total = num_steps(config, num_learnt)
    if plan.groups:
        order = EpochOrder(num_learnt, config.seed, config.shuffle)
        whole, begun = divmod(total, order.num_batches(config.batch_size))
        # The last batch of an epoch is short where the others do not come out even.
        passes = whole + begun * config.batch_size / num_learnt
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
    summed = " + ".join(f"{each.weight:g} × {name}" for name, each in config.reward.parts.items())
    rewards = summed or config.reward.source
    yield f"sampled {config.engine}; rewards: {rewards}"


def _parts(plan: Plan) -> Iterator[list[list[TokenRow]]]:
    """The micro-batches of the first steps."""
    config, groups = plan.config, plan.groups
    order = EpochOrder(len(groups), config.seed, config.shuffle)
    for taken in islice(
        order.batches(config.batch_size), min(STEPS_LOOKED_AT, num_steps(config, len(groups)))
    ):
        batch = [groups[int(i)] for i in taken]
        yield [
            [row for i in part for row in batch[i]]
            for part in micro_batches(batch, config.micro_batch_tokens, plan.enough)
        ]


def _size(rows: Sequence[TokenRow]) -> tuple[int, int]:
    """Tokens of a micro-batch, and those of them that are responses."""
    trie = TokenTrie.build([row.ids() for row in rows])
    places = [at[len(row.prompt_ids) :] for at, row in zip(trie.places, rows, strict=True)]
    return len(trie.ids_T), len(np.unique(np.concatenate(places)))


def _held(plan: Plan, rows: Sequence[TokenRow]) -> tuple[int, int]:
    """The same of what is held of a micro-batch at a time, where it is computed in turns."""
    tokens, scored = _size(rows)
    found = None
    if _cuts(plan.config):
        found = Cutting(plan.config, {}, plan.start.world).parts(rows, holds=False)
    return (tokens, scored) if found is None else (found.num_tokens, min(scored, found.num_tokens))


def _cuts(config: Any) -> bool:
    """Return whether groups that are larger than a micro-batch are cut."""
    return num_processes() == 1 and not config.model.router_aux_coefficient


def _memory(plan: Plan, shape: ModelShape, others: list[tuple[str, int]]) -> Iterator[str]:
    config = plan.config
    processes = num_processes()
    found = estimate(
        shape, _load(plan), config.model, others=tuple(others), num_processes=processes
    )
    width = max(len(name) for name, _ in (*found.parts, ("in all", 0)))
    for name, size in found.parts:
        yield f"{name:<{width}}  {memory(size)}"
    device = plan.start.world.device
    free = available(device)
    has = "what is free cannot be told" if free is None else f"{memory(free)} are free"
    each = "" if processes == 1 else f" a process, of {processes}"
    yield f"{'in all':<{width}}  {memory(found.total)}{each}; on {device}, {has}"
    if free is not None and found.total * processes > free:
        yield (
            "That is more than there is: lower micro_batch_tokens, or set "
            "model.gradient_checkpointing = true or model.lora"
        )


FASTER, SLOWER = 1.1, 0.95
"""Bounds between which two precisions are called equally fast."""


def _precision(plan: Plan, shape: ModelShape) -> Iterator[str]:
    """A line on which precision is faster here, as a probe of a second says."""
    device, chosen = plan.start.world.device, plan.config.model.precision
    ratio = bfloat16_speed(shape, _load(plan).num_tokens, device)
    said = f"bfloat16 multiplies {ratio:.2g} times as fast as float32 on {device}, at these sizes"
    if ratio >= FASTER and chosen == "float32":
        yield f'{said}; model.precision = "bfloat16" would be faster, at its coarser rounding'
    elif ratio <= SLOWER and chosen == "bfloat16":
        yield f'{said}; model.precision = "float32" would be faster'
    else:
        yield f"{said}; model.precision = {chosen!r} is set"


def _load(plan: Plan) -> BatchLoad:
    """Return the most that is computed at once."""
    config = plan.config
    if plan.groups:
        tokens, scored = max(_held(plan, part) for parts in _parts(plan) for part in parts)
        return BatchLoad(tokens, 0 if plan.kind == "scalar" else scored)
    longest = max(len(example.prompt_ids) for example in plan.loaded.examples)
    answers = config.samples * config.sampling.max_new_tokens
    groups = max(1, config.batch_size // config.mini_batches)
    room = min(config.micro_batch_tokens, plan.enough or config.micro_batch_tokens)
    together = max(1, min(groups, room // (longest + answers)))
    most = together * (longest + answers)
    if _cuts(config):
        most = min(most, max(config.micro_batch_tokens, longest + config.sampling.max_new_tokens))
    sampled = 0
    if config.engine == "in_process":
        most = max(config.samples, config.sampling.rows_at_once)
        sampled = min(config.batch_size * config.samples, most)
    return BatchLoad(
        most,
        min(most, together * answers),
        sampled,
        config.sampling.max_new_tokens,
        longest * config.batch_size,
    )


def _indented(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
