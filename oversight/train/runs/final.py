"""The finished model: a folder that transformers and vLLM load, checked before it gets its name.

With LoRA the adapter stands in `RUN/model/adapter` beside the merged weights,
or alone in `RUN/model` if they are not to be merged.

A saved model has to come back as it was: its tokenizer by probes, its weights by hash. Its card
says what it was trained on and how, and how that went.

transformers 5 chooses the class of a tokenizer by the model's type in
`config.json`, and may read a tokenizer of another kind back as one that
encodes every text to nothing.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from oversight.errors import CheckpointError, ConfigError
from oversight.files import to_toml, told, whole_folder, write_text
from oversight.modeling.contract import as_configured, own_angles, switch_length
from oversight.text.terminal import code_span
from oversight.train.runs.curves import summary
from oversight.train.runs.folder import RunDescription, RunFolder
from oversight.train.runs.metrics import FIXED, read_metrics

METHODS = {
    "sft": "Supervised fine-tuning: cross-entropy on demonstrations.",
    "reward": (
        "Reward model from comparisons (Bradley and Terry, 1952; Ouyang et al., "
        '"Training language models to follow instructions with human feedback", 2022).'
    ),
    "dpo": (
        "Direct preference optimisation (Rafailov et al., "
        '"Direct Preference Optimization: Your Language Model is Secretly a Reward Model", 2023).'
    ),
    "ppo": (
        "Proximal policy optimisation (Schulman et al., "
        '"Proximal Policy Optimization Algorithms", 2017).'
    ),
    "grpo": (
        "Group-relative policy optimisation (Shao et al., "
        '"DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", '
        "2024)."
    ),
}
"""The method of each trainer, with its paper."""
FIRST = ("loss", "reward", "accuracy", "kl", "entropy")
"""Metrics that stand first in the table."""

PROBES = (
    "Which answer is right, A or B?",
    'The source says: "the key was in the kitchen at 12:45".\n\tIt\'s 3.14!  Two  spaces.',
    "Naïve “quotes” — 東京, עברית and 🙂",
    "t5 e3 went p7 .",
    "def f(x):\n    return x ** 2\n",
)
"""Texts that a tokenizer must encode alike before and after; trainers add some of their data."""
CHAT = (
    {"role": "user", "content": "Who is right?"},
    {"role": "assistant", "content": "The first one."},
    {"role": "user", "content": "Why?"},
)
REWARD_TOLERANCE = 1e-3
"""Relative difference that rounding may make between a row alone and one in a padded batch."""
HASH_ELEMENTS = 1 << 22


def check_before_training(tokenizer: Any, config: Any, probes: Sequence[str] = ()) -> None:
    """Save tokenizer and configuration for trial, and read them back.

    Raises:
        ConfigError: The finished model would come back with another tokenizer.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        problem = tokenizer_problem(tokenizer, Path(folder), probes)
    if problem:
        raise ConfigError(
            f"model: saved beside a model of type {config.model_type!r}, the tokenizer would not "
            f"come back as it is ({problem}). Take the tokenizer that models of this type have, "
            "or for a model from scratch the architecture 'llama', which reads any tokenizer.json"
        )


def tokenizer_problem(tokenizer: Any, folder: Path, probes: Sequence[str] = ()) -> str:
    """Return how the tokenizer in `folder` differs from `tokenizer`; empty if it does not."""
    from transformers import AutoTokenizer

    saved: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in (*PROBES, *probes):
        ids, again = tokenizer(text)["input_ids"], saved(text)["input_ids"]
        if ids != again:
            kinds = f"{type(tokenizer).__name__}, then {type(saved).__name__}"
            return f"{kinds}: {text[:40]!r} was {_few(ids)}, then {_few(again)}"
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        if getattr(tokenizer, name) != getattr(saved, name):
            return f"{name} was {getattr(tokenizer, name)}, then {getattr(saved, name)}"
    if tokenizer.chat_template != saved.chat_template:
        return "the chat template differs"
    if tokenizer.chat_template and chat_ids(tokenizer) != chat_ids(saved):
        return "a chat is encoded to other ids"
    size = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size")
    largest = max(saved.get_vocab().values(), default=-1)
    if size is not None and largest >= size:
        return f"it gives ids up to {largest}, the model has {size} embeddings"
    return ""


def check_weights(folder: Path, kind: str, hashes: Mapping[str, str]) -> Any:
    """Read the model in `folder` as its configuration says, and compare with what was in memory.

    Gives the model as it was read.

    Args:
        folder: A model that was just saved.
        kind: Name of the class it had.
        hashes: As `tensor_hashes` gave for its state.

    Raises:
        CheckpointError: It comes back as another class, or with other weights.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("architectures") != [kind]:
        raise CheckpointError(
            f"{folder / 'config.json'}: architectures = {config.get('architectures')!r}, but a "
            f"{kind} was saved"
        )
    model_class: Any = getattr(importlib.import_module("transformers"), kind)
    with quiet():
        model, report = model_class.from_pretrained(
            folder, local_files_only=True, dtype="auto", output_loading_info=True
        )
    again = tensor_hashes(model.state_dict())
    wrong = sorted(name for name in hashes if again.get(name) != hashes[name])
    wrong += sorted(report["missing_keys"])
    if wrong:
        raise CheckpointError(
            f"{folder}: read back, {len(wrong)} weights are not what was in memory, such as "
            f"{wrong[0]!r}; the disk or the memory is at fault. The last checkpoint is untouched"
        )
    return model


@torch.no_grad()
def check_rewards(folder: Path, model: Any, tokenizer: Any) -> None:
    """Hold transformers' reading of a saved reward model against what it was trained as: the label
    of each row's last token, whatever that token is.

    Args:
        folder: Where it was saved, for messages.
        model: As transformers reads it from there.
        tokenizer: As it was saved beside it.

    Raises:
        CheckpointError: A row alone, or padded among others, gets another reward.
    """
    own_angles(model.eval())
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    rows = [[*tokenizer(text)["input_ids"], *end] for text in PROBES]
    trained, alone = [], []
    for row in rows:
        ids = torch.tensor([row], device=model.device)
        hidden = model.base_model(input_ids=ids).last_hidden_state[0, -1]
        trained.append(float(model.score(hidden)[0]))
        alone.append(float(model(input_ids=ids).logits[0, 0]))
    readings = {"alone": alone}
    # Angles that change with length are those of the longest row of a batch.
    limit = switch_length(model)
    together = [i for i, row in enumerate(rows) if limit is None or len(row) <= limit]
    if together and model.config.get_text_config().pad_token_id is not None:
        given = {"input_ids": [rows[i] for i in together]}
        padded = tokenizer.pad(given, return_tensors="pt").to(model.device)
        labels = model(
            input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]
        ).logits
        readings["in a padded batch"] = list(alone)
        for i, label in zip(together, labels[:, 0].tolist(), strict=True):
            readings["in a padded batch"][i] = label
    for how, found in readings.items():
        for text, wanted, read in zip(PROBES, trained, found, strict=True):
            if not abs(wanted - read) <= REWARD_TOLERANCE * (1.0 + abs(wanted)):
                raise CheckpointError(
                    f"{folder}: {text[:40]!r} was trained on as {wanted:.6g}, and transformers "
                    f"reads {read:.6g} {how} (config.pad_token_id = {model.config.pad_token_id}, "
                    f"the tokenizer's {tokenizer.pad_token_id}); give the tokenizer a pad token "
                    "that stands in no text. The last checkpoint is untouched"
                )


def tensor_hashes(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """A hash of type, shape and every bit of each tensor."""
    return {name: _tensor_hash(tensor) for name, tensor in state.items()}


def _tensor_hash(tensor: torch.Tensor) -> str:
    digest = hashlib.blake2b(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), digest_size=16)
    for part in torch.split(tensor.detach().reshape(-1), HASH_ELEMENTS):
        digest.update(part.contiguous().cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of the library: the terminal shows how training goes."""
    library: Any = importlib.import_module("transformers.utils.logging")
    shown, level = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if shown:
            library.enable_progress_bar()


def chat_ids(tokenizer: Any) -> Any:
    """A short chat as ids, or the template's own words if it refuses it."""
    try:
        return tokenizer.apply_chat_template(
            list(CHAT), add_generation_prompt=True, tokenize=True, return_dict=False
        )
    except Exception as error:  # a template may refuse this chat, in its own words
        return f"{type(error).__name__}: {error}"


def _few(ids: list[int]) -> str:
    return f"{ids[:8]}{'…' * (len(ids) > 8)}"


CARD = "README.md"
MAX_SHARD = "5GB"


@dataclass(frozen=True, slots=True)
class FinalModel:
    """Input of a run's end besides its folder."""

    tokenizer: Any
    base_model: str
    """The model that the run began with, for the card."""
    num_steps: int
    method: str | None = None
    """The method with its paper, where it is not the trainer's usual one."""
    merge: bool = True
    """With LoRA: merge the adapter into the weights. This changes the model in memory."""
    probes: Sequence[str] = ()
    """Texts of the data that the saved tokenizer must encode alike."""


def finish(
    run: RunFolder,
    model: Any,
    ending: FinalModel,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Save the finished model with its tokenizer and card; gives its folder.

    Only the first process calls it. Until every check has passed, the folder has another name.

    Args:
        run: The run; it is finished afterwards.
        model: A transformers model, or a peft model of one.
        ending: Everything else.
        state: The whole weights, where `model` holds only this process's part of them.

    Raises:
        CheckpointError: It cannot be written, or does not come back as it was.
    """
    with (
        told(f"{run.model_path} could not be written", "The last checkpoint is untouched."),
        whole_folder(run.model_path) as part,
    ):
        part.mkdir()
        if _is_reward_model(model):
            ending = replace(ending, tokenizer=_padded_apart(ending))
        with quiet():
            _save_weights(part, model, ending, state)
            _save_tokenizer(part, ending)
        write_text(part / CARD, _card(run, ending))
    return run.model_path


def _save_weights(
    part: Path, model: Any, ending: FinalModel, state: Mapping[str, torch.Tensor] | None
) -> None:
    if hasattr(model, "peft_config"):
        folder = part / "adapter" if ending.merge else part
        # Embeddings are never trained here; "auto" would look for the base model on the hub.
        model.save_pretrained(
            folder, state_dict=state, safe_serialization=True, save_embedding_layers=False
        )
        (folder / CARD).unlink(missing_ok=True)  # peft's template, with nothing filled in
        if not ending.merge:
            # Beside an adapter it tells which tokenizer and vocabulary this is.
            inner = model.get_base_model()
            if _is_reward_model(model):
                _complete(inner, ending.tokenizer)
            with as_configured(inner):
                inner.config.save_pretrained(part)
            return
        if state is not None:
            raise CheckpointError(
                "model.lora.merge = true: an adapter cannot be merged while the weights are split "
                "over processes; set it to false and merge with peft afterwards"
            )
        model = model.merge_and_unload()
    whole = model.state_dict() if state is None else state
    hashes = tensor_hashes(whole)
    _complete(model, ending.tokenizer)
    with as_configured(model):
        model.save_pretrained(part, state_dict=dict(whole), max_shard_size=MAX_SHARD)
    again = check_weights(part, type(model).__name__, hashes)
    if _is_reward_model(model):
        check_rewards(part, again, ending.tokenizer)


def _is_reward_model(model: Any) -> bool:
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    return isinstance(getattr(inner, "score", None), torch.nn.Linear)


def _padded_apart(ending: FinalModel) -> Any:
    """The tokenizer, its pad a token that ends no row.

    transformers reads a reward at a row's last token that is no padding. Where the pad is the
    EOS, that is the token before the EOS, which is not what was trained. So another special token
    pads, one that stands in no text; where there is none, nothing does, and transformers refuses
    to read several rows at once.
    """
    tokenizer = copy.deepcopy(ending.tokenizer)
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    if tokenizer.pad_token_id not in {None, *ends}:
        return tokenizer
    texts = [tokenizer(text)["input_ids"] for text in (*PROBES, *ending.probes)]
    used = ends.union(*texts, chat_ids(tokenizer) if tokenizer.chat_template else ())
    added = tokenizer.added_tokens_decoder.items()
    free = [token.content for i, token in added if token.special and i not in used]
    # An unknown token may well end a text.
    free = [token for token in free if token != tokenizer.unk_token]
    tokenizer.pad_token = min(free, key=lambda token: "pad" not in token.lower(), default=None)
    return tokenizer


def _complete(model: Any, tokenizer: Any) -> None:
    """Say which ids pad and end, where the model's settings leave it open."""
    if _is_reward_model(model):
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    settings = [model.config]
    if model.can_generate():
        settings.append(model.generation_config)
    for one in settings:
        for name in ("pad_token_id", "eos_token_id"):
            if getattr(one, name, None) is None:
                setattr(one, name, getattr(tokenizer, name))


def _save_tokenizer(part: Path, ending: FinalModel) -> None:
    ending.tokenizer.save_pretrained(part)
    if problem := tokenizer_problem(ending.tokenizer, part, ending.probes):
        raise CheckpointError(f"the tokenizer does not come back as it is: {problem}")


def _card(run: RunFolder, ending: FinalModel) -> str:
    origin = json.loads((run.path / "origin.json").read_text(encoding="utf-8"))
    return model_card(
        run.about,
        read_metrics(run.path),
        base_model=ending.base_model,
        num_steps=ending.num_steps,
        starts=origin["starts"],
        method=ending.method,
    )


def model_card(
    about: RunDescription,
    lines: list[dict[str, Any]],
    *,
    base_model: str,
    num_steps: int,
    starts: list[dict[str, Any]],
    method: str | None = None,
) -> str:
    """README.md of the model's folder.

    Args:
        about: Facts about the run.
        lines: Its metrics.
        base_model: The model that it began with.
        num_steps: Steps done.
        starts: The run's starts, as `start_record` gave them.
        method: The method with its paper; the trainer's own if not given.
    """
    last = starts[-1] if starts else {}
    parts = [
        _head(about),
        f"# A model trained with {about.trainer}",
        method or METHODS.get(about.trainer, about.trainer),
        f"- Base model: {code_span(base_model)}\n- Steps: {num_steps:,}\n- Seed: {about.seed}\n"
        f"- Code: git {code_span(str(last.get('git')))}\n- Starts of the run: {len(starts)}",
        "## Data\n\n" + _listing(about.provenance) + f"\n- Content hash: {code_span(about.data)}",
        "## Metrics\n\n" + _table(lines, about.trainer),
        "## Recipe\n\n" + _fenced(to_toml(about.config), "toml"),
        "## Versions\n\n" + _listing(last.get("versions", {})),
        "## Licence\n\nThe licences of the base model and of the data apply to this model; look "
        "at both before it is passed on. This card grants nothing.",
    ]
    return "\n\n".join(parts) + "\n"


def _head(about: RunDescription) -> str:
    tags = "".join(f"\n- {tag}" for tag in ("oversight", about.trainer))
    return f"---\nlibrary_name: transformers\ntags:{tags}\n---"


def _listing(values: Mapping[str, Any]) -> str:
    shown = (
        f"- {code_span(str(name))}: {code_span(text)}"
        for name, value in values.items()
        if value is not None
        for text in [value if isinstance(value, str) else json.dumps(value)]
    )
    return "\n".join(shown) or "- not stated"


def _table(lines: list[dict[str, Any]], trainer: str) -> str:
    """First and last value of every metric by split, and the best where one is better."""
    rows = [
        "| split | metric | first | last | best | at step |",
        "|---|---|---|---|---|---|",
    ]
    for split in ("eval", "train"):
        mine = [line for line in lines if line["split"] == split]
        for name in _ordered({name for line in mine for name in line} - FIXED):
            series = [(line["step"], line[name]) for line in mine if line.get(name) is not None]
            if series:
                values = " | ".join(summary(name, series, trainer))
                rows.append(f"| {split} | {code_span(name)} | {values} |")
    return "\n".join(rows) if len(rows) > 2 else "None were logged."


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else 99, name))


def _fenced(text: str, language: str) -> str:
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{ticks}{language}\n{text}{ticks}"
