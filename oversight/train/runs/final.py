"""The finished model: a folder that transformers and vLLM load, checked before it gets its name.

With LoRA the adapter stands in `RUN/model/adapter` beside the merged weights,
or alone in `RUN/model` if they are not to be merged.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from oversight.errors import CheckpointError
from oversight.modeling.dropout import as_configured
from oversight.train.runs.card import model_card
from oversight.train.runs.files import rename, sync_all, told, write_text
from oversight.train.runs.folder import RunFolder
from oversight.train.runs.metrics import read_metrics
from oversight.train.runs.reload import (
    PROBES,
    chat_ids,
    check_rewards,
    check_weights,
    quiet,
    tensor_hashes,
    tokenizer_problem,
)

CARD = "README.md"
MAX_SHARD = "5GB"


@dataclass(frozen=True, slots=True)
class Finish:
    """What the end of a run needs besides the run's folder."""

    tokenizer: Any
    base_model: str
    """What the run began with, for the card."""
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
    ending: Finish,
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
    part = run.path / ".model.part"
    with told(f"{run.model_path} could not be written", "The last checkpoint is untouched."):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        if _is_reward_model(model):
            ending = replace(ending, tokenizer=_padded_apart(ending))
        try:
            with quiet():
                _save_weights(part, model, ending, state)
                _save_tokenizer(part, ending)
            write_text(part / CARD, _card(run, ending))
            sync_all(part)
            rename(part, run.model_path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return run.model_path


def _save_weights(
    part: Path, model: Any, ending: Finish, state: Mapping[str, torch.Tensor] | None
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


def _padded_apart(ending: Finish) -> Any:
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


def _save_tokenizer(part: Path, ending: Finish) -> None:
    ending.tokenizer.save_pretrained(part)
    if problem := tokenizer_problem(ending.tokenizer, part, ending.probes):
        raise CheckpointError(f"the tokenizer does not come back as it is: {problem}")


def _card(run: RunFolder, ending: Finish) -> str:
    origin = json.loads((run.path / "origin.json").read_text(encoding="utf-8"))
    return model_card(
        run.about,
        read_metrics(run.path),
        base_model=ending.base_model,
        num_steps=ending.num_steps,
        starts=origin["starts"],
        method=ending.method,
    )
